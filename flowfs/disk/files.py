"""Files that are kept as far as they were read, by several processes at once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
import zlib
from bisect import bisect_right, insort
from collections.abc import Callable

from flowfs.disk.allowance import Allowance
from flowfs.disk.directory import name_in_cache, open_own, stamp_of
from flowfs.disk.journal import Journal, Record
from flowfs.disk.pieces import put
from flowfs.disk.telling import Teller

__all__ = ["CachedFile", "held"]

_TRIES = 100
_QUIET = 0.02  # seconds; what comes more slowly than that is told of at once
_LONGEST = 1 << 26  # bytes that one record may tell of; more are not written
_OVERLAPPING = 8  # records that are looked at for one byte


class CachedFile:
    """The bytes of one file that never changes, as far as anybody has read it.

    Parameters
    ----------
    path : str
        Where.
    size : int
        Bytes in the file.
    allowance : Allowance
        How many bytes may be written.
    teller : Teller
        Tells others of what is written.
    directory : callable
        Makes the directory that the file is to be in.

    Attributes
    ----------
    lasting : bool
        Whether it is there again after it was closed.
    fd : int
        Of the bytes. What no record tells of is nothing.
    number : int
        Tells it from every file that was there before.
    found : tuple of int
        What :meth:`stamp` would have told before it was opened.

    Raises
    ------
    OSError
        If it cannot be had.

    Notes
    -----
    Thread-safe. As long as this object is there, no process removes the file to make room;
    when nobody refers to it any more, it is closed.
    """

    lasting = True

    def __init__(
        self,
        path: str,
        size: int,
        allowance: Allowance,
        teller: Teller,
        directory: Callable[[], None],
    ) -> None:
        self.fd: int = held(path, directory)
        self.found: tuple[int, ...] = self.stamp()
        self._size = size
        self._allowance = allowance
        self._teller = teller
        self._written = float("-inf")
        self._lock = threading.Lock()
        self._claims: list[Record] = []  # what others say they have written, by start
        self._checking = threading.Lock()
        self._good: set[Record] = set()  # of the claims
        self._writes = True
        self._journal = _journal(path + ".j", self.fd)
        assert self._journal.number is not None
        self.number: int = self._journal.number
        with contextlib.suppress(OSError):
            os.utime(self.fd)  # it is used now

    def stamp(self) -> tuple[int, ...]:
        """Return what is another once anybody has written to the file, or used it."""
        return stamp_of(self.fd)

    def claims(self, place: int) -> bool:
        """Tell whether somebody else says that a byte is there."""
        with self._lock:
            for one in self._journal.news():
                if one.start < one.end <= min(self._size, one.start + _LONGEST):
                    insort(self._claims, one)
            return self._covering(place) is not None

    def verify(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return spans that are there as they were written, as far as they follow each other.

        Parameters
        ----------
        start, end : int
            Where they are wanted.
        """
        good: list[tuple[int, int]] = []
        while start < end:
            # Who wants other bytes of the same record waits, and need not look again.
            with self._checking:
                with self._lock:
                    one = self._covering(start)
                if one is None:
                    break
                if one in self._good or self._checksum(one) == one.checksum:
                    self._good.add(one)
                    good.append((one.start, one.end))
                    start = one.end
                else:
                    with self._lock:
                        self._claims.remove(one)
        return good

    def _covering(self, place: int) -> Record | None:
        at = bisect_right(self._claims, (place, 1 << 64))
        for one in reversed(self._claims[max(0, at - _OVERLAPPING) : at]):
            if place < one.end:
                return one
        return None

    def _checksum(self, one: Record) -> int | None:
        with contextlib.suppress(OSError):
            data = os.pread(self.fd, one.end - one.start, one.start)
            if len(data) == one.end - one.start:
                return zlib.crc32(data)
        return None

    def write(self, start: int, data: bytes | memoryview) -> None:
        """Write bytes, and tell others of them: at once, or later if one follows the other.

        Raises
        ------
        OSError
            If they cannot be written, or there is no room for them.
        """
        if not self._allowance.take(len(data)):
            raise OSError(errno.ENOSPC, "the cache is full of what is being read")
        put(self.fd, start, data)
        now = time.monotonic()
        quiet, self._written = now - self._written > _QUIET, now
        if quiet:
            self._add(start, data)
        else:
            self._teller.later(self, start, start + len(data))

    def tell(self, start: int, end: int) -> None:
        """Tell others of bytes that were written."""
        with contextlib.suppress(OSError):
            data = os.pread(self.fd, end - start, start)
            if len(data) == end - start:
                self._add(start, data)

    def _add(self, start: int, data: bytes | memoryview) -> None:
        checksum = zlib.crc32(data)
        with self._lock:
            if self._writes:
                self._writes = self._journal.add(start, start + len(data), checksum)

    def close(self) -> None:
        """Do nothing: it is closed when nobody refers to it, who may be reading it, any more."""

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


def held(path: str, directory: Callable[[], None] | None = None) -> int:
    """Open a file that nobody removes as long as it is open.

    Parameters
    ----------
    path : str
        Which.
    directory : callable, optional
        Makes the directory that it is in; without it, the file must be there.

    Raises
    ------
    OSError
        If that is not possible.
    """
    flags = os.O_RDWR | (os.O_CREAT if directory else 0)
    for _ in range(_TRIES):
        try:
            fd = open_own(path, flags)
        except FileNotFoundError:
            if directory is None:
                raise
            directory()
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd
        except BlockingIOError:  # it is being removed
            time.sleep(0.001)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise OSError(errno.EAGAIN, "is removed again and again", path)


def _journal(path: str, fd: int) -> Journal:
    """Open the journal of a file that is held; one that is none, or another's, is begun anew."""
    name = name_in_cache(path.removesuffix(".j"))
    for _ in range(_TRIES):
        journal = Journal(open_own(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), name)
        # Bytes are written before they are told of: an empty file has taken another's place.
        others = journal.tells and not os.fstat(fd).st_size
        if journal.number is not None and journal.in_step and not others:
            return journal
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    raise OSError(errno.EIO, "is no journal", path)
