"""Drafts of uploads that nobody has open any more, kept for a moment.

Their bytes are at hand where one is renamed, or added to, right after it was closed.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from flowfs.fuse.draft import Draft

__all__ = ["Resting"]

_FILES = 32
_BYTES = 1 << 28
_REST = 10.0  # seconds


class Resting:
    """Drafts by the path of their file, few and not for long. Thread-safe.

    Parameters
    ----------
    bound : int
        Bytes of them that there is room for; 256 MiB at most are used.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, bound: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._bound = min(_BYTES, bound)
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Draft, float]] = OrderedDict()  # until when
        self._timer: threading.Timer | None = None

    @property
    def paths(self) -> list[str]:
        """Paths of what is kept, the oldest first."""
        with self._lock:
            return list(self._kept)

    def keep(self, draft: Draft) -> None:
        """Keep a draft, or drop it: if it is too large, or not what the service has."""
        size = draft.worth_keeping
        if size is None or size > self._bound:
            draft.drop()
            return
        path = draft.node.path
        with self._lock:
            before = self._kept.pop(path, None)
            dropped = [] if before is None else [before[0]]
            self._kept[path] = (draft, self._clock() + _REST)
            while len(self._kept) > _FILES or self._bytes() > self._bound:
                dropped.append(self._kept.popitem(last=False)[1][0])
            self._wake_later()
        for one in dropped:
            one.drop()

    def take(self, path: str) -> Draft | None:
        """Return the draft of a file if it is kept; it is no longer."""
        with self._lock:
            kept = self._kept.pop(path, None)
        return None if kept is None else kept[0]

    def drop(self, path: str) -> None:
        """Drop the draft of a file, if it is kept."""
        kept = self.take(path)
        if kept is not None:
            kept.drop()

    def drop_old(self) -> None:
        """Drop what has been kept for long enough."""
        now, over = self._clock(), []
        with self._lock:
            self._timer = None
            while self._kept and next(iter(self._kept.values()))[1] <= now:
                over.append(self._kept.popitem(last=False)[1][0])
            if self._kept:
                self._wake_later()
        for draft in over:
            draft.drop()

    def _bytes(self) -> int:
        return sum(draft.size or 0 for draft, _ in self._kept.values())

    def _wake_later(self) -> None:
        """Have it looked through in a while; the lock is held."""
        if self._timer is None:
            timer = threading.Timer(_REST, self.drop_old)
            timer.daemon = True
            try:
                timer.start()
            except RuntimeError:  # there are too many threads: the next that is kept tries again
                return
            self._timer = timer
