"""``flowfs.mount`` in a program: for a block, for the program's life, and when it cannot be."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import Address, command_environment, is_mounted, is_running, mountpoint
from standin import Reply, StandIn
from support import wait_until

import flowfs
from flowfs.embedded import EmbeddedService

pytestmark = pytest.mark.mount

SOON = 60


@pytest.fixture(autouse=True)
def _registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    with mountpoint(tmp_path) as place:
        yield place


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


def test_a_block_has_the_mount_as_a_path_and_ends_it(
    service: EmbeddedService, directory: Path
) -> None:
    url = f"flow+{service.endpoint}"
    mount = flowfs.mount(url, directory, token=service.token)
    with mount as path:
        assert path == directory
        assert sorted(one.name for one in path.iterdir()) == ["groups", "workflows"]
        assert (mount.url, mount.path) == (url, directory)
        assert is_running(mount.pid)
        assert repr(mount) == f"<{url} on {directory}>"
        assert service.token.encode() not in Path(f"/proc/{mount.pid}/cmdline").read_bytes()
        assert service.token.encode() not in Path(f"/proc/{mount.pid}/environ").read_bytes()
    assert not is_mounted(directory)
    assert not is_running(mount.pid)
    assert repr(mount) == f"<{url} no longer on {directory}>"
    mount.unmount()  # again: no harm


def test_without_a_directory_it_has_one_of_its_own(service: EmbeddedService) -> None:
    with flowfs.mount(endpoint=service.endpoint, token=service.token) as path:
        assert (path / "workflows").is_dir()
    assert not path.exists()


def test_no_url_is_the_configured_service(
    service: EmbeddedService, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in command_environment(service).items():
        monkeypatch.setenv(name, value)
    with flowfs.mount(None, directory, umask="077") as path:
        assert path.joinpath("groups").stat().st_mode & 0o777 == 0o500


def test_a_part_of_the_tree_with_options(service: EmbeddedService, directory: Path) -> None:
    group = service.groups["hello"]
    url = f"flow+{service.endpoint}/groups/{group}"
    options = {"read_only": True, "ttl": 0, "umask": 0o077, "options": "noatime"}
    with flowfs.mount(url, directory, token=service.token, **options) as path:
        assert json.loads((path / "group.json").read_text())["id"] == group
        assert path.joinpath("runs").stat().st_mode & 0o777 == 0o500
        with pytest.raises(OSError) as caught:
            (path / "runs" / "new").write_text("{}")
        assert caught.value.errno == errno.EROFS


def test_a_file_system_is_mounted_with_what_it_knows(
    service: EmbeddedService, directory: Path
) -> None:
    fs = flowfs.FlowFileSystem(service.endpoint, service.token, read_only=True, ttl=0)
    with flowfs.mount(fs, directory) as path:
        assert (path / "groups").is_dir()
        with pytest.raises(OSError, match="Read-only"):
            (path / "x").mkdir()


def test_it_ends_when_the_block_raises(service: EmbeddedService, directory: Path) -> None:
    with pytest.raises(KeyError):
        with flowfs.mount(service.endpoint, directory, token=service.token):
            raise KeyError
    assert not is_mounted(directory)


def test_one_that_is_in_use_goes_out_of_sight_with_a_warning(
    service: EmbeddedService, directory: Path
) -> None:
    mount = flowfs.mount(service.endpoint, directory, token=service.token)
    with subprocess.Popen(["sleep", "60"], cwd=directory) as user:
        with pytest.warns(UserWarning, match=f"in use by sleep .{user.pid}.: it is out of sight"):
            with mount:
                pass
        assert not is_mounted(directory)
        assert os.listdir(f"/proc/{user.pid}/cwd/") == ["groups", "workflows"]
        user.kill()
    wait_until(lambda: not is_running(mount.pid), SOON, "its end, with its last user")


def test_what_it_cannot_mount_is_an_error_of_the_right_kind(
    service: EmbeddedService, directory: Path, tmp_path: Path
) -> None:
    with pytest.raises(flowfs.AccessDenied, match="option token") as denied:
        flowfs.mount(service.endpoint, directory, token="wrong")
    assert (denied.value.errno, denied.value.status) == (errno.EACCES, 403)
    with pytest.raises(flowfs.NotFound, match="make it first"):
        flowfs.mount(service.endpoint, tmp_path / "none", token=service.token)
    with pytest.raises(flowfs.DirectoryNotEmpty):
        flowfs.mount(service.endpoint, tmp_path, token=service.token)
    with pytest.raises(flowfs.NotFound) as missing:
        flowfs.mount(f"flow+{service.endpoint}/groups/none", directory, token=service.token)
    assert missing.value.filename.endswith("groups/none")
    with pytest.raises(flowfs.ConnectionFailed):
        flowfs.mount("http://127.0.0.1:9/", directory)
    with pytest.raises(flowfs.InvalidArguments, match="timeout"):
        flowfs.mount(service.endpoint, directory, token=service.token, timeout=-1)
    with pytest.raises(flowfs.InvalidArguments, match=r"no such option: readonly;.* read_only"):
        flowfs.mount(service.endpoint, directory, token=service.token, readonly=True)
    with pytest.raises(flowfs.InvalidArguments, match="a URL is a string, not 42"):
        flowfs.mount(42, directory, token=service.token)  # type: ignore[arg-type]
    with pytest.raises(flowfs.InvalidArguments, match="umask must be octal"):
        flowfs.mount(service.endpoint, directory, token=service.token, umask="9")
    with pytest.raises(flowfs.InvalidArguments, match="arguments of their own: uid"):
        flowfs.mount(service.endpoint, directory, token=service.token, options="uid=1")
    with flowfs.mount(service.endpoint, directory, token=service.token):
        with pytest.raises(flowfs.FlowError, match="mounted there already") as busy:
            flowfs.mount(service.endpoint, directory, token=service.token)
        assert busy.value.errno == errno.EBUSY
    assert not is_mounted(directory)


def test_a_service_that_hangs_is_given_up(standin: StandIn, directory: Path) -> None:
    standin.on("GET", "/users/whoami", Reply(hang="before"))
    with pytest.raises(flowfs.DeadlineExceeded):
        flowfs.mount(standin.endpoint, directory, token=standin.routes.token, timeout=1)
    assert not is_mounted(directory)


PROGRAM = """
import flowfs, os, sys, time
held = flowfs.mount(sys.argv[1])
if sys.argv[2] == "fork" and os.fork() == 0:
    os.close(1)
    time.sleep(100)
print(held.path, held.pid, flush=True)
if sys.argv[2] == "end":
    del held
    sys.exit()
time.sleep(100)
"""


@pytest.mark.parametrize("how", ["end", "killed", "fork"])
def test_it_ends_with_the_program_however_that_ends(
    service: EmbeddedService, tmp_path: Path, how: str
) -> None:
    environment = command_environment(service, TMPDIR=str(tmp_path))
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, service.endpoint, how],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert program.stdout is not None
        directory, pid = program.stdout.readline().split()
        if how != "end":
            program.kill()
        program.wait(60)
        wait_until(lambda: not is_running(int(pid)), SOON, "the end of the mount")
        assert not is_mounted(Path(directory))
        if how == "end":
            assert program.returncode == 0
            assert not Path(directory).exists()
    finally:
        os.killpg(program.pid, signal.SIGKILL) if how == "fork" else None
        program.wait()
        program.stdout.close()


def _leave(mount: flowfs.Mounted) -> None:
    mount.unmount()


def test_a_fork_of_the_program_does_not_end_it(service: EmbeddedService, directory: Path) -> None:
    with flowfs.mount(service.endpoint, directory, token=service.token) as path:
        mount = flowfs.fuse.mounted._mounted.copy().pop()
        child = multiprocessing.get_context("fork").Process(target=_leave, args=(mount,))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert (path / "groups").is_dir()


def test_relative_paths_are_from_where_the_program_is(
    service: EmbeddedService, tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with flowfs.mount(service.endpoint, "mnt", token=service.token, log_file="log") as path:
        assert path == directory
    assert "mounted flow+" in (tmp_path / "log").read_text()


def test_of_a_service_without_login_the_error_says_how(standin: StandIn, directory: Path) -> None:
    address = Address(standin.endpoint, "")
    with pytest.raises(flowfs.AccessDenied, match="flowfs login"):
        flowfs.mount(address.endpoint, directory)
