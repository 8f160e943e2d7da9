"""Random sequences of file operations: the mount and a reference must do the same.

In ``uploads/`` the reference is a plain directory on disk, where the very same calls are made;
for the rest of a group it is :class:`reference.Group`, written by the tree's description. After
each sequence the service is asked, without flowfs, what it has.

Environment variables:

``FLOWFS_MODEL_SEQUENCES``
    How many sequences at least for each FUSE binding and machine; 4 unless set.
``FLOWFS_MODEL_STEPS``
    Steps in each; 30 unless set.
``FLOWFS_MODEL_SEED``
    A whole number, 1 unless set, or ``random``. The one that was used is printed; the same one
    makes the same sequences.
``FLOWFS_MODEL_BINDINGS``
    Which bindings, as ``mfusepy-fuse3,fusepy-fuse``; all unless set.
``FLOWFS_MODEL_SHRINK``
    Seconds for making a sequence that fails shorter; 60 unless set. With 0 it stays as it is.

``scripts/differential`` runs the long form. A failure prints the shortest sequence that fails.
"""

from __future__ import annotations

import os
import random
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from model_group import Whole
from model_uploads import Uploads
from model_world import World
from mounting import BINDINGS, mounted
from sequences import GIVEN, STEPS, STORED_AS, TTL
from support import Rest, wait_until

from flowfs import FlowFileSystem
from flowfs.embedded import EmbeddedService
from flowfs.fuse.attributes import Attributes
from flowfs.fuse.operations import Operations
from flowfs.tree import Node

SEQUENCES = int(os.environ.get("FLOWFS_MODEL_SEQUENCES", "4"))
SHRINK = int(os.environ.get("FLOWFS_MODEL_SHRINK", "60"))
pytestmark = [
    pytest.mark.mount,
    pytest.mark.service,
    # A failure is made shorter by trying again and again, which takes its time.
    pytest.mark.timeout(600 + 10 * SEQUENCES),
]


def _wanted(binding: tuple[str, str]) -> bool:
    wanted = os.environ.get("FLOWFS_MODEL_BINDINGS")
    return not wanted or "-".join(binding) in wanted.split(",")


@pytest.fixture(scope="module", params=[one for one in BINDINGS if _wanted(one)], ids="-".join)
def world(
    request: pytest.FixtureRequest,
    service: EmbeddedService,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    fuse, library = request.param
    pytest.importorskip("fuse" if fuse == "fusepy" else "mfusepy")
    log = tmp_path_factory.mktemp("mount") / "log"
    with mounted(service, ttl=TTL, log=log, fuse=fuse, library=library) as directory:
        made = World(service, directory, f"{fuse}-{library}")
        try:
            yield made
        finally:
            made.end()
    said = log.read_text()
    assert "Traceback" not in said, said


@pytest.mark.parametrize("machine", [Uploads, Whole])
def test_random_sequences_do_on_the_mount_what_they_do_on_the_reference(
    machine: type[Uploads],
    world: World,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Five minutes by itself; no setting of hypothesis says it.
    engine = "hypothesis.internal.conjecture.engine.MAX_SHRINKING_SECONDS"
    monkeypatch.setattr(engine, SHRINK, raising=False)
    wanted = os.environ.get("FLOWFS_MODEL_SEED") or "1"
    number = random.SystemRandom().randrange(2**32) if wanted == "random" else int(wanted)

    def say(words: str) -> None:
        sys.stdout.write(f"{words}\n")  # with a failure
        with capfd.disabled():
            sys.stdout.write(f"\n{words}\n")

    say(
        f"FLOWFS_MODEL_SEED={number} FLOWFS_MODEL_SEQUENCES={SEQUENCES} "
        f"FLOWFS_MODEL_STEPS={STEPS} FLOWFS_MODEL_BINDINGS={world.binding}"
    )
    world.sequences = world.steps = world.operations = 0
    began = time.monotonic()
    try:
        run_state_machine_as_test(
            seed(number)(type(machine.__name__, (machine,), {"world": world})),
            settings=settings(
                max_examples=SEQUENCES + SEQUENCES // 4,  # some are a few steps shorter
                stateful_step_count=STEPS,
                derandomize=False,  # the seed counts
                database=None,  # what failed elsewhere is told by its seed
                phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        say(
            f"{world.sequences} sequences of {STEPS} steps, {world.steps} steps in all, "
            f"{world.operations} operations compared, "
            f"{time.monotonic() - began:.0f} s"
        )


# -- what such sequences have found -------------------------------------------


class Tried:
    """A group's ``uploads/`` and descriptors in it."""

    def __init__(self, world: World) -> None:
        self.world, self.group = world, world.group(False).id

    def __call__(self, operation: str, *args: Any) -> Any:
        """Do it on the mount and return the value, or the errno's name."""
        outcome = self.world.worker(operation, *args)
        return outcome.error or outcome.value

    def at(self, name: str) -> str:
        return f"groups/{self.group}/uploads/{name}"

    def sent(self, name: str) -> list[bytes]:
        return [data for stored, data in self.world.uploads(self.group) if stored == name]


@pytest.fixture
def tried(world: World) -> Iterator[Tried]:
    yield Tried(world)
    world.worker("close_all")


def test_who_has_an_upload_open_reads_what_is_written_to_it_since(tried: Tried) -> None:
    tried("open", "reader", tried.at("a"), os.O_RDONLY)
    for data in (b"", b"quite another text than before", b"short"):
        tried("put", tried.at("a"), data)
        assert tried("stat", tried.at("a")) == ("file", len(data))
        assert tried("fstat", "reader") == ("file", len(data))
        assert tried("pread", "reader", 100, 0) == data


def test_an_upload_is_sent_when_it_has_been_emptied_though_somebody_reads_it(tried: Tried) -> None:
    tried("open", "reader", tried.at("a"), os.O_RDONLY)
    tried("put", tried.at("a"), b"")
    wait_until(lambda: tried.sent("a") == [b""], 10, "the empty upload")


def test_who_reads_an_upload_that_is_replaced_or_removed_reads_no_other(tried: Tried) -> None:
    for lose in (("rename", tried.at("b.txt"), tried.at("a")), ("unlink", tried.at("a"))):
        tried("put", tried.at("a"), b"first")
        tried("put", tried.at("b.txt"), b"second one")
        tried("open", "reader", tried.at("a"), os.O_RDONLY)
        assert tried("pread", "reader", 100, 0) == b"first"
        tried(*lose)
        tried("put", tried.at("a"), b"third of them all")
        assert tried("pread", "reader", 100, 0) in (b"first", "ESTALE")
        tried("close", "reader")


def test_who_reads_an_upload_reads_on_under_its_new_name(tried: Tried) -> None:
    tried("open", "reader", tried.at("a"), os.O_RDONLY)
    tried("rename", tried.at("a"), tried.at("b.txt"))
    tried("put", tried.at("b.txt"), b"there is more")
    assert tried("pread", "reader", 100, 0) == b"there is more"


@pytest.mark.parametrize("lose", ["unlink", "rename"])
def test_an_open_upload_without_a_name_can_be_cut_off(tried: Tried, lose: str) -> None:
    tried("put", tried.at("b.txt"), b"other")
    tried("open", "writer", tried.at("a"), os.O_RDWR)
    tried("pwrite", "writer", b"some text", 0)
    if lose == "unlink":
        tried("unlink", tried.at("a"))
    else:
        tried("rename", tried.at("b.txt"), tried.at("a"))
    assert tried("ftruncate", "writer", 4) is None
    assert tried("pread", "writer", 100, 0) == b"some"


@pytest.mark.parametrize("lose", ["unlink", "rename"])
@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDWR | os.O_APPEND])
def test_who_opened_an_upload_to_write_finds_what_was_in_it_when_its_name_has_gone(
    tried: Tried, lose: str, flags: int
) -> None:
    tried("put", tried.at("b.txt"), b"quite another text")
    tried("put", tried.at("a"), b"first")
    tried("close_all")
    tried("open", "writer", tried.at("a"), flags)
    if lose == "unlink":
        tried("unlink", tried.at("a"))
        tried("put", tried.at("a"), b"quite another text")
    else:
        tried("rename", tried.at("b.txt"), tried.at("a"))
    assert tried("lseek", "writer", 0, os.SEEK_END) == 5
    assert tried("pread", "writer", 100, 0) == b"first"
    assert tried("write", "writer", b"!") == 1
    assert tried("pread", "writer", 100, 0) == b"first!"
    tried("close", "writer")
    assert tried("get", tried.at("a")) == b"quite another text"


def test_an_upload_is_listed_once_while_it_is_being_replaced(
    service: EmbeddedService, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = world.group(False).id
    fs = FlowFileSystem(service.endpoint, service.token, ttl=0.0)
    uploads = fs.catalog.service.uploads
    delete, seen, there = uploads.delete_file, [], []

    def delete_late(group_id: str, file_id: str) -> None:
        seen.append(fs.ls(f"groups/{group}/uploads", detail=False))
        there.append([name for name, _ in world.uploads(group)])
        delete(group_id, file_id)

    monkeypatch.setattr(uploads, "delete_file", delete_late)
    fs.pipe(f"groups/{group}/uploads/a", b"anew")
    assert there == [["a", "a", GIVEN]]
    assert seen == [[f"groups/{group}/uploads/{name}" for name in (GIVEN, "a")]]
    assert sorted(world.uploads(group))[0] == ("a", b"anew")


@pytest.mark.parametrize("name", ["new.csv", ".hidden"])
def test_a_file_that_is_sent_while_a_directory_is_listed_is_in_the_listing_once(
    service: EmbeddedService, rest: Rest, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Between the question to the service and that to what is open: without a kernel."""
    reply = rest.request(
        "POST", f"workflows/{service.workflows['hello']}/groups", json={"name": uuid.uuid4().hex}
    )
    uploads = f"groups/{reply.json()['id']}/uploads"
    fs = FlowFileSystem(service.endpoint, service.token, ttl=60.0)
    operations = Operations(fs, "", lambda: 0, Attributes(False, 0))
    drafts, children = operations._drafts, operations._entries.children
    draft = drafts.open(fs.entries.resolve(f"{uploads}/{name}"), new=True)

    def children_then_sent(node: Node) -> list[Any]:
        found = children(node)
        monkeypatch.undo()
        drafts.close(draft)
        return found

    monkeypatch.setattr(operations._entries, "children", children_then_sent)
    shown = [one[0] for one in operations.readdir(f"/{uploads}", 0)]
    assert sorted(shown) == [".", "..", STORED_AS.get(name, name)]
