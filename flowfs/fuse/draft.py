"""An upload that is being written, kept here and sent as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from typing import IO

from flowfs.catalog import FileRecord
from flowfs.content import check_hole, no_room
from flowfs.disk import put
from flowfs.errors import FlowError, NotFound, again, failure
from flowfs.filesystem import FlowFileSystem
from flowfs.names import from_name
from flowfs.service.interruption import Stopped
from flowfs.service.waits import Turn, apart
from flowfs.tree import Node

__all__ = ["Draft"]

_CHUNK = 1 << 20  # bytes


class Draft:
    """An upload as it is being written, in a temporary file. Thread-safe.

    All who have it open share it. What was there before is fetched only when it is needed:
    a file is most often emptied first.

    Parameters
    ----------
    fs : FlowFileSystem
        Where to send it.
    node : Node
        Its place.
    listed : bool
        Whether the service has a file of that name already.
    stored : callable
        Called with the place and what the service made of it, each time it has been sent.

    Attributes
    ----------
    node : Node
        Its place; another one once it has been renamed.
    listed : bool
        Whether the service has something of it.
    size : int or None
        Bytes in it; None as long as it is what the service has.
    mtime : float
        When it was last changed, in seconds since the epoch.
    users : int
        How many handles it has; counted by :class:`~flowfs.fuse.drafts.Drafts`.
    writers : int
        How many of them may write.
    closing : int
        How many of those that wrote are being closed, and send what is not sent yet.
    sending : bool
        Whether it is being sent.
    lock : Turn
        Held while it is looked at, changed or sent.
    """

    def __init__(
        self,
        fs: FlowFileSystem,
        node: Node,
        *,
        listed: bool = True,
        stored: Callable[[Node, FileRecord], None] = lambda node, record: None,
    ) -> None:
        self.node: Node = node
        self.listed: bool = listed
        self.size: int | None = None
        self.mtime: float = time.time()
        self.users = self.writers = self.closing = 0
        self.sending: bool = False
        self.lock: Turn = Turn()
        self._fs = fs
        self._stored = stored
        self._file: IO[bytes] | None = None
        self._changed = False  # the next flush sends it
        self._emptied = False  # emptied or new, and not written since: sent at the last
        self._error: FlowError | None = None
        self._discarded = False
        self._written = False
        self._sent: str | None = None  # id of the upload that holds just what the file does

    @property
    def unsent(self) -> bool:
        """Whether there is something in it that nobody has tried to send."""
        return (self._changed or self._emptied) and not self._discarded

    @property
    def upload_id(self) -> str | None:
        """The id of the upload that holds just what the file does, if it has been sent."""
        return None if self._discarded else self._sent

    # -- what is in it -----------------------------------------------------

    def read(self, size: int, offset: int) -> bytes:
        """Return a part of it; who reads does not wait until it has been sent."""
        file = self._file
        if file is not None:
            with self._in_room():
                return os.pread(file.fileno(), size, offset)
        with self.lock, self._in_room():
            return os.pread(self._content().fileno(), size, offset)

    def write(self, data: bytes, offset: int | None) -> int:
        """Put bytes at a place; None: at its end.

        Returns
        -------
        int
            How many of them there was room for.

        Raises
        ------
        FlowError
            If there was room for none (ENOSPC); if it leaves a hole for which there would be
            none (EFBIG); or as the service says, where what was there
            before is fetched.
        """
        with self.lock, self._in_room():
            file = self._content()
            at = self.size or 0 if offset is None else offset
            if at > (self.size or 0):
                check_hole(file, at + len(data), self._fs.unstrip_protocol(self.node.path))
            written = _put(file, data, at)
            self._change(max(self.size or 0, at + written))
            return written

    def truncate(self, length: int) -> None:
        """Cut it off, or fill it up with zeros.

        Raises
        ------
        FlowError
            If there would be no room for those (EFBIG); or as the service says, where what was
            there before is fetched.
        """
        with self.lock, self._in_room():
            if length == 0:
                if self._file is None:
                    self._file = self._fs.content.room.file()
                self._file.truncate(0)
                self.size, self._changed, self._emptied = 0, False, True
                self._touch()
                return
            file = self._content()
            if length != self.size:
                if length > (self.size or 0):
                    check_hole(file, length, self._fs.unstrip_protocol(self.node.path))
                file.truncate(length)
                self._change(length)

    @contextlib.contextmanager
    def _in_room(self) -> Iterator[None]:
        """Say of what goes wrong with the temporary file that it does."""
        try:
            yield
        except FlowError:
            raise
        except OSError as error:
            raise no_room(error, self._fs.unstrip_protocol(self.node.path)) from None

    def _change(self, size: int) -> None:
        self.size, self._changed, self._emptied = size, True, False
        self._touch()

    def _touch(self) -> None:
        self._written, self.mtime = True, time.time()
        self._error = self._sent = None

    def _content(self) -> IO[bytes]:
        if self._file is None:
            if self._discarded:  # what has its name now is another file
                raise failure(
                    FlowError,
                    "has been removed since it was opened",
                    self.node.path,
                    errno=errno.ESTALE,
                )
            file = self._fs.content.room.file()
            try:
                size = 0
                if self.listed:
                    # What is to be written into is what is there now, not what was: all of it
                    # takes the place of that.
                    group_id = self._fs.entries.group_id(self.node)
                    self._fs.catalog.uploads(group_id, refresh=True)
                    source = self._fs.entries.source(self.node)
                    assert source is not None
                    with self._fs.content.open(source) as reader:
                        while piece := reader.read(_CHUNK):
                            put(file.fileno(), size, piece)
                            size += len(piece)
            except BaseException:
                file.close()
                raise
            self._file, self.size = file, size
        return self._file

    def _replace(self, file: IO[bytes] | None) -> None:
        if self._file is not None:
            self._file.close()
        self._file = file

    # -- sending it --------------------------------------------------------

    def flush(self) -> None:
        """Send it if it was written since it was last sent.

        Emptied is not written: a shell empties a file, closes one descriptor of it, and only
        then writes.

        Raises
        ------
        FlowError
            As the service says; said again until something is written.
        """

        def send() -> None:
            with self.lock:
                if self._changed:
                    self._send()
                elif self._error is not None:
                    raise again(self._error)

        # Who is killed while he closes a file has written it all the same. It is sent without
        # him then, and only once: nothing is broken off.
        apart(send)

    def settle(self) -> None:
        """Send whatever no flush has sent.

        Raises
        ------
        FlowError
            As the service says.
        """
        with self.lock:
            if self._changed or self._emptied:
                self._send()

    def move(self, node: Node) -> None:
        """Give it another name in its group; what has that name is replaced.

        If something of it has been sent, so is all of it, under the new name, and what has the
        old name is deleted. Otherwise it is sent later, as it would have been. The caller
        holds the lock.

        Raises
        ------
        NotFound
            If it has been removed.
        FlowError
            As the service says. It keeps its name then, and the upload of that name, if there
            is one, is there still.
        """
        entries, catalog = self._fs.entries, self._fs.catalog
        there = self.on_service()
        if not there and self.unsent:
            self.node = node
            return
        if not there and not self._written:
            raise failure(NotFound, "has been removed", self.node.path)
        group_id, new = entries.group_id(node), node.names["upload"]
        file = self._whole()
        if there:
            old = self.node.names["upload"]
            record = catalog.rename_upload(group_id, old, new, raw_name(node), file)
        else:
            record = catalog.upload_file(group_id, new, raw_name(node), file)
        self.node = node
        self._changed = self._emptied = False
        self._error = None
        self._note(record)

    def _send(self) -> None:
        if self._discarded:
            self._changed = self._emptied = False
            return
        self.sending = True
        try:
            self._upload()
        finally:
            self.sending = False

    def _upload(self) -> None:
        before = self._changed, self._emptied
        self._changed = self._emptied = False
        fs, node = self._fs, self.node
        try:
            with self._in_room():
                record = fs.catalog.upload_file(
                    fs.entries.group_id(node), node.names["upload"], raw_name(node), self._whole()
                )
        except Stopped:
            self._changed, self._emptied = before
            raise
        except FlowError as error:
            error.filename = fs.unstrip_protocol(node.path)
            if error.errno == errno.ECANCELED:
                # The mount is ending: it is tried once more when it has ended.
                self._changed, self._emptied = before
            else:
                self._error = error
            raise
        self._note(record)

    def _whole(self) -> IO[bytes]:
        file = self._content()
        file.seek(0)
        return file

    def _note(self, record: FileRecord) -> None:
        self.listed, self._sent = True, record.id
        if record.mtime is not None:
            # As it will be once this is closed: editors ask before they save over a file whose
            # time is not the one that it had after their last save.
            self.mtime = record.mtime
        self._stored(self.node, record)
        with contextlib.suppress(FlowError):
            source = self._fs.entries.source(self.node)
            # Another client may have replaced it already.
            ours = source is not None and source.key[-1] == record.id
            if source is not None and ours and self.size is not None:
                self._fs.content.learn_size(source, self.size)

    def on_service(self) -> bool:
        """Tell whether the service has an upload that is this file's.

        One that this client made under another name, but is stored under this one, is not:
        unless nothing has been written here, so that it is just that which was opened.

        Raises
        ------
        FlowError
            If it cannot be told.
        """
        try:
            group_id = self._fs.entries.group_id(self.node)
            record = self._fs.catalog.upload(group_id, self.node.names["upload"])
        except NotFound:
            return False
        return not self._written or record.asked in (None, raw_name(self.node))

    # -- the end of it -----------------------------------------------------

    def is_what_the_service_has(self) -> bool:
        """Tell whether its bytes are those of the upload of its name. Asks for a listing."""
        if self._sent is None or self._discarded:
            return False
        try:
            group_id = self._fs.entries.group_id(self.node)
            self._fs.catalog.uploads(group_id, refresh=True)
            record = self._fs.catalog.upload(group_id, self.node.names["upload"])
        except FlowError:
            return False
        return record.id == self._sent

    def is_overtaken(self) -> bool:
        """Tell whether the upload of its name is not what was sent from here. Asks for a listing.

        One that has nothing in it shows whatever is there.

        Raises
        ------
        FlowError
            If it cannot be told.
        """
        if self.size is None:
            return False
        try:
            group_id = self._fs.entries.group_id(self.node)
            record = self._fs.catalog.upload(group_id, self.node.names["upload"])
        except NotFound:
            return True
        return record.id != self._sent

    def renew(self) -> None:
        """Go over to what somebody else has put in the place of what was sent from here.

        Only if all of it has been sent: what is written next then goes into what is there, as
        in any file that two have open. Asks for a listing, if something was sent.
        """
        with self.lock:
            if self._sent is None or self.unsent or self._discarded:
                return
            with contextlib.suppress(FlowError):
                group_id = self._fs.entries.group_id(self.node)
                self._fs.catalog.uploads(group_id, refresh=True)
                record = self._fs.catalog.upload(group_id, self.node.names["upload"])
                if record.id != self._sent:
                    # Not closed: who reads it at this moment goes on with what it was.
                    self._file = self.size = self._sent = None
                    self._written = False

    @property
    def worth_keeping(self) -> int | None:
        """Bytes of its file, if that holds what the service has; else None."""
        return None if self._sent is None or self._discarded else self.size

    def drop(self) -> None:
        """Drop the temporary file."""
        with self.lock:
            self._replace(None)

    def hold(self) -> None:
        """Have its bytes here: it is about to lose its name, and then nobody else has them.

        Fetches them if nobody has read or written it here yet. Where that fails they are lost:
        ESTALE, later, for who has it open.
        """
        with self.lock, contextlib.suppress(FlowError):
            self._content()

    def discard(self) -> None:
        """Send nothing any more: the file has been removed, or another has its name."""
        with self.lock:
            self._discarded = True


def _put(file: IO[bytes], data: bytes | memoryview, at: int) -> int:
    """Write bytes at a place; return how many there was room for, one at least."""
    view, written = memoryview(data), 0
    try:
        while written < len(view):
            written += os.pwrite(file.fileno(), view[written:], at + written)
    except OSError:
        if not written:
            raise
    return written


def raw_name(node: Node) -> str:
    """Return the name of an upload to ask the service for."""
    name = node.names["upload"]
    return from_name(name) or name
