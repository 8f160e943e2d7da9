"""When things changed last, as far as the service tells: the same in every process that looks."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flowfs.catalog import Catalog, FileRecord, Listing, timestamp

__all__ = ["GroupTimes", "Times"]

_GROUPS = 256  # groups whose times are kept
_SEEN = 10_000  # files of which it is kept since when they are as they are


@dataclass(frozen=True)
class GroupTimes:
    """Times of what is in a group, in seconds since the epoch; None where there is none.

    Attributes
    ----------
    oldest, newest : float or None
        When the first and the last of its runs and uploads came to be.
    runs, uploads : float or None
        When the last run, the last upload did.
    states : mapping of str to float
        When the last run in each state was created.
    active : hashable
        Tells one state of the runs from another, while one of them is active; None otherwise.
    """

    oldest: float | None
    newest: float | None
    runs: float | None
    uploads: float | None
    states: Mapping[str, float]
    active: Hashable


def _group_times(runs: Listing, uploads: list[FileRecord]) -> GroupTimes:
    rows = runs.rows()
    spans = {
        state: _span([row[2] for row in rows if row[1] == state])
        for state in {row[1] for row in rows}
    }
    states = {state: span[1] for state, span in spans.items() if span is not None}
    of_runs = [time for span in spans.values() if span is not None for time in span]
    of_uploads = [upload.mtime for upload in uploads if upload.mtime is not None]
    both = of_runs + of_uploads
    return GroupTimes(
        oldest=min(both, default=None),
        newest=max(both, default=None),
        runs=max(of_runs, default=None),
        uploads=max(of_uploads, default=None),
        states=states,
        active=hash(tuple(row[:2] for row in rows)) if runs.active else None,
    )


# Any digit as the same one.
_SHAPE = bytes.maketrans(b"123456789", b"000000000")
_PLAIN_SHAPE = re.compile(rb"0000-00-00T00:00:00(\.0+)?")


def _span(written: list[str]) -> tuple[float, float] | None:
    """Return the first and the last of times as the service writes them; None if there is none.

    Those in flowServ's own form come in the order of their letters: of 100,000 no more than
    two have to be read.
    """
    marked = "\n".join(written).encode("utf-8", "replace").translate(_SHAPE)
    first_shape = marked[: len(written[0])] + b"\n"
    if marked == (first_shape * len(written))[:-1]:  # as nearly always: found out at once
        shapes = {first_shape[:-1]}
    else:
        shapes = set(marked.split(b"\n"))
    if all(_PLAIN_SHAPE.fullmatch(shape) for shape in shapes):
        first, last = timestamp(min(written)), timestamp(max(written))
        if first is not None and last is not None:
            return first, last
    times = [time for time in map(timestamp, written) if time is not None]
    return (min(times), max(times)) if times else None


class Times:
    """Times of what is made of several things. Never asks; thread-safe.

    Parameters
    ----------
    catalog : Catalog
        What is known of them.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        # With the listings they were read from: a listing of many runs is read once.
        self._groups: OrderedDict[str, tuple[Any, GroupTimes]] = OrderedDict()
        self._seen: OrderedDict[str, tuple[Hashable, float]] = OrderedDict()

    def group(self, group_id: str) -> GroupTimes | None:
        """Return the times of a group as it was last listed; None if it never was."""
        listing = self._catalog.known_listing(group_id)
        if listing is None:
            return None
        with self._lock:
            known = self._groups.get(group_id)
        if known is not None and known[0][0] is listing[0] and known[0][1] is listing[1]:
            return known[1]
        times = _group_times(*listing)
        with self._lock:
            self._groups[group_id] = (listing, times)
            self._groups.move_to_end(group_id)
            if len(self._groups) > _GROUPS:
                self._groups.popitem(last=False)
        return times

    def table(self, path: str, times: GroupTimes) -> float | None:
        """Return when a file that tells of all runs of a group changed last.

        When a run ends, no more of it may change than seven letters of its state, and no
        listing tells when that was. So while a run is active it is when this process first saw
        the runs in these states: another time than any that is told once all have ended.

        Parameters
        ----------
        path : str
            The file.
        times : GroupTimes
            Of its group.
        """
        if times.active is None:
            return times.newest
        return self.first_seen(path, times.active)

    def first_seen(self, path: str, what: Hashable) -> float:
        """Return since when this process has seen a place as it is now, in seconds.

        Parameters
        ----------
        path : str
            The place.
        what : hashable
            Tells one state of it from another.
        """
        with self._lock:
            known = self._seen.get(path)
            if known is None or known[0] != what:
                known = self._seen[path] = (what, time.time())
            self._seen.move_to_end(path)
            if len(self._seen) > _SEEN:
                self._seen.popitem(last=False)
            return known[1]

    @staticmethod
    def ranking(leaderboard: Mapping[str, Any]) -> float | None:
        """Return when the last of the ranked runs ended."""
        entries = leaderboard.get("ranking")
        runs = [
            entry["run"]
            for entry in (entries if isinstance(entries, list) else ())
            if isinstance(entry, Mapping) and isinstance(entry.get("run"), Mapping)
        ]
        return _latest(run.get(key) for run in runs for key in ("createdAt", "finishedAt"))

    @staticmethod
    def run(handle: Mapping[str, Any]) -> float | None:
        """Return when a run changed last: when it ended, began, or was created."""
        return _latest(handle.get(key) for key in ("createdAt", "startedAt", "finishedAt"))


def _latest(values: Iterable[Any]) -> float | None:
    times = (timestamp(value) for value in values)
    return max((time for time in times if time is not None), default=None)
