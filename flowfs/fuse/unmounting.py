"""Ending mounts: live ones, those that are in use, and those whose process has died."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import time

from flowfs.errors import FlowError, InvalidArguments, NotPermitted, failure
from flowfs.fuse import registry
from flowfs.fuse.table import DEAD, FOREIGN, TYPE, mounts_at, place, states
from flowfs.fuse.users import User, stuck, users

__all__ = ["detach", "unmount"]

_PATIENCE = 20.0  # seconds for umount
_INTERRUPTING = 5.0  # seconds for those who hang in requests to get away
_ENDING = 25.0  # seconds for the process to end: uploads that are not sent have 20 of them
_NAMED = 5  # processes


def unmount(directory: str, *, lazy: bool = False) -> None:
    """End a mount of flowfs; a dead one is cleared away.

    Where all who use it hang in requests, these are given up first. Returns when the process
    that served it has ended too, or some seconds have passed.

    Parameters
    ----------
    directory : str
        Where it is.
    lazy : bool
        Take it out of sight even if it is in use; it ends with its last user.

    Raises
    ------
    InvalidArguments
        If nothing of flowfs is mounted there.
    NotPermitted
        If it is another user's.
    FlowError
        If it is in use (EBUSY), or cannot be ended for another reason.
    """
    path = place(directory)
    there = mounts_at(path)
    if not there:
        raise failure(InvalidArguments, "nothing is mounted there", path)
    if there[-1].type != TYPE:
        raise failure(
            InvalidArguments, f"what is mounted there is not of flowfs: {there[-1].type}", path
        )
    record = registry.find(path, there[-1].number)
    if record is not None and record.stopped and not lazy:
        # Whoever unmounts asks it something first, and would wait.
        raise failure(
            FlowError,
            f"its process ({record.pid}) is stopped and answers nobody: let it go on "
            f"(kill -CONT {record.pid}) and try again, or use --lazy",
            path,
            errno=errno.EBUSY,
        )
    complaint = detach(path, lazy)
    if _is_busy(complaint, path) and record is not None and record.running:
        using = users(path)
        # Whose request goes on is not disturbed for the sake of an unmount that cannot succeed.
        if len(stuck(using)) == len(using):
            complaint = _interrupted(record, path)
    if complaint is not None:
        state = states([path])[path]
        if state == FOREIGN and os.getuid() != 0:  # whom the kernel does not let look either
            raise failure(
                NotPermitted, "another user mounted it, who alone can end it, or root", path
            )
        if state == DEAD and not lazy:
            complaint = detach(path, True)
    if _is_busy(complaint, path):
        raise failure(
            FlowError,
            f"is in use{_by(users(path))}: leave it (cd, close files) and try again, or use --lazy",
            path,
            errno=errno.EBUSY,
        )
    if complaint is not None:
        raise failure(FlowError, complaint, path)
    if record is not None and not lazy:
        _await_end(record)
    registry.forget_dead(path)


def _is_busy(complaint: str | None, path: str) -> bool:
    # The path is a part of it, and anybody's words.
    return complaint is not None and "busy" in complaint.replace(" ".join(path.split()), "")


def _interrupted(record: registry.Record, path: str) -> str | None:
    """Unmount once those who wait for requests have been told to wait no more."""
    deadline = time.monotonic() + _INTERRUPTING
    pause = 0.05
    while True:
        with contextlib.suppress(OSError):
            os.kill(record.pid, signal.SIGUSR1)
        time.sleep(pause)  # for them to go; nothing tells when they have
        pause = min(2 * pause, 0.5)
        complaint = detach(path, False)
        if complaint is None:
            # What was given up may be tried again by who closes a file, for nobody who waits.
            with contextlib.suppress(OSError):
                os.kill(record.pid, signal.SIGTERM)
        if not _is_busy(complaint, path) or time.monotonic() > deadline:
            return complaint


def _await_end(record: registry.Record) -> None:
    deadline = time.monotonic() + _ENDING
    while record.running and time.monotonic() < deadline:
        time.sleep(0.02)


def detach(path: str, lazy: bool) -> str | None:
    """Unmount; return what the command said if it failed."""
    if os.getuid() == 0:
        command = ["umount", "-l", path] if lazy else ["umount", path]
    else:
        helper = shutil.which("fusermount3") or shutil.which("fusermount")
        if helper is None:
            return "there is no fusermount: install the package fuse3"
        command = [helper, "-uz" if lazy else "-u", path]
    try:
        done = subprocess.run(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        return f"there is no {command[0]}"
    except subprocess.TimeoutExpired:
        return f"no answer of {command[0]} within {_PATIENCE:g} s; use --lazy"
    if done.returncode == 0:
        return None
    return " ".join(done.stderr.split()) or f"{command[0]} ended with code {done.returncode}"


def _by(using: list[User]) -> str:
    if not using:
        return ""
    named = ", ".join(f"{user.name} ({user.pid})" for user in using[:_NAMED])
    return f" by {named}" + (" and others" if len(using) > _NAMED else "")
