"""What is checked before anything is mounted: the directory, and that there is FUSE."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shlex
from collections.abc import Iterator

from flowfs.errors import (
    AccessDenied,
    DirectoryNotEmpty,
    FlowError,
    NotADirectory,
    NotFound,
    failure,
)
from flowfs.fuse.table import DEAD, TYPE, mounts_at, place, states
from flowfs.fuse.unmounting import detach

__all__ = ["check_device", "check_directory", "claimed"]


def check_directory(directory: str) -> tuple[str, list[str]]:
    """Return the path of a directory that can be mounted on, and what was done to make it so.

    A mount of flowfs whose process has died is cleared away; nothing else ever is.

    Returns
    -------
    path : str
        Absolute, without links.
    notes : list of str
        For the user, if something was cleared.

    Raises
    ------
    NotFound, NotADirectory, DirectoryNotEmpty, AccessDenied, FlowError
        If it cannot be mounted on.
    """
    path = place(directory)
    notes = []
    while there := mounts_at(path):
        if not there[-1].type.startswith("fuse"):
            break  # such as a file system of its own that is empty
        _check_dead(path, there[-1].type)
        complaint = detach(path, True)
        if complaint is not None:
            raise failure(
                FlowError,
                f"a mount whose process has died is there and cannot be cleared: {complaint}",
                path,
                errno=errno.ENOTCONN,
            )
        notes.append(f"{path}: a mount whose process had died was there; it has been cleared")
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        raise failure(NotFound, "no such directory: make it first", path) from None
    except NotADirectoryError:
        raise failure(NotADirectory, "is not a directory", path) from None
    except PermissionError:
        raise failure(AccessDenied, "permission denied", path) from None
    if names:
        raise failure(DirectoryNotEmpty, "the directory is not empty", path)
    return path, notes


@contextlib.contextmanager
def claimed(directory: str) -> Iterator[None]:
    """Let no other process of flowfs mount on a directory within the ``with`` block.

    Else two that begin at the same time would find it free, and one mount hide the other.

    Raises
    ------
    FlowError
        If another does so just now, or has done so since :func:`check_directory`.
    """
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise failure(
                FlowError, "another flowfs mounts there just now", directory, errno=errno.EBUSY
            ) from None
        except OSError:
            pass  # a file system without locks
        check_directory(directory)
        yield
    finally:
        os.close(handle)


def _check_dead(path: str, type_of: str) -> None:
    dead = states([path])[path] == DEAD
    if type_of == TYPE and dead:
        return
    if dead:
        message = (
            f"a dead mount of something else ({type_of}) is there; "
            f"clear it with: fusermount -uz {shlex.quote(path)}"
        )
        raise failure(FlowError, message, path, errno=errno.EBUSY)
    end = "flowfs umount" if type_of == TYPE else "fusermount -u"
    raise failure(
        FlowError,
        f"something is mounted there already ({type_of}); end it with: {end} {shlex.quote(path)}",
        path,
        errno=errno.EBUSY,
    )


def check_device() -> None:
    """Check that FUSE can be used on this machine.

    Raises
    ------
    NotFound, AccessDenied
        If it cannot.
    """
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except FileNotFoundError:
        raise failure(
            NotFound,
            "this machine has no FUSE: load the kernel module (modprobe fuse); in a container, "
            "give it the device (--device /dev/fuse --cap-add SYS_ADMIN)",
            "/dev/fuse",
        ) from None
    except PermissionError:
        raise failure(AccessDenied, "you may not use FUSE on this machine", "/dev/fuse") from None
