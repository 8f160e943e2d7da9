"""Paths of universal_pathlib, where it is installed."""

from __future__ import annotations

import pickle
from importlib.metadata import entry_points
from typing import Any

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


def test_the_text_of_a_path_is_its_full_url(world: World, group: Any) -> None:
    path = group / "uploads" / "names.txt"
    assert isinstance(path, FlowPath)
    assert str(path) == world.url(f"{world.group}/uploads/names.txt")
    assert str(path.parent) == world.url(f"{world.group}/uploads")
    assert str(path.with_suffix(".csv")) == world.url(f"{world.group}/uploads/names.csv")
    assert str(path.relative_to(group)) == "uploads/names.txt"
    assert path.path == f"{world.group}/uploads/names.txt"
    assert isinstance(path.fs, FlowFileSystem)


def test_the_text_of_a_path_leads_back_to_its_service(world: World, group: Any) -> None:
    again = upath.UPath(str(group), **world.options())
    assert (again.fs, again.path) == (group.fs, group.path)
    assert pickle.loads(pickle.dumps(group)).fs == group.fs


def test_files_are_read_and_directories_listed(world: World, group: Any) -> None:
    assert (group / "uploads" / "names.txt").read_text().startswith("Ada\n")
    runs = {path.name for path in (group / "runs").iterdir()}
    assert runs == {"new", *world.run_ids()}
    (found,) = group.glob("runs/*/archive.tar.gz")
    assert str(found) == world.url(f"{world.group}/runs/{world.run_ids()[0]}/archive.tar.gz")
    assert (group / "runs").is_dir()
    assert not (group / "runs" / "nope").exists()


def test_the_token_is_in_no_text(world: World, group: Any) -> None:
    assert world.token not in str(group) + repr(group)
