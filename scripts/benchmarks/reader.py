"""Whoever reads: ordinary programs in processes of their own, and how long they take."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Took", "cat", "shell"]

_PATIENCE = 600.0  # seconds; a mount that hangs ends the benchmark


@dataclass(frozen=True)
class Took:
    """How long a program took, and what it printed.

    Attributes
    ----------
    seconds : float
        From its start to its end.
    output : bytes
        Its standard output.
    """

    seconds: float
    output: bytes


def shell(script: str, *arguments: str | os.PathLike[str]) -> Took:
    """Run a script of the shell; the arguments are ``$1`` and so on.

    Raises
    ------
    RuntimeError
        If it fails; with what it said.
    """
    words = ["sh", "-c", script, "sh", *map(os.fspath, arguments)]
    began = time.perf_counter()
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_PATIENCE,
        env={**os.environ, "LC_ALL": "C"},
    )
    took = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{script!r} ended with {done.returncode}: {done.stderr.decode()}")
    return Took(took, done.stdout)


def cat(path: Path) -> float:
    """Read a file from front to back; return the seconds."""
    return shell('cat "$1" > /dev/null', path).seconds
