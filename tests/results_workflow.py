"""A workflow whose results are of many kinds, for trying ordinary tools on them.

The embedded service brings workflows whose results are few, small and all text. This one is put
into a service from outside, as its administrator would do it; that service is to be the test's own.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from support import Rest, wait_until

from flowfs.embedded import EmbeddedService

__all__ = ["RESULTS", "ResultsGroup", "add_workflow", "results_group"]

#: The names that the workflow gives its results, in its order.
RESULTS = (
    "table.csv",
    "results/long.txt",
    "results/empty.txt",
    "results/deep/er/random.bin",
    "results/deep/stations.sqlite",
    "results/deep/zeros.bin",
    "results/odd name & größe.txt",
    "results/-dash.txt",
)

_PYTHON = os.environ.get("FLOWFS_TEST_SERVICE_PYTHON", sys.executable)  # of the service

_SCRIPT = """
import random
import sqlite3
import sys
import time
from pathlib import Path

sleeptime, fail = int(sys.argv[1]), sys.argv[2] == "True"
time.sleep(sleeptime)
if fail:
    sys.exit("this run was asked to fail")
Path("results/deep/er").mkdir(parents=True, exist_ok=True)
Path("table.csv").write_text("station,mean\\nHarbour,23.75\\nRidge,14.0\\n")
Path("results/long.txt").write_text("".join(f"line {n} of many\\n" for n in range(30_000)))
Path("results/empty.txt").write_text("")
Path("results/deep/er/random.bin").write_bytes(random.Random(1).randbytes(300_001))
Path("results/deep/zeros.bin").write_bytes(bytes(1 << 18))
Path("results/odd name & gr\\u00f6\\u00dfe.txt").write_text("odd\\n")
Path("results/-dash.txt").write_text("dash\\n")
with sqlite3.connect("results/deep/stations.sqlite") as base:
    base.execute("CREATE TABLE mean (station TEXT PRIMARY KEY, value REAL)")
    base.executemany("INSERT INTO mean VALUES (?, ?)", [("Harbour", 23.75), ("Ridge", 14.0)])
base.close()
"""

_SPECIFICATION = """
workflow:
  inputs:
    parameters:
      sleeptime: $[[sleeptime]]
      fail: $[[fail]]
  workflow:
    type: serial
    specification:
      steps:
        - environment: python
          commands:
            - '"$$FLOWFS_PYTHON" make.py ${sleeptime} ${fail}'
  outputs:
    files: FILES
parameters:
  - name: note
    label: Note
    dtype: file
    target: note.txt
    isRequired: false
  - name: sleeptime
    label: Seconds to wait
    dtype: int
    defaultValue: 0
    isRequired: false
  - name: fail
    label: Whether to fail
    dtype: bool
    defaultValue: false
    isRequired: false
outputs: TITLES
"""

_ADD = """
import sys
from robflask.service import service
with service(user_id=None) as api:
    print(api.workflows().create_workflow(source=sys.argv[1])["id"])
"""


def add_workflow(
    service: EmbeddedService,
    results: Sequence[str] = RESULTS,
    script: str = _SCRIPT,
    name: str = "results",
) -> str:
    """Put a workflow into a service, and return its id.

    Parameters
    ----------
    service : EmbeddedService
        Which.
    results : sequence of str
        What the workflow calls its results.
    script : str
        Python that makes them.
    name : str
        Of the workflow.
    """
    with TemporaryDirectory() as place:
        source = Path(place)
        (source / "make.py").write_text(script)
        files = "".join(f"\n      - {result!r}" for result in results)
        # Only what has a title is shown.
        titles = "".join(f"\n  - source: {one!r}\n    title: {one!r}" for one in results)
        specification = _SPECIFICATION.replace("FILES", files).replace("TITLES", titles)
        (source / "workflow.yaml").write_text(specification.lstrip(), "utf-8")
        (source / "flowserv.yaml").write_text(
            f"name: {name}\nspecfile: workflow.yaml\nfiles:\n  - source: make.py\n"
        )
        environment = {
            **os.environ,
            "FLOWSERV_API_DIR": str(service.directory / "api"),
            "FLOWSERV_DATABASE": f"sqlite:///{service.directory}/service.db?timeout=60",
            "ROB_WEBAPI_LOG": str(source / "errors"),
            "GIT_PYTHON_REFRESH": "quiet",
        }
        done = subprocess.run(
            [_PYTHON, "-c", _ADD, place],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


@contextlib.contextmanager
def results_group() -> Iterator[ResultsGroup]:
    """Start a service with that workflow and a group of it; both end with the context."""
    with EmbeddedService.start(python=_PYTHON) as service:
        group = ResultsGroup(service)
        try:
            yield group
        finally:
            group.close()


class ResultsGroup:
    """A group of that workflow, with runs in several states and uploads of odd names.

    Parameters
    ----------
    service : EmbeddedService
        A service of the test's own.

    Attributes
    ----------
    id : str
        The group's id; the runs and uploads are its.
    done, failed, canceled, active : dict
        Handles of runs in SUCCESS, ERROR, CANCELED, and of one that goes on until
        :meth:`close`.
    uploads : dict of str to bytes
        What is in `uploads/`, by the name that it has there.
    """

    def __init__(self, service: EmbeddedService) -> None:
        self.service, self.rest = service, Rest(service)
        self.workflow_id = add_workflow(service)
        self.id = self.new_group()
        self.done = self.succeeded()
        self.failed = self.rest.ended(self.rest.start(self.id, {"fail": True}))
        assert self.failed["state"] == "ERROR", self.failed
        canceled = self._running()
        self.rest.request("PUT", f"runs/{canceled['id']}", json={"reason": "enough"})
        self.canceled = self.rest.ended(canceled["id"])
        assert self.canceled["state"] == "CANCELED", self.canceled
        self.active = self._running()
        self.uploads: dict[str, bytes] = {}
        for name in (
            "note.txt",
            "two words.txt",
            "größe 日本.txt",
            "-rf",
            ".hidden",
            'it\'s "$HOME".txt',
        ):
            self._upload(name, name)
        self._upload("empty.txt", "empty.txt", b"")
        # What cannot be a file's name, and two of one name.
        self._upload("a/b.txt", "a%2Fb.txt")
        first = self._upload("twice.txt", "")
        self.uploads[f"twice.txt ({first})"] = self.uploads.pop("")
        self._upload("twice.txt", "twice.txt")

    def new_group(self) -> str:
        """Make a group of the workflow, empty, and return its id."""
        reply = self.rest.request(
            "POST", f"workflows/{self.workflow_id}/groups", json={"name": os.urandom(8).hex()}
        )
        assert reply.ok, reply.text
        return str(reply.json()["id"])

    def succeeded(self, group_id: str | None = None) -> dict[str, Any]:
        """Start a run, wait for its success and return its handle."""
        handle = self.rest.ended(self.rest.start(group_id or self.id, {}))
        assert handle["state"] == "SUCCESS", handle
        assert {file["name"] for file in handle["files"]} == set(RESULTS)
        return handle

    def results(self, handle: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the bytes of a run's results by name, as the service gives them."""
        return {file["name"]: self.rest.result(handle, file["name"]) for file in handle["files"]}

    def close(self) -> None:
        """End the active run and the connections."""
        self.rest.request("PUT", f"runs/{self.active['id']}", json={})
        self.rest.close()

    def _running(self) -> dict[str, Any]:
        run_id = self.rest.start(self.id, {"sleeptime": 6000})
        return wait_until(
            lambda: handle if (handle := self.rest.run(run_id))["state"] == "RUNNING" else None,
            30,
            "a run that runs",
        )

    def _upload(self, stored: str, shown: str, data: bytes | None = None) -> str:
        """Upload a file and give it a name that the service itself would not let through."""
        data = f"what is in {stored!r}\n".encode() * 50 if data is None else data
        reply = self.rest.request("POST", f"uploads/{self.id}/files", files={"file": ("x", data)})
        assert reply.ok, reply.text
        file_id = str(reply.json()["id"])
        with contextlib.closing(sqlite3.connect(self.service.directory / "service.db", 30)) as base:
            with base:
                base.execute(
                    "UPDATE group_upload_file SET name = ? WHERE file_id = ?", (stored, file_id)
                )
        self.uploads[shown] = data
        return file_id
