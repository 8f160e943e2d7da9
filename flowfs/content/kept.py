"""A file that never changes, kept as far as it was read: one download for many readers."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from typing import IO

from flowfs.content.fetching import Fetch, Fetching
from flowfs.content.shelf import Shelf
from flowfs.content.spans import Spans
from flowfs.errors import FlowError, again

__all__ = ["Kept"]

# Who wants bytes no further than this behind those that are there, or that are coming, has
# what is between read through: a request costs more, and the kernel's requests for what it
# reads ahead arrive in any order.
_AHEAD = 1 << 20  # bytes
# What a jump fetches at least; small reads that follow are served from it.
_BLOCK = 1 << 17  # bytes
_FETCHES = 4  # open replies for one file; each holds a connection, and a thread of the service
_CHUNK = 1 << 20  # bytes


class Kept:
    """Bytes of one file in a temporary file, fetched as far as they are asked for.

    Parameters
    ----------
    fetching : Fetching
        How bytes are fetched.
    size : int
        Bytes in the file.
    shelf : Shelf
        What says how much may be kept.

    Attributes
    ----------
    users, held : int
        As :class:`~flowfs.content.shelf.Item` has it.

    Notes
    -----
    Thread-safe. Who asks for bytes that are not there fetches them; others who want the same
    wait for that, and get what went wrong with it. Nobody else waits: no lock is held while
    bytes are fetched. Reading from front to back is one request; a jump fetches a block, and
    who reads on from there gets a stream again. What is there is never fetched anew, except
    for small parts between others.
    """

    def __init__(self, fetching: Fetching, size: int, shelf: Shelf) -> None:
        self.users = 0
        self.held = 0
        self._fetching = fetching
        self._size = size
        self._shelf = shelf
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._spans = Spans()
        self._fetches: list[Fetch] = []
        self._full = False

    @property
    def worth_keeping(self) -> bool:
        """Whether there is anything, and more can come."""
        return self.held > 0 and not self._full

    def read(self, start: int, size: int) -> bytes | None:
        """Return the bytes from `start` on, fewer than `size` only at the end of the file.

        Returns
        -------
        bytes or None
            None if they are not there, and there is no room to keep them: to be had from the
            service itself.

        Raises
        ------
        FlowError
            As the service says.
        """
        try:
            return self._read(start, min(start + size, self._size))
        except FlowError:
            raise
        except OSError:  # of the temporary file, whose bytes the service has as well
            self._full = True
            return None

    def _read(self, start: int, end: int) -> bytes | None:
        joined: Fetch | None = None
        try:
            while True:
                with self._lock:
                    missing = self._spans.missing(start, end)
                    if missing is None:
                        break
                    if joined is not None and joined.error is not None:
                        raise again(joined.error)
                    if self._full:
                        return None
                    fetch = self._fetch_for(missing, end)
                    if joined is not None and joined is not fetch:
                        joined.pass_on()
                    joined = fetch
                    arrival = fetch.take(end)
                if arrival is not None:
                    arrival.wait()
                    continue
                fetched = self._run(fetch, missing, end)
                if len(fetched) == end - missing:
                    return self._stored(start, missing) + fetched if start < missing else fetched
        finally:
            if joined is not None:
                with self._lock:
                    joined.pass_on()  # it may have been one's own turn
        return self._stored(start, end)

    def _fetch_for(self, missing: int, end: int) -> Fetch:
        """Return what brings a byte that is not there: what is under way, or something new."""
        near = [one for one in self._fetches if one.brings(missing, _AHEAD)]
        if near:
            return max(near, key=lambda one: one.at)
        idle = [one for one in self._fetches if not one.busy]
        if len(self._fetches) >= _FETCHES and idle:
            self._end(min(idle, key=lambda one: one.used))
        before = self._spans.end_before(missing)
        if missing - before <= _AHEAD:
            fetch = self._fetching.begin(before, self._size)
        else:
            fetch = self._fetching.begin(missing, min(self._size, max(end, missing + _BLOCK)))
        self._fetches.append(fetch)
        return fetch

    def _run(self, fetch: Fetch, start: int, end: int) -> bytes:
        """Fetch as far as `end`; return what came of it from `start` on."""
        pieces = []
        try:
            while fetch.at < min(end, fetch.until):
                piece = fetch.read(min(end - fetch.at, _CHUNK))
                kept = self._keep(fetch.at, piece)
                if fetch.at + len(piece) > start:
                    pieces.append(piece[max(0, start - fetch.at) :])
                with self._lock:
                    self._full |= not kept
                    fetch.arrived(len(piece))
        except BaseException as error:
            with self._lock:
                fetch.fail(error)
                self._end(fetch)
            raise
        with self._lock:
            fetch.busy = False
            if fetch.at >= fetch.until or self._full:
                self._end(fetch)
            else:
                fetch.pass_on()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _keep(self, start: int, data: bytes) -> bool:
        """Write bytes to the file; return whether they are there."""
        end = start + len(data)
        with self._lock:
            lacking = self._spans.lacking(start, end)
        if not lacking:
            return True
        if self._full or not self._shelf.reserve(self, lacking):
            return False
        written = 0
        try:
            with self._lock:
                if self._file is None:
                    self._file = self._shelf.room.file()
            view = memoryview(data)
            while written < len(data):
                written += os.pwrite(self._file.fileno(), view[written:], start + written)
        except OSError:  # no disk is so full that nothing could be read any more
            self._shelf.charge(self, -lacking)
            return False
        with self._lock:
            twice = lacking - self._spans.add(start, end)
        if twice:
            self._shelf.charge(self, -twice)
        return True

    def _stored(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        assert self._file is not None
        pieces = []
        while start < end:
            piece = os.pread(self._file.fileno(), end - start, start)
            if not piece:
                raise OSError(errno.EIO, "a temporary file has been cut off")
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _end(self, fetch: Fetch) -> None:
        with contextlib.suppress(ValueError):
            self._fetches.remove(fetch)
        fetch.close()

    def rest(self) -> None:
        """Close the replies that are open and that nobody reads now."""
        with self._lock:
            for fetch in [one for one in self._fetches if not one.busy]:
                self._end(fetch)

    def close(self) -> None:
        """Drop the bytes."""
        self.rest()
        with self._lock:
            if self._file is not None:
                self._file.close()
