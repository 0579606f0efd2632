#!/usr/bin/env python3
"""What a change of weights costs the requests that are under way, and whether the shares hold.

    tests/bench/canary_bench.py build/release/inferd [--repeats 3] [--requests 10000]

A service with a canary answers 64 requests at a time (wrk, one token each, real replicas). Every
100 ms canaryTrafficPercent gets a new random value through the API; in the other half of the runs
an object that is nobody's business gets one instead, with the same requests to the API, so that
what differs is the change of weights and not the client's share of the machine. Both in turns.

    shares     the canary's answers against the sum, over the intervals between two changes, of the
               weight in force times the answers in it; an interval begins when the status tells
               the weight (the status tells only what requests find already), but for the 64 that
               are under way then: their replicas were picked by the weight before
    errors     answers other than 200, and connections that broke
    p99        of the requests, by wrk; the difference of the medians is what the changes add

Exit status 1: a bar is missed. Without wrk: 77."""
import argparse
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import Daemon, inference_service, wait_for  # noqa: E402
from wire import MERGE, Client  # noqa: E402

IN_FLIGHT, CHANGE_SECONDS = 64, 0.1
SHARE_BAR, ADDED_MS_BAR = 0.01, 1.0
SCRIPT = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"model":"demo","prompt":"Hi","max_tokens":1,"temperature":0}'
"""
SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices/demo"
OTHER = "/api/v1/namespaces/default/configmaps/other"


def manifest(length, percent=None):
    service = inference_service("demo", "embedded://demo-chat")
    service["spec"]["predictor"]["model"]["args"] = [f"--max-model-len={length}"]
    if percent is not None:
        service["spec"]["predictor"]["canaryTrafficPercent"] = percent
    return service


def answers(d):
    """(answers of all revisions, of the canary), by the gateway's counters."""
    with urllib.request.urlopen(d.gateway + "/metrics") as answer:
        text = answer.read().decode()
    found = re.findall(r'inferd_gateway_revision_answers_total\{[^}]*revision="([^"]+)"\} (\d+)', text)
    return sum(int(n) for _, n in found), sum(int(n) for name, n in found if name.endswith("00002"))


def canary_percent(service):
    targets = service["status"]["components"]["predictor"]["traffic"]
    return next((t["percent"] for t in targets if t["revisionName"].endswith("00002")), 0)


class Changes(threading.Thread):
    """Every 100 ms a new weight (or, the same trouble for nothing, a new value of another object)."""

    def __init__(self, d, seed, weights):
        super().__init__()
        self.d, self.weights, self.random = d, weights, random.Random(seed)
        self.client, self.stop = Client(d, "canary-bench"), threading.Event()
        self.num, self.expected, self.took = 0, 0.0, []

    def change(self, percent):
        if not self.weights:
            self.client.must(200, "PATCH", OTHER, {"data": {"percent": str(percent)}}, kind=MERGE)
            self.client.get(SERVICE)
            return
        self.client.must(200, "PATCH", SERVICE, {"spec": {"predictor": {"canaryTrafficPercent": percent}}},
                         kind=MERGE)
        while canary_percent(self.client.get(SERVICE)) != percent:
            pass

    def run(self):
        self.percent = canary_percent(self.client.get(SERVICE))
        self.before = self.percent
        self.total, self.canary = self.began = answers(self.d)
        while not self.stop.wait(CHANGE_SECONDS):
            percent, began = self.random.randrange(1, 100), time.monotonic()
            self.change(percent)
            self.took.append(time.monotonic() - began)
            self.account(percent if self.weights else self.percent)
            self.num += 1
        self.account(self.percent)

    def account(self, next_percent):
        """The interval that ends now had self.percent, and the one before it self.before."""
        total, self.canary = answers(self.d)
        num = total - self.total
        earlier = min(num, IN_FLIGHT)
        self.expected += (earlier * self.before + (num - earlier) * self.percent) / 100
        self.total, self.before, self.percent = total, self.percent, next_percent

    def deviation(self):
        """(answers, how far the canary's share is from what the weights add up to)"""
        total = self.total - self.began[0]
        return total, (self.canary - self.began[1] - self.expected) / total


def measure(d, options, seed, weights):
    changes = Changes(d, seed, weights)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT)
        script.flush()
        changes.start()
        told = subprocess.run(["wrk", "-t1", f"-c{IN_FLIGHT}", f"-d{options.seconds}", "--latency", "--timeout", "60",
                               "-s", script.name, d.gateway + "/v1/completions"],
                              capture_output=True, text=True, check=True).stdout
        changes.stop.set()
        changes.join()
    bad = re.findall(r"Non-2xx.*|Socket errors.*", told)
    number, unit = re.search(r"(?m)^ +99%\s+([\d.]+)(us|ms|s)", told).groups()
    total, deviation = changes.deviation()
    return {"answers": total, "changes": changes.num, "deviation": deviation, "bad": bad,
            "p99": float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit],
            "took": statistics.median(changes.took) * 1000}


def prepare(d):
    d.apply(manifest(512))
    d.wait_ready("demo")
    d.apply(manifest(384, 50))
    d.kubectl("create", "configmap", "other", "--from-literal=percent=0")
    client = Client(d, "canary-bench")
    wait_for("half of the traffic at the canary", lambda: canary_percent(client.get(SERVICE)) == 50)


def report(runs):
    held = True
    print(f"{'weights':10}{'answers':>9}{'changes':>9}{'told after ms':>15}{'off by':>9}{'p99 ms':>9}  errors")
    for kind, results in runs.items():
        for r in results:
            print(f"{kind:10}{r['answers']:9}{r['changes']:9}{r['took']:15.1f}{r['deviation']:9.2%}{r['p99']:9.1f}  "
                  f"{'; '.join(r['bad']) or 'none'}")
            held = held and not r["bad"] and abs(r["deviation"]) <= SHARE_BAR
    medians = {kind: statistics.median(r["p99"] for r in results) for kind, results in runs.items()}
    added = medians["changing"] - medians["still"]
    held = held and added < ADDED_MS_BAR
    print(f"added p99: {added:+.2f} ms (bar: below {ADDED_MS_BAR}); shares within {SHARE_BAR:.0%}, no errors: "
          f"{'met' if held else 'NOT MET'}")
    return held


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--requests", type=int, default=10000, help="at least, of each run")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        print("wrk absent: no client")
        return 77
    with Daemon(options.program.resolve()) as d:
        prepare(d)
        options.seconds = 3
        rate = measure(d, options, 0, True)["answers"] / options.seconds  # also what warms up
        options.seconds = int(options.requests / rate * 1.3) + 2
        runs = {"still": [], "changing": []}
        for i in range(options.repeats):
            for kind, results in runs.items():
                results.append(measure(d, options, i + 1, kind == "changing"))
        return 0 if report(runs) else 1


if __name__ == "__main__":
    sys.exit(main())
