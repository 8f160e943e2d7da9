"""What is known of the uploads of groups, under the names that were asked for them too."""

from __future__ import annotations

import builtins
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

from flowfs.arguments import Uploads
from flowfs.catalog.cache import Cache
from flowfs.catalog.records import FileRecord, upload_files
from flowfs.errors import FlowError, NotFound, describe, failure
from flowfs.names import from_name, to_name
from flowfs.service.client import FlowService
from flowfs.service.flights import Flights
from flowfs.service.statistics import Usage
from flowfs.service.waits import wait

__all__ = ["UploadCatalog"]

# What may be of this client, under a name that nobody knows: no file is asked for by it.
_UNKNOWN = ""


@dataclass(eq=False)
class _Sending:
    """An upload that is being sent, or whose reply never came.

    Attributes
    ----------
    raw_name : str
        The name asked for.
    before : frozenset of str
        Ids of the uploads that were there before.
    unclear : bool
        Whether it is over, and nobody knows what came of it.
    """

    raw_name: str
    before: frozenset[str]
    unclear: bool = False


class _Together:
    """Uploads of one call for many files: what is listed for one holds for others as well.

    As long as the listing is good, and nobody here has changed what is under the name at hand
    since it was asked for.
    """

    def __init__(self) -> None:
        self.listings: Flights[str, list[FileRecord]] = Flights()
        self.known: dict[str, tuple[list[FileRecord], float]] = {}  # and until when it is good
        self.changed: set[tuple[str, str]] = set()  # group and name


_together: ContextVar[_Together | None] = ContextVar("flowfs_together", default=None)


class UploadCatalog:
    """The uploads of groups as known now, and what this client called them. Thread-safe.

    The service stores a file under a name of its own making: what was asked for as
    ``data.csv~`` may be there as ``data.csv``, beside another ``data.csv``. What this client
    wrote under another name than the stored one goes on being found by the name asked for. It
    never has the plain name while something else is stored under it, and is never replaced by
    what is written to that.

    Parameters
    ----------
    service : FlowService
        Where to ask.
    ttl : float
        Seconds for which a listing is good.
    changed : callable
        Called with a group's id when its uploads have changed.
    gone : callable
        Called with ``"upload"`` and the ids of group and upload when one has been deleted.

    Notes
    -----
    Changes of one name wait for each other, so that two writers leave one upload. No other
    lock is held while the service is asked.
    """

    def __init__(
        self,
        service: FlowService,
        ttl: float,
        changed: Callable[[str], None],
        gone: Callable[[tuple[str, ...]], None],
    ) -> None:
        self._service = service
        self._changed = changed
        self._gone = gone
        self._ttl = ttl
        self._listings: Cache[str, list[FileRecord]] = Cache(ttl)
        self._together: list[_Together] = []  # calls for many files that are under way
        self._lock = threading.Lock()
        self._asked: dict[str, dict[str, str]] = {}  # group -> upload -> name asked for
        self._sending: dict[str, list[_Sending]] = {}
        # group -> ids of what was there before, and of what of it is being replaced
        self._replacing: dict[str, list[tuple[frozenset[str], frozenset[str]]]] = {}
        self._free = threading.Condition()
        self._busy: set[tuple[str, str]] = set()  # names that are being changed

    # -- looking -----------------------------------------------------------

    def listed(self, group_id: str, *, refresh: bool = False) -> list[FileRecord]:
        """Return the uploads of a group, oldest first. One request, none while it is known.

        What is being replaced by this client goes as soon as what replaces it is there.
        """
        with self._lock:
            replacing = list(self._replacing.get(group_id, ()))
        records = self._all(group_id, refresh=refresh)
        with self._lock:  # and what has begun while it was asked for
            replacing += self._replacing.get(group_id, ())
        for before, replaced in replacing:
            come = {record.stored for record in records if record.id not in before}
            records = [r for r in records if r.id not in replaced or r.stored not in come]
        return records

    def _all(self, group_id: str, *, refresh: bool) -> builtins.list[FileRecord]:
        """Return the uploads as the service lists them."""

        def fetch() -> list[FileRecord]:
            with self._lock:
                unclear = [one for one in self._sending.get(group_id, ()) if one.unclear]
            files = self._service.uploads.list_files(group_id)
            self._settle(group_id, unclear, files)
            return self._records(group_id, files)

        return self._listings.get(group_id, fetch, refresh=refresh)

    @property
    def drops(self) -> int:
        """How often something was forgotten; to be noted before a listing is asked for."""
        return self._listings.drops

    @property
    def usage(self) -> tuple[Usage, int]:
        """How the cache of listings did, and how many are kept."""
        return self._listings.usage, len(self._listings)

    def known(self, group_id: str) -> builtins.list[FileRecord] | None:
        """Return the uploads as last listed, however long ago; never asks."""
        return self._listings.peek(group_id, any_age=True)

    def learn(self, group_id: str, files: list[dict[str, Any]], since: int) -> None:
        """Take in a listing that came by another way, unless something was forgotten since."""
        self._listings.put(group_id, self._records(group_id, files), since=since)

    def clear(self) -> None:
        """Forget all listings; names that were asked for stay known."""
        self._listings.clear()

    def get(self, group_id: str, name: str) -> FileRecord:
        """Return the upload of a name in the tree.

        Raises
        ------
        NotFound
            If there is none.
        """
        records, raw_name = self.listed(group_id), _raw(name)
        found = (
            # The name asked for is no other's, since the service makes no such names.
            [r for r in records if r.asked == raw_name and r.mangled]
            or [r for r in records if r.name == name]
            or [r for r in records if r.asked == raw_name]
            # What was told apart by its id keeps that name when the other one has gone.
            or [r for r in records if name in (f"{r.name} ({r.id})", f"{r.stored} ({r.id})")]
        )
        if not found:
            raise failure(
                NotFound, f"no upload is called {name!r}", f"groups/{group_id}/uploads/{name}"
            )
        return found[-1]

    def for_arguments(self, group_id: str) -> Uploads:
        """Return what a run's arguments may call files; a name means what :meth:`get` finds."""
        records = self.listed(group_id)
        names: dict[str, str] = {}
        for record in sorted(records, key=lambda record: not record.mangled):
            names[record.stored] = record.id
        names.update({record.name: record.id for record in records})
        for record in records:
            if record.mangled and record.asked:
                names |= {record.asked: record.id, to_name(record.asked): record.id}
        return Uploads(names, {record.id for record in records})

    def _records(self, group_id: str, files: list[dict[str, Any]]) -> list[FileRecord]:
        with self._lock:
            asked = dict(self._asked.get(group_id, ()))
            sending = list(self._sending.get(group_id, ()))
        for file in files:
            # It may have been stored already, while its reply is still to come.
            if any(_may_be(file, one) for one in sending):
                asked.setdefault(file["id"], _UNKNOWN)
        return upload_files(files, asked)

    def _settle(self, group_id: str, unclear: list[_Sending], files: list[dict[str, Any]]) -> None:
        """Note what may have come of uploads without a reply, in a listing asked for since."""
        if not unclear:
            return
        with self._lock:
            asked = self._asked.setdefault(group_id, {})
            for one in unclear:
                self._forget_sending(group_id, one)
                for file in files:
                    if _may_be(file, one):
                        asked.setdefault(file["id"], _UNKNOWN)

    # -- changing ----------------------------------------------------------

    def store(
        self,
        group_id: str,
        name: str,
        raw_name: str,
        file: IO[bytes],
        progress: Callable[[int], None] | None = None,
    ) -> FileRecord:
        """Upload a file, in place of the one that has its name: as `Catalog.upload_file`."""
        with self._changing(group_id, name):
            listed = self._listed_for(group_id, name)
            return self._store(group_id, name, raw_name, file, listed, progress=progress)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Store many files within the ``with`` block with as few listings as possible.

        A listing is good for `ttl` seconds, as everywhere, for all names that are stored there
        for the first time; without this each is listed for anew.
        """
        together = _Together()
        token = _together.set(together)
        with self._lock:
            self._together.append(together)
        try:
            yield
        finally:
            with self._lock:
                self._together.remove(together)
            _together.reset(token)

    def _listed_for(self, group_id: str, name: str) -> builtins.list[FileRecord]:
        """Return what is there before a name is stored; nobody else here changes that name."""
        together = _together.get()
        if together is None:
            return self._refreshed(group_id)
        with self._lock:
            if (group_id, name) in together.changed:
                together = None
        if together is None:
            return self._refreshed(group_id)
        known = together.known

        def fetch() -> list[FileRecord]:
            good_until = time.monotonic() + self._ttl
            listed = self._refreshed(group_id)
            known[group_id] = (listed, good_until)
            return listed

        def good() -> list[FileRecord] | None:
            listed, good_until = known.get(group_id, (None, 0.0))
            return listed if good_until > time.monotonic() else None

        return together.listings.get(group_id, fetch, good)

    def rename(
        self, group_id: str, old: str, new: str, raw_name: str, file: IO[bytes]
    ) -> FileRecord:
        """Upload the bytes of an upload under a new name, then delete it.

        As :meth:`Catalog.rename_upload <flowfs.catalog.Catalog.rename_upload>`.
        """
        with self._changing(group_id, old, new):
            listed = self._refreshed(group_id)
            before = self.get(group_id, old)
            made = self._store(group_id, new, raw_name, file, listed, spare=before.id)
            if made.id != before.id:
                try:
                    self._delete_if_there(group_id, before.id)
                except FlowError as error:
                    raise failure(
                        type(error),
                        f"is there as {new!r} now, but {old!r} could not be deleted: "
                        f"{describe(error)}",
                        f"groups/{group_id}/uploads/{old}",
                        errno=error.errno,
                        status=error.status,
                        words=error.service_message,
                    ) from error
            return made

    def delete(self, group_id: str, name: str) -> None:
        """Delete the upload of a name."""
        with self._changing(group_id, name):
            before = self.get(group_id, name).id
            try:
                self._delete(group_id, before)
            except NotFound:
                # It may have been replaced since it was listed; the listing is forgotten.
                now = self.get(group_id, name).id
                if now == before:
                    raise
                self._delete(group_id, now)

    def _store(
        self,
        group_id: str,
        name: str,
        raw_name: str,
        file: IO[bytes],
        listed: list[FileRecord],
        *,
        spare: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> FileRecord:
        # Only what is certainly this file under this name may be replaced: two names asked
        # for may be stored under one.
        replaced = frozenset(
            r.id
            for r in listed
            if r.asked == raw_name or (r.asked is None and r.name == name and r.stored == raw_name)
        ) - {spare}
        sending = _Sending(raw_name, frozenset(r.id for r in listed))
        replacing = (sending.before, replaced)
        with self._lock:
            self._sending.setdefault(group_id, []).append(sending)
            self._replacing.setdefault(group_id, []).append(replacing)
        try:
            try:
                made = self._service.uploads.upload_file(
                    group_id, file, raw_name, progress=progress
                )
            except BaseException as error:
                with self._lock:
                    if getattr(error, "unclear", True):
                        sending.unclear = True
                    else:
                        self._forget_sending(group_id, sending)
                raise
            with self._lock:
                self._asked.setdefault(group_id, {})[made["id"]] = raw_name
                self._forget_sending(group_id, sending)
            for file_id in replaced:
                # The service may have replaced it itself.
                if file_id != made["id"]:
                    self._delete_if_there(group_id, file_id)
        finally:
            self._forget(group_id)
            with self._lock:
                self._replacing[group_id].remove(replacing)
                if not self._replacing[group_id]:
                    del self._replacing[group_id]
        return upload_files([made], {made["id"]: raw_name})[0]

    def _delete(self, group_id: str, file_id: str) -> None:
        try:
            self._service.uploads.delete_file(group_id, file_id)
        finally:
            self._forget(group_id)
        with self._lock:
            self._asked.get(group_id, {}).pop(file_id, None)
        self._gone(("upload", group_id, file_id))

    def _delete_if_there(self, group_id: str, file_id: str) -> None:
        with suppress(NotFound):
            self._delete(group_id, file_id)

    def _forget(self, group_id: str) -> None:
        self._listings.drop(group_id)
        self._changed(group_id)

    def _refreshed(self, group_id: str) -> list[FileRecord]:
        """Ask for a listing; names of uploads that somebody else has deleted are forgotten."""
        with self._lock:
            known = list(self._asked.get(group_id, ()))
        listed = self._all(group_id, refresh=True)
        there = {record.id for record in listed}
        with self._lock:
            asked = self._asked.get(group_id, {})
            for file_id in known:
                if file_id not in there:
                    asked.pop(file_id, None)
        return listed

    def _forget_sending(self, group_id: str, sending: _Sending) -> None:
        """Take it out; the lock is held."""
        left = [one for one in self._sending.get(group_id, ()) if one is not sending]
        if left:
            self._sending[group_id] = left
        else:
            self._sending.pop(group_id, None)

    @contextmanager
    def _changing(self, group_id: str, *names: str) -> Iterator[None]:
        """Change one name, or two, while nobody else here does."""
        keys = {(group_id, name) for name in names}
        with self._free:
            wait(partial(self._free.wait_for, lambda: self._busy.isdisjoint(keys)))
            self._busy |= keys
        try:
            yield
        finally:
            with self._lock:
                for together in self._together:
                    together.changed |= keys
            with self._free:
                self._busy -= keys
                self._free.notify_all()


def _raw(name: str) -> str:
    return from_name(name) or name


def _may_be(file: dict[str, Any], sending: _Sending) -> bool:
    return file["id"] not in sending.before and file["name"] != sending.raw_name
