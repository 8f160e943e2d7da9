"""Work that nobody waits for, done by a few threads that end when there is none."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable

__all__ = ["Errands"]

logger: logging.Logger = logging.getLogger("flowfs.ahead")

_IDLE = 1.0  # seconds for which a thread waits for more to do


class Errands:
    """Does what it is given, first come, first served.

    The threads are daemons, begun when there is something to do and ended soon after: no
    process waits for them, and they keep nothing alive. After a fork there are none, and the
    new process begins its own.

    Parameters
    ----------
    most : int
        Threads at once; with 0 nothing is done.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._due: deque[Callable[[], None]] = deque()
        self._threads = 0
        self._idle = 0

    def add(self, *errands: Callable[[], None]) -> None:
        """Have something done. What it raises is logged, and no more."""
        if self._most < 1 or not errands:
            return
        if self._process != os.getpid():
            self._begin()
        with self._changed:
            self._due.extend(errands)
            self._changed.notify(len(errands))
            for _ in range(min(len(self._due) - self._idle, self._most - self._threads)):
                self._threads += 1
                try:
                    threading.Thread(target=self._work, name="flowfs-ahead", daemon=True).start()
                except RuntimeError:  # there are as many threads as may be
                    self._threads -= 1
                    self._due.clear()
                    break

    def clear(self) -> None:
        """Do nothing of what has not begun yet."""
        with self._changed:
            self._due.clear()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                due = self._changed.wait_for(lambda: self._due, _IDLE)
                self._idle -= 1
                if not due:
                    self._threads -= 1
                    return
                errand = self._due.popleft()
            try:
                errand()
            except Exception:
                logger.debug("failed", exc_info=True)
            finally:
                del errand  # or it would be held while there is nothing to do
