"""FUSE's operations on the tree. Each is thin: what a place is and holds, others know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowfs.filesystem import FlowFileSystem
from flowfs.fuse.attributes import Attributes, run_inodes
from flowfs.fuse.binding import BACKGROUND
from flowfs.fuse.changing import Changing
from flowfs.fuse.files import Files
from flowfs.fuse.looking import Looking
from flowfs.fuse.served import operation

__all__ = ["Operations"]

_AUTO_INVAL_DATA = 1 << 12  # FUSE_CAP_AUTO_INVAL_DATA of libfuse 3
_LAST = 20.0  # seconds for uploads that are not sent when the mount ends


class Operations(Looking, Files, Changing):
    """The tree, or a part of it, as FUSE asks for it.

    Parameters
    ----------
    fs : FlowFileSystem
        The service.
    root : str
        Path in the tree of what is mounted.
    caller : callable
        Returns the thread id of who asked for the operation at hand.
    attributes : Attributes
        How entries become what stat tells.
    ready : callable, optional
        Called once the kernel has begun to ask.
    served : callable, optional
        Called once the kernel asks no more, with the seconds that uploads may still take.

    Notes
    -----
    What is refused, and how: creating anywhere but in ``uploads/``, writing anything but
    ``new``, ``cancel`` and uploads, and removing anything but runs and uploads is EPERM; in a
    read-only mount EROFS. Runs that are active, and ``cancel`` of one that has ended: EBUSY. A
    directory that is not empty: ENOTEMPTY. Links, directories of one's own, and renaming anything
    but an upload: EPERM.
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
        attributes: Attributes,
        ready: Callable[[], None] | None = None,
        served: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__(fs, root, caller, attributes)
        self._entries.ahead.numbers = run_inodes
        self._ready = ready
        self._served = served

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
            # An option of libfuse 2 only.
            conn.max_background = BACKGROUND
            conn.congestion_threshold = BACKGROUND * 3 // 4
        self.init("/")

    @operation
    def destroy(self, path: str) -> None:
        """Send uploads that are not sent yet: the kernel drops what it had still to close."""
        self._entries.ahead.stop()
        if self._served is not None:
            self._served(_LAST + 1.0)
        self._drafts.settle_all(_LAST)
