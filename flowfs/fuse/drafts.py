"""``uploads/``: the files that are open for writing, by name."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from flowfs.catalog import FileRecord
from flowfs.errors import NotFound, describe, failure
from flowfs.filesystem import FlowFileSystem
from flowfs.fuse.draft import Draft, raw_name
from flowfs.fuse.drafting import FollowingHandle
from flowfs.fuse.resting import Resting
from flowfs.tree import Node

__all__ = ["Drafts"]

logger: logging.Logger = logging.getLogger("flowfs.mount")

_NAMES_TOLD = 10_000
_SENDERS = 4  # at once, at the end


class Drafts:
    """The uploads that are open for writing, by path. Thread-safe.

    Parameters
    ----------
    fs : FlowFileSystem
        Where to send them.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, fs: FlowFileSystem, clock: Callable[[], float] = time.monotonic) -> None:
        self._fs = fs
        # Taken after the lock of a draft, never the other way round.
        self._lock = threading.Lock()
        self._drafts: dict[str, Draft] = {}
        self._followers: dict[str, set[FollowingHandle]] = {}
        self._resting = Resting(fs.content.room.size, clock)
        self._told: set[str] = set()

    def peek(self, path: str) -> Draft | None:
        """Return the draft of a file if it is open for writing, or was and is read still.

        Of the latter it is looked up whether it is what the service has: a listing, unless
        that is known. If it is not, the file is what somebody else has made of it, and only
        who has it open reads what was written here.

        Raises
        ------
        FlowError
            If that cannot be told.
        """
        draft = self._drafts.get(path)
        if draft is None or not _at_rest(draft) or not draft.is_overtaken():
            return draft
        with self._lock:
            if self._drafts.get(path) is not draft or not _at_rest(draft):
                return self._drafts.get(path)
            del self._drafts[path]
            draft.discard()
        return None

    def below(self, path: str) -> list[str]:
        """Return the names of new files in a directory that the service does not have yet."""
        with self._lock:
            new = [p for p, d in self._drafts.items() if d.size is not None and not d.listed]
        split = [p.rpartition("/") for p in new]
        return [name for directory, _, name in split if directory == path]

    def open(self, node: Node, *, new: bool = False) -> Draft:
        """Return the draft of a file, made if need be; :meth:`close` ends its use.

        Parameters
        ----------
        node : Node
            Its place.
        new : bool
            Whether the file is not there yet: it is made, empty.
        """
        self.peek(node.path)
        left: list[Draft] = []  # by who follows the file, for the new one
        rested = self._resting.take(node.path)
        if rested is not None and (new or not rested.is_what_the_service_has()):
            rested.drop()
            rested = None
        with self._lock:
            draft = self._drafts.get(node.path)
            unused, made = rested, draft is None
            if draft is None:
                draft = rested or Draft(self._fs, node, listed=not new, stored=self._tell)
                self._drafts[node.path], unused = draft, None
                for follower in self._followers.get(node.path, ()):
                    if follower.draft is not None:
                        left.append(follower.draft)
                    follower.draft = draft
                    draft.users += 1
            draft.users += 1
            draft.writers += 1
        if unused is not None:
            unused.drop()
        for one in left:
            self.close(one, writes=False)
        if new and made:
            try:
                draft.truncate(0)
            except BaseException:
                self.close(draft)
                raise
        return draft

    def join(self, path: str, *, writes: bool = True) -> Draft | None:
        """Return the draft of a file if there is one; :meth:`close` ends its use.

        Parameters
        ----------
        path : str
            Its path.
        writes : bool
            Whether it is to be written, or only read.
        """
        self.peek(path)
        with self._lock:
            draft = self._drafts.get(path)
            if draft is not None:
                draft.users += 1
                draft.writers += writes
            return draft

    def follow(self, handle: FollowingHandle) -> None:
        """Give a handle the draft of its file, now or once there is one."""
        with self._lock:
            self._followers.setdefault(handle.follows, set()).add(handle)
            handle.draft = self._drafts.get(handle.follows)
            if handle.draft is not None:
                handle.draft.users += 1

    def leave(self, handle: FollowingHandle) -> None:
        """End that; the draft is of no use to the handle any more."""
        with self._lock:
            following = self._followers.get(handle.follows, set())
            following.discard(handle)
            if not following:
                self._followers.pop(handle.follows, None)
            draft, handle.draft = handle.draft, None
        if draft is not None:
            self.close(draft, writes=False)

    def close(self, draft: Draft, *, writes: bool = True) -> None:
        """End the use of a draft; the last one that writes sends what is not sent.

        Raises
        ------
        FlowError
            As the service says.
        """
        with self._lock:
            draft.writers -= writes
            last = writes and draft.writers == 0
            draft.closing += last
        try:
            if last:
                # Until it is sent, who opens the file again must find this, not what was there.
                # Who does so, empties it and closes it meanwhile is the last one as well.
                draft.settle()
        finally:
            with self._lock:
                draft.users -= 1
                draft.closing -= last
                # What was interrupted is tried once more at the end of the mount.
                unused = draft.users == 0 and not draft.unsent
                if unused and self._drafts.get(draft.node.path) is draft:
                    del self._drafts[draft.node.path]
            if unused:
                self._resting.keep(draft)

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

    def remove(self, node: Node) -> None:
        """Delete an upload, sent or not; who has it open goes on with it, to nowhere.

        Costs a request, unless nothing of it has been sent.

        Raises
        ------
        NotFound
            If there is none.
        FlowError
            As the service says: it is there as before.
        """
        draft = self.join(node.path, writes=False)
        if draft is None:
            self._delete(node)
            self._unname(node.path)
            return
        try:
            with draft.lock:
                if self._drafts.get(node.path) is not draft:
                    raise failure(NotFound, "has been renamed", node.path)
                draft.hold()
                # What is being sent has been; what comes later is not sent any more.
                if draft.on_service():
                    with suppress(NotFound):
                        self._delete(node)
                self._unname(node.path)
                draft.discard()
        finally:
            self.close(draft, writes=False)

    def _delete(self, node: Node) -> None:
        group_id = self._fs.entries.group_id(node)
        self._fs.catalog.delete_upload(group_id, node.names["upload"])

    def _unname(self, path: str) -> None:
        """Take its name from whatever has it."""
        self._resting.drop(path)
        with self._lock:
            draft = self._drafts.pop(path, None)
            self._lead(path, "")
        if draft is not None:
            draft.discard()

    def rename(self, old: Node, new: Node) -> None:
        """Give an upload another name in its group; what has that name is replaced.

        Who has the file open goes on with it under its new name; who has open what it replaces
        writes to nowhere. A file of which nothing has been sent yet costs nothing; otherwise
        it is sent under its new name, and deleted under the old one. Its bytes are fetched
        unless it is open for writing, or was so just now.

        Raises
        ------
        NotFound
            If there is no such file (any more).
        FlowError
            As the service says: nothing is lost.
        """
        with ExitStack() as opened:
            draft = self.open(old)
            opened.callback(self.close, draft)
            target = self.join(new.path)
            if target is not None:
                opened.callback(self.close, target)
            both = sorted({d.node.path: d for d in (draft, target) if d is not None}.items())
            with ExitStack() as locks:
                for _, one in both:
                    locks.enter_context(one.lock)
                if self._drafts.get(old.path) is not draft:
                    raise failure(NotFound, "has been removed", old.path)
                if target is not None:
                    target.hold()
                draft.move(new)
                with self._lock:
                    del self._drafts[old.path]
                    self._drafts[new.path] = draft
                    self._lead(new.path, "")
                    self._lead(old.path, new.path)
                if target is not None:
                    target.discard()
            self._resting.drop(new.path)

    def _lead(self, old: str, new: str) -> None:
        """Have who follows a file follow it elsewhere; without a name, it goes on with what it has.

        The lock is held.
        """
        following = self._followers.pop(old, set())
        for handle in following:
            handle.follows = new
        if new and following:
            self._followers[new] = following

    def settle_all(self, seconds: float) -> None:
        """Send what no flush has sent, at the end of the mount; what fails is logged.

        Parameters
        ----------
        seconds : float
            For how long it is tried.
        """
        with self._lock:
            # Asked once more: what was being sent may have been given up meanwhile.
            left = [d for d in self._drafts.values() if d.unsent or d.sending or d.unsent]
        if not left:
            return
        logger.info("sending %d uploads that are not sent yet", len(left))
        pending = {id(draft): draft for draft in left}
        free, done = threading.Semaphore(_SENDERS), threading.Condition()

        def send(draft: Draft) -> None:
            with free:
                try:
                    draft.settle()
                except Exception as error:
                    logger.error("not uploaded: %s: %s", draft.node.path, describe(error))
            with done:
                del pending[id(draft)]
                done.notify_all()

        for draft in left:
            # They must not hold up the end of the process.
            thread = threading.Thread(target=send, args=(draft,), name="flowfs-last", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # there are too many: then one after the other
                send(draft)
        with done:
            done.wait_for(lambda: not pending, seconds)
            for draft in pending.values():
                logger.error("not uploaded within %g s: %s", seconds, draft.node.path)

    # -- names -------------------------------------------------------------

    def _tell(self, node: Node, record: FileRecord) -> None:
        """Say that the service has stored another name than asked; once of each name."""
        name = raw_name(node)
        if record.stored == name:
            return
        with self._lock:
            if node.path in self._told:
                return
            if len(self._told) >= _NAMES_TOLD:
                self._told.clear()
            self._told.add(node.path)
        # Editors and rsync write under such names, for a moment.
        passing = name.startswith(".") or name.endswith("~")
        logger.log(
            logging.INFO if passing else logging.WARNING,
            "the service stored %r as %r; both names find it here, only the second is listed",
            name,
            record.stored,
        )


def _at_rest(draft: Draft) -> bool:
    """Tell whether nobody writes a draft, and nothing of it is still to be sent."""
    return not (draft.writers or draft.closing or draft.unsent)
