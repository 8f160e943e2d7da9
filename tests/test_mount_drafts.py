"""Uploads that are being written, without a kernel in between."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from standin import Asked, Reply, StandIn
from support import wait_until

from flowfs import FlowFileSystem
from flowfs.errors import AccessDenied, BadReply, FlowError, NotFound, TooLarge
from flowfs.fuse import resting
from flowfs.fuse.attributes import Attributes
from flowfs.fuse.drafting import DraftHandle
from flowfs.fuse.drafts import Drafts
from flowfs.fuse.handles import Handles
from flowfs.fuse.opening import Opening
from flowfs.fuse.operations import Operations
from flowfs.service.interruption import Batch, Stopped
from flowfs.tree import Node

LONG = 60.0  # seconds; nothing here takes so long unless it hangs


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as started:
        yield started


@pytest.fixture
def fs(server: StandIn) -> FlowFileSystem:
    return FlowFileSystem(
        server.endpoint, server.routes.token, ttl=0.0, retries=0, skip_instance_cache=True
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def drafts(fs: FlowFileSystem, clock: Clock) -> Drafts:
    return Drafts(fs, clock)


class Place:
    """Names in ``uploads/`` as places."""

    def __init__(self, fs: FlowFileSystem, server: StandIn) -> None:
        self._fs, self._group = fs, server.routes.group

    def __call__(self, name: str) -> Node:
        return self._fs.entries.resolve(f"groups/{self._group}/uploads/{name}")


@pytest.fixture
def at(fs: FlowFileSystem, server: StandIn) -> Place:
    return Place(fs, server)


def write(drafts: Drafts, node: Node, data: bytes) -> None:
    """Write a file as a program does: open, write, close."""
    handle = DraftHandle(drafts, drafts.open(node, new=True))
    handle.write(data, 0)
    handle.flush(None)
    handle.release()


def stored(server: StandIn) -> dict[str, bytes]:
    """All uploads as the service has them; no two may have one name."""
    names = [file["name"] for file in server.routes.uploads]
    assert len(set(names)) == len(names), names
    return {file["name"]: server.routes.files[file["id"]] for file in server.routes.uploads}


def downloads(server: StandIn) -> int:
    return server.count("GET", "/uploads/[^/]*/files/.+")


# -- what was closed just now --------------------------------------------------


def test_what_was_closed_just_now_is_renamed_and_added_to_without_fetching_it(
    server: StandIn, drafts: Drafts, at: Place
) -> None:
    write(drafts, at("a"), b"one")
    drafts.rename(at("a"), at("b"))
    drafts.rename(at("b"), at("c"))
    draft = drafts.open(at("c"))
    draft.write(b" two", None)
    drafts.close(draft)
    assert stored(server) == {"c": b"one two"}
    assert downloads(server) == 0


def test_what_somebody_else_has_replaced_is_fetched(
    server: StandIn, fs: FlowFileSystem, drafts: Drafts, at: Place
) -> None:
    write(drafts, at("a"), b"mine")
    with fs.open(at("a").path, "wb") as other:
        other.write(b"another's")
    drafts.rename(at("a"), at("b"))
    assert stored(server) == {"b": b"another's"}
    assert downloads(server) == 1


@pytest.mark.parametrize("act", ["truncate", "write"])
def test_what_would_not_fit_without_holes_is_refused_and_the_file_is_as_it_was(
    server: StandIn, drafts: Drafts, at: Place, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    room = SimpleNamespace(f_blocks=100, f_bavail=10, f_frsize=4096)
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: room)
    far = 1 << 20  # the disk takes that as a hole; sent it would be all zeros
    handle = DraftHandle(drafts, drafts.open(at("a"), new=True))
    handle.write(b"one", 0)
    with pytest.raises(FlowError, match="there is room for") as caught:
        handle.truncate(far) if act == "truncate" else handle.write(b"x", far)
    assert caught.value.errno == errno.EFBIG
    handle.write(b"two", 5)  # smaller ones are as in any file
    handle.truncate(10)
    handle.flush(None)
    handle.release()
    assert stored(server) == {"a": b"one\0\0two\0\0"}


def rested(drafts: Drafts) -> list[str]:
    return [path.rpartition("/")[2] for path in drafts._resting.paths]


def test_few_files_rest_and_not_for_long(
    fs: FlowFileSystem, at: Place, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resting, "_FILES", 3)
    monkeypatch.setattr(resting, "_BYTES", 100)
    drafts = Drafts(fs, clock)
    for number in range(5):
        write(drafts, at(f"f{number}"), b"x" * 10)
    assert rested(drafts) == ["f2", "f3", "f4"]
    write(drafts, at("large"), b"x" * 75)
    assert rested(drafts) == ["f3", "f4", "large"]
    write(drafts, at("larger"), b"x" * 101)
    assert rested(drafts) == ["f3", "f4", "large"]
    write(drafts, at("f4"), b"y" * 10)
    assert rested(drafts) == ["f3", "large", "f4"]
    clock.now = 9.0
    drafts._resting.drop_old()
    assert len(rested(drafts)) == 3
    clock.now = 11.0
    drafts._resting.drop_old()
    assert rested(drafts) == []


def test_the_files_that_rest_are_dropped_by_themselves(
    drafts: Drafts, at: Place, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resting, "_REST", 0.05)
    write(drafts, at("a"), b"x")
    assert rested(drafts) == ["a"]
    clock.now = 1.0
    wait_until(lambda: not rested(drafts), LONG, "the end of its rest")


def test_what_was_not_stored_does_not_rest(server: StandIn, drafts: Drafts, at: Place) -> None:
    server.on("POST", "/uploads/.*", Reply(413))
    handle = DraftHandle(drafts, drafts.open(at("a"), new=True))
    handle.write(b"x", 0)
    for _ in range(2):
        with pytest.raises(TooLarge):
            handle.flush(None)
    handle.release()
    assert rested(drafts) == []
    assert drafts.peek(at("a").path) is None
    assert server.count("POST", "/uploads/.*") == 1


# -- several at once -------------------------------------------------------------


def held_up(server: StandIn, method: str, pattern: str) -> tuple[threading.Event, threading.Event]:
    """Hold up the next such request; return when it came, and what lets it go on."""
    came, go_on = threading.Event(), threading.Event()

    def wait(asked: Asked) -> Reply | None:
        came.set()
        assert go_on.wait(LONG)
        return None

    server.on(method, pattern, wait, None)
    return came, go_on


def test_a_rename_waits_for_the_flush_that_is_under_way(
    server: StandIn, drafts: Drafts, at: Place
) -> None:
    came, go_on = held_up(server, "POST", "/uploads/.*")
    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(write, drafts, at("a"), b"whole")
        assert came.wait(LONG)
        renaming = pool.submit(drafts.rename, at("a"), at("b"))
        time.sleep(0.05)
        go_on.set()
        renaming.result(LONG)
        writing.result(LONG)
    assert stored(server) == {"b": b"whole"}


def test_who_empties_a_file_while_it_is_closed_has_the_last_word(
    server: StandIn, drafts: Drafts, at: Place
) -> None:
    came, go_on = held_up(server, "POST", "/uploads/.*")
    first = drafts.open(at("a"), new=True)
    first.write(b"full", 0)
    with ThreadPoolExecutor(2) as pool:
        closing = pool.submit(drafts.close, first)
        assert came.wait(LONG)
        second = drafts.open(at("a"))
        assert second is first
        emptying = pool.submit(second.truncate, 0)
        go_on.set()
        emptying.result(LONG)
        drafts.close(second)
        closing.result(LONG)
    assert stored(server) == {"a": b""}
    assert drafts.peek(at("a").path) is None


def test_a_removal_waits_for_what_is_being_sent_and_then_removes_it(
    server: StandIn, drafts: Drafts, at: Place
) -> None:
    came, go_on = held_up(server, "POST", "/uploads/.*")
    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(write, drafts, at("a"), b"whole")
        assert came.wait(LONG)
        removing = pool.submit(drafts.remove, at("a"))
        go_on.set()
        removing.result(LONG)
        writing.result(LONG)
    assert stored(server) == {}


def test_a_removal_that_is_refused_takes_nothing_from_who_writes(
    server: StandIn, drafts: Drafts, at: Place
) -> None:
    write(drafts, at("a"), b"one")
    handle = DraftHandle(drafts, drafts.open(at("a")))
    handle.write(b"two", 0)
    server.on("DELETE", "/uploads/.*", Reply(403), None)
    with pytest.raises(AccessDenied):
        drafts.remove(at("a"))
    handle.flush(None)
    assert stored(server) == {"a": b"two"}
    drafts.remove(at("a"))
    handle.write(b"three", 0)
    handle.flush(None)
    handle.release()
    assert stored(server) == {}


def test_what_was_never_sent_is_removed_for_nothing(
    server: StandIn, drafts: Drafts, at: Place
) -> None:
    draft = drafts.open(at("a"), new=True)
    drafts.remove(at("a"))
    drafts.close(draft)
    with pytest.raises(NotFound):
        drafts.remove(at("a"))
    assert server.count("POST|DELETE") == 0


def test_what_replaces_a_file_that_is_open_is_not_overwritten_by_it(
    server: StandIn, drafts: Drafts, at: Place
) -> None:
    target = DraftHandle(drafts, drafts.open(at("b"), new=True))
    target.write(b"old", 0)
    came, go_on = held_up(server, "POST", "/uploads/.*")
    write_first = drafts.open(at("a"), new=True)
    write_first.write(b"new", 0)
    with ThreadPoolExecutor(3) as pool:
        flushing = pool.submit(write_first.flush)
        assert came.wait(LONG)
        renaming = pool.submit(drafts.rename, at("a"), at("b"))
        go_on.set()
        flushing.result(LONG)
        renaming.result(LONG)
    target.write(b"older", 0)
    target.flush(None)
    target.release()
    drafts.close(write_first)
    assert stored(server) == {"b": b"new"}


def test_many_renames_and_writes_at_once_end_and_leave_one_file_of_each_name(
    server: StandIn, drafts: Drafts, at: Place
) -> None:
    def replace(number: int) -> None:
        for turn in range(4):
            write(drafts, at(f"t{number}"), b"%d.%d" % (number, turn))
            drafts.rename(at(f"t{number}"), at(f"f{number % 2}"))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(replace, number) for number in range(4)]:
            done.result(60)
    assert set(stored(server)) == {"f0", "f1"}
    assert {data.partition(b".")[2] for data in stored(server).values()} == {b"3"}


def test_of_two_that_make_a_file_the_second_takes_nothing_away(
    server: StandIn, drafts: Drafts, at: Place
) -> None:
    first = drafts.open(at("a"), new=True)
    first.write(b"one", None)
    second = drafts.open(at("a"), new=True)
    second.write(b" two", None)
    drafts.close(first)
    drafts.close(second)
    assert stored(server) == {"a": b"one two"}


# -- renames that fail -------------------------------------------------------------


def test_of_a_rename_that_is_refused_the_file_is_there_as_before(
    server: StandIn, drafts: Drafts, at: Place
) -> None:
    write(drafts, at("a"), b"new")
    write(drafts, at("b"), b"old")
    server.on("POST", "/uploads/.*", Reply(500), None)
    with pytest.raises(BadReply):
        drafts.rename(at("a"), at("b"))
    assert stored(server) == {"a": b"new", "b": b"old"}
    drafts.rename(at("a"), at("b"))
    assert stored(server) == {"b": b"new"}


def test_a_rename_whose_bytes_cannot_be_fetched_changes_nothing(
    server: StandIn, fs: FlowFileSystem, drafts: Drafts, at: Place
) -> None:
    with fs.open(at("a").path, "wb") as file:
        file.write(b"there")
    server.on("GET", "/uploads/[^/]*/files/.+", Reply(500))
    with pytest.raises(FlowError):
        drafts.rename(at("a"), at("b"))
    assert stored(server) == {"a": b"there"}
    assert drafts.peek(at("a").path) is None


def test_who_is_open_under_a_name_that_is_not_there_is_not_renamed(
    drafts: Drafts, at: Place
) -> None:
    draft = drafts.open(at("a"), new=True)
    drafts.remove(at("a"))
    drafts.close(draft)
    with pytest.raises(NotFound):
        drafts.rename(at("a"), at("b"))


# -- who gives up --------------------------------------------------------------------


def test_who_gives_up_while_he_opens_a_file_has_not_opened_it(
    server: StandIn, fs: FlowFileSystem, drafts: Drafts, at: Place
) -> None:
    came, go_on = held_up(server, "POST", "/uploads/.*")
    opening, batch = Opening(fs, Handles(), drafts), Batch()

    def add_to_it() -> None:
        with batch:
            opening.to_write(at("a"), os.O_WRONLY | os.O_APPEND, 0)

    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(write, drafts, at("a"), b"whole")
        try:
            assert came.wait(LONG)
            adding = pool.submit(add_to_it)
            batch.stop()
            with pytest.raises(Stopped):
                adding.result(LONG)
        finally:
            go_on.set()
        writing.result(LONG)
    # Nobody has it open any more: it is what the service has, whoever replaces it there.
    assert drafts.peek(at("a").path) is None


def test_a_rename_that_cannot_look_at_its_target_leaves_nothing_open(
    server: StandIn, drafts: Drafts, at: Place
) -> None:
    server.routes.add_upload(b"1", "a", server.routes.group)
    written = drafts.open(at("b"), new=True)
    written.write(b"2", 0)
    assert drafts.join(at("b").path, writes=False) is written
    drafts.close(written)
    a, b = at("a"), at("b")
    server.on("GET", "/uploads/[^/]*/files", Reply(500), None)
    with pytest.raises(BadReply):
        drafts.rename(a, b)
    assert drafts.peek(a.path) is None
    drafts.close(written, writes=False)


def test_a_rename_whose_target_cannot_be_sent_leaves_nothing_open(
    server: StandIn, fs: FlowFileSystem, drafts: Drafts, at: Place
) -> None:
    server.on("POST", "/uploads/.*", Reply(hang="before"), None)
    left = drafts.open(at("b"), new=True)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(drafts.close, left)
        wait_until(lambda: server.count("POST", "/uploads/.*") == 1, LONG, "the upload")
        fs.catalog.service.session.interrupt()
        with pytest.raises(FlowError):
            closing.result(LONG)
    write(drafts, at("a"), b"1")
    server.on("POST", "/uploads/.*", Reply(500), Reply(500), None)
    with pytest.raises(BadReply):
        drafts.rename(at("a"), at("b"))
    assert server.count("POST", "/uploads/.*") == 4
    assert drafts.peek(at("a").path) is None


# -- the end of the mount ------------------------------------------------------------


def test_at_the_end_all_that_is_unsent_is_sent_and_the_rest_is_left(
    server: StandIn, drafts: Drafts, at: Place
) -> None:
    write(drafts, at("sent"), b"1")
    again = drafts.open(at("sent"))
    written, emptied, removed = (drafts.open(at(name), new=True) for name in ("w", "e", "r"))
    written.write(b"2", 0)
    removed.write(b"3", 0)
    drafts.remove(at("r"))
    drafts.settle_all(LONG)
    assert stored(server) == {"sent": b"1", "w": b"2", "e": b""}
    assert server.count("POST", "/uploads/.*") == 3
    for draft in (again, written, emptied, removed):
        drafts.close(draft)
    assert server.count("POST", "/uploads/.*") == 3


def test_at_the_end_one_that_hangs_holds_nobody_up(
    server: StandIn, drafts: Drafts, at: Place, caplog: pytest.LogCaptureFixture
) -> None:
    server.on("POST", "/uploads/.*", Reply(hang="before"), Reply(413), None)
    opened = [drafts.open(at(name), new=True) for name in ("a", "b", "c", "d", "e", "f")]
    before = time.monotonic()
    drafts.settle_all(2.0)
    assert time.monotonic() - before < LONG
    assert len(stored(server)) == 4
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert sum("not uploaded within 2 s" in line for line in said) == 1
    assert sum("not uploaded: " in line for line in said) == 1
    server.let_go()
    assert len(opened) == 6


def test_what_was_interrupted_is_sent_at_the_end(
    server: StandIn, fs: FlowFileSystem, drafts: Drafts, at: Place
) -> None:
    server.on("POST", "/uploads/.*", Reply(hang="before"), None)
    draft = drafts.open(at("a"), new=True)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(drafts.close, draft)
        wait_until(lambda: server.count("POST", "/uploads/.*") == 1, LONG, "the upload")
        fs.catalog.service.session.interrupt()
        with pytest.raises(FlowError):
            closing.result(LONG)
    drafts.settle_all(LONG)
    assert stored(server) == {"a": b""}


def test_at_the_end_what_is_being_sent_is_waited_for(
    server: StandIn, drafts: Drafts, at: Place, caplog: pytest.LogCaptureFixture
) -> None:
    # As where who closed it has been killed, and nobody has closed it since.
    caplog.set_level("INFO", "flowfs.mount")
    came, go_on = held_up(server, "POST", "/uploads/.*")
    draft = drafts.open(at("a"), new=True)
    draft.write(b"whole", 0)

    def let_go() -> None:
        wait_until(lambda: "not sent yet" in caplog.text or go_on.is_set(), LONG, "the end")
        go_on.set()

    with ThreadPoolExecutor(2) as pool:
        flushing = pool.submit(draft.flush)
        assert came.wait(LONG)
        pool.submit(let_go)
        drafts.settle_all(LONG)
        sent = stored(server)
        go_on.set()
        flushing.result(LONG)
    assert sent == {"a": b"whole"}
    assert server.count("POST", "/uploads/.*") == 1


def test_what_has_gone_is_not_there_to_be_renamed_whatever_it_was(
    fs: FlowFileSystem, server: StandIn
) -> None:
    # As where the kernel believes in `cancel` of a run that has just ended.
    operations = Operations(fs, "", lambda: 0, Attributes(False, 0))
    group = f"/groups/{server.routes.group}"
    for name in ("uploads/nothing", "runs/nothing/cancel", "runs/nothing"):
        with pytest.raises(OSError) as caught:
            operations.rename(f"{group}/{name}", f"{group}/uploads/x")
        assert caught.value.errno == errno.ENOENT, name
    with pytest.raises(OSError) as caught:
        operations.rename(f"{group}/group.json", f"{group}/uploads/x")
    assert caught.value.errno == errno.EPERM
