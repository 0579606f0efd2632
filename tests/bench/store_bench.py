#!/usr/bin/env python3
"""The store under load, next to kube-apiserver with its etcd, and to etcd alone. Prints a table.

    tests/bench/store_bench.py build/release/inferd [--repeats 5] [--objects 5000] [--watchers 1000]

The servers run on loopback with a folder of their own on the same disk, and take turns within one
run: A B C A B C. A peer that is not in PATH is left out, by name. (Debian has etcd-server; its
source package kubernetes builds a kube-apiserver, though no binary package has it.)

inferd and kube-apiserver get the same requests from the same client (clients.py) over TLS with the
same client certificate, and both do an API server's work: authentication, RBAC, defaulting,
managedFields. kube-apiserver asks an etcd without TLS, and its memory counts with that etcd's. etcd alone
is asked over plain gRPC for the bare write that an API server would do below all that: a
transaction that puts the same JSON when the key is absent. Each repeat adds to the objects that are
listed. One run holds the machine for minutes."""
import argparse
import json
import os
import pathlib
import platform
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import Daemon, wait_for  # noqa: E402
from clients import Etcd, Kube, drive, etcd_put, etcd_range, etcd_watch, kube_client  # noqa: E402

CLIENTS = 64


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def config_map(name, size):
    """A ConfigMap of about `size` bytes of JSON, in lines as configuration has them."""
    line = "setting.%04d = value of some length\n"
    text = "".join(line % i for i in range(max(1, (size - 150) // len(line % 0))))
    return {"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "default", "labels": {"bench": "store"}},
            "data": {"app.conf": text}}


def rss_mib(side):
    """Resident memory of a side's processes in MiB."""
    total = 0
    for pid in side.pids():
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return total / 1024


class InferdSide:
    name = "inferd"

    def __init__(self, program, size):
        self.daemon = Daemon(program)
        self.daemon.start()
        self.where = kube_client(self.daemon.kubeconfig)
        self.size = size
        self.pid = self.daemon.process.pid

    def pids(self):
        return [self.pid]

    def connect(self):
        return Kube(*self.where)

    def create(self, name):
        request = Kube.request("POST", "/api/v1/namespaces/default/configmaps", config_map(name, self.size))
        return lambda c: request

    def list(self):
        request = Kube.request("GET", "/api/v1/namespaces/default/configmaps")
        return lambda c: request

    def watch(self):
        request = Kube.request("GET", "/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=" +
                               self.revision())
        return lambda c: request

    def revision(self):
        c = self.connect()
        answer = json.loads(c.call(Kube.request("GET", "/api/v1/namespaces/default/configmaps?limit=1")))
        c.close()
        return answer["metadata"]["resourceVersion"]

    def close(self):
        self.daemon.__exit__(None, None, None)


class ApiserverSide(InferdSide):
    """kube-apiserver over an etcd of its own, with the certificates of an inferd's data folder."""
    name = "kube-apiserver"

    def __init__(self, program, size, daemon):
        self.size = size
        self.etcd = EtcdSide(shutil.which("etcd"), size)
        self.home = self.etcd.home
        self.port = free_port()
        pki = daemon.data / "pki"
        self.process = subprocess.Popen(
            [program, "--etcd-servers", f"http://127.0.0.1:{self.etcd.port}", "--bind-address", "127.0.0.1",
             "--secure-port", str(self.port), "--client-ca-file", str(pki / "ca.crt"),
             "--tls-cert-file", str(pki / "server.crt"), "--tls-private-key-file", str(pki / "server.key"),
             "--service-account-issuer", "https://kubernetes.default.svc",
             "--service-account-signing-key-file", str(pki / "server.key"),
             "--service-account-key-file", str(pki / "server.key"), "--authorization-mode", "RBAC",
             "--service-cluster-ip-range", "10.0.0.0/24", "--cert-dir", str(self.home / "certs")],
            stdout=subprocess.DEVNULL, stderr=open(self.home / "apiserver.log", "w"), stdin=subprocess.DEVNULL)
        self.pid = self.process.pid
        host, _, tls = kube_client(daemon.kubeconfig)
        self.where = host, self.port, tls
        wait_for("kube-apiserver to answer", self.answers)

    def answers(self):
        try:
            c = self.connect()
            c.socket.settimeout(5)
            c.call(Kube.request("GET", "/readyz"))
            c.call(Kube.request("GET", "/api/v1/namespaces/default"))
            return True
        except (OSError, AssertionError):
            assert self.process.poll() is None, (self.home / "apiserver.log").read_text()[-2000:]
            return False

    def pids(self):
        return [self.pid, self.etcd.pid]

    def close(self):
        self.process.terminate()
        self.process.wait(60)
        self.etcd.close()


class EtcdSide:
    name = "etcd"

    def __init__(self, program, size):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="inferd-bench-"))
        self.port = free_port()
        client, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{free_port()}"
        self.process = subprocess.Popen(
            [program, "--data-dir", str(self.home / "data"), "--listen-client-urls", client,
             "--advertise-client-urls", client, "--listen-peer-urls", peer,
             "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"],
            stdout=subprocess.DEVNULL, stderr=open(self.home / "log", "w"), stdin=subprocess.DEVNULL)
        self.pid = self.process.pid
        self.size = size
        wait_for("etcd to answer", self.answers)

    def answers(self):
        try:
            c = self.connect()
            c.socket.settimeout(1)
            c.call(c.request(*etcd_put(b"/ready", b"1")))
            return True
        except OSError:
            assert self.process.poll() is None, (self.home / "log").read_text()[-2000:]
            return False

    def pids(self):
        return [self.pid]

    def connect(self):
        return Etcd("127.0.0.1", self.port)

    def create(self, name):
        method, message = etcd_put(b"/registry/configmaps/default/" + name.encode(),
                                   json.dumps(config_map(name, self.size), separators=(",", ":")).encode())
        return lambda c: c.request(method, message)

    def list(self):
        method, message = etcd_range(b"/registry/configmaps/default/")
        return lambda c: c.request(method, message)

    def close(self):
        self.process.terminate()
        self.process.wait(60)
        shutil.rmtree(self.home, ignore_errors=True)


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p / 100))]


def single_latency(side, tag, count):
    """Seconds of each of `count` creates over one connection."""
    c = side.connect()
    took = []
    requests = [side.create(f"{tag}-{i}") for i in range(count)]
    for make in requests:
        start = time.perf_counter()
        c.call(make(c))
        took.append(time.perf_counter() - start)
    c.close()
    return took


def throughput(side, tag, count):
    """Creates a second over CLIENTS connections."""
    connections = [side.connect() for _ in range(CLIENTS)]
    for c in connections:
        c.socket.setblocking(False)
    took = drive(connections, [side.create(f"{tag}-{i}") for i in range(count)])
    for c in connections:
        c.close()
    return count / took


def list_seconds(side, count):
    """Seconds from the request to the last byte of a list."""
    c = side.connect()
    make = side.list()
    start = time.perf_counter()
    body = c.call(make(c))
    took = time.perf_counter() - start
    c.close()
    found = body.count(b'"bench":"store"')
    assert found >= count, f"{found} of {count} objects: {body[:300]!r}"
    return took


def fan_out(side, tag, watchers, writes):
    """Seconds from the acknowledgement of a create to each watcher's having it (0: before that)."""
    make = side.watch()
    connections = [side.connect() for _ in range(watchers)]
    writer = side.connect()
    late = []
    with selectors.DefaultSelector() as selector:
        for c in connections:
            c.watching = True
            c.socket.sendall(make(c))
            c.socket.setblocking(False)
            selector.register(c.socket, selectors.EVENT_READ, c)
        writer.socket.setblocking(False)
        selector.register(writer.socket, selectors.EVENT_READ, writer)
        # A first event shows that every watch is open: what it takes is not counted.
        for i in range(writes + 1):
            request = side.create(f"{tag}-{i}")(writer)
            writer.socket.sendall(request)
            acknowledged, seen = None, []
            while acknowledged is None or len(seen) < watchers:
                ready = selector.select(60)
                assert ready, f"{len(seen)} of {watchers} watchers have the event after 60 s"
                for key, _ in ready:
                    got = key.data.receive()
                    now = time.perf_counter()
                    if key.data is writer:
                        acknowledged = now if got else acknowledged
                    else:
                        seen += [now] * len(got)
            if i:
                late += [max(0, s - acknowledged) for s in seen]
    for c in connections + [writer]:
        c.close()
    return late


def figures(values, scale=1, digits=2):
    """median (lowest to highest) of the repeats."""
    v = sorted(x * scale for x in values)
    return f"{statistics.median(v):.{digits}f} ({v[0]:.{digits}f}-{v[-1]:.{digits}f})"


def machine():
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo")
                if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return f"{cpu}, {os.cpu_count()} CPUs, {memory} GiB, Linux {platform.release()}"


def sync_ms(folder):
    """What one synced 4 KiB write costs on this disk: below it no durable create can go."""
    took = []
    with tempfile.NamedTemporaryFile(dir=folder) as f:
        for i in range(100):
            start = time.perf_counter()
            os.pwrite(f.fileno(), b"x" * 4096, i * 4096)
            os.fdatasync(f.fileno())
            took.append(time.perf_counter() - start)
    return statistics.median(took) * 1000


def measure(sides, options):
    """Every figure of every side, alternating; {measure: {side: [one value a repeat]}}."""
    result = {}

    def note(what, side, value):
        result.setdefault(what, {}).setdefault(side.name, []).append(value)
    # Filled first, so that the list has its size and both have the same to hold.
    for side in sides:
        throughput(side, "fill", options.objects)
    for turn in range(options.repeats):
        for side in sides:
            took = single_latency(side, f"one-{turn}", options.creates)
            note("create, 1 client, p50 ms", side, statistics.median(took) * 1000)
            note("create, 1 client, p99 ms", side, percentile(took, 99) * 1000)
        for side in sides:
            note(f"create, {CLIENTS} clients, per s", side, throughput(side, f"many-{turn}", options.burst))
        for side in sides:
            note(f"list of >= {options.objects}, ms", side, list_seconds(side, options.objects) * 1000)
        for side in sides:
            note("RSS MiB", side, rss_mib(side))
    watched = [side for side in sides if side.name != "etcd"]
    for turn in range(options.repeats):
        for side in watched:
            late = fan_out(side, f"fan-{turn}", options.watchers, options.writes)
            note(f"fan-out, {options.watchers} watchers, p99 ms", side, percentile(late, 99) * 1000)
            note(f"fan-out, {options.watchers} watchers, p50 ms", side, statistics.median(late) * 1000)
    for side in watched:
        note(f"RSS MiB with {options.watchers} watchers having been", side, rss_mib(side))
    return result


PEERS = ["kube-apiserver", "etcd"]


def print_table(result):
    """Medians and ranges; a ratio is inferd's median by the peer's."""
    print(f"{'measure':42} {'inferd':>26}" + "".join(f" {peer:>26} {'ratio':>6}" for peer in PEERS))
    for what, by_side in result.items():
        line = f"{what:42} {figures(by_side['inferd']):>26}"
        for peer in PEERS:
            theirs = by_side.get(peer)
            median = statistics.median(theirs or [0])  # 0: absent, or an event that came before its answer
            ratio = f"{statistics.median(by_side['inferd']) / median:.2f}" if median else ""
            line += f" {figures(theirs) if theirs else '-':>26} {ratio:>6}"
        print(line)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("program")
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--objects", type=int, default=5000, help="objects to list")
    p.add_argument("--size", type=int, default=3000, help="bytes of JSON of an object")
    p.add_argument("--creates", type=int, default=200, help="creates by one client, each repeat")
    p.add_argument("--burst", type=int, default=1000, help="creates by all clients, each repeat")
    p.add_argument("--watchers", type=int, default=1000)
    p.add_argument("--writes", type=int, default=10, help="events to fan out, each repeat")
    options = p.parse_args()
    sides = []
    try:
        sides.append(InferdSide(options.program, options.size))
        etcd, apiserver = shutil.which("etcd"), shutil.which("kube-apiserver")
        if etcd and apiserver:
            sides.append(ApiserverSide(apiserver, options.size, sides[0].daemon))
        if etcd:
            sides.append(EtcdSide(etcd, options.size))
        print(f"machine: {machine()}; load average {os.getloadavg()[0]:.1f}; "
              f"a synced 4 KiB write {sync_ms(tempfile.gettempdir()):.2f} ms")
        print("command: tests/bench/store_bench.py " + " ".join(sys.argv[1:]))
        absent = [peer for peer in PEERS if peer not in [side.name for side in sides]]
        print("peers absent: " + (", ".join(absent) or "none") + "; medians (lowest-highest)")
        print_table(measure(sides, options))
        print(f"load average at the end: {os.getloadavg()[0]:.1f}")
    finally:
        for side in sides:
            side.close()


if __name__ == "__main__":
    main()
