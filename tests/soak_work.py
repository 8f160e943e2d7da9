"""The programs of a soak: readers, who compare every byte, and writers, who change things.

Each is a process of its own, and writes what it found to a file, a line for each step: one that
is killed has held no lock of the others.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import mmap
import os
import random
import tarfile
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from soak_found import STEP_BOUND, Failed
from soak_hands import FsspecHands, Hands, MountHands, NotStarted
from soak_ledger import Ledger
from soak_world import Known, World

__all__ = ["Reader", "Unless", "Writer", "Wrong", "work"]

_ENDED = ("SUCCESS", "ERROR", "CANCELED")


class Wrong(Exception):
    """Something is not what it should be."""


class Unless(Exception):
    """Something is not what it should be, unless the service was killed meanwhile."""


class _Worker:
    """One program.

    Parameters
    ----------
    number : int
        Which one; what it chooses at random follows from that.
    world : World
        What there is.
    hands : Hands
        How it does things.

    Attributes
    ----------
    compared : int
        Bytes that were found to be right.
    """

    def __init__(self, number: int, world: World, hands: Hands) -> None:
        self.world = world
        self.number = number
        self.hands = hands
        self.random = random.Random(number)
        self.compared = 0

    def steps(self) -> list[Callable[[], None]]:
        """Return what it does, some of it more often than the rest."""
        raise NotImplementedError

    @staticmethod
    def check(good: bool, what: str) -> None:
        """See that something is as it should be."""
        if not good:
            raise Wrong(what)


class Reader(_Worker):
    """Reads results, archives, handles and listings."""

    def steps(self) -> list[Callable[[], None]]:
        on_mount = [self.mapped] if isinstance(self.hands, MountHands) else []
        return [
            self.whole,
            self.whole,
            self.parts,
            self.parts,
            self.look_around,
            self.handle,
            self.archive,
            *on_mount,
        ]

    def _pick(self) -> Known:
        return self.random.choice(self.world.known)

    def whole(self) -> None:
        known = self._pick()
        digest, size, block = hashlib.sha256(), 0, self.random.choice((4096, 65_536, 1 << 20))
        for piece in self.hands.pieces(known.path, block, self.random.random() < 0.5):
            digest.update(piece)
            size += len(piece)
        good = digest.hexdigest() == known.digest
        self.check(good, f"{known.path}: {size} bytes, not the {known.size} that there are")
        self.compared += size

    def parts(self) -> None:
        known = self._pick()
        spans = []
        for _ in range(8):
            size = self.random.choice((1, 100, 5_000, 200_000))
            spans.append((self.random.randrange(known.size + 1), size))
        parts = self.hands.parts(known.path, spans, self.random.random() < 0.5)
        with open(known.copy, "rb") as copy:
            for (at, size), got in zip(spans, parts, strict=True):
                expected = os.pread(copy.fileno(), size, at)
                self.check(got == expected, f"{known.path}: {size} at {at}")
                self.compared += len(got)

    def mapped(self) -> None:
        known = self._pick()
        if not known.size:
            return
        with open(os.path.join(self.world.mount, known.path), "rb") as file:
            # A page that cannot be had ends who touches it: it is read first.
            at = self.random.randrange(known.size) & -mmap.PAGESIZE
            expected = os.pread(file.fileno(), 70_000, at)
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
                self.check(len(view) == known.size, f"{known.path}: mapped {len(view)}")
        with open(known.copy, "rb") as copy:
            self.check(
                expected == os.pread(copy.fileno(), 70_000, at), f"{known.path}: mapped at {at}"
            )
        self.compared += len(expected)

    def look_around(self) -> None:
        names = set(self.hands.names(f"groups/{self.world.reading}/runs"))
        missing = set(self.world.runs) - names
        self.check(not missing, f"runs/ lacks {missing}")
        known = self._pick()
        size = self.hands.size(known.path)
        self.check(size == known.size, f"{known.path}: has {known.size} bytes, not {size}")
        directory, _, name = known.path.rpartition("/")
        self.check(name in self.hands.names(directory), f"{known.path} is not listed")

    def handle(self) -> None:
        run = self.random.choice(self.world.runs)
        path = f"groups/{self.world.reading}/runs/{run}/handle.json"
        self.check(json.loads(self.hands.whole(path))["id"] == run, run)

    def archive(self) -> None:
        known = self._pick()
        path = known.path.partition("/outputs/")[0] + "/archive.tar.gz"
        whole = self.hands.whole(path)
        digests = set()
        try:
            with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
                for member in archive.getmembers():
                    file = archive.extractfile(member)
                    if file is not None:
                        digests.add(hashlib.sha256(file.read()).hexdigest())
        except (tarfile.TarError, EOFError, OSError) as error:
            raise Wrong(f"{path}: {len(whole)} bytes are no archive: {error!r}") from error
        self.check(known.digest in digests, f"{path}: it has other bytes")
        self.compared += len(whole)


class Writer(_Worker):
    """Uploads, appends, renames, removes, starts, cancels and deletes, and keeps a ledger of it."""

    def __init__(self, number: int, world: World, hands: Hands, group: str) -> None:
        super().__init__(number, world, hands)
        self.group = group
        # A mount that is killed does not know any more what it has sent.
        self.ledger = Ledger(group, patience=1 if isinstance(hands, MountHands) else 2)
        self.data: dict[str, bytes] = {}  # of uploads that surely are so
        self.serial = 0

    def steps(self) -> list[Callable[[], None]]:
        # fsspec has no renaming on the service: it would be a copy.
        on_mount = [self.rename] if isinstance(self.hands, MountHands) else []
        return [
            self.upload,
            self.replace,
            self.replace,
            self.append,
            self.remove,
            self.run,
            self.cancel,
            self.refused,
            *on_mount,
        ]

    def _path(self, name: str) -> str:
        return f"groups/{self.group}/uploads/{name}"

    def _new_name(self) -> str:
        self.serial += 1
        return f"w{self.number}-{self.serial}.txt"

    def _bytes(self) -> bytes:
        # On a mount nobody is told what becomes of an empty file: it is sent after it is closed.
        least = 2 if isinstance(self.hands, MountHands) else 0
        size = self.random.choice((least, 1, 1000, 70_000, 70_000, 1 << 20))
        return self.random.randbytes(size)

    def _pick(self) -> str:
        if not self.data:
            self.upload()
        return self.random.choice(list(self.data))

    def _compare(self, name: str) -> None:
        got = self.hands.whole(self._path(name))
        self.check(got == self.data[name], f"{name}: {len(got)} bytes, not what was written")
        self.compared += len(got)

    def _store(self, name: str, data: bytes, act: Callable[[], None]) -> None:
        """Have an upload hold other bytes, and see that it does."""
        self.data.pop(name, None)
        with self.ledger.storing(name, data):
            act()
        self.data[name] = data
        self._compare(name)

    def upload(self) -> None:
        name, data = self._new_name(), self._bytes()
        self._store(name, data, lambda: self.hands.put(self._path(name), data))
        names = self.hands.names(f"groups/{self.group}/uploads")
        self.check(name in names, f"{name} is not listed")
        if len(self.data) > 5:
            self.remove()

    def replace(self) -> None:
        doubtful = self.ledger.doubtful()
        # What may be one or the other is as good as new once it was stored with success.
        name = self.random.choice(doubtful) if doubtful else self._pick()
        data = self._bytes()
        self._store(name, data, lambda: self.hands.put(self._path(name), data))

    def append(self) -> None:
        name = self._pick()
        data = self.data[name] + b"more"
        self._store(name, data, lambda: self.hands.append(self._path(name), b"more"))

    def rename(self) -> None:
        name, other = self._pick(), self._new_name()
        data = self.data.pop(name)
        with self.ledger.renaming(name, other, data):
            self.hands.rename(self._path(name), self._path(other))
        self.data[other] = data
        self._compare(other)
        self.check(not self.hands.exists(self._path(name)), f"{name} is still there")

    def remove(self) -> None:
        self._remove(self._pick())

    def _remove(self, name: str) -> None:
        self.data.pop(name, None)
        with self.ledger.removing(name):
            self.hands.remove(self._path(name))
        self.check(not self.hands.exists(self._path(name)), f"{name} is still there")

    # -- runs --------------------------------------------------------------

    def _start(self, **arguments: Any) -> str:
        self.serial += 1
        greeting = f"w{self.number}.{self.serial}"
        start = self.ledger.start(greeting)
        try:
            run = self.hands.start(self.group, {**arguments, "greeting": greeting})
        except NotStarted as error:
            start.may_be, start.named = error.may_be, error.named
            raise error.error from None
        start.run = run
        return run

    def _handle(self, run: str) -> Any:
        whole = self.hands.whole(f"groups/{self.group}/runs/{run}/handle.json")
        try:
            return json.loads(whole)
        except ValueError:
            raise Wrong(f"the handle of {run} is {len(whole)} bytes: {whole[-80:]!r}") from None

    def _of_a_new_upload(self, data: bytes) -> str:
        name = self._new_name()
        self._store(name, data, lambda: self.hands.put(self._path(name), data))
        return name

    def run(self) -> None:
        lines = [f"{self.number}-{self.serial}-{i}" for i in range(20)]
        name = self._of_a_new_upload("".join(f"{line}\n" for line in lines).encode())
        run = self._start(names=name)
        until = time.monotonic() + STEP_BOUND
        while (state := self._handle(run)["state"]) not in _ENDED:
            self.check(time.monotonic() < until, f"{run} does not end: {state}")
            time.sleep(0.3)
        if state != "SUCCESS":
            raise Unless(f"{run} is {state}")
        got = self.hands.whole(f"groups/{self.group}/runs/{run}/outputs/results/greetings.txt")
        good = all(f", {line}!".encode() in got for line in lines)
        self.check(good, f"{run}: {got[:80]!r}")
        self.compared += len(got)
        self._remove(name)
        self._delete(run)

    def cancel(self) -> None:
        name = self._of_a_new_upload(b"Nobody\n")
        run = self._start(names=name, sleeptime=6000)
        path = f"groups/{self.group}/runs/{run}"
        with self.ledger.deleting(run) as deleting:
            try:
                self.hands.delete(path)
            except OSError as error:
                deleting.refused = error.errno == errno.EBUSY
                if not deleting.refused:
                    raise
            else:
                raise Unless(f"{run} was active, and could be removed")
        try:
            self.hands.cancel(self.group, run, f"enough of {name}")
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EBUSY, errno.ENOENT):
                raise Unless(f"{run} cannot be canceled: {error}") from None
            raise
        self.ledger.canceled.append(run)
        state = self._handle(run)["state"]
        self.check(state == "CANCELED", f"{run} is {state}")
        self._remove(name)
        self._delete(run)

    def _delete(self, run: str) -> None:
        with self.ledger.deleting(run):
            self.hands.delete(f"groups/{self.group}/runs/{run}")
        names = self.hands.names(f"groups/{self.group}/runs")
        self.check(run not in names, f"{run} is still listed")

    def refused(self) -> None:
        try:
            self.hands.start(self.group, {"nope": 1})
        except NotStarted as error:
            if error.error.errno != errno.EINVAL:
                raise error.error from None
        else:
            raise Wrong("bad arguments started a run")


def work(kind: str, number: int, world: World, group: str) -> None:
    """Take each step once, and more until the time is up; write down what was found.

    Parameters
    ----------
    kind : str
        ``"mount reader"``, ``"fsspec writer"`` and so on.
    number : int
        Which worker.
    world : World
        What there is.
    group : str
        Id of the group that a writer changes.
    """
    on_mount, reads = kind.startswith("mount"), kind.endswith("reader")
    hands: Hands = MountHands(world) if on_mount else FsspecHands(world, number)
    worker: Reader | Writer
    if reads:
        worker = Reader(number, world, hands)
    else:
        worker = Writer(number, world, hands, group)
    each = list(dict.fromkeys(worker.steps()))
    first = worker.random.sample(each, len(each))
    with open(world.found(number), "a") as found:
        while first or not world.over.exists():
            step = first.pop() if first else worker.random.choice(worker.steps())
            line = _take(step, kind, worker)
            found.write(json.dumps(line) + "\n")
            found.flush()
            time.sleep(worker.random.uniform(0, world.pause))
        if isinstance(worker, Writer):
            found.write(json.dumps({"ledger": asdict(worker.ledger)}) + "\n")


def _take(step: Callable[[], None], kind: str, worker: _Worker) -> dict[str, Any]:
    """Take a step; return what came of it."""
    name = f"{kind}: {step.__name__}"
    line: dict[str, Any] = {"step": name}
    compared, begin = worker.compared, time.monotonic()
    number, words = -1, ""
    try:
        step()
    except Wrong as error:
        line["wrong"] = str(error)
    except Unless as error:
        number, words = 0, str(error)
    except OSError as error:
        number, words = error.errno or -1, f"{type(error).__name__}: {error}"
    except Exception as error:
        line["wrong"] = f"{type(error).__name__}: {error}"
    end = time.monotonic()
    if words:
        line["failed"] = asdict(Failed(name, number, begin, end, words))
    return {**line, "took": end - begin, "bytes": worker.compared - compared}
