"""``flowfs info``: all that is known of a place."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from flowfs.cli import completing
from flowfs.cli.access import Access, json_option, service_options
from flowfs.cli.ending import Several
from flowfs.cli.entry import document
from flowfs.cli.naming import Place, expand
from flowfs.cli.output import (
    document_time,
    human_size,
    in_color,
    print_json,
    say,
    shown_time,
    state_style,
    style,
)
from flowfs.errors import printable

if TYPE_CHECKING:
    from flowfs.filesystem import FlowFileSystem

_LABELS = 11  # columns


@click.command(short_help="Show all that is known of a place.")
@click.argument(
    "places", metavar="PLACE...", nargs=-1, required=True, shell_complete=completing.places
)
@json_option
@service_options
def info(access: Access, places: tuple[str, ...], as_json: bool) -> None:
    """Show what each PLACE is: kind, id, state, size, times, addresses.

    Of a run its arguments, messages and results as well, of a group its workflow, uploads and
    how many runs are in which state. One request for most; one more for the size of a result,
    and for the names of the files among the arguments of a run.
    """
    several = Several()
    documents = []
    for name in places:
        with several.one():
            for place in expand(access, [name]):
                with several.one():
                    told = _told(place)
                    if as_json:
                        documents.append(told)
                        continue
                    if documents:
                        say()
                    documents.append(told)
                    for line in _lines(told, in_color()):
                        say(line)
    if as_json:
        print_json(documents[0] if len(documents) == 1 == len(places) else documents)
    several.end()


def _told(place: Place) -> dict[str, Any]:
    """Return what JSON tells of a place: its entry, its addresses, and more of what it stands for.

    Of a run: ``arguments`` (by name), ``messages``, ``started``, ``finished``,
    ``seconds``, ``files`` (paths below ``outputs/``). Of a group: ``workflow``, ``uploads``
    (names), ``runs`` (how many in each state). Of a workflow: ``description``.
    """
    fs = place.fs
    with place.named(), fs.entries.operation():
        node = fs.entries.resolve(place.path)
        told = document(fs.info(place.path))
        followed = fs.entries.follow(node)
        address = fs.entries.url(followed)
        told["url"] = place.url
        if address is not None:
            told["address"] = address
        kind = followed.kind.name
        if kind == "run":
            group_id = fs.entries.group_id(followed)
            handle = fs.catalog.run(group_id, fs.entries.run_id(followed))
            told |= _of_run(handle, _arguments(fs, group_id, handle))
        elif kind == "group":
            group_id = fs.entries.group_id(followed)
            group = fs.catalog.group(group_id)
            states = Counter(record.state for record in fs.catalog.runs(group_id).values())
            told["workflow"] = group.get("workflow")
            told["uploads"] = [record.name for record in fs.catalog.uploads(group_id)]
            told["runs"] = dict(states)
        elif kind == "workflow":
            workflow = fs.catalog.workflow(str(told["id"]))
            told["description"] = workflow.get("description")
    return told


def _of_run(handle: Mapping[str, Any], arguments: Any) -> dict[str, Any]:
    from flowfs.catalog.records import run_files, timestamp

    started, finished = timestamp(handle.get("startedAt")), timestamp(handle.get("finishedAt"))
    messages = handle.get("messages")
    return {
        "created": document_time(timestamp(handle.get("createdAt"))),
        "started": document_time(started),
        "finished": document_time(finished),
        "seconds": None if started is None or finished is None else round(finished - started, 6),
        "arguments": arguments,
        "messages": messages if isinstance(messages, list) else [],
        "files": ["/".join(record.output) for record in run_files(handle)],
    }


def _arguments(fs: FlowFileSystem, group_id: str, handle: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a run, files by their names where they are still there."""
    from flowfs.filesystem.rendering import plain_arguments

    arguments = handle.get("arguments")
    names: dict[str, str] = {}
    if isinstance(arguments, list) and any(isinstance(one.get("value"), dict) for one in arguments):
        names = {record.id: record.name for record in fs.catalog.uploads(group_id)}
    return plain_arguments(arguments, names)


# -- as text -------------------------------------------------------------------


def _lines(told: Mapping[str, Any], color: bool) -> Iterator[str]:
    state = told.get("state")
    size = told["size"]
    rows: list[tuple[str, str | None]] = [
        ("path", _text(told["path"] or "/")),
        ("kind", _text(told["kind"])),
        ("title", _text(told.get("title"))),
        ("id", _text(told.get("id"))),
        ("state", style(state, color, **state_style(state)) if state else None),
        ("size", f"{human_size(size)} ({size} bytes)" if size and size >= 1024 else _size(told)),
        ("modified", None if "created" in told else _time(told["modified"])),
        ("created", _time(told.get("created"))),
        ("started", _time(told.get("started"))),
        ("finished", _time(told.get("finished"))),
        ("took", _took(told.get("seconds"))),
        ("stands for", _text(told.get("target"))),
        ("output", _text(told.get("output"))),
        ("stored as", _text(_other(told.get("stored"), told["name"]))),
        ("workflow", _text(told.get("workflow"))),
        ("about", _text(told.get("description"))),
    ]
    if "runs" in told:
        states = ", ".join(f"{count} {state}" for state, count in sorted(told["runs"].items()))
        rows.append(("runs", _text(states or "none")))
        rows.append(("uploads", _text(", ".join(told["uploads"]) or "none")))
    if isinstance(told.get("arguments"), dict):
        rows += [
            ("arguments" if not number else "", _text(f"{name} = {json.dumps(value)}"))
            for number, (name, value) in enumerate(told["arguments"].items())
        ]
    for label, values in (("messages", told.get("messages")), ("outputs", told.get("files"))):
        rows += [
            (label if not number else "", _text(value)) for number, value in enumerate(values or ())
        ]
    rows += [("url", _text(told["url"])), ("address", _text(told.get("address")))]
    for label, text in rows:
        if text:
            yield f"{style(label.ljust(_LABELS), color, dim=True)} {text}"


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else printable(str(value))


def _other(value: Any, than: str) -> Any:
    return value if value != than else None


def _size(told: Mapping[str, Any]) -> str | None:
    if told["type"] == "directory":
        return None
    return "not known before it is read" if told["size"] is None else f"{told['size']} bytes"


def _time(written: str | None) -> str | None:
    from flowfs.catalog.records import timestamp

    seconds = timestamp(written)
    return None if seconds is None else f"{shown_time(seconds)} ({written})"


def _took(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.1f} s"
