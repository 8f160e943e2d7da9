"""Runs that a directory has shown: what stat tells of them while somebody goes through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from standin import StandIn
from support import wait_until

from flowfs import FlowFileSystem, tree
from flowfs.catalog import Catalog, Listing
from flowfs.fuse.attributes import Attributes
from flowfs.fuse.operations import Operations
from flowfs.fuse.shown import Shown

NAMES = [f"r{number}" for number in range(20)]
AT = "/groups/g/runs"
RUNS = tree.parse("groups/g/runs")


class Known(Catalog):
    """What is known of runs, as a test has it."""

    def __init__(self) -> None:
        self.listed: Listing | None = listing(*NAMES)
        self.changed = 0

    def good_runs(self, group_id: str) -> Listing | None:
        return self.listed

    @property
    def changes_of_runs(self) -> int:
        return self.changed


class Reader:
    """Somebody who has read a directory of runs, and asks about them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.known = Known()
        self.shown = Shown(self.known, Attributes(False, 7), lambda: self.now)
        self.shown.read(AT, RUNS, "g")

    def told(self, name: str) -> bool:
        return self.shown.about(f"{AT}/{name}") is not None


def listing(*names: str) -> Listing:
    return Listing([{"id": name, "state": "SUCCESS", "createdAt": ""} for name in names])


def test_who_goes_through_a_directory_is_answered_from_one_listing() -> None:
    reader = Reader()
    assert reader.told("r0")
    reader.known.listed = None  # too old
    for name in NAMES[1:]:
        reader.now += 3
        assert reader.told(name), name
        assert reader.told(name), name


def test_who_asks_here_and_there_is_not_answered_from_an_old_listing() -> None:
    reader = Reader()
    assert reader.told("r7")
    reader.known.listed = None
    assert not reader.told("r7")
    assert not reader.told("r12")


def test_who_has_stopped_or_goes_on_for_long_is_not_answered_from_an_old_listing() -> None:
    reader = Reader()
    reader.known.listed = None
    assert reader.told("r0")
    for _ in range(3):  # who waits for one run to go is soon told
        reader.now += 0.8
        last = reader.told("r0")
    assert not last
    reader.now += 9
    assert not reader.told("r1")

    slow = Reader()
    slow.known.listed = None
    told = []
    for name in NAMES:
        told.append(slow.told(name))
        slow.now += 9
    assert told == [True] * 7 + [False] * 13


def test_after_a_change_made_here_an_old_listing_tells_nothing() -> None:
    reader = Reader()
    assert reader.told("r0")
    reader.known.listed = None
    assert reader.told("r1")
    reader.known.changed += 1
    assert not reader.told("r2")


def test_a_new_listing_is_gone_on_with_where_the_old_one_was_left() -> None:
    reader = Reader()
    assert all(map(reader.told, NAMES[:10]))
    reader.known.listed = listing("new-one", *NAMES[5:])
    assert not reader.told("r4")  # gone since
    assert reader.told("r10")
    reader.known.listed = None
    assert reader.told("r11")


def test_a_directory_that_is_read_anew_is_not_told_of_from_an_older_listing() -> None:
    reader = Reader()
    assert reader.told("r0")
    reader.known.listed = None  # what was read is too old already when it has been read
    reader.shown.read(AT, RUNS, "g")
    assert not reader.told("r0")
    assert not reader.told("r1")


class Turning(str):
    """A name; another thread has its turn when it is looked at."""

    turn: Callable[[], None] | None = None
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        turn, self.turn = self.turn, None
        if turn is not None:
            turn()
        return str.__eq__(self, other)


def test_a_new_listing_may_come_while_a_name_is_looked_for() -> None:
    reader = Reader()
    name = Turning("r1")
    reader.known.listed = listing("r0", name, *NAMES[2:])
    assert reader.told("r0")

    def meanwhile() -> None:
        reader.known.listed = listing("r2")
        assert reader.told("r2")

    name.turn = meanwhile
    assert reader.told("r2")
    assert name.turn is None
    reader.known.listed = listing("r2")
    assert not reader.told("r3")


@pytest.mark.parametrize("name", ["nothing", "%72%30", "new", "new.error"])
def test_what_may_be_something_else_is_left_to_others(name: str) -> None:
    reader = Reader()
    reader.known.listed = listing(*NAMES, "new", "new.error", "%72%30")
    assert reader.told("r0")
    assert not reader.told(name)
    assert reader.shown.about(f"{AT}/r0/handle.json") is None
    assert reader.shown.about("/groups/h/runs/r0") is None


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        for _ in range(6):
            server.routes.add_run("SUCCESS", files=[])
        yield server


@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("", "/groups/group-1/runs"),
        ("groups/group-1", "/runs"),
        ("groups/group-1/runs", "/"),
    ],
)
def test_what_is_told_is_the_same_before_and_after_the_directory_was_read(
    server: StandIn, root: str, path: str
) -> None:
    fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=600)
    operations = Operations(fs, root, lambda: 0, Attributes(False, 7))
    of = [f"{path.rstrip('/')}/{run_id}" for run_id in server.routes.runs]
    before = [operations.getattr(one) for one in of]
    numbers = {name: number for name, _, number in operations.readdir(path, 0)}
    after = [operations.getattr(one) for one in of]
    assert before == after
    assert all(operations._shown.about(one) is not None for one in of)
    assert [told["st_ino"] for told in after] == [numbers[one.rpartition("/")[2]] for one in of]


def test_a_listing_that_grows_old_under_who_goes_through_it_is_not_asked_for_again(
    server: StandIn,
) -> None:
    fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=0.05)
    operations = Operations(fs, "", lambda: 0, Attributes(False, 7))
    operations._shown = Shown(fs.catalog, Attributes(False, 7), lambda: 100.0)
    names = [name for name, _, _ in operations.readdir("/groups/group-1/runs", 0)][3:]
    asked = server.count()
    wait_until(lambda: fs.catalog.good_runs("group-1") is None, 5, "an old listing")
    for name in names:
        assert operations.getattr(f"/groups/group-1/runs/{name}")["st_mtime"]
    assert server.count() == asked


def test_who_lists_a_directory_again_and_again_sees_what_others_change(server: StandIn) -> None:
    """Though for the clock of who goes on no time passes at all."""
    fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=0.05)
    operations = Operations(fs, "", lambda: 0, Attributes(False, 7))
    operations._shown = Shown(fs.catalog, Attributes(False, 7), lambda: 100.0)
    at = "/groups/group-1/runs"

    def ls() -> dict[str, int]:
        there = [name for name, _, _ in operations.readdir(at, 0)][3:]
        return {name: operations.getattr(f"{at}/{name}")["st_mtime"] for name in there}

    def too_old() -> None:
        wait_until(lambda: fs.catalog.good_runs("group-1") is None, 5, "an old listing")

    before = ls()
    gone, other = list(before)[:2]
    new = server.routes.add_run("RUNNING")["id"]
    del server.routes.runs[gone]
    too_old()
    assert set(ls()) == (set(before) - {gone}) | {new}
    too_old()
    with pytest.raises(FileNotFoundError):
        operations.getattr(f"{at}/{gone}")

    def states() -> list[str]:
        return [name for name, _, _ in operations.readdir(f"{at[:-4]}states/RUNNING", 0)][2:]

    assert states() == [new]
    assert operations.getattr(f"{at}/{new}/cancel")
    server.routes.runs[new]["state"] = "SUCCESS"
    too_old()
    wait_until(lambda: fs.catalog.known_run(new) is None, 5, "what is known of the run is old")
    assert other in ls()
    assert states() == []
    with pytest.raises(FileNotFoundError):
        operations.getattr(f"{at}/{new}/cancel")


def test_where_nothing_is_kept_each_run_is_asked_for(server: StandIn) -> None:
    fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=0)
    operations = Operations(fs, "", lambda: 0, Attributes(False, 7))
    names = [name for name, _, _ in operations.readdir("/groups/group-1/runs", 0)][3:]
    assert all(operations._shown.about(f"/groups/group-1/runs/{name}") is None for name in names)
