"""What a directory lists on a mount: made as far as it is read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from flowfs.filesystem.entries import Alike
from flowfs.fuse.attributes import inodes, type_bits
from flowfs.tree import Node

__all__ = ["Directory", "Listed", "Snapshots"]

#: Name, type bits and inode number.
Listed = tuple[str, int, int]

_SNAPSHOTS = 8  # large directories that are being read


class Directory:
    """A listing, as it was when it was begun. Of 100,000 names no more is made than is read.

    Parameters
    ----------
    node : Node
        The directory.
    *pieces : list of Listed, or Alike
        What is in it, in order.
    """

    def __init__(self, node: Node, *pieces: list[Listed] | Alike) -> None:
        self._node = node
        self._pieces = [
            (len(piece.names) if isinstance(piece, Alike) else len(piece), piece)
            for piece in pieces
        ]
        self._count = sum(count for count, _ in self._pieces)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Listed]:
        return iter(self.part(0, self._count))

    def part(self, start: int, stop: int) -> list[Listed]:
        """Return the names from one place in the listing to another."""
        found: list[Listed] = []
        for count, piece in self._pieces:
            low, high = max(0, start), min(count, stop)
            if low < high:
                found += (
                    self._made(piece, low, high) if isinstance(piece, Alike) else piece[low:high]
                )
            start, stop = start - count, stop - count
        return found

    def _made(self, alike: Alike, low: int, high: int) -> list[Listed]:
        kind, directory, names, ids = alike
        if high - low < len(names):
            names, ids = names[low:high], None if ids is None else ids[low:high]
        type_of = type_bits(kind, directory)
        numbers = inodes(self._node, Alike(kind, directory, names, ids))
        return [(name, type_of, number) for name, number in zip(names, numbers, strict=True)]


class Snapshots:
    """Large listings that are being read, part by part. Thread-safe; 8 at most are kept."""

    def __init__(self) -> None:
        self._all: OrderedDict[int, Directory] = OrderedDict()

    def begin(self, handle: int, directory: Directory) -> None:
        """Keep the listing for who has a directory open."""
        self._all[handle] = directory
        while len(self._all) > _SNAPSHOTS:
            self._all.popitem(last=False)

    def get(self, handle: int) -> Directory | None:
        """Return it; None if it is not kept any more."""
        return self._all.get(handle)

    def end(self, handle: int) -> None:
        """Drop it: all of it was read."""
        self._all.pop(handle, None)
