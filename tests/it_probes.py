#!/usr/bin/env python3
"""Probes of host pods, with the real kubectl: what they say moves readiness, endpoints, rollouts and restarts."""
import json
import re
import socket

import host_pods
from harness import PATIENCE, run_tests, wait_for
from host_pods import pod

FAST = {"periodSeconds": 1, "failureThreshold": 1}


def daemon(program):
    d = host_pods.daemon(program)
    d.flags = d.home / "flags"  # what the probes look for
    d.flags.mkdir(mode=0o755)
    return d


def container(script="exec sleep 1000", **more):
    return host_pods.container("main", script, **more)


def looks_for(d, flag):
    return {"exec": {"command": ["test", "-e", str(d.flags / flag)]}, **FAST}


def status(d, name, index=0):
    statuses = d.get("pod", name)["status"].get("containerStatuses")
    return statuses[index] if statuses else {}


def events(d, name, reason):
    found = d.get("events", "--field-selector", f"involvedObject.name={name},reason={reason}")["items"]
    return [e["message"] for e in found]


def readiness_moves_endpoints_and_rollouts(program):
    with daemon(program) as d:
        probed = container(readinessProbe=looks_for(d, "ready"))
        d.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
                 "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                          "template": {"metadata": {"labels": {"app": "web"}},
                                       "spec": {"terminationGracePeriodSeconds": 1, "containers": [probed]}}}})
        d.kubectl("expose", "deployment", "web", "--port=80", "--target-port=8080")

        def addresses(field):
            subsets = d.get("endpoints", "web").get("subsets") or [{}]
            return len(subsets[0].get(field) or [])
        wait_for("two that are not ready", lambda: addresses("notReadyAddresses") == 2)
        done = d.kubectl("rollout", "status", "deployment/web", "--timeout=1s", check=False)
        assert done.returncode and d.get("deployment", "web")["status"].get("availableReplicas", 0) == 0, done.stdout
        name = d.get("pods", "-l", "app=web")["items"][0]["metadata"]["name"]
        assert status(d, name)["started"] and not status(d, name)["ready"], status(d, name)
        wait_for("the reason", lambda: any(m.startswith("Readiness probe failed: ") for m in events(d, name, "Unhealthy")))
        (d.flags / "ready").touch()
        d.kubectl("rollout", "status", "deployment/web", f"--timeout={PATIENCE}s")
        wait_for("two addresses", lambda: addresses("addresses") == 2 and addresses("notReadyAddresses") == 0)
        (d.flags / "ready").unlink()
        wait_for("none that is ready", lambda: addresses("notReadyAddresses") == 2)
        assert status(d, name)["restartCount"] == 0, status(d, name)


def liveness_restarts(program):
    with daemon(program) as d:
        (d.flags / "alive").touch()
        # It ignores SIGTERM, and its pod's grace period is long: the probe's own ends it.
        d.apply(pod("lives", container("trap '' TERM; while :; do sleep 0.1; done",
                                       livenessProbe={**looks_for(d, "alive"), "terminationGracePeriodSeconds": 1}),
                    terminationGracePeriodSeconds=1000))
        wait_for("its run", lambda: status(d, "lives").get("ready"))
        (d.flags / "alive").unlink()
        wait_for("its restart", lambda: status(d, "lives").get("restartCount", 0) >= 1)
        (d.flags / "alive").touch()
        ended = status(d, "lives")["lastState"]["terminated"]
        assert ended["exitCode"] == 137, ended
        assert "Container main failed liveness probe, will be restarted" in events(d, "lives", "Killing")
        assert any(m.startswith("Liveness probe failed: ") for m in events(d, "lives", "Unhealthy"))
        d.kubectl("delete", "pod", "lives", "--grace-period=0", "--force")


def startup_comes_first(program):
    with daemon(program) as d:
        d.apply(pod("slow", container(startupProbe={**looks_for(d, "up"), "failureThreshold": 1000},
                                      livenessProbe=looks_for(d, "absent")),
                    restartPolicy="Never"))
        d.apply(pod("never", container(startupProbe=looks_for(d, "absent")), restartPolicy="Never"))
        wait_for("a failed startup probe", lambda: events(d, "slow", "Unhealthy"))
        assert status(d, "slow")["started"] is False and "running" in status(d, "slow")["state"], status(d, "slow")
        (d.flags / "up").touch()
        for name, probe in (("slow", "liveness"), ("never", "startup")):  # and the policy says that it stays so
            d.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", f"pod/{name}", f"--timeout={PATIENCE}s")
            assert f"Container main failed {probe} probe, will be restarted" in events(d, name, "Killing"), name
        assert all(m.startswith("Startup") for m in events(d, "never", "Unhealthy"))


def servers_are_asked(program):
    with daemon(program) as d:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        server = f"exec python3 -m http.server --bind 127.0.0.1 -d {d.flags} {port}"
        at = {"host": "127.0.0.1", "port": "web"}
        ports = [{"name": "web", "containerPort": port}]
        (d.flags / "page").touch()
        d.apply(pod("web", container(server, ports=ports, livenessProbe={"tcpSocket": at, "initialDelaySeconds": 20, **FAST},
                                     readinessProbe={"httpGet": {**at, "path": "/page"}, **FAST})))
        d.kubectl("wait", "--for=condition=Ready", "pod/web", f"--timeout={PATIENCE}s")
        (d.flags / "page").unlink()
        d.kubectl("wait", "--for=condition=Ready=false", "pod/web", f"--timeout={PATIENCE}s")
        wait_for("the status", lambda: "Readiness probe failed: HTTP probe failed with statuscode: 404"
                 in events(d, "web", "Unhealthy"))
        done = d.apply(pod("grpc", container(readinessProbe={"grpc": {"port": 80}})))
        assert "grpc: not asked here" in done.stderr, done.stderr
        wait_for("the refusal", lambda: "grpc: not asked here" in json.dumps(status(d, "grpc")))
        d.apply(pod("closed", container(ports=ports, readinessProbe={"tcpSocket": {"host": "127.0.0.1", "port": 1}, **FAST})))
        wait_for("the reason", lambda: any(re.fullmatch(
            r"Readiness probe failed: dial tcp 127\.0\.0\.1:1: connect: connection refused", m)
            for m in events(d, "closed", "Unhealthy")))


def hooks_are_run(program):
    with daemon(program) as d:
        d.flags.chmod(0o777)
        (d.flags / "told").touch()
        (d.flags / "told").chmod(0o666)
        tell = lambda what: {"exec": {"command": ["sh", "-c", f"echo {what} >> {d.flags}/told"]}}
        told = lambda: (d.flags / "told").read_text().split()
        lines = f"trap 'echo end >> {d.flags}/told; exit 0' TERM; while :; do sleep 0.1; done"
        d.apply(pod("hooked", container(lines, lifecycle={"postStart": tell("begin"), "preStop": tell("stop")}),
                    terminationGracePeriodSeconds=60))
        d.kubectl("wait", "--for=condition=Ready", "pod/hooked", f"--timeout={PATIENCE}s")
        assert told() == ["begin"], told()
        d.kubectl("delete", "pod", "hooked")
        assert told() == ["begin", "stop", "end"], told()
        # A hook that takes longer than there is time is ended with its container, and told.
        slow = {"preStop": {"exec": {"command": ["sleep", "1000"]}}}
        d.apply(pod("slow", container("trap '' TERM; while :; do sleep 0.1; done", lifecycle=slow)))
        d.kubectl("wait", "--for=condition=Ready", "pod/slow", f"--timeout={PATIENCE}s")
        d.kubectl("delete", "pod", "slow", "--grace-period=1")
        assert any("timed out after 1s" in m for m in events(d, "slow", "FailedPreStopHook")), events(d, "slow", "FailedPreStopHook")
        fails = {"postStart": {"exec": {"command": ["sh", "-c", "echo cannot >&2; exit 1"]}}}
        d.apply(pod("fails", container(lifecycle=fails)))
        wait_for("its restart", lambda: status(d, "fails").get("restartCount", 0) >= 1)
        assert "PostStartHook failed: cannot" in events(d, "fails", "FailedPostStartHook")
        d.apply(pod("naps", container("echo up; exec sleep 1000", lifecycle={"preStop": {"sleep": {"seconds": 1}}})))
        d.kubectl("wait", "--for=condition=Ready", "pod/naps", f"--timeout={PATIENCE}s")
        d.kubectl("delete", "pod", "naps")
        assert not events(d, "naps", "FailedPreStopHook")


run_tests(readiness_moves_endpoints_and_rollouts, liveness_restarts, startup_comes_first, servers_are_asked,
          hooks_are_run)
