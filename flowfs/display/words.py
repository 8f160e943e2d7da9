"""Times, durations, states and values, as they are shown. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from flowfs.catalog import timestamp
from flowfs.display.markup import Html, element, shortened

__all__ = ["as_text", "duration", "moment", "state"]

# White on them can be read, on a light page and on a dark one.
_COLOURS = {
    "PENDING": "#57606a",
    "RUNNING": "#0969da",
    "SUCCESS": "#1a7f37",
    "ERROR": "#cf222e",
    "CANCELED": "#9a6700",
}
_LONGEST = 80  # characters of a value
_UNITS = ((86400, 3600, ("d", "h")), (3600, 60, ("h", "min")), (60, 1, ("min", "s")))


def state(name: Any) -> Html:
    """Return a run's state, in its colour."""
    told = as_text(name)
    style = (
        f"background-color:{_COLOURS.get(told, '#57606a')};color:#ffffff;"
        "padding:1px 6px;border-radius:3px;white-space:nowrap"
    )
    return element("span", told, style=style)


def moment(value: Any) -> str:
    """Return a time to the second; nothing where there is none.

    Parameters
    ----------
    value : str, datetime or None
        As the service writes it, or as pandas has it; without a zone it is of UTC.
    """
    if value is None:
        return ""
    try:
        if isinstance(value, datetime):
            zoned = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
            return f"{zoned.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}"
        seconds = timestamp(value)
        if seconds is None:
            return as_text(value)
        return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return as_text(value)


def duration(seconds: Any) -> str:
    """Return a duration as people say it: ``12.5 s``, ``3 min 5 s``, ``2 h 7 min``."""
    try:
        seconds = float(seconds)
    except (TypeError, ValueError, OverflowError):
        return ""
    if not math.isfinite(seconds) or seconds < 0:
        return ""
    if seconds < 60:
        tenths = math.floor(seconds * 10) / 10
        return f"{tenths:g} s"
    whole = int(seconds)
    for large, small, names in _UNITS:
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {names[0]}" + (f" {rest} {names[1]}" if rest else "")
    raise AssertionError("a minute at least")


def as_text(value: Any, longest: int = _LONGEST) -> str:
    """Return a value in a line: texts as they are, numbers short, all else as JSON."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (Mapping, list, tuple)):
        try:
            return shortened(json.dumps(value, ensure_ascii=False, default=str), longest)
        except (ValueError, RecursionError, TypeError):
            return "…"
    try:
        return shortened(str(value), longest)
    except ValueError:  # a number of thousands of digits
        return "…"
