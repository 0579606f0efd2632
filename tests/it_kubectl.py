#!/usr/bin/env python3
"""The Kubernetes dialect with the real kubectl, over TLS: every command, strangers, and the logs of a
replica that keeps failing."""
import json
import re
import ssl
import subprocess
import urllib.error
import urllib.request

from harness import PATIENCE, ROOT, Daemon, inference_service, run_tests, skip, wait_for


KUBECTL_MINOR_MIN = 27  # Debian's own is 1.20: it has no events, no --subresource, no jsonpath waits


def kubectl_minor():
    client = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True)
    return int(re.match(r"v1\.(\d+)", json.loads(client.stdout)["clientVersion"]["gitVersion"]).group(1))


def kubectl_speaks_the_whole_dialect(program):
    with Daemon(program) as d:
        done = d.run(ROOT / "tests" / "kubectl_dialect.sh", check=False, timeout=10 * PATIENCE)
        print("  " + done.stdout.strip().replace("\n", "\n  "))
        assert done.returncode == 0, done.stderr


def get(d, path, token=None):
    """GET without a client certificate. Gives (status, parsed or raw body)."""
    request = urllib.request.Request(d.kube + path)
    if token:
        request.add_header("Authorization", "Bearer " + token)
    context = ssl._create_unverified_context()
    try:
        with urllib.request.urlopen(request, context=context, timeout=PATIENCE) as answer:
            status, body = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    try:
        return status, json.loads(body)
    except json.JSONDecodeError:
        return status, body


def strangers_are_kept_out(program):
    with Daemon(program) as d:
        for path in ("/api", "/apis", "/api/v1/pods", "/openapi/v3", "/metrics", "/nothing"):
            status, body = get(d, path)
            assert status == 403 and body["reason"] == "Forbidden", (path, status, body)
        status, body = get(d, "/api/v1/pods", token="wrong")
        assert status == 401 and body["kind"] == "Status", (status, body)
        assert get(d, "/healthz") == (200, b"ok")
        assert get(d, "/version")[0] == 200
        token = (d.data / "pki" / "tokens.csv").read_text().split(",")[0]
        assert get(d, "/api/v1/pods", token=token)[1]["kind"] == "PodList"

        bob = d.home / "bob.kubeconfig"
        bob.write_text(subprocess.run([program, "kubeconfig", "--data-dir", d.data, "--user", "bob"],
                                      capture_output=True, text=True, check=True).stdout)
        as_bob = lambda *a: d.run("kubectl", "--kubeconfig", bob, *a, check=False)
        refused = as_bob("get", "pods")
        assert 'User "bob" cannot list resource "pods" in API group "" in the namespace "default"' \
            in refused.stderr, refused
        assert as_bob("auth", "can-i", "get", "pods").stdout.strip() == "no"
        assert "bob" in as_bob("auth", "whoami").stdout
        refused = d.kubectl("get", "pods", "--as", "ann", check=False)
        assert 'User "ann" cannot list resource "pods"' in refused.stderr, refused


def logs_of_a_replica_that_fails(program):
    with Daemon(program) as d:
        model = d.home / "noise.gguf"
        model.write_bytes(bytes(range(256)) * 16)
        d.apply(inference_service("noise", model))

        def restarted():
            for pod in d.get("pods")["items"]:
                for status in pod["status"].get("containerStatuses", []):
                    if status["restartCount"] >= 1:
                        return pod["metadata"]["name"]
        pod = wait_for("the replica to be started again", restarted)
        previous = d.kubectl("logs", pod, "--previous").stdout
        assert "noise.gguf" in previous, previous
        assert d.kubectl("logs", pod, "--previous", "--tail=1").stdout == previous.splitlines(True)[-1]
        stamped = d.kubectl("logs", pod, "--previous", "--timestamps").stdout.splitlines()
        assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ", line) for line in stamped), stamped
        assert d.kubectl("logs", pod, "--previous", "--since=1h").stdout == previous
        assert "noise.gguf" in d.kubectl("logs", "-f", pod).stdout  # ends with the run
        row = d.kubectl("get", "pod", pod, "--no-headers").stdout.split()
        assert row[1] == "0/1" and int(row[3]) >= 1, row


if __name__ == "__main__":
    if kubectl_minor() < KUBECTL_MINOR_MIN:
        skip(f"kubectl 1.{kubectl_minor()} is here, 1.{KUBECTL_MINOR_MIN} or newer is wanted")
    run_tests(kubectl_speaks_the_whole_dialect, strangers_are_kept_out, logs_of_a_replica_that_fails)
