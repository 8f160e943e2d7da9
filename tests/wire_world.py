"""What the fast stand-in holds: many runs, or large files, that are nowhere as a whole.

Every result is a stretch of one endless pattern, which repeats itself after a prime number of
bytes. So gigabytes cost no memory, no two results are alike, and whoever knows where a stretch
begins knows all of its bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any, NamedTuple

from standin_routes import _PARAMETERS, Refusal, Routes

__all__ = ["Contents", "Pattern", "Stretch", "World"]

_BEGAN = datetime(2025, 6, 1, tzinfo=timezone.utc)
_SMALL, _LARGE = 1_048_573, 67_108_859  # primes


class Pattern:
    """Bytes that go on for ever.

    Parameters
    ----------
    period : int
        After how many they come again.
    """

    def __init__(self, period: int) -> None:
        self.period = period

    @cached_property
    def data(self) -> bytes:
        """One period of them."""
        return random.Random(1).randbytes(self.period)

    @cached_property
    def descriptor(self) -> int:
        """A file of one period, without a name."""
        made = os.memfd_create("pattern")
        view = memoryview(self.data)
        while view:
            view = view[os.write(made, view) :]
        return made

    def read(self, start: int, size: int) -> bytes:
        """Return some of the bytes."""
        at = start % self.period
        if at + size <= self.period:
            return self.data[at : at + size]
        copies = (at + size) // self.period + 1
        return (self.data * copies)[at : at + size]


@dataclass(frozen=True)
class Contents:
    """What a stand-in is to hold.

    Attributes
    ----------
    big : int
        Bytes of the one result of a run; 0: there is no such run.
    paths : tuple of str
        Local files, each the one result of a run.
    runs : int
        Runs beside those, all in SUCCESS.
    results : int
        Results of each of them.
    size : int
        Bytes of each result.
    """

    big: int = 0
    paths: tuple[str, ...] = ()
    runs: int = 0
    results: int = 1
    size: int = 20_000

    @property
    def period(self) -> int:
        """Of the pattern that results are taken from."""
        return _LARGE if max(self.big, self.size) > _SMALL else _SMALL

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Contents:
        """Read what `to_json` returned."""
        members = json.loads(text)
        return cls(**{**members, "paths": tuple(members["paths"])})

    def run(self, number: int) -> str:
        """Return the id of a run; that of the big result and those of paths come last."""
        return _id(f"run {number}")

    def file(self, number: int, place: int = 0) -> str:
        """Return the id of a result of a run."""
        return _id(f"file {number} {place}")

    def name(self, place: int = 0) -> str:
        """Return the workflow's name of a result."""
        return f"results/data-{place}.bin"

    def stretch(self, number: int, place: int = 0) -> Stretch:
        """Return what a result holds, unless it is a local file."""
        size = self.size if number < self.runs else self.big
        return Stretch((number * self.results + place) * 7919, size)

    @property
    def count(self) -> int:
        """How many runs there are in all."""
        return self.runs + (self.big > 0) + len(self.paths)

    def path_of(self, number: int) -> str | None:
        """Return the local file that is a run's result."""
        place = number - self.runs - (self.big > 0)
        return self.paths[place] if place >= 0 else None


def _id(what: str) -> str:
    return hashlib.blake2b(what.encode(), digest_size=16).hexdigest()


class Stretch(NamedTuple):
    """A part of the pattern."""

    start: int
    size: int


@dataclass(frozen=True)
class Large:
    """Bytes that are to be sent from a file, in pieces."""

    size: int
    descriptor: int
    period: int = 0
    start: int = 0

    def spans(self, first: int, count: int, piece: int) -> Iterator[tuple[int, int]]:
        """Yield where in the file the pieces are, and how long."""
        while count > 0:
            at, most = first, piece
            if self.period:
                at = (self.start + first) % self.period
                most = min(piece, self.period - at)
            span = min(most, count)
            yield at, span
            first += span
            count -= span


@dataclass
class World(Routes):
    """The routes of the stand-in, over contents that are made when they are asked for.

    Parameters
    ----------
    contents : Contents
        What there is from the beginning.
    """

    contents: Contents
    _numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Routes.__init__(self)
        self.pattern = Pattern(self.contents.period)
        self._numbers = {self.contents.run(n): n for n in range(self.contents.count)}
        self._opened: dict[int, Large] = {}
        self._handles: dict[str, bytes] = {}
        self._listing: bytes | None = None

    # -- answers that are kept as they are sent -----------------------------

    def get_runs(self, group: str) -> tuple[int, Any]:
        self._check(group)
        return 200, self._with_runs({}, self._listed(group))

    def get_group(self, group: str) -> tuple[int, Any]:
        self._check(group)
        told = super().get_group(group)[1]
        own = told.pop("runs")
        return 200, self._with_runs(told, own)

    def _with_runs(self, members: dict[str, Any], own: list[Any]) -> bytes:
        if self._listing is None:
            self._listing = ", ".join(
                f'{{"id": "{run_id}", "state": "SUCCESS", "createdAt": "{_created(number)}"}}'
                for run_id, number in self._numbers.items()
            ).encode()
        more = ", ".join(json.dumps(run) for run in own).encode()
        runs = b", ".join(part for part in (self._listing, more) if part)
        before = json.dumps(members)[:-1] + (", " if members else "")
        return before.encode() + b'"runs": [' + runs + b"]}"

    def get_run(self, run_id: str) -> tuple[int, Any]:
        if run_id not in self._numbers:
            return super().get_run(run_id)
        kept = self._handles.get(run_id)
        if kept is None:
            kept = self._handles[run_id] = json.dumps(self._run(run_id)).encode()
        return 200, kept

    def delete_run(self, run_id: str) -> tuple[int, Any]:
        if run_id not in self._numbers:
            return super().delete_run(run_id)
        del self._numbers[run_id]
        self._handles.pop(run_id, None)
        self._listing = None
        return 204, b""

    # -- content -------------------------------------------------------------

    def get_result(self, run_id: str, file_id: str) -> tuple[int, Any]:
        number = self._numbers.get(run_id)
        if number is None:
            return super().get_result(run_id, file_id)
        for place in self._places(number):
            if file_id == self.contents.file(number, place):
                return 200, self._content(number, place)
        raise Refusal(404, f"unknown file '{file_id}'")

    def _content(self, number: int, place: int) -> bytes | Large:
        path = self.contents.path_of(number)
        if path is not None:
            if number not in self._opened:
                opened = os.open(path, os.O_RDONLY)
                self._opened[number] = Large(os.fstat(opened).st_size, opened)
            return self._opened[number]
        start, size = self.contents.stretch(number, place)
        if size > 1 << 18:
            return Large(size, self.pattern.descriptor, self.pattern.period, start)
        return self.pattern.read(start, size)

    def _places(self, number: int) -> Iterable[int]:
        return range(self.contents.results if number < self.contents.runs else 1)

    def _run(self, run_id: str) -> dict[str, Any]:
        number = self._numbers.get(run_id)
        if number is None:
            return super()._run(run_id)
        files = [
            {"id": self.contents.file(number, place), "name": self.contents.name(place)}
            for place in self._places(number)
        ]
        when = _created(number)
        return {
            "id": run_id,
            "workflowId": self.workflow,
            "groupId": self.group,
            "state": "SUCCESS",
            "arguments": [],
            "parameters": _PARAMETERS,
            "createdAt": when,
            "startedAt": when,
            "finishedAt": when,
            "files": files,
        }

    # -- the same files for clients that know HTTP and nothing else ----------

    def plain(self, path: str) -> tuple[str, int, Any]:
        """Return kind, status and body of a page of links, or of a file behind one.

        ``/plain/`` has a directory for each run, and that its results.
        """
        first, _, second = path.strip("/").partition("/")
        if not first:
            return "plain:list", 200, _page(f"{run_id}/" for run_id in self._numbers)
        number = self._numbers.get(first)
        if number is None:
            return "plain:list", 404, b""
        names = [f"data-{place}.bin" for place in self._places(number)]
        if not second:
            return "plain:list", 200, _page(names)
        if second not in names:
            return "plain:file", 404, b""
        return "plain:file", 200, self._content(number, names.index(second))


def _created(number: int) -> str:
    return (_BEGAN + timedelta(seconds=number)).isoformat()


def _page(names: Iterable[str]) -> bytes:
    links = "".join(f'<a href="{name}">{name}</a>\n' for name in names)
    return f"<!doctype html><title>Index</title>\n{links}".encode()
