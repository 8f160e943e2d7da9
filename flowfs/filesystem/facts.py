"""What a run's handle says of its files and times, read out of it once."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from flowfs.catalog import FileRecord, run_files, timestamp
from flowfs.content import Pack
from flowfs.filesystem.times import Times

__all__ = ["KeptFacts", "RunFacts"]

_BOUND = 256  # runs of which it is kept what their handles say


class RunFacts:
    """What is in one handle; each part is worked out when it is wanted first.

    Parameters
    ----------
    handle : mapping
        The run's handle.

    Attributes
    ----------
    handle : mapping
        The same: for another one, even of this run, there are other facts.
    sizes : dict of str to int
        Bytes of files that are made of the handle, by kind, as far as they were made.
    pack : Pack or None
        What is in the run's archive, once somebody has worked it out.
    """

    def __init__(self, handle: Mapping[str, Any]) -> None:
        self.handle = handle
        self.sizes: dict[str, int] = {}
        self.pack: Pack | None = None

    @cached_property
    def files(self) -> list[FileRecord]:
        """The run's result files."""
        return run_files(self.handle)

    @cached_property
    def by_name(self) -> dict[str, FileRecord]:
        """The same by their names in ``results/``."""
        return {record.name: record for record in self.files}

    @cached_property
    def by_output(self) -> dict[tuple[str, ...], FileRecord | None]:
        """The same by their paths below ``outputs/``; None for a directory there."""
        found: dict[tuple[str, ...], FileRecord | None] = {}
        for record in self.files:
            for depth in range(1, len(record.output)):
                found[record.output[:depth]] = None
        return found | {record.output: record for record in self.files}

    @cached_property
    def times(self) -> dict[str, float]:
        """``created``, and ``mtime``: when it ended, or changed last; as far as it says so."""
        created = timestamp(self.handle.get("createdAt"))
        mtime = timestamp(self.handle.get("finishedAt")) or Times.run(self.handle)
        told = {"mtime": mtime, "created": created}
        return {name: time for name, time in told.items() if time is not None}


class KeptFacts:
    """Facts of the runs that were looked at last. Thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, RunFacts] = OrderedDict()

    def of(self, handle: Mapping[str, Any]) -> RunFacts:
        """Return what a handle says. Of a run with many files each is looked up among all."""
        known = self._kept.get(handle["id"])
        if known is None or known.handle is not handle:
            known = self._kept[handle["id"]] = RunFacts(handle)
            while len(self._kept) > _BOUND:
                with contextlib.suppress(KeyError):  # another thread was faster
                    self._kept.popitem(last=False)
        return known
