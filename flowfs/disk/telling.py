"""Checksums of what comes fast: made when there is time for them."""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol

__all__ = ["Teller"]

_QUIET = 0.05  # seconds without anything new after which there is time
_LATEST = 2.0  # seconds after which what was written is told of in any case
_IDLE = 1.0  # seconds after which the thread ends that has nothing to do
_PIECE = 1 << 20  # bytes that are told of at once


class Told(Protocol):
    """What others can be told of."""

    def tell(self, start: int, end: int) -> None:
        """Tell others that bytes are there."""
        ...


class Teller:
    """Tells other processes of what was written, by a thread that is there while it is needed.

    A checksum takes about as long as receiving the bytes does where the service is near; who
    reads them need not wait for it. Thread-safe.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._telling = threading.Lock()
        self._news = threading.Condition()
        self._untold: dict[Told, list[tuple[int, int]]] = {}
        self._first = self._last = 0.0  # when the oldest and the newest of it was written
        self._running = False

    def later(self, file: Told, start: int, end: int) -> None:
        """Tell of bytes of a file when there is time."""
        if os.getpid() != self._owner:  # a fork has no such thread, and may do without
            return
        with self._news:
            self._last = time.monotonic()
            if not self._untold:
                self._first = self._last
            spans = self._untold.setdefault(file, [])
            if spans and spans[-1][1] == start and end - spans[-1][0] <= _PIECE:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
            if not self._running:
                thread = threading.Thread(target=self._run, name="flowfs-telling", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the process ends, or has too many threads
                    return
                self._running = True
            elif len(spans) == 1:
                self._news.notify()

    def now(self) -> None:
        """Tell of all that was not told of yet."""
        if os.getpid() != self._owner:
            return
        with self._telling:
            with self._news:
                untold, self._untold = self._untold, {}
            for file, spans in untold.items():
                for start, end in spans:
                    file.tell(start, end)

    def _run(self) -> None:
        while self._is_time():
            self.now()

    def _is_time(self) -> bool:
        """Wait until there is time; False if there is nothing to tell of."""
        with self._news:
            while True:
                if not self._untold and not self._news.wait(_IDLE) and not self._untold:
                    self._running = False
                    return False
                now = time.monotonic()
                wait = min(self._last + _QUIET, self._first + _LATEST) - now
                if self._untold and wait <= 0:
                    return True
                self._news.wait(max(wait, 0.001))
