"""Which parts of something are there. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

__all__ = ["Spans"]


class Spans:
    """Spans of whole numbers, from a start to an end that is not part of it.

    Spans that touch are one.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> int:
        """Take in a span; return how many numbers of it are new."""
        if end <= start:
            return 0
        new = self.lacking(start, end)
        first = bisect_left(self._ends, start)  # that touches it, or the first behind it
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]
        return new

    def lacking(self, start: int, end: int) -> int:
        """Return how many numbers from `start` to `end` are not there."""
        lacking = end - start
        for at in range(bisect_right(self._ends, start), bisect_left(self._starts, end)):
            lacking -= min(end, self._ends[at]) - max(start, self._starts[at])
        return lacking

    def missing(self, start: int, end: int) -> int | None:
        """Return the first number from `start` to `end` that is not there; None: all are."""
        at = bisect_right(self._starts, start) - 1
        if at >= 0 and self._ends[at] > start:
            start = self._ends[at]
        return start if start < end else None

    def end_before(self, number: int) -> int:
        """Return where the last span ends that ends at or before a number; 0: none does."""
        at = bisect_right(self._ends, number)
        return self._ends[at - 1] if at else 0

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))
