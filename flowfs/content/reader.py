"""A file of the service, read: streamed from front to back, ranged to jump."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from flowfs.content.pace import Pace
from flowfs.content.placed import PlacedFile
from flowfs.content.source import Source
from flowfs.content.spool import Spool
from flowfs.content.store import Store
from flowfs.errors import BadReply, FlowError, failure
from flowfs.service.body import Body
from flowfs.service.leftovers import leave

__all__ = ["Reader"]

# What a jump fetches at least; small reads that follow are served from it.
_BLOCK = 1 << 16  # bytes
_CHUNK = 1 << 20  # bytes
_RESUMES = 3
# Jumps forward, each worth reading through, after which the next one begins a stream.
_STRIDES = 2


class Reader(PlacedFile):
    """Reads one file.

    Reading from front to back is one request, whatever the sizes of the reads. A jump is a
    request for what is wanted at the new place, or for a block; who reads on from there, or
    goes on to jump forward by a little, gets a stream again. Jumps forward that take less than
    a request are read through. A stream that breaks is taken up where it broke, since the file
    cannot have changed.

    Parameters
    ----------
    store : Store
        What is kept, and where to keep more.
    source : Source
        The file.
    spool : Spool, optional
        Its bytes, where it is kept whole.

    Attributes
    ----------
    wanted : int
        Bytes that whoever reads next wants in all, where that may be in several pieces: a jump
        fetches so many with one request.

    Notes
    -----
    Not for several threads at once; each opens its own.
    """

    def __init__(self, store: Store, source: Source, spool: Spool | None = None) -> None:
        super().__init__()
        self._store = store
        self._source = source
        self._spool = spool
        self.wanted: int = 0
        self._body: Body | None = None
        self._body_at = 0
        self._body_end: int | None = None  # None: that of the file
        self._block = b""
        self._block_at = 0
        self._from_the_front = False  # the service sends all of it, whatever is asked for
        self._jumped_to = 0
        self._strides = 0
        self._pace = Pace()
        self._failures = 0

    @property
    def size(self) -> int:
        """Bytes in the file; costs a request unless known."""
        if self._spool is not None:
            return self._spool.size()
        size = self._store.size(self._source)
        assert size is not None
        return size

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        got = self._taken(len(view), lambda body: body.readinto(view))
        if isinstance(got, bytes):
            view[: len(got)] = got
            got = len(got)
        self._position += got
        return got

    def read(self, size: int | None = -1) -> bytes:
        """Read some bytes, none at the end; by default all that are left."""
        if size is None or size < 0:
            return self.readall()
        data = self._taken(size, lambda body: body.read(size))
        assert isinstance(data, bytes)
        self._position += len(data)
        return data

    def _taken(self, size: int, take: Callable[[Body], bytes | int]) -> bytes | int:
        """Return bytes that are here, or what `take` makes of a reply that is at the place."""
        if self.closed:
            raise ValueError("read of a closed file")
        while True:
            body = self._stream_at_the_place() if size else None
            there = self._there(size) if body is None else None
            if there is not None:
                return there
            try:
                if body is None:
                    body = self._at_the_place(size)
                if body is not None:
                    return self._streamed(body, take)
                if not self._block:
                    return b""  # it ends before, as nobody knew
            except FlowError as error:
                self._drop_body()
                # A file that is gone, or a refusal, does not get better by asking again.
                if not isinstance(error, BadReply) or error.status is not None:
                    raise
                self._failures += 1
                if self._failures > _RESUMES:
                    raise

    def _stream_at_the_place(self) -> Body | None:
        """Return the reply that is read from front to back, if its next byte is the one wanted.

        That is so most of the time, and then there is nothing to look up.
        """
        body = self._body
        if body is None or self._body_at != self._position or self._body_end is not None:
            return None
        self.wanted = 0
        return None if body.closed else body

    def _there(self, size: int) -> bytes | None:
        if size == 0:
            return b""
        if self._spool is not None:
            return self._spool.read(self._position, size)
        small = self._store.small(self._source)
        if small is not None:
            return small[self._position : self._position + size]
        known = self._store.known_size(self._source)
        if known is not None and self._position >= known:
            return b""
        within = self._position - self._block_at
        if 0 <= within < len(self._block):
            return self._block[within : within + size]
        return None

    def _at_the_place(self, size: int) -> Body | None:
        """Return a reply whose next byte is the one wanted; None: it is in a block by now."""
        wanted, self.wanted = self.wanted or size, 0
        position, ahead = self._position, self._position - self._body_at
        if self._body is not None and not self._body.closed:  # an interrupt closes a body
            within = self._body_end is None or position < self._body_end
            if within and ahead >= 0 and (ahead <= self._pace.worth or self._from_the_front):
                return self._passed(self._body)
        self._drop_body()
        follows = position in (0, self._body_at, self._block_at + len(self._block))
        near = 0 <= position - self._jumped_to <= self._pace.worth
        self._strides = self._strides + 1 if near else 0
        self._jumped_to = position
        if follows or self._from_the_front or self._strides > _STRIDES:
            return self._opened(None)
        known = self._store.known_size(self._source)
        if known is not None:
            wanted = min(wanted, known - position)
        if wanted >= _BLOCK:
            return self._opened(position + wanted)
        # Who reads the end reads what is before it next: the table of contents of a zip file.
        start = position if known is None else max(0, min(position, known - _BLOCK))
        since = time.monotonic()
        self._block = self._store.read(self._source, start, start + _BLOCK)
        self._block_at = start
        self._pace.began(since)
        return None

    def _opened(self, end: int | None) -> Body | None:
        position = self._position
        come = self._store.bring(self._source) if position == 0 and end is None else None
        if come is not None:
            self._block, self._block_at = come, 0
            return None
        since = time.monotonic()
        body = self._body = self._store.fetch(self._source, position, end)
        self._pace.began(since)
        self._body_at = body.start if body.length != 0 else position
        self._from_the_front = self._body_at < position
        self._body_end = None if self._from_the_front else end
        small = self._store.take_small(self._source, body) if position == 0 else None
        if small is None:
            return self._passed(body)
        self._drop_body()
        self._block, self._block_at = small, 0
        return None

    def _passed(self, body: Body) -> Body:
        """Read a reply as far as the place that is wanted, or to its end."""
        while self._body_at < self._position:
            since = time.monotonic()
            passed = len(body.read(min(self._position - self._body_at, _CHUNK)))
            if not passed:
                break
            self._body_at += passed
            self._pace.came(passed, since)
        return body

    def _streamed(self, body: Body, take: Callable[[Body], bytes | int]) -> bytes | int:
        since = time.monotonic()
        got = take(body)
        count = got if isinstance(got, int) else len(got)
        self._body_at += count
        if count:
            self._pace.came(count, since)
            self._failures = 0
        else:
            # A reply that does not say its length ends unnoticed: then the size is asked for.
            size = self._store.known_size(self._source) if body.sure else self.size
            if self._position < (size or 0):
                message = f"the reply broke off after {self._body_at} bytes"
                raise failure(BadReply, message, body.name)
        return got

    def _drop_body(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def _let_go(self) -> None:
        self._drop_body()
        if self._spool is not None:
            self._store.release(self._source, self._spool)

    def _drop(self) -> None:
        if self._spool is not None:
            leave(functools.partial(self._store.release, self._source, self._spool))
