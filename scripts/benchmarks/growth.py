"""How the cost of reading, listing and finding grows: at three sizes a decade apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.bench import Bench
from benchmarks.case import Case, Comparison, Measured
from benchmarks.flowfs_mount import flowfs_mount
from benchmarks.mount_contender import counted, on_mount
from benchmarks.mount_finding import NAMES, SIZES
from benchmarks.mount_listing import NAMED
from benchmarks.mounts import Mount
from benchmarks.reader import cat

__all__ = ["CASE"]

_ROUNDS = 3
_LATENCY = 0.02
_RESULTS = 5


def _growth(bench: Bench) -> Iterator[Comparison]:
    for mebibytes in bench.either((10, 100, 1000), (1, 10)):
        contents = {"big": mebibytes << 20}
        yield from _of(bench, f"read {mebibytes:,} MiB", contents, _read)
    for runs in bench.either((1000, 10_000, 100_000), (10, 100)):
        contents = {"runs": runs, "results": _RESULTS}
        yield from _of(bench, f"ls -f, {runs:,} runs", contents, _list)
    for command, what in ((NAMES, "names"), (SIZES, "sizes")):
        for runs in bench.either((10, 100, 1000), (2, 20)):
            contents = {"runs": runs, "results": _RESULTS, "latency": _LATENCY}
            find = partial(_find, command)
            yield from _of(bench, f"find {what}, {runs:,} runs, 20 ms", contents, find)


def _of(
    bench: Bench, name: str, contents: dict[str, Any], act: Callable[[Any, Mount], Measured]
) -> Iterator[Comparison]:
    with bench.wire(**contents) as server:
        make = partial(flowfs_mount, server.endpoint, server.token)
        yield Comparison(
            name,
            [on_mount("flowfs", make, partial(act, server))],
            server=server,
            repeats=min(bench.repeats, _ROUNDS),
            warm=False,
            notes=contents,
        )


def _read(server: Any, mount: Mount) -> Measured:
    before = mount.usage().memory
    seconds = cat(mount.path / server.big.path)
    return Measured(seconds, memory=max(0, mount.usage().memory - before))


def _list(server: Any, mount: Mount) -> Measured:
    return counted(NAMED, len(server.runs), f"groups/{server.group}/runs", mount)


def _find(command: str, server: Any, mount: Mount) -> Measured:
    return counted(command, 2 * len(server.results), f"groups/{server.group}/runs", mount)


CASE = Case(
    "growth",
    "mount: reading, listing and finding at three sizes a decade apart",
    "cost that grows with what is asked for, and not with what exists",
    _growth,
    only_asked_for=True,
)
