"""A mount whose service is silent, gone, back again, or has lost what is open."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mounting import Address, mounted
from standin import Asked, Reply, StandIn
from support import Rest, lasting_port, wait_until
from test_mount_concurrency import DATA, FOR_EVER, Stage, run, staged

from flowfs.embedded import EmbeddedService
from flowfs.errors import DeadlineExceeded, NotFound, failure
from flowfs.fuse.lapses import Lapses
from flowfs.service import Credentials, Session

# -- who waits for one place in vain ---------------------------------------


class Clock:
    """The time as a test sets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("flowfs.fuse.lapses.time.monotonic", lambda: self.now)


class Asking:
    """Places that are asked for on behalf of threads, and what comes of that."""

    def __init__(self) -> None:
        self.session = Session("http://127.0.0.1:9/api", Credentials())
        self.lapses = Lapses(self.session)

    def vain(self, thread: int, path: str) -> bool:
        """Ask where nobody answers; return whether a request was made."""
        made = False
        try:
            with self.lapses.bounding(lambda: thread, path):
                refusal = self.session.underway.refusal
                if refusal is not None:
                    raise refusal
                made = True
                raise failure(DeadlineExceeded, "no answer", path)
        except DeadlineExceeded:
            return made

    def asks(self, thread: int, path: str) -> bool:
        """Return whether a request would be made."""
        with self.lapses.bounding(lambda: thread, path):
            return self.session.underway.refusal is None


@pytest.fixture
def asking() -> Asking:
    return Asking()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_who_has_waited_in_vain_asks_no_more_for_that_place_and_those_on_the_way(
    asking: Asking, clock: Clock
) -> None:
    assert asking.vain(7, "groups/G/runs")
    for path in ("groups/G/runs", "groups/G", "groups", "", "groups/G/runs/R/results/F"):
        assert not asking.vain(7, path)
    assert asking.asks(7, "groups/H")
    assert asking.asks(7, "groups/G/uploads")
    assert asking.asks(7, "groups/G/runs.jsonl")


def test_others_ask_for_all_but_that_place(asking: Asking, clock: Clock) -> None:
    assert asking.vain(7, "groups/G/runs")
    assert not asking.asks(8, "groups/G/runs")
    assert asking.asks(8, "groups/G")
    assert asking.asks(8, "groups/G/runs/R")
    assert asking.vain(0, "groups/H")  # somebody who is not known
    assert asking.asks(0, "groups")


def test_after_a_while_it_asks_again(asking: Asking, clock: Clock) -> None:
    assert asking.vain(7, "groups/G")
    clock.now += 1.4
    assert not asking.vain(7, "groups/G")
    clock.now += 0.2
    assert asking.vain(7, "groups/G")


def test_after_two_places_it_asks_for_no_other(asking: Asking, clock: Clock) -> None:
    assert asking.vain(7, "results/one")
    clock.now += 1
    assert asking.vain(7, "results/two")
    assert not asking.vain(7, "results/three")
    clock.now += 2
    assert asking.vain(7, "results/three")
    assert asking.asks(7, "results/four")


def test_a_change_that_succeeds_ends_it(asking: Asking, clock: Clock) -> None:
    assert asking.vain(7, "groups/G")
    asking.session.underway.changes += 1
    assert asking.asks(7, "groups/G")


def test_a_refusal_or_what_is_not_there_is_an_answer(asking: Asking, clock: Clock) -> None:
    with pytest.raises(NotFound), asking.lapses.bounding(lambda: 7, "groups/G"):
        raise failure(NotFound, "no such group", "groups/G", status=404)
    assert asking.asks(7, "groups/G")


def test_what_is_remembered_is_bounded(asking: Asking) -> None:
    for thread in range(1, 3000):
        asking.vain(thread, "groups/G")
    assert len(asking.lapses._lapses) <= 2000


# -- a service that is silent ----------------------------------------------

TIMEOUT = 6  # seconds
SOON = 14.5  # seconds; in which one deadline has passed, and two and a half have not


@pytest.fixture
def stage(binding: dict[str, str], tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path / "log", timeout=TIMEOUT, ttl=0.05, **binding) as stage:
        yield stage


def silence(stage: Stage) -> None:
    for method in ("GET", "POST", "DELETE"):
        stage.server.on(method, ".*", Reply(hang="before"))


def answer_again(stage: Stage) -> None:
    for method in ("GET", "POST", "DELETE"):
        stage.server.on(method, ".*", None)


COMMANDS = (
    "ls -l {result}",
    "ls -l {group}/runs",
    "stat {result}",
    "cat {result}",
    "cp {result} {elsewhere}",
    "cat {group}/group.json",
    "echo '{{}}' > {group}/runs/new",
    "echo '{{}}' > {group}/uploads/x",
)


@pytest.mark.mount
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_a_command_ends_in_about_one_deadline_and_all_is_right_when_the_service_answers(
    stage: Stage, tmp_path: Path, known: bool
) -> None:
    path = stage.add()
    if known:
        run("ls", "-lR", stage.group)
    places = {"result": path, "group": stage.group, "elsewhere": tmp_path / "copy"}
    time.sleep(0.1)  # until what is known of the group is too old
    silence(stage)

    def timed(command: str) -> tuple[float, subprocess.CompletedProcess[str]]:
        begun = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", command.format(**places)],
            capture_output=True,
            text=True,
            timeout=FOR_EVER,
        )
        return time.monotonic() - begun, done

    with ThreadPoolExecutor(len(COMMANDS)) as pool:
        outcomes = list(pool.map(timed, COMMANDS))
    for command, (took, done) in zip(COMMANDS, outcomes, strict=True):
        assert took < SOON, command
        if done.returncode == 0:  # of a run that has ended, something may be known still
            assert known, command
            assert "result" in command
        else:
            assert "Connection timed out" in done.stderr
    answer_again(stage)
    wait_until(lambda: succeeds("ls", stage.group / "runs"), 2, "the mount to work again")
    wait_until(lambda: succeeds("cat", path), 2, "the mount to work again")
    assert run("cat", path) == DATA


@pytest.mark.mount
def test_listing_many_results_that_nobody_answers_about_takes_no_deadline_for_each(
    stage: Stage,
) -> None:
    files = [{"id": f"file-{number}", "name": f"results/{number}"} for number in range(40)]
    results = stage.group / "runs" / stage.server.routes.add_run(files=files)["id"] / "results"
    stage.server.on("GET", ".*/downloads/files/.*", Reply(hang="before"))
    begun = time.monotonic()
    done = subprocess.run(["ls", "-l", results], capture_output=True, timeout=FOR_EVER)
    assert done.returncode != 0
    assert time.monotonic() - begun < SOON + TIMEOUT


def succeeds(*command: str | Path) -> bool:
    done = subprocess.run([*map(os.fspath, command)], capture_output=True, timeout=60)
    return done.returncode == 0


# -- open files of runs that are deleted -----------------------------------

SLOWLY = """
import errno, os, sys
fd, got = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT), b""
print("open", flush=True)
try:
    for line in sys.stdin:  # so many bytes are asked for
        wanted = int(line)
        while wanted and (piece := os.read(fd, min(wanted, 1 << 17))):
            got += piece
            wanted -= len(piece)
        print(len(got), flush=True)
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
with open(sys.argv[2], "wb") as file:
    file.write(got)
"""


class Slow:
    """A program that reads as far as it is told; past the kernel's cache."""

    def __init__(self, path: Path, copy: Path) -> None:
        self.copy = copy
        self.process = subprocess.Popen(
            [sys.executable, "-c", SLOWLY, path, copy],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.said() == "open"

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def read(self, size: int) -> str:
        """Read so many bytes more; return how many there are in all, or the errno."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{size}\n")
        self.process.stdin.flush()
        return self.said()

    def got(self) -> bytes:
        self.process.communicate(timeout=60)
        return self.copy.read_bytes()


HALF = 4 << 20


@pytest.mark.mount
@pytest.mark.parametrize("by", ["the mount", "somebody else"])
@pytest.mark.parametrize("held", [True, False], ids=["held", "not-held"])
def test_an_open_file_in_a_deleted_run_reads_what_is_held_or_is_estale(
    stage: Stage, tmp_path: Path, by: str, held: bool
) -> None:
    path = stage.add()
    deleted = path.parents[1]
    run("cat" if held else "stat", path)

    def rest(asked: Asked) -> Reply | None:
        # What is fetched ahead would be held.
        return Reply(500) if deleted.name in stage.server.routes.runs else None

    # The stand-in goes on sending what it has begun to send; a service may not.
    stage.server.on("GET", f".*/{path.name}", Reply(body=DATA, cut=HALF), rest)
    slow = Slow(path, tmp_path / "copy")
    assert slow.read(HALF) == str(HALF)
    if by == "the mount":
        run("rm", "-r", deleted)
    else:
        del stage.server.routes.runs[deleted.name]
    if held:
        assert slow.read(len(DATA)) == str(len(DATA))
        assert slow.got() == DATA
    else:
        assert slow.read(len(DATA)) == "ESTALE"
        assert slow.got() == DATA[:HALF]
    assert "ESTALE" not in stage.log.read_text()
    missing = subprocess.run(["cat", path], capture_output=True, text=True, timeout=60)
    assert "No such file" in missing.stderr


# -- errors that Python would not see ---------------------------------------

READ_IN_PYTHON = """
import errno, sys
for buffering in (-1, 0):
    for size in (-1, 65536):
        got = 0
        try:
            with open(sys.argv[1], "rb", buffering=buffering) as file:
                while piece := file.read(size):
                    got += len(piece)
            print(piece, got)
        except OSError as error:
            print(errno.errorcode[error.errno])
"""


@pytest.mark.mount
@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_is_busy_in_the_middle_of_a_file_is_no_end_of_it_for_python(
    status: int, tmp_path: Path
) -> None:
    large = os.urandom(1 << 20) * 12
    with StandIn() as server:
        run_id, file = server.routes.add_file(large)
        # The size, the beginning, and no more than that.
        broken = Reply(body=large, cut=3_000_000)
        server.on("GET", "/runs/.*/downloads/files/.*", None, broken, Reply(status))
        address = Address(server.endpoint, server.routes.token)
        with mounted(address, retries=0, ttl=FOR_EVER, log=tmp_path / "log") as directory:
            path = directory / f"groups/{server.routes.group}/runs/{run_id}/results/{file}"
            assert int(run("stat", "-c", "%s", path)) == len(large)
            told = run(sys.executable, "-c", READ_IN_PYTHON, path).decode().split()
    assert told == ["EIO"] * 4


# -- a service that stops and comes back -----------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Iterator[tuple[EmbeddedService, str, bytes]]:
    """A service of the test's own, and the path and bytes of a result of 24 MiB."""
    # A port that was chosen for a service cannot be had again for a while.
    with EmbeddedService.start(tmp_path / "service", port=lasting_port()) as service:
        rest, group = Rest(service), service.groups["hello"]
        source = tmp_path / "names.txt"
        source.write_bytes(os.urandom(1 << 20).hex().encode() * 12)
        file_id = rest.upload(group, source)
        handle = rest.ended(rest.start(group, {"names": {"fileId": file_id}}), timeout=60)
        data = rest.result(handle, "results/greetings.txt")
        rest.close()
        assert len(data) > 24 << 20
        yield service, f"groups/{group}/runs/{handle['id']}/outputs/results/greetings.txt", data


def again(service: EmbeddedService) -> EmbeddedService:
    """Start a service that was stopped once more, where it was."""
    port = int(service.endpoint.partition("://")[2].partition("/")[0].rpartition(":")[2])
    return EmbeddedService.start(service.directory, port=port)


@pytest.mark.mount
@pytest.mark.service
def test_a_service_that_is_back_within_the_retries_is_read_on(
    large: tuple[EmbeddedService, str, bytes], tmp_path: Path
) -> None:
    service, path, data = large
    with mounted(service, retries=8, timeout=60, log=tmp_path / "log") as directory:
        slow = Slow(directory / path, tmp_path / "copy")
        assert slow.read(HALF) == str(HALF)
        service.stop()
        with again(service):
            assert slow.read(len(data)) == str(len(data))
            assert slow.got() == data
            assert run("cat", directory / path, timeout=60) == data


@pytest.mark.mount
@pytest.mark.service
def test_a_service_that_stays_away_is_an_error_never_short_data_and_may_come_back(
    large: tuple[EmbeddedService, str, bytes], tmp_path: Path
) -> None:
    service, path, data = large
    with mounted(service, timeout=10, log=tmp_path / "log") as directory:
        slow = Slow(directory / path, tmp_path / "copy")
        assert slow.read(HALF) == str(HALF)
        service.stop()
        copied = subprocess.run(
            ["cp", directory / path, tmp_path / "copied"], capture_output=True, timeout=60
        )
        assert copied.returncode != 0
        assert slow.read(len(data)) in ("EIO", "ECONNREFUSED", "ETIMEDOUT")
        got = slow.got()
        assert got == data[: len(got)]
        with again(service):
            wait_until(lambda: succeeds("cat", directory / path), 10, "the mount to work again")
            assert run("cat", directory / path, timeout=60) == data
