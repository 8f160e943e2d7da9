"""The real service behind a network that fails now and then: a proxy that knows what it passes on.

Each request is passed on as it came, and answered as the service does, or spoiled in one of the
ways of :data:`FAULTS`. When and how that was is kept, so that an error that somebody sees can be
told from one that nothing explains; and so are the starts of runs, to be counted.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["FAULTS", "Disturbance", "Faulty"]

_START = re.compile(r".*/groups/[^/]+/runs")
_KEPT_ALIVE = 60.0  # seconds after which a connection to the service is made anew
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Disturbance:
    """Something that was done on purpose, and explains errors.

    Attributes
    ----------
    kind : str
        A fault, or what was killed.
    begin, end : float
        Of :func:`time.monotonic`, which all processes share.
    """

    kind: str
    begin: float
    end: float


@dataclass
class _Asked:
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass
class _Reply:
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    length: str | None  # what is said; a reply to HEAD has no body

    def head(self, *, length: str | None) -> bytes:
        told = [*self.headers, *([("Content-Length", length)] if length is not None else [])]
        lines = [f"HTTP/1.1 {self.status} {self.reason}", *(f"{n}: {v}" for n, v in told)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class _Over(Exception):
    """The connection to the client ends."""


class _Connection:
    """One client's connection, and what may be done to it."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client

    def reset(self) -> None:
        # Lingering for no time at all makes of a close a reset.
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _Over

    def send(self, reply: _Reply) -> None:
        self.client.sendall(reply.head(length=reply.length) + reply.body)

    def refuse(self, status: int, *headers: tuple[str, str]) -> None:
        self.send(_Reply(status, "As asked", list(headers), b"no", "2"))


Pass = Callable[[], _Reply]


def _late(to: _Connection, passed: Pass) -> None:
    time.sleep(random.uniform(0.1, 1.0))
    to.send(passed())


def _reset_before(to: _Connection, passed: Pass) -> None:
    to.reset()


def _reset_after(to: _Connection, passed: Pass) -> None:
    passed()
    to.reset()


def _silent(to: _Connection, passed: Pass) -> None:
    to.client.settimeout(90)
    to.client.recv(1)  # nothing comes until the client goes away
    raise _Over


def _refused(status: int, *headers: tuple[str, str]) -> Callable[[_Connection, Pass], None]:
    return lambda to, passed: to.refuse(status, *headers)


def _failed_after(status: int) -> Callable[[_Connection, Pass], None]:
    def spoil(to: _Connection, passed: Pass) -> None:
        passed()
        to.refuse(status)

    return spoil


def _garbage(to: _Connection, passed: Pass) -> None:
    passed()
    to.client.sendall(random.Random(7).randbytes(500))
    raise _Over


def _half_headers(to: _Connection, passed: Pass) -> None:
    head = (reply := passed()).head(length=reply.length)
    to.client.sendall(head[: len(head) // 2])
    raise _Over


def _cut(to: _Connection, passed: Pass) -> None:
    reply = passed()
    to.client.sendall(reply.head(length=reply.length) + reply.body[: len(reply.body) // 2])
    raise _Over


def _cut_without_length(to: _Connection, passed: Pass) -> None:
    reply = passed()
    reply.headers.append(("Connection", "close"))
    to.client.sendall(reply.head(length=None) + reply.body[: len(reply.body) // 2])
    raise _Over


def _reset_within(to: _Connection, passed: Pass) -> None:
    reply = passed()
    to.client.sendall(reply.head(length=reply.length) + reply.body[: len(reply.body) // 2])
    to.reset()


def _too_long(to: _Connection, passed: Pass) -> None:
    reply = passed()
    if reply.length == str(len(reply.body)):  # what is told of nothing, nobody could tell from it
        reply.length = str(len(reply.body) + 7)
    to.send(reply)
    raise _Over


def _dripping(to: _Connection, passed: Pass) -> None:
    whole = (reply := passed()).head(length=reply.length) + reply.body
    to.client.sendall(whole[:-20])
    for byte in whole[-20:]:
        time.sleep(0.05)
        to.client.sendall(bytes([byte]))


FAULTS: dict[str, Callable[[_Connection, Pass], None]] = {
    "late": _late,
    "reset before it acts": _reset_before,
    "reset after it acted": _reset_after,
    "silent": _silent,
    "500": _refused(500),
    "502": _refused(502),
    "503": _refused(503),
    "429": _refused(429, ("Retry-After", "0.1")),
    "500 after it acted": _failed_after(500),
    "504 after it acted": _failed_after(504),
    "no HTTP": _garbage,
    "headers cut short": _half_headers,
    "body cut short": _cut,
    "body cut short, no length": _cut_without_length,
    "reset in the body": _reset_within,
    "a length that is too long": _too_long,
    "the end a byte at a time": _dripping,
}
# What holds everybody up until their time is over comes less often than the rest.
_RARE = {"silent": 0.2}


class Faulty:
    """A proxy before a service.

    Parameters
    ----------
    endpoint : str
        URL of the service's API root. It may be away for a while.
    token : str
        The service's.
    port : int
        Where to listen.
    seed : int
        Of what is chosen at random.
    delay : tuple of float
        Seconds by which each request is late, at least and at most.
    without : tuple of str
        Faults that do not come.

    Attributes
    ----------
    endpoint, token : str
        As the service has them, but by way of this.
    rate : float
        The part of the requests that meet a fault; to be set at any time.
    requests : int
        How many came.
    disturbances : list of Disturbance
        The faults that there were; others may add what else was done.
    starts : Counter of str
        By greeting, how often a run was asked for.
    made : dict of str to str
        Ids of the runs that the service said to have started, and their greetings.
    """

    def __init__(
        self,
        endpoint: str,
        token: str,
        port: int,
        *,
        seed: int = 1,
        delay: tuple[float, float] = (0.0, 0.0),
        without: tuple[str, ...] = (),
    ) -> None:
        scheme, _, rest = endpoint.partition("://")
        host, _, path = rest.partition("/")
        self.token = token
        self.endpoint = f"{scheme}://127.0.0.1:{port}/{path}"
        self.rate = 0.0
        self.requests = 0
        self.disturbances: list[Disturbance] = []
        self.starts: Counter[str] = Counter()
        self.made: dict[str, str] = {}
        self._target = host
        self._port = port
        self._delay = delay
        self._kinds = [name for name in FAULTS if name not in without]
        self._weights = [_RARE.get(name, 1.0) for name in self._kinds]
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._clients: set[socket.socket] = set()
        self._listener: socket.socket | None = None

    def __enter__(self) -> Faulty:
        self.open()
        return self

    def __exit__(self, *what: object) -> None:
        self.close()

    def open(self) -> None:
        """Take connections."""
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Take no connections, and end those that there are, as of a service that has died."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
            listener.close()
        with self._lock:
            for client in self._clients:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.add(client)
        far = _Far(self._target)
        try:
            with (
                contextlib.suppress(OSError, http.client.HTTPException, _Over),
                client.makefile("rb") as reader,
            ):
                while (asked := _request(reader)) is not None:
                    self._answer(_Connection(client), asked, far)
        finally:
            with self._lock:
                self._clients.discard(client)
            client.close()
            far.close()

    def _answer(self, client: _Connection, asked: _Asked, far: _Far) -> None:
        kind = self._choose(asked)
        time.sleep(random.uniform(*self._delay))

        def passed() -> _Reply:
            reply = far.pass_on(asked)
            if reply.status == 201 and (greeting := _greeting(asked)) is not None:
                with self._lock:
                    self.made[str(json.loads(reply.body)["id"])] = greeting
            return reply

        if kind is None:
            client.send(passed())
            return
        begin = time.monotonic()
        try:
            FAULTS[kind](client, passed)
        finally:
            with self._lock:
                self.disturbances.append(Disturbance(kind, begin, time.monotonic()))

    def _choose(self, asked: _Asked) -> str | None:
        with self._lock:
            self.requests += 1
            if (greeting := _greeting(asked)) is not None:
                self.starts[greeting] += 1
            if self._random.random() >= self.rate:
                return None
            return self._random.choices(self._kinds, self._weights)[0]


class _Far:
    """A connection to the service."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0

    def pass_on(self, asked: _Asked) -> _Reply:
        if time.monotonic() - self._used > _KEPT_ALIVE:
            self.close()
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._target, timeout=180)
        connection = self._connection
        connection.putrequest(asked.method, asked.path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", self._target)  # it answers to its own name only
        for name, value in asked.headers:
            if name.lower() not in (*_HOP, "host"):
                connection.putheader(name, value)
        if asked.body or asked.method in ("POST", "PUT"):
            connection.putheader("Content-Length", str(len(asked.body)))
        connection.endheaders(asked.body)
        response = connection.getresponse()
        body = response.read()
        self._used = time.monotonic()
        headers = [one for one in response.getheaders() if one[0].lower() not in _HOP]
        length: str | None = str(len(body))
        if asked.method == "HEAD":
            length = response.getheader("Content-Length")
        elif response.status == 204:
            length = None
        return _Reply(response.status, response.reason, headers, body, length)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _request(reader: BinaryIO) -> _Asked | None:
    """Read one request, all of it; None where there is none (any more)."""
    line = reader.readline(1 << 16)
    if not line.endswith(b"\r\n"):
        return None
    method, path, _ = line.decode("latin-1").split(" ", 2)
    headers = []
    while (line := reader.readline(1 << 16)) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers.append((name, value.strip()))
    lengths = [value for name, value in headers if name.lower() == "content-length"]
    assert not any(name.lower() == "transfer-encoding" for name, _ in headers)
    length = int(lengths[0]) if lengths else 0
    body = reader.read(length)
    if line != b"\r\n" or len(body) < length:  # it broke off: no request
        return None
    return _Asked(method, path, headers, body)


def _greeting(asked: _Asked) -> str | None:
    """Return the greeting of a run that is to start; None if it is something else."""
    if asked.method != "POST" or not _START.fullmatch(asked.path):
        return None
    for argument in json.loads(asked.body)["arguments"]:
        if argument["name"] == "greeting":
            return str(argument["value"])
    return ""
