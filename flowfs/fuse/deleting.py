"""``rm -r`` of a run: its files are marked one by one, the run is deleted at the last.

The service can only delete a run as a whole, and rm unlinks every file before it removes
the directory. So an unlinked file is hidden, nothing more, until the directory itself goes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flowfs import tree
from flowfs.errors import (
    DirectoryNotEmpty,
    InvalidRunState,
    NotADirectory,
    NotFound,
    NotPermitted,
    failure,
)
from flowfs.filesystem import FlowFileSystem
from flowfs.service.runs import ENDED_STATES
from flowfs.tree import Node

__all__ = ["Deletions"]

_PATIENCE = 10.0  # seconds after the last unlink; then the marks are undone


@dataclass
class _Marks:
    """What of one run is hidden, and when something was marked last."""

    paths: set[str] = field(default_factory=set)
    last: float = 0.0


class Deletions:
    """What has been unlinked of runs that are still there. Thread-safe.

    Parameters
    ----------
    fs : FlowFileSystem
        Where to delete.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, fs: FlowFileSystem, clock: Callable[[], float] = time.monotonic) -> None:
        self._fs = fs
        self._clock = clock
        self._lock = threading.Lock()
        self._marks: dict[str, _Marks] = {}

    @property
    def any(self) -> bool:
        """Whether anything is hidden."""
        return bool(self._marks)

    def hides(self, node: Node) -> bool:
        """Tell whether a place has been unlinked, or is below a directory that has."""
        if not self._marks or not _of_a_run(node):
            return False
        with self._lock:
            marks = self._marks_of(node)
            return marks is not None and any(
                node.path == path or node.path.startswith(f"{path}/") for path in marks.paths
            )

    def unlink(self, node: Node) -> None:
        """Hide a file of a run that has ended.

        Raises
        ------
        InvalidRunState
            If the run is active; nothing is hidden.
        NotPermitted
            If it is no file of a run.
        NotFound
            If it is not there.
        """
        self._check(node)
        self._fs.entries.check(node)
        self._mark(node)

    def rmdir(self, node: Node) -> None:
        """Hide a directory of a run, or delete a run, all of whose files are hidden.

        Raises
        ------
        DirectoryNotEmpty
            If something is left in it.
        InvalidRunState
            If the run is active.
        NotPermitted
            If it is nothing of a run.
        FlowError
            As the service says; the run's files are there again.
        """
        if node.kind is not tree.RUN:
            self._check(node)
            self._check_empty(node)
            self._mark(node)
            return
        self._check(node)
        self._check_empty(node)
        try:
            self._fs.catalog.delete_run(self._fs.entries.run_id(node))
        except NotFound:
            pass  # somebody else has deleted it: it is gone, as was asked for
        finally:
            # Gone with the run, or undone if the service refuses.
            with self._lock:
                self._marks.pop(_run_path(node), None)

    def _check(self, node: Node) -> None:
        if not _of_a_run(node):
            raise failure(NotPermitted, f"the {node.kind.name} cannot be removed", node.path)
        run = tree.parse(_run_path(node))
        state = self._fs.entries.entry(run, ask=False)["state"]
        if state not in ENDED_STATES:
            raise failure(
                InvalidRunState, f"the run is in state {state}: cancel it first", node.path
            )

    def _check_empty(self, node: Node) -> None:
        entries = self._fs.entries.children(node)
        if [entry["name"] for entry in entries] == [node.asked]:
            raise failure(NotADirectory, "is a file", node.path)
        names = (entry["name"].rpartition("/")[2] for entry in entries)
        if any(not self.hides(node.child(name)) for name in names):
            raise failure(
                DirectoryNotEmpty, "its files are there: remove them too (rm -r)", node.path
            )

    def _mark(self, node: Node) -> None:
        with self._lock:
            marks = self._marks_of(node)
            if marks is None:
                for path in list(self._marks):  # of others that nobody has looked at since
                    self._drop_old(path)
                marks = self._marks[_run_path(node)] = _Marks()
            marks.paths.add(node.path)
            marks.last = self._clock()

    def _marks_of(self, node: Node) -> _Marks | None:
        path = _run_path(node)
        self._drop_old(path)
        return self._marks.get(path)

    def _drop_old(self, path: str) -> None:
        """Undo the marks of a run if they are too old; the lock is held."""
        marks = self._marks.get(path)
        if marks is not None and self._clock() - marks.last > _PATIENCE:
            del self._marks[path]


def _of_a_run(node: Node) -> bool:
    return (
        "run" in node.names
        and not (node.kind.link and node.kind is not tree.OUTPUT)
        and node.path.split("/")[2] == "runs"
    )


def _run_path(node: Node) -> str:
    return "/".join(node.path.split("/")[:4])
