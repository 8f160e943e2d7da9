"""Clocks that jump, and times that no clock has shown: nothing that lasts is measured by them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mounting import Address, mounted, out
from standin import Reply, StandIn

import flowfs
from flowfs import DeadlineExceeded, FlowFileSystem
from flowfs.disk import CachedFile
from flowfs.disk.allowance import Allowance
from flowfs.disk.facts import Facts
from flowfs.disk.telling import Teller

YEARS = 10 * 365 * 86_400.0  # seconds
DATA = os.urandom(200_000)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the time of day by so many seconds; what measures how long something takes goes on."""
    really = time.time

    def jump(by: float) -> None:
        monkeypatch.setattr(time, "time", lambda: really() + by)

    return jump


@pytest.mark.parametrize("by", [YEARS, -YEARS], ids=["forward", "back"])
def test_what_is_known_and_kept_stays_and_deadlines_hold(
    server: StandIn, tmp_path: Path, jump: Callable[[float], None], by: float
) -> None:
    run, file = server.routes.add_file(DATA)
    runs = f"groups/{server.routes.group}/runs"
    path = f"{runs}/{run}/results/{file}"
    options = {"ttl": 600, "cache_dir": tmp_path / "cache", "retries": 0}
    first = FlowFileSystem(server.endpoint, server.routes.token, timeout=31, **options)
    assert first.cat_file(path) == DATA
    names = first.ls(runs, detail=False)
    asked = server.count()
    jump(by)
    assert first.ls(runs, detail=False) == names
    assert first.cat_file(path) == DATA
    first.pipe_file(f"groups/{server.routes.group}/uploads/new.txt", b"new")
    first.content.disk.flush()
    assert server.count("GET", "/(groups/.*/runs|runs/.*)") == len(
        [one for one in server.asked[:asked] if re.match("/(groups/.*/runs|runs/)", one.path)]
    )
    # Another process finds it, and keeps what it uses.
    second = FlowFileSystem(server.endpoint, server.routes.token, timeout=32, **options)
    content = server.count("GET", "/runs/.*/downloads/.*")
    assert second.cat_file(path) == DATA
    assert server.count("GET", "/runs/.*/downloads/.*") == content
    server.on("GET", "/workflows", Reply(hang="before"))
    third = FlowFileSystem(server.endpoint, server.routes.token, timeout=0.3, retries=0)
    with pytest.raises(DeadlineExceeded):
        third.ls("workflows")
    jump(0)
    assert second.cat_file(path) == DATA


def test_what_was_used_while_the_clock_was_ahead_makes_room_first(tmp_path: Path) -> None:
    allowance = Allowance(os.fspath(tmp_path), 1_000_000)

    def file(name: str, used: float) -> Path:
        path = tmp_path / "space" / "files" / name / "x"
        made = CachedFile(
            os.fspath(path), 100_000, allowance, Teller(), lambda: path.parent.mkdir(parents=True)
        )
        made.write(0, bytes(100_000))
        os.utime(path, (used, used))
        return path

    now = time.time()
    ahead = [file(f"ahead{n}", now + YEARS) for n in range(4)]
    old = [file(f"old{n}", now - 1000 + n) for n in range(3)]
    new = [file(f"new{n}", now - n) for n in range(5)]
    assert not any(one.exists() for one in ahead[:2])
    assert all(one.exists() for one in [*old, *new])


def test_facts_of_times_to_come_go_first_and_are_dated_anew_when_they_are_used(
    tmp_path: Path, jump: Callable[[float], None]
) -> None:
    def facts() -> Facts:
        return Facts(os.fspath(tmp_path / "facts.db"), 400_000, lambda: None, lambda count: None)

    jump(YEARS)
    known = facts()
    for number in range(60):
        known.put((b"ahead", b"%d" % number, "bytes"), bytes(3000))
    known.close()
    jump(0)
    known = facts()
    used = (b"ahead", b"7", "bytes")
    assert known.get(used) == bytes(3000)  # which is noted
    known.flush()
    for number in range(60):
        known.put((b"now", b"%d" % number, "bytes"), bytes(3000))
        known.flush()
    known.close()
    known = facts()
    assert known.get(used) == bytes(3000)
    gone = [n for n in range(60) if known.get((b"ahead", b"%d" % n, "bytes")) is None]
    assert len(gone) > 10
    assert all(known.get((b"now", b"%d" % n, "bytes")) for n in range(60))
    known.close()


TIMES = {
    "1970-01-01T00:00:00+00:00": 0,
    "1969-12-31T23:59:58+00:00": -2,
    "1901-12-13T20:45:51+00:00": -2_147_483_649,
    "2038-01-19T03:14:09+00:00": 2_147_483_649,
    "2106-02-07T06:28:17+00:00": 4_294_967_297,
    "0001-01-01T00:00:00+00:00": -62_135_596_800,
    "9999-12-31T23:59:59+00:00": 253_402_300_799,
}


@pytest.mark.mount
def test_times_that_no_clock_has_shown_are_told_as_they_are(
    server: StandIn, binding: dict[str, str]
) -> None:
    ids = {}
    for told, seconds in TIMES.items():
        times = dict.fromkeys(("createdAt", "startedAt"), told)
        run = server.routes.add_run(**times)
        run["finishedAt"] = told
        ids[run["id"]] = seconds
    address = Address(server.endpoint, server.routes.token)
    with mounted(address, **binding) as directory:
        for run_id, seconds in ids.items():
            place = f"groups/{server.routes.group}/runs/{run_id}"
            shown = out(f"stat -c %Y {place} {place}/handle.json", directory)
            assert shown.split() == [str(seconds)] * 2
        assert len(out(f"ls -l groups/{server.routes.group}/runs", directory).split("\n")) > 7


def test_nothing_that_lasts_is_measured_by_the_time_of_day() -> None:
    """What may ask for it: what is shown to people, and what other processes have to read."""
    root = Path(flowfs.__file__).parent
    asking = {
        path.relative_to(root).as_posix()
        for layer in ("service", "disk", "catalog", "content", "fuse")
        for path in (root / layer).rglob("*.py")
        if re.search(r"\btime\.time\(\)|datetime\.now\(", path.read_text())
    }
    assert asking <= {
        "disk/allowance.py",  # when a file was used, by the times that files have
        "disk/facts.py",  # when a fact was used, for processes to come
        "fuse/draft.py",  # when an upload was written
        "fuse/process.py",  # when a mount was made
        "service/journal.py",
        "service/statistics.py",
    }
