"""Things that are being asked for: once, however many want them."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from functools import partial
from typing import Generic, TypeVar

from flowfs.errors import again
from flowfs.service.asking import is_ahead, waiting
from flowfs.service.waits import wait

__all__ = ["Flights"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Flight(Future[V]):
    """Something that is being asked for; `ahead`: by nobody who needs it yet."""

    def __init__(self, ahead: bool) -> None:
        super().__init__()
        self.ahead = ahead
        self.process = os.getpid()


class Flights(Generic[K, V]):
    """What is being asked for, by key. Thread-safe; no lock is held while it is asked for.

    Who wants what is being asked for already waits for that, and gets what went wrong with it.
    There is one exception: what was asked for ahead (:func:`~flowfs.service.asking.ahead`), by
    nobody who needed it, and failed is asked for anew by the first who does. The time waited
    counts: together both last no longer than one request may. Only an interrupt is for all who
    wait.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flying: dict[K, _Flight[V]] = {}

    def get(
        self, key: K, fetch: Callable[[], V], known: Callable[[], V | None] = lambda: None
    ) -> V:
        """Return what is asked for under a key.

        Parameters
        ----------
        key : hashable
            What.
        fetch : callable
            Asks for it, and keeps it; what it raises is raised to all who wait for it.
        known : callable
            Returns it if it is kept; None otherwise.
        """
        begun = time.monotonic()
        while True:
            value = known()
            if value is not None:
                return value
            flight, mine = self._join(key, ahead=is_ahead())
            if mine:
                break
            wait(partial(_has_landed, flight))
            failed = flight.exception()
            if failed is None:
                return flight.result()
            # Where whoever asked for it was interrupted in Python, or has left, that is no answer
            # for others.
            if isinstance(failed, Exception) and not (flight.ahead and not _interrupted(failed)):
                raise again(failed)
        with waiting(time.monotonic() - begun):
            return self._fly(key, flight, fetch, known)

    def ahead(
        self, key: K, fetch: Callable[[], V], known: Callable[[], V | None] = lambda: None
    ) -> None:
        """Ask for something that nobody needs yet, unless it is known or being asked for."""
        flight, mine = self._join(key, ahead=True)
        if mine:
            self._fly(key, flight, fetch, known)

    def __contains__(self, key: object) -> bool:
        return key in self._flying

    def _join(self, key: K, *, ahead: bool) -> tuple[_Flight[V], bool]:
        """Return what is under way, and whether that is to be done by the caller."""
        with self._lock:
            flight = self._flying.get(key)
            # After a fork nobody is there any more who would bring it.
            if flight is not None and flight.process == os.getpid():
                return flight, False
            mine = self._flying[key] = _Flight(ahead)
            return mine, True

    def _fly(
        self, key: K, flight: _Flight[V], fetch: Callable[[], V], known: Callable[[], V | None]
    ) -> V:
        try:
            value = known()  # it may have come since the caller looked
            if value is None:
                value = fetch()
        except BaseException as error:
            self._land(key, flight)
            flight.set_exception(error)
            raise
        self._land(key, flight)
        flight.set_result(value)
        return value

    def _land(self, key: K, flight: _Flight[V]) -> None:
        with self._lock:
            if self._flying.get(key) is flight:
                del self._flying[key]

    def drop(self, key: K) -> None:
        """Let nobody join what is under way for a key."""
        with self._lock:
            self._flying.pop(key, None)

    def clear(self) -> None:
        """Let nobody join anything that is under way."""
        with self._lock:
            self._flying.clear()


def _has_landed(flight: _Flight[V], seconds: float) -> bool:
    try:
        flight.exception(seconds)
    except NotYet:
        return False
    return True


def _interrupted(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.ECANCELED
