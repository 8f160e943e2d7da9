"""Which bytes of a file were written, and their checksums: records behind one another.

A record is written after the bytes that it tells of, in one write. What is cut off, was
overwritten, or is of another file, is no record: it has a checksum of its own, into which the
name of the file goes.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Journal", "Record", "record", "records"]

_RECORD = struct.Struct("<QQII")  # start, end, checksum of the bytes, checksum of these three
_HEAD = struct.Struct("<QQI")
_MOST = 1 << 26  # bytes of records that are read, some 2,800,000: more nobody has written
_BIRTH = (1 << 64) - 1  # in the place of a start: the end is the number of the file


class Record(NamedTuple):
    """Bytes that are there.

    Attributes
    ----------
    start, end : int
        Where in the file.
    checksum : int
        CRC-32 of them.
    """

    start: int
    end: int
    checksum: int


def record(name: bytes, start: int, end: int, checksum: int) -> bytes:
    """Return a record of the file of that name as it is written."""
    own = zlib.crc32(_HEAD.pack(start, end, checksum), zlib.crc32(name))
    return _RECORD.pack(start, end, checksum, own)


def birth(name: bytes, number: int) -> bytes:
    """Return the record with which a file begins: its number, which no other has."""
    return record(name, _BIRTH, number, 0)


def records(name: bytes, data: bytes) -> Iterator[Record]:
    """Return the records in a journal, as far as they are whole, and of the file of that name."""
    seed = zlib.crc32(name)
    for start, end, checksum, own in _RECORD.iter_unpack(data[: len(data) - len(data) % SIZE]):
        if own == zlib.crc32(_HEAD.pack(start, end, checksum), seed):
            yield Record(start, end, checksum)


SIZE = _RECORD.size


def _writable(fd: int) -> bool:
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


class Journal:
    """The journal of one file, open to be read and added to. Not thread-safe.

    Parameters
    ----------
    fd : int
        Open for reading and appending; closed here.
    name : bytes
        Of the file, which no other has.

    Attributes
    ----------
    number : int or None
        Of the file; None where the journal does not begin as one.
    in_step : bool
        Whether what is added can be read: no record was cut off, and there are not too many.
    tells : bool
        Whether it told of any bytes when it was opened.
    """

    def __init__(self, fd: int, name: bytes) -> None:
        self._fd = fd
        self._name = name
        size = os.fstat(fd).st_size
        if not size and _writable(fd):
            # Two may do so at the same time: the first one counts.
            size = os.write(fd, birth(name, int.from_bytes(os.urandom(8), "little")))
        self.in_step: bool = size % SIZE == 0 and size < _MOST
        self.tells: bool = size > SIZE
        first = next(records(name, os.pread(fd, SIZE, 0)), None)
        self.number: int | None = first.end if first is not None and first.start == _BIRTH else None
        self._read = SIZE

    def news(self) -> list[Record]:
        """Return what was added by others since this was last asked."""
        told: list[Record] = []
        while self._read < _MOST and (data := os.pread(self._fd, SIZE << 12, self._read)):
            whole = len(data) - len(data) % SIZE
            if not whole:
                break
            self._read += whole
            found = records(self._name, data[:whole])
            told.extend(one for one in found if one.start != _BIRTH)
        return told

    def add(self, start: int, end: int, checksum: int) -> bool:
        """Add a record; False where that is not possible any more."""
        entry = record(self._name, start, end, checksum)
        try:
            if os.write(self._fd, entry) != SIZE:
                return False  # a disk that is full: what follows would be out of step
            # Where nobody else has added something there is no need to read one's own again.
            if os.lseek(self._fd, 0, os.SEEK_CUR) == self._read + SIZE:
                self._read += SIZE
        except OSError:
            return False
        return True

    def __del__(self) -> None:
        os.close(self._fd)
