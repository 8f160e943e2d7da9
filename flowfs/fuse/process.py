"""Mounting and unmounting: what is checked first, and the process that serves a mount."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flowfs.errors import (
    AccessDenied,
    DirectoryNotEmpty,
    FlowError,
    InvalidArguments,
    NotADirectory,
    NotFound,
    failure,
)
from flowfs.filesystem import FlowFileSystem
from flowfs.fuse.attributes import Attributes
from flowfs.fuse.binding import load
from flowfs.fuse.operations import Operations

__all__ = ["Mount", "mount", "mounts", "unmount"]

_TYPE = "flowfs"
_NAMES_LAST = 1.0  # seconds for which the kernel need not ask again what is where
_PATIENCE = 20.0  # seconds for umount


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
    """

    source: str
    directory: str
    type: str


def mount(
    fs: FlowFileSystem,
    path: str,
    directory: str,
    *,
    fuse: str = "auto",
    allow_other: bool = False,
    options: Mapping[str, str | bool] | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Mount a tree, or what is below `path` in it, and serve it until it is unmounted.

    SIGINT and SIGTERM unmount it. Costs three requests at most before anything is mounted:
    for the service's routes, for who the user is, and for `path`.

    Parameters
    ----------
    fs : FlowFileSystem
        The service.
    path : str
        Path in the tree; ``""`` for all of it.
    directory : str
        An empty directory.
    fuse : {"auto", "fusepy", "mfusepy"}
        Which binding to use.
    allow_other : bool
        Whether other users of the machine may look; only the owner may change.
    options : mapping of str to str or True, optional
        For FUSE, as its ``-o``.
    ready : callable, optional
        Called once the mount answers, from another thread.

    Raises
    ------
    FlowError
        If it cannot be mounted; nothing is.
    """
    directory = check_directory(directory)
    _check_device()
    binding = load(fuse)
    root = _check_service(fs, path)
    attributes = Attributes(fs.read_only, time.time_ns())
    operations = Operations(fs, root, binding.caller, attributes, ready)
    chosen: dict[str, str | bool] = {
        "fsname": _escaped(fs.unstrip_protocol(root)),
        "subtype": _TYPE,
        "use_ino": True,  # or hard links would not be seen to be one file
        "hard_remove": True,  # or removing an open file would ask for a rename
        # A size that is not known yet must not be remembered. Names may be: what has gone
        # is noticed when its attributes are asked for, which is always.
        "attr_timeout": "0",
        "entry_timeout": str(_NAMES_LAST),
        "negative_timeout": "0",
        "ro": fs.read_only,
    }
    if allow_other:
        # Without the second, others could start and delete runs in the owner's name.
        chosen |= {"allow_other": True, "default_permissions": True}
    binding.serve(operations, directory, {**chosen, **(options or {})})


def check_directory(directory: str) -> str:
    """Return the absolute path of a directory that can be mounted on.

    Raises
    ------
    NotFound, NotADirectory, DirectoryNotEmpty, AccessDenied, FlowError
        If it cannot.
    """
    path = os.path.abspath(directory)
    try:
        if any(one.directory == os.path.realpath(path) for one in mounts()):
            # Asked first: a mount whose process hangs would not answer.
            os.stat(path)
            raise failure(
                FlowError,
                f"something is mounted there already; end it with: flowfs umount {directory}",
                path,
                errno=errno.EBUSY,
            )
        names = os.listdir(path)
    except FlowError:
        raise
    except FileNotFoundError:
        raise failure(NotFound, "no such directory: make it first", path) from None
    except NotADirectoryError:
        raise failure(NotADirectory, "is not a directory", path) from None
    except PermissionError:
        raise failure(AccessDenied, "permission denied", path) from None
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        raise failure(
            FlowError,
            f"a mount whose process has died is there; clear it with: flowfs umount {directory}",
            path,
            errno=errno.ENOTCONN,
        ) from None
    if names:
        raise failure(DirectoryNotEmpty, "the directory is not empty", path)
    return path


def _check_device() -> None:
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


def _check_service(fs: FlowFileSystem, path: str) -> str:
    """Return the path of what is to be mounted; it, the service and the token are good."""
    service = fs.catalog.service
    service.descriptor  # noqa: B018 - asks the service for it
    with contextlib.suppress(NotFound):  # a service that cannot tell
        service.users.whoami()
    node = fs.entries.follow(fs.entries.resolve(path))
    entry = fs.entries.entry(node, ask=False)
    if entry["type"] != "directory":
        raise failure(NotADirectory, "is a file", fs.unstrip_protocol(path))
    return node.path


def _escaped(value: str) -> str:
    return re.sub(r"([\\,])", r"\\\1", value)


def mounts() -> list[Mount]:
    """Return what is mounted by FUSE on this machine, the newest last."""
    found = []
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            source, directory, type_of = map(_unescaped, line.split(" ")[:3])
            if type_of.partition(".")[0] == "fuse":
                found.append(Mount(source, directory, type_of))
    return found


def _unescaped(value: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), value)


def unmount(directory: str, *, lazy: bool = False) -> None:
    """End a mount of flowfs; a dead one is cleared away.

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
    FlowError
        If it is in use (EBUSY), or cannot be ended for another reason.
    """
    # The directory itself is not looked at: a mount whose process hangs would not answer.
    parent, name = os.path.split(os.path.abspath(directory))
    path = os.path.join(os.path.realpath(parent), name)
    there = [one for one in mounts() if one.directory == path]
    if not there:
        path = os.path.realpath(path)  # the directory was given by a link to it
        there = [one for one in mounts() if one.directory == path]
    if not there:
        raise failure(InvalidArguments, "nothing is mounted there", path)
    if there[-1].type != f"fuse.{_TYPE}":
        raise failure(
            InvalidArguments, f"what is mounted there is not of flowfs: {there[-1].type}", path
        )
    complaint = _umount(path, lazy)
    if complaint is not None and not lazy and _is_dead(path):
        complaint = _umount(path, True)
    if complaint is None:
        return
    if "busy" in complaint:
        raise failure(
            FlowError,
            "is in use: leave it (cd, close files) and try again, or use --lazy",
            path,
            errno=errno.EBUSY,
        )
    raise failure(FlowError, complaint, path)


def _umount(path: str, lazy: bool) -> str | None:
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
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        return f"no answer of {command[0]} within {_PATIENCE:g} s; use --lazy"
    if done.returncode == 0:
        return None
    return " ".join(done.stderr.split()) or f"{command[0]} ended with code {done.returncode}"


def _is_dead(path: str) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False
