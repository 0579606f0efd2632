#!/usr/bin/env python3
"""metrics.k8s.io and `kubectl top` with every kubectl that is to be had: what runs here is measured, host pods
and replicas of models alike."""
import json
import re

from harness import inference_service, run_tests, wait_for
from host_pods import container, daemon, pod
from kubectl_matrix import gather

API = "/apis/metrics.k8s.io/v1beta1"
HELD = 48 << 20
BURNS = "while :; do :; done"
HOLDS = f"import time; held = b'x' * {HELD}; time.sleep(1000)"


def raw(d, path):
    return json.loads(d.kubectl("get", "--raw", API + path).stdout)


def cpu(text):
    """Millicores."""
    return int(text[:-1]) / 1e6 if text.endswith("n") else int(text[:-1]) if text.endswith("m") else int(text) * 1000


def rows(text):
    """Lines of words, without the headings."""
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith(("NAME", "POD"))]


def what_runs_is_measured(program):
    with daemon(program) as d:
        d.apply(pod("burns", container("main", f"({BURNS}) & wait")))
        d.apply(pod("holds", container("main", f'exec python3 -c "{HOLDS}"')))
        d.apply(inference_service("demo", "embedded://demo-chat"))
        d.wait_ready("demo")

        def figures():
            items = {i["metadata"]["name"]: i for i in raw(d, "/namespaces/default/pods")["items"]}
            if len(items) < 3:
                return None
            used = {name: items[name]["containers"][0]["usage"] for name in ("burns", "holds")}
            burns = cpu(used["burns"]["cpu"]) > 2 * cpu(used["holds"]["cpu"])
            return burns and int(used["holds"]["memory"][:-2]) * 1024 >= HELD and items
        items = wait_for("figures of all pods", figures)
        for item in items.values():
            assert re.fullmatch(r"\d+\.\d{3}s", item["window"]) and item["window"] != "0.000s", item
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", item["timestamp"]), item
        assert [c["name"] for c in items["burns"]["containers"]] == ["main"], items
        model = next(i for name, i in items.items() if name.startswith("demo-"))
        assert int(model["containers"][0]["usage"]["memory"][:-2]) > 1024, model
        one = raw(d, "/namespaces/default/pods/holds")
        assert (one["kind"], one["apiVersion"]) == ("PodMetrics", "metrics.k8s.io/v1beta1"), one
        node = raw(d, "/nodes")["items"][0]
        assert node["metadata"]["name"] == d.get("nodes")["items"][0]["metadata"]["name"]
        assert int(node["usage"]["memory"][:-2]) * 1024 > HELD, node
        selected = raw(d, "/pods?labelSelector=app%3Dburns")["items"]
        assert [i["metadata"]["name"] for i in selected] == ["burns"], selected
        selected = raw(d, "/pods?fieldSelector=metadata.name%3Dholds")["items"]
        assert [i["metadata"]["name"] for i in selected] == ["holds"], selected
        assert raw(d, "/namespaces/none/pods")["items"] == []
        found = gather()
        for version, kubectl in found.items():
            top_with(d, version, kubectl)
        print(f"  kubectl {' '.join(found)}")
        table = d.kubectl("get", "pods.metrics.k8s.io").stdout.splitlines()
        assert table[0].split() == ["NAME", "CPU", "MEMORY", "WINDOW"] and len(table) == 4, table
        d.kubectl("delete", "pod", "burns", "--wait")
        wait_for("the figures to go", lambda: "burns" not in d.kubectl("top", "pod").stdout)
        only_reading(d)


def top_with(d, version, kubectl):
    def top(*arguments):
        return d.run(kubectl, "top", *arguments).stdout
    names = [r[0] for r in rows(top("pod"))]
    assert len(names) == 3 and {"burns", "holds"} <= set(names), (version, names)
    pods = {r[0]: r for r in rows(top("pod"))}
    assert int(pods["holds"][2].removesuffix("Mi")) >= HELD >> 20, (version, pods)
    assert int(pods["burns"][1].removesuffix("m")) > 0, (version, pods)
    assert [r[:2] for r in rows(top("pod", "holds", "--containers"))] == [["holds", "main"]], version
    assert [r[:2] for r in rows(top("pod", "-A", "-l", "app=burns"))] == [["default", "burns"]], version
    by_cpu = [r[0] for r in rows(top("pod", "--sort-by=cpu"))]
    by_memory = [int(r[2].removesuffix("Mi")) for r in rows(top("pod", "--sort-by=memory"))]
    assert by_cpu[0] == "burns" and by_memory == sorted(by_memory, reverse=True), (version, by_cpu, by_memory)
    (node,) = rows(top("node"))
    assert node[1].endswith("m") and node[2].endswith("%") and node[3].endswith("Mi") and node[4].endswith("%"), node
    done = d.run(kubectl, "top", "pod", "absent", check=False)
    assert done.returncode and "NotFound" in done.stderr, (version, done.stderr)


def only_reading(d):
    """Verbs that there are: get and list; and they are rights of their own, which `view` has."""
    path = d.kubectl("api-resources", "--api-group=metrics.k8s.io", "-o", "wide", "--no-headers").stdout
    assert sorted(r.split()[0] for r in path.splitlines()) == ["nodes", "pods"] and "get,list" in path, path
    assert "watch" not in path and "create" not in path, path
    done = d.kubectl("delete", "pods.metrics.k8s.io", "holds", check=False)
    assert done.returncode and "not allow this method" in done.stderr, done.stderr
    shown = d.kubectl("explain", "pods.containers.usage", "--api-version=metrics.k8s.io/v1beta1").stdout
    assert "PodMetrics" in shown and "resident" in shown, shown
    assert "Forbidden" in d.kubectl("top", "pod", "--as=ann", check=False).stderr
    d.kubectl("create", "rolebinding", "ann", "--clusterrole=view", "--user=ann")
    wait_for("the right", lambda: "holds" in d.kubectl("top", "pod", "--as=ann", check=False).stdout)


run_tests(what_runs_is_measured)
