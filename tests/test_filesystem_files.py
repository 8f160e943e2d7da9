"""Open files: several threads at one, and who lends them a cache of his own."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import pytest
from standin import Reply, StandIn

from flowfs import BadReply, FlowFileSystem, InvalidArguments, NotFound

T = TypeVar("T")

_DATA = random.Random(1).randbytes(1 << 20)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def path(server: StandIn) -> str:
    run_id, _ = server.routes.add_file(_DATA)
    return f"groups/group-1/runs/{run_id}/outputs/results/data.bin"


@pytest.fixture
def fs(server: StandIn) -> FlowFileSystem:
    return FlowFileSystem(server.endpoint, server.routes.token, ttl=600)


class _Two:
    """Two threads, each of which does what it is told."""

    def __enter__(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        self._pools = [ThreadPoolExecutor(1), ThreadPoolExecutor(1)]

        def through(pool: ThreadPoolExecutor) -> Callable[..., Any]:
            return lambda call, *args: pool.submit(call, *args).result()

        first, second = map(through, self._pools)
        return first, second

    def __exit__(self, *error: object) -> None:
        for pool in self._pools:
            pool.shutdown()


def test_a_thread_reads_where_it_went_wherever_another_went_meanwhile(
    fs: FlowFileSystem, path: str
) -> None:
    with fs.open(path) as file, _Two() as (first, second):
        first(file.seek, 1000)
        second(file.seek, 900_000)
        assert first(file.read, 50) == _DATA[1000:1050]
        assert second(file.read, 50) == _DATA[900_000:900_050]
        first(file.seek, 5000)
        second(file.seek, 6000)
        assert second(file.read, 10) == _DATA[6000:6010]
        buffer = bytearray(20)
        assert first(file.readinto, buffer) == 20
        assert buffer == _DATA[5000:5020]


def test_a_thread_that_went_nowhere_goes_on_where_others_are(fs: FlowFileSystem, path: str) -> None:
    with fs.open(path) as file, _Two() as (first, second):
        first(file.seek, 1000)
        assert second(file.read, 10) == _DATA[1000:1010]
        assert first(file.read, 10) == _DATA[1010:1020]
        assert first(file.tell) == second(file.tell) == 1020
        first(file.seek, -10, io.SEEK_CUR)
        assert second(file.readline) == io.BytesIO(_DATA[1010:]).readline()


_WAYS: list[Callable[[Any], bytes]] = [
    lambda file: file.read(30),
    lambda file: file.read1(30),
    lambda file: file.readline(),
    lambda file: next(file),
    lambda file: file.readlines(1)[0],
    lambda file: bytes(memoryview(buffer := bytearray(30))[: file.readinto(buffer)]),
    lambda file: bytes(memoryview(buffer := bytearray(30))[: file.readinto1(buffer)]),
]


@pytest.mark.parametrize("way", _WAYS)
def test_who_reads_on_after_a_seek_goes_on_behind_what_he_read(
    fs: FlowFileSystem, path: str, way: Callable[[Any], bytes]
) -> None:
    with fs.open(path) as file:
        assert file.seek(1000) == file.tell() == 1000
        got = way(file)
        assert got
        behind = 1000 + len(got)
        assert got == _DATA[1000:behind]
        assert file.tell() == behind
        assert file.read(10) == _DATA[behind : behind + 10]


@pytest.mark.parametrize("way", [*_WAYS, lambda file: file.peek(30)[:30]])
def test_in_whatever_way_a_thread_reads_it_is_where_it_went(
    fs: FlowFileSystem, path: str, way: Callable[[Any], bytes]
) -> None:
    with fs.open(path) as file, _Two() as (first, second):
        first(file.seek, 1000)
        second(file.seek, 900_000)
        got = first(way, file)
        assert got
        assert got == _DATA[1000 : 1000 + len(got)]
        assert second(file.read, 10) == _DATA[900_000:900_010]


def test_a_thread_is_told_where_it_went_and_goes_on_from_there(
    fs: FlowFileSystem, path: str
) -> None:
    with fs.open(path) as file, _Two() as (first, second):
        first(file.seek, 1000)
        second(file.seek, 900_000)
        assert first(file.tell) == 1000
        assert first(file.seek, 5, io.SEEK_CUR) == 1005
        assert second(file.read, 10) == _DATA[900_000:900_010]
        assert first(file.read, 10) == _DATA[1005:1015]


def test_a_thread_that_begins_is_not_where_one_went_that_has_ended(
    fs: FlowFileSystem, path: str
) -> None:
    def in_a_thread(call: Callable[..., T], *args: Any) -> T:
        with ThreadPoolExecutor(1) as pool:  # Python gives it the number of the one before
            return pool.submit(call, *args).result()

    with fs.open(path) as file:
        in_a_thread(file.seek, 1000)
        file.seek(10)
        assert file.read(10) == _DATA[10:20]
        for _ in range(5):
            assert in_a_thread(file.tell) == 20
        assert in_a_thread(file.read, 10) == _DATA[20:30]


def test_many_threads_that_seek_before_each_read_get_what_is_there(
    fs: FlowFileSystem, path: str
) -> None:
    file = fs.open(path)

    def read(number: int) -> bool:
        place = random.Random(number).randrange(len(_DATA) - 5000)
        file.seek(place)
        return bool(file.read(5000) == _DATA[place : place + 5000])

    with file, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(100)))


# -- blockcache ------------------------------------------------------------


def _blocks(server: StandIn, path: str, storage: Path, **options: Any) -> Any:
    url = f"blockcache::flow://{server.endpoint.partition('://')[2]}/{path}"
    return fsspec.open(
        url,
        flow={"token": server.routes.token, "ttl": 600},
        blockcache={"cache_storage": str(storage)},
        **options,
    )


def _bytes_asked_for(server: StandIn) -> list[str]:
    return [
        asked.headers.get("Range", "") for asked in server.requests("GET", ".*/downloads/files/.*")
    ]


def test_blockcache_asks_for_the_blocks_that_are_read_and_for_none_again(
    server: StandIn, path: str, tmp_path: Path
) -> None:
    for _ in range(2):
        cached = _blocks(server, path, tmp_path)
        with cached.fs.open(cached.path, block_size=1 << 18) as file:
            assert file.size == len(_DATA)
            file.seek(300_000)
            assert file.read(10) == _DATA[300_000:300_010]
            assert file.read(10) == _DATA[300_010:300_020]
    asked = _bytes_asked_for(server)
    assert len(asked) == 2  # for its size, and for the block
    assert f"bytes={1 << 18}-{(2 << 18) - 1}" in asked


def test_what_blockcache_has_whole_is_asked_for_no_more(
    server: StandIn, path: str, tmp_path: Path
) -> None:
    with _blocks(server, path, tmp_path, mode="rb") as file:
        assert file.read() == _DATA
    before = len(_bytes_asked_for(server))
    with _blocks(server, path, tmp_path) as file:
        assert file.read() == _DATA
    assert len(_bytes_asked_for(server)) == before


def test_text_is_read_through_blockcache(server: StandIn, tmp_path: Path) -> None:
    run_id, _ = server.routes.add_file(b"one\ntwo\n", "results/text.txt")
    url = f"groups/group-1/runs/{run_id}/outputs/results/text.txt"
    with _blocks(server, url, tmp_path, mode="rt") as file:
        assert file.read() == "one\ntwo\n"


@pytest.mark.parametrize("name", ["archive.tar.gz", "handle.json"])
def test_blockcache_is_refused_what_is_made_anew_each_time(
    server: StandIn, path: str, tmp_path: Path, name: str
) -> None:
    made = f"{path.partition('/outputs/')[0]}/{name}"
    with pytest.raises(InvalidArguments, match="simplecache or filecache"):
        _blocks(server, made, tmp_path).open()
    assert server.count("GET", ".*/archive") == 0


def test_a_block_that_does_not_come_is_an_error(
    server: StandIn, path: str, tmp_path: Path, fs: FlowFileSystem
) -> None:
    file = fs._open(path, cache_type="none", size=None)
    server.on("GET", ".*/downloads/files/.*", Reply(500))
    with pytest.raises(BadReply):
        file.read(10)
    server.on("GET", ".*/downloads/files/.*", Reply(404))
    with pytest.raises(NotFound) as caught:
        file.read(10)
    assert caught.value.filename == f"flow+{server.endpoint}/{path}"
