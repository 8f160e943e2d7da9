"""What is under way: ended all at once, for a session or for one caller, or not begun at all."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol

from flowfs.errors import FlowError
from flowfs.service.deadline import Watch

__all__ = ["Batch", "Stopped", "UnderWay"]

_refusal: ContextVar[FlowError | None] = ContextVar("flowfs_refusal", default=None)


class Stopped(BaseException):
    """Whoever this thread works for wants nothing any more.

    No Exception, as KeyboardInterrupt is none: it is no answer for others who wait for the
    same.

    Attributes
    ----------
    unclear : bool
        Whether the service may have done what it was asked for: the request was under way.
    """

    unclear = False


class _Interruptible(Protocol):
    def interrupt(self) -> None:
        """End it, from any thread."""
        ...


class Batch:
    """What several threads do for one caller, to be stopped all at once.

    A thread is one of it within its ``with`` block, and so is a batch that is made there. Once
    it is stopped, requests of these threads end, and none begins: they get :class:`Stopped`.
    Thread-safe.
    """

    def __init__(self) -> None:
        self._outer = _batch.get()
        self._lock = threading.Lock()
        self._running: weakref.WeakSet[_Interruptible] = weakref.WeakSet()
        self._stopped = False

    def __enter__(self) -> Batch:
        _batch.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        _batch.set(self._outer)

    @staticmethod
    def current() -> Batch | None:
        """Return the batch that this thread is one of."""
        return _batch.get()

    @staticmethod
    @contextlib.contextmanager
    def nobodys() -> Iterator[None]:
        """Let this thread be one of no batch within the ``with`` block."""
        token = _batch.set(None)
        try:
            yield
        finally:
            _batch.reset(token)

    @staticmethod
    def check_current() -> None:
        """Raise Stopped if what this thread is one of was stopped."""
        if (batch := _batch.get()) is not None:
            batch.check()

    @property
    def stopped(self) -> bool:
        """Whether it was stopped, or what it is a part of."""
        return self._stopped or (self._outer is not None and self._outer.stopped)

    def check(self) -> None:
        """Raise Stopped if it was stopped."""
        if self.stopped:
            raise Stopped

    def add(self, running: _Interruptible) -> None:
        """Take in something that is to be interrupted when it is stopped."""
        with self._lock:
            if not self._stopped:
                self._running.add(running)
        if self._outer is not None:
            self._outer.add(running)
        if self._stopped:
            running.interrupt()

    def end(self, running: _Interruptible) -> None:
        """Take out something that is over; whether it was interrupted is settled then."""
        with self._lock:
            self._running.discard(running)

    def stop(self) -> None:
        """End what is under way, and let nothing begin."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
            self._running.clear()
        for one in running:
            one.interrupt()


_batch: ContextVar[Batch | None] = ContextVar("flowfs_batch", default=None)


class _Nap:
    """A pause that ends when its batch is stopped."""

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed

    def interrupt(self) -> None:
        with self._changed:
            self._changed.notify_all()


class UnderWay:
    """The requests of one session that are under way, and bodies that are being read.

    Attributes
    ----------
    changes : int
        How often something was changed at the service.

    Notes
    -----
    Thread-safe; not for signal handlers, which may find its lock held by their own thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._interrupts = 0
        self._closed = False
        self.changes = 0

    @contextlib.contextmanager
    def refusing(self, error: FlowError) -> Iterator[None]:
        """Let no request of this thread begin within the ``with`` block: this is what it gets."""
        token = _refusal.set(error)
        try:
            yield
        finally:
            _refusal.reset(token)

    @property
    def refusal(self) -> FlowError | None:
        """What a request of this thread gets instead of an answer; None: it may begin."""
        return _refusal.get()

    @property
    def closed(self) -> bool:
        """Whether nothing is to begin any more."""
        return self._closed

    @property
    def interrupts(self) -> int:
        """How often everything was interrupted; to be noted when an act begins."""
        return self._interrupts

    def __len__(self) -> int:
        return len(self._watches)

    def add(self, watch: Watch, since: int) -> None:
        """Take in the watch of an act that began when :attr:`interrupts` was `since`.

        If there was an interrupt since, it is interrupted at once.
        """
        batch = Batch.current()
        if batch is not None:
            batch.add(watch)
        with self._changed:
            if not self._over(since):
                self._watches.add(watch)
                return
        watch.interrupt()

    def pause(self, seconds: float, since: int) -> bool:
        """Wait; return whether there was no interrupt."""
        batch = Batch.current()
        nap = _Nap(self._changed)
        if batch is not None:
            batch.add(nap)
        with self._changed:
            return not self._changed.wait_for(
                lambda: self._over(since) or (batch is not None and batch.stopped), seconds
            )

    def _over(self, since: int) -> bool:
        return self._closed or self._interrupts != since

    def interrupt(self, *, closing: bool = False) -> None:
        """End all that is under way; with `closing`, all that would begin later as well."""
        with self._changed:
            self._interrupts += 1
            self._closed |= closing
            watches = list(self._watches)
            self._watches.clear()
            self._changed.notify_all()
        for watch in watches:
            watch.interrupt()
