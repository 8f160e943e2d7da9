"""What is known of runs: how each stands, and which a group has."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from flowfs.catalog.cache import Cache
from flowfs.catalog.listing import Listing, read_object
from flowfs.catalog.records import RunRecord
from flowfs.disk import Disk
from flowfs.errors import NotFound, failure
from flowfs.service.client import FlowService
from flowfs.service.runs import ENDED_STATES
from flowfs.service.statistics import Usage

__all__ = ["RunCatalog"]

_MOMENT = 1.0  # seconds within which who asks after a run, and another one, goes on


def _has_ended(handle: Mapping[str, Any]) -> bool:
    return handle.get("state") in ENDED_STATES


class RunCatalog:
    """Runs as known now. Thread-safe; no lock is held while the service is asked.

    A run that has ended never changes: its handle is kept for ever (10,000 at most).

    Parameters
    ----------
    service : FlowService
        Where to ask.
    ttl : float
        Seconds for which listings and active runs are good.
    gone : callable
        Called with ``("run", id)`` when a run has been deleted, as far as is noticed.
    disk : Disk, optional
        Where handles of runs that have ended are kept for other processes.
    """

    def __init__(
        self,
        service: FlowService,
        ttl: float,
        gone: Callable[[tuple[str, ...]], None],
        disk: Disk | None = None,
    ) -> None:
        self._service = service
        self._ttl = ttl
        self._gone = gone
        self._disk = disk
        self._looked_into: set[str] = set()  # groups of which a handle was asked for
        # By group: after which run somebody asked last, when, and whether after others before.
        self._asked_after: dict[str, tuple[str, float, bool]] = {}
        self._listings: Cache[str, Listing] = Cache(ttl)
        self._handles: Cache[str, dict[str, Any]] = Cache(ttl, _has_ended)
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}  # when a kept run was last seen to exist

    # -- looking -----------------------------------------------------------

    def listed(self, group_id: str, *, refresh: bool = False) -> Listing:
        """Return the runs of a group by id, in the service's order."""

        def fetch() -> Listing:
            since = self._listings.drops
            runs = self._service.runs.list_entries(group_id, read_object)
            return self.learn(group_id, runs, since)

        listed = self._listings.get(group_id, fetch, refresh=refresh)
        # What has ended since it was listed: all that is told of a run must agree.
        ended = {
            run_id: RunRecord.of(handle)
            for run_id in listed.active
            if (handle := self._handles.peek(run_id)) is not None and _has_ended(handle)
        }
        return listed.having(ended) if ended else listed

    def learn(self, group_id: str, runs: list[Any], since: int) -> Listing:
        """Take a listing that came by another way.

        Parameters
        ----------
        group_id : str
            The group.
        runs : list of dict or Row
            As the service tells of them.
        since : int
            What :attr:`drops` was when it was asked for.
        """
        records = Listing(runs)
        handles = self._handles.items()
        for run_id, handle in handles:  # what has ended has, whatever was changed meanwhile
            listed_now = records.get(run_id)
            if listed_now is not None and not listed_now.active and not _has_ended(handle):
                self._handles.drop(run_id)
        if since != self._listings.drops:
            return records  # asked for before a change of our own: nothing to go by
        before = self._listings.peek(group_id, any_age=True)
        for run_id in () if before is None else before.without(records):
            self._forget(run_id)
        now = time.monotonic()
        with self._lock:
            # What is kept of runs may be less by far than there are runs.
            for run_id in self._seen:
                if run_id in records:
                    self._seen[run_id] = now
        for run_id, handle in handles:
            listed_now = records.get(run_id)
            if (
                listed_now is not None
                and listed_now.active
                and not _has_ended(handle)
                and handle.get("state") != listed_now.state
            ):
                self._handles.drop(run_id)
        self._listings.put(group_id, records, since=since)
        return records

    def latest(self, group_id: str) -> RunRecord | None:
        """Return the newest run of a group; None if it has none."""
        runs = self.listed(group_id).values()
        newest: RunRecord | None = None
        for run in runs:
            if newest is None or run.created >= newest.created:
                newest = run
        return newest

    def get(self, group_id: str, run_id: str, *, refresh: bool = False) -> dict[str, Any]:
        """Return the handle of a run of a group.

        An ended run's handle is fetched once. That the run still exists is looked up in the
        group's listing when it was last seen more than `ttl` ago: one request for all runs.

        Raises
        ------
        NotFound
            If there is no such run, or it is of another group.
        """
        handle = self._handles.peek(run_id)
        if handle is not None and _has_ended(handle) and not refresh:
            fresh = self._seen.get(run_id, 0.0) + self._ttl > time.monotonic()
            if not fresh and run_id not in self.listed(group_id):
                handle = None  # not listed (any more): ask for it
                self._handles.drop(run_id)

        if handle is None or refresh:
            handle = self._handles.get(
                run_id, lambda: self._fetch(group_id, run_id, anew=refresh), refresh=refresh
            )
        if handle.get("groupId") != group_id:
            raise failure(
                NotFound,
                f"unknown run {run_id!r} in this group: it is of group {handle.get('groupId')!r}",
                f"groups/{group_id}/runs/{run_id}",
            )
        return handle

    def find(self, run_id: str) -> dict[str, Any]:
        """Return the handle of a run, whichever group it is of.

        Raises
        ------
        NotFound
            If there is no such run.
        """

        def fetch() -> dict[str, Any]:
            handle = self._service.runs.get_run(run_id)
            self._now_seen(run_id)
            return handle

        handle = self._handles.peek(run_id)
        if handle is None:
            return self._handles.get(run_id, fetch)
        return self.get(str(handle.get("groupId")), run_id)

    def _fetch(self, group_id: str, run_id: str, *, anew: bool = False) -> dict[str, Any]:
        kept = None if anew else self._from_disk(group_id, run_id)
        if kept is not None:
            return kept
        try:
            fetched = self._service.runs.get_run(run_id)
        except NotFound:
            self._forget(run_id)
            if run_id in (self._listings.peek(group_id) or ()):
                self._listings.drop(group_id)
            raise
        self._now_seen(run_id)
        self._to_disk(fetched)
        return fetched

    def _now_seen(self, run_id: str) -> None:
        with self._lock:
            self._seen[run_id] = time.monotonic()
            if len(self._seen) > 20_000:
                self._seen.clear()

    def _from_disk(self, group_id: str, run_id: str) -> dict[str, Any] | None:
        """Return the handle of a run that had ended when another process asked for it.

        That the run is still there its group's listing tells: one request, unless it is known.
        Who looks into one run only has no listing, and does better to ask for the handle.
        """
        if self._disk is None:
            return None
        listed = self._listings.peek(group_id) is not None
        if not listed and group_id not in self._looked_into:
            self._looked_into.add(group_id)
            return None
        data = self._disk.fact("handle", ("run", run_id), ask=True)
        if data is None:
            return None
        handle: dict[str, Any] = json.loads(data)
        try:
            now = self.listed(group_id).get(run_id)
        except NotFound:  # a group that can only be asked for its runs one by one
            return None
        if now is None:
            return None
        kept = RunRecord.of(handle)
        # It may have ended since it was listed.
        if kept.created != now.created or (kept.state != now.state and not now.active):
            # Another run of that id, of a service that was made anew.
            self._gone(("run", run_id))
            return None
        # Seen it was when it was listed, which may be a while ago: the listing tells how long.
        with self._lock:
            self._seen.setdefault(run_id, float("-inf"))
        return handle

    def _to_disk(self, handle: dict[str, Any]) -> None:
        if self._disk is not None and _has_ended(handle):
            data = json.dumps(handle, separators=(",", ":")).encode()
            self._disk.learn("handle", ("run", handle["id"]), data)

    def fetch_ahead(self, group_id: str, run_id: str) -> None:
        """Fetch the handle of a run that nobody needs yet; nothing if one is kept.

        What goes wrong is raised, and nobody's who comes to need it.
        """
        self._handles.ahead(run_id, lambda: self._fetch(group_id, run_id))

    def record(self, group_id: str, run_id: str, renew: Callable[[str], None]) -> RunRecord:
        """Return what a listing tells of a run: no request where a good listing has it.

        Nor where its handle came within `ttl`: it is there, and if it has ended, all is known.
        Whoever asks after one run after the other has a listing that is too old asked for
        anew, once for all of them; who asks after one, for that one.

        Parameters
        ----------
        group_id, run_id : str
            Which.
        renew : callable
            Called with the group's id before a listing is asked for anew; may bring one.
        """
        walks = self._walks(group_id, run_id)
        runs = self._listings.peek(group_id)
        if runs is None and (handle := self._lately_seen(group_id, run_id)) is not None:
            return RunRecord.of(handle)
        if runs is None and walks and self._ttl > 0:  # else it would be good for nobody
            known = self._listings.peek(group_id, any_age=True)
            if known is not None and run_id in known:
                renew(group_id)
                runs = self.listed(group_id)
        if runs is not None and run_id in runs:
            record, handle = runs[run_id], self._handles.peek(run_id)
            # It may have ended since it was listed: what is told of it must agree.
            if record.active and handle is not None and _has_ended(handle):
                return RunRecord.of(handle)
            return record
        return RunRecord.of(self.get(group_id, run_id))

    def _lately_seen(self, group_id: str, run_id: str) -> dict[str, Any] | None:
        """Return the handle of a run that has ended, and was seen to exist within `ttl`."""
        if self._seen.get(run_id, float("-inf")) + self._ttl <= time.monotonic():
            return None
        handle = self._handles.peek(run_id)
        if handle is None or not _has_ended(handle) or handle.get("groupId") != group_id:
            return None
        return handle

    def there_until(self, run_id: str) -> float | None:
        """Return until when a run is taken to be there without a look (monotonic seconds).

        None if it can still change, or is not known. Never asks.
        """
        seen = self._seen.get(run_id)
        handle = None if seen is None else self._handles.peek(run_id)
        if seen is None or handle is None or not _has_ended(handle):
            return None
        return seen + self._ttl

    def _walks(self, group_id: str, run_id: str) -> bool:
        """Tell whether runs of a group are asked after, one after the other."""
        now = time.monotonic()
        last, at, walks = self._asked_after.get(group_id, ("", 0.0, False))
        # Of one and the same run there is more than one question.
        walks = now < at + _MOMENT and (walks or run_id != last)
        self._asked_after[group_id] = (run_id, now, walks)
        return walks

    def good_listing(self, group_id: str) -> Listing | None:
        """Return the runs of a group as listed, if that is still good; never asks."""
        return self._listings.peek(group_id)

    def known_listing(self, group_id: str) -> Listing | None:
        """Return the runs of a group as last listed, however long ago; never asks."""
        return self._listings.peek(group_id, any_age=True)

    def known(self, run_id: str, *, any_age: bool = False) -> dict[str, Any] | None:
        """Return a run's handle if a good one is kept (or one of any age); never asks."""
        return self._handles.peek(run_id, any_age=any_age)

    def group_of(self, run_id: str) -> str | None:
        """Return the id of the group in whose listing a run was seen; never asks."""
        return next((group_id for group_id, runs in self._listings.items() if run_id in runs), None)

    def id_of(self, group_id: str, name: str) -> str | None:
        """Return the id of the listed run of that name (ids too long for a name are cut)."""
        return next((r.id for r in self.listed(group_id).values() if r.name == name), None)

    # -- changing ----------------------------------------------------------

    def start(self, group_id: str, arguments: list[dict[str, Any]]) -> dict[str, Any]:
        """Start a run with arguments that have been checked, and return its handle."""
        try:
            handle = self._service.runs.start_run(group_id, arguments)
        finally:
            self._listings.drop(group_id)
        self._put(handle)
        return handle

    def cancel(self, run_id: str, reason: str | None) -> dict[str, Any]:
        """Cancel a run and return its handle."""
        try:
            handle = self._service.runs.cancel_run(run_id, reason)
        finally:
            self._handles.drop(run_id)
            self._listings.clear()
        if _has_ended(handle):
            self._put(handle)
        return handle

    def delete(self, run_id: str) -> None:
        """Delete a run."""
        try:
            self._service.runs.delete_run(run_id)
        finally:
            self._forget(run_id)
            self._listings.clear()

    def _put(self, handle: dict[str, Any]) -> None:
        with self._lock:
            self._seen[handle["id"]] = time.monotonic()
        self._handles.put(handle["id"], handle)
        self._to_disk(handle)

    def _forget(self, run_id: str) -> None:
        self._handles.drop(run_id)
        with self._lock:
            self._seen.pop(run_id, None)
        self._gone(("run", run_id))

    # -- all ---------------------------------------------------------------

    @property
    def drops(self) -> int:
        """How often listings were dropped: what was asked for before the last is outdated."""
        return self._listings.drops

    @property
    def changes(self) -> int:
        """How often a listing or a run was dropped: by changes made here, or noticed."""
        return self._listings.drops + self._handles.drops

    def usage(self) -> dict[str, tuple[Usage, int]]:
        """Return how each cache did, and how much it holds, by what is in it."""
        return {
            "lists of runs": (self._listings.usage, len(self._listings)),
            "runs": (self._handles.usage, len(self._handles)),
        }

    def forget(self) -> None:
        """Forget listings and active runs, and that ended ones were seen; keep their handles."""
        self._listings.clear()
        self._handles.expire()
        with self._lock:
            self._seen.clear()
