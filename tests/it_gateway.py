#!/usr/bin/env python3
"""The gateway's front door: TLS with certificates that change, API keys that do."""
import http.client
import json
import os
import ssl
import subprocess
import urllib.parse

from harness import ROOT, SLOWNESS, Daemon, inference_service, post, run_tests, wait_for


def make_certificate(folder, name, kind):
    """A self-signed certificate for localhost in FOLDER/tls.crt and tls.key, each put in place whole."""
    new = ["-newkey", "rsa:2048"] if kind == "rsa" else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    files = {part: folder / f"new-{part}" for part in ("tls.crt", "tls.key")}
    subprocess.run(["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={name}", *new,
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", str(files["tls.key"]), "-out", str(files["tls.crt"])], check=True, capture_output=True)
    text = files["tls.crt"].read_text()
    for part, path in files.items():
        os.replace(path, folder / part)
    return text


def https(address, trusted, path="/healthz"):
    """(status, body, ALPN, the server's certificate) from a client that trusts these certificates only."""
    context = ssl.create_default_context(cadata=trusted)
    context.set_alpn_protocols(["h2", "http/1.1"])
    target = urllib.parse.urlparse(address)
    connection = http.client.HTTPSConnection(target.hostname, target.port, context=context, timeout=30 * SLOWNESS)
    connection.request("GET", path)
    shown = ssl.DER_cert_to_PEM_cert(connection.sock.getpeercert(True))
    alpn = connection.sock.selected_alpn_protocol()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, alpn, shown


def refused_start(program, *options):
    """What a daemon says that does not start."""
    try:
        with Daemon(program, *options):
            pass
    except AssertionError as error:
        return str(error)
    raise AssertionError("it started")


def tls_is_served_beside_plain_http_and_by_itself(program):
    with Daemon(program, "--gateway-tls-listen", "127.0.0.1:0") as d:
        started = json.loads((d.data / "run/serve.json").read_text())
        ca = (d.data / "pki/ca.crt").read_text()
        assert started["gateway"].startswith("http://") and started["gateway_tls"].startswith("https://"), started
        status, body, alpn, _ = https(started["gateway_tls"], ca)
        assert (status, body, alpn) == (200, "ok", "http/1.1"), (status, body, alpn)
        d.apply(inference_service("demo", "embedded://demo-chat"))
        d.wait_ready("demo")
        plain = d.run("node", ROOT / "tests/node/openai.mjs", f"{d.gateway}/v1", "demo")
        secure = subprocess.run(
            ["node", ROOT / "tests/node/openai.mjs", f"{started['gateway_tls']}/v1", "demo"], text=True,
            env={**d.environment(), "NODE_EXTRA_CA_CERTS": str(d.data / "pki/ca.crt")}, capture_output=True)
        assert secure.returncode == 0, secure.stdout + secure.stderr
        assert secure.stdout == plain.stdout, (secure.stdout, plain.stdout)
    with Daemon(program, "--gateway-listen", "", "--gateway-tls-listen", "127.0.0.1:0") as d:
        assert d.gateway.startswith("https://"), d.gateway
        assert https(d.gateway, (d.data / "pki/ca.crt").read_text())[0] == 200
    told = refused_start(program, "--gateway-listen", "")
    assert "gatewayListen and gatewayTlsListen are empty" in told, told


def a_changed_certificate_is_shown_without_a_restart(program):
    with Daemon(program) as d:  # a folder that is removed at the end
        folder = d.home / "tls"
        folder.mkdir()
        first = make_certificate(folder, "first", "ec")
        files = ["--gateway-tls-listen", "127.0.0.1:0", "--gateway-tls-cert-file", folder / "tls.crt",
                 "--gateway-tls-key-file", folder / "tls.key"]
        d.stop()
        d.options += map(str, files)
        d.start()
        address = json.loads((d.data / "run/serve.json").read_text())["gateway_tls"]
        assert https(address, first)[3] == first
        context = ssl.create_default_context(cadata=first)
        target = urllib.parse.urlparse(address)
        old = http.client.HTTPSConnection(target.hostname, target.port, context=context, timeout=30 * SLOWNESS)
        old.request("GET", "/healthz")
        assert old.getresponse().read() == b"ok"
        second = make_certificate(folder, "second", "rsa")
        assert https(address, second)[3] == second
        old.request("GET", "/healthz")  # a connection that is open goes on
        assert old.getresponse().read() == b"ok"
        old.close()
        (folder / "tls.crt").write_text(first)  # not the key's: the last good pair stays
        for _ in range(3):
            assert https(address, second)[3] == second
        said = [line for line in d.log.read_text().splitlines() if "certificate not read" in line]
        assert len(said) == 1 and f"gatewayTlsKeyFile: {folder}/tls.key is not the key" in said[0], said
        (folder / "tls.crt").write_text(second)
        assert https(address, second)[3] == second
        d.stop()
        (folder / "tls.crt").unlink()
        told = refused_start(program, *map(str, files))
        assert f"gatewayTlsCertFile: {folder}/tls.crt: no such file" in told, told


def bearer(key):
    return {"Authorization": f"Bearer {key}"} if key else {}


def api_keys_are_asked_for_change_and_stay_secret(program):
    first, second, own, wrong = "sk-first-1f4c", "sk-second-9b02", "sk-own-77aa", "sk-wrong-0000"
    with Daemon(program) as d:
        demo = inference_service("demo", "embedded://demo-chat")
        demo["metadata"]["annotations"] = {"inferd.io/api-key-secret": "demo-keys"}
        strict = inference_service("strict", "embedded://demo-chat")
        strict["metadata"]["annotations"] = {"inferd.io/api-key-secret": "demo-keys"}
        strict["spec"]["predictor"]["model"]["args"] = ["--api-key", own]
        d.apply(demo)
        d.apply(strict)
        d.wait_ready("demo")
        d.wait_ready("strict")
        body = {"model": "demo", "prompt": "Hi", "max_tokens": 1}

        def ask(key, model="demo", path="/v1/completions"):
            return post(d.gateway + path, {**body, "model": model}, headers=bearer(key))
        status, answer, headers = ask(first)
        assert status == 401 and "Secret default/demo-keys with its API keys does not exist" in \
            answer["error"]["message"], answer
        d.kubectl("create", "secret", "generic", "demo-keys", f"--from-literal=a={first}")
        wait_for("the first key to be good", lambda: ask(first)[0] == 200)
        for key, word in ((None, "did not provide"), (wrong, "Incorrect API key")):
            status, answer, headers = ask(key)
            error = answer["error"]
            assert status == 401 and error["code"] == "invalid_api_key" and word in error["message"], answer
            assert error["type"] == "invalid_request_error" and headers["WWW-Authenticate"] == "Bearer", answer
            assert headers["X-Request-Id"] == error["request_id"], (headers, error)
        status, answer, _ = ask(wrong, path="/v2/models/demo/generate")
        assert status == 401 and isinstance(answer["error"], str), answer
        print(d.run("node", ROOT / "tests/node/keys.mjs", f"{d.gateway}/v1", "demo", first, wrong).stdout, end="")
        # To change a key: the new one beside the old one, then without it.
        d.kubectl("patch", "secret", "demo-keys", "-p", json.dumps({"stringData": {"b": second}}))
        wait_for("the second key to be good, too", lambda: ask(second)[0] == 200)
        assert ask(first)[0] == 200
        d.kubectl("patch", "secret", "demo-keys", "--type=json", "-p", '[{"op":"remove","path":"/data/a"}]')
        wait_for("the first key to be bad", lambda: ask(first)[0] == 401)
        assert ask(second)[0] == 200
        # The replica of this one asks for a key itself, which clients need not know, but may.
        for key in (second, own):
            assert ask(key, "strict")[0] == 200, key
        assert ask(first, "strict")[0] == 401
        # Nobody is told a key.
        metrics = d.run("curl", "-sS", d.gateway + "/metrics").stdout
        events = d.kubectl("get", "events", "-A", "-o", "json").stdout
        services = d.kubectl("get", "isvc", "demo", "-o", "json").stdout
        for key in (first, second, wrong):
            for where, text in (("log", d.log.read_text()), ("metrics", metrics), ("events", events),
                                ("object", services)):
                assert key not in text, f"a key is in the {where}"
        assert own not in d.log.read_text() and own not in metrics and own not in events
        code = 'inferd_gateway_requests_total{namespace="default",inferenceservice="demo",code="401"}'
        assert code in metrics, metrics


def a_bad_key_secret_is_refused_at_start(program):
    told = refused_start(program, "--gateway-api-key-secret", "keys")
    assert 'gatewayApiKeySecret: "keys" is not NAMESPACE/NAME' in told, told


if __name__ == "__main__":
    run_tests(tls_is_served_beside_plain_http_and_by_itself, a_changed_certificate_is_shown_without_a_restart,
              api_keys_are_asked_for_change_and_stay_secret, a_bad_key_secret_is_refused_at_start)
