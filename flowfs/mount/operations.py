"""FUSE's operations on the tree. Each is thin: what a place is and holds, others know."""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flowfs import tree
from flowfs.errors import (
    FlowError,
    InvalidArguments,
    NotADirectory,
    NotFound,
    NotPermitted,
    ReadOnly,
    describe,
    failure,
)
from flowfs.filesystem import FlowFileSystem
from flowfs.mount.attributes import Attributes, inode, link_text
from flowfs.mount.deleting import Deletions
from flowfs.mount.drafts import Drafts
from flowfs.mount.handles import Handle, Handles
from flowfs.mount.opening import Opened, Opening
from flowfs.mount.writing import process_of
from flowfs.tree import Node, join

__all__ = ["Operations"]

logger = logging.getLogger("flowfs.mount")

P = ParamSpec("P")
R = TypeVar("R")

_SPACE = 1 << 28  # blocks that df shows: the service does not say what it has room for
_BLOCK = 4096  # bytes
_ATTRIBUTES = ("state", "id", "title")
_PREFIX = "user.flowfs."
_AUTO_INVAL_DATA = 1 << 12  # FUSE_CAP_AUTO_INVAL_DATA of libfuse 3

# What happens all the time and is no news.
_ORDINARY = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EPERM,
        errno.EROFS,
        errno.EBUSY,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.ENOTSUP,
    }
)


def operation(method: Callable[P, R]) -> Callable[P, R]:
    """Make whatever a method raises an OSError with a number: the kernel takes nothing else.

    fusepy shows an empty directory, or nonsense, where it gets an error without one.
    """

    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except OSError as error:
            number = error.errno if isinstance(error.errno, int) and error.errno > 0 else errno.EIO
            if number == errno.ENODATA:  # asked for with every write: not worth a line
                raise OSError(number, os.strerror(number)) from None
            level = logging.DEBUG if number in _ORDINARY else logging.WARNING
            logger.log(
                level,
                "%s: %s",
                method.__name__,
                describe(error),
                exc_info=not isinstance(error, FlowError),
            )
        except BaseException:
            logger.exception("%s failed", method.__name__)
            number = errno.EIO
        raise OSError(number, os.strerror(number))

    return guarded


class Operations:
    """The tree, or a part of it, as FUSE asks for it.

    Parameters
    ----------
    fs : FlowFileSystem
        The service.
    root : str
        Path in the tree of what is mounted.
    caller : callable
        Returns the thread id of who asked for the operation at hand.
    ready : callable, optional
        Called once the kernel has begun to ask.

    Notes
    -----
    What is refused, and how: creating anywhere but in ``uploads/``, writing anything but
    ``new``, ``cancel`` and uploads, and removing anything but runs and uploads is EPERM; in a
    read-only mount EROFS. Runs that are active, and ``cancel`` of one that has ended: EBUSY. A
    directory that is not empty: ENOTEMPTY. Renaming, links and directories of one's own: EPERM.
    Mode, owner and times of what can be written may be set, which changes nothing; those of
    everything else are EPERM.

    No lock is held while the service is asked, but the one of the file that is asked for.
    """

    use_ns = True
    # Who has a file open may go on reading it when its name is gone.
    flag_nullpath_ok = True

    def __init__(
        self,
        fs: FlowFileSystem,
        root: str,
        caller: Callable[[], int],
        ready: Callable[[], None] | None = None,
    ) -> None:
        self._fs = fs
        self._entries = fs.entries
        self._root = root
        self._caller = caller
        self._ready = ready
        self._attributes = Attributes(fs.read_only, time.time_ns())
        self._handles = Handles()
        self._drafts = Drafts(fs)
        self._deletions = Deletions(fs)
        self._opening = Opening(fs, self._handles, self._drafts)

    # -- places ------------------------------------------------------------

    def _place(self, path: str | None) -> Node:
        """Return the place that the kernel's path names, hidden or not."""
        if path is None:
            raise failure(NotFound, "the file has been removed")
        try:
            path.encode()
        except UnicodeEncodeError:
            raise failure(InvalidArguments, "the name is no UTF-8", ascii(path)) from None
        return self._entries.resolve(join(self._root, path.strip("/")))

    def _visible(self, path: str | None) -> Node:
        node = self._place(path)
        if self._deletions.hides(node):
            raise failure(NotFound, "has been removed", node.path)
        return node

    def _changing(self, path: str) -> None:
        if self._fs.read_only:
            raise failure(ReadOnly, "this mount is read-only", path)

    def _refuse(self, path: str, message: str) -> int:
        self._changing(path)
        raise failure(NotPermitted, message, path)

    # -- looking -----------------------------------------------------------

    @operation
    def init(self, path: str) -> None:
        """Tell that the kernel has begun to ask."""
        if self._ready is not None:
            self._ready()

    def init_with_config(self, conn: Any, config: Any) -> None:
        """Do as :meth:`init` for mfusepy, which passes libfuse 3's settings along."""
        if config is not None:
            # What the kernel may keep is said when a file is opened. With this, it would ask
            # for attributes before every read.
            conn.want &= ~_AUTO_INVAL_DATA
        self.init("/")

    @operation
    def getattr(self, path: str | None, fi: Any = None) -> dict[str, int]:
        """Return what stat tells. Asks for a size once; never for that of an archive."""
        if path is None:
            return self._of_removed(self._handles.get(fi.fh))
        node = self._visible(path)
        draft = self._drafts.peek(node.path)
        if draft is not None and draft.size is not None:
            entry = {"type": "file", "size": draft.size, "mtime": draft.mtime}
            return self._attributes.of(node, entry)
        try:
            entry = self._entries.entry(node)
        except NotFound:
            # fstat comes as a question about the path: `cancel` is gone once it has acted,
            # and who holds it open may still read what came of it.
            opened = self._handles.at(node.path)
            if not opened:
                raise
            return self._of_removed(opened[-1])
        return self._attributes.of(node, entry, self._handles.size(node.path))

    def _of_removed(self, handle: Handle) -> dict[str, int]:
        entry = {"type": "file", "size": handle.size or 0}
        return self._attributes.of(tree.parse(handle.path), entry) | {"st_nlink": 0}

    @operation
    def readdir(self, path: str | None, fh: int) -> list[tuple[str, dict[str, int], int]]:
        """List a directory: at most one request, and none for sizes."""
        node = self._visible(path)
        listed = [(".", stat.S_IFDIR, 1), ("..", stat.S_IFDIR, 1)]
        names = set()
        for entry in self._entries.children(node):
            name = entry["name"].rpartition("/")[2]
            child = node.child(name)
            if not self._deletions.hides(child):
                names.add(name)
                type_of = self._attributes.file_type(child, entry)
                listed.append((name, type_of, inode(child, entry)))
        for name in self._drafts.below(node.path):
            if name not in names:
                listed.append((name, stat.S_IFREG, inode(node.child(name), {})))
        return [(name, {"st_mode": mode, "st_ino": ino}, 0) for name, mode, ino in listed]

    @operation
    def readlink(self, path: str) -> str:
        """Return the way to a link's target, from where the link stands."""
        node = self._visible(path)
        if not node.kind.link:
            raise failure(InvalidArguments, "is no symbolic link", node.path)
        return link_text(node, self._entries.target(node))

    @operation
    def statfs(self, path: str) -> dict[str, int]:
        """Return figures that df and programs which look for room can live with."""
        free = 0 if self._fs.read_only else _SPACE
        return {
            "f_bsize": _BLOCK,
            "f_frsize": _BLOCK,
            "f_blocks": _SPACE,
            "f_bfree": free,
            "f_bavail": free,
            "f_files": _SPACE,
            "f_ffree": free,
            "f_favail": free,
            "f_namemax": 255,
        }

    @operation
    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        """Return ``user.flowfs.state``, ``.id`` or ``.title``."""
        # The kernel and ls ask for others all the time: these must cost nothing.
        if not name.startswith(_PREFIX) or name.removeprefix(_PREFIX) not in _ATTRIBUTES:
            raise failure(FlowError, "no such attribute", path, errno=errno.ENODATA)
        value = self._entries.entry(self._visible(path), ask=False).get(name.removeprefix(_PREFIX))
        if not isinstance(value, str):
            raise failure(FlowError, "no such attribute", path, errno=errno.ENODATA)
        return value.encode("utf-8", "replace")

    @operation
    def listxattr(self, path: str) -> list[str]:
        """Name the attributes that a place has."""
        node = self._visible(path)
        draft = self._drafts.peek(node.path)
        entry = {} if draft is not None else self._entries.entry(node, ask=False)
        return [_PREFIX + name for name in _ATTRIBUTES if isinstance(entry.get(name), str)]

    # -- open files --------------------------------------------------------

    @operation
    def open(self, path: str, fi: Any) -> int:
        """Open a file; answers once its length is known."""
        node = self._visible(path)
        if fi.flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            self._changing(node.path)
            opened = Opened(self._opening.to_write(node, fi.flags, self._caller()))
        else:
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
        handle = self._opening.to_create(node, fi.flags, self._caller())
        self._add(Opened(handle), fi)
        return 0

    @operation
    def read(self, path: str | None, size: int, offset: int, fi: Any) -> bytes:
        """Read from an open file; less than asked for is its end."""
        return self._handles.get(fi.fh).read(size, offset)

    @operation
    def write(self, path: str | None, data: bytes, offset: int, fi: Any) -> int:
        """Write to an open file; a document that is whole starts its run here."""
        return self._handles.get(fi.fh).write(data, offset)

    @operation
    def flush(self, path: str | None, fi: Any) -> int:
        """Send what was written: a descriptor was closed, and who did so sees the error."""
        self._handles.get(fi.fh).flush(process_of(self._caller()))
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

    # -- changing ----------------------------------------------------------

    @operation
    def truncate(self, path: str | None, length: int, fi: Any = None) -> int:
        """Cut off an upload; ``new`` and ``cancel`` are empty and stay so."""
        node = self._visible(path)
        self._changing(node.path)
        if node.kind is tree.UPLOAD:
            if self._drafts.peek(node.path) is None:
                self._entries.check(node)
            self._drafts.truncate(node, length)
            return 0
        if not node.kind.writable:
            raise failure(NotPermitted, f"a {node.kind.name} cannot be written", node.path)
        if length:
            raise failure(InvalidArguments, f"a {node.kind.name} has no length", node.path)
        return 0

    @operation
    def unlink(self, path: str) -> int:
        """Delete an upload; hide a file of a run, on the way to removing the run."""
        node = self._visible(path)
        self._changing(node.path)
        if node.kind is tree.UPLOAD:
            unsent = self._drafts.remove(node)
            if not unsent or self._entries.exists(node):
                group_id = self._entries.group_id(node)
                self._fs.catalog.delete_upload(group_id, node.names["upload"])
            return 0
        self._check_run_below(node)
        self._deletions.unlink(node)
        return 0

    @operation
    def rmdir(self, path: str) -> int:
        """Delete a run whose files have been unlinked: one request."""
        node = self._visible(path)
        self._changing(node.path)
        self._check_run_below(node)
        self._deletions.rmdir(node)
        return 0

    def _check_run_below(self, node: Node) -> None:
        """Refuse to hide files of a run that cannot be removed in the end: the mount's root."""
        if len(self._root.split("/")) >= 4:
            raise failure(
                NotPermitted, "the run is what is mounted: remove it from elsewhere", node.path
            )

    @operation
    def chmod(self, path: str | None, mode: int) -> int:
        """Accept for what can be written, where it means nothing; cp -p asks for it."""
        return self._pretend(path)

    @operation
    def chown(self, path: str | None, uid: int, gid: int) -> int:
        """Accept for what can be written, where it means nothing."""
        return self._pretend(path)

    @operation
    def utimens(self, path: str | None, times: tuple[int, int] | None = None) -> int:
        """Accept for what can be written, where it means nothing; touch asks for it."""
        return self._pretend(path)

    def _pretend(self, path: str | None) -> int:
        if path is None:
            return 0
        node = self._visible(path)
        self._changing(node.path)
        if not node.kind.writable:
            raise failure(NotPermitted, f"a {node.kind.name} cannot be changed", node.path)
        return 0

    @operation
    def mkdir(self, path: str, mode: int) -> int:
        """Refuse: directories come from the service."""
        return self._refuse(path, "no directory can be made: the service has its own")

    @operation
    def mknod(self, path: str, mode: int, dev: int) -> int:
        """Refuse."""
        return self._refuse(path, "nothing of that kind can be made")

    @operation
    def symlink(self, target: str, source: str) -> int:
        """Refuse."""
        return self._refuse(target, "no link can be made")

    @operation
    def link(self, target: str, source: str) -> int:
        """Refuse."""
        return self._refuse(target, "no link can be made")

    @operation
    def rename(self, old: str, new: str) -> int:
        """Refuse: nothing on the service can be renamed."""
        return self._refuse(old, "nothing on the service can be renamed")
