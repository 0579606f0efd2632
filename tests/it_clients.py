#!/usr/bin/env python3
"""Kubernetes' own JavaScript client against the daemon."""
import os

from harness import ROOT, Daemon, run_tests, skip

SCRIPTS = ROOT / "tests" / "node"
HISTORY = 100  # the least that can be configured


def client_node_reads_writes_watches_and_patches(program):
    with Daemon(program) as d:
        print(d.run("node", SCRIPTS / "client-node.mjs").stdout, end="")


def client_node_resumes_and_relists(program):
    with Daemon(program, "--history-events-max", str(HISTORY)) as d:
        print(d.run("node", SCRIPTS / "interrupted.mjs").stdout, end="")


def client_node_execs_attaches_and_follows(program):
    if os.getuid():
        skip("host pods need root, to become another user")
    with Daemon(program) as d:
        d.home.chmod(0o711)  # users of host pods pass through to their homes
        print(d.run("node", SCRIPTS / "streams.mjs").stdout, end="")


if __name__ == "__main__":
    run_tests(client_node_reads_writes_watches_and_patches, client_node_resumes_and_relists,
              client_node_execs_attaches_and_follows)
