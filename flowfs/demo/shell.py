"""Commands of a shell, shown and really run, one ``bash -c`` each."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from flowfs.demo.screen import Screen
from flowfs.errors import FlowError, failure

__all__ = ["Shell"]

_SECONDS = 120.0


class Shell:
    """A shell whose variables and directory last from one command to the next.

    Each command is a process of its own. What it leaves behind is taken up by the next, so
    that the commands as shown work one after the other in anybody's shell.

    Parameters
    ----------
    screen : Screen
        Where commands and their output are shown.
    directory : Path
        Where the first command runs.
    environment : mapping of str to str
        Variables of the first command.
    keep : Path
        A directory for the files with which variables are handed on.
    """

    def __init__(
        self, screen: Screen, directory: Path, environment: Mapping[str, str], keep: Path
    ) -> None:
        self._screen = screen
        self._environment = {**environment, "PWD": os.fspath(directory)}
        self._left = keep / "environment"
        self._prelude = keep / "prelude.bash"
        # Read by each bash before its command, so that the command itself is as shown.
        self._prelude.write_text(
            f"unset BASH_ENV; set -a; trap 'env -0 >{shlex.quote(os.fspath(self._left))}' EXIT\n"
        )

    def run(self, command: str, *, fails: bool = False) -> str:
        """Show a command, run it, show its output and return that.

        Parameters
        ----------
        command : str
            What a user would type.
        fails : bool
            Whether it is to fail: then it is an error if it does not.

        Raises
        ------
        FlowError
            It ended otherwise than it should.
        """
        self._screen.command(command)
        return self.go(command, fails=fails)

    def go(self, command: str, *, fails: bool = False) -> str:
        """Run a command that has been shown, and show its output; as :meth:`run`."""
        self._left.unlink(missing_ok=True)
        try:
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=self._environment["PWD"],
                env={**self._environment, "BASH_ENV": os.fspath(self._prelude)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise failure(FlowError, f"{command!r} has not ended in {_SECONDS:g} s") from None
        output = done.stdout.decode("utf-8", "replace")
        self._screen.output(output, failed=done.returncode != 0)
        if (done.returncode != 0) != fails:
            what = "ended well, and should not have" if fails else f"ended with {done.returncode}"
            raise failure(FlowError, f"{command!r} {what}")
        self._take_up()
        return output

    def _take_up(self) -> None:
        variables = self._left.read_bytes().decode("utf-8", "surrogateescape")
        self._environment = dict(
            variable.split("=", 1) for variable in variables.split("\0") if "=" in variable
        )

    def value(self, variable: str) -> str:
        """Return a variable's value.

        Raises
        ------
        FlowError
            It is not set, or empty.
        """
        if not self._environment.get(variable):
            raise failure(FlowError, f"the commands before have not set {variable}")
        return self._environment[variable]
