"""Where a token is read that is not typed: a file of its owner's, or what a command prints."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import selectors
import shlex
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Sequence

from flowfs.errors import AccessDenied, FlowError, InvalidArguments, failure
from flowfs.tokens.secret import Secret

__all__ = ["TokenCommand", "read_token"]

_LONGEST = 1 << 16  # bytes of a file or of what is printed
_PATIENCE = 30.0  # seconds for a command
_PAUSE = 5.0  # seconds between two calls of a command: many may be refused at once


def read_token(file: str) -> str:
    """Read the token that a file holds.

    Raises
    ------
    AccessDenied
        If others may read the file, or its reader may not.
    InvalidArguments
        If there is no such file, or nothing in it, or it is none.
    """
    try:
        # Without waiting: of a pipe nobody may be at the other end.
        number = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(number)
            mode = status.st_mode & 0o777
            if stat.S_ISDIR(status.st_mode):
                raise failure(InvalidArguments, "cannot read the token: is a directory", file)
            if mode & 0o077:
                raise failure(
                    AccessDenied,
                    f"others can read the token (mode {mode:04o}): run 'chmod 600' on the file, "
                    "and take another token if it may have been read",
                    file,
                )
            token = Secret(os.read(number, _LONGEST).decode().strip())
        finally:
            os.close(number)
    except FlowError:
        raise
    except PermissionError:
        raise failure(AccessDenied, "cannot read the token", file) from None
    except UnicodeDecodeError:
        raise failure(InvalidArguments, "cannot read the token: it is no text", file) from None
    except OSError as error:
        raise failure(InvalidArguments, f"cannot read the token: {error.strerror}", file) from None
    if not token:
        raise failure(InvalidArguments, "there is no token in it", file)
    return token


class _Call:
    """One call of a command, and what came of it; in a fork of its process nothing will."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.ended: float | None = None
        self.token: str | None = None
        self.said = ""
        self._process = os.getpid()

    def over(self, pause: float) -> bool:
        """Tell whether to call once more."""
        if self.ended is None:
            return self._process != os.getpid()
        return time.monotonic() - self.ended > pause


class TokenCommand:
    """A command that prints a token. Thread-safe.

    Parameters
    ----------
    command : str or sequence of str
        Its words, or a text that is split as a shell does it. No shell runs it.

    Attributes
    ----------
    name : str
        Its first word; the others may be nobody's business.
    """

    def __init__(self, command: str | Sequence[str]) -> None:
        self._words = shlex.split(command) if isinstance(command, str) else list(command)
        if not self._words:
            raise ValueError("token_command is empty")
        self.name: str = self._words[0]
        self._lock = threading.Lock()
        self._latest: _Call | None = None

    def read(self, seconds: float | None = None) -> str:
        """Run it, unless it runs or has just been run; return what it printed.

        Parameters
        ----------
        seconds : float, optional
            How long to wait for it: it then runs in a thread of its own, and goes on for who
            asks later.

        Raises
        ------
        AccessDenied
            If it cannot be run, fails, prints nothing, or takes over 30 seconds.
        """
        with self._lock:
            call = self._latest
            begun = call is None or call.over(_PAUSE)
            if call is None or begun:
                call = _Call()
                if seconds is not None:
                    thread = threading.Thread(
                        target=self._keep, args=(call,), name="flowfs-token", daemon=True
                    )
                    try:
                        thread.start()
                    except RuntimeError as error:
                        said = f"no token from the command {self.name!r}: {error}"
                        raise failure(AccessDenied, said, errno=errno.EAGAIN) from None
                self._latest = call
        if begun and seconds is None:
            self._keep(call)  # an interrupt ends it
        if not call.done.wait(seconds):
            raise failure(AccessDenied, f"no token from the command {self.name!r} in time")
        if call.token is None:
            raise failure(AccessDenied, call.said)
        return call.token

    def _keep(self, call: _Call) -> None:
        try:
            call.token = self._run()
        except AccessDenied as error:
            call.said = str(error.strerror)
        finally:
            call.ended = time.monotonic()
            call.done.set()

    def _run(self) -> str:
        try:
            code, token = self._called()
        except subprocess.TimeoutExpired:
            said = f"it took more than {_PATIENCE:g} seconds"
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or str(error)
        else:
            if code == 0 and token:
                return token
            said = f"it ended with {code}" if code else "it printed nothing"
        raise failure(AccessDenied, f"no token from the command {self.name!r}: {said}")

    def _called(self) -> tuple[int, str]:
        """Run it to its end; return its exit code and what it printed."""
        until = time.monotonic() + _PATIENCE
        # What it says on stderr is for people, and goes where this process's goes.
        alone = not _has_terminal()
        with subprocess.Popen(
            self._words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=alone,
        ) as process:
            assert process.stdout is not None
            running = _Running(process, alone)
            try:
                printed = Secret(_read(process.stdout.fileno(), until).decode("latin-1").strip())
                code = process.wait(max(0.0, until - time.monotonic()))
            except BaseException:
                running.end()
                raise
            finally:
                _running.discard(running)
        return code, printed


class _Running:
    """A command that runs, until it has ended or this process does."""

    def __init__(self, process: subprocess.Popen[bytes], alone: bool) -> None:
        self._process = process
        self._alone = alone
        self._owner = os.getpid()
        _running.add(self)

    def end(self) -> None:
        """End it, and all that it has started, if that is in a process group of its own."""
        if self._owner != os.getpid():  # a fork of its process
            return
        if self._alone and self._process.returncode is None:  # else the number may be another's
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()


_running: set[_Running] = set()


@atexit.register
def _end_all() -> None:
    """Leave no command behind that a thread has waited for."""
    for running in list(_running):
        running.end()


def _has_terminal() -> bool:
    """Tell whether there is a terminal, at which a command may ask, and which signals to all.

    A command that is out of the terminal's foreground could not ask for a passphrase there.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _read(fd: int, until: float) -> bytes:
    """Read from a command until it has closed its end.

    Raises
    ------
    TimeoutExpired
        If it has not by then.
    ValueError
        If it prints more than any token has.
    """
    data = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while True:
            left = until - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise subprocess.TimeoutExpired("", _PATIENCE)
            piece = os.read(fd, 1 << 16)
            if not piece:
                return data
            data += piece
            if len(data) > _LONGEST:
                raise ValueError(f"it printed more than {_LONGEST} bytes")
