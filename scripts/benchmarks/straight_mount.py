"""A mount of one file that goes straight from the service to the kernel: nothing is kept of it.

The least that a mount in Python can do, and so the bound for all that it does more. It can be read
once, from front to back, and no error is dealt with. As a program::

    python straight_mount.py BINDING URL TOKEN DIRECTORY
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

__all__ = ["NAME", "straight_mount"]

#: Of the one file in it.
NAME = "large.bin"

_PIECE = 1 << 20  # bytes that are received at once
_PIECES = 16  # so many of them are in memory
_BEHIND = 3  # so many stay, for what the kernel asks for out of turn


class _Stream:
    """One reply, received ahead of who reads it, into memory that is used again and again."""

    def __init__(self, url: str, token: str) -> None:
        where = urlsplit(url)
        self._connection = HTTPConnection(where.hostname or "", where.port)
        self._request = (where.path, {"api_key": token})
        self._changed = threading.Condition()
        self._pieces = [memoryview(bytearray(_PIECE)) for _ in range(_PIECES)]
        self._come = self._read = 0
        self._drained = threading.Event()
        self._begun = False
        self._connection.request("HEAD", where.path, headers=self._request[1])
        reply = self._connection.getresponse()
        reply.read()
        self.size = int(reply.headers["Content-Length"])

    def read_into(self, buffer: memoryview, at: int) -> int:
        """Fill a buffer with the bytes from a place on, and return how many there were."""
        end, done = min(self.size, at + len(buffer)), 0
        if self._come < end:
            with self._changed:
                if not self._begun:
                    self._begun = True
                    threading.Thread(target=self._receive, daemon=True).start()
                self._changed.wait_for(lambda: self._come >= end)
        while at < end:
            piece, within = self._pieces[at // _PIECE % _PIECES], at % _PIECE
            count = min(end - at, _PIECE - within)
            buffer[done : done + count] = piece[within : within + count]
            at, done = at + count, done + count
        self._read = max(self._read, end)
        if self._come - self._read < _PIECE * _PIECES // 2:
            self._drained.set()
        return done

    def _receive(self) -> None:
        path, headers = self._request
        self._connection.request("GET", path, headers=headers)
        file = self._connection.getresponse().fp
        while self._come < self.size:
            while self._come - self._read > (_PIECES - _BEHIND) * _PIECE:
                self._drained.clear()
                self._drained.wait(0.1)
            piece = self._pieces[self._come // _PIECE % _PIECES]
            wanted, got = min(_PIECE, self.size - self._come), 0
            while got < wanted:
                more = file.readinto(piece[got:wanted])
                if not more:
                    os._exit(1)  # the mount is dead, and who reads it gets an error
                got += more
            with self._changed:
                self._come += got
                self._changed.notify_all()


def main(binding: str, url: str, token: str, directory: str) -> None:
    """Mount the file and serve it until the mount ends."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, os.path.dirname(here))
    from benchmarks.memory_mount import in_memory, options_of

    module = import_module({"fusepy": "fuse", "mfusepy": "mfusepy"}[binding])
    stream = _Stream(url, token)

    class Straight(module.FUSE):  # type: ignore[misc, name-defined]
        # Past what the bindings do for each read: into libfuse's own memory, without a copy.
        def read(self, path: Any, buffer: Any, size: int, offset: int, info: Any) -> int:
            place = (ctypes.c_char * size).from_address(ctypes.addressof(buffer.contents))
            return stream.read_into(memoryview(place).cast("B"), offset)

    operations = in_memory(binding, {NAME: range(stream.size)})
    Straight(operations, directory, raw_fi=True, foreground=True, **options_of(module))


@contextlib.contextmanager
def straight_mount(
    url: str, token: str, binding: str = "fusepy", library: str | None = None
) -> Iterator[Any]:
    """Mount a file of a service that is received once, by one request, and kept nowhere.

    Parameters
    ----------
    url, token : str
        The file, and what lets one read it.
    binding : {"fusepy", "mfusepy"}
        By which binding.
    library : {"fuse", "fuse3"}, optional
        What mfusepy loads.

    Yields
    ------
    Mount
    """
    from benchmarks.mounts import served

    environment = {} if library is None else {"FUSE_LIBRARY_NAME": library}
    command = [sys.executable, os.path.abspath(__file__), binding, url, token, "{mount}"]
    with served(command, environment) as mount:
        yield mount


if __name__ == "__main__":
    main(*sys.argv[1:])
