"""Reading files: whole, in parts, many at once."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from typing import IO, Any

from fsspec.callbacks import DEFAULT_CALLBACK

from flowfs.errors import IsADirectory, failure
from flowfs.filesystem.bound import BoundFileSystem, one_operation
from flowfs.filesystem.files import GeneratedFile, NamedReader, ResultFile
from flowfs.pool import map_all, result_of

__all__ = ["Reading"]


class Reading(BoundFileSystem):
    """Bytes of files."""

    def _open_to_read(self, path: str, block_size: int | None) -> IO[bytes]:
        node = self.entries.follow(self._resolve(path))
        self.entries.check(node)
        if node.kind.directory:
            raise failure(IsADirectory, f"is a directory ({node.kind.name})", path)
        source = self.entries.source(node)
        if source is None:
            return GeneratedFile(self.entries.read(node), path)
        with self._naming(path):
            reader = self.content.open(source)
        named = NamedReader(reader, lambda: self._naming(path))
        return ResultFile(named, path, block_size or (1 << 18))

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Return the bytes of a file, or of a part of it; negative places count from the end.

        One request; none for what is known.
        """
        path = self._strip_protocol(path)
        with self._naming(path):
            node = self.entries.follow(self._resolve(path))
            self.entries.check(node)
            if node.kind.directory:
                raise failure(IsADirectory, f"is a directory ({node.kind.name})", path)
            source = self.entries.source(node)
            if source is None:
                return self.entries.read(node)[start:end]
            content = self.content
            if (start or 0) < 0 or (end or 0) < 0:
                # Open until it is read: the next archive may be of another size.
                with content.open(source) as reader:
                    start, end, _ = slice(start, end).indices(reader.size)
                    return content.read(source, start, end)
            return content.read(source, start or 0, end)

    @one_operation
    def cat(
        self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any
    ) -> Any:
        """Return the bytes of one file, or of many by path, several requests at once.

        Parameters
        ----------
        path : str or list of str
            Paths or patterns.
        recursive : bool
            Take all files below directories.
        on_error : "raise", "omit" or "return"
            What to do about a path that fails.

        Returns
        -------
        bytes, or dict of str to bytes
            A dict for a list, a pattern, or recursive.
        """
        paths = [
            p
            for p in self.expand_path(path, recursive=recursive)
            if not recursive or self.isfile(p)
        ]
        single = isinstance(path, (str, os.PathLike)) and not recursive
        if single and paths == [self._strip_protocol(path)]:
            return self.cat_file(paths[0], **kwargs)
        outcomes = map_all(lambda p: self.cat_file(p, **kwargs), paths, self._workers)
        found: dict[str, Any] = {}
        for one, outcome in zip(paths, outcomes, strict=True):
            if isinstance(outcome, Exception):
                if on_error == "raise":
                    raise outcome
                if on_error == "omit":
                    continue
            found[one] = outcome
        return found

    @one_operation
    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Return parts of files, several requests at once.

        Parameters
        ----------
        paths : list of str
            Files.
        starts, ends : int or list of int
            Places in each.
        on_error : "return" or "raise"
            Whether failures are returned in the place of bytes.

        Returns
        -------
        list of bytes or Exception
        """
        if max_gap is not None:
            raise NotImplementedError("max_gap: parts of files are not joined")
        count = len(paths)
        starts = list(starts) if isinstance(starts, Iterable) else [starts] * count
        ends = list(ends) if isinstance(ends, Iterable) else [ends] * count
        if not len(starts) == len(ends) == count:
            raise ValueError("paths, starts and ends must be of one length")
        outcomes = map_all(
            lambda part: self.cat_file(part[0], part[1], part[2], **kwargs),
            zip(paths, starts, ends, strict=True),
            self._workers,
        )
        if on_error == "raise":
            return [result_of(outcome) for outcome in outcomes]
        return list(outcomes)

    @one_operation
    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy files from here, as in fsspec. A view is one thing throughout."""
        super().get(rpath, lpath, recursive, callback, maxdepth, **kwargs)

    def get_file(
        self, rpath: str, lpath: Any, callback: Any = None, outfile: Any = None, **kwargs: Any
    ) -> None:
        """Copy a file from here. It has its name only once it is whole."""
        if outfile is not None or hasattr(lpath, "write"):
            self._copy_out(rpath, outfile or lpath, callback)
            return
        if self.isdir(rpath):
            os.makedirs(lpath, exist_ok=True)
            return
        if os.path.exists(lpath) and not os.path.isfile(lpath):
            with open(lpath, "wb") as file:  # a device or pipe: written to, not replaced
                self._copy_out(rpath, file, callback)
            return
        lpath = os.path.realpath(lpath)  # a link stays one
        folder = os.path.dirname(lpath)
        os.makedirs(folder, exist_ok=True)
        # A name of its own: one made from the file's could be too long, or another's.
        partial = os.path.join(folder, f".flowfs-{secrets.token_hex(8)}")
        try:
            with open(partial, "xb") as file:
                self._copy_out(rpath, file, callback)
            os.replace(partial, lpath)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise

    def _copy_out(self, rpath: str, file: IO[bytes], callback: Any) -> None:
        with self.open(rpath, "rb") as source:
            raw: Any = source.raw if isinstance(source, ResultFile) else source
            buffer = bytearray(1 << 20)
            view = memoryview(buffer)
            # The first bytes bring the size along.
            got = raw.readinto(buffer)
            if callback is not None:
                callback.set_size(source.size)
            while got:
                file.write(view[:got])
                if callback is not None:
                    callback.relative_update(got)
                got = raw.readinto(buffer)
