"""A mount that random sequences work on, the service behind it, and groups to try things in."""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from reference import Worker
from sequences import GIVEN, NAMES, SLEEPTIMES
from support import Rest

from flowfs.embedded import EmbeddedService, sample


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
