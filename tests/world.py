"""A group of the real service with runs in it, for the tests of the file system."""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from support import Rest, wait_until

from flowfs import FlowFileSystem
from flowfs.embedded import EmbeddedService, sample

__all__ = ["Requests", "World", "counted"]

_numbers = itertools.count(1)


class World:
    """A group of its own of one workflow, with the workflow's sample uploaded.

    Attributes
    ----------
    rest : Rest
        The service without flowfs.
    group_id, workflow_id : str
        Ids.
    group : str
        Path of the group.
    upload : str
        Name of the upload; `upload_id` its id.
    """

    def __init__(self, service: EmbeddedService, workflow: str = "hello") -> None:
        self.service = service
        self.rest = Rest(service)
        self.endpoint, self.token = service.endpoint, service.token
        self.workflow_id = service.workflows[workflow]
        self.group_name = f"world {os.urandom(4).hex()}"
        self.group_id = self.new_group(self.group_name)
        self.group = f"groups/{self.group_id}"
        self.new = f"{self.group}/runs/new"
        self.uploads = f"{self.group}/uploads"
        source = sample(workflow)
        self.upload = source.name
        self.upload_id = self.rest.upload(self.group_id, source)
        self._parameter = {"hello": "names", "analysis": "data"}[workflow]

    def new_group(self, name: str) -> str:
        """Make a group of the workflow and return its id."""
        reply = self.rest.request(
            "POST", f"workflows/{self.workflow_id}/groups", json={"name": name}
        )
        assert reply.ok, reply.text
        return str(reply.json()["id"])

    def fs(self, **options: Any) -> FlowFileSystem:
        """Return a file system that knows nothing yet: no other has these options."""
        options.setdefault("timeout", 30 + next(_numbers) / 1000)
        # However slow the machine is, nothing is asked for twice only because time has passed.
        options.setdefault("ttl", 600)
        return FlowFileSystem(self.endpoint, options.pop("token", self.token), **options)

    def start(self, **arguments: Any) -> str:
        """Start a run, without flowfs, and return its id."""
        file = {self._parameter: {"fileId": self.upload_id}}
        return self.rest.start(self.group_id, {**file, **arguments})

    def ended(self, run_id: str) -> dict[str, Any]:
        """Wait for a run's end and return its handle."""
        return self.rest.ended(run_id)

    def succeeded(self, **arguments: Any) -> dict[str, Any]:
        """Start a run, wait for its success, and return its handle."""
        handle = self.ended(self.start(**arguments))
        assert handle["state"] == "SUCCESS", handle
        return handle

    def active(self) -> str:
        """Start a run that goes on until it is canceled; wait until it is RUNNING."""
        run_id = self.start(sleeptime=6000)
        wait_until(lambda: self.rest.run(run_id)["state"] == "RUNNING", 30, "a run that runs")
        return run_id

    def cancel(self, run_id: str) -> None:
        """Cancel a run, without flowfs, if it is active."""
        self.rest.request("PUT", f"runs/{run_id}", json={})

    def run(self, handle: Mapping[str, Any]) -> str:
        """Return the path of a run."""
        return f"{self.group}/runs/{handle['id']}"

    def result(self, handle: Mapping[str, Any], number: int = 0) -> str:
        """Return the path of a run's result file."""
        return f"{self.run(handle)}/results/{handle['files'][number]['id']}"

    def run_ids(self) -> list[str]:
        """Return the ids of the group's runs, asked without flowfs."""
        return [run["id"] for run in self.rest.get(f"groups/{self.group_id}/runs")["runs"]]

    def upload_names(self) -> list[str]:
        """Return the names of the group's uploads, asked without flowfs."""
        listed = self.rest.get(f"uploads/{self.group_id}/files")["files"]
        return sorted(file["name"] for file in listed)

    def url(self, path: str = "", protocol: str = "flow+http") -> str:
        """Return the full URL of a path."""
        base = f"{protocol}://{self.endpoint.partition('://')[2]}"
        return f"{base}/{path}" if path else base

    def options(self) -> dict[str, Any]:
        """Return storage options."""
        return {"token": self.token}


class Requests(logging.Handler):
    """Requests that flowfs made, as ``GET runs/abc``, in order."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.made: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a request's method and its path below the API root."""
        match = re.match(r"(\w+) \S+?/flowserv/api/v1/?(\S*) -> \d+", record.getMessage())
        if match:
            self.made.append(f"{match[1]} {match[2]}".strip())

    def of(self, pattern: str) -> list[str]:
        """Return the requests that match."""
        return [made for made in self.made if re.fullmatch(pattern, made)]

    def clear(self) -> None:
        """Begin anew."""
        self.made.clear()


@contextmanager
def counted() -> Iterator[Requests]:
    """Collect the requests that are made within."""
    requests, logger = Requests(), logging.getLogger("flowfs.service")
    level = logger.level
    logger.addHandler(requests)
    logger.setLevel(logging.DEBUG)
    try:
        yield requests
    finally:
        logger.removeHandler(requests)
        logger.setLevel(level)
