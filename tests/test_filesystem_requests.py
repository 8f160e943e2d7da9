"""What looking and reading cost: the requests that flowfs makes of the real service."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from standin import Reply, StandIn
from world import Requests, World, counted

from flowfs import FlowFileSystem, NotFound
from flowfs.content.pace import Pace
from flowfs.embedded import EmbeddedService


@dataclass
class Ended:
    """A group with three runs in SUCCESS, one in ERROR, and none that is active."""

    world: World
    runs: list[dict[str, Any]]
    error: dict[str, Any]


@pytest.fixture(scope="module")
def there(service: EmbeddedService) -> Ended:
    world = World(service)
    runs = [world.succeeded(greeting=f"Hello {n}") for n in range(3)]
    return Ended(world, runs, world.ended(world.start(sleeptime=-1)))


@pytest.fixture
def requests_made() -> Iterator[Requests]:
    with counted() as requests:
        yield requests


@pytest.fixture
def fs(there: Ended, requests_made: Requests) -> FlowFileSystem:
    """A file system that knows nothing but the service's routes."""
    fs = there.world.fs()
    fs.ls("workflows")
    fs.invalidate_cache()
    requests_made.clear()
    return fs


# -- the descriptor --------------------------------------------------------


def test_making_one_costs_nothing(there: Ended, requests_made: Requests) -> None:
    fs = there.world.fs()
    fs.unstrip_protocol("groups/G")
    assert fs.exists("nothing-like-this") is False
    assert (fs.ls("", detail=False), fs.info("groups")["type"]) == (
        ["groups", "workflows"],
        "directory",
    )
    assert requests_made.made == []


def test_the_descriptor_is_asked_for_once(there: Ended, requests_made: Requests) -> None:
    fs = there.world.fs()
    same = FlowFileSystem(
        there.world.endpoint,
        there.world.token,
        timeout=fs._options.timeout,
        ttl=600,
        read_only=True,
    )
    assert same is not fs
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: one.ls(f"{there.world.group}/runs"), [fs, same, fs, same]))
    assert requests_made.of("GET") == ["GET"]


# -- listings --------------------------------------------------------------


def test_listing_runs_is_one_request(
    fs: FlowFileSystem, there: Ended, requests_made: Requests
) -> None:
    runs = fs.ls(f"{there.world.group}/runs")
    assert requests_made.made == [f"GET groups/{there.world.group_id}/runs"]
    for entry in runs[1:]:
        assert fs.info(entry["name"])["state"] == entry["state"]
        assert fs.isdir(entry["name"])
        assert fs.exists(entry["name"])
    fs.ls(f"{there.world.group}/runs", state="ERROR")
    fs.ls(f"{there.world.group}/states/SUCCESS")
    fs.info(f"{there.world.group}/latest")
    assert len(requests_made.made) == 1


@pytest.mark.parametrize(
    ("path", "request_made"),
    [
        ("{group}", "GET {group}"),
        ("{group}/states/SUCCESS", "GET {group}/runs"),
        ("{group}/uploads", "GET uploads/{group_id}/files"),
        ("{group}/runs/{run}", "GET runs/{run}"),
        ("{group}/runs/{run}/results", "GET runs/{run}"),
        ("{group}/runs/{run}/outputs", "GET runs/{run}"),
        ("workflows", "GET workflows"),
        ("workflows/{workflow}", "GET workflows/{workflow}"),
        ("workflows/{workflow}/groups", "GET workflows/{workflow}/groups"),
    ],
)
def test_listing_a_directory_is_one_request(
    fs: FlowFileSystem, there: Ended, requests_made: Requests, path: str, request_made: str
) -> None:
    fill = {
        "group": there.world.group,
        "group_id": there.world.group_id,
        "workflow": there.world.workflow_id,
        "run": there.runs[0]["id"],
    }
    fs.ls(path.format_map(fill))
    assert requests_made.made == [request_made.format_map(fill)]
    fs.ls(path.format_map(fill))
    assert len(requests_made.made) == 1


def test_a_group_brings_its_runs_and_uploads_along(
    fs: FlowFileSystem, there: Ended, requests_made: Requests
) -> None:
    fs.ls(there.world.group)
    fs.ls(f"{there.world.group}/runs")
    fs.ls(f"{there.world.group}/uploads")
    fs.cat(f"{there.world.group}/arguments.template.json")
    fs.cat(f"{there.world.group}/group.json")
    assert requests_made.made == [f"GET groups/{there.world.group_id}"]


# -- patterns --------------------------------------------------------------


def test_a_pattern_over_runs_is_one_request_and_none_for_each_run(
    fs: FlowFileSystem, there: Ended, requests_made: Requests
) -> None:
    assert len(fs.glob(f"{there.world.group}/runs/*/handle.json")) == 4
    assert requests_made.made == [f"GET groups/{there.world.group_id}/runs"]


@pytest.mark.parametrize("pattern", ["outputs/**", "outputs/*/*", "results/*"])
def test_a_pattern_over_outputs_asks_only_for_runs_in_success(
    fs: FlowFileSystem, there: Ended, requests_made: Requests, pattern: str
) -> None:
    found = fs.glob(f"{there.world.group}/runs/*/{pattern}")
    assert sum(fs.isfile(path) for path in found) == 3
    assert sorted(requests_made.made) == sorted(
        [f"GET groups/{there.world.group_id}/runs", *(f"GET runs/{r['id']}" for r in there.runs)]
    )
    requests_made.clear()
    fs.glob(f"{there.world.group}/runs/*/{pattern}")
    assert requests_made.made == []


def test_finding_costs_a_request_for_each_run_that_is_not_known(
    fs: FlowFileSystem, there: Ended, requests_made: Requests
) -> None:
    fs.find(f"{there.world.group}/runs")
    assert len(requests_made.made) == 1 + 4
    requests_made.clear()
    fs.find(f"{there.world.group}/runs")
    fs.cat(f"{there.world.group}/runs.jsonl")
    assert requests_made.of("GET runs/.*") == []


# -- bytes -----------------------------------------------------------------


DATA = bytes(range(256)) * 4096  # 1 MiB


@dataclass
class Big:
    server: StandIn
    path: str
    fs: FlowFileSystem

    def asked(self) -> list[str | None]:
        """The Range header of each request for the file."""
        return [a.headers.get("Range") for a in self.server.requests("GET", ".*/downloads/.*")]

    def holding(self, data: bytes) -> str:
        """The path of another file that has these bytes."""
        run_id, file_id = self.server.routes.add_file(data)
        return f"groups/group-1/runs/{run_id}/results/{file_id}"

    def received(self) -> int:
        """Bytes of all replies that were read so far."""
        kinds = self.fs.catalog.service.session.statistics.document()
        return sum(
            figures["bytes_received"] for kind, figures in kinds.items() if "download" in kind
        )


@pytest.fixture
def big(monkeypatch: pytest.MonkeyPatch) -> Iterator[Big]:
    # What is read through instead of asked for anew depends on how long requests take.
    monkeypatch.setattr(Pace, "worth", 1 << 18)
    with StandIn() as server:
        run_id, file_id = server.routes.add_file(DATA)
        fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=600)
        yield Big(server, f"groups/group-1/runs/{run_id}/results/{file_id}", fs)


def by_read(size: int) -> Callable[[Any], bytes]:
    def read(file: Any) -> bytes:
        return b"".join(iter(lambda: file.read(size), b""))

    return read


@pytest.mark.parametrize(
    "read",
    [
        by_read(1000),
        by_read(1 << 16),
        by_read(1 << 22),
        lambda file: file.read(),
        lambda file: b"".join(file),
        lambda file: file.read(10) + file.read(),
        lambda file: bytes(file.peek(10)[:0]) + file.read(),
        lambda file: io.TextIOWrapper(file, "latin-1", newline="").read().encode("latin-1"),
    ],
    ids=["1000", "64 KiB", "4 MiB", "all", "lines", "some and the rest", "peek", "text"],
)
def test_reading_front_to_back_is_one_get_whatever_the_sizes_of_the_reads(
    big: Big, read: Callable[[Any], bytes]
) -> None:
    with big.fs.open(big.path) as file:
        assert read(file) == DATA
    assert big.asked() == [None]


def test_opening_asks_for_no_bytes(big: Big) -> None:
    with big.fs.open(big.path) as file:
        assert file.seekable()
        assert file.tell() == 0
    assert big.asked() == []


def test_a_jump_is_a_ranged_get(big: Big) -> None:
    with big.fs.open(big.path) as file:
        file.seek(700_000)
        assert file.read(10) == DATA[700_000:700_010]
    (asked,) = big.asked()
    assert asked is not None
    assert asked.startswith("bytes=700000-")


def test_a_jump_to_read_much_is_one_request_for_just_that(big: Big) -> None:
    with big.fs.open(big.path) as file:
        file.seek(10_000)
        assert file.read(600_001) == DATA[10_000:610_001]
        file.seek(400_000)
        assert file.read(100_000) == DATA[400_000:500_000]
    assert big.asked() == ["bytes=10000-610000", "bytes=400000-499999"]
    assert big.server.connections == 1


def test_what_ends_a_file_is_asked_for_no_further_than_it_goes(big: Big) -> None:
    with big.fs.open(big.path) as file:
        file.seek(-300_000, os.SEEK_END)
        assert file.read() == DATA[-300_000:]
        file.seek(-10, os.SEEK_END)
        assert file.read(100) == DATA[-10:]
    assert len(big.asked()) <= 3  # its size, and both


def test_one_member_of_a_zip_costs_its_directory_and_itself(big: Big) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(20):
            archive.writestr(f"{number}.bin", DATA[number : number + 200_000])
    with (
        big.fs.open(big.holding(packed.getvalue())) as file,
        zipfile.ZipFile(file) as archive,
    ):
        assert len(archive.namelist()) == 20
        listing = big.received()
        assert len(big.asked()) <= 3  # its size, its end, its directory
        assert archive.read("11.bin") == DATA[11:200_011]
    assert listing <= 3 << 16
    assert big.received() - listing <= 200_000 + (2 << 18)
    assert len(big.asked()) <= 6


@pytest.mark.parametrize(("worth", "most"), [(1 << 18, 45), (1 << 22, 5)], ids=["near", "far"])
def test_the_table_of_a_tar_is_read_through_where_a_request_would_take_longer(
    big: Big, monkeypatch: pytest.MonkeyPatch, worth: int, most: int
) -> None:
    monkeypatch.setattr(Pace, "worth", worth)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for number in range(40):
            member = tarfile.TarInfo(f"{number}.bin")
            member.size = 600_000
            archive.addfile(member, io.BytesIO(DATA[:600_000]))
    with (
        big.fs.open(big.holding(packed.getvalue())) as file,
        tarfile.open(fileobj=file, mode="r:") as archive,
    ):
        assert archive.getnames() == [f"{number}.bin" for number in range(40)]
        member = archive.extractfile("7.bin")
        assert member is not None
        assert member.read() == DATA[:600_000]
    assert len(big.asked()) <= most


def test_a_part_of_a_file_is_one_ranged_get(big: Big) -> None:
    assert big.fs.cat_file(big.path, 5, 25) == DATA[5:25]
    assert big.asked() == ["bytes=5-24"]
    assert big.fs.cat_file(big.path, start=len(DATA) - 7) == DATA[-7:]
    assert big.fs.cat_file(big.path, -7) == DATA[-7:]
    assert big.fs.cat_file(big.path, -9, -2) == DATA[-9:-2]
    assert big.fs.cat_file(big.path, 9, 9) == b""
    assert big.fs.cat_file(big.path, 1 << 30) == b""


def test_the_end_of_a_file_is_read_without_its_beginning(big: Big) -> None:
    assert big.fs.tail(big.path, 100) == DATA[-100:]
    assert None not in big.asked()
    assert len(big.asked()) <= 2  # its size, and the end


def test_getting_a_file_is_one_get(big: Big, tmp_path: Any) -> None:
    big.fs.get(big.path, str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == DATA
    assert big.asked() == [None]
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


def test_the_size_of_a_large_file_is_asked_for_once(big: Big) -> None:
    for _ in range(3):
        assert big.fs.info(big.path)["size"] == len(DATA)
        assert big.fs.size(big.path) == len(DATA)
    assert len(big.asked()) == 1


def test_the_size_and_the_bytes_of_a_small_file_are_one_request(
    fs: FlowFileSystem, there: Ended, requests_made: Requests
) -> None:
    path = there.world.result(there.runs[0])
    size = fs.info(path)["size"]
    data = fs.cat(path)
    assert len(data) == size
    with fs.open(path) as file:
        assert file.read() == data
    assert fs.cat(f"{there.world.run(there.runs[0])}/outputs/results/greetings.txt") == data
    assert len(requests_made.of("GET .*/downloads/.*")) == 1
    requests_made.clear()
    assert fs.cat(there.world.result(there.runs[1]))
    assert fs.info(there.world.result(there.runs[1]))["size"] > 0
    assert len(requests_made.of("GET .*/downloads/.*")) == 1


def test_an_archive_is_one_get_for_all_its_readers(
    fs: FlowFileSystem, there: Ended, requests_made: Requests
) -> None:
    path = f"{there.world.run(there.runs[0])}/archive.tar.gz"
    fs.info(path)
    fs.ls(there.world.run(there.runs[0]))
    fs.du(there.world.group)
    assert requests_made.of(".*archive") == []
    with fs.open(path) as one, fs.open(path) as other:
        beginning = one.read(20)
        data = other.read()
        assert beginning + one.read() == data
    assert fs.cat(path) == data
    assert fs.cat_file(path, 10, 20) == data[10:20]
    assert fs.cat_file(path, -10) == data[-10:]
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(fs.cat_file, [path] * 8)) == {data}
    assert len(requests_made.of(".*archive")) == 1


@pytest.mark.parametrize("parts", [[(0, 10), (10, 20)], [(-10, None), (0, 10)]])
def test_parts_of_an_archive_are_of_one(big: Big, parts: list[tuple[int, int | None]]) -> None:
    path = f"{big.path.partition('/results/')[0]}/archive.tar.gz"
    data, other = bytes(range(250)) * 12_000, b"another" * 500_000
    big.server.on("GET", ".*/archive", Reply(body=data), Reply(body=other))
    for start, end in parts:
        assert big.fs.cat_file(path, start, end) == data[start:end]
    assert big.server.count("GET", ".*/archive") == 1


@pytest.mark.parametrize("read", ["cat", "cat_file", "part", "open"])
def test_an_archive_is_kept_however_it_was_read_first(
    fs: FlowFileSystem, there: Ended, requests_made: Requests, read: str
) -> None:
    path = f"{there.world.run(there.runs[1])}/archive.tar.gz"
    if read == "open":
        with fs.open(path) as file:
            file.read()
    elif read == "part":
        size = len(fs.cat_file(path))
        fs.cat_file(path, 0, size)
    else:
        getattr(fs, read)(path)
    fs.cat(path)
    assert len(requests_made.of(".*archive")) == 1


def test_many_paths_are_one_request_each(
    fs: FlowFileSystem, there: Ended, requests_made: Requests
) -> None:
    paths = [there.world.result(run) for run in there.runs]
    found = fs.cat(paths)
    assert list(found) == sorted(paths)
    assert all(found[path] == fs.cat(path) for path in paths)
    assert len(requests_made.of("GET .*/downloads/.*")) == 3
    assert len(requests_made.made) == 6


def test_what_fails_among_many_is_raised_left_out_or_returned(
    fs: FlowFileSystem, there: Ended
) -> None:
    good, bad = there.world.result(there.runs[0]), f"{there.world.group}/uploads/nope"
    with pytest.raises(NotFound):
        fs.cat([good, bad])
    assert list(fs.cat([good, bad], on_error="omit")) == [good]
    assert isinstance(fs.cat([good, bad], on_error="return")[bad], NotFound)
    first, failed = fs.cat_ranges([good, bad], [0, 0], [3, 3])
    assert (len(first), type(failed)) == (3, NotFound)
    with pytest.raises(NotFound):
        fs.cat_ranges([good, bad], 0, 3, on_error="raise")


def test_parts_of_many_files_are_one_request_each(big: Big) -> None:
    starts = [0, 1000, 500_000]
    parts = big.fs.cat_ranges([big.path] * 3, starts, [s + 10 for s in starts])
    assert parts == [DATA[s : s + 10] for s in starts]
    assert len(big.asked()) == 3


# -- what is known, and for how long ---------------------------------------


def test_the_handle_of_an_ended_run_is_never_asked_for_twice(
    fs: FlowFileSystem, there: Ended, requests_made: Requests
) -> None:
    run = there.world.run(there.runs[0])
    same = FlowFileSystem(
        there.world.endpoint,
        there.world.token,
        timeout=fs._options.timeout,
        ttl=600,
        read_only=True,
    )
    for one in (fs, same, fs):
        one.cat(f"{run}/handle.json")
        one.cat(f"{run}/arguments.json")
        one.ls(f"{run}/results")
        one.invalidate_cache()
    outcomes = []

    def elsewhere() -> None:
        mine = FlowFileSystem(
            there.world.endpoint, there.world.token, timeout=fs._options.timeout, ttl=600
        )
        outcomes.append((mine is not fs, mine.cat(f"{run}/handle.json")))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert outcomes == [(True, fs.cat(f"{run}/handle.json"))]
    assert requests_made.of("GET runs/[^/]+") == [f"GET runs/{there.runs[0]['id']}"]


def test_many_threads_that_want_the_same_wait_for_one_request(
    fs: FlowFileSystem, there: Ended, requests_made: Requests
) -> None:
    path = f"{there.world.run(there.runs[0])}/handle.json"
    barrier = threading.Barrier(8)

    def cat(_: int) -> bytes:
        barrier.wait(60)
        return fs.cat_file(path)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(cat, range(8)))) == 1
    assert len(requests_made.of("GET runs/.*")) == 1


def test_an_active_run_is_asked_for_again_after_ttl(there: Ended, requests_made: Requests) -> None:
    for ttl, expected in ((1e6, 1), (0, 3)):
        with StandIn() as server:
            run = server.routes.add_run("RUNNING")
            fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=ttl)
            for _ in range(3):
                fs.cat(f"groups/group-1/runs/{run['id']}/handle.json")
            assert server.count("GET", f"/runs/{run['id']}") >= expected
            if ttl:
                assert server.count("GET", f"/runs/{run['id']}") == expected


def test_invalidating_forgets_what_may_have_changed() -> None:
    with StandIn() as server:
        run = server.routes.add_run("RUNNING")
        fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=1e6)
        path = f"groups/group-1/runs/{run['id']}"
        assert json.loads(fs.cat(f"{path}/handle.json"))["state"] == "RUNNING"
        assert fs.ls("groups/group-1/states/RUNNING") != []
        server.routes.runs[run["id"]].update(state="SUCCESS", files=[])
        assert json.loads(fs.cat(f"{path}/handle.json"))["state"] == "RUNNING"
        fs.invalidate_cache()
        assert json.loads(fs.cat(f"{path}/handle.json"))["state"] == "SUCCESS"
        assert fs.ls("groups/group-1/states/RUNNING") == []
        assert not fs.exists(f"{path}/cancel")


def test_that_an_ended_run_still_exists_follows_the_listing(there: Ended) -> None:
    world = there.world
    fs = world.fs(ttl=0.2)
    run = world.succeeded()
    fs.cat(f"{world.run(run)}/handle.json")
    world.rest.request("DELETE", f"runs/{run['id']}")
    threading.Event().wait(0.25)  # ttl
    assert not fs.exists(world.run(run))
    with pytest.raises(NotFound):
        fs.cat(f"{world.run(run)}/handle.json")


def test_ones_own_changes_are_seen_at_once(there: Ended) -> None:
    world = there.world
    fs = world.fs(ttl=1e6)
    runs, uploads = f"{world.group}/runs", world.uploads
    before = fs.ls(runs, detail=False)
    files = fs.ls(uploads, detail=False)
    fs.ls(world.group)
    run_id = fs.start_run(world.group_id, {"names": world.upload, "sleeptime": 6000})["id"]
    run = f"{runs}/{run_id}"
    assert fs.ls(runs, detail=False) == [*before, run]
    assert fs.info(f"{world.group}/latest")["target"] == run
    assert json.loads(fs.cat(f"{run}/handle.json"))["id"] == run_id
    fs.cancel_run(run_id, "enough")
    assert fs.info(run)["state"] == "CANCELED"
    assert fs.exists(f"{world.group}/states/CANCELED/{run_id}")
    assert json.loads(fs.cat(f"{run}/handle.json"))["messages"] == ["enough"]
    assert not fs.exists(f"{run}/cancel")
    fs.rm(run, recursive=True)
    assert fs.ls(runs, detail=False) == before
    assert not fs.exists(f"{run}/handle.json")
    fs.pipe(f"{uploads}/mine.txt", b"Ada\n")
    assert fs.ls(uploads, detail=False) == [*files, f"{uploads}/mine.txt"]
    assert fs.cat(f"{uploads}/mine.txt") == b"Ada\n"
    fs.pipe(f"{uploads}/mine.txt", b"Grace\n")
    assert fs.cat(f"{uploads}/mine.txt") == b"Grace\n"
    fs.rm(f"{uploads}/mine.txt")
    assert fs.ls(uploads, detail=False) == files


def test_starting_a_run_is_one_request_where_the_group_is_known(
    fs: FlowFileSystem, there: Ended, requests_made: Requests
) -> None:
    world = there.world
    fs.ls(world.group)
    requests_made.clear()
    run = fs.start_run(world.group_id, {"names": world.upload})
    assert requests_made.made == [f"POST groups/{world.group_id}/runs"]
    world.ended(run["id"])
    requests_made.clear()
    fs.rm(f"{world.group}/runs/{run['id']}", recursive=True)
    assert requests_made.of("DELETE .*") == [f"DELETE runs/{run['id']}"]
