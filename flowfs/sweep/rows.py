"""Rows of a sweep: the arguments of each run, out of JSON, JSON lines or CSV. Pure."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NoReturn

from flowfs.arguments import Argument, Declarations, normalize, parse
from flowfs.arguments.document import decode, shown
from flowfs.errors import FlowError, InvalidArguments, failure

__all__ = ["FORMATS", "Row", "Sweep", "read_sweep", "row_key"]

#: What a sweep can be: one JSON document or an array of them, a document a line, a table.
FORMATS = ("json", "jsonl", "csv")

_BY_SUFFIX = {
    "json": "json",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "csv": "csv",
    "tsv": "csv",
}
_DELIMITERS = (",", ";", "\t")
_SHOWN = 10  # faulty rows that a message tells of
_TRUE, _FALSE = frozenset({"1", "t", "true"}), frozenset({"0", "f", "false"})
_WHOLE = re.compile(r"([+-]?[0-9]+)\.0*")
# As flowServ calls parameters whose values are written in a cell as JSON.
_NESTED = ("list", "record")
_SELECT = ("select", "enum")


@dataclass(frozen=True)
class Row:
    """The arguments of one run.

    Attributes
    ----------
    name : str
        What it is called in messages: ``line 3``, ``number 2``.
    arguments : list of dict
        As :func:`flowfs.arguments.normalize` returns them.
    key : str
        The same for two rows of the same arguments, in whatever order and form, and for no
        others.
    """

    name: str
    arguments: list[Argument]
    key: str


@dataclass(frozen=True)
class Sweep:
    """All rows of a file.

    Attributes
    ----------
    rows : tuple of Row
        In order.
    single : bool
        Whether it is one document for one run, and no list of rows.
    """

    rows: tuple[Row, ...]
    single: bool


def row_key(arguments: Iterable[Mapping[str, Any]]) -> str:
    """Return what arguments are the same by; one that is null is not given."""
    given = {one["name"]: one["value"] for one in arguments if one["value"] is not None}
    text = json.dumps(given, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:32]


def read_sweep(
    data: bytes,
    name: str = "",
    declarations: Declarations | None = None,
    *,
    format: str | None = None,
) -> Sweep:
    """Read a sweep.

    Parameters
    ----------
    data : bytes
        All of the file; UTF-8, with or without a byte order mark.
    name : str
        Its name, which errors name as the place; what is behind its last dot tells what it is:
        ``json``, ``jsonl``, ``ndjson``, ``csv`` or ``tsv``. Of any other name it is told by
        what it begins with.
    declarations : sequence of mapping, optional
        The group's parameters: of which type a cell of a CSV is, and whether an array is one
        run's arguments.
    format : str, optional
        One of :data:`FORMATS`, whatever the name.

    Returns
    -------
    Sweep

    Raises
    ------
    InvalidArguments
        If it cannot be read, or has no rows; with all that is wrong, row by row. Whether the
        arguments are right for the group, it does not say.
    """
    if format is None:
        format = _BY_SUFFIX.get(name.rpartition(".")[2].lower()) or _format_of(data)
    if format == "csv":
        return _of_table(data, name, declarations)
    if format == "jsonl":
        return _of_lines(data, name, declarations)
    if format != "json":
        _refuse(f"no form of a sweep: {format!r}; there are {', '.join(FORMATS)}", name)
    return _of_document(data, name, declarations)


def _format_of(data: bytes) -> str:
    """Return what a sweep without a name that tells is: by its first byte, and its first line."""
    lines = data.removeprefix(b"\xef\xbb\xbf").split()
    if not data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"[")):
        return "csv" if lines else "json"
    try:
        decode(data)
    except InvalidArguments:
        first = data.strip().split(b"\n", 1)[0]
        try:
            decode(first)
        except InvalidArguments:
            return "json"  # broken, and most likely one document of several lines
        return "jsonl"
    return "json"


# -- JSON ------------------------------------------------------------------------


def _of_document(data: bytes, name: str, declarations: Declarations | None) -> Sweep:
    try:
        document = decode(data, name or None)
    except InvalidArguments as error:
        if "several documents" in str(error.strerror):
            _refuse(f"{error.strerror}; of several, a line each, the name ends in .jsonl", name)
        raise
    if not isinstance(document, list) or _is_one(document, declarations, name):
        return Sweep((_row("the document", normalize(document, name or None, declarations)),), True)
    return _rows(
        ((f"number {n}", lambda one=one: normalize(one, None, declarations))  # type: ignore[misc]
         for n, one in enumerate(document, 1)),
        name,
    )  # fmt: skip


def _is_one(document: list[Any], declarations: Declarations | None, name: str) -> bool:
    """Tell whether an array is the arguments of one run, and no runs of their own."""
    entries = [isinstance(one, Mapping) and "name" in one and "value" in one for one in document]
    if not document:
        _refuse("an empty array is neither a run nor several; write {} for one without arguments",
                name)  # fmt: skip
    if any(entries) and not all(entries):
        _refuse(
            "some of the array have 'name' and 'value', as the arguments of one run do, and some "
            "have not; write a run a line, in a file whose name ends in .jsonl",
            name,
        )
    declared = {one.get("name") for one in declarations or () if isinstance(one, Mapping)}
    if all(entries) and {"name", "value"} <= declared:
        _refuse(
            "this may be one run or several, since there are parameters 'name' and 'value'; "
            "write a run a line, in a file whose name ends in .jsonl",
            name,
        )
    return all(entries)


def _of_lines(data: bytes, name: str, declarations: Declarations | None) -> Sweep:
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return _rows(
        ((f"line {n}", lambda line=line: parse(line, None, declarations))  # type: ignore[misc]
         for n, line in enumerate(lines, 1) if line.strip()),
        name,
    )  # fmt: skip


# -- tables ----------------------------------------------------------------------


def _of_table(data: bytes, name: str, declarations: Declarations | None) -> Sweep:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _refuse(f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}", name)
    known = {
        one["name"]: one
        for one in declarations or ()
        if isinstance(one, Mapping) and isinstance(one.get("name"), str)
    }
    delimiter = _delimiter(text, name, known)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[str, list[str]]] = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((f"line {reader.line_num}", cells))
    except csv.Error as error:
        _refuse(f"no CSV: line {reader.line_num}: {error}", name)
    if not rows:
        _refuse("empty: a CSV has a header, the names of parameters, and a row for each run", name)
    header = [cell.strip() for cell in rows[0][1]]
    for number, title in enumerate(header, 1):
        if not title:
            _refuse(
                f"column {number} has no name; pandas writes no index with to_csv(…, index=False)",
                name,
            )
    twice = [title for title, count in Counter(header).items() if count > 1]
    if twice:
        _refuse(f"there are several columns '{shown(twice[0])}'", name)

    def arguments(cells: list[str]) -> list[Argument]:
        if len(cells) != len(header):
            _refuse(f"{len(cells)} cells, and the header has {len(header)}", None)
        values = {
            title: _value(cell, known.get(title))
            for title, cell in zip(header, cells, strict=True)
            if cell.strip()
        }
        return normalize([{"name": title, "value": value} for title, value in values.items()])

    return _rows(
        ((place, lambda cells=cells: arguments(cells)) for place, cells in rows[1:]),  # type: ignore[misc]
        name,
    )


def _delimiter(text: str, name: str, known: Mapping[str, Any]) -> str:
    """Return what is between cells: what makes parameters of the header."""
    if name.lower().endswith(".tsv"):
        return "\t"
    header = next((line for line in text.splitlines() if line.strip()), "")
    for delimiter in _DELIMITERS:
        cells = [cell.strip().strip('"') for cell in header.split(delimiter)]
        if len(cells) > 1 and all(cell in known for cell in cells):
            return delimiter
    return _DELIMITERS[0]


def _value(cell: str, declaration: Mapping[str, Any] | None) -> Any:
    """Return what a cell says, by its parameter's type; what says nothing right, as it is.

    What is wrong is told where the arguments are checked, in the same words as ever.
    """
    dtype = None if declaration is None else declaration.get("dtype")
    plain = cell.strip()
    if dtype == "int":
        whole = _WHOLE.fullmatch(plain)  # as pandas writes a column in which some are missing
        return _number(int, whole[1] if whole else plain, cell)
    if dtype == "float":
        value = _number(float, plain, cell)
        # What JSON has no number for is written as a text, which the service reads.
        finite = not isinstance(value, float) or value - value == 0
        return value if finite else plain
    if dtype == "bool":
        low = plain.lower()
        return True if low in _TRUE else False if low in _FALSE else cell
    if dtype in _NESTED:
        try:
            return decode(plain)
        except InvalidArguments:
            return cell
    if dtype in _SELECT and declaration is not None:
        options = declaration.get("values")
        for option in options if isinstance(options, list) else ():
            if isinstance(option, Mapping) and str(option.get("value")) == plain:
                return option["value"]
    return plain if dtype in (*_SELECT, "file") else cell


def _number(kind: Callable[[str], Any], plain: str, cell: str) -> Any:
    try:
        return kind(plain)
    except (ValueError, OverflowError):
        return cell


# -- all of them -----------------------------------------------------------------


def _row(name: str, arguments: list[Argument]) -> Row:
    return Row(name, arguments, row_key(arguments))


def _rows(made: Iterable[tuple[str, Callable[[], list[Argument]]]], path: str) -> Sweep:
    rows: list[Row] = []
    faults: list[str] = []
    for name, arguments in made:
        try:
            rows.append(_row(name, arguments()))
        except FlowError as error:
            faults.append(f"{name}: {error.strerror}")
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        _refuse(f"{'; '.join(faults[:_SHOWN])}{more}", path)
    if not rows:
        _refuse("there are no rows in it", path)
    return Sweep(tuple(rows), False)


def _refuse(message: str, path: str | None) -> NoReturn:
    raise failure(InvalidArguments, message, path or None)
