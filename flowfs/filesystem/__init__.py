"""The tree as an fsspec filesystem: protocols ``flow``, ``flow+http``, ``flow+https``."""

from flowfs.filesystem.spec import FlowFileSystem
from flowfs.filesystem.writing import StoredNameWarning

__all__ = ["FlowFileSystem", "StoredNameWarning"]
