"""A reply kept whole: one download, read by many and at any place."""

from __future__ import annotations

import itertools
import os
import threading
from typing import IO

from flowfs.content.room import no_room
from flowfs.content.shelf import Shelf
from flowfs.errors import FlowError, again, failure
from flowfs.service.body import Body

__all__ = ["Spool"]

_CHUNK = 1 << 20  # bytes
_numbers = itertools.count(1)


class Spool:
    """The bytes of one reply in a temporary file, fetched as far as they are asked for.

    Parameters
    ----------
    body : Body
        The reply; closed when it has been read to its end.
    shelf : Shelf
        What counts the bytes. They are kept whatever there is room for: no other reply is like
        this one.

    Attributes
    ----------
    users, held : int
        As :class:`~flowfs.content.shelf.Item` has it.
    number : int
        Tells it from every other reply.

    Raises
    ------
    FlowError
        If no file can be made for it.

    Notes
    -----
    Thread-safe. Who asks for bytes that are not there yet fetches them; others who want the
    same wait for that. Who wants what is there waits for nobody.
    """

    def __init__(self, body: Body, shelf: Shelf) -> None:
        self.users = 0
        self.held = 0
        self.number = next(_numbers)
        self._shelf = shelf
        self._body: Body | None = body
        self._length = body.length
        self._have = 0
        self._failed: FlowError | None = None
        self._lock = threading.Lock()
        try:
            self._file: IO[bytes] = shelf.room.file()
        except OSError as error:
            body.close()
            raise no_room(error, body.name) from None

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return self._body is None and self._failed is None

    @property
    def failed(self) -> bool:
        """Whether the rest can never come: the reply broke off."""
        return self._failed is not None

    @property
    def worth_keeping(self) -> bool:
        """Whether all of it is here: what is not cannot be joined with another reply."""
        return self.complete

    def size(self) -> int:
        """Return how many bytes it has; reads to the end where the service did not say."""
        if self._length is None:
            with self._lock:
                self._fill(None)
        return self._have if self._length is None else self._length

    def finish(self) -> None:
        """Fetch what is not there yet.

        Raises
        ------
        FlowError
            If the reply broke off.
        """
        with self._lock:
            self._fill(None)

    def read(self, start: int, size: int) -> bytes:
        """Return up to `size` bytes from `start`; fewer only at the end.

        Raises
        ------
        FlowError
            If the reply broke off before.
        """
        if start + size > self._have:
            with self._lock:
                self._fill(start + size)
        return os.pread(self._file.fileno(), max(0, min(size, self._have - start)), start)

    def _fill(self, until: int | None) -> None:
        while self._body is not None and (until is None or self._have < until):
            try:
                piece = self._body.read(_CHUNK)
                if piece:
                    self._write(piece)
            except FlowError as error:
                self._fail(error)
                break
            except OSError as error:
                self._fail(no_room(error, self._body.name))
                break
            except BaseException:  # an interrupt: what was read last is lost
                self._fail(failure(FlowError, "reading it was interrupted", self._body.name))
                raise
            self._have += len(piece)
            # Who knows how many bytes there are never reads beyond the last.
            if not piece or self._have == self._length:
                self._body.close()
                self._body = None
        if self._failed is not None and (until is None or self._have < until):
            raise again(self._failed)

    def _write(self, piece: bytes) -> None:
        self._shelf.charge(self, len(piece))
        view, written = memoryview(piece), 0
        while written < len(piece):
            written += os.pwrite(self._file.fileno(), view[written:], self._have + written)

    def _fail(self, error: FlowError) -> None:
        self._failed = error
        self._drop()

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def rest(self) -> None:
        """Do nothing: one that is kept is here, and holds no connection."""

    def close(self) -> None:
        """Drop the bytes and the connection."""
        with self._lock:
            self._drop()
            self._file.close()
