#!/usr/bin/env python3
"""The model store by hand: `inferd model`, against files, folders and servers that misbehave. Each
fault is one of those that downloads meet; what is in the store afterwards is what it should be, or
nothing is."""
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading

from harness import PATIENCE, run_tests, wait_for
from model_server import Server

MIB = 1 << 20


def content(size, seed):
    """Bytes that look like weights: no two stretches alike."""
    block = b"".join(hashlib.sha256(b"%d %d" % (seed, i)).digest() for i in range(2048))
    return b"".join(b"%08d" % i + block[8:] for i in range(size // len(block) + 1))[:size]


class Store:
    """A data folder, and the command on it."""

    def __init__(self, program):
        self.program = program
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="inferd-models-"))

    def __enter__(self):
        return self

    def __exit__(self, *why):
        shutil.rmtree(self.home, ignore_errors=True)

    def environment(self, env):
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), **env}

    def start(self, *arguments, **env):
        return subprocess.Popen([self.program, "model", *map(str, arguments), "--data-dir", self.home / "data"],
                                env=self.environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments, code=0, **env):
        done = subprocess.run([self.program, "model", *map(str, arguments), "--data-dir", self.home / "data"],
                              env=self.environment(env), capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def models(self):
        return {m["reference"]: m for m in json.loads(self.run("ls", "-o", "json"))["items"]}

    def add(self, reference, **env):
        """Adds a model and gives its files."""
        m = json.loads(self.run("add", reference, "-o", "json", **env))
        return {f["path"]: (pathlib.Path(m["path"]) / f["path"]).read_bytes() for f in m["files"]}

    def assert_empty(self):
        """No model, and no file that was taken for one."""
        assert self.models() == {}
        assert list((self.home / "data/model-store/blobs").iterdir()) == []


def models_from_disk_are_added_listed_checked_and_removed(program):
    with Store(program) as s:
        folder = s.home / "usb" / "model"
        (folder / "sub").mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "sub" / "w.safetensors").write_bytes(b"weights")
        (s.home / "usb" / "x.gguf").write_bytes(b"GGUF")
        assert "2 files, 9 B" in s.run("add", "org/name", "--from", folder)
        s.run("add", s.home / "usb" / "x.gguf")
        shutil.rmtree(s.home / "usb")
        names = s.models()
        assert list(names) == [f"file://{s.home}/usb/x.gguf", "hf://org/name"], names
        table = s.run("ls")
        assert "REFERENCE" in table and "hf://org/name" in table and "no" in table, table
        assert "2 models, 0 bad files" in s.run("verify")
        bad = pathlib.Path(names["hf://org/name"]["path"]) / "sub/w.safetensors"
        bad.chmod(0o644)
        bad.write_bytes(b"Weights")
        assert "sub/w.safetensors: wrong digest" in \
            subprocess.run([program, "model", "verify", "hf://org/name", "--data-dir", s.home / "data"],
                           capture_output=True, text=True).stdout
        s.run("verify", "hf://org/name", code=1)
        s.run("rm", "org/name")
        s.run("rm", f"file://{s.home}/usb/x.gguf")
        s.assert_empty()
        assert "is not in the model store" in s.run("rm", "hf://org/name", code=1)
        assert "expected hf://ORG/NAME" in s.run("add", "hf://name", code=1)
        assert "expected one of hf://" in s.run("add", "hdfs://x/y", code=1)
        s.run("frobnicate", code=2)
        s.run("add", code=2)


def a_file_comes_in_ranges_and_is_checked(program):
    data = content(20 * MIB, 1)
    digest = hashlib.sha256(data).hexdigest()
    with Store(program) as s, Server() as server:
        server.files["/m/x.gguf"] = data
        assert s.add(f"{server.url}/m/x.gguf?sha256={digest}") == {"x.gguf": data}
        ranges = {h.get("Range") for h in server.asked("/m/x.gguf")}
        assert len(ranges) > 1, ranges  # some of it was asked for beside the rest
        assert all("sha256" not in query for _, query, _ in server.requests)
        s.run("rm", f"{server.url}/m/x.gguf?sha256={digest}")
        wrong = "0" * 64
        said = s.run("add", f"{server.url}/m/x.gguf#sha256={wrong}", code=1)
        assert digest in said and wrong in said, said
        s.assert_empty()


def what_is_cut_goes_on_where_it_was_cut(program):
    data = content(9 * MIB, 2)
    with Store(program) as s, Server() as server:
        server.files["/x.gguf"] = data
        for cut in (0, 1000, 3 * MIB, 1 * MIB):
            server.fault("/x.gguf", cut=cut)
        assert s.add(f"{server.url}/x.gguf") == {"x.gguf": data}
        # A Content-Length that promises more than comes.
        server.files["/lie.gguf"] = data
        server.fault("/lie.gguf", lie=1000)
        assert s.add(f"{server.url}/lie.gguf") == {"lie.gguf": data}
        # No ranges: from the start again. No length either: the end of the chunks is the end.
        server.files["/plain.gguf"] = data
        server.fault("/plain.gguf", no_ranges=True, cut=5 * MIB)
        server.fault("/plain.gguf", no_ranges=True, always=True)
        assert s.add(f"{server.url}/plain.gguf") == {"plain.gguf": data}
        server.files["/chunked.gguf"] = data
        server.fault("/chunked.gguf", no_ranges=True, chunked=True, cut=1)
        server.fault("/chunked.gguf", no_ranges=True, chunked=True, always=True)
        assert s.add(f"{server.url}/chunked.gguf") == {"chunked.gguf": data}
        # Equal content is kept once.
        assert len(list((s.home / "data/model-store/blobs").iterdir())) == 1
        # One that is too slow: given up, and asked again.
        slow = threading.Event()
        server.files["/slow.gguf"] = data
        server.fault("/slow.gguf", hold=slow)
        assert list(json.loads(s.run("add", f"{server.url}/slow.gguf", "-o", "json", "--stall-seconds", "1"))) != []
        assert len(server.asked("/slow.gguf")) > 1
        slow.set()
        # A server that never gives more: said, after a bounded number of tries.
        server.files["/never.gguf"] = data
        server.fault("/never.gguf", cut=0, always=True)
        assert "never.gguf" in s.run("add", f"{server.url}/never.gguf", code=1)
        assert len(server.asked("/never.gguf")) <= 10


def a_killed_download_goes_on(program):
    data = content(32 * MIB, 3)
    with Store(program) as s, Server() as server:
        gate = threading.Event()
        server.files["/x.gguf"] = data
        server.fault("/x.gguf")  # brings a chunk and the size
        server.fault("/x.gguf")
        server.fault("/x.gguf", hold=gate, always=True)
        running = s.start("add", f"{server.url}/x.gguf")
        maps = s.home / "data/model-store/incoming"

        def chunks_done():
            return sum(m.read_bytes()[512:].count(b"x") for m in maps.glob("*/*.map"))
        wait_for("two chunks on the disk", lambda: chunks_done() == 2)
        assert "being added by another process" in s.run("add", f"{server.url}/x.gguf", code=1)
        running.send_signal(signal.SIGKILL)
        running.wait(PATIENCE)
        running.stdout.close()
        running.stderr.close()
        before = chunks_done()
        gate.set()
        server.faults["/x.gguf"].clear()
        num_before = len(server.asked("/x.gguf"))
        assert s.add(f"{server.url}/x.gguf") == {"x.gguf": data}
        ranges = [h["Range"].removeprefix("bytes=").split("-") for h in server.asked("/x.gguf")[num_before:]]
        assert sum(int(last) - int(first) + 1 for first, last in ranges) == len(data) - before * 8 * MIB, ranges
        # SIGTERM: ended in order, and with nothing that looks like a model.
        gate.clear()
        server.files["/y.gguf"] = data
        server.fault("/y.gguf", hold=gate, always=True)
        running = s.start("add", f"{server.url}/y.gguf")
        wait_for("the request", lambda: server.asked("/y.gguf"))
        running.terminate()
        said = running.communicate(timeout=PATIENCE)[1]
        assert running.returncode == 1 and "cancelled" in said, said
        gate.set()


def content_that_changes_meanwhile_is_never_mixed(program):
    one, two = content(20 * MIB, 4), content(20 * MIB, 5)
    with Store(program) as s, Server() as server:
        server.files["/x.gguf"] = one
        server.fault("/x.gguf", cut=9 * MIB)
        server.fault("/x.gguf", status=503, headers=[("Retry-After", "1")])
        running = s.start("add", f"{server.url}/x.gguf", "-o", "json")
        wait_for("the second request", lambda: len(server.asked("/x.gguf")) >= 2)
        server.files["/x.gguf"] = two
        out, said = running.communicate(timeout=PATIENCE)
        assert running.returncode == 0, said
        m = json.loads(out)
        assert (pathlib.Path(m["path"]) / "x.gguf").read_bytes() == two


def servers_that_refuse_are_named(program):
    with Store(program) as s, Server() as server:
        server.files["/x.gguf"] = b"GGUF"
        url = f"{server.url}/x.gguf"
        assert "404 Not Found" in s.run("add", f"{server.url}/none.gguf", code=1)
        server.fault("/x.gguf", status=401, body=b"who are you")
        assert "401 Unauthorized" in s.run("add", url, code=1)
        server.fault("/x.gguf", status=429, headers=[("Retry-After", "3000")])
        assert "429 Too Many Requests" in s.run("add", url, code=1)
        assert len(server.asked("/x.gguf")) == 2  # not asked again before it is time
        server.fault("/x.gguf", status=429, headers=[("Retry-After", "1")])
        assert s.add(url) == {"x.gguf": b"GGUF"}
        with contextlib.closing(__import__("socket").create_server(("127.0.0.1", 0))) as closed:
            port = closed.getsockname()[1]
        said = s.run("add", f"http://127.0.0.1:{port}/secret.gguf?token=hidden", code=1)
        assert "connect" in said.lower() and "hidden" not in said, said


def credentials_stay_with_their_host(program):
    data = content(1 * MIB, 6)
    with Store(program) as s, Server() as server, Server() as other:
        other.files["/far.gguf"] = data
        server.files["/near.gguf"] = data
        back = f"{server.url}/near.gguf"
        for path, to in (("/a.gguf", f"{other.url}/far.gguf"), ("/b.gguf", f"{other.url}/back"),
                         ("/c.gguf", "/near.gguf"), ("/loop.gguf", "/loop.gguf"), ("/odd.gguf", "file:///etc/passwd")):
            server.fault(path, status=302, headers=[("Location", to)], always=True)
        other.fault("/back", status=307, headers=[("Location", back)], always=True)
        token = {"HTTP_BEARER_TOKEN": "very-secret\n"}
        for name in ("a", "b", "c"):
            assert list(s.add(f"{server.url}/{name}.gguf", **token).values()) == [data]
        assert all(h["Authorization"] == "Bearer very-secret" for h in server.asked("/a.gguf"))
        assert not any("Authorization" in h for _, _, h in other.requests)
        near = [h.get("Authorization") for h in server.asked("/near.gguf")]
        assert None in near and "Bearer very-secret" in near, near  # by way of the other host; directly
        assert "redirects" in s.run("add", f"{server.url}/loop.gguf", code=1)
        assert "not http or https" in s.run("add", f"{server.url}/odd.gguf", code=1)


def the_budget_is_kept(program):
    with Store(program) as s, Server() as server:
        config = s.home / "inferd.yaml"
        config.write_text(f"modelStoreBytesMax: {3 * MIB}\n")
        server.files["/a.gguf"], server.files["/b.gguf"] = content(2 * MIB, 7), content(2 * MIB, 8)
        s.run("add", f"{server.url}/a.gguf", "--config", config)
        said = s.run("add", f"{server.url}/b.gguf", "--config", config, code=1)
        assert f"budget (modelStoreBytesMax) {3 * MIB}" in said and "inferd model rm" in said, said
        # Nobody says how long it is: stopped all the same.
        server.files["/c.gguf"] = content(70 * MIB, 9)
        server.fault("/c.gguf", no_ranges=True, chunked=True, always=True)
        assert "budget" in s.run("add", f"{server.url}/c.gguf", "--config", config, code=1)
        assert list(s.models()) == [f"{server.url}/a.gguf"]


def repositories_of_the_hub(program):
    weights = content(3 * MIB, 10)
    files = {"config.json": b"{}", "model.safetensors": weights, "pytorch_model.bin": b"old", ".gitattributes": b"x",
             "onnx/model.onnx": b"y", "tokenizer.json": b"{\"a\": 1}"}
    with Store(program) as s, Server() as server:
        hub = {"HF_ENDPOINT": server.url + "/"}
        server.add_hub("org/name", files)
        server.add_hub("org/gated", files, token="hf_secret")
        server.add_hub("org/quants", {"q4.gguf": b"GGUF4", "q8.gguf": b"GGUF8"}, revision="v1")
        got = s.add("hf://org/name", **hub)
        assert got == {k: files[k] for k in ("config.json", "model.safetensors", "tokenizer.json")}, list(got)
        assert s.models()["hf://org/name"]["revision"].startswith("0123456789")
        said = s.run("add", "hf://org/gated", code=1, **hub)
        assert "set HF_TOKEN from a Secret" in said and "401" in said, said
        assert len(s.add("hf://org/gated", HF_TOKEN="hf_secret\n", **hub)) == 3
        assert s.add("hf://org/quants:v1/q8.gguf", **hub) == {"q8.gguf": b"GGUF8"}
        assert "q4.gguf, q8.gguf" in s.run("add", "hf://org/quants:v1", code=1, **hub)
        assert "no file \"q5.gguf\"" in s.run("add", "hf://org/quants:v1/q5.gguf", code=1, **hub)
        assert "no such repository or revision" in s.run("add", "hf://org/none", code=1, **hub)
        # What the source says is held against what comes: of LFS, and of git.
        for path in ("model.safetensors", "tokenizer.json"):
            server.add_hub("org/bad", {path: content(1 * MIB, 14)}, commit="bad" * 12)
            server.files[f"/org/bad/resolve/{'bad' * 12}/{path}"] = content(1 * MIB, 15)
            said = s.run("add", "hf://org/bad", code=1, **hub)
            assert f"file {path}: what came has the digest" in said, said
        # Names that lead out of the store are refused before anything is asked for.
        for name in ("../../evil", "/etc/evil", "a/../../evil"):
            server.add_hub("org/evil", {name: b"evil"})
            assert "not a name within a model" in s.run("add", "hf://org/evil", code=1, **hub)
        assert not any("evil" in p.name for p in s.home.rglob("*"))


def buckets(program):
    objects = {"models/llm/config.json": b"{}", "models/llm/w 1&2.safetensors": content(9 * MIB, 11),
               "models/llm-2/other": b"no", "models/llm/": b"", "models/one.gguf": b"GGUF"}
    with Store(program) as s, Server() as server:
        server.add_bucket("open", objects, page=1)
        server.add_bucket("closed", objects, "AKIA", "s3cret", region="eu-west-1")
        s3 = {"AWS_ENDPOINT_URL": server.url}
        expected = {k.removeprefix("models/llm/"): v for k, v in objects.items() if k.startswith("models/llm/") and v}
        assert s.add("s3://open/models/llm", **s3) == expected
        assert s.add("s3://open/models/one.gguf", **s3) == {"one.gguf": b"GGUF"}
        keys = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_REGION": "eu-west-1"}
        assert s.add("s3://closed/models/llm", **s3, **keys) == expected
        keys["AWS_SECRET_ACCESS_KEY"] = "wrong"
        s.run("rm", "s3://closed/models/llm")
        assert "403 Forbidden" in s.run("add", "s3://closed/models/llm", code=1, **s3, **keys)
        assert "nothing is there" in s.run("add", "s3://open/none", code=1, **s3)


def google_storage(program):
    data = content(1 * MIB, 12)
    with Store(program) as s, Server() as server:
        def listing(handler, query):
            if handler.headers.get("Authorization") != "Bearer ya29":
                return 403, {}
            if "pageToken" not in query:
                return 200, {"items": [{"name": "m/config.json", "size": "2"}], "nextPageToken": "more"}
            return 200, {"items": [{"name": "m/sub/w.bin", "size": str(len(data))}]}
        server.routes["/storage/v1/b/bucket/o"] = listing
        server.files["/bucket/m/config.json"], server.files["/bucket/m/sub/w.bin"] = b"{}", data
        env = {"STORAGE_EMULATOR_HOST": server.url, "CLOUDSDK_AUTH_ACCESS_TOKEN": "ya29"}
        assert s.add("gs://bucket/m", **env) == {"config.json": b"{}", "sub/w.bin": data}


def registries(program):
    data = content(2 * MIB, 13)
    title = "org.opencontainers.image.title"
    with Store(program) as s, Server() as server:
        def give_token(handler, query):
            if handler.headers.get("Authorization") != "Basic dXNlcjpwYXNz":
                return 401, {}
            assert query == {"service": ["here"], "scope": ["repository:team/model:pull"]}, query
            return 200, {"token": "t0ken"}
        server.routes["/token"] = give_token
        layers = [({title: "config.json"}, "application/octet-stream", b"{}"),
                  ({title: "w/1.safetensors"}, "application/octet-stream", data)]
        digest = server.add_artifact("team/model", "v1", layers, token="t0ken")
        server.add_artifact("team/open", "v1", layers)
        server.add_artifact("team/image", "v1", [({}, "application/vnd.oci.image.layer.v1.tar+gzip", b"x")])
        host = f"oci://127.0.0.1:{server.port}"
        expected = {"config.json": b"{}", "w/1.safetensors": data}
        assert s.add(f"{host}/team/open:v1") == expected
        assert "imagePullSecrets" in s.run("add", f"{host}/team/model:v1", code=1)
        assert s.add(f"{host}/team/model:v1", REGISTRY_AUTH="dXNlcjpwYXNz") == expected
        assert s.models()[f"{host}/team/model:v1"]["revision"] == digest
        assert "is an archive" in s.run("add", f"{host}/team/image:v1", code=1)
        other = f"{host}/team/open@sha256:{'0' * 64}"
        server.routes[f"/v2/team/open/manifests/sha256:{'0' * 64}"] = server.routes["/v2/team/open/manifests/v1"]
        assert "the manifest that came has the digest" in s.run("add", other, code=1)


if __name__ == "__main__":
    run_tests(models_from_disk_are_added_listed_checked_and_removed, a_file_comes_in_ranges_and_is_checked,
              what_is_cut_goes_on_where_it_was_cut, a_killed_download_goes_on,
              content_that_changes_meanwhile_is_never_mixed, servers_that_refuse_are_named,
              credentials_stay_with_their_host, the_budget_is_kept, repositories_of_the_hub, buckets, google_storage,
              registries)
