"""The command ``flowfs``: one module per subcommand, imported when it is used."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import warnings
from importlib import import_module
from typing import Any

import click

from flowfs import __version__
from flowfs.cli import ending
from flowfs.cli.words import line

# Module, and what the command does: its help, so that a list of all needs none of them.
_COMMANDS = {
    "cancel": ("flowfs.cli.cancel", "Cancel active runs."),
    "cat": ("flowfs.cli.cat", "Print files."),
    "completion": ("flowfs.cli.completion", "Print what completes words in a shell."),
    "cp": ("flowfs.cli.cp", "Copy files from a service, and to it."),
    "demo": ("flowfs.cli.demo", "Show everything, on a service started for it."),
    "help": ("flowfs.cli.help", "Show what a command does."),
    "info": ("flowfs.cli.info", "Show all that is known of a place."),
    "login": ("flowfs.cli.login", "Log in to a service and keep the token."),
    "logout": ("flowfs.cli.login", "Log out of a service and forget the token."),
    "ls": ("flowfs.cli.ls", "List places."),
    "mount": ("flowfs.cli.mount", "Mount a service as a directory."),
    "open": ("flowfs.cli.open", "Open files in the desktop's viewer."),
    "rm": ("flowfs.cli.rm", "Delete runs and uploads."),
    "runs": ("flowfs.cli.runs", "Show the runs of a group as a table."),
    "serve": ("flowfs.cli.serve", "Run a flowServ service on this machine."),
    "start": ("flowfs.cli.start", "Start a run, or all of a sweep."),
    "tree": ("flowfs.cli.tree", "Show what is below a place, as a tree."),
    "umount": ("flowfs.cli.mount", "End a mount."),
    "wait": ("flowfs.cli.wait", "Wait until runs have ended."),
    "whoami": ("flowfs.cli.login", "Show who you are to a service."),
}

# Set by a shell that asks what can be typed; click has the name.
_COMPLETING = "_FLOWFS_COMPLETE"

_EXIT_CODES = """\
Exit codes: 0, all is done; 1, something failed; 2, used wrongly; 3, it is not there; 4, access
is denied, as without a good token; 5, a run did not end in SUCCESS; 6, the time to wait is up;
130, ended by Ctrl-C.
"""


class _LazyGroup(click.Group):
    """A group whose commands' modules are imported only when a command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        # A name of Python's own has a line behind it.
        module = import_module(_COMMANDS[cmd_name][0])
        command = getattr(module, f"{cmd_name}_", None) or getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in sorted(_COMMANDS)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        # Without a look at the commands, which would import all of them.
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        begun = [name for name in sorted(_COMMANDS) if name.startswith(incomplete)]
        return [CompletionItem(name, help=_COMMANDS[name][1]) for name in begun]

    def invoke(self, ctx: click.Context) -> Any:
        # Before click makes something else of them.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(ending.INTERRUPTED) from None
        except BrokenPipeError:
            raise click.exceptions.Exit(ending.PIPE_CLOSED) from None


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EXIT_CODES,
)
@click.version_option(__version__, prog_name="flowfs")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """A workflow service as a file system."""
    if debug:
        ctx.ensure_object(dict)["debug"] = True


def run(arguments: list[str], *, process: bool = False) -> int:
    """Run the command line; errors are one line on stderr.

    Parameters
    ----------
    arguments : list of str
        As a shell gives them, without the program's name.
    process : bool
        Whether this process is the command's own.

    Returns
    -------
    int
        The exit code; those that :mod:`flowfs.cli.ending` has.
    """
    state: dict[str, Any] = {"process": process}
    if _COMPLETING in os.environ:
        import_module("flowfs.cli.completion")  # what click is to answer the shells
    try:
        value = cli.main(arguments, prog_name="flowfs", standalone_mode=False, obj=state)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Abort as abort:
        asked = abort.__cause__ or abort.__context__
        if not isinstance(asked, EOFError):
            return ending.INTERRUPTED
        click.echo("\nflowfs: there was no answer", err=True)  # below the question
        return ending.FAILED
    except BrokenPipeError:
        return ending.PIPE_CLOSED
    except (click.ClickException, OSError) as error:
        debug = ending.wants_tracebacks(None) or bool(state.get("debug"))
        ending.tell(error, debug=debug)
        return ending.exit_code(error)
    return value if type(value) is int else 0


def main() -> None:
    """Run the command line of this process, and end it with the exit code."""
    warnings.showwarning = _warn
    if isinstance(sys.stdout, io.TextIOWrapper):  # names are shown in any locale
        sys.stdout.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:], process=True)
    if code in (ending.INTERRUPTED, ending.PIPE_CLOSED):
        _end_with_python(code - 128)
    _drop_what_cannot_be_written()
    sys.exit(code)


def _drop_what_cannot_be_written() -> None:
    """Have Python not try once more what has failed, which it would tell in its own words."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def _end_with_python(number: int) -> None:
    """Have the process end as a signal ends it, once all else is over."""
    import atexit

    # What was registered last is called first: all that others have to do at the end.
    atexit._run_exitfuncs()
    ending.die_of_signal(signal.Signals(number))


def _warn(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    click.echo(line(f"flowfs: {message}"), err=True)
