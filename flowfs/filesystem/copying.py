"""Copies of many files at once: which ones, and how they are told of."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from fsspec.callbacks import Callback, NoOpCallback

from flowfs.pool import Failures, call_all

__all__ = ["Plan", "copy_all"]


class Plan:
    """Stands for a file system while fsspec finds out which file is copied to where.

    Parameters
    ----------
    fs : AbstractFileSystem
        What is asked.

    Attributes
    ----------
    pairs : list of (str, str)
        Where each file is, and where it goes; in fsspec's order.
    """

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self.pairs: list[tuple[Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fs, name)

    def get_file(self, rpath: Any, lpath: Any, **kwargs: Any) -> None:
        """Note a copy from here; the names are fsspec's."""
        self.pairs.append((rpath, lpath))

    def put_file(self, lpath: Any, rpath: Any, **kwargs: Any) -> None:
        """Note a copy to here."""
        self.pairs.append((lpath, rpath))


def copy_all(
    copy: Callable[..., Any],
    pairs: list[tuple[Any, Any]],
    workers: int,
    callback: Callback,
    **kwargs: Any,
) -> None:
    """Copy files, several at once, each to its end whatever becomes of others.

    Parameters
    ----------
    copy : callable
        Copies one file; takes where it is, where it goes, and `callback`.
    pairs : list of (str, str)
        Where files are, and where they go. What two go to, they go to in this order.
    workers : int
        How many at once.
    callback : Callback
        Told how many files there are, and of each that is over; what its `branched` returns is
        told of the bytes of one. It is called from several threads, by one at a time. What it
        raises ends everything.

    Raises
    ------
    OSError
        The first that went wrong in the order of `pairs`; see :class:`~flowfs.pool.Failures`.
    """
    failures = Failures()
    silent = type(callback) is NoOpCallback
    progress = callback if silent else _InTurn(callback, threading.RLock())
    targets = {target if isinstance(target, str) else id(target) for _, target in pairs}
    if len(targets) < len(pairs):
        workers = 1

    def one(pair: tuple[Any, Any]) -> None:
        with progress.branched(*pair) as child:
            copy(*pair, callback=child, **kwargs)

    def took(number: int, outcome: object) -> None:
        failures.took(number, outcome)
        progress.relative_update(1)

    try:
        progress.set_size(len(pairs))
        call_all(one, pairs, min(workers, len(pairs)), took)
    except _CallbackFailed as failed:
        raise failed.error from None
    failures.check(len(pairs))


class _CallbackFailed(BaseException):
    """A callback raised something: whoever wrote it wants no more, of any file."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _InTurn(Callback):  # type: ignore[misc]
    """A callback that several threads call, one at a time."""

    def __init__(self, inner: Callback, lock: threading.RLock) -> None:
        super().__init__()
        self._inner = inner
        self._lock = lock

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except Exception as error:
                raise _CallbackFailed(error) from None

    def __enter__(self) -> _InTurn:
        with self._turn():
            self._inner = self._inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        with self._turn():
            return self._inner.__exit__(*error)

    def branched(self, path_1: Any, path_2: Any, **kwargs: Any) -> Callback:
        with self._turn():
            return _InTurn(self._inner.branched(path_1, path_2, **kwargs), self._lock)

    def set_size(self, size: int | None) -> None:
        with self._turn():
            self._inner.set_size(size)

    def relative_update(self, inc: int = 1) -> None:
        with self._turn():
            self._inner.relative_update(inc)

    def absolute_update(self, value: int) -> None:
        with self._turn():
            self._inner.absolute_update(value)
