"""The tree as a ``UPath`` of universal_pathlib, where that is installed."""

from __future__ import annotations

from fsspec import get_filesystem_class
from upath import UPath

from flowfs.filesystem.urls import PROTOCOLS

__all__ = ["FlowPath"]

# universal_pathlib compares the protocols of paths by their classes, as far as they are loaded.
for _protocol in PROTOCOLS:
    get_filesystem_class(_protocol)


class FlowPath(UPath):  # type: ignore[misc]
    """A path of the tree that knows its service.

    universal_pathlib keeps the path alone in its text; here it is the full URL, so that what
    is written down leads back to the same service.
    """

    __slots__ = ()

    def __str__(self) -> str:
        if self._relative_base is not None:
            text: str = super().__str__()
            return text
        # Not self.fs, which asks for this text. Instances are kept: this costs little.
        fs = self._fs_factory("", self.protocol, self.storage_options)
        url: str = fs.unstrip_protocol(self.path)
        return url
