"""How dear a request is beside the bytes of a reply that is there already: measured."""

from __future__ import annotations

import time

__all__ = ["Pace"]

_LEAST = 1 << 18  # bytes that are always read through; a request costs more
_MOST = 1 << 26  # bytes; who jumps that far is not kept waiting, nor sent what nobody wants
_SAMPLE = 1 << 20  # bytes that must have come before their rate means anything
_RATE = 1e8  # bytes a second, until it is known


class Pace:
    """Latency and rate of the replies of one file.

    A service may take a millisecond to begin a reply, or, where it reads all of the file
    first, a second. Not thread-safe by itself: who counts holds a lock, or can bear to be a
    little off.
    """

    def __init__(self) -> None:
        self._latency = 0.0
        self._bytes = 0
        self._seconds = 0.0

    def began(self, since: float) -> None:
        """Count a reply that was asked for at a time of :func:`time.monotonic`, and is there."""
        self._latency = time.monotonic() - since

    def came(self, count: int, since: float) -> None:
        """Count bytes that have been waited for since a time of :func:`time.monotonic`."""
        self._bytes += count
        self._seconds += time.monotonic() - since

    @property
    def worth(self) -> int:
        """How many bytes are read in the time that a new request takes."""
        rate = _RATE
        if self._bytes >= _SAMPLE and self._seconds > 0:
            rate = self._bytes / self._seconds
        return max(_LEAST, min(int(self._latency * rate), _MOST))
