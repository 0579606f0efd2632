"""Pods with the image `host`, for the tests that run their commands. They need root."""
import os
import pathlib

from harness import Daemon, skip


def daemon(program, *options):
    if os.getuid():
        skip("host pods need root, to become another user")
    d = Daemon(program, *options)
    d.home.chmod(0o711)  # users of host pods pass through to their homes
    return d


def container(name, script, **more):
    return {"name": name, "image": "host", "command": ["sh", "-c", script], **more}


def pod(name, *containers, app=None, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app or name}},
            "spec": {"terminationGracePeriodSeconds": 1, **spec, "containers": list(containers)}}


def logs(d, *arguments, **options):
    return d.kubectl("logs", *arguments, **options).stdout


def processes(marker):
    """Ids of the processes that have the marker in their command line."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker in (entry / "cmdline").read_bytes().decode(errors="replace").split("\0"):
                found.append(int(entry.name))
        except OSError:
            pass
    return found
