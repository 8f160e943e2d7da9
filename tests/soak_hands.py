"""What a worker of a soak does things with: the files of a mount, or fsspec."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from soak_world import World

from flowfs import FlowFileSystem, UnclearStart

__all__ = ["FsspecHands", "Hands", "MountHands", "NotStarted"]

_NAMED = re.compile(r"the newest run with these arguments is (\S+), created")


class NotStarted(Exception):
    """A start failed.

    Attributes
    ----------
    error : OSError
        With what.
    may_be : bool
        Whether a run may have started all the same.
    named : str or None
        The run that is named then.
    """

    def __init__(self, error: OSError, may_be: bool, named: str | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.may_be = may_be
        self.named = named


class Hands(Protocol):
    """How things are done; paths are below the service's root, names those of uploads."""

    def pieces(self, path: str, block: int, forget: bool) -> Iterator[bytes]: ...
    def parts(self, path: str, spans: list[tuple[int, int]], forget: bool) -> list[bytes]: ...
    def whole(self, path: str) -> bytes: ...
    def names(self, path: str) -> list[str]: ...
    def size(self, path: str) -> int: ...
    def exists(self, path: str) -> bool: ...
    def put(self, path: str, data: bytes) -> None: ...
    def append(self, path: str, data: bytes) -> None: ...
    def rename(self, old: str, new: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def start(self, group: str, arguments: dict[str, Any]) -> str: ...
    def cancel(self, group: str, run: str, reason: str) -> None: ...
    def delete(self, path: str) -> None: ...


class MountHands:
    """The files of a mount, as programs use them."""

    way = "mount"

    def __init__(self, world: World) -> None:
        self.root = Path(world.mount)

    @staticmethod
    def _forget(file: int) -> None:
        """Make the kernel drop what it has of a file."""
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)

    def pieces(self, path: str, block: int, forget: bool) -> Iterator[bytes]:
        with open(self.root / path, "rb", buffering=0) as file:
            if forget:
                self._forget(file.fileno())
            yield from iter(lambda: file.read(block), b"")

    def parts(self, path: str, spans: list[tuple[int, int]], forget: bool) -> list[bytes]:
        with open(self.root / path, "rb", buffering=0) as file:
            if forget:
                self._forget(file.fileno())
            # A read may be short where a signal comes; none comes here.
            return [os.pread(file.fileno(), size, at) for at, size in spans]

    def whole(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def names(self, path: str) -> list[str]:
        return os.listdir(self.root / path)

    def size(self, path: str) -> int:
        return os.stat(self.root / path).st_size

    def exists(self, path: str) -> bool:
        try:
            os.stat(self.root / path)
        except FileNotFoundError:
            os.stat(self.root / "groups")  # while nobody serves the mount, nothing is there
            return False
        return True

    def put(self, path: str, data: bytes) -> None:
        (self.root / path).write_bytes(data)

    def append(self, path: str, data: bytes) -> None:
        with open(self.root / path, "ab") as file:
            file.write(data)

    def rename(self, old: str, new: str) -> None:
        os.rename(self.root / old, self.root / new)

    def remove(self, path: str) -> None:
        os.unlink(self.root / path)

    def start(self, group: str, arguments: dict[str, Any]) -> str:
        runs = self.root / "groups" / group / "runs"
        before = self._refusal(runs)
        try:
            with open(runs / "new", "r+b", buffering=0) as file:
                # Not `file.write`: it takes EAGAIN for a pipe that is full, and raises nothing.
                os.write(file.fileno(), json.dumps(arguments).encode())
                handle = b"".join(iter(lambda: file.read(1 << 16), b""))
            try:
                return str(json.loads(handle)["id"])
            except ValueError:
                raise RuntimeError(f"what came of a start is {handle!r}") from None
        except OSError as error:
            told = self._refusal(runs)
            named = _NAMED.search(told)
            # An older refusal stands there where this one never came to the mount.
            new = told != before
            raise NotStarted(error, True, named[1] if named and new else None) from None

    @staticmethod
    def _refusal(runs: Path) -> str:
        with contextlib.suppress(OSError):
            return (runs / "new.error").read_text()
        return ""

    def cancel(self, group: str, run: str, reason: str) -> None:
        (self.root / "groups" / group / "runs" / run / "cancel").write_text(reason + "\n")

    def delete(self, path: str) -> None:
        shutil.rmtree(self.root / path)


class FsspecHands:
    """A file system of fsspec, in a process of its own.

    Parameters
    ----------
    world : World
        Where.
    number : int
        Of the worker. One in three keeps nothing on disk; the others share a cache.
    """

    way = "fsspec"

    def __init__(self, world: World, number: int) -> None:
        shared = {"cache_dir": world.cache, "cache_size": world.cache_size}
        self.fs = FlowFileSystem(
            world.endpoint,
            world.token,
            timeout=world.timeout,
            ttl=0.5,
            **(shared if number % 3 else {}),
        )
        self.number = number

    def pieces(self, path: str, block: int, forget: bool) -> Iterator[bytes]:
        with self.fs.open(path) as file:
            yield from iter(lambda: file.read(block), b"")

    def parts(self, path: str, spans: list[tuple[int, int]], forget: bool) -> list[bytes]:
        if forget:
            ends = [at + size for at, size in spans]
            starts = [at for at, _ in spans]
            return list(self.fs.cat_ranges([path] * len(spans), starts, ends, on_error="raise"))
        with self.fs.open(path) as file:
            parts = []
            for at, size in spans:
                file.seek(at)
                parts.append(file.read(size))
            return parts

    def whole(self, path: str) -> bytes:
        if self.number % 2:
            return bytes(self.fs.cat_file(path))
        with tempfile.TemporaryDirectory() as place:
            self.fs.get_file(path, f"{place}/copy")
            return Path(place, "copy").read_bytes()

    def names(self, path: str) -> list[str]:
        return [one.rpartition("/")[2] for one in self.fs.ls(path, detail=False)]

    def size(self, path: str) -> int:
        return int(self.fs.info(path)["size"])

    def exists(self, path: str) -> bool:
        return bool(self.fs.exists(path))

    def put(self, path: str, data: bytes) -> None:
        self.fs.pipe_file(path, data)

    def append(self, path: str, data: bytes) -> None:
        with self.fs.open(path, "ab") as file:
            file.write(data)

    def rename(self, old: str, new: str) -> None:
        self.fs.mv(old, new)

    def remove(self, path: str) -> None:
        self.fs.rm_file(path)

    def start(self, group: str, arguments: dict[str, Any]) -> str:
        try:
            return str(self.fs.start_run(group, arguments)["id"])
        except UnclearStart as error:
            raise NotStarted(error, True, (*error.run_ids, None)[0]) from None
        except OSError as error:
            raise NotStarted(error, False, None) from None

    def cancel(self, group: str, run: str, reason: str) -> None:
        self.fs.cancel_run(run, reason)

    def delete(self, path: str) -> None:
        self.fs.rm(path, recursive=True)
