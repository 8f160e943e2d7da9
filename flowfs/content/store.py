"""What is kept of the service's files, and how more of them is fetched."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field

from flowfs.content.packs import SMALL, Packs
from flowfs.content.room import Room, Scratch
from flowfs.content.shelf import Shelf
from flowfs.content.source import Source
from flowfs.content.spool import Spool
from flowfs.disk import CachedFile, Disk
from flowfs.errors import BadReply, FlowError, NotFound, again, failure
from flowfs.service.asking import waiting
from flowfs.service.body import Body
from flowfs.service.flights import Flights
from flowfs.service.statistics import Usage
from flowfs.service.waits import Turn

__all__ = ["Store"]

_SMALL = SMALL  # what a question for the size brings along
_SMALL_BOUND = 1 << 25  # bytes of small files kept
_SIZES_BOUND = 200_000


@dataclass
class _Opening:
    """An archive that is being asked for, by how many, and why it did not come."""

    users: int = 0
    lock: Turn = field(default_factory=Turn)
    failed: FlowError | None = None


class Store:
    """Sizes and bytes of files that never change, shared by threads and file systems.

    Kept in memory: the size of each file asked for (200,000 at most) and files up to 64 KiB
    (32 MiB at most). Kept in temporary files, as many as there is room for: archives, of which
    the last one is always kept, and of other files what those who share them have fetched. With
    a `disk`, all of that is kept there too, for later processes and those of the same time.

    Parameters
    ----------
    room : Room, optional
        Where temporary files are made, and how many bytes of them are kept; by default 4 GiB
        in the system's directory.
    disk : Disk, optional
        What stays there.

    Attributes
    ----------
    room, disk : Room, Disk or None
        As given.
    shelf : Shelf
        What is kept in temporary files.
    packs : Packs
        Has many small files of a run come at once, where that is cheaper.
    """

    def __init__(self, room: Room | None = None, disk: Disk | None = None) -> None:
        self.room: Room = room or Room()
        self.disk = disk
        self.shelf: Shelf = Shelf(self.room)
        self.packs: Packs = Packs(self._held, self._keep_whole)
        self._lock = threading.Lock()
        self._sizes: OrderedDict[tuple[str, ...], int] = OrderedDict()
        self._small: OrderedDict[tuple[str, ...], bytes] = OrderedDict()
        self._small_held = 0
        self._forgotten = 0
        self._asking: Flights[tuple[str, ...], int] = Flights()  # for sizes
        self._opening: dict[tuple[str, ...], _Opening] = {}
        self._size_usage, self._small_usage, self._spool_usage = Usage(), Usage(), Usage()

    def usage(self) -> dict[str, tuple[Usage, int]]:
        """Return how often each was there, and how much of it is kept, by what it is."""
        return {
            "sizes": (self._size_usage, len(self._sizes)),
            "small files": (self._small_usage, len(self._small)),
            "archives": (
                self._spool_usage,
                sum(isinstance(item, Spool) for item in self.shelf),
            ),
        }

    # -- sizes -------------------------------------------------------------

    @property
    def forgotten(self) -> int:
        """How often something was forgotten: what was told of files may be wrong since then."""
        return self._forgotten

    def remembers_size(self, source: Source) -> bool:
        """Tell whether a file's size is at hand; nobody looks on disk for it."""
        return source.key in self._sizes

    def known_size(self, source: Source) -> int | None:
        """Return a file's size in bytes if it is known; never asks."""
        if source.whole:
            spool = self.shelf.peek(source.key)
            if isinstance(spool, Spool) and spool.complete:
                return spool.size()
            return None if self.disk is None else self.disk.archive_size(source.key)
        with self._lock:
            size = self._sizes.get(source.key)
        if size is None and self.disk is not None:
            kept = self.disk.fact("size", source.key)
            if kept is not None:
                size = int.from_bytes(kept, "big")
                self._note_size(source, size)
        return size

    def size(self, source: Source) -> int | None:
        """Return a file's size in bytes.

        Asked once, with one request that brings small files along, however many want to know;
        not at all for an archive, whose size is None until it has been read.

        Raises
        ------
        FlowError
            As the service says.
        """
        known = self.known_size(source)
        if known is not None or source.whole:
            self._size_usage.hits += known is not None
            return known
        return self._asking.get(
            source.key, lambda: self._ask_size(source), lambda: self.known_size(source)
        )

    def fetch_ahead(self, source: Source) -> None:
        """Ask for the size of a file that nobody needs yet, unless it is known.

        A small file comes along. What goes wrong is raised here, and to nobody who comes to
        need it.
        """
        # Whoever calls this has just seen that it is not known, on disk or otherwise.
        if not source.whole and source.key not in self._sizes:
            self._asking.ahead(
                source.key,
                lambda: self._ask_size(source),
                lambda: self._sizes.get(source.key),
            )

    def _ask_size(self, source: Source) -> int:
        waited = self.packs.bring(source)
        known = None if waited is None else self.known_size(source)
        if known is not None:
            return known
        self._size_usage.misses += 1
        with waiting(waited or 0.0):
            # HEAD costs the service as much as GET; a range costs less, and has use.
            body = self.packs.ask(source, f"bytes=0-{_SMALL - 1}")
        with body:
            if body.total is None:
                raise failure(BadReply, "the service does not say how large it is", body.name)
            # First the bytes: who knows the size may look for them. Where they break off, the
            # size is known all the same, and whoever wants them asks for them.
            with suppress(BadReply):
                if body.length in (0, body.total) and body.total <= _SMALL:
                    self._keep_small(source, body)
                elif body.length is not None and body.length <= _SMALL:
                    body.read()  # drained, so that the connection is kept
            self.learn_size(source, body.total)
            return body.total

    def learn_size(self, source: Source, size: int) -> None:
        """Keep a size that came along with bytes."""
        if self._note_size(source, size) and self.disk is not None:
            self.disk.learn("size", source.key, size.to_bytes(8, "big"))

    def _note_size(self, source: Source, size: int) -> bool:
        """Keep it in memory; return whether it is news there."""
        with self._lock:
            news = self._sizes.get(source.key) != size
            self._sizes[source.key] = size
            self._sizes.move_to_end(source.key)
            if len(self._sizes) > _SIZES_BOUND:
                self._sizes.popitem(last=False)
            return news

    # -- small files -------------------------------------------------------

    def small(self, source: Source) -> bytes | None:
        """Return all of a small file if it is kept; None otherwise."""
        with self._lock:
            data = self._small.get(source.key)
            if data is not None:
                self._small.move_to_end(source.key)
                self._small_usage.hits += 1
        if data is None and self.disk is not None:
            size = self.known_size(source)  # what is not there has no size there either
            if size is not None and size <= _SMALL:
                data = self.disk.fact("bytes", source.key)
                if data is not None:
                    self._note(source, data)
        return data

    def bring(self, source: Source) -> bytes | None:
        """Return all of a small file that has come with others; None: it is to be asked for.

        To be called before a file is asked for from its front to its end; see
        :meth:`Packs.bring`.
        """
        return None if self.packs.bring(source) is None else self.small(source)

    def _held(self, key: tuple[str, ...]) -> bytes | int | None:
        data = self._small.get(key)
        return self._sizes.get(key) if data is None else data

    def _keep_whole(self, source: Source, data: bytes) -> None:
        if len(data) <= _SMALL:
            self._keep(source, data)
        self.learn_size(source, len(data))

    def take_small(self, source: Source, body: Body) -> bytes | None:
        """Read all of a small file and keep it; None, and nothing read, if it is not small."""
        if body.total is None or body.total > _SMALL or body.length != body.total:
            return None
        return self._keep_small(source, body)

    def _keep_small(self, source: Source, body: Body) -> bytes:
        data = body.read()
        self._keep(source, data)
        return data

    def _keep(self, source: Source, data: bytes) -> None:
        self._small_usage.misses += 1
        if self._note(source, data) and self.disk is not None:
            self.disk.learn("bytes", source.key, data)

    def _note(self, source: Source, data: bytes) -> bool:
        """Keep it in memory; return whether it is news there."""
        with self._lock:
            news = source.key not in self._small
            if news:
                self._small[source.key] = data
                self._small_held += len(data)
            while self._small_held > _SMALL_BOUND:
                _, dropped = self._small.popitem(last=False)
                self._small_held -= len(dropped)
            return news

    # -- bytes -------------------------------------------------------------

    def read(self, source: Source, start: int, end: int | None) -> bytes:
        """Return the bytes from `start` to `end` (exclusive; None: the end). One request.

        Raises
        ------
        FlowError
            As the service says. A reply that does not hold what was asked for is an error.
        """
        if source.whole:
            spool = self.spool(source)
            try:
                # One that is not read to its end is dropped, and the next part would be of
                # another.
                spool.finish()
                stop = spool.size() if end is None else end
                return spool.read(start, max(0, stop - start))
            finally:
                self.release(source, spool)
        data = self.small(source)
        if data is None and start == 0 and end is None:
            data = self.bring(source)
        if data is not None:
            return data[start:end]
        if end is not None and end <= start:
            return b""
        with self.fetch(source, start, end) as body:
            whole = start == 0 and (end is None or (body.total is not None and end >= body.total))
            wanted = -1 if end is None else end - start
            skip = start - body.start if body.length != 0 else 0
            while skip > 0:  # the service sends all of it, whatever is asked for
                passed = len(body.read(min(skip, 1 << 20)))
                if not passed:
                    return b""
                skip -= passed
            data = body.read(wanted)
            known = self.known_size(source)
            if known is None and not body.sure:
                known = self.size(source)  # asked for: what came may be a part
            if known is not None and start + len(data) < (
                known if end is None else min(end, known)
            ):
                raise failure(
                    BadReply,
                    f"the reply broke off after {start + len(data)} of {known} bytes",
                    body.name,
                )
            # Where no length is told, nobody knows whether that was all.
            if whole and body.total is not None and len(data) <= _SMALL:
                self._keep(source, data)
            return data

    def fetch(self, source: Source, start: int, end: int | None = None) -> Body:
        """Open a reply that holds the bytes from `start` on, or from before.

        Returns
        -------
        Body
            Its `start` is `start`, or 0 where the service ignores ranges.

        Raises
        ------
        BadReply
            If the service answers with another range.
        """
        ranged = start > 0 or end is not None
        value = f"bytes={start}-{'' if end is None else end - 1}" if ranged else None
        try:
            body = source.fetch(value) if ranged else self.packs.ask(source, value)
        except NotFound:
            self.forget(source)
            raise
        try:
            _check_range(body, start, end)
        except FlowError:
            body.close()
            raise
        if body.total is not None:
            known = self.known_size(source)
            if known is not None and known != body.total:
                # One of the two is wrong: nothing that is kept of it can be believed.
                body.close()
                self.forget(source)
                raise failure(
                    BadReply,
                    f"it has {body.total} bytes now and had {known}, and it cannot have changed",
                    body.name,
                    status=200,
                )
            self.learn_size(source, body.total)
        return body

    def forget(self, source: Source) -> None:
        """Drop what is kept of a file that is gone."""
        with self._lock:
            self._sizes.pop(source.key, None)
            data = self._small.pop(source.key, None)
            self._small_held -= len(data or b"")
        self.gone(source.key)

    def gone(self, key: tuple[str, ...]) -> None:
        """Drop what is kept on disk of something that is gone, and of all that belongs to it."""
        self._forgotten += 1
        self.shelf.forget(key)
        self.packs.forget(key)
        if self.disk is not None:
            self.disk.forget(key)

    def file(self, source: Source, size: int) -> CachedFile | Scratch:
        """Return the file that bytes are kept in; OSError if there is none to be had."""
        kept = None if self.disk is None else self.disk.file(source.key, size)
        return kept or Scratch(self.room)

    # -- archives ----------------------------------------------------------

    def spool(self, source: Source) -> Spool:
        """Return an archive's bytes; one request, unless they are kept. To be released."""
        with self._lock:
            opening = self._opening.setdefault(source.key, _Opening())
            opening.users += 1
        try:
            return self._spool(source, opening)
        finally:
            with self._lock:
                opening.users -= 1
                # Who comes after a failure asks anew.
                over = not opening.users or opening.failed is not None
                if over and self._opening.get(source.key) is opening:
                    del self._opening[source.key]

    def _spool(self, source: Source, opening: _Opening) -> Spool:
        with opening.lock:  # one request however many open it; other files are not held up
            spool: Spool | None = self.shelf.take(source.key)
            if spool is not None:
                if not spool.failed:
                    self._spool_usage.hits += 1
                    return spool
                self.shelf.forget(source.key)
                self.shelf.release(source.key, spool)
            if opening.failed is not None:  # who waited for it has waited long enough
                raise again(opening.failed)
            spool = self._kept_archive(source)
            if spool is not None:
                self._spool_usage.hits += 1
            else:
                try:
                    spool = self._new_archive(source)
                except FlowError as error:
                    opening.failed = error
                    raise
                self._spool_usage.misses += 1
            self.shelf.take(source.key, spool)
        return spool

    def _kept_archive(self, source: Source) -> Spool | None:
        kept = None if self.disk is None else self.disk.archive(source.key)
        return None if kept is None else Spool(kept, None, self.shelf)

    def _new_archive(self, source: Source) -> Spool:
        body = self._whole(source)
        disk, key = self.disk, source.key
        draft = None if disk is None else disk.draft(key)
        if disk is None or draft is None:
            return Spool(None, body, self.shelf)
        return Spool(draft, body, self.shelf, lambda: disk.finish(key, draft))

    def _whole(self, source: Source) -> Body:
        try:
            body = source.fetch(None)
        except NotFound:
            self.forget(source)
            raise
        try:
            _check_range(body, 0, None)
        except FlowError:
            body.close()
            raise
        return body

    def release(self, source: Source, spool: Spool) -> None:
        """Tell that a reader of an archive is done.

        One that nobody has read to its end is dropped: it holds a connection, and what is
        there of it cannot be joined with another reply.
        """
        self.shelf.release(source.key, spool)


def _check_range(body: Body, start: int, end: int | None) -> None:
    """Refuse a reply that does not hold the bytes from `start` to `end`, as far as there are."""
    length, total = body.length, body.total
    misplaced = length != 0 and body.start not in (0, start)
    short = False
    if length is not None and total is not None:
        wanted = total if end is None else min(end, total)
        short = start < wanted and (length == 0 or body.start + length < wanted)
    if misplaced or short:
        raise failure(
            BadReply,
            f"asked for the bytes from {start} to {'the end' if end is None else end}, got "
            f"{'some' if length is None else length} of {total} from {body.start}",
            body.name,
        )
