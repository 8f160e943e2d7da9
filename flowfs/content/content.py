"""Bytes of the service's files."""

from __future__ import annotations

from flowfs.content.reader import Reader
from flowfs.content.shared_reader import SharedReader
from flowfs.content.sharing import SharedFile
from flowfs.content.source import Source
from flowfs.content.store import Store
from flowfs.errors import BadReply
from flowfs.service.asking import is_ahead

__all__ = ["Content"]


class Content(Store):
    """The service's files, to be opened."""

    def share(self, source: Source, *, ahead: bool = False) -> SharedFile:
        """Open a file for reading together with all others who have it open so.

        Costs a request for the size unless it is known; an archive is asked for at once.

        Parameters
        ----------
        source : Source
            Which.
        ahead : bool
            Whether to fetch on ahead of who reads from front to back, in another thread.
        """
        return SharedFile(self, source, ahead=ahead)

    def open(self, source: Source) -> Reader | SharedReader:
        """Open a file for reading; nothing is asked for until it is read.

        An archive is asked for at once: one request, unless it is kept.
        """
        if self.disk is not None:
            return SharedReader(self, source)
        return Reader(self, source, self.spool(source) if source.whole else None)

    def part(self, source: Source, start: int, end: int | None) -> bytes:
        """Return the bytes from `start` to `end` (exclusive; None: the end).

        One request unless a reply breaks off; where content is kept on disk, none for what is
        there, and one for the size if it is not known and `start` is not 0.

        Raises
        ------
        FlowError
            As the service says.
        """
        if self.disk is None or source.whole:
            try:
                return self.read(source, start, end)
            except BadReply as error:
                # A reply that broke off is asked for again; an archive would be another one.
                if source.whole or error.status is not None or is_ahead():
                    raise
        with self.open(source) as reader:
            reader.seek(start)
            return reader.readall() if end is None else reader.read(max(0, end - start))
