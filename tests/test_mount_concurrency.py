"""Many at once on a mount: one download for many readers, and who waits, waits alone."""

from __future__ import annotations

import contextlib
import hashlib
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

FOR_EVER = 600  # seconds; longer than any test lasts
AT_ONCE = 60  # seconds; far less than that, and far more than it takes
MIB = 1 << 20
DATA = random.Random(3).randbytes(8 * MIB + 12_345)
FILES = "/runs/.*/downloads/files/.*"


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


# -- many readers, one download --------------------------------------------

READ = """
import hashlib, sys, time
time.sleep(float(sys.argv[2]))
with open(sys.argv[1], "rb", buffering=0) as file:
    digest = hashlib.sha256()
    while piece := file.read(int(sys.argv[3])):
        digest.update(piece)
print(digest.hexdigest())
"""


def test_readers_in_several_processes_that_begin_a_bit_apart_share_one_download(
    stage: Stage,
) -> None:
    path = stage.add()
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READ, path, str(number * 0.03), str(1 << (12 + number))],
            stdout=subprocess.PIPE,
        )
        for number in range(6)
    ]
    digests = {reader.communicate(timeout=60)[0].decode().strip() for reader in readers}
    assert digests == {hashlib.sha256(DATA).hexdigest()}
    assert stage.ranges(path) == ["bytes=0-65535", None]


def test_who_reads_later_has_it_from_here_even_if_the_kernel_has_dropped_it(
    stage: Stage,
) -> None:
    path = stage.add()
    direct = "import os, sys\nfd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)\n"
    direct += "data = b''\nwhile piece := os.read(fd, 1 << 20):\n    data += piece\n"
    direct += "sys.stdout.buffer.write(data)"
    assert run("cat", path) == DATA
    for _ in range(3):  # past the kernel's cache
        assert run(sys.executable, "-c", direct, path) == DATA
    assert stage.ranges(path) == ["bytes=0-65535", None]


def test_a_result_and_its_output_are_one_download(stage: Stage) -> None:
    path = stage.add()
    output = path.parents[1] / "outputs" / "results" / "data.bin"
    assert run("cat", path) == run("cat", output) == DATA
    assert stage.ranges(path) == ["bytes=0-65535", None]


def test_an_upload_is_shared_too(stage: Stage) -> None:
    stage.server.routes.files["big"] = DATA
    stage.server.routes.uploads.append(
        {"id": "big", "name": "big.bin", "createdAt": "2026-01-01T00:00:00", "size": 0}
    )
    path = stage.group / "uploads" / "big.bin"
    assert run("cat", path) == run("dd", f"if={path}", "bs=1M", "iflag=direct") == DATA
    asked = stage.server.requests("GET", "/uploads/.*/files/big")
    assert [one.headers.get("Range") for one in asked] == ["bytes=0-65535", None]


def test_a_jump_to_the_end_does_not_fetch_what_is_between(stage: Stage) -> None:
    path = stage.add()
    assert run("tail", "-c", "1000", path) == DATA[-1000:]
    asked = stage.ranges(path)
    assert asked[0] == "bytes=0-65535"
    assert len(asked) <= 3
    for one in asked[1:]:
        assert one is not None
        assert int(one.removeprefix("bytes=").partition("-")[0]) > 7 * MIB


def test_a_service_that_ignores_ranges_is_read_right(stage: Stage) -> None:
    path = stage.add()
    stage.server.on("GET", f".*/{path.name}", Reply(body=DATA, ranges=False))
    assert run("tail", "-c", "1000", path) == DATA[-1000:]
    assert run("cat", path) == DATA


def test_a_file_larger_than_the_cache_is_streamed(binding: dict[str, str], tmp_path: Path) -> None:
    with staged(tmp_path / "log", ttl=FOR_EVER, cache_size="1M", **binding) as stage:
        path = stage.add()
        assert run("cat", path) == DATA
        assert stage.ranges(path) == ["bytes=0-65535", None]
        assert run("tail", "-c", "1000", path) == DATA[-1000:]


def test_a_stream_that_breaks_is_taken_up_where_it_broke(stage: Stage) -> None:
    path = stage.add()
    run("stat", path)
    stage.server.on("GET", f".*/{path.name}", Reply(body=DATA, cut=3_000_000), None)
    assert run("cat", path) == DATA
    assert len(stage.ranges(path)) == 3


# -- every way of reading --------------------------------------------------

MAPPED = """
import mmap, os, random, sys
path, seed = sys.argv[1], int(sys.argv[2])
data = open(sys.argv[3], "rb").read()
fd = os.open(path, os.O_RDONLY)
for flags in (mmap.MAP_PRIVATE, mmap.MAP_SHARED):
    with mmap.mmap(fd, 0, flags=flags, prot=mmap.PROT_READ) as mapped:
        assert len(mapped) == len(data)
        for at in random.Random(seed).sample(range(len(data) - 5000), 50):
            assert mapped[at : at + 5000] == data[at : at + 5000], at
        assert mapped[-10:] == data[-10:]
        assert mapped[:] == data
print("right")
"""

SENT = """
import os, socket, sys, threading
data = open(sys.argv[2], "rb").read()
ours, theirs = socket.socketpair()
got = []
def take():
    while piece := theirs.recv(1 << 20):
        got.append(piece)
thread = threading.Thread(target=take)
thread.start()
fd, at = os.open(sys.argv[1], os.O_RDONLY), 0
while sent := os.sendfile(ours.fileno(), fd, at, 1 << 20):
    at += sent
ours.close()
thread.join()
assert b"".join(got) == data
print("right")
"""

SCATTERED = """
import os, random, sys, threading
path, data, seed = sys.argv[1], open(sys.argv[2], "rb").read(), int(sys.argv[3])
flags = os.O_RDONLY | (os.O_DIRECT if seed % 2 else 0)
fd, wrong = os.open(path, flags), []
def read(seed):
    chance = random.Random(seed)
    for _ in range(30):
        at, size = chance.randrange(len(data) + 10_000), chance.randrange(1, 200_000)
        if os.pread(fd, size, at) != data[at : at + size]:
            wrong.append((at, size))
threads = [threading.Thread(target=read, args=(seed * 100 + n,)) for n in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(wrong or "right")
"""


@pytest.fixture
def original(tmp_path: Path) -> Path:
    path = tmp_path / "original"
    path.write_bytes(DATA)
    return path


def test_mapping_a_file_private_or_shared_shows_its_bytes(stage: Stage, original: Path) -> None:
    path = stage.add()
    script = [sys.executable, "-c", MAPPED]
    for seed in ("1", "2"):
        assert run(*script, path, seed, original, timeout=60) == b"right\n"


def test_sendfile_sends_its_bytes(stage: Stage, original: Path) -> None:
    script = [sys.executable, "-c", SENT]
    assert run(*script, stage.add(), original, timeout=60) == b"right\n"


def test_reads_at_random_by_threads_and_processes_cached_or_direct_are_right(
    stage: Stage, original: Path
) -> None:
    path = stage.add()
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", SCATTERED, path, original, str(seed)], stdout=subprocess.PIPE
        )
        for seed in range(4)
    ]
    assert [reader.communicate(timeout=60)[0] for reader in readers] == [b"right\n"] * 4


LOCKED = """
import fcntl, os, sys
path, kind = sys.argv[1:3]
file = open(path, "rb")
if kind == "flock":
    lock = lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
else:
    lock = lambda: fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, 10, 5)
try:
    lock()
    print("locked", flush=True)
except BlockingIOError:
    print("held", flush=True)
sys.stdin.readline()
"""


def test_locks_work_among_the_programs_of_this_machine(stage: Stage) -> None:
    path = stage.add(b"locked")

    def locking(target: Path, kind: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", LOCKED, target, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def said(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    first = locking(path, "flock")
    assert said(first) == "locked"
    second = locking(path, "flock")
    assert said(second) == "held"
    for process in (second, first):
        process.communicate("\n", timeout=AT_ONCE)
    third = locking(path, "flock")
    assert said(third) == "locked"
    third.communicate("\n", timeout=AT_ONCE)
    # Of fcntl's locks one may be shared by many, and who has written it may lock it for itself.
    shared = [locking(path, "fcntl") for _ in range(2)]
    assert [said(process) for process in shared] == ["locked"] * 2
    for process in shared:
        process.communicate("\n", timeout=AT_ONCE)


def test_an_exclusive_record_lock_on_an_upload_keeps_others_out(stage: Stage) -> None:
    path = stage.group / "uploads" / "locked.txt"
    script = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "try:\n"
        "    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "    print('locked', flush=True)\n"
        "except OSError:\n"
        "    print('held', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    subprocess.run(["bash", "-c", f"echo data > {path}"], check=True, timeout=AT_ONCE)
    processes = []
    for expected in ("locked", "held"):
        process = subprocess.Popen(
            [sys.executable, "-c", script, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline().strip() == expected
        processes.append(process)
    for process in processes:
        process.communicate("\n", timeout=AT_ONCE)
