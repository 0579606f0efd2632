"""A server of models on loopback that behaves as servers on the internet do, and worse: what the
tests of downloads ask. Speaks plain files with ranges, the Hub, S3 and a registry; `faults` says how
the next requests for a path go wrong. Standard library only."""
import collections
import hashlib
import hmac
import http.server
import json
import socket
import threading
import time
import urllib.parse


class Fault:
    """One thing that goes wrong: cut after so many bytes, a status, a redirect, ..."""

    def __init__(self, **what):
        self.what = what

    def __getattr__(self, name):
        return self.what.get(name)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def handle(self):
        try:
            super().handle()
        except ConnectionError:  # the client has what it wanted, or was killed
            self.close_connection = True

    def answer(self, status, body=b"", headers=()):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def cut(self):
        """What was sent arrives, then nothing more does."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self):
        server = self.server.owner
        split = urllib.parse.urlsplit(self.path)
        with server.lock:
            server.requests.append((split.path, split.query, dict(self.headers)))
            waiting = server.faults[split.path]
            fault = waiting[0] if waiting else Fault()
            if waiting and not fault.always:
                waiting.popleft()
        if fault.hold:
            fault.hold.wait(60)
        if fault.status:
            return self.answer(fault.status, fault.body or b"", fault.headers or [])
        route = server.routes.get(split.path)
        if route:
            return self.answer(*route(self, urllib.parse.parse_qs(split.query)))
        data = server.files.get(split.path)
        if data is None:
            return self.answer(404, {"error": "nothing here"})
        return self.send_file(data, fault)

    def send_file(self, data, fault):
        etag = fault.etag or f'"{hashlib.md5(data).hexdigest()}"'
        asked = None if fault.no_ranges else self.headers.get("Range")
        if self.headers.get("If-Range") not in (None, etag):
            asked = None
        first, end = 0, len(data)
        if asked:
            low, high = asked.removeprefix("bytes=").split("-")
            first, end = int(low), min(int(high) + 1 if high else len(data), len(data))
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(data)}")
        if not fault.no_etag:
            self.send_header("ETag", etag)
        body = data[first:end]
        if fault.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body) + (fault.lie or 0)))
        self.end_headers()
        with self.server.owner.lock:
            self.server.owner.bytes_sent += len(body)
        if fault.chunked:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
            if fault.cut is not None:
                return self.cut()
            self.wfile.write(b"0\r\n\r\n")
            return None
        self.wfile.write(body if fault.cut is None else body[:fault.cut])
        if fault.cut is not None:
            self.cut()
        elif fault.lie:
            self.close_connection = True
        return None


class Server:
    """Use as a context manager. files: path to bytes; routes: path to function(handler, query) that
    gives (status, body, headers)."""

    def __init__(self):
        self.files, self.routes, self.requests = {}, {}, []
        self.faults = collections.defaultdict(collections.deque)
        self.bytes_sent = 0
        self.lock = threading.Lock()
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.owner = self
        self.port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *why):
        self.http.shutdown()
        self.http.server_close()

    def fault(self, path, **what):
        with self.lock:
            self.faults[path].append(Fault(**what))

    def asked(self, path):
        """The headers of every request for a path."""
        with self.lock:
            return [headers for p, _, headers in self.requests if p == path]

    # The Hub.

    def add_hub(self, repository, files, revision="main", commit="0123456789abcdef0123456789abcdef01234567",
                token=None, lfs=lambda name: name.endswith((".gguf", ".safetensors"))):
        """A repository with these files (name to bytes)."""
        siblings = []
        for name, data in files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entry = {"rfilename": name, "size": len(data), "blobId": blob}
            if lfs(name):
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            siblings.append(entry)
            self.files[f"/{repository}/resolve/{commit}/{name}"] = data

        def describe(handler, query):
            if token and handler.headers.get("Authorization") != f"Bearer {token}":
                return 401, {"error": "Repository not found"}
            return 200, {"sha": commit, "siblings": siblings}
        self.routes[f"/api/models/{repository}/revision/{revision}"] = describe

    # S3.

    def add_bucket(self, bucket, objects, key_id=None, secret=None, region="us-east-1", page=1000):
        """A bucket with these objects (key to bytes); requests must be signed when key_id is given."""
        def check(handler, path, query):
            return not key_id or signature_ok(handler, path, query, key_id, secret, region)

        def escape(text):
            return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")

        def listing(handler, query):
            if not check(handler, f"/{bucket}/", query):
                return 403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
            start = int(query.get("continuation-token", ["0"])[0])
            keys = sorted(k for k in objects if k.startswith(query["prefix"][0]))
            body = "<?xml version=\"1.0\"?><ListBucketResult>"
            for key in keys[start:start + page]:
                etag = f'"{hashlib.md5(objects[key]).hexdigest()}"'
                body += (f"<Contents><Key>{escape(key)}</Key><ETag>{escape(etag)}</ETag>"
                         f"<Size>{len(objects[key])}</Size></Contents>")
            if start + page < len(keys):
                body += f"<NextContinuationToken>{start + page}</NextContinuationToken>"
            return 200, (body + "</ListBucketResult>").encode()
        self.routes[f"/{bucket}/"] = listing
        for key, data in objects.items():
            path = f"/{bucket}/{urllib.parse.quote(key)}"
            if not key_id:
                self.files[path] = data
                continue
            def get(handler, query, path=path, data=data):
                if not check(handler, path, query):
                    return 403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
                asked = handler.headers["Range"].removeprefix("bytes=").split("-")
                first, last = int(asked[0]), min(int(asked[1]), len(data) - 1)
                etag = f'"{hashlib.md5(data).hexdigest()}"'
                return 206, data[first:last + 1], [("Content-Range", f"bytes {first}-{last}/{len(data)}"),
                                                   ("ETag", etag)]
            self.routes[path] = get

    # A registry.

    def add_artifact(self, repository, tag, layers, token=None):
        """An artefact whose layers are (annotations, media type, bytes); token: by the bearer flow."""
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []}

        def allowed(handler):
            return not token or handler.headers.get("Authorization") == f"Bearer {token}"

        def refuse():
            return 401, {}, [("WWW-Authenticate", f'Bearer realm="{self.url}/token",service="here",'
                                                  f'scope="repository:{repository}:pull"')]
        for annotations, media_type, data in layers:
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            manifest["layers"].append({"mediaType": media_type, "digest": digest, "size": len(data),
                                       "annotations": annotations})
            self.files[f"/v2/{repository}/blobs/{digest}"] = data
        body = json.dumps(manifest).encode()
        self.routes[f"/v2/{repository}/manifests/{tag}"] = \
            lambda handler, query: (200, body) if allowed(handler) else refuse()
        return "sha256:" + hashlib.sha256(body).hexdigest()


def signature_ok(handler, path, query, key_id, secret, region):
    """Signature Version 4, computed from its specification, apart from the program's own code."""
    headers = handler.headers
    given = headers.get("Authorization", "")
    fields = dict(f.strip().split("=", 1) for f in given.removeprefix("AWS4-HMAC-SHA256").split(",") if "=" in f)
    if not fields or fields["Credential"].split("/")[0] != key_id:
        return False
    names = fields["SignedHeaders"].split(";")
    pairs = sorted((k, v) for k, values in query.items() for v in values)
    encoded = "&".join(f"{urllib.parse.quote(k, safe='-_.~')}={urllib.parse.quote(v, safe='-_.~')}" for k, v in pairs)
    canonical = "\n".join(["GET", path, encoded, *(f"{n}:{headers[n].strip()}" for n in names), "", ";".join(names),
                           headers["x-amz-content-sha256"]])
    date = headers["x-amz-date"]
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    recent = abs(time.mktime(time.gmtime()) - time.mktime(time.strptime(date, "%Y%m%dT%H%M%SZ"))) < 900
    return recent and hmac.new(key, text.encode(), hashlib.sha256).hexdigest() == fields["Signature"]
