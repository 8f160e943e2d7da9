"""What commands print: text that cannot speak to a terminal, colours, columns, JSON."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import IO, Any, TextIO

import click

from flowfs.errors import FlowError, NotFound, failure, printable

__all__ = [
    "columns",
    "document_time",
    "documents",
    "human_size",
    "in_color",
    "on_terminal",
    "print_json",
    "say",
    "shown_time",
    "state_style",
    "stdin",
    "stdout",
    "style",
    "table",
    "width_of",
]

_STATES = {
    "SUCCESS": {"fg": "green"},
    "ERROR": {"fg": "red"},
    "CANCELED": {"fg": "yellow"},
    "RUNNING": {"fg": "cyan"},
    "PENDING": {"fg": "magenta"},
}


def on_terminal(*streams: IO[Any] | None) -> bool:
    """Tell whether all of some streams are terminals; stdout, unless others are given."""
    return all(_is_terminal(stream) for stream in streams or (sys.stdout,))


def _is_terminal(stream: IO[Any] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def in_color(stream: IO[Any] | None = None) -> bool:
    """Tell whether what goes to a stream may be coloured.

    On a terminal, unless ``NO_COLOR`` is set or ``TERM`` is ``dumb``; elsewhere if
    ``FORCE_COLOR`` is.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return _is_terminal(stream or sys.stdout) and os.environ.get("TERM") != "dumb"


def style(text: str, color: bool | None = None, **look: Any) -> str:
    """Return a text as it is to look, as :func:`click.style` takes it; plain without colours.

    Parameters
    ----------
    text : str
        What nobody has escaped yet: it is made printable here.
    color : bool, optional
        Whether stdout takes colours, where that is known.
    """
    text = printable(text)
    if not look or not (in_color() if color is None else color):
        return text
    return click.style(text, **look)


def state_style(state: str | None) -> dict[str, Any]:
    """Return how a state of a run looks, for :func:`style`."""
    return dict(_STATES.get(state or "", {}))


def stdout() -> TextIO:
    """Return where output goes.

    Raises
    ------
    FlowError
        If whoever called has closed it.
    """
    if sys.stdout is None:
        raise failure(FlowError, "is closed", "standard output", errno=errno.EBADF)
    return sys.stdout


def stdin() -> TextIO:
    """Return where input comes from.

    Raises
    ------
    NotFound
        If whoever called has closed it.
    """
    if sys.stdin is None:
        raise failure(NotFound, "is closed", "standard input")
    return sys.stdin


def say(text: str = "") -> None:
    """Print a line to stdout: made of what :func:`style` returns, or printable otherwise."""
    stdout().write(f"{text}\n")


def print_json(document: Any) -> None:
    """Print a document as JSON, all in ASCII.

    A list has a line for each of its entries, so that it can be read as it comes; anything
    else is indented.
    """
    if isinstance(document, (list, tuple, Iterator)):
        separator = "[\n"
        for entry in document:
            stdout().write(separator + json.dumps(entry))
            separator = ",\n"
        stdout().write("[]\n" if separator == "[\n" else "\n]\n")
        return
    say(json.dumps(document, indent=2))


@contextlib.contextmanager
def documents(as_json: bool) -> Iterator[list[Any]]:
    """Collect within what is printed as a JSON list at the end, though something fails there.

    Nothing is printed for who has used the command wrongly, or has interrupted it.

    Parameters
    ----------
    as_json : bool
        Whether it is printed.
    """
    told: list[Any] = []
    try:
        yield told
    except BrokenPipeError:
        raise
    except (OSError, click.exceptions.Exit):
        if as_json:
            print_json(told)
        raise
    if as_json:
        print_json(told)


# -- figures -------------------------------------------------------------------

_UNITS = "KMGTP"


def human_size(size: int | None, *, exact: bool = False) -> str:
    """Return a number of bytes as ``ls -h`` writes it: ``948``, ``1.2K``, ``35M``; ``-``: unknown.

    Like there it is rounded up.
    """
    if size is None:
        return "-"
    if exact or size < 1024:
        return str(size)
    power, unit = 1, _UNITS[0]
    for unit in _UNITS:
        tenths = -(-size * 10 // (1 << 10 * power))
        whole = -(-size // (1 << 10 * power))
        if tenths < 100:
            return f"{tenths / 10:.1f}{unit}"
        if whole < 1024:
            break
        power += 1
    return f"{whole}{unit}"


def shown_time(seconds: float | None) -> str:
    """Return a time as people read it, in their zone: ``2025-06-01 12:30``; ``-``: unknown."""
    if seconds is None:
        return "-"
    try:
        return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError, OSError):
        return "-"


def document_time(seconds: float | None) -> str | None:
    """Return a time as JSON has it: ``2025-06-01T12:30:15.250000Z``, in UTC."""
    if seconds is None:
        return None
    try:
        time = datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return None
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


# -- columns -------------------------------------------------------------------


def width_of(text: str) -> int:
    """Return how many columns of a terminal a plain text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def columns(names: Sequence[tuple[str, str]], width: int | None = None) -> Iterator[str]:
    """Yield the lines of names in columns, as ``ls`` sets them: from top to bottom.

    Parameters
    ----------
    names : sequence of (str, str)
        Each as it is, printable, and as it looks.
    width : int, optional
        Of the terminal.
    """
    if not names:
        return
    width = shutil.get_terminal_size().columns if width is None else width
    widths = [width_of(plain) for plain, _ in names]
    rows, sizes = _layout(widths, width)
    for row in range(rows):
        cells = range(row, len(names), rows)
        parts = []
        for column, index in enumerate(cells):
            last = index + rows >= len(names)
            gap = "" if last else " " * (sizes[column] - widths[index] + 2)
            parts.append(names[index][1] + gap)
        yield "".join(parts)


def _layout(widths: list[int], width: int) -> tuple[int, list[int]]:
    """Return the least number of rows that fits, and the widths of the columns then."""
    total = len(widths)
    most = min(total, max(1, width // 3))  # a name and a gap take three at least
    for count in range(most, 1, -1):
        rows = -(-total // count)
        sizes = [max(widths[at : at + rows]) for at in range(0, total, rows)]
        if sum(sizes) + 2 * (len(sizes) - 1) < width:
            return rows, sizes
    return total, [max(widths)]


def table(rows: Iterable[Sequence[tuple[str, str]]], right: Iterable[int] = ()) -> Iterator[str]:
    """Yield rows with their cells one below the other.

    Parameters
    ----------
    rows : iterable of sequence of (str, str)
        Cells, each as it is, printable, and as it looks. The last of a row is not filled up.
    right : iterable of int
        Numbers of columns that stand at the right.
    """
    rows = list(rows)
    right = set(right)
    count = max((len(row) for row in rows), default=0)
    sizes = [
        max((width_of(row[column][0]) for row in rows if column < len(row)), default=0)
        for column in range(count)
    ]
    for row in rows:
        cells = []
        for column, (plain, looks) in enumerate(row):
            gap = " " * (sizes[column] - width_of(plain))
            if column in right:
                cells.append(gap + looks)
            else:
                cells.append(looks + ("" if column == len(row) - 1 else gap))
        filled = [cell for number, cell in enumerate(cells) if sizes[number]]
        yield "  ".join(filled).rstrip()
