#!/usr/bin/env python3
"""Kubernetes' own clients for JavaScript and Python against the daemon."""
import os
import subprocess

from harness import ROOT, Daemon, run_tests

SCRIPTS = ROOT / "tests" / "node"
PYTHON = "/usr/bin/python3"  # Debian's, which has Debian's python3-kubernetes
HISTORY = 100  # the least that can be configured


def may_run_host_pods(d):
    """As root, who can become another user; users of host pods pass through to their homes."""
    d.home.chmod(0o711)
    return os.getuid() == 0


def client_node_reads_writes_watches_and_patches(program):
    with Daemon(program) as d:
        print(d.run("node", SCRIPTS / "client-node.mjs").stdout, end="")


def client_node_resumes_and_relists(program):
    with Daemon(program, "--history-events-max", str(HISTORY)) as d:
        print(d.run("node", SCRIPTS / "interrupted.mjs").stdout, end="")


def client_node_execs_attaches_and_follows(program):
    with Daemon(program) as d:
        if may_run_host_pods(d):
            print(d.run("node", SCRIPTS / "streams.mjs").stdout, end="")
        else:
            print("  LEFT OUT: host pods need root, to become another user")


def python_does_what_kserves_sdk_does(program):
    if not os.path.exists(PYTHON) or subprocess.run([PYTHON, "-c", "import kubernetes"], capture_output=True).returncode:
        print("  LEFT OUT: Debian's python3-kubernetes is not here")
        return
    with Daemon(program) as d:
        options = ["--host-pods"] if may_run_host_pods(d) else []
        print(d.run(PYTHON, ROOT / "tests" / "python" / "client.py", *options).stdout, end="")


if __name__ == "__main__":
    run_tests(client_node_reads_writes_watches_and_patches, client_node_resumes_and_relists,
              client_node_execs_attaches_and_follows, python_does_what_kserves_sdk_does)
