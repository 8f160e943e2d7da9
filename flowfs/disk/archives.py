"""Archives: kept whole or not at all, since no two replies are alike."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable

from flowfs.disk.allowance import Allowance
from flowfs.disk.directory import is_own, name_in_cache, open_own, stamp_of
from flowfs.disk.files import held
from flowfs.disk.journal import Journal, Record, birth, record
from flowfs.disk.pieces import put

__all__ = ["CachedArchive", "Draft", "size_of"]

_PIECE = 1 << 20  # bytes that have a checksum of their own


class CachedArchive:
    """An archive that is there, every byte of it as it was written.

    Parameters
    ----------
    path : str
        Where.
    verified : tuple of int, optional
        What :meth:`stamp` told of the archive that was found good before: if nobody has used it
        since, it is not looked through again.

    Attributes
    ----------
    fd : int
        Of the bytes.
    size : int
        How many.
    number : int
        Tells it from every other archive.

    Raises
    ------
    OSError
        If it is not there, or not good.
    """

    def __init__(self, path: str, verified: tuple[int, ...] | None = None) -> None:
        self.fd: int = held(path)
        self.size: int = os.fstat(self.fd).st_size
        self.number: int
        self.number, told = _told(path, self.size)
        if self.stamp() != verified:
            for one in told:
                data = os.pread(self.fd, one.end - one.start, one.start)
                if len(data) != one.end - one.start or zlib.crc32(data) != one.checksum:
                    raise OSError("has been damaged")
        with contextlib.suppress(OSError):
            os.utime(self.fd)  # it is used now

    def stamp(self) -> tuple[int, ...]:
        """Return what is another once anybody has written to the file, or used it."""
        return self.number, *stamp_of(self.fd)

    def close(self) -> None:
        """Do nothing: it is closed when nobody refers to it, who may be reading it, any more."""

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


def size_of(path: str) -> int | None:
    """Return the bytes of an archive that is there, as far as that can be told without reading it.

    None if it is not, or not whole.
    """
    try:
        status = os.lstat(path)
        if not is_own(status):
            return None
        _told(path, status.st_size)
    except OSError:
        return None
    return status.st_size


def _told(path: str, size: int) -> tuple[int, list[Record]]:
    """Return the number of an archive, and what its journal tells, which must be all of it."""
    journal = Journal(open_own(path + ".j", os.O_RDONLY), name_in_cache(path))
    if journal.number is None:
        raise OSError("is no journal")
    told, at = journal.news(), 0
    for one in told:
        if one.start != at or not at <= one.end <= at + _PIECE:
            raise OSError("is no whole archive")
        at = one.end
    if at != size:
        raise OSError("is no whole archive")
    return journal.number, told


class Draft:
    """An archive that is on its way; nobody else finds it before it is whole.

    Parameters
    ----------
    path : str
        Where it is to be.
    allowance : Allowance
        What counts the bytes.
    directory : callable
        Makes the directory that it is to be in.

    Attributes
    ----------
    fd, number : int
        As of the archive that it becomes.

    Raises
    ------
    OSError
        If it cannot be begun.
    """

    def __init__(self, path: str, allowance: Allowance, directory: Callable[[], None]) -> None:
        self.number: int = int.from_bytes(os.urandom(8), "little")
        self._path = path
        self._part = f"{path}.{self.number:016x}.part"
        self._allowance = allowance
        self._name = name_in_cache(path)
        self._journal = [birth(self._name, self.number)]
        self._at = self._start = 0
        self._checksum = 0
        self._owner = os.getpid()
        self.fd: int = held(self._part, directory)

    def write(self, start: int, data: bytes) -> None:
        """Add bytes, each behind the last. There is room for them, whatever else has to go.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        assert start == self._at
        self._allowance.take(len(data))
        view = memoryview(data)
        while view:
            piece = view[: _PIECE - (self._at - self._start)]
            put(self.fd, self._at, piece)
            self._checksum = zlib.crc32(piece, self._checksum)
            self._at += len(piece)
            if self._at - self._start == _PIECE:
                self._record()
            view = view[len(piece) :]

    def _record(self) -> None:
        self._journal.append(record(self._name, self._start, self._at, self._checksum))
        self._start, self._checksum = self._at, 0

    def finish(self) -> None:
        """Let others find it: it is whole.

        Raises
        ------
        OSError
            If that is not possible.
        """
        if self._at > self._start:
            self._record()
        told = self._part + ".j"
        with open(told, "xb") as file:
            file.write(b"".join(self._journal))
        for part, whole in ((told, self._path + ".j"), (self._part, self._path)):
            if os.path.isdir(whole):  # which a file does not replace
                os.rmdir(whole)
            os.rename(part, whole)
        self._part = ""

    def stamp(self) -> tuple[int, ...]:
        """Return what the archive that it has become tells."""
        return self.number, *stamp_of(self.fd)

    def close(self) -> None:
        """Do nothing: it is closed when nobody refers to it, who may be reading it, any more."""

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            if self._part and os.getpid() == self._owner:  # and no fork of it
                with contextlib.suppress(OSError):
                    os.unlink(self._part)
            os.close(self.fd)
