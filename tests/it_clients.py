#!/usr/bin/env python3
"""Kubernetes' own JavaScript client against the daemon."""
from harness import ROOT, Daemon, run_tests


def client_node_reads_writes_watches_and_patches(program):
    with Daemon(program) as d:
        print(d.run("node", ROOT / "tests/node/client-node.mjs").stdout, end="")


if __name__ == "__main__":
    run_tests(client_node_reads_writes_watches_and_patches)
