"""Small things that never change: handles of ended runs, sizes, and small files."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

from flowfs.disk.allowance import locked
from flowfs.disk.directory import is_own, name_in_cache, open_own, remove

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

__all__ = ["Facts"]

logger: logging.Logger = logging.getLogger("flowfs.disk")

_BATCH = 512  # facts that are written at once, at most
_BATCH_BYTES = 1 << 18  # who looks something up meanwhile waits until they are written
_SOON = 0.3  # seconds after which others find what was learned
_BUSY = 0.5  # seconds to wait for another process that writes
_NEWS = 0.5  # seconds for which what is not there is not looked for again
_MISSES = 10_000
_OFF = 60.0  # seconds without it, once it could not be used
_DAY = 86_400  # seconds after which it is noted that something is used still
_MICROS = 1_000_000  # times are whole microseconds
_LOOK = 8  # it is looked how large it is each time that this part of its bound was written
_ROW = 100  # bytes of a fact beside its value
_DAMAGE = ("malformed", "not a database", "no such", "no column", "decode", "constraint")
_ENDS = ("", "-wal", "-shm", "-journal")  # of the names of SQLite's files
_WAL = 1 << 22  # bytes of SQLite's log that are left lying there

_TABLE = """
create table if not exists facts (
    owner blob not null, item blob not null, kind text not null,
    value blob not null, checksum integer not null, used integer not null,
    primary key (owner, item, kind)
) without rowid
"""

Key = tuple[bytes, bytes, str]


class Facts:
    """Values by owner, item and kind, in a database. Thread-safe, and shared by processes.

    What is put there is written a moment later, with all that came meanwhile; a process that is
    killed has learned it for nobody else. What cannot be read, or is not as it was written, is
    not there. Without a disk to write to nothing is kept, and nobody is held up.

    Parameters
    ----------
    path : str
        The database; beside it is a file ``lock`` that says that somebody uses it.
    bound : int
        Bytes that it may have; of more, what was used longest ago goes.
    directory : callable
        Makes the directory that it is to be in.
    count : callable
        Told of the bytes that are written.
    """

    def __init__(
        self,
        path: str,
        bound: int,
        directory: Callable[[], object],
        count: Callable[[int], object],
    ) -> None:
        self._path = path
        # What is of another service or user, and was put in this place, is not believed.
        self._seed = zlib.crc32(name_in_cache(path, 2))
        self._bound = bound
        self._directory = directory
        self._count = count
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._held: int | None = None
        self._inode = 0
        self._off_until = float("-inf")
        self._said = False
        self._new: dict[Key, bytes] = {}
        self._new_bytes = 0
        self._missed: dict[Key, float] = {}  # what was not there, and when that was seen
        self._used: set[Key] = set()
        self._timer: threading.Timer | None = None
        self._written = bound  # since it was looked how large it is
        self._closed = False

    # -- looking -----------------------------------------------------------

    def get(self, key: Key) -> bytes | None:
        """Return the value of a key; None if it is not there."""
        if os.getpid() != self._owner:  # a fork of it has the database of nobody
            return None
        with self._lock:
            if self._closed:  # nobody would close it once more
                return None
            value = self._new.get(key)
            if value is not None:
                return value
            now = time.monotonic()
            if now - self._missed.get(key, 0) < _NEWS:
                return None
            found = self._run(lambda database: _look(database, key))
            if found is None:
                if len(self._missed) >= _MISSES:
                    self._missed.clear()
                self._missed[key] = now
                return None
            value, checksum, used = found
            if not isinstance(value, bytes) or checksum != self._checksum(key, value):
                return None
            # The clock may have been wrong, and what is damaged may be anything.
            since = time.time() - used / _MICROS if isinstance(used, int) else _DAY
            if abs(since) >= _DAY:
                self._used.add(key)
                self._soon()
            return value

    # -- keeping -----------------------------------------------------------

    def put(self, key: Key, value: bytes) -> None:
        """Keep a value."""
        if os.getpid() != self._owner or self._closed:
            return
        with self._lock:
            self._missed.pop(key, None)
            self._new[key] = value
            self._new_bytes += len(value)
            if len(self._new) >= _BATCH or self._new_bytes >= _BATCH_BYTES:
                self._write()
            else:
                self._soon()

    def forget(self, owner: bytes, item: bytes | None) -> None:
        """Drop what is known of an item, or of all items of an owner."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            for key in [k for k in self._new if k[0] == owner and item in (None, k[1])]:
                del self._new[key]
            self._used.clear()
            where, what = "owner = ?", [owner]
            if item is not None:
                where, what = "owner = ? and item = ?", [owner, item]

            def delete(database: sqlite3.Connection) -> None:
                with database:
                    database.execute(f"delete from facts where {where}", what)

            self._run(delete)

    def flush(self) -> None:
        """Write what was not written yet."""
        if os.getpid() == self._owner:
            with self._lock:
                self._timer = None
                self._write()

    def close(self) -> None:
        """Write what is left, and close the database."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            self._write()
            self._drop()

    def _soon(self) -> None:
        if self._timer is None and not self._closed:
            self._timer = threading.Timer(_SOON, self.flush)
            self._timer.name = "flowfs-facts"
            self._timer.daemon = True
            try:
                self._timer.start()
            except RuntimeError:  # the process ends, or has too many threads
                self._timer = None

    def _write(self) -> None:
        new, used = self._new, self._used
        if not new and not used:
            return
        self._new, self._new_bytes, self._used = {}, 0, set()
        now = int(time.time() * _MICROS)

        def write(database: sqlite3.Connection) -> bool:
            with database:
                database.executemany(
                    "update facts set used = ? where owner = ? and item = ? and kind = ?",
                    [(now, *key) for key in used],
                )
                database.executemany(
                    "replace into facts values (?, ?, ?, ?, ?, ?)",
                    [
                        (*key, value, self._checksum(key, value), now + number)
                        for number, (key, value) in enumerate(new.items())
                    ],
                )
            return True

        if self._connection is not None and not self._is_there():
            self._drop()  # somebody has removed it
        size = sum(len(value) + _ROW for value in new.values())
        with contextlib.suppress(OSError):
            self._count(size)
        self._written += size
        if self._run(write) and self._written >= self._bound // _LOOK:
            self._written = 0
            self._run(self._shrink)

    def _shrink(self, database: sqlite3.Connection) -> None:
        """Drop what was used longest ago, if it has become too large."""
        import sqlite3

        def pragma(name: str) -> int:
            return int(database.execute(f"pragma {name}").fetchone()[0])

        page = pragma("page_size")
        # What was used in times to come was used while the clock was wrong.
        ahead = int((time.time() + _DAY) * _MICROS)
        while (pragma("page_count") - pragma("freelist_count")) * page > self._bound:
            count = database.execute("select count(*) from facts").fetchone()[0]
            with database:
                gone = database.execute(
                    "delete from facts where (owner, item, kind) in (select owner, item, kind "
                    "from facts order by case when used > ? then 0 else used end limit ?)",
                    [ahead, count // 4 + 1],
                ).rowcount
            if gone < 1:
                raise sqlite3.DatabaseError("malformed: it is full of nothing")
        if pragma("page_count") * page > 2 * self._bound:
            database.execute("vacuum")

    def _checksum(self, key: Key, value: bytes) -> int:
        names = b"".join((key[0], key[1], key[2].encode()))
        return zlib.crc32(value, zlib.crc32(names, self._seed))

    # -- the database ------------------------------------------------------

    def _run(self, act: Any) -> Any:
        """Return what comes of something that is done to the database; None if it cannot be."""
        if time.monotonic() < self._off_until:
            return None
        import sqlite3  # not before it is needed: few who import flowfs keep anything

        for last in (False, True):
            try:
                return act(self._connection or self._connect())
            except sqlite3.OperationalError as error:
                if "locked" in str(error):  # somebody writes, and takes long over it
                    return None
                damaged: Exception = error
            except (sqlite3.Error, OSError, OverflowError) as error:
                damaged = error
            self._drop()
            code = getattr(damaged, "sqlite_errorname", "")
            if last or not ("CORRUPT" in code or "NOTADB" in code or _is_damage(damaged)):
                self._turn_off(damaged)
                return None
            logger.warning("what was known is damaged (%s): begun anew: %s", damaged, self._path)
            for end in _ENDS:
                with contextlib.suppress(OSError):
                    remove(self._path + end)
        return None

    def _connect(self) -> sqlite3.Connection:
        import sqlite3

        self._directory()
        if self._held is None:
            lock = os.path.join(os.path.dirname(self._path), "lock")
            self._held = open_own(lock, os.O_RDWR | os.O_CREAT)
            # Shared: as long as somebody has it, nobody removes the database for its room.
            if not locked(self._held, fcntl.LOCK_SH):
                raise OSError("another process is removing it")
            os.utime(self._held)
        for end in _ENDS:
            with contextlib.suppress(FileNotFoundError):
                # SQLite follows links, and would wait for who is at the other end of a pipe.
                if not is_own(os.lstat(self._path + end)):
                    remove(self._path + end)
        with contextlib.suppress(FileExistsError):
            # Not for others, which SQLite does not care about.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._inode = os.stat(self._path).st_ino
        database = sqlite3.connect(self._path, timeout=_BUSY, check_same_thread=False)
        self._connection = database
        # What a crash of the machine leaves behind is noticed by its checksums.
        database.execute("pragma synchronous = off")
        database.execute("pragma journal_mode = wal")
        database.execute(f"pragma journal_size_limit = {_WAL}")
        database.execute("pragma cache_size = -1024")
        database.execute(_TABLE)
        return database

    def _is_there(self) -> bool:
        try:
            return os.stat(self._path).st_ino == self._inode
        except OSError:
            return False

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
            self._connection = None
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _turn_off(self, error: Exception) -> None:
        self._off_until = time.monotonic() + _OFF
        if not self._said:
            logger.warning("what is learned is not kept for now (%s): %s", error, self._path)
            self._said = True


def _look(database: sqlite3.Connection, key: Key) -> Any:
    return database.execute(
        "select value, checksum, used from facts where owner = ? and item = ? and kind = ?", key
    ).fetchone()


def _is_damage(error: Exception) -> bool:
    """Tell whether an error says that the file is no database, or not this one.

    Python 3.10 does not tell SQLite's own name of it.
    """
    text = str(error)
    return any(words in text for words in _DAMAGE)
