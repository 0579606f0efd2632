"""What the integration tests share: a real daemon on free ports in a folder of its own, the real
kubectl, and waiting for events instead of sleeping. Standard library only."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = pathlib.Path(os.environ.get("INFERD_SHARED", ROOT.parent / "shared"))
# A sanitized engine takes 0.1 s a step: an answer of 460 tokens is most of a minute.
SLOWNESS = int(os.environ.get("INFERD_TEST_SLOWNESS") or ("4" if os.environ.get("INFERD_SANITIZE") else "1"))
PATIENCE = 60 * SLOWNESS  # seconds, for any one thing


def skip(reason):
    """Ends the test as skipped, by name (ctest's SKIP_RETURN_CODE)."""
    print(f"SKIPPED: {reason}")
    sys.exit(77)


def wait_for(what, probe, patience=PATIENCE):
    """Calls probe() until it gives something true, and gives that; fails when patience ends."""
    deadline = time.monotonic() + patience
    pause = 0.01
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience} s for {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)


class Daemon:
    """inferd serve. Use as a context manager; `keep` survives kill() and start()."""

    def __init__(self, program, *options, config=None):
        self.program = str(program)
        self.options = list(options)
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="inferd-it-"))
        self.data = self.home / "data"
        self.log = self.home / "inferd.log"
        self.process = None
        if config is not None:
            path = self.home / "inferd.yaml"
            path.write_text(config)
            self.options += ["--config", str(path)]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        try:
            self.stop()
        finally:
            if kind and not issubclass(kind, SystemExit):
                print("---- end of the daemon's log")
                print("\n".join(self.log.read_text(errors="replace").splitlines()[-60:]))
            shutil.rmtree(self.home, ignore_errors=True)

    def start(self):
        """Starts the daemon and waits until it says that it is ready."""
        ready = self.data / "run" / "serve.json"
        with contextlib.suppress(FileNotFoundError):
            ready.unlink()
        self.process = subprocess.Popen(
            [self.program, "serve", "--data-dir", str(self.data), "--kube-listen", "127.0.0.1:0",
             "--gateway-listen", "127.0.0.1:0", *self.options],
            stderr=open(self.log, "a"), stdin=subprocess.DEVNULL, start_new_session=True)

        def look():
            if self.process.poll() is not None:
                raise AssertionError("the daemon ended: " + self.log.read_text(errors="replace"))
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                return json.loads(ready.read_text())
        started = wait_for("the daemon to be ready", look)
        self.kube, self.gateway = started["kube"], started["gateway"]
        self.kubeconfig = self.data / "admin.kubeconfig"

    def stop(self):
        """SIGTERM; it must end by itself, with 0."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            code = self.process.wait(PATIENCE)
            assert code == 0, f"the daemon ended with {code}"

    def kill(self):
        """SIGKILL, as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def environment(self):
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.home),
                "INFERD_GATEWAY": self.gateway, "INFERD_KUBE": self.kube}

    def run(self, *command, check=True, stdin=None, timeout=PATIENCE):
        """Runs a command with KUBECONFIG set; gives the finished process, output as text."""
        done = subprocess.run([str(c) for c in command], env=self.environment(), input=stdin,
                              capture_output=True, text=True, timeout=timeout)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n"
                                 f"{done.stdout}{done.stderr}")
        return done

    def kubectl(self, *arguments, **keywords):
        return self.run("kubectl", *arguments, **keywords)

    def get(self, *arguments):
        """kubectl get ... -o json, parsed."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def apply(self, manifest):
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        return self.kubectl("apply", "-f", "-", stdin=text)

    def wait_ready(self, service, timeout=PATIENCE):
        self.kubectl("wait", "--for=condition=Ready", f"inferenceservice/{service}",
                     f"--timeout={timeout}s", timeout=timeout + 10)


def inference_service(name, storage_uri, **predictor):
    """A KServe InferenceService manifest for a model that is a file or inside the program."""
    return {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
            "metadata": {"name": name},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "gguf"},
                                             "storageUri": str(storage_uri)}, **predictor}}}


def post(url, body, timeout=PATIENCE, headers=None):
    """POSTs JSON (or bytes); gives (status, parsed or raw answer, headers)."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json",
                                                 **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            status, raw, got = answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        status, raw, got = error.code, error.read(), error.headers
    try:
        return status, json.loads(raw), got
    except json.JSONDecodeError:
        return status, raw, got


def children(pid):
    """Process ids of the direct children."""
    path = pathlib.Path(f"/proc/{pid}/task")
    found = []
    with contextlib.suppress(FileNotFoundError):
        for task in path.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += [int(p) for p in (task / "children").read_text().split()]
    return found


def run_tests(*tests):
    """Runs each function with the program's path; the first failure ends it."""
    program = pathlib.Path(sys.argv[1]).resolve()
    for test in tests:
        start = time.monotonic()
        print(f"[ RUN  ] {test.__name__}", flush=True)
        test(program)
        print(f"[  OK  ] {test.__name__} ({time.monotonic() - start:.1f} s)", flush=True)
