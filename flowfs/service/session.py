"""HTTP as the service needs it: token, kept connections, and acts that end in time."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flowfs import __version__
from flowfs.errors import BadReply, InvalidArguments, failure
from flowfs.service.body import Body
from flowfs.service.credentials import Credentials
from flowfs.service.descriptor import origin_of
from flowfs.service.exchange import Exchange
from flowfs.service.faults import unclear
from flowfs.service.interruption import UnderWay
from flowfs.service.journal import Journal
from flowfs.service.leftovers import clear_up
from flowfs.service.sending import Reply, Sender
from flowfs.service.statistics import Statistics
from flowfs.service.waits import wait
from flowfs.tokens.secret import Secret

__all__ = ["Session"]

TOKEN_HEADER = "api_key"  # flowserv.service.remote.HEADER_TOKEN

_MAX_VALUES = 2_500_000  # that a reply in JSON may have
_MAX_DEPTH = 300  # brackets within brackets; what goes through a document needs stack for each
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


class Session:
    """Connections to one service, shared by threads.

    Parameters
    ----------
    endpoint : str
        URL of the API root. The token goes to its origin and nowhere else.
    credentials : Credentials, optional
        Token, its source and advice.
    timeout : float
        Seconds. Bounds every call that moves no bulk data as a whole, its retries included;
        in bulk transfers, any stretch without progress. The reply to an upload may take a
        second longer for each 8 MiB, since the service stores all of it first.
    retries : int
        How many times a GET, HEAD or DELETE is sent again after a broken connection or
        429, 502, 503, 504. POST and PUT are never sent again.
    max_connections : int
        Connections kept alive.
    verify : bool or str
        As in requests: whether to verify TLS certificates, or a file of authorities.
    cert : str or tuple of str, optional
        As in requests: client certificate, or certificate and key.

    Notes
    -----
    Every failure is a :class:`~flowfs.errors.FlowError`. Redirects of GET and HEAD are
    followed, 5 at most, and without the token once the origin changes; others are errors.
    Each request is logged at DEBUG to the logger ``flowfs.service``, tokens excepted.

    A request that is refused (401, 403) is sent once more if the source of the token has
    another one by now: whoever logs in again need not begin again. That costs a request, which
    asks whose token it is: what is known here is known to one user.

    Attributes
    ----------
    credentials : Credentials
        The token in use, its source and advice.
    secrets : set of str
        All tokens that were used: what no message may show.
    user : str or None
        Whose token it is, as far as the service has told.
    """

    def __init__(
        self,
        endpoint: str,
        credentials: Credentials | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        max_connections: int = 16,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.credentials: Credentials = credentials or Credentials()
        self.timeout = timeout
        self.retries = retries
        self.max_connections = max_connections
        self.underway: UnderWay = UnderWay()
        self.statistics: Statistics = Statistics()
        self.secrets: set[str] = set()
        self.journal: Journal = Journal(self.secrets)
        self.user: str | None = None
        self._take(self.credentials)
        self._origin = origin_of(endpoint)
        self._root = endpoint.rstrip("/") + "/"
        self._verify = verify
        self._cert = cert
        self._lock = threading.Lock()
        self._renewing = threading.Lock()  # by whom the source of the token is asked
        self._sender: Sender | None = None
        self._pid = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r})"

    # -- what the calls use ------------------------------------------------

    def json(
        self,
        method: str,
        url: str,
        *,
        what: str,
        path: str | None = None,
        body: Any = None,
        hint: str | None = None,
        objects: Callable[[list[tuple[str, Any]]], Any] | None = None,
    ) -> Any:
        """Send one request and return the decoded JSON reply.

        Parameters
        ----------
        method : str
            HTTP method.
        url : str
            Where to.
        what : str
            The act as words, for errors: ``"get run 'abc'"``.
        path : str, optional
            What it is about, for errors; by default the URL.
        body : Any, optional
            Sent as JSON.
        hint : str, optional
            What to say to a user where the service answers 400.
        objects : callable, optional
            Makes what stands for each object of the reply of its members, in place of a dict:
            of large replies there are never two forms at once.

        Returns
        -------
        Any
            The decoded reply; None where it has no body.

        Raises
        ------
        FlowError
            As the table in :mod:`flowfs.errors` says. It has an attribute ``unclear``: True
            where the service may have acted all the same.
        """
        data = None
        headers = {"Accept": "application/json"}
        if body is not None:
            try:
                data = json.dumps(body, allow_nan=False).encode()
            except (TypeError, ValueError, RecursionError) as error:
                raise failure(
                    InvalidArguments, f"cannot {what}: it cannot be sent as JSON: {error}", path
                ) from None
            headers["Content-Type"] = "application/json"
        exchange = Exchange(self, method, what, path or url, hint=hint)
        text = exchange.run(lambda: exchange.text(url, headers, data))
        if not text.strip():
            return None
        return _decoded(text, what, path or url, objects)

    def stream(
        self,
        url: str,
        *,
        what: str,
        path: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Body:
        """Send a GET and return its body, unread.

        Parameters
        ----------
        url, what, path
            As in :meth:`json`.
        headers : mapping, optional
            Further headers, such as ``Range``.

        Returns
        -------
        Body
            The caller closes it.
        """
        exchange = Exchange(self, "GET", what, path or url)
        response = exchange.run(lambda: exchange.headers(url, headers or {}, None))
        return Body(response, exchange.translate, path or url, exchange.watch, exchange.received)

    def upload(
        self,
        url: str,
        data: Iterable[bytes],
        *,
        headers: Mapping[str, str],
        what: str,
        path: str | None = None,
    ) -> Any:
        """Send a POST whose body is made while it is sent; return the decoded JSON reply."""
        exchange = Exchange(self, "POST", what, path or url, bulk=True)
        text = exchange.run(lambda: exchange.text(url, headers, data))
        return _decoded(text, what, path or url)

    def interrupt(self, *, closing: bool = False) -> None:
        """End every request that is under way, at once, from any thread.

        Whoever waits for a connection, for a reply or between two attempts gets a
        :class:`~flowfs.errors.FlowError` of errno ECANCELED, and so does who reads on in a
        body that is open. A start whose request may have arrived is an
        :class:`~flowfs.errors.UnclearStart` of that errno.

        A mount's session is ``fs.catalog.service.session``. Not to be called from a signal
        handler: the thread that it stands still may hold the lock.

        Parameters
        ----------
        closing : bool
            Refuse new requests likewise, for ever. Without it, later ones work as always.
        """
        self.underway.interrupt(closing=closing)

    def close(self) -> None:
        """Close the connections that are not in use."""
        clear_up()
        with self._lock:
            if self._sender is not None and self._pid == os.getpid():
                self._sender.close()
            self._sender = None

    # -- plumbing ----------------------------------------------------------

    def renew(
        self, refused: str | None, user_of: Callable[[str | None], Any], seconds: float
    ) -> bool:
        """Take another token than the one that was refused, if its source has one.

        Parameters
        ----------
        refused : str or None
            What the request was sent with.
        user_of : callable
            Asks the service whose token this is.
        seconds : float
            How long to wait for the source.

        Returns
        -------
        bool
            Whether there is another one, and it is the same user's.
        """
        seconds = max(0.0, min(seconds, threading.TIMEOUT_MAX))
        ends = time.monotonic() + seconds
        # Many are refused at once: one asks, the others have time to wait for that.
        if not wait(lambda left: self._renewing.acquire(timeout=left), seconds):
            return False
        try:
            used = self.credentials
            if used.token != refused:  # another thread was here
                return True
            fresh = used.renewed(max(0.0, ends - time.monotonic()))
            if fresh is None:
                return False
            self.secrets.add(Secret(fresh.token))
            user = user_of(fresh.token)
            if self.user is not None and user != self.user:
                return False
            # Of a token that had expired, or of none, the service did not tell.
            self.user = user if isinstance(user, str) and user else None
            self._take(fresh)
            return True
        finally:
            self._renewing.release()

    def _take(self, credentials: Credentials) -> None:
        if credentials.token is not None:
            self.secrets.add(Secret(credentials.token))
        self.credentials = credentials

    def sender(self) -> Sender:
        """Return what sends this process's requests (a fork must not share sockets)."""
        with self._lock:
            if self._sender is None or self._pid != os.getpid():
                headers = {
                    "User-Agent": f"flowfs/{__version__}",
                    # gzip would make Content-Length something else than the file's size
                    "Accept-Encoding": "identity",
                }
                self._sender = Sender(
                    self.endpoint, self.max_connections, headers, self._verify, self._cert
                )
                self._pid = os.getpid()
            return self._sender

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: Any,
        timeout: tuple[float, float],
        token: str | None,
    ) -> Reply:
        """Send one request as it is; no retry, no redirect.

        `timeout` is the seconds allowed for connecting, and without a byte received.
        """
        if token is not None:
            headers = {**headers, TOKEN_HEADER: token}
        return self.sender().send(method, url, headers, data, timeout)

    def may_see_token(self, url: str) -> bool:
        """Tell whether a URL is of the origin that the token is for."""
        # What begins so is of the endpoint's origin, whatever follows.
        return url.startswith(self._root) or origin_of(url) == self._origin


def _decoded(
    text: bytes,
    what: str,
    path: str,
    objects: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """Return what a reply in JSON holds, if that has room in memory."""
    # Told before it is decoded, which may take a hundred times as much memory as its bytes.
    if text.count(b",") > _MAX_VALUES:
        problem = f"the reply has more than {_MAX_VALUES:,} values"
    else:
        try:
            document = json.loads(text, object_pairs_hook=objects)
        except (ValueError, RecursionError):
            problem = "the reply is no JSON; is this the root of a flowServ API?"
        else:
            if not _is_deep(text, document):
                return document
            problem = f"the reply is nested more than {_MAX_DEPTH} levels deep"
    raise unclear(failure(BadReply, f"cannot {what}: {problem}", path)) from None


def _is_deep(text: bytes, document: Any) -> bool:
    """Tell whether a document in JSON has more levels than anything here goes down.

    Of a long listing that is found out by its brackets alone, in a fraction of the time in
    which it is decoded: each round takes away the innermost pairs.
    """
    if text.count(b"[") + text.count(b"{") <= _MAX_DEPTH:
        return False
    left = text.translate(_BRACKETS, _OTHERS)
    for _ in range(_MAX_DEPTH):
        fewer = left.replace(b"[]", b"")
        if len(fewer) == len(left):
            break
        left = fewer
    if not left:
        return False
    # Brackets in texts do not count: level by level, then.
    level = [document]
    for _ in range(_MAX_DEPTH + 1):
        level = [one for one in level if isinstance(one, (dict, list))]
        if not level:
            return False
        level = [x for one in level for x in (one.values() if isinstance(one, dict) else one)]
    return True
