"""Who has a mount in use, and who of them only waits for an answer of it.

Found by what ``/proc`` tells: the mount is not touched, nor is anything read that a process
stuck in it may have locked. Of other users' processes only root is told.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["User", "stuck", "users"]

_STILL = 0.3  # seconds without a step, after which a process that waits is taken to hang

# Where in the kernel one sleeps who waits for FUSE to answer, or behind somebody who does.
_WAITING = re.compile(r".*fuse.*|request_wait_answer|d_alloc_parallel|folio_.*|.*page.*|rwsem_.*")


@dataclass(frozen=True)
class User:
    """A process that has something of a mount in use.

    Attributes
    ----------
    pid : int
        Its number.
    name : str
        Its name, as ps shows it.
    """

    pid: int
    name: str


def users(path: str) -> list[User]:
    """Return who has something of a mount in use: a current directory, an open file."""
    found = []
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda one: int(one.name)):
        with contextlib.suppress(OSError):
            links = [process / "cwd", process / "root", process / "exe"]
            with contextlib.suppress(OSError):
                links += (process / "fd").iterdir()
            if any(_leads_into(link, path) for link in links):
                found.append(User(int(process.name), (process / "comm").read_text().strip()))
    return found


def _leads_into(link: Path, path: str) -> bool:
    try:
        target = os.readlink(link)
    except OSError:
        return False
    return target == path or target.startswith(f"{path}/")


def stuck(using: list[User]) -> list[User]:
    """Return those who wait for an answer of FUSE and do nothing else, for some tenths of a second.

    Who copies a large file waits again and again, and gets on: such a one is not among them.
    """
    if not using:
        return []
    before = {user: _steps(user.pid) for user in using}
    time.sleep(_STILL)
    return [
        user
        for user in using
        if any(before[user].get(task) == step for task, step in _steps(user.pid).items())
    ]


def _steps(pid: int) -> dict[str, str]:
    """Return of each thread that waits for FUSE how often it has been woken so far."""
    found = {}
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                if _WAITING.fullmatch((task / "wchan").read_text()):
                    counts = re.findall(r"ctxt_switches:\s*(\d+)", (task / "status").read_text())
                    found[task.name] = " ".join(counts)
    return found
