"""``fsspec.fuse`` over our file system, in a process of its own.

As a program, with the service in the environment::

    python fsspec_mount.py ENDPOINT PATH DIRECTORY
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["fsspec_mount"]


def main(endpoint: str, path: str, directory: str) -> None:
    """Mount and serve until the mount ends."""
    import fsspec
    import fsspec.fuse

    # As it is by default: without threads, which it does not bear (one file, many readers).
    fsspec.fuse.run(fsspec.filesystem("flow", endpoint=endpoint), path, directory)


@contextlib.contextmanager
def fsspec_mount(endpoint: str, token: str, path: str) -> Iterator[Any]:
    """Mount a part of a service's tree by ``fsspec.fuse``.

    Parameters
    ----------
    endpoint, token : str
        The service.
    path : str
        What of its tree.

    Yields
    ------
    Mount
    """
    from benchmarks.flowfs_mount import environment_of
    from benchmarks.mounts import served

    command = [sys.executable, os.path.abspath(__file__), endpoint, path, "{mount}"]
    with served(command, environment_of(endpoint, token)) as mount:
        yield mount


if __name__ == "__main__":
    main(*sys.argv[1:])
