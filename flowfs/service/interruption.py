"""What is under way on a session: ended all at once, or not begun where that would be vain."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from contextvars import ContextVar

from flowfs.errors import FlowError
from flowfs.service.deadline import Watch

__all__ = ["UnderWay"]


_refusal: ContextVar[FlowError | None] = ContextVar("flowfs_refusal", default=None)


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
        with self._changed:
            if not self._over(since):
                self._watches.add(watch)
                return
        watch.interrupt()

    def pause(self, seconds: float, since: int) -> bool:
        """Wait; return whether there was no interrupt."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._over(since), seconds)

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
