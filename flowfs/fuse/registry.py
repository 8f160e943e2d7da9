"""Which mounts one has: a small file for each, made and removed by the process that serves it.

The kernel's table tells what is mounted where, but not by which process and since when. The
files are for their owner alone and hold no token.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Record", "find", "forget", "forget_dead", "records", "remember", "started_at"]


@dataclass(frozen=True)
class Record:
    """One mount.

    Attributes
    ----------
    directory : str
        Where.
    url : str
        What.
    pid : int
        The process that serves it.
    started : int
        When that process started, in ticks since the machine did: another process may come
        to have its number.
    since : float
        When it was mounted, in seconds since the epoch.
    log : str
        Where it logs to.
    number : int
        The mount's own in the kernel's table, wherever it has been moved to.
    """

    directory: str
    url: str
    pid: int
    started: int
    since: float
    log: str = ""
    number: int = 0

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return started_at(self.pid) == self.started

    @property
    def stopped(self) -> bool:
        """Whether its process is there, and somebody has stopped it (SIGSTOP, Ctrl-Z)."""
        return self.running and (_stat_of(self.pid) or [""])[0] == "T"


def started_at(pid: int) -> int | None:
    """Return when a process started, in ticks since the machine did; None if it has ended."""
    fields = _stat_of(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def _stat_of(pid: int) -> list[str] | None:
    """Return what the kernel tells of a process, from its state on; None if it is not there."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()  # the name before may hold anything


def remember(record: Record) -> Path | None:
    """Write a mount down; return the file, or None if there is no place for it."""
    forget_dead(record.directory)
    for directory in _directories():
        with contextlib.suppress(OSError):
            directory.mkdir(mode=0o700, exist_ok=True)
            if _is_safe(directory):
                return _write(directory, record)
    return None


def _write(directory: Path, record: Record) -> Path:
    # mkstemp makes the file 0600 from its first moment; the rename replaces it whole.
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=".mount-")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(asdict(record), file)
        return Path(temporary).replace(directory / f"{record.pid}.json")
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def forget(pid: int) -> None:
    """Remove what is written down of the mount that a process serves."""
    for directory in _directories():
        with contextlib.suppress(OSError):
            if _is_safe(directory):
                (directory / f"{pid}.json").unlink(missing_ok=True)


def forget_dead(directory: str) -> None:
    """Remove what is written down of mounts on a directory whose processes have ended."""
    for record in records():
        if record.directory == directory and not record.running:
            forget(record.pid)


def records() -> list[Record]:
    """Return what is written down, the oldest first; those whose process has ended too."""
    found = {}
    for directory in _directories():
        with contextlib.suppress(OSError):
            if _is_safe(directory):
                for file in directory.glob("*.json"):
                    record = _read(file)
                    if record is not None:
                        found[record.pid] = record
    return sorted(found.values(), key=lambda record: record.since)


def find(directory: str, number: int | None = None) -> Record | None:
    """Return what is written down of the newest mount on a directory; None if nothing is.

    Parameters
    ----------
    directory : str
        Where it is, or was when it was mounted.
    number : int, optional
        The mount's own, by which it is known when it has been moved.
    """
    found = records()
    there = [record for record in found if number and record.number == number]
    if not any(record.running for record in there):
        there += [record for record in found if record.directory == directory]
    running = [record for record in there if record.running]
    newest = running or there
    return newest[-1] if newest else None


def _read(file: Path) -> Record | None:
    try:
        document: Any = json.loads(file.read_text("utf-8"))
        return Record(
            directory=str(document["directory"]),
            url=str(document["url"]),
            pid=int(document["pid"]),
            started=int(document["started"]),
            since=float(document["since"]),
            log=str(document.get("log", "")),
            number=int(document.get("number", 0)),
        )
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None  # of another version, damaged, or being removed


def _directories() -> list[Path]:
    """Where the files may be, the best place first. Not all who look have the same settings."""
    uid = os.getuid()
    found = []
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        found.append(Path(runtime, "flowfs"))
    found.append(Path(f"/run/user/{uid}/flowfs"))
    found.append(Path("/run/flowfs") if uid == 0 else Path(f"/tmp/flowfs-{uid}"))
    return list(dict.fromkeys(found))


def _is_safe(directory: Path) -> bool:
    """Whether a directory is one's own: in /tmp, anybody may have made it."""
    status = directory.lstat()
    mine = status.st_uid == os.getuid() and not status.st_mode & 0o077
    return mine and stat.S_ISDIR(status.st_mode)
