"""``flowfs rm``: runs and uploads are deleted, after a look at what goes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, TypeAlias

import click

from flowfs.cli import completing
from flowfs.cli.access import Access, json_option, service_options
from flowfs.cli.ending import Several
from flowfs.cli.entry import document
from flowfs.cli.naming import Place, expand, has_magic
from flowfs.cli.output import documents, on_terminal, say
from flowfs.cli.values import State
from flowfs.cli.words import line
from flowfs.errors import IsADirectory, NotFound, NotPermitted, failure, printable

_Target: TypeAlias = tuple[Place, dict[str, Any]]

_ASKED = 10  # runs that are looked into before they are deleted
_AT_ONCE = 8  # requests


@click.command(short_help="Delete runs and uploads.")
@click.argument(
    "places", metavar="PLACE...", nargs=-1, required=True, shell_complete=completing.places
)
@click.option("-r", "-R", "--recursive", is_flag=True, help="Runs, with all that is in them.")
@click.option("-s", "--state", type=State(), metavar="STATE", help="Of runs, those in this state.")
@click.option("-f", "--force", is_flag=True, help="Say nothing of what is not there.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-v", "--verbose", is_flag=True, help="Say what was deleted.")
@json_option
@service_options
def rm(
    access: Access,
    places: tuple[str, ...],
    recursive: bool,
    state: str | None,
    force: bool,
    yes: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Delete each PLACE: an upload, or with -r a run.

    \b
      flowfs rm analysis/uploads/days.csv
      flowfs rm -r 'analysis/runs/*' --state ERROR

    At a terminal it says what will go, and asks. Elsewhere it wants --yes. Everything is looked
    at before anything is deleted; then it is one request for each. An active run is not
    deleted: cancel it first. A pattern never takes `new`, and nothing goes through a link.
    """
    several = Several()
    with documents(as_json) as gone:
        for place, entry in _deleted(access, places, several, recursive, state, force, yes):
            gone.append(document(entry))
            if verbose and not as_json:
                say(f"deleted {printable(place.path)}")
        several.end()


def _deleted(
    access: Access,
    names: tuple[str, ...],
    several: Several,
    recursive: bool,
    state: str | None,
    force: bool,
    yes: bool,
) -> Iterator[_Target]:
    """Look at all, ask, and delete; yield what is gone."""
    from flowfs.pool import map_all

    targets: dict[str, _Target] = {}
    for name in names:
        for place in _named(access, name, several, force):
            with several.one():
                try:
                    entry = _entry(place, recursive)
                except NotFound:
                    if force:
                        continue
                    raise
                if state is None or entry.get("state") == state:
                    targets[place.url] = place, entry
    if several.code:
        click.echo("flowfs: nothing was deleted", err=True)
        return
    if targets and not yes:
        _ask(list(targets.values()))
    outcomes = map_all(_delete, targets.values(), _AT_ONCE)
    for target, outcome in zip(targets.values(), outcomes, strict=True):
        if isinstance(outcome, NotFound) and force:
            continue
        if isinstance(outcome, OSError):
            several.failed(outcome)
        elif isinstance(outcome, Exception):
            raise outcome
        else:
            yield target


def _named(access: Access, name: str, several: Several, force: bool) -> list[Place]:
    """Return the places that a name is of; of a pattern, those that can be deleted."""
    from flowfs.tree import RESERVED_RUN_NAMES

    with several.one():
        try:
            found = expand(access, [name])
        except NotFound:
            if not force:
                raise
            return []
        return [it for it in found if not (has_magic(name) and it.name in RESERVED_RUN_NAMES)]
    return []


def _entry(place: Place, recursive: bool) -> dict[str, Any]:
    """Return the entry of what is deleted where a place is named.

    Raises
    ------
    NotFound, NotPermitted, IsADirectory
        If it is not there, or cannot be deleted.
    """
    fs = place.fs
    with place.named(), fs.entries.operation():
        node = fs.entries.resolve(place.path)
        if node.kind.link or node.asked != node.path:
            path = fs.entries.follow(node).path
            raise failure(
                NotPermitted, f"nothing is deleted through a link or view: name {path}", place.url
            )
        entry: dict[str, Any] = fs.entries.entry(node, ask=False)
    if entry["place"] not in ("run", "upload"):
        raise failure(
            NotPermitted,
            f"the {entry['place']} cannot be deleted: runs and uploads can",
            place.url,
        )
    if entry["place"] == "run" and not recursive:
        raise failure(IsADirectory, "is a run: -r deletes it with all that is in it", place.url)
    return entry


def _ask(targets: list[_Target]) -> None:
    """Say what will go, and have it confirmed.

    Raises
    ------
    click.UsageError
        If nobody is there to be asked.
    click.Abort
        If nobody answers, or not with yes.
    """
    if not on_terminal(sys.stdin, sys.stderr):
        raise click.UsageError("nobody can be asked here: --yes deletes without")
    for place, entry in targets[:_ASKED]:
        click.echo(line(_described(place, entry)), err=True)
    if len(targets) > _ASKED:
        click.echo(f"and {len(targets) - _ASKED} more", err=True)
    many = "it" if len(targets) == 1 else f"all {len(targets)}"
    if not click.confirm(f"Delete {many}?", err=True):
        raise click.exceptions.Exit(1)


def _described(place: Place, entry: dict[str, Any]) -> str:
    if entry["place"] != "run":
        return place.path
    told = [entry["state"]]
    if entry["state"] == "SUCCESS":
        count = len(place.fs.ls(f"{place.path}/results"))
        told.append(f"{count} result{'' if count == 1 else 's'}")
    return f"{place.path} ({', '.join(told)})"


def _delete(target: _Target) -> None:
    place, entry = target
    if entry["place"] == "run":
        place.fs.rm(place.path, recursive=True)
    else:
        place.fs.rm_file(place.path)
