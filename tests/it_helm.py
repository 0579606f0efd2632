#!/usr/bin/env python3
"""What Helm does on the wire (it is not on the machine): releases as Secrets, in JSON and, as from 3.17 on, in protobuf;
objects created, merged three ways or applied on the server, waited for, rolled back and removed."""
import base64
import json
import urllib.parse

from harness import Daemon, run_tests, wait_for
from it_conformance import Api
from wire import PROTOBUF, TYPED, Client, envelope, message, object_meta

SECRETS = "/api/v1/namespaces/default/secrets"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
STRATEGIC = "application/strategic-merge-patch+json"


def manifest(image, **env):
    owned = {"meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": owned},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image,
                                         "env": [{"name": k, "value": v} for k, v in env.items()]}]}}}}


def release(version, status, payload):
    return {"apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1",
            "metadata": {"name": f"sh.helm.release.v1.web.v{version}", "labels": {
                "name": "web", "owner": "helm", "status": status, "version": str(version), "createdAt": "1"}},
            "data": {"release": base64.b64encode(payload).decode()}}


def must(api, status, *request):
    got, answer = api.call(*request)
    assert got == status, (request[:2], got, answer)
    return answer


def store_release(api, version, payload=b"{}"):
    """Pending, then deployed (a PUT without resourceVersion); the one before is superseded."""
    must(api, 201, "POST", SECRETS, release(version, "pending-install", payload))
    old = must(api, 200, "GET", SECRETS + "?labelSelector=" + urllib.parse.quote("name=web,owner=helm,status=deployed"))
    for secret in old["items"]:
        secret["metadata"]["labels"]["status"] = "superseded"
        secret["metadata"].pop("resourceVersion")
        name = secret["metadata"]["name"]
        must(api, 200, "PUT", f"{SECRETS}/{name}", {**secret, "apiVersion": "v1", "kind": "Secret"})
    name = f"sh.helm.release.v1.web.v{version}"
    must(api, 200, "PUT", f"{SECRETS}/{name}", release(version, "deployed", payload))


def deployed(api):
    found = must(api, 200, "GET", SECRETS + "?labelSelector=" + urllib.parse.quote("name=web,owner=helm,status=deployed"))
    return [s["metadata"]["labels"]["version"] for s in found["items"]]


def wait_rolled_out(api):
    def ready():
        o = must(api, 200, "GET", DEPLOYMENTS + "/web")
        return o.get("status", {}).get("observedGeneration") == o["metadata"]["generation"] and o
    return wait_for("the Deployment to be observed", ready)


def container(o):
    only, = o["spec"]["template"]["spec"]["containers"]
    return only["image"], {e["name"]: e["value"] for e in only.get("env", [])}


def helm_3_installs_upgrades_rolls_back_and_removes(program):
    with Daemon(program) as d:
        api = Api(d)
        assert must(api, 200, "GET", "/version")["major"] == "1"
        assert must(api, 404, "GET", DEPLOYMENTS + "/web")["reason"] == "NotFound"
        must(api, 201, "POST", DEPLOYMENTS + "?fieldManager=helm", manifest("one", A="1", B="1"))
        big = bytes(range(256)) * 2800  # 0.7 MB, about what a chart may have
        store_release(api, 1, big)
        wait_rolled_out(api)
        stored = must(api, 200, "GET", SECRETS + "/sh.helm.release.v1.web.v1")
        assert base64.b64decode(stored["data"]["release"]) == big

        # Somebody else adds a variable: a three-way merge keeps it, and drops what the chart dropped.
        by_hand = {"spec": {"template": {"spec": {"containers": [{"name": "c", "env": [{"name": "HAND", "value": "x"}]}]}}}}
        must(api, 200, "PATCH", DEPLOYMENTS + "/web", by_hand, STRATEGIC)
        env = [{"name": "A", "value": "2"}, {"name": "B", "$patch": "delete"}]
        upgrade = {"spec": {"template": {"spec": {
            "$setElementOrder/containers": [{"name": "c"}],
            "containers": [{"name": "c", "image": "two", "$setElementOrder/env": [{"name": "A"}], "env": env}]}}}}
        must(api, 200, "PATCH", DEPLOYMENTS + "/web?fieldManager=helm", upgrade, STRATEGIC)
        store_release(api, 2)
        assert container(wait_rolled_out(api)) == ("two", {"A": "2", "HAND": "x"})
        assert deployed(api) == ["2"]

        back = {"spec": {"template": {"spec": {"containers": [
            {"name": "c", "image": "one", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]}]}}}}
        must(api, 200, "PATCH", DEPLOYMENTS + "/web?fieldManager=helm", back, STRATEGIC)
        store_release(api, 3)
        assert container(wait_rolled_out(api)) == ("one", {"A": "1", "B": "1", "HAND": "x"})
        assert deployed(api) == ["3"]

        # k9s and `helm list` look for owner=helm.
        listed = json.loads(d.kubectl("get", "secrets", "-l", "owner=helm", "-o", "json").stdout)
        assert [s["type"] for s in listed["items"]] == ["helm.sh/release.v1"] * 3
        must(api, 200, "DELETE", DEPLOYMENTS + "/web", {"propagationPolicy": "Background"})
        wait_for("the Deployment to go", lambda: api.call("GET", DEPLOYMENTS + "/web")[0] == 404)
        for version in (1, 2, 3):
            must(api, 200, "DELETE", f"{SECRETS}/sh.helm.release.v1.web.v{version}")
        assert deployed(api) == []


def protobuf_release(version, status, payload):
    """The Secret as client-go's typed client writes it: zero fields and all."""
    labels = {"name": "web", "owner": "helm", "status": status, "version": str(version), "createdAt": "1"}
    name = f"sh.helm.release.v1.web.v{version}"
    data = message((1, "release"), (2, payload))
    return envelope("v1", "Secret", message((1, object_meta(name, labels)), (2, data), (3, "helm.sh/release.v1")))


def releases_come_as_protobuf(program):
    """helm install, upgrade and uninstall from 3.17 on: typed bodies, PUT without a revision, JSON answers."""
    with Daemon(program) as d:
        helm = Client(d, "Helm/3.17.3")
        big = bytes(range(256)) * 2800
        typed = {"accept": TYPED, "kind": PROTOBUF}
        made = helm.must(201, "POST", SECRETS, protobuf_release(1, "pending-install", big), **typed)
        assert made["kind"] == "Secret" and made["type"] == "helm.sh/release.v1" and "namespace" in made["metadata"]
        assert made["metadata"]["labels"]["status"] == "pending-install" and "generateName" not in made["metadata"]
        again = helm.must(409, "POST", SECRETS, protobuf_release(1, "pending-install", big), **typed)
        assert again["reason"] == "AlreadyExists"
        name = SECRETS + "/sh.helm.release.v1.web.v1"
        put = helm.must(200, "PUT", name, protobuf_release(1, "deployed", big), **typed)
        assert int(put["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
        assert put["metadata"]["uid"] == made["metadata"]["uid"]
        stored = helm.get(name, accept=TYPED)
        assert base64.b64decode(stored["data"]["release"]) == big
        # `helm upgrade`: the next one is stored, then the one before is superseded.
        helm.must(201, "POST", SECRETS, protobuf_release(2, "pending-upgrade", b"two"), **typed)
        helm.must(200, "PUT", SECRETS + "/sh.helm.release.v1.web.v2", protobuf_release(2, "deployed", b"two"), **typed)
        helm.must(200, "PUT", name, protobuf_release(1, "superseded", big), **typed)
        query = SECRETS + "?labelSelector=" + urllib.parse.quote("name=web,owner=helm,status=deployed")
        found = helm.get(query, accept=TYPED)
        assert [s["metadata"]["name"] for s in found["items"]] == ["sh.helm.release.v1.web.v2"]
        # `helm uninstall` deletes without options; what follows is not there.
        for version in (1, 2):
            helm.must(200, "DELETE", f"{SECRETS}/sh.helm.release.v1.web.v{version}", accept=TYPED)
        assert helm.must(404, "GET", name, accept=TYPED)["reason"] == "NotFound"
        wrong = helm.must(400, "POST", "/api/v1/namespaces/default/configmaps", protobuf_release(3, "x", b""), **typed)
        assert "Secret" in wrong["message"] and "ConfigMap" in wrong["message"], wrong


def helm_4_applies_on_the_server(program):
    with Daemon(program) as d:
        api = Api(d)
        path = DEPLOYMENTS + "/web?fieldManager=helm&fieldValidation=Strict&force=false"
        apply = "application/apply-patch+yaml"
        must(api, 201, "PATCH", path, manifest("one", A="1", B="1"), apply)
        got = must(api, 200, "PATCH", path, manifest("two", A="1"), apply)
        assert container(got) == ("two", {"A": "1"})
        must(api, 200, "PATCH", DEPLOYMENTS + "/web?fieldManager=hand",
             {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "three"}]}}}}, STRATEGIC)
        refused = must(api, 409, "PATCH", path, manifest("four", A="1"), apply)
        assert 'conflict with "hand"' in refused["message"], refused
        got = must(api, 200, "PATCH", path.replace("force=false", "force=true"), manifest("four", A="1"), apply)
        assert container(got) == ("four", {"A": "1"})
        misspelt = manifest("four")
        misspelt["spec"]["replcas"] = 1
        assert must(api, 400, "PATCH", path, misspelt, apply)["reason"] == "BadRequest"


if __name__ == "__main__":
    run_tests(helm_3_installs_upgrades_rolls_back_and_removes, releases_come_as_protobuf, helm_4_applies_on_the_server)
