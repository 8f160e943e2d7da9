"""Uploads that are open while they are written: what each descriptor of them does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowfs.fuse.draft import Draft
from flowfs.fuse.handles import Handle

if TYPE_CHECKING:
    from flowfs.fuse.drafts import Drafts

__all__ = ["DraftHandle", "FollowingHandle"]


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
    writes : bool
        Whether it is open for writing. Who only reads sends nothing by closing it.
    """

    def __init__(
        self, drafts: Drafts, draft: Draft, *, append: bool = False, writes: bool = True
    ) -> None:
        super().__init__(draft.node.path)
        self._drafts = drafts
        self._draft = draft
        self._append = append
        self._writes = writes

    @property
    def size(self) -> int | None:  # type: ignore[override]
        """Bytes in it, whether it has a name or not."""
        return self._draft.size

    @property
    def shows(self) -> object:  # type: ignore[override]
        """The draft: whoever has it open shows what is in it now."""
        return self._draft

    def read(self, size: int, offset: int) -> bytes:
        """Return a part of it."""
        return self._draft.read(size, offset)

    def write(self, data: bytes, offset: int) -> int:
        """Put bytes at a place; nothing is sent yet."""
        return self._draft.write(data, None if self._append else offset)

    def truncate(self, length: int) -> None:
        """Cut it off, or fill it up with zeros; nothing is sent yet."""
        self._draft.truncate(length)

    def flush(self, process: int | None) -> None:
        """Send it, if it was written."""
        if self._writes:
            self._draft.flush()

    def fsync(self) -> None:
        """Send it, if it was written."""
        self._draft.flush()

    def release(self) -> None:
        """Send what no flush has sent, with the last handle that writes."""
        self._drafts.close(self._draft, writes=self._writes)


class FollowingHandle(Handle):
    """An upload that was opened for reading before somebody opened it for writing.

    What is written to it meanwhile is read here too, as from any file: the kernel has one
    cache and one size for all who have it open.

    Parameters
    ----------
    drafts : Drafts
        Whom to ask for what is written.
    stream : Handle
        What the service had when it was opened; closed here.

    Attributes
    ----------
    draft : Draft or None
        What is read once there is something in it; set by `drafts`.
    follows : str
        Path of the file; empty once it has been removed. Set by `drafts`.
    """

    def __init__(self, drafts: Drafts, stream: Handle) -> None:
        super().__init__(stream.path)
        self._drafts = drafts
        self._stream = stream
        self.draft: Draft | None = None
        self.follows: str = stream.path
        drafts.follow(self)

    @property
    def _now(self) -> Draft | Handle:
        draft = self.draft
        return self._stream if draft is None or draft.size is None else draft

    @property
    def size(self) -> int | None:  # type: ignore[override]
        """Bytes in it now."""
        return self._now.size

    @property
    def shows(self) -> object:  # type: ignore[override]
        """The draft, if it has one: what is in that is shown once something is."""
        return self._stream.shows if self.draft is None else self.draft

    def read(self, size: int, offset: int) -> bytes:
        """Return a part of what is in it now."""
        return self._now.read(size, offset)

    def release(self) -> None:
        """Close it; who only reads sends nothing."""
        self._drafts.leave(self)
        self._stream.release()
