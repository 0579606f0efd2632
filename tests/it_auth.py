#!/usr/bin/env python3
"""Who may come in and what stays secret: Secrets on disk and in logs, ServiceAccount and static
tokens, with the real kubectl."""
import base64
import json
import subprocess

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


run_tests(secrets_are_nowhere_in_the_clear, service_account_tokens, tokens_in_secrets,
          static_tokens_have_groups)
