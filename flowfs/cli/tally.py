"""How far many runs have come, on stderr: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

import click

from flowfs.cli.bar import Bar
from flowfs.cli.output import on_terminal
from flowfs.cli.words import line

__all__ = ["MOST", "Tally", "complain"]

MOST = 20  # things of one kind that are told of, one by one
_PAUSE = 5.0  # seconds between two lines


class Tally:
    """Counts what is over; as a context it is shown until its end. Thread-safe.

    Parameters
    ----------
    what : str
        What has become of those that are counted, as ``"started"``.
    total : int
        How many there are.
    quiet : bool
        Show nothing.
    """

    def __init__(self, what: str, total: int, *, quiet: bool = False) -> None:
        self._what = what
        self._total = total
        self._quiet = quiet or total < 2
        self._done = 0
        self._before = 0
        self._told = time.monotonic()
        self._lock = threading.Lock()
        self._bar: Bar | None = None

    def __enter__(self) -> Tally:
        if not self._quiet and on_terminal(sys.stderr):
            from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn

            self._bar = Bar(
                "{task.description}",
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                description=self._what,
                total=self._total,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.end()
        elif not self._quiet and error is None and self._before < self._total:
            self._say()

    def one(self) -> None:
        """Count one more."""
        with self._lock:
            self._done += 1
            if self._bar is not None:
                self._bar.update(completed=self._done)
            elif not self._quiet and time.monotonic() - self._told >= _PAUSE:
                self._say()

    def before(self, count: int) -> None:
        """Count so many that were over before; where that is all, there is nothing to say."""
        with self._lock:
            self._done += count
            self._before += count

    def _say(self) -> None:
        self._told = time.monotonic()
        before = f", {self._before} of them before" if self._before else ""
        click.echo(f"flowfs: {self._done} of {self._total} {self._what}{before}", err=True)


def complain(told: list[str]) -> None:
    """Say things on stderr, a line each; of very many, how many more there are."""
    for one in told[:MOST]:
        click.echo(line(f"flowfs: {one}"), err=True)
    if len(told) > MOST:
        click.echo(f"flowfs: and {len(told) - MOST} more", err=True)
