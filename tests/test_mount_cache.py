"""What a mount keeps: on disk for the next one, and in the kernel for as long as it lives."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import Address, mounted, out
from standin import StandIn
from support import wait_until

pytestmark = [pytest.mark.mount]

DATA = random.Random(13).randbytes(3_000_001)
HANDLES = "/runs/[^/]*"
CONTENT = "/runs/.*/downloads/.*"
FOR_EVER = 10_000  # seconds


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


def address(server: StandIn) -> Address:
    return Address(server.endpoint, server.routes.token)


def result(server: StandIn, data: bytes = DATA) -> str:
    run, file = server.routes.add_file(data)
    return f"groups/{server.routes.group}/runs/{run}/results/{file}"


def read(directory: Path, path: str) -> bytes:
    """Read a file of a mount, in another process as everything there."""
    return subprocess.run(["cat", directory / path], capture_output=True, timeout=60).stdout


def test_a_second_mount_asks_for_no_handle_size_or_content(server: StandIn, tmp_path: Path) -> None:
    paths = [result(server, DATA[:size]) for size in (0, 5000, 64_000, 100_000, len(DATA))]
    archive = paths[-1].rpartition("/results")[0] + "/archive.tar.gz"
    runs = f"groups/{server.routes.group}/runs"
    extra = {"XDG_CACHE_HOME": os.fspath(tmp_path / "xdg")}

    def looked_at(directory: Path) -> tuple[str, list[bytes]]:
        names = out(f"find {runs} -name '*.gz' -prune -o -printf '%P %s %T@ %y\n'", directory)
        return names, [read(directory, path) for path in [*paths, archive]]

    with mounted(address(server), ttl=FOR_EVER, extra=extra) as directory:
        first = looked_at(directory)
    assert first[1][:-1] == [DATA[:size] for size in (0, 5000, 64_000, 100_000, len(DATA))]
    assert server.count("GET", HANDLES) == len(paths)
    before = len(server.asked)
    with mounted(address(server), ttl=FOR_EVER, extra=extra) as directory:
        assert looked_at(directory) == first
    asked = {one.path for one in server.asked[before:]}
    group = f"/groups/{server.routes.group}"
    assert asked <= {"/", "/users/whoami", group, f"{group}/runs"}
    assert (tmp_path / "xdg" / "flowfs" / "flowfs-v1").is_dir()


def test_two_mounts_at_the_same_time_share(server: StandIn, tmp_path: Path) -> None:
    large, small = result(server), result(server, DATA[:5000])
    cache = os.fspath(tmp_path / "cache")
    with (
        mounted(address(server), cache_dir=cache) as one,
        mounted(address(server), cache_dir=cache) as two,
    ):
        assert [read(one, path) for path in (large, small)] == [DATA, DATA[:5000]]
        (database,) = (tmp_path / "cache").glob("flowfs-v1/*/facts-*.db-wal")
        # What is learned is written a moment later.
        wait_until(lambda: b"bytes" in database.read_bytes(), 10, "what was learned")
        asked = server.count("GET", CONTENT)
        assert [read(two, path) for path in (large, small)] == [DATA, DATA[:5000]]
        assert server.count("GET", CONTENT) == asked


def test_without_a_cache_nothing_is_left_and_the_next_mount_asks_again(
    server: StandIn, tmp_path: Path
) -> None:
    path = result(server)
    extra = {"XDG_CACHE_HOME": os.fspath(tmp_path / "xdg")}
    for number in (1, 2):
        with mounted(address(server), no_cache=True, extra=extra) as directory:
            assert read(directory, path) == DATA
        assert server.count("GET", HANDLES) == number
    assert not (tmp_path / "xdg").exists()


def test_where_nothing_can_be_kept_a_mount_goes_on_without_and_says_so_once(
    server: StandIn, tmp_path: Path
) -> None:
    path, log = result(server), tmp_path / "log"
    (tmp_path / "file").write_text("")
    extra = {"XDG_CACHE_HOME": os.fspath(tmp_path / "file")}
    with mounted(address(server), log=log, extra=extra) as directory:
        assert read(directory, path) == DATA
    assert log.read_text().count("nothing is kept on disk") == 1


def test_results_stay_in_the_kernel_though_they_are_larger_than_the_cache(
    server: StandIn, binding: dict[str, str]
) -> None:
    path = result(server)
    with mounted(address(server), ttl=FOR_EVER, cache_size="64K", **binding) as directory:
        assert read(directory, path) == DATA
        asked = len(server.asked)
        # Opened anew each time.
        assert [read(directory, path) for _ in range(2)] == [DATA, DATA]
        assert len(server.asked) == asked
