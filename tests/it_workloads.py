#!/usr/bin/env python3
"""What a cluster does by itself, with the real kubectl."""
from harness import PATIENCE, ROOT, Daemon, run_tests, skip
from it_kubectl import KUBECTL_MINOR_MIN, kubectl_minor


def a_cluster_works_by_itself(program):
    with Daemon(program) as d:
        done = d.run(ROOT / "tests" / "kubectl_workloads.sh", check=False, timeout=10 * PATIENCE)
        print("  " + done.stdout.strip().replace("\n", "\n  "))
        assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    if kubectl_minor() < KUBECTL_MINOR_MIN:
        skip(f"kubectl 1.{kubectl_minor()} is here, 1.{KUBECTL_MINOR_MIN} or newer is wanted")
    run_tests(a_cluster_works_by_itself)
