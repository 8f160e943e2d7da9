"""Addresses of hosts, asked of the system by threads that can be given up.

The system's resolver has bounds of its own, of minutes, and cannot be interrupted. So nobody
waits in it: a thread of its own asks for each name, for all who want it, and who wants it
waits for that thread as long as there is time.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
from typing import Any

from flowfs.service.deadline import Watch, begin

__all__ = ["UnknownAddress", "addresses_of"]

# Threads that ask, of which none may come back for minutes. One is for one name, and a program
# has to do with few.
_MOST = 16

_Question = tuple[str, int, int]


class UnknownAddress(TimeoutError):
    """The system did not say in time where a host is."""


class _Asking:
    """One question to the system, and who waits for the answer."""

    def __init__(self, question: _Question) -> None:
        self.question = question
        self.waiting: list[threading.Event] = []
        self.found: list[Any] | None = None
        self.error: OSError | None = None


class _Resolver:
    """All questions that are under way in this process."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all questions: after a fork, the threads that ask are the parent's."""
        self._lock = threading.Lock()
        self._asking: dict[_Question, _Asking] = {}
        self._queue: list[threading.Event] = []  # of those for whom there was no thread

    def find(self, question: _Question, timeout: float, watch: Watch) -> list[Any]:
        ends = time.monotonic() + timeout
        woken = threading.Event()
        watch.wake = woken.set
        try:
            while (asking := self._join(question, woken)) is None:
                if watch.ended or not woken.wait(max(0.0, ends - time.monotonic())):
                    raise UnknownAddress("too many names of hosts are being looked up")
                woken.clear()
            if not watch.ended:
                woken.wait(max(0.0, ends - time.monotonic()))
        finally:
            watch.wake = None
            with self._lock:
                if woken in self._queue:
                    self._queue.remove(woken)
        if asking.error is not None:
            # Each who waits gets one of its own: a traceback is of one thread.
            raise type(asking.error)(*asking.error.args)
        if asking.found is None:
            raise UnknownAddress(f"the address of {question[0]} is not found in time")
        return asking.found

    def _join(self, question: _Question, woken: threading.Event) -> _Asking | None:
        """Return the question, to be waited for; None if that is for a thread to become free."""
        with self._lock:
            asking = self._asking.get(question)
            if asking is None:
                if len(self._asking) >= _MOST:
                    self._queue.append(woken)
                    return None
                asking = _Asking(question)
                # A daemon: a program that ends does not wait for it either.
                thread = threading.Thread(
                    target=self._ask, args=(asking,), name="flowfs-address", daemon=True
                )
                begin(thread)
                self._asking[question] = asking
            asking.waiting.append(woken)
            return asking

    def _ask(self, asking: _Asking) -> None:
        host, port, family = asking.question
        try:
            asking.found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        except OSError as error:
            asking.error = error
        except Exception as error:  # a name that is none: UnicodeError
            asking.error = socket.gaierror(socket.EAI_NONAME, str(error))
        finally:
            with self._lock:
                self._asking.pop(asking.question, None)
                queue, self._queue = self._queue, []
            for event in (*asking.waiting, *queue):
                event.set()


_resolver = _Resolver()
os.register_at_fork(after_in_child=_resolver.reset)


def addresses_of(host: str, port: int, family: int, timeout: float, watch: Watch) -> list[Any]:
    """Return the addresses of a host, as :func:`socket.getaddrinfo`.

    Parameters
    ----------
    host : str
        Its name, or an address, which needs no other thread.
    port, family : int
        As for :func:`socket.getaddrinfo`.
    timeout : float
        Seconds to wait.
    watch : Watch
        Ends the wait when it is ended.

    Raises
    ------
    socket.gaierror
        If there is no host of that name.
    UnknownAddress
        If that is not known in time, or the watch was ended.
    """
    if _is_address(host):
        return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    return _resolver.find((host, port, family), timeout, watch)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
