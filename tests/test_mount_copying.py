"""A whole group copied away by ordinary tools: the service's bytes, and nothing else."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mounting import mounted
from results_workflow import RESULTS, ResultsGroup, results_group

pytestmark = [pytest.mark.mount, pytest.mark.service]

# Beside that which one gets by default.
OTHER_BINDINGS = [("fusepy", "fuse"), ("mfusepy", "fuse")]
STATES = ("PENDING", "RUNNING", "SUCCESS", "ERROR", "CANCELED")

# Each makes {to}, which is not there, from the directory it is run in.
COPIES = {
    "cp -r": "cp -r . {to}",
    "cp -a": "cp -a . {to}",
    "tar": "mkdir {to} && tar c . | tar x -C {to}",
    "tar -S": "mkdir {to} && tar cS . | tar x -C {to}",
    "rsync -a": "rsync -a ./ {to}",
    "rsync -aH": "rsync -aH ./ {to}",
}
KEEPING_HARD_LINKS = {"cp -a", "tar", "tar -S", "rsync -aH"}


@pytest.fixture(scope="module")
def group() -> Iterator[ResultsGroup]:
    with results_group() as made:
        yield made


@pytest.fixture(params=OTHER_BINDINGS, ids="-".join)
def other(request: pytest.FixtureRequest, group: ResultsGroup) -> Iterator[Path]:
    """The group on a mount by another binding."""
    pytest.importorskip("fuse" if request.param[0] == "fusepy" else "mfusepy")
    binding, library = request.param
    with mounted(group.service, fuse=binding, library=library) as directory:
        yield directory / "groups" / group.id


@pytest.fixture
def default(group: ResultsGroup) -> Iterator[Path]:
    """The group on a mount as one gets it without options."""
    with mounted(group.service) as directory:
        yield directory / "groups" / group.id


def bash(script: str, cwd: Path) -> str:
    """Run a script in which any failure counts; return what it prints. It must not complain."""
    done = run_in_bash(script, cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def run_in_bash(script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in which any failure counts, whatever comes of it."""
    return subprocess.run(
        ["bash", "-c", f"set -eo pipefail; {script}"],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )


@pytest.mark.parametrize("way", ["cp -r", "cp -a", "tar", "rsync -a"])
def test_a_copy_has_the_services_bytes_and_nothing_else(
    group: ResultsGroup, default: Path, tmp_path: Path, way: str
) -> None:
    # The first touch of the mount: nothing of the group is known to it yet.
    bash(COPIES[way].format(to=tmp_path / "copy"), default)
    check(group, tmp_path / "copy", hard_links=way in KEEPING_HARD_LINKS)
    # Of one mount all copies are the same, the archives too.
    bash(COPIES["cp -a"].format(to=tmp_path / "again"), default)
    assert bash("diff -r --no-dereference copy again", tmp_path) == ""


def test_a_copy_is_the_same_by_every_binding(
    group: ResultsGroup, other: Path, tmp_path: Path
) -> None:
    for number, (way, command) in enumerate(COPIES.items()):
        copy = tmp_path / f"copy-{number}"
        bash(command.format(to=copy), other)
        check(group, copy, hard_links=way in KEEPING_HARD_LINKS)


def check(group: ResultsGroup, copy: Path, *, hard_links: bool) -> None:
    """Compare a copy of the group with what the service says, asked without flowfs."""
    rest, left = group.rest, tree_of(copy)
    assert json.loads(left.pop("group.json")) == rest.get(f"groups/{group.id}")
    declared = json.loads(left.pop("arguments.template.json"))
    assert {one["name"] for one in declared} == {"note", "sleeptime", "fail"}
    handles = [group.done, group.failed, group.canceled, group.active]
    table = [json.loads(line) for line in left.pop("runs.jsonl").splitlines()]
    assert [(row["id"], row["state"]) for row in table] == [(h["id"], h["state"]) for h in handles]
    assert left.pop("latest") == Path("runs", group.active["id"])
    for handle in handles:
        link = Path("..", "..", "runs", handle["id"])
        assert left.pop(f"states/{handle['state']}/{handle['id']}") == link
    for state in STATES:
        assert left.pop(f"states/{state}", None) is None
    for name, data in group.uploads.items():
        assert left.pop(f"uploads/{name}") == data
    assert left.pop("runs/new") == b""
    assert left.pop(f"runs/{group.active['id']}/cancel") == b""
    for handle in handles:
        run = f"runs/{handle['id']}"
        assert json.loads(left.pop(f"{run}/handle.json")) == rest.run(handle["id"]) == handle
        arguments = {argument["name"] for argument in handle["arguments"]}
        assert {one["name"] for one in listed(left.pop(f"{run}/arguments.json"))} == arguments
    run = f"runs/{group.done['id']}"
    results = group.results(group.done)
    assert members(left.pop(f"{run}/archive.tar.gz")) == results
    for file in group.done["files"]:
        by_id, by_name = f"{run}/results/{file['id']}", f"{run}/outputs/{file['name']}"
        assert left.pop(by_id) == left.pop(by_name) == results[file["name"]]
        assert (copy / by_id).samefile(copy / by_name) == hard_links
        assert (copy / by_id).stat().st_nlink == (2 if hard_links else 1)
    assert left == {}


def listed(arguments: bytes) -> list[dict[str, Any]]:
    document = json.loads(arguments)
    if isinstance(document, dict):
        return [{"name": name, "value": value} for name, value in document.items()]
    return list(document)


def tree_of(directory: Path) -> dict[str, Any]:
    """Files by path, with their bytes; for a link where it leads. Directories that hold
    something go without saying, and those that hold nothing are in no copy's way."""
    found: dict[str, Any] = {}
    for parent, _, files in os.walk(directory):
        for name in files + [n for n in os.listdir(parent) if Path(parent, n).is_symlink()]:
            path = Path(parent, name)
            key = str(path.relative_to(directory))
            found[key] = path.readlink() if path.is_symlink() else path.read_bytes()
    return found


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_a_copy_has_the_directories_of_what_is_empty_too(default: Path, tmp_path: Path) -> None:
    bash(f"cp -r . {tmp_path}/copy", default)
    there, copied = (bash("find . -type d | sort", place) for place in (default, tmp_path / "copy"))
    assert there == copied


@pytest.fixture(scope="module")
def quiet(group: ResultsGroup) -> tuple[str, str]:
    """A group in which no run is active, and the run in it that has an archive; ids."""
    group_id = group.new_group()
    done = group.succeeded(group_id)
    group.rest.ended(group.rest.start(group_id, {"fail": True}))
    return group_id, done["id"]


def test_rsync_transfers_nothing_the_second_time(
    group: ResultsGroup, quiet: tuple[str, str], tmp_path: Path
) -> None:
    with mounted(group.service) as directory:
        there = directory / "groups" / quiet[0]
        for options in ("-a", "-aH", "-aS"):
            assert bash(f"rsync {options} ./ {tmp_path}/to{options}", there) == ""
            assert bash(f"rsync {options} -i ./ {tmp_path}/to{options}", there) == ""
        # Nor does it find a difference if it reads everything.
        assert bash(f"rsync -aic ./ {tmp_path}/to-a", there) == ""


def test_rsync_transfers_nothing_the_second_time_while_a_run_is_active(
    default: Path, tmp_path: Path
) -> None:
    assert bash(f"rsync -a ./ {tmp_path}/to", default) == ""
    assert bash(f"rsync -ai ./ {tmp_path}/to", default) == ""


def test_rsync_on_another_mount_transfers_what_has_no_size_before_it_is_read(
    group: ResultsGroup, quiet: tuple[str, str], tmp_path: Path
) -> None:
    group_id, run_id = quiet
    for _ in range(2):
        with mounted(group.service) as directory:
            changed = bash(f"rsync -ai ./ {tmp_path}/to", directory / "groups" / group_id)
    assert changed.splitlines() == [
        ">f.s....... runs.jsonl",
        f">f.s....... runs/{run_id}/archive.tar.gz",
    ]


def test_tar_of_runs_complains_only_of_what_changes_as_it_reads(
    group: ResultsGroup, tmp_path: Path
) -> None:
    group_id = group.new_group()
    run = group.rest.start(group_id, {"sleeptime": 1})
    # The run, its directories and what tells of its state change with the state: where that
    # happens while tar reads them, it says so of these as it would of a local disk's.
    changing = re.compile(
        rf"tar: (runs(/{run}(/(results|outputs|[a-z]+\.json))?)?|runs\.jsonl):"
        " file changed as we read it"
    )
    states, ttl = [group.rest.run(run)["state"]], 0.05
    with mounted(group.service, ttl=ttl) as directory:
        there = directory / "groups" / group_id
        while states[-3:] != ["SUCCESS"] * 3:
            # All but the file that goes away when the run ends.
            words = f"tar cf {tmp_path}/runs.tar --exclude cancel runs runs.jsonl group.json"
            done = run_in_bash(words, there)
            said = [line for line in done.stderr.splitlines() if not changing.fullmatch(line)]
            assert (said, done.returncode in (0, 1)) == ([], True)
            states.append(group.rest.run(run)["state"])
            if len(states) > 2 and len(set(states[-3:])) == 1:  # nor did it just before
                assert (done.returncode, done.stderr) == (0, "")
            time.sleep(2 * ttl)
        with tarfile.open(tmp_path / "runs.tar") as tar:
            names = set(tar.getnames())
    assert {f"runs/{run}/outputs/{name}" for name in RESULTS} <= names
