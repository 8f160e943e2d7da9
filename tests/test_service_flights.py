"""What is asked for once, however many want it; and how long that may take them."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from standin import Reply, StandIn

from flowfs.errors import BadReply, DeadlineExceeded, FlowError, ServiceBusy, failure
from flowfs.service import Credentials, Session, asking, flights
from flowfs.service.flights import Flights

LONG = 60.0  # seconds; nothing here takes so long unless it hangs


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Fails:
    """Something that is asked for, by one who waits until it is told to go on, in vain."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.go_on.wait(LONG)
        raise self.error


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once somebody waits for what another asks for."""
    joined = threading.Event()

    class Noted(flights._Flight[str]):
        def exception(self, timeout: float | None = None) -> BaseException | None:
            joined.set()
            return super().exception(timeout)

    monkeypatch.setattr(flights, "_Flight", Noted)
    return joined


def on_the_way(under_way: Flights[str, str], fails: Fails) -> str:
    """Ask for what is needed for something that nobody needs."""
    with asking.ahead():
        return under_way.get("key", fails)


@pytest.mark.parametrize("begin", [lambda one, fails: one.ahead("key", fails), on_the_way])
def test_what_failed_ahead_is_asked_for_anew_and_the_time_waited_counts(
    monkeypatch: pytest.MonkeyPatch,
    joined: threading.Event,
    begin: Callable[[Flights[str, str], Fails], object],
) -> None:
    clock, under_way = Clock(), Flights[str, str]()
    monkeypatch.setattr(flights, "time", clock)
    fails = Fails(failure(BadReply, "no", "there"))
    with ThreadPoolExecutor(2) as pool:
        ahead = pool.submit(begin, under_way, fails)
        assert fails.begun.wait(LONG)
        waits = pool.submit(under_way.get, "key", lambda: f"after {asking.waited()}")
        assert joined.wait(LONG)
        clock.now += 7
        fails.go_on.set()
        assert isinstance(ahead.exception(), BadReply)
        assert waits.result() == "after 7.0"
    assert "key" not in under_way
    assert asking.waited() == 0.0


def test_an_interrupt_is_for_all_who_wait(joined: threading.Event) -> None:
    under_way = Flights[str, str]()
    fails = Fails(failure(FlowError, "interrupted", "there", errno=errno.ECANCELED))
    with ThreadPoolExecutor(2) as pool:
        pool.submit(under_way.ahead, "key", fails)
        assert fails.begun.wait(LONG)
        waits = pool.submit(under_way.get, "key", lambda: "anew")
        assert joined.wait(LONG)
        fails.go_on.set()
        error = waits.exception()
        assert isinstance(error, FlowError)
        assert error.errno == errno.ECANCELED


def test_what_somebody_asks_for_already_is_not_asked_for_ahead() -> None:
    under_way = Flights[str, str]()
    fails = Fails(failure(BadReply, "no", "there"))
    with ThreadPoolExecutor(1) as pool:
        asks = pool.submit(under_way.get, "key", fails)
        assert fails.begun.wait(LONG)
        under_way.ahead("key", lambda: pytest.fail("it is being asked for"))
        fails.go_on.set()
        assert isinstance(asks.exception(), BadReply)


def test_what_has_come_meanwhile_is_not_asked_for_ahead() -> None:
    under_way = Flights[str, str]()
    under_way.ahead("key", lambda: pytest.fail("it is known"), lambda: "known")
    assert "key" not in under_way
    asked: list[str] = []
    under_way.ahead("key", lambda: asked.append("once") or "new", lambda: None)  # type: ignore[func-returns-value]
    assert asked == ["once"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_after_a_fork_nobody_waits_for_what_was_under_way_in_the_other_process() -> None:
    under_way = Flights[str, str]()
    fails = Fails(failure(BadReply, "no", "there"))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(under_way.get, "key", fails)
        assert fails.begun.wait(LONG)
        child = os.fork()
        if not child:
            signal.alarm(10)  # rather than for ever
            os._exit(under_way.get("key", lambda: "own") != "own")
        assert os.waitpid(child, 0)[1] == 0
        fails.go_on.set()


class TestAsking:
    @pytest.fixture
    def server(self) -> Iterator[StandIn]:
        with StandIn() as server:
            yield server

    @pytest.fixture
    def session(self, server: StandIn) -> Iterator[Session]:
        session = Session(server.endpoint, Credentials(server.routes.token), timeout=10)
        yield session
        session.close()

    def test_who_has_waited_has_so_much_less_time(self, server: StandIn, session: Session) -> None:
        url = f"{server.endpoint}/workflows"
        with asking.waiting(4), asking.waiting(7), pytest.raises(DeadlineExceeded):
            session.json("GET", url, what="look")
        assert not server.asked
        with asking.waiting(4):
            session.json("GET", url, what="look")

    def test_what_nobody_waits_for_is_sent_once_and_its_failure_recorded_nowhere(
        self, server: StandIn, session: Session
    ) -> None:
        server.on("GET", "/workflows", Reply(503))
        with asking.ahead(), pytest.raises(ServiceBusy):
            session.json("GET", f"{server.endpoint}/workflows", what="look")
        assert server.count() == 1
        assert not session.journal.text()


def test_who_is_interrupted_while_looking_what_is_known_holds_up_nobody() -> None:
    under_way, looks = Flights[str, str](), iter([None, KeyboardInterrupt()])

    def known() -> str | None:
        interrupt = next(looks, None)
        if interrupt is not None:
            raise interrupt
        return None

    with pytest.raises(KeyboardInterrupt):
        under_way.get("key", lambda: "never asked for", known)
    assert "key" not in under_way
    assert under_way.get("key", lambda: "asked for", known) == "asked for"
