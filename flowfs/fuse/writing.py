"""``new`` and ``cancel``, open for writing: what is written acts as soon as it is whole."""

from __future__ import annotations

import errno
from typing import Any, cast

from flowfs.arguments import Scanner, State
from flowfs.errors import FlowError, InvalidArguments, TooLarge, again, describe, failure
from flowfs.filesystem import FlowFileSystem
from flowfs.filesystem.rendering import pretty_json
from flowfs.filesystem.writing import check_document_size, reason_of
from flowfs.fuse.handles import Handle
from flowfs.service.interruption import Stopped
from flowfs.service.waits import Turn
from flowfs.tree import Node

__all__ = ["ActingHandle", "CancelHandle", "NewRunHandle", "process_of"]

_BLANKS = b" \t\r\n"
_MAX_REASON = 1 << 20  # bytes


def process_of(thread: int) -> int | None:
    """Return the process that a thread belongs to; None if that cannot be told."""
    try:
        with open(f"/proc/{thread}/status", "rb") as file:
            for line in file:
                if line.startswith(b"Tgid:"):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass  # gone already, or in a namespace that we do not see
    return None


class ActingHandle(Handle):
    """A file that acts on what is written to it, once.

    Parameters
    ----------
    fs : FlowFileSystem
        Where to act.
    node : Node
        Its place.
    opener : int or None
        The process that opened it.
    append : bool
        Whether it was opened with O_APPEND: then every write is at the end, wherever the
        kernel takes that to be.
    """

    direct_io = True

    def __init__(
        self, fs: FlowFileSystem, node: Node, *, opener: int | None = None, append: bool = False
    ) -> None:
        super().__init__(node.path)
        self._fs = fs
        self._node = node
        self._opener = opener
        self._append = append
        self._lock = Turn()
        self._written = 0
        self._error: FlowError | None = None
        self._reply: bytes | None = None
        self._reply_at: int | None = None

    def read(self, size: int, offset: int) -> bytes:
        """Return the run's handle once it has acted; it begins wherever reading begins.

        Who reads on after writing is at the place where the writing ended.
        """
        with self._lock:
            if self._reply is None:
                return b""
            if self._reply_at is None or offset < self._reply_at:
                self._reply_at = offset
            return self._reply[offset - self._reply_at :][:size]

    def write(self, data: bytes, offset: int) -> int:
        """Take bytes, and act if they make it whole."""
        with self._lock:
            if self._error is not None:
                raise self._error  # it has been tried, and is not tried again
            if self._reply is not None:
                self._check_blank(data)
                return len(data)
            if offset != self._written and not self._append:
                raise failure(
                    InvalidArguments,
                    f"written at {offset}, not at its end ({self._written}): "
                    "write it from front to back",
                    self.path,
                )
            self._written += len(data)
            self._take(data)
            return len(data)

    def truncate(self, length: int) -> None:
        """Accept what changes nothing: rsync cuts a file off where it has ended writing.

        Raises
        ------
        InvalidArguments
            If it is another length.
        """
        with self._lock:
            if length not in (0, self._written):
                raise failure(InvalidArguments, f"cannot be {length} bytes long", self.path)

    def _check_blank(self, data: bytes) -> None:
        raise NotImplementedError

    def _take(self, data: bytes) -> None:
        raise NotImplementedError


class NewRunHandle(ActingHandle):
    """``runs/new``: a run starts in the write that makes the document whole.

    An error of `write` is seen by everybody, one of `close` by few. Whatever is refused is
    kept for ``new.error``.
    """

    def __init__(
        self, fs: FlowFileSystem, node: Node, *, opener: int | None = None, append: bool = False
    ) -> None:
        super().__init__(fs, node, opener=opener, append=append)
        self._group_id = fs.entries.group_id(node)
        self._scanner = Scanner()
        self._run: dict[str, Any] | None = None

    def write(self, data: bytes, offset: int) -> int:
        """Take bytes, and start the run if they make the document whole.

        Raises
        ------
        InvalidArguments
            If they can never become one document, or follow one that started a run.
        FlowError
            As the service says to the start.
        """
        try:
            return super().write(data, offset)
        except FlowError as error:
            if self._error is None or error.strerror != self._error.strerror:
                self._refuse(error)
            raise

    def _take(self, data: bytes) -> None:
        try:
            check_document_size(self._written, self.path)
        except FlowError as error:
            self._error = error
            self._refuse(error)
            raise
        progress = self._scanner.feed(data)
        if progress.state is State.INVALID:
            self._error = failure(InvalidArguments, progress.message, self.path)
            self._refuse(self._error)
            raise self._error
        if progress.state is State.COMPLETE:
            try:
                self._run = self._fs.start_run(self._group_id, self._scanner.text)
            except FlowError as error:
                self._error = _once(error)  # the catalog has kept it already
                raise
            except Stopped:  # before it was sent
                message = "interrupted; nothing has started"
                early = failure(FlowError, message, self.path, errno=errno.EINTR)
                self._error = _once(early)
                self._refuse(early)
                raise early from None
            except BaseException as error:
                # Whatever it was: a run may have started, and this file starts no other.
                self._error = failure(
                    FlowError, f"a run may have started: {describe(error)}", self.path
                )
                raise
            self._reply = pretty_json(self._run)

    def _check_blank(self, data: bytes) -> None:
        if data.strip(_BLANKS):
            started = self._run["id"] if self._run else "?"
            raise failure(
                InvalidArguments,
                f"run {started} has been started already; open the file again for another one",
                self.path,
            )

    def flush(self, process: int | None) -> None:
        """Refuse half a document that the process which opened the file leaves behind.

        A child that inherits the file closes it too, between two pieces perhaps: that of
        ``{ cat a; cat b; } > new`` does.
        """
        with self._lock:
            if process is not None and process == self._opener and self._incomplete():
                raise self._refuse_half()

    def release(self) -> None:
        """Keep it for ``new.error`` that half a document came; nothing has started."""
        with self._lock:
            if self._incomplete():
                self._refuse_half()

    def _incomplete(self) -> bool:
        return self._error is None and self._scanner.progress.state is State.INCOMPLETE

    def _refuse_half(self) -> FlowError:
        error = failure(InvalidArguments, self._scanner.progress.message, self.path)
        self._refuse(error)
        return error

    def _refuse(self, error: FlowError) -> None:
        error.filename = self._fs.unstrip_protocol(self.path)
        self._fs.catalog.refused(self._group_id, error)


class CancelHandle(ActingHandle):
    """``cancel``: the run is canceled at the first newline, else when it is closed.

    Blanks only are no reason; nothing written cancels nothing.
    """

    def __init__(
        self, fs: FlowFileSystem, node: Node, *, opener: int | None = None, append: bool = False
    ) -> None:
        super().__init__(fs, node, opener=opener, append=append)
        self._run_id = fs.entries.run_id(node)
        self._reason = bytearray()

    def _take(self, data: bytes) -> None:
        self._reason += data
        if len(self._reason) > _MAX_REASON:
            self._error = failure(TooLarge, f"a reason of over {_MAX_REASON >> 20} MiB", self.path)
            raise self._error
        if b"\n" in data:
            self._act()

    def _act(self) -> None:
        try:
            handle = self._fs.cancel_run(self._run_id, reason_of(bytes(self._reason), self.path))
        except FlowError as error:
            self._error = error
            raise
        except Stopped as stopped:
            came = "the run may have been canceled" if stopped.unclear else "nothing was asked for"
            cut = failure(FlowError, f"interrupted; {came}", self.path, errno=errno.EINTR)
            self._error = _once(cut)
            raise cut from None
        self._reply = pretty_json(handle)

    def _check_blank(self, data: bytes) -> None:
        if data.strip(_BLANKS):
            raise failure(InvalidArguments, "the run has been canceled already", self.path)

    def flush(self, process: int | None) -> None:
        """Cancel, if something was written and the process that opened the file closes it."""
        with self._lock:
            if process is None or self._opener is None or process == self._opener:
                self._act_if_due()

    def release(self) -> None:
        """Cancel, if something was written and nobody has been told of it yet."""
        with self._lock:
            self._act_if_due()

    def _act_if_due(self) -> None:
        if self._written and self._reply is None and self._error is None:
            self._act()


def _once(error: FlowError) -> FlowError:
    """Return what is said again of something that is not tried again.

    Who is told EINTR a second time would go on trying for ever.
    """
    if error.errno != errno.EINTR:
        return error
    said = cast(FlowError, again(error))
    said.errno = errno.ECANCELED
    return said
