"""``rclone mount`` of the same files over HTTP, as rclone is without being tuned."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.mounts import Mount, served

__all__ = ["program", "rclone_mount"]


def program() -> str | None:
    """Return where rclone is, if it is installed: beside this Python, or on the path."""
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else shutil.which("rclone")


@contextlib.contextmanager
def rclone_mount(url: str, options: Sequence[str] = ()) -> Iterator[Mount]:
    """Mount what the pages of a web server's directories link to.

    Parameters
    ----------
    url : str
        Of the directory.
    options : sequence of str
        Of ``rclone mount``, such as ``--vfs-cache-mode full``. It keeps no content by default.
    """
    rclone = program()
    if rclone is None:
        raise RuntimeError("there is no rclone: install the extra 'bench'")
    command = [rclone, "mount", ":http:", "{mount}", "--http-url", url, "--read-only"]
    with served([*command, "--config", "/dev/null", *options]) as mount:
        yield mount
