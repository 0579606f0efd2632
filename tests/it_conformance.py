#!/usr/bin/env python3
"""What others recorded, through the API: JSON patches, merge patches, YAML documents and selectors on
objects of a kind without a schema; and the manifests of KServe, KEDA, Seldon, Argo Rollouts and Flagger
with kubectl, each accepted or refused for a reason that is true. Data in ../shared, else skipped."""
import collections
import http.client
import json
import os
import re
import ssl
import urllib.parse

from harness import PATIENCE, SHARED, Daemon, run_tests, skip

DATA = SHARED / "data"
DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: docs.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: docs, kind: Doc}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}
"""
# libyaml, and Kubernetes' reader which is made after it, read YAML 1.1: these documents of 1.2 say
# something else there.
YAML_1_1 = {"HM87/01", "S4JQ"}
DOCS = "/apis/example.com/v1/namespaces/default/docs"
# Why a manifest may be refused, and how that is said. An answer that fits none is a fault.
REASONS = {
    "no such kind here (its definition is not installed)": r"no matches for kind",
    "a field that its schema does not know": r"strict decoding error: unknown field",
    "a Secret whose values are placeholders, not base64": r"illegal base64 data",
    "a value of another type": r"must be of type|cannot unmarshal|invalid type",
    "something required is missing": r"Required value",
    "a name that is no DNS name": r"metadata\.name: Invalid value",
    "a kind that inferd names and does not run": r"inferd does not run",
    "a placeholder for the namespace": r"namespaces \"<|namespace: Invalid value",
}
CRDS = ("kserve/crd", "manifests/keda-crd", "manifests/seldon-core-2-crd")
SAMPLES = ("kserve/samples", "kserve/samples-docs", "manifests/keda", "manifests/seldon-core-2",
           "manifests/argo-rollouts", "manifests/flagger")


class Api:
    """One connection to the daemon, as admin."""

    def __init__(self, d):
        host = d.kube.split("://")[1]
        self.connection = http.client.HTTPSConnection(host, context=ssl._create_unverified_context(), timeout=PATIENCE)
        self.token = (d.data / "pki" / "tokens.csv").read_text().split(",")[0]

    def call(self, method, path, body=None, kind="application/json"):
        """Gives (status, parsed answer)."""
        text = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
        self.connection.request(method, path, text.encode() if isinstance(text, str) else text,
                                {"Authorization": "Bearer " + self.token, "Content-Type": kind, "Accept": "application/json"})
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")


def data(name):
    path = DATA / name
    if not path.exists():
        skip(f"{path} is absent")
    return json.loads(path.read_text())


def api_of(d):
    d.apply(DEFINITION)
    d.kubectl("wait", "--for=condition=Established", "crd/docs.example.com", f"--timeout={PATIENCE}s")
    return Api(d)


def create(api, name, doc):
    body = {"apiVersion": "example.com/v1", "kind": "Doc", "metadata": {"name": name}, "spec": {"doc": doc}}
    status, answer = api.call("POST", DOCS, body)
    assert status == 201 and same(answer["spec"]["doc"], doc), (doc, status, answer)


def same(a, b):
    """Equal as JSON: true is not 1."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def below(pointer):
    return "/spec/doc" + pointer if isinstance(pointer, str) and (pointer == "" or pointer[0] == "/") else pointer


def json_patches(program):
    tried = refused = 0
    cases = data("conformance/json-patch/tests.json") + data("conformance/json-patch/spec_tests.json")
    with Daemon(program) as d:
        api = api_of(d)
        for number, case in enumerate(cases):
            if "doc" not in case or case.get("disabled"):
                continue
            create(api, f"p{number}", case["doc"])
            patch = [{**op, **{k: below(op[k]) for k in ("path", "from") if k in op}} for op in case["patch"]]
            status, answer = api.call("PATCH", f"{DOCS}/p{number}", patch, "application/json-patch+json")
            tried += 1
            if "error" in case:
                refused += 1
                assert status in (400, 422) and answer["kind"] == "Status", (case, status, answer)
            else:
                want = case.get("expected", case["doc"])
                assert status == 200 and same(answer["spec"]["doc"], want), (case, status, answer)
    print(f"  {tried} JSON patches, {refused} of them refused")
    assert tried > 50 and refused > 15


def merge_patches(program):
    cases = data("conformance/json-merge-patch/rfc7396.json")
    with Daemon(program) as d:
        api = api_of(d)
        for number, case in enumerate(cases):
            create(api, f"m{number}", case["original"])
            status, answer = api.call("PATCH", f"{DOCS}/m{number}", {"spec": {"doc": case["patch"]}},
                                      "application/merge-patch+json")
            got = answer.get("spec", {}).get("doc")  # null removes doc itself
            assert status == 200 and same(got, case["result"]), (case, status, answer)
    print(f"  {len(cases)} merge patches")


def yaml_documents(program):
    """Below a key of an object, as far as indenting leaves a document what it is."""
    tried = collections.Counter()
    with Daemon(program) as d:
        api = api_of(d)
        for case in data("conformance/yaml/cases.json"):
            text = case["yaml"]
            if re.search(r"^(---|\.\.\.|%|\t| +$)", text, re.M) or not text.strip() or case["must_fail"] or not case.get("json"):
                continue
            try:
                want = json.loads(case["json"])
            except ValueError:
                continue  # several documents
            head = f"apiVersion: example.com/v1\nkind: Doc\nmetadata: {{name: y{sum(tried.values())}}}\nspec:\n  doc:\n"
            body = head + "".join("    " + line if line.strip() else line for line in text.splitlines(True))
            status, answer = api.call("POST", DOCS, body, "application/yaml")
            if status == 400:
                tried["refused"] += 1
                assert re.search(r"line \d+", answer["message"]), (case, answer)
                continue
            got = answer.get("spec", {}).get("doc")
            fits = same(got, want) or loosely(got) == loosely(want)
            assert status == 201, (case, answer)
            tried["same" if fits else "other"] += 1
            if not fits:
                print(f"  read otherwise: {case['id']} {case['name']}: {json.dumps(got)} for {json.dumps(want)}")
            assert fits or case["id"] in YAML_1_1, case
    print(f"  {dict(tried)} of YAML's documents")
    assert tried["same"] > 60 and tried["refused"] < 15


def loosely(value):
    """Numbers by value: 1e3 is 1000."""
    if isinstance(value, dict):
        return {k: loosely(v) for k, v in value.items()}
    if isinstance(value, list):
        return [loosely(v) for v in value]
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def selectors(program):
    tried = 0
    with Daemon(program) as d:
        api = api_of(d)
        for name, case in enumerate(data("api/kubernetes/label-selectors.json")):
            query = urllib.parse.quote(case["selector"])
            if "parses" in case:
                status, answer = api.call("GET", f"{DOCS}?labelSelector={query}")
                assert status == (200 if case["parses"] else 400), (case, status, answer)
            else:
                body = {"apiVersion": "example.com/v1", "kind": "Doc", "metadata": {"name": f"s{name}", "labels": case["labels"]}}
                status, answer = api.call("POST", DOCS, body)
                assert status == 201, (case, answer)
                status, answer = api.call("GET", f"{DOCS}?labelSelector={query}&fieldSelector=metadata.name%3Ds{name}")
                assert (len(answer["items"]) == 1) == case["matches"], (case, status, answer)
            tried += 1
    print(f"  {tried} label selectors")


def broken_yaml(program):
    files = sorted((DATA / "kserve/broken").glob("*.yaml"))
    if not files:
        skip(f"{DATA / 'kserve/broken'} is absent")
    with Daemon(program) as d:
        api = Api(d)
        for path in files:
            status, answer = api.call("POST", "/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices",
                                      path.read_bytes(), "application/yaml")
            assert status == 400 and re.search(r"line \d+", answer["message"]), (path, status, answer)
            print(f"  {path.name}: {answer['message'][:100]}")


def reason_of(text):
    return next((reason for reason, said in REASONS.items() if re.search(said, text)), None)


def manifests_of_other_projects(program):
    """kubectl create --dry-run=server, whole folders at a time."""
    if not (DATA / "manifests").exists() or not (DATA / "kserve").exists():
        skip(f"{DATA / 'manifests'} or {DATA / 'kserve'} is absent")
    table = collections.Counter()
    faults = []
    with Daemon(program) as d:
        for folder in CRDS:
            d.kubectl("apply", "--server-side", "-f", DATA / folder)
        d.kubectl("wait", "--for=condition=Established", "crd", "--all", f"--timeout={PATIENCE}s")
        texts = [p.read_text() for folder in SAMPLES for p in (DATA / folder).rglob("*.yaml")]
        for namespace in sorted({n for text in texts for n in re.findall(r"^\s+namespace: \"?([a-z0-9-]+)\"?\s*$", text, re.M)}):
            d.kubectl("create", "namespace", namespace, check=False)
        for folder in SAMPLES:
            done = d.kubectl("create", "--dry-run=server", "-R", "-f", DATA / folder, check=False, timeout=3 * PATIENCE)
            table[folder, "accepted"] += done.stdout.count("(server dry run)")
            said = re.split(r"\n(?=Error from server|error)|(?=resource mapping not found)", done.stderr)
            for text in said:
                text = re.sub(r"^Warning: .*\n?", "", text, flags=re.M).strip("[ \n")
                if not text or text.startswith("ensure CRDs"):
                    continue
                reason = reason_of(text)
                table[folder, reason or "?"] += 1
                if not reason:
                    faults.append(text)
    for (folder, outcome), number in table.items():
        print(f"  {folder:26} {number:4}  {outcome}")
    assert not faults, "\n".join(faults)
    assert sum(n for (_, outcome), n in table.items() if outcome == "accepted") > 300


if __name__ == "__main__":
    # A sanitized daemon takes minutes for the definitions of others, and learns nothing from them.
    slow = [] if os.environ.get("INFERD_SANITIZE") else [manifests_of_other_projects]
    run_tests(json_patches, merge_patches, yaml_documents, selectors, broken_yaml, *slow)
