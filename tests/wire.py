"""HTTP as other clients send it: exact headers, watches line by line, protobuf bodies. For the tests that replay what a
client does on the wire. Standard library only."""
import base64
import hashlib
import http.client
import json
import os
import socket
import ssl
import urllib.parse

from harness import PATIENCE

AGGREGATED = ("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
              "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json")
TABLE = ("application/json;as=Table;v=v1;g=meta.k8s.io,"
         "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json")
PROTOBUF = "application/vnd.kubernetes.protobuf"
TYPED = PROTOBUF + ",application/json"  # client-go's clientset from 0.32 on
DYNAMIC = "application/json"            # its dynamic client
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.raw = response.status, response.headers, response.read()
        self.kind = (response.headers["Content-Type"] or "").replace(" ", "")

    @property
    def json(self):
        return json.loads(self.raw)


class Client:
    """One client, with what it says in every request. token None: the admin's."""

    def __init__(self, d, agent, token=None, **headers):
        self.host = d.kube.split("://")[1]
        self.headers = {"User-Agent": agent, **{k.replace("_", "-"): v for k, v in headers.items()}}
        token = token or (d.data / "pki" / "tokens.csv").read_text().split(",")[0]
        self.headers["Authorization"] = "Bearer " + token
        self.connection = self.connect()

    def connect(self):
        return http.client.HTTPSConnection(self.host, context=ssl._create_unverified_context(), timeout=PATIENCE)

    def send(self, method, path, body=None, accept="application/json", kind=None):
        """One request; gives an Answer, whatever its status."""
        headers = {**self.headers, "Accept": accept}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if kind or body is not None:
            headers["Content-Type"] = kind or "application/json"
        self.connection.request(method, path, body, headers)
        return Answer(self.connection.getresponse())

    def must(self, status, method, path, body=None, **how):
        """The parsed answer, which every client takes for JSON by its Content-Type."""
        answer = self.send(method, path, body, **how)
        assert answer.status == status, (method, path, answer.status, answer.raw[:600])
        assert answer.kind.startswith("application/json"), (path, answer.kind)
        return answer.json

    def get(self, path, **how):
        return self.must(200, "GET", path, **how)

    def watch(self, path, accept="application/json"):
        return Watch(self, path, accept)

    def watch_socket(self, path):
        return SocketWatch(self, path)


class Watch:
    """An open watch. Use as a context manager."""

    def __init__(self, client, path, accept):
        self.connection = client.connect()
        self.connection.request("GET", path, headers={**client.headers, "Accept": accept})
        self.response = self.connection.getresponse()
        kind = self.response.headers["Content-Type"] or ""
        assert self.response.status == 200 and kind.startswith("application/json"), (path, self.response.status, kind)
        self.path, self.seen = path, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.response.close()
        self.connection.close()

    def read(self):
        """The text of the next event; empty: the server ended the watch."""
        return self.response.readline()

    def next(self):
        """The next event; None: the server ended the watch."""
        text = self.read()
        if not text:
            return None
        event = json.loads(text)
        assert set(event) == {"type", "object"} and event["object"]["kind"], event
        assert event["type"] in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"), event
        self.seen.append(event)
        return event

    def until(self, fits):
        """The first event that fits(type, object); the ones before stay in `seen`."""
        while True:
            event = self.next()
            assert event, f"{self.path} ended after {[e['type'] for e in self.seen]}"
            if fits(event["type"], event["object"]):
                return event


class SocketWatch(Watch):
    """A watch over WebSocket, as browsers and Headlamp's multiplexer open it: an event is a text frame."""

    def __init__(self, client, path):
        self.path, self.seen = path, []
        host, _, port = client.host.rpartition(":")
        key = base64.b64encode(os.urandom(16)).decode()
        plain = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.connection = ssl._create_unverified_context().wrap_socket(plain)
        self.response = self.connection.makefile("rb")
        headers = {**client.headers, "Host": client.host, "Connection": "Upgrade", "Upgrade": "websocket",
                   "Origin": "https://" + client.host, "Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13"}
        lines = [f"GET {path} HTTP/1.1"] + [f"{k}: {v}" for k, v in headers.items()]
        self.connection.sendall("\r\n".join(lines + ["", ""]).encode())
        status = self.response.readline()
        answered = http.client.parse_headers(self.response)
        assert b" 101 " in status, status
        proof = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        assert answered["Sec-WebSocket-Accept"] == base64.b64encode(proof).decode(), answered
        assert "Sec-WebSocket-Protocol" not in answered, "none was offered"

    def exact(self, num):
        data = self.response.read(num)
        assert len(data) == num, "the connection ended inside a frame"
        return data

    def send(self, opcode, data):
        mask = os.urandom(4)
        masked = bytes(b ^ mask[i % 4] for i, b in enumerate(data))
        self.connection.sendall(bytes([0x80 | opcode, 0x80 | len(data)]) + mask + masked)

    def read(self):
        text = b""
        while True:
            first, size = self.exact(2)
            assert not size & 0x80, "a server's frames are not masked"
            size = int.from_bytes(self.exact(2 if size == 126 else 8), "big") if size >= 126 else size
            data, opcode = self.exact(size), first & 0xf
            if opcode == 9:
                self.send(10, data)
            elif opcode == 8:
                return b""
            elif opcode < 3:
                text += data
                if first & 0x80:
                    return text


def query(path, **parameters):
    """The path with parameters, in Go's order: by name. _continue is continue."""
    pairs = sorted((k.lstrip("_"), v) for k, v in parameters.items() if v is not None)
    return path + ("?" + urllib.parse.urlencode(pairs) if pairs else "")


def path_of(version, plural, namespace=None, name=None, sub=None):
    """The path of a resource: version is "v1", or "apps/v1"."""
    parts = ["/apis" if "/" in version else "/api", version]
    parts += ["namespaces", namespace] if namespace else []
    return "/".join(parts + [plural] + [p for p in (name, sub) if p])


def resources(client):
    """What aggregated discovery lists: {(version, plural): entry}, in its order."""
    found = {}
    for root in ("/api", "/apis"):
        answer = client.send("GET", root, accept=AGGREGATED)
        assert "as=APIGroupDiscoveryList" in answer.kind, answer.kind
        for item in answer.json["items"]:
            group = item["metadata"].get("name", "")
            for version in item["versions"]:
                assert version["freshness"] == "Current"
                for entry in version["resources"]:
                    name = f"{group}/{version['version']}" if group else version["version"]
                    found[name, entry["resource"]] = entry
    return found


def varint(number):
    out = b""
    while number > 0x7f:
        out += bytes([number & 0x7f | 0x80])
        number >>= 7
    return out + bytes([number])


def message(*fields):
    """A protobuf message of (number, bytes or text or integer or True)."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(int(value))
        else:
            value = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def envelope(version, kind, raw):
    """What client-go puts around a message."""
    return b"k8s\0" + message((1, message((1, version), (2, kind))), (2, raw), (3, ""), (4, ""))


def object_meta(name, labels=None):
    """ObjectMeta with the empty fields that client-go writes."""
    pairs = [(11, message((1, k), (2, v))) for k, v in (labels or {}).items()]
    return message((1, name), (2, ""), (3, ""), (4, ""), (5, ""), (6, ""), (7, 0), (8, b""), *pairs)
