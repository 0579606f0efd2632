#!/usr/bin/env python3
"""Who may come in, what stays secret, what is written down: Secrets on disk and in logs,
ServiceAccount and static tokens, the audit log, with the real kubectl; and whether one client
slows another."""
import base64
import http.client
import json
import ssl
import subprocess
import sys
import time
import urllib.parse

from harness import PATIENCE, Daemon, run_tests, wait_for

VALUE = "correct-horse-battery-staple"
SPELLINGS = [VALUE.encode(), base64.b64encode(VALUE.encode())]


def files_with(folder, spellings):
    return [f"{path}" for path in folder.rglob("*") if path.is_file() and
            any(s in path.read_bytes() for s in spellings)]


def secrets_are_nowhere_in_the_clear(program):
    with Daemon(program, "--log-level", "debug") as d:
        d.kubectl("create", "secret", "generic", "s", f"--from-literal=password={VALUE}")
        d.kubectl("create", "secret", "generic", "gone", f"--from-literal=password={VALUE}")
        d.kubectl("patch", "secret", "s", "-p", '{"stringData": {"more": "%s"}}' % VALUE)
        d.kubectl("delete", "secret", "gone")
        # A pod that gets it in its environment, and fails, says so in Events and not what it got.
        d.apply({"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
                 "metadata": {"name": "user"},
                 "spec": {"predictor": {"model": {
                     "modelFormat": {"name": "gguf"}, "storageUri": "file:///nowhere.gguf",
                     "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {
                         "name": "s", "key": "password"}}}]}}}})
        wait_for("an event about the pod",
                 lambda: [e for e in d.get("events")["items"]
                          if e["involvedObject"]["kind"] == "Pod" and e["type"] == "Warning"])
        bad = d.kubectl("create", "-f", "-", check=False, stdin="""
apiVersion: v1
kind: Secret
metadata: {name: bad}
data: {password: "%s!"}""" % VALUE)
        assert bad.returncode, bad.stdout
        assert VALUE not in d.kubectl("get", "events", "-A", "-o", "yaml").stdout
        d.kill()
        assert not files_with(d.home, SPELLINGS), files_with(d.home, SPELLINGS)
        keys = d.data / "pki" / "keys" / "secrets.keys"
        assert keys.stat().st_mode & 0o777 == 0o600
        kept = keys.rename(d.home / "kept")
        failed = subprocess.run([d.program, "serve", "--data-dir", d.data], capture_output=True,
                                text=True, timeout=PATIENCE)
        key_id = kept.read_text().splitlines()[-1].split()[0]
        assert failed.returncode == 1 and str(keys) in failed.stderr, failed.stderr
        assert key_id in failed.stderr, failed.stderr
        kept.rename(keys)
        d.start()
        secret = d.get("secret", "s")
        assert base64.b64decode(secret["data"]["password"]).decode() == VALUE
        d.stop()
        assert not files_with(d.home, SPELLINGS), files_with(d.home, SPELLINGS)


def as_token(d, token, *arguments, **keywords):
    """kubectl with a bearer token and nothing else."""
    if not (d.home / "bare").exists():
        config = json.loads(d.kubectl("config", "view", "--raw", "-o", "json").stdout)
        config["users"] = [{"name": "nobody", "user": {}}]
        config["contexts"][0]["context"]["user"] = "nobody"
        (d.home / "bare").write_text(json.dumps(config))
    return d.kubectl("--kubeconfig", d.home / "bare", f"--token={token}", *arguments, **keywords)


def whoami(d, token):
    answer = as_token(d, token, "auth", "whoami", "-o", "json", check=False)
    if answer.returncode:
        assert "Unauthorized" in answer.stderr or "logged in" in answer.stderr, answer.stderr
        return None
    return json.loads(answer.stdout)["status"]["userInfo"]


def claims(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def review(d, token, **spec):
    done = d.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, **spec}}))
    return json.loads(done.stdout)["status"]


def service_account_tokens(program):
    with Daemon(program) as d:
        d.kubectl("create", "serviceaccount", "robot")
        uid = d.get("serviceaccount", "robot")["metadata"]["uid"]
        create = lambda *more, **keywords: d.kubectl("create", "token", "robot", *more, **keywords)
        token = create("--duration=20m").stdout.strip()
        said = claims(token)
        assert said["exp"] - said["iat"] == 1200, said
        assert said["sub"] == "system:serviceaccount:default:robot", said
        assert said["kubernetes.io"]["serviceaccount"] == {"name": "robot", "uid": uid}, said
        user = whoami(d, token)
        assert user["username"] == "system:serviceaccount:default:robot" and user["uid"] == uid
        assert set(user["groups"]) == {"system:serviceaccounts", "system:authenticated",
                                       "system:serviceaccounts:default"}, user
        assert user["extra"]["authentication.kubernetes.io/credential-id"] == [f"JTI={said['jti']}"]
        # Bounds, in the reference's words.
        short = create("--duration=5m", check=False)
        assert "may not specify a duration less than 10 minutes" in short.stderr, short.stderr
        long = create("--duration=1200000h", check=False)
        assert "may not specify a duration larger than 2^32 seconds" in long.stderr, long.stderr
        missing = d.kubectl("create", "token", "nobody", check=False)
        assert 'serviceaccounts "nobody" not found' in missing.stderr, missing.stderr
        # For another audience: not for us, but a review tells whose it is.
        vault = create("--audience=vault").stdout.strip()
        assert whoami(d, vault) is None
        assert review(d, vault)["error"].startswith("[invalid bearer token")
        good = review(d, vault, audiences=["vault", "other"])
        assert good["authenticated"] and good["audiences"] == ["vault"], good
        assert good["user"]["username"] == "system:serviceaccount:default:robot", good
        assert not review(d, "nonsense").get("authenticated")
        # Bound to a Secret: as long as that, and as long as the account.
        d.kubectl("create", "secret", "generic", "lease")
        wrong = create("--bound-object-kind=Secret", "--bound-object-name=lease",
                       "--bound-object-uid=other", check=False)
        assert "does not match the UID in record" in wrong.stderr, wrong.stderr
        none = create("--bound-object-kind=Pod", "--bound-object-name=none", check=False)
        assert 'pods "none" not found' in none.stderr, none.stderr
        bound = create("--bound-object-kind=Secret", "--bound-object-name=lease").stdout.strip()
        assert whoami(d, bound)
        d.kubectl("delete", "secret", "lease")
        assert whoami(d, bound) is None
        # The public keys are for everybody who is known.
        jwks = json.loads(as_token(d, token, "get", "--raw", "/openid/v1/jwks").stdout)
        assert jwks["keys"][0]["crv"] == "P-256" and jwks["keys"][0]["alg"] == "ES256", jwks
        found = json.loads(d.kubectl("get", "--raw", "/.well-known/openid-configuration").stdout)
        assert found["issuer"] == said["iss"] and "ES256" in str(found), found
        # A restart changes nothing; a new account of the same name is another one.
        d.stop()
        d.start()
        (d.home / "bare").unlink()
        assert whoami(d, token)
        d.kubectl("delete", "serviceaccount", "robot")
        d.kubectl("create", "serviceaccount", "robot")
        assert whoami(d, token) is None
        assert "made again since" in d.log.read_text()
        assert token not in d.log.read_text()


def tokens_in_secrets(program):
    with Daemon(program) as d:
        d.kubectl("create", "serviceaccount", "old")
        d.apply({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
                 "metadata": {"name": "old", "annotations": {
                     "kubernetes.io/service-account.name": "old"}}})
        data = wait_for("the secret to be filled", lambda: d.get("secret", "old").get("data"))
        decode = lambda key: base64.b64decode(data[key]).decode()
        assert decode("namespace") == "default" and "BEGIN CERTIFICATE" in decode("ca.crt")
        assert whoami(d, decode("token"))["username"] == "system:serviceaccount:default:old"
        d.kubectl("delete", "serviceaccount", "old")
        wait_for("the secret to go with its account", lambda: d.kubectl(
            "get", "secret", "old", check=False).returncode)
        assert whoami(d, decode("token")) is None


def static_tokens_have_groups(program):
    with Daemon(program) as d:
        d.stop()
        tokens = d.home / "tokens.csv"
        tokens.write_text('token-of-ann,ann,u-7,"dev,ops"\ntoken-of-root,root,0,system:masters\n')
        d.options += ["--token-auth-file", str(tokens)]
        d.start()
        assert whoami(d, "token-of-ann") == {"username": "ann", "uid": "u-7",
                                             "groups": ["dev", "ops", "system:authenticated"]}
        assert as_token(d, "token-of-ann", "get", "secrets", check=False).returncode
        as_token(d, "token-of-root", "get", "secrets")
        assert review(d, "token-of-ann")["user"]["groups"] == ["dev", "ops", "system:authenticated"]
        assert whoami(d, "token-of-bob") is None
        # A browser's WebSocket has no other place for it.
        coded = base64.urlsafe_b64encode(b"token-of-root").decode().rstrip("=")
        for word, wanted in ((coded, 200), (coded[:-2], 401)):
            connection = connect(d)
            connection.request("GET", "/api/v1/namespaces/default/configmaps", None, {
                "Sec-WebSocket-Protocol": "base64url.bearer.authorization.k8s.io." + word +
                                          ", base64.binary.k8s.io"})
            assert connection.getresponse().status == wanted, word
            connection.close()


POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  nonResourceURLs: ["/healthz*", "/api*", "/openapi*", "/version"]
- level: None
  verbs: [get]
  resources: [{group: "", resources: [pods]}]
- level: Request
  namespaces: [default]
- level: Metadata
"""


def audit_log_says_who_did_what(program):
    with Daemon(program) as d:
        d.stop()
        policy, tokens = d.home / "policy.yaml", d.home / "tokens.csv"
        policy.write_text(POLICY.replace("level: Request", "level: RequestResponse"))
        tokens.write_text('token-of-ann,ann,u-7,"dev"\n')
        failed = subprocess.run([d.program, "serve", "--data-dir", d.data, "--audit-policy-file",
                                 str(policy)], capture_output=True, text=True, timeout=PATIENCE)
        assert failed.returncode == 1 and "rules[2].level" in failed.stderr, failed.stderr
        policy.write_text(POLICY)
        d.options += ["--audit-policy-file", str(policy), "--token-auth-file", str(tokens)]
        d.start()
        d.kubectl("create", "configmap", "c", "--from-literal=a=body-of-c")
        d.kubectl("create", "secret", "generic", "s", f"--from-literal=a={VALUE}")
        d.kubectl("create", "-f", "-", stdin='{"apiVersion": "v1", "kind": "ConfigMap", '
                  '"metadata": {"generateName": "made-"}}')
        token = d.kubectl("create", "token", "default").stdout.strip()
        assert whoami(d, token)
        review(d, token)
        assert as_token(d, "token-of-ann", "delete", "configmap", "c", check=False).returncode
        assert whoami(d, "token-of-nobody") is None
        d.kubectl("get", "configmap", "c", "--as=bob", check=False)
        d.kubectl("get", "configmaps", "--watch", "--request-timeout=1s", check=False)
        d.kubectl("get", "pods")
        d.kubectl("get", "pod", "p", check=False)
        d.kubectl("delete", "configmap", "c")
        raw = d.kubectl("get", "--raw", "/metrics").stdout
        assert "apiserver_audit_event_total" in raw, raw
        d.stop()
        text = (d.data / "audit" / "audit.log").read_text()
        events = [json.loads(line) for line in text.splitlines()]

        def find(verb, resource, **more):
            found = [e for e in events if e["verb"] == verb and
                     e.get("objectRef", {}).get("resource") == resource and
                     all(e.get(k) == v for k, v in more.items())]
            assert found, (verb, resource, more, text)
            return found[0]
        made = find("create", "configmaps")
        assert made["apiVersion"] == "audit.k8s.io/v1" and made["level"] == "Request", made
        assert made["stage"] == "ResponseComplete" and made["responseStatus"]["code"] == 201, made
        assert made["objectRef"]["name"] == "c" and made["objectRef"]["namespace"] == "default"
        assert made["requestObject"]["data"] == {"a": "body-of-c"}, made
        assert made["user"]["username"] == "admin" and made["sourceIPs"] == ["127.0.0.1"], made
        assert made["userAgent"].startswith("kubectl/"), made
        assert made["annotations"]["authorization.k8s.io/decision"] == "allow", made
        assert made["requestReceivedTimestamp"] <= made["stageTimestamp"], made
        assert made["requestURI"].startswith("/api/v1/namespaces/default/configmaps?"), made
        assert len({e["auditID"] for e in events if e["verb"] == "create"}) > 3
        assert [e for e in events if e.get("objectRef", {}).get("name", "").startswith("made-")], text
        # Whatever the policy says: neither Secrets nor tokens.
        assert find("create", "secrets")["level"] == "Metadata"
        assert find("create", "serviceaccounts")["objectRef"]["subresource"] == "token"
        assert not [s for s in (VALUE, SPELLINGS[1].decode(), token) if s in text]
        forbidden = find("delete", "configmaps", user={"username": "ann", "uid": "u-7", "groups": [
            "dev", "system:authenticated"]})
        assert forbidden["responseStatus"]["code"] == 403, forbidden
        assert forbidden["responseStatus"]["reason"] == "Forbidden", forbidden
        assert forbidden["annotations"]["authorization.k8s.io/decision"] == "forbid", forbidden
        assert [e for e in events if e.get("impersonatedUser", {}).get("username") == "bob"]
        assert [e for e in events if e["responseStatus"]["code"] == 401], text
        assert [e["stage"] for e in events if e["verb"] == "watch"] == [
            "ResponseStarted", "ResponseComplete"], text
        assert not [e for e in events if e["verb"] == "get" and
                    e.get("objectRef", {}).get("resource") == "pods"], text


def connect(d):
    """A connection of its own to the Kubernetes port."""
    target = urllib.parse.urlparse(d.kube)
    context = ssl.create_default_context(cafile=str(d.data / "pki" / "ca.crt"))
    return http.client.HTTPSConnection(target.hostname, target.port, timeout=PATIENCE,
                                       context=context)


def ask(connection, token, path, method="GET", body=None):
    connection.request(method, path, body, {"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


# A program of its own, so that it does not share the interpreter with the one that measures.
FLOOD = """
import http.client, ssl, sys, threading, time
host, port, ca, token, lists, watches = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
head = {"Authorization": "Bearer " + token}
connect = lambda: http.client.HTTPSConnection(host, int(port), context=context, timeout=120)
def flood():
    c = connect()
    try:
        while True:
            c.request("GET", "/api/v1/configmaps", None, head)
            c.getresponse().read()
    except (OSError, http.client.HTTPException):
        pass  # the server has stopped
kept, refused = [], 0
for _ in range(int(watches)):
    c = connect()
    c.request("GET", "/api/v1/configmaps?watch=true", None, head)
    answer = c.getresponse()
    kept.append((c, answer))
    if answer.status == 429:
        assert answer.headers["Retry-After"] and b"TooManyRequests" in answer.read()
        refused += 1
for _ in range(int(lists)):
    threading.Thread(target=flood, daemon=True).start()
print(refused, flush=True)
sys.stdin.read()
"""


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def measure(d, token, number):
    """Seconds that small GETs take, one after the other."""
    times, connection = [], connect(d)
    for _ in range(number):
        start = time.monotonic()
        status, body, _ = ask(connection, token, "/api/v1/namespaces/default/configmaps/c0")
        times.append(time.monotonic() - start)
        assert status == 200, body
    connection.close()
    return times


def a_flood_slows_itself_only(program):
    with Daemon(program, "--api-watches-max", "60") as d:
        d.stop()
        tokens = d.home / "tokens.csv"
        tokens.write_text("token-of-flood,flood,1,system:masters\n"
                          "token-of-ann,ann,2,system:masters\n")
        d.options += ["--token-auth-file", str(tokens)]
        d.start()
        connection = connect(d)
        filler = "x" * 1000
        for i in range(800):
            status, body, _ = ask(connection, "token-of-ann", "/api/v1/namespaces/default/configmaps",
                                  "POST", json.dumps({"metadata": {"name": f"c{i}"},
                                                      "data": {"a": filler}}))
            assert status == 201, body
        alone = []
        for _ in range(5):
            start = time.monotonic()
            ask(connection, "token-of-ann", "/api/v1/configmaps")
            alone.append(time.monotonic() - start)
        alone = percentile(alone, .5)
        idle = measure(d, "token-of-ann", 200)
        target = urllib.parse.urlparse(d.kube)
        flood = subprocess.Popen([sys.executable, "-c", FLOOD, target.hostname, str(target.port),
                                  str(d.data / "pki" / "ca.crt"), "token-of-flood", "40", "90"],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            refused = int(flood.stdout.readline())
            def queued():
                raw = ask(connection, "token-of-ann", "/metrics")[1].decode()
                name = "\napiserver_flowcontrol_request_wait_duration_seconds_count "
                return float(raw.split(name)[1].split("\n")[0]) > 20
            wait_for("lists to wait for their turn", queued)
            flooded = measure(d, "token-of-ann", 200)
            d.kubectl("get", "configmap", "c0")
            d.stop()  # with all of them waiting, running and watching
        finally:
            flood.stdin.close()
            flood.kill()
            flood.wait()
        print(f"  small GET, p50 and p99: idle {percentile(idle, .5) * 1e3:.2f} "
              f"{percentile(idle, .99) * 1e3:.2f} ms, beside 40 clients that list "
              f"{percentile(flooded, .5) * 1e3:.2f} {percentile(flooded, .99) * 1e3:.2f} ms; "
              f"one list alone {alone * 1e3:.0f} ms; {refused} watches refused")
        assert refused == 30, refused
        # Nobody waits for the forty that stand in line: they would be twenty lists at the median.
        assert percentile(flooded, .5) < 5 * alone, (flooded, alone)
        assert percentile(flooded, .99) < 30 * alone, (flooded, alone)


run_tests(secrets_are_nowhere_in_the_clear, service_account_tokens, tokens_in_secrets,
          static_tokens_have_groups, audit_log_says_who_did_what, a_flood_slows_itself_only)
