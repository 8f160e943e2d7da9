"""Bytes of the service's files."""

from __future__ import annotations

from flowfs.content.reader import Reader
from flowfs.content.sharing import SharedFile
from flowfs.content.source import Source
from flowfs.content.store import Store

__all__ = ["Content"]


class Content(Store):
    """The service's files, to be opened."""

    def share(self, source: Source) -> SharedFile:
        """Open a file for reading together with all others who have it open so.

        Costs a request for the size unless it is known; an archive is asked for at once.
        """
        return SharedFile(self, source)

    def open(self, source: Source) -> Reader:
        """Open a file for reading; nothing is asked for until it is read.

        An archive is asked for at once: one request, unless it is kept.
        """
        return Reader(self, source, self.spool(source) if source.whole else None)
