"""Where a token is read that is not typed: a file of its owner's, or what a command prints."""

from __future__ import annotations

import os
import shlex
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
        self.name = self._words[0]
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
                    threading.Thread(
                        target=self._keep, args=(call,), name="flowfs-token", daemon=True
                    ).start()
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
            # What it says on stderr is for people, and goes where this process's goes.
            done = subprocess.run(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                timeout=_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            said = f"it took more than {_PATIENCE:g} seconds"
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or str(error)
        else:
            code, token = done.returncode, Secret(done.stdout[:_LONGEST].decode("latin-1").strip())
            del done  # or it would stand there where somebody shows the values of variables
            if code == 0 and token:
                return token
            said = f"it ended with {code}" if code else "it printed nothing"
        raise failure(AccessDenied, f"no token from the command {self.name!r}: {said}")
