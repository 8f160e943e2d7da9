"""How far copies have come, on stderr of a terminal."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any

from fsspec.callbacks import Callback

from flowfs.cli.bar import Bar
from flowfs.cli.output import on_terminal

__all__ = ["CopyProgress"]

_PATIENCE = 0.5  # seconds; what is over by then shows nothing


class CopyProgress(Callback):  # type: ignore[misc]
    """Files and bytes of a copy; as a context it is over at its end.

    On a terminal it is a bar that vanishes at the end; elsewhere nothing is shown.

    Parameters
    ----------
    files : int
        How many are copied in all.
    """

    def __init__(self, files: int) -> None:
        super().__init__()
        self._files = files
        self._over = 0
        self._total = 0
        self._done = 0
        self._bar: Bar | None = None
        self._begun = time.monotonic()
        self._wanted = on_terminal(sys.stderr)
        self._lock = threading.Lock()

    def __enter__(self) -> CopyProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.end()

    def set_size(self, size: int | None) -> None:
        """Take no notice: how many files there are is known."""

    def relative_update(self, inc: int = 1) -> None:
        """A file is over."""
        with self._lock:
            self._over += inc
            self._show()

    def branched(self, path_1: Any, path_2: Any, **kwargs: Any) -> Callback:
        """Return what is told of the bytes of one file."""
        return _File(self)

    def expect(self, size: int) -> None:
        """A file of so many bytes has begun."""
        with self._lock:
            self._total += size
            self._show()

    def moved(self, count: int) -> None:
        """So many bytes more have been copied."""
        with self._lock:
            self._done += count
            self._show()

    def _show(self) -> None:
        if not self._wanted or time.monotonic() - self._begun < _PATIENCE:
            return
        if self._bar is None:
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
            )
        self._bar.update(
            description=f"{self._over}/{self._files} files" if self._files > 1 else "copying",
            completed=self._done,
            total=self._total or None,
        )


class _File(Callback):  # type: ignore[misc]
    """The bytes of one file."""

    def __init__(self, whole: CopyProgress) -> None:
        super().__init__()
        self._whole = whole

    def set_size(self, size: int | None) -> None:
        self._whole.expect(size or 0)

    def relative_update(self, inc: int = 1) -> None:
        self._whole.moved(inc)

    def absolute_update(self, value: int) -> None:
        """Nothing that is copied here counts so."""
