"""Values kept for a while, or for ever, and fetched once however many ask."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from flowfs.service.flights import Flights
from flowfs.service.statistics import Usage

__all__ = ["Cache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """A bounded, thread-safe cache in which each value knows how long it is good.

    Parameters
    ----------
    ttl : float
        Seconds for which a value is kept that may change.
    lasts : callable, optional
        Tells of a value whether it can never change; by default none is so.
    bound : int
        Values kept at most; the least recently used go first.

    Attributes
    ----------
    usage : Usage
        How often a value was there, and how often one was fetched.

    Notes
    -----
    No lock is held while a value is fetched: who asks for another key is not held up, who
    asks for the same one waits for the one fetch. A value whose fetch began before
    :meth:`drop` is given to those who waited for it, but not kept.
    """

    def __init__(
        self, ttl: float, lasts: Callable[[V], bool] = lambda value: False, bound: int = 10_000
    ) -> None:
        self._ttl = ttl
        self._lasts = lasts
        self._bound = bound
        self._lock = threading.Lock()
        self._kept: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self._fetching: Flights[K, V] = Flights()
        self._asked: dict[K, object] = {}  # what is being fetched, and is to be kept
        self._drops = 0
        self.usage: Usage = Usage()

    def peek(self, key: K, *, any_age: bool = False) -> V | None:
        """Return the value kept for a key if it is still good (or of any age); never fetch."""
        with self._lock:
            entry = self._kept.get(key)
            if entry is None or not (any_age or entry[1] > time.monotonic()):
                return None
            self._kept.move_to_end(key)
            self.usage.hits += not any_age
            return entry[0]

    def get(self, key: K, fetch: Callable[[], V], *, refresh: bool = False) -> V:
        """Return the value for a key, fetched if none is kept that is still good.

        Parameters
        ----------
        key : hashable
            Which value.
        fetch : callable
            Gets it; what it raises is raised to all who wait for it.
        refresh : bool
            Fetch even if a good value is kept.
        """
        if not refresh and (value := self.peek(key)) is not None:
            return value
        return self._fetching.get(
            key,
            lambda: self._fetched(key, fetch),
            (lambda: None) if refresh else (lambda: self.peek(key)),
        )

    def ahead(self, key: K, fetch: Callable[[], V]) -> None:
        """Fetch a value that nobody needs yet, unless one is kept or being fetched.

        What `fetch` raises is raised; whoever needs the value meanwhile waits for it, and
        fetches it anew if it fails.
        """
        if self.peek(key, any_age=True) is None:
            self._fetching.ahead(
                key, lambda: self._fetched(key, fetch), lambda: self.peek(key, any_age=True)
            )

    def _fetched(self, key: K, fetch: Callable[[], V]) -> V:
        asked = object()
        with self._lock:
            self.usage.misses += 1
            self._asked[key] = asked
        try:
            value = fetch()
            with self._lock:
                if self._asked.get(key) is asked:  # not dropped since
                    self._keep(key, value)
        finally:
            with self._lock:
                if self._asked.get(key) is asked:
                    del self._asked[key]
        return value

    @property
    def drops(self) -> int:
        """How often something was dropped; to be noted before a value is asked for."""
        return self._drops

    def put(self, key: K, value: V, *, since: int | None = None) -> None:
        """Keep a value that came by another way.

        Parameters
        ----------
        key, value : hashable, Any
            What to keep.
        since : int, optional
            What :attr:`drops` was before the value was asked for; not kept if something was
            dropped since then.
        """
        with self._lock:
            if since is None or since == self._drops:
                self._keep(key, value)

    def _keep(self, key: K, value: V) -> None:
        """Keep a value; the lock is held."""
        good_until = float("inf") if self._lasts(value) else time.monotonic() + self._ttl
        self._kept[key] = (value, good_until)
        self._kept.move_to_end(key)
        while len(self._kept) > self._bound:
            self._kept.popitem(last=False)

    def items(self) -> list[tuple[K, V]]:
        """Return what is kept, of whatever age; never fetch."""
        with self._lock:
            return [(key, value) for key, (value, _) in self._kept.items()]

    def drop(self, key: K) -> None:
        """Forget a value; a fetch of it that is under way will not be kept, nor joined."""
        with self._lock:
            self._kept.pop(key, None)
            self._asked.pop(key, None)
            self._fetching.drop(key)
            self._drops += 1

    def expire(self) -> None:
        """Forget what may change; what never changes is kept."""
        with self._lock:
            for key in [k for k, (value, _) in self._kept.items() if not self._lasts(value)]:
                del self._kept[key]
            self._asked.clear()
            self._fetching.clear()
            self._drops += 1

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._asked.clear()
            self._fetching.clear()
            self._drops += 1

    def __len__(self) -> int:
        return len(self._kept)
