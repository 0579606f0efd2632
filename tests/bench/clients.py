"""The two light clients of store_bench.py: the Kubernetes API over HTTP/1.1 and etcd's v3 API over
gRPC. Both send bytes that were made before the clock starts and only look for the end of an answer,
so that the servers are compared, not the clients. Standard library only.

A connection has a socket that does not block and `feed(bytes)`, which gives the bodies of the
answers (or, for a watch, the events) that these bytes complete."""
import base64
import json
import pathlib
import re
import selectors
import socket
import ssl
import struct
import tempfile
import time

READ_BYTES = 1 << 18
RECORD_BYTES = 1 << 14  # all that one read of a TLS connection gives


class Connection:
    """A socket and what came in over it; see the subclasses for the two protocols."""

    def __init__(self, host, port, tls=None):
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)
        self.tls = bool(tls)
        self.data = bytearray()

    def close(self):
        self.socket.close()

    def receive(self):
        """Reads what there is (blocks when the socket does); gives what it completes."""
        done = []
        while True:
            try:
                chunk = self.socket.recv(RECORD_BYTES if self.tls else READ_BYTES)
            except (ssl.SSLWantReadError, BlockingIOError):
                return done
            if not chunk:
                raise ConnectionError("the server closed the connection: %r" % bytes(self.data[:300]))
            done += self.feed(chunk)
            if not (self.tls and self.socket.pending()):
                return done

    def call(self, request):
        """Sends one request and waits for its answer."""
        self.socket.sendall(request)
        while True:
            done = self.receive()
            if done:
                return done[0]


class Kube(Connection):
    """HTTP/1.1 with keep-alive. `watching`, to be set before a watch is asked for, gives the lines of
    the stream as they come."""

    def __init__(self, host, port, tls):
        super().__init__(host, port, tls)
        self.watching = False
        self.chunked = False     # within an answer whose length is not known yet
        self.text = bytearray()  # of that answer, without its framing

    @staticmethod
    def request(method, path, body=None, accept="application/json"):
        data = json.dumps(body).encode() if body is not None else b""
        return (f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAccept: {accept}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data

    def feed(self, chunk):
        self.data += chunk
        done = []
        while True:
            if self.chunked:
                done += self.chunks()
                if self.chunked:
                    return done
            head = self.data.find(b"\r\n\r\n")
            if head < 0:
                return done
            fields = bytes(self.data[:head]).lower()
            status = int(fields[9:12])
            at = fields.find(b"content-length:")
            if at < 0:
                assert b"chunked" in fields and status < 300, (fields, bytes(self.data[head:]))
                self.chunked = True
                del self.data[:head + 4]
                continue
            size = int(fields[at + 15:].split(b"\r", 1)[0])
            if len(self.data) < head + 4 + size:
                return done
            body = bytes(self.data[head + 4:head + 4 + size])
            del self.data[:head + 4 + size]
            assert status < 300, (status, body[:500])
            done.append(body)

    def chunks(self):
        """Takes whole chunks off; gives the events that are whole, or the answer at its end."""
        at = 0
        while self.chunked and (end := self.data.find(b"\r\n", at)) >= 0:
            size = int(self.data[at:end], 16)
            if len(self.data) < end + 2 + size + 2:
                break
            self.text += self.data[end + 2:end + 2 + size]
            at = end + 2 + size + 2
            self.chunked = size > 0
        del self.data[:at]
        if self.watching:
            whole = self.text.rfind(b"\n") + 1
            found = bytes(self.text[:whole]).splitlines()
            del self.text[:whole]
            return found
        if self.chunked:
            return []
        body = bytes(self.text)
        self.text.clear()
        return [body]


def kube_client(kubeconfig):
    """(host, port, TLS context) of the daemon's kubeconfig, which has one cluster and one user."""
    found = dict(re.findall(r'"?([a-z-]+)"?: "?([^"\s,]+)', pathlib.Path(kubeconfig).read_text()))
    tls = ssl.create_default_context(cadata=base64.b64decode(found["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(base64.b64decode(found["client-certificate-data"]) +
                   base64.b64decode(found["client-key-data"]))
        pair.flush()
        tls.load_cert_chain(pair.name)
    host, port = found["server"].split("//")[1].rsplit(":", 1)
    return host, int(port), tls


def _varint(n):
    out = bytearray()
    while n > 0x7f:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, value):
    """One protobuf field: bytes or a number."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def etcd_put(key, value):
    """Txn: put when the key is absent, as kube-apiserver creates an object."""
    absent = field(1, 0) + field(2, 1) + field(3, key) + field(5, 0)  # EQUAL, CREATE, key, 0
    put = field(2, field(1, key) + field(2, value))
    return "Txn", field(1, absent) + field(2, put)


def etcd_range(prefix, limit=0):
    end = prefix[:-1] + bytes([prefix[-1] + 1])
    return "Range", field(1, prefix) + field(2, end) + (field(3, limit) if limit else b"")


def etcd_watch(prefix):
    end = prefix[:-1] + bytes([prefix[-1] + 1])
    return "Watch", field(1, field(1, prefix) + field(2, end))


class Etcd(Connection):
    """gRPC, on as much of HTTP/2 as it takes: literal headers, one SETTINGS, windows wide open."""
    WINDOW = (1 << 31) - 1

    def __init__(self, host, port):
        super().__init__(host, port)
        self.next_id = 1
        self.messages = {}  # stream: bytes not yet whole
        self.owed = 0       # bytes received since the last WINDOW_UPDATE
        self.watching = False
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" +
                            self.frame(4, 0, 0, struct.pack(">HI", 4, self.WINDOW)) +
                            self.frame(8, 0, 0, struct.pack(">I", self.WINDOW - 65535)))

    @staticmethod
    def frame(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload

    def request(self, method, message):
        service = "Watch" if method == "Watch" else "KV"
        head = b"".join(b"\0" + _varint(len(n)) + n + bytes([len(v)]) + v for n, v in (
            (b":method", b"POST"), (b":scheme", b"http"),
            (b":path", f"/etcdserverpb.{service}/{method}".encode()), (b":authority", b"bench"),
            (b"content-type", b"application/grpc"), (b"te", b"trailers")))
        stream, self.next_id = self.next_id, self.next_id + 2
        body, data = b"\0" + struct.pack(">I", len(message)) + message, b""
        for at in range(0, len(body), 16384):
            last = at + 16384 >= len(body) and method != "Watch"
            data += self.frame(0, int(last), stream, body[at:at + 16384])
        return self.frame(1, 4, stream, head) + data

    def feed(self, chunk):
        self.data += chunk
        done, at = [], 0
        while len(self.data) - at >= 9:
            size = int.from_bytes(self.data[at:at + 3], "big")
            if len(self.data) - at < 9 + size:
                break
            kind, flags, stream = struct.unpack_from(">BBI", self.data, at + 3)
            payload = bytes(self.data[at + 9:at + 9 + size])
            at += 9 + size
            done += self.take(kind, flags, stream, payload)
        del self.data[:at]
        if self.owed > 1 << 24:
            self.socket.sendall(self.frame(8, 0, 0, struct.pack(">I", self.owed)))
            self.owed = 0
        return done

    def take(self, kind, flags, stream, payload):
        if kind == 4 and not flags & 1:
            self.socket.sendall(self.frame(4, 1, 0, b""))
        elif kind == 6 and not flags & 1:
            self.socket.sendall(self.frame(6, 1, 0, payload))
        elif kind in (3, 7):
            raise ConnectionError(f"etcd ended the stream: {payload!r}")
        elif kind == 0:
            self.owed += len(payload)
            whole = self.messages.setdefault(stream, bytearray())
            whole += payload
            if self.watching and len(whole) >= 5:
                size = int.from_bytes(whole[1:5], "big")
                if len(whole) >= 5 + size:
                    body = bytes(whole[5:5 + size])
                    del whole[:5 + size]
                    return [body]
        elif kind == 1 and flags & 1:  # trailers: the answer is whole
            assert stream in self.messages, f"etcd refused: {payload!r}"
            return [bytes(self.messages.pop(stream)[5:])]
        return []


def drive(connections, requests):
    """Keeps one request in flight on each connection until all were answered. `requests` is a list
    of functions from a connection to bytes. Gives seconds."""
    waiting = iter(requests)
    start = time.perf_counter()
    open_requests = 0
    with selectors.DefaultSelector() as selector:
        for c in connections:
            selector.register(c.socket, selectors.EVENT_READ, c)
            make = next(waiting, None)
            if make:
                c.socket.sendall(make(c))
                open_requests += 1
        while open_requests:
            for key, _ in selector.select(60):
                c = key.data
                for _ in c.receive():
                    open_requests -= 1
                    make = next(waiting, None)
                    if make:
                        c.socket.sendall(make(c))
                        open_requests += 1
    return time.perf_counter() - start
