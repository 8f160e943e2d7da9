"""The kernel's table of mounts, and whether who serves a mount answers.

Nothing here looks at a mount from this process: one whose process hangs would not answer, and
who waits for it cannot always be killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "DEAD",
    "FOREIGN",
    "SERVING",
    "SILENT",
    "TYPE",
    "Mount",
    "mounts",
    "mounts_at",
    "moved",
    "place",
    "states",
]

#: What the kernel's table says of a mount of flowfs.
TYPE = "fuse.flowfs"

SERVING = "serving"
DEAD = "dead"  # the process that served it is gone
SILENT = "not answering"
FOREIGN = "another user's"  # whom alone the kernel lets look, dead or not

_LINKS = 40  # to links, as the kernel follows them
_PATIENCE = 2.0  # seconds for a look at the root of a mount, which needs no request

# A process of its own, which can be left alone if it does not end.
_LOOK = """
import os, sys
try:
    os.stat(sys.argv[1])
except OSError as error:
    sys.exit(error.errno)
"""

_BY_ERROR = {errno.ENOTCONN: DEAD, errno.EACCES: FOREIGN}


@dataclass(frozen=True)
class Mount:
    """One line of the kernel's table of mounts.

    Attributes
    ----------
    source : str
        What is mounted: for flowfs, its URL.
    directory : str
        Where.
    type : str
        ``fuse.flowfs`` for flowfs.
    number : int
        The kernel's; another than that of anything else that is mounted.
    """

    source: str
    directory: str
    type: str
    number: int


def mounts() -> list[Mount]:
    """Return what is mounted by FUSE on this machine, the newest last."""
    return [one for one in _all() if one.type.partition(".")[0] == "fuse"]


def mounts_at(path: str) -> list[Mount]:
    """Return what is mounted on a directory, of whatever type, the newest last."""
    return [one for one in _all() if one.directory == path]


def _all() -> list[Mount]:
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            # Of the first part there are more or fewer fields.
            first, _, second = line.rstrip("\n").partition(" - ")
            number, directory = first.split(" ")[0], first.split(" ")[4]
            type_of, source = second.split(" ")[:2]
            found.append(
                Mount(_unescaped(source), _unescaped(directory), _unescaped(type_of), int(number))
            )
    return found


def _unescaped(value: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), value)


def moved(number: int) -> str | None:
    """Return where a mount of flowfs is by now, given its number; None if it is nowhere.

    It moves with the directories that it is in.
    """
    there = (one for one in mounts() if one.number == number and one.type == TYPE)
    return next((one.directory for one in there), None)


def place(directory: str) -> str:
    """Return the path by which the table knows a directory; what is mounted is not looked at."""
    path = os.path.abspath(directory)
    for _ in range(_LINKS):
        parent, name = os.path.split(path)
        if name in ("", ".", ".."):
            break
        path = os.path.join(os.path.realpath(parent), name)
        if mounts_at(path):
            return path
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path).rstrip("/") or "/")
        except OSError:  # no link, or nothing is there
            return path
    return os.path.realpath(path)


def states(directories: Iterable[str], patience: float = _PATIENCE) -> dict[str, str]:
    """Find out which mounts answer.

    Parameters
    ----------
    directories : iterable of str
        Where they are; asked all at once.
    patience : float
        Seconds after which one counts as not answering.

    Returns
    -------
    dict of str to str
        Of each directory: :data:`SERVING`, :data:`DEAD`, :data:`SILENT` or :data:`FOREIGN`.
    """
    asked = {
        directory: subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LOOK, directory],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for directory in directories
    }
    deadline = time.monotonic() + patience
    found = {}
    for directory, process in asked.items():
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            # Where the mount's process has taken up the question, it ends only when answered.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
            found[directory] = SILENT
        else:
            found[directory] = _BY_ERROR.get(code, SERVING)
    return found
