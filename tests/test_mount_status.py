"""What a mount tells of itself in ``.flowfs``, where a shell shows no more than an errno."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mounting import mounted, out, sh
from standin import Reply, StandIn
from world import World

import flowfs
from flowfs.embedded import EmbeddedService

pytestmark = [pytest.mark.mount, pytest.mark.service]


@pytest.fixture(scope="module")
def world(service: EmbeddedService) -> World:
    return World(service)


@pytest.fixture
def mount(service: EmbeddedService, binding: dict[str, str]) -> Iterator[Path]:
    with mounted(service, ttl=0.05, **binding) as directory:
        yield directory


def errors(mount: Path) -> list[list[str]]:
    """The lines of ``errors`` without their times, in columns."""
    text = out("cat .flowfs/errors", mount)
    return [line.split("\t")[1:] for line in text.splitlines()]


def requests(mount: Path) -> dict[str, dict[str, int]]:
    document = json.loads(out("cat .flowfs/stats.json", mount))
    found: dict[str, dict[str, int]] = document["requests"]
    return found


def test_it_is_there_for_who_names_it_and_in_no_listing(mount: Path) -> None:
    assert out("ls -a", mount).split() == [".", "..", "groups", "workflows"]
    assert out("find . -maxdepth 1 -name '.f*'; echo .f*", mount).strip() == ".f*"
    assert out("ls .flowfs", mount).split() == ["errors", "stats.json", "version"]
    assert out("ls -a .flowfs", mount).split()[:2] == [".", ".."]
    assert out("stat -c %A .flowfs .flowfs/*", mount).split() == [
        "dr-xr-xr-x",
        *["-r--r--r--"] * 3,
    ]
    assert sh("cat .flowfs/token", mount).stderr.strip().endswith("No such file or directory")


def test_a_part_of_the_tree_has_it_in_its_own_root(
    service: EmbeddedService, world: World, binding: dict[str, str]
) -> None:
    with mounted(service, f"{world.group}/uploads", **binding) as directory:
        assert ".flowfs" not in out("ls -a", directory)
        assert out("ls .flowfs", directory).split() == ["errors", "stats.json", "version"]
        assert sh("rm names.txt/x; touch new/x; mkdir x", directory).returncode != 0
        # The path is that in the tree, wherever it is mounted.
        assert errors(directory)[-1][:2] == ["mkdir", f"{world.group}/uploads/x"]
        inode = os.stat(directory / ".flowfs" / "version").st_ino
    with mounted(service, **binding) as directory:
        assert os.stat(directory / ".flowfs" / "version").st_ino == inode


def test_the_version_names_the_binding_and_its_library(
    mount: Path, binding: dict[str, str]
) -> None:
    lines = dict(line.split(" ", 1) for line in out("cat .flowfs/version", mount).splitlines())
    assert lines["flowfs"] == flowfs.__version__
    assert lines[binding["fuse"]] == version(binding["fuse"])
    assert lines["libfuse"].startswith("3." if binding["library"] == "fuse3" else "2.")
    assert lines["fsspec"] == version("fsspec")
    assert "service" in lines


def test_reading_it_asks_the_service_for_nothing(mount: Path) -> None:
    before = requests(mount)
    out("ls -la .flowfs; cat .flowfs/*; tail -n 3 .flowfs/errors; md5sum .flowfs/*", mount)
    assert requests(mount) == before


def test_each_open_is_a_new_look(mount: Path, world: World) -> None:
    first = out("cat .flowfs/stats.json", mount)
    out(f"cat {world.group}/group.json; ls workflows", mount)
    second = out("cat .flowfs/stats.json", mount)
    assert json.loads(first)["requests"] != json.loads(second)["requests"]
    # Programs that go by the size get all of it.
    copy = f"cp .flowfs/stats.json {mount.parent}/copy && cat {mount.parent}/copy"
    assert json.loads(out(copy, mount))["process"]["id"] != os.getpid()
    tar = "set -o pipefail; tar -cf - .flowfs | tar -xOf - .flowfs/version"
    assert out(tar, mount) == out("cat .flowfs/version", mount)


def test_what_is_refused_is_told_with_its_reason(mount: Path, world: World) -> None:
    run = world.active()
    script = f"""
    touch here
    echo x > {world.group}/group.json
    rm {world.group}/runs/new
    mv {world.group} elsewhere
    mkdir {world.group}/runs/mine
    chmod 777 groups
    rm -r {world.group}/runs/{run}
    echo '{{"names": "nothing.txt"}}' > {world.group}/runs/new
    """
    try:
        said = sh(script, mount).stderr
    finally:
        world.cancel(run)
    assert said.count("Operation not permitted") >= 6
    told = errors(mount)
    assert {len(line) for line in told} == {4}
    by_path = {(line[0], line[1], line[2]): line[3] for line in told}
    assert by_path["create", "here", "EPERM"] == "nothing can be created there"
    written = by_path["open", f"{world.group}/group.json", "EPERM"]
    assert written == "the group handle cannot be written"
    assert by_path["unlink", f"{world.group}/runs/new", "EPERM"] == "the new run cannot be removed"
    assert ("rename", world.group, "EPERM") in by_path
    assert ("mkdir", f"{world.group}/runs/mine", "EPERM") in by_path
    busy = [
        reason for (_, path, name), reason in by_path.items() if name == "EBUSY" and run in path
    ]
    assert busy
    assert all("the run is in state" in reason and "cancel it first" in reason for reason in busy)
    assert "unknown file 'nothing.txt'" in by_path["write", f"{world.group}/runs/new", "EINVAL"]


def test_the_same_refusal_again_is_counted(mount: Path) -> None:
    sh("for i in 1 2 3; do mkdir groups/mine; done", mount)
    assert errors(mount)[-1][-1].endswith(" (3 times)")


def test_what_is_no_news_is_not_told(mount: Path, world: World) -> None:
    sh(
        f"cat nothing; ls groups/nothing; cat groups; ls {world.group}/group.json/x; "
        f"test -w groups; mkdir groups; rmdir {world.group}/runs; getfattr -d .; cat {world.group}",
        mount,
    )
    with pytest.raises(OSError):
        os.getxattr(mount, "user.other")
    kept = [line for line in errors(mount) if line[0] not in ("mkdir", "rmdir")]
    assert kept == []


def test_names_cannot_speak_to_the_terminal(mount: Path) -> None:
    sh("touch $'red\\e[31m\\nline'", mount)
    text = out("cat .flowfs/errors", mount)
    assert text.count("\n") == 1
    assert "red\\x1b[31m\\nline" in text


def test_nothing_can_be_written_made_or_removed_there(mount: Path) -> None:
    before = out("cat .flowfs/version", mount)
    for script in (
        "echo x > .flowfs/version",
        "echo x >> .flowfs/errors",
        ": > .flowfs/stats.json",
        "touch .flowfs/mine",
        "rm -r .flowfs",
        "rmdir .flowfs",
        "mkdir .flowfs/mine",
        "mv .flowfs mine",
        "truncate -s 0 .flowfs/errors",
        "ln -s x .flowfs/mine",
    ):
        done = sh(script, mount)
        assert done.returncode != 0, script
        assert "Operation not permitted" in done.stderr, script
    assert out("cat .flowfs/version", mount) == before
    assert sh("test -w .flowfs || test -w .flowfs/errors", mount).returncode == 1


def test_a_read_only_mount_refuses_there_too(
    service: EmbeddedService, binding: dict[str, str]
) -> None:
    with mounted(service, read_only=True, **binding) as directory:
        assert "Read-only file system" in sh("echo x > .flowfs/errors", directory).stderr
        assert out("head -n 1 .flowfs/version", directory) == f"flowfs {flowfs.__version__}\n"


def test_figures_are_of_what_the_mount_did(mount: Path, world: World) -> None:
    handle = world.succeeded()
    out(f"cat {world.result(handle)} > /dev/null; echo more > {world.uploads}/more.txt", mount)
    kinds = requests(mount)
    assert kinds["GET runs:download:file"]["count"] == 1
    assert kinds["GET runs:download:file"]["bytes_received"] > 0
    assert kinds["POST files:upload"]["bytes_sent"] > 5
    out(f"cat {world.result(handle)} > /dev/null", mount)
    assert requests(mount)["GET runs:download:file"] == kinds["GET runs:download:file"]
    document = json.loads(out("cat .flowfs/stats.json", mount))
    assert document["caches"]["sizes"]["hits"] >= 1
    assert document["process"]["open_files"] > 3


def test_the_words_of_the_service_are_told_and_the_token_is_not() -> None:
    with StandIn() as server:
        token = server.routes.token
        server.on("GET", "/workflows", Reply(500, {"message": f"no database for {token}"}))
        service: Any = SimpleNamespace(endpoint=server.endpoint, token=token)
        with mounted(service, retries=0) as directory:
            assert "Input/output error" in sh("ls groups", directory).stderr
            text = out("cat .flowfs/errors", directory)
            kinds = requests(directory)
    columns = text.rstrip("\n").split("\n")[-1].split("\t")
    assert columns[1:4] == ["readdir", "groups", "EIO"]
    assert "no database for ..." in columns[4]
    assert token not in text
    assert kinds["GET workflows:list"]["failures"] == 1
