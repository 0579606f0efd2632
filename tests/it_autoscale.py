#!/usr/bin/env python3
"""`kubectl autoscale` of a Deployment whose pods are processes here: under load on the CPU it grows to
its bound, and when the load has gone it shrinks again; `kubectl get hpa` and `describe hpa` tell.
And what engines say of themselves reaches the rule that scales them."""
import json
import re

from harness import Daemon, inference_service, post, run_tests, wait_for
from host_pods import container, daemon

QUICK = ["--hpa-sync-seconds", "1", "--metrics-interval-seconds", "1"]
BEHAVIOR = {"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}}


def deployment(busy):
    """Pods that use a CPU while the file is there, and next to nothing otherwise."""
    script = f"while :; do if [ -e {busy} ]; then i=0; while [ $i -lt 9999 ]; do i=$((i+1)); done; else sleep 1; fi; done"
    load = container("load", script, resources={"requests": {"cpu": "100m"}})
    labels = {"app": "load"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "load"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                     "template": {"metadata": {"labels": labels},
                                  "spec": {"terminationGracePeriodSeconds": 0, "containers": [load]}}}}


def conditions(d):
    hpa = d.get("horizontalpodautoscalers.v2.autoscaling", "load")
    return {c["type"]: c for c in hpa.get("status", {}).get("conditions", [])}


def rescaled(d, size, reason):
    """The Event that says so; Events are written after what they tell of."""
    def look():
        return [e for e in d.get("events")["items"]
                if e["reason"] == "SuccessfulRescale" and e["involvedObject"]["kind"] == "HorizontalPodAutoscaler"
                and re.fullmatch(f"New size: {size}; reason: {reason}", e["message"])]
    return wait_for(f"the Event of size {size}", look)


def grows_under_load_and_shrinks_without(program):
    with daemon(program, *QUICK) as d:
        busy = d.home / "busy"
        d.apply(deployment(busy))
        d.kubectl("wait", "--for=condition=Available", "deployment/load", "--timeout=60s")
        out = d.kubectl("autoscale", "deployment", "load", "--min=1", "--max=3", "--cpu-percent=50").stdout
        assert out.strip() == "horizontalpodautoscaler.autoscaling/load autoscaled", out
        d.kubectl("patch", "horizontalpodautoscalers.v2.autoscaling", "load", "--type=merge", "-p", json.dumps(BEHAVIOR))

        busy.touch(mode=0o644)
        wait_for("the Deployment to grow", lambda: d.get("deployment", "load")["spec"]["replicas"] == 3)
        rescaled(d, 3, r"cpu resource utilization \(percentage of request\) above target")
        def shown():
            return re.search(r"^load +Deployment/load +cpu: \d+%/50% +1 +3 +3 ", d.kubectl("get", "hpa").stdout, re.M)
        wait_for("kubectl get hpa to show three", shown)
        wait_for("a metric that counts",
                 lambda: conditions(d).get("ScalingActive", {}).get("reason") == "ValidMetricFound")
        wait_for("kubectl describe hpa to tell what was measured", lambda: re.search(
            r"resource cpu on pods +\(as a percentage of request\): +\d+% \(\d+m\) / 50%(?s:.*)AbleToScale +True ",
            d.kubectl("describe", "hpa", "load").stdout))

        decisions = d.kubectl("get", "--raw", "/debug/autoscaler").stdout
        assert re.search(r"autoscaler=load rule=horizontalpodautoscaler from=\d to=3 .*inputs=\"cpu=\d+%/50% wants \d+\"",
                         decisions), decisions

        busy.unlink()
        wait_for("the Deployment to shrink", lambda: d.get("deployment", "load")["spec"]["replicas"] == 1)
        rescaled(d, 1, "All metrics below target")
        wait_for("the others to be gone", lambda: len(d.get("pods")["items"]) == 1)


def replicas_tell_the_rule_of_themselves(program):
    """The figures of a real engine reach inferd's own rule: they stand among the inputs of a decision."""
    names = ["kv_usage", "queued_tokens", "ttft_p95", "itl_p95", "tokens_per_second"]
    with Daemon(program) as d:
        d.apply(inference_service("demo", "embedded://demo-chat", maxReplicas=2))
        d.wait_ready("demo")

        def told():
            body = {"model": "demo", "prompt": "Hi", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
            status, answer, _ = post(f"{d.gateway}/v1/completions", body)
            assert status == 200, answer
            lines = d.kubectl("get", "--raw", "/debug/autoscaler").stdout.splitlines()
            return [line for line in lines if all(re.search(rf" {name}=[0-9.e+-]+", line) for name in names)]
        line = wait_for("a decision from all figures", told)[-1]
        assert "inferenceservice=demo rule=inference" in line, line


if __name__ == "__main__":
    run_tests(grows_under_load_and_shrinks_without, replicas_tell_the_rule_of_themselves)
