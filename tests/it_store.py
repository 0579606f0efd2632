#!/usr/bin/env python3
"""The store through the API: a daemon killed at random moments during mixed writes, the bound of the
history, and large answers.

    tests/it_store.py build/dev/inferd [--rounds 200] [--updates 1000000]

by hand runs the long forms; the defaults are for every day."""
import argparse
import gzip
import json
import pathlib
import random
import sys
import threading
import time

from harness import Daemon, wait_for

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "bench"))
from clients import Kube, kube_client  # noqa: E402

MAPS = "/api/v1/namespaces/default/configmaps"
WRITERS = 4
MERGE_PATCH = "application/merge-patch+json"


class Client(Kube):
    """One connection that gives (status, parsed body) of any answer."""

    def ask(self, method, path, body=None, content_type="application/json", headers=""):
        data = json.dumps(body).encode() if body is not None else b""
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: t\r\n{headers}Content-Type: {content_type}"
                            f"\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        while b"\r\n\r\n" not in self.data:
            self.more()
        head, rest = bytes(self.data).split(b"\r\n\r\n", 1)
        fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
        size = int(fields["content-length"])
        while len(self.data) < len(head) + 4 + size:
            self.more()
        raw = bytes(self.data[len(head) + 4:len(head) + 4 + size])
        del self.data[:len(head) + 4 + size]
        self.fields, self.raw = fields, raw
        if fields.get("content-encoding") == "gzip":
            raw = gzip.decompress(raw)
        return int(head[9:12]), json.loads(raw)

    def more(self):
        chunk = self.socket.recv(1 << 18)
        if not chunk:
            raise ConnectionError("closed")
        self.data += chunk


def config_map(name, value):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"n": str(value)}}


class Writer(threading.Thread):
    """Creates, updates, patches and deletes objects of its own, one after the other, and remembers
    what was acknowledged: name -> (revision, value), value None when deleted. What was under way
    when the daemon died may have happened or not: `open`."""

    def __init__(self, index, where, seed):
        super().__init__()
        self.index, self.where, self.dice = index, where, random.Random(seed)
        self.known, self.open, self.count, self.error = {}, None, 0, None

    def run(self):
        try:
            client = Client(*self.where)
            while True:
                self.step(client)
        except (ConnectionError, OSError):
            return
        except Exception as error:  # shown by the main thread
            self.error = error

    def step(self, client):
        name = f"w{self.index}-{self.dice.randrange(12)}"
        value = self.count
        there = self.known.get(name, (0, None))[1] is not None
        act = self.dice.choice(["update", "patch", "patch", "delete"]) if there else "create"
        self.open = (name, None if act == "delete" else value)
        one = f"{MAPS}/{name}"
        if act == "create":
            status, o = client.ask("POST", MAPS, config_map(name, value))
        elif act == "update":
            status, o = client.ask("PUT", one, config_map(name, value))
        elif act == "patch":
            status, o = client.ask("PATCH", one, {"data": {"n": str(value)}}, MERGE_PATCH)
        else:
            status, o = client.ask("DELETE", one)
        assert status in (200, 201), (act, status, o)
        if act == "delete":
            self.known[name] = (self.known[name][0], None)
        else:
            self.known[name] = (int(o["metadata"]["resourceVersion"]), str(value))
        self.open = None
        self.count += 1


class Watcher(threading.Thread):
    """Follows every ConfigMap from the last revision that it has seen, until the daemon dies."""

    def __init__(self):
        super().__init__()
        self.revision, self.state, self.events, self.faults = 0, {}, 0, []
        self.live = threading.Event()

    def follow(self, where):
        """Starts a thread that goes on from what was seen."""
        again = Watcher.__new__(Watcher)
        threading.Thread.__init__(again)
        again.__dict__.update({k: self.__dict__[k] for k in ("revision", "state", "events", "faults")})
        again.live, again.where, again.stop_at = threading.Event(), where, None
        return again

    def take(self, event):
        o = event["object"]
        if event["type"] == "ERROR":
            self.faults.append(event)
            return
        name, revision = o["metadata"]["name"], int(o["metadata"]["resourceVersion"])
        if revision <= self.revision:
            self.faults.append(f"revision {revision} after {self.revision}")
        there = name in self.state
        if (event["type"] == "ADDED") == there:
            self.faults.append(f"{event['type']} of {name}, known: {there}, revision {revision}")
        if event["type"] == "DELETED":
            self.state.pop(name, None)
        else:
            self.state[name] = (revision, o["data"]["n"]) if name[0] == "w" else None
        self.revision = revision
        self.events += 1

    def run(self):
        try:
            c = Kube(*self.where)
            c.watching = True
            c.socket.sendall(Kube.request("GET", f"{MAPS}?watch=1&resourceVersion={self.revision}"))
            while self.stop_at is None or self.revision < self.stop_at:
                for line in c.receive():
                    self.take(json.loads(line))
                if c.chunked:
                    self.live.set()
        except (ConnectionError, OSError):
            return
        except Exception as error:  # shown by the main thread
            self.faults.append(repr(error))


def check_round(d, writers, watcher, last_revision):
    """After a restart: what was acknowledged is there. Gives the highest revision."""
    client = Client(*kube_client(d.kubeconfig))
    status, listed = client.ask("GET", MAPS)
    assert status == 200, listed
    revision = int(listed["metadata"]["resourceVersion"])
    assert revision >= last_revision, f"the store went back from {last_revision} to {revision}"
    there = {o["metadata"]["name"]: (int(o["metadata"]["resourceVersion"]), o["data"].get("n"))
             for o in listed["items"] if o["metadata"]["name"].startswith("w")}
    for w in writers:
        assert not w.error, w.error
        for name, (acknowledged, value) in w.known.items():
            maybe = w.open and w.open[0] == name
            now = there.get(name)
            if maybe and (now[1] if now else None) == (str(w.open[1]) if w.open[1] is not None else None):
                continue  # the unanswered write happened
            if value is None:
                assert now is None, f"{name} was deleted and is back: {now}"
            else:
                assert now == (acknowledged, value), f"{name}: {now} instead of {(acknowledged, value)}"
    return revision, there


def killed_at_random_moments_nothing_acknowledged_is_lost(program, rounds, seed):
    dice = random.Random(seed)
    with Daemon(program) as d:
        client = Client(*kube_client(d.kubeconfig))
        _, listed = client.ask("GET", MAPS)
        watcher = Watcher()
        watcher.revision = int(listed["metadata"]["resourceVersion"])
        watcher.state = {o["metadata"]["name"]: None for o in listed["items"]}
        known = [{} for _ in range(WRITERS)]
        total, last = 0, watcher.revision
        for turn in range(rounds):
            where = kube_client(d.kubeconfig)
            watcher = watcher.follow(where)
            watcher.start()
            writers = [Writer(i, where, dice.random()) for i in range(WRITERS)]
            for w, k in zip(writers, known):
                w.known = k
                w.start()
            # The moment: after so many writes and a random part of one.
            enough = dice.randrange(1, 60)
            wait_for("writes", lambda: sum(w.count for w in writers) >= enough or
                     any(w.error for w in writers))
            time.sleep(dice.random() * 0.02)
            d.kill()
            for t in writers + [watcher]:
                t.join()
            total += sum(w.count for w in writers)
            d.start()
            last, there = check_round(d, writers, watcher, last)
            for w, k in zip(writers, known):  # what happened unanswered is known from now on
                if w.open:
                    k[w.open[0]] = there.get(w.open[0], (0, None))
        watcher = watcher.follow(kube_client(d.kubeconfig))
        watcher.stop_at = max([r for r, _ in there.values()] + [watcher.revision])
        watcher.start()
        watcher.join(60)
        assert not watcher.is_alive(), f"the watch stopped at {watcher.revision} of {watcher.stop_at}"
        assert not watcher.faults, watcher.faults[:5]
        seen = {n: v for n, v in watcher.state.items() if v}
        # Deletions behind the last surviving write may still be on their way; all else is equal.
        assert all(seen.get(n) == v for n, v in there.items()), (seen, there)
        print(f"{rounds} kills, {total} acknowledged writes, {watcher.events} events, seed {seed}")


def one_object_updated_for_ever_leaves_a_bounded_database(program, updates):
    """The history has a bound and so has the file; compaction is not felt by who writes."""
    with Daemon(program, "--history-events-max", "300") as d:
        where = kube_client(d.kubeconfig)
        client = Client(*where)
        counter = config_map("counter", 0)
        counter["data"]["pad"] = "x" * 8000
        status, o = client.ask("POST", MAPS, counter)
        assert status == 201, o
        slowest, done, lock = [0.0] * WRITERS, [0] * WRITERS, threading.Lock()
        errors = []

        def write(index):
            try:
                mine = Client(*where)
                for i in range(updates // WRITERS):
                    start = time.perf_counter()
                    status, o = mine.ask("PATCH", f"{MAPS}/counter", {"data": {"n": f"{index}-{i}"}},
                                         MERGE_PATCH)
                    slowest[index] = max(slowest[index], time.perf_counter() - start)
                    assert status == 200, o
                    done[index] += 1
            except Exception as error:
                errors.append(error)
        threads = [threading.Thread(target=write, args=(i,)) for i in range(WRITERS)]
        start = time.perf_counter()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not errors, errors[0]
        size = sum(f.stat().st_size for f in d.data.glob("**/state.db*"))
        print(f"{sum(done)} updates in {time.perf_counter() - start:.0f} s, slowest {max(slowest) * 1000:.1f} ms, "
              f"database and its log {size / 1048576:.1f} MiB")
        # At most twice 300 revisions of 8.5 KB, a write-ahead log of 4 MiB and what else happened;
        # without compaction 6,000 updates take 50 MiB.
        assert size < 24 << 20, size


def large_answers_are_compressed_for_who_asks(program):
    with Daemon(program) as d:
        client = Client(*kube_client(d.kubeconfig))
        for i in range(60):
            status, o = client.ask("POST", MAPS, {"apiVersion": "v1", "kind": "ConfigMap",
                                                  "metadata": {"name": f"big-{i:02}"},
                                                  "data": {"text": f"line {i}\n" * 500}})
            assert status == 201, o
        _, plain = client.ask("GET", MAPS)
        assert "content-encoding" not in client.fields and len(client.raw) > 200000
        whole = len(client.raw)
        for accept in ("", "Accept: application/json;as=Table;v=v1;g=meta.k8s.io\r\n"):
            url = MAPS + ("?includeObject=Object" if accept else "")
            client.ask("GET", url, headers=accept + "Accept-Encoding: gzip, deflate\r\n")
            assert client.fields.get("content-encoding") == "gzip", client.fields
            assert client.fields.get("vary") == "accept-encoding", client.fields
            assert len(client.raw) < whole // 4
        _, packed = client.ask("GET", MAPS, headers="Accept-Encoding: gzip\r\n")
        assert packed == plain
        client.ask("GET", f"{MAPS}/big-01", headers="Accept-Encoding: gzip\r\n")
        assert "content-encoding" not in client.fields, "small answers are not worth it"
        client.ask("GET", f"{MAPS}/big-01?pretty=true")
        assert client.raw.startswith(b'{\n  "'), client.raw[:40]
        single = json.loads(client.raw)
        listed = next(o for o in plain["items"] if o["metadata"]["name"] == "big-01")
        assert {**single, "kind": None, "apiVersion": None} == {**listed, "kind": None, "apiVersion": None}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program")
    p.add_argument("--rounds", type=int, default=10)
    p.add_argument("--updates", type=int, default=6000)
    p.add_argument("--seed", type=int, default=1)
    options = p.parse_args()
    program = pathlib.Path(options.program).resolve()
    for test, arguments in (
            (large_answers_are_compressed_for_who_asks, ()),
            (killed_at_random_moments_nothing_acknowledged_is_lost, (options.rounds, options.seed)),
            (one_object_updated_for_ever_leaves_a_bounded_database, (options.updates,))):
        start = time.monotonic()
        print(f"[ RUN  ] {test.__name__}", flush=True)
        test(program, *arguments)
        print(f"[  OK  ] {test.__name__} ({time.monotonic() - start:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
