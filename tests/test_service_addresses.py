"""Addresses of hosts: a system that does not answer holds nobody up."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from standin import StandIn
from support import wait_until

from flowfs.errors import ConnectionFailed, DeadlineExceeded, FlowError
from flowfs.service import FlowService, Session
from flowfs.service import addresses as module

NAME = "flow.invalid"
FOR_EVER = 60.0  # seconds; what is not ended within it was not ended by a deadline


class NameService:
    """What the system knows of names, and when it says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answering = threading.Event()
        self._real = socket.getaddrinfo

    def __call__(self, host: str, *args: Any) -> Any:
        if host == "127.0.0.1":
            return self._real(host, *args)
        self.asked.append(host)
        self.answering.wait(FOR_EVER)
        return self._real("127.0.0.1", *args)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameService]:
    names = NameService()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    monkeypatch.setenv("no_proxy", f"127.0.0.1,{NAME}")
    monkeypatch.setenv("NO_PROXY", f"127.0.0.1,{NAME}")
    yield names
    names.answering.set()
    # What is still asked is nothing for the next test.
    wait_until(lambda: not module._resolver._asking, 20, "the end of the questions")


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


def flow_of(server: StandIn, timeout: float) -> FlowService:
    return FlowService(Session(server.endpoint.replace("127.0.0.1", NAME), timeout=timeout))


def test_a_name_service_that_hangs_is_waited_for_until_the_deadline(
    names: NameService, server: StandIn
) -> None:
    with pytest.raises(DeadlineExceeded, match="address of the host in time") as caught:
        flow_of(server, 0.2).workflows.list_workflows()
    assert caught.value.errno == errno.ETIMEDOUT
    assert server.count() == 0


def test_a_start_whose_host_was_never_found_is_certainly_none(
    names: NameService, server: StandIn
) -> None:
    session = Session(server.endpoint.replace("127.0.0.1", NAME), timeout=0.2)
    with pytest.raises(DeadlineExceeded) as caught:
        session.json("POST", session.endpoint + "/groups/g/runs", what="start a run", body={})
    assert not caught.value.unclear


def test_who_wants_the_same_name_asks_once_and_all_get_it(
    names: NameService, server: StandIn
) -> None:
    flow = flow_of(server, FOR_EVER)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(flow.session.json, "GET", flow.session.endpoint + "/workflows",
                             what="list workflows") for _ in range(8)]  # fmt: skip
        wait_until(
            lambda: [len(one.waiting) for one in module._resolver._asking.values()] == [8],
            20,
            "all to wait",
        )
        assert names.asked == [NAME]
        names.answering.set()
        assert all(call.result(FOR_EVER)["workflows"] for call in calls)


def test_who_waits_for_a_name_can_be_interrupted(names: NameService, server: StandIn) -> None:
    flow = flow_of(server, FOR_EVER)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lambda: flow.workflows.list_workflows())
        wait_until(lambda: names.asked, 20, "the question")
        flow.session.interrupt()
        with pytest.raises(FlowError, match="interrupted") as caught:
            call.result(FOR_EVER)
    assert caught.value.errno == errno.ECANCELED
    assert not caught.value.unclear


def test_threads_that_hang_are_not_made_without_end(
    names: NameService, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    for number in range(4):
        with pytest.raises(DeadlineExceeded):
            Session(f"http://h{number}.{NAME}/api", timeout=0.1).json(
                "GET", f"http://h{number}.{NAME}/api/", what="look"
            )
    wait_until(lambda: len(names.asked) >= 2, 20, "the questions that are asked at once")
    assert len(names.asked) == 2


def test_who_finds_no_thread_free_waits_for_one(
    names: NameService, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 1)
    with ThreadPoolExecutor(3) as pool:
        calls = []
        for number in range(3):
            endpoint = server.endpoint.replace("127.0.0.1", f"h{number}.{NAME}")
            session = Session(endpoint, timeout=FOR_EVER)
            calls.append(pool.submit(session.json, "GET", f"{endpoint}/", what="look"))
        wait_until(lambda: len(module._resolver._queue) == 2, 20, "two to wait for the third")
        names.answering.set()
        assert all(call.result(FOR_EVER)["name"] for call in calls)
    assert len(names.asked) == 3


def test_names_that_are_no_names_are_unknown_hosts(server: StandIn) -> None:
    long = "a" * 70  # more than the 63 that a label may have
    with pytest.raises(FlowError) as caught:
        Session(f"http://{long}.invalid/api", timeout=20).json(
            "GET", f"http://{long}.invalid/api/", what="look"
        )
    assert isinstance(caught.value, (ConnectionFailed, ValueError))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_waits_for_no_thread_of_its_parent(names: NameService, server: StandIn) -> None:
    flow = flow_of(server, 0.2)
    with pytest.raises(DeadlineExceeded):
        flow.workflows.list_workflows()
    child = os.fork()
    if not child:
        code = 1
        try:
            # Not the event: its lock may have been held when this process was made.
            socket.getaddrinfo = lambda host, *args: names._real("127.0.0.1", *args)
            code = 0 if flow_of(server, FOR_EVER).workflows.list_workflows() else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
