"""Where the cache is: whose directory, and which names things have in it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from hashlib import blake2b

from flowfs.errors import AccessDenied, FlowError, NotADirectory, failure

__all__ = [
    "claim",
    "default_place",
    "digest",
    "is_own",
    "name_in_cache",
    "open_own",
    "private",
    "remove",
    "stamp_of",
]

# What another version would not understand has another name.
_NAME = "flowfs-v1"

# Tells programs that make backups to pass by; see https://bford.info/cachedir/
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n"


def default_place() -> str | None:
    """Return where caches are unless told otherwise: as the XDG base directories have it.

    None for a user without a home.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "flowfs") if os.path.isabs(base) else None


def claim(place: str) -> str:
    """Return the directory of flowfs's own in a place; both are made if they are missing.

    It is readable by its owner alone; what is wider is narrowed.

    Raises
    ------
    FlowError
        If it is not to be had, or others could put something in its place; the message says
        what to do.
    """
    root = os.path.join(place, _NAME)
    try:
        os.makedirs(place, mode=0o700, exist_ok=True)
        status = os.stat(place)
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            raise failure(
                AccessDenied,
                "everybody can write there: 'chmod o-w' it, or take another cache_dir",
                place,
            )
        private(root)
    except FlowError:
        raise
    except OSError as error:
        raise failure(
            FlowError,
            f"cannot keep anything there: {error.strerror}; "
            "cache_dir must be a directory in which files can be made",
            place,
            errno=error.errno,
        ) from None
    with contextlib.suppress(OSError), open(os.path.join(root, "CACHEDIR.TAG"), "xb") as file:
        file.write(_TAG)
    return root


def private(directory: str) -> None:
    """Make a directory that only its owner can look into; one that is there must be so.

    Raises
    ------
    FlowError
        If it is somebody else's, or no directory.
    OSError
        If it cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode):
        link = stat.S_ISLNK(status.st_mode)
        raise failure(
            NotADirectory,
            f"is {'a link' if link else 'no directory'}: remove it, or take another cache_dir",
            directory,
        )
    if status.st_uid != os.geteuid():
        raise failure(
            AccessDenied,
            f"belongs to another user ({status.st_uid}): take another cache_dir",
            directory,
        )
    if stat.S_IMODE(status.st_mode) != 0o700:
        os.chmod(directory, 0o700)


# What says that there is something else in the place of a file, or what is not to be opened.
_NO_FILE = {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.EACCES}


def open_own(path: str, flags: int) -> int:
    """Open a file of the cache, and nothing else: it waits for nobody, and follows no link.

    What is in its place and no file, or another user's, is removed.

    Parameters
    ----------
    path : str
        Which.
    flags : int
        As for :func:`os.open`.

    Returns
    -------
    int
        Its descriptor.

    Raises
    ------
    OSError
        If it is not there, or cannot be had.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    for _ in range(2):
        refused: OSError | None = None
        try:
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            refused = error
        else:
            if is_own(os.fstat(fd)):
                return fd
            os.close(fd)
        try:
            remove(path)
        except OSError as error:
            raise refused or error from None
    raise OSError(errno.EIO, "is no file of the cache", path)


def is_own(status: os.stat_result) -> bool:
    """Tell whether something is a file of this user's."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def stamp_of(fd: int) -> tuple[int, ...]:
    """Return what is another once anybody has written to an open file, or set its times."""
    status = os.fstat(fd)
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def remove(path: str) -> None:
    """Remove what is in the place of a file; no harm if nothing is, OSError if it stays."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        os.rmdir(path)


def name_in_cache(path: str, parts: int = 4) -> bytes:
    """Return what tells a file from all others of the cache, wherever that is: its last names."""
    return "/".join(path.split(os.sep)[-parts:]).encode()


def digest(*parts: str) -> str:
    """Return a name for what is never to be read from a name, or would not be one."""
    # With their lengths: what is made of other parts is something else.
    text = "".join([f"{len(part)} {part}" for part in parts])
    data = text.encode("utf-8", "surrogatepass")
    return blake2b(data, digest_size=16, person=b"flowfs").hexdigest()
