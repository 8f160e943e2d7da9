"""Who goes from run to run: where they are, in which order they go, and what they look at. Pure."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from flowfs import tree
from flowfs.catalog import FileRecord, RunRecord
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
    records : sequence of FileRecord
        As the run's handle names them.

    Attributes
    ----------
    looked_at : set of int
        By their places among the records.
    """

    def __init__(self, records: list[FileRecord]) -> None:
        self.records = records
        self.looked_at: set[int] = set()
        self._planned: set[int] = set()
        self._last = -1
        self._of_kind = {
            tree.RESULT: {record.name: at for at, record in enumerate(records)},
            tree.OUTPUT: {"/".join(record.output): at for at, record in enumerate(records)},
        }
        self._orders: list[list[int]] = []

    def look(self, node: Node) -> int | None:
        """Note that a file is looked at; return its place, or None if it is none or was before."""
        name = node.names["file" if node.kind is tree.RESULT else "output"]
        at = self._of_kind[node.kind].get(name)
        if at is None or at in self.looked_at:
            return None
        self.looked_at.add(at)
        return at

    def plan(self, at: int, most: int) -> list[FileRecord]:
        """Return what is worth fetching once a file has been looked at, each record once.

        Nothing for the first; then more for each that follows. Of more than a few files, only
        those that come next in an order that is followed.
        """
        before, self._last = self._last, at
        if len(self.looked_at) < 2:
            return []
        room = min(most, _FIRST << min(len(self.looked_at) - 2, 16))
        room -= len(self._planned - self.looked_at)
        chosen: list[FileRecord] = []
        for one in self._following(before, at):
            if len(chosen) >= room:
                break
            if one not in self._planned and one not in self.looked_at:
                self._planned.add(one)
                chosen.append(self.records[one])
        return chosen

    def _following(self, before: int, at: int) -> Iterable[int]:
        count = len(self.records)
        if count <= _FEW:
            return [*range(at + 1, count), *range(at)]
        if not self._orders:
            self._orders = [
                list(range(count)),
                sorted(range(count), key=lambda one: self.records[one].name),
                sorted(range(count), key=lambda one: self.records[one].output),
            ]
            self._places = [dict(zip(order, range(count), strict=True)) for order in self._orders]
        for order, places in zip(self._orders, self._places, strict=True):
            if places[at] == places[before] + 1:
                place = places[at] + 1
                return order[place : place + 4 * len(self.looked_at) + _FIRST]
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
        chosen = [
            at
            for at, record in enumerate(self.records)
            if at not in self._planned
            and at not in self.looked_at
            and (outputs is None or record.output in outputs)
        ][:most]
        self._planned.update(chosen)
        return [self.records[at] for at in chosen]


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
                self.outputs = frozenset(files.records[at].output for at in files.looked_at)

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
