"""Operations that look: what is there, and what it is like."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from typing import Any

from flowfs import tree
from flowfs.errors import InvalidArguments, NotFound, failure
from flowfs.filesystem.entries import Alike
from flowfs.fuse.attributes import inode, link_text
from flowfs.fuse.handles import Handle
from flowfs.fuse.listings import Directory
from flowfs.fuse.served import Answer, Served, operation
from flowfs.tree import Node

__all__ = ["Looking"]

_SPACE = 1 << 28  # blocks that df shows: the service does not say what it has room for
_TRIES = 5  # for a listing while files are being sent
_BLOCK = 4096  # bytes
_USER = "user."
_PREFIX = f"{_USER}flowfs."
_ATTRIBUTES = ("state", "id", "url", "title", "caption", "output", "stored")
_LONGEST = 1 << 16  # bytes; Linux takes no longer value of an attribute


class Looking(Served):
    """Attributes, listings, links and extended attributes.

    Extended attributes are read. They cannot be set or removed: there are no operations for
    that, and the kernel says ENOTSUP, without asking a second time. That is what programs
    expect of file systems without them, and pass by.
    """

    @operation
    def getattr(self, path: str | None, fi: Any = None) -> dict[str, int]:
        """Return what stat tells. Asks for a size once; never for that of an archive."""
        if path is None:
            return self._of_removed(self._handles.get(fi.fh))
        if not self._deletions.any:
            known = self._shown.about(path) or self._told.about(path)
            if known is not None:
                return known
        changes = self._told.changes
        node = self._visible(path)
        if node.kind is tree.UPLOAD:
            with self._bounded(node.path):
                draft = self._drafts.peek(node.path)
            if draft is not None and draft.size is not None:
                entry = {"type": "file", "size": draft.size, "mtime": draft.mtime}
                return self._attributes.of(node, entry)
        if node.kind is not tree.RUN:  # of which its directory has told all
            self._entries.ahead.looked(node)
        try:
            with self._bounded(node.path):
                entry = self._entries.entry(node)
        except NotFound:
            # fstat comes as a question about the path: `cancel` is gone once it has acted,
            # and who holds it open may still read what came of it.
            opened = self._handles.at(node.path)
            if not opened:
                raise
            return self._of_removed(opened[-1])
        size = self._handles.size(node.path)
        told = self._attributes.of(node, entry, size)
        # Who has it open may see what it was before the run ended, when it had another size.
        if size is None or size == entry["size"]:
            self._told.keep(path, node, told, changes)
        return told

    def _of_removed(self, handle: Handle) -> dict[str, int]:
        entry = {"type": "file", "size": handle.size or 0}
        return self._attributes.of(tree.parse(handle.path), entry) | {"st_nlink": 0}

    @operation
    def readdir(self, path: str | None, fh: int) -> Directory:
        """List a directory: at most one request, and none for sizes."""
        node = self._visible(path)
        above = self._place(posixpath.dirname(path or "/"))
        self._entries.ahead.looked(node)
        children, new = self._children(node)
        if node.kind is tree.RUNS:
            self._shown.read("" if path == "/" else path or "", node, self._entries.group_id(node))
        first = [(".", stat.S_IFDIR, inode(node, {})), ("..", stat.S_IFDIR, inode(above, {}))]
        listing = Directory(node, first, *children)
        if not new and not self._deletions.any:
            return listing
        shown = [
            one
            for number, one in enumerate(listing)
            if number < len(first) or not self._deletions.hides(node.child(one[0]))
        ]
        there = {name for name, _, _ in shown}
        new = [name for name in new if name not in there]
        return Directory(node, shown, Alike(tree.UPLOAD, False, new))

    def _children(self, node: Node) -> tuple[list[Alike], list[str]]:
        """Return what the service has in a directory, and the names of what it does not have yet.

        What is sent between the two questions would be in neither answer: then both are asked
        once more.
        """
        if node.kind is not tree.UPLOADS:  # nothing is sent to anywhere else
            with self._bounded(node.path):
                return self._entries.names(node), []
        for _ in range(_TRIES):
            new = self._drafts.below(node.path)
            with self._bounded(node.path):
                children = self._entries.names(node)
            if set(new) <= set(self._drafts.below(node.path)):
                break
        return children, new

    @operation
    def readlink(self, path: str) -> str:
        """Return the way to a link's target, from where the link stands."""
        node = self._visible(path)
        if not node.kind.link:
            raise failure(InvalidArguments, "is no symbolic link", node.path)
        with self._bounded(node.path):
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
    def access(self, path: str, amode: int) -> int:
        """Tell by its mode whether somebody may; root is asked for no more than others.

        The kernel asks for ``access(2)`` and ``chdir``; not at all where it checks modes on
        its own account (``allow_other``), and there root may do everything.
        """
        node = self._visible(path)
        type_of = self._type(node)
        permitted = self._attributes.permissions(node, type_of) >> 6
        if amode & os.W_OK & ~permitted and self._fs.read_only:
            raise failure(Answer, "this mount is read-only", node.path, errno=errno.EROFS)
        if amode & ~permitted & (os.R_OK | os.W_OK | os.X_OK):
            raise failure(Answer, "its mode does not allow it", node.path, errno=errno.EACCES)
        return 0

    def _type(self, node: Node) -> int:
        """Return what is at a place, if it is there; asks for no size."""
        if self._drafts.peek(node.path) is not None:
            return stat.S_IFREG
        if node.kind is tree.OUTPUT:
            return self._attributes.file_type(node, self._entries.entry(node, ask=False))
        self._entries.check(node)
        if node.kind.link:
            return stat.S_IFLNK
        return stat.S_IFDIR if node.kind.directory else stat.S_IFREG

    @operation
    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        """Return one of ``user.flowfs.*``: state, id, url, title, caption, output or stored.

        Access lists, capabilities and labels, which are attributes too, there are none
        (EOPNOTSUPP). Told so once, `ls -l` asks no other file of the mount.
        """
        # The kernel and programs ask for others all the time: these must cost nothing.
        if not name.startswith(_USER):
            raise failure(Answer, "no such attributes here", path, errno=errno.EOPNOTSUPP)
        known = name.removeprefix(_PREFIX)
        if name.startswith(_PREFIX) and known in _ATTRIBUTES:
            value = self._extended(self._visible(path)).get(known)
            if value is not None:
                return value
        raise failure(Answer, "no such attribute", path, errno=errno.ENODATA)

    @operation
    def listxattr(self, path: str) -> list[str]:
        """Name the attributes that a place has."""
        return [_PREFIX + name for name in self._extended(self._visible(path))]

    def _extended(self, node: Node) -> dict[str, bytes]:
        """Return a place's extended attributes; asks for no size."""
        # Linux gives a link none of these, whatever is listed.
        if node.kind.link:
            return {}
        draft = self._drafts.peek(node.path)
        # What is written is not yet what the service has. Once it is sent, it is: `close`
        # returns then, and the kernel releases the file some time later.
        written = draft if draft is not None and draft.size is not None else None
        if written is not None and written.upload_id is None:
            return {}
        entry = self._entries.entry(node, ask=False)
        if written is not None and written.upload_id != entry.get("id"):
            return {}
        told = dict(entry)
        if node.kind is not tree.OUTPUT or entry["type"] == "file":
            told["url"] = self._entries.url(node)
        return {
            name: value.encode("utf-8", "replace")[:_LONGEST]
            for name in _ATTRIBUTES
            if isinstance(value := told.get(name), str)
        }
