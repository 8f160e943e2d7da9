"""The command ``flowfs``: one module per subcommand, imported when it is used."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from itertools import takewhile

import click

from flowfs import __version__
from flowfs.cli.words import line
from flowfs.errors import ConnectionFailed, FlowError, describe

# Module, and what the command does: its help, so that a list of all needs none of them.
_COMMANDS = {
    "demo": ("flowfs.cli.demo", "Show everything, on a service started for it."),
    "login": ("flowfs.cli.login", "Log in to a service and keep the token."),
    "logout": ("flowfs.cli.login", "Log out of a service and forget the token."),
    "mount": ("flowfs.cli.mount", "Mount a service as a directory."),
    "serve": ("flowfs.cli.serve", "Run a flowServ service on this machine."),
    "umount": ("flowfs.cli.mount", "End a mount."),
    "whoami": ("flowfs.cli.login", "Show who you are to a service."),
}


class _LazyGroup(click.Group):
    """A group whose commands' modules are imported only when a command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(_COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in sorted(_COMMANDS)])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flowfs")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """A workflow service as a file system."""
    ctx.obj = {"debug": debug}


def _hint(error: OSError) -> str:
    """Return what to do where no service answers because none was named."""
    if not isinstance(error, ConnectionFailed):
        return ""
    from flowfs.service.credentials import saved_logins
    from flowfs.service.endpoint import endpoint_from_environment, environment_names_endpoint

    if environment_names_endpoint() or saved_logins():
        return ""
    if error.filename != endpoint_from_environment():
        return ""
    return " If it is another one, name it: 'flowfs login URL' or FLOWSERV_API_HOST and so on."


def _wants_tracebacks(arguments: list[str]) -> bool:
    """Tell whether `--debug` was given to flowfs itself; commands may have one of their own."""
    own = takewhile(lambda argument: argument.startswith("-"), arguments)
    return "--debug" in own or bool(os.environ.get("FLOWFS_DEBUG"))


def main() -> None:
    """Run the command line; errors are one line on stderr and exit code 1."""
    try:
        cli(prog_name="flowfs")
    except (FlowError, OSError) as error:
        if _wants_tracebacks(sys.argv[1:]):
            raise
        click.echo(line(f"flowfs: {describe(error)}{_hint(error)}"), err=True)
        sys.exit(1)
