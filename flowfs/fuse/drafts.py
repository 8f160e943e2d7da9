"""``uploads/``: files that are being written, kept here and sent as a whole."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
import time
from typing import IO

from flowfs.errors import FlowError
from flowfs.filesystem import FlowFileSystem
from flowfs.fuse.handles import Handle
from flowfs.names import from_name
from flowfs.tree import Node

__all__ = ["Draft", "DraftHandle", "Drafts"]

logger = logging.getLogger("flowfs.mount")

_CHUNK = 1 << 20  # bytes


class Draft:
    """An upload as it is being written, in a temporary file.

    All who have it open share it. What was there before is fetched only when it is needed:
    a file is most often emptied first.

    Parameters
    ----------
    fs : FlowFileSystem
        Where to send it.
    node : Node
        Its place.

    Attributes
    ----------
    size : int or None
        Bytes in it; None as long as it is what the service has.
    mtime : float
        When it was last changed, in seconds since the epoch.
    users : int
        How many handles it has; counted by :class:`Drafts`.
    """

    def __init__(self, fs: FlowFileSystem, node: Node) -> None:
        self.node = node
        self.size: int | None = None
        self.mtime = time.time()
        self.users = 0
        self._fs = fs
        self._lock = threading.RLock()
        self._file: IO[bytes] | None = None
        self._changed = False  # the next flush sends it
        self._emptied = False  # emptied or new, and not written since: sent at the last
        self._error: FlowError | None = None
        self._discarded = False

    def read(self, size: int, offset: int) -> bytes:
        """Return a part of it."""
        with self._lock:
            file = self._content()
            file.seek(offset)
            return file.read(size)

    def write(self, data: bytes, offset: int | None) -> int:
        """Put bytes at a place; None: at its end."""
        with self._lock:
            file = self._content()
            at = self.size or 0 if offset is None else offset
            file.seek(at)
            file.write(data)
            self._change(max(self.size or 0, at + len(data)))
            return len(data)

    def truncate(self, length: int) -> None:
        """Cut it off, or fill it up with zeros."""
        with self._lock:
            if length == 0:
                self._replace(tempfile.TemporaryFile(prefix="flowfs-"))  # noqa: SIM115
                self.size, self._changed, self._emptied = 0, False, True
                self._error, self.mtime = None, time.time()
                return
            file = self._content()
            if length != self.size:
                file.truncate(length)
                self._change(length)

    def flush(self) -> None:
        """Send it if it was written since it was last sent.

        Emptied is not written: a shell empties a file, closes one descriptor of it, and only
        then writes.

        Raises
        ------
        FlowError
            As the service says; said again until something is written.
        """
        with self._lock:
            if self._changed:
                self._send()
            elif self._error is not None:
                raise self._error

    def settle(self) -> None:
        """Send whatever no flush has sent.

        Raises
        ------
        FlowError
            As the service says.
        """
        with self._lock:
            if self._changed or self._emptied:
                self._send()

    def drop(self) -> None:
        """Drop the temporary file."""
        with self._lock:
            self._replace(None)

    def discard(self) -> None:
        """Send nothing any more: the file has been removed."""
        with self._lock:
            self._discarded = True

    def _change(self, size: int) -> None:
        self.size, self._changed, self._emptied = size, True, False
        self._error, self.mtime = None, time.time()

    def _content(self) -> IO[bytes]:
        if self._file is None:
            file: IO[bytes] = tempfile.TemporaryFile(prefix="flowfs-")  # noqa: SIM115
            try:
                size = 0
                if self._fs.entries.exists(self.node):
                    source = self._fs.entries.source(self.node)
                    assert source is not None
                    with self._fs.content.open(source) as reader:
                        while piece := reader.read(_CHUNK):
                            size += file.write(piece)
            except BaseException:
                file.close()
                raise
            self._file, self.size = file, size
        return self._file

    def _replace(self, file: IO[bytes] | None) -> None:
        if self._file is not None:
            self._file.close()
        self._file = file

    def _send(self) -> None:
        self._changed = self._emptied = False
        if self._discarded:
            return
        file = self._content()
        file.flush()
        file.seek(0)
        fs, name = self._fs, self.node.names["upload"]
        raw_name = from_name(name) or name
        try:
            record = fs.catalog.upload_file(fs.entries.group_id(self.node), name, raw_name, file)
        except FlowError as error:
            error.filename = fs.unstrip_protocol(self.node.path)
            self._error = error
            raise
        if record.stored != raw_name:
            logger.warning(
                "the service stored %r as %r; both names find it here, only the second is listed",
                raw_name,
                record.stored,
            )
        with contextlib.suppress(FlowError):
            source = fs.entries.source(self.node)
            if source is not None and self.size is not None:
                fs.content.learn_size(source, self.size)


class DraftHandle(Handle):
    """An upload that is open for writing, or for reading while another writes it.

    Parameters
    ----------
    drafts : Drafts
        Whom to tell when it is closed.
    draft : Draft
        What it is of.
    append : bool
        Whether every write goes to the end.
    """

    def __init__(self, drafts: Drafts, draft: Draft, *, append: bool = False) -> None:
        super().__init__(draft.node.path)
        self._drafts = drafts
        self._draft = draft
        self._append = append

    def read(self, size: int, offset: int) -> bytes:
        """Return a part of it."""
        return self._draft.read(size, offset)

    def write(self, data: bytes, offset: int) -> int:
        """Put bytes at a place; nothing is sent yet."""
        return self._draft.write(data, None if self._append else offset)

    def flush(self, process: int | None) -> None:
        """Send it, if it was written."""
        self._draft.flush()

    def fsync(self) -> None:
        """Send it, if it was written."""
        self._draft.flush()

    def release(self) -> None:
        """Send what no flush has sent, with the last handle."""
        self._drafts.close(self._draft)


class Drafts:
    """The uploads that are open for writing, by path. Thread-safe.

    Parameters
    ----------
    fs : FlowFileSystem
        Where to send them.
    """

    def __init__(self, fs: FlowFileSystem) -> None:
        self._fs = fs
        self._lock = threading.Lock()
        self._drafts: dict[str, Draft] = {}

    def peek(self, path: str) -> Draft | None:
        """Return the draft of a file if it is open for writing."""
        return self._drafts.get(path)

    def below(self, path: str) -> list[str]:
        """Return the names of the files in a directory that are open for writing."""
        with self._lock:
            split = [p.rpartition("/") for p, d in self._drafts.items() if d.size is not None]
        return [name for directory, _, name in split if directory == path]

    def open(self, node: Node, *, empty: bool = False) -> Draft:
        """Return the draft of a file, made if need be; :meth:`close` ends its use."""
        with self._lock:
            draft = self._drafts.get(node.path)
            if draft is None:
                draft = self._drafts[node.path] = Draft(self._fs, node)
            draft.users += 1
        if empty:
            draft.truncate(0)
        return draft

    def join(self, path: str) -> Draft | None:
        """Return the draft of a file if there is one; :meth:`close` ends its use."""
        with self._lock:
            draft = self._drafts.get(path)
            if draft is not None:
                draft.users += 1
            return draft

    def close(self, draft: Draft) -> None:
        """End the use of a draft; the last one sends what is not sent.

        Raises
        ------
        FlowError
            As the service says.
        """
        with self._lock:
            last = draft.users == 1
            if not last:
                draft.users -= 1
        if not last:
            return
        try:
            # Until it is sent, who opens the file again must find this, not what was there.
            draft.settle()
        finally:
            with self._lock:
                draft.users -= 1
                unused = draft.users == 0
                if unused and self._drafts.get(draft.node.path) is draft:
                    del self._drafts[draft.node.path]
            if unused:
                draft.drop()

    def truncate(self, node: Node, length: int) -> None:
        """Cut off a file by its path: sent at once, unless it is open for writing.

        Raises
        ------
        FlowError
            As the service says.
        """
        draft = self.open(node)
        try:
            draft.truncate(length)
        finally:
            self.close(draft)

    def remove(self, node: Node) -> bool:
        """Drop the draft of a file that is removed; tell whether there was one."""
        with self._lock:
            draft = self._drafts.pop(node.path, None)
        if draft is None:
            return False
        draft.discard()
        return True
