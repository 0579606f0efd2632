#!/usr/bin/env python3
"""From zero: how long a request to a service without replicas waits for its first token, and where
the time goes. Prints one table.

    tests/bench/zero_bench.py build/release/inferd [--rounds 20] [--model FILE] [--realtime]

Each round waits until the service has no replica and no pod, sends one streamed request of one
token, and reads until the first event with data; the model's file is in the page cache by then.
The parts, from the clocks of the logs (the same machine):

    decide   the request has come in, and the autoscaler has asked for a replica
    start    ReplicaSet, Pod, placement (each is committed to disk), fork, exec, dynamic linking
    load     the engine's own start: model, tokenizer, template, threads, until it listens
    answer   readiness is seen, the traffic table has it, the held request is sent, one token

--realtime runs everything under SCHED_FIFO (wants root), for a machine that others use as well.

With --model the file is measured twice: loaded each time, and parked (parkedModelsBytesMax), beside the
time that reading as many bytes from memory takes (memory_read, built with the program), in turns.

Bars: for the model that is inside the program a median of 150 ms to the first token at most; the replica's
own start (load) with a parked model at most twice the time to read its size from memory."""
import argparse
import calendar
import http.client
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import Daemon, inference_service, wait_for  # noqa: E402

BAR_MS, BAR_READS = 150, 2
PARTS = ("decide", "start", "load", "answer")


def wait_asleep(d):
    def look():
        deployment = d.get("deployment", "demo-predictor")
        return not deployment["spec"]["replicas"] and not d.get("pods")["items"]
    wait_for("the service to be at zero", look)


def first_token(d):
    """Sends one request; gives when it was sent and when its first token came, in seconds of the
    wall clock, as the logs have it."""
    target = urllib.parse.urlparse(d.gateway)
    connection = http.client.HTTPConnection(target.hostname, target.port)
    connection.connect()
    body = {"model": "demo", "prompt": "Hi", "max_tokens": 1, "temperature": 0, "stream": True}
    sent = time.time()
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    while not (line := answer.readline()).startswith(b"data:"):
        assert line, "the answer ended without a token"
    came = time.time()
    assert b"error" not in line, line
    answer.read()
    return sent, came


def seconds(stamp):
    """A time of a log line, 2026-01-31T12:00:00.123Z."""
    whole, fraction = stamp.rstrip("Z").split(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float("0." + fraction)


def parts(d, sent, came):
    """The time from `sent` to `came` in milliseconds, in its parts."""
    daemon = re.findall(r'ts=(\S+) .*msg="scaled" .*from=0 to=1', d.log.read_text())
    replica = max(d.data.glob("logs/**/*.log"), key=os.path.getmtime).read_text()
    ready, took = re.findall(r'ts=(\S+) .*msg="replica is ready".* start_ms=(\S+)', replica)[-1]
    ready, decided, began = seconds(ready), seconds(daemon[-1]), seconds(ready) - float(took) / 1e3
    marks = [sent, decided, began, ready, came]
    return {name: (b - a) * 1e3 for name, a, b in zip(PARTS, marks, marks[1:])}


def measure(program, model, rounds, *options):
    """A list of rounds, each its total and its parts."""
    found = []
    with Daemon(program, "--scale-to-zero-idle-seconds", "1", *options) as d:
        d.apply(inference_service("demo", model, minReplicas=0, maxReplicas=1))
        d.wait_ready("demo")
        for _ in range(rounds):
            wait_asleep(d)
            sent, came = first_token(d)
            found.append({"total": (came - sent) * 1e3, **parts(d, sent, came)})
    return found


def print_table(title, found):
    print(f"\n{title}, {len(found)} rounds")
    print(f"{'ms':8} {'median':>8} {'least':>8} {'most':>8}")
    for name in PARTS + ("total",):
        values = [f[name] for f in found]
        print(f"{name:8} {statistics.median(values):8.1f} {min(values):8.1f} {max(values):8.1f}")
    return statistics.median(f["total"] for f in found)


def compare_parked(program, model, rounds):
    """Loaded, parked, and how long reading as much takes; true when the bar is met."""
    size = model.stat().st_size

    def read():
        done = subprocess.run([program.parent / "memory_read", str(size)], capture_output=True, text=True, check=True)
        return float(done.stdout)
    reads = [read()]
    print_table(f"{model.name}, loaded", measure(program, model, rounds))
    reads.append(read())
    parked = measure(program, model, rounds, "--parked-models-bytes-max", str(2 * size))
    print_table(f"{model.name}, parked", parked)
    reads.append(read())
    least = min(reads)
    wake, total = (statistics.median(f[part] for f in parked) for part in ("load", "total"))
    print(f"reading {size / 1e9:.2f} GB from memory: {least:.1f} ms; load {wake / least:.2f} times that, "
          f"first token {total / least:.2f} times")
    print(f"bar: load at most {BAR_READS} times, {'met' if wake <= BAR_READS * least else 'MISSED'}")
    return wake <= BAR_READS * least


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--model", help="a GGUF file, measured beside the model in the program")
    parser.add_argument("--realtime", action="store_true")
    options = parser.parse_args()
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    program = pathlib.Path(options.program).resolve()
    median = print_table("embedded://demo-chat", measure(program, "embedded://demo-chat", options.rounds))
    print(f"bar: {BAR_MS} ms, {'met' if median <= BAR_MS else 'MISSED'}")
    met = median <= BAR_MS
    if options.model:
        met = compare_parked(program, pathlib.Path(options.model).resolve(), options.rounds) and met
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
