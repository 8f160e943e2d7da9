"""Values of options that are read as those of a mount are, from fstab and otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from flowfs.errors import FlowError

__all__ = ["Read", "Seconds", "State"]


class Read(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A value as a function of :mod:`flowfs.fuse.settings` reads it.

    Parameters
    ----------
    name : str
        What it is, in the help.
    function : str
        The function's name; the module is imported where the option is given.
    """

    def __init__(self, name: str, function: str) -> None:
        self.name = name
        self._function = function

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value, or fail as click does."""
        from flowfs.fuse import settings

        read: Callable[[str], Any] = getattr(settings, self._function)
        try:
            return read(str(value))
        except FlowError as error:
            self.fail(str(error.strerror), param, ctx)


class State(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A state of a run, in letters of any case."""

    name = "state"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return it in capitals, or fail as click does."""
        from flowfs.service.runs import STATES

        state = str(value).upper()
        if state not in STATES:
            self.fail(f"no state {value!r}: there are {', '.join(STATES)}", param, ctx)
        return state

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[Any]:
        """Return the states that begin so."""
        from click.shell_completion import CompletionItem

        from flowfs.service.runs import STATES

        return [CompletionItem(one) for one in STATES if one.startswith(incomplete.upper())]


class Seconds(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """How long something may take: a number that is not negative."""

    name = "float"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return the number, or fail as click does."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        if not seconds >= 0:
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return seconds
