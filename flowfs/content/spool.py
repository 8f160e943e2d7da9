"""A reply kept whole: one download, read by many and at any place."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from flowfs.content.room import Scratch, no_room
from flowfs.content.shelf import Shelf
from flowfs.disk import CachedArchive, Draft
from flowfs.errors import BadReply, FlowError, again, failure
from flowfs.service.body import Body
from flowfs.service.waits import Turn, apart

__all__ = ["Spool"]

_CHUNK = 1 << 20  # bytes


class Spool:
    """The bytes of one reply in a file, fetched as far as they are asked for.

    Parameters
    ----------
    file : CachedArchive, Draft, optional
        Where the bytes are, or are to be; by default in a temporary file.
    body : Body, optional
        The reply; closed when it has been read to its end. None: all of it is there.
    shelf : Shelf
        What counts the bytes. They are kept whatever there is room for: no other reply is like
        this one.
    finished : callable, optional
        Called when all of it is there: others find it from then on.

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

    def __init__(
        self,
        file: CachedArchive | Draft | None,
        body: Body | None,
        shelf: Shelf,
        finished: Callable[[], None] | None = None,
    ) -> None:
        self.users = 0
        self.held = 0
        self._shelf = shelf
        self._body = body
        self._length = None if body is None else body.length
        self._have = file.size if isinstance(file, CachedArchive) else 0
        self._finished = finished
        self._lasting = file is not None
        self._former: CachedArchive | Draft | Scratch | None = None
        self._failed: FlowError | None = None
        self._lock = Turn()
        try:
            self._file: CachedArchive | Draft | Scratch = file or Scratch(shelf.room)
        except OSError as error:
            if body is None:
                raise
            body.close()
            raise no_room(error, body.name) from None
        self.number: int = self._file.number

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
        """Whether all of it is here: what is not cannot be joined with another reply.

        What stays on disk is found there again.
        """
        return self.complete and not self._lasting

    def size(self) -> int:
        """Return how many bytes it has; reads to the end where the service did not say."""
        if self._length is None:
            self._come(None)
        return self._have if self._length is None else self._length

    def finish(self) -> None:
        """Fetch what is not there yet.

        Raises
        ------
        FlowError
            If the reply broke off.
        """
        self._come(None)

    def read(self, start: int, size: int) -> bytes:
        """Return up to `size` bytes from `start`; fewer only at the end.

        Raises
        ------
        FlowError
            If the reply broke off before.
        """
        if start + size > self._have:
            self._come(start + size)
        return os.pread(self._file.fd, max(0, min(size, self._have - start)), start)

    def _come(self, until: int | None) -> None:
        """Have so many bytes here, or all.

        Where whoever wants them leaves, what breaks off could not be joined with another reply:
        all others who read this would have lost it.
        """

        def fill() -> None:
            with self._lock:
                self._fill(until)

        apart(fill)

    def _fill(self, until: int | None) -> None:
        while self._body is not None and (until is None or self._have < until):
            try:
                piece = self._body.read(_CHUNK)
                if piece:
                    self._write(piece)
                elif not self._body.sure:
                    raise failure(
                        BadReply,
                        "the service does not say how large it is, and it may have broken off",
                        self._body.name,
                    )
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
                if self._finished is not None:
                    self._finished()
        if self._failed is not None and (until is None or self._have < until):
            raise again(self._failed)

    def _write(self, piece: bytes) -> None:
        self._shelf.charge(self, len(piece))
        assert not isinstance(self._file, CachedArchive)
        try:
            self._file.write(self._have, piece)
        except OSError:
            if isinstance(self._file, Scratch):
                raise
            self._go_on_without().write(self._have, piece)

    def _go_on_without(self) -> Scratch:
        """Return a temporary file with what is there, where it cannot be kept for others."""
        file, at = Scratch(self._shelf.room.elsewhere()), 0
        while at < self._have:
            piece = os.pread(self._file.fd, min(_CHUNK, self._have - at), at)
            if not piece:
                raise OSError(errno.EIO, "a file in the cache has been cut off")
            file.write(at, piece)
            at += len(piece)
        # Somebody may be reading it at this moment.
        self._former, self._file = self._file, file
        self._finished, self._lasting = None, False
        return file

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
        body = self._body
        if body is not None:
            body.interrupt()  # who has left may have it read on
        with self._lock:
            self._drop()
            self._file.close()
