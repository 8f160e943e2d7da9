"""The command as it is called within this process: quick, and its requests can be counted."""

from __future__ import annotations

import io
import itertools
import json
import sys
from typing import Any, NamedTuple

import pytest
from mounting import Address, command_environment

from flowfs.cli import access, run
from flowfs.embedded import EmbeddedService

__all__ = ["Commanding", "Said"]

_numbers = itertools.count(1)


class Said(NamedTuple):
    """What came of a command."""

    code: int
    bytes: bytes
    err: str

    @property
    def out(self) -> str:
        """What it printed."""
        return self.bytes.decode()

    @property
    def lines(self) -> list[str]:
        """The lines of that."""
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        """That as JSON."""
        assert self.err == ""
        return json.loads(self.bytes)


class Commanding:
    """Calls ``flowfs`` with a service configured by the environment.

    Parameters
    ----------
    monkeypatch : MonkeyPatch
        Of the test.
    service : EmbeddedService or Address
        The service.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, service: EmbeddedService | Address) -> None:
        self._monkeypatch = monkeypatch
        for name, value in command_environment(service).items():
            if name.startswith("FLOWSERV_"):
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("COLUMNS", "80")

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Said:
        """Run a command to its end."""
        # Each knows no more than a process of its own, what is kept on disk: no other has this
        # option.
        self._monkeypatch.setattr(access, "_TTL", 3600.0 + next(_numbers) / 1000)
        out, err = io.BytesIO(), io.BytesIO()
        with self._monkeypatch.context() as patch:
            stdout = io.TextIOWrapper(out, "utf-8", write_through=True)
            stderr = io.TextIOWrapper(err, "utf-8", write_through=True)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
            patch.setattr(sys, "stdout", stdout)
            patch.setattr(sys, "stderr", stderr)
            code = run(list(arguments))
            stdout.flush()
            stderr.flush()
        return Said(code, out.getvalue(), err.getvalue().decode())

    def out(self, *arguments: str, stdin: bytes = b"") -> str:
        """Return what a command prints; it must succeed, and complain of nothing."""
        said = self(*arguments, stdin=stdin)
        assert (said.code, said.err) == (0, ""), said
        return said.out

    def json(self, *arguments: str, stdin: bytes = b"") -> Any:
        """Return the JSON that a command prints; it must succeed."""
        return json.loads(self.out(*arguments, "--json", stdin=stdin))
