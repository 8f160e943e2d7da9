"""How the command ends: what is said of errors, and the exit code.

The codes stand in docs/command.md, and at the end of ``flowfs --help``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator

import click

from flowfs.cli.words import line
from flowfs.errors import AccessDenied, ConnectionFailed, StillActive, describe

__all__ = [
    "ABSENT",
    "DENIED",
    "FAILED",
    "INTERRUPTED",
    "PIPE_CLOSED",
    "TIMED_OUT",
    "UNSUCCESSFUL",
    "USED_WRONGLY",
    "Several",
    "die_of_signal",
    "exit_code",
    "tell",
    "tidy_up_at_signals",
]

FAILED = 1
USED_WRONGLY = 2
ABSENT = 3
DENIED = 4
UNSUCCESSFUL = 5
TIMED_OUT = 6
INTERRUPTED = 128 + signal.SIGINT
PIPE_CLOSED = 128 + signal.SIGPIPE

_OF_KINDS = ((FileNotFoundError, ABSENT), (AccessDenied, DENIED), (StillActive, TIMED_OUT))


def exit_code(error: BaseException) -> int:
    """Return the exit code that stands for an error."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    return next((code for kind, code in _OF_KINDS if isinstance(error, kind)), FAILED)


def tell(error: Exception, *, debug: bool = False) -> None:
    """Say on stderr what went wrong, in one line; with `debug` where it comes from as well."""
    if debug:
        traceback.print_exception(type(error), error, error.__traceback__)
    if isinstance(error, click.ClickException):
        said = error.format_message().removesuffix(".")
        click.echo(line(f"flowfs: {said}{_advice(error)}"), err=True)
        return
    click.echo(line(f"flowfs: {describe(error)}{_hint(error)}"), err=True)
    for other in getattr(error, "others", ()):
        click.echo(line(f"flowfs: {describe(other)}"), err=True)


def _advice(error: click.ClickException) -> str:
    """Return where it is told how a command is used that was used wrongly."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    return f" ('{ctx.command_path} --help' tells how)" if ctx is not None else ""


def _hint(error: Exception) -> str:
    """Return what to do where no service answers because none was named."""
    if not isinstance(error, ConnectionFailed):
        return ""
    from flowfs.service.credentials import saved_logins
    from flowfs.service.endpoint import endpoint_from_environment, environment_names_endpoint

    if environment_names_endpoint() or saved_logins():
        return ""
    named = str(error.filename or "").removeprefix("flow+")
    if named.rstrip("/") != endpoint_from_environment() and not named.startswith(
        f"{endpoint_from_environment()}/"
    ):
        return ""
    return " If it is another one, name it: 'flowfs login URL' or FLOWSERV_API_HOST and so on."


class Several:
    """Things that a command is for, one after the other: what fails of one is told at once.

    Attributes
    ----------
    code : int
        Exit code of the first that failed; 0 while none did.
    """

    def __init__(self) -> None:
        self.code: int = 0
        self._debug = wants_tracebacks(click.get_current_context(silent=True))

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Do one of them within; an error is told, and the next can go on."""
        try:
            yield
        except BrokenPipeError:  # nobody reads on, of any
            raise
        except (OSError, click.UsageError) as error:
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Tell of an error of one of them."""
        tell(error, debug=self._debug)
        self.code = self.code or exit_code(error)

    def end(self) -> None:
        """End the command with the first one's exit code, if any failed.

        Raises
        ------
        click.exceptions.Exit
            Then.
        """
        if self.code:
            raise click.exceptions.Exit(self.code)


def wants_tracebacks(ctx: click.Context | None) -> bool:
    """Tell whether ``--debug`` was given anywhere on the line, or the environment wants them."""
    known = ctx.find_root().obj if ctx is not None else None
    return bool(os.environ.get("FLOWFS_DEBUG")) or bool(
        isinstance(known, dict) and known.get("debug")
    )


def tidy_up_at_signals(ctx: click.Context) -> None:
    """Have the signals that end this process end it as an exit does: nothing is left half done.

    Where the process is the command's own; whoever calls it within another keeps what they have.
    """
    state = ctx.find_root().obj
    if not (isinstance(state, dict) and state.get("process")):
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda number, frame: sys.exit(128 + number))


def die_of_signal(number: int) -> None:
    """End this process as the signal would have: a shell's loop ends with it, too."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
