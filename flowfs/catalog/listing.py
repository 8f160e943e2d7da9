"""The runs of a group, kept small: there may be 100,000 of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, ValuesView
from sys import intern
from typing import Any, cast

from flowfs.catalog.records import RunRecord
from flowfs.names import to_names
from flowfs.service.runs import ENDED_STATES, STATES
from flowfs.tree import RESERVED_RUN_NAMES

__all__ = ["Listing", "Row", "plain", "read_object"]

#: Id, state and time of a run. A plain tuple of texts is nothing that Python's collector of
#: garbage has to look at, ever again.
Row = tuple[str, str, str]

# What a listing tells of a run, in this order, or in that of the alphabet, as Flask writes it: a
# row of those has None behind it, to be told so again.
_MEMBERS = ("id", "state", "createdAt")
_STATES = {state: intern(state) for state in STATES}


def read_object(members: list[tuple[str, Any]]) -> Row | dict[str, Any]:
    """Return what stands for an object of a listing: a row of a run, or else a dict.

    A row where it has what flowServ tells of a run in a listing and nothing else, in one of its
    orders, so that nothing is lost: see :func:`plain`. JSON has no tuples of its own.

    Parameters
    ----------
    members : list of (str, Any)
        Names and values.
    """
    if len(members) == 3:
        (first, one), (second, two), (third, three) = members
        if type(one) is type(two) is type(three) is str:
            if first == "id" and second == "state" and third == "createdAt":
                return one, _STATES.get(two, two), three
            if first == "createdAt" and second == "id" and third == "state":
                return cast(Row, (two, _STATES.get(three, three), one, None))
    return dict(members)


def plain(value: Any) -> Any:
    """Return what :func:`read_object` was given as JSON has it, however deep it is."""
    if isinstance(value, tuple):
        told = dict(zip(_MEMBERS, value[:3], strict=True))
        return told if len(value) == 3 else dict(sorted(told.items()))
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    return [plain(member) for member in value] if isinstance(value, list) else value


class Listing(Mapping[str, RunRecord]):
    """The runs of a group by id, in the service's order; does not change.

    Parameters
    ----------
    runs : list of dict or Row
        As the service tells of them.

    Attributes
    ----------
    active : list of str
        Ids of those that can still change.
    """

    __slots__ = ("_rows", "active")

    def __init__(self, runs: list[dict[str, Any] | Row]) -> None:
        if set(map(type, runs)) - {tuple}:
            runs = [run if isinstance(run, tuple) else _row(run) for run in runs]
        self._rows = {row[0]: row for row in cast("list[Row]", runs)}
        states = {row[1] for row in self._rows.values()}
        ended = states.issubset(ENDED_STATES)
        self.active: list[str] = (
            [] if ended else [i for i, row in self._rows.items() if row[1] not in ENDED_STATES]
        )

    def __getitem__(self, run_id: str) -> RunRecord:
        return RunRecord._make(self._rows[run_id][:3])

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def values(self) -> ValuesView[RunRecord]:
        """Return the runs; made one by one, as they are looked at."""
        return _Records(self)

    def rows(self) -> list[Row]:
        """Return what is known of all runs; of each the first three count."""
        return list(self._rows.values())

    def without(self, other: Listing) -> set[str]:
        """Return the ids of those that another listing does not have."""
        return self._rows.keys() - other._rows.keys()

    def names(self) -> list[str]:
        """Return the file names of all runs."""
        return to_names(list(self._rows), RESERVED_RUN_NAMES)

    def having(self, records: Mapping[str, RunRecord]) -> Listing:
        """Return a listing in which some runs are as given."""
        rows = dict(self._rows)
        for run_id, (_, state, created) in records.items():
            rows[run_id] = (run_id, state, created)
        return Listing(list(rows.values()))


class _Records(ValuesView[RunRecord]):
    def __init__(self, listing: Listing) -> None:
        super().__init__(listing)
        self._all = listing._rows

    def __iter__(self) -> Iterator[RunRecord]:
        return (RunRecord._make(row[:3]) for row in self._all.values())


def _row(run: dict[str, Any]) -> Row:
    run_id, state, created = RunRecord.of(run)
    return run_id, _STATES.get(state, state), created
