#!/usr/bin/env python3
"""Users' definitions as they change under the feet of their objects: a schema that becomes stricter, versions that
are added to a group of the program's own, a definition that goes while others create."""
import json
import threading

from harness import Daemon, run_tests, wait_for
from it_verbs import Api

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def definition(plural, group, versions, schema=None):
    kind = plural.rstrip("s").capitalize()
    open_schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
                     "versions": [{"name": v, "served": True, "storage": v == versions[0],
                                   "schema": {"openAPIV3Schema": schema or open_schema}} for v in versions]}}


def install(api, crd):
    api.expect(201, "POST", CRDS, crd)
    wait_for("the definition to be established", lambda: any(
        c["type"] == "Established" and c["status"] == "True"
        for c in api.expect(200, "GET", f"{CRDS}/{crd['metadata']['name']}").get("status", {}).get("conditions", [])))


def a_stricter_schema_spares_what_is_left_alone(program):
    """What Kubernetes calls ratcheting: values that an update does not touch are not judged anew."""
    def schema(**port):
        item = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "port": {"type": "integer", **port}}}
        return {"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "mode": {"type": "string", **({"enum": ["fast", "slow"]} if port else {})},
            "size": {"type": "integer"},
            "plain": {"type": "array", "items": item},
            "keyed": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}}}}}
    path = "/apis/example.com/v1/namespaces/default/gadgets"
    with Daemon(program) as d:
        api = Api(d)
        install(api, definition("gadgets", "example.com", ["v1"], schema()))
        spec = {"mode": "odd", "size": 1, "plain": [{"name": "a", "port": 99999}], "keyed": [{"name": "a", "port": 99999}, {"name": "b", "port": 1}]}
        api.expect(201, "POST", path, {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": spec})
        strict = definition("gadgets", "example.com", ["v1"], schema(maximum=65535))
        api.expect(200, "PATCH", f"{CRDS}/gadgets.example.com", {"spec": strict["spec"]})
        wait_for("the stricter schema", lambda: api.call("POST", path + "?dryRun=All", {
            "apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "x"}, "spec": {"mode": "odd"}})[0] == 422)
        api.expect(200, "PATCH", path + "/g", {"metadata": {"labels": {"a": "b"}}, "spec": {"size": 2}})
        keyed = [{"name": "b", "port": 2}, {"name": "a", "port": 99999}]
        api.expect(200, "PATCH", path + "/g", {"spec": {"keyed": keyed}})
        api.refused(422, "Invalid", r"spec.keyed\[0\].port: Invalid value: 70000", "PATCH", path + "/g",
                    {"spec": {"keyed": [{"name": "b", "port": 70000}, keyed[1]]}})
        api.refused(422, "Invalid", "spec.mode: Unsupported value: \"new\"", "PATCH", path + "/g", {"spec": {"mode": "new"}})
        # Items of a plain list have no identity: one change, and all of them are new.
        answer = api.refused(422, "Invalid", r"spec.plain\[0\].port", "PATCH", path + "/g",
                             {"spec": {"plain": [{"name": "a", "port": 99999}, {"name": "c", "port": 1}]}})
        assert len(answer["details"]["causes"]) == 1, answer
        api.expect(200, "PATCH", path + "/g", {"metadata": {"finalizers": []}})


def versions_stand_in_order_of_preference(program):
    def order(api, group):
        legacy = next(g for g in api.expect(200, "GET", "/apis")["groups"] if g["name"] == group)
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        _, _, text = api.raw("GET", "/apis", None, {"Accept": accept})
        items = json.loads(text)["items"]
        found = next(i for i in items if i["metadata"].get("name") == group)
        versions = [v["version"] for v in found["versions"]]
        assert versions == [v["version"] for v in legacy["versions"]], (legacy, found)
        assert legacy["preferredVersion"]["version"] == versions[0], legacy
        return versions, [i["metadata"].get("name") for i in items]
    with Daemon(program) as d:
        api = Api(d)
        built_in = order(api, "serving.kserve.io")[0]
        assert built_in == ["v1beta1", "v1alpha1"], built_in
        install(api, definition("others", "serving.kserve.io", ["v1", "v2alpha1"]))
        assert order(api, "serving.kserve.io")[0] == ["v1", "v1beta1", "v2alpha1", "v1alpha1"]
        for group in ("zebra.example.com", "ant.example.com"):
            install(api, definition("things", group, ["v1alpha1", "v1", "v10", "v2", "v1beta1", "foo1"]))
            assert order(api, group)[0] == ["v10", "v2", "v1", "v1beta1", "v1alpha1", "foo1"]
        groups = order(api, "ant.example.com")[1]
        places = [groups.index(g) for g in ("serving.kserve.io", "ant.example.com", "zebra.example.com")]
        assert places == sorted(places), groups
        versions, _ = order(api, "autoscaling")
        assert versions == ["v1", "v2"], "autoscaling/v1 stands first for old clients"


def no_object_outlives_its_definition(program):
    """Creates race the deletion of their definition; afterwards it is made anew and has no objects."""
    crd = definition("races", "example.com", ["v1"])
    path = "/apis/example.com/v1/namespaces/default/races"
    with Daemon(program) as d:
        api = Api(d)
        for turn in range(6):
            install(api, crd)
            stop, codes = threading.Event(), []

            def create(prefix):
                mine = Api(d)
                number = 0
                while not stop.is_set():
                    number += 1
                    body = {"apiVersion": "example.com/v1", "kind": "Race", "metadata": {"name": f"{prefix}-{number}"}}
                    codes.append(mine.call("POST", path, body)[0])
            threads = [threading.Thread(target=create, args=(p,)) for p in "abcd"]
            for t in threads:
                t.start()
            wait_for("some objects", lambda: codes.count(201) > 20)
            api.expect(200, "DELETE", f"{CRDS}/races.example.com")
            wait_for("the definition to be gone", lambda: api.call("GET", f"{CRDS}/races.example.com")[0] == 404)
            stop.set()
            for t in threads:
                t.join()
            assert set(codes) <= {201, 404, 405}, set(codes)
            install(api, crd)
            left = api.expect(200, "GET", path)["items"]
            assert not left, f"turn {turn}: {len(left)} objects outlived their definition"
            api.expect(200, "DELETE", f"{CRDS}/races.example.com")
            wait_for("the definition to be gone", lambda: api.call("GET", f"{CRDS}/races.example.com")[0] == 404)


if __name__ == "__main__":
    run_tests(a_stricter_schema_spares_what_is_left_alone, versions_stand_in_order_of_preference, no_object_outlives_its_definition)
