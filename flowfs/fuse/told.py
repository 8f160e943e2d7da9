"""What stat has told of places in runs that have ended, to be told again."""

from __future__ import annotations

import time
from collections.abc import Callable

from flowfs import tree
from flowfs.catalog import Catalog
from flowfs.content import Content
from flowfs.tree import Node

__all__ = ["Told"]

_BOUND = 4096  # places

# Not an archive: its size changes once it has been read.
_LASTING = frozenset(
    {
        tree.RUN,
        tree.RUN_HANDLE,
        tree.RUN_ARGUMENTS,
        tree.RESULTS,
        tree.RESULT,
        tree.OUTPUTS,
        tree.OUTPUT,
    }
)


class Told:
    """Remembers what stat tells of what cannot change but by going.

    The kernel may not remember it, since it would do the same with sizes that nobody knows
    yet; so it asks four times about each directory that `find` enters. Working the answer out
    takes ten times as long as finding it here. It is good for as long as it is known, without
    a request, that the run is there: `ttl` seconds from when it was seen, or until something
    was changed here, or turned out to be gone. Thread-safe.

    Parameters
    ----------
    catalog : Catalog
        What is known of runs.
    content : Content
        What is known of files.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self, catalog: Catalog, content: Content, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._catalog = catalog
        self._content = content
        self._clock = clock
        self._all: dict[str, tuple[dict[str, int], float, int]] = {}

    @property
    def changes(self) -> int:
        """A number that is another one after each change; to be noted before looking."""
        return self._catalog.changes + self._content.forgotten

    def about(self, path: str) -> dict[str, int] | None:
        """Return what stat told of a path on the mount, if that is still good; never asks."""
        known = self._all.get(path)
        if known is None:
            return None
        told, good_until, changes = known
        return told if changes == self.changes and self._clock() < good_until else None

    def keep(self, path: str, node: Node, told: dict[str, int], changes: int) -> None:
        """Remember what is told of a path, if it is of a run that has ended.

        Parameters
        ----------
        path : str
            Where the kernel has it.
        node : Node
            Where it is in the tree.
        told : dict
            What stat tells; not to be changed any more.
        changes : int
            What :attr:`changes` was before that was found out.
        """
        run_id = node.names.get("run")
        if run_id is None or node.kind not in _LASTING:
            return
        # Most ids are names as they are; of others nothing is known by their names.
        good_until = self._catalog.run_there_until(run_id)
        if good_until is not None:
            if len(self._all) >= _BOUND:
                self._all.clear()
            self._all[path] = told, good_until, changes
