"""Rows of the table of runs as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from flowfs.catalog import timestamp

__all__ = ["frame_of", "pandas_or_say_so"]

_TIMES = ("created", "started", "finished")
_INT64 = range(-(1 << 63), 1 << 63)


def pandas_or_say_so() -> Any:
    """Return pandas.

    Raises
    ------
    ImportError
        If it is not installed; the message says what to do.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "a table of runs is a pandas DataFrame: pip install pandas; without it, "
            "groups/<id>/runs.jsonl and 'flowfs runs' have the same columns"
        ) from error
    return pandas


def frame_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Any:
    """Return rows as a DataFrame.

    Parameters
    ----------
    rows : sequence of mapping
        As :func:`~flowfs.filesystem.rendering.run_row` makes them, results behind.
    columns : sequence of str
        All columns, in order.

    Returns
    -------
    pandas.DataFrame
        Times are of UTC, with their zone; the duration is in seconds. Whole numbers stay whole
        and Booleans stay Booleans where some are missing, by pandas' types ``Int64`` and
        ``boolean``. What is of several types in one column stays as it is, as objects.
    """
    pandas = pandas_or_say_so()
    made = {
        column: _column(pandas, column, [row.get(column) for row in rows]) for column in columns
    }
    # A frame of no column would have no rows either; these are always there.
    frame = pandas.DataFrame(dict(enumerate(made.values())))
    frame.columns = _texts(pandas.Index, list(made))
    return frame


def _column(pandas: Any, name: str, values: list[Any]) -> Any:
    if name in _TIMES:
        # As microseconds at once: older ones of pandas would go by way of nanoseconds, of which
        # there are none after 2262.
        times = [_time(value) for value in values]
        return pandas.Series(times, name=name, dtype="datetime64[us]").dt.tz_localize("UTC")
    if name == "duration":
        return pandas.Series(values, name=name, dtype="float64")
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    kind = "object"
    if kinds == {bool}:
        kind = "bool" if len(present) == len(values) else "boolean"
    elif kinds == {int}:
        if all(value in _INT64 for value in present):
            kind = "int64" if len(present) == len(values) else "Int64"
    elif kinds <= {int, float}:
        # 2**53 is where floats begin to leave out whole numbers.
        if all(abs(value) <= 1 << 53 for value in present if isinstance(value, int)):
            kind = "float64"
    elif kinds == {str}:
        return _texts(pandas.Series, values)  # as this pandas has texts
    return pandas.Series(values, name=name, dtype=kind)


def _texts(made: Any, values: list[Any]) -> Any:
    try:
        return made(values)
    except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 has nothing for
        return made(values, dtype="object")


def _time(value: Any) -> datetime | None:
    seconds = timestamp(value)
    if seconds is None:
        return None
    try:  # of UTC, and without its zone, which is put to all of them at once
        return datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None)
    except (OverflowError, ValueError, OSError):
        return None
