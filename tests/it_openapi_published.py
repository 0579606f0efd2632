#!/usr/bin/env python3
"""The served OpenAPI beside the one that Kubernetes publishes, for the kinds that both have: every field, its
type, and how it merges. What differs is listed in openapi_differences.txt, with the reason; anything else fails.

    tests/it_openapi_published.py PROGRAM            compares
    tests/it_openapi_published.py PROGRAM --list     prints all differences, in the form of that file"""
import json
import pathlib
import sys

from harness import ROOT, SHARED, Daemon, run_tests, skip

PUBLISHED = SHARED / "data" / "api" / "kubernetes"
EXPECTED = ROOT / "tests" / "openapi_differences.txt"
MERGE = ("x-kubernetes-patch-merge-key", "x-kubernetes-patch-strategy", "x-kubernetes-list-type",
         "x-kubernetes-list-map-keys", "x-kubernetes-map-type")


class Document:
    """A document of either version, with its kinds by group, version and kind."""

    def __init__(self, text):
        self.schemas = text.get("definitions") or text["components"]["schemas"]
        self.kinds = {}
        for schema in self.schemas.values():
            for gvk in schema.get("x-kubernetes-group-version-kind", []):
                key = "/".join(filter(None, (gvk["group"], gvk["version"], gvk["kind"])))
                self.kinds.setdefault(key, schema)

    def name(self, schema):
        """The name of the type that a schema refers to, or None."""
        parts = schema.get("allOf", [])
        ref = schema.get("$ref") or (len(parts) == 1 and parts[0].get("$ref"))
        return ref.split("/")[-1] if ref else None

    def resolve(self, schema):
        name = self.name(schema)
        if not name:
            return schema
        beside = {k: v for k, v in schema.items() if k not in ("allOf", "$ref", "description")}
        return {**self.schemas[name], **beside}


def type_of(schema):
    """How values look: "string", "integer int32", "int-or-string", "quantity", "open" ..."""
    shape, form = schema.get("type"), schema.get("format", "")
    choices = {choice.get("type") for choice in schema.get("oneOf", [])}
    if form == "int-or-string":
        return form
    if choices == {"string", "number"}:
        return "quantity"
    if shape == "object" and "additionalProperties" in schema:
        return "map"
    if shape in (None, "object") and not schema.get("properties"):
        return "open"
    return f"{shape or 'object'} {form}".strip()


def compare(path, served, ours, published, theirs, seen, found):
    """Appends what differs between two schemas, and below them, to found."""
    types = (served.name(ours), published.name(theirs))
    ours, theirs = served.resolve(ours), published.resolve(theirs)
    if types in seen and all(types):
        return
    seen.add(types)
    where = types[1].split(".")[-1] if types[1] else path
    if type_of(ours) != type_of(theirs):
        found.add(f"type {where}: {type_of(ours)}, published {type_of(theirs)}")
    for key in MERGE:
        if ours.get(key) != theirs.get(key):
            found.add(f"merge {where}: {key} {json.dumps(ours.get(key))}, published {json.dumps(theirs.get(key))}")
    mine, other = ours.get("properties", {}), theirs.get("properties", {})
    if mine and other:
        for name in sorted(set(mine) | set(other)):
            if name not in mine:
                found.add(f"missing {where}.{name}")
            elif name not in other:
                found.add(f"own {where}.{name}")
            else:
                compare(f"{where}.{name}", served, mine[name], published, other[name], seen, found)
        for name in sorted(set(ours.get("required", [])) ^ set(theirs.get("required", []))):
            who = "here" if name in ours.get("required", []) else "there"
            found.add(f"required {where}.{name}: only {who}")
    for key in ("items", "additionalProperties"):
        if isinstance(ours.get(key), dict) and isinstance(theirs.get(key), dict):
            compare(f"{where}[]", served, ours[key], published, theirs[key], seen, found)


def differences(program):
    """Gives (what differs, how many kinds were compared)."""
    if not PUBLISHED.is_dir():
        skip(f"{PUBLISHED} is not here")
    with Daemon(program) as d:
        raw = lambda path: json.loads(d.kubectl("get", "--raw", path).stdout)
        served = [Document(raw("/openapi/v3/" + name)) for name in raw("/openapi/v3")["paths"]]
    texts = [json.loads(p.read_text()) for p in sorted((PUBLISHED / "openapi-v3").glob("*.json"))]
    texts.append(json.loads((PUBLISHED / "swagger-v2-other-groups.json").read_text()))
    found, num, seen = set(), 0, set()
    for published in map(Document, texts):
        for key, theirs in published.kinds.items():
            for document in served:
                if key in document.kinds:
                    num += 1
                    compare(key, document, document.kinds[key], published, theirs, seen, found)
    return found, num


def differences_are_the_known_ones(program):
    found, num = differences(program)
    expected = {line for line in EXPECTED.read_text().splitlines() if line and not line.startswith("#")}
    print(f"  {num} kinds compared, {len(found)} differences known")
    assert num >= 20, num
    new, gone = sorted(found - expected), sorted(expected - found)
    assert not new and not gone, "\n".join(["new:"] + new + ["gone:"] + gone)


if __name__ == "__main__":
    if "--list" in sys.argv:
        print("\n".join(sorted(differences(sys.argv[1])[0])))
    else:
        run_tests(differences_are_the_known_ones)
