#!/usr/bin/env python3
"""The gateway's front door: TLS with certificates that change."""
import http.client
import json
import os
import ssl
import subprocess
import urllib.parse

from harness import ROOT, SLOWNESS, Daemon, inference_service, run_tests


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


if __name__ == "__main__":
    run_tests(tls_is_served_beside_plain_http_and_by_itself, a_changed_certificate_is_shown_without_a_restart)
