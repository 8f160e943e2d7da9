"""What opening a file means, by what it is: which handle, and what the kernel may keep."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

from flowfs import tree
from flowfs.content import SharedFile, Source
from flowfs.errors import (
    AlreadyExists,
    InvalidRunState,
    IsADirectory,
    NotFound,
    NotPermitted,
    failure,
)
from flowfs.filesystem import FlowFileSystem
from flowfs.fuse.draft import Draft
from flowfs.fuse.drafting import DraftHandle, FollowingHandle
from flowfs.fuse.drafts import Drafts
from flowfs.fuse.handles import Handle, Handles, SnapshotHandle, StreamHandle
from flowfs.fuse.writing import CancelHandle, NewRunHandle, process_of
from flowfs.service.runs import ENDED_STATES
from flowfs.tree import Node

__all__ = ["Opened", "Opening"]

_KNOWN_FILES = 10_000  # paths of which it is known what the kernel has in its cache


@dataclass(frozen=True)
class Opened:
    """A handle, and whether it has the bytes that the kernel has already.

    Attributes
    ----------
    handle : Handle
        The open file.
    unchanged : bool
        Whether what the kernel keeps of the file is still good.
    """

    handle: Handle
    unchanged: bool = False


class Opening:
    """Opens files. Thread-safe.

    Parameters
    ----------
    fs : FlowFileSystem
        The service.
    handles : Handles
        What is open.
    drafts : Drafts
        Uploads that are being written.
    """

    def __init__(self, fs: FlowFileSystem, handles: Handles, drafts: Drafts) -> None:
        self._fs = fs
        self._handles = handles
        self._drafts = drafts
        self._lock = threading.Lock()
        # What the kernel has in its cache, by path: one file has one cache there.
        self._cached: OrderedDict[str, object] = OrderedDict()

    def to_read(self, node: Node) -> Opened:
        """Open a file for reading; its length is known afterwards.

        Nothing is asked for, but the size of a result that nobody has asked for yet, an
        archive (one request, answered once the service has made it), and what a generated file
        is made of.

        Raises
        ------
        NotFound
            If it is not there.
        IsADirectory
            If it is no file.
        FlowError
            As the service says.
        """
        draft = self._drafts.join(node.path, writes=False)
        if draft is not None:
            return self._opened(DraftHandle(self._drafts, draft, writes=False), None)
        entries = self._fs.entries
        entries.check(node)
        if node.kind.directory:
            raise failure(IsADirectory, f"is a directory ({node.kind.name})", node.path)
        if node.kind in (tree.NEW, tree.CANCEL):
            empty = SnapshotHandle(node.path, b"")
            empty.direct_io = True
            return Opened(empty)
        source = entries.source(node)
        if source is not None:
            shared = self._shared(node, source)
            stream: Handle = StreamHandle(node.path, shared)
            if node.kind is tree.UPLOAD:
                stream = FollowingHandle(self._drafts, stream)
            return self._opened(stream, shared.identity)
        lasts = self._lasts(node)
        snapshot = SnapshotHandle(node.path, entries.read(node))
        if not lasts:
            # The kernel has one cache and one size for all who have a file open, and the next
            # may get to see another one.
            snapshot.direct_io = True
            self._now_cached(node.path, None)
            return Opened(snapshot)
        digest = blake2b(snapshot.data).digest()
        return Opened(snapshot, self._now_cached(node.path, digest))

    def to_write(self, node: Node, flags: int, thread: int) -> Handle:
        """Open a file for writing.

        Parameters
        ----------
        node : Node
            Which.
        flags : int
            Of ``open(2)``.
        thread : int
            Who opens it.

        Raises
        ------
        NotPermitted
            If it cannot be written.
        NotFound
            If it is not there.
        InvalidRunState
            If it is ``cancel`` of a run that has ended.
        """
        if not node.kind.writable:
            raise failure(NotPermitted, f"the {node.kind.name} cannot be written", node.path)
        if node.kind is tree.UPLOAD:
            draft = self._drafts.join(node.path)
            if draft is None:
                self._fs.entries.check(node)
                draft = self._drafts.open(node)
            elif not flags & os.O_TRUNC:
                # Who wrote it has it open still: the kernel tells of a close a moment later.
                try:
                    draft.renew()
                except BaseException:
                    self._drafts.close(draft)
                    raise
            return self._draft_handle(draft, flags)
        try:
            self._fs.entries.check(node)
        except NotFound:
            self._refuse_late_cancel(node)
            raise
        acting = NewRunHandle if node.kind is tree.NEW else CancelHandle
        append = bool(flags & os.O_APPEND)
        return acting(self._fs, node, opener=process_of(thread), append=append)

    def to_create(self, node: Node, flags: int, thread: int) -> Handle:
        """Make an upload; anything else must be there.

        Raises
        ------
        NotPermitted
            If nothing can be made there.
        InvalidRunState
            If it is ``cancel`` of a run that has ended.
        NotFound
            If the run or group is not there.
        AlreadyExists
            If it is to be a new file, and somebody else has made it meanwhile.
        """
        entries = self._fs.entries
        if node.kind is tree.UPLOAD:
            entries.check(_parent(node))
            if not flags & os.O_TRUNC:
                # Who makes a file of its own, or adds to one, takes the place of no other that
                # has come since the last listing.
                self._fs.catalog.uploads(entries.group_id(node), refresh=True)
                if entries.exists(node):
                    if flags & os.O_EXCL:
                        raise failure(AlreadyExists, "is there by now", node.path)
                    return self.to_write(node, flags, thread)
            draft = self._drafts.open(node, new=True)
            return self._draft_handle(draft, flags)
        if node.kind.writable and entries.exists(node):
            return self.to_write(node, flags, thread)
        self._refuse_late_cancel(node)
        raise failure(NotPermitted, "nothing can be created there", node.path)

    def _shared(self, node: Node, source: Source) -> SharedFile:
        """Open a file of the service; an upload that was replaced since it was listed, anew."""
        try:
            return self._fs.content.share(source, ahead=True)
        except NotFound:
            if node.kind is not tree.UPLOAD:
                raise
        self._fs.catalog.uploads(self._fs.entries.group_id(node), refresh=True)
        now = self._fs.entries.source(node)
        assert now is not None
        return self._fs.content.share(now, ahead=True)

    def _draft_handle(self, draft: Draft, flags: int) -> Handle:
        if flags & os.O_TRUNC:
            try:
                draft.truncate(0)
            except BaseException:
                self._drafts.close(draft)
                raise
        handle = DraftHandle(self._drafts, draft, append=bool(flags & os.O_APPEND))
        return self._opened(handle, None).handle

    def _opened(self, handle: Handle, what: object) -> Opened:
        """Return a handle, past the kernel's cache where others fill that with other bytes.

        That is where who has the file open sees what it was before somebody else replaced it.
        """
        for other in self._handles.at(handle.path):
            if other.shows is not None and other.shows != handle.shows:
                handle.direct_io, what = True, None
        return Opened(handle, self._now_cached(handle.path, what))

    def changed(self, path: str) -> None:
        """Take note that what the kernel has of a file is good no more."""
        self._now_cached(path, None)

    def _refuse_late_cancel(self, node: Node) -> None:
        """Say of a run that cannot be canceled any more what is the matter with it."""
        if node.kind is tree.CANCEL:
            state = self._fs.entries.entry(_parent(node), ask=False)["state"]
            raise failure(InvalidRunState, f"the run is in state {state}: it has ended", node.path)

    def _lasts(self, node: Node) -> bool:
        """Tell whether a file made here is the same whenever it is opened: of an ended run."""
        if "run" not in node.names:
            return False
        handle = self._fs.catalog.known_run(self._fs.entries.run_id(node))
        return handle is not None and handle.get("state") in ENDED_STATES

    def _now_cached(self, path: str, what: object) -> bool:
        """Note what the kernel gets to see of a file; tell whether it has that already."""
        with self._lock:
            same = what is not None and self._cached.get(path) == what
            self._cached[path] = what
            self._cached.move_to_end(path)
            if len(self._cached) > _KNOWN_FILES:
                self._cached.popitem(last=False)
            return same


def _parent(node: Node) -> Node:
    return tree.parse(node.path.rpartition("/")[0])
