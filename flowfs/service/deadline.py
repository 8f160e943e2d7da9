"""An end for requests that would never end.

A socket's timeout bounds one ``recv``: a server that sends a byte a second keeps a request
alive for ever. A :class:`Watch` bounds the whole: when its time is up, the connection's
socket is shut down, and whoever waits on it gets an error at once.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import socket
import threading
import time
from http.client import HTTPResponse, RemoteDisconnected
from types import TracebackType
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

__all__ = ["Watch", "WatchedAdapter"]

_current = threading.local()


class Watch:
    """Bounds what the current thread does on connections of a :class:`WatchedAdapter`.

    Used as a context manager around a request and, where the reply is small, around reading
    it too.

    Parameters
    ----------
    at : float
        When time is up, in seconds of :func:`time.monotonic`; infinite: never.
    patience : float
        Seconds that sending may stand still.

    Attributes
    ----------
    expired : bool
        Whether the time ran out while the watch was on.
    cut : bool
        Whether a connection was shut down for it: what came last over it may be a part.
    """

    def __init__(self, at: float, patience: float) -> None:
        self.at = at
        self.patience = patience
        self.expired = False
        self.cut = False
        self._outer: Watch | None = None
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._off = False

    def __enter__(self) -> Watch:
        # A request may read its body from another one, on the same thread.
        self._outer = getattr(_current, "watch", None)
        _current.watch = self
        if self.at != float("inf"):
            _keeper.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _current.watch = self._outer
        with self._lock:
            self._off = True
            self._socket = None

    @property
    def off(self) -> bool:
        """Whether nothing is left to watch."""
        return self._off

    def attach(self, sock: socket.socket | None) -> None:
        """Name the socket to shut down when time is up; None: there is none any more."""
        with self._lock:
            self._socket = sock
            if self.expired:
                self._shut()

    def fire(self) -> None:
        """End it now, unless it is over."""
        with self._lock:
            if not self._off:
                self.expired = True
                self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            self.cut = True
            with contextlib.suppress(OSError):
                # Below TLS: an orderly TLS shutdown would wait for the peer.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Keeper:
    """The one thread that fires watches; started with the first of them."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all watches and the thread: after a fork it is the parent's."""
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Watch]] = []
        self._serial = itertools.count()
        self._thread: threading.Thread | None = None

    def add(self, watch: Watch) -> None:
        with self._changed:
            # Those that are over need not wait for their time, which may be hours.
            while self._heap and self._heap[0][2].off:
                heapq.heappop(self._heap)
            heapq.heappush(self._heap, (watch.at, next(self._serial), watch))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="flowfs-deadlines", daemon=True
                )
                self._thread.start()
            elif self._heap[0][2] is watch:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._heap or not (due := self._due()):
                    left = self._heap[0][0] - time.monotonic() if self._heap else None
                    # No wait is longer than the platform can count.
                    self._changed.wait(left and min(left, threading.TIMEOUT_MAX))
            due.fire()

    def _due(self) -> Watch | None:
        while self._heap and self._heap[0][2].off:
            heapq.heappop(self._heap)
        if self._heap and self._heap[0][0] <= time.monotonic():
            return heapq.heappop(self._heap)[2]
        return None


_keeper = _Keeper()
os.register_at_fork(after_in_child=_keeper.reset)


class _WholeHead(HTTPResponse):
    """A reply whose headers must have come to their end.

    http.client takes a connection that breaks off within the headers for the end of them, and
    so a reply that lost its Content-Length for an empty one.
    """

    def begin(self) -> None:
        """Read status and headers."""
        kept: Any = self.fp
        lines = _Lines(kept)
        self.fp = lines  # type: ignore[assignment]
        super().begin()
        self.fp = kept
        if not lines.last.endswith(b"\n"):
            self.close()
            raise RemoteDisconnected("the connection broke within the headers")


class _Lines:
    """Passes on lines of a file, and keeps the last."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.last = b""

    def readline(self, limit: int = -1) -> bytes:
        self.last = self._file.readline(limit)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Watched:
    """Tells the thread's watch which socket its request is on."""

    sock: socket.socket | None
    response_class = _WholeHead
    watch: Watch | None = None

    def send(self, data: Any) -> None:
        # urllib3 has set the time allowed for connecting; for each piece sent it may be
        # longer, and begins anew.
        if self.sock is not None and (watch := self._attach()) is not None:
            self.sock.settimeout(watch.patience)
        super().send(data)  # type: ignore[misc]

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        self._attach()
        return super().getresponse(*args, **kwargs)  # type: ignore[misc]

    def _attach(self) -> Watch | None:
        watch: Watch | None = getattr(_current, "watch", None)
        if watch is not None:
            watch.attach(self.sock)
        self.watch = watch
        return watch


class _WatchedPool:
    """Takes connections back from their watch: the next request on them is another's."""

    def _put_conn(self, conn: Any) -> None:
        watch: Watch | None = getattr(conn, "watch", None)
        if watch is not None:
            watch.attach(None)
            conn.watch = None
        super()._put_conn(conn)  # type: ignore[misc]


class _WatchedHTTPConnection(_Watched, HTTPConnection):  # type: ignore[misc]
    pass


class _WatchedHTTPSConnection(_Watched, HTTPSConnection):  # type: ignore[misc]
    pass


class _WatchedHTTPPool(_WatchedPool, HTTPConnectionPool):
    ConnectionCls = _WatchedHTTPConnection


class _WatchedHTTPSPool(_WatchedPool, HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


_POOLS = {"http": _WatchedHTTPPool, "https": _WatchedHTTPSPool}


class WatchedAdapter(HTTPAdapter):
    """A requests adapter whose connections a :class:`Watch` can end."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of watched connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make the pools of watched connections through a proxy."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


def new_http_session(max_connections: int) -> requests.Session:
    """Make a requests session with kept, watched connections.

    Parameters
    ----------
    max_connections : int
        How many connections to keep alive for each host. More are opened when more are
        needed at once, and closed after use: a pool that blocks would deadlock a caller who
        holds that many files open.

    Returns
    -------
    requests.Session
    """
    session = _Session()
    adapter = WatchedAdapter(pool_connections=4, pool_maxsize=max_connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    # Never from .netrc: the token is the only credential, and only ours to place.
    session.auth = lambda request: request
    session.cookies.set_policy(_NoCookies())
    return session


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        # requests would read a redirect's page and prepare the next request all the same.
        return None


class _NoCookies(requests.cookies.cookielib.DefaultCookiePolicy):  # type: ignore[name-defined,misc]
    """Sessions are shared by threads; a cookie jar that changes is not."""

    def set_ok(self, cookie: Any, request: Any) -> bool:
        return False
