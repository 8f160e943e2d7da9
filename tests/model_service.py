"""The service of the model test: what it has and had, and what goes wrong on the way to it."""

from __future__ import annotations

import io
import tarfile
import time
from dataclasses import dataclass, replace
from typing import Any

from faults import FAULTS, Fault
from standin import Asked, Reply, StandIn

import flowfs.catalog.cache
import flowfs.catalog.runs
import flowfs.catalog.uploads

__all__ = ["SPOILS", "TTL", "Clock", "Service", "Snapshot"]

TTL = 1000.0  # seconds of the clock below: on no machine do they pass by themselves
_SLACK = TTL / 20  # what may pass while something is done

# Not those after which a reply is a good one of something else: whoever is told that a run is not
# there, or of other runs beside those that there are, cannot know. Nor those that take their time:
# `hostile` tries all of them.
_LIES = (
    "JSON: another's",
    "names: ",
    "the run and its group",
    "other bytes when read on",
    "404",
    "redirect to another",
)
_SLOW = ("late by", "a million", "an endless error", "nested 200,000")
SPOILS = {
    fault.name: fault
    for fault in FAULTS
    if not fault.waits and not any(words in fault.name for words in _LIES + _SLOW)
}


class _Once:
    """A stand-in that does once what is asked for, however often it is asked to."""

    def __init__(self, server: StandIn) -> None:
        self._server = server
        self.reply: Reply | None = None

    def own(self, asked: Asked) -> Reply:
        if self.reply is None:
            self.reply = self._server.own(asked)
        return self.reply

    @property
    def refused(self) -> bool:
        return self.reply is not None and self.reply.status >= 400

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


class Clock:
    """Time as the caches of catalogs have it; it goes on by itself, and when it is told to."""

    _MODULES = (flowfs.catalog.cache, flowfs.catalog.runs, flowfs.catalog.uploads)

    def __init__(self) -> None:
        self._passed = 0.0
        for module in self._MODULES:
            module.time = self  # type: ignore[assignment]

    def monotonic(self) -> float:
        return time.monotonic() + self._passed

    def advance(self, seconds: float) -> None:
        self._passed += seconds

    def stop(self) -> None:
        for module in self._MODULES:
            module.time = time


@dataclass(frozen=True)
class Snapshot:
    """What a group had from one change to the next.

    Attributes
    ----------
    number : int
        Of the change that it began with.
    runs : dict of str to str
        States by id.
    uploads : dict of str to str
        Stored names by id.
    until : float
        When it ended, by the clock; infinite for what is so now.
    """

    number: int
    runs: dict[str, str]
    uploads: dict[str, str]
    until: float = float("inf")


class Service:
    """A stand-in with one group that the model is about.

    Attributes
    ----------
    contents : dict of str to bytes
        Bytes of every file that there ever was, by id.
    results : dict of str to list of (str, str)
        Ids and names of the files of every run that ever ended well.
    tags : dict of str to list of str
        Runs that were ever started with a greeting, by that.
    spoiled : int
        How many requests have gone wrong so far.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.server = StandIn()
        self.server.__enter__()
        self.routes = self.server.routes
        self.group = self.routes.group
        self.contents: dict[str, bytes] = {}
        self.results: dict[str, list[tuple[str, str]]] = {}
        self.tags: dict[str, list[str]] = {}
        self.spoiled = 0
        self._fault: Fault | None = None
        self._methods = ""
        self._left = 0
        self._history: list[Snapshot] = []
        self.names = self.routes.add_upload(b"Ada\nGrace\n", "names.txt", self.group)["id"]
        self.now = Snapshot(0, {}, {})
        self.look()
        for method in ("GET", "POST", "PUT", "DELETE"):
            self.server.on(method, r".*", self._answer)

    def stop(self) -> None:
        self.server.__exit__(None, None, None)

    # -- what goes wrong -------------------------------------------------------

    def break_(self, fault: Fault | None, times: int = 0, methods: str = "") -> None:
        """Have so many of the next requests go wrong, those of some methods or all."""
        self._fault, self._left, self._methods = fault, times, methods

    @property
    def fault(self) -> str:
        """What goes wrong now."""
        return self._fault.name if self._fault and self._left else "nothing"

    def _answer(self, asked: Asked) -> Reply | None:
        fault = self._fault
        about_bytes = "/downloads/" in asked.path or asked.path.count("/") == 4
        if fault is None or not self._left or (fault.json and about_bytes):
            return None
        if self._methods and asked.method not in self._methods:
            return None
        self._left -= 1
        self.spoiled += 1
        once = _Once(self.server)
        reply = fault.spoil(once, asked)  # type: ignore[arg-type]
        # What was refused is not told as if it had been done: nobody could know.
        told_so = reply is not None and not reply.raw and reply.status < 300
        return once.reply if once.reply is not None and once.refused and told_so else reply

    # -- what is so ------------------------------------------------------------

    def look(self) -> Snapshot:
        """Note what there is now, if it has changed; return it."""
        routes = self.routes
        with self.server.lock:
            runs = {
                run_id: handle["state"]
                for run_id, handle in routes.runs.items()
                if handle["groupId"] == self.group
            }
            uploads = {one["id"]: one["name"] for one in routes.uploads}
            self.contents.update(routes.files)
            for run_id, handle in routes.runs.items():
                if handle["state"] == "SUCCESS":
                    files = [(file["id"], file["name"]) for file in handle["files"]]
                    self.results[run_id] = files
                for argument in handle["arguments"]:
                    if argument["name"] == "greeting":
                        started = self.tags.setdefault(argument["value"], [])
                        if run_id not in started:
                            started.append(run_id)
        if (runs, uploads) != (self.now.runs, self.now.uploads):
            if self.now.number:
                self._history.append(replace(self.now, until=self.clock.monotonic()))
            self.now = Snapshot(self.now.number + 1, runs, uploads)
        return self.now

    def lately(self, since: int) -> list[Snapshot]:
        """Return what there was within `TTL`, and from a change on; the last is what is now."""
        self.look()
        earliest = self.clock.monotonic() - TTL - _SLACK
        return [one for one in self._history if one.number >= since and one.until >= earliest] + [
            self.now
        ]

    def archive(self, data: bytes) -> dict[str, bytes]:
        """Return the files in an archive."""
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            found = {}
            for member in archive.getmembers():
                file = archive.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
            return found

    def result(self, run_id: str) -> dict[str, bytes]:
        """Return the bytes of a run's files, by id."""
        return {file_id: self.contents[file_id] for file_id, _ in self.results[run_id]}

    # -- what others do ---------------------------------------------------------

    def end(self, run_id: str, state: str) -> None:
        """Have a run end that goes on."""
        with self.server.lock:
            handle = self.routes.runs.get(run_id)
            if handle is not None and handle["state"] == "RUNNING":
                handle.update(state=state, finishedAt=handle["createdAt"])
                if state != "SUCCESS":
                    handle["messages"] = [f"ended in {state}"]
        self.look()

    def start(self, tag: str) -> str:
        """Start a run that goes on."""
        file = {"type": "$file", "value": {"fileId": self.names}}
        with self.server.lock:
            arguments: list[dict[str, Any]] = [
                {"name": "names", "value": file},
                {"name": "greeting", "value": tag},
            ]
            handle = self.routes.add_run("RUNNING", arguments=arguments)
            file_id = f"result-{handle['id']}"
            self.routes.files[file_id] = tag.encode() * 7000
            handle["files"] = [{"id": file_id, "name": "results/greetings.txt"}]
        self.look()
        return str(handle["id"])

    def delete(self, run_id: str) -> None:
        with self.server.lock:
            handle = self.routes.runs.get(run_id)
            if handle is not None and handle["state"] != "RUNNING":
                del self.routes.runs[run_id]
        self.look()

    def upload(self, name: str, data: bytes) -> None:
        with self.server.lock:
            self.routes.add_upload(data, name, self.group)
        self.look()

    def remove(self, file_id: str) -> None:
        with self.server.lock:
            routes = self.routes
            routes.uploads = [one for one in routes.uploads if one["id"] != file_id]
            routes.files.pop(file_id, None)
        self.look()
