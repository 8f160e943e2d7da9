"""``flowfs cancel``: runs that are active."""

from __future__ import annotations

import click

from flowfs.cli import completing
from flowfs.cli.access import Access, json_option, service_options
from flowfs.cli.ending import Several
from flowfs.cli.output import print_json, say, state_style, style
from flowfs.cli.waited import find_runs


@click.command(short_help="Cancel active runs.")
@click.argument(
    "names", metavar="RUN...", nargs=-1, required=True, shell_complete=completing.places
)
@click.option("-r", "--reason", help="Kept among the run's messages.")
@json_option
@service_options
def cancel(access: Access, names: tuple[str, ...], reason: str | None, as_json: bool) -> None:
    """Cancel each RUN, by its id, path or URL, and show its state then.

    One that has ended already is an error; the others are canceled all the same. One request
    each.
    """
    several = Several()
    handles = []
    for name in names:
        with several.one():
            for fs, (_, run_id) in find_runs(access, [name], groups=False):
                handle = fs.cancel_run(run_id, reason)
                handles.append(handle)
                if not as_json:
                    state = str(handle["state"])
                    say(f"{style(run_id)}  {style(state, **state_style(state))}")
    if as_json:
        print_json(handles)
    several.end()
