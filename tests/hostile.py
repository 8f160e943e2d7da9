"""Tries each fault on each operation, by both ways in, and says what came of it."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from faults import FAULTS, OPERATIONS, RIGHT, Fault
from kernel_view import KernelView
from mounting import mounted
from standin import Asked, Reply, StandIn

from flowfs import FlowFileSystem
from flowfs.errors import UnclearStart
from flowfs.names import to_name
from flowfs.tree import RESERVED_RUN_NAMES

__all__ = ["Arena", "Outcome", "check", "check_all", "mount_arena", "python_arena"]

SHORT = 2.0  # seconds that a call may take, where its time is to run out
LONG = 240.0  # where it is not
FOR_EVER = 300.0  # seconds; what has not ended by then, nothing ends
_STILL_COMING = 10.0  # seconds that a request takes at the most which was answered before it came
RETRIES = 1
_ATTEMPTS = 20  # at a mount whose time is short
SIZE = 200_000  # more than comes along when a size is asked for
PART = (150_000, 500)
DATA = random.Random(7).randbytes(SIZE)
OLD, NEW = b"as it was", b"as it is to be"


@dataclass
class Outcome:
    """What came of one operation.

    Attributes
    ----------
    told : str
        ``"right"``, the name of an errno, or ``"late"``.
    wrong : list of str
        What must never be, whoever asked was told what.
    error : BaseException or None
        As Python raises it.
    seconds : float
        How long it took.
    """

    told: str
    wrong: list[str] = field(default_factory=list)
    error: BaseException | None = None
    seconds: float = 0.0


class Place:
    """A group of its own for one operation, and what is in it."""

    def __init__(self, server: StandIn, operation: str) -> None:
        routes = server.routes
        self.server = server
        self.operation = operation
        with server.lock:  # others may be looking through what there is
            self.group_id = routes.add_group()
            self.run_id, self.file_id = routes.add_file(DATA, groupId=self.group_id)
            self.active = routes.add_run("RUNNING", groupId=self.group_id)["id"]
            self.names = routes.add_upload(b"Ada\n", "names.txt", self.group_id)["id"]
            self.old = routes.add_upload(OLD, "data.txt", self.group_id)["id"]
        self.group = f"groups/{self.group_id}"
        self.run = f"{self.group}/runs/{self.run_id}"
        self.result = f"{self.run}/results/{self.file_id}"
        self.request = self._request()
        self.asked: list[Asked] = []
        self.said: list[int] = []  # statuses
        self.listed = [self.run_id, self.active]

    def _request(self) -> tuple[str, str]:
        run = f"/runs/{self.run_id}"
        return {
            "list": ("GET", f"/{self.group}(/runs)?"),
            "info": ("GET", run),
            "read": ("GET", f"{run}/downloads/files/{self.file_id}"),
            "ranged read": ("GET", f"{run}/downloads/files/{self.file_id}"),
            "archive": ("GET", f"{run}/downloads/archive"),
            "start": ("POST", f"/{self.group}/runs"),
            "cancel": ("PUT", f"/runs/{self.active}"),
            "delete": ("DELETE", run),
            "upload": ("POST", f"/uploads/{self.group_id}/files"),
        }[self.operation]

    def spoil(self, fault: Fault) -> None:
        """Have the request go wrong that the operation is about."""
        method, pattern = self.request
        if fault.json and "downloads" in pattern:
            pattern = f"/runs/{self.run_id}"  # the answer in JSON that reading needs
        left = [fault.times]
        if fault.more is not None:
            self.listed.append(to_name(fault.more, RESERVED_RUN_NAMES))

        def answer(asked: Asked) -> Reply | None:
            self.asked.append(asked)
            if left[0] is not None:
                if not left[0]:
                    return None
                left[0] -= 1
            reply = fault.spoil(self.server, asked)
            self.said.append(reply.status if reply else 200)
            return reply

        self.server.on(method, pattern, answer)

    def met(self) -> bool:
        """Tell whether the request has come to the server, or comes within some seconds.

        What an earlier reply was too long by may still be on its way, and then be taken for the
        answer to this request before the server has read it.
        """
        ends = time.monotonic() + _STILL_COMING
        while not self.asked and time.monotonic() < ends:
            time.sleep(0.01)
        return bool(self.asked)

    # -- what is so -----------------------------------------------------------

    def started(self) -> list[str]:
        """Return the runs that were started here."""
        known = {self.run_id, self.active}
        with self.server.lock:
            return [
                run
                for run, handle in self.server.routes.runs.items()
                if handle["groupId"] == self.group_id and run not in known
            ]

    def uploads(self, name: str) -> list[bytes]:
        """Return what is stored under a name."""
        routes = self.server.routes
        with self.server.lock:
            return [
                routes.files[one["id"]]
                for one in routes.uploads
                if one["name"] == name and routes.owners.get(one["id"]) == self.group_id
            ]

    def faults_of(self, value: Any) -> list[str]:
        """Say what is wrong with what is said to have succeeded."""
        routes = self.server.routes
        wrong = {
            "list": lambda: sorted(value) != sorted([*self.listed, "new"]),
            "info": lambda: value != SIZE,
            "read": lambda: value != DATA,
            "ranged read": lambda: value != DATA[PART[0] : sum(PART)],
            "archive": lambda: _member(value) != DATA,
            "start": lambda: len(self.started()) != 1,
            "cancel": lambda: routes.runs[self.active]["state"] != "CANCELED",
            # A run that the service says is not there is deleted.
            "delete": lambda: self.run_id in routes.runs and 404 not in self.said,
            "upload": lambda: self.uploads("data.txt") != [NEW],
        }[self.operation]()
        return [f"{self.operation} is said to have succeeded: {str(value)[:500]}"] if wrong else []

    def never(self) -> list[str]:
        """Say what is so that must never be."""
        said = []
        if len([one for one in self.asked if one.method == "POST"]) > 1:
            said.append(f"sent {len(self.asked)} times")
        if self.operation == "upload":
            stored = self.uploads("data.txt")
            if not stored or not set(stored) <= {OLD, NEW}:
                said.append(f"the upload is {stored}")
        return said


def _member(archive: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        (member,) = opened.getmembers()
        extracted = opened.extractfile(member)
        assert extracted is not None
        return extracted.read()


# -- the two ways in ------------------------------------------------------------


class Python:
    """By fsspec."""

    name = "fsspec"

    def __init__(self, server: StandIn, timeout: float) -> None:
        self.fs = FlowFileSystem(
            server.endpoint,
            server.routes.token,
            timeout=timeout,
            retries=RETRIES,
            max_connections=200,
            skip_instance_cache=True,
        )

    def act(self, place: Place) -> Any:
        """Do what a place is for, and return what comes of it."""
        fs, group = self.fs, place.group
        acts: dict[str, Callable[[], Any]] = {
            "list": lambda: [one.rpartition("/")[2] for one in fs.ls(f"{group}/runs", False)],
            "info": lambda: fs.info(place.result)["size"],
            "read": lambda: fs.cat_file(place.result),
            "ranged read": lambda: fs.cat_file(place.result, PART[0], sum(PART)),
            "archive": lambda: fs.cat_file(f"{place.run}/archive.tar.gz"),
            "start": lambda: fs.pipe_file(f"{group}/runs/new", b'{"names": "names.txt"}'),
            "cancel": lambda: fs.pipe_file(f"{group}/runs/{place.active}/cancel", b"enough\n"),
            "delete": lambda: fs.rm(place.run, recursive=True),
            "upload": lambda: fs.pipe_file(f"{group}/uploads/data.txt", NEW),
        }
        return acts[place.operation]()


class Mount:
    """By the kernel."""

    name = "mount"

    def __init__(self, directory: Path, view: KernelView) -> None:
        self.directory = directory
        self.view = view

    def act(self, place: Place) -> Any:
        """Do what a place is for, and return what comes of it."""
        group = place.group
        act, path, data = {
            "list": ("list", f"{group}/runs", b""),
            "info": ("size", place.result, b""),
            "read": ("read", place.result, b""),
            "ranged read": ("read part", place.result, json.dumps(PART).encode()),
            "archive": ("read", f"{place.run}/archive.tar.gz", b""),
            "start": ("write", f"{group}/runs/new", b'{"names": "names.txt"}'),
            "cancel": ("write", f"{group}/runs/{place.active}/cancel", b"enough\n"),
            "delete": ("remove", place.run, b""),
            "upload": ("write", f"{group}/uploads/data.txt", NEW),
        }[place.operation]
        return self.view.ask(act, os.fspath(self.directory / path), data, FOR_EVER)

    def refusal(self, place: Place) -> str:
        """Return what is said of the last start that was refused."""
        path = self.directory / place.group / "runs" / "new.error"
        try:
            told: bytes = self.view.ask("read", os.fspath(path), timeout=FOR_EVER)
        except FileNotFoundError:
            return ""
        return told.decode()


class Arena:
    """A stand-in, and one way in with little time and with much; keeps what came of each cell.

    Parameters
    ----------
    server : StandIn
        What does wrong. Its attribute ``other`` is one of another origin.
    ways : mapping of float to Python or Mount
        By the seconds that a call may take.
    """

    def __init__(self, server: StandIn, ways: dict[float, Any]) -> None:
        self.server = server
        self.ways = ways
        self.way = ways[SHORT].name
        self._outcomes: dict[tuple[str, str], Outcome] = {}

    def outcome(self, fault: Fault, operation: str) -> Outcome:
        """Return what came of a cell; it is tried with others that take as long."""
        if (fault.name, operation) not in self._outcomes:
            # What waits costs nothing: all of that at once.
            slow = self._slow(fault, operation)
            cells = [
                (one, other)
                for one in FAULTS
                for other in OPERATIONS
                if (one is fault or slow) and self._slow(one, other) == slow
            ]
            for together in [[cell] for cell in cells] if fault.alone else [cells]:
                self._try(together)
        return self._outcomes[fault.name, operation]

    def _slow(self, fault: Fault, operation: str) -> bool:
        return fault.waits and fault.expected(operation, self.way) == "ETIMEDOUT"

    def _try(self, cells: list[tuple[Fault, str]]) -> None:
        threads = [threading.Thread(target=self._cell, args=cell, daemon=True) for cell in cells]
        for thread in threads:
            thread.start()
        ends = time.monotonic() + FOR_EVER
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))
        for fault, operation in cells:
            self._outcomes.setdefault((fault.name, operation), Outcome("late"))

    def _cell(self, fault: Fault, operation: str) -> None:
        place = Place(self.server, operation)
        place.spoil(fault)
        way = self.ways[SHORT if self._slow(fault, operation) else LONG]
        begun = time.monotonic()
        try:
            value = way.act(place)
            outcome = Outcome(RIGHT)
            outcome.wrong += place.faults_of(value)
        except OSError as error:
            told = "late" if error.errno is None else errno.errorcode[error.errno]
            outcome = Outcome(told, error=error)
        except BaseException as error:
            outcome = Outcome(f"{type(error).__name__}: {error}", error=error)
        outcome.seconds = time.monotonic() - begun
        outcome.wrong += place.never()
        if (way is self.ways[LONG] or outcome.told == RIGHT) and not place.met():
            outcome.wrong.append("the fault was never met")
        outcome.wrong += self._dishonest(place, outcome, patient=way is self.ways[LONG])
        self._outcomes[fault.name, operation] = outcome

    def _dishonest(self, place: Place, outcome: Outcome, *, patient: bool) -> list[str]:
        """Say what an error should have told and did not.

        Which run has started is found out with more requests. Where time is up, it may be
        for them too.
        """
        started = place.started()
        if place.operation != "start" or outcome.error is None or not started:
            return []
        if self.way == "fsspec":
            if not isinstance(outcome.error, UnclearStart):
                return [f"a run has started, and the error does not say so: {outcome.error}"]
            if list(outcome.error.run_ids) != started and (patient or outcome.error.run_ids):
                return [f"the error names {outcome.error.run_ids}, and not {started}"]
        elif patient:
            told = self.ways[LONG].refusal(place)
            if "a run may have started" not in told or started[0] not in told:
                return [f"new.error says {told!r}, and {started} has started"]
        return []


def check(arena: Arena, fault: Fault, operation: str) -> None:
    """Try a cell; nothing else may come of it than what is expected."""
    outcome = arena.outcome(fault, operation)
    assert outcome.wrong == [], f"{outcome.wrong}, after {outcome.error!r}"
    assert outcome.told == fault.expected(operation, arena.way), repr(outcome.error)


def check_all(arena: Arena) -> None:
    """See that who comes after all faults finds everything right, and where the token went."""
    for operation in OPERATIONS:
        place = Place(arena.server, operation)
        assert place.faults_of(arena.ways[LONG].act(place)) == []
    assert leaks(arena.server, arena.server.other) == []  # type: ignore[attr-defined]


def leaks(*servers: StandIn) -> list[str]:
    """Return the requests that took the token to another address than the first server's."""
    own = servers[0].origin.partition("://")[2]
    return [
        f"{asked.method} {asked.path} at {asked.headers.get('Host')}"
        for server in servers
        for asked in server.requests()
        if asked.headers.get("api_key") and asked.headers.get("Host") != own
    ]


@contextlib.contextmanager
def _servers() -> Iterator[StandIn]:
    with StandIn() as server, StandIn() as other:
        other.routes = server.routes
        server.other = other  # type: ignore[attr-defined]
        yield server


@contextlib.contextmanager
def python_arena() -> Iterator[Arena]:
    with _servers() as server:
        yield Arena(server, {seconds: Python(server, seconds) for seconds in (SHORT, LONG)})


def _mount(stack: contextlib.ExitStack, service: Any, **options: Any) -> Path:
    """Mount it, and once more where a slow machine lets little time run out for the mount too."""
    options |= {"retries": RETRIES, "max_connections": 200}
    for _ in range(_ATTEMPTS):
        try:
            return stack.enter_context(mounted(service, **options))
        except AssertionError as error:
            refused = error
    raise refused


@contextlib.contextmanager
def mount_arena(log: Path, **options: Any) -> Iterator[Arena]:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_servers())
        service = SimpleNamespace(endpoint=server.endpoint, token=server.routes.token)
        directories = {
            seconds: _mount(stack, service, log=log, timeout=seconds, **options)
            for seconds in (SHORT, LONG)
        }
        view = stack.enter_context(KernelView())
        stack.callback(server.let_go)
        yield Arena(server, {s: Mount(directory, view) for s, directory in directories.items()})
