"""Figures of the requests to one service: how many of each kind, how much, how long."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Latencies", "Statistics", "Usage", "kind_of"]

_SHORTEST = 1e-4  # seconds; what is faster counts as this
_STEP = math.log(1.1)  # each class of durations ends a tenth above the one before
_CLASSES = 200  # the last one begins after five hours
_KINDS = 100  # kinds of requests; what comes beyond is counted as one


def kind_of(method: str, url: str) -> str:
    """Return the name under which a request is counted: ``GET runs:get``.

    Parameters
    ----------
    method : str
        HTTP method.
    url : str
        Where to. Those that a descriptor makes know their route.
    """
    return f"{method} {getattr(url, 'route', '') or 'other'}"


class Latencies:
    """Durations, as a histogram: of bounded size, and exact but for the percentiles.

    Each class of durations is a tenth wider than the one before, so that a percentile, told
    as the middle of its class, is at most 5 % off. Not thread-safe by itself.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self._sum = 0.0
        self._longest = 0.0
        self._classes: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Take in one duration, in seconds."""
        self.count += 1
        self._sum += seconds
        self._longest = max(self._longest, seconds)
        number = int(math.log(max(seconds, _SHORTEST) / _SHORTEST) / _STEP)
        number = min(number, _CLASSES)
        self._classes[number] = self._classes.get(number, 0) + 1

    def percentile(self, share: float) -> float:
        """Return the duration, in seconds, that a share (0 to 1) of all does not exceed."""
        left = share * self.count
        for number in sorted(self._classes):
            left -= self._classes[number]
            if left <= 0:
                return min(_SHORTEST * math.exp(_STEP * (number + 0.5)), self._longest)
        return self._longest

    def document(self) -> dict[str, float]:
        """Return count, mean, median, 95th percentile and maximum; durations in seconds."""
        figures = {
            "mean": self._sum / self.count if self.count else 0.0,
            "p50": self.percentile(0.5),
            "p95": self.percentile(0.95),
            "max": self._longest,
        }
        return {"count": self.count, **{name: round(s, 6) for name, s in figures.items()}}


@dataclass
class Usage:
    """How often something was there when it was wanted, and how often it had to be asked for.

    Counted without a lock of its own: whoever counts holds one, or can bear to be off by one.
    """

    hits: int = 0
    misses: int = 0


@dataclass
class _Kind:
    failures: int = 0
    received: int = 0
    sent: int = 0
    latencies: Latencies = field(default_factory=Latencies)

    def document(self) -> dict[str, Any]:
        seconds = self.latencies.document()
        return {
            "count": int(seconds["count"]),
            "failures": self.failures,
            "bytes_received": self.received,
            "bytes_sent": self.sent,
            "seconds": seconds,
        }


class Statistics:
    """What was asked of one service since this was made. Thread-safe.

    Every attempt counts as a request, and following a redirect as one more. Memory is bounded,
    however long it runs.

    Attributes
    ----------
    since : float
        When counting began, in seconds since the epoch.
    shortest : float
        Seconds that the shortest request took which did not fail; infinite before any.
    """

    def __init__(self) -> None:
        self.since: float = time.time()
        self.shortest: float = float("inf")
        self._lock = threading.Lock()
        self._kinds: dict[str, _Kind] = {}

    def count(self, kind: str, seconds: float, *, sent: int = 0, failed: bool = False) -> None:
        """Count a request.

        Parameters
        ----------
        kind : str
            As :func:`kind_of` names it.
        seconds : float
            Until the headers of its reply were there, or it failed.
        sent : int
            Bytes of its body.
        failed : bool
            Whether there was no reply, or one of 400 or above.
        """
        with self._lock:
            entry = self._kind(kind)
            entry.latencies.add(seconds)
            entry.sent += sent
            entry.failures += failed
            if not failed:
                self.shortest = min(self.shortest, seconds)

    def received(self, kind: str, size: int) -> None:
        """Count bytes of a reply's body."""
        with self._lock:
            self._kind(kind).received += size

    def _kind(self, kind: str) -> _Kind:
        known = self._kinds.get(kind)
        if known is None:
            if len(self._kinds) >= _KINDS:
                kind = "others"
            known = self._kinds.setdefault(kind, _Kind())
        return known

    def document(self) -> dict[str, dict[str, Any]]:
        """Return the figures by kind, the kinds in alphabetical order.

        Returns
        -------
        dict
            For each kind ``count``, ``failures``, ``bytes_received``, ``bytes_sent``, and
            ``seconds`` with ``count``, ``mean``, ``p50``, ``p95`` and ``max``.
        """
        with self._lock:
            return {kind: self._kinds[kind].document() for kind in sorted(self._kinds)}
