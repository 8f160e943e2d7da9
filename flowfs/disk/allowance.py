"""How much of the disk the cache may take, by all processes together, and what goes first."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator

from flowfs.disk.directory import open_own

__all__ = ["Allowance", "locked"]

_UNIT = 1 << 16  # bytes that are counted as one
_MOST_AT_ONCE = 1 << 20  # bytes that each process may have written before it counts them
_SLACK = 16  # what makes room makes this part of all more than is needed
_REMEMBERED = 30.0  # seconds for which a scan is good enough to go on from
_AHEAD = 3600.0  # seconds by which the clocks of machines that share a disk may differ
_LEFTOVER = 60.0  # seconds after which what nobody holds is nobody's


_Entry = tuple[float, int, str]  # when it was used last, its bytes, and its path


class Allowance:
    """Bytes that the cache may have on disk. Thread-safe.

    How much there is, all processes count together: in the *length* of a file, to which each
    appends a byte for every 64 KiB that it writes, a MiB at a time. Whoever finds it too long
    removes what was used longest ago, and nobody holds, and sets the length to what is there.

    Parameters
    ----------
    root : str
        The cache's directory.
    size : int
        Bytes.
    """

    def __init__(self, root: str, size: int) -> None:
        self.size = size
        self._root = root
        self._step = max(_UNIT, min(size // _SLACK // 8, _MOST_AT_ONCE))
        self._lock = threading.Lock()
        self._counter: int | None = None
        self._unsure = True  # whether the counter was found empty, as after a loss
        self._owed = 0  # bytes that are not counted yet
        self._oldest: list[_Entry] = []  # of the last scan, the oldest last
        self._scanned = float("-inf")
        self._refused = float("-inf")

    def take(self, count: int) -> bool:
        """Count bytes that are to be written; return whether there is room for them.

        Raises
        ------
        OSError
            If nothing can be counted.
        """
        with self._lock:
            self._owed += count
            if self._counter is not None and self._owed < self._step:
                return True
            units, self._owed = divmod(self._owed, _UNIT)
            used = self._count(units)
            if not self._unsure and used * _UNIT <= self.size:
                return True
            if time.monotonic() - self._refused < 1:  # all of it was being read
                return False
            fits = self._make_room()
            if not fits:
                self._refused = time.monotonic()
            return fits

    def settle(self) -> None:
        """Count what was written and is not counted yet: of many that write little it is much."""
        with self._lock:
            units, self._owed = -(-self._owed // _UNIT), 0
            if units:
                with contextlib.suppress(OSError):  # it is written all the same
                    self._count(units)

    def _count(self, units: int) -> int:
        """Count so many more; return how many there are."""
        for _ in range(2):
            if self._counter is None:
                flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
                self._counter = open_own(os.path.join(self._root, "used"), flags)
                self._unsure = not os.fstat(self._counter).st_size
            if units:
                os.write(self._counter, bytes(units))
            status = os.fstat(self._counter)
            if status.st_nlink:
                return status.st_size
            self._forget_counter()  # somebody has removed the cache
        return 0

    def _forget_counter(self) -> None:
        if self._counter is not None:
            os.close(self._counter)
            self._counter = None

    # -- making room -------------------------------------------------------

    def _make_room(self) -> bool:
        with self._alone() as alone:
            if not alone:
                return False
            used = self._count(0)
            goal = self.size - self.size // _SLACK
            if not self._unsure and used * _UNIT <= self.size:  # another process was faster
                return True
            recent = time.monotonic() - self._scanned < _REMEMBERED
            if recent and self._oldest and not self._unsure:
                left = self._remove(used * _UNIT, goal)
                if left <= self.size:
                    self._set(left)
                    return True
            left = self._scan()
            if left > self.size:
                left = self._remove(left, goal)
            self._set(left)
            return left <= self.size

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Keep other processes from making room meanwhile; False if one takes long over it."""
        fd = open_own(os.path.join(self._root, "lock"), os.O_RDWR | os.O_CREAT)
        try:
            yield locked(fd, fcntl.LOCK_EX)
        finally:
            os.close(fd)

    def _set(self, used: int) -> None:
        assert self._counter is not None
        os.ftruncate(self._counter, -(-used // _UNIT))
        self._unsure = False

    def _remove(self, used: int, goal: int) -> int:
        """Remove what was used longest ago until the goal is reached; return what is left."""
        while used > goal and self._oldest:
            last_used, size, path = self._oldest.pop()
            with contextlib.suppress(OSError):
                # What has been used since it was looked at is as good as the newest.
                if os.lstat(path).st_mtime <= last_used and _remove_unused(path):
                    used -= size
        return used

    def _scan(self) -> int:
        """Look at all there is; return the bytes of it."""
        total = 0
        found: list[_Entry] = []
        with os.scandir(self._root) as spaces:
            for space in spaces:
                if space.is_dir(follow_symlinks=False):
                    for entry in (*_facts(space.path), *_files(space.path)):
                        total += entry[1]
                        found.append(entry)
        # What was used in times to come was used while the clock was wrong.
        now = time.time() + _AHEAD
        found.sort(key=lambda entry: (entry[0] <= now, entry[0]), reverse=True)
        self._oldest = found
        self._scanned = time.monotonic()
        return total

    def __del__(self) -> None:
        self._forget_counter()


def locked(fd: int, how: int, patience: float = 1) -> bool:
    """Lock a file; return whether that was possible within so many seconds."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.005)
        else:
            return True


def _bytes(status: os.stat_result) -> int:
    return status.st_blocks * 512


def _facts(space: str) -> Iterator[_Entry]:
    """Return what is known of one service and user, which goes as one: its lock stands for it."""
    size, used = 0, 0.0
    with os.scandir(space) as entries:
        for entry in entries:
            if entry.name.startswith("facts-"):
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    size += _bytes(status)
                    used = max(used, status.st_mtime)
    lock = os.path.join(space, "lock")
    if size and os.path.exists(lock):
        yield max(used, os.stat(lock).st_mtime), size, lock


def _files(space: str) -> Iterator[_Entry]:
    """Return when each file was used last, its bytes, and its path."""
    try:
        owners = list(os.scandir(os.path.join(space, "files")))
    except OSError:
        return
    for owner in owners:
        sizes: dict[str, int] = {}
        times: dict[str, float] = {}
        there = set()
        try:
            entries = list(os.scandir(owner.path))
        except OSError:
            continue
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                path = entry.path.removesuffix(".j")
                sizes[path] = sizes.get(path, 0) + _bytes(status)
                if path == entry.path:
                    there.add(path)
                    times[path] = status.st_mtime
                else:
                    times.setdefault(path, status.st_mtime)
        for path, used in times.items():
            with contextlib.suppress(OSError):
                # Of a process that has died, or half removed.
                left_over = path.endswith(".part") or path not in there
                if left_over and abs(time.time() - used) > _LEFTOVER and _remove_unused(path):
                    continue
            yield used, sizes[path], path
        if not entries:
            with contextlib.suppress(OSError):
                os.rmdir(owner.path)


def _remove_unused(path: str) -> bool:
    """Remove a file, or what is known of a service, unless some process holds it."""
    try:
        fd = open_own(path, os.O_RDWR)
    except FileNotFoundError:
        _unlink(path + ".j")
        return True
    try:
        if not locked(fd, fcntl.LOCK_EX, 0):
            return False
        if os.path.basename(path) == "lock":
            space = os.path.dirname(path)
            for name in os.listdir(space):
                if name.startswith("facts-"):
                    _unlink(os.path.join(space, name))
        else:
            # The journal first: without it the file says nothing.
            _unlink(path + ".j")
            _unlink(path)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))
        return True
    finally:
        os.close(fd)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
