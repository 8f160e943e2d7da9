"""What became of each row of a sweep: a file beside it, written before and after each send.

A line is one JSON object, and is on disk before anything goes on. So whoever is killed leaves
one of three things of a row: nothing, and it was not sent; that it was to be sent, and it may
have been; or what came of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from flowfs.arguments import Argument
from flowfs.errors import BadReply, FlowError, failure

__all__ = ["Baseline", "Intent", "Ledger", "clock"]

_HEADER = {"flowfs": "sweep", "version": 1}
_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_ADVICE = "keep it, for it says what was started; --ledger names another one"


@dataclass(frozen=True)
class Baseline:
    """The runs that there were before any was sent.

    Attributes
    ----------
    since : str or None
        When the oldest of `known` was created, as the service writes it: what is no newer was
        there as well. None: `known` are all.
    known : frozenset of str
        Ids of the newest.
    """

    since: str | None
    known: frozenset[str]


@dataclass(frozen=True)
class Intent:
    """A row that was to be sent, and of which nothing more is known.

    Attributes
    ----------
    number : int
        In the ledger.
    key : str
        Of the row.
    arguments : list of dict
        As they were sent.
    baseline : Baseline
        What was there before.
    at : float or None
        When, in seconds, by :func:`clock`. None: that was before this machine was started, or
        on another one, and no clock tells how long ago.
    """

    number: int
    key: str
    arguments: list[Argument]
    baseline: Baseline
    at: float | None


@dataclass
class _State:
    """What a ledger says of one group."""

    started: dict[str, list[str]] = field(default_factory=dict)  # runs by row
    intents: dict[int, Intent] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)
    baseline: Baseline = field(default_factory=lambda: Baseline(None, frozenset()))


class Ledger:
    """The ledger of a sweep, as far as it is about one group. A context manager.

    Nobody else can open it meanwhile. Thread-safe within.

    Parameters
    ----------
    path : str
        Its file, made if it is missing.
    group : str
        Its id: what is in the file of others is left as it is. The address of the service is
        no part of it: one service may have several, and nothing is to be started twice.

    Raises
    ------
    FlowError
        EBUSY, if somebody else has it open; EIO, if it is damaged.
    OSError
        If it cannot be read or written.
    """

    def __init__(self, path: str, group: str) -> None:
        self.path = path
        self.group = group
        self._lock = threading.Lock()
        self._next = 1
        self._state = _State()
        self._file = _locked(path)
        try:
            self._read()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._file)

    # -- what it says --------------------------------------------------------

    @property
    def intents(self) -> list[Intent]:
        """Rows that were to be sent, and of which nothing more is known; oldest first."""
        with self._lock:
            return list(self._state.intents.values())

    @property
    def runs(self) -> set[str]:
        """Ids of all runs that were started, those of earlier beginnings among them."""
        with self._lock:
            return set(self._state.runs)

    def due(self, keys: Sequence[str]) -> tuple[dict[int, str], list[int]]:
        """Tell which rows have been started, and which have not.

        Of as many rows of the same arguments as were started, or may have been, the first ones
        are taken to be these.

        Parameters
        ----------
        keys : sequence of str
            Of all rows, in order.

        Returns
        -------
        started : dict of int to str
            Ids of runs by the numbers of rows.
        due : list of int
            Numbers of rows that have not been sent. What may have been sent is in neither.
        """
        with self._lock:
            left = {key: list(runs) for key, runs in self._state.started.items()}
            unclear: dict[str, int] = {}
            for intent in self._state.intents.values():
                unclear[intent.key] = unclear.get(intent.key, 0) + 1
        started: dict[int, str] = {}
        due = []
        for number, key in enumerate(keys):
            if left.get(key):
                started[number] = left[key].pop(0)
            elif unclear.get(key):
                unclear[key] -= 1
            else:
                due.append(number)
        return started, due

    # -- what is written -----------------------------------------------------

    def begin(self, baseline: Baseline) -> None:
        """Note which runs there are before any is sent."""
        with self._lock:
            self._write({"baseline": sorted(baseline.known), "since": baseline.since})
            self._state.baseline = baseline

    def intend(self, key: str, arguments: list[Argument]) -> int:
        """Note that a row is about to be sent; return its number in the ledger."""
        with self._lock:
            number, at = self._next, clock()
            # What the day's clock says is for people: it may be set while nobody looks.
            when = {"at": time.time(), "boot": _boot(), "up": at}
            self._write({"intent": number, "row": key, **when, "arguments": arguments})
            self._next = number + 1
            self._state.intents[number] = Intent(number, key, arguments, self._state.baseline, at)
            return number

    def started(self, number: int, run_id: str) -> None:
        """Note which run it is."""
        with self._lock:
            self._write({"of": number, "run": run_id})
            self._take(number, run_id)

    def refused(self, number: int, why: str) -> None:
        """Note that no run came of it."""
        with self._lock:
            self._write({"of": number, "refused": why})
            self._take(number, None)

    def again(self) -> None:
        """Forget which rows have been started, to start all anew."""
        with self._lock:
            self._write({"again": True})
            self._forget()

    # -- the file ------------------------------------------------------------

    def _write(self, record: Mapping[str, Any]) -> None:
        line = json.dumps({**record, "group": self.group}, separators=(",", ":"))
        self._append(line)

    def _append(self, line: str) -> None:
        data = line.encode() + b"\n"
        before = os.lseek(self._file, 0, os.SEEK_END)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            _cut(self._file, before)  # half a line would be in the way of the next one
            error.filename = self.path
            raise

    def _read(self) -> None:
        data = b""
        os.lseek(self._file, 0, os.SEEK_SET)
        while piece := os.read(self._file, 1 << 20):
            data += piece
        whole = data.rfind(b"\n") + 1
        header = json.dumps(_HEADER)
        if header.encode().startswith(data):  # new, or who began it was killed at once
            _cut(self._file, 0)
            self._append(header)
            _sync_directory(self.path)
            return
        # What is behind the last line end is half of a line; alone, it is something else.
        for number, line in enumerate((data[:whole] or data).splitlines(), 1):
            try:
                record = json.loads(line)
                if number == 1:
                    self._check_header(record)
                else:
                    self._learn(record)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise failure(
                    BadReply,
                    f"is no ledger of a sweep, or damaged: line {number} ({error}); {_ADVICE}",
                    self.path,
                ) from None
        if whole < len(data):  # who wrote the last one was killed in the middle of it
            _cut(self._file, whole)

    def _check_header(self, record: Any) -> None:
        if record.get("flowfs") != "sweep":
            raise ValueError("it does not begin as one")
        if record.get("version") != _HEADER["version"]:
            raise ValueError("another version of flowfs has written it")

    def _learn(self, record: Any) -> None:
        if "intent" in record:
            self._next = max(self._next, int(record["intent"]) + 1)
        if record["group"] != self.group:
            return
        if "intent" in record:
            number = int(record["intent"])
            arguments = [
                {"name": one["name"], "value": one["value"]} for one in record["arguments"]
            ]
            here = record.get("boot") == _boot() != ""
            at = float(record["up"]) if here else None
            key = str(record["row"])
            self._state.intents[number] = Intent(number, key, arguments, self._state.baseline, at)
        elif "run" in record:
            self._take(int(record["of"]), str(record["run"]))
        elif "refused" in record:
            self._take(int(record["of"]), None)
        elif "baseline" in record:
            self._state.baseline = Baseline(record["since"], frozenset(record["baseline"]))
        elif "again" in record:
            self._forget()
        else:
            raise ValueError("it says nothing that is known")

    def _take(self, number: int, run_id: str | None) -> None:
        intent = self._state.intents.pop(number)
        if run_id is not None:
            self._state.started.setdefault(intent.key, []).append(run_id)
            self._state.runs.add(run_id)

    def _forget(self) -> None:
        # What was started before is taken for nothing that is started from now on.
        self._state = _State(runs=self._state.runs, baseline=self._state.baseline)


def clock() -> float:
    """Return seconds that nobody can set: since this machine was started, asleep or awake."""
    return time.clock_gettime(_CLOCK)


@functools.cache
def _boot() -> str:
    """Return what tells the time since this machine was started from all others; may be empty."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
    return ""


def _locked(path: str) -> int:
    """Open a file, and keep all others from it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    while True:
        file = os.open(path, flags, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there, mine = os.stat(path), os.fstat(file)
            if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                return file
        except BlockingIOError:
            os.close(file)
            raise failure(
                FlowError,
                "somebody else is starting runs by it: wait for that to end, and do it again",
                path,
                errno=errno.EBUSY,
            ) from None
        except FileNotFoundError:
            pass  # removed since it was opened
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _cut(file: int, size: int) -> None:
    os.ftruncate(file, size)
    os.fsync(file)


def _sync_directory(path: str) -> None:
    """Have the name of a new file on disk as well."""
    directory = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def same_arguments(one: Iterable[Mapping[str, Any]], other: Any) -> bool:
    """Tell whether arguments that were sent are those of a run, in whatever order."""
    if not isinstance(other, list) or not all(isinstance(each, Mapping) for each in other):
        return False
    return _by_name(one) == _by_name(other)


def _by_name(arguments: Iterable[Mapping[str, Any]]) -> dict[Any, str]:
    return {
        each.get("name"): json.dumps(_plain(each.get("value")), sort_keys=True)
        for each in arguments
    }


def _plain(value: Any) -> Any:
    """Return a value without what is said of a file only to say that there is nothing to say."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    return value
