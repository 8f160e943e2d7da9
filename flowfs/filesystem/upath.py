"""The tree as a ``UPath`` of universal_pathlib, where that is installed."""

from __future__ import annotations

from fsspec import get_filesystem_class
from upath import UPath

from flowfs import tree
from flowfs.errors import InvalidArguments, NotADirectory, NotFound, failure
from flowfs.filesystem.urls import PROTOCOLS

__all__ = ["FlowPath"]

# universal_pathlib compares the protocols of paths by their classes, as far as they are loaded.
for _protocol in PROTOCOLS:
    get_filesystem_class(_protocol)


class FlowPath(UPath):  # type: ignore[misc]
    """A path of the tree that knows its service.

    universal_pathlib keeps the path alone in its text; here it is the full URL, so that what
    is written down leads back to the same service. Two paths of one service and user are equal
    however their URLs are written. Symbolic links are those of a mount: ``latest`` and its like.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        same: bool = super().__eq__(other)
        if same is not False or not isinstance(other, FlowPath):
            return same
        if self._relative_base is not None or other._relative_base is not None:
            return False
        try:
            return bool(self.path == other.path and self.fs == other.fs)
        except (TypeError, ValueError, OSError):  # options that make no file system
            return False

    def __hash__(self) -> int:
        if self._relative_base is not None:
            return hash(str(self))
        return hash(self.path)

    def __str__(self) -> str:
        if self._relative_base is not None:
            text: str = super().__str__()
            return text
        # Not self.fs, which asks for this text. Instances are kept: this costs little.
        fs = self._fs_factory("", self.protocol, self.storage_options)
        url: str = fs.unstrip_protocol(self.path)
        return url

    def is_symlink(self) -> bool:
        """Tell whether the path is a link, as a mount shows it; views are none."""
        return self._is_link() and bool(self.exists())

    def readlink(self) -> FlowPath:
        """Return where a link leads.

        Raises
        ------
        InvalidArguments
            If it is no link.
        NotFound
            If it leads nowhere.
        """
        if not self._is_link():
            raise failure(InvalidArguments, "is no link", str(self))
        target = self.fs.unstrip_protocol(self.fs.info(self.path)["target"])
        return type(self)(target, **self.storage_options)

    def _is_link(self) -> bool:
        try:
            node = tree.parse(self.path)
        except (NotFound, NotADirectory):
            return False
        return node.kind.link and not node.rest

    def rmdir(self, recursive: bool = False) -> None:
        """Delete a run with all that is in it, if `recursive`.

        Elsewhere in universal_pathlib that is so unless one says otherwise. Here it has to be
        said: pathlib's own would refuse, and a run does not come back.

        Raises
        ------
        DirectoryNotEmpty
            For a run, unless `recursive`.
        NotADirectory, NotPermitted, NotFound, InvalidRunState
            If it is none, or one that is active.
        """
        if not recursive:
            self.fs.rmdir(self.path)
        elif not self.is_dir():
            kind = NotADirectory if self.exists() else NotFound
            raise failure(kind, "is no directory", str(self))
        else:
            self.fs.rm(self.path, recursive=True)
