"""Files for who keeps blocks of them himself: fsspec's ``blockcache``."""

from __future__ import annotations

from typing import Any

from fsspec.spec import AbstractBufferedFile

from flowfs.content import Content, Source

__all__ = ["BlockFile"]


class BlockFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file of the service whose bytes are asked for range by range, by a cache of fsspec's.

    Parameters
    ----------
    fs : FlowFileSystem
        Of which it is.
    path : str
        Its path in the tree.
    content : Content
        Where its bytes come from.
    source : Source
        Which it is; one whose bytes are the same each time.
    block_size : int, optional
        Bytes of a block.
    size : int, optional
        Its bytes, as the cache has them from before; one request where nobody knows them.
    """

    def __init__(
        self,
        fs: Any,
        path: str,
        content: Content,
        source: Source,
        block_size: int | None,
        size: int | None,
    ) -> None:
        self._content = content
        self._source = source
        size = content.size(source) if size is None else size
        super().__init__(fs, path, "rb", block_size or "default", cache_type="none", size=size)

    def _fetch_range(self, start: int, end: int) -> bytes:
        with self.fs._naming(self.path):
            return self._content.part(self._source, start, min(end, self.size))
