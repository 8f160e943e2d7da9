"""A mount of files in memory, by a plain FUSE binding: as fast as Python can serve a mount.

As a program::

    python memory_mount.py BINDING DIRECTORY FILE...
    python memory_mount.py BINDING DIRECTORY --empty NUMBER
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["in_memory", "memory_mount", "options_of"]

# Those of a mount of flowfs, as far as they bear on reading.
_OPTIONS: dict[str, Any] = {
    "fsname": "memory",
    "use_ino": True,
    "attr_timeout": "0",
    "entry_timeout": "1.0",
    "negative_timeout": "0",
    "ro": True,
}
_OF_LIBFUSE_2: dict[str, Any] = {"big_writes": True, "max_background": "1024"}
_OF_LIBFUSE_3: dict[str, Any] = {"max_threads": "1000", "max_idle_threads": "10"}
_EMPTY = "--empty"
_AUTO_INVAL_DATA = 1 << 12
_BACKGROUND = 1024


class _Memory:
    """Files in memory, as a binding asks for them."""

    use_ns = True
    flag_nullpath_ok = True

    def __init__(self, files: Mapping[str, Sequence[int]]) -> None:
        self._names = ["/" + name for name in files]
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._bytes = list(files.values())
        self._since = time.time_ns()

    def init_with_config(self, connection: Any, config: Any) -> None:
        if config is not None:
            connection.want &= ~_AUTO_INVAL_DATA
            connection.max_background = _BACKGROUND
            connection.congestion_threshold = _BACKGROUND * 3 // 4

    def getattr(self, path: str, fi: Any = None) -> dict[str, int]:
        times = dict.fromkeys(("st_mtime", "st_ctime", "st_atime"), self._since)
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 1, "st_ino": 1, **times}
        number = self._number(path)
        size = len(self._bytes[number])
        return {
            "st_mode": stat.S_IFREG | 0o444,
            "st_nlink": 1,
            "st_ino": 2 + number,
            "st_size": size,
            "st_blocks": -(-size // 512),
            **times,
        }

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, int], int]]:
        folders = [(name, {"st_mode": stat.S_IFDIR, "st_ino": 1}, 0) for name in (".", "..")]
        return folders + [
            (name[1:], {"st_mode": stat.S_IFREG, "st_ino": 2 + number}, 0)
            for number, name in enumerate(self._names)
        ]

    def open(self, path: str, fi: Any) -> int:
        fi.fh = self._number(path)
        fi.keep_cache = 1
        return 0

    def read(self, path: str | None, size: int, offset: int, fi: Any) -> Sequence[int]:
        return self._bytes[fi.fh][offset : offset + size]

    def _number(self, path: str) -> int:
        try:
            return self._numbers[path]
        except KeyError:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None


class _Called(_Memory):
    """The same as fusepy wants it: called with an operation's name."""

    def __call__(self, name: str, *arguments: Any) -> Any:
        if not hasattr(self, name):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return getattr(self, name)(*arguments)


def in_memory(binding: str, files: Mapping[str, Sequence[int]]) -> Any:
    """Return the operations of such files, as a binding wants them."""
    return _Called(files) if binding == "fusepy" else _Memory(files)


def options_of(module: Any) -> dict[str, Any]:
    """Return the options of a mount by a binding."""
    library = int(getattr(module, "fuse_version_major", 2))
    return {**_OPTIONS, **(_OF_LIBFUSE_2 if library == 2 else _OF_LIBFUSE_3)}


def main(binding: str, directory: str, *names: str) -> None:
    """Mount files and serve them until the mount ends."""
    module = import_module({"fusepy": "fuse", "mfusepy": "mfusepy"}[binding])
    if names[:1] == (_EMPTY,):
        files = {f"{number:032x}": b"" for number in range(int(names[1]))}
    else:
        files = {os.path.basename(name): Path(name).read_bytes() for name in names}
    operations = in_memory(binding, files)
    module.FUSE(operations, directory, raw_fi=True, foreground=True, **options_of(module))


@contextlib.contextmanager
def memory_mount(
    files: Sequence[Path] = (),
    binding: str = "fusepy",
    library: str | None = None,
    *,
    empty: int = 0,
) -> Iterator[Any]:
    """Mount files that a process of its own has in memory.

    Parameters
    ----------
    files : sequence of Path
        Which; each has its own name on the mount.
    binding : {"fusepy", "mfusepy"}
        By which binding.
    library : {"fuse", "fuse3"}, optional
        What mfusepy loads.
    empty : int
        Instead of any files, how many empty ones.

    Yields
    ------
    Mount
    """
    from benchmarks.mounts import served

    environment = {} if library is None else {"FUSE_LIBRARY_NAME": library}
    given = [_EMPTY, str(empty)] if empty else files
    command = [sys.executable, os.path.abspath(__file__), binding, "{mount}", *given]
    with served(command, environment) as mount:
        yield mount


if __name__ == "__main__":
    main(*sys.argv[1:])
