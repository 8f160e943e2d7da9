"""A file of the service, open for several readers that share what is fetched of it."""

from __future__ import annotations

import threading

from flowfs.content.fetching import Fetching
from flowfs.content.kept import Kept
from flowfs.content.reader import Reader
from flowfs.content.source import Source
from flowfs.content.spool import Spool
from flowfs.content.store import Store
from flowfs.content.window import Window
from flowfs.service.body import Body

__all__ = ["SharedFile"]


class SharedFile:
    """Reads one file at given places, from threads, and together with all others who do.

    What one of them fetches, all have: front to back, however many read, is one request. It
    stays in a temporary file until others need the room. A file larger than all the room, or
    one for which there is none, is streamed by each for itself.

    Parameters
    ----------
    store : Store
        What is kept, and where to keep more.
    source : Source
        The file. Its size is asked for unless it is known; an archive is asked for at once.
    body : Body, optional
        A reply with all of it, which tells the size and is read to where anybody wants it.
    ahead : bool
        Whether a thread of its own fetches on ahead of who reads from front to back. Not where
        a process may fork.

    Attributes
    ----------
    size : int
        Bytes in the file.
    identity : tuple
        The same for what has the same bytes: of an archive, only as long as it is kept.

    Raises
    ------
    FlowError
        As the service says.
    """

    def __init__(
        self, store: Store, source: Source, body: Body | None = None, *, ahead: bool = False
    ) -> None:
        self._store = store
        self._ahead = ahead
        self._source = source
        self.identity: tuple[object, ...] = source.key
        self._lock = threading.Lock()
        self._window: Window | None = None
        self._kept: Kept | None = None
        self._small: bytes | None = None
        self._spool: Spool | None = store.spool(source) if source.whole else None
        if self._spool is not None:
            self.identity = (*source.key, self._spool.number)
            try:
                self.size: int = self._spool.size()
            except BaseException:
                store.release(source, self._spool)
                raise
            return
        size = store.size(source)
        assert size is not None
        self.size = size
        # A small file that came along with its size is read from there, and kept nowhere else.
        self._small = store.small(source)
        if self._small is None and size <= store.room.size:
            kept = Kept(
                Fetching(store, source, size),
                size,
                store.shelf,
                source.key,
                lambda: store.file(source, size),
            )
            self._kept = store.shelf.take(source.key, kept)
            if ahead and self._kept is not None:
                self._kept.follow()
            if body is not None and self._kept is kept:
                kept.offer(body)
                body = None
        if body is not None:  # somebody else has begun to read it, or it is too large to keep
            body.close()

    def read(self, start: int, size: int) -> bytes:
        """Return bytes; fewer than asked for only at the end.

        Raises
        ------
        FlowError
            As the service says.
        """
        size = max(0, min(size, self.size - start))
        if self._spool is not None:
            return self._spool.read(start, size)
        small = self._store.small(self._source) if self._small is None else self._small
        if small is not None:
            return small[start : start + size]
        data = None if self._kept is None else self._kept.read(start, size)
        return self._alone(start, size) if data is None else data

    def read_into(self, buffer: memoryview, start: int) -> int | None:
        """Fill a buffer with what was fetched already; None if that is not all there.

        Nobody is asked, nothing is waited for, and nothing raised: what is not there is to be
        read with :meth:`read`. No more is wanted than the file has.
        """
        return None if self._kept is None else self._kept.read_into(buffer, start)

    def _alone(self, start: int, size: int) -> bytes:
        with self._lock:
            if self._window is None:
                self._window = Window(Reader(self._store, self._source))
        return self._window.read(start, size)

    def close(self) -> None:
        """Tell that nobody reads it here any more."""
        with self._lock:
            if self._window is not None:
                self._window.close()
        if self._kept is not None:
            if self._ahead:
                self._kept.leave()
            self._store.shelf.release(self._source.key, self._kept)
            self._kept = None
        if self._spool is not None:
            self._store.release(self._source, self._spool)
            self._spool = None
