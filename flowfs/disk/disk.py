"""All that is kept on disk of one service, as one user sees it."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import platform
import shutil
import threading
from collections.abc import Callable

from flowfs.disk.allowance import Allowance
from flowfs.disk.archives import CachedArchive, Draft, size_of
from flowfs.disk.directory import claim, digest, private, remove
from flowfs.disk.facts import Facts
from flowfs.disk.files import CachedFile
from flowfs.disk.telling import Teller

__all__ = ["Disk"]

logger: logging.Logger = logging.getLogger("flowfs.disk")

Key = tuple[str, ...]

_FACTS_PART = 4  # one part in so many is for what is known
_FACTS_LEAST = 1 << 20  # bytes
_VERIFIED = 4096  # archives of which it is known that they were good


class Disk:
    """Bytes and facts that never change, of one service and user. Thread-safe.

    Others who use the same directory share it, at the same time or later. Names in it are
    digests; neither a token nor an id of the service is there. Nothing here asks the service,
    but :meth:`fact` where it may.

    Parameters
    ----------
    place : str
        A directory; made, for its owner alone, if it is missing.
    size : int
        Bytes that all of it may take, by all processes together.
    whose : callable
        Returns words that tell the service and the user from all others; takes whether the
        service may be asked, and returns None if it would have to be.

    Raises
    ------
    FlowError
        If nothing can be kept in that place.
    """

    def __init__(self, place: str, size: int, whose: Callable[[bool], Key | None]) -> None:
        self._place = place
        self._size = size
        self._whose = whose
        self._lock = threading.Lock()
        self._space: str | None = None
        self._facts: Facts | None = None
        self._verified: dict[str, tuple[int, ...]] = {}
        self._said = False
        self._allowance = Allowance(claim(place), size)
        self._teller = Teller()

    def _opened(self, whose: Key | None = None) -> str | None:
        """Return the directory of the service and user; None as long as they are not known."""
        if self._space is None:
            whose = whose or self._whose(False)
            if whose is None:
                return None
            with self._lock:
                if self._facts is None:
                    self._space = os.path.join(claim(self._place), digest(*whose))
                    # Of this machine: SQLite's log is for processes that share their memory.
                    path = os.path.join(self._space, f"facts-{digest(platform.node())[:8]}.db")
                    bound = max(self._size // _FACTS_PART, _FACTS_LEAST)
                    self._facts = Facts(path, bound, self._make, self._allowance.take)
        return self._space

    # -- facts -------------------------------------------------------------

    def fact(self, kind: str, key: Key, *, ask: bool = False) -> bytes | None:
        """Return what is known; None if it is not.

        Parameters
        ----------
        kind : str
            What it is that is known.
        key : sequence of str
            Of what: two words tell what it belongs to, as a run; more of them are of it.
        ask : bool
            Whether the service may be asked who the user is. One request, at the first use.
        """
        # What the service says to that is for who asks.
        whose = self._whose(True) if ask and self._space is None else None
        try:
            if self._opened(whose) is None or self._facts is None:
                return None
        except OSError as error:
            self._say(error)
            return None
        return self._facts.get((*_names(key), kind))

    def learn(self, kind: str, key: Key, value: bytes) -> None:
        """Keep what is known."""
        try:
            if self._opened() is not None and self._facts is not None:
                self._facts.put((*_names(key), kind), value)
        except OSError as error:
            self._say(error)

    # -- bytes -------------------------------------------------------------

    def file(self, key: Key, size: int) -> CachedFile | None:
        """Return the file that the bytes of something are in; None if it cannot be had now."""
        try:
            path = self._path(key)
            if path is None:
                return None
            return CachedFile(path, size, self._allowance, self._teller, lambda: self._make(path))
        except OSError as error:
            self._say(error)
            return None

    def draft(self, key: Key) -> Draft | None:
        """Return where an archive can be written; None if that is not possible now."""
        try:
            path = self._path(key)
            if path is None:
                return None
            return Draft(path, self._allowance, lambda: self._make(path))
        except OSError as error:
            self._say(error)
            return None

    def finish(self, key: Key, draft: Draft) -> None:
        """Let all others find an archive that is whole."""
        try:
            path = self._path(key)
            draft.finish()
            if path is not None:
                self._verify(path, draft.stamp())
        except OSError as error:
            self._say(error)

    def archive(self, key: Key) -> CachedArchive | None:
        """Return an archive that is there; None if it is not, or not as it was written.

        It is looked through at the first time.
        """
        path = self._known_path(key)
        if path is None:
            return None
        try:
            found = CachedArchive(path, self._verified.get(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno is not None:  # of the system, and nothing is the matter with the file
                self._say(error)
                return None
            logger.warning("an archive is fetched again: the one that is kept %s", error)
            for end in (".j", ""):
                with contextlib.suppress(OSError):
                    remove(path + end)
            return None
        self._verify(path, found.stamp())
        return found

    def _verify(self, path: str, stamp: tuple[int, ...]) -> None:
        """Note that an archive is good; of those noted long ago it is found out again."""
        with self._lock:
            self._verified.pop(path, None)
            self._verified[path] = stamp
            if len(self._verified) > _VERIFIED:
                del self._verified[next(iter(self._verified))]

    def archive_size(self, key: Key) -> int | None:
        """Return the bytes of an archive that is there; None if it is not."""
        path = self._known_path(key)
        return None if path is None else size_of(path)

    def _known_path(self, key: Key) -> str | None:
        try:
            return self._path(key)
        except OSError as error:
            self._say(error)
            return None

    def _path(self, key: Key) -> str | None:
        space = self._opened()
        if space is None:
            return None
        owner, item = _names(key)
        return os.path.join(space, "files", owner.hex(), item.hex())

    def _make(self, path: str | None = None) -> None:
        """Make the directories that a file is to be in; somebody may have removed them all."""
        assert self._space is not None
        claim(self._place)
        private(self._space)
        if path is not None:
            private(os.path.join(self._space, "files"))
            private(os.path.dirname(path))

    # -- all ---------------------------------------------------------------

    def forget(self, key: Key) -> None:
        """Drop what is kept of something, or of all that belongs to it."""
        try:
            space = self._opened()
        except OSError:
            return
        if space is None or self._facts is None:
            return
        owner, item = _names(key)
        all_of_it = len(key) <= 2
        self._facts.forget(owner, None if all_of_it else item)
        directory = os.path.join(space, "files", owner.hex())
        if all_of_it:
            shutil.rmtree(directory, ignore_errors=True)
            return
        for end in (".j", ""):
            with contextlib.suppress(OSError):
                remove(os.path.join(directory, item.hex() + end))

    def flush(self) -> None:
        """Write what was not written yet: others find it from then on."""
        self._teller.now()
        if self._facts is not None:
            self._facts.flush()
        self._allowance.settle()

    def close(self) -> None:
        """Write what was not written yet, and learn nothing from then on."""
        self._teller.now()
        if self._facts is not None:
            self._facts.close()
        self._allowance.settle()

    def _say(self, error: OSError) -> None:
        if not self._said:
            self._said = True
            logger.warning("not all is kept on disk: %s", error)


@functools.lru_cache(maxsize=10_000)
def _names(key: Key) -> tuple[bytes, bytes]:
    """Return the names of what something belongs to, and of itself."""
    return bytes.fromhex(digest(*key[:2])), bytes.fromhex(digest(*key))
