"""Operations that look: what is there, and what it is like."""

from __future__ import annotations

import errno
import stat
from typing import Any

from flowfs import tree
from flowfs.errors import FlowError, InvalidArguments, NotFound, failure
from flowfs.fuse.attributes import inode, link_text
from flowfs.fuse.handles import Handle
from flowfs.fuse.served import Served, operation

__all__ = ["Looking"]

_SPACE = 1 << 28  # blocks that df shows: the service does not say what it has room for
_BLOCK = 4096  # bytes
_ATTRIBUTES = ("state", "id", "title")
_PREFIX = "user.flowfs."


class Looking(Served):
    """Attributes, listings, links and extended attributes."""

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
