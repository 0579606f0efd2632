#!/usr/bin/env python3
"""Users' definitions as they change under the feet of their objects: a schema that becomes stricter, versions that
are added to a group of the program's own, a definition that goes while others create."""
import json
import os
import struct
import threading

from harness import SHARED, Daemon, run_tests, wait_for
from it_verbs import Api

LARGE_BYTES = 10_000 if os.environ.get("INFERD_SANITIZE") else 300_000  # definitions of megabytes take their time
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


# Field numbers of apiextensions.v1, and what Go's marshaller does with each: "=" is written always, "?" when it is
# there. A capital names the message; {} is a map, [] a list, J raw JSON, B a schema or a boolean, A a schema or a list.
MESSAGES = {
    "Crd": "1=metadata:Meta 2=spec:Spec", "Meta": "1=name:s 11{}labels:s 12{}annotations:s",
    "Spec": "1=group:s 3=names:Names 4=scope:s 7[]versions:Version 9?conversion:Conversion 10=preserveUnknownFields:b",
    "Conversion": "1=strategy:s",
    "Names": "1=plural:s 2=singular:s 3[]shortNames:s 4=kind:s 5=listKind:s 6[]categories:s",
    "Version": "1=name:s 2=served:b 3=storage:b 4?schema:Validation 5?subresources:Sub 6[]additionalPrinterColumns:Column "
               "7=deprecated:b 8?deprecationWarning:s 9[]selectableFields:Field",
    "Validation": "1?openAPIV3Schema:Schema", "Sub": "1?status:Empty 2?scale:Scale", "Empty": "", "Field": "1=jsonPath:s",
    "Scale": "1=specReplicasPath:s 2=statusReplicasPath:s 3?labelSelectorPath:s",
    "Column": "1=name:s 2=type:s 3=format:s 4=description:s 5=priority:i 6=jsonPath:s",
    "Rule": "1=rule:s 2=message:s 3=messageExpression:s 4?reason:s 5=fieldPath:s 6?optionalOldSelf:b",
    "Schema": "1=id:s 2=$schema:s 3?$ref:s 4=description:s 5=type:s 6=format:s 7=title:s 8?default:J 9?maximum:d 10=exclusiveMaximum:b "
              "11?minimum:d 12=exclusiveMinimum:b 13?maxLength:i 14?minLength:i 15=pattern:s 16?maxItems:i 17?minItems:i 18=uniqueItems:b "
              "19?multipleOf:d 20[]enum:J 21?maxProperties:i 22?minProperties:i 23[]required:s 24?items:A 25[]allOf:Schema 26[]oneOf:Schema "
              "27[]anyOf:Schema 28?not:Schema 29{}properties:Schema 30?additionalProperties:B 37=nullable:b "
              "38?x-kubernetes-preserve-unknown-fields:b 39=x-kubernetes-embedded-resource:b 40=x-kubernetes-int-or-string:b "
              "41[]x-kubernetes-list-map-keys:s 42?x-kubernetes-list-type:s 43?x-kubernetes-map-type:s 44[]x-kubernetes-validations:Rule",
}


def varint(n):
    n &= (1 << 64) - 1
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def tagged(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def encode_value(number, kind, value):
    if kind == "s":
        return tagged(number, (value or "").encode())
    if kind in "bi":
        return varint(number << 3) + varint(int(value or 0))
    if kind == "d":
        return varint(number << 3 | 1) + struct.pack("<d", value)
    if kind == "J":
        return tagged(number, tagged(1, json.dumps(value).encode()))
    if kind == "B":
        inner = encode_value(1, "b", value is not False) + (encode_value(2, "Schema", value) if isinstance(value, dict) else b"")
        return tagged(number, inner)
    if kind == "A":
        return tagged(number, encode_value(1, "Schema", value))
    return tagged(number, encode(kind, value or {}))


def encode(message, value):
    out, known = b"", set()
    for field in MESSAGES[message].split():
        head, kind = field.rsplit(":", 1)
        digits = len(head) - len(head.lstrip("0123456789"))
        number, mark = int(head[:digits]), head[digits:digits + 2] if head[digits] in "[{" else head[digits]
        name = head[digits + len(mark):]
        known.add(name)
        if mark == "[]":
            out += b"".join(encode_value(number, kind, v) for v in value.get(name, []))
        elif mark == "{}":
            out += b"".join(tagged(number, encode_value(1, "s", k) + encode_value(2, kind, v)) for k, v in value.get(name, {}).items())
        elif mark == "=" or name in value:
            out += encode_value(number, kind, value.get(name))
    assert set(value) <= known, (message, set(value) - known)
    return out


def definitions_come_as_protobuf(program):
    """As client-go's typed client sends them since 0.32. What arrives is what the JSON of the same file makes."""
    folders = [SHARED / "data" / "kserve" / "crd", SHARED / "data" / "manifests" / "keda-crd"]
    files = [p for folder in folders for p in sorted(folder.rglob("*.yaml")) if p.stat().st_size < LARGE_BYTES]
    if not files:
        print(f"  SKIPPED: {SHARED / 'data' / 'kserve' / 'crd'} is not here; one definition is tried")
    schema = {"type": "object", "properties": {"spec": {
        "type": "object", "default": {"mode": "a"}, "required": ["mode"],
        "x-kubernetes-validations": [{"rule": "self.mode != 'c'", "message": "no c", "optionalOldSelf": False, "reason": "FieldValueForbidden"}],
        "properties": {"mode": {"type": "string", "default": "a", "enum": ["a", "b"]}, "half": {"type": "number", "maximum": 2.5, "minimum": 0},
                       "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                       "map": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0, "exclusiveMinimum": True}},
                       "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                       "any": {"type": "object", "additionalProperties": True},
                       "list": {"type": "array", "minItems": 0, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                                "items": {"type": "object", "required": ["n"], "properties": {"n": {"type": "string", "maxLength": 5}}}}}},
        "status": {"type": "object", "nullable": True, "properties": {"n": {"type": "integer", "format": "int32"}}}}}
    own = definition("things", "example.com", ["v1", "v2"], schema)
    own["spec"]["versions"][0].update(subresources={"status": {}, "scale": {"specReplicasPath": ".spec.half", "statusReplicasPath": ".status.n"}},
                                      additionalPrinterColumns=[{"name": "Mode", "type": "string", "jsonPath": ".spec.mode", "priority": 1}])
    own["spec"]["versions"][1]["served"] = False
    own["metadata"]["labels"] = {"a": "b"}
    with Daemon(program) as d:
        api = Api(d)
        texts = [json.dumps(own)]
        for path in files:
            texts += [t for t in path.read_text().split("\n---\n") if t.strip() and len(t) < LARGE_BYTES]
        tried = 0
        for text in texts:
            crd = json.loads(d.kubectl("create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-", stdin=text).stdout)
            if crd["kind"] != "CustomResourceDefinition":
                continue
            bare = {"apiVersion": crd["apiVersion"], "kind": crd["kind"], "spec": crd["spec"],
                    "metadata": {k: v for k, v in crd["metadata"].items() if k in ("name", "labels", "annotations")}}
            bare["spec"].get("conversion", {}).pop("webhook", None)
            plain = {k: v for k, v in bare.items() if k in ("metadata", "spec")}
            body = b"k8s\0" + tagged(1, tagged(1, b"apiextensions.k8s.io/v1") + tagged(2, b"CustomResourceDefinition")) + tagged(2, encode("Crd", plain))
            by_json = api.call("POST", CRDS + "?dryRun=All", bare)
            by_proto = api.call("POST", CRDS + "?dryRun=All", body, "application/vnd.kubernetes.protobuf")
            assert by_json[0] == by_proto[0], (crd["metadata"]["name"], by_json[1], by_proto[1])
            if by_json[0] == 201:
                assert by_proto[1]["spec"] == by_json[1]["spec"], difference(by_json[1]["spec"], by_proto[1]["spec"], crd["metadata"]["name"])
                tried += 1
        install_body = b"k8s\0" + tagged(1, tagged(1, b"apiextensions.k8s.io/v1") + tagged(2, b"CustomResourceDefinition")) + tagged(2, encode("Crd", {k: own[k] for k in ("metadata", "spec")}))
        api.expect(201, "POST", CRDS, install_body, "application/vnd.kubernetes.protobuf")
        wait_for("the kind to be served", lambda: api.call("GET", "/apis/example.com/v1/things")[0] == 200)
    print(f"  {tried} definitions")
    assert tried > bool(files), tried


def difference(a, b, path):
    """The first place where two documents differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(set(a) | set(b)):
            if a.get(key) != b.get(key):
                return difference(a.get(key), b.get(key), f"{path}.{key}")
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b)):
            if x != y:
                return difference(x, y, f"{path}[{i}]")
    return f"{path}: {a!r} by JSON, {b!r} by protobuf"


if __name__ == "__main__":
    run_tests(definitions_come_as_protobuf, a_stricter_schema_spares_what_is_left_alone, versions_stand_in_order_of_preference, no_object_outlives_its_definition)
