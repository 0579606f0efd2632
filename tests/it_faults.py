#!/usr/bin/env python3
"""What is killed: a replica under load, and the daemon during writes. Nothing acknowledged is lost,
nobody else notices, nothing is left behind."""
import json
import os
import pathlib
import signal
import subprocess
import threading
import urllib.request

from harness import Daemon, children, inference_service, post, run_tests, wait_for

STREAMS = 200


def replica_pid(d, service):
    """Pid of the one replica of a service, found by its pod's socket in its command line."""
    pods = d.get("pods", "-l", f"serving.kserve.io/inferenceservice={service}")["items"]
    uids = [p["metadata"]["uid"] for p in pods]
    for pid in children(d.process.pid):
        line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        if any(uid in line for uid in uids):
            return pid
    return None


def stream_text(url, body):
    """One streamed completion; gives (text, saw [DONE], error)."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    text, done = "", False
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            for line in answer:
                if line.startswith(b"data: [DONE]"):
                    done = True
                elif line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    if "error" in event:
                        return text, done, event["error"]["message"]
                    text += event["choices"][0]["text"]
        return text, done, None
    except (urllib.error.URLError, ConnectionError, OSError, ValueError) as error:
        return text, done, str(error)


def two_hundred_streams_at_once_are_all_whole(program):
    with Daemon(program) as d:
        d.apply(inference_service("demo", "embedded://demo-chat"))
        d.wait_ready("demo")
        body = {"model": "demo", "prompt": "Hello", "max_tokens": 40, "temperature": 0, "stream": True,
                "ignore_eos": True}
        alone, done, error = stream_text(d.gateway + "/v1/completions", body)
        assert done and not error and alone, error
        results = [None] * STREAMS

        def run(i):
            results[i] = stream_text(d.gateway + "/v1/completions", body)
        threads = [threading.Thread(target=run, args=(i,)) for i in range(STREAMS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        bad = [r for r in results if r != (alone, True, None)]
        assert not bad, f"{len(bad)} of {STREAMS}: {bad[:3]}"


def a_replica_killed_under_load_touches_nobody_else(program):
    with Daemon(program) as d:
        for name in ("one", "two"):
            d.apply(inference_service(name, "embedded://demo-chat"))
        for name in ("one", "two"):
            d.wait_ready(name)
        stop = threading.Event()
        errors, served = [], [0]

        def keep_asking():
            while not stop.is_set():
                text, done, error = stream_text(d.gateway + "/v1/completions",
                                                {"model": "two", "prompt": "Hi", "max_tokens": 8,
                                                 "ignore_eos": True, "stream": True})
                served[0] += 1
                if error or not done:
                    errors.append(error or "cut")
        neighbours = [threading.Thread(target=keep_asking) for _ in range(4)]
        victims = [threading.Thread(target=stream_text, args=(
            d.gateway + "/v1/completions", {"model": "one", "prompt": "Hi", "max_tokens": 400,
                                            "ignore_eos": True, "stream": True})) for _ in range(8)]
        for t in neighbours + victims:
            t.start()
        pid = wait_for("the replica's process", lambda: replica_pid(d, "one"))
        os.kill(pid, signal.SIGKILL)
        for t in victims:
            t.join()

        def restarted():
            pods = d.get("pods", "-l", "serving.kserve.io/inferenceservice=one")["items"]
            states = [s for p in pods for s in p["status"].get("containerStatuses", [])]
            return any(s["restartCount"] >= 1 and s["ready"] and
                       s["lastState"]["terminated"]["exitCode"] == 137 for s in states)
        wait_for("the killed replica to be ready again", restarted)
        d.wait_ready("one")
        status, answer, _ = post(d.gateway + "/v1/completions", {"model": "one", "prompt": "Hi", "max_tokens": 2})
        assert status == 200, answer
        stop.set()
        for t in neighbours:
            t.join()
        assert served[0] > 0 and not errors, errors[:3]
        assert d.process.poll() is None


def a_daemon_killed_during_writes_loses_nothing_it_acknowledged(program):
    with Daemon(program) as d:
        d.apply(inference_service("demo", "embedded://demo-chat"))
        d.wait_ready("demo")
        replica = wait_for("the replica's process", lambda: replica_pid(d, "demo"))
        acknowledged, lock = [], threading.Lock()

        def write(worker):
            for i in range(1000):
                name = f"w{worker}-{i}"
                done = subprocess.run(["kubectl", "create", "configmap", name, f"--from-literal=n={i}"],
                                      env=d.environment(), capture_output=True, text=True)
                if done.returncode:
                    return
                with lock:
                    acknowledged.append(name)
        writers = [threading.Thread(target=write, args=(w,)) for w in range(3)]
        for t in writers:
            t.start()
        wait_for("30 acknowledged writes", lambda: len(acknowledged) >= 30)
        d.kill()
        for t in writers:
            t.join()
        wait_for("the replica to end with its daemon", lambda: not pathlib.Path(f"/proc/{replica}").exists())
        d.start()
        there = {o["metadata"]["name"] for o in d.get("configmaps")["items"]}
        lost = [n for n in acknowledged if n not in there]
        assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged objects are gone: {lost[:5]}"

        def serves():
            status, answer, _ = post(d.gateway + "/v1/completions",
                                     {"model": "demo", "prompt": "Hi", "max_tokens": 2})
            return status == 200
        wait_for("the service to be ready again by itself", serves)
        assert len(children(d.process.pid)) == 1, children(d.process.pid)


if __name__ == "__main__":
    run_tests(two_hundred_streams_at_once_are_all_whole, a_replica_killed_under_load_touches_nobody_else,
              a_daemon_killed_during_writes_loses_nothing_it_acknowledged)
