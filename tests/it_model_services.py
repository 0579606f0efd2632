#!/usr/bin/env python3
"""Services whose models are elsewhere: their pods wait and say so, share one download, heed Secrets,
and let go of what they do not need any more."""
import hashlib
import json
import threading

from harness import ROOT, Daemon, inference_service, post, run_tests, wait_for
from model_server import Server


def waiting(d):
    """Why the first container of each pod waits: (reason, message)."""
    found = []
    for pod in d.get("pods")["items"]:
        state = pod.get("status", {}).get("containerStatuses", [{}])[0].get("state", {})
        if "waiting" in state:
            found.append((state["waiting"].get("reason"), state["waiting"].get("message", "")))
    return found


def services_wait_for_their_model_and_share_it(program):
    demo = (ROOT / "engine/demo/demo-chat.gguf").read_bytes()
    with Server() as server, Daemon(program) as d:
        gate = threading.Event()
        url = f"{server.url}/demo.gguf?sha256={hashlib.sha256(demo).hexdigest()}"
        server.files["/demo.gguf"] = demo
        server.fault("/demo.gguf", hold=gate)
        for name in ("one", "two"):
            d.apply(inference_service(name, url))
        wait_for("both pods to wait for the model",
                 lambda: waiting(d) == 2 * [("ContainerCreating", f'pulling model "{url}"')])
        service = wait_for("the service to say so", lambda: next(
            (i for i in d.get("inferenceservice")["items"]
             if i.get("status", {}).get("modelStatus", {}).get("states", {}).get("targetModelState") == "Loading"),
            None))
        assert service["status"]["modelStatus"]["transitionStatus"] == "InProgress", service["status"]
        assert "pulling model" in d.kubectl("get", "isvc", "-o", "wide").stdout
        wait_for("the request", lambda: server.asked("/demo.gguf"))
        gate.set()
        d.wait_ready("one")
        d.wait_ready("two")
        # One download, of which every byte was asked for once.
        ranges = [h["Range"] for h in server.asked("/demo.gguf")]
        assert len(ranges) == len(set(ranges)), ranges
        wait_for("the events", lambda: {"Pulling", "Pulled"} <= {e["reason"] for e in d.get("events")["items"]})
        status, answer, _ = post(d.gateway + "/v1/completions", {"model": "one", "prompt": "hi", "max_tokens": 2})
        assert status == 200, answer
        # In use: it stays. Deleted: it may go.
        model = [program, "model", "rm", url, "--data-dir", d.data]
        refused = d.run(*model, check=False)
        assert refused.returncode == 1 and "is in use" in refused.stderr, refused
        d.kubectl("delete", "isvc", "one", "two")
        wait_for("the model to be let go", lambda: d.run(*model, check=False).returncode == 0)


def failures_say_what_to_do_and_secrets_help(program):
    demo = (ROOT / "engine/demo/demo-chat.gguf").read_bytes()
    with Server() as server, Daemon(program) as d:
        server.add_hub("org/gated", {"demo.gguf": demo}, token="hf_secret")
        manifest = inference_service("gated", "hf://org/gated/demo.gguf")
        env = manifest["spec"]["predictor"]["model"]["env"] = [{"name": "HF_ENDPOINT", "value": server.url}]
        d.apply(manifest)
        ready = wait_for("the reason", lambda: next(
            (c for c in d.get("isvc", "gated").get("status", {}).get("conditions", [])
             if c["type"] == "PredictorReady" and c.get("reason") == "ModelPullBackOff"), None))
        assert "set HF_TOKEN from a Secret" in ready["message"], ready
        d.kubectl("create", "secret", "generic", "hub", "--from-literal=token=hf_secret")
        env.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}})
        d.apply(manifest)
        d.wait_ready("gated")
        # Added by hand beside the daemon: the pod that waits finds it.
        d.apply(inference_service("away", f"{server.url}/none/demo.gguf"))
        wait_for("the failure", lambda: any(r == "ModelPullBackOff" and "404" in m for r, m in waiting(d)))
        d.run(program, "model", "add", f"{server.url}/none/demo.gguf", "--from", ROOT / "engine/demo/demo-chat.gguf",
              "--data-dir", d.data)
        d.wait_ready("away")
        # What was being downloaded for a service that goes is cancelled.
        gate = threading.Event()
        server.files["/held.gguf"] = demo
        server.fault("/held.gguf", hold=gate, always=True)
        d.apply(inference_service("held", f"{server.url}/held.gguf"))
        wait_for("the request", lambda: server.asked("/held.gguf"))
        d.kubectl("delete", "isvc", "held")
        wait_for("the end of the download", lambda: "model download cancelled" in d.log.read_text())
        gate.set()
        refused = d.run("kubectl", "apply", "-f", "-", stdin=json.dumps(inference_service("bad", "hf://name")),
                        check=False)
        assert "expected hf://ORG/NAME" in refused.stderr, refused


if __name__ == "__main__":
    run_tests(services_wait_for_their_model_and_share_it, failures_say_what_to_do_and_secrets_help)
