"""Figures out of result files: a JSON object, or a CSV of one row, as columns of a table. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flowfs.errors import InvalidArguments, failure

__all__ = ["named_apart", "scalars"]

_PREFIX = "result."


def scalars(data: bytes, path: str) -> dict[str, Any]:
    """Return the scalars in a result file, by name.

    Of a JSON object, what is no list; objects within it have dots in their names:
    ``{"fit": {"slope": 2}}`` is ``fit.slope``. Of a CSV the cells of its only row, below its
    header: numbers where they are some, None where they are empty.

    Parameters
    ----------
    data : bytes
        All of the file.
    path : str
        What errors name as the place; ``.csv`` and ``.tsv`` at its end tell what it is.

    Raises
    ------
    InvalidArguments
        If it is neither.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unusable(f"is not UTF-8 (byte {error.start})", path) from None
    suffix = path.rpartition(".")[2].lower()
    if suffix in ("csv", "tsv"):
        return _of_row(text, "\t" if suffix == "tsv" else ",", path)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unusable(f"is no JSON: {error}", path) from None
    if not isinstance(document, dict):
        raise _unusable(f"is no JSON object, but {_kind(document)}", path)
    found: dict[str, Any] = {}
    try:
        _flatten(document, "", found)
    except RecursionError as error:  # Python reads deeper ones than it can go into
        raise _unusable(f"has objects in objects, too deep: {error}", path) from None
    return found


def _flatten(document: Mapping[str, Any], prefix: str, found: dict[str, Any]) -> None:
    nested = []
    for name, value in document.items():
        if isinstance(value, Mapping):
            nested.append((name, value))
        elif not isinstance(value, list):
            key = f"{prefix}{name}"
            while key in found:  # "a.b" may be a name, and b in a as well
                key += "'"
            found[key] = value
    # Behind the others: a name that is one stays as it is.
    for name, value in nested:
        _flatten(value, f"{prefix}{name}.", found)


def _of_row(text: str, delimiter: str, path: str) -> dict[str, Any]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
    except csv.Error as error:
        raise _unusable(f"is no CSV: {error}", path) from None
    if len(rows) != 2 or len(rows[0]) != len(rows[1]) or len(set(rows[0])) < len(rows[0]):
        raise _unusable(
            f"is no CSV of a header and one row: it has {max(len(rows) - 1, 0)} rows", path
        )
    return {name: _cell(cell) for name, cell in zip(*rows, strict=True)}


def _cell(text: str) -> Any:
    text = text.strip()
    if not text:
        return None
    if text.isascii() and not text.startswith("0x") and "_" not in text:
        try:
            return int(text)
        except ValueError:
            pass
        try:
            return float(text)
        except ValueError:
            pass
    return text


def named_apart(found: Sequence[Mapping[str, Any] | None], taken: Iterable[str]) -> dict[str, str]:
    """Return what the columns of results are called, by the names that they have in their files.

    One whose name is another column's has ``result.`` before it.

    Parameters
    ----------
    found : sequence of mapping or None
        Results of each run; None where it has none.
    taken : iterable of str
        Names of other columns.
    """
    names = list(dict.fromkeys(name for one in found if one is not None for name in one))
    taken = set(taken)
    free = {name for name in names if name not in taken}
    called: dict[str, str] = {}
    for name in names:
        column = name
        while column in taken or (column != name and column in free):
            column = f"{_PREFIX}{column}"
        called[name] = column
        taken.add(column)
    return called


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else "a single value"


def _unusable(why: str, path: str) -> InvalidArguments:
    return failure(InvalidArguments, f"cannot be columns of a table: it {why}", path)
