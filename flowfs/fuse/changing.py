"""Operations that change what is there, and those that nothing on the service allows."""

from __future__ import annotations

import errno
from typing import Any

from flowfs import tree
from flowfs.errors import (
    AlreadyExists,
    FlowError,
    InvalidArguments,
    NotADirectory,
    NotFound,
    NotPermitted,
    failure,
)
from flowfs.fuse.drafting import DraftHandle
from flowfs.fuse.served import Served, operation
from flowfs.fuse.writing import ActingHandle
from flowfs.tree import Node

__all__ = ["Changing"]

_NOREPLACE = 1  # RENAME_NOREPLACE of renameat2(2); the others exchange, or are for overlays


class Changing(Served):
    """Cutting off, removing, renaming; and refusals."""

    @operation
    def truncate(self, path: str | None, length: int, fi: Any = None) -> int:
        """Cut off an upload; ``new`` and ``cancel`` are empty and stay so."""
        if fi is not None:
            handle = self._handles.get(fi.fh)
            # whatever its name is by now, if it has one
            if isinstance(handle, DraftHandle | ActingHandle):
                handle.truncate(length)
                return 0
        node = self._visible(path)
        self._changing(node.path)
        if node.kind is tree.UPLOAD:
            if self._drafts.peek(node.path) is None:
                self._entries.check(node)
            self._drafts.truncate(node, length)
            return 0
        if not node.kind.writable:
            raise failure(NotPermitted, f"the {node.kind.name} cannot be written", node.path)
        if length:
            raise failure(InvalidArguments, f"the {node.kind.name} has no length", node.path)
        return 0

    @operation
    def unlink(self, path: str) -> int:
        """Delete an upload; hide a file of a run, on the way to removing the run."""
        node = self._visible(path)
        self._changing(node.path)
        if node.kind is tree.UPLOAD:
            self._drafts.remove(node)
            self._handles.removed(node.path)
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
        # Of the directory too: rsync and cp -a bring that of what they copied into it.
        if not node.kind.writable and node.kind is not tree.UPLOADS:
            raise failure(NotPermitted, f"the {node.kind.name} cannot be changed", node.path)
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
    def rename(self, old: str, new: str, flags: int = 0) -> int:
        """Rename an upload within its group; refuse everything else.

        The service cannot rename: the bytes are sent under the new name, and then the old file
        is deleted. Between groups it is EXDEV, so that programs copy.
        """
        node = self._visible(old)
        self._changing(node.path)
        try:
            target = self._place(new)
        except (NotFound, NotADirectory):
            return self._refuse(old, "nothing can be renamed to there")
        if flags & ~_NOREPLACE:
            raise failure(InvalidArguments, "files cannot be exchanged", node.path)
        if self._drafts.peek(node.path) is None:
            self._entries.check(node)  # the kernel may believe in a name that has gone
        if node.kind is not tree.UPLOAD or target.kind is not tree.UPLOAD:
            return self._refuse(old, "nothing on the service can be renamed but uploads")
        group_id = self._entries.group_id(node)
        if group_id != self._entries.group_id(target):
            raise failure(
                FlowError, f"is of another group than {new}: copy it", old, errno=errno.EXDEV
            )
        if flags & _NOREPLACE:
            self._fs.catalog.uploads(group_id, refresh=True)
            if self._drafts.peek(target.path) is not None or self._entries.exists(target):
                raise failure(AlreadyExists, "is there already", target.path)
        if node.path == target.path:
            return 0
        self._drafts.rename(node, target)
        self._handles.renamed(node.path, target.path)
        for path in (node.path, target.path):
            self._opening.changed(path)
        return 0
