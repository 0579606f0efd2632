#!/usr/bin/env python3
"""Makes kubernetes.types, the table of Kubernetes' own message types, from two references:

    types.py PROTO_FIELDS OPENAPI_JSON... > kubernetes.types

PROTO_FIELDS lists `group.version.Message: number name:type flags, ...`; the OpenAPI documents add
what protobuf does not know: integer widths, required fields, enumerations, merge keys. Only what
the served kinds reach is written. The notation is described in schema_types.c.
"""
import json
import re
import sys

ROOTS = """core.v1.Namespace core.v1.Node core.v1.Pod core.v1.Service core.v1.ConfigMap
core.v1.Secret core.v1.Event core.v1.ServiceAccount apps.v1.Deployment apps.v1.ReplicaSet
autoscaling.v1.Scale coordination.v1.Lease policy.v1.Eviction meta.DeleteOptions events.v1.Event
authentication.v1.SelfSubjectReview authentication.v1.TokenReview authentication.v1.TokenRequest
authorization.v1.SelfSubjectAccessReview authorization.v1.SelfSubjectRulesReview
authorization.v1.SubjectAccessReview authorization.v1.LocalSubjectAccessReview
rbac.v1.Role rbac.v1.ClusterRole rbac.v1.RoleBinding rbac.v1.ClusterRoleBinding""".split()

SPECIAL = {
    "meta.Time": "time",
    "meta.MicroTime": "microtime",
    "meta.FieldsV1": "any",
    "api.resource.Quantity": "quantity",
    "util.intstr.IntOrString": "intstr",
    "authentication.v1.ExtraValue": "extra",
    "authorization.v1.ExtraValue": "extra",
}
# Not required in KServe's schemas, which share these types; validate.c asks for them in pods.
OPTIONAL = {("core.v1.HTTPGetAction", "port"), ("core.v1.TCPSocketAction", "port")}
SCALARS = {"s": "string", "b": "bool", "i": "int64", "y": "bytes", "d": "double"}


def read_messages(path):
    messages = {}
    for line in open(path):
        if line.startswith("#") or ": " not in line:
            continue
        name, fields = line.strip().split(": ", 1)
        messages[name] = []
        for field in fields.split(", "):
            m = re.fullmatch(r"(\d+) (~?)(\w+):([\w.]+)(\*?)((?:\{\})?)(\??)", field)
            if not m:
                sys.exit(f"{name}: cannot read field {field!r}")
            messages[name].append(m.groups())
    return messages


def read_schemas(paths):
    schemas = {}
    for path in paths:
        doc = json.load(open(path))
        found = doc.get("definitions") or doc["components"]["schemas"]
        for name, schema in found.items():
            if name.startswith("io.k8s.api."):
                schemas.setdefault(name[len("io.k8s.api."):], schema)
            elif name.startswith("io.k8s.apimachinery.pkg.apis.meta.v1."):
                schemas.setdefault("meta." + name.rsplit(".", 1)[1], schema)
    return schemas


def resolve(messages, owner, name):
    package = owner.rsplit(".", 1)[0]
    for candidate in (f"{package}.{name}", f"meta.{name}", f"core.v1.{name}", name):
        if candidate in messages or candidate in SPECIAL:
            return candidate
    for special in SPECIAL:
        if special.endswith("." + name):
            return special
    sys.exit(f"{owner}: unknown type {name}")


def attributes(owner, name, schema, required):
    out = []
    # A status is written by programs that may leave zeros out; that of a review is our own answer.
    is_status = re.search(r"(Status|Condition|Info|Image|State\w+)$", owner) and \
        not re.search(r"Subject\w+ReviewStatus$", owner)
    if name in required and not is_status and (owner, name) not in OPTIONAL:
        out.append("required")
    strategy = schema.get("x-kubernetes-patch-strategy", "").split(",")
    if "merge" in strategy:
        out.append("merge=" + schema["x-kubernetes-patch-merge-key"]
                   if "x-kubernetes-patch-merge-key" in schema else "set")
    if "retainKeys" in strategy:
        out.append("retainKeys")
    if "x-kubernetes-list-map-keys" in schema:
        out.append("keys=" + ",".join(schema["x-kubernetes-list-map-keys"]))
    if "atomic" in (schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-map-type")):
        out.append("atomic")
    values = [v for v in schema.get("enum", []) if v]
    if values:
        out.append("enum=" + "|".join(values))
    return out


def main():
    messages = read_messages(sys.argv[1])
    schemas = read_schemas(sys.argv[2:])
    order, todo = [], list(ROOTS)
    while todo:
        owner = todo.pop(0)
        if owner in order:
            continue
        order.append(owner)
        for _, _, _, kind, _, _, _ in messages[owner]:
            if kind not in SCALARS:
                target = resolve(messages, owner, kind)
                if target not in SPECIAL:
                    todo.append(target)
    print("# Made by types.py; do not edit. The notation is described in schema_types.c.")
    for owner in sorted(order):
        schema = schemas.get(owner, {})
        package = owner.rsplit(".", 1)[0]
        atomic = schema.get("x-kubernetes-map-type") == "atomic"
        print(owner + " atomic" if atomic else owner)
        for number, inline, name, kind, repeated, keyed, pointer in messages[owner]:
            field = schema.get("properties", {}).get(name, {})
            if kind in SCALARS:
                shown = SCALARS[kind]
                inner = field.get("items") or field.get("additionalProperties") or field
                if kind == "i" and isinstance(inner, dict) and inner.get("format") == "int32":
                    shown = "int32"
            else:
                target = resolve(messages, owner, kind)
                shown = SPECIAL.get(target, target)
                if shown.startswith(package + ".") and shown not in SPECIAL.values():
                    shown = shown[len(package) + 1:]
            if name == "uID":
                name = "uid"
            prefix = "[]" if repeated else "{}" if keyed else ""
            words = [number, "~" if inline else name, prefix + shown + pointer]
            print("  " + " ".join(words + attributes(owner, name, field,
                                                      schema.get("required", []))))


main()
