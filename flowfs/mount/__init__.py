"""The tree as a FUSE mount: operations over :class:`~flowfs.FlowFileSystem`."""

from flowfs.mount.process import mount, unmount

__all__ = ["mount", "unmount"]
