"""The tree as a FUSE mount: operations over :class:`~flowfs.FlowFileSystem`."""

from flowfs.fuse.process import mount, unmount

__all__ = ["mount", "unmount"]
