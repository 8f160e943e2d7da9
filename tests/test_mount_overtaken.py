"""Uploads that somebody else changes while they are open on a mount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounted_group import BINDINGS, MountedGroup
from mounting import mounted
from support import Rest

from flowfs.embedded import EmbeddedService

pytestmark = [pytest.mark.mount, pytest.mark.service]


@pytest.fixture(scope="module", params=BINDINGS, ids="-".join)
def mount(
    request: pytest.FixtureRequest,
    service: EmbeddedService,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, Path]]:
    pytest.importorskip("fuse" if request.param[0] == "fusepy" else "mfusepy")
    binding = {"fuse": request.param[0], "library": request.param[1]}
    log = tmp_path_factory.mktemp("mount") / "log"
    extra = {"FLOWFS_DEBUG": "1"}
    with mounted(service, ttl=0.05, log=log, extra=extra, **binding) as directory:
        yield directory, log
    said = log.read_text()
    assert "Traceback" not in said, said


@pytest.fixture
def group(service: EmbeddedService, rest: Rest, mount: tuple[Path, Path]) -> MountedGroup:
    return MountedGroup(service, rest, *mount)


def replace(group: MountedGroup, name: str, data: bytes) -> None:
    """Replace an upload as another client would."""
    before = [
        file["id"]
        for file in group.rest.get(f"uploads/{group.id}/files")["files"]
        if file["name"] == name
    ]
    group.put(name, data)
    for file_id in before:
        group.rest.request("DELETE", f"uploads/{group.id}/files/{file_id}")


@pytest.mark.parametrize("first", ["r", "w"], ids=["before", "after"])
def test_what_another_has_replaced_is_seen_and_added_to_whoever_reads_the_old_one(
    group: MountedGroup, first: str
) -> None:
    group.put("log", b"old\n")
    with (
        open(group.path / "uploads/log", "rb") as reader,
    ):
        with open(group.path / "uploads/log", "wb") as writer:
            writer.write(b"mine\n")
            writer.flush()
            late = open(group.path / "uploads/log", "rb")  # noqa: SIM115
        replace(group, "log", b"theirs, which is longer\n")
        kept = reader if first == "r" else late
        (late if first == "r" else reader).close()
        seen = group.out("sleep 0.2; cat uploads/log; echo more >> uploads/log; cat uploads/log")
        assert seen == "theirs, which is longer\n" * 2 + "more\n"
        assert group.stored() == [("log", b"theirs, which is longer\nmore\n")]
        kept.close()


def test_who_opens_what_another_has_replaced_reads_it_and_nothing_of_the_old_one(
    group: MountedGroup,
) -> None:
    old, new = b"o" * 3_000_000, b"n" * 3_000_000
    group.put("x", old)
    with open(group.path / "uploads/x", "rb") as first:
        assert first.read() == old
        replace(group, "x", new)
        group.out("sleep 0.2")
        with open(group.path / "uploads/x", "rb") as second:
            assert second.read(10) == new[:10]
            # The kernel has one cache for both.
            os.posix_fadvise(first.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            first.seek(1_000_000)
            assert set(first.read(1_000_000)) == {ord("o")}
            second.seek(0)
            assert set(second.read()) == {ord("n")}
        assert group.out("cat uploads/x | tr -d n | wc -c") == "0\n"
    assert group.out("cat uploads/x | tr -d n | wc -c") == "0\n"
