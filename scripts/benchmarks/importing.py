"""What it costs to import flowfs, in fresh processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.case import Case, Comparison, Contender, Goal, Measured

__all__ = ["CASE"]

_BASE = "import fsspec, requests"
_STATEMENTS = {
    _BASE: _BASE,
    "flowfs": "import fsspec, requests, flowfs; flowfs.FlowFileSystem",
    "flowfs alone": "import flowfs",
}


def _compared(bench: Bench) -> Iterator[Comparison]:
    def contender(name: str, statement: str) -> Contender:
        script = (
            "import time; began = time.perf_counter()\n"
            f"{statement}\n"
            "print(time.perf_counter() - began)"
        )

        def act() -> Measured:
            done = subprocess.run(
                [sys.executable, "-c", script], capture_output=True, text=True, check=True
            )
            return Measured(seconds=float(done.stdout))

        return Contender(name, act)

    yield Comparison(
        "",
        [contender(name, statement) for name, statement in _STATEMENTS.items()],
        [
            Goal("at most 50 ms more", against=_BASE, at_most=0.05, difference=True),
            Goal(
                "at most 50 ms more",
                against=_BASE,
                at_most=0.05,
                difference=True,
                of="flowfs alone",
            ),
        ],
        repeats=bench.either(15, 1),
    )


CASE = Case(
    "import",
    "import flowfs, and its file system, in a fresh process",
    "at most 50 ms above `import fsspec, requests`",
    _compared,
)
