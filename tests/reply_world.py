"""A service that answers one kind of request with something else, and what to look at then."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from canned import Answer, Canned, Request, told
from hypothesis import strategies as st

from flowfs import FlowFileSystem

__all__ = [
    "ARGUMENTS",
    "CREATED",
    "DATA",
    "GROUP",
    "LOOKS",
    "RUN",
    "SIZE",
    "Look",
    "World",
    "is_list",
    "is_run",
    "looks",
    "right",
    "shown",
]

SIZE = 70_000  # more than comes along when a size is asked for
DATA = random.Random(3).randbytes(SIZE)
GROUP = "group-1"
RUN = "run-1"


class World(Canned):
    """A group with a run that has ended, one that goes on, and two uploads."""

    def __init__(self, data: bytes = DATA) -> None:
        super().__init__()
        routes = self.routes
        self.file = "file-1"
        routes.files[self.file] = data
        files = [{"id": self.file, "name": "results/data.bin"}]
        for run_id, state in ((RUN, "SUCCESS"), ("run-2", "RUNNING")):
            made = routes.add_run(state, files=files)
            routes.runs[run_id] = {**routes.runs.pop(made["id"]), "id": run_id}
        self.names = routes.add_upload(b"Ada\n", "names.txt", GROUP)["id"]
        self.old = routes.add_upload(b"as it was", "data.txt", GROUP)["id"]
        self.run = f"groups/{GROUP}/runs/{RUN}"
        self.result = f"{self.run}/results/{self.file}"
        self.spoiled: list[Request] = []

    def spoil_with(self, wanted: str, answer: Callable[[Request, Answer], Answer]) -> None:
        """Answer requests that look so otherwise: ``"GET /runs/run-1"``."""

        def spoil(request: Request, own: Answer) -> Answer:
            if f"{request.method} {request.path.partition('?')[0]}" != wanted:
                return own
            self.spoiled.append(request)
            return answer(request, own)

        self.spoil = spoil


def decoded(data: bytes) -> Any:
    """Return what a reply in JSON holds, or raise what Python does where it holds nothing."""
    if not data.strip():
        return None
    return json.loads(data)


def depth(document: Any) -> int:
    """Return how many brackets there are within brackets."""
    levels, level = 0, [document]
    while True:
        level = [one for one in level if isinstance(one, (dict, list))]
        if not level:
            return levels
        levels += 1
        level = [x for one in level for x in (one.values() if isinstance(one, dict) else one)]


def right(data: bytes) -> Any:
    """Return the same; None where it must be refused."""
    with contextlib.suppress(ValueError, RecursionError):
        document = decoded(data)
        if depth(document) <= 300:
            return document
    return None


def is_list(document: Any, member: str, *required: str) -> bool:
    entries = document.get(member) if isinstance(document, dict) else None
    return isinstance(entries, list) and all(
        isinstance(one, dict) and all(isinstance(one.get(name), str) for name in required)
        for one in entries
    )


def is_run(document: Any, run_id: str | None = None) -> bool:
    if not isinstance(document, dict) or not isinstance(document.get("state"), str):
        return False
    if not isinstance(document.get("id"), str) or run_id not in (None, document["id"]):
        return False
    return document["state"] != "SUCCESS" or is_list(document, "files", "id")


def shown(data: bytes) -> Any:
    return json.loads(data.decode("utf-8", "surrogatepass"))


DIRECTORIES = ("", "groups", "workflows", f"groups/{GROUP}", f"groups/{GROUP}/runs")
FILES = (
    f"groups/{GROUP}/group.json",
    f"groups/{GROUP}/arguments.template.json",
    f"groups/{GROUP}/runs.jsonl",
    f"groups/{GROUP}/runs/{RUN}/handle.json",
    f"groups/{GROUP}/runs/{RUN}/arguments.json",
    "workflows/workflow-1/workflow.json",
    "workflows/workflow-1/leaderboard.csv",
    "workflows/workflow-1/leaderboard.json",
)
TREES = (f"groups/{GROUP}", "workflows/workflow-1", f"groups/{GROUP}/runs/{RUN}")
TIMED = (f"groups/{GROUP}/latest", f"groups/{GROUP}/runs/{RUN}", f"groups/{GROUP}")


class Look(NamedTuple):
    """Something that may be looked at when all else is over."""

    what: str
    path: str

    def __call__(self, fs: FlowFileSystem) -> None:
        """Look; it may be refused, as must be said."""
        with told():
            if self.what == "list":
                for entry in fs.ls(self.path, detail=True):
                    assert isinstance(entry["name"], str)
                    entry["name"].encode()
            elif self.what == "read":
                size = fs.info(self.path)["size"]
                data = fs.cat_file(self.path)
                assert size in (None, len(data))
            elif self.what == "find":
                found = fs.find(self.path, withdirs=True)
                assert len(set(found)) == len(found)
            else:
                with contextlib.suppress(NotImplementedError):
                    getattr(fs, self.what)(self.path)
        errors = fs.cat_file(".flowfs/errors").decode()
        assert all(line.isprintable() for line in errors.replace("\t", " ").splitlines())


LOOKS = (
    *(Look("list", path) for path in DIRECTORIES),
    *(Look("read", path) for path in FILES),
    *(Look("find", path) for path in TREES),
    *(Look(what, path) for what in ("modified", "created", "ukey", "sign") for path in TIMED),
)
looks = st.sampled_from(LOOKS)
ARGUMENTS = Look("read", f"groups/{GROUP}/runs/{RUN}/arguments.json")
CREATED = Look("created", f"groups/{GROUP}/runs/{RUN}")
