"""Open files: a table of them, and those that are read."""

from __future__ import annotations

import errno
import itertools
import threading

from flowfs.content import SharedFile
from flowfs.errors import BadReply, FlowError, InvalidArguments, NotFound, failure

__all__ = ["Handle", "Handles", "SnapshotHandle", "StreamHandle"]


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
    shows : object
        Equal for handles of one path that show the same bytes; None where that is no matter.
    """

    size: int | None = None
    direct_io = False
    shows: object = None

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, size: int, offset: int) -> bytes:
        """Return bytes; fewer than asked for only at the end."""
        raise failure(InvalidArguments, "was not opened for reading", self.path)

    def read_into(self, buffer: memoryview, offset: int) -> int | None:
        """Fill a buffer as far as the file goes, and return how far; None: to be read instead.

        Nothing is waited for, and nothing raised.
        """
        return None

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
        self.size: int = len(data)

    def read(self, size: int, offset: int) -> bytes:
        """Return a part of it."""
        return self.data[offset : offset + size]


class StreamHandle(Handle):
    """A file of the service; what it fetches, all who have it open share.

    Parameters
    ----------
    path : str
        Its path in the tree.
    file : SharedFile
        Where its bytes come from; closed here.
    """

    size: int

    def __init__(self, path: str, file: SharedFile) -> None:
        super().__init__(path)
        self._file = file
        # Nobody may be told of a file that is open before its length is known.
        self.size = file.size
        self.shows: tuple[object, ...] = file.identity

    def read(self, size: int, offset: int) -> bytes:
        """Return a part of it.

        Raises
        ------
        FlowError
            If it has been deleted meanwhile and the part is not held: ESTALE.
        BadReply
            If it ends before its length; a short read would be taken for its end.
        """
        wanted = max(0, min(size, self.size - offset))
        try:
            data = self._file.read(offset, wanted)
        except NotFound as error:
            raise failure(
                FlowError,
                f"has been deleted since it was opened ({error.strerror})",
                self.path,
                errno=errno.ESTALE,
            ) from error
        if len(data) < wanted:
            raise failure(
                BadReply, f"ends after {offset + len(data)} of {self.size} bytes", self.path
            )
        return data

    def read_into(self, buffer: memoryview, offset: int) -> int | None:
        """Fill a buffer with what is here by now."""
        return self._file.read_into(buffer[: max(0, self.size - offset)], offset)

    def release(self) -> None:
        """Close it; what was fetched is kept for the next."""
        self._file.close()


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
            others = self._by_path.get(handle.path, [])
            if handle in others:  # unless its file has been removed
                others.remove(handle)
                if not others:
                    del self._by_path[handle.path]
            return handle

    def removed(self, path: str) -> None:
        """Take note that a file has lost its name; who has it open goes on with it."""
        with self._lock:
            self._by_path.pop(path, None)

    def renamed(self, old: str, new: str) -> None:
        """Take note that a file has another name, which what had it before has lost."""
        with self._lock:
            self._by_path.pop(new, None)
            handles = self._by_path.pop(old, [])
            for handle in handles:
                handle.path = new
            if handles:
                self._by_path[new] = handles

    def at(self, path: str) -> list[Handle]:
        """Return the handles of a file, the newest last."""
        with self._lock:
            return list(self._by_path.get(path, ()))

    def size(self, path: str) -> int | None:
        """Return the size that a file was last opened with, if it is open.

        fstat reaches a file system as a question about the path, without the handle.
        """
        if path not in self._by_path:
            return None
        sizes = [handle.size for handle in self.at(path) if handle.size is not None]
        return sizes[-1] if sizes else None
