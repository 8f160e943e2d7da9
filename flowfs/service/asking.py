"""How a thread asks the service: for somebody who waits, or ahead of anybody's need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from flowfs.service.journal import Journal

__all__ = ["ahead", "is_ahead", "waited", "waiting"]

_ahead: ContextVar[bool] = ContextVar("flowfs_ahead", default=False)
_waited: ContextVar[float] = ContextVar("flowfs_waited", default=0.0)


@contextlib.contextmanager
def ahead() -> Iterator[None]:
    """Ask for what nobody waits for, within the ``with`` block.

    Nothing is sent again where the service is busy or a connection breaks, and no error is
    recorded: whoever comes to want it asks for it.
    """
    token = _ahead.set(True)
    try:
        with Journal.spoken_for():
            yield
    finally:
        _ahead.reset(token)


def is_ahead() -> bool:
    """Tell whether this thread asks for what nobody waits for."""
    return _ahead.get()


@contextlib.contextmanager
def waiting(seconds: float) -> Iterator[None]:
    """Count so many seconds, already waited, into the time of what is asked for within."""
    token = _waited.set(_waited.get() + seconds)
    try:
        yield
    finally:
        _waited.reset(token)


def waited() -> float:
    """Return how many seconds have been waited for what this thread asks for now."""
    return _waited.get()
