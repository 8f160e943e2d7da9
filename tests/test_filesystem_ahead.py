"""What is fetched ahead of who goes from run to run, and what is not."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from standin import Asked, Reply, StandIn
from support import wait_until

from flowfs import FlowFileSystem, tree
from flowfs.catalog import FileRecord, RunRecord
from flowfs.errors import FlowError
from flowfs.filesystem import orders
from flowfs.filesystem.errands import Errands
from flowfs.filesystem.facts import RunFacts
from flowfs.filesystem.orders import Orders
from flowfs.filesystem.walking import Files, Walk

LONG = 60.0  # seconds; nothing here takes so long unless it hangs
HANDLE = "/runs/[^/]+"
FILE = "/runs/[^/]+/downloads/files/[^/]+"

_numbers = itertools.count(1)


class TestOrders:
    def test_each_name_is_found_in_the_order_of_the_listing_and_by_name(self) -> None:
        listed, by_name, listed_backwards, by_name_backwards = Orders(["b", "d", "a"])
        assert [listed.place(name) for name in "abcd"] == [2, 0, -1, 1]
        assert [by_name.place(name) for name in "abcd"] == [0, 1, -1, 2]
        assert list(by_name.names) == ["a", "b", "d"]
        assert list(listed_backwards.names) == ["a", "d", "b"]
        assert [listed_backwards.place(name) for name in "abcd"] == [0, 2, -1, 1]
        assert list(by_name_backwards.names) == ["d", "b", "a"]
        assert [by_name_backwards.place(name) for name in "abcd"] == [2, 1, -1, 0]

    def test_large_listings_have_the_order_of_inodes_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(orders, "_BY_NUMBER", 2)
        numbers = {"b": 7, "d": 5, "a": 9}
        *_, last = Orders(["b", "d", "a"], lambda names: [numbers[name] for name in names])
        assert list(last.names) == ["d", "b", "a"]
        assert [last.place(name) for name in "abcd"] == [2, 1, -1, 0]

    def test_no_order_is_made_before_it_is_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(orders, "_BY_NUMBER", 1)
        asked = []
        made = Orders(["b", "a"], lambda names: asked.append(names) or [1, 2])  # type: ignore[func-returns-value]
        assert next(iter(made)).place("a") == 1
        assert not asked
        assert len(list(made)) == len(list(made)) == 5
        assert len(asked) == 1


def walk_of(states: dict[str, str], start: str) -> Walk:
    runs = {name: RunRecord.of({"id": name, "state": state}) for name, state in states.items()}
    return Walk("group", start, runs, 0.0)


def ended(names: str) -> dict[str, str]:
    return dict.fromkeys(names, "SUCCESS")


class TestWalk:
    def goes(self, walk: Walk, *names: str) -> list[bool]:
        made = Orders(walk.runs)
        return [walk.goes_to(name, made if walk.unsure else (), 64) for name in names]

    @pytest.mark.parametrize("names", ["bdca", "abcd", "acdb", "dcba"])
    def test_goes_on_in_the_order_of_the_listing_or_by_name_or_backwards(self, names: str) -> None:
        walk = walk_of(ended("bdca"), names[0])
        assert self.goes(walk, *names[1:]) == [True] * 3
        assert not list(walk.plan())

    @pytest.mark.parametrize("names", ["be", "bb", "bx", "xb"])
    def test_goes_nowhere_else(self, names: str) -> None:
        walk = walk_of(ended("bdcaef"), names[0])
        assert self.goes(walk, names[1]) == [False]

    def test_passes_by_what_is_in_states_that_were_not_met(self) -> None:
        states = ended("abcdef") | {"b": "ERROR", "d": "ERROR", "e": "RUNNING"}
        walk = walk_of(states, "a")
        assert self.goes(walk, "c") == [True]
        assert [stop.run_id for stop in walk.plan()] == ["f"]
        assert self.goes(walk, "f") == [True]
        every = walk_of(states, "a")
        assert self.goes(every, "b", "c", "d") == [True] * 3
        assert [stop.run_id for stop in every.plan()] == ["f"]  # what runs is not worth it

    def test_who_comes_much_later_is_not_followed(self) -> None:
        walk = walk_of(ended("abc"), "a")
        assert not walk.lost(5.0)
        assert walk.lost(60.0)
        assert walk.over

    def test_plans_more_the_longer_it_goes_and_each_run_once(self) -> None:
        names = [f"{number:03}" for number in range(200)]
        walk = walk_of(dict.fromkeys(names, "SUCCESS"), names[0])
        assert not list(walk.plan())
        planned = []
        for name in names[1:100]:
            assert self.goes(walk, name) == [True]
            planned.append([stop.run_id for stop in walk.plan()])
        assert [len(some) for some in planned[:6]] == [2, 3, 5, 9, 17, 33]
        assert len(walk.ahead) == 64
        assert list(itertools.chain(*planned)) == names[2:164]


def files(count: int) -> Files:
    names = [f"{(number * 7919) % 100_003:05}" for number in range(count)]
    listed = [{"id": name, "name": name} for name in names]
    return Files(RunFacts({"id": "r", "state": "SUCCESS", "files": listed}))


class TestFiles:
    def look(self, files: Files, *places: int) -> list[int]:
        """Look at files; return the places of what is worth fetching after the last of them."""
        chosen: list[FileRecord] = []
        for place in places:
            name = files.records[place].name
            node = tree.parse(f"groups/g/runs/r/results/{name}")
            steps = files.look(node)
            assert steps is not None
            assert steps[-1] is files.records[place]
            assert files.look(node) is None
            chosen = files.plan(steps, 64)
        return [files.records.index(record) for record in chosen]

    def test_one_file_is_looked_at_alone(self) -> None:
        assert self.look(files(5), 2) == []

    def test_a_second_one_brings_the_others_in_any_order(self) -> None:
        few = files(5)
        assert self.look(few, 3, 1) == [2, 4, 0]
        assert self.look(few, 0) == []

    def test_of_many_those_come_that_are_next(self) -> None:
        many = files(1000)
        assert self.look(many, 10, 11) == [12, 13, 14, 15]
        assert self.look(many, 12) == list(range(16, 21))
        for place in range(13, 100):
            self.look(many, place)
        assert len(many._planned - many.looked_at.keys()) == 64

    def test_of_many_by_name_too_and_none_where_there_is_no_order(self) -> None:
        many = files(1000)
        by_name = sorted(range(1000), key=lambda place: many.records[place].name)
        assert self.look(many, *by_name[500:502]) == by_name[502:506]
        assert self.look(files(1000), 10, 500, 3, 700) == []

    def test_outputs_are_the_same_files(self) -> None:
        few = files(3)
        name = few.records[1].name
        assert few.look(tree.parse(f"groups/g/runs/r/outputs/{name}")) == [few.records[1]]
        assert few.look(tree.parse(f"groups/g/runs/r/results/{name}")) is None
        assert few.look(tree.parse("groups/g/runs/r/outputs/directory")) is None


class TestErrands:
    def test_no_more_at_once_than_allowed_and_each_is_done(self) -> None:
        errands, lock = Errands(3), threading.Lock()
        now = most = done = 0
        go_on = threading.Event()

        def errand() -> None:
            nonlocal now, most, done
            with lock:
                now += 1
                most = max(most, now)
            go_on.wait(LONG)
            with lock:
                now -= 1
                done += 1
            raise OSError("nobody hears of it")

        for _ in range(20):
            errands.add(errand)
        wait_until(lambda: now == 3, LONG, "three at once")
        go_on.set()
        wait_until(lambda: done == 20, LONG, "all of them")
        assert most == 3

    def test_threads_end_when_there_is_nothing_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("flowfs.filesystem.errands._IDLE", 0.01)
        errands, threads = Errands(2), []
        for _ in range(2):
            errands.add(lambda: threads.append(threading.current_thread()))
        wait_until(lambda: len(threads) == 2, LONG, "both")
        for thread in threads:
            assert thread.daemon
            thread.join(LONG)
            assert not thread.is_alive()
        errands.add(lambda: threads.append(threading.current_thread()))
        wait_until(lambda: len(threads) == 3, LONG, "one more")

    @pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
    def test_a_fork_has_threads_of_its_own(self) -> None:
        errands, begun, go_on = Errands(1), threading.Event(), threading.Event()
        errands.add(lambda: (begun.set(), go_on.wait(LONG)))
        assert begun.wait(LONG)
        child = os.fork()
        if not child:
            done = threading.Event()
            errands.add(done.set)
            os._exit(not done.wait(60))
        assert os.waitpid(child, 0)[1] == 0
        go_on.set()

    def test_what_has_not_begun_can_be_dropped(self) -> None:
        errands, begun, go_on, done = Errands(1), threading.Event(), threading.Event(), []
        errands.add(lambda: (begun.set(), go_on.wait(LONG), done.append(1)))
        assert begun.wait(LONG)
        errands.add(lambda: done.append(2))
        errands.clear()
        errands.add(lambda: done.append(3))
        go_on.set()
        wait_until(lambda: done == [1, 3], LONG, "what was left")


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Group:
    """A group of the stand-in with runs of three small results, as a mount looks at it."""

    def __init__(self, server: StandIn, runs: int = 12, **options: Any) -> None:
        self.server = server
        for number in range(runs):
            named = [{"id": f"f{number:02}{i}", "name": f"results/{i}.txt"} for i in range(3)]
            handle = server.routes.runs.pop(server.routes.add_run(files=named)["id"])
            # By name they are in another order than in the listing.
            handle["id"] = f"r{number * 7 % runs:02}"
            server.routes.runs[handle["id"]] = handle
            server.routes.files.update({file["id"]: file["id"].encode() for file in named})
        self.ids = list(server.routes.runs)
        self.path = f"groups/{server.routes.group}/runs"
        # No other file system has these options: it knows nothing yet.
        timeout = options.pop("timeout", 30) + next(_numbers) / 1000
        token = server.routes.token
        self.fs = FlowFileSystem(server.endpoint, token, timeout=timeout, ttl=600, **options)
        self.fs.ls(self.path)

    def into(self, *runs: int) -> None:
        """Look into runs, one after the other."""
        for run in runs:
            listed = self.fs.ls(f"{self.path}/{self.ids[run]}", detail=False)
            assert f"{self.path}/{self.ids[run]}/handle.json" in listed

    def at(self, run: int, *places: int, under: str = "results/f{run:02}{place}") -> None:
        """Look at results of a run, as `stat` does on a mount."""
        for place in places:
            name = under.format(run=run, place=place)
            node = self.fs.entries.resolve(f"{self.path}/{self.ids[run]}/{name}")
            self.fs.entries.ahead.looked(node)
            assert self.fs.entries.entry(node)["size"] == 4

    def asked(self, pattern: str = HANDLE) -> int:
        return self.server.count("GET", pattern)

    def come(self, count: int, pattern: str = HANDLE) -> None:
        """Wait until so many requests have come, and see that there are no more."""
        wait_until(lambda: self.asked(pattern) >= count, LONG, f"{count} requests")
        self.done()
        assert self.asked(pattern) == count

    def done(self) -> None:
        """Wait until nothing is fetched ahead any more."""
        errands = self.fs.entries.ahead._errands
        wait_until(
            lambda: not errands._due and errands._idle == errands._threads, LONG, "no errands"
        )

    @property
    def errors(self) -> bytes:
        errors: bytes = self.fs.cat_file(".flowfs/errors")
        return errors


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of who is followed: nobody is lost because the machine stood still."""
    clock = Clock()
    monkeypatch.setattr("flowfs.filesystem.ahead.time", clock)
    return clock


class TestHandles:
    def test_one_run_and_runs_here_and_there_fetch_nothing_else(self, server: StandIn) -> None:
        group = Group(server)
        group.into(3)
        group.into(5, 1, 3, 7, 9)
        group.come(5)

    def test_from_the_second_run_on_the_next_ones_are_there_before(self, server: StandIn) -> None:
        group = Group(server)
        group.into(3, 4)
        group.come(4)
        group.into(5)
        group.come(7)
        group.into(6, 7, 8, 9)
        group.come(9)  # all there are from the first on

    def test_a_walk_by_name_is_followed_as_well(self, server: StandIn) -> None:
        group = Group(server)
        group.ids.sort()
        group.into(0, 1)
        group.come(4)
        group.into(*range(2, 12))
        group.come(12)

    def test_going_through_all_costs_no_request_more(self, server: StandIn) -> None:
        group = Group(server, runs=40)
        before = len(server.asked)
        assert len(list(group.fs.walk(group.path))) == 81
        group.come(40)
        assert len(server.asked) - before == 40

    def test_who_stops_has_no_more_fetched(self, server: StandIn) -> None:
        group = Group(server, runs=40)
        group.into(0, 1, 2, 3)
        group.come(4 + 8)
        group.into(30, 20)
        group.come(4 + 8 + 2)

    def test_several_walks_are_followed_at_once(self, server: StandIn) -> None:
        group = Group(server, runs=40)
        for step in range(10):
            group.into(step, 20 + step)
        group.come(40)

    def test_runs_that_can_still_change_are_left_alone(self, server: StandIn) -> None:
        Group(server, runs=3)
        for _ in range(3):
            server.routes.add_run("RUNNING")
        group = Group(server, runs=0)
        group.into(0, 1, 2)
        group.come(3)

    def test_with_one_connection_it_is_for_who_waits(self, server: StandIn) -> None:
        group = Group(server, max_connections=1)
        group.into(*range(12))
        group.come(12)

    def test_there_is_always_a_connection_left_for_who_waits(self, server: StandIn) -> None:
        group = Group(server, max_connections=3)
        hung = [group.ids[run] for run in range(2, 8)]
        server.on("GET", f"/runs/({'|'.join(hung)})", Reply(hang="before"))
        group.into(0, 1)
        wait_until(lambda: group.asked() == 4, LONG, "two that hang")
        group.into(11, 9)
        assert group.asked() == 6
        group.fs.catalog.service.session.interrupt()

    def test_a_run_that_was_deleted_meanwhile_is_not_there_and_that_is_all(
        self, server: StandIn
    ) -> None:
        group = Group(server)
        del server.routes.runs[group.ids[2]]
        group.into(0, 1)
        group.come(4)
        group.into(3, 4)
        assert not group.errors


class TestFailures:
    def test_what_failed_ahead_is_nobodys_error_and_is_asked_for_anew(
        self, server: StandIn
    ) -> None:
        group = Group(server)
        server.on("GET", f"/runs/{group.ids[2]}", Reply(503), None)
        group.into(0, 1)
        wait_until(lambda: group.asked(f"/runs/{group.ids[2]}") == 1, LONG, "a refusal")
        group.done()
        group.into(2)
        assert group.asked(f"/runs/{group.ids[2]}") == 2
        assert not group.errors

    def test_after_a_failure_nothing_is_fetched_ahead_for_a_while(self, server: StandIn) -> None:
        group = Group(server)
        server.on("GET", f"/runs/({'|'.join(group.ids[2:4])})", Reply(503))
        group.into(0, 1)
        wait_until(lambda: group.asked() > 2, LONG, "a refusal")
        group.done()
        before = group.asked()
        group.into(4, 5, 6, 7)
        group.come(before + 4)
        group.fs.entries.ahead._rests_until = 0.0
        group.into(8)
        group.come(before + 8)  # 9, 10 and 11 too

    def test_who_waits_for_what_fails_ahead_asks_anew(self, server: StandIn) -> None:
        group, begun, go_on = Group(server), threading.Event(), threading.Event()

        def fails(asked: Asked) -> Reply:
            begun.set()
            go_on.wait(LONG)
            return Reply(500)

        server.on("GET", f"/runs/{group.ids[2]}", fails, None)
        group.into(0, 1)
        assert begun.wait(LONG)
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(group.into, 2)
            handles = group.fs.catalog._runs._handles
            wait_until(lambda: group.ids[2] in handles._fetching, LONG, "somebody who waits")
            go_on.set()
            waits.result(LONG)
        assert group.asked(f"/runs/{group.ids[2]}") == 2

    def test_who_waits_for_what_comes_ahead_asks_nothing(self, server: StandIn) -> None:
        group, go_on = Group(server), threading.Event()

        def late(asked: Asked) -> None:
            go_on.wait(LONG)

        server.on("GET", f"/runs/{group.ids[2]}", late)
        group.into(0, 1)
        group_asked = f"/runs/{group.ids[2]}"
        wait_until(lambda: group.asked(group_asked) == 1, LONG, "what comes ahead")
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(group.into, 2)
            go_on.set()
            waits.result(LONG)
        assert group.asked(group_asked) == 1

    def test_an_interrupt_is_for_who_waits_too(self, server: StandIn) -> None:
        group = Group(server)
        server.on("GET", f"/runs/({'|'.join(group.ids[2:])})", Reply(hang="before"))
        group.into(0, 1)
        wait_until(lambda: group.asked() == 4, LONG, "what hangs")
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(group.into, 2)
            session = group.fs.catalog.service.session
            wait_until(lambda: waits.running(), LONG, "somebody who waits")

            def interrupted() -> bool:
                session.interrupt()
                return waits.done()

            wait_until(interrupted, LONG, "the end of that")
            assert isinstance(waits.exception(), FlowError)
        group.done()


class TestSizes:
    def test_one_result_is_looked_at_alone(self, server: StandIn) -> None:
        group = Group(server)
        group.into(3)
        group.at(3, 1)
        group.come(1, FILE)

    def test_a_second_one_brings_the_rest_of_the_run_and_outputs_are_the_same(
        self, server: StandIn
    ) -> None:
        group = Group(server)
        group.into(3)
        group.at(3, 0, 1)
        group.come(3, FILE)
        group.at(3, 2)
        group.at(3, 0, 1, 2, under="outputs/results/{place}.txt")
        group.come(3, FILE)

    def test_small_files_come_along(self, server: StandIn) -> None:
        group = Group(server)
        group.into(3)
        group.at(3, 0, 1)
        group.come(3, FILE)
        path = f"{group.path}/{group.ids[3]}/results/f032"
        assert group.fs.cat_file(path) == b"f032"
        assert group.asked(FILE) == 3

    def test_who_does_so_run_after_run_has_those_of_the_next_too(self, server: StandIn) -> None:
        group = Group(server)
        group.into(0)
        group.at(0, 0, 1, 2)
        group.come(3, FILE)
        group.into(1)
        group.come(3 + 2, FILE)  # two of run 2
        group.at(1, 0, 1, 2)
        group.come(2 * 3 + 2, FILE)
        group.into(2)
        group.come(2 * 3 + 2 + 3, FILE)  # and all of run 3

    def test_going_through_all_costs_no_request_more(self, server: StandIn) -> None:
        group = Group(server, runs=30)
        before = len(server.asked)
        for run in range(30):
            group.into(run)
            group.at(run, 0, 1, 2)
            group.at(run, 0, 1, 2, under="outputs/results/{place}.txt")
        group.done()
        assert (group.asked(), group.asked(FILE)) == (30, 90)
        assert len(server.asked) - before == 120
        for run in range(30):  # and again
            group.into(run)
            group.at(run, 0, 1, 2)
        group.done()
        assert len(server.asked) - before == 120

    def test_of_one_result_in_each_run_the_same_one_is_fetched(self, server: StandIn) -> None:
        group = Group(server, runs=30)
        for run in range(30):
            group.at(run, 1, under="outputs/results/{place}.txt")
        group.done()
        assert (group.asked(), group.asked(FILE)) == (30, 30)

    def test_who_stays_long_in_a_run_of_many_is_followed_there(
        self, server: StandIn, clock: Clock
    ) -> None:
        names = [f"{number:04}" for number in range(40)]
        server.routes.add_run(files=[{"id": name, "name": name} for name in names])
        server.routes.files.update(dict.fromkeys(names, b"data"))
        group = Group(server, runs=0)
        group.into(0)
        for place in range(6):
            group.at(0, place, under="results/{place:04}")
            clock.now += 1.5
        group.come(40, FILE)

    def test_a_size_that_failed_ahead_is_asked_for_anew(self, server: StandIn) -> None:
        group = Group(server)
        server.on("GET", ".*/f032", Reply(503), None)
        group.into(3)
        group.at(3, 0, 1)
        group.come(3, FILE)
        group.at(3, 2)
        assert group.asked(FILE) == 4
        assert not group.errors

    def test_many_who_ask_for_one_size_ask_once(self, server: StandIn) -> None:
        group, go_on = Group(server), threading.Event()

        def late(asked: Asked) -> None:
            go_on.wait(LONG)

        server.on("GET", FILE, late)
        group.into(3)
        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(group.at, 3, 0) for _ in range(4)]
            wait_until(lambda: group.asked(FILE) == 1, LONG, "a request")
            go_on.set()
            for one in asking:
                one.result(LONG)
        assert group.asked(FILE) == 1
