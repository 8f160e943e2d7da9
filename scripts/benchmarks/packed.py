"""Many small results of one run, from the real service: with its archive, and without."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from results_workflow import add_workflow
from support import Rest

from benchmarks.bench import Bench
from benchmarks.case import Case, Comparison, Contender, Goal, Measured
from benchmarks.flowfs_mount import flowfs_mount
from benchmarks.mount_contender import on_mount, shell
from benchmarks.mounts import Mount
from flowfs.embedded import EmbeddedService

__all__ = ["CASE"]

_ONE_BY_ONE = "one by one"
_RANDOM = "random.Random(number).randbytes(size)"
_TEXT = "(f'line {number}\\n' * size).encode()[:size]"


class _Kind(NamedTuple):
    """Results of a run: how large each, what makes the bytes of one, and whether many small."""

    title: str
    sizes: list[int]
    made: str
    many: bool = False


_KINDS = (
    _Kind("5 of 20 kB", [20_000] * 5, _RANDOM),
    _Kind("100 of 20 kB", [20_000] * 100, _RANDOM, True),
    _Kind("500 of 1 kB", [1_000] * 500, _RANDOM, True),
    _Kind("20 of 1 MB, text", [1_000_000] * 20, _TEXT),
    _Kind("20 of 1 MB, random", [1_000_000] * 20, _RANDOM),
    # One that nobody expects among small ones of the same kind.
    _Kind("99 of 20 kB, one of 50 MB", [*[20_000] * 99, 50_000_000], _RANDOM),
)
_SCRIPT = """
import random

for number, size in enumerate({sizes!r}):
    with open(f"file{{number:03}}.bin", "wb") as file:
        file.write({made})
"""


def _packed(bench: Bench) -> Iterator[Comparison]:
    python = os.environ.get("FLOWFS_TEST_SERVICE_PYTHON", sys.executable)
    with EmbeddedService.start(python=python) as service:
        for kind in _KINDS if not bench.quick else _KINDS[1:2]:
            path = _run_of(service, kind)
            yield _compared(bench, service, kind, path)
            if len(kind.sizes) >= 500:
                yield _mounted(service, kind, path)


def _run_of(service: EmbeddedService, kind: _Kind) -> str:
    """Make a run with such results, and return its path."""
    names = [f"file{number:03}.bin" for number in range(len(kind.sizes))]
    script = _SCRIPT.format(sizes=kind.sizes, made=kind.made)
    with contextlib.closing(Rest(service)) as rest:
        workflow = add_workflow(service, names, script, kind.title)
        made = rest.request("POST", f"workflows/{workflow}/groups", json={"name": kind.title})
        group = made.json()["id"]
        run = rest.ended(rest.start(group, {}))
        if run["state"] != "SUCCESS":
            raise RuntimeError(f"the run ended in {run['state']}: {run.get('messages')}")
    return f"groups/{group}/runs/{run['id']}"


def _compared(bench: Bench, service: EmbeddedService, kind: _Kind, path: str) -> Comparison:
    def contender(name: str, archives: bool) -> Contender:
        ours: list[Any] = []

        def act() -> Measured:
            got = ours[-1].cat(f"{path}/outputs/*")
            if [len(data) for _, data in sorted(got.items())] != kind.sizes:
                raise ValueError("wrong sizes")
            asked = ours.pop().catalog.service.session.statistics.document()
            return Measured(requests=sum(one["count"] for one in asked.values()))

        def cold() -> None:
            ours.append(bench.filesystem(service, archives=archives))

        return Contender(name, act, before=cold)

    goal = Goal("at least twice its speed", against=_ONE_BY_ONE, at_least=2)
    if not kind.many:
        goal = Goal("at least 0.9 of its speed", against=_ONE_BY_ONE, at_least=0.9)
    return Comparison(
        kind.title,
        [contender("flowfs", True), contender(_ONE_BY_ONE, False)],
        [goal],
        notes={"results": len(kind.sizes), "bytes": sum(kind.sizes)},
    )


def _mounted(service: EmbeddedService, kind: _Kind, path: str) -> Comparison:
    def act(mount: Mount) -> Measured:
        each = 'cd "$1" && for one in *; do cat "$one"; done | wc -c'
        took = shell(each, mount.path / path / "outputs")
        if int(took.output) != sum(kind.sizes):
            raise ValueError(f"{int(took.output)} bytes instead of {sum(kind.sizes)}")
        return Measured(seconds=took.seconds)

    make = partial(flowfs_mount, service.endpoint, service.token)
    return Comparison(
        f"{kind.title}, mounted",
        [
            on_mount("flowfs", make, act),
            on_mount(_ONE_BY_ONE, partial(make, options=["--no-archives"]), act),
        ],
        [Goal("at least 0.9 of its speed", against=_ONE_BY_ONE, at_least=0.9)],
        notes={"results": len(kind.sizes), "bytes": sum(kind.sizes)},
    )


CASE = Case(
    "packed",
    "many small results of the real service, as one archive where that is cheaper",
    "at least twice the speed of one by one where there are many, and nowhere less than 0.9 of it",
    _packed,
)
