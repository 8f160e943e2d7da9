"""A stream read at given places, by several at once: the part read last is kept."""

from __future__ import annotations

from collections import deque

from flowfs.content.reader import Reader
from flowfs.service.waits import Turn

__all__ = ["Window"]

# The kernel reads ahead with several requests at once, which arrive in any order. One that
# comes early is served by reading on, and what that passed is kept for those still to come.
_AHEAD = 1 << 20  # bytes
_KEPT = 1 << 22  # bytes


class Window:
    """Reads a file that is kept nowhere; from front to back it is one request.

    Parameters
    ----------
    reader : Reader
        Where bytes come from; closed here.

    Notes
    -----
    Thread-safe. One reads at a time, the others wait.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._lock = Turn()
        self._pieces: deque[bytes] = deque()  # what was read last, without a gap
        self._start = self._end = 0  # of them, in the file

    def read(self, start: int, size: int) -> bytes:
        """Return bytes; fewer than asked for only at the end.

        Raises
        ------
        FlowError
            As the service says.
        """
        end = start + size
        with self._lock:
            if not self._start <= start <= self._end + _AHEAD:
                self._pieces.clear()
                self._start = self._end = self._reader.seek(start)
            while self._end < end:
                piece = self._reader.read(end - self._end)
                if not piece:
                    end = max(start, self._end)
                    break
                self._pieces.append(piece)
                self._end += len(piece)
            data = self._cut(start, end)
            while self._end - self._start - len(self._pieces[0] if self._pieces else b"") >= _KEPT:
                self._start += len(self._pieces.popleft())
            return data

    def _cut(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        # Most often it is the piece that came last.
        if self._end - len(self._pieces[-1]) == start and self._end == end:
            return self._pieces[-1]
        parts, at = [], self._start
        for piece in self._pieces:
            if at + len(piece) > start and at < end:
                parts.append(piece[max(0, start - at) : end - at])
            at += len(piece)
        return b"".join(parts)

    def close(self) -> None:
        """Close it and its connection."""
        with self._lock:
            self._reader.close()
