"""Many calls at once, bounded; an interrupt ends all of them."""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

from flowfs.errors import with_others
from flowfs.service.interruption import Batch, Stopped
from flowfs.service.waits import wait

__all__ = ["Failures", "call_all", "map_all", "result_of", "results_of"]

A = TypeVar("A")
B = TypeVar("B")

_TOLD = 100  # failures that are kept to be told of


def call_all(
    function: Callable[[A], B],
    items: Iterable[A],
    workers: int,
    took: Callable[[int, B | Exception], None],
) -> None:
    """Call a function for every item, several at once, whatever comes of each.

    Parameters
    ----------
    function : callable
        Called with each item, in threads.
    items : iterable
        What to call it with; taken as they are needed.
    workers : int
        How many calls at once, at most. With one the calls are made by the caller's thread.
    took : callable
        Told the number of each item, and what its call returned or raised; in threads, and
        by several at once.

    Raises
    ------
    BaseException
        What ends everything, such as KeyboardInterrupt: no other call begins, requests that
        are under way are ended, and all calls are over when it is raised.
    """
    numbered = enumerate(items)
    if workers <= 1:
        for number, item in numbered:
            took(number, _outcome(function, item))
        return
    batch = Batch()
    lock = threading.Lock()
    broken: list[BaseException] = []
    left = 0
    over = threading.Event()

    def work() -> None:
        while not batch.stopped:
            with lock:
                following = next(numbered, None)
            if following is None:
                return
            took(following[0], _outcome(function, following[1]))

    def begin() -> None:
        nonlocal left
        try:
            with batch:
                work()
        except Stopped:
            pass
        except BaseException as error:
            broken.append(error)
            batch.stop()
        finally:
            with lock:
                left -= 1
                if not left:
                    over.set()

    # What holds for the caller holds in the threads (a copy each: none can be shared).
    threads = [
        threading.Thread(target=copy_context().run, args=(begin,), name=f"flowfs_{number}")
        for number in range(workers)
    ]
    left = len(threads)
    try:
        started = 0
        with suppress(RuntimeError):  # as many as may be: those that there are do it all
            for thread in threads:
                thread.start()
                started += 1
        if started < len(threads):
            with lock:
                left -= len(threads) - max(started, 1)
                if not left:
                    over.set()
            if not started:
                begin()
        wait(over.wait)
    except BaseException:
        batch.stop()
        raise
    finally:
        # One whose start was interrupted may have begun all the same; if it begins only now,
        # it makes no call any more.
        for thread in threads:
            if thread.is_alive():
                thread.join()
    if broken:
        raise broken[0]
    batch.check()  # a batch that this is a part of may have been stopped


def _outcome(function: Callable[[A], B], item: A) -> B | Exception:
    try:
        return function(item)
    except Exception as error:
        return error


def map_all(function: Callable[[A], B], items: Iterable[A], workers: int) -> list[B | Exception]:
    """Call a function for every item, several at once.

    Parameters
    ----------
    function : callable
        Called with each item, in threads.
    items : iterable
        What to call it with.
    workers : int
        How many calls at once, at most.

    Returns
    -------
    list
        For each item, in order, what the call returned or the exception it raised.
    """
    items = list(items)
    outcomes: list[B | Exception] = [_NEVER] * len(items)
    call_all(function, items, min(workers, len(items)), outcomes.__setitem__)
    return outcomes


_NEVER = RuntimeError("not called")


def results_of(outcomes: Iterable[B | Exception]) -> list[B]:
    """Return what calls returned; raise the first exception among them."""
    return [result_of(outcome) for outcome in outcomes]


def result_of(outcome: B | Exception) -> B:
    """Return what a call returned, or raise what it raised."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


class Failures:
    """What went wrong among many calls: the first ones in the order of their items.

    Thread-safe. Memory is bounded: of 100 at most the errors are kept, of others that they
    were.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: list[tuple[int, Exception]] = []
        self._count = 0

    def took(self, number: int, outcome: object) -> None:
        """Note what came of an item, if that is an error."""
        if not isinstance(outcome, Exception):
            return
        with self._lock:
            self._count += 1
            insort(self._first, (number, outcome), key=lambda one: one[0])
            for _, error in self._first[_TOLD:]:
                error.__traceback__ = None
            del self._first[_TOLD:]

    def check(self, total: int) -> None:
        """Raise the first error, the others with it, if there was any among so many items.

        It has an attribute ``others``, and from Python 3.11 on a traceback tells of them.
        """
        if self._first:
            first, *others = [error for _, error in self._first]
            raise with_others(first, others, self._count - 1, total)

    @classmethod
    def check_all(cls, outcomes: Iterable[object]) -> None:
        """Raise the first error among outcomes, the others with it, if there is one."""
        failures, total = cls(), 0
        for number, outcome in enumerate(outcomes):
            failures.took(number, outcome)
            total = number + 1
        failures.check(total)
