#!/usr/bin/env python3
"""OpenAI's own client library through the gateway, by model name, by path and by host."""
import json
import socket
import urllib.parse
import urllib.request

from harness import ROOT, Daemon, inference_service, post, run_tests, wait_for


def the_openai_client_works_through_the_gateway(program):
    with Daemon(program) as d:
        d.apply(inference_service("demo", "embedded://demo-chat"))
        d.wait_ready("demo")
        for base in (f"{d.gateway}/v1", f"{d.gateway}/serving/default/demo/v1",
                     f"{d.gateway}/serving/default/demo/openai/v1"):
            print(d.run("node", ROOT / "tests/node/openai.mjs", base, "demo").stdout, end="")


def routes_by_host_path_and_model_reach_the_service(program):
    body = {"model": "demo", "messages": [{"role": "user", "content": "What is 2 + 3?"}],
            "temperature": 0, "max_tokens": 8}
    with Daemon(program) as d:
        d.apply(inference_service("demo", "embedded://demo-chat"))
        d.wait_ready("demo")
        by_model = post(d.gateway + "/v1/chat/completions", body)
        assert by_model[0] == 200, by_model
        text = by_model[1]["choices"][0]["message"]["content"]
        for url, headers in ((d.gateway + "/serving/default/demo/v1/chat/completions", {}),
                             (d.gateway + "/v1/chat/completions", {"Host": "demo.default.example.com"}),
                             (d.gateway + "/v1/chat/completions", {"Host": "demo-predictor.default.example.com"})):
            status, answer, _ = post(url, body, headers=headers)
            assert status == 200 and answer["choices"][0]["message"]["content"] == text, (url, answer)
        status, answer, headers = post(d.gateway + "/v1/chat/completions", {**body, "model": "nobody"})
        assert status == 404 and answer["error"]["code"] == "model_not_found", answer
        assert headers["X-Request-Id"] == answer["error"]["request_id"], answer
        ready = json.load(urllib.request.urlopen(d.gateway + "/serving/default/demo/v2/health/ready"))
        assert ready["ready"] is True
        metadata = json.load(urllib.request.urlopen(d.gateway + "/v2/models/demo"))
        assert metadata["name"] == "demo", metadata


def a_client_that_leaves_frees_the_engine(program):
    with Daemon(program) as d:
        d.apply(inference_service("demo", "embedded://demo-chat"))
        d.wait_ready("demo")
        gauge = "vllm:num_requests_running{"

        def running():
            text = urllib.request.urlopen(d.gateway + "/serving/default/demo/metrics").read().decode()
            return int(next(line for line in text.splitlines() if line.startswith(gauge)).split()[-1])
        target = urllib.parse.urlparse(d.gateway)
        body = json.dumps({"model": "demo", "prompt": "Hi", "max_tokens": 480, "ignore_eos": True, "n": 64,
                           "stream": True}).encode()
        client = socket.create_connection((target.hostname, target.port))
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                       b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        wait_for("the engine to run it", running)
        client.close()
        wait_for("the engine to let go of it", lambda: running() == 0)
        text = urllib.request.urlopen(d.gateway + "/serving/default/demo/metrics").read().decode()
        tokens = next(line for line in text.splitlines() if line.startswith("vllm:generation_tokens_total"))
        assert float(tokens.split()[-1]) < 64 * 480, "it was computed to its end for nobody"


if __name__ == "__main__":
    run_tests(the_openai_client_works_through_the_gateway, routes_by_host_path_and_model_reach_the_service,
              a_client_that_leaves_frees_the_engine)
