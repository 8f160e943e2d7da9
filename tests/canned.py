"""A service in this process that answers with whatever bytes it is told: no port, no thread.

Everything of flowfs is real, down to http.client's reading of a socket; only what is at the
other end of it is a test::

    service = Canned(lambda request, own: own)          # answers as flowServ would
    service = Canned(lambda request, own: Raw(...))     # or otherwise
    service.fs().ls("groups")
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from standin import ROOT
from standin_routes import Routes
from urllib3.util import Timeout

from flowfs import FlowFileSystem
from flowfs.errors import FlowError, describe
from flowfs.service import connections
from flowfs.service.sending import Reply, Sender

__all__ = ["Answer", "Canned", "Request", "told"]

_AT_ONCE = 1 << 16  # bytes that surely have room in a socket's buffer


class Request(NamedTuple):
    """A request: `path` is below the API root, still percent-encoded."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """A reply as it goes over the wire.

    Attributes
    ----------
    status : int
        The status.
    body : bytes
        As they are.
    headers : tuple of (str, bytes)
        Names and values; a Content-Length is there only if it is among them.
    raw : bytes, optional
        Instead of all that.
    """

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, bytes], ...] = ()
    raw: bytes | None = None
    sized: bool = field(default=True)

    @property
    def wire(self) -> bytes:
        """All bytes of it."""
        if self.raw is not None:
            return self.raw
        headers = list(self.headers)
        if self.sized and not any(name.lower() == "content-length" for name, _ in headers):
            headers.append(("Content-Length", b"%d" % len(self.body)))
        lines = [b"HTTP/1.1 %d As told" % self.status]
        lines += [name.encode() + b": " + value for name, value in headers]
        return b"\r\n".join([*lines, b"", self.body])


Spoil = Callable[[Request, Answer], Answer]


class Canned:
    """Answers requests of one file system or more from memory.

    Parameters
    ----------
    spoil : callable
        Given a request and what flowServ would answer, returns what is answered.

    Attributes
    ----------
    routes : Routes
        What it knows.
    asked : list of Request
        Every request, in order.
    """

    endpoint = f"http://127.0.0.1:9{ROOT}"  # nobody ever connects to it

    def __init__(self, spoil: Spoil = lambda request, own: own) -> None:
        self.routes = Routes()
        self.routes.url = self.endpoint
        self.spoil = spoil
        self.asked: list[Request] = []
        self.http: Any = None

    def fs(self, **options: Any) -> FlowFileSystem:
        """Return a file system of its own, with nothing known."""
        options = {"retries": 0, "timeout": 600.0, "max_connections": 1, **options}
        fs = FlowFileSystem(self.endpoint, self.routes.token, skip_instance_cache=True, **options)
        session = fs.catalog.service.session
        session._sender = _Wire(self)
        session._pid = os.getpid()
        return fs

    def answer(self, request: Request) -> Answer:
        self.asked.append(request)
        path = request.path.partition("?")[0]
        status, body = self.routes.answer(request.method, path, request.headers, request.body)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.spoil(request, Answer(status, data))


class _Wire(Sender):
    """Sends each request into one end of a pair of sockets that holds the reply already."""

    def __init__(self, service: Canned) -> None:
        super().__init__(service.endpoint, 1, {"Accept-Encoding": "identity"}, True, None)
        self._service = service

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: Any,
        timeout: tuple[float, float],
    ) -> Reply:
        body = data if isinstance(data, bytes) else b"".join(data or ())
        _, target = self._way(url)  # what requests would make of it
        path = target.removeprefix(ROOT)
        reply = self._service.answer(Request(method, path, headers, body))
        pool = connections._WatchedHTTPPool("127.0.0.1", 9, maxsize=1)
        pool.ConnectionCls = _Pair  # type: ignore[misc]
        _Pair.replies.reply = reply.wire
        raw = pool.urlopen(
            method,
            target,
            body=b"" if data is not None else None,
            headers={**self._headers, **headers},
            retries=self._retries,
            redirect=False,
            assert_same_host=False,
            timeout=Timeout(connect=timeout[0], read=timeout[1]),
            preload_content=False,
            decode_content=False,
        )
        return Reply(raw)


class _Pair(connections._WatchedHTTPConnection):
    replies = threading.local()
    theirs: socket.socket | None = None

    def close(self) -> None:
        super().close()
        if self.theirs is not None:
            self.theirs.close()

    def _new_conn(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        wire = self.replies.reply

        def write() -> None:
            with theirs, contextlib.suppress(OSError):
                theirs.sendall(wire)
                theirs.shutdown(socket.SHUT_WR)
                while theirs.recv(1 << 16):  # what is asked; to the end, or it would be a reset
                    pass

        # It is there before anybody looks; who closes first with bytes unread makes a reset.
        if len(wire) <= _AT_ONCE:
            theirs.sendall(wire)
            theirs.shutdown(socket.SHUT_WR)
            self.theirs = theirs
        else:
            threading.Thread(target=write, daemon=True).start()
        return connections._Socket(fileno=ours.detach())


@contextlib.contextmanager
def told() -> Iterator[list[FlowError]]:
    """Allow an error of flowfs that says what must be said, and nothing else.

    The list that is yielded has it afterwards.
    """
    raised: list[FlowError] = []
    try:
        yield raised
    except FlowError as error:
        check(error)
        raised.append(error)


def check(error: FlowError) -> None:
    """See that an error can be shown to anybody."""
    assert isinstance(error.errno, int), repr(error)
    assert error.errno > 0, repr(error)
    assert isinstance(error.strerror, str), repr(error)
    assert error.strerror.isprintable(), repr(error.strerror)
    assert error.filename is None or isinstance(error.filename, str)
    for text in (str(error), describe(error), *getattr(error, "__notes__", ())):
        assert len(text) < 100_000
    assert describe(error).isprintable()
    describe(error).encode()
    assert str(error)
    for other in error.others:
        assert isinstance(other, OSError)
        check(other)  # type: ignore[arg-type]
