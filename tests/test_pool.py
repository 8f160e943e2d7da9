"""Many calls at once, bounded, each with its own outcome."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import pytest

from flowfs.pool import map_all, result_of, results_of


@pytest.mark.parametrize("workers", [0, 1, 3, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_outcomes_are_in_the_order_of_the_items(count: int, workers: int) -> None:
    assert map_all(lambda x: x * x, iter(range(count)), workers) == [x * x for x in range(count)]


def test_what_one_call_raises_stands_in_its_place_and_stops_no_other() -> None:
    outcomes = map_all(lambda x: 6 // x, [3, 0, 2, 0], 2)
    assert [type(outcome) for outcome in outcomes] == [
        int,
        ZeroDivisionError,
        int,
        ZeroDivisionError,
    ]
    assert result_of(outcomes[0]) == 2
    with pytest.raises(ZeroDivisionError) as caught:
        results_of(outcomes)
    assert caught.value is outcomes[1]
    assert results_of(outcomes[:1]) == [2]


def test_as_many_as_allowed_are_under_way_and_no_more() -> None:
    together = threading.Barrier(4)
    lock, now, most = threading.Lock(), 0, 0

    def call(item: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait(60)  # breaks unless four are here
        with lock:
            now -= 1

    assert map_all(call, range(16), 4) == [None] * 16
    assert most == 4


def test_one_item_needs_no_thread() -> None:
    assert map_all(lambda _: threading.current_thread(), [1], 8) == [threading.current_thread()]


def test_what_holds_for_the_caller_holds_in_the_threads() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="not set")
    token = variable.set("set")
    try:
        assert map_all(lambda _: variable.get(), range(8), 4) == ["set"] * 8
    finally:
        variable.reset(token)


def test_calls_may_call_for_more() -> None:
    def outer(item: int) -> int:
        return sum(results_of(map_all(lambda x: x + item, range(4), 2)))

    assert map_all(outer, range(8), 2) == [6 + 4 * item for item in range(8)]


def test_an_interrupt_while_a_thread_begins_waits_for_its_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began, never = threading.Event(), threading.Event()
    over: list[int] = []
    start, here = threading.Thread.start, threading.get_ident()

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if threading.get_ident() == here:  # timers of other tests may begin threads, too
            assert began.wait(60)
            raise KeyboardInterrupt

    def call(item: int) -> None:
        began.set()
        never.wait(0.2)
        over.append(item)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        map_all(call, range(5), 2)
    assert over == [0]
