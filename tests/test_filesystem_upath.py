"""Paths of universal_pathlib, where it is installed."""

from __future__ import annotations

import errno
import json
import os
import pickle
import stat
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import urlsplit

import pytest
from world import World

from flowfs import FlowFileSystem
from flowfs.embedded import EmbeddedService
from flowfs.filesystem.urls import PROTOCOLS

upath = pytest.importorskip("upath")

from upath.registry import register_implementation  # noqa: E402

from flowfs.filesystem.upath import FlowPath  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _registered() -> None:
    """An environment that was made before the entry points were has none of them."""
    known = {each.name for each in entry_points(group="universal_pathlib.implementations")}
    for protocol in PROTOCOLS:
        if protocol not in known:
            register_implementation(protocol, FlowPath)


@pytest.fixture(scope="module")
def world(service: EmbeddedService) -> World:
    world = World(service)
    world.succeeded()
    return world


@pytest.fixture(params=["flow", "flow+http"])
def group(world: World, request: pytest.FixtureRequest) -> Any:
    return upath.UPath(world.url(world.group, request.param), **world.options())


@pytest.fixture
def run(world: World) -> Any:
    """The newest run."""
    newest = upath.UPath(world.url(f"{world.group}/runs/{world.run_ids()[-1]}"), **world.options())
    newest.fs.invalidate_cache()
    return newest


# -- the path itself -------------------------------------------------------


def test_the_text_of_a_path_is_its_full_url(world: World, group: Any) -> None:
    path = group / "uploads" / "names.txt"
    assert isinstance(path, FlowPath)
    assert str(path) == path.as_uri() == world.url(f"{world.group}/uploads/names.txt")
    assert str(path.parent) == world.url(f"{world.group}/uploads")
    assert str(path.with_suffix(".csv")) == world.url(f"{world.group}/uploads/names.csv")
    assert str(path.with_name("other")) == world.url(f"{world.group}/uploads/other")
    assert str(path.relative_to(group)) == "uploads/names.txt"
    assert path.path == f"{world.group}/uploads/names.txt"
    assert isinstance(path.fs, FlowFileSystem)


def test_parts_and_names_are_those_of_the_tree(world: World, group: Any) -> None:
    path = group.joinpath("runs", "R", "outputs", "results/summary.tar.gz")
    assert (path.name, path.stem, path.suffix) == ("summary.tar.gz", "summary.tar", ".gz")
    assert path.suffixes == [".tar", ".gz"]
    assert tuple(path.parts)[-4:] == ("R", "outputs", "results", "summary.tar.gz")
    assert path.parents[4] == group
    assert path.is_relative_to(group)
    assert group / "runs" / ".." / "uploads" != group / "uploads"  # as in pathlib
    assert (group / "runs" / ".." / "uploads").resolve() == group / "uploads"
    with pytest.raises(ValueError):
        path.relative_to(group / "uploads")


def test_the_text_of_a_path_leads_back_to_its_service(world: World, group: Any) -> None:
    for text in (str(group), group.as_uri()):
        again = upath.UPath(text, **world.options())
        assert (again, again.fs, again.path) == (group, group.fs, group.path)
        assert hash(again) == hash(group)
    sent = pickle.loads(pickle.dumps(group / "runs"))
    assert sent == group / "runs"
    assert sent.fs == group.fs


def test_paths_of_one_service_are_equal_however_they_are_written(world: World) -> None:
    options = world.options()
    plain = upath.UPath(world.url(world.group, "flow"), **options)
    assert plain == upath.UPath(world.url(world.group, "flow+http"), **options)
    assert len({plain, upath.UPath(world.url(world.group, "flow+http"), **options)}) == 1
    assert plain == upath.UPath(f"flow:///{world.group}", endpoint=world.endpoint, **options)
    assert plain != plain / "runs"
    assert plain != upath.UPath(world.url(world.group), **{**options, "token": "another"})
    assert plain != upath.UPath(f"flow://elsewhere.example/{world.group}", **options)
    assert plain != upath.UPath(world.url(world.group), **options, no_option=1)
    assert plain != world.group
    assert plain.joinpath("runs").relative_to(plain) != plain / "runs"


def test_a_path_without_a_host_is_of_the_service_of_the_environment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = urlsplit(world.endpoint)
    for name, value in (
        ("API_PROTOCOL", address.scheme),
        ("API_HOST", address.hostname),
        ("API_PORT", address.port),
        ("API_PATH", address.path),
        ("ACCESS_TOKEN", world.token),
    ):
        monkeypatch.setenv(f"FLOWSERV_{name}", str(value))
    FlowFileSystem.clear_instance_cache()  # of another environment
    for text in (f"flow:///{world.group}", f"flow://{world.group}"):
        path = upath.UPath(text)
        assert str(path / "runs") == world.url(f"{world.group}/runs")
        assert path == upath.UPath(world.url(world.group))
        assert (path / "group.json").is_file()
    FlowFileSystem.clear_instance_cache()


def test_a_path_is_nothing_that_the_system_could_open(group: Any) -> None:
    with pytest.raises(TypeError):
        os.fspath(group)


def test_the_token_is_in_no_text(world: World, group: Any) -> None:
    assert world.token not in str(group) + repr(group)


# -- what is there ---------------------------------------------------------


def test_files_are_read_and_directories_listed(world: World, group: Any) -> None:
    assert (group / "uploads" / "names.txt").read_text().startswith("Ada\n")
    assert (group / "uploads" / "names.txt").read_bytes().startswith(b"Ada\n")
    with (group / "uploads" / "names.txt").open() as file:
        assert file.readline() == "Ada\n"
    runs = {path.name for path in (group / "runs").iterdir()}
    assert runs == {"new", *world.run_ids()}
    assert (group / "runs").is_dir()
    assert not (group / "runs").is_file()
    assert (group / "group.json").is_file()
    assert not (group / "runs" / "nope").exists()
    assert not (group / "nope").exists()
    with pytest.raises(FileNotFoundError):
        (group / "uploads" / "nope").read_text()


def test_patterns_find_what_they_match(world: World, group: Any) -> None:
    found = {str(path) for path in group.glob("runs/*/archive.tar.gz")}
    expected = {f"{world.group}/runs/{run}/archive.tar.gz" for run in world.run_ids()}
    assert found == {world.url(path) for path in expected}
    assert all(path.is_file() for path in group.glob("runs/*/outputs/results/*"))
    names = {path.name for path in (group / "runs").rglob("*.json")}
    assert names == {"handle.json", "arguments.json"}
    assert list(group.glob("runs/*/nothing")) == []


def test_what_a_stat_says(run: Any) -> None:
    (result,) = run.glob("outputs/results/*.txt")
    about = result.stat()
    assert about.st_size == len(result.read_bytes())
    assert stat.S_ISREG(about.st_mode)
    assert stat.S_ISDIR(run.stat().st_mode)
    assert about.st_mtime > 0
    with pytest.raises(FileNotFoundError):
        (run / "outputs" / "nope").stat()


def test_links_are_those_of_a_mount(world: World, run: Any) -> None:
    latest = run.parent.parent / "latest"
    assert latest.is_symlink()
    assert latest.readlink() == run
    assert not latest.joinpath("outputs").is_symlink()
    state = run.parent.parent / "states" / "SUCCESS" / run.name
    assert state.is_symlink()
    assert state.readlink() == run
    for path in (run, run / "outputs", run / "nope", run.parent.parent / "nope"):
        assert not path.is_symlink()
        with pytest.raises(OSError) as caught:
            path.readlink()
        assert caught.value.errno == errno.EINVAL


# -- changes ---------------------------------------------------------------


def test_an_upload_is_written_read_and_unlinked(world: World, group: Any) -> None:
    path = group / "uploads" / "written.txt"
    assert path.write_text("größe\n", encoding="utf-8") == 6
    assert path.read_text(encoding="utf-8") == "größe\n"
    path.write_bytes(b"other")
    assert path.read_bytes() == b"other"
    with path.open("a") as file:
        file.write(" and more")
    assert path.read_text() == "other and more"
    assert path in set((group / "uploads").iterdir())
    path.unlink()
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        path.unlink()
    path.unlink(missing_ok=True)


def test_a_run_is_started_by_writing_to_new_and_deleted_by_a_recursive_rmdir(
    world: World, group: Any
) -> None:
    before = set((group / "runs").iterdir())
    document = json.dumps({"names": "names.txt", "sleeptime": 0})
    (group / "runs" / "new").write_text(document)
    (started,) = set((group / "runs").iterdir()) - before
    world.ended(started.name)
    group.fs.invalidate_cache()
    with pytest.raises(OSError) as caught:
        started.rmdir()
    assert caught.value.errno == errno.ENOTEMPTY
    assert started.is_dir()
    started.rmdir(recursive=True)
    assert not started.exists()
    with pytest.raises(FileNotFoundError):
        started.rmdir(recursive=True)


def test_what_cannot_be_changed_is_refused_with_an_errno(run: Any) -> None:
    group = run.parent.parent
    for act, kind in (
        (lambda: (run / "handle.json").write_text("{}"), PermissionError),
        (lambda: (run / "handle.json").unlink(), PermissionError),
        (lambda: (group / "runs").rmdir(recursive=True), PermissionError),
        (lambda: (group / "latest").rmdir(recursive=True), PermissionError),
        (lambda: (group / "group.json").rmdir(recursive=True), NotADirectoryError),
        (
            lambda: (group / "uploads" / "names.txt").rename(group / "uploads" / "b"),
            PermissionError,
        ),
        (lambda: (group / "more").mkdir(), PermissionError),
    ):
        with pytest.raises(kind) as caught:
            act()
        assert caught.value.errno is not None
    assert run.is_dir()
