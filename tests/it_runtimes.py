#!/usr/bin/env python3
"""Runtimes that are processes of this machine, with the real kubectl: a Python server that a
ClusterServingRuntime offers, a Node server as a custom predictor; their port, model, health, ends,
scale to zero and back, canary, and drain; and who may."""
import json
import os
import shutil
import signal
import threading
import urllib.request

from harness import PATIENCE, post, run_tests, skip, wait_for
from host_pods import daemon, logs

# Answers every path; streams where it is asked to, an event whenever the file GO (in the model's
# folder) has grown a byte, so that the test decides when.
PYTHON = r'''
import http.server, json, os, sys, time
model = os.environ.get("MODEL_PATH")
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        print("asked", self.command, self.path, flush=True)
        if body and json.loads(body).get("stream"):
            return self.stream()
        told = json.dumps({"pid": os.getpid(), "pod": os.environ["POD_NAME"], "path": self.path, "method": self.command,
                           "user": os.getuid(), "words": sys.argv[1:], "model": open(model).read() if model else None,
                           "body": body.decode()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)
    def stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        go = os.path.join(os.environ["GO"])
        for i in range(3):
            while os.path.getsize(go) <= i:
                time.sleep(0.01)
            self.wfile.write(b"data: %d\n\n" % i)
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True
    do_GET = do_POST = do_PUT = do_DELETE = answer
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
'''

NODE = r'''
require("http").createServer((asked, answer) => {
  if (asked.url === "/ready") { answer.statusCode = 200; return answer.end(); }
  answer.setHeader("Content-Type", "application/json");
  answer.end(JSON.stringify({ version: process.env.VERSION, path: asked.url }));
}).listen(Number(process.env.PORT), "127.0.0.1", () => console.log("node listens"));
'''


def runtime(go, name="echo-server"):
    return {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "ClusterServingRuntime", "metadata": {"name": name},
            "spec": {"supportedModelFormats": [{"name": "echo", "autoSelect": True}], "protocolVersions": ["v1", "v2"],
                     "containers": [{"name": "kserve-container", "image": "host", "command": ["python3", "-c", PYTHON],
                                     "args": ["--model_name={{.Name}}", "{{.Namespace}}", "{{.Annotations.team}}"],
                                     "env": [{"name": "GO", "value": str(go)}]}]}}


def service(name, uri=None, annotations=None, predictor=None, **model):
    return {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
            "metadata": {"name": name, "annotations": {"team": "blue", **(annotations or {})}},
            "spec": {"predictor": {**(predictor or {}), "model": {"modelFormat": {"name": "echo"},
                                                                  **({"storageUri": uri} if uri else {}), **model}}}}


def node_service(version, **predictor):
    return {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "noded"},
            "spec": {"predictor": {**predictor, "containers": [{
                "name": "kserve-container", "image": "host", "command": ["node", "-e", NODE],
                "ports": [{"containerPort": 8080}], "env": [{"name": "VERSION", "value": version}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1}}]}}}


class World:
    """A daemon, a model that is a file, and the file that lets streams go on."""

    def __init__(self, program, *options):
        self.d = daemon(program, *options)

    def __enter__(self):
        self.d.__enter__()
        models = self.d.home / "models"
        models.mkdir(mode=0o755)
        (models / "m.txt").write_text("the weights")
        self.uri, self.go = f"file://{models}/m.txt", models / "go"
        self.go.write_text("")
        return self

    def __exit__(self, *what):
        return self.d.__exit__(*what)

    def ask(self, path, body=None, **headers):
        request = urllib.request.Request(self.d.gateway + path, json.dumps(body).encode() if body else None, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read())

    def let_go(self, events):
        self.go.write_text("." * events)


class Stream(threading.Thread):
    """One answer that is streamed."""

    def __init__(self, w, model):
        super().__init__(daemon=True)
        self.request = urllib.request.Request(
            w.d.gateway + "/v1/chat/completions", json.dumps({"model": model, "stream": True}).encode(),
            {"Content-Type": "application/json"})
        self.text, self.error, self.first = "", None, threading.Event()
        self.start()

    def run(self):
        try:
            with urllib.request.urlopen(self.request, timeout=PATIENCE) as answer:
                for line in answer:
                    self.text += line.decode()
                    self.first.set()
        except Exception as error:
            self.error = error
        self.first.set()


def a_python_server_is_a_runtime(program):
    with World(program) as w:
        d = w.d
        d.apply(runtime(w.go))
        d.apply(service("echo", w.uri))
        d.wait_ready("echo")
        told = w.ask("/v1/chat/completions", {"model": "echo"})
        assert told["path"] == "/v1/chat/completions" and told["model"] == "the weights", told
        assert 70000 <= told["user"] <= 79999, told
        assert told["words"] == ["--model_name=echo", "default", "blue"], told
        assert w.ask("/v2/models/echo/infer", {"inputs": []})["path"] == "/v2/models/echo/infer"
        assert w.ask("/v1/models/echo:predict", {"x": 1})["path"] == "/v1/models/echo:predict"
        assert w.ask("/serving/default/echo/any/path%20of?its=own")["path"] == "/any/path%20of?its=own"
        assert w.ask("/else", Host="echo.default.example.com")["path"] == "/else"
        pod = told["pod"]
        assert "asked POST /v2/models/echo/infer" in logs(d, pod)
        state = d.get("inferenceservice", "echo")["status"]
        assert state["clusterServingRuntimeName"] == "echo-server", state
        proxied = json.loads(d.kubectl("get", "--raw", f"/api/v1/namespaces/default/pods/{pod}:8080/proxy/seen").stdout)
        assert proxied["path"] == "/seen", proxied  # the port that its pod declares

        stream = Stream(w, "echo")
        w.let_go(1)
        assert stream.first.wait(PATIENCE) and stream.text.startswith("data: 0"), (stream.text, stream.error)
        assert "DONE" not in stream.text  # it comes as it is made
        w.let_go(3)
        stream.join(PATIENCE)
        assert "data: 2\n\ndata: [DONE]" in stream.text and not stream.error, (stream.text, stream.error)

        os.kill(told["pid"], signal.SIGKILL)
        again = wait_for("it to answer again", lambda: answers(w, told["pid"]))
        assert again["pod"] == pod, (again, told)
        status = d.get("pod", pod)["status"]["containerStatuses"][0]
        assert status["restartCount"] == 1 and status["lastState"]["terminated"]["exitCode"] == 137, status


def answers(w, but_not):
    """What it says of itself, when it is another process."""
    status, told, _ = post(w.d.gateway + "/v1/chat/completions", {"model": "echo"})
    return status == 200 and told["pid"] != but_not and told


def requests_wait_while_it_comes_back_from_zero(program):
    with World(program, "--scale-to-zero-idle-seconds", "1") as w:
        d = w.d
        d.apply(runtime(w.go))
        d.apply(service("echo", w.uri, predictor={"minReplicas": 0, "maxReplicas": 1}))
        d.wait_ready("echo")
        wait_for("no replica", lambda: not d.get("pods")["items"])
        told = []
        askers = [threading.Thread(target=lambda: told.append(w.ask("/v1/chat/completions", {"model": "echo"})))
                  for _ in range(5)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(PATIENCE)
        assert len(told) == 5 and len({t["pid"] for t in told}) == 1, told


def answers_are_finished_before_it_is_stopped(program):
    with World(program) as w:
        d = w.d
        d.apply(runtime(w.go))
        d.apply(service("echo", w.uri))
        d.wait_ready("echo")
        old = w.ask("/v1/chat/completions", {"model": "echo"})
        stream = Stream(w, "echo")
        w.let_go(1)
        assert stream.first.wait(PATIENCE) and stream.text.startswith("data: 0"), stream.error
        d.kubectl("delete", "pod", old["pod"], "--wait=false")
        new = wait_for("another replica", lambda: answers(w, old["pid"]))
        assert new["pod"] != old["pod"] and d.get("pod", old["pod"])["metadata"]["deletionTimestamp"]
        assert not stream.error and "DONE" not in stream.text
        w.let_go(3)
        stream.join(PATIENCE)
        assert stream.text.endswith("data: [DONE]\n\n") and not stream.error, (stream.text, stream.error)
        wait_for("the old one to go", lambda: d.kubectl("get", "pod", old["pod"], check=False).returncode)


def a_node_server_is_a_predictor_with_a_canary(program):
    if not shutil.which("node", path="/usr/bin:/usr/local/bin"):
        skip("no node")
    with World(program) as w:
        d = w.d
        ask = lambda: w.ask("/serving/default/noded/x")["version"]
        d.apply(node_service("one"))
        d.wait_ready("noded")
        assert ask() == "one"
        wait_for("the first to be rolled out", lambda: d.get("inferenceservice", "noded")["status"]["components"][
            "predictor"].get("latestRolledoutRevision"))
        d.apply(node_service("two", canaryTrafficPercent=20))
        wait_for("the second to have its share", lambda: "two" in [ask() for _ in range(10)])
        counts = [ask() for _ in range(100)]
        assert counts.count("two") == 20, counts
        d.apply(node_service("two"))
        wait_for("the second to have everything", lambda: {ask() for _ in range(10)} == {"two"})
        (pod,) = wait_for("one pod", lambda: len(pods := d.get("pods")["items"]) == 1 and pods)
        assert "node listens" in logs(d, pod["metadata"]["name"])


def only_who_may_writes_commands(program):
    with World(program) as w:
        d = w.d
        d.kubectl("create", "clusterrole", "modeller", "--verb=create,get,update,patch",
                  "--resource=inferenceservices.serving.kserve.io,servingruntimes.serving.kserve.io,"
                  "clusterservingruntimes.serving.kserve.io")
        d.kubectl("create", "clusterrolebinding", "modellers", "--clusterrole=modeller", "--user=bob")
        as_bob = lambda o: d.kubectl("--as=bob", "apply", "-f", "-", stdin=json.dumps(o), check=False)
        local = {**runtime(w.go, "mine"), "kind": "ServingRuntime"}
        for refused in (runtime(w.go), local, node_service("one"), service("echo", w.uri, image="host", args=["x"])):
            done = as_bob(refused)
            assert done.returncode and 'cannot use resource "hostprocesses"' in done.stderr, done
        d.apply(runtime(w.go))
        assert not as_bob(service("echo", w.uri)).returncode
        d.wait_ready("echo")
        assert not as_bob(service("echo", w.uri, args=["--evil"])).returncode
        message = wait_for("the refusal", lambda: [c.get("message", "") for c in d.get("inferenceservice", "echo")[
            "status"]["conditions"] if c["type"] == "PredictorReady" and "hostprocesses" in c.get("message", "")])
        assert "spec.predictor.model.args" in message[0], message
        assert "--evil" not in w.ask("/v1/chat/completions", {"model": "echo"})["words"]
        d.apply(node_service("one"))
        scaled = d.kubectl("--as=bob", "patch", "inferenceservice", "noded", "--type=merge", "-p",
                           '{"spec":{"predictor":{"minReplicas":2}}}', check=False)
        assert not scaled.returncode, scaled


if __name__ == "__main__":
    run_tests(a_python_server_is_a_runtime, requests_wait_while_it_comes_back_from_zero,
              answers_are_finished_before_it_is_stopped, a_node_server_is_a_predictor_with_a_canary,
              only_who_may_writes_commands)
