"""Looking around in the tree of the real service: listing, finding, asking about places."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from standin import Reply, StandIn
from support import lasting_port, wait_until
from world import World, counted

from flowfs import (
    BadReply,
    ConnectionFailed,
    FlowFileSystem,
    NotADirectory,
    NotFound,
    NotPermitted,
)
from flowfs.embedded import EmbeddedService

STATES = ["PENDING", "RUNNING", "ERROR", "CANCELED", "SUCCESS"]


@dataclass
class Looked:
    """A group with a run in SUCCESS, one that failed, one canceled and one that runs."""

    world: World
    success: dict[str, Any]
    error: dict[str, Any]
    canceled: dict[str, Any]
    active: str

    @property
    def group(self) -> str:
        return self.world.group

    @property
    def run(self) -> str:
        return self.world.run(self.success)

    @property
    def output(self) -> str:
        return f"{self.run}/outputs/results/greetings.txt"

    def path(self, run_id: str) -> str:
        return f"{self.group}/runs/{run_id}"


@pytest.fixture(scope="module")
def there(service: EmbeddedService) -> Iterator[Looked]:
    world = World(service)
    success = world.succeeded(greeting="Hi")
    error = world.ended(world.start(sleeptime=-1))
    canceled_id = world.active()
    world.cancel(canceled_id)
    active = world.active()
    yield Looked(world, success, error, world.ended(canceled_id), active)
    world.cancel(active)


@pytest.fixture(scope="module")
def fs(there: Looked) -> FlowFileSystem:
    return there.world.fs()


@pytest.fixture(scope="module")
def broken() -> FlowFileSystem:
    """A file system of a service that is not there."""
    return FlowFileSystem(f"http://127.0.0.1:{lasting_port()}", "token", retries=0)


def names(paths: list[str]) -> list[str]:
    return [path.rpartition("/")[2] for path in paths]


# -- ls --------------------------------------------------------------------


def test_the_root_lists_groups_and_workflows(fs: FlowFileSystem) -> None:
    assert fs.ls("", detail=False) == ["groups", "workflows"]
    assert fs.ls("/", detail=False) == ["groups", "workflows"]


def test_groups_lists_the_groups_of_all_workflows(fs: FlowFileSystem, there: Looked) -> None:
    listed = fs.ls("groups", detail=False)
    assert there.group in listed
    assert {f"groups/{g}" for g in there.world.service.groups.values()} <= set(listed)


def test_a_group_lists_what_the_design_says(fs: FlowFileSystem, there: Looked) -> None:
    assert names(fs.ls(there.group, detail=False)) == [
        "group.json",
        "arguments.template.json",
        "latest",
        "runs",
        "runs.jsonl",
        "states",
        "uploads",
    ]


def test_a_group_without_runs_has_no_latest(fs: FlowFileSystem, there: Looked) -> None:
    empty = f"groups/{there.world.new_group('empty')}"
    assert "latest" not in names(fs.ls(empty, detail=False))
    assert not fs.exists(f"{empty}/latest")
    assert fs.ls(f"{empty}/runs", detail=False) == [f"{empty}/runs/new"]
    assert fs.cat(f"{empty}/runs.jsonl") == b""


def test_runs_lists_new_and_the_runs_oldest_first(fs: FlowFileSystem, there: Looked) -> None:
    expected = [there.success["id"], there.error["id"], there.canceled["id"], there.active]
    assert names(fs.ls(f"{there.group}/runs", detail=False)) == ["new", *expected]


def test_entries_of_runs_tell_state_and_time(fs: FlowFileSystem, there: Looked) -> None:
    entries = {e["name"]: e for e in fs.ls(f"{there.group}/runs")}
    entry = entries[there.run]
    assert (entry["type"], entry["size"], entry["state"]) == ("directory", 0, "SUCCESS")
    assert entry["id"] == there.success["id"]
    created = datetime.datetime.fromisoformat(there.success["createdAt"])
    assert entry["mtime"] == created.replace(tzinfo=datetime.timezone.utc).timestamp()
    assert entries[there.path(there.active)]["state"] == "RUNNING"


@pytest.mark.parametrize("state", STATES)
def test_a_state_of_runs_lists_those_in_it(fs: FlowFileSystem, there: Looked, state: str) -> None:
    expected = {
        "SUCCESS": [there.success["id"]],
        "ERROR": [there.error["id"]],
        "CANCELED": [there.canceled["id"]],
        "RUNNING": [there.active],
        "PENDING": [],
    }[state]
    assert names(fs.ls(f"{there.group}/runs", detail=False, state=state)) == expected
    assert names(fs.ls(f"{there.group}/states/{state}", detail=False)) == expected


def test_a_state_that_there_is_not_is_a_value_error(fs: FlowFileSystem, there: Looked) -> None:
    with pytest.raises(ValueError, match="no state 'DONE': there are PENDING, RUNNING"):
        fs.ls(f"{there.group}/runs", state="DONE")


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("success", ["handle.json", "arguments.json", "results", "outputs", "archive.tar.gz"]),
        ("error", ["handle.json", "arguments.json", "results", "outputs"]),
        ("canceled", ["handle.json", "arguments.json", "results", "outputs"]),
        ("active", ["handle.json", "arguments.json", "results", "outputs", "cancel"]),
    ],
)
def test_a_run_lists_what_its_state_has(
    fs: FlowFileSystem, there: Looked, which: str, expected: list[str]
) -> None:
    run = getattr(there, which)
    path = there.path(run if isinstance(run, str) else run["id"])
    assert names(fs.ls(path, detail=False)) == expected
    for name in ("archive.tar.gz", "cancel"):
        assert fs.exists(f"{path}/{name}") is (name in expected)


def test_only_a_run_in_success_has_results(fs: FlowFileSystem, there: Looked) -> None:
    (file,) = there.success["files"]
    assert fs.ls(f"{there.run}/results", detail=False) == [f"{there.run}/results/{file['id']}"]
    for other in (there.error["id"], there.active):
        assert fs.ls(f"{there.path(other)}/results") == []
        assert fs.ls(f"{there.path(other)}/outputs") == []


def test_outputs_are_directories_as_the_workflow_named_them(
    fs: FlowFileSystem, there: Looked
) -> None:
    assert fs.ls(f"{there.run}/outputs", detail=False) == [f"{there.run}/outputs/results"]
    assert fs.ls(f"{there.run}/outputs/results", detail=False) == [there.output]
    assert fs.isdir(f"{there.run}/outputs/results")
    assert fs.isfile(there.output)
    assert fs.cat(there.output).startswith(b"Hi, Ada!\n")


def test_ls_of_a_file_lists_the_file(fs: FlowFileSystem, there: Looked) -> None:
    for path in (f"{there.run}/handle.json", there.output, f"{there.group}/uploads/names.txt"):
        (entry,) = fs.ls(path)
        assert (entry["name"], entry["type"]) == (path, "file")


def test_ls_with_refresh_asks_again(there: Looked) -> None:
    fs = there.world.fs(ttl=1e6)
    before = fs.ls(f"{there.group}/uploads", detail=False)
    reply = there.world.rest.request(
        "POST", f"uploads/{there.world.group_id}/files", files={"file": ("more.txt", b"Ada\n")}
    )
    assert fs.ls(f"{there.group}/uploads", detail=False) == before
    now = fs.ls(f"{there.group}/uploads", detail=False, refresh=True)
    assert now == [*before, f"{there.group}/uploads/more.txt"]
    there.world.rest.request("DELETE", f"uploads/{there.world.group_id}/files/{reply.json()['id']}")


@pytest.mark.parametrize("below", ["results", "outputs", ""])
def test_refreshing_a_run_sees_that_it_has_ended(there: Looked, below: str) -> None:
    fs = there.world.fs(ttl=1e6)
    run_id = there.world.start(sleeptime=5)
    path = there.path(run_id)
    assert fs.ls(f"{path}/results") == []
    assert fs.exists(f"{path}/cancel")
    there.world.ended(run_id)
    fs.ls(f"{path}/{below}", refresh=True)
    # Everything told of the run agrees from now on.
    assert len(fs.ls(f"{path}/results")) == 1
    assert fs.exists(f"{path}/archive.tar.gz")
    assert not fs.exists(f"{path}/cancel")
    assert fs.info(path)["state"] == "SUCCESS"
    fs.rm(path, recursive=True)


def test_a_run_whose_handle_says_it_has_ended_has_its_results_at_once(there: Looked) -> None:
    fs = there.world.fs(ttl=1e6)
    run_id = there.world.start(sleeptime=5)
    path = there.path(run_id)
    assert run_id in names(fs.ls(f"{there.group}/runs", detail=False, state="RUNNING"))
    there.world.ended(run_id)
    # The listing is not older than ttl, and says that it runs; the handle knows better.
    assert json.loads(fs.cat(f"{path}/handle.json"))["state"] == "SUCCESS"
    assert len(fs.ls(f"{path}/results")) == 1
    fs.rm(path, recursive=True)


# -- info ------------------------------------------------------------------


def test_info_of_the_fixed_directories(fs: FlowFileSystem, there: Looked) -> None:
    for path in ("", "groups", "workflows", f"{there.group}/runs", f"{there.group}/uploads"):
        entry = fs.info(path)
        assert (entry["name"], entry["type"], entry["size"]) == (path, "directory", 0)


def test_info_of_a_group_and_a_workflow_tell_their_names(fs: FlowFileSystem, there: Looked) -> None:
    assert fs.info(there.group)["title"] == there.world.group_name
    assert fs.info(there.group)["id"] == there.world.group_id
    assert fs.info(f"workflows/{there.world.workflow_id}")["title"] == "hello"


@pytest.mark.parametrize(
    "below",
    [
        "group.json",
        "arguments.template.json",
        "runs/new",
        "uploads/names.txt",
        "runs/{run}/handle.json",
        "runs/{run}/arguments.json",
        "runs/{run}/results/{file}",
        "runs/{run}/outputs/results/greetings.txt",
    ],
)
def test_the_size_of_a_file_is_that_of_its_bytes(
    fs: FlowFileSystem, there: Looked, below: str
) -> None:
    file_id = there.success["files"][0]["id"]
    path = f"{there.group}/" + below.format(run=there.success["id"], file=file_id)
    entry = fs.info(path)
    assert (entry["name"], entry["type"]) == (path, "file")
    assert entry["size"] == len(fs.cat(path)) == fs.size(path)


def test_the_size_of_an_archive_is_known_once_it_has_been_read(there: Looked) -> None:
    fs = there.world.fs()
    path = f"{there.run}/archive.tar.gz"
    assert fs.info(path)["size"] is None
    data = fs.cat(path)
    assert fs.info(path)["size"] == len(data)


def test_a_table_of_runs_has_no_size_before_it_is_read(there: Looked) -> None:
    fs = there.world.fs(ttl=1.5)  # with options of its own: nobody has read anything yet
    assert fs.info(f"{there.group}/runs.jsonl")["size"] is None
    with fs.open(f"{there.group}/runs.jsonl") as file:
        assert file.size == len(file.read())


def test_files_of_a_run_carry_when_it_ended(fs: FlowFileSystem, there: Looked) -> None:
    ended = datetime.datetime.fromisoformat(there.success["finishedAt"])
    ended = ended.replace(tzinfo=datetime.timezone.utc)
    for below in ("handle.json", "arguments.json", "outputs/results/greetings.txt", "results"):
        assert fs.modified(f"{there.run}/{below}") == ended
    created = datetime.datetime.fromisoformat(there.success["createdAt"])
    created = created.replace(tzinfo=datetime.timezone.utc)
    assert fs.modified(there.run) == fs.created(there.run) == created
    assert fs.created(f"{there.run}/handle.json") == created
    assert fs.modified(there.run).tzinfo is datetime.timezone.utc


def test_an_upload_carries_when_it_was_uploaded(fs: FlowFileSystem, there: Looked) -> None:
    assert fs.modified(f"{there.group}/uploads/names.txt") < fs.created(there.run)


def test_what_has_no_time_says_so(fs: FlowFileSystem) -> None:
    with pytest.raises(NotImplementedError, match="the service tells no time"):
        fs.modified("groups")


def test_a_result_tells_what_the_workflow_says_of_it(fs: FlowFileSystem, there: Looked) -> None:
    entry = fs.info(there.world.result(there.success))
    assert entry["title"] == "Greetings"
    assert entry["output"] == "results/greetings.txt"
    assert entry["id"] == there.success["files"][0]["id"]


# -- what is there, and what is not ----------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "groups/nope",
        "groups/nope/runs/new",
        "groups/nope/uploads/x",
        "groups/nope/latest/handle.json",
        "{group}/runs/nope",
        "{group}/runs/nope/handle.json",
        "{group}/runs/{run}/results/nope",
        "{group}/runs/{run}/outputs/nope",
        "{group}/runs/{run}/outputs/results/nope.txt",
        "{group}/runs/{run}/outputs/results/greetings.txt/deeper",
        "{group}/runs/{run}/handle.json/deeper",
        "{group}/runs/{run}/cancel",
        "{group}/runs/new.error",
        "{group}/states/NOPE",
        "{group}/states/ERROR/{run}",
        "{group}/uploads/nope",
        "{group}/../{group}",
        "groups/%/runs",
        "groups/%2E%2E/runs",
        "groups/./runs",
        "{group}/runs/%2E%2E/handle.json",
        "{group}/runs/%/handle.json",
        "workflows/nope",
        "workflows/nope/postproc/handle.json",
        "workflows/{workflow}/groups/nope",
        "workflows/{workflow}/groups/nope/runs",
        "workflows/{workflow}/postproc",
    ],
)
def test_what_is_not_there_is_not_found(fs: FlowFileSystem, there: Looked, path: str) -> None:
    path = path.format(group=there.group, run=there.success["id"], workflow=there.world.workflow_id)
    assert fs.exists(path) is False
    assert fs.isdir(path) is False
    assert fs.isfile(path) is False
    assert fs.find(path) == []
    assert list(fs.walk(path)) == []
    for act in (fs.info, fs.ls, fs.cat, fs.open, fs.ukey, fs.sign):
        with pytest.raises((NotFound, NotADirectory)) as caught:
            act(path)
        assert caught.value.errno is not None
        assert str(caught.value.filename).startswith(there.world.url())


def test_what_a_pattern_or_a_recursive_copy_does_not_find_is_an_error_with_errno_and_url(
    fs: FlowFileSystem, there: Looked, tmp_path: Path
) -> None:
    for act in (
        lambda path: fs.cat(path + "*"),
        lambda path: fs.get(path, str(tmp_path / "x"), recursive=True),
        lambda path: fs.get(path + "?", str(tmp_path / "x")),
        lambda path: fs.expand_path([path + "[x]"]),
    ):
        with pytest.raises(NotFound) as caught:
            act(f"{there.run}/nope")
        assert caught.value.errno is not None
        assert str(caught.value.filename).startswith(there.world.url(f"{there.run}/nope"))


def test_a_broken_service_is_an_error_and_no_empty_tree(
    broken: FlowFileSystem, tmp_path: Path
) -> None:
    for act in (broken.exists, broken.isdir, broken.isfile, broken.info, broken.ls, broken.find):
        for path in ("groups/G", "groups/G/runs/R", "groups/G/latest", "workflows/W/groups/N"):
            with pytest.raises(ConnectionFailed):
                act(path)
    for call in (
        lambda: list(broken.walk("groups")),
        lambda: list(broken.walk("groups", on_error="omit")),
        lambda: broken.glob("groups/*"),
        lambda: broken.glob("groups/G/runs/*/handle.json"),
        lambda: broken.glob("groups/**"),
        lambda: broken.du("groups/G"),
        lambda: broken.get("groups/G/uploads", str(tmp_path / "x"), recursive=True),
        lambda: broken.cat("groups/G/group.json"),
        lambda: broken.cat(["groups/G/group.json", "groups/H/group.json"]),
        lambda: broken.open("groups/G/group.json"),
        lambda: broken.rm("groups/G/runs/R", recursive=True),
        lambda: broken.ukey("groups/G/runs/R/handle.json"),
    ):
        with pytest.raises(ConnectionFailed) as caught:
            call()
        assert str(caught.value.filename).startswith("flow+http://127.0.0.1:")


def test_where_no_service_is_there_is_an_error_and_no_empty_tree() -> None:
    with StandIn() as server:
        fs = FlowFileSystem(f"{server.origin}/elsewhere", server.routes.token)
        for call in (
            lambda: fs.glob("groups/*/runs/*/handle.json"),
            lambda: list(fs.walk("groups")),
            lambda: fs.find("groups/G/runs"),
            lambda: fs.exists("groups/G"),
            lambda: fs.isdir("groups/G"),
        ):
            with pytest.raises(BadReply, match="no flowServ API there"):
                call()


def test_walk_gives_failures_to_a_function(broken: FlowFileSystem) -> None:
    errors: list[OSError] = []
    assert list(broken.walk("groups/G", on_error=errors.append)) == []
    assert [type(error) for error in errors] == [ConnectionFailed]


def test_a_run_of_another_group_does_not_exist_under_this_one(
    fs: FlowFileSystem, there: Looked
) -> None:
    other = there.world.service.groups["hello"]
    assert not fs.exists(f"groups/{other}/runs/{there.success['id']}")
    with pytest.raises(NotFound, match="it is of group"):
        fs.cat(f"groups/{other}/runs/{there.success['id']}/handle.json")
    with pytest.raises(NotFound):
        fs.rm(f"groups/{other}/runs/{there.success['id']}", recursive=True)
    assert there.success["id"] in there.world.run_ids()


def test_what_is_not_listed_is_reached_by_its_id() -> None:
    with StandIn() as server:
        run_id, file_id = server.routes.add_file(b"bytes")
        server.on("GET", r"/workflows/workflow-1/groups", Reply(body={"groups": []}))
        server.on("GET", r"/groups/group-1/runs", Reply(body={"runs": []}))
        server.on("GET", r"/groups/group-1", Reply(body={"id": "group-1", "name": "hidden"}))
        fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=600)
        assert fs.ls("groups") == []
        assert fs.exists("groups/group-1")
        assert fs.ls("groups/group-1/runs", detail=False) == ["groups/group-1/runs/new"]
        assert fs.cat(f"groups/group-1/runs/{run_id}/results/{file_id}") == b"bytes"


# -- views -----------------------------------------------------------------


def test_views_say_that_they_are_and_where_they_lead(fs: FlowFileSystem, there: Looked) -> None:
    group, run, world = there.group, there.run, there.world
    latest = world.run_ids()[-1]
    expected = {
        f"{group}/latest": f"{group}/runs/{latest}",
        f"{group}/states": f"{group}/runs",
        f"{group}/states/SUCCESS/{there.success['id']}": run,
        f"{group}/runs.jsonl": f"{group}/runs",
        f"{run}/outputs": f"{run}/results",
        there.output: world.result(there.success),
        f"{run}/archive.tar.gz": f"{run}/results",
        f"workflows/{world.workflow_id}/groups": "groups",
        f"workflows/{world.workflow_id}/groups/{world.group_name}": group,
    }
    for path, target in expected.items():
        listed = {e["name"]: e for e in fs.ls(path.rpartition("/")[0])}
        for entry in (fs.info(path), listed[path]):
            assert (entry["name"], entry.get("islink"), entry["target"]) == (path, True, target)


def test_what_is_no_view_does_not_say_so(fs: FlowFileSystem, there: Looked) -> None:
    for path in (
        there.group,
        there.run,
        f"{there.run}/results",
        there.world.result(there.success),
        f"{there.run}/outputs/results",
        f"{there.group}/states/SUCCESS",
        f"{there.group}/uploads/names.txt",
    ):
        assert "islink" not in fs.info(path)


def test_a_walk_from_above_passes_views_by(fs: FlowFileSystem, there: Looked) -> None:
    found = fs.find(there.group)
    assert f"{there.run}/handle.json" in found
    assert there.world.result(there.success) in found
    parts = {part for path in found for part in path.removeprefix(there.group).split("/")}
    assert not parts & {"outputs", "latest", "states", "archive.tar.gz", "runs.jsonl"}
    assert len(found) == len(set(found))
    walked = [f"{here}/{name}" for here, _, files in fs.walk(there.group) for name in files]
    assert sorted(walked) == found
    workflow = f"workflows/{there.world.workflow_id}"
    assert fs.find(workflow) == [
        f"{workflow}/leaderboard.csv",
        f"{workflow}/leaderboard.json",
        f"{workflow}/workflow.json",
    ]


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ("{run}/outputs", ["results/greetings.txt"]),
        ("{run}/outputs/results", ["greetings.txt"]),
        ("{group}/states/SUCCESS/{id}", ["arguments.json", "handle.json", "results/{file}"]),
        (
            "{group}/states/SUCCESS",
            ["{id}/arguments.json", "{id}/handle.json", "{id}/results/{file}"],
        ),
        ("{group}/states/SUCCESS/{id}/outputs", ["results/greetings.txt"]),
        ("{groups}/{name}/runs/{id}", ["arguments.json", "handle.json", "results/{file}"]),
        ("{groups}/{name}/runs/{id}/outputs", ["results/greetings.txt"]),
        ("{groups}/{name}/uploads", ["names.txt"]),
    ],
)
def test_a_walk_that_starts_at_or_in_a_view_enters_it(
    fs: FlowFileSystem, there: Looked, tmp_path: Path, view: str, expected: list[str]
) -> None:
    fill = {
        "group": there.group,
        "groups": f"workflows/{there.world.workflow_id}/groups",
        "name": there.world.group_name,
        "run": there.run,
        "id": there.success["id"],
        "file": there.success["files"][0]["id"],
    }
    path = view.format_map(fill)
    files = [name.format_map(fill) for name in expected]
    assert fs.find(path) == [f"{path}/{name}" for name in files]
    walked = [f"{h}/{n}" for h, _, names in fs.walk(path) for n in names]
    assert sorted(walked) == fs.find(path)
    assert [p for p in fs.glob(f"{path}/**") if fs.isfile(p)] == fs.find(path)
    assert fs.du(path) == sum(fs.size(p) for p in fs.find(path))
    fs.get(f"{path}/", str(tmp_path / "copy"), recursive=True)
    for name in files:
        assert (tmp_path / "copy" / name).read_bytes() == fs.cat(f"{path}/{name}")


def test_all_runs_by_state_and_all_groups_by_name_are_walked_once_each(
    own_service: EmbeddedService,
) -> None:
    world = World(own_service)
    runs = [world.succeeded()["id"], world.ended(world.start(sleeptime=-1))["id"]]
    fs = world.fs()
    handles = [p for p in fs.find(f"{world.group}/states") if p.endswith("/handle.json")]
    assert sorted(p.split("/")[-2] for p in handles) == sorted(runs)
    by_name = f"workflows/{world.workflow_id}/groups"
    found = fs.find(by_name)
    assert f"{by_name}/{world.group_name}/group.json" in found
    for run in runs:
        assert found.count(f"{by_name}/{world.group_name}/runs/{run}/handle.json") == 1
    assert len(list(fs.walk(f"{world.group}/states", maxdepth=1))) == 1


def test_latest_is_the_newest_run(service: EmbeddedService, tmp_path: Path) -> None:
    world = World(service)
    fs = world.fs()
    first = world.succeeded()
    latest = f"{world.group}/latest"
    assert fs.info(latest)["target"] == world.run(first)
    assert json.loads(fs.cat(f"{latest}/handle.json"))["id"] == first["id"]
    assert fs.ls(latest, detail=False)[0] == f"{latest}/handle.json"
    assert fs.isdir(latest)
    fs.get(f"{latest}/", str(tmp_path / "copy"), recursive=True)
    assert (tmp_path / "copy" / "handle.json").exists()
    fs.get(latest, str(tmp_path), recursive=True)
    assert (tmp_path / "latest" / "handle.json").exists()
    second = world.succeeded()
    fs.invalidate_cache()
    assert json.loads(fs.cat(f"{latest}/handle.json"))["id"] == second["id"]


def test_a_view_is_one_thing_throughout_an_operation(
    service: EmbeddedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(service)
    first = world.succeeded()
    fs = world.fs(ttl=0)
    copy, copied = fs.get_file, []

    def get_file(rpath: str, lpath: str, **kwargs: Any) -> None:
        copy(rpath, lpath, **kwargs)
        if not copied:
            world.succeeded()  # somebody else's: from now on the latest
        copied.append(rpath)

    monkeypatch.setattr(fs, "get_file", get_file)
    fs.get(f"{world.group}/latest/", str(tmp_path / "copy"), recursive=True)
    assert {path.split("/")[2] for path in copied} == {"latest"}
    handle = json.loads((tmp_path / "copy" / "handle.json").read_text())
    assert handle["id"] == first["id"]
    assert [p.name for p in (tmp_path / "copy" / "results").iterdir()] == [first["files"][0]["id"]]


# -- find, walk, glob, du --------------------------------------------------


def test_find_tells_entries_directories_and_depth(fs: FlowFileSystem, there: Looked) -> None:
    found = fs.find(there.run, detail=True, withdirs=True)
    assert {e["type"] for e in found.values()} == {"file", "directory"}
    assert found[there.run]["state"] == "SUCCESS"
    assert f"{there.run}/results" in found
    assert fs.find(there.run, maxdepth=1) == [
        f"{there.run}/arguments.json",
        f"{there.run}/handle.json",
    ]
    assert fs.find(there.output) == [there.output]
    with pytest.raises(ValueError, match="maxdepth"):
        fs.find(there.run, maxdepth=0)


def test_walk_yields_as_os_walk_does(fs: FlowFileSystem, there: Looked) -> None:
    file_id = there.success["files"][0]["id"]
    steps = [
        (there.run, ["results"], ["handle.json", "arguments.json"]),
        (f"{there.run}/results", [], [file_id]),
    ]
    assert list(fs.walk(there.run)) == steps
    assert list(fs.walk(there.run, topdown=False)) == steps[::-1]
    ((_, directories, files),) = fs.walk(there.run, maxdepth=1, detail=True)
    assert directories["results"]["type"] == "directory"
    assert files["handle.json"]["size"] > 0
    with pytest.raises(NotFound):
        list(fs.walk(f"{there.group}/runs/nope", on_error="raise"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{group}/runs/*/cancel", ["{group}/runs/{active}/cancel"]),
        ("{group}/runs/*/archive.tar.gz", ["{run}/archive.tar.gz"]),
        ("{group}/runs/*/results/*", ["{run}/results/{file}"]),
        ("{group}/runs/*/outputs/*/*.txt", ["{run}/outputs/results/greetings.txt"]),
        ("{group}/runs/*/outputs/**/*.txt", ["{run}/outputs/results/greetings.txt"]),
        ("{group}/states/S*/*/handle.json", ["{group}/states/SUCCESS/{id}/handle.json"]),
        ("{group}/states/SUCCESS/*/*/*", ["{group}/states/SUCCESS/{id}/results/{file}"]),
        ("{group}/upl*/na[lmn]es.t?t", ["{group}/uploads/names.txt"]),
        ("{group}/la*", ["{group}/latest"]),
        ("{group}/latest/cancel", ["{group}/latest/cancel"]),
        ("{group}/runs/*/", ["{run}", "{error}", "{canceled}", "{group}/runs/{active}"]),
        ("{group}/runs/ne*", ["{group}/runs/new"]),
        ("{group}/nope*/x", []),
        ("{group}/group.json/*", []),
        ("nope/*", []),
    ],
)
def test_a_pattern_matches_what_it_names_views_too(
    fs: FlowFileSystem, there: Looked, pattern: str, expected: list[str]
) -> None:
    fill = {
        "group": there.group,
        "run": there.run,
        "id": there.success["id"],
        "file": there.success["files"][0]["id"],
        "active": there.active,
        "error": there.path(there.error["id"]),
        "canceled": there.path(there.canceled["id"]),
    }
    found = fs.glob(pattern.format_map(fill))
    wanted = sorted(path.format_map(fill) for path in expected)
    if pattern.endswith("SUCCESS/*/*/*"):  # outputs/results is a directory there
        found = [path for path in found if fs.isfile(path)]
    assert found == wanted


def test_a_pattern_with_detail_tells_entries(fs: FlowFileSystem, there: Looked) -> None:
    found = fs.glob(f"{there.group}/runs/*/handle.json", detail=True)
    assert len(found) == 4
    assert all(entry["name"] == path and entry["size"] > 0 for path, entry in found.items())


def test_du_counts_every_byte_once(fs: FlowFileSystem, there: Looked) -> None:
    found = fs.find(there.group)
    assert fs.du(there.group) == sum(len(fs.cat(path)) for path in found)
    assert set(fs.du(there.group, total=False)) == set(found)
    assert fs.du(f"{there.group}/latest") == fs.du(fs.info(f"{there.group}/latest")["target"])


def test_names_returned_start_with_the_path_that_was_asked_for(
    fs: FlowFileSystem, there: Looked
) -> None:
    for path in (
        f"{there.group}/latest",
        f"{there.group}/latest/results",
        f"{there.group}/states/SUCCESS/{there.success['id']}/outputs",
        f"workflows/{there.world.workflow_id}/groups/{there.world.group_name}/runs",
    ):
        assert fs.info(path)["name"] == path
        assert all(p.startswith(f"{path}/") for p in fs.ls(path, detail=False))
        assert all(p.startswith(f"{path}/") for p in fs.find(path))
        assert all(p.startswith(f"{path}/") for p in fs.glob(f"{path}/*"))


# -- what files say --------------------------------------------------------


def test_generated_files_say_what_the_service_says(fs: FlowFileSystem, there: Looked) -> None:
    world = there.world
    assert json.loads(fs.cat(f"{there.run}/handle.json")) == world.rest.run(there.success["id"])
    group = json.loads(fs.cat(f"{there.group}/group.json"))
    assert (group["id"], group["name"]) == (world.group_id, world.group_name)
    workflow = json.loads(fs.cat(f"workflows/{world.workflow_id}/workflow.json"))
    assert workflow["name"] == "hello"
    arguments = json.loads(fs.cat(f"{there.run}/arguments.json"))
    assert {a["name"]: a["value"] for a in arguments}["greeting"] == "Hi"


def test_the_template_has_the_defaults_filled_in(fs: FlowFileSystem, there: Looked) -> None:
    template = json.loads(fs.cat(f"{there.group}/arguments.template.json"))
    assert [(e["name"], e["value"], e["dtype"]) for e in template] == [
        ("names", None, "file"),
        ("greeting", "Hello", "string"),
        ("sleeptime", 0, "int"),
    ]
    assert all({"label", "isRequired"} <= entry.keys() for entry in template)


def test_the_table_has_a_line_for_every_run_with_its_arguments(
    fs: FlowFileSystem, there: Looked
) -> None:
    rows = [json.loads(line) for line in fs.cat(f"{there.group}/runs.jsonl").splitlines()]
    assert [(row["id"], row["state"]) for row in rows] == [
        (there.success["id"], "SUCCESS"),
        (there.error["id"], "ERROR"),
        (there.canceled["id"], "CANCELED"),
        (there.active, "RUNNING"),
    ]
    assert {n: rows[0][n] for n in ("names", "greeting")} == {
        "names": "names.txt",
        "greeting": "Hi",
    }


def test_a_generated_file_is_one_snapshot(there: Looked) -> None:
    fs = there.world.fs(ttl=0)
    run_id = there.world.start(sleeptime=5)
    with fs.open(f"{there.path(run_id)}/handle.json") as file:
        there.world.ended(run_id)
        data = file.read()
        assert len(data) == file.size
        assert json.loads(data)["state"] in ("PENDING", "RUNNING")
    fs.rm(there.path(run_id), recursive=True)


def test_post_processing_is_a_run_like_others(service: EmbeddedService) -> None:
    world = World(service, "analysis")
    fs = world.fs(ttl=0)
    world.succeeded()
    postproc = f"workflows/{world.workflow_id}/postproc"
    wait_until(
        lambda: fs.exists(postproc) and fs.exists(f"{postproc}/archive.tar.gz"), 30, "postproc"
    )
    assert names(fs.ls(postproc, detail=False)) == [
        "handle.json",
        "arguments.json",
        "results",
        "outputs",
        "archive.tar.gz",
    ]
    handle = json.loads(fs.cat(f"{postproc}/handle.json"))
    ended = datetime.datetime.fromisoformat(handle["finishedAt"])
    ended = ended.replace(tzinfo=datetime.timezone.utc)
    for path in (f"{postproc}/handle.json", f"{postproc}/outputs/results/comparison.csv"):
        assert fs.modified(path) == ended
    assert fs.created(postproc).tzinfo is datetime.timezone.utc
    assert fs.cat(f"{postproc}/outputs/results/comparison.csv").startswith(b"run,group,column,")
    assert fs.cat(f"{postproc}/archive.tar.gz")[:2] == b"\x1f\x8b"
    table = fs.cat(f"workflows/{world.workflow_id}/leaderboard.csv").decode().splitlines()
    assert table[0].startswith("rank,run,group,group_id,createdAt,finishedAt,days_above")
    ranking = json.loads(fs.cat(f"workflows/{world.workflow_id}/leaderboard.json"))["ranking"]
    assert len(table) == len(ranking) + 1
    with pytest.raises(NotPermitted):
        fs.rm(postproc, recursive=True)


# -- ukey, checksum, sign --------------------------------------------------


def test_ukeys_stay_while_the_bytes_do(there: Looked) -> None:
    fs, other = there.world.fs(), there.world.fs(ttl=0)
    paths = [
        there.output,
        f"{there.run}/handle.json",
        f"{there.run}/archive.tar.gz",
        f"{there.group}/uploads/names.txt",
        f"{there.group}/group.json",
        there.run,
    ]
    keys = [fs.ukey(path) for path in paths]
    assert [other.ukey(path) for path in paths] == keys
    assert len(set(keys)) == len(keys)
    assert [other.checksum(path) for path in paths] == [int(key, 16) for key in keys]


def test_the_ukey_of_an_upload_changes_with_its_bytes(there: Looked) -> None:
    fs = there.world.fs()
    path = f"{there.group}/uploads/keyed.txt"
    fs.pipe(path, b"one")
    before = fs.ukey(path)
    fs.pipe(path, b"two")
    assert fs.ukey(path) != before
    fs.rm(path)


def test_what_is_not_there_has_no_ukey(fs: FlowFileSystem, there: Looked) -> None:
    for path in (f"{there.path(there.active)}/archive.tar.gz", "groups/nope/runs/new"):
        with pytest.raises(NotFound):
            fs.ukey(path)


def test_a_signed_url_downloads_with_anything(fs: FlowFileSystem, there: Looked) -> None:
    for path in (there.output, f"{there.group}/uploads/names.txt"):
        reply = requests.get(fs.sign(path), timeout=30)
        assert reply.ok
        assert reply.content == fs.cat(path)
    assert (
        requests.get(fs.sign(f"{there.run}/archive.tar.gz"), timeout=30).content[:2] == b"\x1f\x8b"
    )
    headers = {"api_key": there.world.token}
    for path in (f"{there.run}/handle.json", f"{there.group}/group.json", f"{there.group}/latest"):
        reply = requests.get(fs.sign(path), headers=headers, timeout=30)
        assert reply.ok
        assert reply.json()["id"]
    assert there.world.token not in fs.sign(there.output)


def test_what_the_service_has_no_url_for_cannot_be_signed(
    fs: FlowFileSystem, there: Looked
) -> None:
    with pytest.raises(NotPermitted) as caught:
        fs.sign(f"{there.group}/arguments.template.json")
    assert caught.value.filename == there.world.url(f"{there.group}/arguments.template.json")


# -- odd names and ids -----------------------------------------------------


ODD = ["../up", "a//b", "", ".", "..", "nul\0", "new\nline", "x" * 300, "half\ud800", "ok.txt"]


def test_odd_names_of_results_are_escaped_and_spoil_nothing() -> None:
    with StandIn() as server:
        files = [{"id": f"file-{i}", "name": name} for i, name in enumerate(ODD)]
        server.routes.files.update({f["id"]: f["id"].encode() for f in files})
        run = server.routes.add_run("SUCCESS", files=files)
        fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=600)
        outputs = f"groups/group-1/runs/{run['id']}/outputs"
        found = fs.find(outputs)
        assert len(found) == len(ODD)
        for path in found:
            assert not {"", ".", ".."} & set(path.split("/"))
            assert all(len(part.encode()) <= 255 for part in path.split("/"))
            assert path.isprintable()
        assert sorted(fs.cat(found).values()) == sorted(f["id"].encode() for f in files)
        assert f"{outputs}/%2E%2E/up" in found
        assert fs.cat(f"{outputs}/ok.txt") == b"file-9"


def test_odd_ids_of_runs_are_escaped_and_reach_no_other_url() -> None:
    with StandIn() as server:
        made = server.routes.add_run()
        for odd in ("new", "new.error", "..", ".", "a/b", "x\ny", "%41", "", "ä" * 200):
            server.routes.runs[odd] = {**made, "id": odd}
        fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=600)
        listed = names(fs.ls("groups/group-1/runs", detail=False))
        assert {"new", made["id"], "%6Eew", "%6Eew.error", "a%2Fb", "x%0Ay"} <= set(listed)
        assert len(listed) == len(set(listed)) == 11
        assert fs.info("groups/group-1/runs/%6Eew")["id"] == "new"
        server.asked.clear()
        for path in ("%2E%2E", "%2E", "%"):
            with pytest.raises((NotFound, ValueError)):
                fs.cat(f"groups/group-1/runs/{path}/handle.json")
            with pytest.raises((NotFound, ValueError)):
                fs.rm(f"groups/group-1/runs/{path}", recursive=True)
        assert not [asked for asked in server.asked if asked.method != "GET"]
        assert {asked.path for asked in server.asked} <= {"/groups/group-1/runs", "/"}
        (cut,) = [name for name in listed if name.startswith("ä")]
        assert len(cut.encode()) <= 255
        assert fs.info(f"groups/group-1/runs/{cut}")["id"] == "ä" * 200


def test_two_things_of_one_name_are_told_apart() -> None:
    with StandIn() as server:
        files = [{"id": i, "name": "same.txt"} for i in ("old", "new")]
        server.routes.files.update(old=b"old", new=b"new")
        run = server.routes.add_run("SUCCESS", files=files)
        uploads = [
            {"id": i, "name": "in.txt", "createdAt": f"2024-01-0{n}T00:00:00"}
            for n, i in enumerate(("old", "new"), 1)
        ]
        server.routes.uploads += uploads
        fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=600)
        outputs = f"groups/group-1/runs/{run['id']}/outputs"
        assert fs.cat(f"{outputs}/same.txt") == b"new"
        assert fs.cat(f"{outputs}/same.txt (old)") == b"old"
        assert fs.cat("groups/group-1/uploads/in.txt") == b"new"
        assert fs.cat("groups/group-1/uploads/in.txt (old)") == b"old"


def test_a_run_with_very_many_files_is_listed_and_read_in_reasonable_time() -> None:
    with StandIn() as server:
        count = 1500
        files = [{"id": f"f{i}", "name": f"out/{i:04}.txt"} for i in range(count)]
        run = server.routes.add_run("SUCCESS", files=files)
        fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=600)
        outputs = f"groups/group-1/runs/{run['id']}/outputs/out"
        with counted() as requests_made:
            assert len(fs.ls(outputs)) == count
            assert all(fs.exists(path) for path in fs.ls(outputs, detail=False))
        assert len(requests_made.made) <= 3
