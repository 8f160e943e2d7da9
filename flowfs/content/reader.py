"""A file of the service, read: streamed from front to back, ranged to jump."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

from flowfs.content.source import Source
from flowfs.content.spool import Spool
from flowfs.content.store import Store
from flowfs.errors import BadReply, FlowError, failure
from flowfs.service.body import Body

__all__ = ["Reader"]

# A jump forward by less than this is read through: a request costs more.
_READ_THROUGH = 1 << 18  # bytes
# What a jump fetches at least; small reads that follow are served from it.
_BLOCK = 1 << 17  # bytes
_CHUNK = 1 << 20  # bytes
_RESUMES = 3


class Reader(io.RawIOBase):
    """Reads one file.

    Reading from front to back is one request, whatever the sizes of the reads. A jump is a
    request for a block at the new place; who reads on from there gets a stream again. A
    stream that breaks is taken up where it broke, since the file cannot have changed.

    Parameters
    ----------
    store : Store
        What is kept, and where to keep more.
    source : Source
        The file.
    spool : Spool, optional
        Its bytes, where it is kept whole.

    Notes
    -----
    Not for several threads at once; each opens its own.
    """

    def __init__(self, store: Store, source: Source, spool: Spool | None = None) -> None:
        super().__init__()
        self._store = store
        self._source = source
        self._spool = spool
        self._position = 0
        self._body: Body | None = None
        self._body_at = 0
        self._block = b""
        self._block_at = 0
        self._failures = 0

    @property
    def size(self) -> int:
        """Bytes in the file; costs a request unless known."""
        if self._spool is not None:
            return self._spool.size()
        size = self._store.size(self._source)
        assert size is not None
        return size

    def readable(self) -> bool:
        """Files are read."""
        return True

    def seekable(self) -> bool:
        """Every place can be read."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set where the next read begins; costs nothing (from the end: the size)."""
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self.size
        elif whence != os.SEEK_SET:
            raise ValueError(f"unknown whence: {whence}")
        if offset < 0:
            raise ValueError(f"negative position: {offset}")
        self._position = offset
        return offset

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; 0 at the end."""
        if self.closed:
            raise ValueError("read of a closed file")
        view = memoryview(buffer).cast("B")
        data = self._some(len(view)) if len(view) else b""
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def readall(self) -> bytes:
        """Read to the end."""
        pieces = []
        while piece := self.read(_CHUNK):
            pieces.append(piece)
        return b"".join(pieces)

    def _some(self, size: int) -> bytes:
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
        while True:
            try:
                return self._streamed(size)
            except FlowError as error:
                self._drop_body()
                # A file that is gone, or a refusal, does not get better by asking again.
                if not isinstance(error, BadReply) or error.status is not None:
                    raise
                self._failures += 1
                if self._failures > _RESUMES:
                    raise

    def _streamed(self, size: int) -> bytes:
        ahead = self._position - self._body_at
        # An interrupt closes a body.
        if self._body is None or self._body.closed or not 0 <= ahead <= _READ_THROUGH:
            self._drop_body()
            follows = self._block and self._position == self._block_at + len(self._block)
            if self._position == 0 or follows:
                self._body = self._store.fetch(self._source, self._position)
                self._body_at = self._body.start if self._body.length != 0 else self._position
                if self._position == 0:
                    small = self._store.take_small(self._source, self._body)
                    if small is not None:
                        self._drop_body()
                        return small[:size]
            else:
                end = self._position + max(size, _BLOCK)
                self._block = self._store.read(self._source, self._position, end)
                self._block_at = self._position
                return self._block[:size]
        while self._body_at < self._position:
            passed = len(self._body.read(min(self._position - self._body_at, _CHUNK)))
            if not passed:
                return b""
            self._body_at += passed
        data = self._body.read(size)
        self._body_at += len(data)
        if data:
            self._failures = 0
        elif self._position < (self._store.known_size(self._source) or 0):
            # A reply that does not say its length ends unnoticed.
            raise failure(
                BadReply, f"the reply broke off after {self._position} bytes", self._body.name
            )
        return data

    def _drop_body(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def close(self) -> None:
        """Close the file and its connection."""
        if not self.closed:
            self._drop_body()
            if self._spool is not None:
                self._store.release(self._source, self._spool)
            super().close()

    def __del__(self) -> None:
        # Nobody will see what goes wrong now, and a half-built object has nothing to close.
        with contextlib.suppress(Exception):
            self.close()
