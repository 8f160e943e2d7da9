"""Who has just waited for the service in vain, so that no command waits twice for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from flowfs.errors import BadReply, ConnectionFailed, DeadlineExceeded, FlowError
from flowfs.service import Session

__all__ = ["Lapses"]

_LAST = 1.5  # seconds
_BOUND = 2000  # threads and places
_ENOUGH = 2  # places that a thread has waited for in vain, after which it waits for no other


@dataclass(frozen=True)
class _Lapse:
    """When a thread has waited in vain, for what place, and what it was told."""

    error: FlowError
    at: float
    changes: int
    path: str
    count: int


class Lapses:
    """Bounds what one command waits for a service that does not answer.

    The kernel looks at each part of a path, and again at each from the top where that fails;
    programs ask more than once; and what could not be read ahead is read once more. Each time
    would be one more deadline. So for a second and a half after a thread of a program has
    waited in vain, no more requests are made for it: for the same place and those on the way
    to it or below it, and after two places for any. Others get the same answer for the same
    place alone: the kernel has them wait for each other, and so for one deadline after the
    other. What is known is shown all the same, and a change that succeeds ends it.

    Thread-safe.

    Parameters
    ----------
    session : Session
        The connections to the service.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        # By thread, and by place.
        self._lapses: OrderedDict[int | str, _Lapse] = OrderedDict()
        self._until = 0.0  # when the last of them is over

    def bounding(self, thread: Callable[[], int], path: str) -> AbstractContextManager[None]:
        """Look at a place of the tree, for a thread of a program, within the ``with`` block.

        What it asks the service for fails at once, as it failed before, if that was just now.

        Parameters
        ----------
        thread : callable
            Returns who asks; 0: not known. Called only where nothing goes on as usual.
        path : str
            Which place.
        """
        if time.monotonic() < self._until:
            return self._bounding(thread(), path)
        return _Watched(self, thread, path)

    def _failed(self, thread: int, path: str, error: FlowError) -> None:
        """Take note of what failed where nothing had before."""
        self._note(path, path, error, 1)
        if thread:
            self._note(thread, path, error, 1)

    @contextlib.contextmanager
    def _bounding(self, thread: int, path: str) -> Iterator[None]:
        lapse, same = self._recent(thread), self._recent(path)
        if lapse is not None and (lapse.count >= _ENOUGH or _on_one_way(lapse.path, path)):
            same = lapse
        if same is not None:
            with self._session.underway.refusing(same.error):
                yield
            return
        try:
            yield
        except FlowError as error:
            if _no_answer(error):
                self._note(path, path, error, 1)
                if thread:
                    self._note(thread, path, error, 1 if lapse is None else lapse.count + 1)
            raise

    def _recent(self, key: int | str) -> _Lapse | None:
        with self._lock:
            lapse = self._lapses.get(key)
        if (
            lapse is None
            or time.monotonic() > lapse.at + _LAST
            or lapse.changes != self._session.underway.changes
        ):
            return None
        return lapse

    def _note(self, key: int | str, path: str, error: FlowError, count: int) -> None:
        with self._lock:
            changes = self._session.underway.changes
            now = time.monotonic()
            self._lapses[key] = _Lapse(error, now, changes, path, count)
            self._until = now + _LAST
            self._lapses.move_to_end(key)
            if len(self._lapses) > _BOUND:
                self._lapses.popitem(last=False)


class _Watched:
    """A look at a place while there are no lapses, as nearly always: of few steps."""

    __slots__ = ("_lapses", "_path", "_thread")

    def __init__(self, lapses: Lapses, thread: Callable[[], int], path: str) -> None:
        self._lapses = lapses
        self._thread = thread
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: Any, traceback: Any) -> None:
        if isinstance(error, FlowError) and _no_answer(error):
            self._lapses._failed(self._thread(), self._path, error)


def _on_one_way(one: str, other: str) -> bool:
    """Tell whether of two places one is the other, or is above it."""
    one, other = f"{one}/", f"{other}/"
    return one.startswith(other) or other.startswith(one) or "/" in (one, other)


def _no_answer(error: FlowError) -> bool:
    """Tell whether the service has not answered: too late, not to be reached, broken off."""
    if isinstance(error, (DeadlineExceeded, ConnectionFailed)):
        return True
    return isinstance(error, BadReply) and error.status is None and error.unclear
