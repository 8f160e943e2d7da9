"""One act on the service: its attempts, redirects and deadline, and how failures are told."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import random
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urljoin

from flowfs.errors import (
    BadReply,
    ConnectionFailed,
    FlowError,
    ServiceBusy,
    again,
    failure,
    from_reply,
)
from flowfs.service.asking import is_ahead, waited
from flowfs.service.credentials import Credentials
from flowfs.service.deadline import Watch
from flowfs.service.descriptor import origin_of
from flowfs.service.faults import (
    forget_locals,
    is_broken_tls,
    is_unresolved,
    late,
    network_failure,
    unclear,
)
from flowfs.service.interruption import Batch, Stopped, UnderWay
from flowfs.service.journal import Journal
from flowfs.service.leftovers import clear_up
from flowfs.service.sending import Reply
from flowfs.service.statistics import Statistics, kind_of
from flowfs.service.waits import interruptible

__all__ = ["Exchange", "Transport"]

logger: logging.Logger = logging.getLogger("flowfs.service")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_RETRY_STATUS = frozenset({429, 502, 503, 504})
_RETRY_METHODS = frozenset({"GET", "HEAD", "DELETE"})
_REFUSED = frozenset({401, 403})
_LOOKING = frozenset({"GET", "HEAD"})
_AT_LEAST = 0.5  # seconds that a change has, whoever leaves: what comes of it is then known
_MAX_CONNECT = 10.0  # seconds
_MAX_PAUSE = 5.0  # seconds; a Retry-After of hours is not waited for
_MAX_JSON = 1 << 26  # bytes; 600,000 runs have room in it
_MAX_ERROR_BODY = 1 << 16  # bytes
# Bytes of an upload that a service stores in a second at least: it answers once it has.
_STORED = 1 << 23


class Transport(Protocol):
    """What sends single requests; :class:`~flowfs.service.session.Session` is one."""

    endpoint: str
    credentials: Credentials
    secrets: set[str]
    timeout: float
    retries: int
    underway: UnderWay
    statistics: Statistics
    journal: Journal

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: Any,
        timeout: tuple[float, float],
        token: str | None,
    ) -> Reply:
        """Send one request as it is; no retry, no redirect."""
        ...

    def renew(
        self, refused: str | None, user_of: Callable[[str | None], Any], seconds: float
    ) -> bool:
        """Take another token than the one that was refused, if its source has one."""
        ...

    def may_see_token(self, url: str) -> bool:
        """Tell whether a URL is of the origin that the token is for."""
        ...


class Exchange:
    """One act on the service: its attempts, their deadline, and how failures are told."""

    def __init__(
        self,
        session: Transport,
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
        self._ends = time.monotonic() + session.timeout - waited()
        self._since = session.underway.interrupts
        self._watch: Watch | None = None  # of the attempt at hand
        self._delete_unclear = False
        self._renewed = False  # whether the source of the token has been asked again
        self._kind = method  # what it is counted as
        self._patience = session.timeout  # seconds that a reply may take

    def run(self, attempt: Callable[[], Any]) -> Any:
        """Make attempts until one succeeds, may not be repeated, or time is up."""
        with interruptible(0.0 if self._method in _LOOKING else _AT_LEAST) as batch:
            got = self._run(attempt)
        if batch is not None and batch.stopped and isinstance(got, Reply):
            got.close()  # its connection has been shut down
            raise Stopped
        return got

    def _run(self, attempt: Callable[[], Any]) -> Any:
        clear_up()
        Batch.check_current()
        if self._session.underway.closed:
            raise self._interrupted()
        if (refusal := self._session.underway.refusal) is not None:
            raise again(refusal)
        repeats = self._method in _RETRY_METHODS and not is_ahead()
        left = self._session.retries if repeats else 0
        for count in range(left + 1):
            try:
                got = attempt()
                self._session.underway.changes += self._method not in _LOOKING
                return got
            except FlowError as error:
                if error.status == 404 and self._delete_unclear:
                    return b""  # the first DELETE arrived after all
                pause = self._pause(error, count)
                if count == left or pause is None:
                    self._session.journal.failed(self._kind, self._path, error)
                    raise
                self._delete_unclear |= self._method == "DELETE" and error.unclear
                logger.debug("%s %s: %s; again in %.2f s", self._method, self._path, error, pause)
            if not self._session.underway.pause(pause, self._since):
                raise self._interrupted()
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
        with self._watching(ends) as watch:
            if self._bulk:  # what comes back is no bulk data, but comes once all is stored
                self._patience = self._session.timeout + len(data) / _STORED
                data.sending = lambda over: watch.limit(
                    time.monotonic() + self._patience if over else ends
                )
            response = self._follow(url, headers, data, watch)
            pieces, size = [], 0
            try:
                if response.status_code in (206, 416):
                    raise unclear(
                        failure(
                            BadReply,
                            f"cannot {self._what}: the reply is a part of one, unasked",
                            self._path,
                            status=response.status_code,
                        )
                    )
                while piece := response.raw.read(1 << 16, decode_content=True):
                    pieces.append(piece)
                    size += len(piece)
                    if size > _MAX_JSON:
                        raise unclear(
                            failure(
                                BadReply,
                                f"cannot {self._what}: the reply is over {_MAX_JSON >> 20} MiB",
                                self._path,
                            )
                        )
                    if time.monotonic() > watch.at:
                        watch.expired = True
                        raise TimeoutError
                if watch.cut:  # this end of the body is our own doing
                    raise TimeoutError
            except FlowError:
                raise
            except Exception as error:
                raise self.translate(error) from error
            finally:
                self.received(size)
                response.close()
            return b"".join(pieces)

    def received(self, size: int) -> None:
        """Count bytes of a reply's body."""
        self._session.statistics.received(self._kind, size)

    def headers(self, url: str, headers: Mapping[str, str], data: Any) -> Reply:
        """Send a request and return its reply once the headers are there, body unread."""
        with self._watching(self._ends) as watch:
            response = self._follow(url, headers, data, watch)
            if watch.cut:
                response.close()
                raise self.translate(TimeoutError())
            watch.keep()
            return response

    @property
    def watch(self) -> Watch | None:
        """The watch of the last attempt; of one that returned headers it is still on."""
        return self._watch

    def _watching(self, ends: float) -> Watch:
        self._watch = Watch(ends, self._session.timeout)
        self._session.underway.add(self._watch, self._since)
        return self._watch

    def _follow(self, url: str, headers: Mapping[str, str], data: Any, watch: Watch) -> Reply:
        self._kind = kind_of(self._method, url)
        with_token = True
        for _ in range(_MAX_REDIRECTS + 1):
            with_token = with_token and self._session.may_see_token(url)
            response = self._send_with(url, headers, data, with_token)
            if response.status_code not in _REDIRECTS or "Location" not in response.headers:
                return self._checked(response, watch)
            location = self._shown(response.headers["Location"])
            _dispose(response)
            if self._method not in ("GET", "HEAD"):
                raise failure(
                    BadReply,
                    f"cannot {self._what}: the service redirects to {location!r}; "
                    "use that address as the endpoint if it is the right one",
                    self._path,
                    status=response.status_code,
                )
            # In an address the token would be where everybody writes down what they see.
            told = location != response.headers["Location"]
            url = self._target(url, location, response.status_code, refused=told)
        raise failure(
            BadReply,
            f"cannot {self._what}: more than {_MAX_REDIRECTS} redirects",
            self._path,
            status=response.status_code,
        )

    def _target(self, url: str, location: str, status: int, *, refused: bool) -> str:
        """Return where a redirect leads; only to another http(s) URL."""
        try:
            target = urljoin(url, location)
            if not refused and origin_of(target)[0] in ("http", "https"):
                return target
        except ValueError:
            pass
        raise failure(
            BadReply,
            f"cannot {self._what}: the service redirects to {location!r}, which is no address",
            self._path,
            status=status,
        )

    def _send_with(
        self, url: str, headers: Mapping[str, str], data: Any, with_token: bool
    ) -> Reply:
        """Send the request; once more if it is refused and there is another token by now.

        That is safe for a start, too: what is refused has not been done.
        """
        if not with_token:
            return self._send(url, headers, data, None)
        token = self._session.credentials.token
        response = self._send(url, headers, data, token)
        if response.status_code not in _REFUSED or self._renewed:
            return response
        self._renewed = True
        left = self._session.timeout if self._bulk else self._ends - time.monotonic()
        # Half of it: that it was refused is to be said while there is time.
        if not self._session.renew(token, self._user_of, left / 2):
            return response
        _dispose(response)
        logger.debug("%s %s: refused; again with a new token", self._method, self._shown(url))
        return self._send(url, headers, data, self._session.credentials.token)

    def _user_of(self, token: str | None) -> Any:
        """Ask the service whose token this is; None where it does not tell."""
        response = None
        url = self._session.endpoint + "/"
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                response = self._send(url, {}, None, token, method="GET")
                if response.status_code not in _REDIRECTS:
                    break
                location = response.headers["Location"]
                _dispose(response)
                told = location != self._shown(location)
                url = self._target(url, location, response.status_code, refused=told)
                if not self._session.may_see_token(url):
                    return None
            if response is None or response.status_code != 200:
                return None
            return json.loads(response.raw.read(_MAX_ERROR_BODY * 16, decode_content=True))[
                "username"
            ]
        except Exception:  # whatever it is, nobody knows whose it is
            return None
        finally:
            if response is not None:
                response.close()

    def _send(
        self,
        url: str,
        headers: Mapping[str, str],
        data: Any,
        token: str | None,
        *,
        method: str = "",
    ) -> Reply:
        method = method or self._method
        begun = time.monotonic()
        patience = self._patience
        left = patience if self._bulk else self._ends - begun
        if left <= 0:
            raise self._late()
        # That the headers come in time is the watch's business; the second of the two holds
        # for each stretch of the body too.
        timeout = (min(left, _MAX_CONNECT), patience)
        handled = sys.exc_info()[1]
        try:
            response = self._session.send(method, url, headers, data, timeout, token)
        except Exception as error:
            forget_locals(error, handled)
            self._count(begun, data, failed=True)
            local = getattr(data, "error", None)
            if local is not None:
                raise local from None  # what was to be uploaded cannot be read
            raise self.translate(error) from error
        self._count(begun, data, failed=response.status_code >= 400)
        logger.debug(
            "%s %s -> %d in %.3f s",
            method,
            self._shown(url),
            response.status_code,
            time.monotonic() - begun,
        )
        return response

    def _count(self, begun: float, data: Any, *, failed: bool) -> None:
        sent = 0 if data is None else len(data)
        seconds = time.monotonic() - begun
        self._session.statistics.count(self._kind, seconds, sent=sent, failed=failed)

    def _checked(self, response: Reply, watch: Watch) -> Reply:
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
        if watch.ended:
            raise self.translate(TimeoutError())
        for secret in tuple(self._session.secrets):
            body = body.replace(secret.encode(), b"...")  # said back to whoever sent it
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
        raise unclear(error) if response.status_code >= 500 else error

    def _shown(self, text: str) -> str:
        for secret in tuple(self._session.secrets):
            text = text.replace(secret, "...")
        return text

    def _late(self) -> FlowError:
        return late(self._what, self._path, self._patience)

    def _interrupted(self) -> FlowError:
        """Say that somebody ended it; unclear where the service may have acted all the same."""
        sent = self._watch is not None and self._watch.sent
        try:
            Batch.check_current()  # whom this is for knows
        except Stopped as stopped:
            stopped.unclear = self._delete_unclear or sent
            raise
        error = failure(
            FlowError, f"cannot {self._what}: interrupted", self._path, errno=errno.ECANCELED
        )
        error.unclear = self._delete_unclear or sent
        return error

    def translate(self, error: BaseException) -> FlowError:
        """Make an error of flowfs of what was raised while this act was under way."""
        if isinstance(error, FlowError):
            return error
        if self._watch is not None and self._watch.interrupted:
            return self._interrupted()
        if self._watch is not None and self._watch.expired and not is_unresolved(error):
            error_of_time = self._late()
            error_of_time.unclear = self._watch.sent
            return error_of_time
        if self._watch is not None and self._watch.sent and is_broken_tls(error):
            broken = f"cannot {self._what}: the connection broke within TLS"
            return unclear(failure(BadReply, broken, self._path))
        return network_failure(error, what=self._what, path=self._path, timeout=self._patience)


def _dispose(response: Reply) -> None:
    """Close a reply that nobody reads; its connection is kept if that is cheap."""
    if (response.headers.get("Content-Length") or "").isdecimal():
        with contextlib.suppress(Exception):
            response.raw.read(_MAX_ERROR_BODY)
    response.close()


def _seconds(value: str | None) -> float:
    """Read Retry-After in seconds; a date or nonsense means: no advice."""
    try:
        return max(0.0, float(value)) if value else 0.0
    except ValueError:
        return 0.0
