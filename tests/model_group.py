"""Random sequences in all of a group, held against :class:`reference.Group`."""

from __future__ import annotations

import io
import json
import os
import random
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, multiple, rule
from model_uploads import Uploads
from reference import GREETING, CancelFile, Group, NewFile, Outcome, Refused, Run
from sequences import (
    FILES_OF_A_RUN,
    GIVEN,
    MARKS_LAST,
    MAX_RUNS,
    SLEEPTIMES,
    Place,
    _operations,
    arguments_of,
    documents,
    flags,
    is_good,
    listed,
    looks,
    names,
    offsets,
    places,
    reasons,
    runs,
    sizes,
)
from support import wait_until

from flowfs.embedded import sample


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
