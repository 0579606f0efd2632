#!/usr/bin/env python3
"""Writes seed inputs for the fuzz targets into FOLDER/TARGET: what the tree's own tests say (their
string literals), and the reference's cases where ../shared has them.

    tests/fuzz/seeds.py FOLDER
"""
import hashlib
import json
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DATA = pathlib.Path(os.environ.get("INFERD_SHARED", ROOT.parent / "shared")) / "data"
SEED_BYTES_MAX = 64 << 10
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}


def literals(path):
    """The string literals of a C file, neighbours joined as the compiler does."""
    text = re.sub(r"/\*.*?\*/", "", (ROOT / path).read_text(), flags=re.S)
    text = re.sub(r"^#include.*$", "", text, flags=re.M)
    for run in re.findall(r'"(?:\\.|[^"\\\n])*"(?:\s*"(?:\\.|[^"\\\n])*")*', text):
        parts = re.findall(r'"((?:\\.|[^"\\\n])*)"', run)
        yield re.sub(r"\\(.)", lambda m: ESCAPES.get(m[1], m[1]), "".join(parts))


def values(path):
    """The JSON values among a file's literals; ' may stand for "."""
    found = []
    for text in literals(path):
        for spelling in (text, text.replace("'", '"')):
            try:
                value = json.loads(spelling)
            except ValueError:
                continue
            if isinstance(value, (dict, list)):
                found.append(json.dumps(value))
                break
    return found


def pairs(found):
    return [a + "\n" + b for a, b in zip(found, found[1:])] + [a + "\n" + a for a in found]


def cases(name):
    path = DATA / name
    loaded = json.loads(path.read_text()) if path.exists() else []
    return loaded if isinstance(loaded, list) else loaded.get("cases", [])


def patch():
    yield from pairs(values("kube-compat/patch_test.c"))
    for name in ("tests", "spec_tests"):
        for c in cases(f"conformance/json-patch/{name}.json"):
            if "doc" in c:
                yield json.dumps(c["doc"]) + "\n" + json.dumps(c.get("patch"))
    for c in cases("conformance/json-merge-patch/rfc7396.json"):
        yield json.dumps(c["original"]) + "\n" + json.dumps(c["patch"])
    pod = {"spec": {"template": {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}}}}
    for change in ({"name": "a", "$patch": "delete"}, {"$patch": "replace"},
                   {"name": "b", "$setElementOrder/ports": [{"containerPort": 1}]},
                   {"name": "a", "$retainKeys": ["name"]}):
        spec = {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [change]}
        yield json.dumps(pod) + "\n" + json.dumps({"spec": {"template": {"spec": spec}}})


def selector():
    yield from literals("kube-compat/selector_test.c")
    for name in ("label", "field"):
        yield from (c["selector"] for c in cases(f"api/kubernetes/{name}-selectors.json"))


def apply():
    found = values("kube-compat/apply_test.c")
    yield from pairs(found)


def protobuf():
    import base64
    for text in literals("kube-compat/protobuf_test.c"):
        if text.startswith("azhz"):
            yield base64.b64decode(text)
    for path in sorted((DATA / "api/kubernetes/round-trip").glob("*.pb")):
        yield path.read_bytes()


def yaml():
    yield from literals("core/base/yaml_test.c")
    yield from literals("kube-compat/crd_test.c")
    yield from (c["yaml"] for c in cases("conformance/yaml/cases.json"))


def accept():
    for text in literals("kube-compat/kube_server_test.c"):
        if "Accept: " in text:
            yield "\x7f" + text.split("Accept: ", 1)[1].split("\r")[0]
    for kind in ("Table;v=v1;g=meta.k8s.io", "PartialObjectMetadata;g=meta.k8s.io;v=v1",
                 "APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io"):
        yield f"\x7fapplication/json;as={kind},application/json;q=0.5, */*;q=0"


def request():
    for text in literals("kube-compat/kube_server_test.c"):
        if text.startswith(("?", "/")):
            prefix = "" if text[0] == "/" else "/api/v1/namespaces/default/configmaps"
            yield f"GET {prefix}{text}\n*/*\n\n"
    table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    core = "/api/v1/namespaces/default/configmaps"
    cm = '{"metadata":{"name":"cm1"},"data":{"k":"w"}}'
    yield f"GET {core}?limit=1&labelSelector=n%3D1\n{table}\n\n"
    yield f"GET {core}?limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJjb3JlIn0\n\n\n"
    yield f"GET {core}?watch=true&resourceVersion=0&timeoutSeconds=1\n{table}\n\n"
    yield f"POST {core}?fieldValidation=Strict\n\napplication/json\n" + cm
    yield f"PUT {core}/cm1\n\napplication/yaml\n" + cm
    yield f"PATCH {core}/cm1\n\napplication/merge-patch+json\n" + cm
    yield f"PATCH {core}/cm1\n\napplication/strategic-merge-patch+json\n" + cm
    yield f"PATCH {core}/cm1?fieldManager=f\n\napplication/apply-patch+yaml\napiVersion: v1\nkind: ConfigMap\ndata: {{k: w}}\n"
    yield f'PATCH {core}/cm1\n\napplication/json-patch+json\n[{{"op":"remove","path":"/data/k"}}]'
    yield f"DELETE {core}/cm1\n\napplication/json\n" + '{"propagationPolicy":"Foreground"}'
    yield f"DELETE {core}?labelSelector=n\n\n\n"
    for path in ("/apis", "/openapi/v2", "/openapi/v3", "/version", "/api/v1/namespaces/default/pods/p/log",
                 "/apis/apps/v1/namespaces/default/deployments/x/scale", "/api/v1/namespaces/default/status"):
        yield f"GET {path}\n\n\n"


def crd():
    schemas = []
    for text in literals("kube-compat/crd_test.c"):
        for m in re.finditer(r"\b(type|pattern|format|enum|default|x-kubernetes-[a-z-]+): *([^,{}\n]+)", text):
            schemas.append({m[1]: m[2].strip().strip("'\"")})
    for rule in schemas:
        top = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": rule}}}}
        yield json.dumps(top) + "\n" + json.dumps({"spec": {"a": "x", "b": 1}}) + "\n.spec.a"
    item = {"type": "object", "properties": {"name": {"type": "string", "pattern": "^[a-z]+$", "default": "d"},
                                             "n": {"x-kubernetes-int-or-string": True}}, "required": ["n"]}
    top = {"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "list": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]},
        "map": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
        "any": {"x-kubernetes-preserve-unknown-fields": True, "nullable": True},
        "one": {"oneOf": [{"required": ["a"]}, {"required": ["b"]}], "type": "object", "properties": {}}}}}}
    object_ = {"spec": {"list": [{"n": 1}, {"n": "a"}], "map": {"a": 0}, "any": None, "one": {}}, "more": 1}
    for path in (".spec.list[?(@.name=='d')].n", ".spec.list[*].n", ".spec['map'].a", ".spec.list[-1]"):
        yield json.dumps(top) + "\n" + json.dumps(object_) + "\n" + path


def cel():
    selves = ('3', '"web-1"', '[3, 1, 2]', '{"a": "x", "labels": {"k": "v"}, "a": [{"b": 1.5}, null]}')
    table = (ROOT / "kube-compat/cel_test.yaml").read_text()
    for number, quoted in enumerate(re.findall(r'"(?:\\.|[^"\\\n])*"', table)):
        yield json.loads(quoted, strict=False) + "\n" + selves[number % len(selves)]


def masked(opcode, payload, fin=True, mask=b"\x37\xfa\x21\x3d"):
    """A WebSocket frame as a client sends it."""
    length = len(payload)
    head = bytes([(128 if fin else 0) | opcode])
    head += (bytes([128 | length]) if length < 126 else b"\xfe" + length.to_bytes(2, "big") if length < 65536
             else b"\xff" + length.to_bytes(8, "big"))
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def websocket():
    frames = [masked(1, b"text"), masked(2, b"\0stdin\n"), masked(2, bytes(300)), masked(2, bytes(70000)),
              masked(9, b"ping"), masked(10, b""), masked(8, b"\x03\xe8bye"), masked(8, b""),
              masked(2, b"a", fin=False) + masked(9, b"") + masked(0, b"b", fin=False) + masked(0, b"c")]
    yield from (b"\x05" + f for f in frames)
    yield b"\x20" + b"".join(frames)


def spdy():
    import zlib
    text = (ROOT / "core/spdy.c").read_text()
    words = re.findall(r'"([^"]*)"', text[text.index("dictionary_words[] ="):text.index("dictionary_text[] =")])
    tail = re.findall(r'"([^"]*)"', text[text.index("dictionary_text[] ="):text.index("struct spdy_reader {")])
    number = lambda n: n.to_bytes(4, "big")
    dictionary = b"".join(number(len(w)) + w.encode() for w in words) + "".join(tail).encode()
    compressor = zlib.compressobj(zdict=dictionary)

    def control(kind, body, flags=0):
        return number(0x80030000 | kind) + bytes([flags]) + len(body).to_bytes(3, "big") + body

    def opened(stream, **headers):
        block = number(len(headers))
        for name, value in headers.items():
            block += number(len(name)) + name.encode() + number(len(value)) + value.encode()
        return control(1, number(stream) + bytes(6) + compressor.compress(block) + compressor.flush(zlib.Z_SYNC_FLUSH))

    def data(stream, content, flags=0):
        return number(stream) + bytes([flags]) + len(content).to_bytes(3, "big") + content
    frames = [opened(1, streamtype="error", port="8080", requestid="0"),
              opened(3, streamtype="data", port="8080", requestid="0"), data(1, b"", 1), data(3, b"GET / HTTP/1.0\r\n\r\n"),
              data(3, b"", 1), control(6, number(1)), control(4, number(0)), control(9, number(1) + number(9)),
              control(3, number(3) + number(5)), control(7, number(3) + number(0))]
    yield b"\x03" + b"".join(frames)
    for count in range(1, len(frames)):
        yield bytes([count]) + b"".join(frames[:count])


TARGETS = [patch, selector, apply, protobuf, yaml, accept, request, crd, cel, websocket, spdy]


def main():
    folder = pathlib.Path(sys.argv[1])
    for target in TARGETS:
        into = folder / target.__name__
        into.mkdir(parents=True, exist_ok=True)
        for seed in target():
            data = seed if isinstance(seed, bytes) else seed.encode()
            if len(data) <= SEED_BYTES_MAX:
                (into / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    main()
