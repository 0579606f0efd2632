#!/usr/bin/env python3
"""Who may come in and what stays secret: Secrets on disk and in logs, with the real kubectl."""
import base64
import subprocess

from harness import PATIENCE, Daemon, run_tests, wait_for

VALUE = "correct-horse-battery-staple"
SPELLINGS = [VALUE.encode(), base64.b64encode(VALUE.encode())]


def files_with(folder, spellings):
    return [f"{path}" for path in folder.rglob("*") if path.is_file() and
            any(s in path.read_bytes() for s in spellings)]


def secrets_are_nowhere_in_the_clear(program):
    with Daemon(program, "--log-level", "debug") as d:
        d.kubectl("create", "secret", "generic", "s", f"--from-literal=password={VALUE}")
        d.kubectl("create", "secret", "generic", "gone", f"--from-literal=password={VALUE}")
        d.kubectl("patch", "secret", "s", "-p", '{"stringData": {"more": "%s"}}' % VALUE)
        d.kubectl("delete", "secret", "gone")
        # A pod that gets it in its environment, and fails, says so in Events and not what it got.
        d.apply({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
                 "metadata": {"name": "user"},
                 "spec": {"predictor": {"model": {
                     "modelFormat": {"name": "gguf"}, "storageUri": "file:///nowhere.gguf",
                     "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {
                         "name": "s", "key": "password"}}}]}}}})
        wait_for("an event about the pod",
                 lambda: [e for e in d.get("events")["items"]
                          if e["involvedObject"]["kind"] == "Pod" and e["type"] == "Warning"])
        bad = d.kubectl("create", "-f", "-", check=False, stdin="""
apiVersion: v1
kind: Secret
metadata: {name: bad}
data: {password: "%s!"}""" % VALUE)
        assert bad.returncode, bad.stdout
        assert VALUE not in d.kubectl("get", "events", "-A", "-o", "yaml").stdout
        d.kill()
        assert not files_with(d.home, SPELLINGS), files_with(d.home, SPELLINGS)
        keys = d.data / "pki" / "keys" / "secrets.keys"
        assert keys.stat().st_mode & 0o777 == 0o600
        kept = keys.rename(d.home / "kept")
        failed = subprocess.run([d.program, "serve", "--data-dir", d.data], capture_output=True,
                                text=True, timeout=PATIENCE)
        key_id = kept.read_text().splitlines()[-1].split()[0]
        assert failed.returncode == 1 and str(keys) in failed.stderr, failed.stderr
        assert key_id in failed.stderr, failed.stderr
        kept.rename(keys)
        d.start()
        secret = d.get("secret", "s")
        assert base64.b64decode(secret["data"]["password"]).decode() == VALUE
        d.stop()
        assert not files_with(d.home, SPELLINGS), files_with(d.home, SPELLINGS)


run_tests(secrets_are_nowhere_in_the_clear)
