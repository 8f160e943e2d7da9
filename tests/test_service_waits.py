"""Who works for others: what he waits for ends when they leave, and nobody else's does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from standin import Asked, Reply, StandIn
from support import PATIENCE, wait_until

from flowfs.errors import FlowError, UnclearStart
from flowfs.pool import map_all
from flowfs.service import Credentials, FlowService, Session, waits
from flowfs.service.connections import _WatchedHTTPConnection as WatchedHTTPConnection
from flowfs.service.deadline import current_watch
from flowfs.service.flights import Flights
from flowfs.service.interruption import Stopped

T = TypeVar("T")


class Callers:
    """Threads, each of which works for a caller; and who of those has left."""

    def __init__(self) -> None:
        self.left: set[int] = set()
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(16)

    def caller(self) -> int:
        return getattr(self._local, "caller", 0)

    def leaves(self, caller: int) -> bool:
        return caller in self.left

    def ask(self, caller: int, act: Callable[[], T]) -> Future[T]:
        def acting() -> T:
            self._local.caller = caller
            return act()

        return self._pool.submit(acting)


@pytest.fixture
def callers() -> Iterator[Callers]:
    made = Callers()
    waits.serve(made.caller, made.leaves)
    try:
        yield made
    finally:
        waits.serve(None, made.leaves)
        made._pool.shutdown(wait=False)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as made:
        yield made


@pytest.fixture
def flow(server: StandIn) -> FlowService:
    credentials = Credentials(server.routes.token)
    return FlowService(Session(server.endpoint, credentials, timeout=600))


class Late:
    """An answer that comes when it is told to."""

    def __init__(self, server: StandIn, method: str, path: str) -> None:
        self.go_on = threading.Event()
        self._server = server
        self._what = method, path
        server.on(method, path, self)

    def __call__(self, asked: Asked) -> Reply | None:
        while not (self.go_on.wait(0.02) or self._server.stopped.is_set()):
            pass
        return None

    def asked(self, count: int = 1) -> None:
        wait_until(lambda: self._server.count(*self._what) >= count, 10, "the request")


def gone(asking: Future[Any]) -> None:
    with pytest.raises(Stopped):
        asking.result(PATIENCE)


def test_a_request_ends_when_who_asked_has_left_and_that_of_another_goes_on(
    callers: Callers, server: StandIn, flow: FlowService
) -> None:
    run = server.routes.add_run()["id"]
    late = Late(server, "GET", f"/runs/{run}")
    asking = [callers.ask(caller, lambda: flow.runs.get_run(run)) for caller in (1, 2)]
    late.asked(2)
    callers.left.add(1)
    gone(asking[0])
    late.go_on.set()
    assert asking[1].result(PATIENCE)["id"] == run


def test_a_body_that_is_read_ends_too_and_is_closed(
    callers: Callers, server: StandIn, flow: FlowService
) -> None:
    data = b"x" * 100_000
    run, file = server.routes.add_file(data)
    server.on("GET", f"/runs/{run}/downloads/files/{file}", Reply(body=data, hang="body"))
    body = flow.runs.get_result_file(run, file)
    begun = threading.Event()

    def read() -> bytes:
        begun.set()
        return body.read()

    asking = callers.ask(1, read)
    assert begun.wait(PATIENCE)
    callers.left.add(1)
    gone(asking)
    assert body.closed


def test_who_waits_for_anothers_request_leaves_alone(callers: Callers) -> None:
    flights: Flights[str, str] = Flights()
    begun, go_on = threading.Event(), threading.Event()

    def fetch() -> str:
        begun.set()
        assert go_on.wait(PATIENCE)
        return "it"

    def never() -> str:
        raise AssertionError("asked for twice")

    first = callers.ask(1, lambda: flights.get("k", fetch))
    assert begun.wait(PATIENCE)
    second = callers.ask(2, lambda: flights.get("k", never))
    third = callers.ask(3, lambda: flights.get("k", never))
    callers.left.add(2)
    gone(second)
    go_on.set()
    assert first.result(PATIENCE) == third.result(PATIENCE) == "it"


def test_where_who_fetches_leaves_another_fetches_for_the_others(
    callers: Callers, server: StandIn, flow: FlowService
) -> None:
    run = server.routes.add_run()["id"]
    late = Late(server, "GET", f"/runs/{run}")
    flights: Flights[str, dict[str, Any]] = Flights()
    asking = []
    for caller in (1, 2, 3):
        asking.append(callers.ask(caller, lambda: flights.get(run, lambda: flow.runs.get_run(run))))
        late.asked()
    callers.left.add(1)
    gone(asking[0])
    late.asked(2)
    late.go_on.set()
    assert [one.result(PATIENCE)["id"] for one in asking[1:]] == [run, run]


def test_who_waits_for_a_lock_leaves_without_it(callers: Callers) -> None:
    turn = waits.Turn()

    def take() -> str:
        with turn:
            return "mine"

    with turn:
        first, second = callers.ask(1, take), callers.ask(2, take)
        callers.left.add(1)
        gone(first)
    assert second.result(PATIENCE) == "mine"


def test_many_requests_for_one_who_leaves_all_end(
    callers: Callers, server: StandIn, flow: FlowService
) -> None:
    runs = [server.routes.add_run()["id"] for _ in range(4)]
    lates = [Late(server, "GET", f"/runs/{run}") for run in runs]
    asking = callers.ask(1, lambda: map_all(flow.runs.get_run, runs, 4))
    for late in lates:
        late.asked()
    callers.left.add(1)
    gone(asking)  # which waits for its threads, and so for all of them


def test_what_is_done_apart_goes_on_without_who_asked(callers: Callers) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        done.set()

    asking = callers.ask(1, lambda: waits.apart(work))
    assert begun.wait(PATIENCE)
    callers.left.add(1)
    gone(asking)
    go_on.set()
    assert done.wait(PATIENCE)


def test_what_is_done_apart_gives_what_it_returns_or_raises(callers: Callers) -> None:
    def fail() -> None:
        raise FlowError("so")

    assert callers.ask(1, lambda: waits.apart(lambda: "it")).result(PATIENCE) == "it"
    with pytest.raises(FlowError, match="so"):
        callers.ask(1, lambda: waits.apart(fail)).result(PATIENCE)


def test_what_failed_apart_is_told_to_who_is_about_to_leave(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left_too_late(step: Callable[[float], object], seconds: float = 0.0) -> bool:
        assert step(PATIENCE)
        raise Stopped

    def fail() -> None:
        raise FlowError("so")

    monkeypatch.setattr(waits, "wait", left_too_late)
    with pytest.raises(FlowError, match="so"):
        callers.ask(1, lambda: waits.apart(fail)).result(PATIENCE)


def test_a_start_whose_caller_leaves_before_it_is_sent_is_not_unclear(
    callers: Callers, server: StandIn, flow: FlowService, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow.runs.list_runs("group-1")  # there is a connection, which the start takes
    send = WatchedHTTPConnection.send

    def leave_first(connection: Any, data: Any) -> None:
        watch = current_watch()
        assert watch is not None
        callers.left.add(1)
        wait_until(lambda: watch.ended, PATIENCE, "the end of it")
        send(connection, data)

    monkeypatch.setattr(WatchedHTTPConnection, "send", leave_first)
    with pytest.raises(Stopped) as caught:
        callers.ask(1, lambda: flow.runs.start_run("group-1", [])).result(PATIENCE)
    assert not caught.value.unclear
    assert server.count("POST") == 0


def test_a_start_whose_caller_has_left_is_unclear_and_was_sent_once(
    callers: Callers, server: StandIn, flow: FlowService
) -> None:
    late = Late(server, "POST", "/groups/group-1/runs")
    asking = callers.ask(1, lambda: flow.runs.start_run("group-1", []))
    late.asked()
    callers.left.add(1)
    with pytest.raises(UnclearStart, match="look at the group's runs"):
        asking.result(PATIENCE)
    late.go_on.set()
    assert server.count("POST") == 1
    assert not server.requests("GET", "/groups/group-1/runs")


def test_who_works_for_nobody_has_nobody_watched(server: StandIn, flow: FlowService) -> None:
    assert not waits.is_serving()
    with waits.interruptible() as batch:
        assert batch is None


def test_the_thread_that_looks_ends_when_nobody_waits(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "_LOOK", 0.01)

    def threads() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name == "flowfs-callers"]

    turn = waits.Turn()
    with turn:
        asking = callers.ask(1, lambda: turn.__enter__() and turn.__exit__(None, None, None))
        wait_until(threads, 10, "the thread")
    asking.result(PATIENCE)
    wait_until(lambda: not threads(), 10, "its end")
