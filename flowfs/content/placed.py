"""A file that is read from one place to the next."""

from __future__ import annotations

import os

from flowfs.service.leftovers import RawFile

__all__ = ["PlacedFile"]

_CHUNK = 1 << 20  # bytes


class PlacedFile(RawFile):
    """A file that is read, and knows where the next read begins.

    Who inherits from it reads at `_position` and moves that on; who has a size says so.
    """

    _position = 0

    @property
    def size(self) -> int:
        """Bytes in the file; costs a request unless known."""
        raise NotImplementedError

    def readable(self) -> bool:
        """Files are read."""
        return True

    def seekable(self) -> bool:
        """Every place can be read."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set where the next read begins; costs nothing (from the end: the size)."""
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self.size
        elif whence != os.SEEK_SET:
            raise ValueError(f"unknown whence: {whence}")
        if offset < 0:
            raise ValueError(f"negative position: {offset}")
        self._position = offset
        return offset

    def readall(self) -> bytes:
        """Read to the end."""
        pieces = []
        while piece := self.read(_CHUNK):
            pieces.append(piece)
        return b"".join(pieces)
