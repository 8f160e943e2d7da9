"""Times and sizes of what is made of several things: told where they are known, never asked for."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from support import wait_until
from world import World, counted

from flowfs import FlowFileSystem, InvalidArguments
from flowfs.catalog import timestamp
from flowfs.embedded import EmbeddedService
from flowfs.filesystem import tables

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def world(service: EmbeddedService) -> World:
    """A group with two runs in SUCCESS that nobody changes."""
    world = World(service)
    world.succeeded()
    world.succeeded()
    return world


def mtime(fs: FlowFileSystem, path: str) -> float:
    found: float = fs.info(path)["mtime"]
    return found


def test_what_holds_others_is_as_new_as_the_newest_of_them(world: World) -> None:
    fs = world.fs()
    created = [timestamp(world.rest.run(run)["createdAt"]) for run in world.run_ids()]
    uploaded = timestamp(world.rest.get(f"uploads/{world.group_id}/files")["files"][0]["createdAt"])
    with counted() as requests:
        for below in ("", "/runs", "/states", "/states/SUCCESS", "/group.json", "/runs.jsonl"):
            assert mtime(fs, f"{world.group}{below}") == max(created), below
        for below in ("/uploads", "/states/ERROR", "/arguments.template.json", "/runs/new"):
            assert mtime(fs, f"{world.group}{below}") == uploaded, below
    assert len(requests.of("GET groups/.*")) == 1


def test_two_file_systems_tell_the_same_times(world: World) -> None:
    def times(fs: FlowFileSystem) -> dict[str, Any]:
        return {
            path: fs.info(path).get("mtime")
            for path in fs.find(world.group, withdirs=True)
            if not path.endswith("runs.jsonl")
        }

    first = times(world.fs())
    assert all(first.values())
    time.sleep(0.01)
    assert times(world.fs()) == first


def test_a_group_with_nothing_in_it_has_no_time(world: World) -> None:
    group = f"groups/{world.new_group('empty of times')}"
    fs = world.fs()
    assert "mtime" not in fs.info(group)
    assert "mtime" not in fs.info(f"{group}/group.json")


def test_a_refusal_has_the_time_at_which_it_was_seen(world: World) -> None:
    fs = world.fs()
    for wrong in ("one.txt", "another.txt"):
        before = time.time()
        with pytest.raises(InvalidArguments):
            fs.start_run(world.group_id, {"names": wrong})
        told = mtime(fs, f"{world.group}/runs/new.error")
        assert before <= told <= time.time()
        assert mtime(fs, f"{world.group}/runs/new.error") == told


def test_what_tells_of_an_active_run_has_another_time_once_it_has_ended(
    service: EmbeddedService,
) -> None:
    world = World(service)
    run = world.active()
    fs = world.fs(ttl=0)
    try:
        before = mtime(fs, f"{world.group}/group.json")
        assert mtime(fs, f"{world.group}/group.json") == before
        assert fs.info(f"{world.group}/runs.jsonl")["size"] is None
    finally:
        world.cancel(run)
        handle = world.ended(run)
    # No byte may be more or less, so that the time alone can tell.
    assert mtime(fs, f"{world.group}/group.json") == timestamp(handle["createdAt"])
    assert before != timestamp(handle["createdAt"])


def test_an_active_runs_handle_is_as_new_as_its_start(service: EmbeddedService) -> None:
    world = World(service)
    run = world.active()
    try:
        handle = world.rest.run(run)
        told = mtime(world.fs(), f"{world.group}/runs/{run}/handle.json")
        assert told == timestamp(handle["startedAt"])
    finally:
        world.cancel(run)


def test_a_ranking_is_as_new_as_what_is_ranked(service: EmbeddedService) -> None:
    world = World(service, "analysis")
    world.succeeded()

    def ranked() -> list[dict[str, Any]]:
        ranking: list[dict[str, Any]] = world.rest.get(
            f"workflows/{world.workflow_id}/leaderboard"
        )["ranking"]
        return ranking

    ranking = wait_until(ranked, 20, "a ranking")
    newest = max(timestamp(entry["run"]["finishedAt"]) or 0 for entry in ranking)
    fs = world.fs()
    for name in ("leaderboard.json", "leaderboard.csv"):
        assert mtime(fs, f"workflows/{world.workflow_id}/{name}") == newest


def test_a_workflow_is_as_new_as_its_post_processing(service: EmbeddedService) -> None:
    world = World(service, "analysis")
    world.succeeded()

    def processed() -> dict[str, Any] | None:
        run = world.rest.get(f"workflows/{world.workflow_id}").get("postproc")
        return run if run and run["state"] == "SUCCESS" else None

    wait_until(processed, 20, "the post-processing")
    fs = world.fs(ttl=60)  # another one may be made meanwhile
    path = f"workflows/{world.workflow_id}"
    run = json.loads(fs.cat(f"{path}/workflow.json"))["postproc"]
    told = [timestamp(run.get(key)) or 0 for key in ("createdAt", "startedAt", "finishedAt")]
    assert mtime(fs, path) == mtime(fs, f"{path}/workflow.json") == max(told)


# -- the size of the table of runs -----------------------------------------


def table_size(fs: FlowFileSystem, world: World) -> int | None:
    size: int | None = fs.info(f"{world.group}/runs.jsonl")["size"]
    return size


def test_the_table_has_a_size_once_every_run_in_it_is_known(world: World) -> None:
    fs = world.fs(ttl=0)
    assert table_size(fs, world) is None
    first, *others = world.run_ids()
    fs.cat(f"{world.group}/runs/{first}/handle.json")
    assert table_size(fs, world) is None
    for run in others:
        fs.cat(f"{world.group}/runs/{run}/handle.json")
    with counted() as requests:
        size = table_size(fs, world)
    assert len(requests.of("GET runs/.*")) == 0
    assert size == len(fs.cat(f"{world.group}/runs.jsonl"))


def test_a_row_is_measured_once_however_often_the_size_is_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = world.fs(ttl=0)
    fs.cat(f"{world.group}/runs.jsonl")
    made = []
    original = tables.table_row

    def counting(handle: Any, uploads: Any) -> bytes:
        made.append(handle["id"])
        return original(handle, uploads)

    monkeypatch.setattr(tables, "table_row", counting)
    sizes = {table_size(fs, world) for _ in range(5)}
    assert sizes == {len(fs.cat(f"{world.group}/runs.jsonl"))}
    assert sorted(made) == sorted(world.run_ids())


def test_the_table_has_a_size_while_a_run_is_active_once_it_was_read(
    service: EmbeddedService,
) -> None:
    world = World(service)
    world.succeeded()
    run = world.active()
    fs = world.fs(ttl=0)
    try:
        assert table_size(fs, world) is None
        data = fs.cat(f"{world.group}/runs.jsonl")
        with counted() as requests:
            assert table_size(fs, world) == len(data)
        assert len(requests.of("GET runs/.*")) == 0
    finally:
        world.cancel(run)
        world.ended(run)
    fs.ls(f"{world.group}/runs")
    # It is in another state, and nobody has looked at it since.
    assert table_size(fs, world) is None
    assert len(fs.cat(f"{world.group}/runs.jsonl")) == table_size(fs, world)


def test_the_tables_size_follows_new_runs_deleted_runs_and_uploads(
    service: EmbeddedService,
) -> None:
    world = World(service)
    fs = world.fs(ttl=0)
    kept, gone = world.succeeded(), world.succeeded()

    def size_is_right() -> bool:
        data = fs.cat(f"{world.group}/runs.jsonl")
        return table_size(fs, world) == len(data)

    assert size_is_right()
    world.succeeded()
    assert table_size(fs, world) is None  # nobody has looked at the new one
    assert size_is_right()
    fs.rm(world.run(gone), recursive=True)
    assert size_is_right()
    before = table_size(fs, world)
    world.rest.request("DELETE", f"uploads/{world.group_id}/files/{world.upload_id}")
    # The rows have the id now, where they had the name.
    assert table_size(fs, world) != before
    assert size_is_right()
    rows = [json.loads(row) for row in fs.cat(f"{world.group}/runs.jsonl").splitlines()]
    assert rows[0]["id"] == kept["id"]
    assert rows[0]["names"] == world.upload_id
