"""``flowfs demo``: everything, shown on a service that is started for it."""

from __future__ import annotations

import click


@click.command(short_help="Show everything, on a service started for it.")
@click.option("--keep", is_flag=True, help="Leave service and mount running, to look around.")
@click.option("--no-mount", is_flag=True, help="Show it through fsspec; mount nothing.")
def demo(keep: bool, no_mount: bool) -> None:
    """Show everything that flowfs does, on a real service that is started for it.

    Uploads a file, starts runs, reads their results, cancels and deletes, with the commands
    that you would type and what they really print. Takes some seconds and needs nothing;
    afterwards nothing is left. The service is one of this machine alone, as 'flowfs serve'
    has it.
    """
    from flowfs.demo import run

    run(keep=keep, mount=not no_mount)
