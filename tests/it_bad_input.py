#!/usr/bin/env python3
"""Bad input of every kind: broken model files, absurd requests. Each gets its own clear answer, and
the service beside it does not notice."""
import http.client
import json
import random
import ssl
import struct
import urllib.parse

from harness import Daemon, inference_service, post, run_tests, wait_for


def gguf(tensor_offset=0, dims=(32, 32), data_bytes=32 * 32 * 4, kind=0):
    """A GGUF v3 file with one tensor, honest unless told otherwise."""
    text = lambda s: struct.pack("<Q", len(s)) + s.encode()
    string = lambda key, value: text(key) + struct.pack("<I", 8) + text(value)
    number = lambda key, value: text(key) + struct.pack("<II", 4, value)
    pairs = [string("general.architecture", "llama"), number("llama.block_count", 1),
             number("llama.embedding_length", 32), number("llama.attention.head_count", 1),
             number("llama.feed_forward_length", 32), number("llama.context_length", 64)]
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs)
    head += text("token_embd.weight") + struct.pack("<I", len(dims))
    head += b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", kind, tensor_offset)
    head += b"\0" * (-len(head) % 32)
    return head + b"\0" * data_bytes


def broken_models_are_refused_with_file_tensor_and_offset(program):
    random.seed(7)
    cases = {
        "truncated": (gguf(data_bytes=100), ["truncated.gguf", "token_embd.weight", "offset"]),
        "lying": (gguf(tensor_offset=1 << 40), ["lying.gguf", "token_embd.weight", "offset"]),
        "random": (b"GGUF" + random.randbytes(4096), ["exit code 1", "random.gguf"]),
        "noise": (random.randbytes(4096), ["exit code 1", "noise.gguf"]),
    }
    with Daemon(program) as d:
        d.apply(inference_service("good", "embedded://demo-chat"))
        for name, (content, _) in cases.items():
            path = d.home / f"{name}.gguf"
            path.write_bytes(content)
            d.apply(inference_service(name, path))
        for name, (_, words) in cases.items():
            def told():
                events = d.get("events")["items"]
                texts = [e["message"] for e in events if e["involvedObject"]["kind"] == "Pod" and
                         e["involvedObject"]["name"].startswith(name + "-predictor")]
                return [t for t in texts if all(w in t for w in words)]
            print(f"  {name}: {wait_for(f'an event that names {words} for {name}', told)[0]}")

            def backs_off():
                pods = d.get("pods", "-l", f"serving.kserve.io/inferenceservice={name}")["items"]
                return any(s["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
                           for p in pods for s in p["status"].get("containerStatuses", []))
            wait_for(f"{name} to back off", backs_off)
        d.wait_ready("good")


def raw(d, method, path, body, headers=None, chunks=None):
    """A request below urllib: any bytes, any lie about them. Gives (status, answer)."""
    target = urllib.parse.urlparse(d.gateway)
    connection = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
    try:
        connection.putrequest(method, path)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            connection.putheader(key, value)
        if not any(k.lower() == "content-length" for k in headers or {}):
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        try:
            for part in chunks or [body]:
                connection.send(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has answered already
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def absurd_requests_get_the_right_4xx_and_nothing_else_happens(program):
    with Daemon(program) as d:
        d.apply(inference_service("demo", "embedded://demo-chat"))
        d.wait_ready("demo")
        chat = "/v1/chat/completions"
        ask = lambda **more: {"model": "demo", "messages": [{"role": "user", "content": "hi"}], **more}

        status, answer = raw(d, "POST", chat, b"", {"Content-Length": str(100 << 20)},
                             chunks=[b"x" * (1 << 20)] * 100)
        assert status == 413, (status, answer[:200])
        deep = b'{"model":"demo","messages":' + b"[" * 20000 + b"]" * 20000 + b"}"
        status, answer = raw(d, "POST", chat, deep)
        assert status == 400, (status, answer[:200])
        status, answer = raw(d, "POST", chat, b'{"model":"demo","messages":[{"role":"user","content":"\xff\xfe"}]}')
        assert status == 400, (status, answer[:200])
        for tokens in (-1, 0, 10 ** 30, "many", 1.5):
            status, answer, _ = post(d.gateway + chat, ask(max_tokens=tokens))
            assert status == 400, (tokens, status, answer)
        status, answer, _ = post(d.gateway + chat, ask(max_tokens=2 ** 31 - 1, stop=["."]))
        assert status == 200, answer  # more than fits: ends with the context
        status, answer, _ = post(d.gateway + "/v1/completions", {"model": "demo", "prompt": "word " * 100000})
        assert status == 400, (status, answer)
        status, answer = raw(d, "POST", chat, b"")
        assert status == 400, (status, answer)
        status, answer = raw(d, "POST", chat, b"[]")
        assert status == 400, (status, answer)
        status, answer = raw(d, "BREW", chat, b"{}")
        assert status in (400, 405, 501), (status, answer)
        status, answer, _ = post(d.gateway + "/serving/default/nobody/v1/completions", {"prompt": "x"})
        assert status == 404, (status, answer)
        status, answer, _ = post(d.gateway + chat, ask(temperature=0, max_tokens=4))
        assert status == 200, answer
        assert d.process.poll() is None
        pods = d.get("pods")["items"]
        assert all(s["restartCount"] == 0 for p in pods for s in p["status"]["containerStatuses"]), "a replica fell"


def the_kubernetes_port_refuses_what_is_no_request(program):
    with Daemon(program) as d:
        target = urllib.parse.urlparse(d.kube)
        context = ssl.create_default_context(cafile=str(d.data / "pki" / "ca.crt"))

        def ask(method, path, body=b"", headers=None):
            connection = http.client.HTTPSConnection(target.hostname, target.port, context=context, timeout=60)
            try:
                connection.request(method, path, body, headers or {})
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read() or b"{}")
            finally:
                connection.close()
        status, answer = ask("GET", "/api/v1/pods")
        assert status == 403 and answer["kind"] == "Status" and answer["reason"] == "Forbidden", answer
        status, answer = ask("GET", "/api/v1/pods", headers={"Authorization": "Bearer wrong"})
        assert status == 401, answer
        token = (d.data / "pki" / "tokens.csv").read_text().split(",")[0]
        bearer = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        status, answer = ask("GET", "/api/v1/pods", headers=bearer)
        assert status == 200, answer
        configmaps = "/api/v1/namespaces/default/configmaps"
        for body, expected in ((b"{" * 20000, 400), (b'{"metadata":{"name":"\xff"}}', 400),
                               (b'{"metadata":{"name":"x"},"data":{"k":"' + b"x" * (4 << 20) + b'"}}', 413),
                               (b'{"metadata":{"name":"Not Valid"}}', 422), (b"", 400)):
            status, answer = ask("POST", configmaps, body, bearer)
            assert status == expected and answer["kind"] == "Status", (body[:40], status, answer)
        names = [o["metadata"]["name"] for o in d.get("configmaps")["items"]]
        assert names == ["kube-root-ca.crt"], names


if __name__ == "__main__":
    run_tests(broken_models_are_refused_with_file_tensor_and_offset,
              absurd_requests_get_the_right_4xx_and_nothing_else_happens,
              the_kubernetes_port_refuses_what_is_no_request)
