#!/usr/bin/env python3
"""A rolling update where the new revision has no room beside the old one: requests are held, the old
replica finishes what it has and ends, the new one starts in its place, and nobody is turned away."""
import http.client
import json
import pathlib
import tempfile
import threading
import urllib.parse

from harness import PATIENCE, Daemon, inference_service, run_tests, wait_for

TWO_GPUS = "gpus: [{ product: NVIDIA L4, memory: 24Gi, count: 2 }]\n"
CLIENTS = 4
HOLD = ["--gateway-hold-seconds", str(4 * PATIENCE)]  # how slow the machine is, is not the question


def service(max_len, **predictor):
    s = inference_service("demo", "embedded://demo-chat", **predictor)
    s["spec"]["predictor"]["model"]["args"] = [f"--max-model-len={max_len}"]
    s["spec"]["predictor"]["model"]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    return s


def neighbour():
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "neighbour"},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [
                {"name": "main", "image": "vllm/vllm-openai", "args": ["--model", "embedded://demo-chat"],
                 "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}}


def open_request(d, max_tokens, stream=False):
    target = urllib.parse.urlparse(d.gateway)
    connection = http.client.HTTPConnection(target.hostname, target.port, timeout=4 * PATIENCE)
    body = {"model": "demo", "prompt": "Once", "max_tokens": max_tokens, "min_tokens": max_tokens,
            "temperature": 0, "stream": stream}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    return connection


class Load:
    """Clients that ask one thing after the other, and what they were answered: (status, revision)."""

    def __init__(self, d):
        self.d = d
        self.answers = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(CLIENTS)]

    def run(self):
        while not self.stopping.is_set():
            connection = open_request(self.d, 4)
            answer = connection.getresponse()
            text = answer.read()
            self.answers.append((answer.status, answer.getheader("X-Inferd-Revision"), text))
            connection.close()

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for t in self.threads:
            t.join()

    def has(self, revision):
        return any(r == revision for _, r, _ in list(self.answers))


def events(d, reason):
    return [e["message"] for e in d.get("events")["items"] if e["reason"] == reason]


def update_under_load(d, before, after):
    """Rolls from one service to the next; gives the messages of the swap's Events."""
    d.apply(before)
    d.wait_ready("demo")
    with Load(d) as load:
        wait_for("answers of the first revision", lambda: load.has("demo-predictor-00001"))
        stream = open_request(d, 200, stream=True).getresponse()  # under way when it begins
        first = stream.readline()
        d.apply(after)
        wait_for("answers of the second revision", lambda: load.has("demo-predictor-00002"))
    bad = [a for a in load.answers if a[0] != 200]
    assert not bad, bad
    assert {r for _, r, _ in load.answers} == {"demo-predictor-00001", "demo-predictor-00002"}
    text = first + stream.read()
    assert text.rstrip().endswith(b"data: [DONE]") and b'"error"' not in text, text[-300:]
    return wait_for("the Event", lambda: events(d, "SwappingInPlace"))


def the_second_revision_takes_the_only_gpu_that_is_left(program):
    with tempfile.TemporaryDirectory() as folder:
        machine = pathlib.Path(folder) / "machine.yaml"
        machine.write_text(TWO_GPUS)
        with Daemon(program, "--fake-devices", machine, *HOLD) as d:
            d.apply(neighbour())
            d.kubectl("wait", "--for=condition=Ready", "pod/neighbour", f"--timeout={PATIENCE}s",
                      timeout=2 * PATIENCE)
            told = update_under_load(d, service(256), service(384))
            assert len(told) == 1 and "Insufficient nvidia.com/gpu" in told[0], told


def without_surge_requests_are_held(program):
    strategy = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    with Daemon(program, "--cpu-fallback", "true", *HOLD) as d:
        told = update_under_load(d, service(256, deploymentStrategy=strategy), service(384, deploymentStrategy=strategy))
        assert len(told) == 1 and "because maxSurge is 0" in told[0], told


if __name__ == "__main__":
    run_tests(the_second_revision_takes_the_only_gpu_that_is_left, without_surge_requests_are_held)
