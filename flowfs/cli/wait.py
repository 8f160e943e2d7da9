"""``flowfs wait``: until runs have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flowfs.cli import completing, ending
from flowfs.cli.access import Access, json_option, waiting_options
from flowfs.cli.ending import Several
from flowfs.cli.output import print_json, say, state_style, stdin, style
from flowfs.cli.values import Seconds
from flowfs.cli.waited import OVER, find_runs, tell_of_endings, wait_for

if TYPE_CHECKING:
    from flowfs.filesystem import FlowFileSystem
    from flowfs.filesystem.waiting import Watched


@click.command(short_help="Wait until runs have ended.")
@click.argument(
    "names", metavar="RUN|GROUP...", nargs=-1, required=True, shell_complete=completing.places
)
@click.option("--timeout", type=Seconds(), metavar="SECONDS", help="How long; for ever by default.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing while it waits.")
@json_option
@waiting_options
def wait(
    access: Access, names: tuple[str, ...], timeout: float | None, quiet: bool, as_json: bool
) -> None:
    """Wait until each RUN has ended, and show how: its id and its state.

    A GROUP stands for all of its runs that are active now; '-' for names on stdin, one a line.
    Each look is one request for all runs of a group: often at first, every 15 seconds in the
    end.

    Exit code: 0 if all are in SUCCESS, 5 if one is not, 3 if one is not there any more, 6 if the
    time is up.
    """
    from flowfs.filesystem.waiting import Patience

    patience = Patience(timeout)
    given = [
        one
        for name in names
        for one in (stdin().read().split("\n") if name == "-" else [name])
        if one.strip()
    ]
    several = Several()
    runs: list[tuple[FlowFileSystem, Watched]] = []
    for name in given:
        with several.one():
            runs += find_runs(access, [name])
    states: dict[str, str] = {}
    with several.one():
        wait_for(runs, patience, states, quiet=quiet)
    over = [(fs, run) for fs, run in runs if states.get(run[1]) in OVER]
    ended = {run_id: states[run_id] for _, (_, run_id) in over}
    if as_json:
        print_json([{"id": run_id, "state": state} for run_id, state in ended.items()])
    else:
        for run_id, state in ended.items():
            say(f"{style(run_id)}  {style(state, **state_style(state))}")
    tell_of_endings(over, states)
    several.end()
    raise click.exceptions.Exit(code_of(ended.values()))


def code_of(states: object) -> int:
    """Return the exit code that states of ended runs make."""
    from flowfs.cli.waited import GONE

    all_states = set(states)  # type: ignore[call-overload]
    if GONE in all_states:
        return ending.ABSENT
    return ending.UNSUCCESSFUL if all_states - {"SUCCESS"} else 0
