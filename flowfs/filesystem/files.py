"""Files as Python opens them: buffered for reading, and as text."""

from __future__ import annotations

import io
from typing import Any

from flowfs.content import Reader
from flowfs.filesystem.writing import OutgoingFile

__all__ = ["GeneratedFile", "ResultFile", "TextFile"]


class ResultFile(io.BufferedReader):
    """A file of the service, open for reading.

    Parameters
    ----------
    reader : Reader
        Where its bytes come from.
    path : str
        Its path in the tree.
    block_size : int
        Bytes of the buffer that small reads are served from.

    Attributes
    ----------
    path : str
        Its path in the tree.
    size : int
        Its bytes; costs a request unless known.
    """

    raw: Reader

    def __init__(self, reader: Reader, path: str, block_size: int) -> None:
        super().__init__(reader, block_size)
        self.path = path

    @property
    def name(self) -> str:
        """Its path in the tree."""
        return self.path

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.raw.size


class GeneratedFile(io.BytesIO):
    """A file that flowfs makes, open for reading: one snapshot.

    Parameters
    ----------
    data : bytes
        All of it.
    path : str
        Its path in the tree.
    """

    def __init__(self, data: bytes, path: str) -> None:
        super().__init__(data)
        self.path = path
        self.name = path
        self.size = len(data)


class TextFile(io.TextIOWrapper):
    """A file as text. Where it is written, an exception in its ``with`` body sends nothing."""

    @property
    def run(self) -> dict[str, Any] | None:
        """The handle of the run that was started or canceled; None before that."""
        return getattr(self.buffer, "run", None)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None and isinstance(self.buffer, OutgoingFile):
            self._abandon(self.buffer)
            return
        self.close()

    def __del__(self) -> None:
        buffer = None if self.closed else self.buffer
        if isinstance(buffer, OutgoingFile):
            # Never closed: closing it now would send what may be half a document.
            buffer.__del__()
            self._abandon(buffer)

    def _abandon(self, file: OutgoingFile) -> None:
        file.discard()
