"""A reply's body as a file that streams."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import IncompleteRead

from flowfs.errors import BadReply, FlowError, failure
from flowfs.service.interruption import Stopped
from flowfs.service.leftovers import RawFile
from flowfs.service.waits import interruptible, is_serving

if TYPE_CHECKING:
    from flowfs.service.deadline import Watch
    from flowfs.service.sending import Reply

__all__ = ["Body"]

_MAX_PAGE = 1 << 16  # bytes; also what is read at once of a body whose end nobody knows
# What is read at once of a body that is wanted whole: one that lies about its length makes
# nobody run out of memory.
_AT_ONCE = 1 << 28  # bytes
_DIGITS = 18  # of a length: with more it would be larger than any file


class Body(RawFile):
    """The bytes of one reply, read as they come.

    Parameters
    ----------
    response : Reply
        Opened with ``stream=True``; closed with this file.
    translate : callable
        Makes a :class:`~flowfs.errors.FlowError` of what the network raises.
    path : str or None
        What it is, for errors.
    watch : Watch, optional
        What can end it; released with this file.
    received : callable, optional
        Told of the bytes that came, piece by piece.

    Attributes
    ----------
    length : int or None
        Bytes in this body, when the service says so.
    start : int
        Where in the whole file the first byte of this body stands; not 0 in a reply to a
        ranged request that was honoured.
    total : int or None
        Bytes in the whole file, when known.
    sure : bool
        Whether its end can be told from a break: it has a length, or comes in chunks.

    Notes
    -----
    A range past the end of the file (416) is an empty body.

    ``read(n)`` returns `n` bytes unless the body ends; a body that ends before its
    announced length raises :class:`~flowfs.errors.BadReply`, so a short file is never
    mistaken for a whole one.

    A body of known length that is sent as it is goes from the connection to where it is
    wanted without a copy in between.
    """

    def __init__(
        self,
        response: Reply,
        translate: Callable[[BaseException], FlowError],
        path: str | None,
        watch: Watch | None = None,
        received: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__()
        self._received = received
        self._watch = watch
        self._response = response
        self._translate = translate
        self._path = path
        self._got = 0
        headers = response.headers
        self._encoded = headers.get("Content-Encoding", "identity").lower() != "identity"
        self.length = None if self._encoded else _number(headers.get("Content-Length"))
        self.start: int = 0
        self.total = self.length
        told = _number(headers.get("Content-Length")) is not None
        self.sure: bool = told or bool(getattr(response.raw, "chunked", False))
        if response.status_code == 206:
            self.start, self.total = self._content_range(headers.get("Content-Range", ""))
        elif response.status_code == 416:  # past the end: ``bytes */<size>``
            self.length, self.total = 0, _number(headers["Content-Range"].rpartition("/")[2])
            if self.total is None:
                self.close()
                raise failure(
                    BadReply, "nothing is there, and the reply does not say how much is", path
                )
            self.start = self.total
            with contextlib.suppress(Exception):  # read, so that the connection is kept
                response.raw.read(_MAX_PAGE)
            response.close()
        self._plain = self._as_it_is()

    def _as_it_is(self) -> http.client.HTTPResponse | None:
        """Return what to read from where the bytes that are sent are the body's, and no others."""
        plain = getattr(self._response.raw, "_original_response", None)
        if not isinstance(plain, http.client.HTTPResponse) or plain.chunked:
            return None
        if self._encoded or self.length is None or self.length != plain.length:
            return None
        if plain.isclosed():  # it is empty, and nobody will read it
            self._response.raw.release_conn()
        return plain

    def _content_range(self, value: str) -> tuple[int, int | None]:
        unit, _, rest = value.strip().partition(" ")
        span, _, total = rest.partition("/")
        first, _, last = span.partition("-")
        start, end, size = _number(first), _number(last), _number(total)
        if (
            unit != "bytes"
            or start is None
            or end is None
            or not start <= end < (end + 1 if size is None else size)
        ):
            self.close()
            raise failure(
                BadReply, f"a partial reply without a usable Content-Range: {value!r}", self._path
            )
        if self.length is None:
            self.length = end - start + 1
        if self.length != end - start + 1:
            self.close()
            raise failure(
                BadReply, f"a partial reply of {self.length} bytes says {value!r}", self._path
            )
        return start, size

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("the service did not say how long this body is")
        return self.length

    def __bool__(self) -> bool:
        return True

    @property
    def name(self) -> str | None:
        """What it is: the path or id that was asked for."""
        return self._path

    def readable(self) -> bool:
        """Bodies are read, front to back."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer` what :meth:`read` would return; 0 bytes at the end."""
        view = memoryview(buffer).cast("B")
        if self._plain is None:
            data = self.read(len(view))
            view[: len(data)] = data
            return len(data)
        wanted = self._wanted(len(view))
        if wanted:
            self._count(self._fetched(self._plain.readinto, view[:wanted]), wanted)
        return wanted

    def read(self, size: int | None = -1) -> bytes:
        """Read `size` bytes, fewer only at the end; all that is left by default."""
        if size is None or size < 0:
            return self.readall()
        pieces: list[bytes] = []
        while size > 0:
            data = self._some(size)
            if not data:
                break
            pieces.append(data)
            size -= len(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read1(self, size: int) -> bytes:
        """Read up to `size` bytes, those that have come; waits for some, none at the end."""
        if self._plain is None:
            return self._some(min(size, _MAX_PAGE))
        wanted = self._wanted(size)
        if not wanted:
            return b""
        data: bytes = self._fetched(self._plain.read1, wanted)
        self._count(len(data), 1)
        return data

    def readall(self) -> bytes:
        """Read all that is left."""
        pieces = []
        while data := self._some(1 << 20 if self._plain is None else _AT_ONCE):
            pieces.append(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _some(self, size: int) -> bytes:
        if self._plain is not None:
            wanted = self._wanted(size)
            if not wanted:
                return b""
            data: bytes = self._fetched(self._plain.read, wanted)
            self._count(len(data), wanted)
            return data
        if self.closed:
            raise ValueError("read of a closed body")
        if size <= 0 or self._response.status_code == 416:
            return b""
        data = self._fetched(self._response.raw.read, size, decode_content=self._encoded)
        # An end that nobody announced, or one before the length that was.
        self._count(len(data), 0 if data or self.length is None else self.length - self._got)
        return data

    def _wanted(self, size: int) -> int:
        """Return how many of so many bytes a body of known length still has."""
        if self.closed:
            raise ValueError("read of a closed body")
        assert self.length is not None
        return max(0, min(size, self.length - self._got))

    def _fetched(self, read: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what a call brings that reads from the connection."""
        if not is_serving() or self._watch is None:
            return self._brought(read, *args, **kwargs)
        with interruptible() as batch:
            if batch is not None:
                batch.add(self._watch)
            got = self._brought(read, *args, **kwargs)
            if batch is not None:
                batch.end(self._watch)
        if batch is not None and batch.stopped:
            self.close()  # its connection has been shut down
            raise Stopped
        return got

    def _brought(self, read: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            got = read(*args, **kwargs)
        except BaseException as error:  # an interrupt, too, may have lost some bytes
            self.close()
            if not isinstance(error, Exception):
                raise
            raise self._translate(error) from error
        if self._watch is not None and self._watch.cut:  # this end of it is our own doing
            self.close()
            raise self._translate(TimeoutError())
        return got

    def _count(self, got: int, wanted: int) -> None:
        """Count bytes that came, of those that must have come; let the connection go at the end."""
        self._got += got
        if self._received is not None:
            self._received(got)
        if got < wanted:
            assert self.length is not None
            left = self.length - self._got
            self.close()
            raise self._translate(IncompleteRead(self._got, left))
        if self._plain is not None and self._got == self.length:
            self._plain.close()  # http.client sees to that in newer versions only
            self._response.raw.release_conn()

    def interrupt(self) -> None:
        """Have who reads it now, in another thread, get an error at once."""
        if self._watch is not None:
            self._watch.interrupt()

    def _let_go(self) -> None:
        # Its connection is kept if the body was read to its end.
        self._response.close()
        if self._watch is not None:
            self._watch.release()


def _number(text: str | None) -> int | None:
    """Return a number of bytes as a header has it; None for what is none, or no file has."""
    if text is None or not text.isdecimal() or len(text) > _DIGITS:
        return None
    return int(text)
