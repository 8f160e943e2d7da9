"""Operations that change what is there, and those that nothing on the service allows."""

from __future__ import annotations

from typing import Any

from flowfs import tree
from flowfs.errors import InvalidArguments, NotPermitted, failure
from flowfs.fuse.served import Served, operation
from flowfs.tree import Node

__all__ = ["Changing"]


class Changing(Served):
    """Cutting off, removing, renaming; and refusals."""

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
