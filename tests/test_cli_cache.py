"""What commands keep on disk for the next one, and for mounts: what has ended never changes."""

from __future__ import annotations

import csv
import io
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec.config
import pytest
from commanding import Commanding
from mounting import Address, command_environment
from standin import StandIn

from flowfs.fuse.settings import Settings

MANY = 200
FEW = ["GET /groups/group-1"]  # which lists its runs


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
def flowfs(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> Commanding:
    return Commanding(monkeypatch, Address(server.endpoint, server.routes.token))


@pytest.fixture
def usual(tmp_path: Path) -> Path:
    """Where mounts and commands keep things."""
    return tmp_path / "xdg-cache" / "flowfs" / "flowfs-v1"


def costs(server: StandIn, since: int) -> list[str]:
    """The requests from some number on, the one for the routes left out."""
    asked = server.requests()[since:]
    return [f"{one.method} {one.path}" for one in asked if one.path not in ("", "/")]


def test_a_second_table_of_runs_that_have_ended_costs_the_listing_alone(
    server: StandIn, flowfs: Commanding
) -> None:
    for number in range(MANY):
        server.routes.add_run(arguments=[{"name": "sleeptime", "value": number}])
    group = server.routes.group
    first = flowfs.out("runs", group, "--csv")
    assert len(costs(server, 0)) == MANY + len(FEW)
    known = len(server.requests())
    second = flowfs.out("runs", group, "--csv")
    assert sorted(costs(server, known)) == FEW
    assert second == first
    rows = list(csv.DictReader(io.StringIO(second)))
    assert [row["sleeptime"] for row in rows] == [str(number) for number in range(MANY)]


def test_a_result_is_downloaded_once_by_whatever_commands(
    server: StandIn, flowfs: Commanding, tmp_path: Path
) -> None:
    for name, size in (("small", 1000), ("large", 300_000)):
        server.routes.files[name] = bytes(range(250)) * (size // 250)
    files = [{"id": name, "name": f"{name}.bin"} for name in server.routes.files]
    run = f"groups/group-1/runs/{server.routes.add_run(files=files)['id']}"
    for name in ("small", "large"):
        assert flowfs("cat", f"{run}/results/{name}").bytes == server.routes.files[name]
    known = len(server.requests())
    for name in ("small", "large"):
        assert flowfs("cat", f"{run}/outputs/{name}.bin").bytes == server.routes.files[name]
        flowfs.out("cp", f"{run}/results/{name}", str(tmp_path / name))
        assert (tmp_path / name).read_bytes() == server.routes.files[name]
    assert not [one for one in costs(server, known) if "/downloads/" in one]


def test_what_somebody_has_deleted_is_not_shown_though_it_is_kept(
    server: StandIn, flowfs: Commanding
) -> None:
    kept, gone = (str(server.routes.add_run()["id"]) for _ in range(2))
    for run_id in (kept, gone):
        server.routes.files[f"of-{run_id}"] = b"figures"
        server.routes.runs[run_id]["files"] = [{"id": f"of-{run_id}", "name": "f"}]
    flowfs.out("runs", "group-1")
    flowfs.out("cat", f"{gone}/outputs/f")
    del server.routes.runs[gone]
    assert [row["id"] for row in flowfs.json("runs", "group-1")] == [kept]
    assert flowfs("cat", f"groups/group-1/runs/{gone}/outputs/f").code == 3


def test_it_is_where_mounts_keep_it_and_for_its_owner_alone(
    server: StandIn, flowfs: Commanding, usual: Path
) -> None:
    server.routes.add_run()
    flowfs.out("runs", "group-1")
    below = [usual, *usual.rglob("*")]
    assert any(path.name.startswith("facts-") for path in below)
    directories = [path for path in below if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0o700}
    assert not [path for path in below if server.routes.token.encode() in _bytes(path)]


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def test_no_cache_keeps_nothing_and_uses_nothing(
    server: StandIn, flowfs: Commanding, usual: Path
) -> None:
    server.routes.add_run()
    flowfs.out("runs", "group-1", "--no-cache")
    assert not usual.exists()
    flowfs.out("runs", "group-1")
    known = len(server.requests())
    flowfs.out("runs", "group-1", "--no-cache")
    assert len(costs(server, known)) == len(FEW) + 1
    said = flowfs("runs", "group-1", "--no-cache", "--cache-dir", str(usual))
    assert (said.code, said.lines) == (2, [])
    assert "--no-cache" in said.err


def test_no_cache_is_none_whatever_fsspec_is_configured_to(
    server: StandIn, flowfs: Commanding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes.add_run()
    monkeypatch.setitem(fsspec.config.conf, "flow", {"cache_dir": str(tmp_path / "configured")})
    flowfs.out("runs", "group-1", "--no-cache")
    fs, _ = Settings("/mnt", service={"endpoint": server.endpoint}, cache=False).file_system()
    assert fs.content.disk is None
    assert not (tmp_path / "configured").exists()


def test_another_directory_is_another_cache(
    server: StandIn, flowfs: Commanding, usual: Path, tmp_path: Path
) -> None:
    server.routes.add_run()
    here = ["--cache-dir", str(tmp_path / "here"), "--cache-size", "64M"]
    flowfs.out("runs", "group-1", *here)
    assert (tmp_path / "here" / "flowfs-v1").is_dir()
    assert not usual.exists()
    known = len(server.requests())
    flowfs.out("runs", "group-1", *here)
    assert sorted(costs(server, known)) == FEW
    assert flowfs("runs", "group-1", "--cache-size", "much").code == 2


def test_where_nothing_can_be_kept_commands_go_on_without(
    server: StandIn, flowfs: Commanding, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes.add_run()
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    for _ in range(2):
        known = len(server.requests())
        flowfs.out("runs", "group-1")  # and says nothing of it
        assert len(costs(server, known)) == len(FEW) + 1
    said = flowfs("runs", "group-1", "--debug")
    assert said.code == 0
    assert "flowfs: nothing is kept on disk: /proc/flowfs" in said.err
    said = flowfs("runs", "group-1", "--cache-dir", "/proc/here")
    assert (said.code, len(said.err.splitlines())) == (1, 1)
    assert "/proc/here: " in said.err


def test_several_at_once_tell_the_same_and_are_in_nobodys_way(
    server: StandIn, flowfs: Commanding
) -> None:
    for number in range(20):
        server.routes.add_run(arguments=[{"name": "sleeptime", "value": number}])
    environment = command_environment(Address(server.endpoint, server.routes.token))
    command = [sys.executable, "-m", "flowfs", "runs", "group-1", "--csv"]
    at_once = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120) for process in at_once]
    assert [process.returncode for process in at_once] == [0, 0, 0]
    assert {err for _, err in said} == {b""}
    known = len(server.requests())
    assert {out.decode() for out, _ in said} == {flowfs.out("runs", "group-1", "--csv")}
    assert sorted(costs(server, known)) == FEW
