"""Values of options that are read as those of a mount are, from fstab and otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from flowfs.errors import FlowError

__all__ = ["Read"]


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
