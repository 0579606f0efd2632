#!/usr/bin/env python3
"""RBAC with the real kubectl: roles and bindings, who may what and why, what nobody may grant, whom one
may be in the eyes of the server, and what a restart heals."""
import contextlib
import http.client
import json
import ssl
import subprocess
import threading
import urllib.parse

from harness import PATIENCE, Daemon, run_tests, wait_for

NO = "Error from server (Forbidden): "
HELD = "is attempting to grant RBAC permissions not currently held:"


def fails(d, *arguments, stdin=None):
    """A kubectl that must fail; gives what it said."""
    done = d.kubectl(*arguments, check=False, stdin=stdin)
    assert done.returncode == 1, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stderr.strip()


def can(d, who, *question):
    done = d.kubectl("auth", "can-i", *question, "--as", who, check=False)
    answer = done.stdout.split()[0] if done.stdout else done.stderr
    assert (answer, done.returncode) in (("yes", 0), ("no", 1)), (question, done)
    return answer == "yes"


def raw(d, path, body, *arguments, check=True):
    """POSTs JSON and gives the answer, parsed."""
    done = d.kubectl("create", "--raw", path, "-f", "-", *arguments, stdin=json.dumps(body), check=check)
    return json.loads(done.stdout) if check else done.stderr


def kinds_and_commands(d):
    d.kubectl("create", "role", "reader", "--verb=get,list,watch", "--resource=pods,pods/log")
    d.kubectl("create", "role", "one", "--verb=get,list,watch,update", "--resource=configmaps",
              "--resource-name=mine")
    d.kubectl("create", "clusterrole", "ops", "--verb=get", "--non-resource-url=/metrics,/logs/*")
    d.kubectl("create", "clusterrole", "scaler", "--verb=get,update,patch", "--resource=deployments.apps/scale")
    d.kubectl("create", "rolebinding", "readers", "--role=reader", "--user=bob", "--group=devs",
              "--serviceaccount=default:robot")
    d.kubectl("create", "rolebinding", "ones", "--role=one", "--user=bob")
    d.kubectl("create", "rolebinding", "scalers", "--clusterrole=scaler", "--user=bob")
    d.kubectl("create", "clusterrolebinding", "viewers", "--clusterrole=view", "--user=ann")
    d.kubectl("create", "clusterrolebinding", "opss", "--clusterrole=ops", "--group=ops")
    d.kubectl("create", "rolebinding", "admins", "--clusterrole=admin", "--user=carol")
    shown = d.kubectl("get", "rolebinding", "readers", "-o", "wide").stdout.split("\n")
    assert shown[0].split() == ["NAME", "ROLE", "AGE", "USERS", "GROUPS", "SERVICEACCOUNTS"], shown
    assert shown[1].split()[1] == "Role/reader" and shown[1].split()[3:] == ["bob", "devs", "default/robot"], shown
    assert d.kubectl("get", "role", "reader").stdout.split()[:3] == ["NAME", "CREATED", "AT"]
    described = d.kubectl("describe", "rolebinding", "readers").stdout
    assert "ServiceAccount  robot  default" in described and "Kind:  Role" in described, described
    assert "pods/log" in d.kubectl("describe", "role", "reader").stdout
    subjects = d.get("rolebinding", "readers")["subjects"]
    assert subjects[0]["apiGroup"] == "rbac.authorization.k8s.io" and "apiGroup" not in subjects[2], subjects
    assert "aggregationRule" in d.kubectl("get", "clusterrole", "admin", "-o", "yaml").stdout
    # The rules of aggregated roles come from a controller.
    wait_for("admin to have what view has",
             lambda: "inferenceservices/status" in d.kubectl("get", "clusterrole", "admin", "-o", "yaml").stdout)


def reconcile(d):
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "rec", "namespace": "default"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
               "metadata": {"name": "rec", "namespace": "default"},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "rec"},
               "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "rita"}]}
    for verbs, said in ((["get"], "reconciled"), (["get", "list"], "reconciled"), (["list"], "reconciled")):
        role["rules"][0]["verbs"] = verbs
        both = json.dumps({"apiVersion": "v1", "kind": "List", "items": [role, binding]})
        assert said in d.kubectl("auth", "reconcile", "-f", "-", stdin=both).stdout
    assert can(d, "rita", "list", "pods") and can(d, "rita", "get", "pods")
    # A binding to another role is made anew: roleRef cannot be changed.
    binding["roleRef"].update(kind="ClusterRole", name="view")
    said = fails(d, "replace", "-f", "-", stdin=json.dumps(binding))
    assert 'The RoleBinding "rec" is invalid: roleRef: Invalid value: rbac.RoleRef{APIGroup:' \
        '"rbac.authorization.k8s.io", Kind:"ClusterRole", Name:"view"}: cannot change roleRef' in said, said
    d.kubectl("auth", "reconcile", "-f", "-", stdin=json.dumps(binding))
    assert d.get("rolebinding", "rec")["roleRef"]["name"] == "view"


def validation(d):
    base = "/apis/rbac.authorization.k8s.io/v1"
    post = lambda path, **body: raw(d, base + path, {"metadata": {"name": "bad"}, **body}, check=False)
    said = post("/namespaces/default/roles", rules=[{"nonResourceURLs": ["/x"], "verbs": []}])
    assert "rules[0].verbs: Required value: verbs must contain at least one value" in said, said
    assert 'rules[0].nonResourceURLs: Invalid value: []string{"/x"}: namespaced rules cannot apply to ' \
        'non-resource URLs' in said, said
    said = post("/clusterroles", rules=[{"verbs": ["get"]}])
    assert "rules[0].apiGroups: Required value: resource rules must supply at least one api group" in said, said
    assert "rules[0].resources: Required value: resource rules must supply at least one resource" in said, said
    said = post("/clusterroles", rules=[{"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}])
    assert "rules cannot apply to both regular resources and non-resource URLs" in said, said
    said = post("/clusterroles", aggregationRule={"clusterRoleSelectors": []})
    assert "at least one clusterRoleSelector required if aggregationRule is non-nil" in said, said
    said = post("/clusterrolebindings", roleRef={"kind": "Role", "name": "x"},
                subjects=[{"kind": "ServiceAccount", "name": "a"}, {"kind": "Robot", "name": "b"}])
    assert 'roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"' in said, said
    assert "subjects[0].namespace: Required value" in said, said
    assert 'subjects[1].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"' \
        in said, said


def answers(d):
    yes = (("bob", "list", "pods"), ("bob", "get", "pods", "--subresource=log"), ("bob", "get", "pods/log"),
           ("bob", "update", "configmaps/mine"), ("bob", "patch", "deployments.apps", "--subresource=scale"),
           ("ann", "list", "pods", "-A"), ("ann", "get", "inferenceservices.serving.kserve.io", "-n", "kube-system"),
           ("carol", "create", "rolebindings.rbac.authorization.k8s.io"), ("carol", "delete", "secrets"),
           ("system:serviceaccount:default:robot", "watch", "pods"), ("zed", "get", "/api"))
    no = (("bob", "delete", "pods"), ("bob", "list", "pods", "-n", "kube-system"), ("bob", "list", "pods", "-A"),
          ("bob", "update", "configmaps/other"), ("bob", "update", "configmaps"), ("bob", "get", "secrets"),
          ("ann", "get", "secrets"), ("ann", "create", "pods"), ("carol", "get", "nodes"), ("carol", "*", "*"),
          ("carol", "create", "rolebindings.rbac.authorization.k8s.io", "-n", "kube-system"),
          ("system:serviceaccount:kube-system:robot", "watch", "pods"), ("zed", "get", "/metrics"))
    for question in yes:
        assert can(d, *question), question
    for question in no:
        assert not can(d, *question), question
    ops = d.kubectl("auth", "can-i", "get", "/logs/a/b", "--as", "zed", "--as-group", "ops").stdout
    assert ops.strip() == "yes", ops
    listed = d.kubectl("auth", "can-i", "--list", "--as", "bob").stdout
    assert "pods/log" in listed and "[mine]" in listed and "secrets" not in listed, listed
    assert "*.*" in d.kubectl("auth", "can-i", "--list").stdout

    reviews = "/apis/authorization.k8s.io/v1"
    spec = {"user": "ann", "resourceAttributes": {"verb": "list", "resource": "pods"}}
    status = raw(d, reviews + "/subjectaccessreviews", {"spec": spec})["status"]
    assert status == {"allowed": True, "reason": 'RBAC: allowed by ClusterRoleBinding "viewers" of ClusterRole '
                                                 '"view" to User "ann"'}, status
    spec = {"groups": ["devs"], "resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}
    local = raw(d, reviews + "/namespaces/default/localsubjectaccessreviews", {"spec": spec})
    assert local["status"]["reason"] == 'RBAC: allowed by RoleBinding "readers/default" of Role "reader" to ' \
                                        'Group "devs"', local
    assert "spec.resourceAttributes.namespace must match namespace: kube-system" in raw(
        d, reviews + "/namespaces/kube-system/localsubjectaccessreviews", {"spec": spec}, check=False)
    assert "the server does not allow this method" in raw(
        d, reviews + "/localsubjectaccessreviews", {"spec": spec}, check=False)
    assert "could not find the requested resource" in raw(
        d, reviews + "/namespaces/default/subjectaccessreviews", {"spec": spec}, check=False)
    assert "at least one of user or group must be specified" in raw(
        d, reviews + "/subjectaccessreviews", {"spec": {"nonResourceAttributes": {"path": "/"}}}, check=False)
    assert "no namespace on request" in raw(d, reviews + "/selfsubjectrulesreviews", {"spec": {}}, check=False)
    # Asking about others is a right of its own.
    assert 'User "bob" cannot create resource "subjectaccessreviews" in API group "authorization.k8s.io" at ' \
        'the cluster scope' in raw(d, reviews + "/subjectaccessreviews", {"spec": spec}, "--as", "bob", check=False)


def refusals(d):
    user = lambda name: ("--as", name)
    expect = (
        (("get", "secrets", *user("bob")),
         'secrets is forbidden: User "bob" cannot list resource "secrets" in API group "" in the namespace "default"'),
        (("get", "pods", "-A", *user("bob")),
         'pods is forbidden: User "bob" cannot list resource "pods" in API group "" at the cluster scope'),
        (("get", "secret", "absent", *user("bob")),
         'secrets "absent" is forbidden: User "bob" cannot get resource "secrets" in API group "" in the '
         'namespace "default"'),
        (("get", "ns", "default", *user("bob")),
         'namespaces "default" is forbidden: User "bob" cannot get resource "namespaces" in API group "" in the '
         'namespace "default"'),
        (("delete", "deployment", "--all", *user("bob")),
         'deployments.apps is forbidden: User "bob" cannot list resource "deployments" in API group "apps" in '
         'the namespace "default"'),
        (("get", "--raw", "/metrics", *user("bob")), 'forbidden: User "bob" cannot get path "/metrics"'),
        (("get", "--raw", "/apis/nothing.example.com/v1/things", *user("bob")),
         'things.nothing.example.com is forbidden: User "bob" cannot list resource "things" in API group '
         '"nothing.example.com" at the cluster scope'),
    )
    for arguments, text in expect:
        said = fails(d, *arguments)
        assert said == NO + text, (said, text)
    # A right to a name covers lists and watches of that one object.
    d.kubectl("create", "configmap", "mine", "--from-literal=a=b")
    assert "mine" in d.kubectl("get", "cm", "--field-selector", "metadata.name=mine", *user("bob")).stdout
    assert 'configmaps "other" is forbidden: User "bob" cannot list' in fails(
        d, "get", "cm", "--field-selector", "metadata.name=other", *user("bob"))
    assert "configmaps is forbidden" in fails(d, "get", "cm", *user("bob"))
    # To delete all is a right of its own.
    d.kubectl("create", "role", "deleter", "--verb=delete", "--resource=configmaps")
    d.kubectl("create", "rolebinding", "deleters", "--role=deleter", "--user=del")
    said = fails(d, "delete", "--raw", "/api/v1/namespaces/default/configmaps", *user("del"))
    assert 'User "del" cannot deletecollection resource "configmaps"' in said, said
    # But a selector is no name where it selects nothing.
    d.kubectl("create", "role", "made", "--verb=create", "--resource=configmaps", "--resource-name=mine")
    d.kubectl("create", "rolebinding", "made", "--role=made", "--user=bob")
    said = raw(d, "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dmine",
               {"metadata": {"name": "other"}}, *user("bob"), check=False)
    assert 'User "bob" cannot create resource "configmaps"' in said, said
    # Who may patch may not create for that reason.
    d.kubectl("create", "role", "patcher", "--verb=patch,get", "--resource=configmaps")
    d.kubectl("create", "rolebinding", "patchers", "--role=patcher", "--user=pat")
    applied = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}})
    assert 'cannot create resource "configmaps"' in fails(
        d, "apply", "--server-side", "--validate=false", "-f", "-", "--as", "pat", stdin=applied)


def escalation(d):
    as_carol = ("--as", "carol")
    said = fails(d, "create", "role", "more", "--verb=get", "--resource=nodes,pods", *as_carol)
    assert said == NO + 'roles.rbac.authorization.k8s.io "more" is forbidden: user "carol" ' \
        '(groups=["system:authenticated"]) ' + HELD + '\n{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}', said
    d.kubectl("create", "role", "same", "--verb=get,delete", "--resource=secrets", *as_carol)
    wider = json.dumps([{"op": "add", "path": "/rules/0/verbs/-", "value": "frob"}])
    said = fails(d, "patch", "role", "same", "--type=json", "-p", wider, *as_carol)
    assert HELD + '\n{APIGroups:[""], Resources:["secrets"], Verbs:["frob"]}' in said, said
    d.kubectl("label", "role", "same", "a=b", *as_carol)
    said = fails(d, "create", "rolebinding", "root", "--clusterrole=cluster-admin", "--user=carol", *as_carol)
    assert HELD + '\n{APIGroups:["*"], Resources:["*"], Verbs:["*"]}\n{NonResourceURLs:["*"], Verbs:["*"]}' \
        in said, said
    said = fails(d, "create", "rolebinding", "root", "--clusterrole=nothing", "--user=carol", *as_carol)
    assert 'clusterrole.rbac.authorization.k8s.io "nothing" not found' in said, said
    d.kubectl("create", "rolebinding", "eyes", "--clusterrole=view", "--user=dave", *as_carol)
    d.kubectl("create", "role", "long", "--verb=get", "--resource=pods",
              *[f"--resource-name=a-pod-with-a-name-of-some-length-{i:02}" for i in range(40)])
    d.kubectl("create", "role", "role-writer", "--verb=create", "--resource=rolebindings")
    d.kubectl("create", "rolebinding", "role-writers", "--role=role-writer", "--user=lou")
    said = fails(d, "create", "rolebinding", "long", "--role=long", "--user=lou", "--as", "lou")
    shown = said.count("a-pod-with-a-name-of-some-length-")
    assert 3 < shown < 40 and said.endswith(f"\nand {40 - shown} more"), said
    # The verbs escalate and bind lift this.
    d.kubectl("create", "role", "granter", "--verb=escalate", "--resource=roles.rbac.authorization.k8s.io")
    d.kubectl("create", "clusterrole", "binder", "--verb=bind", "--resource=clusterroles.rbac.authorization.k8s.io",
              "--resource-name=cluster-admin")
    d.kubectl("create", "rolebinding", "granters", "--role=granter", "--user=carol")
    d.kubectl("create", "rolebinding", "binders", "--clusterrole=binder", "--user=carol")
    d.kubectl("create", "role", "more", "--verb=get", "--resource=nodes,pods", *as_carol)
    assert HELD in fails(d, "create", "rolebinding", "more", "--role=more", "--user=eve", *as_carol)
    d.kubectl("create", "rolebinding", "root", "--clusterrole=cluster-admin", "--user=carol", *as_carol)
    assert can(d, "carol", "use", "hostprocesses.inferd.io") and not can(d, "ann", "use", "hostprocesses.inferd.io")
    # Who writes aggregated roles must hold everything, everywhere.
    d.kubectl("create", "clusterrole", "role-writer", "--verb=create", "--resource=clusterroles")
    d.kubectl("create", "clusterrolebinding", "role-writers", "--clusterrole=role-writer", "--user=carol")
    said = fails(d, "create", "clusterrole", "grow", "--aggregation-rule=x=y", *as_carol)
    assert 'must have cluster-admin privileges to use the aggregationRule' in said, said


def impersonation(d):
    whoami = d.kubectl("auth", "whoami", "--as", "system:serviceaccount:default:robot").stdout
    assert "[system:serviceaccounts system:serviceaccounts:default system:authenticated]" in whoami, whoami
    extra = json.loads(d.kubectl("auth", "whoami", "-o", "json", "--as", "bob", "--as-group", "devs", "--as-uid",
                                 "7").stdout)["status"]["userInfo"]
    assert extra == {"username": "bob", "uid": "7", "groups": ["devs", "system:authenticated"]}, extra
    # One may be another only by right: here a client certificate for bob.
    bob = d.home / "bob.kubeconfig"
    bob.write_text(subprocess.run([d.program, "kubeconfig", "--data-dir", d.data, "--user", "bob"],
                                  capture_output=True, text=True, check=True).stdout)
    as_bob = lambda *a: d.run("kubectl", "--kubeconfig", bob, *a, check=False)
    scope = ' at the cluster scope'
    expect = ((("--as", "ann"), 'users "ann" is forbidden: User "bob" cannot impersonate resource "users" in API '
                                'group ""' + scope),
              (("--as", "system:serviceaccount:a:b"), 'serviceaccounts "b" is forbidden: User "bob" cannot '
               'impersonate resource "serviceaccounts" in API group "" in the namespace "a"'))
    for arguments, text in expect:
        said = as_bob("get", "pods", *arguments)
        assert said.returncode == 1 and said.stderr.strip() == NO + text, said
    d.kubectl("create", "clusterrole", "be-ann", "--verb=impersonate", "--resource=users", "--resource-name=ann")
    d.kubectl("create", "clusterrolebinding", "be-ann", "--clusterrole=be-ann", "--user=bob")
    assert as_bob("get", "pods", "-A", "--as", "ann").returncode == 0
    said = as_bob("get", "pods", "--as", "ann", "--as-group", "system:masters").stderr
    assert 'groups "system:masters" is forbidden: User "bob" cannot impersonate resource "groups" in API ' \
        'group ""' + scope in said, said
    said = as_bob("get", "pods", "--as", "ann", "--as-uid", "7").stderr
    assert 'uids.authentication.k8s.io "7" is forbidden: User "bob" cannot impersonate resource "uids"' in said, said
    d.kubectl("delete", "clusterrolebinding", "be-ann")
    assert as_bob("get", "pods", "--as", "ann").returncode == 1


def headers(d):
    """What kubectl's flags cannot say."""
    token = (d.data / "pki" / "tokens.csv").read_text().split(",")[0]

    def ask(*pairs, path="/apis/authentication.k8s.io/v1/selfsubjectreviews", body=b"{}"):
        target = urllib.parse.urlsplit(d.kube)
        connection = http.client.HTTPSConnection(target.hostname, target.port, timeout=PATIENCE,
                                                 context=ssl._create_unverified_context())
        with contextlib.closing(connection):
            connection.putrequest("POST", path)
            for name, value in (("Authorization", "Bearer " + token), ("Content-Type", "application/json"),
                                ("Content-Length", str(len(body))), *pairs):
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    bob = ("Impersonate-User", "bob")
    status, answer = ask(bob, ("Impersonate-Extra-Example.com%2Fscopes", "view"),
                         ("Impersonate-Extra-example.com%2fScopes", "edit"), ("impersonate-uid", "7"))
    assert status == 201 and answer["status"]["userInfo"] == {
        "username": "bob", "uid": "7", "groups": ["system:authenticated"],
        "extra": {"example.com/scopes": ["view", "edit"]}}, answer
    status, answer = ask(("Impersonate-User", "system:anonymous"))
    assert status == 403 and answer["message"].startswith(
        'selfsubjectreviews.authentication.k8s.io is forbidden: User "system:anonymous" cannot create'), answer
    assert answer["details"] == {"group": "authentication.k8s.io", "kind": "selfsubjectreviews"}, answer
    for wrong in ((("Impersonate-Group", "system:masters"),), (("Impersonate-Uid", "7"),),
                  (bob, *[("Impersonate-Group", f"g{i}") for i in range(17)]),
                  (bob, *[("Impersonate-Extra-a", f"v{i}") for i in range(9)]),
                  (("Impersonate-User", "b" * 256),), (bob, ("Impersonate-Group", "g" * 256))):
        status, answer = ask(*wrong)
        assert status == 400 and answer["reason"] == "BadRequest", (wrong, answer)
    both = {"resourceAttributes": {"nope": 1}, "nonResourceAttributes": {"path": "/x"}}
    status, answer = ask(path="/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                         body=json.dumps({"spec": both}).encode())
    assert status == 422 and "cannot be specified in combination with resourceAttributes" in answer["message"], answer


def service_account(d):
    """The right of a ServiceAccount, with its own token."""
    d.kubectl("create", "serviceaccount", "robot")
    token = d.kubectl("create", "token", "robot").stdout.strip()
    as_robot = lambda *a: d.run("kubectl", "--kubeconfig", "/dev/null", "--server", d.kube, "--insecure-skip-tls-verify",
                                "--token", token, "-n", "default", *a, check=False)
    assert as_robot("get", "pods").returncode == 0
    said = as_robot("get", "secrets").stderr.strip()
    assert said == NO + 'secrets is forbidden: User "system:serviceaccount:default:robot" cannot list resource ' \
        '"secrets" in API group "" in the namespace "default"', said
    assert as_robot("get", "pods", "-n", "kube-system").returncode == 1
    d.kubectl("create", "clusterrolebinding", "robots", "--clusterrole=view", "--group=system:serviceaccounts:default")
    assert as_robot("get", "pods", "-n", "kube-system").returncode == 0
    d.kubectl("delete", "clusterrolebinding", "robots")
    assert as_robot("get", "pods", "-n", "kube-system").returncode == 1


def namespaces(d):
    """Roles and bindings go with their namespace."""
    d.kubectl("create", "namespace", "short")
    d.kubectl("create", "role", "r", "--verb=get", "--resource=pods", "-n", "short")
    d.kubectl("create", "rolebinding", "r", "--role=r", "--user=bob", "-n", "short")
    assert can(d, "bob", "get", "pods", "-n", "short")
    d.kubectl("delete", "namespace", "short")
    assert not can(d, "bob", "get", "pods", "-n", "short")


def revocation(d):
    """What is taken away is gone with the next request; an open watch is let end by itself."""
    for _ in range(3):
        d.kubectl("create", "rolebinding", "guests", "--role=reader", "--user=gus")
        assert d.kubectl("get", "pods", "--as", "gus", check=False).returncode == 0
        d.kubectl("delete", "rolebinding", "guests")
        assert "pods is forbidden" in fails(d, "get", "pods", "--as", "gus")
    watch = subprocess.Popen(["kubectl", "get", "pods", "-w", "-o", "name", "--as", "bob"], env=d.environment(),
                             stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(PATIENCE, watch.kill)
    timer.start()
    try:
        d.kubectl("run", "seen", "--image=none.example.com/x")
        assert watch.stdout.readline().strip() == "pod/seen"
    finally:
        timer.cancel()
        watch.kill()
        watch.wait()
    d.kubectl("delete", "pod", "seen", "--wait=false")


def restart(d):
    d.kubectl("delete", "clusterrole", "view")
    d.kubectl("delete", "clusterrolebinding", "system:discovery")
    d.kubectl("annotate", "--overwrite", "clusterrolebinding", "system:monitoring",
              "rbac.authorization.kubernetes.io/autoupdate=false")
    d.kubectl("patch", "clusterrolebinding", "system:monitoring", "-p", '{"subjects": null}')
    assert not can(d, "ann", "list", "pods")
    d.stop()
    d.start()
    wait_for("view to be whole", lambda: can(d, "ann", "list", "pods", "-A"))
    assert d.kubectl("get", "clusterrolebinding", "system:discovery").returncode == 0
    assert "subjects" not in d.get("clusterrolebinding", "system:monitoring")


def rbac_with_the_real_kubectl(program):
    with Daemon(program) as d:
        for part in (kinds_and_commands, reconcile, validation, answers, refusals, escalation, impersonation,
                     headers, service_account, namespaces, revocation, restart):
            part(d)
            print("  ok", part.__name__)


if __name__ == "__main__":
    run_tests(rbac_with_the_real_kubectl)
