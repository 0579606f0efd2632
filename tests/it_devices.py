#!/usr/bin/env python3
"""Devices with the real kubectl, on machines that a file describes."""
import os
import pathlib
import subprocess
import tempfile

from harness import PATIENCE, Daemon, run_tests, wait_for

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
          a_bad_file_stops_the_start_and_says_why)
