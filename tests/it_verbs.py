#!/usr/bin/env python3
"""The verbs with a client's eye: what each answers, what it leaves behind, and what it must not touch. One
daemon, one connection a section; nothing here that kubectl asks (tests/kubectl_dialect.sh)."""
import contextlib
import http.client
import json
import re
import ssl

from harness import PATIENCE, Daemon, run_tests, wait_for

CM = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
APPLY = "application/apply-patch+yaml"


class Api:
    """One connection to the daemon, as admin."""

    def __init__(self, d):
        self.host = d.kube.split("://")[1]
        self.token = (d.data / "pki" / "tokens.csv").read_text().split(",")[0]
        self.connection = self.connect()

    def connect(self):
        return http.client.HTTPSConnection(self.host, context=ssl._create_unverified_context(), timeout=PATIENCE)

    def head(self, headers):
        return {"Authorization": "Bearer " + self.token, "Accept": "application/json", **(headers or {})}

    def raw(self, method, path, body=None, headers=None):
        """Gives (status, headers, bytes)."""
        data = body if isinstance(body, (str, bytes, type(None))) else json.dumps(body)
        try:
            self.connection.request(method, path, data, self.head(headers))
            answer = self.connection.getresponse()
            got = answer.status, answer.headers, answer.read()
        except (ConnectionError, http.client.HTTPException):
            self.connection = self.connect()
            raise
        if answer.headers.get("Connection") == "close":
            self.connection = self.connect()
        return got

    def call(self, method, path, body=None, kind=None):
        """Gives (status, parsed answer)."""
        kind = kind or ("application/merge-patch+json" if method == "PATCH" else "application/json")
        status, _, text = self.raw(method, path, body, {"Content-Type": kind})
        return status, json.loads(text or b"null")

    def expect(self, want, method, path, body=None, kind=None):
        status, answer = self.call(method, path, body, kind)
        assert status == want, (method, path, body, status, answer)
        return answer

    def refused(self, want, reason, says, method, path, body=None, kind=None):
        answer = self.expect(want, method, path, body, kind)
        assert answer["kind"] == "Status" and answer["code"] == want and answer["reason"] == reason, answer
        assert re.search(says, answer["message"]), (says, answer)
        return answer

    def revision(self):
        return int(self.expect(200, "GET", CM)["metadata"]["resourceVersion"])

    @contextlib.contextmanager
    def watch(self, path, headers=None):
        """Gives a function that reads the next event, or None at the end."""
        connection = self.connect()
        connection.request("GET", path, headers=self.head(headers))
        answer = connection.getresponse()
        assert answer.status == 200 and answer.headers["Content-Type"] == "application/json", (path, answer.status)

        def following():
            line = answer.readline()
            return json.loads(line) if line else None
        try:
            yield following
        finally:
            connection.close()


def config_map(name, **more):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **more}, "data": {"a": "1"}}


def deployment(name, replicas=0):
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
                     "template": {"metadata": {"labels": {"app": name}},
                                  "spec": {"containers": [{"name": "c", "image": "host", "command": ["/bin/true"]}]}}}}


def names(answer):
    return [item["metadata"]["name"] for item in answer["items"]]


def wait_gone(api, path):
    wait_for(f"{path} to be gone", lambda: api.call("GET", path)[0] == 404)


# ---- watch ----

def watch_starts_and_ends(d, api):
    """Initial events, bookmarks, timeoutSeconds."""
    api.expect(201, "POST", CM, config_map("w1"))
    with api.watch(CM + "?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Dw1") as following:
        assert following()["type"] == "ADDED"
        assert following() is None, "an event that nobody asked for"
    with api.watch(CM + "?watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion=0"
                   "&fieldSelector=metadata.name%3Dw1") as following:
        assert following()["type"] == "ADDED"
        last = following()
        assert last["type"] == "BOOKMARK", last
        assert set(last["object"]) == {"kind", "apiVersion", "metadata"} and last["object"]["kind"] == "ConfigMap", last
        assert set(last["object"]["metadata"]) <= {"resourceVersion", "creationTimestamp"}, last
        assert following() is None
    query = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=5"
    with api.watch(f"{CM}?watch=1{query}&labelSelector=none%3Dsuch") as following:
        end = following()
        assert end["type"] == "BOOKMARK", end
        assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}, end
    with api.watch(f"{CM}?watch=1{query}&fieldSelector=metadata.name%3Dw1") as following:
        first, end = following(), following()
        assert (first["type"], end["type"]) == ("ADDED", "BOOKMARK"), (first, end)
        assert int(end["object"]["metadata"]["resourceVersion"]) >= int(first["object"]["metadata"]["resourceVersion"])
        api.expect(200, "PATCH", CM + "/w1", {"data": {"a": "2"}})
        assert following()["type"] == "MODIFIED"
    future = api.revision() + 1000
    with api.watch(f"{CM}?watch=1&timeoutSeconds=1&resourceVersion={future}") as following:
        assert following() is None
    api.refused(504, "Timeout", "Too large resource version", "GET", f"{CM}?watch=1{query}&resourceVersion={future}")
    api.expect(200, "DELETE", CM + "/w1")


def watch_shows_what_matches(d, api):
    """Selectors turn MODIFIED into ADDED and DELETED; what is deleted is the last that matched, with the
    revision of the change."""
    api.expect(201, "POST", CM, config_map("s1"))
    since = api.revision()
    with api.watch(f"{CM}?watch=1&labelSelector=on%3Dyes&resourceVersion={since}") as following:
        api.expect(200, "PATCH", CM + "/s1", {"metadata": {"labels": {"on": "yes"}}})
        api.expect(200, "PATCH", CM + "/s1", {"data": {"a": "2"}})
        last = api.expect(200, "PATCH", CM + "/s1", {"metadata": {"labels": {"on": "no"}}, "data": {"a": "3"}})
        api.expect(200, "PATCH", CM + "/s1", {"data": {"a": "4"}})
        back = api.expect(200, "PATCH", CM + "/s1", {"metadata": {"labels": {"on": "yes"}}})
        api.expect(200, "DELETE", CM + "/s1")
        events = [following() for _ in range(5)]
        assert [e["type"] for e in events] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"], events
        left = events[2]["object"]
        assert left["data"] == {"a": "2"} and left["metadata"]["labels"] == {"on": "yes"}, left
        assert left["metadata"]["resourceVersion"] == last["metadata"]["resourceVersion"], left
        assert int(events[4]["object"]["metadata"]["resourceVersion"]) > int(back["metadata"]["resourceVersion"])
    forms = {"Table": "rows", "PartialObjectMetadata": "metadata"}
    for form, part in forms.items():
        api.expect(201, "POST", CM, config_map("s2"))
        accept = {"Accept": f"application/json;as={form};v=v1;g=meta.k8s.io"}
        with api.watch(f"{CM}?watch=1&resourceVersion={api.revision()}", accept) as following:
            api.expect(200, "DELETE", CM + "/s2")
            event = following()
            assert event["type"] == "DELETED" and event["object"]["kind"] == form and event["object"][part], event


def watch_says_that_history_is_gone(program):
    with Daemon(program, config="historyEventsMax: 100\n") as d:
        api = Api(d)
        first = api.expect(201, "POST", CM, config_map("h"))["metadata"]["resourceVersion"]
        listed = api.expect(200, "GET", "/api/v1/configmaps?limit=1")["metadata"]["continue"]
        number = iter(range(1_000_000))

        def gone():
            for _ in range(100):
                api.expect(200, "PATCH", CM + "/h", {"data": {"n": str(next(number))}})
            with api.watch(f"{CM}?watch=1&timeoutSeconds=1&resourceVersion={first}") as following:
                event = following()
                if event["type"] == "ERROR":
                    assert following() is None, "the watch goes on after its history is gone"
                    return event
        status = wait_for("history to be compacted", gone)["object"]
        assert status["kind"] == "Status" and status["reason"] == "Expired" and status["code"] == 410, status
        assert re.match(r"too old resource version: \d+ \(\d+\)$", status["message"]), status
        api.refused(410, "Expired", "too old", "GET", f"{CM}?resourceVersionMatch=Exact&resourceVersion={first}")
        answer = api.refused(410, "Expired", "inconsistent list", "GET", f"/api/v1/configmaps?continue={listed}")
        rest = api.expect(200, "GET", f"/api/v1/configmaps?continue={answer['metadata']['continue']}")
        assert rest["items"], rest


def bad_parameters_are_named(d, api):
    api.refused(400, "BadRequest", 'timeoutSeconds: Invalid value: "soon"', "GET", CM + "?watch=1&timeoutSeconds=soon")
    api.refused(400, "BadRequest", "field label not supported: spec.x", "GET", CM + "?watch=1&fieldSelector=spec.x%3D1")
    answer = api.refused(422, "Invalid", 'SelfSubjectAccessReview.authorization.k8s.io "" is invalid: spec.resourceAttributes', "POST",
                         "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": {}})
    assert answer["details"]["kind"] == "SelfSubjectAccessReview", answer


# ---- deletion ----

def collections_are_deleted_as_selected(d, api):
    for name, tier in (("c1", "a"), ("c2", "a"), ("c3", "b")):
        api.expect(201, "POST", CM, config_map(name, labels={"tier": tier}))
    before = api.revision()
    for query, body in (("&dryRun=All", None), ("", {"dryRun": ["All"]})):
        answer = api.expect(200, "DELETE", CM + "?labelSelector=tier%3Da" + query, body)
        assert answer["kind"] == "ConfigMapList" and names(answer) == ["c1", "c2"], answer
    assert api.revision() == before, "a dry run of a deletion has changed something"
    api.refused(409, "Conflict", "Precondition failed: UID", "DELETE", CM + "?labelSelector=tier%3Da",
                {"preconditions": {"uid": "another"}})
    api.refused(422, "Invalid", "propagationPolicy", "DELETE", CM + "?labelSelector=tier%3Da", {"propagationPolicy": "Sideways"})
    api.refused(400, "BadRequest", "unable to parse requirement", "DELETE", CM + "?labelSelector=a%20b")
    assert names(api.expect(200, "DELETE", CM + "?labelSelector=tier%3Da&fieldSelector=metadata.name%21%3Dc2")) == ["c1"]
    assert names(api.expect(200, "DELETE", CM + "?labelSelector=tier")) == ["c2", "c3"]
    assert names(api.expect(200, "DELETE", CM + "?labelSelector=tier")) == []
    api.expect(201, "POST", CM, config_map("c4", labels={"tier": "a"}, finalizers=["example.com/held"]))
    held = api.expect(200, "DELETE", CM + "?labelSelector=tier")["items"][0]
    assert held["metadata"]["deletionTimestamp"], held
    api.expect(200, "PATCH", CM + "/c4", {"metadata": {"finalizers": None}})
    wait_gone(api, CM + "/c4")
    api.refused(405, "MethodNotAllowed", "does not allow", "DELETE", "/api/v1/namespaces")


def preconditions_and_finalizers(d, api):
    made = api.expect(201, "POST", CM, config_map("p1", finalizers=["example.com/held"]))["metadata"]
    path = CM + "/p1"
    api.refused(409, "Conflict", "Precondition failed: UID", "DELETE", path, {"preconditions": {"uid": "x"}})
    api.refused(409, "Conflict", "Precondition failed: ResourceVersion", "DELETE", path,
                {"preconditions": {"resourceVersion": "1"}})
    for body, says in (({"propagationPolicy": "x"}, "propagationPolicy: Unsupported value"),
                       ({"propagationPolicy": "Orphan", "orphanDependents": True}, "cannot be both set"),
                       ({"dryRun": ["Some"]}, "dryRun: Unsupported value")):
        answer = api.refused(422, "Invalid", says, "DELETE", path, body)
        assert answer["details"]["kind"] == "DeleteOptions" and answer["details"]["group"] == "meta.k8s.io", answer
    for body in ("garbage", {"gracePeriodSeconds": "soon"}, {"kind": "ConfigMap", "apiVersion": "v1"}, []):
        api.refused(400, "BadRequest", ".", "DELETE", path, body)
    api.refused(400, "BadRequest", "gracePeriodSeconds", "DELETE", path + "?gracePeriodSeconds=soon")
    going = api.expect(200, "DELETE", path, {"preconditions": {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}})
    assert going["kind"] == "ConfigMap" and going["metadata"]["deletionTimestamp"], going
    assert going["metadata"]["deletionGracePeriodSeconds"] == 0, going
    again = api.expect(200, "DELETE", path)
    assert again["metadata"]["resourceVersion"] == going["metadata"]["resourceVersion"], (going, again)
    api.refused(422, "Invalid", "no new finalizers can be added", "PATCH", path, {"metadata": {"finalizers": ["example.com/other"]}})
    api.refused(409, "AlreadyExists", "object is being deleted: configmaps \"p1\" already exists", "POST", CM, config_map("p1"))
    with api.watch(f"{CM}?watch=1&fieldSelector=metadata.name%3Dp1&resourceVersion={going['metadata']['resourceVersion']}") as following:
        gone = api.expect(200, "PATCH", path, {"metadata": {"finalizers": None}})
        event = following()
        assert event["type"] == "DELETED", event
        assert gone["metadata"]["name"] == "p1", gone
    api.refused(404, "NotFound", "configmaps \"p1\" not found", "DELETE", path)
    done = api.expect(201, "POST", CM, config_map("p2"))
    success = api.expect(200, "DELETE", CM + "/p2")
    assert success["status"] == "Success" and success["details"] == {"name": "p2", "kind": "configmaps", "uid": done["metadata"]["uid"]}, success


def owners_take_their_dependents_along(d, api):
    def family(policy, **query):
        owner = api.expect(201, "POST", CM, config_map("owner"))["metadata"]
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"], "blockOwnerDeletion": True}
        api.expect(201, "POST", CM, config_map("dependent", ownerReferences=[reference]))
        return api.expect(200, "DELETE", CM + "/owner" + query.get("query", ""), policy)
    answer = family({"propagationPolicy": "Background"})
    assert answer["status"] == "Success", answer
    wait_gone(api, CM + "/dependent")
    answer = family({"propagationPolicy": "Foreground"})
    assert answer["metadata"]["finalizers"] == ["foregroundDeletion"], answer
    wait_gone(api, CM + "/owner")
    assert api.call("GET", CM + "/dependent")[0] == 404
    for policy, query in (({"propagationPolicy": "Orphan"}, ""), ({"orphanDependents": True}, ""), (None, "?propagationPolicy=Orphan"),
                          (None, "?orphanDependents=true")):
        answer = family(policy, query=query)
        assert answer["metadata"]["finalizers"] == ["orphan"], (policy, query, answer)
        wait_gone(api, CM + "/owner")
        assert "ownerReferences" not in api.expect(200, "GET", CM + "/dependent")["metadata"]
        api.expect(200, "DELETE", CM + "/dependent")


# ---- dry run ----

def dry_runs_leave_nothing(d, api):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"count/secrets": "1"}}}
    quotas = "/api/v1/namespaces/default/resourcequotas"
    api.expect(201, "POST", quotas, quota)
    wait_for("the quota to count", lambda: api.expect(200, "GET", quotas + "/few").get("status", {}).get("used"))
    api.expect(201, "POST", CM, config_map("d1"))
    api.expect(201, "POST", DEPLOYMENTS, deployment("d2"))
    settled = wait_for("the deployment to be observed", lambda: (
        lambda o: o if o.get("status", {}).get("observedGeneration") else None)(api.expect(200, "GET", DEPLOYMENTS + "/d2")))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
    deployed = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d2"}, "spec": {"replicas": 3}}
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d2"}, "spec": {"replicas": 5}}
    strategic = "application/strategic-merge-patch+json"
    patch = [{"op": "add", "path": "/data/x", "value": "y"}]
    settle(api)
    before = api.revision()
    tries = [
        (201, "POST", CM, config_map("new"), None),
        (201, "POST", CM, {"metadata": {"generateName": "new-"}}, None),
        (201, "POST", "/api/v1/namespaces/default/secrets", secret, None),
        (200, "PUT", CM + "/d1", {**config_map("d1"), "data": {"z": "1"}}, None),
        (200, "PATCH", CM + "/d1", {"data": {"z": "1"}}, None),
        (200, "PATCH", CM + "/d1", {"data": {"z": "1"}}, strategic),
        (200, "PATCH", CM + "/d1", patch, "application/json-patch+json"),
        (200, "PATCH", CM + "/d1?fieldManager=m&force=true", config_map("d1"), APPLY),
        (201, "PATCH", CM + "/d9?fieldManager=m", config_map("d9"), APPLY),
        (200, "DELETE", CM + "/d1", None, None),
        (200, "DELETE", CM, None, None),
        (200, "PATCH", DEPLOYMENTS + "/d2", {"spec": {"replicas": 7}}, None),
        (200, "PATCH", DEPLOYMENTS + "/d2?fieldManager=m&force=true", deployed, APPLY),
        (200, "PATCH", DEPLOYMENTS + "/d2/status", {"status": {"replicas": 9}}, None),
        (200, "PATCH", DEPLOYMENTS + "/d2/scale", {"spec": {"replicas": 5}}, None),
        (200, "PUT", DEPLOYMENTS + "/d2/scale", scale, None),
        (200, "DELETE", DEPLOYMENTS + "/d2", {"propagationPolicy": "Foreground"}, None),
        (201, "POST", "/api/v1/namespaces", {"metadata": {"name": "never"}}, None),
        (201, "POST", "/api/v1/namespaces/default/serviceaccounts/default/token", {"spec": {}}, None),
        (201, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
         {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}, None),
    ]
    for want, method, path, body, kind in tries:
        answer = api.expect(want, method, path + ("&" if "?" in path else "?") + "dryRun=All", body, kind)
        if want == 201 and path.split("?")[0] in (CM, CM + "/d9"):
            made = answer["metadata"]
            assert made["uid"] and made["creationTimestamp"] and "resourceVersion" not in made, answer
            assert made["name"].startswith(("new", "d9")), answer
    assert api.revision() == before, "a dry run has changed something"
    assert api.expect(200, "GET", DEPLOYMENTS + "/d2") == settled
    api.expect(201, "POST", "/api/v1/namespaces/default/secrets", secret)
    api.refused(403, "Forbidden", "exceeded quota: few", "POST", "/api/v1/namespaces/default/secrets?dryRun=All",
                {**secret, "metadata": {"name": "t"}})
    for verb, path, body, kind in (("POST", CM, config_map("x"), "CreateOptions"), ("PUT", CM + "/d1", config_map("d1"), "UpdateOptions"),
                                   ("PATCH", CM + "/d1", {}, "PatchOptions"), ("DELETE", CM + "/d1", None, "DeleteOptions")):
        answer = api.refused(422, "Invalid", "dryRun: Unsupported value", verb, path + "?dryRun=Some", body)
        assert answer["details"]["kind"] == kind, answer
    for path in (CM + "/d1", DEPLOYMENTS + "/d2", "/api/v1/namespaces/default/secrets/s", quotas + "/few"):
        api.expect(200, "DELETE", path)


def settle(api):
    """Waits until two looks see the same revision: the controllers have nothing left to write."""
    seen = []

    def same():
        seen.append(api.revision())
        return len(seen) > 3 and len(set(seen[-4:])) == 1
    wait_for("the controllers to come to rest", same)


def namespaces_can_be_finalized(d, api):
    """The door for a namespace that hangs: kubectl replace --raw /api/v1/namespaces/X/finalize."""
    path = "/api/v1/namespaces/stuck"
    inside = path + "/configmaps"
    api.expect(201, "POST", "/api/v1/namespaces", {"metadata": {"name": "stuck"}})
    whole = api.expect(200, "GET", path)
    assert whole["spec"]["finalizers"] == ["kubernetes"], whole
    api.expect(201, "POST", inside, config_map("held", finalizers=["example.com/held"]))
    api.refused(405, "MethodNotAllowed", "does not allow", "GET", path + "/finalize")
    api.refused(400, "BadRequest", "does not match the name on the URL", "PUT", path + "/finalize", {"metadata": {"name": "x"}})
    api.refused(409, "Conflict", "modified", "PUT", path + "/finalize", {"metadata": {"name": "stuck", "resourceVersion": "1"}})
    kept = api.expect(200, "PUT", path + "/finalize", {"metadata": {"name": "stuck"}, "spec": {"finalizers": ["kubernetes", "example.com/b"]}})
    assert kept["spec"]["finalizers"] == ["kubernetes", "example.com/b"], kept
    going = api.expect(200, "DELETE", path)
    assert going["status"]["phase"] == "Terminating", going
    answer = api.refused(403, "Forbidden", "because it is being terminated", "POST", inside, config_map("late"))
    assert answer["details"]["causes"][0]["reason"] == "NamespaceTerminating", answer
    hangs = {**api.expect(200, "GET", path), "spec": {"finalizers": []}}
    del hangs["metadata"]["resourceVersion"]  # the controller goes on writing what remains
    d.kubectl("replace", "--raw", path + "/finalize", "-f", "-", stdin=json.dumps(hangs))
    assert api.call("GET", path)[0] == 404
    api.expect(200, "PATCH", inside + "/held", {"metadata": {"finalizers": None}})
    api.call("DELETE", inside + "/held")
    resources = api.expect(200, "GET", "/api/v1")["resources"]
    verbs = {r["name"]: r["verbs"] for r in resources}
    assert verbs["namespaces/finalize"] == ["update"] and "deletecollection" not in verbs["namespaces"], verbs


def quotas_are_asked_on_update(d, api):
    services, quotas = "/api/v1/namespaces/default/services", "/api/v1/namespaces/default/resourcequotas"
    api.expect(201, "POST", quotas, {"metadata": {"name": "ports"}, "spec": {"hard": {"services.nodeports": "1"}}})
    api.expect(201, "POST", services, {"metadata": {"name": "s"}, "spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}})
    for query in ("?dryRun=All", ""):
        api.refused(403, "Forbidden", "exceeded quota: ports, requested: services.nodeports=2, used: services.nodeports=0", "PATCH",
                    services + "/s" + query, {"spec": {"type": "NodePort"}})
    api.expect(200, "PATCH", services + "/s", {"spec": {"type": "NodePort", "ports": [{"name": "a", "port": 80}]}})
    assert api.expect(200, "GET", quotas + "/ports")["status"]["used"]["services.nodeports"] == "1"
    api.expect(200, "PATCH", services + "/s", {"metadata": {"labels": {"a": "b"}}})
    api.expect(200, "PATCH", services + "/s", {"spec": {"type": "ClusterIP", "ports": [{"name": "a", "port": 80, "nodePort": None}]}})
    wait_for("the quota to be free again", lambda: api.expect(200, "GET", quotas + "/ports")["status"]["used"]["services.nodeports"] == "0")
    for path in (services + "/s", quotas + "/ports"):
        api.expect(200, "DELETE", path)


# ---- owners ----

def owners_of(api, path, field):
    """The (manager, operation, subresource) entries that own spec.FIELD."""
    entries = api.expect(200, "GET", path)["metadata"]["managedFields"]
    return sorted((e["manager"], e["operation"], e.get("subresource", "")) for e in entries
                  if "f:" + field in e["fieldsV1"].get("f:spec", {}))


def scale_can_be_applied(d, api):
    path = DEPLOYMENTS + "/scaled"
    whole = {k: v for k, v in deployment("scaled", 2).items()}
    api.expect(201, "PATCH", path + "?fieldManager=me", whole, APPLY)
    assert owners_of(api, path, "replicas") == [("me", "Apply", "")]

    def scale(replicas, **metadata):
        return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "scaled", **metadata}, "spec": {"replicas": replicas}}
    answer = api.refused(409, "Conflict", "Apply failed with 1 conflict: conflict with \"me\" using apps/v1: .spec.replicas",
                         "PATCH", path + "/scale?fieldManager=auto", scale(0), APPLY)
    assert answer["details"]["causes"][0]["reason"] == "FieldManagerConflict", answer
    done = api.expect(200, "PATCH", path + "/scale?fieldManager=auto&force=true", scale(0), APPLY)
    assert done["kind"] == "Scale" and done["spec"]["replicas"] == 0, done
    assert owners_of(api, path, "replicas") == [("auto", "Apply", "scale")]
    api.refused(422, "Invalid", "fieldManager: Required value", "PATCH", path + "/scale", scale(1), APPLY)
    api.refused(400, "BadRequest", "does not match the name on the URL", "PATCH", path + "/scale?fieldManager=auto", scale(1, name="x"), APPLY)
    api.refused(400, "BadRequest", "expected: autoscaling/v1 Scale", "PATCH", path + "/scale?fieldManager=auto", whole, APPLY)
    api.refused(409, "Conflict", "modified", "PATCH", path + "/scale?fieldManager=auto", scale(1, resourceVersion="1"), APPLY)
    d.kubectl("scale", "deployment/scaled", "--replicas=0")
    assert owners_of(api, path, "replicas") == [("auto", "Apply", "scale")], "nothing was changed, so nobody lost a field"
    d.kubectl("scale", "deployment/scaled", "--replicas=1")
    assert owners_of(api, path, "replicas") == [("kubectl", "Update", "scale")]
    # Who left the field out of his configuration leaves it alone from then on.
    del whole["spec"]["replicas"]
    api.expect(200, "PATCH", path + "?fieldManager=me", whole, APPLY)
    assert api.expect(200, "GET", path)["spec"]["replicas"] == 1
    api.expect(200, "DELETE", path)


def one_manager_has_one_set_whatever_the_version(d, api):
    """Two versions of a kind: what is applied through one is given up through the other."""
    paths = [f"/apis/autoscaling/{v}/namespaces/default/horizontalpodautoscalers/h" for v in ("v1", "v2")]
    target = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}, "maxReplicas": 3}
    one = {"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
           "spec": {**target, "minReplicas": 2, "targetCPUUtilizationPercentage": 60}}
    two = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": target}
    api.expect(201, "PATCH", paths[0] + "?fieldManager=me", one, APPLY)
    assert api.expect(200, "GET", paths[1])["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 60
    done = api.expect(200, "PATCH", paths[1] + "?fieldManager=me", two, APPLY)
    assert done["spec"]["minReplicas"] == 1, done
    entries = [e for e in done["metadata"]["managedFields"] if e["manager"] == "me"]
    assert len(entries) == 1 and "f:minReplicas" not in entries[0]["fieldsV1"]["f:spec"], entries
    api.expect(200, "DELETE", paths[0])


def subresources_are_shown_as_tables(d, api):
    api.expect(201, "POST", DEPLOYMENTS, deployment("shown", 3))
    columns = {sub: d.kubectl("get", "deployment", "shown", f"--subresource={sub}").stdout.split("\n")[0].split() for sub in ("status", "scale")}
    assert columns["status"][:3] == ["NAME", "READY", "UP-TO-DATE"] and columns["scale"] == ["NAME", "DESIRED", "AVAILABLE", "AGE"], columns
    row = d.kubectl("get", "deployment", "shown", "--subresource=scale", "--no-headers").stdout.split()
    assert row[:2] == ["shown", "3"], row
    api.expect(200, "DELETE", DEPLOYMENTS + "/shown")


# ---- methods and forms ----

def methods_that_are_not_there(d, api):
    api.expect(201, "POST", CM, config_map("m"))
    for method, path in (("POST", CM + "/m"), ("PUT", CM), ("PATCH", CM), ("OPTIONS", CM), ("OPTIONS", CM + "/m"),
                         ("DELETE", DEPLOYMENTS + "/m/scale"), ("POST", "/api/v1/configmaps"), ("DELETE", "/api/v1/configmaps"),
                         ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"), ("PUT", PODS + "/m/log"),
                         ("GET", PODS + "/m/eviction"), ("TRACE", CM), ("BREW", CM + "/m"), ("POST", "/version"),
                         ("PUT", "/api"), ("DELETE", "/apis/apps/v1"), ("POST", "/openapi/v2")):
        status, headers, text = api.raw(method, path, "{}" if method in ("POST", "PUT", "PATCH") else None, {"Content-Type": "application/json"})
        answer = json.loads(text)
        assert status == 405 and answer["reason"] == "MethodNotAllowed" and answer["code"] == 405, (method, path, status, text)
        assert headers["Content-Type"] == "application/json" and headers["Allow"], (method, path, headers.items())
    for path in (CM, CM + "/m", "/version", "/readyz", "/api", "/apis/apps/v1"):
        status, headers, text = api.raw("HEAD", path)
        assert status == 200 and not text and headers["Content-Type"], (path, status, headers.items(), text)
    status, _, text = api.raw("HEAD", CM + "/absent")
    assert status == 404 and not text
    status, headers, _ = api.raw("GET", CM + "/m")
    assert headers["Cache-Control"] == "no-cache, private", headers.items()


def forms_that_nobody_reads(d, api):
    for method, path in (("POST", CM), ("PUT", CM + "/m"), ("DELETE", CM + "/m"), ("PATCH", CM + "/m"), ("PATCH", DEPLOYMENTS + "/x/scale"),
                         ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")):
        if "scale" in path:
            api.expect(201, "POST", DEPLOYMENTS, deployment("x"))
        api.refused(415, "UnsupportedMediaType", "accepted media types include: application/", method, path, "a=b", "application/x-www-form-urlencoded")
    status, _, text = api.raw("PATCH", CM + "/m", "{}")
    assert status == 415, (status, text)
    status, _, text = api.raw("DELETE", CM + "/m", None, {"Content-Type": "application/json"})
    assert status == 200, (status, text)
    status, _, text = api.raw("POST", CM, json.dumps(config_map("m")))
    assert status == 201, (status, text)
    for accept in ("text/html", "application/json;as=Table;v=v9;g=meta.k8s.io", "application/xml;q=0.9, image/*"):
        for path in (CM, CM + "/m", CM + "?watch=1", DEPLOYMENTS + "/x/scale"):
            status, _, text = api.raw("GET", path, None, {"Accept": accept})
            answer = json.loads(text)
            assert status == 406 and answer["reason"] == "NotAcceptable", (accept, path, status, text)
            assert "application/json" in answer["message"], answer
    for accept in ("", "*/*", "application/*", "application/json, */*;q=0.8", "text/html, application/json", "application/vnd.kubernetes.protobuf, */*",
                   "application/json;v=v1;g=meta.k8s.io;as=Table, application/json", "application/vnd.kubernetes.protobuf,application/json"):
        status, headers, text = api.raw("GET", CM + "/m", None, {"Accept": accept})
        assert status == 200 and headers["Content-Type"] == "application/json", (accept, status, headers.items())
    for path in (CM + "/m", DEPLOYMENTS + "/x"):
        api.expect(200, "DELETE", path)


def sizes_have_bounds(d, api):
    """What is too long is refused with a Status, and the server is well after it."""
    for want, reason, path, headers, body in (
            (413, "RequestEntityTooLarge", CM, {}, json.dumps({**config_map("big"), "data": {"x": "y" * (3 << 20)}})),
            (414, None, CM + "?labelSelector=" + "a" * 70_000, {}, None),
            (431, None, CM, {"X-Long": "a" * 70_000}, None)):
        status, _, text = api.raw("POST" if body else "GET", path, body, headers)
        if reason is None:  # the HTTP library's own words; clients go by the code
            assert status == want, (status, text)
            continue
        answer = json.loads(text)
        assert status == want and answer["kind"] == "Status" and answer["code"] == want, (status, text)
        assert reason is None or answer["reason"] == reason, answer
    api.expect(200, "GET", CM)


# ---- the twenty rules ----

def booleans_are_as_kubernetes_reads_them(d, api):
    for value, true in (("True", 1), ("1", 1), ("", 1), ("yes", 1), ("0", 0), ("false", 0), ("FALSE", 0), ("False", 0)):
        status, headers, text = api.raw("GET", f"{CM}?watch={value}&timeoutSeconds=1&labelSelector=none")
        assert status == 200 and (b'"ConfigMapList"' not in text) == bool(true), (value, text)


def bodies_may_leave_things_out(d, api):
    """kind and apiVersion of built-in kinds, the slash at the end, chunks."""
    api.expect(201, "POST", CM, {"metadata": {"name": "b1"}, "data": {"a": "b"}})
    for path in ("/version/", "/api/", "/apis/", "/apis/apps/v1/", "/api/v1/", CM + "/"):
        assert api.raw("GET", path)[0] == 200, path
    connection = api.connect()
    connection.request("POST", CM, iter([b'{"metadata":', b'{"name":"b2"}}']), api.head({}), encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    connection.close()
    api.expect(200, "DELETE", CM + "/b1")
    api.expect(200, "DELETE", CM + "/b2")


def every_kind_is_read_alike(d, api):
    """Lists, watches, Tables, partial metadata and the field selector metadata.name, for all that discovery names."""
    kinds = []
    for group_version in ["api/v1"] + [f"apis/{v['groupVersion']}" for g in api.expect(200, "GET", "/apis")["groups"] for v in g["versions"]]:
        found = api.expect(200, "GET", "/" + group_version)
        assert found["kind"] == "APIResourceList" and found["resources"], found
        kinds += [(group_version, r) for r in found["resources"] if "list" in r["verbs"] and "/" not in r["name"]]
    assert len(kinds) > 40, len(kinds)
    watches = []
    for group_version, r in kinds:
        paths = [f"/{group_version}/{r['name']}"]
        if r["namespaced"]:
            paths.append(f"/{group_version}/namespaces/default/{r['name']}")
        for path in paths:
            for accept, kind in (("application/json", None), ("application/json;as=Table;v=v1;g=meta.k8s.io", "Table"),
                                 ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "PartialObjectMetadataList")):
                status, headers, text = api.raw("GET", path + "?limit=500", None, {"Accept": accept})
                assert status == 200 and headers["Content-Type"] == "application/json", (path, accept, status, text)
                answer = json.loads(text)
                measured = "metrics.k8s.io" in path  # nothing of it is stored, as in Kubernetes
                version = answer["metadata"].get("resourceVersion", "1" if measured else "")
                assert version.isdigit() and version[0] != "0", (path, answer["metadata"])
                assert answer["kind"] == (kind or r["kind"] + "List"), (path, answer["kind"])
                for item in answer.get("items", []):
                    assert measured or item["metadata"]["uid"], (path, item)
            none = api.expect(200, "GET", path + "?fieldSelector=metadata.name%3Dno-such-name")
            assert none["items"] == [], (path, none)
        name = f"{paths[-1]}/no-such-name"
        answer = api.expect(404, "GET", name)
        assert answer["reason"] == "NotFound" and answer["details"]["name"] == "no-such-name" and answer["details"]["kind"] == r["name"], answer
        if "watch" in r["verbs"]:
            watches.append(f"{paths[0]}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true&fieldSelector=metadata.name%3Dno-such-name")
    open_watches = []
    for path in watches:  # all at once: each lasts a second
        connection = api.connect()
        connection.request("GET", path, headers=api.head({}))
        open_watches.append((path, connection))
    for path, connection in open_watches:
        answer = connection.getresponse()
        events = [json.loads(line) for line in answer.read().splitlines()]
        assert answer.status == 200 and [e["type"] for e in events] == ["BOOKMARK"], (path, answer.status, events)
        connection.close()


SECTIONS = (every_kind_is_read_alike, subresources_are_shown_as_tables, scale_can_be_applied, one_manager_has_one_set_whatever_the_version,
            watch_starts_and_ends, watch_shows_what_matches, bad_parameters_are_named, collections_are_deleted_as_selected, preconditions_and_finalizers,
            owners_take_their_dependents_along, namespaces_can_be_finalized, quotas_are_asked_on_update, dry_runs_leave_nothing, methods_that_are_not_there, forms_that_nobody_reads,
            sizes_have_bounds, booleans_are_as_kubernetes_reads_them, bodies_may_leave_things_out)


def every_verb(program):
    with Daemon(program) as d:
        for section in SECTIONS:
            section(d, Api(d))
            print(f"  {section.__name__.replace('_', ' ')}", flush=True)


if __name__ == "__main__":
    run_tests(watch_says_that_history_is_gone, every_verb)
