"""Many programs on one mount for a long time, over a service that answers late.

Readers compare every byte with what the service has; writers upload, append, rename, remove,
start, cancel and delete, and look whether that is so. Meanwhile the memory, threads and open
files of the process that serves the mount are watched, and how long each step takes.

As a command (``./scripts/soak``) it prints what it found, and exits with 1 if anything was
wrong; ``tests/test_mount_endurance.py`` runs it for a short time.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import io
import json
import mmap
import multiprocessing
import os
import queue
import random
import shutil
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from statistics import median
from typing import Any

from late import Late
from mounting import is_mounted, serve_mount
from support import Rest, wait_until

from flowfs.embedded import EmbeddedService

__all__ = ["Findings", "soak"]

_STEP_BOUND = 60.0  # seconds that one step may take: two deadlines of the mount
_SAMPLE_EVERY = 1.0  # seconds
_SIZES = (0, 1, 700, 65_536, 65_537, 300_000, 3 << 20, 9 << 20)  # bytes of the results read


@dataclass
class Findings:
    """What a soak found.

    Attributes
    ----------
    steps : dict of str to int
        How often each step was taken.
    bytes_compared : int
        Bytes read and found to be right.
    wrong : list of str
        Wrong bytes, names or states.
    errors : list of str
        Errors that nothing explains.
    late : list of str
        Steps that took over a minute, or had not come back at the end.
    slowest : dict of str to float
        The longest time of each step, in seconds.
    samples : list
        Seconds since the start, and of the process that serves the mount: resident memory in
        bytes, threads, open files.
    """

    steps: Counter[str] = field(default_factory=Counter)
    bytes_compared: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=dict)
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)

    def growth(self) -> dict[str, tuple[float, float]]:
        """Return medians of memory, threads and files: in the second quarter, and the last."""
        quarter = max(1, len(self.samples) // 4)
        early, last = self.samples[quarter : 2 * quarter] or self.samples, self.samples[-quarter:]
        return {
            name: (median(s[i] for s in early), median(s[i] for s in last))
            for i, name in ((1, "memory"), (2, "threads"), (3, "files"))
        }

    def grown(self) -> list[str]:
        """Name what has grown by more than caches and chance explain."""
        allowed = {"memory": 32 << 20, "threads": 8, "files": 16}
        return [
            f"{name} from {early:g} to {last:g}"
            for name, (early, last) in self.growth().items()
            if last - early > allowed[name]
        ]

    def faults(self) -> list[str]:
        """Return everything that should not have been; growth shows in minutes only."""
        return self.wrong + self.errors + self.late


class _Wrong(Exception):
    """Something on the mount is not what it should be."""


@dataclass
class _Known:
    """A result that readers compare: where it is, and a local copy of its bytes."""

    path: str
    copy: str
    digest: str
    size: int


@dataclass
class _World:
    """What workers need to know; it is sent to them."""

    mount: str
    reading: str  # path of the group that is read
    writing: str  # path of the group that is changed
    known: list[_Known]
    runs: list[str]
    seconds: float


class _Worker:
    """One program on the mount."""

    def __init__(self, number: int, world: _World) -> None:
        self.world = world
        self.number = number
        self.random = random.Random(number)
        self.compared = 0
        self.mount = Path(world.mount)

    def steps(self) -> list[Callable[[], None]]:
        raise NotImplementedError

    def check(self, good: bool, what: str) -> None:
        if not good:
            raise _Wrong(what)


class _Reader(_Worker):
    def steps(self) -> list[Callable[[], None]]:
        return [
            self.whole,
            self.whole,
            self.parts,
            self.parts,
            self.mapped,
            self.look_around,
            self.handle,
            self.archive,
        ]

    def _pick(self) -> tuple[_Known, Path]:
        known = self.random.choice(self.world.known)
        return known, self.mount / known.path

    def _forget(self, file: io.FileIO) -> None:
        """Make the kernel drop what it has of a file, now and then."""
        if self.random.random() < 0.5:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def whole(self) -> None:
        known, path = self._pick()
        digest, size, block = hashlib.sha256(), 0, self.random.choice((4096, 65_536, 1 << 20))
        with open(path, "rb", buffering=0) as file:
            self._forget(file)
            while piece := file.read(block):
                digest.update(piece)
                size += len(piece)
        self.check(
            digest.hexdigest() == known.digest, f"{known.path}: {size} bytes, not {known.size}"
        )
        self.compared += size

    def parts(self) -> None:
        known, path = self._pick()
        with open(path, "rb", buffering=0) as file, open(known.copy, "rb") as copy:
            self._forget(file)
            for _ in range(8):
                at = self.random.randrange(known.size + 1)
                size = self.random.choice((1, 100, 5_000, 200_000))
                # A read may be short where a signal comes; none comes here.
                got = os.pread(file.fileno(), size, at)
                self.check(
                    got == os.pread(copy.fileno(), size, at), f"{known.path}: {size} at {at}"
                )
                self.compared += len(got)

    def mapped(self) -> None:
        known, path = self._pick()
        if not known.size:
            return
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
            self.check(len(view) == known.size, f"{known.path}: mapped {len(view)}")
            at = self.random.randrange(known.size)
            piece = view[at : at + 70_000]
        with open(known.copy, "rb") as copy:
            expected = os.pread(copy.fileno(), len(piece), at)
        self.check(piece == expected, f"{known.path}: mapped at {at}")
        self.compared += len(piece)

    def look_around(self) -> None:
        names = set(os.listdir(self.mount / self.world.reading / "runs"))
        missing = set(self.world.runs) - names
        self.check(not missing, f"runs/ lacks {missing}")
        known, path = self._pick()
        self.check(os.stat(path).st_size == known.size, f"{known.path}: size")
        self.check(path.name in os.listdir(path.parent), f"{known.path} is not listed")

    def handle(self) -> None:
        run = self.random.choice(self.world.runs)
        place = self.mount / self.world.reading / "runs" / run
        self.check(json.loads((place / "handle.json").read_text())["id"] == run, run)

    def archive(self) -> None:
        known, path = self._pick()
        whole = (path.parents[2] / "archive.tar.gz").read_bytes()
        with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
            members = [m for m in archive.getmembers() if m.isfile()]
            digests = set()
            for member in members:
                file = archive.extractfile(member)
                assert file is not None
                digests.add(hashlib.sha256(file.read()).hexdigest())
        self.check(known.digest in digests, f"{path}: its archive has other bytes")
        self.compared += len(whole)


class _Writer(_Worker):
    def __init__(self, number: int, world: _World) -> None:
        super().__init__(number, world)
        self.group = self.mount / world.writing
        self.files: dict[str, bytes] = {}
        self.serial = 0

    def steps(self) -> list[Callable[[], None]]:
        return [
            self.upload,
            self.replace,
            self.append,
            self.rename,
            self.remove,
            self.run,
            self.cancel,
            self.refused,
        ]

    def _new_name(self) -> str:
        self.serial += 1
        return f"w{self.number}-{self.serial}.txt"

    def _bytes(self) -> bytes:
        size = self.random.choice((0, 1, 1000, 70_000, 70_000, 2 << 20))
        return self.random.randbytes(size)

    def _pick(self) -> str:
        if not self.files:
            self.upload()
        return self.random.choice(list(self.files))

    def _compare(self, name: str) -> None:
        got = (self.group / "uploads" / name).read_bytes()
        self.check(got == self.files[name], f"{name}: {len(got)} bytes, not what was written")
        self.compared += len(got)

    def upload(self) -> None:
        name, data = self._new_name(), self._bytes()
        (self.group / "uploads" / name).write_bytes(data)
        self.files[name] = data
        self._compare(name)
        self.check(name in os.listdir(self.group / "uploads"), f"{name} is not listed")
        if len(self.files) > 5:
            self.remove()

    def replace(self) -> None:
        name, data = self._pick(), self._bytes()
        (self.group / "uploads" / name).write_bytes(data)
        self.files[name] = data
        self._compare(name)

    def append(self) -> None:
        name = self._pick()
        with open(self.group / "uploads" / name, "ab") as file:
            file.write(b"more")
        self.files[name] += b"more"
        self._compare(name)

    def rename(self) -> None:
        name, other = self._pick(), self._new_name()
        os.rename(self.group / "uploads" / name, self.group / "uploads" / other)
        self.files[other] = self.files.pop(name)
        self._compare(other)
        self.check(not (self.group / "uploads" / name).exists(), f"{name} is still there")

    def remove(self) -> None:
        name = self._pick()
        os.unlink(self.group / "uploads" / name)
        del self.files[name]
        self.check(not (self.group / "uploads" / name).exists(), f"{name} is still there")

    def _start(self, **arguments: Any) -> Path:
        with open(self.group / "runs" / "new", "r+b", buffering=0) as file:
            document = json.dumps(arguments).encode()
            file.write(document)
            handle = b"".join(iter(lambda: file.read(1 << 16), b""))
        return self.group / "runs" / str(json.loads(handle)["id"])

    def run(self) -> None:
        name = self._new_name()
        lines = [f"{name}-{i}" for i in range(20)]
        (self.group / "uploads" / name).write_text("".join(f"{line}\n" for line in lines))
        run = self._start(names=name)
        wait_until(lambda: not (run / "cancel").exists(), _STEP_BOUND, f"the end of {run.name}")
        got = (run / "outputs" / "results" / "greetings.txt").read_text()
        self.check(all(f"{line}!" in got for line in lines), f"{run.name}: {got[:80]!r}")
        self.compared += len(got)
        os.unlink(self.group / "uploads" / name)
        self._delete(run)

    def cancel(self) -> None:
        name = self._new_name()
        (self.group / "uploads" / name).write_text("Nobody\n")
        run = self._start(names=name, sleeptime=6000)
        try:
            shutil.rmtree(run)
        except OSError as error:
            self.check(error.errno == errno.EBUSY, f"rm of an active run: {error}")
        else:
            raise _Wrong(f"{run.name} was active, and could be removed")
        (run / "cancel").write_text(f"enough of {name}\n")
        handle = json.loads((run / "handle.json").read_text())
        self.check(handle["state"] == "CANCELED", f"{run.name} is {handle['state']}")
        os.unlink(self.group / "uploads" / name)
        self._delete(run)

    def _delete(self, run: Path) -> None:
        shutil.rmtree(run)
        self.check(run.name not in os.listdir(run.parent), f"{run.name} is still listed")

    def refused(self) -> None:
        try:
            (self.group / "runs" / "new").write_text('{"nope": 1}')
        except OSError as error:
            self.check(error.errno == errno.EINVAL, f"bad arguments: {error}")
        else:
            raise _Wrong("bad arguments started a run")


def _work(kind: str, number: int, world: _World, begin: Any, clock: Any, found: Any) -> None:
    """Take each step once, and more until the time is up; what was found goes to the queue."""
    worker = (_Reader if kind == "reader" else _Writer)(number, world)
    findings = Findings()
    begin.wait()
    until = time.time() + world.seconds
    first = worker.random.sample(worker.steps(), len(worker.steps()))
    while first or time.time() < until:
        step = first.pop() if first else worker.random.choice(worker.steps())
        name = f"{kind}: {step.__name__}"
        clock[number] = time.time()
        try:
            step()
        except _Wrong as error:
            findings.wrong.append(f"{name}: {error}")
        except Exception as error:
            findings.errors.append(f"{name}: {type(error).__name__}: {error}")
        took = time.time() - clock[number]
        clock[number] = 0.0
        findings.steps[name] += 1
        findings.slowest[name] = max(findings.slowest.get(name, 0.0), took)
        if took > _STEP_BOUND:
            findings.late.append(f"{name} took {took:.0f} s")
    findings.bytes_compared = worker.compared
    found.put(findings)


def _prepare(service: EmbeddedService, place: Path) -> tuple[list[_Known], list[str]]:
    """Make runs with results of several sizes, and keep copies of what they hold."""
    rest, group = Rest(service), service.groups["hello"]
    known, runs = [], []
    for number, size in enumerate(_SIZES):
        source = place / f"names-{number}.txt"
        generator = random.Random(number)
        with open(source, "w") as file:
            left = size
            while left > 0:
                # Lines of their own: bytes from a wrong place are seen to be wrong.
                line = f"{number}-{left}-{generator.getrandbits(256):x}"[: max(1, left - 9)]
                file.write(f"{line}\n")
                left -= len(line) + 9
        handle = rest.ended(
            rest.start(group, {"names": {"fileId": rest.upload(group, source)}}), timeout=60
        )
        assert handle["state"] == "SUCCESS", handle
        data = rest.result(handle, "results/greetings.txt")
        copy = place / f"copy-{number}"
        copy.write_bytes(data)
        path = f"groups/{group}/runs/{handle['id']}/outputs/results/greetings.txt"
        known.append(_Known(path, str(copy), hashlib.sha256(data).hexdigest(), len(data)))
        runs.append(str(handle["id"]))
    rest.close()
    return known, runs


def _new_group(service: EmbeddedService) -> str:
    rest = Rest(service)
    reply = rest.request(
        "POST", f"workflows/{service.workflows['hello']}/groups", json={"name": "written"}
    )
    reply.raise_for_status()
    rest.close()
    return str(reply.json()["id"])


def _sample(pid: int) -> tuple[int, int, int]:
    """Return a process's resident memory in bytes, its threads and its open files."""
    status = Path(f"/proc/{pid}/status").read_text()
    numbers = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    memory = int(numbers["VmRSS"].split()[0]) * 1024
    return memory, int(numbers["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))


def soak(
    seconds: float,
    *,
    readers: int = 8,
    writers: int = 4,
    delay: tuple[float, float] = (0.0, 0.2),
    log: Path | None = None,
    **options: str | float | bool,
) -> Findings:
    """Let readers and writers work on a mount, and return what was found.

    Parameters
    ----------
    seconds : float
        How long.
    readers, writers : int
        How many of each, every one a process.
    delay : tuple of float
        Seconds by which each request is late, at least and at most.
    log : Path, optional
        Where what the mount says is written to.
    **options
        Of ``flowfs mount``.
    """
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowfs-soak-")))
        service = stack.enter_context(EmbeddedService.start())
        known, runs = _prepare(service, place)
        late = stack.enter_context(Late(service, delay))
        directory = place / "mnt"
        directory.mkdir()
        mount = stack.enter_context(
            serve_mount(late, directory, "", log or place / "log", **options)  # type: ignore[arg-type]
        )
        wait_until(lambda: is_mounted(directory), 30, "the mount")
        world = _World(
            str(directory),
            f"groups/{service.groups['hello']}",
            f"groups/{_new_group(service)}",
            known,
            runs,
            seconds,
        )
        context = multiprocessing.get_context("spawn")
        with _workers(context, world, readers, writers) as (workers, clock, found):
            return _watch(workers, clock, found, seconds, mount.pid)


@contextlib.contextmanager
def _workers(
    context: SpawnContext, world: _World, readers: int, writers: int
) -> Iterator[tuple[list[SpawnProcess], Any, Any]]:
    clock = context.Array("d", readers + writers, lock=False)
    begin = context.Barrier(readers + writers + 1)
    found = context.Queue()
    kinds = ["reader"] * readers + ["writer"] * writers
    workers = [
        context.Process(target=_work, args=(kind, number, world, begin, clock, found), daemon=True)
        for number, kind in enumerate(kinds)
    ]
    try:
        for worker in workers:
            worker.start()
        begin.wait(300)
        yield workers, clock, found
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.kill()


def _watch(
    workers: list[SpawnProcess], clock: Any, found: Any, seconds: float, pid: int
) -> Findings:
    """Take samples until all workers have told what they found, or should have."""
    total, told, begun = Findings(), 0, time.time()
    until = begun + seconds
    # On a slow machine even the first of all steps may last longer than that.
    while told < len(workers) and time.time() < until + 5 * _STEP_BOUND:
        with contextlib.suppress(queue.Empty):
            part = found.get(timeout=_SAMPLE_EVERY)
            told += 1
            total.steps += part.steps
            total.bytes_compared += part.bytes_compared
            total.wrong += part.wrong
            total.errors += part.errors
            total.late += part.late
            for name, took in part.slowest.items():
                total.slowest[name] = max(total.slowest.get(name, 0.0), took)
        # Towards the end there are fewer workers, and less is held.
        if time.time() < until:
            total.samples.append((time.time() - begun, *_sample(pid)))
    for number, worker in enumerate(workers):
        if clock[number] and worker.is_alive():
            total.late.append(f"worker {number} is stuck for {time.time() - clock[number]:.0f} s")
        if worker.exitcode:
            total.errors.append(f"worker {number} ended with {worker.exitcode}")
    return total


def _report(found: Findings) -> str:
    growth = found.growth()
    memory = [part / 2**20 for part in growth["memory"]]
    lines = [f"{count:7}  {name}" for name, count in sorted(found.steps.items())]
    lines += [
        f"compared {found.bytes_compared / 2**20:.0f} MiB; slowest step "
        f"{max(found.slowest.values(), default=0):.1f} s",
        f"memory  {memory[0]:.1f} -> {memory[1]:.1f} MiB (second quarter, last quarter)",
        *(
            f"{name:7} {growth[name][0]:g} -> {growth[name][1]:g}, at most "
            f"{max(sample[index] for sample in found.samples)}"
            for index, name in ((2, "threads"), (3, "files"))
        ),
        *(f"WRONG: {fault}" for fault in [*found.faults()[:50], *found.grown()]),
    ]
    return "\n".join(lines)


def main() -> int:
    """Soak as the arguments say, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--delay", type=float, default=0.2, help="seconds, at most")
    parser.add_argument("--fuse", default="auto", choices=("auto", "fusepy", "mfusepy"))
    parser.add_argument("--log", type=Path, help="what the mount says")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = soak(
        given.seconds,
        readers=given.readers,
        writers=given.writers,
        delay=(0.0, given.delay),
        log=given.log,
        fuse=given.fuse,
    )
    sys.stdout.write(json.dumps(asdict(found)) if given.json else _report(found))
    sys.stdout.write("\n")
    return 1 if found.faults() or found.grown() else 0


if __name__ == "__main__":
    sys.exit(main())
