"""Random sequences of file operations: the mount and a reference must do the same.

In ``uploads/`` the reference is a plain directory on disk, where the very same calls are made;
for the rest of a group it is :class:`reference.Group`, written by the tree's description. After
each sequence the service is asked, without flowfs, what it has.

Environment variables:

``FLOWFS_MODEL_SEQUENCES``
    How many sequences at least for each FUSE binding and machine; 4 unless set.
``FLOWFS_MODEL_STEPS``
    Steps in each; 30 unless set.
``FLOWFS_MODEL_SEED``
    A whole number. The one that was used is printed; the same one makes the same sequences.
``FLOWFS_MODEL_BINDINGS``
    Which bindings, as ``mfusepy-fuse3,fusepy-fuse``; all unless set.
``FLOWFS_MODEL_SHRINK``
    Seconds for making a sequence that fails shorter; 60 unless set. With 0 it stays as it is.

``scripts/differential`` runs the long form. A failure prints the shortest sequence that fails.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import sys
import tarfile
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    multiple,
    rule,
    run_state_machine_as_test,
)
from mounting import mounted
from reference import (
    GREETING,
    STATES,
    CancelFile,
    Files,
    Group,
    NewFile,
    Outcome,
    Refused,
    Run,
    Worker,
)
from support import Rest, wait_until

from flowfs import FlowFileSystem
from flowfs.embedded import EmbeddedService, sample
from flowfs.fuse.attributes import Attributes
from flowfs.fuse.operations import Operations
from flowfs.tree import Node

SEQUENCES = int(os.environ.get("FLOWFS_MODEL_SEQUENCES", "4"))
STEPS = int(os.environ.get("FLOWFS_MODEL_STEPS", "30"))
SHRINK = int(os.environ.get("FLOWFS_MODEL_SHRINK", "60"))
BINDINGS = [("fusepy", "fuse"), ("mfusepy", "fuse"), ("mfusepy", "fuse3")]

pytestmark = [
    pytest.mark.mount,
    pytest.mark.service,
    # A failure is made shorter by trying again and again, which takes its time.
    pytest.mark.timeout(600 + 10 * SEQUENCES),
]

TTL = 0.5  # seconds for which the mount believes a listing; one's own changes are seen at once
MARKS_LAST = 10.0  # seconds after the last unlink; then what was unlinked of a run is back
MAX_RUNS = 4  # in one sequence: each is a process
LONG = 600  # seconds
SLEEPTIMES = (0, LONG)  # of the runs that are there

# -- what is tried ---------------------------------------------------------

#: Names that the service stores as they are.
NAMES = ("a", "b.txt", "data.csv")
#: Names that the service stores as others. What was asked for goes on being found under the name
#: asked for, by this client; once it is sent, only the stored name is listed.
STORED_AS = {".hidden": "hidden", "sp ace.txt": "sp_ace.txt", "backup~": "backup"}
#: What is already there, and what arguments name: no sequence changes it.
GIVEN = "names.txt"

names = st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES + tuple(STORED_AS)))
sizes = st.sampled_from((0, 1, 3, 17, 4095, 4096, 5000, 140_000))
offsets = st.sampled_from((0, 1, 2, 5, 17, 4095, 4096, 10_000, 131_072))
pieces = st.builds(
    lambda first, size: bytes((first + n) % 251 for n in range(size)), st.integers(1, 9), sizes
)
_NEW = os.O_RDWR | os.O_CREAT
flags = st.one_of(
    st.sampled_from(
        (
            _NEW,
            _NEW | os.O_TRUNC,
            _NEW | os.O_APPEND,
            os.O_RDONLY,
            os.O_RDWR,
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
            os.O_WRONLY | os.O_CREAT | os.O_APPEND,
        )
    ),
    st.builds(
        lambda mode, more: mode | sum(more),
        st.sampled_from((os.O_RDONLY, os.O_WRONLY, os.O_RDWR)),
        st.sets(st.sampled_from((os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND))),
    ),
)


def _operations(*options: tuple[Any, ...]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return operations, each with one of the arguments that it may have."""
    return st.one_of(
        *(
            st.tuples(
                st.just(name),
                *(a if isinstance(a, st.SearchStrategy) else st.just(a) for a in arguments),
            )
            for name, *arguments in options
        )
    )


on_descriptors = _operations(
    ("read", sizes),
    ("pread", sizes, offsets),
    ("write", pieces),
    ("write", pieces),
    ("pwrite", pieces, offsets),
    ("pwrite", pieces, offsets),
    (
        "lseek",
        st.one_of(offsets, st.just(-1)),
        st.sampled_from((os.SEEK_SET, os.SEEK_CUR, os.SEEK_END)),
    ),
    ("ftruncate", offsets),
    ("fsync",),
    ("fstat",),
)
on_names = _operations(
    ("get",),
    ("get",),
    ("stat",),
    ("access", st.sampled_from((os.F_OK, os.R_OK, os.W_OK, os.X_OK))),
    ("chmod", 0o600),
    ("utime",),
    ("rmdir",),
    ("truncate", offsets),
    ("unlink",),
    ("rename", names),
    ("rename", names),
)

PLACES = (
    "",
    "group.json",
    "arguments.template.json",
    "runs.jsonl",
    "nothing",
    "group.json/nothing",
    "latest",
    "latest/handle.json",
    "runs",
    "runs/new",
    "runs/new.error",
    "runs/nothing",
    "runs/nothing/handle.json",
    "runs/{run}",
    "runs/{run}/handle.json",
    "runs/{run}/arguments.json",
    "runs/{run}/archive.tar.gz",
    "runs/{run}/cancel",
    "runs/{run}/nothing",
    "runs/{run}/results",
    "runs/{run}/results/{result}",
    "runs/{run}/results/nothing",
    "runs/{run}/outputs",
    "runs/{run}/outputs/results",
    "runs/{run}/outputs/results/greetings.txt",
    "runs/{run}/outputs/results/nothing",
    "states",
    "states/{state}",
    "states/{state}/{run}",
    "states/NONE",
    "uploads",
)
FILES_OF_A_RUN = (
    "handle.json",
    "arguments.json",
    "archive.tar.gz",
    "results/{result}",
    f"outputs/{GREETING}",
)


@dataclass(frozen=True)
class Place:
    """A path whose run is told by a number: ids differ each time."""

    pattern: str
    run: int = 0
    state: str = "SUCCESS"


places = st.builds(Place, st.sampled_from(PLACES), st.integers(0, 3), st.sampled_from(STATES))
runs = st.integers(0, 3)


reasons = st.sampled_from((b"enough", b" ", b"\n", b"too long\n", b"two\nlines\n"))
looks = st.sampled_from(("stat", "listdir", "readlink", "get", "get", "getxattr"))


def _document(form: int, arguments: dict[str, Any], indent: int | None) -> bytes:
    listed = [{"name": name, "value": value} for name, value in arguments.items()]
    document: Any = (arguments, listed, {"arguments": listed})[form]
    return json.dumps(document, ensure_ascii=False, indent=indent).encode()


good_documents = st.builds(
    _document,
    st.integers(0, 2),
    st.fixed_dictionaries(
        {"names": st.just(GIVEN), "sleeptime": st.sampled_from((0, LONG))},
        optional={"greeting": st.sampled_from(("Hi", "Grüß Gott"))},
    ),
    st.sampled_from((None, 1)),
)
bad_documents = st.sampled_from(
    (
        b"{}",
        b"names.txt",
        b'{"names": "names.txt", "nope": 1}',
        b'{"names": "names.txt", "sleeptime": "soon"}',
        b'{"names": "names.txt"} {"names": "names.txt"}',
        b'{"names": ',
        b'[{"name": "nam',
    )
)
documents = st.builds(
    lambda lead, document, tail: lead + document + tail,
    st.sampled_from((b"", b"\n ")),
    st.one_of(good_documents, good_documents, bad_documents),
    st.sampled_from((b"", b"\n", b"\n\n", b"\nmore")),
)


def is_good(document: Any) -> bool:
    """Tell whether the service takes these arguments."""
    arguments = arguments_of(document)
    return (
        arguments.get("names") == GIVEN
        and isinstance(arguments.get("sleeptime", 0), int)
        and set(arguments) <= {"names", "sleeptime", "greeting"}
    )


def arguments_of(document: Any) -> dict[str, Any]:
    """Return a document's arguments by name, whichever form they have."""
    if isinstance(document, dict) and isinstance(document.get("arguments"), list):
        document = document["arguments"]
    if isinstance(document, list):
        return {one["name"]: one["value"] for one in document}
    return dict(document)


def listed(names: list[str]) -> list[str]:
    """Return names as a listing has them once all are sent."""
    return sorted(STORED_AS.get(name, name) for name in names)


# -- the world ------------------------------------------------------------


@dataclass
class Prepared:
    """A group: its uploads, the id of the one that arguments name, a run and one that goes on."""

    id: str
    uploads: dict[str, bytes]
    given: str
    runs: tuple[str, ...]


class World:
    """A mount, the service behind it, and groups to try things in.

    Parameters
    ----------
    service : EmbeddedService
        The service.
    mount : Path
        Where it is mounted.
    binding : str
        By what.
    """

    def __init__(self, service: EmbeddedService, mount: Path, binding: str) -> None:
        self.service = service
        self.binding = binding
        self.rest = Rest(service)
        self.worker = Worker(mount)
        self.sequences = self.steps = self.operations = 0
        self._ready: dict[bool, deque[Prepared]] = {False: deque(), True: deque()}

    def group(self, with_run: bool) -> Prepared:
        """Return a group that nobody has looked at."""
        # The runs of the next one go on while this one is used.
        ready = self._ready[with_run]
        while len(ready) < 1 + with_run:
            ready.append(self._prepare(with_run))
        return ready.popleft()

    def _prepare(self, with_run: bool) -> Prepared:
        workflow = self.service.workflows["hello"]
        name = uuid.uuid4().hex
        reply = self.rest.request("POST", f"workflows/{workflow}/groups", json={"name": name})
        group = str(reply.json()["id"])
        uploads = {GIVEN: sample("hello").read_bytes(), NAMES[0]: b"what was there before"}
        ids = {}
        for name, data in uploads.items():
            sent = self.rest.request("POST", f"uploads/{group}/files", files={"file": (name, data)})
            ids[name] = str(sent.json()["id"])
        names = {"names": {"fileId": ids[GIVEN]}}
        runs = tuple(
            self.rest.start(group, {**names, "sleeptime": seconds})
            for seconds in SLEEPTIMES
            if with_run
        )
        return Prepared(group, uploads, ids[GIVEN], runs)

    def runs(self, group: str) -> list[str]:
        """Return the ids of the runs that the service has."""
        return [run["id"] for run in self.rest.get(f"groups/{group}/runs")["runs"]]

    def uploads(self, group: str) -> list[tuple[str, bytes]]:
        """Return names and bytes of the uploads that the service has."""
        listed = self.rest.get(f"uploads/{group}/files")["files"]
        found = []
        for file in listed:
            reply = self.rest.request("GET", f"uploads/{group}/files/{file['id']}")
            if not reply.ok:  # replaced in between
                return []
            found.append((file["name"], reply.content))
        return sorted(found)

    def end(self) -> None:
        """End what was started."""
        for prepared in self._ready[True]:
            for run in prepared.runs:
                self.rest.request("PUT", f"runs/{run}", json={})
        self.worker.end()
        self.rest.close()


@dataclass
class OpenNew:
    """``new``, open, and what is to be written to it."""

    name: str
    file: NewFile
    flags: int
    left: bytes
    run: str = ""


@dataclass
class OpenCancel:
    """``cancel``, open."""

    name: str
    file: CancelFile


@dataclass
class Reader:
    """A file of a run, open, and what is in it."""

    name: str
    run: str
    data: bytes


@dataclass
class Descriptor:
    """An upload, open."""

    name: str
    flags: int
    path: str = field(compare=False)


# -- the machine -----------------------------------------------------------


class Uploads(RuleBasedStateMachine):
    """``uploads/`` of a group, and a directory on disk.

    What differs by intent is in :func:`reference._shown`: of what `stat` tells, type and size
    are compared. Modes and times may be set, which means nothing to the service.
    """

    world: World
    with_run = False

    descriptors: Bundle[Descriptor] = Bundle("descriptors")

    def __init__(self) -> None:
        super().__init__()
        self._names = (f"fd{n}" for n in itertools.count())
        self._failed = False
        self._steps = -1
        self.prepared = self.world.group(self.with_run)
        self.root = f"groups/{self.prepared.id}"
        self._disk = tempfile.TemporaryDirectory(prefix="flowfs-model-")
        self.uploads = Path(self._disk.name, self.root, "uploads")
        self.uploads.mkdir(parents=True)
        for name, data in self.prepared.uploads.items():
            (self.uploads / name).write_bytes(data)
        self.reference = Files(self._disk.name)

    def check_invariants(self, *args: Any) -> None:
        """Count steps: this is called before the first and after each."""
        self._steps += 1
        super().check_invariants(*args)

    # -- comparing ---------------------------------------------------------

    def _check(self, right: bool, message: str) -> None:
        if not right:
            self._failed = True
            raise AssertionError(message)

    def _mount(self, operation: str, *args: Any) -> Outcome:
        return self.world.worker(operation, *args)

    def _both(self, operation: str, *args: Any) -> Outcome:
        """Do it on disk and on the mount; both must say the same."""
        self.world.operations += 1
        expected = self.reference(operation, *args)
        outcome = self._mount(operation, *args)
        self._check(
            outcome == expected,
            f"{operation}{args!r:.200}: {outcome} on the mount, {expected} on disk",
        )
        return outcome

    # -- uploads -----------------------------------------------------------

    def _upload(self, name: str) -> str:
        return f"{self.root}/uploads/{name}"

    @rule(target=descriptors, name=names, flags=flags)
    def open(self, name: str, flags: int) -> Any:
        opened = Descriptor(next(self._names), flags, name)
        outcome = self._both("open", opened.name, self._upload(name), flags)
        return multiple() if outcome.error else opened

    @rule(opened=consumes(descriptors))
    def close(self, opened: Descriptor) -> None:
        self._both("close", opened.name)

    @rule(target=descriptors, opened=descriptors)
    def dup(self, opened: Descriptor) -> Descriptor:
        other = Descriptor(next(self._names), opened.flags, opened.path)
        self._both("dup", opened.name, other.name)
        return other

    # Few rules of many operations each: hypothesis takes rules out of sequences at random.

    @rule(opened=descriptors, operation=on_descriptors)
    def use(self, opened: Descriptor, operation: tuple[Any, ...]) -> None:
        if operation[0] == "fstat" and self.reference("is_orphan", opened.name).value:
            self._fstat_orphan(opened)
        else:
            self._both(operation[0], opened.name, *operation[1:])

    def _fstat_orphan(self, opened: Descriptor) -> None:
        """Look at an open file that has no name.

        The kernel asks without telling by which descriptor, and libfuse has no path left: it
        says so itself (libfuse 3: ESTALE, 2: ENOENT), and asks nobody.
        """
        self.world.operations += 1
        expected, outcome = (f("fstat", opened.name) for f in (self.reference, self._mount))
        self._check(
            outcome == expected or outcome.error in ("ESTALE", "ENOENT"),
            f"fstat of a file without a name: {outcome}, {expected} on disk",
        )

    @rule(name=names, operation=on_names)
    def name(self, name: str, operation: tuple[Any, ...]) -> None:
        if operation[0] == "rename":
            self._both("rename", self._upload(name), self._upload(operation[1]))
        else:
            self._both(operation[0], self._upload(name), *operation[1:])
        if operation[0] in ("unlink", "rename"):
            self._list()

    @rule(name=names, data=pieces)
    def put(self, name: str, data: bytes) -> None:
        self._both("put", self._upload(name), data)
        self._list()

    def _list(self) -> None:
        self.world.operations += 1
        outcome = self._mount("listdir", f"{self.root}/uploads")
        expected = self.reference("listdir", f"{self.root}/uploads")
        if not set(STORED_AS).isdisjoint(expected.value):
            # While the last close sends a file, its name may become the stored one between the
            # two questions of a listing: then both are there, for a moment.
            deadline = time.monotonic() + 5
            while not outcome.error and listed(outcome.value) != listed(expected.value):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.02)
                outcome = self._mount("listdir", f"{self.root}/uploads")
        self._check(
            not outcome.error and listed(outcome.value) == listed(expected.value),
            f"listing: {outcome} on the mount, {expected} on disk",
        )

    # -- the end -----------------------------------------------------------

    def teardown(self) -> None:
        self.world.sequences += self._steps >= STEPS
        self.world.steps += self._steps
        try:
            self._mount("close_all")
            if not self._failed:
                self._compare_with_the_service()
        finally:
            self.reference("close_all")
            self._disk.cleanup()

    def _compare_with_the_service(self) -> None:
        expected = sorted(
            (STORED_AS.get(p.name, p.name), p.read_bytes()) for p in self.uploads.iterdir()
        )
        # What was only emptied is sent by the last close, which the kernel does not wait for.
        found: list[tuple[str, bytes]] = []

        def same() -> bool:
            found[:] = self.world.uploads(self.prepared.id)
            return found == expected

        try:
            wait_until(same, 10, "the uploads")
        except AssertionError:
            shown = [[(n, Outcome(data)) for n, data in one] for one in (found, expected)]
            raise AssertionError(
                f"uploads: {shown[0]} on the service, {shown[1]} on disk"
            ) from None


class Whole(Uploads):
    """All of a group: its uploads, and by the model runs and all that is refused."""

    with_run = True

    news: Bundle[OpenNew] = Bundle("news")
    cancels: Bundle[OpenCancel] = Bundle("cancels")
    readers: Bundle[Reader] = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self._known: list[Run] = []  # the deleted ones too
        self._good_plans = 0
        self._marked: dict[str, float] = {}
        self._canceling: list[OpenCancel] = []
        self.group = Group(self.uploads)
        self.id = self.prepared.id
        for run_id, seconds in zip(self.prepared.runs, SLEEPTIMES, strict=True):
            self._add(Run(run_id, {"names": GIVEN, "sleeptime": seconds}))
        for run in self._known:
            self._await(run)

    # -- comparing ---------------------------------------------------------

    def _modelled(self, model: Callable[[], Any], operation: str, *args: Any) -> Outcome:
        """Do it on the mount; it must be refused as by the model, or work."""
        self.world.operations += 1
        self._see_marks()
        try:
            model()
            expected: tuple[str, ...] = ("",)
        except Refused as refused:
            expected = refused.names
        outcome = self._mount(operation, *args)
        self._check(
            outcome.error in expected,
            f"{operation}{args!r:.200}: {outcome} on the mount, "
            f"by the model {' or '.join(expected) or 'it works'}",
        )
        return outcome

    def _see_marks(self) -> None:
        """Wait for files to come back where they may do so at any moment."""
        for run in self.group.runs.values():
            if run.hidden and time.monotonic() - self._marked[run.id] > MARKS_LAST / 2:
                places = [f"{self.root}/runs/{run.id}/{one}" for one in run.hidden]
                wait_until(
                    partial(self._are_there, places),
                    MARKS_LAST,
                    "what was removed of a run to come back",
                )
                run.hidden.clear()

    def _are_there(self, paths: list[str]) -> bool:
        return not any(self._mount("stat", path).error for path in paths)

    # -- runs --------------------------------------------------------------

    def _add(self, run: Run) -> None:
        self._known.append(run)
        self.group.runs[run.id] = run

    def _await(self, run: Run) -> None:
        """Wait until a run is in the state in which it stays, and the mount knows it."""
        if run.arguments["sleeptime"]:
            wait_until(lambda: self.world.rest.run(run.id)["state"] == "RUNNING", 30, "the run")
        else:
            handle = self.world.rest.ended(run.id)
            self._check(handle["state"] == "SUCCESS", f"{handle}")
            (file,) = handle["files"]
            run.state = "SUCCESS"
            run.result = (file["id"], self.world.rest.result(handle, GREETING))
            greeting = run.arguments.get("greeting", "Hello")
            expected = "".join(f"{greeting}, {n}!\n" for n in sample("hello").read_text().split())
            self._check(run.result[1] == expected.encode(), f"{run.result[1]!r}")
        link = f"{self.root}/states/{run.state}/{run.id}"
        cancel = f"{self.root}/runs/{run.id}/cancel"
        wait_until(
            lambda: (
                self._mount("readlink", link).error == ""
                and (self._mount("stat", cancel).error == "") == run.active
            ),
            30,
            f"the mount to know that the run is in {run.state}",
        )

    def _started(self, document: Any) -> Run:
        """Take in the one run that has been started."""
        known = {run.id for run in self._known}
        new = [one for one in self.world.runs(self.id) if one not in known]
        self._check(len(new) == 1, f"one start made {len(new)} runs")
        arguments = {"sleeptime": 0, **arguments_of(document)}
        run = Run(new[0], arguments)
        self._add(run)
        listed = self._mount("listdir", f"{self.root}/runs")
        self._check(run.id in (listed.value or ()), "a started run is not seen at once")
        self._await(run)
        return run

    def _run(self, number: int) -> Run:
        return self._known[number % len(self._known)]

    def _path(self, place: Place) -> str:
        run = self._run(place.run)
        result = run.result[0] if run.result else "nothing"
        return place.pattern.format(run=run.id, result=result, state=place.state)

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    # -- looking -----------------------------------------------------------

    @rule(place=places, operation=looks)
    def look(self, place: Place, operation: str) -> None:
        getattr(self, f"_{operation}")(place)

    def _stat(self, place: Place) -> None:
        path = self._path(place)
        outcome = self._modelled(lambda: self.group.find(path, last=False), "stat", self._at(path))
        if outcome.error:
            return
        kind, size = outcome.value
        real, expected = self.group.find(path, last=False)
        self._check(kind == expected, f"{path} is a {kind}, by the model a {expected}")
        known = self._bytes(real)
        if known is not None:
            self._check(size == len(known), f"{path} has {size} bytes, should have {len(known)}")

    def _bytes(self, path: str) -> bytes | None:
        """Return what a file holds where the model knows it to the byte."""
        parts = path.split("/")
        if path == "runs/new" or parts[-1] == "cancel":
            return b""
        if parts[0] == "runs" and len(parts) > 3 and parts[1] in self.group.runs:
            result = self.group.runs[parts[1]].result
            if result and (parts[-1] == result[0] or path.endswith(f"/outputs/{GREETING}")):
                return result[1]
        return None

    def _listdir(self, place: Place) -> None:
        path = self._path(place)
        outcome = self._modelled(lambda: self.group.listing(path), "listdir", self._at(path))
        if not outcome.error:
            expected = self.group.listing(path)
            self._check(
                outcome.value == expected or listed(outcome.value) == listed(expected),
                f"{path}: {outcome}, not {expected}",
            )

    def _readlink(self, place: Place) -> None:
        path = self._path(place)

        def model() -> None:
            _, kind = self.group.find(path, last=False)
            if kind != "link":
                raise Refused("EINVAL")

        outcome = self._modelled(model, "readlink", self._at(path))
        if not outcome.error:
            expected = self.group.target(self.group.follow(path, last=False))
            self._check(outcome.value == expected, f"{path}: {outcome}, not {expected}")

    def _get(self, place: Place) -> None:
        path = self._path(place)
        outcome = self._modelled(lambda: self.group.open(path, 0), "get", self._at(path))
        if not outcome.error:
            real, _ = self.group.find(path)
            self._check(self._holds(real, outcome.value), f"{path} holds {outcome}")

    def _holds(self, path: str, data: bytes) -> bool:
        known = self._bytes(path)
        if known is not None:
            return data == known
        parts = path.split("/")
        if path == "group.json":
            return bool(json.loads(data)["id"] == self.id)
        if path == "arguments.template.json":
            return {one["name"] for one in json.loads(data)} >= {"names", "sleeptime"}
        if path == "runs.jsonl":
            rows = [json.loads(line) for line in data.splitlines()]
            told = {row["id"]: row["state"] for row in rows}
            return len(rows) == len(told) and told == {
                run.id: run.state for run in self.group.runs.values()
            }
        if path == "runs/new.error":
            return b"runs/new" in data
        run = self.group.runs[parts[1]]
        if parts[2] == "handle.json":
            handle = json.loads(data)
            return bool(handle == self.world.rest.run(run.id)) or (
                run.active and handle["id"] == run.id
            )
        if parts[2] == "arguments.json":
            told = arguments_of(json.loads(data))
            return told["names"]["value"]["fileId"] == self.prepared.given and all(
                told.get(name) == value for name, value in run.arguments.items() if name != "names"
            )
        assert run.result is not None
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            (member,) = (one for one in archive.getmembers() if one.isfile())
            file = archive.extractfile(member)
            assert file is not None
            return member.name == GREETING and file.read() == run.result[1]

    def _getxattr(self, place: Place) -> None:
        run = self._run(place.run)
        path = f"runs/{run.id}"
        outcome = self._modelled(
            lambda: self.group.find(path), "getxattr", self._at(path), "user.flowfs.state"
        )
        if not outcome.error:
            self._check(outcome.value == run.state.encode(), f"{outcome}, not {run.state}")

    # -- refusals ----------------------------------------------------------

    @rule(
        place=st.one_of(places, places, st.builds(Place, names.map("uploads/{}".format))),
        operation=_operations(
            ("mkdir",), ("symlink",), ("mkfifo",), ("link", places), ("rename", places)
        ),
    )
    def make(self, place: Place, operation: tuple[Any, ...]) -> None:
        """Make something where nothing can be made: all but uploads."""
        path, others = self._path(place), [self._path(one) for one in operation[1:]]
        model = getattr(self.group, operation[0], self.group.make)
        self._modelled(
            lambda: model(path, *others), operation[0], self._at(path), *map(self._at, others)
        )

    @rule(name=names, place=places)
    def rename_to_upload(self, name: str, place: Place) -> None:
        one, other = self._path(place), f"uploads/{name}"
        self._modelled(
            lambda: self.group.rename(one, other), "rename", self._at(one), self._at(other)
        )

    @rule(
        place=places,
        operation=_operations(
            ("chmod", 0o600),
            ("utime",),
            ("truncate", st.sampled_from((0, 0, 5))),
            ("open", flags),
            ("open", flags),
        ),
    )
    def change(self, place: Place, operation: tuple[Any, ...]) -> None:
        """Change something that is no upload, or open it as if to do so."""
        path, (name, *arguments) = self._path(place), operation
        if name == "open":
            self._open_elsewhere(path, *arguments)
            return
        model = self.group.truncate if name == "truncate" else self.group.set_attributes
        more = arguments if name == "truncate" else ()
        self._modelled(lambda: model(path, *more), name, self._at(path), *arguments)

    def _open_elsewhere(self, path: str, flags: int) -> None:
        if self._is_directory(path) and not flags & (
            os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
        ):
            return  # opening a directory is what listdir does
        name = next(self._names)
        outcome = self._modelled(
            lambda: self.group.open(path, flags), "open", name, self._at(path), flags
        )
        if not outcome.error:
            closed = self._mount("close", name)  # nothing was written
            self._check(not closed.error, f"closing {path}, to which nothing was written: {closed}")

    def _is_directory(self, path: str) -> bool:
        try:
            return self.group.find(path)[1] == "directory"
        except Refused:
            return False

    # -- removing ----------------------------------------------------------

    @rule(place=places, operation=st.sampled_from(("unlink", "rmdir")))
    def remove(self, place: Place, operation: str) -> None:
        self._remove(operation, self._path(place))

    def _remove(self, operation: str, path: str) -> bool:
        model = getattr(self.group, operation)
        outcome = self._modelled(lambda: model(path), operation, self._at(path))
        if not outcome.error and path.startswith(("runs/", "latest/")):
            run = self.group.follow(path, last=False).split("/")[1]
            self._marked[run] = time.monotonic()
        return not outcome.error

    @rule(number=runs, order=st.integers(0, 1000), leave=st.sampled_from((0, 0, 1)))
    def remove_run(self, number: int, order: int, leave: int) -> None:
        """Remove all of a run from below, in any order; or all but a file."""
        run = self._run(number)
        if run.id not in self.group.runs or run.active:
            self._remove("rmdir", f"runs/{run.id}")
            return
        there = [(p, kind) for p, kind in run.places() if not run.hides(p)]
        files = [p for p, kind in there if kind != "directory"]
        random.Random(order).shuffle(files)
        for path in files[leave:]:
            self._remove("unlink", f"runs/{run.id}/{path}")
        for path in sorted((p for p, kind in there if kind == "directory"), reverse=True):
            self._remove("rmdir", f"runs/{run.id}/{path}")
        self._remove("rmdir", f"runs/{run.id}")
        self._check((run.id in self.group.runs) == (leave > 0 and bool(files)), "the model errs")
        self._check((run.id in self.world.runs(self.id)) == (run.id in self.group.runs), "REST")

    # -- reading files that stay open --------------------------------------

    @rule(target=readers, number=runs, file=st.sampled_from(FILES_OF_A_RUN))
    def open_to_read(self, number: int, file: str) -> Any:
        run = self._run(number)
        path = self._path(Place(f"runs/{run.id}/{file}", number))
        if run.active:
            return multiple()  # its handle changes
        name = next(self._names)
        before = self._modelled(lambda: self.group.open(path, 0), "get", self._at(path))
        self._modelled(lambda: self.group.open(path, 0), "open", name, self._at(path), os.O_RDONLY)
        return multiple() if before.error else Reader(name, run.id, before.value)

    @rule(reader=readers, size=sizes, offset=offsets)
    def read_open_file(self, reader: Reader, size: int, offset: int) -> None:
        self.world.operations += 1
        outcome = self._mount("pread", reader.name, size, offset)
        if outcome.error == "ESTALE" and reader.run not in self.group.runs:
            return  # what is not held is lost with the run
        expected = reader.data[offset : offset + size]
        self._check(outcome.value == expected, f"pread: {outcome}, not {expected!r:.60}")

    @rule(reader=consumes(readers))
    def close_reader(self, reader: Reader) -> None:
        self._modelled(lambda: None, "close", reader.name)

    # -- starting ----------------------------------------------------------

    def _opening_new(self, document: bytes) -> bool:
        """Tell whether a document may be used: there are only so many runs."""
        begins_good = b"sleeptime" in document and b"soon" not in document
        self._good_plans += begins_good
        return not begins_good or self._good_plans < MAX_RUNS

    @rule(
        document=documents,
        cuts=st.lists(st.integers(1, 60), max_size=4),
        more=st.sampled_from((0, os.O_TRUNC, os.O_APPEND, os.O_CREAT | os.O_TRUNC)),
    )
    def start(self, document: bytes, cuts: list[int], more: int) -> None:
        """Write arguments in one go, in one piece or several."""
        if not self._opening_new(document):
            return
        self._write_new(document, cuts, more)

    def _write_new(self, document: bytes, cuts: list[int], more: int) -> None:
        opened = self._open_new(document, os.O_WRONLY | more)
        for cut in cuts:
            self._write_piece(opened, cut)
        self._write_piece(opened, len(opened.left))
        self._modelled(opened.file.close, "close", opened.name)

    def _open_new(self, document: bytes, flags: int) -> OpenNew:
        file = NewFile(self.group, is_good, append=bool(flags & os.O_APPEND))
        opened = OpenNew(next(self._names), file, flags, document)
        self._modelled(lambda: None, "open", opened.name, self._at("runs/new"), flags)
        return opened

    def _write_piece(self, opened: OpenNew, size: int) -> None:
        piece, opened.left = opened.left[:size], opened.left[size:]
        started = False

        def model() -> None:
            nonlocal started
            started = opened.file.write(piece)

        self._modelled(model, "write", opened.name, piece)
        if started:
            opened.run = self._started(opened.file.started).id

    @rule(
        target=news,
        document=documents,
        mode=st.sampled_from((os.O_WRONLY, os.O_RDWR)),
        more=st.sampled_from((0, os.O_TRUNC, os.O_APPEND)),
    )
    def open_new(self, document: bytes, mode: int, more: int) -> Any:
        if not self._opening_new(document):
            return multiple()
        return self._open_new(document, mode | more)

    @rule(
        opened=news,
        operation=_operations(
            ("piece", st.integers(1, 80)),
            ("piece", st.integers(1, 80)),
            ("elsewhere", st.sampled_from((1, 7, 1000))),
            ("dup",),
            ("fsync",),
            ("read",),
            ("after", st.sampled_from((b" ", b"{}", b"\n"))),
        ),
    )
    def use_new(self, opened: OpenNew, operation: tuple[Any, ...]) -> None:
        if operation[0] == "piece":
            self._write_piece(opened, operation[1])
        elif operation[0] == "after":
            if opened.file.started is not None:
                after = operation[1]
                self._modelled(lambda: opened.file.write(after), "write", opened.name, after)
        elif operation[0] == "elsewhere":
            self._write_elsewhere(opened, operation[1])
        elif operation[0] == "dup":
            other = next(self._names)
            self._modelled(lambda: None, "dup", opened.name, other)
            self._modelled(opened.file.close, "close", other)
        elif operation[0] == "fsync":
            self._modelled(lambda: None, "fsync", opened.name)
        else:
            self._read_new(opened)

    def _write_elsewhere(self, opened: OpenNew, offset: int) -> None:
        """Write a letter at a place, unless that is the end by accident."""
        if not opened.file.would_take(offset):
            self._modelled(
                lambda: opened.file.write(b"x", offset), "pwrite", opened.name, b"x", offset
            )

    def _read_new(self, opened: OpenNew) -> None:
        """Read what has come of the writing."""

        def model() -> None:
            if opened.flags & os.O_ACCMODE == os.O_WRONLY:
                raise Refused("EBADF")

        outcome = self._modelled(model, "pread", opened.name, 1 << 16, 0)
        if not outcome.error:
            told = json.loads(outcome.value)["id"] if outcome.value else ""
            self._check(told == opened.run, f"new tells of {told!r}, not {opened.run!r}")

    @rule(opened=consumes(news))
    def close_new(self, opened: OpenNew) -> None:
        self._modelled(opened.file.close, "close", opened.name)

    # -- canceling ---------------------------------------------------------

    @rule(
        target=cancels,
        number=runs,
        mode=st.sampled_from((os.O_WRONLY, os.O_RDWR)),
        more=st.sampled_from((0, os.O_TRUNC, os.O_APPEND)),
    )
    def open_cancel(self, number: int, mode: int, more: int) -> Any:
        return self._open_cancel(number, mode | more) or multiple()

    def _open_cancel(self, number: int, flags: int) -> OpenCancel | None:
        run = self._run(number)
        path, name = f"runs/{run.id}/cancel", next(self._names)
        outcome = self._modelled(
            lambda: self.group.open(path, flags), "open", name, self._at(path), flags
        )
        if outcome.error:
            return None
        self._canceling.append(OpenCancel(name, CancelFile(self.group, run)))
        return self._canceling[-1]

    @rule(number=runs, pieces=st.lists(reasons, max_size=3))
    def cancel(self, number: int, pieces: list[bytes]) -> None:
        """Write a reason in one go, in one piece or several."""
        opened = self._open_cancel(number, os.O_WRONLY | os.O_TRUNC)
        if opened is not None:
            for piece in pieces:
                self.write_cancel(opened, piece)
            self.close_cancel(opened)

    @rule(
        opened=cancels,
        piece=reasons,
    )
    def write_cancel(self, opened: OpenCancel, piece: bytes) -> None:
        self._modelled(lambda: opened.file.write(piece), "write", opened.name, piece)
        self._check_canceled(opened)

    @rule(opened=consumes(cancels))
    def close_cancel(self, opened: OpenCancel) -> None:
        self._canceling = [one for one in self._canceling if one is not opened]
        self._modelled(opened.file.close, "close", opened.name)
        self._check_canceled(opened)

    def _check_canceled(self, opened: OpenCancel) -> None:
        run = opened.file.run
        if opened.file.acted and run.id in self.group.runs:
            handle = self.world.rest.run(run.id)
            self._check(handle["state"] == "CANCELED", f"{handle['state']}")
            if run.reason is not None:
                self._check(run.reason in handle["messages"], f"{handle['messages']}")

    # -- the end -----------------------------------------------------------

    def teardown(self) -> None:
        try:
            if not self._failed:
                while self._canceling:
                    self.close_cancel(self._canceling[0])
            super().teardown()
        finally:
            for run in self.group.runs.values():
                if run.active:
                    self.world.rest.request("PUT", f"runs/{run.id}", json={})

    def _compare_with_the_service(self) -> None:
        super()._compare_with_the_service()
        alive = self.world.runs(self.id)
        assert alive == list(self.group.runs), f"runs: {alive}, not {list(self.group.runs)}"
        for run in self.group.runs.values():
            handle = self.world.rest.run(run.id)
            assert handle["state"] == run.state, f"{handle}"


# -- tests ----------------------------------------------------------------


def _wanted(binding: tuple[str, str]) -> bool:
    wanted = os.environ.get("FLOWFS_MODEL_BINDINGS")
    return not wanted or "-".join(binding) in wanted.split(",")


@pytest.fixture(scope="module", params=[one for one in BINDINGS if _wanted(one)], ids="-".join)
def world(
    request: pytest.FixtureRequest,
    service: EmbeddedService,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    fuse, library = request.param
    pytest.importorskip("fuse" if fuse == "fusepy" else "mfusepy")
    log = tmp_path_factory.mktemp("mount") / "log"
    with mounted(service, ttl=TTL, log=log, fuse=fuse, library=library) as directory:
        made = World(service, directory, f"{fuse}-{library}")
        try:
            yield made
        finally:
            made.end()
    said = log.read_text()
    assert "Traceback" not in said, said


@pytest.mark.parametrize("machine", [Uploads, Whole])
def test_random_sequences_do_on_the_mount_what_they_do_on_the_reference(
    machine: type[Uploads],
    world: World,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Five minutes by itself; no setting of hypothesis says it.
    engine = "hypothesis.internal.conjecture.engine.MAX_SHRINKING_SECONDS"
    monkeypatch.setattr(engine, SHRINK, raising=False)
    number = int(os.environ.get("FLOWFS_MODEL_SEED") or random.SystemRandom().randrange(2**32))

    def say(words: str) -> None:
        sys.stdout.write(f"{words}\n")  # with a failure
        with capfd.disabled():
            sys.stdout.write(f"\n{words}\n")

    say(
        f"FLOWFS_MODEL_SEED={number} FLOWFS_MODEL_SEQUENCES={SEQUENCES} "
        f"FLOWFS_MODEL_STEPS={STEPS} FLOWFS_MODEL_BINDINGS={world.binding}"
    )
    world.sequences = world.steps = world.operations = 0
    began = time.monotonic()
    try:
        run_state_machine_as_test(
            seed(number)(type(machine.__name__, (machine,), {"world": world})),
            settings=settings(
                max_examples=SEQUENCES + SEQUENCES // 4,  # some are a few steps shorter
                stateful_step_count=STEPS,
                deadline=None,
                database=None,  # what failed elsewhere is told by its seed
                phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        say(
            f"{world.sequences} sequences of {STEPS} steps, {world.steps} steps in all, "
            f"{world.operations} operations compared, "
            f"{time.monotonic() - began:.0f} s"
        )


# -- what such sequences have found -------------------------------------------


class Tried:
    """A group's ``uploads/`` and descriptors in it."""

    def __init__(self, world: World) -> None:
        self.world, self.group = world, world.group(False).id

    def __call__(self, operation: str, *args: Any) -> Any:
        """Do it on the mount and return the value, or the errno's name."""
        outcome = self.world.worker(operation, *args)
        return outcome.error or outcome.value

    def at(self, name: str) -> str:
        return f"groups/{self.group}/uploads/{name}"

    def sent(self, name: str) -> list[bytes]:
        return [data for stored, data in self.world.uploads(self.group) if stored == name]


@pytest.fixture
def tried(world: World) -> Iterator[Tried]:
    yield Tried(world)
    world.worker("close_all")


def test_who_has_an_upload_open_reads_what_is_written_to_it_since(tried: Tried) -> None:
    tried("open", "reader", tried.at("a"), os.O_RDONLY)
    for data in (b"", b"quite another text than before", b"short"):
        tried("put", tried.at("a"), data)
        assert tried("stat", tried.at("a")) == ("file", len(data))
        assert tried("fstat", "reader") == ("file", len(data))
        assert tried("pread", "reader", 100, 0) == data


def test_an_upload_is_sent_when_it_has_been_emptied_though_somebody_reads_it(tried: Tried) -> None:
    tried("open", "reader", tried.at("a"), os.O_RDONLY)
    tried("put", tried.at("a"), b"")
    wait_until(lambda: tried.sent("a") == [b""], 10, "the empty upload")


def test_who_reads_an_upload_that_is_replaced_or_removed_reads_no_other(tried: Tried) -> None:
    for lose in (("rename", tried.at("b.txt"), tried.at("a")), ("unlink", tried.at("a"))):
        tried("put", tried.at("a"), b"first")
        tried("put", tried.at("b.txt"), b"second one")
        tried("open", "reader", tried.at("a"), os.O_RDONLY)
        assert tried("pread", "reader", 100, 0) == b"first"
        tried(*lose)
        tried("put", tried.at("a"), b"third of them all")
        assert tried("pread", "reader", 100, 0) in (b"first", "ESTALE")
        tried("close", "reader")


def test_who_reads_an_upload_reads_on_under_its_new_name(tried: Tried) -> None:
    tried("open", "reader", tried.at("a"), os.O_RDONLY)
    tried("rename", tried.at("a"), tried.at("b.txt"))
    tried("put", tried.at("b.txt"), b"there is more")
    assert tried("pread", "reader", 100, 0) == b"there is more"


@pytest.mark.parametrize("lose", ["unlink", "rename"])
def test_an_open_upload_without_a_name_can_be_cut_off(tried: Tried, lose: str) -> None:
    tried("put", tried.at("b.txt"), b"other")
    tried("open", "writer", tried.at("a"), os.O_RDWR)
    tried("pwrite", "writer", b"some text", 0)
    if lose == "unlink":
        tried("unlink", tried.at("a"))
    else:
        tried("rename", tried.at("b.txt"), tried.at("a"))
    assert tried("ftruncate", "writer", 4) is None
    assert tried("pread", "writer", 100, 0) == b"some"


@pytest.mark.parametrize("lose", ["unlink", "rename"])
@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDWR | os.O_APPEND])
def test_who_opened_an_upload_to_write_finds_what_was_in_it_when_its_name_has_gone(
    tried: Tried, lose: str, flags: int
) -> None:
    tried("put", tried.at("b.txt"), b"quite another text")
    tried("put", tried.at("a"), b"first")
    tried("close_all")
    tried("open", "writer", tried.at("a"), flags)
    if lose == "unlink":
        tried("unlink", tried.at("a"))
        tried("put", tried.at("a"), b"quite another text")
    else:
        tried("rename", tried.at("b.txt"), tried.at("a"))
    assert tried("lseek", "writer", 0, os.SEEK_END) == 5
    assert tried("pread", "writer", 100, 0) == b"first"
    assert tried("write", "writer", b"!") == 1
    assert tried("pread", "writer", 100, 0) == b"first!"
    tried("close", "writer")
    assert tried("get", tried.at("a")) == b"quite another text"


def test_an_upload_is_listed_once_while_it_is_being_replaced(
    service: EmbeddedService, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = world.group(False).id
    fs = FlowFileSystem(service.endpoint, service.token, ttl=0.0)
    uploads = fs.catalog.service.uploads
    delete, seen, there = uploads.delete_file, [], []

    def delete_late(group_id: str, file_id: str) -> None:
        seen.append(fs.ls(f"groups/{group}/uploads", detail=False))
        there.append([name for name, _ in world.uploads(group)])
        delete(group_id, file_id)

    monkeypatch.setattr(uploads, "delete_file", delete_late)
    fs.pipe(f"groups/{group}/uploads/a", b"anew")
    assert there == [["a", "a", GIVEN]]
    assert seen == [[f"groups/{group}/uploads/{name}" for name in (GIVEN, "a")]]
    assert sorted(world.uploads(group))[0] == ("a", b"anew")


@pytest.mark.parametrize("name", ["new.csv", ".hidden"])
def test_a_file_that_is_sent_while_a_directory_is_listed_is_in_the_listing_once(
    service: EmbeddedService, rest: Rest, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Between the question to the service and that to what is open: without a kernel."""
    reply = rest.request(
        "POST", f"workflows/{service.workflows['hello']}/groups", json={"name": uuid.uuid4().hex}
    )
    uploads = f"groups/{reply.json()['id']}/uploads"
    fs = FlowFileSystem(service.endpoint, service.token, ttl=60.0)
    operations = Operations(fs, "", lambda: 0, Attributes(False, 0))
    drafts, children = operations._drafts, operations._entries.children
    draft = drafts.open(fs.entries.resolve(f"{uploads}/{name}"), new=True)

    def children_then_sent(node: Node) -> list[Any]:
        found = children(node)
        monkeypatch.undo()
        drafts.close(draft)
        return found

    monkeypatch.setattr(operations._entries, "children", children_then_sent)
    shown = [one[0] for one in operations.readdir(f"/{uploads}", 0)]
    assert sorted(shown) == [".", "..", STORED_AS.get(name, name)]
