"""Threads that wait on behalf of others, who may have gone, or want no more to be waited for.

A mount answers programs. Each waits in the kernel for what a thread here waits for, and is let
go only when that comes back. So whoever serves others says who asks (:func:`serve`), and all
waiting here is done within :func:`interruptible`. A thread of its own looks at those for whom
is waited, a few times a second, and only as long as somebody waits. Who works for nobody but
himself pays nothing for it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from types import TracebackType
from typing import TypeVar

from flowfs.errors import describe
from flowfs.service.interruption import Batch, Stopped

__all__ = ["Turn", "apart", "interruptible", "is_serving", "serve", "wait"]

logger: logging.Logger = logging.getLogger("flowfs.service")

R = TypeVar("R")

_LOOK = 0.4  # seconds between two looks at those for whom is waited
_STEP = 0.25  # seconds after which who waits for another thread sees that he need not
_LINGERS = 12  # looks with nobody there, after which the thread that looks ends


class _Served:
    """For whom threads of this process wait at the moment. Thread-safe."""

    def __init__(self) -> None:
        self.caller: Callable[[], int] | None = None
        self._leaves: Callable[[int], bool] = lambda caller: False
        self._lock = threading.Lock()
        self._waiting: dict[Batch, tuple[int, float]] = {}
        self._thread: threading.Thread | None = None

    def serve(self, caller: Callable[[], int] | None, leaves: Callable[[int], bool]) -> None:
        self._leaves = leaves
        self.caller = caller

    def __contains__(self, batch: object) -> bool:
        return batch in self._waiting

    def add(self, batch: Batch, caller: int, at: float) -> None:
        with self._lock:
            self._waiting[batch] = caller, at
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._look, name="flowfs-callers", daemon=True
                )
                try:
                    self._thread.start()
                except RuntimeError:  # there are too many threads: the next one tries again
                    self._thread = None

    def remove(self, batch: Batch) -> None:
        with self._lock:
            del self._waiting[batch]

    def _has_left(self, caller: int) -> bool:
        try:
            return self._leaves(caller)
        except Exception:  # it is about others as well
            logger.debug("cannot look at %d", caller, exc_info=True)
            return False

    def _look(self) -> None:
        idle = 0
        while True:
            time.sleep(_LOOK)
            now = time.monotonic()
            with self._lock:
                due = [(one, who) for one, (who, at) in self._waiting.items() if at <= now]
                idle = 0 if self._waiting else idle + 1
                if idle > _LINGERS:
                    self._thread = None
                    return
            left = {who for who in {who for _, who in due} if self._has_left(who)}
            for batch, who in due:
                if who in left:
                    with self._lock:  # what is not waited for any more is not to be ended
                        if batch in self._waiting and not batch.stopped:
                            batch.stop()


_served = _Served()


def serve(caller: Callable[[], int] | None, leaves: Callable[[int], bool]) -> None:
    """Say for whom the threads of this process wait.

    Parameters
    ----------
    caller : callable or None
        Returns a number for whoever the calling thread works for; 0 if that is nobody who
        could be looked at. None: all of them work for themselves.
    leaves : callable
        Tells whether he wants no more to be waited for; called by a thread of its own.
    """
    _served.serve(caller, leaves)


def is_serving() -> bool:
    """Tell whether threads of this process work for others."""
    return _served.caller is not None


@contextlib.contextmanager
def interruptible(after: float = 0.0) -> Iterator[Batch | None]:
    """Wait within the ``with`` block for somebody who may leave.

    Then requests of this thread end, as those of a :class:`Batch` that is stopped: Stopped.

    Parameters
    ----------
    after : float
        Seconds that are waited in any case.

    Yields
    ------
    Batch or None
        What is stopped when he leaves; None where there is nobody who could. After the block
        nobody stops it any more.
    """
    asked = _served.caller
    caller = 0 if asked is None else asked()
    current = Batch.current()
    if not caller or current in _served:
        yield current if caller else None
        return
    batch = Batch()
    _served.add(batch, caller, time.monotonic() + after)
    try:
        with batch:
            yield batch
    finally:
        _served.remove(batch)


def wait(step: Callable[[float], object], seconds: float = float("inf")) -> bool:
    """Wait for another thread, unless whoever this one works for wants no more.

    Parameters
    ----------
    step : callable
        Waits for so many seconds at most, and tells whether it has come.
    seconds : float
        For how long.

    Returns
    -------
    bool
        Whether it has come.

    Raises
    ------
    Stopped
        If he has gone, or the batch that this thread is one of was stopped.
    """
    if step(0.0):
        return True
    ends = time.monotonic() + seconds
    with interruptible():
        stops = Batch.current() is not None
        longest = _STEP if stops else threading.TIMEOUT_MAX
        while True:
            left = ends - time.monotonic()
            if step(max(0.0, min(left, longest))):
                return True
            Batch.check_current()
            if left <= 0:
                return False


class Turn:
    """A lock that is held while the service is asked; reentrant.

    Who waits for it and is interrupted waits no longer. A context manager.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> Turn:
        if not self._lock.acquire(blocking=False):
            wait(lambda seconds: self._lock.acquire(timeout=seconds))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()


def apart(work: Callable[[], R]) -> R:
    """Do what is not to break off where whoever asked for it leaves: he does, and it goes on.

    In a thread of its own then, so that no lock may be held that it wants. What goes wrong
    after he has left is logged.

    Parameters
    ----------
    work : callable
        What to do.

    Raises
    ------
    Stopped
        If he has left.
    BaseException
        What it raised.
    """
    if not is_serving():
        return work()
    with interruptible() as batch:
        if batch is None:
            return work()
        outcome: Future[R] = Future()
        done = threading.Event()
        left = threading.Event()

        def run() -> None:
            try:
                with Batch.nobodys():
                    outcome.set_result(work())
            except BaseException as error:
                outcome.set_exception(error)
                if left.is_set():
                    ended = isinstance(error, OSError) and error.errno == errno.ECANCELED
                    level = logging.DEBUG if ended else logging.WARNING
                    logger.log(level, "failed after who asked has left: %s", describe(error))
            finally:
                done.set()

        thread = threading.Thread(
            target=copy_context().run, args=(run,), name="flowfs-apart", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # there are too many threads
            return work()
        try:
            wait(done.wait)
        except Stopped:
            left.set()
            if not outcome.done():  # else it may be that nobody has been told of it
                raise
    return outcome.result()
