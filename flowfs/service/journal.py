"""The last refusals and failures, to be read where a shell shows no more than an errno."""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Collection
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass

from flowfs.errors import printable

__all__ = ["Journal"]

_LINES = 500  # kept; the oldest go first
_LONGEST = 2000  # characters of a message

# What happens all the time and is no news: somebody looks whether something is there.
_NO_NEWS = frozenset(
    {
        errno.ENOENT,
        errno.ENODATA,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.ENOTSUP,
    }
)

# Whether somebody will record what is raised now: an operation of a mount, with its own path.
_spoken_for: ContextVar[bool] = ContextVar("spoken_for", default=False)


class _SpokenFor:
    """Around each operation of a mount, so of few steps."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = _spoken_for.set(True)

    def __exit__(self, *error: object) -> None:
        _spoken_for.reset(self._before)


@dataclass
class _Line:
    what: tuple[str, str, str, str]  # operation, path, errno's name, message
    time: float
    count: int = 1


class Journal:
    """The last errors of one service's tree. Thread-safe, bounded, and free of the token.

    Parameters
    ----------
    secrets : set of str, optional
        Tokens, which may become more: nothing that holds one is kept as it is.
    """

    def __init__(self, secrets: Collection[str] = ()) -> None:
        self._secrets = secrets
        self._lock = threading.Lock()
        self._lines: deque[_Line] = deque(maxlen=_LINES)

    @staticmethod
    def spoken_for() -> AbstractContextManager[None]:
        """Leave what is raised within to whoever does this: :meth:`failed` records nothing."""
        return _SpokenFor()

    def failed(self, operation: str, path: str, error: OSError) -> None:
        """Record an error of the service, unless the one who asked does so."""
        if not _spoken_for.get():
            self.record(operation, path, error)

    def record(self, operation: str, path: str, error: BaseException) -> None:
        """Record an error, unless it is no news. One that comes again at once is only counted.

        Parameters
        ----------
        operation : str
            What was done: an operation of the mount, or the kind of a request.
        path : str
            To what.
        error : BaseException
            What came of it. One without an errno counts as EIO.
        """
        number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
        if number in _NO_NEWS:
            return
        said = error.strerror if isinstance(error, OSError) else None
        message = str(said or str(error) or type(error).__name__)[:_LONGEST]
        name = errno.errorcode.get(number, str(number))
        what = (operation, self._shown(path), name, self._shown(message))
        now = time.time()
        with self._lock:
            last = self._lines[-1] if self._lines else None
            if last is not None and last.what == what:
                last.count += 1
                last.time = now
            else:
                self._lines.append(_Line(what, now))

    def _shown(self, text: str) -> str:
        for secret in tuple(self._secrets):
            text = text.replace(secret, "...")
        # Names are anybody's: none may speak to the terminal, or look like another line.
        return printable(text)

    @property
    def latest(self) -> float | None:
        """When something was recorded last, in seconds since the epoch; None if nothing was."""
        with self._lock:
            return self._lines[-1].time if self._lines else None

    def text(self) -> str:
        """Return the lines, the newest last.

        Returns
        -------
        str
            A line has a time (UTC), an operation, a path, the errno's name and a message, with
            tabs between them, and at the end how often it happened if more than once.
        """
        with self._lock:
            lines = [(line.what, line.time, line.count) for line in self._lines]
        return "".join(
            "\t".join(
                (
                    time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
                    *what[:3],
                    what[3] + (f" ({count} times)" if count > 1 else ""),
                )
            )
            + "\n"
            for what, at, count in lines
        )
