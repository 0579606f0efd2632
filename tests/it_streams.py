#!/usr/bin/env python3
"""Connections that leave HTTP, with every real kubectl that is to be had: exec, its terminal, its exit
codes, cp both ways, attach; who is refused; and that nothing is left when a client vanishes."""
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import socket
import struct
import subprocess
import termios
import threading
import time
import urllib.error
import urllib.request

from harness import PATIENCE, inference_service, post, run_tests, skip, wait_for
from host_pods import container, daemon, pod, processes
from kubectl_matrix import gather

# One of each way to speak: SPDY only, WebSocket with SPDY behind it, both in their newest form.
VERSIONS = ["1.20", "1.28", "1.30", "1.32"]
SANITIZED = bool(os.environ.get("INFERD_SANITIZE"))  # such a daemon is slow: fewer versions, a smaller file
FILE_BYTES = 2 << 20 if SANITIZED else 20 << 20


def kubectls():
    found = gather()
    wanted = [VERSIONS[0], VERSIONS[-1]] if SANITIZED else VERSIONS
    for version in wanted:
        if version not in found:
            print(f"LEFT OUT: kubectl {version} is not here", flush=True)
    chosen = {v: found[v] for v in wanted if v in found}
    if not chosen:
        skip("no kubectl of " + ", ".join(wanted))
    return chosen


def two_kubectls():
    """The oldest, which speaks SPDY, and the newest, which speaks WebSocket."""
    chosen = list(kubectls().items())
    return dict(chosen[:1] + chosen[-1:])


def host_pod(name, script, **spec):
    return pod(name, container("main", script), **spec)


def start_pod(d, name, script="exec sleep 100000"):
    d.apply(host_pod(name, script))
    d.kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={PATIENCE}s")


def descriptors(d):
    return len(os.listdir(f"/proc/{d.process.pid}/fd"))


def tunnels(d):
    """Threads of tunnels in the daemon."""
    names = []
    for task in pathlib.Path(f"/proc/{d.process.pid}/task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except OSError:
            pass
    return names.count("kube-tunnel")


def commands_run_beside_the_container(program):
    with daemon(program) as d:
        start_pod(d, "shell")
        home = d.kubectl("exec", "shell", "--", "pwd").stdout
        assert "-pods/" in home, home
        for version, kubectl in kubectls().items():
            run = d.run(kubectl, "exec", "shell", "--", "sh", "-c",
                        "id -u; pwd; echo $POD_NAME; echo aside >&2; exit 3", check=False)
            user, where, pod = run.stdout.split()
            assert run.returncode == 3 and 70000 <= int(user) <= 79999 and pod == "shell", (version, run)
            assert where + "\n" == home and run.stderr.startswith("aside\n"), (version, run)
            assert "command terminated with exit code 3" in run.stderr, (version, run)
            counted = d.run(kubectl, "exec", "-i", "shell", "--", "wc", "-c", stdin="0123456789\n" * 100000)
            assert counted.stdout.strip() == "1100000", (version, counted)
            killed = d.run(kubectl, "exec", "shell", "--", "sh", "-c", "kill -9 $$", check=False)
            assert killed.returncode == 137, (version, killed)
            missing = d.run(kubectl, "exec", "shell", "--", "no-such-program", check=False)
            assert missing.returncode == 1 and "start no-such-program: No such file" in missing.stderr, (version, missing)
            wrong = d.run(kubectl, "exec", "shell", "-c", "side", "--", "true", check=False)
            assert wrong.returncode == 1 and "container side" in wrong.stderr, (version, wrong)


def files_are_copied_both_ways(program):
    with daemon(program) as d:
        start_pod(d, "shell")
        data = os.urandom(FILE_BYTES)
        (d.home / "there").write_bytes(data)
        for version, kubectl in two_kubectls().items():
            back = d.home / f"back-{version}"
            d.run(kubectl, "cp", d.home / "there", f"shell:here-{version}")
            d.run(kubectl, "cp", f"shell:here-{version}", back)
            assert back.read_bytes() == data, version
        # A reader slower than the command: what waits is bounded, and nothing is lost.
        slow = subprocess.Popen(["kubectl", "exec", "shell", "--", "cat", f"here-{version}"], env=d.environment(),
                                stdout=subprocess.PIPE)
        wait_for("the tunnel", lambda: tunnels(d))
        assert slow.stdout.read(1 << 16) == data[:1 << 16]
        assert slow.stdout.read() == data[1 << 16:]
        assert slow.wait(PATIENCE) == 0


class Terminal:
    """A command that has a terminal, as a person's has."""

    def __init__(self, command, environment, rows, columns):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.execvpe(command[0], [str(c) for c in command], environment)
        self.seen = ""
        self.resize(rows, columns)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.fd, text.encode())

    def read_until(self, text):
        """Everything up to the text, which is then not seen again."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"waited for {text!r}, have {self.seen!r}"
            self.seen += os.read(self.fd, 65536).decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before

    def wait(self):
        """Reads to the end; gives the exit code."""
        while True:
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def a_terminal_is_one(program):
    with daemon(program) as d:
        start_pod(d, "shell")
        for version, kubectl in two_kubectls().items():
            terminal = Terminal([kubectl, "exec", "-it", "shell", "--", "sh", "-c",
                                 "tty >/dev/null && echo is-$TERM; echo rea''dy; exec sh"], d.environment(), 31, 97)
            terminal.read_until("is-xterm")
            terminal.read_until("ready")
            terminal.type("stty size; echo si''zed\n")
            assert "31 97" in terminal.read_until("sized"), version
            terminal.resize(41, 113)

            def resized():
                terminal.type("stty size; echo si''zed\n")
                return "41 113" in terminal.read_until("sized")
            wait_for("the new size", resized)
            # The process that says so is the one in the foreground by then.
            terminal.type("sh -c 'echo go\"\"ing; exec sleep 100000'\n")
            terminal.read_until("going")
            terminal.type("\x03")  # ends the sleep, not the shell, not kubectl
            terminal.type("echo al''ive\n")
            terminal.read_until("alive")
            terminal.type("exit 7\n")
            assert terminal.wait() == 7, version


def nothing_is_left_of_clients_that_vanish(program):
    with daemon(program) as d:
        start_pod(d, "shell", "while :; do echo line; sleep 0.1; done")
        d.kubectl("exec", "shell", "--", "true")
        wait_for("no tunnel", lambda: not tunnels(d))
        before = descriptors(d)
        for version, kubectl in two_kubectls().items():
            marker = f"vanishing-{version}"
            commands = [["exec", "-i", "shell", "--", "sh", "-c", "cat; :", marker],  # waits for input
                        ["exec", "shell", "--", "sh", "-c", "sleep 1000 & wait", marker],  # has children
                        ["exec", "shell", "--", "sh", "-c", "while :; do echo 0123456789012345; done", marker],
                        ["attach", "shell"]]
            clients = [subprocess.Popen([kubectl, *c], env=d.environment(), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for c in commands]
            wait_for("the commands to run", lambda: len(processes(marker)) >= 3 + 3)
            clients[3].stdout.readline()
            for client in clients:
                client.kill()
            for client in clients:
                client.wait()
                client.stdin.close()
                client.stdout.close()
            wait_for("the commands to end", lambda: not processes(marker))
            wait_for("the tunnels to end", lambda: not tunnels(d))
        wait_for("the descriptors to be closed", lambda: descriptors(d) <= before)
        # The other way round: the container ends, and the daemon.
        client = subprocess.Popen(["kubectl", "exec", "shell", "--", "sleep", "1000"], env=d.environment())
        wait_for("the tunnel", lambda: tunnels(d))
        d.kubectl("delete", "pod", "shell", "--wait=false")
        assert client.wait(PATIENCE) == 137
        start_pod(d, "last")
        client = subprocess.Popen(["kubectl", "exec", "last", "--", "sh", "-c", "sleep 1000; :", "vanishing-last"],
                                  env=d.environment(), stderr=subprocess.DEVNULL)
        wait_for("the command to run", lambda: processes("vanishing-last"))
        d.stop()
        client.wait(PATIENCE)
        assert not processes("vanishing-last")


def what_is_not_to_be_reached_is_refused(program):
    d = daemon(program)
    policy = d.home / "policy.yaml"
    policy.write_text("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n"
                      "rules: [{level: Metadata, resources: [{group: '', resources: [pods/exec]}]}]\n")
    d.options += ["--audit-policy-file", str(policy)]
    with d:
        start_pod(d, "shell")
        d.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "replica"},
                 "spec": {"containers": [{"name": "main", "image": "inferd/engine", "args": ["--model", "none"]}]}})
        d.kubectl("create", "role", "enters", "--verb=get,create", "--resource=pods,pods/exec")
        d.kubectl("create", "rolebinding", "enters", "--role=enters", "--user=bob")
        (d.home / "file").write_text("x")
        for version, kubectl in two_kubectls().items():
            for command in (["exec", "replica", "--", "true"], ["attach", "replica"], ["cp", d.home / "file", "replica:x"]):
                refused = d.run(kubectl, *command, check=False)
                assert refused.returncode and "is an inference replica of inferd" in refused.stderr, (version, refused)
            blind = d.run(kubectl, "attach", "-i", "shell", check=False, stdin="x")
            assert blind.returncode and "has no standard input to attach to" in blind.stderr, (version, blind)
            enters = d.run(kubectl, "--as=bob", "exec", "shell", "--", "true", check=False)
            assert enters.returncode and 'cannot use resource "hostprocesses"' in enters.stderr, (version, enters)
            stays_out = d.run(kubectl, "--as=bob", "attach", "shell", check=False)
            assert stays_out.returncode and 'cannot create resource "pods/attach"' in stays_out.stderr, (version, stays_out)
        d.kubectl("exec", "shell", "--", "sh", "-c", "exit 0")

        def written():
            lines = (d.data / "audit" / "audit.log").read_text().splitlines()
            return [(e["objectRef"]["name"], e["stage"], e["responseStatus"]["code"]) for e in map(json.loads, lines)]
        wait_for("the end in the audit log", lambda: ("shell", "ResponseComplete", 101) in written())
        assert ("shell", "ResponseStarted", 101) in written(), written()
        assert ("replica", "ResponseComplete", 405) in written() and ("shell", "ResponseComplete", 403) in written(), written()


# Answers GET /N with N bytes, and tells what else it was asked.
WEB = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        number = self.path.lstrip("/").partition("?")[0]
        text = b"x" * int(number) if number.isdigit() else f"{self.command} {self.path} {len(body)} {self.headers.get('X-Mine')}".encode()
        self.send_response(201 if self.command == "POST" else 200)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("X-Yours", "too")
        self.end_headers()
        self.wfile.write(text)
    do_GET = do_POST = do_PUT = do_DELETE = answer
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_web(d):
    """A Deployment and a Service with an HTTP server behind them; gives its port."""
    port = free_port()
    pod = host_pod("web", "")["spec"]
    pod["containers"][0].update(command=["python3", "-c", WEB, str(port)],
                                ports=[{"name": "http", "containerPort": port}])
    d.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
             "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
                      "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod}}})
    d.kubectl("expose", "deployment", "web", "--port=80", "--target-port=http")
    d.kubectl("rollout", "status", "deployment/web", f"--timeout={PATIENCE}s")
    wait_for("the server to listen", lambda: listens(port))
    return port


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Forward:
    """kubectl port-forward on a free port; use as a context manager."""

    def __init__(self, d, kubectl, target, port):
        self.process = subprocess.Popen([str(kubectl), "port-forward", "--address=127.0.0.1", target, f":{port}"],
                                        env=d.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found, line + self.process.stderr.read()
        self.url = f"http://127.0.0.1:{found[1]}"

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as answer:
            return answer.read()


def ports_are_forwarded(program):
    with daemon(program) as d:
        port = start_web(d)
        d.apply(inference_service("demo", "embedded://demo-chat"))
        d.wait_ready("demo")
        replica = d.get("pods", "-l", "serving.kserve.io/inferenceservice=demo")["items"][0]["metadata"]["name"]
        before = descriptors(d)
        for version, kubectl in kubectls().items():
            with Forward(d, kubectl, "deployment/web", port) as f:
                sizes = [1, 70000, 3000000] * 5
                got = [None] * len(sizes)

                def fetch(i):
                    got[i] = len(f.get(f"/{sizes[i]}"))
                threads = [threading.Thread(target=fetch, args=(i,)) for i in range(len(sizes))]
                for t in threads:
                    t.start()
                for t in threads:
                    t.join()
                assert got == sizes, (version, got)
            with Forward(d, kubectl, "service/web", 80) as f:
                assert len(f.get("/5")) == 5, version
            with Forward(d, kubectl, f"pod/{replica}", 8080) as f:
                status, answer, _ = post(f.url + "/v1/completions", {"model": "demo", "prompt": "a", "max_tokens": 2})
                assert status == 200 and answer["usage"]["completion_tokens"] == 2, (version, answer)
            # A port of the machine that is not the pod's: the daemon's own.
            with Forward(d, kubectl, "deployment/web", d.kube.rpartition(":")[2]) as f:
                try:
                    f.get("/")
                    raise AssertionError("somebody else's port was reached")
                except (urllib.error.URLError, ConnectionError):
                    pass
                assert "no process of the pod listens on port" in f.process.stderr.readline(), version
        wait_for("the tunnels to end", lambda: not tunnels(d))
        wait_for("the descriptors to be closed", lambda: descriptors(d) <= before)


def requests_are_proxied(program):
    with daemon(program) as d:
        port = start_web(d)
        d.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "named"},
                 "spec": {"selector": {"app": "web"},
                          "ports": [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "no", "port": 81}]}})
        d.apply(inference_service("demo", "embedded://demo-chat"))
        d.wait_ready("demo")
        pod = d.get("pods", "-l", "app=web")["items"][0]["metadata"]["name"]
        before = descriptors(d)
        core = "/api/v1/namespaces/default"

        def raw(path, *how, **keywords):
            done = d.kubectl(*(how or ("get",)), "--raw", core + path, check=False, **keywords)
            return done.stdout if not done.returncode else done.stderr
        for base in ("services/web", "services/web:80", "services/http:named:http", "services/named:80", f"pods/{pod}",
                     f"pods/{pod}:http", f"pods/http:{pod}:{port}"):
            said = raw(f"/{base}/proxy/a/b%2Fc?d=e%20f&dryRun=mine&watch=true")
            assert re.fullmatch(r"GET /a/b(%2F|/)c\?d=e(%20|\+)f&dryRun=mine&watch=true 0 None", said), (base, said)
        assert raw(f"/pods/{pod}/proxy") == "GET / 0 None"
        assert len(raw("/services/web/proxy/20000000")) == 20000000
        body = '{"n": "' + "x" * 100000 + '"}'
        assert raw("/services/web/proxy/post", "create", "-f", "-", stdin=body) == f"POST /post {len(body)} None"
        assert raw("/services/web/proxy/gone", "delete") == "DELETE /gone 0 None"
        assert '"id":"demo"' in raw("/services/demo-predictor:80/proxy/v1/models")
        for base, why in (("services/named", "no endpoints available"), ("services/none", "not found"),
                          (f"pods/{pod}:1", "no process of the pod listens on port 1"),
                          (f"pods/{pod}:{d.kube.rpartition(':')[2]}", "no process of the pod listens"),
                          (f"pods/https:{pod}:http", "by http here"), (f"pods/{pod}:none", "has no port")):
            assert why in raw(f"/{base}/proxy/"), (base, raw(f"/{base}/proxy/"))
        node = d.get("nodes")["items"][0]["metadata"]["name"]
        assert "no kubelet" in d.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/", check=False).stderr
        denied = d.kubectl("--as=bob", "get", "--raw", core + "/services/web/proxy/", check=False).stderr
        assert 'cannot get resource "services/proxy"' in denied, denied
        # Through kubectl proxy, as curl and browsers do it; a client that leaves in the middle.
        proxy = subprocess.Popen(["kubectl", "proxy", "--port=0"], env=d.environment(), stdout=subprocess.PIPE, text=True)
        base = "http://" + re.search(r"127\.0\.0\.1:\d+", proxy.stdout.readline())[0] + core
        request = urllib.request.Request(base + "/services/web/proxy/x", headers={"X-Mine": "here"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            assert answer.read() == b"GET /x 0 here" and answer.headers["X-Yours"] == "too"
        events = urllib.request.Request(base + "/services/demo-predictor:80/proxy/v1/completions", headers={"Content-Type": "application/json"},
                                        data=json.dumps({"model": "demo", "prompt": "a", "max_tokens": 8, "stream": True}).encode())
        with urllib.request.urlopen(events, timeout=PATIENCE) as answer:
            assert answer.read().rstrip().endswith(b"data: [DONE]")
        with urllib.request.urlopen(base + "/services/web/proxy/500000000", timeout=PATIENCE) as answer:
            assert answer.read(1 << 20)
        proxy.kill()
        proxy.wait()
        proxy.stdout.close()
        wait_for("the tunnels to end", lambda: not tunnels(d))
        wait_for("the descriptors to be closed", lambda: descriptors(d) <= before)


if __name__ == "__main__":
    run_tests(commands_run_beside_the_container, files_are_copied_both_ways, a_terminal_is_one, ports_are_forwarded,
              requests_are_proxied, nothing_is_left_of_clients_that_vanish, what_is_not_to_be_reached_is_refused)
