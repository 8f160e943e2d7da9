"""What a writer of a soak did, and what the service must have at the end for it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from support import Rest

__all__ = ["Deleting", "Ledger", "Start", "compare"]

# After these nobody knows whether it happens yet.
_LATER = {errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNABORTED}


@dataclass
class Start:
    """A run that was asked for.

    Attributes
    ----------
    greeting : str
        An argument that no other has.
    run : str or None
        Its id, if it started.
    may_be : bool
        Whether it may have started otherwise.
    named : str or None
        The run that was named where it may have.
    """

    greeting: str
    run: str | None = None
    may_be: bool = True
    named: str | None = None


@dataclass
class Deleting:
    """A deletion; `refused` where the run was active."""

    refused: bool = False


@dataclass
class Ledger:
    """What one writer did in its group.

    Attributes
    ----------
    group : str
        Its id.
    patience : int
        How often an upload may fail before nothing more is tried with it: of two that may be
        there, without a reply, only the newest has the name, and is replaced.
    starts : list of Start
        Every run that it asked for.
    uploads : dict
        By name, the digests of which one is what the upload holds; ``""`` where it may not be
        there.
    several : dict
        By name, whether there may be more than one of the name.
    pairs : list of (str, str)
        Names of which one at least is there.
    deleted, maybe, canceled : list of str
        Runs that are not there any more, that may not be, and that were canceled.
    settled : list of str
        Names of uploads with which nothing more is tried.
    failures : dict
        By name, how often it has failed since it last was as it should be.
    """

    group: str
    patience: int = 1
    starts: list[Start] = field(default_factory=list)
    uploads: dict[str, list[str]] = field(default_factory=dict)
    several: dict[str, bool] = field(default_factory=dict)
    pairs: list[tuple[str, str]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    maybe: list[str] = field(default_factory=list)
    canceled: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)

    def start(self, greeting: str) -> Start:
        """Note that a run is asked for."""
        self.starts.append(Start(greeting))
        return self.starts[-1]

    def doubtful(self) -> list[str]:
        """Return names of uploads that may be one or the other, and will not change any more."""
        return [
            name
            for name, digests in self.uploads.items()
            if len(digests) > 1 and name not in self.settled
        ]

    @contextlib.contextmanager
    def storing(self, name: str, data: bytes) -> Iterator[None]:
        """Note what comes of storing an upload; one that is there is never lost by it."""
        before = self.uploads.get(name, [""])
        digest = hashlib.sha256(data).hexdigest()
        self.uploads[name] = [*before, digest]
        self.several[name] = True
        try:
            yield
        except OSError as error:
            self._failed(error, name)
            raise
        self.uploads[name] = [digest]
        self.several.pop(name, None)
        self.failures.pop(name, None)

    @contextlib.contextmanager
    def removing(self, name: str) -> Iterator[None]:
        """Note what comes of removing an upload."""
        before = self.uploads.get(name, [""])
        self.uploads[name] = [*before, ""]
        try:
            yield
        except OSError as error:
            self._failed(error, name)
            raise
        self.uploads[name] = [""]
        self.several.pop(name, None)

    @contextlib.contextmanager
    def renaming(self, old: str, new: str, data: bytes) -> Iterator[None]:
        """Note what comes of renaming an upload; where that fails neither name is used again."""
        digest = hashlib.sha256(data).hexdigest()
        self.uploads[old], self.uploads[new] = [digest, ""], [digest, ""]
        try:
            yield
        except OSError:
            self.settled += [old, new]
            self.several[old] = self.several[new] = True
            self.pairs.append((old, new))
            raise
        self.uploads[old], self.uploads[new] = [""], [digest]
        self.several.pop(old, None)

    def _failed(self, error: OSError, name: str) -> None:
        self.failures[name] = self.failures.get(name, 0) + 1
        if error.errno in _LATER or self.failures[name] >= self.patience:
            self.settled.append(name)

    @contextlib.contextmanager
    def deleting(self, run: str) -> Iterator[Deleting]:
        """Note what comes of deleting a run."""
        deleting = Deleting()
        self.maybe.append(run)
        yield deleting
        self.maybe.remove(run)
        if not deleting.refused:
            self.deleted.append(run)


def compare(
    ledger: Ledger, rest: Rest, asked: Counter[str], made: dict[str, str]
) -> tuple[list[str], dict[str, int]]:
    """Compare what a writer did with what the service has.

    Parameters
    ----------
    ledger : Ledger
        What it did.
    rest : Rest
        The service itself.
    asked : Counter of str
        How often a start with each greeting came to the service's door.
    made : dict of str to str
        Ids of runs that the service has started, and their greetings.

    Returns
    -------
    list of str
        What is wrong.
    dict
        How many runs it saw start, does not know of, was refused, and how many there were.
    """
    listed = {}
    for run in rest.get(f"groups/{ledger.group}/runs")["runs"]:
        listed[str(run["id"])] = rest.run(run["id"])
    own = {start.greeting for start in ledger.starts}
    there: dict[str, set[str]] = {}
    for run_id, greeting in made.items():
        if greeting in own:
            there.setdefault(greeting, set()).add(run_id)
    wrong = []
    for run_id, handle in listed.items():
        greeting = _greeting(handle)
        if greeting in own:
            there.setdefault(greeting, set()).add(run_id)
        else:
            wrong.append(f"run {run_id} was asked for by nobody")
    wrong += [told for start in ledger.starts for told in _of_start(start, there, asked)]
    started = {start.run for start in ledger.starts if start.run} - set(ledger.maybe)
    deleted = set(ledger.deleted)
    wrong += [f"run {run} was deleted, and is there" for run in deleted & set(listed)]
    wrong += [f"run {run} is not there" for run in started - deleted - set(listed)]
    for run in ledger.canceled:
        if run in listed and listed[run]["state"] != "CANCELED":
            wrong.append(f"run {run} was canceled, and is {listed[run]['state']}")
    wrong += _of_uploads(ledger, rest)
    return wrong, {
        "starts seen to succeed": sum(start.run is not None for start in ledger.starts),
        "starts unclear": sum(start.run is None and start.may_be for start in ledger.starts),
        "starts refused": sum(start.run is None and not start.may_be for start in ledger.starts),
        "runs on the service": sum(map(len, there.values())),
        "unclear starts that were one": sum(
            start.run is None and start.greeting in there for start in ledger.starts
        ),
        "unclear starts named": sum(start.named is not None for start in ledger.starts),
        "runs deleted": len(ledger.deleted),
        "runs canceled": len(ledger.canceled),
    }


def _of_start(start: Start, there: dict[str, set[str]], asked: Counter[str]) -> Iterator[str]:
    runs = there.get(start.greeting, set())
    if asked[start.greeting] > 1:
        yield f"start {start.greeting} was sent {asked[start.greeting]} times"
    if start.run is not None and runs != {start.run}:
        yield f"start {start.greeting} made {start.run}, and there are {runs}"
    if len(runs) > 1:
        yield f"start {start.greeting} made {runs}"
    if start.run is None and not start.may_be and runs:
        yield f"start {start.greeting} was refused, and made {runs}"
    if start.named is not None and start.named not in runs:
        yield f"start {start.greeting} may have made {start.named}, and made {runs or 'none'}"


def _of_uploads(ledger: Ledger, rest: Rest) -> Iterator[str]:
    there: dict[str, list[str]] = {}
    for file in rest.get(f"uploads/{ledger.group}/files")["files"]:
        reply = rest.request("GET", f"uploads/{ledger.group}/files/{file['id']}")
        if reply.status_code == 404:
            # The service was killed between its record of the file and the file itself.
            if len(ledger.uploads.get(str(file["name"]), ())) < 2:
                yield f"upload {file['name']} is listed, and is not there"
            continue
        reply.raise_for_status()
        digest = hashlib.sha256(reply.content).hexdigest()
        there.setdefault(str(file["name"]), []).append(digest)
    for name in there.keys() - ledger.uploads.keys():
        yield f"upload {name} was made by nobody"
    for name, digests in ledger.uploads.items():
        found = there.get(name, [])
        if set(found) - set(digests):
            yield f"upload {name} holds what nobody has written, or half of it"
        if not found and "" not in digests:
            yield f"upload {name} is gone"
        if len(found) > 1 and not ledger.several.get(name):
            yield f"upload {name} is there {len(found)} times"
    for old, new in ledger.pairs:
        if old not in there and new not in there:
            yield f"upload {old} was lost when it was to be {new}"


def _greeting(handle: dict[str, Any]) -> str:
    for argument in handle.get("arguments", ()):
        if argument["name"] == "greeting":
            return str(argument["value"])
    return ""
