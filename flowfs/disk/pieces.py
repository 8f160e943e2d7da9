"""Bytes written to a file in pieces of the size that the kernel does best with."""

from __future__ import annotations

import os

__all__ = ["put"]

# The larger they are, the larger are the pages that Linux puts them into. Where a machine gets
# its memory from a host as it first touches it, large ones are new memory, which is dear: a MiB
# at a time takes up to twice as long. Smaller pieces than these cost more calls.
_PIECE = 1 << 18  # bytes


def put(fd: int, start: int, data: bytes | memoryview) -> None:
    """Write all of some bytes.

    Parameters
    ----------
    fd : int
        Of the file.
    start : int
        Where in it.
    data : bytes or memoryview
        What.

    Raises
    ------
    OSError
        If they cannot be written; some of them may have been.
    """
    view, written = memoryview(data), 0
    while written < len(view):
        written += os.pwrite(fd, view[written : written + _PIECE], start + written)
