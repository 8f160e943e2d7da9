"""A bar on the terminal, on stderr, that vanishes at its end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

__all__ = ["Bar"]


class Bar:
    """A bar that shows how far something is, from now on.

    Parameters
    ----------
    *columns : str or ProgressColumn
        What is in its line, as rich has it.
    description : str
        What it is.
    total : int, optional
        What it is all of; None as long as nobody knows.
    """

    def __init__(
        self, *columns: str | ProgressColumn, description: str = "", total: int | None = None
    ) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._shown = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._shown.add_task(description, total=total)
        with contextlib.suppress(OSError):  # nobody sees it any more
            self._shown.start()

    def update(self, **told: Any) -> None:
        """Show how far it is: ``completed``, ``total``, ``description``."""
        with contextlib.suppress(OSError):
            self._shown.update(self._task, **told)

    def end(self) -> None:
        """Take it away."""
        with contextlib.suppress(OSError):
            self._shown.stop()
