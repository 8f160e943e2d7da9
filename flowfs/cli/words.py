"""What is said at a terminal: a line of text, whatever the names in it hold."""

from __future__ import annotations

from flowfs.errors import printable

__all__ = ["line"]

_LONGEST = 4000  # characters


def line(text: str) -> str:
    """Return a text as it may be shown: one line, of no use as commands to a terminal, bounded."""
    shown = printable(text[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
