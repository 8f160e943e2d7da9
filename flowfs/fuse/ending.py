"""The end of a mount's process: asked for by a signal, and not held up by what hangs."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from flowfs.errors import FlowError
from flowfs.fuse.unmounting import detach

__all__ = ["Ending"]

logger: logging.Logger = logging.getLogger("flowfs.mount")

R = TypeVar("R")

_GRACE = 5.0  # seconds for operations to come back once their requests have been ended
_WAKE = signal.SIGUSR2  # to the main thread alone: look again whether it is over
_GIVE_UP = signal.SIGUSR1  # from `flowfs umount`: end the requests under way


class Ending:
    """Takes the signals that end a process, so that it ends at once and in order.

    libfuse's own handlers would end its loop, and then wait for every operation that is under
    way: one that hangs in a request comes back when its time is up. Here a thread waits for
    the signals, ends the requests first, and then the loop.

    Used as a context manager, by the main thread of a process that ends with it, before any
    other thread is started: those must not be given the signals either. SIGINT, SIGTERM and
    SIGHUP (unless it is ignored, as by nohup) end the process; SIGUSR1 only ends the requests
    under way.
    """

    def __init__(self) -> None:
        self._taken = {signal.SIGINT, signal.SIGTERM, _GIVE_UP}
        self._interrupt: Callable[[bool], None] | None = None
        self._exit: Callable[[], None] | None = None
        self._directory = ""
        self._over = threading.Event()
        self._requested = threading.Lock()
        self._results: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._interrupting = threading.Lock()
        self._until = 0.0  # when the last uploads must have been sent

    def __enter__(self) -> Ending:
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            self._taken.add(signal.SIGHUP)
        self._main = threading.get_ident()
        signal.pthread_sigmask(signal.SIG_BLOCK, self._taken)
        _ignore_in_c(_WAKE)
        self._thread = threading.Thread(target=self._wait, name="flowfs-signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        assert self._thread.ident is not None
        signal.pthread_kill(self._thread.ident, _GIVE_UP)
        self._thread.join()
        # The signals stay blocked: one that comes now is not to be what the process dies of.

    def _wait(self) -> None:
        while True:
            number = signal.sigwait(self._taken)
            if self._over.is_set():
                return
            if number != _GIVE_UP:
                self.request(number)
            elif self._interrupt is not None:
                logger.info("asked to give up the requests under way")
                self._interrupt(False)

    # -- before the mount --------------------------------------------------

    def bounded(self, work: Callable[[], R], seconds: float, late: FlowError) -> R:
        """Do something in a thread; return what it returned, or raise what it raised.

        Parameters
        ----------
        work : callable
            May hang for ever: it is not waited for then.
        seconds : float
            For how long it may.
        late : FlowError
            What to raise where it takes longer.

        Raises
        ------
        SystemExit
            If a signal asked for the end meanwhile.
        """

        def run() -> None:
            try:
                self._results.put(("done", work()))
            except BaseException as error:
                self._results.put(("failed", error))

        threading.Thread(target=run, name="flowfs-prepare", daemon=True).start()
        try:
            how, result = self._results.get(timeout=seconds)
        except queue.Empty:
            raise late from None
        if how == "ended":
            raise SystemExit(128 + result)
        if how == "failed":
            raise result
        returned: R = result
        return returned

    # -- of the mount ------------------------------------------------------

    def watch(self, interrupt: Callable[[bool], None], directory: str) -> None:
        """Tell how requests are ended, and where the mount is.

        Parameters
        ----------
        interrupt : callable
            Ends the requests under way; with True, refuses others as well.
        directory : str
            Where it is, to be unmounted if nothing else helps.
        """
        self._interrupt = interrupt
        self._directory = directory

    def began(self, leave: Callable[[], None]) -> None:
        """Tell how libfuse's loop is made to end, once it runs."""
        self._exit = leave

    def served(self, seconds: float) -> None:
        """Tell that no operation is under way any more.

        What is asked of the service from now on is not interrupted: it is for uploads that
        nobody has sent.

        Parameters
        ----------
        seconds : float
            How long that may take.
        """
        with self._interrupting:
            self._until = time.monotonic() + seconds

    def request(self, number: int = signal.SIGTERM) -> None:
        """Ask for the end, from any thread; only the first to ask counts."""
        if not self._requested.acquire(blocking=False):
            return
        self._results.put(("ended", number))
        logger.info("ending: %s", signal.Signals(number).name)
        threading.Thread(target=self._end, name="flowfs-ending", daemon=True).start()

    def _end(self) -> None:
        deadline = time.monotonic() + _GRACE
        flagged = False
        while time.monotonic() < max(deadline, self._until):
            with self._interrupting:
                # Again and again: an operation may go on to another request.
                if self._interrupt is not None and not self._until:
                    self._interrupt(False)
            if self._exit is not None and not flagged:
                self._exit()
                flagged = True
            # The main thread sees libfuse's flag when it wakes up, and may have been about to
            # fall asleep when it was woken before.
            with contextlib.suppress(ProcessLookupError):
                signal.pthread_kill(self._main, _WAKE)
            if self._over.wait(0.05):
                return
        logger.error("something still hangs: ending without it")
        if self._directory:
            detach(self._directory, True)
        os._exit(1)


def _ignore_in_c(number: int) -> None:
    """Have a signal interrupt what a thread waits for, and do nothing else.

    A handler in Python would be due until the main thread is back from libfuse, and all other
    threads would be asked at each step whether they can run it; traced ones get no further.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    # It takes no argument and changes nothing.
    libc.signal(number, ctypes.cast(libc.getpid, ctypes.c_void_p))
    libc.siginterrupt(number, 1)
