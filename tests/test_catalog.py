"""What is kept of the service's things, for how long, and what one's own changes do to it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from standin import Asked, Reply, StandIn

from flowfs.catalog import Cache, Catalog, cache, runs
from flowfs.errors import (
    BadReply,
    FlowError,
    InvalidArguments,
    InvalidRunState,
    NotFound,
    TooLarge,
    failure,
)
from flowfs.service import Credentials, FlowService, ServiceDescriptor, Session, flights

TTL = 2.0
LONG = 60.0  # seconds; nothing here takes so long unless it hangs


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(cache, "time", clock)
    monkeypatch.setattr(runs, "time", clock)
    return clock


class Fetch:
    """A fetch that counts, and waits if it is told to."""

    def __init__(self, *values: Any) -> None:
        self.values = list(values)
        self.count = 0
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self) -> Any:
        self.count += 1
        value = self.values.pop(0) if len(self.values) > 1 else self.values[0]
        self.begun.set()
        assert self.go_on.wait(LONG)
        if isinstance(value, BaseException):
            raise value
        return value


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Counts who has begun to wait for another's fetch."""
    waiting = threading.Semaphore(0)

    class Noted(flights._Flight[Any]):
        def exception(self, timeout: float | None = None) -> BaseException | None:
            waiting.release()
            return super().exception(timeout)

    monkeypatch.setattr(flights, "_Flight", Noted)
    return waiting


class TestCache:
    def test_a_value_is_kept_for_its_time(self, clock: Clock) -> None:
        kept, fetch = Cache[str, str](TTL), Fetch("one", "two")
        assert [kept.get("key", fetch) for _ in range(3)] == ["one"] * 3
        clock.now += TTL + 0.1
        assert kept.peek("key") is None
        assert kept.peek("key", any_age=True) == "one"
        assert kept.get("key", fetch) == "two"
        assert fetch.count == 2

    def test_what_lasts_is_kept_for_ever(self, clock: Clock) -> None:
        kept = Cache[str, str](TTL, lambda value: value == "ended")
        fetch = Fetch("active", "ended")
        assert kept.get("key", fetch) == "active"
        clock.now += TTL + 0.1
        assert kept.get("key", fetch) == "ended"
        clock.now += 1e6
        assert kept.get("key", fetch) == "ended"
        assert fetch.count == 2

    def test_the_least_recently_used_go_first(self) -> None:
        kept = Cache[int, int](TTL, bound=3)
        for key in (1, 2, 3):
            kept.put(key, key)
        kept.peek(1)
        kept.put(4, 4)
        assert [kept.peek(key) for key in (1, 2, 3, 4)] == [1, None, 3, 4]
        assert len(kept) == 3
        kept.clear()
        assert len(kept) == 0

    def test_many_who_ask_at_once_make_one_fetch(self, waiting: threading.Semaphore) -> None:
        kept, fetch = Cache[str, str](TTL), Fetch("value")
        fetch.go_on.clear()
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(kept.get, "key", fetch) for _ in range(8)]
            for _ in range(7):
                assert waiting.acquire(timeout=LONG)
            fetch.go_on.set()
            assert [each.result() for each in asked] == ["value"] * 8
        assert fetch.count == 1

    def test_another_key_is_not_held_up(self) -> None:
        kept, slow = Cache[str, str](TTL), Fetch("slow")
        slow.go_on.clear()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(kept.get, "slow", slow)
            assert slow.begun.wait(LONG)
            assert kept.get("quick", Fetch("quick")) == "quick"
            kept.put("other", "other")
            assert kept.peek("slow") is None
            slow.go_on.set()
            assert asked.result() == "slow"

    def test_an_error_reaches_all_who_wait_each_with_its_own(
        self, waiting: threading.Semaphore
    ) -> None:
        error = failure(NotFound, "gone", "one", status=404)
        error.__cause__ = KeyError("why")
        kept, fetch = Cache[str, str](TTL), Fetch(error, "value")
        fetch.go_on.clear()
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(kept.get, "key", fetch) for _ in range(4)]
            for _ in range(3):
                assert waiting.acquire(timeout=LONG)
            fetch.go_on.set()
            errors = [each.exception() for each in asked]
        for each in errors:
            assert isinstance(each, NotFound)
            assert (each.filename, each.status) == ("one", 404)
            assert each.__cause__ is error.__cause__
            each.filename = "another"  # as layers above do
        assert len({id(each) for each in errors}) == 4
        assert kept.get("key", fetch) == "value"  # an error is not kept

    def test_who_is_interrupted_interrupts_nobody_else(self, waiting: threading.Semaphore) -> None:
        kept, fetch = Cache[str, str](TTL), Fetch(KeyboardInterrupt(), "value")
        fetch.go_on.clear()
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(kept.get, "key", fetch)
            assert fetch.begun.wait(LONG)
            second = pool.submit(kept.get, "key", fetch)
            assert waiting.acquire(timeout=LONG)
            fetch.go_on.set()
            assert isinstance(first.exception(), KeyboardInterrupt)
            assert second.result() == "value"

    @pytest.mark.parametrize("drop", [lambda kept: kept.drop("key"), lambda kept: kept.clear()])
    def test_what_was_asked_for_before_a_change_is_neither_kept_nor_joined(
        self, drop: Callable[[Any], None]
    ) -> None:
        kept, before, after = Cache[str, str](TTL), Fetch("before"), Fetch("after")
        before.go_on.clear()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(kept.get, "key", before)
            assert before.begun.wait(LONG)
            drop(kept)
            assert kept.get("key", after) == "after"
            before.go_on.set()
            assert asked.result() == "before"
        assert kept.peek("key") == "after"

    def test_what_is_asked_for_while_something_else_is_dropped_is_kept(self) -> None:
        kept, fetch = Cache[str, str](TTL), Fetch("value")
        fetch.go_on.clear()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(kept.get, "key", fetch)
            assert fetch.begun.wait(LONG)
            kept.drop("another")
            fetch.go_on.set()
            assert asked.result() == "value"
        assert kept.peek("key") == "value"

    def test_a_value_by_another_way_is_not_kept_if_something_changed_since(self) -> None:
        kept = Cache[str, str](TTL)
        since = kept.drops
        kept.put("key", "good", since=since)
        assert kept.peek("key") == "good"
        kept.drop("key")
        kept.put("key", "stale", since=since)
        assert kept.peek("key") is None

    def test_refreshing_asks_even_though_a_value_is_kept(self) -> None:
        kept, fetch = Cache[str, str](TTL), Fetch("one", "two")
        kept.get("key", fetch)
        assert kept.get("key", fetch, refresh=True) == "two"
        assert kept.get("key", fetch) == "two"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def known(server: StandIn, clock: Clock) -> Iterator[Catalog]:
    session = Session(server.endpoint, Credentials(server.routes.token), timeout=600, retries=0)
    flow = FlowService(session)
    flow._descriptor = ServiceDescriptor(server.endpoint)
    yield Catalog(flow, TTL)
    session.close()


@pytest.fixture
def group(server: StandIn) -> str:
    return server.routes.group


RUNS = "/groups/[^/]*/runs"


def upload(server: StandIn, group: str, name: str, data: bytes = b"Ada\n") -> str:
    """Upload by another client, and return the id."""
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n--b--'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    file_id: str = server.routes.post_upload(group, headers, body % (name.encode(), data))[1]["id"]
    return file_id


def write(known: Catalog, group: str, name: str, data: bytes = b"Ada\n") -> Any:
    return known.upload_file(group, name, name, io.BytesIO(data))


class TestRuns:
    def test_an_ended_run_is_asked_for_once_and_its_existence_by_one_listing(
        self, server: StandIn, known: Catalog, clock: Clock, group: str
    ) -> None:
        runs = [server.routes.add_run()["id"] for _ in range(5)]
        for _ in range(3):
            for run in runs:
                assert known.run(group, run)["id"] == run
            clock.now += TTL + 0.1
        assert server.count("GET", "/runs/.*") == 5
        assert server.count("GET", RUNS) == 2

    def test_an_active_run_is_asked_for_again_after_its_time(
        self, server: StandIn, known: Catalog, clock: Clock, group: str
    ) -> None:
        handle = server.routes.add_run("RUNNING")
        assert known.run(group, handle["id"])["state"] == "RUNNING"
        handle["state"] = "SUCCESS"
        assert known.run(group, handle["id"])["state"] == "RUNNING"
        clock.now += TTL + 0.1
        assert known.run(group, handle["id"])["state"] == "SUCCESS"
        assert server.count("GET", "/runs/.*") == 2

    def test_a_listing_that_tells_of_another_state_makes_an_active_run_be_asked_for(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        handle = server.routes.add_run("RUNNING")
        known.run(group, handle["id"])
        handle["state"] = "SUCCESS"
        known.runs(group)
        assert known.run(group, handle["id"])["state"] == "SUCCESS"

    def test_a_listing_older_than_a_runs_end_does_not_take_its_handle(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        run = server.routes.add_run()["id"]
        known.run(group, run)
        stale = {"runs": [{"id": run, "state": "RUNNING", "createdAt": "2020"}]}
        server.on("GET", RUNS, Reply(body=stale))
        known.runs(group)
        assert known.run(group, run)["state"] == "SUCCESS"
        assert known.run_record(group, run).state == "SUCCESS"
        assert server.count("GET", "/runs/.*") == 1

    def test_a_run_of_another_group_does_not_exist_under_this_one(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        other = server.routes.add_run(groupId="other")["id"]
        for _ in range(2):
            with pytest.raises(NotFound, match="of group 'other'"):
                known.run(group, other)

    def test_a_run_that_no_listing_has_is_reached_all_the_same(
        self, server: StandIn, known: Catalog, clock: Clock, group: str
    ) -> None:
        run = server.routes.add_run()["id"]
        server.on("GET", RUNS, Reply(body={"runs": []}))
        assert known.runs(group) == {}
        assert known.run(group, run)["id"] == run
        clock.now += TTL + 0.1
        assert known.run(group, run)["id"] == run
        assert known.run_record(group, run).id == run

    def test_what_another_client_deletes_is_gone_with_the_next_listing(
        self, server: StandIn, known: Catalog, clock: Clock, group: str
    ) -> None:
        runs = [server.routes.add_run()["id"] for _ in range(2)]
        known.runs(group)
        for run in runs:
            known.run(group, run)
        del server.routes.runs[runs[0]]
        clock.now += TTL + 0.1
        assert list(known.runs(group)) == runs[1:]
        assert known.known_run(runs[0]) is None
        assert known.known_run(runs[1]) is not None
        with pytest.raises(NotFound):
            known.run(group, runs[0])

    def test_what_is_not_found_is_listed_no_more(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        run = server.routes.add_run()["id"]
        assert run in known.runs(group)
        del server.routes.runs[run]
        with pytest.raises(NotFound):
            known.run(group, run)
        assert run not in known.runs(group)

    def test_a_listing_that_fails_is_an_error_not_an_absence(
        self, server: StandIn, known: Catalog, clock: Clock, group: str
    ) -> None:
        run = server.routes.add_run()["id"]
        known.run(group, run)
        clock.now += TTL + 0.1
        server.on("GET", RUNS, Reply(500), None)
        with pytest.raises(BadReply):
            known.run(group, run)
        assert known.run(group, run)["id"] == run

    def test_who_goes_through_runs_for_longer_than_a_listing_is_good_has_it_asked_for_anew(
        self, server: StandIn, known: Catalog, clock: Clock, group: str
    ) -> None:
        runs = [server.routes.add_run()["id"] for _ in range(100)]
        known.group(group)
        begun = clock.now
        for run in runs:
            for _ in range(2):
                clock.now += TTL / 77
                assert known.run_record(group, run).id == run
        assert 2 * TTL < clock.now - begun < 3 * TTL
        assert server.count("GET", "/runs/.*") == server.count("GET", RUNS) == 0
        assert server.count("GET", "/groups/[^/]*") == 3

    def test_a_run_whose_handle_has_just_come_needs_no_listing_to_be_there(
        self, server: StandIn, known: Catalog, clock: Clock, group: str
    ) -> None:
        runs = [server.routes.add_run()["id"] for _ in range(100)]
        known.group(group)
        begun = clock.now
        for run in runs:
            known.fetch_run_ahead(group, run)
            clock.now += TTL / 40
            assert known.run_record(group, run).state == "SUCCESS"
            assert known.run(group, run)["id"] == run
        assert clock.now - begun > 2 * TTL
        assert server.count("GET", "/groups/[^/]*") == 1
        assert server.count("GET", RUNS) == 0
        # When that was too long ago, one listing tells of all of them; who has gone, has gone.
        clock.now += TTL + 0.1
        del server.routes.runs[runs[7]]
        with pytest.raises(NotFound):
            known.run_record(group, runs[7])
        for run in (runs[6], runs[8]):
            assert known.run_record(group, run).id == run
        assert server.count("GET", RUNS) == 1

    def test_who_asks_after_one_run_now_and_then_is_answered_by_that_run(
        self, server: StandIn, known: Catalog, clock: Clock, group: str
    ) -> None:
        runs = [server.routes.add_run()["id"] for _ in range(3)]
        known.runs(group)
        for run in runs:
            clock.now += TTL + 0.1
            assert known.run_record(group, run).id == run
        assert server.count("GET", RUNS) == 1
        assert server.count("GET", "/runs/.*") == 3

    def test_where_nothing_is_good_for_any_time_each_run_is_answered_by_itself(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        runs = [server.routes.add_run()["id"] for _ in range(5)]
        known = Catalog(known.service, 0)
        known.group(group)
        known.runs(group)
        asked = server.count()
        for run in runs:
            assert known.run_record(group, run).id == run
        assert server.count("GET", "/runs/.*") == server.count() - asked == 5

    def test_the_latest_is_the_newest(self, server: StandIn, known: Catalog, group: str) -> None:
        assert known.latest(group) is None
        known.forget()
        runs = [server.routes.add_run(createdAt=f"2026-01-0{day}")["id"] for day in (1, 3, 2)]
        latest = known.latest(group)
        assert latest is not None
        assert latest.id == runs[1]

    def test_threads_that_ask_for_one_run_make_one_request(
        self, server: StandIn, known: Catalog, group: str, waiting: threading.Semaphore
    ) -> None:
        run = server.routes.add_run()["id"]
        go_on = threading.Event()

        def slow(asked: Asked) -> None:
            assert go_on.wait(LONG)

        server.on("GET", f"/runs/{run}", slow)
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(known.run, group, run) for _ in range(8)]
            for _ in range(7):
                assert waiting.acquire(timeout=LONG)
            go_on.set()
            assert {each.result()["id"] for each in asked} == {run}
        assert server.count() == 1

    def test_a_group_brings_its_runs_and_uploads_along(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        run = server.routes.add_run()["id"]
        upload(server, group, "names.txt")
        known.group(group)
        assert list(known.runs(group)) == [run]
        assert [file.name for file in known.uploads(group)] == ["names.txt"]
        assert server.count() == 1

    def test_forgetting_asks_for_all_but_ended_runs(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        run = server.routes.add_run()["id"]
        known.runs(group)
        known.run(group, run)
        known.forget()
        known.runs(group)
        known.run(group, run)
        assert (server.count("GET", RUNS), server.count("GET", "/runs/.*")) == (2, 1)


class TestOwnChanges:
    @pytest.fixture
    def names(self, server: StandIn, group: str) -> str:
        return upload(server, group, "names.txt")

    def test_a_started_run_is_listed_at_once_and_its_handle_is_known(
        self, server: StandIn, known: Catalog, group: str, names: str
    ) -> None:
        assert known.runs(group) == {}
        run = known.start_run(group, {"names": "names.txt", "sleeptime": 9}, about="new")["id"]
        assert list(known.runs(group)) == [run]
        assert known.group(group)["runs"][0][0] == run
        assert known.run(group, run)["state"] == "RUNNING"
        assert server.count("GET", "/runs/.*") == 0

    @pytest.mark.parametrize("by", ["runs", "group"])
    def test_a_listing_under_way_while_a_run_starts_is_not_kept(
        self, server: StandIn, known: Catalog, group: str, names: str, by: str
    ) -> None:
        known.group(group)
        begun, go_on = threading.Event(), threading.Event()

        def before_the_start(asked: Asked) -> Reply:
            answer = getattr(server.routes, f"get_{by}")(group)
            begun.set()
            assert go_on.wait(LONG)
            return Reply(*answer)

        server.on("GET", RUNS if by == "runs" else "/groups/[^/]*", before_the_start, None)
        with ThreadPoolExecutor(1) as pool:
            listing = pool.submit(getattr(known, by), group, refresh=True)
            assert begun.wait(LONG)
            run = known.start_run(group, {"names": "names.txt"}, about="new")["id"]
            go_on.set()
            listing.result()
        assert list(known.runs(group)) == [run]

    def test_a_canceled_run_is_seen_as_such_at_once(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        run = server.routes.add_run("RUNNING")["id"]
        assert known.run(group, run)["state"] == known.runs(group)[run].state == "RUNNING"
        assert known.cancel_run(run, "enough")["messages"] == ["enough"]
        assert known.run(group, run)["state"] == known.runs(group)[run].state == "CANCELED"
        assert server.count("GET", "/runs/.*") == 1

    def test_a_deleted_run_is_gone_at_once(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        run = server.routes.add_run()["id"]
        assert run in known.runs(group)
        known.run(group, run)
        known.delete_run(run)
        assert known.runs(group) == {}
        with pytest.raises(NotFound):
            known.run(group, run)

    def test_a_handle_under_way_while_its_run_is_deleted_is_not_kept(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        run = server.routes.add_run()["id"]
        begun, go_on = threading.Event(), threading.Event()

        def before_the_end(asked: Asked) -> Reply:
            answer = server.routes.get_run(run)
            begun.set()
            assert go_on.wait(LONG)
            return Reply(*answer)

        server.on("GET", f"/runs/{run}", before_the_end, None)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(known.run, group, run)
            assert begun.wait(LONG)
            known.delete_run(run)
            go_on.set()
            asked.result()
        with pytest.raises(NotFound):
            known.run(group, run)

    def test_a_refused_change_changes_nothing(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        active, ended = server.routes.add_run("RUNNING")["id"], server.routes.add_run()["id"]
        with pytest.raises(InvalidRunState):
            known.delete_run(active)
        with pytest.raises(InvalidRunState):
            known.cancel_run(ended, None)
        assert list(known.runs(group)) == [active, ended]
        assert known.run(group, ended)["state"] == "SUCCESS"

    def test_a_refusal_is_kept_until_the_next_success(
        self, server: StandIn, known: Catalog, group: str, names: str
    ) -> None:
        assert known.refusal(group) is None
        with pytest.raises(InvalidArguments):
            known.start_run(group, {"nope": 1}, about="groups/g/runs/new")
        refusal = known.refusal(group)
        assert refusal is not None
        assert b"nope" in refusal
        assert b"groups/g/runs/new" in refusal
        assert server.count("POST") == 0
        known.start_run(group, {"names": "names.txt"}, about="new")
        assert known.refusal(group) is None

    def test_a_refusal_of_the_service_names_the_same_place(
        self, server: StandIn, known: Catalog, group: str, names: str
    ) -> None:
        known.uploads(group)
        server.on("POST", ".*/runs", Reply(400, {"message": "no such luck"}))
        with pytest.raises(InvalidArguments) as caught:
            known.start_run(group, {"names": "names.txt"}, about="flow://host/groups/g/runs/new")
        assert caught.value.filename == "flow://host/groups/g/runs/new"
        refusal = known.refusal(group)
        assert refusal is not None
        assert refusal.startswith(b"flow://host/groups/g/runs/new: ")

    def test_the_listing_has_a_run_that_is_known_to_have_ended_as_ended(
        self, server: StandIn, known: Catalog, clock: Clock, group: str
    ) -> None:
        run = server.routes.add_run("RUNNING")["id"]
        clock.now += 1
        assert known.run(group, run)["state"] == "RUNNING"
        clock.now += TTL - 0.5
        assert known.runs(group)[run].state == "RUNNING"
        server.routes.runs[run].update(state="SUCCESS", files=[])
        clock.now += 1
        assert known.run(group, run)["state"] == "SUCCESS"
        assert known.runs(group)[run].state == "SUCCESS"
        assert server.count("GET", f"/groups/{group}/runs") == 1

    def test_what_came_since_is_looked_for_before_a_run_is_refused(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        known.group(group)
        file_id = upload(server, group, "late.txt")
        handle = known.start_run(group, {"names": "late.txt"}, about="new")
        assert handle["arguments"][0]["value"]["value"]["fileId"] == file_id


class TestUploads:
    def test_of_two_with_one_name_the_newest_has_it(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        old, new = upload(server, group, "x.txt"), upload(server, group, "x.txt")
        assert {file.name: file.id for file in known.uploads(group)} == {
            f"x.txt ({old})": old,
            "x.txt": new,
        }
        assert known.upload(group, "x.txt").id == new
        with pytest.raises(NotFound, match="no upload is called"):
            known.upload(group, "y.txt")

    def test_the_name_asked_for_resolves_where_another_was_stored(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        made = write(known, group, "a b.txt")
        assert (made.name, made.stored) == ("a_b.txt", "a_b.txt")
        assert known.upload(group, "a b.txt").id == made.id
        assert known.upload(group, "a_b.txt").id == made.id
        handle = known.start_run(group, {"names": "a b.txt"}, about="new")
        assert handle["arguments"][0]["value"]["value"]["fileId"] == made.id

    def test_an_upload_is_seen_at_once(self, known: Catalog, group: str) -> None:
        assert known.uploads(group) == []
        made = write(known, group, "x.txt")
        assert [file.id for file in known.uploads(group)] == [made.id]
        known.delete_upload(group, "x.txt")
        assert known.uploads(group) == []

    def test_replacing_stores_the_new_one_before_the_old_one_goes(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        first = write(known, group, "x.txt", b"1")
        second = write(known, group, "x.txt", b"2")
        assert [file.id for file in known.uploads(group)] == [second.id]
        assert server.routes.files[second.id] == b"2"
        changes = [asked for asked in server.asked if asked.method != "GET"]
        assert [asked.method for asked in changes] == ["POST", "POST", "DELETE"]
        assert changes[2].path.endswith(first.id)

    def test_only_what_is_certainly_of_that_name_is_replaced(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        others = upload(server, group, "a_b.txt"), upload(server, group, "txt")
        first = write(known, group, "a b.txt")
        second = write(known, group, "日本.txt")
        third = write(known, group, "中国.txt")
        ids = {file.id for file in known.uploads(group)}
        assert ids == {*others, first.id, second.id, third.id}
        again = write(known, group, "a b.txt")
        assert {file.id for file in known.uploads(group)} == ids - {first.id} | {again.id}
        assert known.upload(group, "日本.txt").id == second.id

    def test_another_clients_upload_of_the_very_name_is_replaced(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        known.uploads(group)
        upload(server, group, "x.txt")
        made = write(known, group, "x.txt")
        assert [file.id for file in known.uploads(group)] == [made.id]

    def test_one_that_is_not_stored_replaces_nothing(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        first = write(known, group, "x.txt")
        server.on("POST", "/uploads/.*", Reply(413))
        with pytest.raises(TooLarge):
            write(known, group, "x.txt")
        assert [file.id for file in known.uploads(group)] == [first.id]
        assert server.count("DELETE") == 0

    @pytest.mark.parametrize(("status", "kind"), [(404, None), (500, BadReply)])
    def test_an_old_one_that_cannot_be_deleted_is_told_unless_it_is_gone(
        self,
        server: StandIn,
        known: Catalog,
        group: str,
        status: int,
        kind: type[FlowError] | None,
    ) -> None:
        write(known, group, "x.txt", b"1")
        server.on("DELETE", "/uploads/.*", Reply(status))
        if kind is None:
            write(known, group, "x.txt", b"2")
        else:
            with pytest.raises(kind):
                write(known, group, "x.txt", b"2")
        assert server.routes.files[known.upload(group, "x.txt").id] == b"2"

    def test_a_name_asked_for_outlives_a_delete_that_failed(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        made = write(known, group, "a b.txt")
        server.on("DELETE", "/uploads/.*", Reply(500), None)
        with pytest.raises(BadReply):
            known.delete_upload(group, "a b.txt")
        assert known.upload(group, "a b.txt").id == made.id
        known.delete_upload(group, "a b.txt")
        with pytest.raises(NotFound):
            known.upload(group, "a b.txt")

    def test_a_runs_argument_means_the_file_that_the_tree_shows(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        write(known, group, "x.txt")
        newer = upload(server, group, "x.txt")
        known.forget()
        assert known.upload(group, "x.txt").id == newer
        handle = known.start_run(group, {"names": "x.txt"}, about="new")
        assert handle["arguments"][0]["value"]["value"]["fileId"] == newer

    def test_a_listing_under_way_while_a_file_is_uploaded_is_not_kept(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def before_the_upload(asked: Asked) -> Reply:
            answer = server.routes.get_group(group)
            begun.set()
            assert go_on.wait(LONG)
            return Reply(*answer)

        server.on("GET", "/groups/[^/]*", before_the_upload, None)
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(known.group, group)
            assert begun.wait(LONG)
            made = write(known, group, "x.txt")
            go_on.set()
            asking.result()
        assert [file.id for file in known.uploads(group)] == [made.id]


class TestUploadsUnderOtherNames:
    """What is asked for as ``data.csv~`` is stored as ``data.csv``."""

    def test_what_was_asked_for_otherwise_is_not_taken_for_the_file_of_that_name(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        original = upload(server, group, "data.csv")
        backup = write(known, group, "data.csv~")
        assert backup.stored == "data.csv"
        assert {file.name: file.id for file in known.uploads(group)} == {
            "data.csv": original,
            f"data.csv ({backup.id})": backup.id,
        }
        known.group(group, refresh=True)  # brings the uploads along
        assert known.upload(group, "data.csv").id == original
        assert known.upload(group, "data.csv~").id == backup.id
        for name, meant in (("data.csv", original), ("data.csv~", backup.id)):
            handle = known.start_run(group, {"names": name}, about="new")
            assert handle["arguments"][0]["value"]["value"]["fileId"] == meant

    def test_each_name_replaces_and_deletes_its_own_file_alone(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        write(known, group, "data.csv")
        backup = write(known, group, "data.csv~")
        again = write(known, group, "data.csv")
        assert {file.id for file in known.uploads(group)} == {again.id, backup.id}
        backup = write(known, group, "data.csv~")
        assert {file.id for file in known.uploads(group)} == {again.id, backup.id}
        known.delete_upload(group, "data.csv")
        assert [file.id for file in known.uploads(group)] == [backup.id]
        # It alone is listed by that name now; writing that makes another file all the same.
        assert known.upload(group, "data.csv").id == backup.id
        third = write(known, group, "data.csv")
        assert {file.id for file in known.uploads(group)} == {third.id, backup.id}
        known.delete_upload(group, "data.csv~")
        assert [file.id for file in known.uploads(group)] == [third.id]

    def test_it_is_told_apart_while_its_reply_is_still_to_come(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        original = upload(server, group, "data.csv")
        stored, go_on = threading.Event(), threading.Event()

        def late(asked: Asked) -> Reply:
            upload(server, group, "data.csv")
            stored.set()
            assert go_on.wait(LONG)
            return Reply(201, {"id": "late", "name": "data.csv", "createdAt": "2100-01-01"})

        server.on("POST", "/uploads/.*", late)
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write, known, group, "data.csv~")
            assert stored.wait(LONG)
            try:
                known.uploads(group, refresh=True)
                assert known.upload(group, "data.csv").id == original
            finally:
                go_on.set()
            writing.result()

    def test_what_may_have_come_of_a_lost_reply_takes_no_name_from_another(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        original = upload(server, group, "data.csv")

        def lost(asked: Asked) -> Reply:
            upload(server, group, "data.csv")
            return Reply(reset=True)

        server.on("POST", "/uploads/.*", lost, None)
        with pytest.raises(FlowError):
            write(known, group, "data.csv~")
        for _ in range(2):
            assert len(known.uploads(group, refresh=True)) == 2
            assert known.upload(group, "data.csv").id == original
        newest = upload(server, group, "data.csv")
        known.uploads(group, refresh=True)
        assert known.upload(group, "data.csv").id == newest

    def test_a_rename_stores_the_new_one_before_the_old_one_goes(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        write(known, group, "data.csv", b"1")
        replaced = write(known, group, "x.csv", b"0")
        for old, new in (("data.csv", "data.csv~"), ("data.csv~", "x.csv")):
            before = known.upload(group, old).id
            server.asked.clear()
            made = known.rename_upload(group, old, new, new, io.BytesIO(b"1"))
            changes = [asked for asked in server.asked if asked.method != "GET"]
            assert changes[0].method == "POST"
            assert changes[-1].method == "DELETE"
            assert changes[-1].path.endswith(before)
            assert known.upload(group, new).id == made.id
            assert server.routes.files[made.id] == b"1"
        assert replaced.id not in server.routes.files
        assert [file.name for file in known.uploads(group)] == ["x.csv"]

    def test_a_rename_whose_old_file_stays_says_so_and_loses_nothing(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        old = write(known, group, "old.csv", b"1")
        server.on("DELETE", "/uploads/.*", Reply(413), None)
        with pytest.raises(TooLarge, match=r"is there as 'new\.csv' now, but 'old\.csv'"):
            known.rename_upload(group, "old.csv", "new.csv", "new.csv", io.BytesIO(b"1"))
        assert known.upload(group, "old.csv").id == old.id
        assert server.routes.files[known.upload(group, "new.csv").id] == b"1"

    def test_of_a_rename_that_is_not_stored_nothing_is_left(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        write(known, group, "old.csv", b"1")
        write(known, group, "new.csv", b"0")
        server.on("POST", "/uploads/.*", Reply(413))
        with pytest.raises(TooLarge):
            known.rename_upload(group, "old.csv", "new.csv", "new.csv", io.BytesIO(b"1"))
        with pytest.raises(NotFound):
            known.rename_upload(group, "none.csv", "new.csv", "new.csv", io.BytesIO(b"1"))
        assert {file.name for file in known.uploads(group)} == {"old.csv", "new.csv"}

    def test_two_writers_of_one_name_leave_one_upload(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        with ThreadPoolExecutor(4) as pool:
            for made in [
                pool.submit(write, known, group, name, b"%d" % number)
                for number in range(8)
                for name in ("x.txt", "data.csv~")
            ]:
                made.result()
        assert sorted(file.stored for file in known.uploads(group)) == ["data.csv", "x.txt"]


class TestWorkflowsAndGroups:
    def test_each_is_asked_for_once_in_its_time(
        self, server: StandIn, known: Catalog, clock: Clock, group: str
    ) -> None:
        workflow = server.routes.workflow
        for _ in range(2):
            for _ in range(2):
                assert [each.id for each in known.workflows()] == [workflow]
                assert [each.name for each in known.workflow_groups(workflow)] == ["hello"]
                assert known.leaderboard(workflow)["ranking"] == []
                assert known.postproc(workflow) is None
            clock.now += TTL + 0.1
        assert server.count() == 8

    def test_all_groups_cost_what_the_service_makes_them_cost(
        self, server: StandIn, known: Catalog, group: str
    ) -> None:
        assert [each.id for each in known.groups()] == [group]
        assert [each.id for each in known.groups()] == [group]
        assert [asked.path for asked in server.asked] == [
            "/groups",
            "/workflows",
            f"/workflows/{server.routes.workflow}/groups",
        ]

    def test_odd_names_are_names_and_two_of_one_name_are_told_apart(
        self, server: StandIn, known: Catalog
    ) -> None:
        names = ["a/b", "..", "", "same", "same"]
        listed = [{"id": str(n), "name": name} for n, name in enumerate(names, 1)] + [{"id": "6"}]
        server.on("GET", "/workflows/.*/groups", Reply(body={"groups": listed}))
        given = {each.id: each.name for each in known.workflow_groups("w")}
        assert len(set(given.values())) == 6
        assert (given["4"], given["5"], given["6"]) == ("same (4)", "same", "6")
        assert not any("/" in name or name in ("", ".", "..") for name in given.values())

    def test_the_post_processing_run_is_one_where_it_is_one(
        self, server: StandIn, known: Catalog, clock: Clock
    ) -> None:
        for postproc, expected in (
            ({"id": "p", "state": "SUCCESS"}, {"id": "p", "state": "SUCCESS"}),
            ({"id": 5}, None),
            ("text", None),
        ):
            server.on("GET", "/workflows/w", Reply(body={"id": "w", "postproc": postproc}))
            assert known.postproc("w") == expected
            clock.now += TTL + 0.1
