#!/usr/bin/env python3
"""Devices with the real kubectl, on machines that a file describes."""
import os
import pathlib
import subprocess
import tempfile
import urllib.request

from harness import PATIENCE, Daemon, inference_service, run_tests, wait_for

EIGHT = """
machine: { cores: 192, memory: 2Ti }
driver: { version: 550.54.15, cuda: "12.4" }
gpus: [{ product: NVIDIA H200, memory: 141Gi, count: 8, computeCapability: "9.0" }]
"""


class Machine:
    """A file of fake devices; write() replaces it whole, as an editor does."""

    def __init__(self, text):
        self.folder = tempfile.TemporaryDirectory(prefix="inferd-devices-")
        self.path = pathlib.Path(self.folder.name) / "machine.yaml"
        self.write(text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def write(self, text):
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        os.replace(fresh, self.path)


def node(d):
    return d.get("nodes")["items"][0]


def condition(o, kind):
    return next((c for c in o["status"].get("conditions", []) if c["type"] == kind), {})


def the_node_says_what_nvidia_says(program):
    with Machine(EIGHT) as m, Daemon(program, "--fake-devices", m.path) as d:
        text = d.kubectl("describe", "node").stdout
        for line in ("nvidia.com/gpu.product=NVIDIA-H200", "nvidia.com/gpu.count=8", "nvidia.com/gpu.memory=144384",
                     "nvidia.com/mig.capable=true", "nvidia.com/cuda.driver-version.full=550.54.15",
                     "inferd.io/fake-devices=true"):
            assert line in text, (line, text)
        words = text.split()
        assert words[words.index("nvidia.com/gpu:") + 1] == "8", text
        assert "GPUsAreHealthy" in text, text
        listed = d.kubectl("get", "nodes", "-l", "nvidia.com/gpu.product=NVIDIA-H200", "-o", "name").stdout
        metrics = urllib.request.urlopen(f"{d.gateway}/metrics", timeout=PATIENCE).read().decode()
        assert metrics.count("DCGM_FI_DEV_FB_FREE{gpu=") == 8, metrics
        assert listed.startswith("node/"), listed


def a_fault_takes_from_what_is_allocatable_and_gives_back(program):
    two = "gpus: [{ product: NVIDIA H200, memory: 141Gi, count: 2 }]\n"
    with Machine(two) as m, Daemon(program, "--fake-devices", m.path) as d:
        m.write("gpus: [{ product: NVIDIA H200, memory: 141Gi },\n"
                "       { product: NVIDIA H200, memory: 141Gi, uncorrectedErrors: 2 }]\n")
        d.kubectl("wait", "--for=condition=GPUUnhealthy", "node", "--all", f"--timeout={PATIENCE}s")
        status = node(d)["status"]
        assert (status["capacity"]["nvidia.com/gpu"], status["allocatable"]["nvidia.com/gpu"]) == ("2", "1"), status
        assert "2 uncorrectable memory errors" in condition(node(d), "GPUUnhealthy")["message"], status
        m.write(two)
        d.kubectl("wait", "--for=condition=GPUUnhealthy=false", "node", "--all", f"--timeout={PATIENCE}s")
        assert node(d)["status"]["allocatable"]["nvidia.com/gpu"] == "2"
        wait_for("both Events", lambda: {"GPUQuarantined", "GPUReadmitted"} <= {
            e["reason"] for e in d.get("events", "-A")["items"]})


def service(name, **limits):
    s = inference_service(name, "embedded://demo-chat")
    s["spec"]["predictor"]["model"]["resources"] = {"limits": limits}
    return s


def sleeper(name, gpus, priority_class=None):
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [
        {"name": "main", "image": "vllm/vllm-openai", "args": ["--model", "embedded://demo-chat"],
         "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}]}
    if priority_class:
        spec["priorityClassName"] = priority_class
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def devices_of(pod):
    return pod["metadata"].get("annotations", {}).get("inferd.io/devices")


def pod_of(d, name):
    """The living pod of a service, once it has one."""
    pods = [p for p in d.get("pods", "-l", f"serving.kserve.io/inferenceservice={name}")["items"]
            if "deletionTimestamp" not in p["metadata"]]
    return pods[0] if pods else None


NONE_LEFT = ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: "
             "1 No preemption victims found for incoming pod.")


def two_services_have_a_gpu_each_and_move_when_one_fails(program):
    sound = "gpus: [{ product: NVIDIA H200, memory: 141Gi, count: 3 }]\n"
    with Machine(sound.replace("3", "2")) as m, Daemon(program, "--fake-devices", m.path) as d:
        for name in ("one", "two"):
            d.apply(service(name, **{"nvidia.com/gpu": "1"}))
            d.wait_ready(name)
        given = {name: devices_of(pod_of(d, name)) for name in ("one", "two")}
        assert given["one"] and given["two"] and given["one"] != given["two"], given
        events = d.kubectl("describe", "pod", pod_of(d, "one")["metadata"]["name"]).stdout
        assert "Assigned nvidia.com/gpu GPU-" in events and "(NVIDIA H200)" in events, events
        assert "the pod runs on the CPU" in events, events
        d.apply(service("three", **{"nvidia.com/gpu": "1"}))
        wait_for("the verdict", lambda: pod_of(d, "three") and
                 condition(pod_of(d, "three"), "PodScheduled").get("message") == NONE_LEFT)
        wait_for("its Event", lambda: NONE_LEFT in d.kubectl(
            "describe", "pod", pod_of(d, "three")["metadata"]["name"]).stdout)
        m.write(sound)
        d.wait_ready("three")
        # The GPU of the first fails: there is none for it any more, the others stay where they are.
        before = {name: pod_of(d, name)["metadata"]["uid"] for name in ("one", "two", "three")}
        index = int(given["one"].split("GPU-fa4ed000-")[1][:4], 16)
        gpus = ["{ product: NVIDIA H200, memory: 141Gi%s }" % (", uncorrectedErrors: 1" if i == index else "")
                for i in range(3)]
        m.write(f"gpus: [{', '.join(gpus)}]\n")
        wait_for("the pod to leave", lambda: pod_of(d, "one") and
                 pod_of(d, "one")["metadata"]["uid"] != before["one"] and
                 condition(pod_of(d, "one"), "PodScheduled").get("message") == NONE_LEFT)
        assert {name: pod_of(d, name)["metadata"]["uid"] for name in ("two", "three")} == {
            name: before[name] for name in ("two", "three")}
        m.write(sound)
        d.wait_ready("one")
        assert devices_of(pod_of(d, "one")) == given["one"]


def models_share_a_gpu_by_memory(program):
    with Machine("gpus: [{ product: NVIDIA L4, memory: 24Gi }]\n") as m, Daemon(program, "--fake-devices", m.path) as d:
        for name in ("one", "two"):
            d.apply(service(name, **{"inferd.dev/gpu-memory": "10Gi"}))
            d.wait_ready(name)
        assert devices_of(pod_of(d, "one")) == devices_of(pod_of(d, "two"))
        d.apply(sleeper("whole", 1))
        wait_for("the verdict", lambda: condition(d.get("pod", "whole"), "PodScheduled").get("message") == NONE_LEFT)


def an_important_pod_pushes_another_off(program):
    with Machine("gpus: [{ product: NVIDIA L4, memory: 24Gi }]\n") as m, Daemon(program, "--fake-devices", m.path) as d:
        d.kubectl("create", "priorityclass", "high", "--value=1000")
        d.apply(sleeper("low", 1))
        d.kubectl("wait", "--for=condition=Ready", "pod/low", f"--timeout={PATIENCE}s")
        d.apply(sleeper("high", 1, "high"))
        d.kubectl("wait", "--for=condition=Ready", "pod/high", f"--timeout={PATIENCE}s")
        d.kubectl("wait", "--for=delete", "pod/low", f"--timeout={PATIENCE}s")
        told = wait_for("the Event", lambda: [e for e in d.get("events")["items"] if e["reason"] == "Preempted"])
        assert told[0]["involvedObject"]["name"] == "low" and "Preempted by pod" in told[0]["message"], told


def a_bad_file_stops_the_start_and_says_why(program):
    with Machine("gpus: [{ product: NVIDIA H200, memory: lots }]\n") as m, tempfile.TemporaryDirectory() as home:
        done = subprocess.run([program, "serve", "--data-dir", home, "--kube-listen", "127.0.0.1:0",
                               "--gateway-listen", "127.0.0.1:0", "--fake-devices", m.path],
                              capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 1, done
        assert f'{m.path}: gpus[0].memory: "lots" is not a quantity of bytes' in done.stderr, done.stderr
    help_text = subprocess.run([program, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    assert "fakeDevices" in help_text and "devicePluginConfig" in help_text, help_text


run_tests(the_node_says_what_nvidia_says, a_fault_takes_from_what_is_allocatable_and_gives_back,
          two_services_have_a_gpu_each_and_move_when_one_fails, models_share_a_gpu_by_memory,
          an_important_pod_pushes_another_off, a_bad_file_stops_the_start_and_says_why)
