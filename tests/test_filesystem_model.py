"""Random sequences on a service that fails: what is shown is what is so, and nothing happens twice.

Two file systems, one with a cache on disk, and others that come later and share that; a service
on which other clients start, delete and upload too, whose runs end, which is started anew, and
which goes wrong in most of the ways of `faults`. The model is what the stand-in really has,
and had within the time for which a listing is good.

``scripts/properties`` runs the long form; see `examples`. ``FLOWFS_MODEL_STEPS`` says how many
steps a sequence has, 30 unless set; with ``FLOWFS_MODEL_SHRINK=0`` one that fails is not made
shorter, which takes minutes.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from examples import EXAMPLES, LONG, SEED
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from model_clients import Client
from model_service import SPOILS, TTL, Clock, Service

from flowfs import FlowFileSystem
from flowfs.errors import BadReply

STEPS = int(os.environ.get("FLOWFS_MODEL_STEPS", "30"))
SHRINK = os.environ.get("FLOWFS_MODEL_SHRINK") != "0"
FEW = 8  # sequences that are tried each time

clients = st.integers(0, 3)
numbers = st.integers(0, 9)
names = st.sampled_from(["a", "b.txt", "data.csv"])
pieces = st.binary(min_size=1, max_size=6).map(lambda data: data * 20_000) | st.binary(max_size=9)


class Failing(RuleBasedStateMachine):
    """A group of a service that fails, and clients of it."""

    ttl = TTL
    counts: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.service = Service(self.clock)
        self.directory = tempfile.mkdtemp(prefix="flowfs-model-")
        self.started = 0
        self.known: list[str] = []
        self.clients: list[Client] = []
        for disk in (False, True):
            self._add(disk)
        if self.counts is not None:
            self.counts["sequences"] += 1

    def _add(self, disk: bool) -> None:
        number = len(self.clients)
        fs = FlowFileSystem(
            self.service.server.endpoint,
            self.service.routes.token,
            timeout=300.0 + number,  # another than that of others: nothing is shared
            retries=1,
            ttl=self.ttl,
            max_connections=1,
            cache_dir=self.directory if disk else None,
            skip_instance_cache=True,
        )
        self.clients.append(Client(f"client {number}", self.service, fs, self.ttl))

    def _client(self, number: int) -> Client:
        return self.clients[number % len(self.clients)]

    def _run(self, number: int) -> str:
        """Return one of the runs there ever were; the newest ones more often."""
        for run_id in self.service.look().runs:
            if run_id not in self.known:
                self.known.append(run_id)
        return self.known[-1 - number % len(self.known)] if self.known else "no-such-run"

    def _tag(self) -> str:
        self.started += 1
        return f"greeting {self.started}"

    # -- what clients do ---------------------------------------------------------

    @rule(client=clients)
    def start(self, client: int) -> None:
        self._client(client).start(self._tag())

    @rule(client=clients, run=numbers)
    def cancel(self, client: int, run: int) -> None:
        self._client(client).cancel(self._run(run))

    @rule(client=clients, run=numbers)
    def delete(self, client: int, run: int) -> None:
        self._client(client).delete(self._run(run))

    @rule(client=clients, name=names, data=pieces)
    def upload(self, client: int, name: str, data: bytes) -> None:
        self._client(client).upload(name, data)

    @rule(client=clients, name=names)
    def remove(self, client: int, name: str) -> None:
        self._client(client).remove(name)

    @rule(client=clients, what=st.sampled_from(["runs", "states", "uploads", "find", "table"]))
    def look(self, client: int, what: str) -> None:
        one = self._client(client)
        {
            "runs": one.look_at_runs,
            "states": one.look_at_states,
            "uploads": one.look_at_uploads,
            "find": one.find,
            "table": one.read_table,
        }[what]()

    @rule(client=clients, run=numbers, what=st.sampled_from(["info", "handle", "archive"]))
    def look_at_run(self, client: int, run: int, what: str) -> None:
        one, run_id = self._client(client), self._run(run)
        {"info": one.look_at_run, "handle": one.read_handle, "archive": one.read_archive}[what](
            run_id
        )

    @rule(client=clients, run=numbers, start=st.integers(0, 90_000), size=st.integers(0, 90_000))
    def read(self, client: int, run: int, start: int, size: int) -> None:
        self._client(client).read_results(self._run(run), start, start + size)

    @rule(client=clients, name=names)
    def read_upload(self, client: int, name: str) -> None:
        self._client(client).read_upload(name)

    # -- what happens to them --------------------------------------------------------

    @rule(
        fault=st.sampled_from(sorted(SPOILS)),
        times=st.integers(1, 4),
        methods=st.sampled_from(["", "", "POST PUT DELETE", "GET"]),
    )
    def go_wrong(self, fault: str, times: int, methods: str) -> None:
        self.service.break_(SPOILS[fault], times, methods)

    @rule(run=numbers, state=st.sampled_from(["SUCCESS", "SUCCESS", "ERROR"]))
    def end(self, run: int, state: str) -> None:
        self.service.end(self._run(run), state)

    @rule(what=st.sampled_from(["start", "delete", "upload", "remove"]), run=numbers, name=names)
    def others(self, what: str, run: int, name: str) -> None:
        if what == "start":
            self.service.start(self._tag())
        elif what == "delete":
            self.service.delete(self._run(run))
        elif what == "upload":
            self.service.upload(name, f"of another, {self.started}".encode())
        else:
            there = [i for i, stored in self.service.now.uploads.items() if stored == name]
            for file_id in there[:1]:
                self.service.remove(file_id)

    @rule()
    def start_anew(self) -> None:
        self.service.server.restart()

    @rule(part=st.sampled_from([0.3, 0.6, 1.1]))
    def wait(self, part: float) -> None:
        self.clock.advance(part * TTL)

    @precondition(lambda self: len(self.clients) < 4)
    @rule()
    def another_process(self) -> None:
        for client in self.clients:  # what it has learned is on disk a moment later
            disk = client.fs.entries.content.disk
            if disk is not None:
                disk.flush()
        self._add(True)

    @rule()
    def settle(self) -> None:
        self.service.break_(None)
        self.clock.advance(1.1 * TTL)
        for client in self.clients:
            client.check_all()

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            if self.counts is not None:
                self.counts["operations"] += sum(one.operations for one in self.clients)
                self.counts["spoiled"] += self.service.spoiled
            self.clock.stop()
            for client in self.clients:
                client.fs.catalog.service.session.close()
            self.service.stop()
            shutil.rmtree(self.directory, ignore_errors=True)


class Asking(Failing):
    """The same, with file systems that keep no listing."""

    ttl = 0.0


@pytest.fixture
def counts() -> Iterator[dict[str, int]]:
    found = {"sequences": 0, "operations": 0, "spoiled": 0}
    yield found
    if LONG:
        sys.stderr.write(f"\n{found}, {STEPS} steps each\n")


@pytest.mark.parametrize("machine", [Failing, Asking])
def test_what_is_shown_is_what_the_service_has_and_every_start_is_one_run(
    machine: type[Failing], counts: dict[str, int]
) -> None:
    run_state_machine_as_test(
        seed(SEED if LONG else 1)(type(machine.__name__, (machine,), {"counts": counts})),
        settings=settings(
            max_examples=max(1, EXAMPLES // 10) if LONG else FEW,
            stateful_step_count=STEPS,
            derandomize=False,  # the seed counts
            database=None,
            phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
            report_multiple_bugs=False,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# -- what such sequences have found, or were written to find -------------------


@pytest.fixture
def failing() -> Iterator[Failing]:
    machine = Failing()
    yield machine
    machine.teardown()


def test_a_run_known_from_disk_is_there_no_longer_than_the_listing_that_had_it(
    failing: Failing,
) -> None:
    run_id = failing.service.start("hello")
    failing.service.end(run_id, "SUCCESS")
    first = failing.clients[1]
    first.read_handle(run_id)
    first.fs.catalog._runs._disk.flush()  # type: ignore[union-attr]
    failing._add(True)
    second = failing.clients[2]
    second.look_at_runs()
    failing.service.delete(run_id)
    failing.clock.advance(0.6 * TTL)
    second.read_handle(run_id)
    second.read_handle(run_id)
    failing.clock.advance(0.6 * TTL)
    second.read_handle(run_id)  # a check that it is not shown any more
    second.look_at_run(run_id)


def test_a_change_whose_reply_makes_no_sense_is_unclear(failing: Failing) -> None:
    run_id = failing.service.start("hello")
    fs = failing.clients[0].fs
    for act in (
        lambda: fs.cancel_run(run_id),
        lambda: fs.pipe_file(f"groups/{failing.service.group}/uploads/a", b"new"),
    ):
        failing.service.break_(SPOILS["204 in place of JSON"], 1, "PUT POST")
        with pytest.raises(BadReply) as refused:
            act()
        assert refused.value.unclear
    failing.clients[0].has_changed_runs(run_id)
    failing.clients[0].has_changed_uploads()


def test_a_start_that_was_never_sent_is_not_unclear(failing: Failing) -> None:
    failing.service.break_(SPOILS["reset before it acts"], 20, "GET")
    failing.clients[0].start("hello")
    assert failing.service.server.count("POST") == 0
