#!/usr/bin/env python3
"""What a cluster does by itself, with the real kubectl."""
import concurrent.futures
import json
import ssl
import urllib.error
import urllib.request

from harness import PATIENCE, ROOT, Daemon, run_tests, skip
from it_kubectl import KUBECTL_MINOR_MIN, kubectl_minor


def a_cluster_works_by_itself(program):
    with Daemon(program) as d:
        done = d.run(ROOT / "tests" / "kubectl_workloads.sh", check=False, timeout=10 * PATIENCE)
        print("  " + done.stdout.strip().replace("\n", "\n  "))
        assert done.returncode == 0, done.stderr


def create(d, token, path, body):
    """POSTs an object as the admin; gives (status, answer)."""
    request = urllib.request.Request(d.kube + path, json.dumps(body).encode(), method="POST",
                                     headers={"Authorization": "Bearer " + token,
                                              "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, context=ssl._create_unverified_context(),
                                    timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def racing_creates_never_exceed_a_quota(program):
    """48 clients race for 7 places, by create and by a ReplicaSet at the same time."""
    with Daemon(program) as d:
        token = (d.data / "pki" / "tokens.csv").read_text().split(",")[0]
        d.kubectl("create", "namespace", "race")
        d.kubectl("-n", "race", "create", "quota", "q", "--hard=pods=7,count/secrets=3")
        spec = {"nodeSelector": {"example.com/none": "true"}, "containers": [{"name": "c", "image": "i"}]}
        template = {"metadata": {"labels": {"a": "b"}}, "spec": spec}
        create(d, token, "/apis/apps/v1/namespaces/race/replicasets",
               {"metadata": {"name": "rs"}, "spec": {"replicas": 4, "selector": {"matchLabels": {"a": "b"}},
                                                     "template": template}})
        pods = [("/api/v1/namespaces/race/pods", {"metadata": {"name": f"p{i}"}, "spec": spec}) for i in range(48)]
        secrets = [("/api/v1/namespaces/race/secrets", {"metadata": {"name": f"s{i}"}}) for i in range(24)]
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda c: create(d, token, *c), pods + secrets))
        for status, answer in answers:
            assert status in (201, 403), (status, answer)
            assert status == 201 or "exceeded quota: q" in answer["message"], answer
        d.kubectl("-n", "race", "wait", "--for=jsonpath={.status.used.pods}=7", "quota/q", f"--timeout={PATIENCE}s",
                  timeout=PATIENCE + 10)
        assert len(d.get("-n", "race", "pods")["items"]) == 7
        assert len(d.get("-n", "race", "secrets")["items"]) == 3
        assert d.get("-n", "race", "quota", "q")["status"]["used"]["count/secrets"] == "3"


if __name__ == "__main__":
    if kubectl_minor() < KUBECTL_MINOR_MIN:
        skip(f"kubectl 1.{kubectl_minor()} is here, 1.{KUBECTL_MINOR_MIN} or newer is wanted")
    run_tests(a_cluster_works_by_itself, racing_creates_never_exceed_a_quota)
