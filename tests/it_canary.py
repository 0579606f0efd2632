#!/usr/bin/env python3
"""A canary by canaryTrafficPercent, with real replicas behind the real gateway: shares, a change of
weight, promotion, rollback and a version that never gets ready. No request fails on the way."""
import collections
import http.client
import json
import re
import threading
import urllib.parse
import urllib.request

from harness import PATIENCE, Daemon, inference_service, post, run_tests, wait_for

V1, V2, V3 = (f"demo-predictor-0000{n}" for n in (1, 2, 3))
LENGTHS = {"old": 512, "new": 384}  # --max-model-len tells the versions apart


def manifest(length, percent=None):
    service = inference_service("demo", "embedded://demo-chat")
    service["spec"]["predictor"]["model"]["args"] = [f"--max-model-len={length}"]
    if percent is not None:
        service["spec"]["predictor"]["canaryTrafficPercent"] = percent
    return service


def traffic(d):
    """{revision: percent} of the status."""
    status = d.get("inferenceservice", "demo")["status"]["components"]["predictor"]
    shares = collections.defaultdict(int)
    for target in status.get("traffic", []):
        shares[target["revisionName"]] += target["percent"]
    return dict(shares)


def wait_traffic(d, **shares):
    expect = {f"demo-predictor-{k[1:]}": v for k, v in shares.items()}
    wait_for(f"traffic {expect}", lambda: traffic(d) == expect)


def wait_rolled_out(d, revision):
    def look():
        status = d.get("inferenceservice", "demo")["status"]["components"]["predictor"]
        return status.get("latestRolledoutRevision") == revision
    wait_for(f"{revision} to be rolled out", look)


def pods(d):
    """{max-model-len: [uid and restarts of each pod that is not ending]}"""
    found = collections.defaultdict(list)
    for pod in d.get("pods", "-l", "serving.kserve.io/inferenceservice=demo")["items"]:
        if "deletionTimestamp" not in pod["metadata"]:
            args = " ".join(pod["spec"]["containers"][0]["args"])
            restarts = pod["status"].get("containerStatuses", [{}])[0].get("restartCount")
            length = re.search(r"--max-model-len=(-?\d+)", args).group(1)
            found[int(length)].append((pod["metadata"]["uid"], restarts))
    return dict(found)


class Load:
    """Clients on connections of their own; every answer is counted by status and revision."""

    def __init__(self, d, clients=4):
        self.target = urllib.parse.urlparse(d.gateway)
        self.counts, self.failures = collections.Counter(), []
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.left = None
        self.threads = [threading.Thread(target=self.run) for _ in range(clients)]

    def take(self):
        with self.lock:
            if self.left is None:
                return True
            self.left -= 1
            return self.left >= 0

    def run(self):
        connection = http.client.HTTPConnection(self.target.hostname, self.target.port, timeout=60)
        body = json.dumps({"model": "demo", "prompt": "Hi", "max_tokens": 1, "temperature": 0})
        while not self.stop.is_set() and self.take():
            try:
                connection.request("POST", "/v1/completions", body,
                                   {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                revision, status = answer.headers["X-Inferd-Revision"], answer.status
            except (OSError, http.client.HTTPException) as error:
                text, revision, status = repr(error), None, 0
                connection.close()
            with self.lock:
                self.counts[revision] += 1
                if status != 200:
                    self.failures.append((status, text))
        connection.close()

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, kind, value, trace):
        self.stop.set()
        for t in self.threads:
            t.join()


def ask(d, requests):
    """Sends so many requests; gives how many each revision answered. None may fail."""
    load = Load(d)
    load.left = requests
    for t in load.threads:
        t.start()
    for t in load.threads:
        t.join()
    assert not load.failures, load.failures[:3]
    assert sum(load.counts.values()) == requests, load.counts
    return load.counts


def counted(d, revision):
    """What the gateway's metrics say of a revision."""
    with urllib.request.urlopen(d.gateway + "/metrics") as answer:
        text = answer.read().decode()
    line = re.search(r"inferd_gateway_revision_answers_total\{[^}]*revision=\"" + revision +
                     r"\"\} (\d+)", text)
    return int(line.group(1)) if line else 0


def the_header_tells_the_truth(d, lengths):
    """The engine behind an answer says its own max_model_len."""
    target = urllib.parse.urlparse(d.gateway)
    connection = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
    for _ in range(50):
        connection.request("GET", "/serving/default/demo/v1/models")
        answer = connection.getresponse()
        model = json.loads(answer.read())["data"][0]
        assert model["max_model_len"] == lengths[answer.headers["X-Inferd-Revision"]], model
    connection.close()


def a_canary_walks_from_dark_to_promoted(program):
    with Daemon(program) as d:
        d.apply(manifest(LENGTHS["old"]))
        d.wait_ready("demo")
        wait_rolled_out(d, V1)
        old = pods(d)[LENGTHS["old"]]
        with Load(d, clients=2) as load:
            warned = d.apply(manifest(LENGTHS["new"], 0))
            assert "canaryTrafficPercent" not in warned.stderr, warned.stderr
            wait_traffic(d, _00001=100, _00002=0)
            assert ask(d, 100) == {V1: 100}  # dark: it runs and gets nothing, but for who asks for it
            for revision, expect in ((V2, 200), (V1, 200), ("demo-predictor-00009", 404)):
                status, answer, headers = post(d.gateway + "/v1/completions",
                                               {"model": "demo", "prompt": "Hi", "max_tokens": 1},
                                               headers={"X-Inferd-Revision": revision})
                assert status == expect, answer
                assert expect == 404 or headers["X-Inferd-Revision"] == revision, headers
            d.apply(manifest(LENGTHS["new"], 20))
            wait_traffic(d, _00001=80, _00002=20)
            row = d.kubectl("get", "inferenceservice", "demo").stdout.splitlines()[1].split()
            assert "80" in row and "20" in row and V1 in row and V2 in row, row
            new = pods(d)[LENGTHS["new"]]
        assert not load.failures, load.failures[:3]

        before = counted(d, V2)
        counts = ask(d, 1000)
        print(f"  20 %: {dict(counts)}, metrics {counted(d, V2) - before}")
        assert 190 <= counts[V2] <= 210 and set(counts) == {V1, V2}, counts
        assert counted(d, V2) - before == counts[V2]
        the_header_tells_the_truth(d, {V1: LENGTHS["old"], V2: LENGTHS["new"]})

        with Load(d, clients=2) as load:
            d.apply(manifest(LENGTHS["new"], 60))
            wait_traffic(d, _00001=40, _00002=60)
            assert pods(d) == {LENGTHS["old"]: old, LENGTHS["new"]: new}  # nothing was reloaded
            d.apply(manifest(LENGTHS["new"]))  # promoted
            wait_rolled_out(d, V2)
            d.kubectl("rollout", "status", "deployment/demo-predictor", "--timeout=60s")
            assert ask(d, 100) == {V2: 100}
            assert pods(d) == {LENGTHS["new"]: new}
        print(f"  promoted under load: {dict(load.counts)}")
        assert not load.failures, load.failures[:3]
        status = d.get("inferenceservice", "demo")["status"]["components"]["predictor"]
        assert status["previousRolledoutRevision"] == V1, status
        history = d.kubectl("rollout", "history", "deployment/demo-predictor").stdout
        assert re.findall(r"^(\d+)\s", history, re.M) == ["1", "2"], history


def a_canary_is_rolled_back_without_a_restart(program):
    with Daemon(program) as d:
        d.apply(manifest(LENGTHS["old"]))
        d.wait_ready("demo")
        wait_rolled_out(d, V1)
        old = pods(d)[LENGTHS["old"]]
        with Load(d) as load:
            d.apply(manifest(LENGTHS["new"], 50))
            wait_traffic(d, _00001=50, _00002=50)
            assert set(ask(d, 100)) == {V1, V2}
            d.apply(manifest(LENGTHS["old"], 50))
            wait_rolled_out(d, V3)  # the old ReplicaSet, numbered anew
            assert ask(d, 100) == {V3: 100}
            assert pods(d) == {LENGTHS["old"]: old}
        print(f"  rolled back under load: {dict(load.counts)}")
        assert not load.failures, load.failures[:3]


def a_version_that_never_gets_ready_never_gets_a_request(program):
    with Daemon(program) as d:
        d.apply(manifest(LENGTHS["old"]))
        d.wait_ready("demo")
        wait_rolled_out(d, V1)
        old = pods(d)[LENGTHS["old"]]
        with Load(d, clients=2) as load:
            broken = manifest(LENGTHS["new"], 90)
            broken["spec"]["predictor"]["model"]["args"] = ["--max-model-len=-5"]
            d.apply(broken)

            def crashed():
                state = d.get("inferenceservice", "demo")["status"]["modelStatus"]
                return state["transitionStatus"] == "BlockedByFailedLoad"
            wait_for("the canary to fail", crashed)
            assert ask(d, 100) == {V1: 100}
            assert pods(d)[LENGTHS["old"]] == old
            assert traffic(d) == {V1: 100}
            d.wait_ready("demo")
        assert not load.failures and set(load.counts) == {V1}, (load.failures[:3], load.counts)
        error = d.run("kubectl", "patch", "inferenceservice", "demo", "--type=merge", "-p",
                      '{"spec":{"predictor":{"canaryTrafficPercent":101}}}', check=False)
        assert error.returncode and "canaryTrafficPercent" in error.stderr and \
            "101" in error.stderr and "100" in error.stderr, error.stderr


def beside(percent):
    """Version "new" as the canary v2 beside the stable predictor, in KServe's newer form."""
    service = manifest(LENGTHS["old"])
    service["metadata"]["annotations"] = {"inferd.io/sticky-by": "header:X-User"}
    if percent is not None:
        canary = manifest(LENGTHS["new"])["spec"]["predictor"]
        service["spec"]["canary"] = [{"trafficPercent": percent, "predictor": {"name": "v2", **canary}}]
    return service


def users_stay_with_their_revision(d, revisions):
    seen = {}
    for user in [f"user-{i}" for i in range(40)] * 2:
        status, answer, headers = post(d.gateway + "/v1/completions",
                                       {"model": "demo", "prompt": "Hi", "max_tokens": 1},
                                       headers={"X-User": user})
        assert status == 200, answer
        revision = headers["X-Inferd-Revision"]
        assert seen.setdefault(user, revision) == revision, (user, seen)
    assert set(seen.values()) == revisions, seen


def a_named_canary_is_reached_by_its_tag_and_promoted_by_its_name(program):
    canary = "demo-v2-predictor-00001"
    with Daemon(program) as d:
        d.apply(manifest(LENGTHS["old"]))
        d.wait_ready("demo")
        wait_rolled_out(d, V1)
        with Load(d, clients=2) as load:
            d.apply(beside(0))
            d.kubectl("wait", "--for=condition=CanaryPredictorReady", "inferenceservice/demo",
                      f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)
            assert ask(d, 50) == {V1: 50}
            target = d.get("inferenceservice", "demo")["status"]["components"]["predictor"]["traffic"][1]
            assert (target["tag"], target["revisionName"], target["percent"]) == ("v2", canary, 0), target
            host = urllib.parse.urlparse(target["url"]).hostname
            body = {"model": "demo", "prompt": "Hi", "max_tokens": 1}
            for url, headers in ((d.gateway + "/v1/completions", {"Host": host}),
                                 (d.gateway + "/serving/default/v2-demo/v1/completions", {})):
                status, answer, got = post(url, body, headers=headers)
                assert status == 200 and got["X-Inferd-Revision"] == canary, (answer, got)
            d.apply(beside(30))
            wait_for("30 %", lambda: traffic(d) == {V1: 70, canary: 30})
            new = pods(d)[LENGTHS["new"]]
        assert not load.failures, load.failures[:3]
        # Of any 200 in a row; with the load beside them these would be some of a longer row.
        assert ask(d, 200) == {V1: 140, canary: 60}
        users_stay_with_their_revision(d, {V1, canary})
        with Load(d, clients=2) as load:
            promoted = manifest(LENGTHS["new"])
            promoted["spec"]["predictor"]["name"] = "v2"
            d.apply({**promoted, "spec": {**promoted["spec"], "canary": None}})
            wait_rolled_out(d, canary)
            assert ask(d, 50) == {canary: 50}
            wait_for("the old pods to go", lambda: pods(d) == {LENGTHS["new"]: new})
        print(f"  promoted by name under load: {dict(load.counts)}")
        assert not load.failures, load.failures[:3]


if __name__ == "__main__":
    run_tests(a_canary_walks_from_dark_to_promoted, a_canary_is_rolled_back_without_a_restart,
              a_version_that_never_gets_ready_never_gets_a_request,
              a_named_canary_is_reached_by_its_tag_and_promoted_by_its_name)
