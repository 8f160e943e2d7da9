"""A mount of files in memory, by a plain FUSE binding: as fast as Python can serve a mount.

As a program::

    python memory_mount.py BINDING DIRECTORY FILE...
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["memory_mount"]

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
_AUTO_INVAL_DATA = 1 << 12
_BACKGROUND = 1024


class _Memory:
    """Files in memory, as a binding asks for them."""

    use_ns = True
    flag_nullpath_ok = True

    def __init__(self, files: dict[str, bytes]) -> None:
        self._names = ["/" + name for name in files]
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

    def read(self, path: str | None, size: int, offset: int, fi: Any) -> bytes:
        return self._bytes[fi.fh][offset : offset + size]

    def _number(self, path: str) -> int:
        try:
            return self._names.index(path)
        except ValueError:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None


class _Called(_Memory):
    """The same as fusepy wants it: called with an operation's name."""

    def __call__(self, name: str, *arguments: Any) -> Any:
        if not hasattr(self, name):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return getattr(self, name)(*arguments)


def main(binding: str, directory: str, *names: str) -> None:
    """Mount files and serve them until the mount ends."""
    module = import_module({"fusepy": "fuse", "mfusepy": "mfusepy"}[binding])
    files = {os.path.basename(name): Path(name).read_bytes() for name in names}
    library = int(getattr(module, "fuse_version_major", 2))
    options = {**_OPTIONS, **(_OF_LIBFUSE_2 if library == 2 else _OF_LIBFUSE_3)}
    operations = _Called(files) if binding == "fusepy" else _Memory(files)
    module.FUSE(operations, directory, raw_fi=True, foreground=True, **options)


@contextlib.contextmanager
def memory_mount(
    files: Sequence[Path], binding: str = "fusepy", library: str | None = None
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

    Yields
    ------
    Mount
    """
    from benchmarks.mounts import served

    environment = {} if library is None else {"FUSE_LIBRARY_NAME": library}
    command = [sys.executable, os.path.abspath(__file__), binding, "{mount}", *files]
    with served(command, environment) as mount:
        yield mount


if __name__ == "__main__":
    main(*sys.argv[1:])
