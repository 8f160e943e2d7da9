"""Who goes from run to run: where they are, in which order they go, and what they look at. Pure."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from flowfs import tree
from flowfs.catalog import FileRecord, RunRecord
from flowfs.filesystem.facts import RunFacts
from flowfs.filesystem.orders import Order
from flowfs.tree import Node

__all__ = ["Files", "Stop", "Walk"]

_SOON = 10.0  # seconds within which who goes on goes on; who takes longer needs nothing ahead
_UNSURE = 2  # requests ahead after the first step
_SKIPPED = 256  # runs in other states that may lie between two that are gone to
_FEW = 16  # files of a run, of which all are fetched in whatever order they are looked at
_FIRST = 4  # files ahead of the second that is looked at


class Files:
    """The files of a run that somebody is in, and which of them were looked at.

    Parameters
    ----------
    facts : RunFacts
        What the run's handle says.

    Attributes
    ----------
    records : list of FileRecord
        All of them.
    looked_at : dict of str to FileRecord
        By id, the latest last.
    """

    def __init__(self, facts: RunFacts) -> None:
        self._facts = facts
        self.records: list[FileRecord] = facts.files
        self.looked_at: dict[str, FileRecord] = {}
        self._planned: set[str] = set()
        self._orders: list[list[FileRecord]] = []

    def look(self, node: Node) -> list[FileRecord] | None:
        """Note that a file is looked at; None if there is none, or if it was looked at before.

        Returns
        -------
        list of FileRecord or None
            The file, after the one that was looked at before, if there is one.
        """
        if node.kind is tree.RESULT:
            record = self._facts.by_name.get(node.names["file"])
        else:
            record = self._facts.by_output.get(tuple(node.names["output"].split("/")))
        if record is None or record.id in self.looked_at:
            return None
        before = next(reversed(self.looked_at.values()), None)
        self.looked_at[record.id] = record
        return [record] if before is None else [before, record]

    def plan(self, steps: list[FileRecord], most: int) -> list[FileRecord]:
        """Return what is worth fetching once a file has been looked at; each file once.

        Nothing for the first; then more for each that follows. Of more than a few files, only
        those that come next in an order that is followed.

        Parameters
        ----------
        steps : list of FileRecord
            As :meth:`look` returns it.
        most : int
            Files that may be ahead.
        """
        if len(steps) < 2:
            return []
        room = min(most, _FIRST << min(len(self.looked_at) - 2, 16))
        room -= len(self._planned - self.looked_at.keys())
        chosen = itertools.islice(self._left(self._following(*steps)), max(0, room))
        return self._plan(list(chosen))

    def _left(self, records: Iterable[FileRecord]) -> Iterator[FileRecord]:
        """Yield those of some about which nothing has been done."""
        for record in records:
            if record.id not in self._planned and record.id not in self.looked_at:
                yield record

    def _plan(self, records: list[FileRecord]) -> list[FileRecord]:
        self._planned.update(record.id for record in records)
        return records

    def _following(self, before: FileRecord, here: FileRecord) -> Iterable[FileRecord]:
        if len(self.records) <= _FEW:
            place = self.records.index(here)
            return self.records[place + 1 :] + self.records[:place]
        if not self._orders:
            self._orders = [
                self.records,
                sorted(self.records, key=lambda record: record.name),
                sorted(self.records, key=lambda record: record.output),
            ]
            self._places = [
                {record.id: place for place, record in enumerate(order)} for order in self._orders
            ]
        for order, places in zip(self._orders, self._places, strict=True):
            place = places[here.id]
            if place == places[before.id] + 1:
                return itertools.islice(order, place + 1, None)
        return ()

    def take(self, outputs: frozenset[tuple[str, ...]] | None, most: int) -> list[FileRecord]:
        """Return what is worth fetching before any file is looked at.

        Parameters
        ----------
        outputs : frozenset of tuple of str or None
            By the workflow's own names; None: all.
        most : int
            How many.
        """
        left = self._left(self.records)
        wanted = (record for record in left if outputs is None or record.output in outputs)
        return self._plan(list(itertools.islice(wanted, most)))


@dataclass(eq=False)
class Stop:
    """A run that a walk will come to."""

    place: int
    run_id: str
    files_due: bool = True  # nothing has been done about its files yet


@dataclass(eq=False)
class Walk:
    """Somebody who goes from run to run of a group; at first, just somebody in a run.

    Attributes
    ----------
    group_id, run_id : str
        Where they are.
    runs : mapping of str to RunRecord
        The listing that they go through.
    seen : float
        When they came here.
    order : Order or None
        In which order they go; None: nobody knows yet.
    place : int
        Where the run is in it.
    planned : int
        As far as something has been done about runs.
    ahead : deque of Stop
        The runs about which something has been done, and that are still to come.
    room : int
        Requests that may be made ahead.
    takes_files : bool
        Whether files were looked at in the run before.
    outputs : frozenset of tuple of str or None
        Which, by the workflow's own names; None: all that there were.
    files_in_a_run : int
        How many.
    files : Files or None
        The files of the run, once they are looked at.
    over : bool
        Whether nothing more is worth doing for them.
    """

    group_id: str
    run_id: str
    runs: Mapping[str, RunRecord]
    seen: float
    order: Order | None = None
    place: int = -1
    planned: int = -1
    ahead: deque[Stop] = field(default_factory=deque)
    room: int = 0
    takes_files: bool = False
    outputs: frozenset[tuple[str, ...]] | None = None
    files_in_a_run: int = 0
    files: Files | None = None
    over: bool = False
    _states: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._note_state()

    def _note_state(self) -> None:
        record = self.runs.get(self.run_id)
        if record is not None:
            self._states.add(record.state)

    @property
    def seen_all(self) -> bool:
        """Whether all files of the run have been looked at."""
        return self.files is not None and len(self.files.looked_at) == len(self.files.records)

    @property
    def unsure(self) -> bool:
        """Whether they may be going in another order: of one step it is not sure in which."""
        return self.room <= _UNSURE

    def lost(self, now: float) -> bool:
        """Tell whether they have not gone on for so long that they are followed no more."""
        self.over |= now > self.seen + _SOON
        return self.over

    def goes_to(self, run_id: str, orders: Iterable[Order], most: int) -> bool:
        """Go on to a run, if that is the next one; tell whether it is.

        The next is that in the listing, or by name, of those in states that were met before:
        who goes through ``states/SUCCESS`` passes the others by.

        Parameters
        ----------
        run_id : str
            The run.
        orders : iterable of Order
            Of the listing, where it is not sure in which they go.
        most : int
            Requests that may be made ahead.
        """
        tried = () if self.order is None else (self.order,)
        for order in itertools.chain(tried, orders):
            here = order.place(self.run_id)
            place = self._next(order, here, run_id) if here >= 0 else -1
            if place >= 0:
                if order is not self.order:
                    self.order, self.planned = order, -1
                    self.ahead.clear()
                self.place, self.run_id = place, run_id
                self.room = min(most, max(_UNSURE, 2 * self.room))
                self._note_state()
                self._leave_files()
                while self.ahead and self.ahead[0].place <= place:
                    self.ahead.popleft()
                return True
        return False

    def _next(self, order: Order, here: int, run_id: str) -> int:
        for place in range(here + 1, min(here + 1 + _SKIPPED, len(order.names))):
            name = order.names[place]
            if name == run_id:
                return place
            record = self.runs.get(name)
            if record is not None and record.state in self._states:
                break
        return -1

    def _leave_files(self) -> None:
        """Take what was looked at in one run for what will be looked at in the next."""
        files, self.files = self.files, None
        self.takes_files = files is not None and bool(files.looked_at)
        if files is not None and self.takes_files:
            self.files_in_a_run = len(files.looked_at)
            self.outputs = None
            if len(files.looked_at) < len(files.records):
                self.outputs = frozenset(r.output for r in files.looked_at.values())

    def plan(self) -> Iterator[Stop]:
        """Yield runs that they will come to, as far as there is room; each once.

        Runs that can still change are passed by: what is fetched of them is soon no good.
        """
        if self.order is None:
            return
        in_a_run = 1 + (self.files_in_a_run if self.takes_files else 0)
        room = max(1, self.room // in_a_run)
        place = max(self.planned, self.place)
        while len(self.ahead) < room and place + 1 < len(self.order.names):
            place += 1
            self.planned = place
            record = self.runs.get(self.order.names[place])
            if record is not None and not record.active and record.state in self._states:
                stop = Stop(place, record.id)
                self.ahead.append(stop)
                yield stop

    def wants(self, stop: Stop) -> bool:
        """Tell whether they are there, or still to come."""
        return not self.over and stop.place >= self.place
