"""``flowfs start``: one run, or all of a sweep."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from flowfs.cli import completing, ending
from flowfs.cli.access import Access, json_option, service_options
from flowfs.cli.naming import find_group
from flowfs.cli.output import print_json, say, stdin, style
from flowfs.cli.tally import Tally, complain
from flowfs.cli.waited import tell_of_endings, wait_for
from flowfs.errors import FlowError, InvalidArguments, failure

if TYPE_CHECKING:
    from flowfs.filesystem import FlowFileSystem
    from flowfs.sweep import Outcome, Sweep

_LARGEST = 256 << 20  # bytes


@click.command(short_help="Start a run, or all of a sweep.")
@click.argument("group", metavar="GROUP", shell_complete=completing.places)
@click.argument("file", metavar="FILE", type=click.Path(allow_dash=True))
@click.option(
    "--format",
    type=click.Choice(["json", "jsonl", "csv"]),
    help="What FILE is; by default its name or its beginning tells.",
)
@click.option("--dry-run", is_flag=True, help="Check all, and start nothing.")
@click.option("--again", is_flag=True, help="Start a sweep anew, whatever was started before.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="How many starts at once (16, the connections).",
)
@click.option(
    "--max-active",
    type=click.IntRange(1),
    metavar="N",
    help="Have no more than N runs of the sweep active: start others as these end.",
)
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False),
    help="Where it is kept what a sweep has started (FILE.ledger).",
)
@click.option("-w", "--wait", is_flag=True, help="Wait until all have ended.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@json_option
@service_options
def start(
    access: Access,
    group: str,
    file: str,
    format: str | None,
    dry_run: bool,
    again: bool,
    jobs: int | None,
    max_active: int | None,
    ledger: str | None,
    wait: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Start runs of GROUP with the arguments in FILE, and show their ids.

    FILE is a JSON document, for one run; or a sweep: a document a line (.jsonl), an array of
    them, or a CSV with a column for each parameter and a row for each run. '-' is stdin.

    All arguments are checked before the first run is started. A sweep that was interrupted goes
    on where it stopped when the same command is given again: what was started stands in
    FILE.ledger, and no row is started twice. A row is known by what it says, so that others can
    be added. Of stdin nothing is kept, unless --ledger names a file.

    Exit code: 0 if each row has its run, 1 if not; with --wait, 5 if one did not end in SUCCESS.
    """
    from flowfs.sweep import Ledger, read_sweep, start_sweep

    data = _read(file)
    fs, group_id = find_group(access, group)
    declared = fs.catalog.group(group_id).get("parameters")
    sweep = read_sweep(
        data,
        "" if file == "-" else file,
        declared if isinstance(declared, list) else None,
        format=format,
    )
    path = ledger or (None if sweep.single or file == "-" else f"{os.path.realpath(file)}.ledger")
    if again and path is None:
        raise click.UsageError(
            "--again is for sweeps that have a ledger: a single run is new anyway"
        )
    if path is None:
        outcome = _started(start_sweep, fs, group_id, sweep, None, jobs, max_active, dry_run, quiet)
    else:
        try:
            kept = Ledger(path, group_id)
        except PermissionError as error:
            raise failure(
                FlowError,
                f"{error.strerror}: what is started is kept there; --ledger names another file",
                path,
                errno=error.errno,
            ) from None
        with kept:
            # As if nothing had been started; without --dry-run that is so, once all are checked.
            known = None if again and dry_run else kept
            outcome = _started(
                start_sweep, fs, group_id, sweep, known, jobs, max_active, dry_run, quiet, again
            )
    if sweep.single and not dry_run and outcome.refused:
        if as_json:
            _show(group_id, path, sweep, outcome, None, dry_run, as_json)
        for refusal in outcome.refused.values():
            raise refusal
    if not dry_run:
        _complain(sweep, outcome, again)
    states: dict[str, str] | None = None
    if wait and not dry_run:
        states = {}
        try:
            _wait(fs, group_id, sweep, outcome, states, quiet)
        except OSError:  # what was started is shown all the same
            _show(group_id, path, sweep, outcome, states, dry_run, as_json)
            raise
    _show(group_id, path, sweep, outcome, states, dry_run, as_json)
    if outcome.broken is not None:
        raise outcome.broken
    if not dry_run and not outcome.whole:
        raise click.exceptions.Exit(ending.FAILED)
    if states is not None and set(states.values()) - {"SUCCESS"}:
        raise click.exceptions.Exit(ending.UNSUCCESSFUL)


def _read(file: str) -> bytes:
    if file == "-":
        data = stdin().buffer.read(_LARGEST + 1)
    else:
        with open(file, "rb") as opened:
            data = opened.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise failure(InvalidArguments, f"is larger than {_LARGEST >> 20} MiB: split it", file)
    return data


def _started(
    start_sweep: Any,
    fs: FlowFileSystem,
    group_id: str,
    sweep: Sweep,
    ledger: Any,
    jobs: int | None,
    max_active: int | None,
    dry_run: bool,
    quiet: bool,
    again: bool = False,
) -> Outcome:
    """Start what is left, and show how far that has come."""
    with Tally("started", len(sweep.rows), quiet=quiet or dry_run) as tally:
        said: list[str] = []

        def told(number: int, what: Any) -> None:
            if what is not None and not isinstance(what, FlowError):
                said.append(str(what["id"]))
                tally.one()

        def looking(count: int, seconds: float) -> None:
            rows = "1 row" if count == 1 else f"{count} rows"
            complain([f"{rows} may have been started before: looking for {seconds:.0f} s at most"])

        try:
            outcome: Outcome = start_sweep(
                fs,
                group_id,
                sweep,
                ledger,
                workers=jobs,
                max_active=max_active,
                dry=dry_run,
                again=again and ledger is not None,
                told=told,
                looking=looking,
            )
        except KeyboardInterrupt:
            if ledger is None:
                complain([f"started: {run_id}" for run_id in said])
            else:
                complain([f"{len(said)} were started now; {_same(again)} goes on from there"])
            raise
        tally.before(len(outcome.before))
    return outcome


def _complain(sweep: Sweep, outcome: Outcome, again: bool) -> None:
    """Say what went wrong, row by row."""
    names = [row.name for row in sweep.rows]
    complain(
        [f"{names[n]} was not started: {error.strerror}" for n, error in outcome.refused.items()]
    )
    complain(
        [
            f"{names[n]} may have been started: its reply never came, and no run of it is "
            "listed yet; "
            + ("look at the group's runs" if sweep.single else f"{_same(again)} looks again")
            for n in outcome.unclear
        ]
    )
    if outcome.unsent:
        count = len(outcome.unsent)
        complain([f"{count} {'was' if count == 1 else 'were'} not sent"])


def _wait(
    fs: FlowFileSystem,
    group_id: str,
    sweep: Sweep,
    outcome: Outcome,
    states: dict[str, str],
    quiet: bool,
) -> None:
    """Wait for what was started, and say what did not end in SUCCESS."""
    from flowfs.filesystem.waiting import Patience

    names = [row.name for row in sweep.rows]
    runs = [(fs, (group_id, run_id)) for run_id in outcome.runs.values()]
    wait_for(runs, Patience(), states, quiet=quiet)
    tell_of_endings(runs, states, {run_id: names[n] for n, run_id in outcome.runs.items()})


def _same(again: bool) -> str:
    """Say what goes on with a sweep; --again would forget once more what has been started."""
    return "the same command without --again" if again else "the same command"


def _show(
    group_id: str,
    path: str | None,
    sweep: Sweep,
    outcome: Outcome,
    states: dict[str, str] | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    if as_json:
        rows = [
            _document(number, sweep, outcome, states, dry_run) for number in range(len(sweep.rows))
        ]
        print_json({"group": group_id, "ledger": path, "rows": rows})
        return
    if dry_run:
        before = f"; {len(outcome.before)} have been started" if outcome.before else ""
        say(f"{len(outcome.unsent)} of {len(sweep.rows)} would be started{before}")
        return
    for run_id in outcome.runs.values():
        say(style(run_id))
    if outcome.before and outcome.whole and not outcome.started:
        complain(["nothing left to do: all have been started before; --again starts them anew"])


def _document(
    number: int, sweep: Sweep, outcome: Outcome, states: dict[str, str] | None, dry_run: bool
) -> dict[str, Any]:
    row = sweep.rows[number]
    run_id = outcome.runs.get(number)
    if number in outcome.before:
        what = "before"
    elif number in outcome.started:
        what = "started"
    elif number in outcome.refused:
        what = "refused"
    elif number in outcome.unclear:
        what = "unclear"
    else:
        what = "due" if dry_run else "unsent"
    document: dict[str, Any] = {
        "row": row.name,
        "arguments": {one["name"]: one["value"] for one in row.arguments},
        "what": what,
        "run": run_id,
    }
    if states is not None:
        document["state"] = states.get(run_id) if run_id is not None else None
    if number in outcome.refused:
        document["error"] = str(outcome.refused[number].strerror)
    return document
