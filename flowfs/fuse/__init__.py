"""The tree as a FUSE mount: operations over :class:`~flowfs.FlowFileSystem`."""

from flowfs.fuse.mounted import Mounted, mount
from flowfs.fuse.unmounting import unmount

__all__ = ["Mounted", "mount", "unmount"]
