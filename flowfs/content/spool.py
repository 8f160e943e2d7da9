"""A reply kept whole: one download, read by many and at any place."""

from __future__ import annotations

import threading
from typing import IO

from flowfs.content.room import Room
from flowfs.errors import FlowError, again, failure
from flowfs.service.body import Body

__all__ = ["Spool"]

_CHUNK = 1 << 20  # bytes


class Spool:
    """The bytes of one reply in a temporary file, fetched as far as they are asked for.

    Parameters
    ----------
    body : Body
        The reply; closed when it has been read to its end.
    room : Room
        Where its file is made.

    Attributes
    ----------
    users : int
        How many readers it has; counted by who hands it out.

    Notes
    -----
    Thread-safe. Who asks for bytes that are not there yet fetches them; others who want the
    same wait for that.
    """

    def __init__(self, body: Body, room: Room) -> None:
        self._body: Body | None = body
        self._length = body.length
        self._file: IO[bytes] = room.file()
        self._have = 0
        self.users = 0
        self._failed: FlowError | None = None
        self._lock = threading.Lock()

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return self._body is None and self._failed is None

    @property
    def failed(self) -> bool:
        """Whether the rest can never come: the reply broke off."""
        return self._failed is not None

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
        with self._lock:
            self._fill(start + size)
            self._file.seek(start)
            return self._file.read(size)

    def _fill(self, until: int | None) -> None:
        while self._body is not None and (until is None or self._have < until):
            try:
                piece = self._body.read(_CHUNK)
                if piece:
                    self._file.seek(self._have)
                    self._file.write(piece)
                    self._file.flush()
            except FlowError as error:
                self._fail(error)
                break
            except OSError as error:
                text = f"cannot keep it in a temporary file: {error.strerror}"
                self._fail(failure(FlowError, text, self._body.name, errno=error.errno))
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

    def _fail(self, error: FlowError) -> None:
        self._failed = error
        if self._body is not None:
            self._body.close()
            self._body = None

    def close(self) -> None:
        """Drop the bytes and the connection."""
        with self._lock:
            if self._body is not None:
                self._body.close()
                self._body = None
            self._file.close()
