"""Open files: a table of them, and those that are read."""

from __future__ import annotations

import itertools
import threading
from collections import deque

from flowfs.content import Reader
from flowfs.errors import BadReply, InvalidArguments, failure

__all__ = ["Handle", "Handles", "SnapshotHandle", "StreamHandle"]

# The kernel reads ahead with several requests at once, which arrive in any order. One that
# comes early is served by reading on, and what that passed is kept for those still to come.
_AHEAD = 1 << 20  # bytes
_KEPT = 1 << 22  # bytes


class Handle:
    """One open file.

    Parameters
    ----------
    path : str
        Its path in the tree.

    Attributes
    ----------
    size : int or None
        Bytes in it, where this handle knows better than its entry.
    direct_io : bool
        Whether reads and writes pass by the kernel's cache.
    """

    size: int | None = None
    direct_io = False

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, size: int, offset: int) -> bytes:
        """Return bytes; fewer than asked for only at the end."""
        raise failure(InvalidArguments, "was not opened for reading", self.path)

    def write(self, data: bytes, offset: int) -> int:
        """Take bytes and return how many."""
        raise failure(InvalidArguments, "was not opened for writing", self.path)

    def flush(self, process: int | None) -> None:
        """A descriptor was closed, by the process given (None: not known)."""

    def fsync(self) -> None:
        """Bring what was written to safety."""

    def release(self) -> None:
        """The last descriptor is gone. What is raised here, nobody sees."""


class SnapshotHandle(Handle):
    """A file made here, as it was when it was opened.

    Parameters
    ----------
    path : str
        Its path in the tree.
    data : bytes
        All of it.
    """

    def __init__(self, path: str, data: bytes) -> None:
        super().__init__(path)
        self.data = data
        self.size = len(data)

    def read(self, size: int, offset: int) -> bytes:
        """Return a part of it."""
        return self.data[offset : offset + size]


class StreamHandle(Handle):
    """A file of the service; from front to back it is one request.

    Parameters
    ----------
    path : str
        Its path in the tree.
    reader : Reader
        Where its bytes come from; closed here.
    """

    size: int

    def __init__(self, path: str, reader: Reader) -> None:
        super().__init__(path)
        self._reader = reader
        try:
            # Nobody may be told of a file that is open before its length is known.
            self.size = reader.size
        except BaseException:
            reader.close()
            raise
        self._lock = threading.Lock()
        self._window: deque[bytes] = deque()  # what was read last, without a gap
        self._start = self._end = 0  # of the window, in the file

    def read(self, size: int, offset: int) -> bytes:
        """Return a part of it.

        Raises
        ------
        BadReply
            If it ends before its length; a short read would be taken for its end.
        """
        end = min(offset + size, self.size)
        if end <= offset:
            return b""
        with self._lock:
            if not self._start <= offset <= self._end + _AHEAD:
                self._window.clear()
                self._start = self._end = self._reader.seek(offset)
            while self._end < end:
                piece = self._reader.read(end - self._end)
                if not piece:
                    raise failure(
                        BadReply, f"ends after {self._end} of {self.size} bytes", self.path
                    )
                self._window.append(piece)
                self._end += len(piece)
            data = self._cut(offset, end)
            while self._end - self._start - len(self._window[0]) >= _KEPT:
                self._start += len(self._window.popleft())
            return data

    def _cut(self, offset: int, end: int) -> bytes:
        # Most often it is the piece that came last.
        if self._end - len(self._window[-1]) == offset and self._end == end:
            return self._window[-1]
        parts, at = [], self._start
        for piece in self._window:
            if at + len(piece) > offset and at < end:
                parts.append(piece[max(0, offset - at) : end - at])
            at += len(piece)
        return b"".join(parts)

    def release(self) -> None:
        """Close it and its connection."""
        with self._lock:
            self._reader.close()


class Handles:
    """The files that are open, by the number that the kernel knows them by. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._open: dict[int, Handle] = {}
        self._by_path: dict[str, list[Handle]] = {}

    def add(self, handle: Handle) -> int:
        """Take a handle in and return its number."""
        with self._lock:
            number = next(self._numbers)
            self._open[number] = handle
            self._by_path.setdefault(handle.path, []).append(handle)
            return number

    def get(self, number: int) -> Handle:
        """Return the handle of that number."""
        return self._open[number]

    def remove(self, number: int) -> Handle:
        """Take a handle out."""
        with self._lock:
            handle = self._open.pop(number)
            others = self._by_path[handle.path]
            others.remove(handle)
            if not others:
                del self._by_path[handle.path]
            return handle

    def at(self, path: str) -> list[Handle]:
        """Return the handles of a file, the newest last."""
        with self._lock:
            return list(self._by_path.get(path, ()))

    def size(self, path: str) -> int | None:
        """Return the size that a file was last opened with, if it is open.

        fstat reaches a file system as a question about the path, without the handle.
        """
        sizes = [handle.size for handle in self.at(path) if handle.size is not None]
        return sizes[-1] if sizes else None
