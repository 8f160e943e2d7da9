"""Random sequences in ``uploads/``, held against a plain directory on disk."""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, multiple, rule
from model_world import World
from reference import Files, Outcome
from sequences import STEPS, STORED_AS, flags, listed, names, on_descriptors, on_names, pieces
from support import PATIENCE, wait_until


@dataclass
class Descriptor:
    """An upload, open."""

    name: str
    flags: int
    path: str = field(compare=False)


class Uploads(RuleBasedStateMachine):
    """``uploads/`` of a group, and a directory on disk.

    What differs by intent is in :func:`reference._shown`: of what `stat` tells, type and size
    are compared. Modes and times may be set, which means nothing to the service.
    """

    world: World
    with_run = False

    descriptors: Bundle[Descriptor] = Bundle("descriptors")

    def __init__(self) -> None:
        super().__init__()
        self._names = (f"fd{n}" for n in itertools.count())
        self._failed = False
        self._steps = -1
        self.prepared = self.world.group(self.with_run)
        self.root = f"groups/{self.prepared.id}"
        self._disk = tempfile.TemporaryDirectory(prefix="flowfs-model-")
        self.uploads = Path(self._disk.name, self.root, "uploads")
        self.uploads.mkdir(parents=True)
        for name, data in self.prepared.uploads.items():
            (self.uploads / name).write_bytes(data)
        self.reference = Files(self._disk.name)

    def check_invariants(self, *args: Any) -> None:
        """Count steps: this is called before the first and after each."""
        self._steps += 1
        super().check_invariants(*args)

    # -- comparing ---------------------------------------------------------

    def _check(self, right: bool, message: str) -> None:
        if not right:
            self._failed = True
            raise AssertionError(message)

    def _mount(self, operation: str, *args: Any) -> Outcome:
        return self.world.worker(operation, *args)

    def _both(self, operation: str, *args: Any) -> Outcome:
        """Do it on disk and on the mount; both must say the same."""
        self.world.operations += 1
        expected = self.reference(operation, *args)
        outcome = self._mount(operation, *args)
        self._check(
            outcome == expected,
            f"{operation}{args!r:.200}: {outcome} on the mount, {expected} on disk",
        )
        return outcome

    # -- uploads -----------------------------------------------------------

    def _upload(self, name: str) -> str:
        return f"{self.root}/uploads/{name}"

    @rule(target=descriptors, name=names, flags=flags)
    def open(self, name: str, flags: int) -> Any:
        opened = Descriptor(next(self._names), flags, name)
        outcome = self._both("open", opened.name, self._upload(name), flags)
        return multiple() if outcome.error else opened

    @rule(opened=consumes(descriptors))
    def close(self, opened: Descriptor) -> None:
        self._both("close", opened.name)

    @rule(target=descriptors, opened=descriptors)
    def dup(self, opened: Descriptor) -> Descriptor:
        other = Descriptor(next(self._names), opened.flags, opened.path)
        self._both("dup", opened.name, other.name)
        return other

    # Few rules of many operations each: hypothesis takes rules out of sequences at random.

    @rule(opened=descriptors, operation=on_descriptors)
    def use(self, opened: Descriptor, operation: tuple[Any, ...]) -> None:
        if operation[0] == "fstat" and self.reference("is_orphan", opened.name).value:
            self._fstat_orphan(opened)
        else:
            self._both(operation[0], opened.name, *operation[1:])

    def _fstat_orphan(self, opened: Descriptor) -> None:
        """Look at an open file that has no name.

        The kernel asks without telling by which descriptor, and libfuse has no path left: it
        says so itself (libfuse 3: ESTALE, 2: ENOENT), and asks nobody.
        """
        self.world.operations += 1
        expected, outcome = (f("fstat", opened.name) for f in (self.reference, self._mount))
        self._check(
            outcome == expected or outcome.error in ("ESTALE", "ENOENT"),
            f"fstat of a file without a name: {outcome}, {expected} on disk",
        )

    @rule(name=names, operation=on_names)
    def name(self, name: str, operation: tuple[Any, ...]) -> None:
        if operation[0] == "rename":
            self._both("rename", self._upload(name), self._upload(operation[1]))
        else:
            self._both(operation[0], self._upload(name), *operation[1:])
        if operation[0] in ("unlink", "rename"):
            self._list()

    @rule(name=names, data=pieces)
    def put(self, name: str, data: bytes) -> None:
        self._both("put", self._upload(name), data)
        self._list()

    def _list(self) -> None:
        self.world.operations += 1
        outcome = self._mount("listdir", f"{self.root}/uploads")
        expected = self.reference("listdir", f"{self.root}/uploads")
        if not set(STORED_AS).isdisjoint(expected.value):
            # While the last close sends a file, its name may become the stored one between the
            # two questions of a listing: then both are there, for a moment.
            deadline = time.monotonic() + PATIENCE
            while not outcome.error and listed(outcome.value) != listed(expected.value):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.02)
                outcome = self._mount("listdir", f"{self.root}/uploads")
        self._check(
            not outcome.error and listed(outcome.value) == listed(expected.value),
            f"listing: {outcome} on the mount, {expected} on disk",
        )

    # -- the end -----------------------------------------------------------

    def teardown(self) -> None:
        self.world.sequences += self._steps >= STEPS
        self.world.steps += self._steps
        try:
            self._mount("close_all")
            if not self._failed:
                self._compare_with_the_service()
        finally:
            self.reference("close_all")
            self._disk.cleanup()

    def _compare_with_the_service(self) -> None:
        expected = sorted(
            (STORED_AS.get(p.name, p.name), p.read_bytes()) for p in self.uploads.iterdir()
        )
        # What was only emptied is sent by the last close, which the kernel does not wait for.
        found: list[tuple[str, bytes]] = []

        def same() -> bool:
            found[:] = self.world.uploads(self.prepared.id)
            return found == expected

        try:
            wait_until(same, 10, "the uploads")
        except AssertionError:
            shown = [[(n, Outcome(data)) for n, data in one] for one in (found, expected)]
            raise AssertionError(
                f"uploads: {shown[0]} on the service, {shown[1]} on disk"
            ) from None
