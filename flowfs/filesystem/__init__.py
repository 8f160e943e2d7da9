"""The tree as an fsspec filesystem: protocols ``flow``, ``flow+http``, ``flow+https``."""

from flowfs.filesystem.run import Run
from flowfs.filesystem.showing import RunsTable
from flowfs.filesystem.spec import FlowFileSystem
from flowfs.filesystem.writing import StoredNameWarning

__all__ = ["FlowFileSystem", "Run", "RunsTable", "StoredNameWarning"]
