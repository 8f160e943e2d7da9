"""Clients of the model test: file systems, each with what it may have known for how long."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from canned import check
from model_service import Service, Snapshot

from flowfs import FlowFileSystem
from flowfs.errors import FlowError, InvalidRunState, NotFound, UnclearStart

__all__ = ["Client", "Said"]

ENDED = ("SUCCESS", "ERROR", "CANCELED")


@dataclass
class Said:
    """What came of an operation.

    Attributes
    ----------
    value : Any
        What it returned.
    error : FlowError or None
        What it raised.
    spoiled : bool
        Whether one of its requests went wrong.
    before, after : Snapshot
        What there was.
    """

    value: Any
    error: FlowError | None
    spoiled: bool
    before: Snapshot
    after: Snapshot


@dataclass
class Client:
    """A file system, as of a process of its own.

    Attributes
    ----------
    name : str
        For failures.
    fs : FlowFileSystem
        With caches of its own.
    ttl : float
        Seconds.
    runs_since, uploads_since : int
        The last change of its own: what it lists is not older.
    changed : dict of str to int
        The same of single runs.
    """

    name: str
    service: Service
    fs: FlowFileSystem
    ttl: float
    runs_since: int = 0
    uploads_since: int = 0
    operations: int = 0
    changed: dict[str, int] = field(default_factory=dict)

    def do(self, what: str, act: Callable[[], Any], *honest: type[FlowError]) -> Said:
        """Do something; it may be refused where something went wrong, or else honestly."""
        service = self.service
        before, spoiled = service.look(), service.spoiled
        self.operations += 1
        error: FlowError | None = None
        value: Any = None
        try:
            value = act()
        except FlowError as raised:
            error = raised
            check(error)
        said = Said(value, error, service.spoiled > spoiled, before, service.look())
        if error is not None:
            excused = said.spoiled or isinstance(error, honest)
            assert excused, f"{self.name}: {what} was refused for nothing: {error!r}"
            if isinstance(error, NotFound):
                assert error.errno == errno.ENOENT
        return said

    # -- what it may know -----------------------------------------------------

    def may_show(self, uploads: bool = False) -> list[Snapshot]:
        """Return what its listings may be of; the last is what is so now."""
        self.service.look()
        if self.ttl == 0:
            return [self.service.now]
        return self.service.lately(self.uploads_since if uploads else self.runs_since)

    def states_of(self, run_id: str) -> set[str]:
        """Return the states that a run may be shown in, by itself or in a listing.

        Each is known by itself, whatever of other runs was changed since.
        """
        self.service.look()
        snapshots = self.service.lately(self.changed.get(run_id, 0)) if self.ttl else []
        snapshots.append(self.service.now)
        return {one.runs[run_id] for one in snapshots if run_id in one.runs}

    def may_be_there(self, run_id: str) -> bool:
        return bool(self.states_of(run_id))

    def must_be_there(self, run_id: str) -> bool:
        return all(run_id in one.runs for one in self.may_show())

    def has_changed_runs(self, run_id: str = "") -> None:
        """Note that it has changed runs, or one of them, itself: it sees that at once."""
        self.runs_since = self.changed[run_id] = self.service.look().number

    def has_changed_uploads(self) -> None:
        self.uploads_since = self.service.look().number

    # -- looking -----------------------------------------------------------------

    def path(self, *parts: str) -> str:
        return "/".join(["groups", self.service.group, *parts])

    def look_at_runs(self) -> None:
        said = self.do("ls runs", lambda: self.fs.ls(self.path("runs"), detail=True))
        if said.error is None:
            shown = {one["id"]: one for one in said.value if one["place"] == "run"}
            self._check_runs(set(shown))
            for run_id, entry in shown.items():
                assert entry["state"] in self.states_of(run_id), (self.name, entry)
            assert len(shown) == len([one for one in said.value if one["place"] == "run"])

    def _check_runs(self, shown: set[str]) -> None:
        possible = [set(one.runs) for one in self.may_show()]
        assert shown in possible, f"{self.name}: {sorted(shown)}, and there were {possible}"

    def look_at_states(self) -> None:
        for state in ("RUNNING", "SUCCESS", "ERROR", "CANCELED"):
            said = self.do("ls states", lambda state=state: self._ids(f"states/{state}"))
            if said.error is None:
                for run_id in said.value:
                    assert state in self.states_of(run_id), (self.name, run_id, state)
                for run_id in self.service.now.runs:
                    if self.must_be_there(run_id) and self.states_of(run_id) == {state}:
                        assert run_id in said.value, (self.name, run_id, state)

    def _ids(self, path: str) -> list[str]:
        return [one.rpartition("/")[2] for one in self.fs.ls(self.path(path), detail=False)]

    def look_at_uploads(self) -> None:
        said = self.do("ls uploads", lambda: self.fs.ls(self.path("uploads"), detail=True))
        if said.error is None:
            shown = [one["id"] for one in said.value]
            possible = [sorted(one.uploads) for one in self.may_show(uploads=True)]
            assert sorted(shown) in possible, f"{self.name}: {shown}, and there were {possible}"
            assert len({one["name"] for one in said.value}) == len(shown)

    def look_at_run(self, run_id: str) -> None:
        path = self.path("runs", run_id)
        said = self.do("info of a run", lambda: self.fs.info(path), NotFound)
        if said.error is None:
            assert said.value["state"] in self.states_of(run_id), (self.name, said.value)
        self._check_missing(said, run_id)
        said = self.do("exists", lambda: self.fs.exists(path))
        if said.error is None and not said.spoiled:
            assert said.value or not self.must_be_there(run_id)
            assert not said.value or self.may_be_there(run_id)

    def _check_missing(self, said: Said, run_id: str) -> None:
        """See that a run which was said not to be there is not: that is nothing to be kept."""
        if isinstance(said.error, NotFound) and not said.spoiled:
            assert run_id not in said.after.runs, f"{self.name}: {run_id} is there: {said.error!r}"

    def read_handle(self, run_id: str) -> None:
        import json

        path = self.path("runs", run_id, "handle.json")
        said = self.do("cat handle.json", lambda: json.loads(self.fs.cat_file(path)), NotFound)
        if said.error is None:
            assert said.value["id"] == run_id
            assert said.value["state"] in self.states_of(run_id), (self.name, said.value)
        self._check_missing(said, run_id)

    def read_results(self, run_id: str, start: int, end: int) -> None:
        """Look for the files of a run, and read all of one, and a part."""
        path = self.path("runs", run_id, "results")
        said = self.do("ls results", lambda: self._ids(f"runs/{run_id}/results"), NotFound)
        self._check_missing(said, run_id)
        if said.error is not None:
            return
        assert self.may_be_there(run_id), (self.name, run_id, said, self.may_show())
        if not said.value:
            assert self.states_of(run_id) != {"SUCCESS"}
            return
        for file_id, data in self.service.result(run_id).items():
            assert said.value == [file_id]
            one = f"{path}/{file_id}"
            for wanted, act in (
                (data, lambda one=one: self.fs.cat_file(one)),
                (data[start:end], lambda one=one: self.fs.cat_file(one, start, end)),
                (len(data), lambda one=one: self.fs.info(one)["size"]),
            ):
                said = self.do("read a result", act, NotFound)
                if said.error is None:
                    assert said.value == wanted
                    # What was ever read of it may be kept, as long as it may be there.
                    assert self.may_be_there(run_id)
                self._check_missing(said, run_id)

    def read_archive(self, run_id: str) -> None:
        path = self.path("runs", run_id, "archive.tar.gz")
        said = self.do("cat the archive", lambda: self.fs.cat_file(path), NotFound)
        if said.error is None:
            names = dict(self.service.results[run_id])
            wanted = {names[file_id]: data for file_id, data in self.service.result(run_id).items()}
            assert self.service.archive(said.value) == wanted
        elif not said.spoiled and self.must_be_there(run_id):
            assert self.states_of(run_id) != {"SUCCESS"}

    def find(self) -> None:
        """Walk through all of the group."""
        said = self.do("find", lambda: self.fs.find(self.path()), NotFound)
        if said.error is None:
            root = self.path("runs") + "/"
            found = {p[len(root) :].partition("/")[0] for p in said.value if p.startswith(root)}
            found -= {"new", "new.error"}
            for run_id in found:
                assert self.may_be_there(run_id), (self.name, run_id)
            for run_id in self.service.now.runs:
                if self.must_be_there(run_id):
                    assert run_id in found, (self.name, run_id)

    def read_table(self) -> None:
        import json

        path = self.path("runs.jsonl")
        said = self.do("cat runs.jsonl", lambda: self.fs.cat_file(path), NotFound)
        if said.error is None:
            rows = [json.loads(line) for line in said.value.splitlines()]
            for row in rows:
                assert row["state"] in self.states_of(row["id"]), (self.name, row)
            for run_id in self.service.now.runs:
                if self.must_be_there(run_id):
                    assert run_id in [row["id"] for row in rows]

    def read_upload(self, name: str) -> None:
        path = self.path("uploads", name)
        said = self.do("cat an upload", lambda: self.fs.cat_file(path), NotFound)
        snapshots = self.may_show(uploads=True)
        possible = [
            self.service.contents[file_id]
            for one in snapshots
            for file_id, stored in one.uploads.items()
            if stored == name
        ]
        if said.error is None:
            assert said.value in possible, f"{self.name}: {said.value!r} of {name}"
        elif not said.spoiled:
            # It is not there, or what was known of it has gone since.
            newest = [name in one.uploads.values() for one in snapshots]
            assert not all(newest) or len(snapshots) > 1, f"{self.name}: {name}: {said.error!r}"

    # -- changing -------------------------------------------------------------------

    def start(self, tag: str) -> None:
        """Start a run; it exists once if that succeeded, and not if it failed for certain."""
        service = self.service
        said = self.do(
            "start",
            lambda: self.fs.start_run(
                service.group, {"names": "names.txt", "greeting": tag, "sleeptime": 10**9}
            ),
        )
        made = service.tags.get(tag, [])
        assert len(made) <= 1, f"{made} have started"
        if said.error is None:
            assert made == [said.value["id"]]
            self.has_changed_runs()
        elif isinstance(said.error, UnclearStart):
            assert set(said.error.run_ids) <= set(made)
            # Whoever can be asked which it was says so.
            self.has_changed_runs()
        else:
            assert not said.error.unclear
            assert made == [], f"{made} has started, and the error says: {said.error!r}"
            self._check_nothing(said)

    def _check_nothing(self, said: Said) -> None:
        """See that a refusal that is one for certain has changed nothing."""
        assert said.error is not None
        if not said.error.unclear:
            assert said.after == said.before, f"{said.error!r} and yet something has changed"

    def cancel(self, run_id: str) -> None:
        said = self.do(
            "cancel", lambda: self.fs.cancel_run(run_id, "enough"), NotFound, InvalidRunState
        )
        state = said.before.runs.get(run_id)
        if said.error is None:
            assert said.value["state"] == "CANCELED"
            assert said.after.runs[run_id] == "CANCELED"
            assert state == "RUNNING"
        else:
            self._check_nothing(said)
            if not said.spoiled:
                assert state != "RUNNING", repr(said.error)
        if said.error is None or said.error.unclear:
            self.has_changed_runs(run_id)

    def delete(self, run_id: str) -> None:
        path = self.path("runs", run_id)
        said = self.do("rm -r", lambda: self.fs.rm(path, recursive=True), NotFound, InvalidRunState)
        state = said.before.runs.get(run_id)
        if said.error is None:
            assert run_id not in said.after.runs
            assert state in ENDED or state is None
            self.has_changed_runs(run_id)
        else:
            self._check_nothing(said)
            if not said.spoiled and state in ENDED and self.must_be_there(run_id):
                # What it takes for active yet is refused before it is sent.
                assert self.states_of(run_id) != {state}, repr(said.error)
            if said.error.unclear:
                self.has_changed_runs(run_id)

    def upload(self, name: str, data: bytes) -> None:
        """Write an upload, in place of what has its name."""
        path = self.path("uploads", name)
        said = self.do("write an upload", lambda: self.fs.pipe_file(path, data))
        contents = self.service.contents
        before = [i for i, stored in said.before.uploads.items() if stored == name]
        after = [i for i, stored in said.after.uploads.items() if stored == name]
        others = {i: n for i, n in said.before.uploads.items() if n != name}
        assert {i: n for i, n in said.after.uploads.items() if n != name} == others
        new = [i for i in after if i not in before]
        assert all(contents[i] == data for i in new)
        assert len(new) <= 1
        if said.error is None:
            assert len(new) == 1
            assert before[-1:] == [] or before[-1] not in after
        else:
            # Never a moment without: it is as it was, or as it is to be.
            assert after or not before
        self.has_changed_uploads()

    def remove(self, name: str) -> None:
        path = self.path("uploads", name)
        said = self.do("rm an upload", lambda: self.fs.rm_file(path), NotFound)
        gone = {i: n for i, n in said.before.uploads.items() if i not in said.after.uploads}
        assert set(said.after.uploads) <= set(said.before.uploads)
        assert len(gone) <= 1
        assert set(gone.values()) <= {name}
        if said.error is None:
            assert gone or name not in said.before.uploads.values()
        else:
            self._check_nothing(said)
        self.has_changed_uploads()

    # -- when all is well again ----------------------------------------------------

    def check_all(self) -> None:
        """See that all is shown as it is: nothing goes wrong, and what is old is forgotten."""
        now = self.service.look()
        assert self.may_show() == self.may_show(uploads=True) == [now]
        for look in (self.look_at_runs, self.look_at_states, self.look_at_uploads, self.find):
            look()
        self.read_table()
        for run_id in list(now.runs)[-3:]:
            self.look_at_run(run_id)
            self.read_handle(run_id)
            self.read_results(run_id, 5, 5000)
        for name in set(now.uploads.values()):
            self.read_upload(name)
