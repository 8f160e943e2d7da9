"""Starting what is left of a sweep: each row once, whatever became of who began it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from flowfs.arguments import Argument
from flowfs.catalog import RunRecord, timestamp
from flowfs.errors import FlowError, NotFound, UnclearStart
from flowfs.filesystem import FlowFileSystem
from flowfs.filesystem.waiting import Patience
from flowfs.pool import map_all, results_of
from flowfs.sweep.ledger import Baseline, Intent, Ledger, clock, same_arguments
from flowfs.sweep.rows import Sweep

__all__ = ["Outcome", "matched", "start_sweep"]

_NEWEST = 256  # runs that a baseline names
_WORKERS = 8  # handles that are asked for at once
_AGAIN = 1.0  # seconds between two looks for a run that may still come


@dataclass
class Outcome:
    """What became of the rows of a sweep, each by its number.

    Attributes
    ----------
    before : dict of int to str
        Runs that had been started before, or were found to have been.
    started : dict of int to str
        Runs that were started now.
    refused : dict of int to FlowError
        Rows that were not started, and why.
    unclear : list of int
        Rows that may have been started: no run of them is listed yet.
    unsent : list of int
        Rows that were not sent, since something went wrong before.
    broken : Exception or None
        What went wrong here, such as a full disk under the ledger, or while runs were waited
        for that others might be started.
    """

    before: dict[int, str] = field(default_factory=dict)
    started: dict[int, str] = field(default_factory=dict)
    refused: dict[int, FlowError] = field(default_factory=dict)
    unclear: list[int] = field(default_factory=list)
    unsent: list[int] = field(default_factory=list)
    broken: Exception | None = None

    @property
    def runs(self) -> dict[int, str]:
        """All runs of the sweep, by the numbers of their rows."""
        return dict(sorted({**self.before, **self.started}.items()))

    @property
    def whole(self) -> bool:
        """Whether each row has its run."""
        return not (self.refused or self.unclear or self.unsent or self.broken)


def start_sweep(
    fs: FlowFileSystem,
    group_id: str,
    sweep: Sweep,
    ledger: Ledger | None,
    *,
    workers: int | None = None,
    max_active: int | None = None,
    patience: Patience | None = None,
    dry: bool = False,
    again: bool = False,
    told: Callable[[int, dict[str, Any] | FlowError | None], object] = lambda number, what: None,
    looking: Callable[[int, float], object] = lambda count, seconds: None,
) -> Outcome:
    """Start the rows of a sweep that have not been started.

    Rows that were about to be sent when somebody was killed are looked for first, among the
    runs that have come since: a run with these arguments is theirs. If there is none once a
    start's time is up (the file system's `timeout`), they are sent.

    Costs a request for the group and one for each start. Where something is unclear, a listing
    for each look, and a handle for each run that has come meanwhile.

    Parameters
    ----------
    fs : FlowFileSystem
        The service.
    group_id : str
        The group.
    sweep : Sweep
        The rows.
    ledger : Ledger or None
        What became of them so far; None: nothing is known, and nothing kept.
    workers : int, optional
        How many starts at once.
    max_active : int, optional
        How many of the sweep's runs may be active at once: others are started as these end.
    patience : Patience, optional
        How these are waited for.
    dry : bool
        Check all that would be started, and start nothing: these rows are ``unsent``.
    again : bool
        Start all rows anew, whatever has been started; the ledger is told once all are checked.
    told : callable
        Called with the number of a row and the handle of its run, or why it has none; None: it
        is sent now. In threads.
    looking : callable
        Called once if rows that may have been sent are waited for: with how many, and for how
        many seconds at most.

    Returns
    -------
    Outcome

    Raises
    ------
    InvalidArguments
        If something is wrong with a row that is due; nothing has been started.
    FlowError
        As the service says, before anything was started.
    """
    keys = [row.key for row in sweep.rows]
    outcome = Outcome()
    if ledger is not None and not again:
        _settle(fs, group_id, ledger, ledger.intents, None if dry else looking)
        outcome.before, due = ledger.due(keys)
    else:
        due = list(range(len(keys)))
    unknown = set(range(len(keys))) - set(due) - set(outcome.before)
    outcome.unclear = sorted(unknown)
    checked = dict(
        zip(
            due,
            fs.check_runs(
                group_id,
                [sweep.rows[number].arguments for number in due],
                lambda place: sweep.rows[due[place]].name,
            )
            if due
            else [],
            strict=True,
        )
    )
    if dry:
        outcome.unsent = due
        return outcome
    if ledger is not None and again:
        ledger.again()
    if ledger is not None and due:
        ledger.begin(baseline_of(fs.catalog.runs(group_id, refresh=True).values()))
    left = list(due)
    active = [*outcome.before.values()]
    while left:
        room = len(left)
        if max_active is not None:
            watched = [(group_id, run_id) for run_id in active]
            try:
                now = fs.await_runs(watched, patience or Patience(), enough=max_active - 1)
            except FlowError as error:  # what was started is told all the same
                outcome.broken = error
                outcome.unsent += left
                break
            active = [run_id for run_id, record in now.items() if record and record.active]
            room = max_active - len(active)
        batch, left = left[:room], left[room:]
        if not _sent(fs, group_id, sweep, ledger, batch, checked, workers, outcome, told):
            outcome.unsent += left
            break
        active += [outcome.started[number] for number in batch if number in outcome.started]
    if ledger is not None and outcome.unclear:
        # Somebody who looks at once may find what came of those whose replies were lost.
        with contextlib.suppress(FlowError):  # who begins it again will look as well
            _settle(fs, group_id, ledger, ledger.intents, None)
        known, _ = ledger.due(keys)
        # Of several rows of the same arguments it makes no difference which is which.
        have = {*outcome.before.values(), *outcome.started.values()}
        found = [run_id for run_id in known.values() if run_id not in have]
        by_key = {run_id: keys[number] for number, run_id in known.items()}
        for number in list(outcome.unclear):
            run_id = next((one for one in found if by_key[one] == keys[number]), None)
            if run_id is not None:
                found.remove(run_id)
                outcome.unclear.remove(number)
                outcome.started[number] = run_id
    return outcome


def _sent(
    fs: FlowFileSystem,
    group_id: str,
    sweep: Sweep,
    ledger: Ledger | None,
    batch: list[int],
    checked: dict[int, list[Argument]],
    workers: int | None,
    outcome: Outcome,
    told: Callable[[int, dict[str, Any] | FlowError | None], object],
) -> bool:
    """Send some rows; return whether others may follow."""
    intents: dict[int, int] = {}

    def before(number: int) -> None:
        told(number, None)
        if ledger is not None:  # the last of all: what is in it is sent now
            intents[number] = ledger.intend(sweep.rows[number].key, checked[number])

    def after(number: int, what: dict[str, Any] | FlowError) -> None:
        if ledger is not None:
            if not isinstance(what, FlowError):
                ledger.started(intents[number], str(what["id"]))
            elif not (isinstance(what, UnclearStart) or what.unclear):
                ledger.refused(intents[number], str(what.strerror))
        told(number, what)

    begun = fs.start_checked_runs(
        group_id,
        [(number, checked[number]) for number in batch],
        workers=workers,
        before=before,
        after=after,
    )
    outcome.started |= {number: str(handle["id"]) for number, handle in begun.started.items()}
    outcome.refused |= begun.refused
    outcome.unclear += begun.uncertain
    outcome.unsent += begun.unsent
    outcome.broken = outcome.broken or begun.broken
    return not (begun.unsent or begun.broken or begun.uncertain)


# -- what is unclear ---------------------------------------------------------------


def baseline_of(records: Iterable[RunRecord]) -> Baseline:
    """Return the newest of some runs, as what was there before."""
    newest = sorted(records, key=lambda record: record.created, reverse=True)
    since = newest[_NEWEST - 1].created if len(newest) > _NEWEST else None
    return Baseline(since, frozenset(record.id for record in newest[:_NEWEST]))


def matched(
    intents: Iterable[Intent], runs: Iterable[tuple[RunRecord, Any]], claimed: Iterable[str]
) -> dict[int, str]:
    """Tell which runs came of rows that may have been sent. Pure.

    Parameters
    ----------
    intents : iterable of Intent
        Oldest first.
    runs : iterable of (RunRecord, Any)
        Runs and their arguments, as their handles have them; the oldest is taken first.
    claimed : iterable of str
        Ids of runs that came of others.

    Returns
    -------
    dict of int to str
        Ids of runs by the intents' numbers; each run once.
    """
    taken = set(claimed)
    ordered = sorted(runs, key=lambda run: run[0].created)
    found: dict[int, str] = {}
    for intent in intents:
        for record, arguments in ordered:
            if (
                record.id not in taken
                and is_newer(record, intent.baseline)
                and same_arguments(intent.arguments, arguments)
            ):
                found[intent.number] = record.id
                taken.add(record.id)
                break
    return found


def is_newer(record: RunRecord, baseline: Baseline) -> bool:
    """Tell whether a run was not there before, as far as can be told."""
    if record.id in baseline.known:
        return False
    created, since = timestamp(record.created), timestamp(baseline.since)
    return created is None or since is None or created > since


def _settle(
    fs: FlowFileSystem,
    group_id: str,
    ledger: Ledger,
    intents: list[Intent],
    looking: Callable[[int, float], object] | None,
) -> None:
    """Find out what came of rows that may have been sent.

    With `looking`, it looks again and again, and those of which no run has come once their time
    is up are taken not to have been sent; without it, it looks once.
    """
    left = {intent.number: intent for intent in intents}
    timeout = fs.catalog.service.session.timeout
    said = False
    while left:
        asked = clock()
        claimed = ledger.runs
        listed = fs.catalog.runs(group_id, refresh=True).values()
        candidates = [
            record
            for record in listed
            if record.id not in claimed
            and any(is_newer(record, intent.baseline) for intent in left.values())
        ]
        runs = results_of(map_all(_with_arguments(fs, group_id), candidates, _WORKERS))
        for number, run_id in matched(left.values(), runs, claimed).items():
            ledger.started(number, run_id)
            del left[number]
        if looking is None or not left:
            return
        late = []
        for number, intent in list(left.items()):
            if intent.at is None or intent.at > asked:
                left[number] = replace(intent, at=asked)
            elif asked - intent.at >= timeout:
                late.append(number)
        for number in late:
            ledger.refused(number, "no run came of it")
            del left[number]
        if left:
            since = [asked if intent.at is None else intent.at for intent in left.values()]
            if not said:
                looking(len(left), max(max(since) + timeout - clock(), 0.0))
                said = True
            time.sleep(max(0.0, min(_AGAIN, min(since) + timeout - clock())))


def _with_arguments(
    fs: FlowFileSystem, group_id: str
) -> Callable[[RunRecord], tuple[RunRecord, Any]]:
    def asked(record: RunRecord) -> tuple[RunRecord, Any]:
        try:
            return record, fs.catalog.run(group_id, record.id).get("arguments")
        except NotFound:  # deleted since it was listed
            return record, None

    return asked
