"""What the demonstration looks like: lively on a terminal, plain and complete elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

__all__ = ["Screen"]

_ASK_SECONDS = 0.1


class Screen:
    """Prints headings, commands and their output.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to; stdout by default. Nothing is wrapped, marked up or highlighted: what is
        printed can be copied.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(
            # Named now: what Python steps print goes elsewhere for a while.
            file=sys.stdout,
            highlight=False,
            markup=False,
            emoji=False,
        )
        self._steps = 0

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style), soft_wrap=True)

    def step(self, title: str) -> None:
        """Begin a step."""
        self._steps += 1
        self._print(f"\n{self._steps}. {title}", "bold")

    def note(self, text: str) -> None:
        """Say something that is no output."""
        self._print(text, "dim")

    def command(self, text: str, prompt: str = "$ ", more: str = "> ") -> None:
        """Show what is run, as it would be typed."""
        for index, line in enumerate(text.split("\n")):
            self._print((more if index else prompt) + line, "bold cyan")

    def output(self, text: str, *, failed: bool = False) -> None:
        """Show what came of it, unchanged."""
        if text:
            self._print(text.removesuffix("\n"), "yellow" if failed else "")

    def _live(self, spinner: Spinner) -> Live:
        return Live(
            spinner,
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @contextlib.contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show on a terminal that something takes a while."""
        if not self._console.is_terminal:
            yield
            return
        with self._live(Spinner("dots", text)):
            yield

    @contextlib.contextmanager
    def watching(self, ask: Callable[[], str]) -> Iterator[None]:
        """Show a state while the body runs: a live line on a terminal, else a line a change.

        Parameters
        ----------
        ask : callable
            Returns the state; asked some times a second, in a thread. What it raises is
            raised at the end.
        """
        begun = time.monotonic()
        over = threading.Event()
        failures: list[BaseException] = []
        spinner = Spinner("dots")
        live = self._live(spinner) if self._console.is_terminal else None
        told: list[str] = []

        def look() -> str:
            state = ask()
            if not told or told[-1] != state:
                told.append(state)
                self._print(f"   {time.monotonic() - begun:4.1f} s  {state}", "green")
            return state

        def follow() -> None:
            try:
                while not over.wait(_ASK_SECONDS):
                    state = look()
                    if live is not None:
                        spinner.update(text=f"{state}, {time.monotonic() - begun:.1f} s")
            except BaseException as error:
                failures.append(error)

        follower = threading.Thread(target=follow, name="flowfs-demo-watch", daemon=True)
        with live or contextlib.nullcontext():
            look()
            follower.start()
            try:
                yield
            finally:
                over.set()
                follower.join()
            if not failures:
                look()
        if failures:
            raise failures[0]
