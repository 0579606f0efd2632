#!/usr/bin/env python3
"""Half an hour of everything at once: clients ask three services without a pause, while replicas are
killed, evicted, rolled over, given canaries, promoted, rolled back and scaled to zero, and the node is
cordoned and drained. The order is drawn from a seed.

    soak.py PROGRAM [--minutes 30] [--seed 1] [--clients 6]

What must hold, whatever happens:

    lost      a request that no replica has begun to answer gets its answer. A stream that has begun
              may break off, but only if its replica was killed or drained, and it says so.
    wrong     every answer comes from the service that was asked for, with the text that this prompt
              has at temperature 0.
    leaks     at the end there are as many processes as pods, as many descriptors and threads as at
              the beginning, and the daemon's resident memory has stopped growing. Events go after a
              minute here, or they would be what grows for an hour; what the series of metrics hold
              (half an hour's, bounded, by their own gauge) is taken off.

Prints a table; exit status 1: something did not hold."""
import argparse
import collections
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import signal
import statistics
import sys
import threading
import time
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import Daemon, children, inference_service, wait_for  # noqa: E402

# Name, replicas at least and at most. The third goes to zero when it is told to, and comes back.
SERVICES = {"one": (2, 2), "two": (1, 1), "three": (0, 2)}
LENGTHS = (512, 448, 384)  # --max-model-len: another one is another revision
PROMPTS = ("Hi", "Hello", "What is 17 + 25?", "Tell me a story", "Name a colour")
TOKENS = (1, 4, 16, 48)
SAMPLE_SECONDS = 5
CALM_SECONDS = 5     # clients alone, before the descriptors are counted, at both ends
WARM_SHARE = 0.25    # of the time: until then memory may grow into its size
GROWTH_BYTES = 3 << 20  # of the medians after that, from the first third to the last; 5 % if more


def manifest(name, length, percent=None):
    least, most = SERVICES[name]
    service = inference_service(name, "embedded://demo-chat", minReplicas=least, maxReplicas=most)
    service["spec"]["predictor"]["model"]["args"] = [f"--max-model-len={length}"]
    if percent is not None:
        service["spec"]["predictor"]["canaryTrafficPercent"] = percent
    return service


# ---- clients ----

class Tally:
    """What the clients saw."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = collections.Counter()
        self.lost, self.wrong = [], []
        self.slowest = 0.0

    def add(self, kind, seconds, problem=None, where=None):
        with self.lock:
            self.counts[kind] += 1
            self.slowest = max(self.slowest, seconds)
            if problem:
                where.append(problem)


def read_events(answer):
    """The text of a stream of completions; gives (text, events, ended by [DONE], error)."""
    text, events = "", 0
    try:
        for line in answer:
            if line.startswith(b"data: [DONE]"):
                return text, events, True, None
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                if "error" in event:
                    return text, events, False, event["error"]["message"]
                text += event["choices"][0]["text"]
                events += 1
        return text, events, False, "the stream ended"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return text, events, False, repr(error)


class Client(threading.Thread):
    """Asks random services random things on a connection of its own, until it is told to stop."""

    def __init__(self, d, seed, expected, tally, stop):
        super().__init__()
        self.target = urllib.parse.urlparse(d.gateway)
        self.random = random.Random(seed)
        self.expected, self.tally, self.stop = expected, tally, stop
        self.connection = None

    def ask(self, service, prompt, tokens, stream):
        body = {"model": service, "prompt": prompt, "max_tokens": tokens, "temperature": 0,
                "ignore_eos": True, "stream": stream}
        began = time.monotonic()
        try:
            self.connection.request("POST", "/v1/completions", json.dumps(body),
                                    {"Content-Type": "application/json"})
            answer = self.connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.tally.add("failed", time.monotonic() - began, (service, repr(error)), self.tally.lost)
            return
        revision = answer.headers.get("X-Inferd-Revision", "")
        if stream and answer.status == 200:
            text, events, done, error = read_events(answer)
            answer.read() if done else self.connection.close()
        else:
            raw = answer.read()
            done, events = answer.status == 200, 0
            text = json.loads(raw)["choices"][0]["text"] if done else ""
            error = None if done else f"{answer.status} {raw[:300]}"
        self.judge(service, (prompt, tokens), revision, text, events, done, error,
                   time.monotonic() - began)

    def judge(self, service, question, revision, text, events, done, error, seconds):
        tally, whole = self.tally, self.expected[question]
        if done and revision and not revision.startswith(service + "-predictor-"):
            tally.add("wrong", seconds, (service, revision), tally.wrong)
        elif (text != whole) if done else not whole.startswith(text):
            tally.add("wrong", seconds, (service, question, text, whole), tally.wrong)
        elif done:
            tally.add("answered", seconds)
        elif events:
            tally.add("cut", seconds)  # it had begun, and says that it ends
        else:
            tally.add("failed", seconds, (service, error), tally.lost)

    def run(self):
        self.connection = http.client.HTTPConnection(self.target.hostname, self.target.port,
                                                     timeout=180)
        while not self.stop.is_set():
            self.ask(self.random.choice(list(SERVICES)), self.random.choice(PROMPTS),
                     self.random.choice(TOKENS), self.random.random() < 0.6)
        self.connection.close()


@contextlib.contextmanager
def asking(d, options, expected, tally):
    """Clients at work."""
    stop = threading.Event()
    clients = [Client(d, f"{options.seed}.{i}", expected, tally, stop) for i in range(options.clients)]
    for c in clients:
        c.start()
    try:
        yield
    finally:
        stop.set()
        for c in clients:
            c.join()


def expected_texts(d):
    """{(prompt, tokens): text}, asked while nothing happens."""
    target = urllib.parse.urlparse(d.gateway)
    connection = http.client.HTTPConnection(target.hostname, target.port, timeout=180)
    texts = {}
    for prompt in PROMPTS:
        for tokens in TOKENS:
            connection.request("POST", "/v1/completions", json.dumps(
                {"model": "one", "prompt": prompt, "max_tokens": tokens, "temperature": 0,
                 "ignore_eos": True}), {"Content-Type": "application/json"})
            texts[prompt, tokens] = json.loads(connection.getresponse().read())["choices"][0]["text"]
    connection.close()
    return texts


# ---- what happens to them ----

class Chaos:
    """Does one thing after another to the services; each waits until it is done, none for more."""

    def __init__(self, d, seed):
        self.d, self.random = d, random.Random(seed)
        self.counts = collections.Counter()
        self.length = dict.fromkeys(SERVICES, 0)
        self.node = d.get("nodes")["items"][0]["metadata"]["name"]

    def pods(self, service):
        return [p for p in self.d.get("pods", "-l", f"serving.kserve.io/inferenceservice={service}")["items"]
                if "deletionTimestamp" not in p["metadata"]]

    def any_service(self):
        return self.random.choice(list(SERVICES))

    def kill(self):
        uids = [p["metadata"]["uid"] for p in self.pods(self.any_service())]
        for pid in children(self.d.process.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode()
                if any(uid in line for uid in uids):
                    os.kill(pid, signal.SIGKILL)
                    return

    def delete(self):
        pods = self.pods(self.any_service())
        if pods:
            self.d.kubectl("delete", "pod", self.random.choice(pods)["metadata"]["name"],
                           "--ignore-not-found")

    def restart(self):
        # kubectl refuses a second one within the same second
        self.d.kubectl("rollout", "restart", f"deployment/{self.any_service()}-predictor", check=False)

    def undo(self):
        self.d.kubectl("rollout", "undo", f"deployment/{self.any_service()}-predictor", check=False)

    def canary(self):
        name = self.any_service()
        self.length[name] = (self.length[name] + 1) % len(LENGTHS)
        self.d.apply(manifest(name, LENGTHS[self.length[name]], self.random.choice((0, 10, 50))))

    def weight(self):
        name = self.any_service()
        self.d.apply(manifest(name, LENGTHS[self.length[name]], self.random.randrange(101)))

    def promote(self):
        name = self.any_service()
        self.d.apply(manifest(name, LENGTHS[self.length[name]]))

    def zero(self):
        self.d.kubectl("scale", "deployment/three-predictor", "--replicas=0")

    def cordon(self):
        self.d.kubectl("cordon", self.node)
        self.delete()
        self.d.kubectl("uncordon", self.node)

    def drain(self):
        self.d.kubectl("drain", self.node, "--ignore-daemonsets", "--delete-emptydir-data", "--force",
                       "--timeout=120s", timeout=180)
        self.d.kubectl("uncordon", self.node)

    def one(self):
        actions = (self.kill, self.delete, self.restart, self.undo, self.canary, self.weight,
                   self.promote, self.zero, self.cordon, self.drain)
        action = self.random.choices(actions, (3, 3, 2, 1, 3, 3, 2, 2, 1, 1))[0]
        action()
        self.counts[action.__name__] += 1

    def settle(self, patience):
        """Everything promoted, every replica ready, nothing ending."""
        for name in SERVICES:
            self.d.apply(manifest(name, LENGTHS[0]))
        self.d.kubectl("scale", "deployment/three-predictor", "--replicas=1")

        def quiet():
            pods = self.d.get("pods")["items"]
            ready = [p for p in pods if all(s["ready"] for s in p["status"].get("containerStatuses", [{"ready": False}]))]
            return len(pods) == len(ready) == 4 and len(children(self.d.process.pid)) == 4
        wait_for("four replicas, all ready, and as many processes", quiet, patience)


# ---- what the daemon holds ----

def holds(d):
    """{what: how much} of the daemon."""
    pid = d.process.pid
    with urllib.request.urlopen(d.gateway + "/metrics") as answer:
        series = float(re.search(r"(?m)^inferd_series_memory_bytes (\S+)", answer.read().decode()).group(1))
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    field = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if ":" in line and len(line.split()) > 1}
    return {"rss": (int(field["VmRSS"]) << 10) - series, "series": series, "threads": int(field["Threads"]),
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")), "processes": len(children(pid))}


def growth(samples, began, ended):
    """Median resident bytes of the first and the last third of the time after it is warm."""
    warm = [(at, h["rss"]) for at, h in samples if at > began + (ended - began) * WARM_SHARE]
    third = max(1, len(warm) // 3)
    return (statistics.median(rss for _, rss in warm[:third]),
            statistics.median(rss for _, rss in warm[-third:]))


def report(options, chaos, tally, before, after, first, last):
    allowed = max(GROWTH_BYTES, first * 0.05)
    rows = [
        ("requests lost", len(tally.lost), not tally.lost),
        ("wrong answers", len(tally.wrong), not tally.wrong),
        ("answered", tally.counts["answered"], tally.counts["answered"] > 0),
        ("streams cut after their first event", tally.counts["cut"], True),
        ("slowest request, s", f"{tally.slowest:.1f}", True),
        ("processes at the end (pods: 4)", after["processes"], after["processes"] == 4),
        ("descriptors before, after", f"{before['descriptors']}, {after['descriptors']}",
         after["descriptors"] <= before["descriptors"] + options.clients),
        ("threads before, after", f"{before['threads']}, {after['threads']}",
         after["threads"] <= before["threads"]),
        ("series MiB, before, after", f"{before['series'] / 2**20:.1f}, {after['series'] / 2**20:.1f}", True),
        ("RSS without, first and last third", f"{first / 2**20:.1f}, {last / 2**20:.1f}",
         last - first <= allowed),
    ]
    print(f"soak: {options.minutes:g} minutes, seed {options.seed}, {options.clients} clients; "
          f"{dict(chaos.counts)}")
    for what, value, held in rows:
        print(f"  {what:<38} {value!s:>16}  {'' if held else 'NOT MET'}")
    reasons = collections.Counter(re.sub(r'"request_id.*', "", str(p)) for p in tally.lost + tally.wrong)
    for problem, times in reasons.most_common(10):
        print(f"  {times} x {problem}")
    return all(held for _, _, held in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("program")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=6)
    options = parser.parse_args()
    with Daemon(pathlib.Path(options.program).resolve(), config="eventTtlSeconds: 60\n") as d:
        for name in SERVICES:
            d.apply(manifest(name, LENGTHS[0]))
        for name in SERVICES:
            d.wait_ready(name)
        expected, tally, chaos = expected_texts(d), Tally(), Chaos(d, options.seed)
        chaos.settle(120)
        with asking(d, options, expected, tally):
            time.sleep(CALM_SECONDS)
        before, samples = holds(d), []
        began = time.monotonic()
        ended = began + options.minutes * 60
        with asking(d, options, expected, tally):
            while time.monotonic() < ended:
                chaos.one()
                if not samples or time.monotonic() > samples[-1][0] + SAMPLE_SECONDS:
                    samples.append((time.monotonic(), holds(d)))
        chaos.settle(120)
        with asking(d, options, expected, tally):
            time.sleep(CALM_SECONDS)
        first, last = growth(samples, began, ended)
        return 0 if report(options, chaos, tally, before, holds(d), first, last) else 1


if __name__ == "__main__":
    sys.exit(main())
