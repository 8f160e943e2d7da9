"""Files that are written: a new run's arguments, a reason to cancel, an upload.

Each keeps what is written until it is closed, and acts once then. One that is discarded, or
left by an exception, acts not at all.
"""

from __future__ import annotations

import inspect
import io
import os
import shutil
import sys
import tempfile
import warnings
from abc import abstractmethod
from collections.abc import Callable
from types import FrameType
from typing import IO, Any

from flowfs.arguments.document import BLANKS
from flowfs.errors import InvalidArguments, TooLarge, failure

__all__ = ["CancelFile", "NewRunFile", "OutgoingFile", "StoredNameWarning", "UploadFile"]

_MAX_DOCUMENT = 1 << 26  # bytes of arguments; no sensible run has more
_BLANKS = BLANKS.encode()
_IN_MEMORY = 1 << 23  # bytes of an upload before it goes to a temporary file


class StoredNameWarning(UserWarning):
    """The service stored an upload under another name than asked for."""


class OutgoingFile(io.RawIOBase):
    """A file open for writing.

    Parameters
    ----------
    path : str
        Its path in the tree.
    url : str
        What errors name.
    autocommit : bool
        Whether to act when it is closed. Otherwise :meth:`commit` acts, or
        :meth:`discard` drops what was written: fsspec's transactions call one of them.

    Attributes
    ----------
    run : dict or None
        The handle of the run that was started or canceled, once that has happened.
    """

    run: dict[str, Any] | None = None

    def __init__(self, path: str, url: str, *, autocommit: bool = True) -> None:
        super().__init__()
        self.path = path
        self.url = url
        self.name = path
        self.mode = "wb"
        self._autocommit = autocommit
        self._settled = False
        self._raising = _raised_around()
        self._buffer: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            max_size=_IN_MEMORY, prefix="flowfs-"
        )

    @abstractmethod
    def _act(self, buffer: IO[bytes]) -> None:
        """Do what the file is for; `buffer` holds what was written, at its beginning."""

    def writable(self) -> bool:
        """It is written."""
        return True

    def seekable(self) -> bool:
        """What was written can be gone back to until the file is closed."""
        return True

    def write(self, data: Any) -> int:
        """Keep some bytes; nothing is sent yet."""
        self._check_open()
        view = memoryview(data).cast("B")
        self._buffer.write(view)
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to where the next write goes."""
        self._check_open()
        self._buffer.seek(offset, whence)
        return self._buffer.tell()

    def tell(self) -> int:
        """Return where the next write goes."""
        self._check_open()
        return self._buffer.tell()

    def truncate(self, size: int | None = None) -> int:
        """Cut off what was written."""
        self._check_open()
        size = self._buffer.tell() if size is None else size
        self._buffer.truncate(size)
        return size

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed file")

    def close(self) -> None:
        """Act, unless a transaction will, or what was written has been discarded.

        Raises
        ------
        FlowError
            As the service says. The file is closed all the same.
        """
        if self.closed:
            return
        super().close()
        if self._settled or _raised_around() is not self._raising:
            self.abandon()
        elif self._autocommit:
            self.commit()

    def commit(self) -> None:
        """Act on what was written; once."""
        if self._settled:
            return
        self._settled = True
        try:
            self._buffer.seek(0)
            self._act(self._buffer)
        finally:
            self._buffer.close()

    def discard(self) -> None:
        """Drop what was written, and close the file; nothing is sent."""
        self.abandon()
        super().close()

    def abandon(self) -> None:
        """Drop what was written; what is written yet, until it is closed, goes nowhere."""
        if not self._settled:
            self._settled = True
            self._buffer.close()
            self._buffer = _Void()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None:
            self.abandon()
        self.close()

    def _dealloc_warn(self, source: Any) -> None:
        """Abandon a file that was never closed: it may be half a document.

        Python calls this when it finalizes a text or buffered file over this one, before it
        flushes and closes it.
        """
        if not self._settled and self._autocommit:
            warnings.warn(
                f"{self.path} was never closed: nothing was sent",
                ResourceWarning,
                source=source,
                stacklevel=2,
            )
            self.abandon()

    def __del__(self) -> None:
        if "_buffer" in self.__dict__:  # else it was never made
            self._dealloc_warn(self)
            self.discard()


class _Void(io.BytesIO):
    """Where what is written after all is lost."""

    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


def _raised_around() -> BaseException | None:
    """Return what the nearest ``with`` that is being left for an exception was left for.

    Whoever is left closes its files and does not always tell them why: ``fsspec.open`` does
    not, nor does pandas. But their frames know.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__exit__":
            count = code.co_argcount
            given = [frame.f_locals.get(name) for name in code.co_varnames[:count]]
            if code.co_flags & inspect.CO_VARARGS:
                given += frame.f_locals.get(code.co_varnames[count + code.co_kwonlyargcount], ())
            error = given[2] if len(given) > 2 else None  # self, type, error, traceback
            if isinstance(error, BaseException):
                return error
        frame = frame.f_back
    return None


def check_document_size(size: int, where: str) -> None:
    """Raise TooLarge if arguments of a run have more bytes than are taken."""
    if size > _MAX_DOCUMENT:
        raise failure(TooLarge, f"arguments of over {_MAX_DOCUMENT >> 20} MiB start no run", where)


class NewRunFile(OutgoingFile):
    """``runs/new``: the arguments of a run, which starts when the file is closed.

    Parameters
    ----------
    path, url : str
        Where it is.
    start : callable
        Starts a run with the document given and returns its handle.
    autocommit : bool
        See :class:`OutgoingFile`.
    """

    def __init__(
        self,
        path: str,
        url: str,
        start: Callable[[bytes], dict[str, Any]],
        *,
        autocommit: bool = True,
    ) -> None:
        super().__init__(path, url, autocommit=autocommit)
        self._start = start

    def _act(self, buffer: IO[bytes]) -> None:
        document = buffer.read(_MAX_DOCUMENT + 1)
        check_document_size(len(document), self.url)
        if document.strip(_BLANKS):  # nothing else is a blank in JSON
            self.run: dict[str, Any] = self._start(document)


class CancelFile(OutgoingFile):
    """``cancel`` of a run: the reason, for which it is canceled when the file is closed.

    Blanks only: canceled without a reason. Nothing written: nothing happens.

    Parameters
    ----------
    path, url : str
        Where it is.
    cancel : callable
        Cancels the run for a reason or None and returns its handle.
    autocommit : bool
        See :class:`OutgoingFile`.
    """

    def __init__(
        self,
        path: str,
        url: str,
        cancel: Callable[[str | None], dict[str, Any]],
        *,
        autocommit: bool = True,
    ) -> None:
        super().__init__(path, url, autocommit=autocommit)
        self._cancel = cancel

    def _act(self, buffer: IO[bytes]) -> None:
        written = buffer.read(_MAX_DOCUMENT)
        if written:
            self.run: dict[str, Any] = self._cancel(reason_of(written, self.url))


def reason_of(written: bytes, path: str) -> str | None:
    """Return the reason that was written to ``cancel``; None for blanks only.

    Raises
    ------
    InvalidArguments
        If it is no UTF-8.
    """
    try:
        return written.decode("utf-8").strip() or None
    except UnicodeDecodeError as error:
        raise failure(InvalidArguments, f"the reason is no UTF-8: {error}", path) from None


class UploadFile(OutgoingFile):
    """``uploads/<name>``: sent when the file is closed.

    Parameters
    ----------
    path, url : str
        Where it is.
    send : callable
        Sends the file given, from its beginning.
    before : binary file, optional
        What is there already, to be appended to; closed here.
    autocommit : bool
        See :class:`OutgoingFile`.
    """

    def __init__(
        self,
        path: str,
        url: str,
        send: Callable[[IO[bytes]], None],
        *,
        before: IO[bytes] | None = None,
        autocommit: bool = True,
    ) -> None:
        super().__init__(path, url, autocommit=autocommit)
        self._send = send
        if before is not None:
            with before:
                shutil.copyfileobj(before, self._buffer, 1 << 20)

    def _act(self, buffer: IO[bytes]) -> None:
        self._send(buffer)
