"""A stand-in for the service: its routes from memory, and every fault that can be asked for.

The real service is never slow, cut short or wrong on purpose. This one is::

    with StandIn() as server:
        server.on("GET", r"/runs/abc", Reply(503), None)    # once 503, then as always
        server.on("GET", r"/workflows", Reply(hang="body"))
        ...
        assert server.count("GET", r"/runs/.*") == 2

What no rule is for is answered as flowServ would (`standin_routes`).
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from standin_routes import Routes

__all__ = ["ROOT", "Asked", "Reply", "StandIn"]

ROOT = "/flowserv/api/v1"


@dataclass(frozen=True)
class Asked:
    """A request as it came; `path` is below the API root, still percent-encoded."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: tuple[str, int]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What to answer, and what to do wrong while answering.

    Attributes
    ----------
    body : bytes or Any
        Bytes as they are; everything else as JSON.
    delay : float
        Wait so many seconds before anything.
    hang : str
        Say no more ``"before"`` anything, within the ``"headers"`` or within the ``"body"``,
        until the client goes away.
    drip : str
        Send ``"headers"`` or ``"body"`` a byte at a time, `pause` seconds between.
    dripped : int, optional
        How many bytes at the end are sent so; by default all.
    reset : bool
        Reset the connection instead of answering.
    reset_within : bool
        Reset the connection in the middle of the body.
    cut : int or float, optional
        Close the connection after that many bytes of the body, or that part of it.
    cut_headers : bool
        Close the connection within the headers.
    length : int or bool
        Say another Content-Length; False: say none and close the connection behind the body.
    chunked : bool
        Send the body in chunks, without a length.
    gzip : bool
        Compress the body, whether the client takes that or not.
    raw : bytes
        Send these bytes and nothing else, and close the connection.
    closes : bool
        Close the connection behind the body, and do not say so.
    ranges : bool or str
        Honour a Range header (True), ignore it (False), or answer with this Content-Range.
    """

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hang: str = ""
    drip: str = ""
    pause: float = 0.05
    dripped: int | None = None
    reset: bool = False
    reset_within: bool = False
    cut: int | float | None = None
    cut_headers: bool = False
    length: int | bool = True
    chunked: bool = False
    gzip: bool = False
    raw: bytes = b""
    closes: bool = False
    ranges: bool | str = True


Answer = Reply | Callable[[Asked], "Reply | None"] | None


class StandIn:
    """The server, on a free port of the loopback interface.

    Attributes
    ----------
    endpoint : str
        URL of the API root.
    routes : Routes
        What it answers by itself, and what it knows.
    asked : list of Asked
        Every request, in the order in which they came.
    connections : int
        How many connections were made.
    lock : Lock
        Held while `routes` answer; to be held by who changes them beside requests.
    """

    def __init__(self) -> None:
        self.routes = Routes()
        self.asked: list[Asked] = []
        self.connections = 0
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self._rules: list[tuple[str, re.Pattern[str], list[Answer]]] = []
        self._sockets: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.standin = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.endpoint = self.origin + ROOT
        self.routes.url = self.endpoint

    def on(self, method: str, pattern: str, *answers: Answer) -> None:
        """Answer requests whose path matches; one answer each, the last for ever.

        None is the stand-in's own answer. Of two rules the newer counts.
        """
        with self.lock:
            self._rules.insert(0, (method, re.compile(pattern), list(answers)))

    def requests(self, method: str = ".*", pattern: str = ".*") -> list[Asked]:
        """Return the requests that came so far, as far as they match."""
        return [
            asked
            for asked in list(self.asked)
            if re.fullmatch(method, asked.method) and re.fullmatch(pattern, asked.path)
        ]

    def count(self, method: str = ".*", pattern: str = ".*") -> int:
        """Return how many requests match."""
        return len(self.requests(method, pattern))

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self.let_go()
        self._server.server_close()  # waits for the threads
        self._thread.join()

    def let_go(self) -> None:
        """End all connections, and whatever is slow on purpose."""
        self.stopped.set()
        self.restart()

    def restart(self) -> None:
        """End all connections at once, as a service does that is started anew.

        Whatever was being answered is lost; who asks again is answered.
        """
        with self.lock:
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    # -- for the handler ---------------------------------------------------

    def connected(self, connection: socket.socket) -> None:
        with self.lock:
            self.connections += 1
            self._sockets.add(connection)

    def disconnected(self, connection: socket.socket) -> None:
        with self.lock:
            self._sockets.discard(connection)

    def answer(self, asked: Asked) -> Reply:
        with self.lock:
            self.asked.append(asked)
            answer: Answer = None
            for method, pattern, answers in self._rules:
                if method == asked.method and pattern.fullmatch(asked.path):
                    answer = answers.pop(0) if len(answers) > 1 else answers[0]
                    break
        if callable(answer):
            answer = answer(asked)
        return self.own(asked) if answer is None else answer

    def own(self, asked: Asked) -> Reply:
        """Do what is asked for, and return what the service would answer."""
        with self.lock:
            status, body = self.routes.answer(
                asked.method, unquote(asked.path), asked.headers, asked.body
            )
        return Reply(status, body)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128
    standin: StandIn

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what is tested; anything else shows in their results."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.standin.connected(self.connection)

    def finish(self) -> None:
        self.server.standin.disconnected(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # broken off: no request
            self.close_connection = True
            return
        reply = self.server.standin.answer(
            Asked(
                self.command,
                parts.path.removeprefix(ROOT),
                parts.query,
                dict(self.headers.items()),
                body,
                self.client_address,
            )
        )
        try:
            self._send(reply)
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _send(self, reply: Reply) -> None:
        if reply.delay and self.server.standin.stopped.wait(reply.delay):
            raise ConnectionError
        if reply.reset:
            self._reset()
        if reply.raw:
            self.wfile.write(reply.raw)
            return self._close()
        if reply.hang == "before":
            self._hang()
        status, body, headers = self._ranged(reply)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        start = f"HTTP/1.1 {status} As asked\r\n{head}".encode("latin-1")
        if reply.hang == "headers":
            self.wfile.write(start)
            self._hang()
        if reply.cut_headers:
            self.wfile.write(start)
            return self._close()
        self._write(start + b"\r\n", reply, "headers")
        if self.command == "HEAD":
            return None
        if reply.hang == "body":
            self.wfile.write(body[: len(body) // 2])
            self._hang()
        if reply.chunked:
            pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)]
            ends = b"" if reply.cut is not None else b"0\r\n\r\n"
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + ends
        if reply.reset_within:
            self.wfile.write(body[: len(body) // 2])
            self._reset()
        cut = int(len(body) * reply.cut) if isinstance(reply.cut, float) else reply.cut
        self._write(body[:cut], reply, "body")
        if reply.cut is not None or reply.length is not True or reply.closes:
            self._close()
        return None

    def _ranged(self, reply: Reply) -> tuple[int, bytes, dict[str, str]]:
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        status, headers = reply.status, {"Content-Type": "application/json"}
        if reply.gzip:
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if isinstance(reply.ranges, str):
            status, headers["Content-Range"] = 206, reply.ranges
        elif asked and reply.ranges and status == 200 and not reply.gzip:
            total, first = len(body), int(asked[1])
            last = min(int(asked[2] or total), total - 1)
            if first >= total:
                status, body, span = 416, b"", "*"
            else:
                status, body, span = 206, body[first : last + 1], f"{first}-{last}"
            headers["Content-Range"] = f"bytes {span}/{total}"
        if reply.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif reply.length is False:
            headers["Connection"] = "close"
        elif status != 204:
            headers["Content-Length"] = str(len(body) if reply.length is True else reply.length)
        return status, body, {**headers, **reply.headers}

    def _write(self, data: bytes, reply: Reply, part: str) -> None:
        if reply.drip != part:
            self.wfile.write(data)
            return
        slow = len(data) if reply.dripped is None else min(reply.dripped, len(data))
        self.wfile.write(data[: len(data) - slow])
        for byte in data[len(data) - slow :]:
            self.wfile.write(bytes([byte]))
            if self.server.standin.stopped.wait(reply.pause):
                raise ConnectionError

    def _close(self) -> None:
        self.close_connection = True

    def _reset(self) -> None:
        # Lingering for no time at all makes of a close a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        raise ConnectionError

    def _hang(self) -> None:
        self.connection.recv(1)  # nothing comes until the client goes away
        raise ConnectionError
