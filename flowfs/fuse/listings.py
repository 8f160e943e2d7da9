"""What a directory lists on a mount: made as far as it is read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import cast

from flowfs.filesystem.entries import Alike
from flowfs.fuse.attributes import inodes, type_bits
from flowfs.tree import Node

__all__ = ["Directory", "Listed", "Snapshots"]

#: Name, type bits and inode number.
Listed = tuple[str, int, int]

_SNAPSHOTS = 32  # large directories that are being read


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
        return list(zip(*self.columns(start, stop), strict=True))

    def columns(self, start: int, stop: int) -> tuple[list[str], list[int], list[int]]:
        """Return names, type bits and inode numbers from one place in the listing to another."""
        names: list[str] = []
        types: list[int] = []
        numbers: list[int] = []
        for count, piece in self._pieces:
            low, high = max(0, start), min(count, stop)
            if low < high and isinstance(piece, Alike):
                kind, directory, all_names, ids = piece
                some = all_names[low:high]
                names += some
                types += [type_bits(kind, directory)] * len(some)
                ids = None if ids is None else ids[low:high]
                numbers += inodes(self._node, Alike(kind, directory, some, ids))
            elif low < high:
                for name, type_of, number in cast("list[Listed]", piece)[low:high]:
                    names.append(name)
                    types.append(type_of)
                    numbers.append(number)
            start, stop = start - count, stop - count
        return names, types, numbers


class Snapshots:
    """Large listings that are being read, part by part. Thread-safe; 32 at most are kept.

    They are kept by where libfuse keeps what is open. That is told only when it is read: what
    was not read to its end stays here, and by then another directory may be kept there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: OrderedDict[int, tuple[bytes | None, Directory]] = OrderedDict()

    def begin(self, handle: int, path: bytes | None, directory: Directory) -> None:
        """Keep the listing for who has a directory open."""
        with self._lock:
            self._all[handle] = path, directory
            self._all.move_to_end(handle)
            while len(self._all) > _SNAPSHOTS:
                self._all.popitem(last=False)

    def get(self, handle: int, path: bytes | None) -> Directory | None:
        """Return it; None if it is not kept any more. A path of None: it has been removed."""
        with self._lock:
            of, directory = self._all.get(handle, (None, None))
            if directory is None or (path is not None and path != of):
                return None
            self._all.move_to_end(handle)  # who reads on is not the first to lose it
            return directory

    def end(self, handle: int) -> None:
        """Drop it: all of it was read."""
        with self._lock:
            self._all.pop(handle, None)
