"""``flowfs mount --list``: what is mounted, by whom, and whether it answers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime

import click

from flowfs.cli.words import line as shown

__all__ = ["Line", "lines", "show_mounts"]


@dataclass(frozen=True)
class Line:
    """A mount as it is listed.

    Attributes
    ----------
    directory, url : str
        Where, and what.
    pid : int or None
        The process that serves it; None where that is somebody else's, or not known.
    since : float or None
        When it was mounted, in seconds since the epoch.
    state : str
        ``serving``, ``dead``, ``not answering``, ``another user's``, or ``ending``: out of
        sight, and still in use.
    log : str
        Where it logs to.
    """

    directory: str
    url: str
    pid: int | None
    since: float | None
    state: str
    log: str


def lines() -> list[Line]:
    """Return the mounts of flowfs on this machine; a mount that hangs holds up nobody."""
    from flowfs.fuse import registry
    from flowfs.fuse.table import TYPE, mounts, states

    there = {one.directory: one for one in mounts() if one.type == TYPE}
    answered = states(there)
    listed = set()
    found = []
    for directory, one in there.items():
        record = registry.find(directory, one.number)
        listed.add(record)
        found.append(
            Line(
                directory,
                one.source,
                record.pid if record and record.running else None,
                record.since if record else None,
                answered[directory],
                record.log if record else "",
            )
        )
    for record in registry.records():
        if record in listed:
            continue
        if record.running:
            found.append(
                Line(record.directory, record.url, record.pid, record.since, "ending", record.log)
            )
        else:
            registry.forget(record.pid)  # killed, and unmounted by somebody
    return found


def show_mounts(as_json: bool) -> None:
    """Print what is mounted, as a table or as a JSON array."""
    found = lines()
    if as_json:
        click.echo(json.dumps([asdict(line) for line in found], indent=2))
        return
    if not found:
        click.echo("nothing of flowfs is mounted", err=True)
        return
    rows = [("DIRECTORY", "WHAT", "PID", "SINCE", "STATE")]
    rows += [
        (
            shown(line.directory),
            shown(line.url),
            str(line.pid or "-"),
            _time(line.since),
            line.state,
        )
        for line in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def _time(since: float | None) -> str:
    return "-" if since is None else f"{datetime.fromtimestamp(since):%Y-%m-%d %H:%M:%S}"
