"""Many requests at once, bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

__all__ = ["map_all", "result_of", "results_of"]

A = TypeVar("A")
B = TypeVar("B")


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

    def call(item: A) -> B | Exception:
        try:
            return function(item)
        except Exception as error:
            return error

    items = list(items)
    if len(items) <= 1 or workers <= 1:
        return [call(item) for item in items]
    with ThreadPoolExecutor(min(workers, len(items)), thread_name_prefix="flowfs") as pool:
        # What holds for the caller holds in the threads (a copy each: none can be shared).
        contexts = [copy_context() for _ in items]
        return list(pool.map(lambda context, item: context.run(call, item), contexts, items))


def results_of(outcomes: Iterable[B | Exception]) -> list[B]:
    """Return what calls returned; raise the first exception among them."""
    return [result_of(outcome) for outcome in outcomes]


def result_of(outcome: B | Exception) -> B:
    """Return what a call returned, or raise what it raised."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
