"""Where the system allows no more threads: an honest error, or the same with fewer of them."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from standin import StandIn

from flowfs import AccessDenied, FlowError, FlowFileSystem
from flowfs.pool import call_all, map_all
from flowfs.service.deadline import Watch, current_watch
from flowfs.tokens.sources import TokenCommand


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have only so many more threads start."""
    start = threading.Thread.start

    def refuse(left: int) -> None:
        counted = [left]

        def started(thread: threading.Thread) -> None:
            counted[0] -= 1
            if counted[0] < 0:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", started)

    return refuse


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_many_calls_are_made_with_as_many_threads_as_may_be(
    refuse: Callable[[int], None], allowed: int
) -> None:
    refuse(allowed)
    assert map_all(lambda n: n * n, range(20), 8) == [n * n for n in range(20)]


def test_an_interrupt_ends_calls_without_threads(refuse: Callable[[int], None]) -> None:
    refuse(0)
    called = []

    def call(number: int) -> None:
        called.append(number)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_all(call, range(20), 8, lambda number, outcome: None)
    assert called == [0]


def test_nothing_is_asked_for_without_a_deadline_and_it_works_once_there_are_threads(
    monkeypatch: pytest.MonkeyPatch, refuse: Callable[[int], None], server: StandIn
) -> None:
    monkeypatch.setattr("flowfs.service.deadline._keeper", type(_keeper())())
    fs = FlowFileSystem(server.endpoint, server.routes.token, timeout=21.5)
    with monkeypatch.context() as context:
        start = threading.Thread.start

        def refused(thread: threading.Thread) -> None:
            if thread.name.startswith("flowfs"):
                raise RuntimeError("can't start new thread")
            start(thread)  # the server's own

        context.setattr(threading.Thread, "start", refused)
        for _ in range(2):
            with pytest.raises(FlowError, match="no thread can be started") as caught:
                fs.ls("groups")
            assert caught.value.errno == errno.EAGAIN
        with pytest.raises(FlowError, match="no thread can be started"), Watch(1.0, 1.0):
            pass
        assert current_watch() is None
    assert fs.ls("groups", detail=False) == [f"groups/{server.routes.group}"]
    fs.invalidate_cache()


def _keeper() -> object:
    from flowfs.service import deadline

    return deadline._keeper


def test_a_command_that_no_thread_can_wait_for_is_tried_again(
    refuse: Callable[[int], None],
) -> None:
    command = TokenCommand([sys.executable, "-c", "print('token')"])
    refuse(0)
    with pytest.raises(AccessDenied, match="can't start new thread") as caught:
        command.read(30)
    assert caught.value.errno == errno.EAGAIN
    refuse(1)
    assert command.read(30) == "token"


def test_what_a_command_prints_without_end_is_no_token_and_not_kept(tmp_path: Path) -> None:
    endless = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    with pytest.raises(AccessDenied, match="it printed more than 65536 bytes"):
        TokenCommand([sys.executable, "-c", endless]).read()
