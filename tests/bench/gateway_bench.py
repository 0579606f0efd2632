#!/usr/bin/env python3
"""The gateway beside nginx, both in front of the same replica. Prints a table and the ratios.

    tests/bench/gateway_bench.py build/release [--repeats 3] [--seconds 3] [--connections 32]

The replica is fast_replica (tests/bench/fast_replica.c) on a Unix socket: it answers at once with a
small body, or streams 200 tokens, one every 10 ms, so what is measured is what stands before it.
The gateway is gateway_alone: api/ as the daemon has it, with a traffic table of one service. nginx
is Debian's, with a worker per core, connections to the replica kept, and one line of access log per
request, as the gateway writes one. Both listen on loopback, plain and with TLS 1.2 (the same
certificate, on P-256, and the same suite, AES-128-GCM). wrk is the client.

They take turns within one run: A B A B. Everything runs under SCHED_FIFO where that is allowed
(chrt), because a machine that others use measures them, too. For each of plain and TLS:

    small      as fast as it goes, keep-alive: requests a second
    paced      3,200 requests a second at most: how long requests take when nobody is in the way
    streams    256 event streams of 200 tokens at once: streams a second, and how much longer than
               the replica took the last of them was there

CPU is that of gateway or nginx alone, per request or per token. Without nginx or wrk it says so
and ends with 77."""
import argparse
import contextlib
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TOKENS, TOKEN_MS, STREAMS = 200, 10, 256
PACED_CONNECTIONS, PACED_MS = 32, 10
BODY = '{"model":"demo","prompt":"What is 2 + 3?","max_tokens":1,"temperature":0}'
BARS = {"requests/s": 0.8, "added p99": 1.25}

NGINX = """%(user)s
worker_processes auto;
daemon off;
pid %(home)s/nginx.pid;
error_log %(home)s/error.log;
events { worker_connections 4096; }
http {
    log_format one '$time_iso8601 $request_id $uri $status $request_time $upstream_addr';
    access_log %(home)s/access.log one;
    client_body_temp_path %(home)s/body; proxy_temp_path %(home)s/proxy;
    fastcgi_temp_path %(home)s/fastcgi; uwsgi_temp_path %(home)s/uwsgi; scgi_temp_path %(home)s/scgi;
    keepalive_requests 1000000000;
    upstream replica { server unix:%(home)s/replica.sock; keepalive 512; keepalive_requests 1000000000; }
    server {
        listen 127.0.0.1:%(plain)d;
        listen 127.0.0.1:%(secure)d ssl;
        ssl_certificate %(home)s/tls.crt;
        ssl_certificate_key %(home)s/tls.key;
        ssl_protocols TLSv1.2;
        ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;
        location / {
            proxy_pass http://replica;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }
    }
}
"""
SCRIPT = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '%s'
"""


def fifo():
    """The words before a command that give it a fixed priority; none where that is not allowed."""
    allowed = shutil.which("chrt") and not subprocess.run(["chrt", "-f", "10", "true"],
                                                          capture_output=True).returncode
    return ["chrt", "-f", "10"] if allowed else []


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_seconds(pid):
    """Of a process and its children, so far."""
    total, ticks = 0, os.sysconf("SC_CLK_TCK")
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(stat.parent.name) == pid or int(fields[1]) == pid:
                total += int(fields[11]) + int(fields[12])
    return total / ticks


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60000}[unit]


class Bench:
    def __init__(self, build, options):
        self.options = options
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="inferd-bench-"))
        self.first = fifo()
        self.running = []
        self.start_all(build)

    def start(self, *command, **keywords):
        process = subprocess.Popen([*self.first, *map(str, command)], stdin=subprocess.PIPE, text=True, **keywords)
        self.running.append(process)
        return process

    def start_all(self, build):
        home = self.home
        subprocess.run(["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-newkey", "ec",
                        "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", str(home / "tls.key"),
                        "-out", str(home / "tls.crt")], check=True, capture_output=True)
        replica = self.start(build / "fast_replica", home / "replica.sock", TOKEN_MS, stdout=subprocess.PIPE)
        assert replica.stdout.readline() == "ready\n"
        gateway = self.start(build / "gateway_alone", home / "replica.sock", "127.0.0.1:0", "127.0.0.1:0",
                             home / "tls.crt", home / "tls.key", stdout=subprocess.PIPE,
                             stderr=open(home / "gateway.log", "w"))
        addresses = [gateway.stdout.readline().strip() for _ in range(2)]
        ports = {"plain": free_port(), "secure": free_port()}
        user = "user root;" if os.geteuid() == 0 else ""
        (home / "nginx.conf").write_text(NGINX % {"home": home, "user": user, **ports})
        nginx = self.start("nginx", "-c", home / "nginx.conf", stderr=subprocess.DEVNULL)
        self.sides = {"gateway": (gateway, addresses),
                      "nginx": (nginx, [f"127.0.0.1:{ports[kind]}" for kind in ("plain", "secure")])}
        for _, (first, second) in self.sides.values():
            for address in (first, second):
                self.await_listener(address)

    @staticmethod
    def await_listener(address):
        host, port = address.rsplit(":", 1)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((host, int(port))).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def stop(self):
        for process in reversed(self.running):
            process.stdin.close()
            if process is self.sides["nginx"][0]:
                process.terminate()
            process.wait(20)
        shutil.rmtree(self.home)

    def wrk(self, side, secure, path, connections, seconds, script):
        """What one run of wrk says, and the CPU seconds that the side took for it."""
        process, addresses = self.sides[side]
        (self.home / "script.lua").write_text(script)
        url = f"http{'s' if secure else ''}://{addresses[secure]}{path}"
        before = cpu_seconds(process.pid)
        told = subprocess.run([*self.first, "wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency",
                               "--timeout", "30", "-s", str(self.home / "script.lua"), url],
                              capture_output=True, text=True, check=True).stdout
        cpu = cpu_seconds(process.pid) - before
        assert not re.search(r"Non-2xx|Socket errors", told), told
        requests = int(re.search(r"(\d+) requests in", told).group(1))
        assert requests, f"{side} has not ended one request in {seconds} s:\n{told}"
        return {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", told).group(1)), "requests": requests,
                "cpu": cpu, **{f"p{q}": milliseconds(re.search(rf"(?m)^ +{q}%\s+(\S+)", told).group(1)) for q in (50, 99)}}

    def small(self, side, secure):
        got = self.wrk(side, secure, "/v1/completions", self.options.connections, self.options.seconds, SCRIPT % BODY)
        return {"requests/s": got["rate"], "p50 ms": got["p50"], "p99 ms": got["p99"],
                "CPU us/request": got["cpu"] / got["requests"] * 1e6}

    def paced(self, side, secure):
        script = SCRIPT % BODY + f"function delay() return {PACED_MS} end\n"
        got = self.wrk(side, secure, "/v1/completions", PACED_CONNECTIONS, self.options.seconds, script)
        return {"requests/s": got["rate"], "p50 ms": got["p50"], "p99 ms": got["p99"],
                "CPU us/request": got["cpu"] / got["requests"] * 1e6}

    def streams(self, side, secure):
        seconds = max(self.options.seconds, 4 * TOKENS * TOKEN_MS // 1000)
        got = self.wrk(side, secure, f"/serving/default/demo/stream/{TOKENS}", STREAMS, seconds, "")
        ideal = TOKENS * TOKEN_MS
        return {"streams/s": got["rate"], "p50 ms over": got["p50"] - ideal, "p99 ms over": got["p99"] - ideal,
                "CPU us/token": got["cpu"] / got["requests"] / TOKENS * 1e6}


def table(results):
    print(f"{'':22}{'':18}{'gateway':>22}{'nginx':>22}{'ratio':>8}")
    for (kind, secure), by_side in results.items():
        name = f"{kind}, {'TLS' if secure else 'plain'}"
        for measure in by_side["gateway"][0]:
            cells, medians = [], []
            for side in ("gateway", "nginx"):
                values = sorted(run[measure] for run in by_side[side])
                medians.append(statistics.median(values))
                cells.append(f"{medians[-1]:.2f} ({values[0]:.2f}..{values[-1]:.2f})" if values[-1] < 1000 else
                             f"{medians[-1]:.0f} ({values[0]:.0f}..{values[-1]:.0f})")
            ratio = medians[0] / medians[1] if medians[1] > 0 else float("nan")
            print(f"{name:22}{measure:18}{cells[0]:>22}{cells[1]:>22}{ratio:8.2f}", flush=True)
            name = ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--only", choices=("small", "paced", "streams"))
    options = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin"
    absent = [name for name in ("nginx", "wrk") if not shutil.which(name)]
    for name in absent:
        print(f"{name} absent: nothing to compare with" if name == "nginx" else f"{name} absent: no client")
    if absent:
        return 77
    bench = Bench(options.build.resolve(), options)
    try:
        kinds = [options.only] if options.only else ["small", "paced", "streams"]
        results = {(kind, secure): {"gateway": [], "nginx": []} for kind in kinds for secure in (False, True)}
        for _ in range(options.repeats):
            for kind, secure in results:
                for side in ("gateway", "nginx"):
                    results[kind, secure][side].append(getattr(bench, kind)(side, secure))
        version = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.strip()
        print(f"{version}; {os.cpu_count()} cores; {'SCHED_FIFO' if bench.first else 'no SCHED_FIFO'}; "
              f"medians of {options.repeats}, least and most behind them")
        table(results)
        print(f"bars: requests/s at least {BARS['requests/s']}, p99 at most {BARS['added p99']}")
    finally:
        bench.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
