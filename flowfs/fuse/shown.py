"""Runs that a directory has shown, for who looks at one after the other of them next."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from flowfs import tree
from flowfs.catalog import Catalog, Listing
from flowfs.filesystem.entries import Alike
from flowfs.fuse.attributes import Attributes, inodes, nanoseconds
from flowfs.tree import Node

__all__ = ["Shown"]

_DIRECTORIES = 8  # of runs, of which it is known that they were read
_SOON = 10.0  # seconds within which who goes on to the next name goes on
_MOMENT = 2.0  # seconds within which the same name is asked about again by who goes on
_LONGEST = 60.0  # seconds for which one listing is enough for somebody who goes on
_SKIPPED = 4  # names that may lie between two that are looked at

#: What stat tells.
Told = dict[str, int]


class Shown:
    """Answers what stat tells of runs, of what their directory told when it was read.

    `ls -l` reads a directory, and then asks about each name in it: of 10,000 runs a second
    time in as many steps. A listing has all that is to be told, so each answer takes few, and
    none of them a request: who goes on from name to name, in the order in which they were
    listed, is answered from what was listed when he began, for a minute beyond the `ttl`
    seconds at most for which it is good otherwise. Who asks about one name again and again, or
    here and there, or after a change made here, is not.

    Thread-safe: those who go through one directory at the same time may hinder each other,
    and are then told by others.

    Parameters
    ----------
    catalog : Catalog
        What is known of runs.
    attributes : Attributes
        How entries become what stat tells.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self, catalog: Catalog, attributes: Attributes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._catalog = catalog
        self._attributes = attributes
        self._clock = clock
        self._all: OrderedDict[str, _Directory] = OrderedDict()

    def read(self, path: str, node: Node, group_id: str) -> None:
        """Take note that a directory of runs was read.

        Parameters
        ----------
        path : str
            Where the kernel has it.
        node : Node
            Where it is in the tree.
        group_id : str
            Of which group the runs are.
        """
        directory = self._all.get(path)
        if directory is None:
            told = self._attributes.of(node.child("run"), {"type": "directory"})
            directory = _Directory(self._catalog, node, group_id, told)
            self._all[path] = directory
            while len(self._all) > _DIRECTORIES:
                self._all.popitem(last=False)
        directory.begin(self._clock())

    def about(self, path: str) -> Told | None:
        """Return what stat tells of a run; None if somebody else has to say. Never asks.

        Parameters
        ----------
        path : str
            Where the kernel has it.
        """
        above, _, name = path.rpartition("/")
        directory = self._all.get(above)
        return None if directory is None else directory.about(name, self._clock())


class _Directory:
    """One directory of runs, and how far somebody has gone through it."""

    def __init__(self, catalog: Catalog, node: Node, group_id: str, told: Told) -> None:
        self._catalog = catalog
        self._node = node
        self._group_id = group_id
        self._told = told
        # What was listed, after how many changes made here, and when it was good last.
        self._known: tuple[Listing | None, int, float] = None, -1, 0.0
        # Other threads may put another one in its place at any moment.
        self._order: list[str] = []
        self._place = 0  # of the name that is looked at, or is to be looked at next
        self._moved = 0.0  # when somebody came there
        self._last: tuple[Listing | None, str, Told] = None, "", told  # what was told last

    def begin(self, now: float) -> None:
        """Take note that somebody reads the directory, and may look at its names next."""
        if self._good_runs(now) is None:  # what was read is newer than what is known here
            self._known = None, -1, 0.0
        self._place, self._moved = 0, now

    def about(self, name: str, now: float) -> Told | None:
        """Return what stat tells of a run, if it is known here."""
        runs = self._good_runs(now)
        goes_on = self._goes_to(name, now)
        if runs is None:
            runs, changes, good = self._known
            if not goes_on or now > good + _LONGEST or changes != self._catalog.changes_of_runs:
                return None
        # Most ids are names as they are; whatever is not so is found out elsewhere.
        if runs is None or name not in runs or "%" in name or name in tree.RESERVED_RUN_NAMES:
            return None
        # The kernel asks twice about each name.
        of, name_of, told = self._last
        if of is not runs or name_of != name:
            told = self._told.copy()
            told["st_ino"] = inodes(self._node, Alike(tree.RUN, True, [name]))[0]
            mtime = runs[name].mtime
            if mtime is not None:
                told["st_atime"] = told["st_mtime"] = told["st_ctime"] = nanoseconds(mtime)
            self._last = runs, name, told
        return told

    def _good_runs(self, now: float) -> Listing | None:
        """Return the runs as listed, if that is still good."""
        changes = self._catalog.changes_of_runs
        runs = self._catalog.good_runs(self._group_id)
        if runs is not None:
            if runs is not self._known[0]:
                here = self._order[self._place : self._place + 1]
                self._order = list(runs)
                self._place = self._order.index(here[0]) if here and here[0] in runs else 0
            self._known = runs, changes, now
        return runs

    def _goes_to(self, name: str, now: float) -> bool:
        """Tell whether a name is the one that was looked at last, or one of the next."""
        place = self._place
        for at, one in enumerate(self._order[place : place + _SKIPPED], place):
            if one == name:
                soon = now < self._moved + (_SOON if at > place else _MOMENT)
                if at > place:
                    self._place, self._moved = at, now
                return soon
        return False
