"""A stand-in for the service that is as fast as one processor allows.

What it answers is what `standin_routes` answers; what it holds is made by `wire_world`. It is a
process of its own and tells what it was asked::

    with Wire(big=1 << 30, runs=1000, results=5, size=20_000, latency=0.02) as server:
        body = requests.get(server.big.url, stream=True)
        ...
        assert server.stats()["requests"] == {"runs:download:file": 1}
        server.reset()

or from the command line, until it is interrupted::

    python tests/wire.py --runs 1000 --results 5 --latency 0.02
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import unquote, urlsplit

from wire_world import Contents, Large, Pattern, World

__all__ = ["ROOT", "Result", "Wire"]

ROOT = "/flowserv/api/v1"
_PIECE = 8 << 20
_KINDS = {
    "get_service": "service",
    "post_login": "users:login",
    "post_logout": "users:logout",
    "get_whoami": "users:whoami",
    "get_workflows": "workflows:list",
    "get_workflow": "workflows:get",
    "get_workflow_groups": "workflows:groups",
    "get_leaderboard": "leaderboard",
    "get_group": "groups:get",
    "get_runs": "groups:runs",
    "post_run": "runs:start",
    "get_uploads": "files:list",
    "post_upload": "files:upload",
    "get_upload": "files:download",
    "delete_upload": "files:delete",
    "get_run": "runs:get",
    "put_run": "runs:cancel",
    "delete_run": "runs:delete",
    "get_result": "runs:download:file",
    "get_archive": "runs:download:archive",
}


class Result(NamedTuple):
    """A result of the stand-in.

    Attributes
    ----------
    run, id, name : str
        Ids of run and file; the workflow's name of it.
    path : str
        Where flowfs has it.
    url : str
        Where the service has it.
    size : int
        Bytes.
    start : int
        Where in the pattern it begins; -1: it is a local file.
    """

    run: str
    id: str
    name: str
    path: str
    url: str
    size: int
    start: int


class Wire:
    """A stand-in in a process of its own, on a free port of the loopback interface.

    Parameters
    ----------
    latency : float
        Seconds that each answer waits, beside all others.
    **contents
        Of `Contents`: ``big``, ``paths``, ``runs``, ``results``, ``size``.

    Attributes
    ----------
    endpoint, origin, token, username, password, group, workflow : str
        As those of the service.
    plain : str
        URL under which the same files are without any service: a page of links for each run.
    pid : int
        Of the process.
    """

    def __init__(self, *, latency: float = 0.0, **contents: Any) -> None:
        paths = tuple(os.fspath(path) for path in contents.pop("paths", ()))
        self.contents = Contents(paths=paths, **contents)
        self.pattern = Pattern(self.contents.period)
        self._latency = latency

    def __enter__(self) -> Wire:
        here = os.fspath(Path(__file__))
        # Its figures of coverage would be of nothing, and it would be slow.
        kept = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
        self._process = subprocess.Popen(
            [
                *(sys.executable, here, "--until-eof"),
                *("--latency", str(self._latency), "--contents", self.contents.to_json()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=kept,
        )
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline() or "{}")
        if not told:
            raise RuntimeError(f"the stand-in ended with {self._process.wait()}")
        self.__dict__.update(told)
        self.endpoint: str
        self.origin: str
        self.plain: str
        self.token: str
        self.username: str
        self.password: str
        self.group: str
        self.workflow: str
        self.pid = self._process.pid
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # it ends with that
        try:
            self._process.wait(60)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    # -- what there is ---------------------------------------------------------

    @property
    def runs(self) -> list[str]:
        """Ids of the many runs, oldest first."""
        return [self.contents.run(number) for number in range(self.contents.runs)]

    @property
    def results(self) -> list[Result]:
        """All results of the many runs."""
        places = range(self.contents.results)
        return [self._result(n, place) for n in range(self.contents.runs) for place in places]

    @property
    def big(self) -> Result:
        """The big result."""
        return self._result(self.contents.runs, 0)

    @property
    def files(self) -> list[Result]:
        """The results that are local files."""
        first = self.contents.count - len(self.contents.paths)
        return [self._result(number, 0) for number in range(first, self.contents.count)]

    def _result(self, number: int, place: int) -> Result:
        run, file = self.contents.run(number), self.contents.file(number, place)
        path = self.contents.path_of(number)
        start, size = (
            self.contents.stretch(number, place) if path is None else (-1, os.stat(path).st_size)
        )
        return Result(
            run,
            file,
            self.contents.name(place),
            f"groups/{self.group}/runs/{run}/results/{file}",
            f"{self.endpoint}/runs/{run}/downloads/files/{file}",
            size,
            start,
        )

    def expected(self, result: Result, offset: int = 0, size: int | None = None) -> bytes:
        """Return the bytes of a result, or of a part of it, that is no local file."""
        count = result.size - offset if size is None else min(size, result.size - offset)
        return self.pattern.read(result.start + offset, max(count, 0))

    # -- what was asked --------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Return what was asked since the last `reset`.

        Returns
        -------
        dict
            ``requests`` and ``bytes`` (of bodies, sent) by kind of request, which are the ids of
            the service's routes, ``plain:list`` and ``plain:file``, with ``HEAD`` before it if it
            was one; ``total``, the sum of requests; ``connections``, that were made;
            ``at_once``, how many requests were being answered at the same time at most.
        """
        told: dict[str, Any] = self._control("stats")
        return told

    def reset(self) -> None:
        """Begin to count anew."""
        self._control("reset")

    def set_latency(self, seconds: float) -> None:
        """Let each answer from now on wait that long."""
        self._control(f"latency?{float(seconds)!r}")

    def _control(self, what: str) -> Any:
        connection = HTTPConnection(urlsplit(self.origin).netloc, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", f"/wire/{what}")
            return json.loads(connection.getresponse().read())


# -- the process ------------------------------------------------------------------


class _Server:
    """What the connections share."""

    def __init__(self, world: World, latency: float) -> None:
        self.world = world
        self.latency = latency
        self.tasks: set[asyncio.Task[None]] = set()
        self.reset()

    def reset(self) -> None:
        self.requests: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.connections = self.at_once = self.now = 0

    def control(self, path: str, query: str) -> Any:
        if path == "/wire/latency":
            self.latency = float(query)
        elif path == "/wire/reset":
            self.reset()
        return {
            "requests": dict(self.requests),
            "bytes": dict(self.bytes),
            "total": sum(self.requests.values()),
            "connections": self.connections,
            "at_once": self.at_once,
        }

    def answer(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[str, int, Any]:
        """Return kind, status and body."""
        path, _, _ = target.partition("?")
        if path.startswith("/plain/"):
            if method not in ("GET", "HEAD"):
                return "unknown", 405, b""
            kind, status, found = self.world.plain(unquote(path[len("/plain/") :]))
        else:
            path = unquote(path.removeprefix(ROOT))
            verb = self.world.find(method, path)
            kind = _KINDS[verb[0]] if verb else "unknown"
            status, found = self.world.answer(method, path, headers, body)
        return (f"HEAD {kind}" if method == "HEAD" else kind), status, found


class _Connection(asyncio.Protocol):
    """HTTP/1.1, as much of it as clients of the service use: one request after the other."""

    def __init__(self, server: _Server) -> None:
        self.server = server
        self.buffer = bytearray()
        self.needed = 0
        self.busy = False
        self.continued = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.counted = False
        made = transport.get_extra_info("socket")
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.busy and len(self.buffer) >= self.needed:
            self._next()

    def _next(self) -> None:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = dict(line.split(": ", 1) for line in lines if ": " in line)
        lower = {name.lower(): value for name, value in headers.items()}
        if "transfer-encoding" in lower:
            return self._refuse()
        self.needed = end + 4 + int(lower.get("content-length", 0))
        if len(self.buffer) < self.needed:
            if "expect" in lower and not self.continued:
                self.continued = True
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        body = bytes(self.buffer[end + 4 : self.needed])
        del self.buffer[: self.needed]
        self.needed, self.continued, self.busy = 0, False, True
        self.close = lower.get("connection", "").lower() == "close"
        server = self.server
        if target.startswith("/wire/"):
            path, _, query = target.partition("?")
            told = json.dumps(server.control(path, query)).encode()
            return self._send(200, told, "", method, "")
        if not self.counted:
            self.counted = True
            server.connections += 1
        kind, status, found = server.answer(method, target, headers, body)
        server.requests[kind] += 1
        server.now += 1
        server.at_once = max(server.at_once, server.now)
        asked = lower.get("range", "")
        if server.latency:
            loop = asyncio.get_running_loop()
            loop.call_later(server.latency, self._send, status, found, kind, method, asked)
            return None
        return self._send(status, found, kind, method, asked)

    def _refuse(self) -> None:
        self.transport.write(b"HTTP/1.1 411 Say a length\r\nContent-Length: 0\r\n\r\n")
        self.transport.close()

    def _send(self, status: int, found: Any, kind: str, method: str, asked: str) -> None:
        if kind:
            self.server.now = max(0, self.server.now - 1)
        if self.transport.is_closing():
            return None
        if not isinstance(found, (bytes, Large)):
            found = json.dumps(found).encode()
        size = found.size if isinstance(found, Large) else len(found)
        first, count, more = 0, size, ""
        if asked and status == 200:
            status, first, count, more = _ranged(asked, size)
        is_file = isinstance(found, Large) or kind.endswith("file")
        told = "application/octet-stream" if is_file else "application/json"
        if kind == "plain:list":
            told = "text/html"
        length = "" if status == 204 else f"Content-Length: {count}\r\n"
        accepts = "Accept-Ranges: bytes\r\n" if is_file else ""
        head = f"HTTP/1.1 {status} As asked\r\nContent-Type: {told}\r\n{length}{accepts}{more}\r\n"
        if method == "HEAD" or status == 204 or not count:
            self.transport.write(head.encode())
            return self._done()
        if isinstance(found, Large):
            self.transport.write(head.encode())
            task = asyncio.ensure_future(self._send_large(found, first, count, kind))
            self.server.tasks.add(task)
            task.add_done_callback(self.server.tasks.discard)
            return None
        if kind:
            self.server.bytes[kind] += count
        body = found if count == size else found[first : first + count]
        self.transport.write(head.encode() + body)
        return self._done()

    async def _send_large(self, large: Large, first: int, count: int, kind: str) -> None:
        loop = asyncio.get_running_loop()
        with open(large.descriptor, "rb", buffering=0, closefd=False) as opened:
            file: BinaryIO = opened  # type: ignore[assignment]
            for at, span in large.spans(first, count, _PIECE):
                try:
                    sent = await loop.sendfile(self.transport, file, at, span)
                except (OSError, RuntimeError):
                    self.transport.abort()  # the client has gone away
                    return
                self.server.bytes[kind] += sent
        self._done()

    def _done(self) -> None:
        self.busy = False
        if self.close:
            self.transport.close()
        elif self.buffer:
            self._next()


def _ranged(asked: str, size: int) -> tuple[int, int, int, str]:
    """Status, first byte, count and header for a Range; what is no single range is ignored."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
    if not match or not (match[1] or match[2]):
        return 200, 0, size, ""
    first = int(match[1]) if match[1] else max(0, size - int(match[2]))
    last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
    if first >= size or last < first:
        return 416, 0, 0, f"Content-Range: bytes */{size}\r\n"
    return 206, first, last - first + 1, f"Content-Range: bytes {first}-{last}/{size}\r\n"


async def _serve(contents: Contents, latency: float, port: int, until_eof: bool) -> None:
    server = _Server(World(contents), latency)
    world = server.world
    if contents.big or contents.size > _PIECE:
        _ = world.pattern.descriptor  # now, and not while somebody waits for it
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: _Connection(server), "127.0.0.1", port, backlog=4096
    )
    origin = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    world.url = origin + ROOT
    told = {
        "endpoint": world.url,
        "origin": origin,
        "plain": f"{origin}/plain/",
        "token": world.token,
        "username": world.username,
        "password": world.password,
        "group": world.group,
        "workflow": world.workflow,
    }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, ended.set)
    if until_eof:
        loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal, or the end of stdin."""
    parser = argparse.ArgumentParser(description="A fast stand-in for the service.")
    parser.add_argument("--contents", help=argparse.SUPPRESS)
    parser.add_argument("--until-eof", action="store_true", help="end with stdin")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--big", type=int, default=0, help="bytes of one big result")
    parser.add_argument("--path", action="append", default=[], help="a local file as a result")
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--results", type=int, default=1, help="of each run")
    parser.add_argument("--size", type=int, default=20_000, help="bytes of each result")
    given = parser.parse_args(arguments)
    contents = (
        Contents.from_json(given.contents)
        if given.contents
        else Contents(given.big, tuple(given.path), given.runs, given.results, given.size)
    )
    # A thousand connections at once, as of a client that bounds nothing, are a thousand files.
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    asyncio.run(_serve(contents, given.latency, given.port, given.until_eof))


if __name__ == "__main__":
    main()
