"""HTTP as the service needs it: token, deadlines, retries, redirects, honest errors."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urljoin

import requests
import urllib3.exceptions

from flowfs import __version__
from flowfs.errors import (
    BadReply,
    ConnectionFailed,
    DeadlineExceeded,
    FlowError,
    InvalidArguments,
    ServiceBusy,
    failure,
    from_reply,
)
from flowfs.service.body import Body
from flowfs.service.credentials import Credentials
from flowfs.service.deadline import Watch, new_http_session
from flowfs.service.descriptor import origin_of

__all__ = ["Session"]

logger = logging.getLogger("flowfs.service")

TOKEN_HEADER = "api_key"  # flowserv.service.remote.HEADER_TOKEN
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_RETRY_STATUS = frozenset({429, 502, 503, 504})
_RETRY_METHODS = frozenset({"GET", "HEAD", "DELETE"})
_MAX_CONNECT = 10.0  # seconds
_MAX_PAUSE = 5.0  # seconds; a Retry-After of hours is not waited for
_MAX_JSON = 1 << 29  # bytes
_MAX_ERROR_BODY = 1 << 16  # bytes


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
        in bulk transfers, any stretch without progress.
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
        self.credentials = credentials or Credentials()
        self.timeout = timeout
        self.retries = retries
        self.max_connections = max_connections
        self._origin = origin_of(endpoint)
        self._verify = verify
        self._cert = cert
        self._lock = threading.Lock()
        self._http: requests.Session | None = None
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
        exchange = _Exchange(self, method, what, path or url, hint=hint)
        text = exchange.run(lambda: exchange.text(url, headers, data))
        if not text.strip():
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise exchange.unclear(
                failure(
                    BadReply,
                    f"cannot {what}: the reply is no JSON; is this the root of a flowServ API?",
                    path or url,
                )
            ) from None

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
        exchange = _Exchange(self, "GET", what, path or url)
        response = exchange.run(lambda: exchange.headers(url, headers or {}, None))
        return Body(response, exchange.translate, path or url)

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
        exchange = _Exchange(self, "POST", what, path or url, bulk=True)
        text = exchange.run(lambda: exchange.text(url, headers, data))
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise exchange.unclear(
                failure(BadReply, f"cannot {what}: the reply is no JSON", path or url)
            ) from None

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            if self._http is not None and self._pid == os.getpid():
                self._http.close()
            self._http = None

    # -- plumbing ----------------------------------------------------------

    def http(self) -> requests.Session:
        """Return this process's requests session (a fork must not share sockets)."""
        with self._lock:
            if self._http is None or self._pid != os.getpid():
                self._http = new_http_session(self.max_connections)
                self._http.headers.update(
                    # gzip would make Content-Length something else than the file's size
                    {"User-Agent": f"flowfs/{__version__}", "Accept-Encoding": "identity"}
                )
                self._pid = os.getpid()
            return self._http

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: Any,
        timeout: tuple[float, float],
        with_token: bool,
    ) -> requests.Response:
        """Send one request as it is; no retry, no redirect.

        `timeout` is the seconds allowed for connecting, and without a byte received.
        """
        sent = dict(headers)
        if with_token and self.credentials.token is not None:
            sent[TOKEN_HEADER] = self.credentials.token
        return self.http().request(
            method,
            url,
            headers=sent,
            data=data,
            stream=True,
            timeout=timeout,
            allow_redirects=False,
            verify=self._verify,
            cert=self._cert,
        )

    def may_see_token(self, url: str) -> bool:
        """Tell whether a URL is of the origin that the token is for."""
        return origin_of(url) == self._origin


class _Exchange:
    """One act on the service: its attempts, their deadline, and how failures are told."""

    def __init__(
        self,
        session: Session,
        method: str,
        what: str,
        path: str,
        *,
        bulk: bool = False,
        hint: str | None = None,
    ) -> None:
        self._session = session
        self._method = method
        self._what = what
        self._path = path
        self._bulk = bulk  # the request moves bulk data, not only the reply
        self._hints = {400: hint} if hint else {}
        self._ends = time.monotonic() + session.timeout
        self._delete_unclear = False

    def run(self, attempt: Callable[[], Any]) -> Any:
        """Make attempts until one succeeds, may not be repeated, or time is up."""
        left = self._session.retries if self._method in _RETRY_METHODS else 0
        for count in range(left + 1):
            try:
                return attempt()
            except FlowError as error:
                if error.status == 404 and self._delete_unclear:
                    return b""  # the first DELETE arrived after all
                pause = self._pause(error, count)
                if count == left or pause is None:
                    raise
                self._delete_unclear |= self._method == "DELETE" and error.unclear
                logger.debug("%s %s: %s; again in %.2f s", self._method, self._path, error, pause)
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _pause(self, error: FlowError, count: int) -> float | None:
        """Return how long to wait before another attempt; None: do not."""
        if error.status is not None and error.status not in _RETRY_STATUS:
            return None
        if error.status is None and not isinstance(error, (ConnectionFailed, BadReply)):
            return None
        pause = error.retry_after or random.uniform(0.5, 1) * 0.1 * 2**count
        if pause > _MAX_PAUSE or time.monotonic() + pause > self._ends:
            return None
        return pause

    def text(self, url: str, headers: Mapping[str, str], data: Any) -> bytes:
        """Send a request and read its whole reply within the deadline."""
        ends = self._ends if not self._bulk else float("inf")
        with Watch(ends, self._session.timeout) as watch:
            response = self._follow(url, headers, data, watch)
            try:
                pieces, size = [], 0
                while piece := response.raw.read(1 << 16, decode_content=True):
                    pieces.append(piece)
                    size += len(piece)
                    if size > _MAX_JSON:
                        raise self.unclear(
                            failure(
                                BadReply,
                                f"cannot {self._what}: the reply is over {_MAX_JSON >> 20} MiB",
                                self._path,
                            )
                        )
                    if time.monotonic() > ends:
                        watch.expired = True
                        raise TimeoutError
                if watch.cut:  # this end of the body is our own doing
                    raise TimeoutError
            except FlowError:
                raise
            except Exception as error:
                raise self.translate(error, expired=watch.expired) from error
            finally:
                response.close()
            return b"".join(pieces)

    def headers(self, url: str, headers: Mapping[str, str], data: Any) -> requests.Response:
        """Send a request and return its reply once the headers are there, body unread."""
        with Watch(self._ends, self._session.timeout) as watch:
            response = self._follow(url, headers, data, watch)
            if watch.cut:
                response.close()
                raise self._late()
            return response

    def _follow(
        self, url: str, headers: Mapping[str, str], data: Any, watch: Watch
    ) -> requests.Response:
        with_token = True
        for _ in range(_MAX_REDIRECTS + 1):
            with_token = with_token and self._session.may_see_token(url)
            response = self._send(url, headers, data, with_token, watch)
            if response.status_code not in _REDIRECTS or "Location" not in response.headers:
                return self._checked(response, watch)
            location = response.headers["Location"]
            response.close()
            if self._method not in ("GET", "HEAD"):
                raise failure(
                    BadReply,
                    f"cannot {self._what}: the service redirects to {location!r}; "
                    "use that address as the endpoint if it is the right one",
                    self._path,
                    status=response.status_code,
                )
            url = self._target(url, location, response.status_code)
        raise failure(
            BadReply,
            f"cannot {self._what}: more than {_MAX_REDIRECTS} redirects",
            self._path,
            status=response.status_code,
        )

    def _target(self, url: str, location: str, status: int) -> str:
        """Return where a redirect leads; only to another http(s) URL."""
        try:
            target = urljoin(url, location)
            if origin_of(target)[0] in ("http", "https"):
                return target
        except ValueError:
            pass
        raise failure(
            BadReply,
            f"cannot {self._what}: the service redirects to {location!r}, which is no address",
            self._path,
            status=status,
        )

    def _send(
        self, url: str, headers: Mapping[str, str], data: Any, with_token: bool, watch: Watch
    ) -> requests.Response:
        begun = time.monotonic()
        patience = self._session.timeout
        left = patience if self._bulk else self._ends - begun
        if left <= 0:
            raise self._late()
        # That the headers come in time is the watch's business; the second of the two holds
        # for each stretch of the body too.
        timeout = (min(left, _MAX_CONNECT), patience)
        try:
            response = self._session.send(self._method, url, headers, data, timeout, with_token)
        except Exception as error:
            local = getattr(data, "error", None)
            if local is not None:
                raise local from None  # what was to be uploaded cannot be read
            raise self.translate(error, expired=watch.expired) from error
        logger.debug(
            "%s %s -> %d in %.3f s",
            self._method,
            url,
            response.status_code,
            time.monotonic() - begun,
        )
        return response

    def _checked(self, response: requests.Response, watch: Watch) -> requests.Response:
        if 200 <= response.status_code < 300:
            return response
        if response.status_code == 416 and "Content-Range" in response.headers:
            return response  # nothing there: an empty body, whose header tells the size
        try:
            body = response.raw.read(_MAX_ERROR_BODY, decode_content=True)
        except Exception:
            body = b""
        finally:
            response.close()
        if watch.expired:
            raise self._late()
        if token := self._session.credentials.token:
            body = body.replace(token.encode(), b"...")  # said back to whoever sent it
        hint = self._hints.get(response.status_code)
        if response.status_code in (401, 403):
            hint = self._session.credentials.hint()
        error = from_reply(
            response.status_code,
            body,
            self._path,
            what=self._what,
            hint=hint,
        )
        if isinstance(error, ServiceBusy):
            error.retry_after = _seconds(response.headers.get("Retry-After"))
        raise self.unclear(error) if response.status_code >= 500 else error

    def _late(self) -> FlowError:
        return self.unclear(
            failure(
                DeadlineExceeded,
                f"cannot {self._what}: no answer within {self._session.timeout:g} seconds",
                self._path,
            )
        )

    def unclear(self, error: FlowError) -> FlowError:
        """Mark an error after which nobody knows whether the service acted."""
        error.unclear = True
        return error

    def translate(self, error: BaseException, *, expired: bool = False) -> FlowError:
        """Make an error of flowfs of what requests, urllib3 or a socket raised."""
        if isinstance(error, FlowError):
            return error
        if expired:
            return self._late()
        chain = list(_chain(error))
        for cause in chain:
            if isinstance(
                cause, (requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError)
            ) and not isinstance(cause, urllib3.exceptions.NewConnectionError):
                return failure(
                    DeadlineExceeded,
                    f"cannot {self._what}: no connection within {self._session.timeout:g} seconds",
                    self._path,
                )
            if isinstance(
                cause, (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError)
            ):
                return self._late()
            if isinstance(cause, (requests.exceptions.SSLError, urllib3.exceptions.SSLError)):
                return failure(
                    ConnectionFailed,
                    f"cannot {self._what}: TLS: {_last_words(chain)}; "
                    "see the option verify if the service has a certificate of its own",
                    self._path,
                    errno=errno.EPROTO,
                )
            if isinstance(
                cause, (requests.exceptions.InvalidURL, urllib3.exceptions.LocationParseError)
            ):
                return failure(InvalidArguments, f"cannot {self._what}: not a URL", self._path)
            if isinstance(cause, urllib3.exceptions.NameResolutionError):
                return failure(
                    ConnectionFailed,
                    f"cannot {self._what}: there is no host of that name",
                    self._path,
                    errno=errno.EHOSTUNREACH,
                )
            if isinstance(cause, OSError) and cause.errno in (
                errno.ECONNREFUSED,
                errno.EHOSTUNREACH,
                errno.ENETUNREACH,
            ):
                return failure(
                    ConnectionFailed,
                    f"cannot {self._what}: {os.strerror(cause.errno)}; is the service running?",
                    self._path,
                    errno=errno.ECONNREFUSED
                    if cause.errno == errno.ECONNREFUSED
                    else errno.EHOSTUNREACH,
                )
        if any(isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in chain):
            return failure(
                ConnectionFailed,
                f"cannot {self._what}: no connection: {_last_words(chain)}",
                self._path,
                errno=errno.EHOSTUNREACH,
            )
        return self.unclear(
            failure(
                BadReply,
                f"cannot {self._what}: the connection broke: {_last_words(chain)}",
                self._path,
            )
        )


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    """Yield an exception and what it was made from: causes, arguments, urllib3's reasons.

    Not contexts: they lead on to whatever the caller was handling when it asked.
    """
    seen: set[int] = set()
    stack = [error]
    while stack:
        current = stack.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        stack += [current.__cause__, getattr(current, "reason", None)]
        stack += [arg for arg in current.args if isinstance(arg, BaseException)]


def _last_words(chain: list[BaseException]) -> str:
    for cause in reversed(chain):
        if isinstance(cause, OSError) and cause.strerror:
            return str(cause.strerror)
    innermost = chain[-1]
    return str(innermost) or type(innermost).__name__


def _seconds(value: str | None) -> float:
    """Read Retry-After in seconds; a date or nonsense means: no advice."""
    try:
        return max(0.0, float(value)) if value else 0.0
    except ValueError:
        return 0.0
