#!/usr/bin/env python3
"""The OpenAPI documents as clients read them: whole, the same in every form, kept by their tags; and
what kubectl before 1.27 does with them: explain, dry-run on the server, its own check of fields."""
import json
import os
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request

from harness import PATIENCE, Daemon, run_tests

PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        description: A thing with a size.
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, minimum: 1, maximum: 9, description: How big it is.}
              color: {type: string, enum: [red, blue], default: red}
              port: {x-kubernetes-int-or-string: true}
              maybe: {type: string, nullable: true}
              open: {type: object, x-kubernetes-preserve-unknown-fields: true}
              labels: {type: object, additionalProperties: {type: string}}
              one: {type: object, properties: {a: {type: string}}, oneOf: [{required: [a]}, {required: [b]}]}
"""


def get(d, path, accept="application/json", **headers):
    """Gives (status, body, headers); follows nothing."""
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None
    token = (d.data / "pki" / "tokens.csv").read_text().split(",")[0]
    request = urllib.request.Request(d.kube + path, headers={
        "Accept": accept, "Authorization": "Bearer " + token, **headers})
    https = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
    try:
        with urllib.request.build_opener(https, Stay).open(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def fields(message):
    """The fields of a protobuf message: (number, bytes or integer)."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
    while at < len(message):
        tag = varint()
        if tag & 7 == 2:
            size = varint()
            assert at + size <= len(message), "a field is longer than its message"
            value, at = message[at:at + size], at + size
        elif tag & 7 == 1:
            value, at = message[at:at + 8], at + 8
        else:
            assert tag & 7 == 0, tag
            value = varint()
        yield tag >> 3, value


def one(message, number):
    found = [value for field, value in fields(message) if field == number]
    assert len(found) <= 1, (number, found)
    return found[0] if found else None


def named(message, number):
    """{name: value} of repeated messages of a name and a value."""
    return {one(m, 1).decode(): one(m, 2) for field, m in fields(message) if field == number}


def same_schema(name, proto, text):
    """The message of a schema says what its JSON says."""
    assert (one(proto, 1) or b"").decode() == text.get("$ref", ""), name
    assert (one(proto, 2) or b"").decode() == text.get("format", ""), name
    assert (one(proto, 4) or b"").decode() == text.get("description", ""), name
    assert [v.decode() for f, v in fields(proto) if f == 19] == text.get("required", []), name
    assert (one(one(proto, 22) or b"", 1) or b"").decode() == text.get("type", ""), name
    extensions = {k: json.loads(one(v, 2)) for k, v in named(proto, 31).items()}
    for key in ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-group-version-kind",
                "x-kubernetes-patch-merge-key", "x-kubernetes-patch-strategy", "x-kubernetes-map-type"):
        assert extensions.get(key) == text.get(key), (name, key)
    properties = named(one(proto, 25) or b"", 1)
    assert set(properties) == set(text.get("properties", {})), name
    for key, value in properties.items():
        same_schema(f"{name}.{key}", value, text["properties"][key])
    for number, key in ((21, "additionalProperties"), (23, "items")):
        inner = one(proto, number)
        assert (inner is None) == (key not in text), (name, key)
        if inner is not None:
            same_schema(f"{name}[]", one(inner, 1), text[key])


def version_2_is_whole_in_both_forms(program):
    with Daemon(program) as d:
        d.apply(WIDGETS)
        d.kubectl("wait", "--for=condition=Established", "crd/widgets.example.com")
        status, body, headers = get(d, "/openapi/v2")
        text = json.loads(body)
        assert status == 200 and headers["Vary"] == "Accept", headers
        dangling = {r for r in references(text) if r.split("/")[-1] not in text["definitions"]}
        assert not dangling, dangling
        assert not re.search(rb'"(oneOf|anyOf|allOf|not|nullable)":[\[{t]', json.dumps(
            {k: v for k, v in text["definitions"].items() if "JSONSchemaProps" not in k},
            separators=(",", ":")).encode())
        status, proto, headers = get(d, "/openapi/v2", PROTOBUF)
        assert status == 200 and "@" not in headers["Content-Type"], headers
        types = named(one(proto, 9), 1)
        assert set(types) == set(text["definitions"])
        for name, message in types.items():
            same_schema(name, message, text["definitions"][name])
        assert set(named(one(proto, 8), 2)) == set(text["paths"])
        widget = text["definitions"]["com.example.v1.Widget"]["properties"]["spec"]["properties"]
        assert widget["size"]["maximum"] == 9 and widget["color"]["enum"] == ["red", "blue"]
        assert "type" not in widget["maybe"] and "type" not in widget["open"]
        for path, item in text["paths"].items():
            writes = {"put", "patch", "delete"} if path.endswith("/{name}") else {"post"}
            want = {"get"} if "/metrics.k8s.io/" in path else {"post"} if path.endswith("reviews") else {"get", *writes}
            assert set(item) == want, path
        for accept, tag in (("application/json", get(d, "/openapi/v2")[2]["ETag"]),
                            (PROTOBUF, headers["ETag"])):
            assert get(d, "/openapi/v2", accept, **{"If-None-Match": tag})[:2] == (304, b"")
        d.kubectl("delete", "crd", "widgets.example.com")
        status, body, _ = get(d, "/openapi/v2", PROTOBUF, **{"If-None-Match": headers["ETag"]})
        assert status == 200 and b"com.example.v1.Widget" not in body


def version_3_is_whole_and_kept(program):
    with Daemon(program) as d:
        index = json.loads(get(d, "/openapi/v3")[1])["paths"]
        assert {"api/v1", "apis/apps/v1", "apis/serving.kserve.io/v1beta1", "apis/authorization.k8s.io/v1"} <= set(index)
        for name, entry in index.items():
            status, body, headers = get(d, entry["serverRelativeURL"])
            assert status == 200 and "immutable" in headers["Cache-Control"], (name, headers)
            text = json.loads(body)
            schemas = text["components"]["schemas"]
            dangling = {r for r in references(text) if r.split("/")[-1] not in schemas}
            assert not dangling, (name, dangling)
            assert get(d, entry["serverRelativeURL"], **{"If-None-Match": headers["ETag"]})[0] == 304
        status, _, headers = get(d, "/openapi/v3/api/v1?hash=0")
        assert status == 301 and headers["Location"] == index["api/v1"]["serverRelativeURL"], headers
        assert get(d, "/openapi/v3/apis/absent/v1")[0] == 404


def every_kind_is_explained(program):
    with Daemon(program) as d:
        rows = d.kubectl("api-resources", "--no-headers", "--verbs=list").stdout.splitlines()
        kinds = {(row.split()[-3], row.split()[0]) for row in rows}
        assert len(kinds) >= 30, rows
        for version, plural in sorted(kinds):
            shown = d.kubectl("explain", plural, "--api-version", version, "--recursive").stdout
            assert "FIELDS:" in shown and "VERSION:" in shown, (version, plural, shown)
        for path, words in (("pod.spec.containers.readinessProbe", "only while this check succeeds"),
                            ("deployment.spec.strategy", "old pods give way"),
                            ("service.spec.type", "LoadBalancer"), ("node.spec.taints", "keep away"),
                            ("cm.data", "Keys with texts"), ("secret", "encrypted on disk"),
                            ("ns", "A room for names"), ("isvc.spec.predictor.model", "where it lies"),
                            ("servingruntime.spec.containers", "kserve-container"),
                            ("selfsubjectaccessreviews.spec", "resourceAttributes"), ("tokenreviews", "FIELDS:")):
            assert words in d.kubectl("explain", path).stdout, path


def minor_of(kubectl):
    shown = subprocess.run([kubectl, "version", "--client", "-o", "json"], capture_output=True, text=True)
    return int(re.match(r"v1\.(\d+)", json.loads(shown.stdout)["clientVersion"]["gitVersion"]).group(1))


def old_kubectl_explains_validates_and_tries(program):
    """$INFERD_KUBECTL_OLD names a kubectl before 1.27, such as Debian's, beside a newer one."""
    kubectl = os.environ.get("INFERD_KUBECTL_OLD") or shutil.which("kubectl")
    if not kubectl or minor_of(kubectl) >= 27:
        print("  SKIPPED: no kubectl before 1.27 here")
        return
    widget = ('---\n{apiVersion: example.com/v1, kind: Widget, metadata: {name: w}, spec: {%s: 3, '
              'open: {x: 1}, maybe: null, port: 80}}')
    service = ('---\n{apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, metadata: {name: m}, spec: '
               '{predictor: {%s: 1, model: {modelFormat: {name: gguf}, storageUri: "file:///m"}}}}')
    config = '---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, %s: {a: b}}'
    with Daemon(program) as d:
        run = lambda *a, **k: d.run(kubectl, *a, **k)
        run("apply", "-f", "-", stdin=WIDGETS)
        run("wait", "--for=condition=Established", "crd/widgets.example.com")
        assert "How big it is." in run("explain", "widget.spec.size").stdout
        assert "storageUri" in run("explain", "isvc.spec.predictor", "--recursive").stdout
        assert "livenessProbe" in run("explain", "pod.spec.containers").stdout
        for manifest, right, wrong in ((widget, "size", "sise"), (config, "data", "dat"),
                                       (service, "minReplicas", "minReplcas")):
            refused = run("apply", "-f", "-", stdin=manifest % wrong, check=False)
            assert f'unknown field "{wrong}"' in refused.stderr, refused
            for verb in ("create", "apply"):
                tried = run(verb, "--dry-run=server", "-f", "-", stdin=manifest % right)
                assert "(server dry run)" in tried.stdout, tried
            assert "created" in run("create", "-f", "-", stdin=manifest % right).stdout
        assert "spec.size" in run("apply", "-f", "-", stdin=widget.replace("3,", "30,") % "size",
                                  check=False).stderr


if __name__ == "__main__":
    run_tests(version_2_is_whole_in_both_forms, version_3_is_whole_and_kept, every_kind_is_explained,
              old_kubectl_explains_validates_and_tries)
