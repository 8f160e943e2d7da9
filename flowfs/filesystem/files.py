"""Files as Python opens them: buffered for reading, and as text."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import IO, Any

from fsspec.compression import compr
from fsspec.core import get_compression

from flowfs.content import Reader, SharedReader
from flowfs.errors import FlowError
from flowfs.filesystem.writing import OutgoingFile
from flowfs.service.leftovers import RawFile

__all__ = ["GeneratedFile", "NamedReader", "ResultFile", "TextFile", "compressed"]


class NamedReader(RawFile):
    """A reader whose errors name the file as whoever opened it knows it.

    Parameters
    ----------
    reader : Reader or SharedReader
        Where the bytes come from.
    naming : callable
        Makes a context that names the errors raised in it.
    """

    def __init__(
        self, reader: Reader | SharedReader, naming: Callable[[], AbstractContextManager[None]]
    ) -> None:
        super().__init__()
        self._reader = reader
        self._naming = naming

    @property
    def size(self) -> int:
        """Bytes in the file; costs a request unless known."""
        with self._naming():
            return self._reader.size

    def readable(self) -> bool:
        """Files are read."""
        return True

    def seekable(self) -> bool:
        """Every place can be read."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._reader.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set where the next read begins."""
        with self._naming():
            return self._reader.seek(offset, whence)

    def expect(self, size: int) -> None:
        """Tell how many bytes are wanted in all by what is read next."""
        self._reader.wanted = size

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; 0 at the end."""
        try:
            return self._reader.readinto(buffer)
        except FlowError:  # entering a context each time would cost a third of all this
            with self._naming():
                raise

    def readall(self) -> bytes:
        """Read to the end."""
        with self._naming():
            return self._reader.readall()

    def _let_go(self) -> None:
        self._reader.close()


class ResultFile(io.BufferedReader):
    """A file of the service, open for reading.

    Parameters
    ----------
    reader : NamedReader
        Where its bytes come from.
    path : str
        Its path in the tree.
    block_size : int
        Bytes of the buffer that small reads are served from.

    Attributes
    ----------
    path : str
        Its path in the tree.
    size : int
        Its bytes; costs a request unless known.

    Notes
    -----
    For one thread at a time, but for those that seek before each read, as DuckDB's do: what a
    thread reads next is at the place to which it went itself, wherever others went meanwhile.
    """

    raw: NamedReader

    def __init__(self, reader: NamedReader, path: str, block_size: int) -> None:
        super().__init__(reader, block_size)
        self.path = path
        self._turn = threading.Lock()
        # By thread: where it went and has not read yet. By the kernel's number of it: Python
        # gives the one of a thread that has ended to the next one that begins.
        self._sought: dict[int, int] = {}

    @property
    def name(self) -> str:
        """Its path in the tree."""
        return self.path

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.raw.size

    def read(self, size: int | None = -1) -> bytes:
        """Read so many bytes; by default all that are left."""
        if not self._sought:  # nearly always: who reads on needs no turn
            # The buffer asks for blocks of its own size, whatever it is that is read.
            self.raw.expect(max(size or 0, 0))
            return super().read(size)
        with self._turn:
            self._go_where_sought()
            self.raw.expect(max(size or 0, 0))
            return super().read(size)

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer until it is full, or the file at its end."""
        if not self._sought:
            return super().readinto(buffer)
        with self._turn:
            self._go_where_sought()
            return super().readinto(buffer)

    # Each of those that read must know where to: one that did not would leave a place behind
    # that has been read already.

    def read1(self, size: int = -1) -> bytes:
        """Read so many bytes at most, with one request of the buffer's at most."""
        if not self._sought:
            return super().read1(size)
        with self._turn:
            self._go_where_sought()
            return super().read1(size)

    def readinto1(self, buffer: Any) -> int:
        """Read into a buffer, with one request of this one's at most."""
        if not self._sought:
            return super().readinto1(buffer)
        with self._turn:
            self._go_where_sought()
            return super().readinto1(buffer)

    def readline(self, size: int | None = -1) -> bytes:
        """Read a line, or so many bytes of it."""
        if not self._sought:
            return super().readline(size)
        with self._turn:
            self._go_where_sought()
            return super().readline(size)

    def peek(self, size: int = 0) -> bytes:
        """Return what is read next, or the beginning of it, and stay there."""
        if not self._sought:
            return super().peek(size)
        with self._turn:
            place = self._go_where_sought()
            data = super().peek(size)
            if place is not None:
                self._sought[threading.get_native_id()] = place
            return data

    def tell(self) -> int:
        """Return where this thread reads next."""
        with self._turn:
            place = self._sought.get(threading.get_native_id())
            return super().tell() if place is None else place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set where this thread reads next, and where all do that go nowhere themselves."""
        with self._turn:
            before = self._sought.get(threading.get_native_id())
            if whence == os.SEEK_CUR and before is not None:
                super().seek(before)
            place = super().seek(offset, whence)
            self._sought[threading.get_native_id()] = place
            return place

    def _go_where_sought(self) -> int | None:
        place = self._sought.pop(threading.get_native_id(), None)
        if place is None:
            # Whoever goes on from where others are reads what they read, and they what it reads.
            self._sought.clear()
        elif super().tell() != place:
            super().seek(place)
        return place


class GeneratedFile(io.BytesIO):
    """A file that flowfs makes, open for reading: one snapshot.

    Parameters
    ----------
    data : bytes
        All of it.
    path : str
        Its path in the tree.
    """

    def __init__(self, data: bytes, path: str) -> None:
        super().__init__(data)
        self.path = path
        self.name = path
        self.size: int = len(data)


class TextFile(io.TextIOWrapper):
    """A file as text.

    Where it is written, what an exception in its ``with`` body leaves behind is not sent:
    the file below sees to that, as to a file that is never closed.
    """

    @property
    def run(self) -> dict[str, Any] | None:
        """The handle of the run that was started or canceled; None before that."""
        return getattr(self.buffer, "run", None)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        # Not left to C: the file below looks for this frame.
        self.close()


def compressed(file: OutgoingFile, compression: str) -> OutgoingFile | CompressedFile:
    """Return a file that compresses what is written to another, and closes it with itself.

    Those of the standard library leave the other open, and what was written unsent.

    Parameters
    ----------
    file : OutgoingFile
        Where the compressed bytes go.
    compression : str
        As in fsspec; ``infer`` goes by the file's name.
    """
    name = get_compression(file.path, compression)
    if name is None:
        return file
    return CompressedFile(compr[name](file, mode="w"), file)


class CompressedFile(io.BufferedIOBase):
    """A file that is written through a compressor.

    Parameters
    ----------
    compressor : binary file
        What is written to.
    file : OutgoingFile
        Where the compressor writes.
    """

    def __init__(self, compressor: IO[bytes], file: OutgoingFile) -> None:
        super().__init__()
        self._compressor = compressor
        self._file = file
        self.path: str = file.path
        self.name: str = file.path

    @property
    def run(self) -> dict[str, Any] | None:
        """The handle of the run that was started or canceled; None before that."""
        return self._file.run

    def writable(self) -> bool:
        """It is written."""
        return True

    def write(self, data: Any) -> int:
        """Compress some bytes; nothing is sent yet."""
        self._compressor.write(data)
        return memoryview(data).nbytes

    def close(self) -> None:
        """Finish the compressed stream, and close the file it went to."""
        if self.closed:
            return
        super().close()
        try:
            self._compressor.close()
            self._file.close()
        except BaseException:
            self._file.abandon()  # the stream has no end; a transaction would send it
            raise

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None:
            self._file.abandon()
        self.close()

    def _dealloc_warn(self, source: Any) -> None:
        self._file._dealloc_warn(source)

    def __del__(self) -> None:
        file = self.__dict__.get("_file")
        if file is not None:
            file._dealloc_warn(self)
            # While the file below is there: the compressor writes its last bytes.
            with suppress(Exception):
                self.close()
