"""An end for requests that would never end.

A socket's timeout bounds one ``recv``: a server that sends a byte a second keeps a request
alive for ever. A :class:`Watch` bounds the whole: when its time is up, or when somebody
interrupts it, the connection's socket is shut down, and whoever waits on it gets an error at
once.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from flowfs.errors import FlowError, failure

__all__ = ["Watch", "begin", "current_watch"]

_current = threading.local()


def current_watch() -> Watch | None:
    """Return the watch that is on for what this thread does now."""
    return getattr(_current, "watch", None)


def begin(thread: threading.Thread) -> None:
    """Start a thread that somebody needs.

    Raises
    ------
    FlowError
        EAGAIN, where the system allows no more of them, or the process is ending.
    """
    try:
        thread.start()
    except RuntimeError as error:
        message = f"no thread can be started: {error}"
        raise failure(FlowError, message, errno=errno.EAGAIN) from None


class Watch:
    """Bounds what the current thread does on watched connections.

    Used as a context manager around a request and, where the reply is small, around reading
    it too. Of a reply whose body is read later, it is kept: its time does not run out any
    more, but it can be interrupted until it is released.

    Parameters
    ----------
    at : float
        When time is up, in seconds of :func:`time.monotonic`; infinite: never.
    patience : float
        Seconds that sending may stand still.

    Attributes
    ----------
    expired : bool
        Whether the time ran out while the watch was on.
    interrupted : bool
        Whether it was interrupted.
    cut : bool
        Whether a connection was shut down for it: what came last over it may be a part.
    sent : bool
        Whether something was sent, so that a request may have arrived.
    wake : callable, optional
        Called, by any thread, when it is ended: for who waits for something else than a socket.
    """

    def __init__(self, at: float, patience: float) -> None:
        self.at: float = at
        self.patience = patience
        self.expired: bool = False
        self.interrupted: bool = False
        self.cut: bool = False
        self.sent: bool = False
        self.wake: Callable[[], object] | None = None
        self._outer: Watch | None = None
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._off = False
        self._kept = False
        self._released = False

    def __enter__(self) -> Watch:
        # A request may read its body from another one, on the same thread.
        self._outer = current_watch()
        if self.at != float("inf"):
            _keeper.add(self)
        _current.watch = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _current.watch = self._outer
        with self._lock:
            self._off = True
        if not self._kept or error is not None:
            self.release()

    @property
    def off(self) -> bool:
        """Whether there is no time left to watch."""
        return self._off

    @property
    def ended(self) -> bool:
        """Whether what is watched has been ended before its time."""
        return self.expired or self.interrupted

    def limit(self, at: float) -> None:
        """Have time be up at another moment than was said; infinite: never."""
        with self._lock:
            self.at = at
        if at != float("inf"):
            _keeper.add(self)

    def keep(self) -> None:
        """Stay interruptible when the ``with`` block ends, until :meth:`release`."""
        self._kept = True

    def release(self) -> None:
        """Let go of the connection: nothing is left to interrupt."""
        with self._lock:
            self._released = True
            self._socket = None

    def attach(self, sock: socket.socket | None, *, sends: bool = False) -> None:
        """Name the socket to shut down when time is up; None: there is none any more.

        With `sends`, something is about to be sent over it.
        """
        with self._lock:
            if not self._released:
                self._socket = sock
            if self.ended:
                self._shut()
            elif sends:  # what is shut down takes nothing any more
                self.sent = True

    def begin_connecting(self, sock: socket.socket, address: Any) -> int:
        """Begin to connect a socket that does not block, unless it has been ended.

        Returns
        -------
        int
            As ``connect_ex`` of a socket.

        Raises
        ------
        TimeoutError
            If it has been ended.
        """
        with self._lock:  # what is not connecting yet cannot be shut down
            if self.ended:
                raise TimeoutError("ended before it was connected")
            self._socket = sock
            return sock.connect_ex(address)

    def fire(self) -> None:
        """End it now for its time is up, unless it is over."""
        with self._lock:
            if not self._off:
                self.expired = True
                self._shut()

    def interrupt(self) -> None:
        """End it now, unless it is over."""
        with self._lock:
            if not self._released:
                self.interrupted = True
                self._shut()

    def _shut(self) -> None:
        if (wake := self.wake) is not None:
            wake()
        if self._socket is not None:
            self.cut = True
            with contextlib.suppress(OSError):
                # Below TLS: an orderly TLS shutdown would wait for the peer.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Keeper:
    """The one thread that fires watches; started with the first of them."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all watches and the thread: after a fork it is the parent's."""
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Watch]] = []
        self._serial = itertools.count()
        self._thread: threading.Thread | None = None
        self._wakes = 0.0  # when the thread looks by itself, if it waits

    def add(self, watch: Watch) -> None:
        with self._changed:
            # Those that are over need not wait for their time, which may be hours.
            while self._heap and self._heap[0][2].off:
                heapq.heappop(self._heap)
            heapq.heappush(self._heap, (watch.at, next(self._serial), watch))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="flowfs-deadlines", daemon=True)
                begin(thread)  # without it nothing would ever end
                self._thread = thread
            elif watch.at < self._wakes:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while (due := self._due()) is None:
                    # Waking up for what is over by then is cheaper than being told of it.
                    self._wakes = self._heap[0][0] if self._heap else float("inf")
                    left = self._wakes - time.monotonic()
                    # No wait is longer than the platform can count.
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
            due.fire()

    def _due(self) -> Watch | None:
        # Those that are over, or have another time by now.
        while self._heap and (self._heap[0][2].off or self._heap[0][0] != self._heap[0][2].at):
            heapq.heappop(self._heap)
        if self._heap and self._heap[0][0] <= time.monotonic():
            return heapq.heappop(self._heap)[2]
        return None


_keeper = _Keeper()
os.register_at_fork(after_in_child=_keeper.reset)
