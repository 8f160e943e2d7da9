"""Operations on open files."""

from __future__ import annotations

import errno
import os
from typing import Any

from flowfs.errors import FlowError, NotADirectory, NotFound, again
from flowfs.fuse.handles import Handle
from flowfs.fuse.opening import Opened
from flowfs.fuse.served import Served, operation
from flowfs.fuse.writing import process_of

__all__ = ["Files"]


class Files(Served):
    """Opening, reading, writing and closing."""

    @operation
    def open(self, path: str, fi: Any) -> int:
        """Open a file; answers once its length is known."""
        node = self._visible(path)
        if fi.flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            self._changing(node.path)
            with self._bounded(node.path):
                opened = Opened(self._opening.to_write(node, fi.flags, self._caller()))
        else:
            with self._bounded(node.path):
                opened = self._opening.to_read(node)
        self._add(opened, fi)
        return 0

    def _add(self, opened: Opened, fi: Any) -> None:
        if opened.handle.direct_io:
            fi.direct_io = 1
        if opened.unchanged:
            fi.keep_cache = 1
        fi.fh = self._handles.add(opened.handle)

    @operation
    def create(self, path: str, mode: int, fi: Any) -> int:
        """Make an upload; nothing else can be made."""
        try:
            node = self._place(path)
        except (NotFound, NotADirectory):
            return self._refuse(path, "nothing can be created there")
        self._changing(node.path)
        with self._bounded(node.path):
            handle = self._opening.to_create(node, fi.flags, self._caller())
        self._add(Opened(handle), fi)
        return 0

    @operation
    def read(self, path: str | None, size: int, offset: int, fi: Any) -> bytes:
        """Read from an open file; less than asked for is its end."""
        handle = self._handles.get(fi.fh)
        try:
            with self._bounded(handle.path):
                return handle.read(size, offset)
        except FlowError as error:
            if error.errno != errno.EAGAIN:
                raise
            # Python takes that for the end of what there is, as of a pipe that is empty by now.
            broken = again(error)
            assert isinstance(broken, FlowError)
            broken.errno = errno.EIO
            raise broken from error

    def read_into(self, buffer: memoryview, offset: int, number: int) -> int | None:
        """Fill a buffer with what is here of an open file; None: it is to be read as always.

        No operation of its own: nothing in it can fail.
        """
        return self._handles.get(number).read_into(buffer, offset)

    @operation
    def write(self, path: str | None, data: bytes, offset: int, fi: Any) -> int:
        """Write to an open file; a document that is whole starts its run here."""
        return self._handles.get(fi.fh).write(data, offset)

    @operation
    def flush(self, path: str | None, fi: Any) -> int:
        """Send what was written: a descriptor was closed, and who did so sees the error."""
        handle = self._handles.get(fi.fh)
        # Who it was is read from /proc: not for a file that was only read.
        if type(handle).flush is not Handle.flush:
            handle.flush(process_of(self._caller()))
        return 0

    @operation
    def fsync(self, path: str | None, datasync: int, fi: Any) -> int:
        """Send what was written."""
        self._handles.get(fi.fh).fsync()
        return 0

    @operation
    def release(self, path: str | None, fi: Any) -> int:
        """Close a file; errors are only logged, nobody else would see them."""
        self._handles.remove(fi.fh).release()
        return 0
