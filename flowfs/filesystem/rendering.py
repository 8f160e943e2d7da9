"""Files that are made here, out of what the service tells. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Any

from flowfs.catalog import plain, timestamp

__all__ = [
    "RUN_COLUMNS",
    "group_json",
    "leaderboard_table",
    "plain_arguments",
    "pretty_json",
    "run_row",
    "table_row",
]


def pretty_json(document: Any) -> bytes:
    """Return a document as indented UTF-8 JSON with a newline at its end."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "surrogatepass")


# A run in a group's handle, in both of the orders that rows may have.
_ROW = '    {\n      "id": %s,\n      "state": %s,\n      "createdAt": %s\n    }'
_SORTED = '    {{\n      "createdAt": {2},\n      "id": {0},\n      "state": {1}\n    }}'


def group_json(handle: Mapping[str, Any]) -> bytes:
    """Return a group's handle as :func:`pretty_json` would; its runs may be rows.

    Many runs are most of it, and by far the fastest written by hand.
    """
    runs = handle.get("runs")
    if not isinstance(runs, list) or not all(isinstance(run, tuple) for run in runs):
        return pretty_json(plain(dict(handle)))
    quoted = encode_basestring
    listed = [
        _ROW % tuple(map(quoted, run)) if len(run) == 3 else _SORTED.format(*map(quoted, run[:3]))
        for run in runs
    ]
    members = []
    for name, member in handle.items():
        if name == "runs" and listed:
            text = "[\n" + ",\n".join(listed) + "\n  ]"
        else:  # no text in JSON has a line break of its own
            text = json.dumps(member, indent=2, ensure_ascii=False).replace("\n", "\n  ")
        members.append(f"  {quoted(name)}: {text}")
    return ("{\n" + ",\n".join(members) + "\n}\n").encode("utf-8", "surrogatepass")


def plain_arguments(arguments: Any, uploads: Mapping[str, str]) -> dict[str, Any]:
    """Return a run's arguments as the mapping people would write.

    Parameters
    ----------
    arguments : Any
        A handle's ``arguments``; anything but a list of objects gives an empty mapping.
    uploads : mapping of str to str
        Name of an upload by its id. One that is gone is told by its id.
    """
    entries = arguments if isinstance(arguments, list) else []
    return {
        str(entry.get("name")): _plain(entry.get("value"), uploads)
        for entry in entries
        if isinstance(entry, Mapping)
    }


def _plain(value: Any, uploads: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping) and value.get("type") == "$file":
        file = value.get("value")
        if isinstance(file, Mapping) and isinstance(file.get("fileId"), str):
            return uploads.get(file["fileId"], file["fileId"])
    return value


#: What the table of runs has of every run, before its arguments.
RUN_COLUMNS = ("id", "state", "created", "started", "finished", "duration")

_ARGUMENT = "argument."


def run_row(handle: Mapping[str, Any], uploads: Mapping[str, str]) -> dict[str, Any]:
    """Return a run as a row of the table of runs: `RUN_COLUMNS`, then its arguments.

    Times are texts as the service writes them, None where there is none; the duration is in
    seconds. An argument that is called as one of `RUN_COLUMNS` has ``argument.`` before its
    name, and so has one whose name begins so, that no two can be one column.

    Parameters
    ----------
    handle : mapping
        The run's handle.
    uploads : mapping of str to str
        Name of an upload by its id.
    """
    times = [handle.get(key) for key in ("createdAt", "startedAt", "finishedAt")]
    _, began, ended = map(timestamp, times)
    duration = None if began is None or ended is None else round(ended - began, 6)
    row = dict(
        zip(RUN_COLUMNS, (handle.get("id"), handle.get("state"), *times, duration), strict=True)
    )
    for name, value in plain_arguments(handle.get("arguments"), uploads).items():
        clashes = name in RUN_COLUMNS or name.startswith(_ARGUMENT)
        row[f"{_ARGUMENT}{name}" if clashes else name] = value
    return row


def table_row(handle: Mapping[str, Any], uploads: Mapping[str, str]) -> bytes:
    """Return a run's line in ``runs.jsonl``: :func:`run_row` as JSON, and a newline."""
    row = run_row(handle, uploads)
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def leaderboard_table(leaderboard: Mapping[str, Any]) -> bytes:
    """Return a ranking as CSV: rank, run, group, times, and a column for each result."""
    schema = leaderboard.get("schema")
    columns = [
        str(column["name"])
        for column in (schema if isinstance(schema, list) else [])
        if isinstance(column, Mapping) and "name" in column
    ]
    ranking = leaderboard.get("ranking")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "run", "group", "group_id", "createdAt", "finishedAt", *columns])
    for rank, entry in enumerate(ranking if isinstance(ranking, list) else [], 1):
        run, group = _object(entry, "run"), _object(entry, "group")
        listed = entry.get("results") if isinstance(entry, Mapping) else None
        results = {
            str(result.get("name")): result.get("value")
            for result in (listed if isinstance(listed, list) else [])
            if isinstance(result, Mapping)
        }
        writer.writerow(
            [
                rank,
                run.get("id"),
                group.get("name"),
                group.get("id"),
                run.get("createdAt"),
                run.get("finishedAt"),
                *(results.get(column) for column in columns),
            ]
        )
    return text.getvalue().encode("utf-8", "replace")


def _object(entry: Any, name: str) -> Mapping[str, Any]:
    value = entry.get(name) if isinstance(entry, Mapping) else None
    return value if isinstance(value, Mapping) else {}
