"""Connections to the service: kept, and such that a watch can end what is done on them."""

from __future__ import annotations

import errno
import os
import socket
from http.client import HTTPResponse, RemoteDisconnected
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family
from urllib3.util.wait import wait_for_write

from flowfs.service.addresses import addresses_of
from flowfs.service.deadline import Watch, current_watch

__all__ = ["WatchedAdapter", "new_http_session"]

_BUFFER = 1 << 16  # bytes of a reply that are read ahead


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


class _Socket(socket.socket):
    """A socket that asks the system for as little as it can.

    Each call into it may cost a turn among threads: a timeout that is set already is not set
    again, and a small reply comes with one read.
    """

    def settimeout(self, value: float | None) -> None:
        """Set the seconds that one call may take."""
        if value != self.gettimeout():
            super().settimeout(value)

    def makefile(self, mode: str = "r", buffering: int | None = None, **options: Any) -> Any:
        """Return a file of it, as the class above does."""
        return super().makefile(mode, _BUFFER if buffering is None else buffering, **options)  # type: ignore[call-overload]


class _Watched:
    """Tells the thread's watch which socket its request is on."""

    sock: socket.socket | None
    timeout: Any
    response_class = _WholeHead
    # Whoever has http.client print what is sent, of all connections, does not see the token.
    debuglevel = 0
    watch: Watch | None = None

    def _new_conn(self) -> socket.socket:
        # As urllib3's own, except that a watch can end it.
        watch = current_watch()
        if watch is None:
            return super()._new_conn()  # type: ignore[misc, no-any-return]
        host: str = self.host  # type: ignore[attr-defined]
        try:
            return self._connected(watch)
        except socket.gaierror as error:
            raise NameResolutionError(host, self, error) from error  # type: ignore[arg-type]
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection to {host}") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection to {host}: {error}") from error  # type: ignore[arg-type]

    def _connected(self, watch: Watch) -> socket.socket:
        own: Any = self
        failed: OSError | None = None
        host: str = own._dns_host.strip("[]")
        found = addresses_of(host, own.port, allowed_gai_family(), own.timeout, watch)
        for family, kind, protocol, _, address in found:
            sock = _Socket(family, kind, protocol)
            try:
                for option in own.socket_options or ():
                    sock.setsockopt(*option)
                _connect(sock, address, own.timeout, watch)
                return sock
            except OSError as error:
                failed = error
                watch.attach(None)
                sock.close()
                if watch.ended:
                    break
        try:
            raise failed or OSError("the host has no address")
        finally:
            failed = None  # or it would hold on to this frame, and that to it

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None and (watch := current_watch()) is not None:
            self.timeout = watch.patience  # there is nothing to connect
        super().request(*args, **kwargs)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        # urllib3 has set the time allowed for connecting; for each piece sent it may be
        # longer, and begins anew.
        if self.sock is None and current_watch() is not None:
            self.connect()  # type: ignore[attr-defined] # what comes behind it is sent
        if self.sock is not None and (watch := self._attach(sends=True)) is not None:
            self.sock.settimeout(watch.patience)
        super().send(data)  # type: ignore[misc]

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        self._attach()
        return super().getresponse(*args, **kwargs)  # type: ignore[misc]

    def _attach(self, *, sends: bool = False) -> Watch | None:
        watch = current_watch()
        if watch is not None:
            watch.attach(self.sock, sends=sends)
        self.watch = watch
        return watch


def _connect(sock: socket.socket, address: Any, timeout: float, watch: Watch) -> None:
    """Connect a socket within so many seconds, or until the watch ends it."""
    sock.setblocking(False)
    code = watch.begin_connecting(sock, address)
    if code == errno.EINPROGRESS:
        if not wait_for_write(sock, timeout):
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code == 0 and watch.ended:
        code = errno.ECONNABORTED
    if code:
        raise OSError(code, os.strerror(code))
    sock.settimeout(timeout)


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
    _plain: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        if (watch := current_watch()) is not None:
            # TLS takes the socket's descriptor away; another one ends the same connection.
            self._plain = sock.dup()
            watch.attach(self._plain)
        return sock

    def connect(self) -> None:
        watch = current_watch()
        sent = watch is not None and watch.sent
        try:
            super().connect()
        finally:
            if watch is not None:
                watch.sent = sent  # what a proxy was told is no request
            if self._plain is not None:
                if watch is not None:
                    watch.attach(self.sock)
                self._plain.close()
                self._plain = None


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
    session = requests.Session()
    adapter = WatchedAdapter(pool_connections=4, pool_maxsize=max_connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    # Never from .netrc: the token is the only credential, and only ours to place.
    session.auth = lambda request: request
    session.cookies.set_policy(_NoCookies())
    return session


class _NoCookies(requests.cookies.cookielib.DefaultCookiePolicy):  # type: ignore[name-defined,misc]
    """Sessions are shared by threads; a cookie jar that changes is not."""

    def set_ok(self, cookie: Any, request: Any) -> bool:
        return False
