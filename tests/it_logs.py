#!/usr/bin/env python3
"""kubectl logs with all its flags, on host pods that say something when they are told to."""
import datetime
import os
import re
import subprocess

from harness import PATIENCE, run_tests, wait_for
from host_pods import container, daemon, logs, pod


def every_flag_does_what_it_says(program):
    with daemon(program) as d:
        told = d.home / "told"
        os.mkfifo(told, 0o644)
        says = f"seq 5; while read line; do echo $line; echo aside $line >&2; done < {told}; exit 3"
        d.apply(pod("talks", container("main", says), restartPolicy="OnFailure"))
        wait_for("the first lines", lambda: logs(d, "talks", check=False).split() == list("12345"))
        assert logs(d, "talks", "--tail=2") == "4\n5\n" and logs(d, "talks", "--tail=0") == ""
        assert logs(d, "talks", "--limit-bytes=3") == "1\n2"
        assert logs(d, "talks", "--prefix", "--tail=1") == "[pod/talks/main] 5\n"
        stamped = logs(d, "talks", "--timestamps").splitlines()
        assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z \d$", line) for line in stamped), stamped
        last = datetime.datetime.fromisoformat(stamped[-1][:26]).replace(tzinfo=datetime.timezone.utc)
        later = (last + datetime.timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        earlier = (last - datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert logs(d, "talks", f"--since-time={later}") == "" and len(logs(d, "talks", f"--since-time={earlier}")) == 10
        assert len(logs(d, "talks", "--since=1h")) == 10
        done = d.kubectl("logs", "talks", "--previous", check=False)
        assert done.returncode and 'previous terminated container "main" in pod "talks" not found' in done.stderr, done.stderr
        follower = subprocess.Popen(["kubectl", "logs", "-f", "talks", "--tail=1", "--pod-running-timeout=1m"],
                                    env=d.environment(), stdout=subprocess.PIPE, text=True)
        assert follower.stdout.readline() == "5\n"
        with told.open("w") as f:
            f.write("hello\n")
            f.flush()
            assert {follower.stdout.readline(), follower.stdout.readline()} == {"hello\n", "aside hello\n"}
        assert follower.communicate(timeout=PATIENCE)[0] == "" and follower.returncode == 0  # it ends with its run

        def restarted():
            status = d.get("pod", "talks")["status"]["containerStatuses"][0]
            return status["restartCount"] == 1 and "running" in status["state"]
        wait_for("the next run", restarted)
        assert logs(d, "talks", "-p").split() == ["1", "2", "3", "4", "5", *logs(d, "talks", "-p", "--tail=2").split()]
        assert "hello" in logs(d, "talks", "-p") and "hello" not in logs(d, "talks")
        d.kubectl("delete", "pod", "talks", "--grace-period=1")
        many_pods(d)


def many_pods(d):
    for i in range(3):
        both = [container(c, f"echo {c}{i}; exec sleep 1000") for c in "ab"]
        d.apply(pod(f"p{i}", *both, app="many"))
    select = ("-l", "app=many", "--all-containers")
    wait_for("all of them", lambda: len(logs(d, *select, check=False).split()) == 6)
    lines = sorted(logs(d, *select, "--prefix", "--tail=-1").splitlines())
    assert lines == sorted(f"[pod/p{i}/{c}] {c}{i}" for i in range(3) for c in "ab"), lines
    assert "Defaulted container" in d.kubectl("logs", "p0").stderr and logs(d, "p0", "-c", "b") == "b0\n"
    done = d.kubectl("logs", "-f", *select, "--max-log-requests=5", check=False)
    assert done.returncode and "you are attempting to follow 6 log streams" in done.stderr, done.stderr
    follower = subprocess.Popen(["kubectl", "logs", "-f", *select, "--max-log-requests=6"], env=d.environment(),
                                stdout=subprocess.PIPE, text=True)
    assert sorted(follower.stdout.readline() for _ in range(6)) == sorted(f"{c}{i}\n" for i in range(3) for c in "ab")
    d.kubectl("delete", "pod", "-l", "app=many", "--grace-period=1")
    follower.communicate(timeout=PATIENCE)  # it ends with the last of them


run_tests(every_flag_does_what_it_says)
