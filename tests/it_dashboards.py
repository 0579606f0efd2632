#!/usr/bin/env python3
"""What k9s, Lens, Headlamp and Argo CD ask, with their headers and queries, and what each does with the answers: k9s casts
tables unchecked, Headlamp drops old revisions and wants uids, Argo CD keeps a copy of every kind that can be listed and
watched and compares by applying on the server without storing."""
import collections

from harness import PATIENCE, Daemon, inference_service, run_tests, wait_for
from wire import (APPLY, DYNAMIC, MERGE, PROTOBUF, STRATEGIC, TABLE, TYPED, Client, envelope, message, object_meta,
                  path_of, query, resources)

DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
              "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {
                  "metadata": {"labels": {"app": "web"}},
                  "spec": {"containers": [{"name": "c", "image": "inferd/engine",
                                           "args": ["--model", "embedded://demo-chat"]}]}}}}
DEPLOYMENTS = path_of("apps/v1", "deployments", "default")
PODS = path_of("v1", "pods", "default")
CONFIG_MAPS = path_of("v1", "configmaps", "default")
REVIEWS = "/apis/authorization.k8s.io/v1/"


def access_review(namespace, verb, group, resource, sub=""):
    """SelfSubjectAccessReview as client-go's clientset writes it."""
    attributes = message((1, namespace), (2, verb), (3, group), (4, ""), (5, resource), (6, sub), (7, ""))
    spec = message((1, attributes))
    status = message((1, 0), (2, ""), (3, ""), (4, 0))
    return envelope("authorization.k8s.io/v1", "SelfSubjectAccessReview",
                    message((1, object_meta("")), (2, spec), (3, status)))


def may(client, *attributes):
    review = client.must(201, "POST", REVIEWS + "selfsubjectaccessreviews", access_review(*attributes),
                         accept=TYPED, kind=PROTOBUF)
    return review["status"]["allowed"]


def new_user(d, admin, role):
    """A ServiceAccount's token; in the namespace default the account has that ClusterRole."""
    d.kubectl("create", "serviceaccount", "guest")
    d.kubectl("create", "rolebinding", "guest", f"--clusterrole={role}", "--serviceaccount=default:guest")
    return d.kubectl("create", "token", "guest").stdout.strip()


def wait_available(d):
    d.kubectl("rollout", "status", "deployment/web", f"--timeout={PATIENCE}s", timeout=PATIENCE + 10)


def by_name(items):
    return {item["metadata"]["name"]: item for item in items}


# ---- k9s

def k9s_table(client, path):
    """A view's list: k9s casts the answer to a Table and reads the namespace from every row's object."""
    table = client.get(query(path, includeObject="Metadata", limit="500"), accept=TABLE)
    assert table["kind"] == "Table" and table["apiVersion"] == "meta.k8s.io/v1", path
    for row in table["rows"] or []:
        assert len(row["cells"]) == len(table["columnDefinitions"]), (path, row)
        assert row["object"]["kind"] == "PartialObjectMetadata" and row["object"]["metadata"]["name"], (path, row)
    names = [c["name"] for c in table["columnDefinitions"]]
    assert len(set(names)) == len(names) and table["columnDefinitions"][0]["type"] == "string", (path, names)
    return table


def k9s_informer(client, path):
    """client-go 0.35: state and events in one stream. Gives the watch, synced, and what it had."""
    watch = client.watch(query(path, allowWatchBookmarks="true", resourceVersionMatch="NotOlderThan",
                               sendInitialEvents="true", timeoutSeconds="300", watch="true"), DYNAMIC)
    end = watch.until(lambda kind, _: kind == "BOOKMARK")
    assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}, end
    return watch, end["object"], [e["object"] for e in watch.seen[:-1]]


def k9s_shows_everything(program):
    with Daemon(program) as d:
        admin = Client(d, "k9s/v0.51.0 (linux/amd64)")
        assert admin.get("/version?timeout=10s")["gitVersion"].startswith("v1.")
        d.apply(DEPLOYMENT)
        wait_available(d)
        found = resources(admin)
        assert ("events.k8s.io/v1", "events") in found  # k9s has no other view of events
        for (version, plural), entry in found.items():
            if "list" not in entry["verbs"]:
                continue
            assert may(admin, "", "list", version.rpartition("/")[0], plural)
            path = path_of(version, plural)
            k9s_table(admin, path)
            if "watch" not in entry["verbs"]:
                continue
            watch, bookmark, state = k9s_informer(admin, path)
            with watch:
                assert bookmark["kind"] == entry["responseKind"]["kind"], (path, bookmark)
                assert all(o["kind"] == bookmark["kind"] and o["apiVersion"] == version for o in state), path

        # A view that is open: the pod of a scaled Deployment appears, and its row has the columns of the list.
        columns = k9s_table(admin, PODS)["columnDefinitions"]
        watch, _, state = k9s_informer(admin, PODS)
        with watch:
            assert len(state) == 1
            scale = admin.get(DEPLOYMENTS + "/web/scale")
            assert scale["kind"] == "Scale" and scale["spec"]["replicas"] == 1
            admin.must(200, "PUT", DEPLOYMENTS + "/web/scale", {**scale, "spec": {"replicas": 2}})
            watch.until(lambda kind, o: kind == "MODIFIED" and o["metadata"]["name"] != state[0]["metadata"]["name"]
                        and (o["status"].get("containerStatuses") or [{}])[0].get("ready"))
        row = admin.get(PODS + "/" + state[0]["metadata"]["name"], accept=TABLE)
        assert [c["name"] for c in row["columnDefinitions"]] == [c["name"] for c in columns] and len(row["rows"]) == 1

        guest = Client(d, "k9s/v0.51.0 (linux/amd64)", new_user(d, admin, "view"))
        allowed = {resource: may(guest, "default", "list", group, resource) for group, resource in (
            ("", "pods"), ("", "secrets"), ("apps", "deployments"), ("serving.kserve.io", "inferenceservices"))}
        assert allowed == {"pods": True, "secrets": False, "deployments": True, "inferenceservices": True}, allowed
        assert not may(guest, "", "list", "", "nodes") and not may(guest, "default", "create", "", "pods", "exec")
        refused = guest.must(403, "GET", query(path_of("v1", "nodes"), includeObject="Metadata", limit="500"), accept=TABLE)
        assert refused["reason"] == "Forbidden" and refused["kind"] == "Status"


# ---- Lens

def lens_follows_its_stores(program):
    with Daemon(program) as d:
        lens = Client(d, "Lens", Accept_Language="en")
        versions = lens.get("/api")["versions"]
        groups = lens.get("/apis")["groups"]
        listed = [f"/api/{v}" for v in versions] + ["/apis/" + g["preferredVersion"]["groupVersion"] for g in groups]
        kinds = {}
        for path in listed:
            for entry in lens.get(path)["resources"]:
                if "/" not in entry["name"]:
                    kinds[path, entry["name"]] = entry
        assert ("/api/v1", "pods") in kinds and ("/apis/apps/v1", "deployments") in kinds
        # The cluster's identity is the uid of a namespace, and must stay.
        uid = lens.get("/api/v1/namespaces/default")["metadata"]["uid"]
        assert uid and lens.get("/api/v1/namespaces/kube-system")["metadata"]["uid"] != uid
        rules = lens.must(201, "POST", REVIEWS + "selfsubjectrulesreviews", {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "default"}})
        assert any("*" in r["verbs"] and "*" in r["resources"] for r in rules["status"]["resourceRules"]), rules
        nodes = lens.get("/api/v1/nodes")
        assert nodes["kind"] == "NodeList" and nodes["items"][0]["status"]["nodeInfo"]["kubeletVersion"]
        assert lens.get(query("/api/v1/services", labelSelector="operated-prometheus=true"))["items"] == []

        d.apply(DEPLOYMENT)
        wait_available(d)
        store = lens.get(PODS)
        pod, = store["items"]
        watch = lens.watch(query(PODS, resourceVersion=store["metadata"]["resourceVersion"], watch="1"))
        with watch:
            lens.must(200, "PATCH", DEPLOYMENTS + "/web", {"spec": {"template": {"metadata": {"annotations": {
                "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}}}}}, kind=STRATEGIC)
            gone = watch.until(lambda kind, o: kind == "DELETED" and o["metadata"]["name"] == pod["metadata"]["name"])
            assert gone["object"]["kind"] == "Pod"
        revisions = [int(e["object"]["metadata"]["resourceVersion"]) for e in watch.seen]
        assert revisions == sorted(set(revisions)) and revisions[0] > int(store["metadata"]["resourceVersion"])
        # Its editor sends what changed as a JSON patch, and its menu deletes in the background.
        lens.must(200, "PATCH", DEPLOYMENTS + "/web", [{"op": "replace", "path": "/spec/replicas", "value": 0}],
                  kind="application/json-patch+json")
        lens.must(200, "DELETE", DEPLOYMENTS + "/web", {"propagationPolicy": "Background"})
        wait_for("the Deployment's own to go", lambda: not lens.get(path_of("apps/v1", "replicasets", "default"))["items"])
        assert lens.get("/api/v1/namespaces/default")["metadata"]["uid"] == uid


# ---- Headlamp

def put_over_live(browser):
    """One press of Apply; gives what was sent, or None when the object had changed meanwhile."""
    live = browser.get(DEPLOYMENTS + "/web")
    edited = {**DEPLOYMENT, "metadata": {**DEPLOYMENT["metadata"], "labels": {"by": "headlamp"},
                                         "resourceVersion": live["metadata"]["resourceVersion"]}}
    answer = browser.send("PUT", DEPLOYMENTS + "/web", edited)
    assert answer.status in (200, 409), answer.raw
    return answer.status == 200 and edited


def headlamp_logs_in_applies_and_scales(program):
    with Daemon(program) as d:
        browser = Client(d, "Mozilla/5.0", X_Forwarded_Host="headlamp", Sec_Fetch_Mode="cors")
        assert browser.send("GET", "/healthz").raw == b"ok"
        login = browser.must(201, "POST", REVIEWS + "selfsubjectrulesreviews", {"spec": {"namespace": "default"}})
        assert login["kind"] == "SelfSubjectRulesReview" and login["status"]["incomplete"] is False
        nobody = Client(d, "Mozilla/5.0", "not-a-token")
        assert nobody.must(401, "POST", REVIEWS + "selfsubjectrulesreviews", {"spec": {}})["reason"] == "Unauthorized"
        button = browser.must(201, "POST", REVIEWS + "selfsubjectaccessreviews", {
            "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "spec": {"resourceAttributes": {"name": "web", "namespace": "default", "verb": "patch", "group": "apps",
                                            "version": "v1", "resource": "deployments", "subresource": "scale"}}})
        assert button["status"]["allowed"] is True and button["spec"]["resourceAttributes"]["name"] == "web"
        me = browser.must(201, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {
            "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"})
        assert me["status"]["userInfo"]["username"] == "admin"
        only = "application/json;v=v2;g=apidiscovery.k8s.io;as=APIGroupDiscoveryList"
        for root in ("/api", "/apis"):
            assert browser.send("GET", root, accept=only).json["items"]
        assert browser.get("/openapi/v2")["definitions"]
        # It tries the versions of a kind until one lists.
        missing = browser.must(404, "GET", "/apis/networking.k8s.io/v1beta1/ingresses")
        assert missing["kind"] == "Status"
        assert browser.get("/apis/networking.k8s.io/v1/ingresses")["items"] == []

        # Applying is POST, and PUT with the live revision when it is there already.
        browser.must(201, "POST", DEPLOYMENTS, DEPLOYMENT)
        assert browser.must(409, "POST", DEPLOYMENTS, DEPLOYMENT)["reason"] == "AlreadyExists"
        wait_available(d)
        edited = wait_for("a PUT that no controller came before", lambda: put_over_live(browser))
        assert browser.must(409, "PUT", DEPLOYMENTS + "/web", edited)["reason"] == "Conflict"
        scaled = browser.must(200, "PATCH", DEPLOYMENTS + "/web/scale", {"spec": {"replicas": 0}}, kind=MERGE)
        assert scaled["kind"] == "Scale" and scaled["spec"]["replicas"] == 0
        for (version, plural), entry in resources(browser).items():
            if "list" in entry["verbs"]:
                items = browser.get(path_of(version, plural))["items"]
                uids = [o["metadata"].get("uid") for o in items]
                # Metrics have no uid on a cluster either.
                assert version.startswith("metrics.") or (all(uids) and len(set(uids)) == len(uids)), (plural, uids)
        # A list that is open follows by WebSocket, and drops what it knows by its revision.
        listed = browser.get(DEPLOYMENTS)
        revision = listed["metadata"]["resourceVersion"]
        with browser.watch_socket(query(DEPLOYMENTS, watch="1", resourceVersion=revision)) as live:
            restart = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}}
            browser.must(200, "PATCH", DEPLOYMENTS + "/web", restart, kind=STRATEGIC)
            live.until(lambda kind, o: kind == "MODIFIED" and "annotations" in o["spec"]["template"]["metadata"])
            browser.must(200, "DELETE", DEPLOYMENTS + "/web", {"propagationPolicy": "Background"})
            live.until(lambda kind, o: kind == "DELETED" and o["metadata"]["name"] == "web")
            assert all(int(e["object"]["metadata"]["resourceVersion"]) > int(revision) for e in live.seen)
            live.send(8, b"\x03\xe8")  # the tab is closed
            assert live.next() is None


# ---- Argo CD

TRACKING = "argocd.argoproj.io/tracking-id"
SERVER_SIDE = {"fieldManager": "argocd-controller", "force": "true"}


class Cache:
    """gitops-engine's: a copy of a kind, listed page by page, then watched from the list's revision."""

    def __init__(self, client, path, kind, limit):
        self.objects, pages, token = {}, 0, None
        self.revision = None
        while pages == 0 or token:
            page = client.get(query(path, limit=str(limit), _continue=token), accept=DYNAMIC)
            assert page["kind"] == kind + "List" and len(page["items"]) <= limit, path
            token, pages = page["metadata"].get("continue"), pages + 1
            assert self.revision in (None, page["metadata"]["resourceVersion"]), "pages are of one revision"
            self.revision = page["metadata"]["resourceVersion"]
            for o in page["items"]:
                assert o["metadata"]["uid"] not in self.objects, "twice in the pages"
                self.objects[o["metadata"]["uid"]] = o
        self.pages = pages
        self.watch = client.watch(query(path, allowWatchBookmarks="true", resourceVersion=self.revision,
                                        timeoutSeconds="600", watch="true"), DYNAMIC)

    def until(self, fits):
        def keep(kind, o):
            if kind == "DELETED":
                del self.objects[o["metadata"]["uid"]]  # every DELETED is of something that was there
            elif kind in ("ADDED", "MODIFIED"):
                assert (kind == "MODIFIED") == (o["metadata"]["uid"] in self.objects), (kind, o["metadata"])
                self.objects[o["metadata"]["uid"]] = o
            return fits(kind, o)
        return self.watch.until(keep)["object"]


def without_bookkeeping(o):
    metadata = {k: v for k, v in o["metadata"].items() if k not in ("managedFields", "resourceVersion", "generation")}
    return {**{k: v for k, v in o.items() if k != "status"}, "metadata": metadata}


def differs(argo, path, manifest):
    """Server-side diff: what an apply would make of the live object, compared with that."""
    live = argo.get(path)
    predicted = argo.must(200, "PATCH", query(path, dryRun="All", **SERVER_SIDE), manifest, kind=APPLY)
    assert argo.get(path)["metadata"]["generation"] == live["metadata"]["generation"]
    return without_bookkeeping(live) != without_bookkeeping(predicted)


def argo_cd_keeps_a_copy_and_syncs(program):
    with Daemon(program) as d:
        argo = Client(d, "argocd-application-controller/v0.0.0 (linux/amd64) kubernetes/$Format")
        version = argo.get("/version")
        assert version["major"].isdigit() and version["minor"].isdigit()
        for i in range(25):
            argo.must(201, "POST", CONFIG_MAPS, {"metadata": {"name": f"c{i:02}", "labels": {"page": "yes"}}})
        caches = {}
        for (group_version, plural), entry in resources(argo).items():
            if {"list", "watch"} <= set(entry["verbs"]):
                kind = entry["responseKind"]["kind"]
                limit = 10 if plural == "configmaps" else 500
                caches[group_version, plural] = Cache(argo, path_of(group_version, plural), kind, limit)
                assert may(argo, "", "list", group_version.rpartition("/")[0], plural)
        assert caches["v1", "configmaps"].pages >= 3 and len(caches) > 30
        deployments, pods = caches["apps/v1", "deployments"], caches["v1", "pods"]
        sets, maps = caches["apps/v1", "replicasets"], caches["v1", "configmaps"]

        # Sync: dry run, then apply; the live state arrives by the watches, and owners lead to the tree.
        app = {**DEPLOYMENT, "metadata": {**DEPLOYMENT["metadata"], "annotations": {
            TRACKING: "app:apps/Deployment:default/web"}, "labels": {"app.kubernetes.io/instance": "app"}}}
        path = DEPLOYMENTS + "/web"
        predicted = argo.must(201, "PATCH", query(path, dryRun="All", **SERVER_SIDE), app, kind=APPLY)
        assert predicted["metadata"]["annotations"][TRACKING] and "resourceVersion" not in predicted["metadata"]
        argo.must(404, "GET", path)
        argo.must(201, "PATCH", query(path, **SERVER_SIDE), app, kind=APPLY)
        live = deployments.until(lambda kind, o: o.get("status", {}).get("availableReplicas") == 1)
        assert live["metadata"]["annotations"][TRACKING] == "app:apps/Deployment:default/web"
        pod = pods.until(lambda kind, o: kind == "MODIFIED" and o["status"].get("phase") == "Running")
        owner = pod["metadata"]["ownerReferences"][0]
        sets.until(lambda kind, o: o["metadata"]["uid"] == owner["uid"])
        above = sets.objects[owner["uid"]]["metadata"]["ownerReferences"][0]
        assert (above["kind"], above["uid"]) == ("Deployment", live["metadata"]["uid"])

        # Compared: in sync. Somebody scales it: out of sync, until the next sync takes it back.
        assert not differs(argo, path, app)
        argo.must(200, "PATCH", query(path, fieldManager="hand"), {"spec": {"replicas": 2}}, kind=MERGE)
        assert differs(argo, path, app)
        synced = argo.must(200, "PATCH", query(path, **SERVER_SIDE), app, kind=APPLY)
        assert synced["spec"]["replicas"] == 1 and not differs(argo, path, app)
        assert [f["manager"] for f in synced["metadata"]["managedFields"] if f["operation"] == "Apply"] == ["argocd-controller"]

        # An InferenceService is a custom resource: its health is its conditions'.
        service = inference_service("llm", "embedded://demo-chat")
        services = path_of("serving.kserve.io/v1beta1", "inferenceservices", "default", "llm")
        argo.must(201, "PATCH", query(services, **SERVER_SIDE), service, kind=APPLY)
        isvcs = caches["serving.kserve.io/v1beta1", "inferenceservices"]
        isvcs.until(lambda kind, o: any(c["type"] == "Ready" and c["status"] == "True"
                                        for c in o.get("status", {}).get("conditions", [])))
        assert not differs(argo, services, service)

        # Pruned in the foreground: what is owned goes first, and every cache hears of it.
        answer = argo.must(200, "DELETE", path, {"propagationPolicy": "Foreground"})
        assert answer["metadata"]["finalizers"] == ["foregroundDeletion"] and answer["metadata"]["deletionTimestamp"]
        gone = [cache.until(lambda kind, o, uid=uid: kind == "DELETED" and o["metadata"]["uid"] == uid)
                for cache, uid in ((sets, owner["uid"]), (deployments, live["metadata"]["uid"]))]
        order = [int(o["metadata"]["resourceVersion"]) for o in gone]
        assert order == sorted(order), "the ReplicaSet before its Deployment"
        argo.must(200, "DELETE", query(CONFIG_MAPS, labelSelector="page=yes"))
        left = collections.Counter()
        while left["DELETED"] < 25:
            maps.until(lambda kind, o: left.update([kind]) or kind == "DELETED")
        assert not any(o["metadata"]["name"].startswith("c0") for o in maps.objects.values())
        for cache in caches.values():
            cache.watch.__exit__()


if __name__ == "__main__":
    run_tests(k9s_shows_everything, lens_follows_its_stores, headlamp_logs_in_applies_and_scales,
              argo_cd_keeps_a_copy_and_syncs)
