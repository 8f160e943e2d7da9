"""Threads that libfuse begins, as Python knows them: once each, not once for each operation."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

__all__ = ["Kept"]

_LOCKED = 0  # PyGILState_LOCKED: what Ensure says to who has the interpreter already


class Kept:
    """Makes Python remember the threads that call it from outside.

    Whenever such a thread comes in, Python makes up a state for it, and drops it when the
    thread leaves: half of what a small operation costs. Here a thread holds on to its state
    until it ends, in the way that Python's own interface for it is meant to be used, a request
    and a release for each thread. The C library tells of a thread's end before it takes away
    what belongs to the thread; where it cannot tell, all is as it would be without this.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._tell: Any = getattr(ctypes.CDLL(None), "__cxa_thread_atexit_impl", None)
        if self._tell is not None:
            self._tell.argtypes = [ctypes.c_void_p] * 3
            self._ended = _ENDED(_release)
            self._address = ctypes.cast(self._ended, ctypes.c_void_p)

    def keep(self) -> None:
        """Remember the thread that calls, until it ends."""
        if self._tell is None or hasattr(self._local, "kept"):
            return
        self._local.kept = True
        here = threading.get_ident()
        # What stands for a thread from outside may be left of one that has ended, whose number
        # this one has now.
        own = (one for one in threading.enumerate() if not isinstance(one, threading._DummyThread))
        if any(thread.ident == here for thread in own):
            return  # one of Python's own, which has its state, and may end after Python itself
        # The last is whose function it is: nobody's who could be unloaded, but never none.
        if self._tell(self._address, None, self._address) == 0:
            ctypes.pythonapi.PyGILState_Ensure()


_ENDED = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _release(_: Any) -> None:
    """Give back what :meth:`Kept.keep` took; on the way out of this the state goes."""
    ctypes.pythonapi.PyGILState_Release(_LOCKED)
