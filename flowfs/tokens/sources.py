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
        self._latest: tuple[float, str] | None = None

    def read(self) -> str:
        """Run it, unless it has just been run; return what it printed.

        Raises
        ------
        AccessDenied
            If it cannot be run, fails, prints nothing, or takes over 30 seconds.
        """
        with self._lock:
            if self._latest is None or time.monotonic() - self._latest[0] > _PAUSE:
                self._latest = None
                token = self._run()
                self._latest = time.monotonic(), token
            return self._latest[1]

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
