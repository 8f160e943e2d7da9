"""A program on a terminal of its own, typed to and looked at, as a person would use it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Terminal"]

_PATIENCE = 60.0  # seconds


class Terminal:
    """A program with a terminal of 100 columns and 30 lines; as a context it ends with it.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    cwd : Path
        Where it is run.
    home : Path
        Its home directory: it is not to read the settings of whoever runs the tests.
    variables : mapping of str to str, optional
        Further variables of its environment.

    Attributes
    ----------
    screen : str
        All that the program has shown, with what makes it bold and moves the cursor.
    """

    def __init__(
        self,
        command: Sequence[str],
        cwd: Path,
        home: Path,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.screen = ""
        self._seen = 0
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={
                "HOME": os.fspath(home),
                "LC_ALL": "C.UTF-8",
                "PATH": os.environ["PATH"],
                "TERM": "xterm",
                **(variables or {}),
            },
        )
        os.close(slave)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def await_text(self, text: str) -> None:
        """Wait until the program shows something, after what was awaited last."""
        deadline = time.monotonic() + _PATIENCE
        while (at := self.screen.find(text, self._seen)) < 0:
            assert self._read(deadline), f"{text!r} is not on the screen: {self.screen!r}"
        self._seen = at + len(text)

    def ended(self, patience: float = _PATIENCE) -> int:
        """Wait for the program's end, some seconds at most, and return its exit status."""
        deadline = time.monotonic() + patience
        while self._read(deadline):
            pass
        assert time.monotonic() < deadline, f"does not end: {self.screen[self._seen :]!r}"
        return self._process.wait(_PATIENCE)

    def interrupted(self) -> int:
        """Press Ctrl-C until the program ends, and return its exit status.

        One that comes as Python has shown a question, and does not yet read the answer, is noticed
        only with the next key. Nobody is as quick as that, and a test is.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            self.type("\x03")
            again = min(deadline, time.monotonic() + _PATIENCE / 6)
            while self._read(again):
                pass
            if time.monotonic() < again:
                return self._process.wait(_PATIENCE)
            assert time.monotonic() < deadline, f"does not end: {self.screen[self._seen :]!r}"

    def _read(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._master], [], [], left)[0]:
            return False
        with contextlib.suppress(OSError):  # the last one has closed the terminal
            data = os.read(self._master, 65536)
            self.screen += data.decode("utf-8", "replace")
            return bool(data)
        return False

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)
