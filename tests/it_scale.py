#!/usr/bin/env python3
"""Down to zero and back with real replicas: a service that nobody asks loses its last replica, the
next request starts one and waits for it, a hundred that come meanwhile go through in order, and
what is beyond the bounds is told when to come back."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import time
import urllib.parse

from harness import PATIENCE, Daemon, children, inference_service, post, run_tests, wait_for

IDLE = ["--scale-to-zero-idle-seconds", "1"]
HELD = 100


def manifest(**predictor):
    predictor = {"minReplicas": 0, "maxReplicas": 1, **predictor}
    return inference_service("demo", "embedded://demo-chat", **predictor)


def replicas(d):
    deployment = d.get("deployment", "demo-predictor")
    return deployment["spec"]["replicas"], deployment["status"].get("readyReplicas", 0)


def wait_asleep(d):
    """Nothing asked for, nothing there, nothing on its way out."""
    def look():
        return replicas(d) == (0, 0) and not d.get("pods")["items"]
    wait_for("the service to be at zero", look)


def ask(d, prompt="Hi", **keywords):
    body = {"model": "demo", "prompt": prompt, "max_tokens": 1, "temperature": 0, **keywords}
    return post(f"{d.gateway}/v1/completions", body)


def connect(d):
    target = urllib.parse.urlparse(d.gateway)
    return http.client.HTTPConnection(target.hostname, target.port, timeout=60)


def metric(d, name):
    connection = connect(d)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(name + "[{ ]", line))


def send(d, body, request_id):
    """A connection on which the request has been sent; its answer is still to be read."""
    connection = connect(d)
    headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
    connection.request("POST", "/v1/completions", json.dumps(body), headers)
    return connection


def goes_to_zero_and_comes_back_on_a_request(program):
    with Daemon(program, *IDLE) as d:
        d.apply(manifest())
        d.wait_ready("demo")
        wait_asleep(d)
        ready = d.get("isvc", "demo")
        conditions = {c["type"]: c["status"] for c in ready["status"]["conditions"]}
        assert conditions["Ready"] == "True", conditions
        began = time.monotonic()
        status, answer, _ = ask(d)
        took = time.monotonic() - began
        assert status == 200, answer
        print(f"from zero, request to answer of one token: {took * 1000:.0f} ms")
        # A second later it is on its way down again: what is looked at here stays.
        events = [e for e in d.get("events")["items"] if e["reason"] == "SuccessfulRescale"]
        messages = [e["message"] for e in events]
        assert any(re.match(r"New size: 0 \(was 1\); reason: Idle", m) for m in messages), messages
        assert any(re.match(r"New size: 1 \(was 0\); reason: ", m) for m in messages), messages
        log = d.log.read_text()
        assert re.search(r'scaled.*inferenceservice=demo rule=inference from=1 to=0 reason=Idle inputs=', log)
        assert metric(d, "inferd_autoscaler_decisions_total") > 0
        assert metric(d, "inferd_autoscaler_desired_replicas") in (0, 1)
        wait_asleep(d)


def engine_pid(d):
    """The process of the replica that starts, from the moment on in which it is the engine; without a
    pause between two looks, because it is ready within milliseconds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for pid in children(d.process.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if b"\0engine\0" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
    raise AssertionError("no replica was started")


def is_stopped(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def wake_and_stop(d, request):
    """Sends a request to a service at zero and stops the process that starts for it (SIGSTOP) before
    it is ready. Gives the connection and the process."""
    for _ in range(20):
        wait_asleep(d)
        connection = send(d, *request)
        pid = engine_pid(d)
        os.kill(pid, signal.SIGSTOP)
        wait_for("the process to stop", lambda: is_stopped(pid))
        # Without a socket nobody has found it ready, or will.
        if not list((d.data / "run").glob("*.sock")):
            wait_for("the request to be held", lambda: metric(d, "inferd_gateway_requests_held") == 1)
            return connection, pid
        os.kill(pid, signal.SIGCONT)  # it was faster than we; once more
        assert connection.getresponse().status == 200
    raise AssertionError("the replica was always ready before it could be stopped")


def request(number, **keywords):
    body = {"model": "demo", "prompt": f"Number {number}", "max_tokens": 2, "temperature": 0, **keywords}
    return body, f"held-{number:03}"


def a_hundred_held_requests_go_through_in_order(program):
    # One at a time, so that the order in which they are let through is the order of the answers.
    with Daemon(program, *IDLE, "--gateway-queue-max", str(HELD), "--gateway-hold-bytes-max", "100000") as d:
        d.apply(manifest(containerConcurrency=1))
        d.wait_ready("demo")
        first, pid = wake_and_stop(d, request(0, stream=True))
        # The head of a stream, and a comment, come while there is no replica at all.
        stream = first.getresponse()
        assert stream.getheader("Content-Type") == "text/event-stream"
        comment = stream.readline().decode()
        # Without the time where no start has been measured: a slow machine goes to zero before one is ready.
        assert re.match(r": waiting for a replica(, about \d+\.\d s more)?$", comment), comment

        connections = [first]
        for i in range(1, HELD):
            connections.append(send(d, *request(i)))
            wait_for("the request to be held", lambda: metric(d, "inferd_gateway_requests_held") == i + 1)
        status, answer, headers = ask(d)
        assert status == 429 and "wait for replicas" in answer["error"]["message"], answer
        assert 1 <= int(headers["Retry-After"]) <= 60, headers["Retry-After"]

        os.kill(pid, signal.SIGCONT)
        events = stream.read().decode()
        assert '"text"' in events and events.rstrip().endswith("data: [DONE]"), events
        for connection in connections[1:]:
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
        relayed = re.findall(r"request relayed.*request=(held-\d+) .*status=200", d.log.read_text())
        relayed = [r for r in relayed if r in {f"held-{i:03}" for i in range(HELD)}][-HELD:]
        assert relayed == [f"held-{i:03}" for i in range(HELD)], relayed
        assert metric(d, "inferd_gateway_requests_held") == 0


def bodies_are_bounded_as_well(program):
    with Daemon(program, *IDLE, "--gateway-hold-bytes-max", "2000") as d:
        d.apply(manifest())
        d.wait_ready("demo")
        first, pid = wake_and_stop(d, request(0))
        status, answer, headers = ask(d, prompt="long " * 400)
        assert status == 429 and "at most 2000" in answer["error"]["message"], answer
        assert int(headers["Retry-After"]) >= 1
        os.kill(pid, signal.SIGCONT)
        assert first.getresponse().status == 200


def a_parked_model_is_woken_and_shared(program):
    """Weights that were packed once are there for the replica after, and for all others."""
    with Daemon(program, *IDLE, "--parked-models-bytes-max", "100000000") as d:
        d.apply(manifest())
        d.wait_ready("demo")
        status, before, _ = ask(d, max_tokens=8)
        assert status == 200, before
        if "VNNI" not in d.kubectl("logs", "-l", "serving.kserve.io/inferenceservice=demo", "--tail=-1").stdout:
            print("  nothing is packed on this processor, so nothing is parked")
            return
        loads, wakes = "inferd_parked_model_loads_total", "inferd_parked_model_wakes_total"
        wait_asleep(d)
        wait_for("the model to be parked", lambda: metric(d, "inferd_parked_models") == 1)
        parked = metric(d, "inferd_parked_models_bytes")
        assert 1e6 < parked < 1e8, parked
        status, after, _ = ask(d, max_tokens=8)
        assert status == 200 and after["choices"] == before["choices"], (before, after)
        wait_for("one to be woken", lambda: metric(d, wakes) == 1)

        pair = inference_service("pair", "embedded://demo-chat", minReplicas=2, maxReplicas=2)
        d.apply(pair)
        d.wait_ready("pair")
        ready = lambda: d.get("deployment", "pair-predictor")["status"].get("readyReplicas", 0) == 2
        wait_for("two replicas", ready)
        wait_for("both to be counted", lambda: metric(d, wakes) >= 3)
        wait_for("the model to be in use", lambda: metric(d, "inferd_shared_models_bytes") == parked)
        assert metric(d, loads) == 1
        d.kubectl("delete", "inferenceservice", "pair")


if __name__ == "__main__":
    run_tests(goes_to_zero_and_comes_back_on_a_request, a_hundred_held_requests_go_through_in_order,
              bodies_are_bounded_as_well, a_parked_model_is_woken_and_shared)
