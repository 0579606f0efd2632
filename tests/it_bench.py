#!/usr/bin/env python3
"""The store benchmark works: every figure of its table is there, at sizes that say nothing about
speed. For figures run tests/bench/store_bench.py by hand."""
import subprocess

from harness import PATIENCE, ROOT, run_tests


def the_store_benchmark_prints_every_figure(program):
    done = subprocess.run(
        ["python3", str(ROOT / "tests/bench/store_bench.py"), str(program), "--repeats", "2",
         "--objects", "120", "--creates", "10", "--burst", "70", "--watchers", "8", "--writes", "3"],
        capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith(("create,", "list of", "fan-out,", "RSS"))]
    assert len(rows) == 8, done.stdout
    for row in rows:
        figures = row[44:].replace("(", " ").replace(")", " ").replace("-", " ").split()
        assert float(figures[0]) >= 0 and float(figures[1]) <= float(figures[0]), row
    assert all(f in done.stdout for f in ("machine: ", "command: ", "load average at the end: ")), done.stdout
    peer = "etcd: gRPC" in done.stdout and "peer absent: no etcd" not in done.stdout
    assert peer or "peer absent" in rows[0], done.stdout


if __name__ == "__main__":
    run_tests(the_store_benchmark_prints_every_figure)
