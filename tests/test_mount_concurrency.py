"""Many at once on a mount: one download for many readers, and who waits, waits alone."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from mounting import mounted
from standin import Reply, StandIn
from support import wait_until

pytestmark = pytest.mark.mount

# Every binding with every library that it works with.
BINDINGS = [("fusepy", "fuse"), ("mfusepy", "fuse"), ("mfusepy", "fuse3")]
FOR_EVER = 120  # seconds; longer than any test lasts
AT_ONCE = 10  # seconds; far less than that, and far more than it takes
MIB = 1 << 20
DATA = random.Random(3).randbytes(8 * MIB + 12_345)
FILES = "/runs/.*/downloads/files/.*"


@pytest.fixture(params=BINDINGS, ids="-".join)
def binding(request: pytest.FixtureRequest) -> dict[str, str]:
    pytest.importorskip("fuse" if request.param[0] == "fusepy" else "mfusepy")
    return {"fuse": request.param[0], "library": request.param[1]}


@dataclass
class Stage:
    """A mounted stand-in for the service."""

    server: StandIn
    mount: Path
    log: Path

    @property
    def group(self) -> Path:
        return self.mount / "groups" / self.server.routes.group

    def add(self, data: bytes = DATA) -> Path:
        """Make a run with one result; return the result's path."""
        run, file = self.server.routes.add_file(data)
        return self.group / "runs" / run / "results" / file

    def ranges(self, path: Path) -> list[str | None]:
        """Return the ranges asked for of a result."""
        asked = self.server.requests("GET", f"/runs/.*/downloads/files/{path.name}")
        return [one.headers.get("Range") for one in asked]


@contextlib.contextmanager
def staged(log: Path, **options: str | float) -> Iterator[Stage]:
    with StandIn() as server:
        service = SimpleNamespace(endpoint=server.endpoint, token=server.routes.token)
        try:
            with mounted(service, log=log, **options) as directory:  # type: ignore[arg-type]
                try:
                    yield Stage(server, directory, log)
                finally:
                    end_all(server)  # or who reads cannot end, and the mount is in use
        finally:
            end_all(server)
    assert "Traceback" not in log.read_text(), log.read_text()


def end_all(server: StandIn) -> None:
    """Answer all that hangs, and all that is asked for instead."""
    server.on("GET", ".*", Reply(500))
    server.let_go()


@pytest.fixture
def stage(binding: dict[str, str], tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path / "log", timeout=FOR_EVER, ttl=FOR_EVER, **binding) as stage:
        yield stage


class Crowd:
    """Processes that may never end of themselves."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*map(os.fspath, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.processes.append(process)
        return process

    def python(self, script: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        return self.start(sys.executable, "-c", script, *arguments)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait(FOR_EVER)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    crowd.end()


def run(*command: str | Path, timeout: float = AT_ONCE) -> bytes:
    done = subprocess.run(
        [*map(os.fspath, command)], capture_output=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


# -- who waits, waits alone ------------------------------------------------


def test_forty_hung_readers_and_twenty_hung_stats_hold_up_nobody_else(
    stage: Stage, crowd: Crowd
) -> None:
    read = [stage.add() for _ in range(40)]
    looked_at = [stage.add() for _ in range(20)]
    other = stage.add()
    for path in read:
        # Its size is told, but none of its bytes.
        stage.server.on(
            "GET",
            f".*/files/{path.name}",
            lambda asked: None if asked.headers.get("Range") else Reply(hang="before"),
        )
    for path in looked_at:
        stage.server.on("GET", f".*/files/{path.name}", Reply(hang="before"))
    for path in read:
        crowd.start("cat", path)
    for path in looked_at:
        crowd.start("stat", path)

    def hung() -> bool:
        asked = [stage.ranges(path)[-1:] for path in read + looked_at]
        return asked == [[None]] * 40 + [["bytes=0-65535"]] * 20

    wait_until(hung, 60, "all of them to hang")
    assert all(process.poll() is None for process in crowd.processes)
    assert other.parents[1].name in run("ls", stage.group / "runs").decode()
    assert run("cat", other) == DATA
    assert run("stat", "-c", "%s", other).decode().strip() == str(len(DATA))
    assert run("head", "-c", "5", stage.group / "group.json")
    assert all(process.poll() is None for process in crowd.processes)
    end_all(stage.server)  # or the processes cannot end
