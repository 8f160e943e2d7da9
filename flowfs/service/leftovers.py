"""Files that nobody closed: closed later, by whoever comes next.

Python finalizes an object wherever it happens to be, maybe where this very thread holds the
lock that closing wants: it would wait for itself for ever. So what finalizers have to do is put
off until an ordinary call is made.
"""

from __future__ import annotations

import contextlib
import io
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["RawFile", "clear_up", "leave"]

_left: deque[Callable[[], object]] = deque()


def leave(act: Callable[[], object]) -> None:
    """Put something off. For finalizers: it takes no lock."""
    _left.append(act)


def clear_up() -> None:
    """Do what was put off. Not to be called with a lock held that closing a file may want."""
    while _left:
        try:
            act = _left.popleft()
        except IndexError:  # another thread was faster
            return
        with contextlib.suppress(Exception):  # nobody will see what goes wrong now
            act()


class RawFile(io.RawIOBase):
    """A file that can be dropped without being closed, in any place.

    Who inherits from it says in `_let_go` what closing it means, and in `_drop` what is to be
    left where it was never closed. What it alone refers to is dropped with it.
    """

    _dropped = False

    def _let_go(self) -> None:
        """Close what is below."""
        raise NotImplementedError

    def _drop(self) -> None:
        """Leave what is to be done; takes no lock."""

    def close(self) -> None:
        """Close the file, and what is below it."""
        if not self.closed:
            super().close()
            if self._dropped:
                self._drop()
            else:
                self._let_go()

    def _dealloc_warn(self, source: Any) -> None:
        """Note that it was never closed.

        Python calls this when it finalizes a text or buffered file over this one, before it
        closes it.
        """
        self._dropped = True

    def __del__(self) -> None:
        self._dropped = True
        with contextlib.suppress(AttributeError):  # of what is half made
            self.close()
