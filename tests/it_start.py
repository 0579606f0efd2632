#!/usr/bin/env python3
"""How the daemon starts: quickly, small, once per folder, and with its own words when it cannot."""
import json
import pathlib
import re
import subprocess
import time

from harness import Daemon, run_tests

STARTS = 5
READY_MS_MAX, IDLE_KIB_MAX = 300, 40 * 1024


def sanitized(program):
    return bool(re.search(rb"__(asan|tsan)_init", pathlib.Path(program).read_bytes()))


def an_empty_store_is_ready_quickly_and_idles_small(program):
    times = []
    for _ in range(STARTS):
        with Daemon(program) as d:
            start = re.search(r"start_ms=(\d+)", d.log.read_text())
            times.append(int(start.group(1)))
            status = pathlib.Path(f"/proc/{d.process.pid}/status").read_text()
            resident = int(re.search(r"VmRSS:\s+(\d+)", status).group(1))
    print(f"  ready after {sorted(times)} ms, {resident} KiB resident")
    if not sanitized(program):
        assert min(times) < READY_MS_MAX, times
        assert resident < IDLE_KIB_MAX, resident


def an_idle_daemon_writes_nothing_and_burns_nothing(program):
    with Daemon(program) as d:
        ticks = lambda: sum(map(int, pathlib.Path(f"/proc/{d.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))
        raw = lambda: int(json.loads(d.kubectl("get", "--raw", "/api/v1/nodes").stdout)["metadata"]["resourceVersion"])
        before, cpu = raw(), ticks()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:  # a stretch of idleness is what is measured
            time.sleep(0.5)
        used = ticks() - cpu
        assert raw() == before, "an idle daemon wrote to its store"
        assert used <= 10, f"{used} ticks of CPU in 3 idle seconds"


def a_second_daemon_on_the_same_folder_is_refused(program):
    with Daemon(program) as d:
        second = subprocess.run([program, "serve", "--data-dir", d.data, "--kube-listen", "127.0.0.1:0",
                                 "--gateway-listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=60)
        assert second.returncode == 1 and "state.db" in second.stderr, second
        d.kubectl("get", "nodes")


def bad_configuration_is_refused_with_line_key_and_bound(program):
    def refused(text, *words):
        path = pathlib.Path("/tmp") / f"inferd-bad-{time.monotonic_ns()}.yaml"
        path.write_text(text)
        try:
            done = subprocess.run([program, "serve", "--config", path], capture_output=True, text=True, timeout=60)
        finally:
            path.unlink()
        assert done.returncode == 2 and all(w in done.stderr for w in words), done
    refused("drainSeconds: -1\n", "line 1", "drainSeconds", "0..3600")
    refused("\nnoSuchKey: 1\n", "line 2", "noSuchKey")
    done = subprocess.run([program, "serve", "--kube-listen"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "wants a value" in done.stderr, done
    done = subprocess.run([program, "nonsense"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "nonsense" in done.stderr, done


if __name__ == "__main__":
    run_tests(an_empty_store_is_ready_quickly_and_idles_small, an_idle_daemon_writes_nothing_and_burns_nothing,
              a_second_daemon_on_the_same_folder_is_refused, bad_configuration_is_refused_with_line_key_and_bound)
