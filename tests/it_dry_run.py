#!/usr/bin/env python3
"""kubectl apply --dry-run=server says where replicas would go, and changes nothing."""
import contextlib
import json
import pathlib
import re
import tempfile

from harness import PATIENCE, Daemon, inference_service, run_tests, wait_for

TWO = "gpus: [{ product: NVIDIA L4, memory: 24Gi, count: 2 }]\n"


@contextlib.contextmanager
def machine():
    with tempfile.TemporaryDirectory(prefix="inferd-dry-run-") as folder:
        path = pathlib.Path(folder) / "machine.yaml"
        path.write_text(TWO)
        yield path


def service(name, replicas, **limits):
    s = inference_service(name, "embedded://demo-chat")
    s["spec"]["predictor"]["minReplicas"] = replicas
    s["spec"]["predictor"]["model"]["resources"] = {"limits": limits}
    return s


def pod(name, priority_class=None, **limits):
    spec = {"terminationGracePeriodSeconds": 1, "containers": [
        {"name": "main", "image": "vllm/vllm-openai", "args": ["--model", "embedded://demo-chat"],
         "resources": {"limits": limits}}]}
    if priority_class:
        spec["priorityClassName"] = priority_class
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def deployment(name, replicas, image="vllm/vllm-openai"):
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "main", "image": image, "args": ["--model", "embedded://demo-chat"],
                                     "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}}}}


def warnings(done):
    return [line.removeprefix("Warning: ") for line in done.stderr.split("\n") if line.startswith("Warning: ")]


def told(d, manifest, *how):
    """What a dry run says of pods."""
    text = json.dumps(manifest)
    return [w for w in warnings(d.kubectl("apply", "--dry-run=server", *how, "-f", "-", stdin=text))
            if re.match(r"(the pod|replica \d|minReplicas is 0|no replica|\d+ more)", w)]


def snapshot(d):
    """Everything there is but Leases and Events, by version."""
    kinds = "pods,deployments,replicasets,inferenceservices,nodes,poddisruptionbudgets"
    return {(o["kind"], o["metadata"]["name"]): o["metadata"]["resourceVersion"] for o in d.get(kinds, "-A")["items"]}


def replicas_are_told_one_by_one(program):
    with machine() as path, Daemon(program, "--fake-devices", path) as d:
        before = snapshot(d)
        for how in ((), ("--server-side",)):
            lines = told(d, service("llm", 3, **{"nvidia.com/gpu": "1"}), *how)
            assert len(lines) == 3, lines
            for i, line in enumerate(lines[:2]):
                assert re.match(rf"replica {i + 1} of 3 would go to node \S+, nvidia.com/gpu GPU-fa4ed000-000{i}\S* "
                                r"\(NVIDIA L4\); it takes \d+\.\d MiB of memory \(weights .*KV cache", line), lines
            assert lines[2].startswith("replica 3 of 3 would be Pending: 0/1 nodes are available: 1 Insufficient "
                                       "nvidia.com/gpu. preemption: 0/1 nodes are available: 1 No preemption "
                                       "victims found for incoming pod.; it takes "), lines
        line, = told(d, service("idle", 0))
        assert line.startswith("minReplicas is 0: the replica that the first request starts would go to node "), line
        assert snapshot(d) == before


def what_is_told_comes_true(program):
    with machine() as path, Daemon(program, "--fake-devices", path) as d:
        manifest = deployment("web", 2)
        lines = told(d, manifest)
        d.apply(manifest)
        d.kubectl("rollout", "status", "deployment/web", f"--timeout={PATIENCE}s")
        pods = d.get("pods", "-l", "app=web")["items"]
        given = sorted(json.loads(p["metadata"]["annotations"]["inferd.io/devices"])["nvidia.com/gpu"][0] for p in pods)
        assert given == sorted(re.search(r"GPU-[\w-]+", line).group() for line in lines), (given, lines)
        need = json.loads(pods[0]["metadata"]["annotations"]["inferd.io/memory"])
        assert f"it takes {need['bytes'] / 2**20:.1f} MiB of memory" in lines[0], (need, lines)
        # An update: what is added is told, of an unchanged template; all of it of a new one.
        assert told(d, manifest) == []
        lines = told(d, deployment("web", 3))
        assert len(lines) == 1 and lines[0].startswith("replica 1 of 1 would be Pending: "), lines
        lines = told(d, deployment("web", 2, image="inferd/engine"))
        assert len(lines) == 2 and all("when a replica of the present revision has left" in x for x in lines), lines
        patched = warnings(d.kubectl("patch", "deployment", "web", "--dry-run=server", "-p", '{"spec":{"replicas":3}}'))
        assert any(w.startswith("replica 1 of 1 would be Pending: ") for w in patched), patched


def who_would_be_pushed_off_is_told(program):
    with machine() as path, Daemon(program, "--fake-devices", path) as d:
        d.kubectl("create", "priorityclass", "high", "--value=1000")
        d.apply(pod("low", **{"nvidia.com/gpu": "2"}))
        d.kubectl("wait", "--for=condition=Ready", "pod/low", f"--timeout={PATIENCE}s")
        before = wait_for("the pod to be quiet", lambda: quiet(d))
        line, = told(d, pod("important", "high", **{"nvidia.com/gpu": "1"}))
        assert line.startswith("the pod would preempt pod low (priority 0) and would go to node "), line
        assert snapshot(d) == before
        d.kubectl("create", "namespace", "other")
        line, = told(d, pod("important", "high", **{"nvidia.com/gpu": "1"}), "-n", "other")
        assert line.startswith("the pod would preempt a pod of another namespace (priority 0) and"), line
        bad = pod("none")
        bad["spec"]["containers"][0]["args"] = ["--model", "no/such"]
        line, = told(d, bad)
        assert "; how much memory it takes is not known: " in line and "no/such" in line, line


def quiet(d):
    """A snapshot that two looks agree on."""
    first = snapshot(d)
    return first if first == snapshot(d) else None


run_tests(replicas_are_told_one_by_one, what_is_told_comes_true, who_would_be_pushed_off_is_told)
