"""What stat tells of places in ended runs: worked out once, and only as long as it holds."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator

import pytest
from standin import StandIn

from flowfs import FlowFileSystem
from flowfs.filesystem.entries import Entries
from flowfs.fuse.attributes import Attributes
from flowfs.fuse.operations import Operations
from flowfs.fuse.told import Told

RUNS = "/groups/group-1/runs"
BELOW = ["", "/handle.json", "/arguments.json", "/results", "/results/f1", "/outputs", "/outputs/a"]
BELOW += ["/outputs/a/b.txt"]
LONG = 600.0  # seconds; longer than any test lasts


class Looker:
    """Somebody who looks at places on a mount, and at what that takes."""

    def __init__(self, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=LONG)
        self.operations = Operations(self.fs, "", lambda: 0, Attributes(False, 7))
        self.now = 0.0  # beyond the time of day
        told = Told(self.fs.catalog, self.fs.content, lambda: time.monotonic() + self.now)
        self.operations._told = told
        self.worked_out = 0
        entry = Entries.entry

        def counted(entries: Entries, *args: object, **options: object) -> object:
            self.worked_out += 1
            return entry(entries, *args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(Entries, "entry", counted)

    def __call__(self, path: str) -> dict[str, int]:
        return self.operations.getattr(RUNS + path)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def look(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Looker]:
    look = Looker(server, monkeypatch)
    yield look
    look.operations._entries.ahead.stop()


def add_run(server: StandIn, state: str = "SUCCESS") -> str:
    handle = server.routes.add_run(state, files=[{"id": "f1", "name": "a/b.txt"}])
    server.routes.files["f1"] = b"five!"
    return f"/{handle['id']}"


def test_what_cannot_change_is_worked_out_once(server: StandIn, look: Looker) -> None:
    run = add_run(server)
    first = [look(run + place) for place in BELOW]
    worked_out, asked = look.worked_out, server.count()
    assert [look(run + place) for place in BELOW] == first
    assert look.worked_out == worked_out == len(BELOW)
    assert server.count() == asked
    assert look(f"{run}/results/f1")["st_size"] == 5


def test_after_its_time_it_is_worked_out_anew(server: StandIn, look: Looker) -> None:
    run = add_run(server)
    look(f"{run}/results")
    look.now += LONG + 1
    worked_out = look.worked_out
    look(f"{run}/results")
    assert look.worked_out == worked_out + 1


def test_a_run_that_others_deleted_has_gone_with_the_next_listing(
    server: StandIn, look: Looker
) -> None:
    run, other = add_run(server), add_run(server)
    look.fs.ls(RUNS)
    for place in BELOW:
        assert look(run + place)
        assert look(other + place)
    del server.routes.runs[run[1:]]
    look.fs.ls(RUNS, refresh=True)
    for place in BELOW:
        with pytest.raises(OSError) as error:
            look(run + place)
        assert error.value.errno == errno.ENOENT
        assert look(other + place)


def test_a_run_that_is_deleted_here_has_gone_at_once(server: StandIn, look: Looker) -> None:
    run = add_run(server)
    for place in BELOW:
        look(run + place)
    look.fs.rm(RUNS + run, recursive=True)
    for place in BELOW:
        with pytest.raises(OSError) as error:
            look(run + place)
        assert error.value.errno == errno.ENOENT


def test_a_result_that_turns_out_to_be_gone_is_told_of_no_more(
    server: StandIn, look: Looker
) -> None:
    run = add_run(server)
    look(f"{run}/results/f1")
    look.fs.content.forget(
        look.fs.entries.source(look.fs.entries.resolve(f"{RUNS}{run}/results/f1"))
    )
    del server.routes.files["f1"]
    with pytest.raises(OSError) as error:
        look(f"{run}/results/f1")
    assert error.value.errno == errno.ENOENT


def test_nothing_is_remembered_of_a_run_that_can_still_change(
    server: StandIn, look: Looker
) -> None:
    run = add_run(server, "RUNNING")
    for place in ("", "/handle.json", "/results", "/cancel"):
        look(run + place)
        worked_out = look.worked_out
        look(run + place)
        assert place == "" or look.worked_out == worked_out + 1


def test_an_archive_has_its_size_once_it_was_read(server: StandIn, look: Looker) -> None:
    run = add_run(server)
    assert look(f"{run}/archive.tar.gz")["st_size"] == 1
    data = look.fs.cat(f"{RUNS}{run}/archive.tar.gz")
    assert look(f"{run}/archive.tar.gz")["st_size"] == len(data) > 1


def test_what_is_being_removed_is_hidden_at_once(server: StandIn, look: Looker) -> None:
    run = add_run(server)
    look(f"{run}/handle.json")
    look.operations.unlink(f"{RUNS}{run}/handle.json")
    with pytest.raises(OSError) as error:
        look(f"{run}/handle.json")
    assert error.value.errno == errno.ENOENT


def test_what_somebody_opened_before_a_run_ended_has_no_say_in_what_it_is_now(
    server: StandIn, look: Looker
) -> None:
    run = add_run(server, "RUNNING")
    operations, path = look.operations, f"{RUNS}{run}/handle.json"

    def open_it() -> tuple[int, int]:
        handle = operations._opening.to_read(operations._place(path)).handle
        assert handle.size is not None
        return operations._handles.add(handle), handle.size

    number, before = open_it()
    with server.lock:
        server.routes.runs[run[1:]] |= {"state": "SUCCESS", "finishedAt": "2026-01-01T00:00:00"}
    look.fs.invalidate_cache()
    # The kernel looks at it on its way to open it, while the other is being closed.
    operations.getattr(path)
    operations._handles.remove(number)
    _, after = open_it()
    assert after != before
    assert operations.getattr(path)["st_size"] == after
