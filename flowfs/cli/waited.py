"""Runs that a command waits for, and what is said of how they ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from flowfs.cli.access import Access
from flowfs.cli.naming import find_place
from flowfs.cli.tally import MOST, Tally, complain
from flowfs.errors import FlowError, InvalidArguments, NotFound, failure

if TYPE_CHECKING:
    from flowfs.catalog import RunRecord
    from flowfs.filesystem import FlowFileSystem
    from flowfs.filesystem.waiting import Patience, Watched

__all__ = ["GONE", "OVER", "find_runs", "tell_of_endings", "wait_for"]

GONE = "GONE"  # in place of a state
OVER = frozenset({"SUCCESS", "ERROR", "CANCELED", GONE})


def find_runs(
    access: Access, names: Iterable[str], *, groups: bool = True
) -> list[tuple[FlowFileSystem, Watched]]:
    """Return the runs that are named, each with its service.

    Parameters
    ----------
    access : Access
        How to talk to the services.
    names : iterable of str
        Ids of runs, or places of runs. With `groups`, groups as well: all of their runs that
        are active.
    groups : bool
        Whether a group may stand for its runs.
    """
    from flowfs import tree

    found = []
    for name in names:
        if "/" not in name:
            fs = access.file_system()
            try:
                found += [(fs, run) for run in fs.named_runs(name)]
                continue
            except NotFound:  # no run: a group, perhaps
                pass
        place = find_place(access, name)
        with place.fs.entries.operation():
            kind = place.fs.entries.follow(place.fs.entries.resolve(place.path)).kind
        if kind is tree.GROUP and not groups:
            raise failure(
                InvalidArguments, "is a group: name its runs, by their ids or paths", place.given
            )
        found += [(place.fs, run) for run in place.fs.named_runs(_with_slash(place.path))]
    return found


def _with_slash(path: str) -> str:
    return path if "/" in path else f"{path}/"


def wait_for(
    runs: Sequence[tuple[FlowFileSystem, Watched]],
    patience: Patience,
    states: dict[str, str],
    *,
    quiet: bool,
) -> None:
    """Wait until runs have ended.

    Parameters
    ----------
    runs, patience
        For which, and how.
    states : dict of str to str
        Is told the states by id, :data:`GONE` where one is not there; what is known when this
        fails, too.
    quiet : bool
        Whether to show nothing meanwhile.

    Raises
    ------
    StillActive
        If the time is up.
    """
    with Tally("have ended", len(set(runs)), quiet=quiet) as tally:

        def changed(run_id: str, record: RunRecord | None) -> None:
            states[run_id] = GONE if record is None else record.state
            if record is None or not record.active:
                tally.one()

        for fs in dict.fromkeys(fs for fs, _ in runs):
            fs.await_runs([run for of, run in runs if of is fs], patience, changed)


def tell_of_endings(
    runs: Sequence[tuple[FlowFileSystem, Watched]],
    states: Mapping[str, str],
    names: Mapping[str, str] | None = None,
) -> None:
    """Say on stderr which runs are not in SUCCESS, and why; a request for each that is told of."""
    told: list[str] = []
    for fs, (group_id, run_id) in dict.fromkeys(runs):
        state = states.get(run_id, GONE)
        if state == "SUCCESS":
            continue
        name = f"{names[run_id]}: " if names and run_id in names else ""
        if len(told) >= MOST:
            told.append("")
        elif state == GONE:
            told.append(f"{name}run {run_id} is not there any more")
        else:
            told.append(f"{name}run {run_id} ended in {state}{_why(fs, group_id, run_id)}")
    complain(told)


def _why(fs: FlowFileSystem, group_id: str, run_id: str) -> str:
    try:
        messages = fs.catalog.run(group_id, run_id).get("messages")
    except FlowError:
        return ""
    lines = [str(one).strip() for one in messages] if isinstance(messages, list) else []
    # The last line of what a program says on its way down is the one that tells.
    last = lines[-1].splitlines()[-1:] if lines else []
    return f": {last[0]}" if last else ""
