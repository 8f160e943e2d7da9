"""``flowfs runs``: the runs of a group as a table."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from typing import Any

import click

from flowfs.cli import completing
from flowfs.cli.access import Access, json_option, service_options
from flowfs.cli.naming import find_group
from flowfs.cli.output import (
    documents,
    in_color,
    on_terminal,
    say,
    shown_time,
    state_style,
    stdout,
    style,
    table,
    width_of,
)
from flowfs.cli.values import State
from flowfs.errors import printable

_LONGEST = 40  # characters of a cell
_LEFT_OUT = ("started", "finished")  # where people look; the duration tells more


@click.command(short_help="Show the runs of a group as a table.")
@click.argument("group", metavar="GROUP", shell_complete=completing.places)
@click.option(
    "-s",
    "--state",
    "states",
    type=State(),
    multiple=True,
    metavar="STATE",
    help="Only runs in this state: PENDING, RUNNING, SUCCESS, ERROR or CANCELED. May come again.",
)
@click.option(
    "-r",
    "--results",
    multiple=True,
    metavar="PATH",
    help="Result within a run, as outputs/results/summary.json: its figures are columns.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Say it as CSV.")
@json_option
@service_options
def runs(
    access: Access,
    group: str,
    states: tuple[str, ...],
    results: tuple[str, ...],
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show the runs of GROUP: id, state, when, how long in seconds, arguments, results.

    A column for each argument and, with --results, for each figure in a JSON object or in a CSV
    of one row. One request for the group, one for each run, and one for each result.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are two ways to say it: give one")
    with documents(as_json) as told:
        fs, group_id = find_group(access, group)
        rows, columns = fs.run_rows(
            f"groups/{_named(group_id)}/",
            list(states) or None,
            results[0] if len(results) == 1 else results or None,
            on_error="raise",
        )
        told += [{name: row.get(name) for name in columns} for row in rows if as_json]
    if as_json:
        return
    if as_csv:
        writer = csv.writer(stdout(), lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_plain(row.get(name)) for name in columns] for row in rows)
    elif rows:
        _show(rows, [name for name in columns if name not in _LEFT_OUT])
    else:
        click.echo("flowfs: there are no such runs", err=True)


def _named(group_id: str) -> str:
    from flowfs.names import to_name

    return to_name(group_id)


def _show(rows: list[dict[str, Any]], columns: list[str]) -> None:
    color = in_color()
    heads = [name.upper() if name in rows[0] and _is_own(name) else name for name in columns]
    lines = [[(text, style(text, color, bold=True)) for text in map(_short, heads)]]
    right = set()
    for place, name in enumerate(columns):
        values = [row.get(name) for row in rows]
        present = [value for value in values if value is not None]
        if present and all(type(value) in (int, float) for value in present):
            right.add(place)
    for row in rows:
        cells = []
        for name in columns:
            text = _short(_cell(name, row.get(name)))
            look = state_style(text) if name == "state" else {}
            cells.append((text, style(text, color, **look)))
        lines.append(cells)
    kept = _fitting(lines, columns) if on_terminal(sys.stdout) else list(range(len(columns)))
    shown = [[line[place] for place in kept] for line in lines]
    for one in table(shown, [kept.index(place) for place in right if place in kept]):
        say(one)
    if len(kept) < len(columns):
        left = ", ".join(columns[place] for place in range(len(columns)) if place not in kept)
        click.echo(
            f"flowfs: without {printable(left)}: the terminal has no room; "
            "--csv or --json says all",
            err=True,
        )


def _fitting(lines: list[list[tuple[str, str]]], columns: list[str]) -> list[int]:
    """Return the numbers of the columns that a terminal has room for, id and state at least.

    When a run was made, and how long it took, gives way to its arguments and results; then what
    is the same for all runs; what a result repeats of the arguments; what is further to the right.
    """
    places = range(len(columns))
    sizes = [max(width_of(line[place][0]) for line in lines) for place in places]
    telling = [len({line[place][0] for line in lines[1:]}) > 1 for place in places]

    def need(place: int) -> int:
        if columns[place] in ("created", "duration"):
            return 0
        if not telling[place]:
            return 1
        return 2 if columns[place].startswith("result.") else 3

    kept = list(places)
    order = sorted(
        (place for place in places if columns[place] not in ("id", "state")),
        key=lambda place: (need(place), -place),
    )
    width = shutil.get_terminal_size().columns
    while sum(sizes[place] + 2 for place in kept) - 2 > width and order:
        kept.remove(order.pop(0))
    return kept


def _is_own(name: str) -> bool:
    from flowfs.filesystem.rendering import RUN_COLUMNS

    return name in RUN_COLUMNS


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "created":
        from flowfs.catalog import timestamp

        return shown_time(timestamp(value))
    if name == "duration":
        return f"{value:.1f}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return _plain(value)


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _plain(value: Any) -> str:
    """Return a value as a cell of a CSV: texts as they are, all else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
