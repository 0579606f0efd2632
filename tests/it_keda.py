#!/usr/bin/env python3
"""KEDA's ScaledObjects act: a service goes to zero and comes back, by figures of the daemon's own, which PromQL over HTTP
shows too; and KEDA's documented samples, applied as they are, scale or say by name what is missing."""
import json
import urllib.parse
import urllib.request

from harness import PATIENCE, SHARED, Daemon, inference_service, post, run_tests, skip, wait_for

CRDS = SHARED / "data" / "manifests" / "keda-crd"
SAMPLES = SHARED / "data" / "manifests" / "keda"

SCALED = """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: demo}
spec:
  scaleTargetRef: {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: demo}
  pollingInterval: 1
  cooldownPeriod: 1
  maxReplicaCount: 2
  triggers:
  - type: prometheus
    metadata:
      query: sum(inferd_gateway_requests_in_flight{inferenceservice="demo"}) or vector(0)
      threshold: "100"
"""

# KEDA's samples that inferd refuses to scale by: the file, its object, and a part of the condition's message.
REFUSED = (
    ("keda_v1alpha1_scaledobject", "default", "example-scaledobject", "no scaler found for type: example-trigger"),
    ("scalers__cpu__3", "default", "cpu-scaledobject", "only cpu/memory triggers AND minReplica is 0"),
    ("scalers__memory__2", "default", "memory-scaledobject", "only cpu/memory triggers AND minReplica is 0"),
    ("scalers__influxdb__1", "my-project", "influxdb-scaledobject", "no scaler found for type: influxdb"),
    ("scalers__kubernetes-resource__1", "keda", "k8s-resource-scaledobject", "no scaler found for type: kubernetes-resource"),
)


def apply_definitions(d):
    if not CRDS.exists():
        skip("KEDA's definitions are absent: " + str(CRDS))
    for path in sorted(CRDS.glob("*.yaml")):
        d.kubectl("apply", "--server-side", "-f", str(path))
    d.kubectl("wait", "--for=condition=Established", "crd/scaledobjects.keda.sh", f"--timeout={PATIENCE}s",
              timeout=PATIENCE + 10)


def condition(o, kind):
    return next((c for c in o.get("status", {}).get("conditions", []) if c["type"] == kind), {})


def wait_replicas(d, number):
    wait_for(f"{number} replicas to be asked for and there",
             lambda: (s := d.get("deployment", "demo-predictor"))["spec"]["replicas"] == number and
             s["status"].get("readyReplicas", 0) == number)


def query(d, expression):
    with urllib.request.urlopen(f"{d.gateway}/api/v1/query?{urllib.parse.urlencode({'query': expression})}",
                                timeout=PATIENCE) as answer:
        document = json.load(answer)
    assert document["status"] == "success", document
    return document["data"]["result"]


def a_service_goes_to_zero_and_comes_back(program):
    with Daemon(program) as d:
        apply_definitions(d)
        service = inference_service("demo", "embedded://demo-chat", minReplicas=0)
        service["metadata"]["annotations"] = {"serving.kserve.io/autoscalerClass": "external"}
        d.apply(service)
        d.wait_ready("demo")
        d.apply(SCALED)
        d.kubectl("wait", "--for=condition=Ready", "scaledobject/demo", f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)
        wait_replicas(d, 0)
        o = d.get("scaledobject", "demo")
        assert o["status"]["scaleTargetKind"] == "apps/v1.Deployment" and o["status"]["externalMetricNames"] == ["s0-prometheus"]
        # The request itself wakes it: no trigger has to notice.
        status, answer, _ = post(f"{d.gateway}/v1/completions",
                                 {"model": "demo", "prompt": "Hi", "max_tokens": 1, "temperature": 0})
        assert status == 200, answer
        wait_for("the Event of it", lambda: any(e["reason"] == "KEDAScaleTargetActivated" and "a request that waits" in e["message"]
                                                for e in d.get("events")["items"]))
        # A trigger that is active: one over a figure that is always there.
        d.kubectl("patch", "scaledobject/demo", "--type=json", "-p", json.dumps(
            [{"op": "replace", "path": "/spec/triggers/0/metadata/query", "value": "sum(inferd_series) * 0 + 200"}]))
        wait_replicas(d, 2)
        wait_for("the trigger to be active", lambda: condition(d.get("scaledobject", "demo"), "Active").get("status") == "True")
        rate = wait_for("the replica's series", lambda: query(d, 'vllm:generation_tokens_total{inferenceservice="demo"}'))
        assert rate[0]["metric"]["namespace"] == "default" and rate[0]["metric"]["pod"].startswith("demo-predictor-")
        d.kubectl("annotate", "scaledobject/demo", "autoscaling.keda.sh/paused-replicas=0")
        wait_replicas(d, 0)
        wait_for("the object to say so", lambda: condition(d.get("scaledobject", "demo"), "Paused").get("status") == "True")


def samples_act_or_say_why(program):
    if not SAMPLES.exists():
        skip("KEDA's samples are absent: " + str(SAMPLES))
    with Daemon(program) as d:
        apply_definitions(d)
        d.kubectl("create", "deployment", "my-deployment", "--image=nginx", "--replicas=2")

        for namespace in ("my-project", "keda"):
            d.kubectl("create", "namespace", namespace)

        def ready(name, namespace="default"):
            return condition(d.get("scaledobject", name, "-n", namespace), "Ready")

        def apply(file):
            d.kubectl("apply", "-f", str(SAMPLES / f"{file}.yaml"))
        # One that acts: six in the morning to eight in the evening in Kolkata.
        apply("scalers__cron__2")
        wait_for("the cron sample to be looked at", lambda: ready("cron-scaledobject"))
        status = d.get("scaledobject", "cron-scaledobject")["status"]
        assert status["externalMetricNames"] == ["s0-cron-Asia-Kolkata-06xxx-020xxx"] and status["resourceMetricNames"] == ["cpu"]
        assert status["triggersTypes"] == "cron,cpu"
        d.kubectl("delete", "scaledobject", "cron-scaledobject")
        # One whose Prometheus is a placeholder: it cannot be asked, and nothing is scaled.
        apply("scalers__prometheus__1")
        wait_for("the Prometheus to be missed", lambda: ready("prometheus-scaledobject").get("reason") == "TriggerError")
        assert d.get("deployment", "my-deployment")["spec"]["replicas"] == 2
        for file, namespace, name, text in REFUSED:
            apply(file)
            found = wait_for(f"{file} to be refused by name",
                             lambda: (c := ready(name, namespace)) and text in c.get("message", "") and c)
            assert found["status"] == "False" and found["reason"] == "ScaledObjectCheckFailed", found
        assert d.get("deployment", "my-deployment")["spec"]["replicas"] == 2


if __name__ == "__main__":
    run_tests(a_service_goes_to_zero_and_comes_back, samples_act_or_say_why)
