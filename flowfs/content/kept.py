"""A file that never changes, kept as far as it was read: one download for many readers."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable

from flowfs.content.fetching import Fetch, Fetching
from flowfs.content.room import Scratch
from flowfs.content.shelf import Shelf
from flowfs.content.spans import Spans
from flowfs.disk import CachedFile
from flowfs.errors import FlowError, again
from flowfs.service.body import Body
from flowfs.service.waits import wait

__all__ = ["Kept"]

# Who wants bytes no further than this behind those that are there, or that are coming, has
# what is between read through: a request costs more, and the kernel's requests for what it
# reads ahead arrive in any order.
_AHEAD = 1 << 20  # bytes
# What a jump fetches at least; small reads that follow are served from it.
_BLOCK = 1 << 17  # bytes
# Who has read so much from one place on gets a thread that reads on ahead.
_STEADY = 1 << 20  # bytes
_PIECE = 1 << 19  # bytes that it takes at once
_IDLE = 1.0  # seconds after which it ends if nobody follows
_FETCHES = 4  # open replies for one file; each holds a connection, and a thread of the service
_CHUNK = 1 << 20  # bytes


class Kept:
    """Bytes of one file on disk, fetched as far as they are asked for.

    Parameters
    ----------
    fetching : Fetching
        How bytes are fetched.
    size : int
        Bytes in the file.
    shelf : Shelf
        What says how much may be kept.
    key : tuple of str
        Under which the shelf has it.
    open_file : callable, optional
        Opens the file that they are kept in, which others may have filled, in this process or
        another; by default it is a temporary one.

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

    def __init__(
        self,
        fetching: Fetching,
        size: int,
        shelf: Shelf,
        key: tuple[str, ...],
        open_file: Callable[[], CachedFile | Scratch] | None = None,
    ) -> None:
        self.users = 0
        self.held = 0
        self._fetching = fetching
        self._size = size
        self._shelf = shelf
        self._key = key
        self._readers = 0  # of those who want to be read ahead for
        self._lock = threading.Lock()
        self._open_file = open_file or (lambda: Scratch(shelf.room))
        self._file: CachedFile | Scratch | None = None
        self._number: int | None = None
        self._stamp: tuple[int, ...] = ()  # of the file when it was closed here
        self._spans = Spans()  # what is there, as far as it is known to be good
        self._fetches: list[Fetch] = []
        self._full = False

    @property
    def worth_keeping(self) -> bool:
        """Whether there is anything, and more can come."""
        return bool(self._spans) and not self._full

    def offer(self, body: Body) -> None:
        """Take a reply with all of the file that somebody has asked for; before any reading."""
        with self._lock:
            self._fetches.append(self._fetching.begin(0, self._size, body))

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
        except OSError:  # of the file here, whose bytes the service has as well
            self._full = True
            return None

    def read_into(self, buffer: memoryview, start: int) -> int | None:
        """Fill a buffer with the bytes from `start` on, all of which the file has.

        Returns
        -------
        int or None
            How many; None if not all of them are here, or can be read now. Nobody is asked,
            and nothing is waited for.
        """
        size = buffer.nbytes
        with self._lock:
            file = self._file
            if file is None or self._spans.missing(start, start + size) is not None:
                return None
            for fetch in self._fetches:
                fetch.follow(start + size)
        try:
            return size if os.preadv(file.fd, [buffer], start) == size else None
        except OSError:
            return None

    def _read(self, start: int, end: int) -> bytes | None:
        joined: Fetch | None = None
        arrival: threading.Event | None = None
        try:
            while True:
                with self._lock:
                    file = self._opened()
                    missing = self._spans.missing(start, end)
                    if missing is None:
                        for fetch in self._fetches:
                            fetch.follow(end)
                        break
                    claimed = file.claims(missing)
                    if not claimed:
                        if joined is not None and joined.error is not None:
                            raise again(joined.error)
                        if self._full:
                            return None
                        fetch = self._fetch_for(missing, end)
                        if joined is not None and joined is not fetch:
                            joined.pass_on()
                        joined = fetch
                        arrival = fetch.take(end)
                if claimed:
                    self._take_in(file, file.verify(missing, end))
                    continue
                if arrival is not None:
                    wait(arrival.wait)
                    continue
                fetched = self._run(fetch, missing, end)
                if len(fetched) == end - missing:
                    before = self._stored(file, start, missing)
                    return before + fetched if before else fetched
        finally:
            if joined is not None:
                with self._lock:
                    joined.give_up(arrival)
        return self._stored(file, start, end)

    def _opened(self) -> CachedFile | Scratch:
        """Return the file; the lock is held."""
        if self._file is None:
            file = self._open_file()
            # It has been removed since, and begun anew; or somebody has used it meanwhile, and
            # what is told of it is looked through once more.
            if file.number != self._number or file.found != self._stamp:
                self._spans = Spans()
                self._number = file.number
                self._shelf.charge(self, -self.held)
            self._file = file
        return self._file

    def _take_in(self, file: CachedFile | Scratch, spans: list[tuple[int, int]]) -> None:
        """Note what others have written, and is good."""
        with self._lock:
            if self._file is file:
                for start, end in spans:
                    self._spans.add(start, end)

    def _fetch_for(self, missing: int, end: int) -> Fetch:
        """Return what brings a byte that is not there: what is under way, or something new."""
        going = [one for one in self._fetches if not one.stopped]
        near = [one for one in going if one.brings(missing, _AHEAD)]
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
            leads = self._is_to_lead(fetch)
            if not leads:
                self._let_go(fetch)
        if leads:
            self._begin_leading(fetch)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _let_go(self, fetch: Fetch) -> None:
        """Let others read on, if there is anything left; the lock is held."""
        fetch.busy = False
        if fetch.at >= fetch.until or self._full or fetch.stopped:
            self._end(fetch)
        else:
            fetch.pass_on()

    # -- reading ahead -----------------------------------------------------

    def follow(self) -> None:
        """Have what is read from place to place fetched ahead, until :meth:`leave`."""
        with self._lock:
            self._readers += 1

    def leave(self) -> None:
        """End what :meth:`follow` began; with the last who leaves, nothing is fetched ahead."""
        with self._lock:
            self._readers -= 1
            if not self._readers:
                for fetch in self._fetches:
                    if fetch.led:
                        fetch.stop()

    def _is_to_lead(self, fetch: Fetch) -> bool:
        steady = fetch.until == self._size and fetch.at - fetch.since >= _STEADY
        return steady and self._readers > 0 and fetch.until > fetch.at and not self._full

    def _begin_leading(self, fetch: Fetch) -> None:
        self._shelf.hold(self)  # it is not dropped before the thread has ended
        fetch.led = True
        thread = threading.Thread(
            target=self._lead, args=(fetch,), name="flowfs-reading-ahead", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # there are too many threads
            self._end_leading(fetch)

    def _lead(self, fetch: Fetch) -> None:
        """Fetch ahead of who reads from place to place, as long as anybody does."""
        try:
            while self._is_followed(fetch):
                piece = fetch.read_ahead(min(fetch.goal - fetch.at, _PIECE))
                kept = self._keep(fetch.at, piece)
                with self._lock:
                    self._full |= not kept
                    fetch.arrived(len(piece))
        except BaseException as error:  # who waits for it hears of it, and nobody else
            with self._lock:
                fetch.fail(error)
                self._end(fetch)
        finally:
            self._end_leading(fetch)

    def _is_followed(self, fetch: Fetch) -> bool:
        """Wait until somebody follows; return whether there is something to fetch for them."""
        while True:
            with self._lock:
                if fetch.stopped or self._full or fetch.at >= fetch.until:
                    return False
                if fetch.at < fetch.goal:
                    return self._is_wanted(fetch)
                fetch.wake.clear()
            if not fetch.wake.wait(_IDLE):
                return False

    def _is_wanted(self, fetch: Fetch) -> bool:
        """Tell whether what comes next is not here by now; the lock is held."""
        missing = self._spans.missing(fetch.at, fetch.goal)
        if missing is not None and missing <= fetch.at + _AHEAD:
            return True
        fetch.stopped = not self._fetching.from_the_front
        return not fetch.stopped

    def _end_leading(self, fetch: Fetch) -> None:
        with self._lock:
            fetch.led = False
            fetch.since = fetch.at
            if fetch in self._fetches:
                self._let_go(fetch)
        self._shelf.release(self._key, self)

    # -- bytes -------------------------------------------------------------

    def _keep(self, start: int, data: bytes) -> bool:
        """Write bytes to the file; return whether they are there."""
        end = start + len(data)
        with self._lock:
            lacking = self._spans.lacking(start, end)
        if not lacking:
            return True
        if self._full or not self._shelf.reserve(self, lacking):
            return False
        try:
            with self._lock:
                file = self._opened()
            file.write(start, data)
        except OSError:  # no disk is so full that nothing could be read any more
            self._shelf.charge(self, -lacking)
            return False
        with self._lock:
            new = self._spans.add(start, end) if self._file is file else 0
            twice = lacking - new
        if twice:
            self._shelf.charge(self, -twice)
        return True

    def _stored(self, file: CachedFile | Scratch, start: int, end: int) -> bytes:
        pieces = []
        while start < end:
            piece = os.pread(file.fd, end - start, start)
            if not piece:
                raise OSError(errno.EIO, "a file in the cache has been cut off")
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _end(self, fetch: Fetch) -> None:
        with contextlib.suppress(ValueError):
            self._fetches.remove(fetch)
        fetch.close()

    def rest(self) -> None:
        """Close the replies that are open and that nobody reads now, and the file."""
        with self._lock:
            for fetch in [one for one in self._fetches if not one.busy]:
                self._end(fetch)
            # Who reads it just now holds it until he is done.
            if self._file is not None and self._file.lasting and not self.users:
                with contextlib.suppress(OSError):
                    self._stamp = self._file.stamp()
                self._file = None

    def close(self) -> None:
        """Drop the bytes."""
        self.rest()
        with self._lock:
            if self._file is not None:
                self._file.close()
