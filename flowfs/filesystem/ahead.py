"""What will be looked at next is fetched ahead of whoever goes from run to run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from flowfs import tree
from flowfs.catalog import Catalog, FileRecord, RunRecord
from flowfs.content import Content, Source
from flowfs.errors import NotFound
from flowfs.filesystem.errands import Errands
from flowfs.filesystem.facts import KeptFacts
from flowfs.filesystem.orders import Order, Orders
from flowfs.filesystem.sources import source_in_run
from flowfs.filesystem.walking import Files, Stop, Walk
from flowfs.names import from_name
from flowfs.service.asking import ahead
from flowfs.tree import Node

__all__ = ["Ahead"]

_MOST = 64  # requests ahead of who walks; what they bring along is 4 MiB at most
_EACH = 4  # requests ahead for each thread that makes them
_WALKS = 4  # that go on at the same time
_MOMENT = 2.0  # seconds after which who has not gone on is followed no more
_REST = 5.0  # seconds without requests ahead after one that failed
_LISTINGS = 4  # whose orders are kept


class Ahead:
    """Notices who goes from run to run, and fetches what they will look at next.

    One run, or runs here and there, fetch nothing. Who goes from a run to the next one, in the
    order of the listing or by name, has the handles of those that follow fetched ahead, a few
    at first and more as they go on; who looks at a second file of a run, the sizes of the
    others, with which small files come along; who does so run after run, those of the
    next runs too. Where nobody goes on, nothing more is asked for.

    Never waits, never fails: what cannot be had is asked for by whoever needs it. Requests of
    those who wait are not held up: there is a connection left for them, and one that was begun
    ahead is theirs when they come to need it. Thread-safe.

    Parameters
    ----------
    catalog : Catalog
        What is known of runs.
    content : Content
        What is known of files.
    facts : KeptFacts
        What the handles of runs say.
    connections : int
        Connections that are kept; requests ahead have all but one.

    Attributes
    ----------
    numbers : callable, optional
        Returns the inodes of runs, by the ids of their group and of each; set by a mount, whose
        large directories some programs go through in the order of these.
    """

    def __init__(
        self, catalog: Catalog, content: Content, facts: KeptFacts, connections: int
    ) -> None:
        self._catalog = catalog
        self._facts = facts
        self._content = content
        self._most = min(_MOST, _EACH * (connections - 1))
        self._errands = Errands(connections - 1)
        self.numbers: Callable[[str, list[str]], list[int]] | None = None
        self._lock = threading.Lock()
        self._walks: list[Walk] = []  # the latest first
        # Where somebody was last, group and run as the path has them; and who that was.
        self._last: tuple[tuple[str, str] | None, Walk | None] = (None, None)
        # With the listing they are of, by group; the latest last.
        self._orders: dict[str, tuple[Mapping[str, RunRecord] | None, Orders | None]] = {}
        self._rests_until = 0.0
        self._pace = 0.0  # seconds that the last errand took

    def looked(self, node: Node) -> None:
        """Take note that somebody is about to look into a run, at this place or below it."""
        names = node.names
        if "run" not in names or node.kind.link or self._most < 1:
            return
        here = (names["group"], names["run"])
        is_file = node.kind is tree.RESULT or node.kind is tree.OUTPUT
        last, walk = self._last
        # What is asked most of all: more of the same run, where there is nothing left to do.
        if here == last and (not is_file or walk is None or walk.seen_all):
            return
        with self._lock:
            last, walk = self._last  # for sure
            if here != last or (walk is not None and walk.over):
                walk = self._come(here)
            if walk is not None and is_file:
                walk.seen = time.monotonic()
                if walk.seen >= self._rests_until:
                    self._look_at_file(walk, node)

    def stop(self) -> None:
        """Ask for nothing more."""
        with self._lock:
            self._rests_until = float("inf")
        self._errands.clear()

    # -- who goes where; the lock is held ----------------------------------

    def _come(self, here: tuple[str, str]) -> Walk | None:
        """Return who has come to a run, and fetch ahead of them."""
        group_id, run_id = map(from_name, here)
        walk = None
        if group_id is not None and run_id is not None:  # not too long for a name
            walk = self._walk_to(group_id, run_id)
        self._last = (here, walk)
        if walk is not None and time.monotonic() >= self._rests_until:
            self._go_ahead(walk)
        return walk

    def _walk_to(self, group_id: str, run_id: str) -> Walk | None:
        now = time.monotonic()
        self._walks = [walk for walk in self._walks if not walk.lost(now)]
        there = [walk for walk in self._walks if walk.run_id == run_id]
        found = next((walk for walk in there if walk.order is not None), None)
        found = found or self._going_to(group_id, run_id) or next(iter(there), None)
        if found is None:
            runs = self._catalog.known_runs(group_id)
            if runs is None or run_id not in runs:
                return None
            found = Walk(group_id, run_id, runs, now)
            while len(self._walks) >= _WALKS:
                self._walks.pop().over = True
        else:
            self._walks.remove(found)
            found.seen = now
        self._walks.insert(0, found)
        return found

    def _going_to(self, group_id: str, run_id: str) -> Walk | None:
        """Return who has this run before them, gone on to it."""
        for walk in self._walks:
            if walk.group_id == group_id:
                orders: Iterable[Order] = ()
                if walk.unsure:
                    walk.runs = self._catalog.known_runs(group_id) or walk.runs
                    orders = self._orders_of(walk)
                if walk.goes_to(run_id, orders, self._most):
                    return walk
        return None

    def _orders_of(self, walk: Walk) -> Orders:
        """Return the orders of the listing that somebody may go through."""
        runs, orders = self._orders.pop(walk.group_id, (None, None))
        if runs is not walk.runs or orders is None:
            numbers = self.numbers
            orders = Orders(walk.runs, numbers and partial(numbers, walk.group_id))
        self._orders[walk.group_id] = (walk.runs, orders)
        if len(self._orders) > _LISTINGS:
            del self._orders[next(iter(self._orders))]
        return orders

    # -- what is worth fetching; the lock is held --------------------------

    def _go_ahead(self, walk: Walk) -> None:
        self._errands.add(
            *[
                partial(self._do, walk, stop, partial(self._fetch_run, walk, stop))
                for stop in walk.plan()
                if self._catalog.known_run(stop.run_id, any_age=True) is None
            ]
        )
        if walk.takes_files:
            for stop in walk.ahead:
                self._take_files(walk, stop)

    def _take_files(self, walk: Walk, stop: Stop) -> None:
        """Fetch the sizes of files in a run that is still to come, once its handle is there."""
        if stop.files_due and walk.takes_files:
            handle = self._catalog.known_run(stop.run_id, any_age=True)
            if handle is not None:
                stop.files_due = False
                records = Files(self._facts.of(handle)).take(walk.outputs, walk.room)
                self._add_files(walk, stop, records)

    def _look_at_file(self, walk: Walk, node: Node) -> None:
        if walk.files is None:
            handle = self._catalog.known_run(walk.run_id, any_age=True)
            if handle is None:
                return
            walk.files = Files(self._facts.of(handle))
            if walk.takes_files:
                records = walk.files.take(walk.outputs, walk.room)
                self._add_files(walk, Stop(walk.place, walk.run_id), records)
        steps = walk.files.look(node)
        if steps is not None:
            records = walk.files.plan(steps, self._most)
            self._add_files(walk, Stop(walk.place, walk.run_id), records)

    def _add_files(self, walk: Walk, stop: Stop, records: list[FileRecord]) -> None:
        service = self._catalog.service
        handle = self._catalog.known_run(stop.run_id, any_age=True)
        facts = None if handle is None else self._facts.of(handle)
        sources = [source_in_run(service, stop.run_id, record, facts) for record in records]
        self._errands.add(
            *[
                partial(self._do, walk, stop, partial(self._fetch_size, source))
                for source in sources
                if not self._content.remembers_size(source)
            ]
        )

    # -- fetching ----------------------------------------------------------

    def _do(self, walk: Walk, stop: Stop, fetch: Callable[[], Any]) -> None:
        begun = time.monotonic()
        # Who waits for a slow service has not gone away.
        last = walk.seen + max(_MOMENT, 2 * self._pace)
        if begun > last or begun < self._rests_until:
            return
        if not walk.wants(stop):
            return
        try:
            with ahead():
                fetch()
        except NotFound:
            pass  # deleted since it was listed
        except Exception:
            # The service is busy, or does not answer, or somebody has interrupted it all.
            self._rests_until = max(self._rests_until, time.monotonic() + _REST)
            walk.room = 0
            self._errands.clear()
            raise
        finally:
            self._pace = time.monotonic() - begun

    def _fetch_size(self, source: Source) -> None:
        # Looked up on disk here, where nobody is held up by it.
        if self._content.known_size(source) is None:
            self._content.fetch_ahead(source)

    def _fetch_run(self, walk: Walk, stop: Stop) -> None:
        self._catalog.fetch_run_ahead(walk.group_id, stop.run_id)
        with self._lock:
            self._take_files(walk, stop)
