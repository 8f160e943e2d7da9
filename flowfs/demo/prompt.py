"""Lines of Python, shown and really executed, as at the interpreter's prompt."""

from __future__ import annotations

import ast
import contextlib
import io
import sys
from typing import Any

from flowfs.demo.screen import Screen
from flowfs.errors import FlowError, failure

__all__ = ["Prompt"]

_BLOCKS = (ast.For, ast.While, ast.With, ast.Try)


class Prompt:
    """An interpreter's prompt, with names that last.

    Parameters
    ----------
    screen : Screen
        Where the lines and what they print are shown.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def run(self, source: str) -> str:
        """Show a block of statements, execute each, show what they print and return that.

        The value of an expression is printed, unless it is None.

        Raises
        ------
        FlowError
            A statement raised what is told in it.
        """
        statements = ast.parse(source).body
        return "".join([self._statement(statement, source) for statement in statements])

    def _statement(self, statement: ast.stmt, source: str) -> str:
        text = ast.get_source_segment(source, statement)
        assert text is not None
        # The interpreter ends a block at an empty line.
        self._screen.command(text + "\n" * isinstance(statement, _BLOCKS), ">>> ", "... ")
        return self.go(text)

    def go(self, text: str) -> str:
        """Execute one statement that has been shown, and show what it prints."""
        printed = io.StringIO()
        code = compile(text + "\n", "<demo>", "single")
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                exec(code, self._names)
        except Exception as error:
            message = f"{text!r} raised {type(error).__name__}: {error}"
            raise failure(FlowError, message) from error
        finally:
            self._screen.output(printed.getvalue())
            sys.stdout.flush()
        return printed.getvalue()

    def value(self, name: str) -> Any:
        """Return what a name stands for."""
        return self._names[name]
