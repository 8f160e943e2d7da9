"""Marks on the files of runs, without a kernel in between."""

from __future__ import annotations

import pytest
from support import Rest

from flowfs import FlowFileSystem
from flowfs.embedded import EmbeddedService, sample
from flowfs.errors import DirectoryNotEmpty, InvalidRunState, NotFound, NotPermitted
from flowfs.fuse.deleting import Deletions
from flowfs.tree import Node

FILES = ("handle.json", "arguments.json", "archive.tar.gz", "outputs/results/greetings.txt")
DIRECTORIES = ("results", "outputs/results", "outputs", "")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fs(service: EmbeddedService) -> FlowFileSystem:
    return FlowFileSystem(service.endpoint, service.token, ttl=0.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deletions(fs: FlowFileSystem, clock: Clock) -> Deletions:
    return Deletions(fs, clock)


@pytest.fixture
def run(fs: FlowFileSystem, rest: Rest, hello_group: str) -> str:
    file_id = rest.upload(hello_group, sample("hello"))
    run_id = rest.start(hello_group, {"names": {"fileId": file_id}})
    rest.ended(run_id)
    return f"groups/{hello_group}/runs/{run_id}"


def test_marks_are_undone_10_seconds_after_the_last_unlink(
    fs: FlowFileSystem, deletions: Deletions, clock: Clock, run: str
) -> None:
    first, second = (fs.entries.resolve(f"{run}/{name}") for name in FILES[:2])
    deletions.unlink(first)
    clock.now = 9.0
    deletions.unlink(second)
    clock.now = 18.0
    assert deletions.hides(first)
    assert deletions.hides(second)
    clock.now = 19.5
    assert not deletions.hides(first)
    assert not deletions.hides(second)
    assert fs.exists(run)


def test_a_directory_hides_what_is_in_it_and_only_that(
    fs: FlowFileSystem, deletions: Deletions, run: str
) -> None:
    result = fs.entries.resolve(fs.ls(f"{run}/results", detail=False)[0])
    deletions.unlink(result)
    deletions.rmdir(fs.entries.resolve(f"{run}/results"))
    assert deletions.hides(result)
    assert not deletions.hides(fs.entries.resolve(f"{run}/outputs"))
    assert not deletions.hides(fs.entries.resolve(run))


def _unlink_all(fs: FlowFileSystem, deletions: Deletions, run: str) -> None:
    for name in (*FILES, fs.ls(f"{run}/results", detail=False)[0].removeprefix(f"{run}/")):
        deletions.unlink(fs.entries.resolve(f"{run}/{name}"))
    for name in DIRECTORIES:
        deletions.rmdir(fs.entries.resolve(f"{run}/{name}"))


def test_the_last_rmdir_deletes_the_run(fs: FlowFileSystem, deletions: Deletions, run: str) -> None:
    _unlink_all(fs, deletions, run)
    assert not fs.exists(run)


def test_a_delete_that_fails_brings_the_files_back(
    fs: FlowFileSystem, deletions: Deletions, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run_id: str) -> None:
        raise InvalidRunState(16, "not now")

    with monkeypatch.context() as patched:
        patched.setattr(fs.catalog, "delete_run", refuse)
        with pytest.raises(InvalidRunState):
            _unlink_all(fs, deletions, run)
    assert not deletions.hides(fs.entries.resolve(f"{run}/handle.json"))
    assert fs.exists(run)


def test_a_run_that_somebody_else_has_deleted_is_gone(
    fs: FlowFileSystem, deletions: Deletions, run: str, rest: Rest
) -> None:
    delete = fs.catalog.delete_run

    def late(run_id: str) -> None:
        rest.request("DELETE", f"runs/{run_id}")
        delete(run_id)

    fs.catalog.delete_run = late  # type: ignore[method-assign]
    try:
        _unlink_all(fs, deletions, run)
    finally:
        del fs.catalog.delete_run
    assert not fs.exists(run)


def test_only_what_is_there_and_of_a_run_is_marked(
    fs: FlowFileSystem, deletions: Deletions, run: str, hello_group: str
) -> None:
    def place(path: str) -> Node:
        return fs.entries.resolve(path)

    with pytest.raises(NotFound):
        deletions.unlink(place(f"{run}/results/nothing"))
    with pytest.raises(DirectoryNotEmpty):
        deletions.rmdir(place(run))
    for path in (
        f"groups/{hello_group}/latest",
        f"groups/{hello_group}/states/SUCCESS/{run.rpartition('/')[2]}",
        f"groups/{hello_group}/group.json",
        f"groups/{hello_group}/runs/new",
    ):
        with pytest.raises(NotPermitted):
            deletions.unlink(place(path))
