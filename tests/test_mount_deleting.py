"""Runs that are removed: the marks on their files, and what programs do to remove them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounted_group import MountedGroup
from mounting import Address, mounted
from standin import Reply, StandIn
from support import Rest, wait_until

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


def test_marks_of_runs_that_nobody_looks_at_any_more_are_not_kept(
    fs: FlowFileSystem, deletions: Deletions, clock: Clock, rest: Rest, run: str
) -> None:
    other = rest.start(run.split("/")[1], {"names": {"fileId": upload_of(rest, run)}})
    rest.ended(other)
    deletions.unlink(fs.entries.resolve(f"{run}/{FILES[0]}"))
    clock.now = 10.5
    deletions.unlink(fs.entries.resolve(f"{run.rpartition('/')[0]}/{other}/{FILES[0]}"))
    assert len(deletions._marks) == 1


def upload_of(rest: Rest, run: str) -> str:
    return str(rest.get(f"uploads/{run.split('/')[1]}/files")["files"][0]["id"])


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


# -- through the kernel ------------------------------------------------------


@pytest.fixture
def ended(group: MountedGroup) -> str:
    """Id of a run in SUCCESS, which the mount knows to have ended."""
    run_id = group.started()
    group.rest.ended(run_id)
    wait_until(lambda: group.sh(f"test -e runs/{run_id}/cancel").returncode, 10, "it to know")
    group.mark()
    return run_id


@pytest.fixture
def active(group: MountedGroup) -> Iterator[str]:
    run_id = group.started(sleeptime=6000)
    wait_until(lambda: group.rest.run(run_id)["state"] == "RUNNING", 30, "the run to begin")
    yield run_id
    group.rest.request("PUT", f"runs/{run_id}", json={})


FILE_MANAGER = """
# Lists all of it first, then removes from the bottom, in an order of its own; what it could not
# remove it tries again.
left = []
for top, directories, files in os.walk(sys.argv[1], topdown=False):
    left += [(os.unlink, os.path.join(top, name)) for name in sorted(files, reverse=True)]
    left += [(os.rmdir, os.path.join(top, name)) for name in directories]
left.append((os.rmdir, sys.argv[1]))
for remove, path in left:
    remove(path)"""
BY_DESCRIPTOR = """
def remove(parent, name):
    here = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    for entry in os.scandir(here):
        if entry.is_dir(follow_symlinks=False):
            remove(here, entry.name)
        else:
            os.unlink(entry.name, dir_fd=here)
    os.close(here)
    os.rmdir(name, dir_fd=parent)
remove(os.open("runs", os.O_RDONLY), os.path.basename(sys.argv[1]))"""


@pytest.mark.mount
@pytest.mark.parametrize(
    "command",
    [
        "rm -r $run",
        "rm -rf $run",
        "rm -r $run/",
        "rm -rf runs/*/",
        "rm -r runs/$(basename $run)",
        "find $run -delete",
        "find runs -mindepth 1 -path '*/*/*' -delete; find $run -depth -delete",
        "rm -r $(realpath latest)",
        "cd $run && rm -r $PWD",
        "cd $run && rm -r handle.json arguments.json archive.tar.gz results outputs; rmdir $PWD",
        "rm -r $run & rm -rf $run & wait; rm -rf $run",
        "rm -rf $run & rm -rf $run & rm -rf $run & wait",
        "mv $run $tmp && test -s $tmp/*/handle.json",
        "python3 -c 'import shutil, sys; shutil.rmtree(sys.argv[1])' $run",
        "python3 -c 'import os, sys\n" + FILE_MANAGER + "' $run",
        "python3 -c 'import os, sys\n" + BY_DESCRIPTOR + "' $run",
    ],
    ids=lambda command: command.partition("\n")[0],
)
def test_a_run_is_removed_with_one_request(
    group: MountedGroup, ended: str, tmp_path: Path, command: str
) -> None:
    group.out(f"run=runs/{ended}; tmp={tmp_path}; {command}")
    assert group.run_ids() == []
    assert group.out("ls runs") == "new\n"
    assert len(group.requests("DELETE")) == 1


@pytest.mark.mount
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("rmdir $run", "not empty"),
        ("rmdir $run/results $run/outputs/results $run/outputs $run", "not empty"),
        ("rm -d $run", "not empty"),
        ("find $run -type d -delete", "not empty"),
        ("find runs -type d -delete", "not empty"),
        ("rm $run", "is a directory"),
        ("unlink $run", "is a directory"),
        ("rmdir $run/handle.json", "not a directory"),
        ("rm latest", "not permitted"),
        ("rm states/SUCCESS/*", "not permitted"),
        ("rm -r states", "not permitted"),
        ("rm -r workflows", "no such"),
        ("rm -r ../../workflows/*/groups", "not permitted"),
        ("rm -r uploads", "not permitted"),
        ("rm runs.jsonl group.json arguments.template.json runs/new", "not permitted"),
        ("rm -r ../$(basename $PWD)/states", "not permitted"),
    ],
)
def test_what_removes_no_run_changes_nothing(
    group: MountedGroup, ended: str, command: str, words: str
) -> None:
    before = group.out(f"ls -R runs/{ended} states; ls .")
    done = group.sh(f"run=runs/{ended}; {command}")
    assert words in done.stderr.lower()
    assert group.run_ids() == [ended]
    assert group.out(f"ls -R runs/{ended} states; ls .") == before
    assert group.requests("DELETE", "runs") == []


@pytest.mark.mount
@pytest.mark.parametrize(
    "command",
    [
        "rm -r $run",
        "rm -rf $run",
        "find $run -delete",
        "rmdir $run",
        "rm $run/handle.json",
        "rm $run/cancel",
        "rm -r latest/",
        "mv $run $tmp",
        "python3 -c 'import shutil, sys; shutil.rmtree(sys.argv[1])' $run",
        "python3 -c 'import os, sys\n" + FILE_MANAGER + "' $run",
    ],
    ids=lambda command: command.partition("\n")[0],
)
def test_an_active_run_is_ebusy_and_untouched(
    group: MountedGroup, active: str, tmp_path: Path, command: str
) -> None:
    before = group.out(f"ls -R runs/{active}")
    group.mark()
    done = group.sh(f"run=runs/{active}; tmp={tmp_path}; {command}")
    assert done.returncode != 0
    assert "resource busy" in done.stderr.lower()
    assert group.out(f"ls -R runs/{active}") == before
    assert group.rest.run(active)["state"] == "RUNNING"
    assert group.requests("DELETE") == []


@pytest.mark.mount
def test_what_stops_half_way_loses_nothing(group: MountedGroup, ended: str, tmp_path: Path) -> None:
    older, newest = ended, group.started()
    group.rest.ended(newest)
    wait_until(lambda: group.sh(f"test -e runs/{newest}/cancel").returncode, 10, "it to know")
    before = [group.out(f"ls -R runs/{run}") for run in (older, newest)]
    group.mark()
    begun = time.monotonic()
    # The kernel itself refuses to remove a directory by the name of a link to it.
    group.sh("rm -r latest/")
    group.sh(f"rsync -r --delete {tmp_path}/ runs/{older}/")
    assert group.run_ids() == [older, newest]
    listed = [group.out(f"ls runs/{run}") for run in (older, newest)]
    if time.monotonic() - begun < 9:  # or the first of them may be back already
        assert "handle.json" not in "".join(listed)
    wait_until(
        lambda: [group.out(f"ls -R runs/{run}") for run in (older, newest)] == before,
        20,
        "the files to be back",
    )
    assert group.requests("DELETE") == []
    # and what stopped half-way can be done again
    group.out(f"rm -r runs/{older} runs/{newest}")
    assert group.run_ids() == []


@pytest.mark.mount
@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(400, {"message": "invalid operation for run in state RUNNING"}), "busy"),
        (Reply(403, {"message": "not authorized"}), "permission denied"),
        (Reply(500), "input/output error"),
    ],
    ids=["400", "403", "500"],
)
def test_of_a_run_that_the_service_does_not_delete_everything_is_there_again_at_once(
    binding: dict[str, str], tmp_path: Path, reply: Reply, words: str
) -> None:
    with StandIn() as server:
        run_id = server.routes.add_run()["id"]
        server.on("DELETE", "/runs/.*", reply)
        address = Address(server.endpoint, server.routes.token)
        with mounted(address, ttl=0.05, log=tmp_path / "log", **binding) as directory:
            runs = directory / "groups" / server.routes.group / "runs"
            script = f"cd {runs}; ls -R {run_id}; rm -r {run_id}; ls -R {run_id}"
            done = subprocess.run(
                ["bash", "-c", script],
                capture_output=True,
                text=True,
                timeout=60,
                env={**os.environ, "LC_ALL": "C"},
            )
        assert words in done.stderr.lower()
        half = len(done.stdout) // 2
        assert done.stdout[:half] == done.stdout[half:] != ""
        assert server.count("DELETE", "/runs/.*") == 1
