"""``flowfs help``: the same as ``--help``."""

from __future__ import annotations

import click


@click.command("help", short_help="Show what a command does.")
@click.argument("command", required=False)
@click.pass_context
def help_(ctx: click.Context, command: str | None) -> None:
    """Show what COMMAND does, or which commands there are."""
    root = ctx.find_root()
    group = root.command
    assert isinstance(group, click.Group)
    if command is None:
        click.echo(group.get_help(root))
        return
    found = group.get_command(root, command)
    if found is None:
        raise click.UsageError(f"No such command {command!r}.", root)
    with click.Context(found, info_name=command, parent=root) as inner:
        click.echo(found.get_help(inner))
