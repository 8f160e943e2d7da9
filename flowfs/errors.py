"""Every error of flowfs: one class per meaning, all of them :class:`OSError`.

The table from what a service or network says to what a user sees stands here and nowhere
else. Each error has an ``errno``, the path or URL it is about (``filename``) and, where a
service said something, its own words (``service_message``).
"""

from __future__ import annotations

import contextlib
import copy
import errno as _errno
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "BadReply",
    "ConnectionFailed",
    "DeadlineExceeded",
    "DirectoryNotEmpty",
    "FlowError",
    "InvalidArguments",
    "InvalidRunState",
    "IsADirectory",
    "NoSpace",
    "NotADirectory",
    "NotFound",
    "NotPermitted",
    "ReadOnly",
    "RunsGone",
    "ServiceBusy",
    "StartsFailed",
    "StillActive",
    "TooLarge",
    "UnclearStart",
    "again",
    "describe",
    "failure",
    "from_reply",
    "printable",
    "with_others",
    "words_of",
]

_NOTED = 10  # other errors that a traceback tells of


class FlowError(OSError):
    """Base of all errors that flowfs raises on its own account.

    Attributes
    ----------
    errno : int
        Never None, so that a FUSE layer and ``except OSError`` can rely on it.
    strerror : str
        What happened and what to do, in one line; holds the service's words.
    filename : str or None
        The path or URL that the error is about.
    status : int or None
        HTTP status of the reply, where there was one.
    service_message : str or None
        The service's own words, where it said any.
    unclear : bool
        Whether the service may have done what it was asked in spite of the error: the reply
        was lost, late or broken.
    retry_after : float
        Seconds after which the service asks to be tried again; 0 where it did not say.
    others : tuple of Exception
        What else went wrong in a call that was for many things, in their order; 99 at most.
    """

    default_errno: int = _errno.EIO
    status: int | None = None
    service_message: str | None = None
    unclear: bool = False
    retry_after: float = 0.0
    others: tuple[Exception, ...] = ()


class AccessDenied(FlowError, PermissionError):
    """The service wants a (better) token: 401 or 403."""

    default_errno: int = _errno.EACCES


class NotFound(FlowError, FileNotFoundError):
    """The service or the tree has nothing of that name."""

    default_errno: int = _errno.ENOENT


class InvalidRunState(FlowError):
    """The run's state forbids it: deleting an active run, canceling an ended one."""

    default_errno: int = _errno.EBUSY


class InvalidArguments(FlowError, ValueError):
    """A run's arguments (or another request's values) are not acceptable."""

    default_errno: int = _errno.EINVAL


class TooLarge(FlowError):
    """The service refuses a body of that size: 413."""

    default_errno: int = _errno.EFBIG


class ServiceBusy(FlowError):
    """The service asks to come back later, after all retries allowed: 429 or 503."""

    default_errno: int = _errno.EAGAIN


class NoSpace(FlowError):
    """The service has no room left: 507."""

    default_errno: int = _errno.ENOSPC


class BadReply(FlowError):
    """The service failed (5xx), or its reply was broken, short or made no sense (other 4xx)."""

    default_errno: int = _errno.EIO


class DeadlineExceeded(FlowError, TimeoutError):
    """No answer within the time allowed."""

    default_errno: int = _errno.ETIMEDOUT


class ConnectionFailed(FlowError, ConnectionError):
    """The service cannot be reached: refused, no route, name unknown."""

    default_errno: int = _errno.ECONNREFUSED


class UnclearStart(FlowError):
    """A run may or may not have started: the reply to its start never came.

    Attributes
    ----------
    run_ids : tuple of str
        The newest run with the same arguments, if the service lists one: it may be the one,
        and its creation time in the message tells.
    """

    run_ids: tuple[str, ...] = ()


class StartsFailed(FlowError):
    """Some of many runs were not started; nothing of those that were is lost.

    Attributes
    ----------
    started : dict of int to dict
        Handles of the runs that have started, by the number of their arguments.
    refused : dict of int to FlowError
        What was said of those that have not, the service's words among it.
    uncertain : dict of int to FlowError
        What is known of those that may have started: their replies never came.
    unsent : tuple of int
        Those that were not sent, since something went wrong before.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.started: dict[int, dict[str, Any]] = {}
        self.refused: dict[int, FlowError] = {}
        self.uncertain: dict[int, FlowError] = {}
        self.unsent: tuple[int, ...] = ()


class StillActive(DeadlineExceeded):
    """Runs that were waited for had not ended in time.

    Attributes
    ----------
    run_ids : tuple of str
        Those that are active still.
    """

    run_ids: tuple[str, ...] = ()


class RunsGone(NotFound):
    """Runs that were waited for were deleted meanwhile; all others have ended.

    Attributes
    ----------
    run_ids : tuple of str
        Those that are gone.
    handles : tuple of dict or None
        Of all that were waited for, in their order; None where one is gone.
    """

    run_ids: tuple[str, ...] = ()
    handles: tuple[dict[str, Any] | None, ...] = ()


class NotPermitted(FlowError, PermissionError):
    """The tree allows no such change there, whoever asks."""

    default_errno: int = _errno.EPERM


class ReadOnly(FlowError):
    """Opened read-only: every change is refused."""

    default_errno: int = _errno.EROFS


class AlreadyExists(FlowError, FileExistsError):
    """Something of that name is there already."""

    default_errno: int = _errno.EEXIST


class IsADirectory(FlowError, IsADirectoryError):
    """A directory where a file is needed."""

    default_errno: int = _errno.EISDIR


class NotADirectory(FlowError, NotADirectoryError):
    """A file where a directory is needed."""

    default_errno: int = _errno.ENOTDIR


class DirectoryNotEmpty(FlowError):
    """The directory still has entries; remove it recursively if that is meant."""

    default_errno: int = _errno.ENOTEMPTY


E = TypeVar("E", bound=FlowError)


def failure(
    kind: type[E],
    message: str,
    path: str | os.PathLike[str] | None = None,
    *,
    errno: int | None = None,
    status: int | None = None,
    words: str | None = None,
) -> E:
    """Build an error with everything it should carry.

    Parameters
    ----------
    kind : type of FlowError
        The class, which decides the errno.
    message : str
        One line: what happened, and what to do about it.
    path : str or path-like, optional
        What it is about.
    errno : int, optional
        Instead of the class's own.
    status : int, optional
        HTTP status of the service's reply.
    words : str, optional
        The service's own message.

    Returns
    -------
    FlowError
        An instance of `kind`, to be raised.
    """
    number = kind.default_errno if errno is None else errno
    message = printable(message)
    name = None if path is None else os.fspath(path)
    error = kind(number, message) if name is None else kind(number, message, name)
    error.status = status
    error.service_message = words
    return error


def printable(text: str) -> str:
    """Return a text as one line that cannot speak to a terminal.

    Names and words come from anybody. What moves a cursor, colours, ends a line or turns the
    direction of writing is shown as Python would write it: ``\\x1b``.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in text
    )


def again(error: Exception) -> Exception:
    """Return an error to raise once more, or in another thread, than where it came up.

    A copy: who raises an error adds to its traceback, and layers above rewrite the path that
    it is about.
    """
    if not isinstance(error, FlowError):
        return error
    copied = copy.copy(error)
    copied.__cause__ = error.__cause__
    return copied


def with_others(error: Exception, others: Sequence[Exception], count: int, total: int) -> Exception:
    """Return an error that tells of others as well: of a call that was for many things.

    Parameters
    ----------
    error : Exception
        The first.
    others : sequence of Exception
        Others, in order; its attribute ``others`` from now on, without their tracebacks.
    count : int
        How many others there were in all.
    total : int
        How many things the call was for.
    """
    if not others:
        return error
    for other in others:
        other.__traceback__ = None
    with contextlib.suppress(AttributeError):  # not every error can be told more
        error.others = tuple(others)  # type: ignore[attr-defined]
    if hasattr(error, "add_note"):  # not in Python 3.10
        more = f"... and {count - _NOTED} more" if count > _NOTED else ""
        told = [f"  {describe(other)}" for other in others[:_NOTED]] + [more] * bool(more)
        error.add_note("\n".join([f"{count} more of {total} failed, the rest is done:", *told]))
    return error


def describe(error: BaseException) -> str:
    """One line about an error for people: path, what happened, the service's words."""
    if isinstance(error, OSError) and error.strerror:
        where = error.filename if error.filename is not None else ""
        return printable(f"{where}: {error.strerror}" if where else str(error.strerror))
    return printable(str(error) or type(error).__name__)


# Status → class, for what the status alone decides. 400 and 404 need a look at the words.
_BY_STATUS: Mapping[int, type[FlowError]] = {
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    408: DeadlineExceeded,
    409: InvalidRunState,
    413: TooLarge,
    429: ServiceBusy,
    503: ServiceBusy,
    504: DeadlineExceeded,
    507: NoSpace,
}

# flowServ answers 400 both for bad arguments and for a run in the wrong state; only the
# words tell them apart (`InvalidRunStateError` in flowserv.error).
#
# flowserv-core 0.8.1 puts a method where it means the state: noise that helps nobody.
_NOISE = re.compile(r"\s*(in state )?<bound method .*", re.S)
_INVALID_STATE = re.compile(r"invalid operation for run|invalid (run )?state", re.I)


def from_reply(
    status: int,
    body: bytes,
    path: str | None,
    *,
    what: str,
    hint: str | None = None,
) -> FlowError:
    """Translate an HTTP reply that is not a success.

    Parameters
    ----------
    status : int
        HTTP status.
    body : bytes
        The reply's body (its beginning suffices); JSON, HTML or text.
    path : str or None
        What the request was about.
    what : str
        The act that failed, as words: ``"get run abc"``.
    hint : str, optional
        What to do, put behind the service's words.

    Returns
    -------
    FlowError
        To be raised.
    """
    words = words_of(body)
    kind: type[FlowError]
    if status in _BY_STATUS:
        kind = _BY_STATUS[status]
    elif 400 <= status < 500 and _INVALID_STATE.search(words or ""):
        kind = InvalidRunState
    elif status in (400, 422):
        kind = InvalidArguments
    else:
        kind = BadReply
    shown = _NOISE.sub("", words or "")
    if kind is NotFound and what == f"get {shown.removeprefix('unknown ')}":
        message = shown  # it says all of that
    else:
        message = f"cannot {what}: {shown or f'the service answered {status}'}"
    if words and kind is BadReply:
        message += f" (status {status})"
    if hint:
        message += f" ({hint})"
    return failure(kind, message, path, status=status, words=words)


_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.I | re.S)
_HEADING = re.compile(r"<h1[^>]*>(.*?)</h1>", re.I | re.S)
_PARAGRAPH = re.compile(r"<p[^>]*>(.*?)</p>", re.I | re.S)
_TAG = re.compile(r"<[^>]*>")
_MAX_WORDS = 2000  # characters
_MAX_MARKUP = 10_000  # characters; the search is quadratic in tags that are never closed


def words_of(body: bytes) -> str | None:
    """Return the message in an error reply: JSON's, an HTML page's title, or plain text.

    Parameters
    ----------
    body : bytes
        The reply's body or its beginning.

    Returns
    -------
    str or None
        One line without markup or control characters, 2000 characters at most; None if
        there is nothing to say.
    """
    text = body.decode("utf-8", "replace").strip()
    if not text:
        return None
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, Mapping):
        for key in ("message", "error", "detail", "description"):
            value = document.get(key)
            if isinstance(value, str) and (line := _one_line(value)):
                return line
        return None
    if isinstance(document, str):
        return _one_line(document) or None
    text = text[:_MAX_MARKUP]
    if text.startswith("<") or _TITLE.search(text):
        from html import unescape  # its table of names is large, and a page is rare

        parts = [m.group(1) for m in (_TITLE.search(text) or _HEADING.search(text),) if m]
        paragraph = _PARAGRAPH.search(text)
        if paragraph and parts:
            parts.append(paragraph.group(1))
        said = _TAG.sub(" ", ": ".join(parts))
        # A character of more digits than Python reads stays as it is.
        with contextlib.suppress(ValueError):
            said = unescape(said)
        return _one_line(said) or None
    return _one_line(text) or None


def _one_line(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:_MAX_WORDS]
