"""What went wrong between here and the service, told as errors of flowfs."""

from __future__ import annotations

import errno
import os
import ssl
import traceback
from collections.abc import Iterable
from typing import TypeVar

import requests
import urllib3.exceptions

from flowfs.errors import (
    BadReply,
    ConnectionFailed,
    DeadlineExceeded,
    FlowError,
    InvalidArguments,
    failure,
)
from flowfs.service.addresses import UnknownAddress

__all__ = ["forget_locals", "is_broken_tls", "is_unresolved", "late", "network_failure", "unclear"]

E = TypeVar("E", bound=FlowError)


def unclear(error: E) -> E:
    """Mark an error after which nobody knows whether the service acted."""
    error.unclear = True
    return error


def late(what: str, path: str, timeout: float) -> FlowError:
    """Say that no answer came in time."""
    return unclear(
        failure(DeadlineExceeded, f"cannot {what}: no answer within {timeout:g} seconds", path)
    )


def network_failure(error: BaseException, *, what: str, path: str, timeout: float) -> FlowError:
    """Make an error of flowfs of what requests, urllib3 or a socket raised.

    Parameters
    ----------
    error : BaseException
        What was raised; an error of flowfs is returned as it is.
    what : str
        The act that failed, as words.
    path : str
        What it was about.
    timeout : float
        The seconds that were allowed.

    Returns
    -------
    FlowError
        With `unclear` set unless the request certainly never arrived.
    """
    if isinstance(error, FlowError):
        return error
    chain = list(_chain(error))
    if is_unresolved(error):
        return failure(
            DeadlineExceeded,
            f"cannot {what}: the system has not found the address of the host in time; "
            "does its name service answer?",
            path,
        )
    if any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in chain) and not any(
        isinstance(cause, (TimeoutError, urllib3.exceptions.TimeoutError)) for cause in chain
    ):
        return failure(
            ConnectionFailed,
            f"cannot {what}: no way through the proxy: {_last_words(chain)}; proxies are named by "
            "http_proxy, https_proxy and no_proxy in the environment",
            path,
            errno=errno.EHOSTUNREACH,
        )
    for cause in chain:
        if isinstance(
            cause, (requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError)
        ) and not isinstance(cause, urllib3.exceptions.NewConnectionError):
            return failure(
                DeadlineExceeded,
                f"cannot {what}: no connection within {timeout:g} seconds",
                path,
            )
        if isinstance(
            cause, (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError, TimeoutError)
        ):
            return late(what, path, timeout)
        if isinstance(
            cause, (requests.exceptions.SSLError, urllib3.exceptions.SSLError, ssl.SSLError)
        ):
            return failure(
                ConnectionFailed,
                f"cannot {what}: TLS: {_last_words(chain)}; "
                "if the service has a certificate of its own, see the option verify (--ca of "
                "'flowfs mount'); if it has none, its URL begins with http, or flow+http",
                path,
                errno=errno.EPROTO,
            )
        if isinstance(
            cause, (requests.exceptions.InvalidURL, urllib3.exceptions.LocationParseError)
        ):
            return failure(InvalidArguments, f"cannot {what}: not a URL", path)
        if isinstance(cause, urllib3.exceptions.NameResolutionError):
            return failure(
                ConnectionFailed,
                f"cannot {what}: there is no host of that name",
                path,
                errno=errno.EHOSTUNREACH,
            )
        if isinstance(cause, OSError) and cause.errno in (
            errno.ECONNREFUSED,
            errno.EHOSTUNREACH,
            errno.ENETUNREACH,
        ):
            return failure(
                ConnectionFailed,
                f"cannot {what}: {os.strerror(cause.errno)}; is the service running?",
                path,
                errno=errno.ECONNREFUSED
                if cause.errno == errno.ECONNREFUSED
                else errno.EHOSTUNREACH,
            )
    if any(isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in chain):
        return failure(
            ConnectionFailed,
            f"cannot {what}: no connection: {_last_words(chain)}",
            path,
            errno=errno.EHOSTUNREACH,
        )
    return unclear(
        failure(
            BadReply,
            f"cannot {what}: the connection broke: {_last_words(chain)}",
            path,
        )
    )


def forget_locals(error: BaseException, handled: BaseException | None) -> None:
    """Clear the variables of the frames that an error came through, below who catches it.

    What is sent stands in them, token and all, and some reports of errors show variables.

    Parameters
    ----------
    error : BaseException
        What was caught.
    handled : BaseException or None
        What was handled already when that was begun which failed: nobody's business here.
    """
    seen: set[int] = {id(handled)}
    stack: list[BaseException | None] = [error]
    while stack:
        current = stack.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        stack += [current.__cause__, current.__context__]
        traceback.clear_frames(current.__traceback__)


def is_broken_tls(error: BaseException) -> bool:
    """Tell whether TLS broke off, other than by one side that refuses the other.

    Who was refused has done nothing. Once a request is under way, all else is a connection
    that broke, and the request may have arrived.
    """
    reasons = [str(cause.reason) for cause in _chain(error) if isinstance(cause, ssl.SSLError)]
    return bool(reasons) and not any("ALERT" in one or "VERIFY" in one for one in reasons)


def is_unresolved(error: BaseException) -> bool:
    """Tell whether the address of the host was not found in time, so that nothing was sent."""
    return any(isinstance(cause, UnknownAddress) for cause in _chain(error))


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
        stack.append(current.__cause__)
        # Of an error of TLS the reason is a word, not an exception.
        named = [getattr(current, "reason", None), *current.args]
        stack += [one for one in named if isinstance(one, BaseException)]


def _last_words(chain: list[BaseException]) -> str:
    for cause in reversed(chain):
        if isinstance(cause, OSError) and cause.strerror:
            return str(cause.strerror)
    innermost = chain[-1]
    return str(innermost) or type(innermost).__name__
