"""Large results, read from front to back and copied to disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
from wire_world import Pattern

from benchmarks.bench import Bench
from benchmarks.case import Case, Comparison, Contender, Goal
from benchmarks.streams import Content, curl, http_filesystem, opened, plain, streamed
from flowfs.embedded import EmbeddedService, sample

__all__ = ["CASES"]

_PLAIN = "requests stream"
_HTTP = "HTTPFileSystem"
# Whether the run is still there is asked besides, every few seconds.
_ONE_REQUEST = Goal(
    "one request for its bytes", quantity="requests", kind="runs:download:file", at_most=1
)
_BLOCKS = {
    "64 KiB": 64 << 10,
    "256 KiB": 256 << 10,
    "1 MiB": 1 << 20,
    "4 MiB": 4 << 20,
    "16 MiB": 16 << 20,
}


def _read(bench: Bench) -> Iterator[Comparison]:
    with bench.wire(big=bench.either(1 << 30, 24 << 20)) as server:
        result = server.big
        content = Content.of(server, result)
        filesystem = bench.filesystem(server)
        for name, block in _BLOCKS.items():
            yield Comparison(
                name,
                [
                    streamed("flowfs", opened(filesystem, result.path, block), content),
                    streamed(_PLAIN, plain(result.url), content),
                    curl(result.url, content),
                    _by_http(result.url, content, block),
                ],
                [
                    Goal("at least 0.9 of its speed", against=_PLAIN, at_least=0.9),
                    Goal("at least 3 times its speed", against=_HTTP, at_least=3),
                    _ONE_REQUEST,
                ],
                server,
                notes={"bytes": result.size, "read": block},
            )


def _by_http(url: str, content: Content, block: int) -> Contender:
    try:
        filesystem = http_filesystem()
    except ImportError as error:
        return Contender(_HTTP, missing=str(error))
    return streamed(_HTTP, opened(filesystem, url, block), content)


def _get(bench: Bench) -> Iterator[Comparison]:
    with bench.wire(big=bench.either(1 << 30, 24 << 20)) as server:
        result = server.big
        content = Content.of(server, result)
        target = os.fspath(bench.directory() / "copy")
        filesystem = bench.filesystem(server)

        def copied(name: str, copy: Callable[[], Any]) -> Contender:
            def prove() -> None:
                copy()
                content.check_file(target, whole=True)

            def check(_: Any) -> None:
                content.check_file(target, whole=False)

            def clear() -> None:
                Path(target).unlink(missing_ok=True)
                os.sync()  # nobody waits for what another has written

            return Contender(name, copy, check, prove, before=clear)

        contenders = [copied("flowfs", lambda: filesystem.get(result.path, target))]
        program = shutil.which("curl")
        if program is None:
            contenders.append(Contender("curl", missing="curl is not installed"))
        else:
            command = [program, "--silent", "--show-error", "--fail", "-o", target, result.url]
            contenders.append(copied("curl", lambda: subprocess.run(command, check=True)))
        try:
            http = http_filesystem()
            contenders.append(copied(_HTTP, lambda: http.get(result.url, target)))
        except ImportError as error:
            contenders.append(Contender(_HTTP, missing=str(error)))
        yield Comparison(
            "",
            contenders,
            [
                Goal("at least 0.8 of its speed", against="curl", at_least=0.8),
                _ONE_REQUEST,
            ],
            server,
            notes={"bytes": result.size},
        )
        Path(target).unlink(missing_ok=True)


def _read_real(bench: Bench) -> Iterator[Comparison]:
    size = bench.either(512 << 20, 8 << 20)
    with EmbeddedService.start() as service:
        content = Content(size, Pattern(67_108_859).read)
        run, file = _large_result(service, content)
        filesystem = bench.filesystem(service)
        path = f"groups/{service.groups['hello']}/runs/{run}/results/{file}"
        url = f"{service.endpoint}/runs/{run}/downloads/files/{file}"

        yield Comparison(
            "",
            [
                streamed("flowfs", opened(filesystem, path, 1 << 20), content),
                streamed("plain GET", plain(url), content),
            ],
            [Goal("at most 1.1 times its time", against="plain GET", at_most=1.1)],
            notes={"bytes": size},
        )


def _large_result(service: EmbeddedService, content: Content) -> tuple[str, str]:
    """Make a run with a large result; return its id and that of the result.

    The workflow makes a small one, in whose place the large one is put where the service has it.
    """
    with requests.Session() as session:
        session.trust_env = False
        session.headers["api_key"] = service.token
        group = service.groups["hello"]
        with open(sample("hello"), "rb") as names:
            sent = session.post(f"{service.endpoint}/uploads/{group}/files", files={"file": names})
        value = {"type": "$file", "value": {"fileId": sent.json()["id"]}}
        made = session.post(
            f"{service.endpoint}/groups/{group}/runs",
            json={"arguments": [{"name": "names", "value": value}]},
        )
        made.raise_for_status()
        run = made.json()
        while run["state"] in ("PENDING", "RUNNING"):
            run = session.get(f"{service.endpoint}/runs/{run['id']}").json()
        (file,) = (file for file in run["files"] if file["name"].endswith("greetings.txt"))
    found = [path for path in service.directory.rglob("greetings.txt") if run["id"] in str(path)]
    (stored,) = found
    with open(stored, "wb") as target:
        for at in range(0, content.size, 1 << 20):
            target.write(content.part(at, min(1 << 20, content.size - at)))
    return run["id"], file["id"]


CASES = [
    Case(
        "read",
        "1 GiB through fsspec, front to back",
        "at least 0.9 of the plain requests stream, 3 times HTTPFileSystem",
        _read,
    ),
    Case(
        "read-real",
        "512 MiB from the real service",
        "at most 1.1 times the time of one plain GET",
        _read_real,
    ),
    Case("get", "fs.get of 1 GiB to disk", "at least 0.8 of curl", _get),
]
