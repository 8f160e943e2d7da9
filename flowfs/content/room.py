"""Where bytes of files may be kept for a while, and how many."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import tempfile
from typing import IO

from flowfs.disk import put
from flowfs.errors import FlowError, failure

__all__ = ["Room", "Scratch", "check_hole", "no_room"]

_numbers = itertools.count(1)


class Room:
    """A directory for temporary files.

    A file made in it has no name: it is gone with whoever has it open, however that ends.

    Parameters
    ----------
    directory : str, optional
        Where; made, for its owner alone, if it is missing. By default the system's directory
        for temporary files.
    size : int
        Bytes that may be kept in all.

    Raises
    ------
    FlowError
        If no file can be made there.
    """

    def __init__(self, directory: str | None = None, size: int = 4 << 30) -> None:
        self.directory = directory
        self.size = size
        if directory is not None:
            try:
                os.makedirs(directory, mode=0o700, exist_ok=True)
                self._file(directory).close()
            except OSError as error:
                raise failure(
                    FlowError,
                    f"cannot keep temporary files there: {error.strerror}; "
                    "cache_dir must be a directory in which files can be made",
                    directory,
                    errno=error.errno,
                ) from None

    def file(self) -> IO[bytes]:
        """Make an empty file; OSError if that is not possible (now).

        Where the directory cannot be used any more it is the system's. Nothing is held back in
        memory: what was written without an error is there.
        """
        try:
            return self._file(self.directory)
        except OSError as error:
            if self.directory is not None:
                with contextlib.suppress(OSError):
                    return self._file(None)
            # Of a system without any such directory Python says so where it could not try one.
            if error.errno == errno.ENOENT:
                os.close(os.open(os.sep, os.O_RDONLY | os.O_CLOEXEC))
            raise

    @staticmethod
    def _file(directory: str | None) -> IO[bytes]:
        return tempfile.TemporaryFile(prefix="flowfs-", dir=directory, buffering=0)

    def elsewhere(self) -> Room:
        """Return one for what this has no room for: the system's directory."""
        return Room(None, self.size)


class Scratch:
    """A temporary file for some of the bytes of another; of this process alone.

    Parameters
    ----------
    room : Room
        Where it is made.

    Attributes
    ----------
    lasting : bool
        Whether it is there again after it was closed.
    fd : int
        Its descriptor.
    number : int
        Tells it from every other.
    found : tuple
        What :meth:`stamp` tells.

    Raises
    ------
    OSError
        If it cannot be made (now).
    """

    lasting = False
    found: tuple[int, ...] = ()

    def __init__(self, room: Room) -> None:
        self._file = room.file()
        self.fd: int = self._file.fileno()
        self.number: int = next(_numbers)

    def stamp(self) -> tuple[int, ...]:
        """Return what would be another if anybody else had written to it: nobody can."""
        return ()

    def claims(self, place: int) -> bool:
        """Tell whether somebody else says that a byte is there: nobody does."""
        return False

    def verify(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return spans that somebody else has written: none."""
        return []

    def write(self, start: int, data: bytes) -> None:
        """Write bytes; OSError if they cannot be written."""
        put(self.fd, start, data)

    def close(self) -> None:
        """Close it; its bytes are gone."""
        self._file.close()


def no_room(error: OSError, name: str | None) -> FlowError:
    """Return what to raise where a temporary file cannot be made, written or read."""
    text = f"cannot keep it in a temporary file: {error.strerror}"
    return failure(FlowError, text, name, errno=error.errno)


def check_hole(file: IO[bytes], size: int, name: str | None) -> None:
    """See that a temporary file may grow to a size with nothing written in between.

    A hole takes no room, but whoever is sent the file gets all of it.

    Parameters
    ----------
    file : binary file
        The file.
    size : int
        Bytes that it is to have.
    name : str or None
        What it is, for errors.

    Raises
    ------
    FlowError
        EFBIG, if there would be no room for it without holes.
    """
    there = os.fstatvfs(file.fileno())
    room = os.fstat(file.fileno()).st_blocks * 512 + there.f_bavail * there.f_frsize
    if there.f_blocks and size > room:  # some file systems do not tell
        raise failure(
            FlowError,
            f"cannot grow to {size} bytes: there is room for {room} where it is kept until it "
            "is sent",
            name,
            errno=errno.EFBIG,
        )
