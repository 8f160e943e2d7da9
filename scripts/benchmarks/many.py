"""Many small results at once, from a service that is some way off."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from wire import Result, Wire

from benchmarks.bench import Bench
from benchmarks.case import Case, Comparison, Contender, Goal, Measured
from benchmarks.streams import http_filesystem

__all__ = ["CASE"]

_LATENCY = 0.02
_CONNECTIONS = (16, 64)
_HELD, _UNHELD = "HTTPFileSystem held to 16", "HTTPFileSystem unheld"

# flowserv's own class, which returns what requests reads from.
_FLOWSERV = """
import json, sys, time
import requests
from flowserv.service.descriptor import ServiceDescriptor
from flowserv.service.run.remote import RemoteRunService
endpoint, run, *files = sys.argv[1:]
service = RemoteRunService(ServiceDescriptor(requests.get(endpoint + "/", timeout=60).json()))
began = time.perf_counter()
sizes = [len(service.get_result_file(run, file).read()) for file in files]
print(json.dumps([time.perf_counter() - began, sizes]))
"""


def _many(bench: Bench) -> Iterator[Comparison]:
    count = bench.either(1000, 50)
    with bench.wire(runs=1, results=count, size=20_000, latency=_LATENCY) as server:
        for verb in ("cat", "get"):
            for connections in _CONNECTIONS:
                yield _compared(bench, server, verb, connections)
        yield _one_by_one(bench, server, server.results[: bench.either(100, 10)])


def _compared(bench: Bench, server: Wire, verb: str, connections: int) -> Comparison:
    results = server.results
    pattern = f"groups/{server.group}/runs/{server.runs[0]}/results/*"
    target = bench.directory() / "copies"
    ours: list[Any] = []

    def cold() -> None:
        ours.append(bench.filesystem(server, max_connections=connections))
        _put_aside(target)

    def act() -> Any:
        if verb == "cat":
            return ours[-1].cat(pattern)
        return ours[-1].get(pattern, os.fspath(target))

    def check(got: Any) -> None:
        _check(server, results, got, target, lambda result: result.path)
        ours.clear()

    limit = {"get_client": _held} if connections == 16 else {}
    peer = _HELD if connections == 16 else _UNHELD
    share = _LATENCY * len(results) / connections
    words = f"{len(results):,} × 20 ms ÷ {connections}"
    goals = [
        Goal(
            "a request for each",
            quantity="requests",
            kind="runs:download:file",
            at_most=len(results),
        ),
        Goal("one listing", quantity="requests", kind="runs:get", at_most=1),
        Goal(f"at most 1.3 times {words}", against=share, at_most=1.3),
        Goal("not behind it", against=peer, at_least=1.0),
    ]
    if connections != 16:  # as near as it gets
        goals = goals[:2]
    return Comparison(
        f"{verb} {connections}",
        [
            Contender("flowfs", act, check, before=cold),
            _by_http(server, results, verb, peer, limit, target),
            _by_requests(server, results, verb, connections, target),
        ],
        goals,
        server,
        notes={"results": len(results), "bytes": 20_000, "latency": _LATENCY, "bound": share},
    )


def _put_aside(target: Path) -> None:
    """Make a new directory for copies; those of before stay until the end.

    Where many files were just removed, ext4 looks for some seconds through the places of all
    of them for each new one: whoever comes next would pay for it.
    """
    with contextlib.suppress(FileNotFoundError):
        target.rename(tempfile.mkdtemp(dir=target.parent))
    target.mkdir()
    os.sync()  # nobody waits for what another has written


def _by_http(
    server: Wire,
    results: list[Result],
    verb: str,
    name: str,
    options: dict[str, Any],
    target: Path,
) -> Contender:
    # It, too, asks which results there are.
    options = {**options, "client_kwargs": {"headers": {"api_key": server.token}}}
    listing = f"{server.endpoint}/runs/{results[0].run}"
    made: list[Any] = []
    try:
        http_filesystem(**options)
    except ImportError as error:
        return Contender(name, missing=str(error))

    def cold() -> None:
        made.append(http_filesystem(**options))
        _put_aside(target)

    def act() -> Any:
        files = [file["id"] for file in json.loads(made[-1].cat(listing))["files"]]
        urls = [f"{listing}/downloads/files/{file}" for file in files]
        if verb == "cat":
            return made[-1].cat(urls)
        return made[-1].get(urls, [os.fspath(target / file) for file in files])

    def check(got: Any) -> None:
        _check(server, results, got, target, lambda result: result.url)
        made.clear()

    return Contender(name, act, check, before=cold)


def _by_requests(
    server: Wire, results: list[Result], verb: str, connections: int, target: Path
) -> Contender:
    """Threads that ask with requests and nothing else: what it allows."""
    listing = f"{server.endpoint}/runs/{results[0].run}"

    def cold() -> None:
        _put_aside(target)

    def act() -> Any:
        with requests.Session() as session, ThreadPoolExecutor(connections) as pool:
            session.trust_env = False
            session.mount("http://", HTTPAdapter(pool_maxsize=connections))

            def ask(file: str) -> tuple[str, bytes]:
                url = f"{listing}/downloads/files/{file}"
                reply = session.get(url, timeout=60)
                reply.raise_for_status()
                if verb == "get":
                    (target / file).write_bytes(reply.content)
                return url, reply.content

            run = session.get(listing, headers={"api_key": server.token}, timeout=60).json()
            return dict(pool.map(ask, [file["id"] for file in run["files"]]))

    def check(got: Any) -> None:
        kept = None if verb == "get" else got
        _check(server, results, kept, target, lambda result: result.url)

    return Contender(f"requests in {connections} threads", act, check, before=cold)


def _check(
    server: Wire,
    results: list[Result],
    got: Any,
    target: Path,
    name_of: Callable[[Result], str],
) -> None:
    if got is None or not isinstance(got, dict):
        got = {name_of(result): (target / result.id).read_bytes() for result in results}
    if len(got) != len(results):
        raise ValueError(f"{len(got)} results instead of {len(results)}")
    for result in results:
        if got[name_of(result)] != server.expected(result):
            raise ValueError(f"wrong bytes of {result.name}")


async def _held(**options: Any) -> Any:
    """Make a client of 16 connections, as ours has."""
    import aiohttp

    options.pop("loop", None)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16), **options)


def _one_by_one(bench: Bench, server: Wire, results: list[Result]) -> Comparison:
    """Flowserv's own class: it takes one after the other, each with a connection of its own."""
    paths = [result.path for result in results]
    ours: list[Any] = []

    def act() -> Any:
        return ours[-1].cat(paths)

    def check(got: dict[str, bytes]) -> None:
        _check(server, results, got, bench.place, lambda result: result.path)
        ours.clear()

    python = os.environ.get("FLOWFS_TEST_PYTHON_094", "")
    name = "RemoteRunService of flowserv 0.9.4"
    missing = "" if python else "FLOWFS_TEST_PYTHON_094 names no interpreter with flowserv 0.9.4"

    def theirs() -> Measured:
        command = [python, "-c", _FLOWSERV, server.endpoint, results[0].run]
        done = subprocess.run(
            [*command, *(result.id for result in results)],
            env={**os.environ, "FLOWSERV_ACCESS_TOKEN": server.token, "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        seconds, sizes = json.loads(done.stdout)
        if sizes != [result.size for result in results]:
            raise ValueError("wrong sizes")
        return Measured(seconds=seconds)

    return Comparison(
        f"{len(results)} one by one",
        [
            Contender("flowfs", act, check, before=lambda: ours.append(bench.filesystem(server))),
            Contender(name, theirs, missing=missing),
        ],
        server=server,
        notes={"results": len(results), "bytes": 20_000, "latency": _LATENCY},
    )


CASE = Case(
    "many",
    "1,000 results of 20 kB, each request 20 ms late",
    "1,000 requests and one listing; at most 1.3 times 1,000 × 20 ms ÷ 16 at 16 connections, and"
    " not behind HTTPFileSystem held to 16",
    _many,
)
