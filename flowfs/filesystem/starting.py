"""Starting many runs: a bounded number at once, each sent once, nothing of it lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from flowfs.arguments import Argument
from flowfs.errors import FlowError, InvalidArguments, StartsFailed, UnclearStart, failure
from flowfs.pool import call_all

__all__ = ["Begun", "start_each"]

_SHOWN = 5  # what went wrong that a message tells of


@dataclass
class Begun:
    """What came of many starts, each by its number.

    Attributes
    ----------
    started : dict of int to dict
        Handles.
    refused : dict of int to FlowError
        Those that did not start, and why.
    uncertain : dict of int to FlowError
        Those that may have started.
    unsent : list of int
        Those that were not sent.
    broken : Exception or None
        What went wrong here, and not at the service.
    """

    started: dict[int, dict[str, Any]] = field(default_factory=dict)
    refused: dict[int, FlowError] = field(default_factory=dict)
    uncertain: dict[int, FlowError] = field(default_factory=dict)
    unsent: list[int] = field(default_factory=list)
    broken: Exception | None = None

    @property
    def whole(self) -> bool:
        """Whether all have started."""
        return not (self.refused or self.uncertain or self.unsent or self.broken)

    def error(self, about: str, named: Callable[[int], str] = str) -> StartsFailed:
        """Return the error that tells of it.

        Parameters
        ----------
        about : str
            What it names as the place.
        named : callable
            What the message calls a run, by its number.
        """
        told = [f"{len(self.started)} runs have started"]
        for what, errors in (
            ("was not started", self.refused),
            ("may have started, and is not started again", self.uncertain),
        ):
            numbers = sorted(errors)
            told += [f"{named(n)} {what}: {_words(errors[n])}" for n in numbers[:_SHOWN]]
            if len(numbers) > _SHOWN:
                told.append(f"so of {len(numbers) - _SHOWN} more")
        if self.unsent:
            told.append(f"{len(self.unsent)} were not sent")
        first = min((*self.uncertain.items(), *self.refused.items()), default=None, key=_number)
        cause = None if first is None else first[1]
        error = failure(
            StartsFailed,
            "; ".join(told),
            about,
            errno=None if cause is None else cause.errno,
            status=None if cause is None else cause.status,
            words=None if cause is None else cause.service_message,
        )
        error.started, error.refused = dict(sorted(self.started.items())), self.refused
        error.uncertain, error.unsent = self.uncertain, tuple(self.unsent)
        error.__cause__ = self.broken or cause
        return error


def start_each(
    send: Callable[[list[Argument]], dict[str, Any]],
    checked: Iterable[tuple[int, list[Argument]]],
    workers: int,
    *,
    before: Callable[[int], object] = lambda number: None,
    after: Callable[[int, dict[str, Any] | FlowError], object] = lambda number, outcome: None,
) -> Begun:
    """Start runs, several at once, each sent once.

    What the service says of one run's arguments is that run's alone, and the others go on. After
    any other failure nothing more is sent: it would fail as well, or nobody would know.

    Parameters
    ----------
    send : callable
        Starts a run with arguments that have been checked, and returns its handle.
    checked : iterable of (int, list)
        Numbers, and arguments.
    workers : int
        How many at once.
    before : callable
        Called with a run's number before it is sent; if it raises, it is not sent, and nothing
        more is.
    after : callable
        Called with its number and what came of it. What it raises ends all, as above.

    Returns
    -------
    Begun

    Raises
    ------
    BaseException
        Such as KeyboardInterrupt, at once: what is under way ends. Its attribute ``starts`` is
        a :class:`Begun`.
    """
    todo = list(checked)
    begun = Begun()
    lock = threading.Lock()
    stopped = threading.Event()
    sent: set[int] = set()

    def one(item: tuple[int, list[Argument]]) -> None:
        number, arguments = item
        if stopped.is_set():
            return
        try:
            before(number)
        except Exception as error:
            _break(error)
            return
        with lock:
            sent.add(number)
        outcome: dict[str, Any] | FlowError
        try:
            outcome = send(arguments)
        except FlowError as error:
            outcome = error
        with lock:
            if not isinstance(outcome, FlowError):
                begun.started[number] = outcome
            elif isinstance(outcome, UnclearStart) or outcome.unclear:
                begun.uncertain[number] = outcome
            else:
                begun.refused[number] = outcome
        if isinstance(outcome, FlowError) and not isinstance(outcome, InvalidArguments):
            stopped.set()
        try:
            after(number, outcome)
        except Exception as error:
            _break(error)

    def _break(error: Exception) -> None:
        stopped.set()
        with lock:
            begun.broken = begun.broken or error

    def took(place: int, outcome: object) -> None:
        if isinstance(outcome, Exception):  # of sending, and no word of the service's
            _break(outcome)

    try:
        call_all(one, todo, max(1, min(workers, len(todo))), took)
    except BaseException as error:
        error.starts = begun  # type: ignore[attr-defined]
        raise
    finally:
        known = begun.started.keys() | begun.refused.keys() | begun.uncertain.keys()
        for number in sorted(sent - known):
            begun.uncertain[number] = failure(
                UnclearStart, "a run may have started: it was interrupted while it was sent"
            )
        begun.unsent = [number for number, _ in todo if number not in sent]
    return begun


def _number(item: tuple[int, FlowError]) -> int:
    return item[0]


def _words(error: FlowError) -> str:
    return str(error.strerror).removeprefix("a run may have started, and is not started again: ")
