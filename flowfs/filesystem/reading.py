"""Reading files: whole, in parts, many at once."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, Any

from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.spec import AbstractFileSystem

from flowfs import tree
from flowfs.catalog import FileRecord
from flowfs.content import Source
from flowfs.errors import InvalidArguments, IsADirectory, NotFound, again, failure
from flowfs.filesystem.blocks import BlockFile
from flowfs.filesystem.bound import BoundFileSystem, one_operation
from flowfs.filesystem.copying import Plan, copy_all
from flowfs.filesystem.files import GeneratedFile, NamedReader, ResultFile
from flowfs.filesystem.found import FoundPath
from flowfs.filesystem.sources import source_in_run
from flowfs.pool import Failures, map_all
from flowfs.service.leftovers import clear_up
from flowfs.tree import Node

__all__ = ["Reading"]

# What is looked for to find its bytes, so that it need not be looked for before.
_LOOKED_UP = frozenset({tree.RESULT, tree.OUTPUT, tree.UPLOAD})
_FIRST = 1 << 16  # bytes that are read first of a file that is copied
_CHUNK = 1 << 20  # bytes
# Names of files that are not whole yet begin so; a process and a number follow.
_NAMES = f".flowfs-{secrets.token_hex(8)}"
_NUMBERS = itertools.count()


@dataclass
class _Span:
    """Bytes that are asked for with one request, and the numbers of the parts they hold."""

    path: str
    start: Any
    end: Any
    parts: list[int]


def _spans(parts: list[tuple[str, Any, Any]], max_gap: int | None) -> list[_Span]:
    """Put together parts of one file with no more than so many bytes between them."""
    spans = [_Span(path, start, end, [n]) for n, (path, start, end) in enumerate(parts)]
    if max_gap is None:
        return spans
    # What is told from the end of a file, or reaches to it, stays as it is.
    plain = [s for s in spans if s.start is not None and s.end is not None]
    plain = [s for s in plain if 0 <= s.start < s.end]
    joined: list[_Span] = []
    for span in sorted(plain, key=lambda span: (span.path, span.start)):
        last = joined[-1] if joined else None
        if last is not None and last.path == span.path and span.start - last.end <= max_gap:
            last.end = max(last.end, span.end)
            last.parts += span.parts
        else:
            joined.append(span)
    taken = {number for span in joined for number in span.parts}
    return joined + [span for span in spans if taken.isdisjoint(span.parts)]


class Reading(BoundFileSystem):
    """Bytes of files."""

    def _open_to_read(self, path: str, block_size: int | None) -> IO[bytes]:
        source = self._carried(path)
        if isinstance(source, bytes):
            return GeneratedFile(source, path)
        if source is None:
            node = self.entries.follow(self._resolve(path))
            source = self._source(node, path)
            if source is None:
                return GeneratedFile(self.entries.read(node), path)
        clear_up()  # what is dropped unclosed piles up where everything is kept
        with self._naming(path):
            reader = self.content.open(source)
        named = NamedReader(reader, lambda: self._naming(path))
        return ResultFile(named, path, block_size or (1 << 18))

    def _source(self, node: Node, path: str) -> Source | None:
        """Return where a file's bytes come from; None for what is made here.

        Raises
        ------
        NotFound, IsADirectory
            If there is no such file.
        """
        if node.kind not in _LOOKED_UP:
            self.entries.check(node)
            if node.kind.directory:
                raise failure(IsADirectory, f"is a directory ({node.kind.name})", path)
        return self.entries.source(node)

    def _open_for_blocks(self, path: str, block_size: int | None, size: int | None) -> BlockFile:
        source = self._carried(path)
        if source is None or isinstance(source, bytes):
            node = self.entries.follow(self._resolve(path))
            source = self._source(node, path)
        if source is None or source.whole:
            raise failure(
                InvalidArguments,
                "it is made anew each time, and parts of one do not fit into another: "
                "take simplecache or filecache, not blockcache",
                path,
            )
        return BlockFile(self, path, self.content, source, block_size, size)

    def _carried(self, path: str) -> Source | bytes | None:
        """Return what came along with a path from another process; None: it is to be looked up.

        That the file is still there the service says when it is asked for bytes. Where they
        are here, the group's listing does: no request while that is fresh.
        """
        carried = path.carried if isinstance(path, FoundPath) else None
        if carried is None or carried.endpoint != self.endpoint:
            return None
        if not carried.file_id:
            # The listing tells of all archives of the group; a handle would tell of one.
            with contextlib.suppress(NotFound):
                self.catalog.runs(carried.group_id)
            return None
        service = self.catalog.service
        record = FileRecord(carried.file_id, "", carried.name, (), None, {})
        source = source_in_run(service, carried.run_id, record)
        if (
            carried.data is not None
            or self.content.disk is not None
            or self.content.small(source) is not None
        ):
            try:
                listed = self.catalog.runs(carried.group_id).get(carried.run_id)
            except NotFound:  # a group that can only be asked for its runs one by one
                return None
            if listed is None or listed.created != carried.created:
                return None
            if carried.data is not None:
                return carried.data
        if carried.size is not None and self.content.known_size(source) is None:
            self.content.learn_size(source, carried.size)
        return source

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Return the bytes of a file, or of a part of it; negative places count from the end.

        One request; none for what is known.
        """
        path = self._strip_protocol(path)
        with self._naming(path):
            source = self._carried(path)
            if isinstance(source, bytes):
                return source[start:end]
            if source is None:
                node = self.entries.follow(self._resolve(path))
                source = self._source(node, path)
                if source is None:
                    return self.entries.read(node)[start:end]
            content = self.content
            if (start or 0) < 0 or (end or 0) < 0:
                # Open until it is read: the next archive may be of another size.
                with content.open(source) as reader:
                    start, end, _ = slice(start, end).indices(reader.size)
                    return content.part(source, start, end)
            return content.part(source, start or 0, end)

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
            What to do about a path that fails. The others are read in any case.

        Returns
        -------
        bytes, or dict of str to bytes
            A dict for a list, a pattern, or recursive.

        Raises
        ------
        FlowError
            The first in the order of the paths; ``others`` has what else went wrong.
        """
        paths = [
            p
            for p in self.expand_path(path, recursive=recursive)
            if not recursive or self.isfile(p)
        ]
        single = isinstance(path, (str, os.PathLike)) and not recursive
        if single and paths == [self._strip_protocol(path)]:
            return self.cat_file(paths[0], **kwargs)
        with self._together(paths):
            outcomes = map_all(lambda p: self.cat_file(p, **kwargs), paths, self._workers)
        if on_error == "raise":
            Failures.check_all(outcomes)
        return {
            one: outcome
            for one, outcome in zip(paths, outcomes, strict=True)
            if on_error != "omit" or not isinstance(outcome, Exception)
        }

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
        max_gap : int, optional
            Parts of one file with no more bytes between them are one request, which brings
            those bytes along. By default each is one of its own.
        on_error : "return" or "raise"
            Whether failures are returned in the place of bytes.

        Returns
        -------
        list of bytes or Exception
        """
        count = len(paths)
        starts = list(starts) if isinstance(starts, Iterable) else [starts] * count
        ends = list(ends) if isinstance(ends, Iterable) else [ends] * count
        if not len(starts) == len(ends) == count:
            raise ValueError("paths, starts and ends must be of one length")
        parts = list(zip(paths, starts, ends, strict=True))
        spans = _spans(parts, max_gap)
        with self._together([s.path for s in spans if not s.start and s.end is None]):
            fetched = map_all(
                lambda span: self.cat_file(span.path, span.start, span.end, **kwargs),
                spans,
                self._workers,
            )
        outcomes: list[Any] = [None] * count
        for span, outcome in zip(spans, fetched, strict=True):
            for number in span.parts:
                _, start, end = parts[number]
                if isinstance(outcome, Exception):
                    outcomes[number] = outcome if len(span.parts) == 1 else again(outcome)
                elif len(span.parts) == 1:
                    outcomes[number] = outcome
                else:
                    outcomes[number] = outcome[start - span.start : end - span.start]
        if on_error == "raise":
            Failures.check_all(outcomes)
        return outcomes

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
        """Copy files from here, as in fsspec, several at once. A view is one thing throughout.

        Each file has its name only once it is whole, and is copied to its end whatever becomes
        of others. One request for each file that is not kept, and those of finding out which
        there are.

        Parameters
        ----------
        rpath, lpath : str or list of str
            Where they are, and where they go.
        recursive : bool
            Take all files below directories.
        callback : Callback
            As in fsspec. It is called from threads, one at a time; what it raises ends all.
        maxdepth : int, optional
            Levels to descend.

        Raises
        ------
        OSError
            The first in the order of the paths; ``others`` has what else went wrong.
        """
        plan = Plan(self)
        AbstractFileSystem.get(plan, rpath, lpath, recursive, maxdepth=maxdepth, **kwargs)
        callback = Callback.as_callback(callback)
        with self._together([path for path, _ in plan.pairs]):
            copy_all(self.get_file, plan.pairs, self._workers, callback, **kwargs)

    def get_file(
        self, rpath: str, lpath: Any, callback: Any = None, outfile: Any = None, **kwargs: Any
    ) -> None:
        """Copy a file from here. It has its name only once it is whole."""
        if outfile is not None or hasattr(lpath, "write"):
            self._copy_out(rpath, (outfile or lpath).write, callback)
            return
        if self.isdir(rpath):
            os.makedirs(lpath, exist_ok=True)
            return
        # As few calls into the system as can be: each may cost a turn among threads.
        mode = _mode_of(lpath)
        if stat.S_ISLNK(mode):  # it stays one
            lpath = os.path.realpath(lpath)
            mode = _mode_of(lpath)
        if mode and not stat.S_ISREG(mode):
            with open(lpath, "wb") as file:  # a device or pipe: written to, not replaced
                self._copy_out(rpath, file.write, callback)
            return
        # A name of its own: one made from the file's could be too long, or another's.
        name = f"{_NAMES}-{os.getpid():x}-{next(_NUMBERS):x}"
        partial = os.path.join(os.path.dirname(lpath), name)
        try:
            file_descriptor = _created(partial)
            try:
                if mode:  # who could not read what was there cannot read what comes
                    with contextlib.suppress(OSError):
                        os.fchmod(file_descriptor, mode & 0o777)
                self._copy_out(rpath, lambda data: _write(file_descriptor, data), callback)
            finally:
                os.close(file_descriptor)
            os.replace(partial, lpath)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise

    def _copy_out(self, rpath: str, write: Callable[[memoryview], object], callback: Any) -> None:
        with self.open(rpath, "rb") as source:
            raw: Any = source.raw if isinstance(source, ResultFile) else source
            buffer = bytearray(_FIRST)
            # The first bytes bring the size along.
            got = raw.readinto(buffer)
            if callback is not None:
                callback.set_size(source.size)
            while got:
                write(memoryview(buffer)[:got])
                if callback is not None:
                    callback.relative_update(got)
                if len(buffer) == got == _FIRST:
                    buffer = bytearray(_CHUNK)
                got = raw.readinto(buffer)


def _mode_of(path: str) -> int:
    """Return what is there in this machine's files, as stat tells it; 0: nothing."""
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _created(path: str) -> int:
    """Make a file, and the directory that it is in; return its descriptor.

    Not an `open` of Python's: that looks at what it has opened, and each look is a turn.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, flags, 0o666)


def _write(file_descriptor: int, data: memoryview) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(file_descriptor, data) :]
