#!/usr/bin/env python3
"""The store's benchmarks work: every figure is there, at sizes that say nothing about speed. For
figures run tests/bench/store_bench.py and store_updates by hand."""
import pathlib
import re
import subprocess
import tempfile

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
        figures = row[42:].replace("(", " ").replace(")", " ").replace("-", " ").split()
        assert float(figures[0]) >= 0 and float(figures[1]) <= float(figures[0]), row
    assert all(f in done.stdout for f in ("machine: ", "command: ", "load average at the end: ")), done.stdout
    absent = re.search("^peers absent: ([^;]*);", done.stdout, re.M).group(1)
    peers = 0 if "etcd" in absent.split(", ") else 1 if "kube-apiserver" in absent else 2
    assert len(re.findall(r"\(", rows[0])) == 1 + peers, done.stdout


def a_bounded_history_is_shown(program):
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([pathlib.Path(program).parent / "store_updates", folder, "25000", "8", "100"],
                              capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    updates, largest = re.search(r"^(\d+) updates by 8.*at most ([0-9.]+) MiB", done.stdout, re.S | re.M).groups()
    # Twice 10,000 revisions are kept at most, of 0.3 KB each, and a log of a few MiB.
    assert int(updates) == 25000 and 1 < float(largest) < 32, done.stdout


if __name__ == "__main__":
    run_tests(the_store_benchmark_prints_every_figure, a_bounded_history_is_shown)
