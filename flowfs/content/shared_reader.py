"""A file of the service, read from one place to the next, out of what all readers share."""

from __future__ import annotations

from typing import Any

from flowfs.content.placed import PlacedFile
from flowfs.content.reader import Reader
from flowfs.content.sharing import SharedFile
from flowfs.content.source import Source
from flowfs.content.store import Store
from flowfs.service.leftovers import leave

__all__ = ["SharedReader"]


class SharedReader(PlacedFile):
    """Reads one file, as :class:`~flowfs.content.reader.Reader` does, and keeps what it reads.

    What is kept of the file costs no request; what is not, the first who reads it fetches for
    all. From front to back that is one request.

    Parameters
    ----------
    store : Store
        What is kept, and where to keep more.
    source : Source
        The file. An archive is asked for at once.

    Attributes
    ----------
    wanted : int
        As a reader has it; what is here is fetched in blocks whatever that is.
    """

    def __init__(self, store: Store, source: Source) -> None:
        super().__init__()
        self.wanted = 0
        self._store = store
        self._source = source
        self._file: SharedFile | None = SharedFile(store, source) if source.whole else None
        self._alone: Reader | None = None  # where the service does not say how large it is

    @property
    def size(self) -> int:
        """Bytes in the file; costs a request unless known."""
        if self._file is not None:
            return self._file.size
        size = self._store.size(self._source)
        assert size is not None
        return size

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        if self._file is not None and not self.closed:
            there = view[: max(0, self._file.size - self._position)]
            got = self._file.read_into(there, self._position)
            if got is not None:
                self._position += got
                return got
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        """Read so many bytes, fewer only at the end; by default all that are left."""
        if self.closed:
            raise ValueError("read of a closed file")
        if size is None or size < 0:
            return self.readall()
        if not size:
            return b""
        if self._file is None and self._alone is None:
            self._open()
        if self._file is not None:
            data = self._file.read(self._position, size)
        else:
            assert self._alone is not None
            self._alone.seek(self._position)
            data = self._alone.read(size)
        self._position += len(data)
        return data

    def _open(self) -> None:
        """Open it for all: who begins at the front has the size along with the bytes."""
        body = None
        front = self._position == 0 and self._store.known_size(self._source) is None
        if front and self._store.bring(self._source) is None:
            body = self._store.fetch(self._source, 0)
            if self._store.take_small(self._source, body) is not None:
                body = None
        try:
            if body is not None and body.total is None:
                self._alone = Reader(self._store, self._source)
            else:
                self._file = SharedFile(self._store, self._source, body)
                body = None
        finally:
            if body is not None:
                body.close()

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._alone is not None:
            self._alone.close()

    def _drop(self) -> None:
        if self._file is not None:
            leave(self._file.close)
