"""``flowfs mount`` in unusual surroundings: streams, names, homes, and others at the same time."""

from __future__ import annotations

import errno
import os
import pwd
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mounting import (
    BINDINGS,
    Address,
    command_environment,
    flowfs,
    is_mounted,
    is_running,
    mounted_in_background,
    mountpoint,
)
from standin import Reply, StandIn
from support import uncovered, wait_until

import flowfs as flowfs_package
from flowfs.embedded import EmbeddedService
from flowfs.errors import FlowError
from flowfs.fuse import unmounting
from flowfs.fuse.table import FOREIGN, mounts_at

pytestmark = pytest.mark.mount

SOON = 60  # seconds


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    with mountpoint(tmp_path) as place:
        yield place


@pytest.fixture(autouse=True)
def _registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()


def shell(script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script in which ``flowfs`` is the command."""
    return subprocess.run(
        ["sh", "-c", f'flowfs() {{ "{sys.executable}" -m flowfs "$@"; }}\n{script}'],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# -- streams ---------------------------------------------------------------


@pytest.mark.parametrize("how", [">/dev/full", "| true", ">&-", "<&- >&- 2>&-"])
def test_where_nobody_reads_that_it_is_mounted_it_is_mounted_all_the_same(
    service: EmbeddedService, directory: Path, how: str
) -> None:
    # The exit code by a file: in a pipe, the shell tells that of the last command.
    script = f'code() {{ flowfs mount "{directory}"; echo $? >"{directory}.code"; }}; code {how}'
    done = shell(script, command_environment(service))
    assert (directory.with_name("mnt.code").read_text(), done.stderr) == ("0\n", "")
    assert is_mounted(directory)
    assert flowfs("umount", directory).returncode == 0


def test_in_the_foreground_it_needs_no_streams(service: EmbeddedService, directory: Path) -> None:
    script = f'exec "{sys.executable}" -m flowfs mount -f "{directory}" <&- >&- 2>&-'
    process = subprocess.Popen(["sh", "-c", script], env=command_environment(service))
    try:
        wait_until(lambda: is_mounted(directory) or process.poll() is not None, SOON, "a mount")
        assert process.poll() is None
        looked = subprocess.run(["ls", directory], capture_output=True, text=True, timeout=SOON)
        assert looked.stdout == "groups\nworkflows\n"
        for number in range(3):
            assert os.readlink(f"/proc/{process.pid}/fd/{number}") == "/dev/null"
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON) == 0
    finally:
        process.kill()
        process.wait()


# -- names -----------------------------------------------------------------


def test_how_to_end_it_can_be_pasted_into_a_shell(service: EmbeddedService, tmp_path: Path) -> None:
    place = tmp_path / "it's a place; $HOME"
    place.mkdir()
    with mountpoint(place) as directory:
        done = flowfs("mount", directory, environment=command_environment(service))
        command = done.stdout.partition("; end: ")[2]
        again = flowfs("mount", directory, environment=command_environment(service))
        assert again.stderr.partition("end it with: ")[2] == command
        assert shell(command, command_environment(service)).returncode == 0
        assert not is_mounted(directory)


def test_a_link_to_a_mount_that_hangs_is_followed_without_looking_at_it(
    service: EmbeddedService, directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("other/")
    (tmp_path / "other").symlink_to(directory)
    with mounted_in_background(service, directory) as told:
        os.kill(told["pid"], signal.SIGSTOP)
        assert flowfs("umount", "--lazy", tmp_path / "link", timeout=SOON).returncode == 0
        assert not is_mounted(directory)


# -- others at the same time -----------------------------------------------


@pytest.mark.parametrize("library", sorted({library for _, library in BINDINGS}))
def test_of_two_that_mount_on_one_directory_at_once_one_is_refused(
    directory: Path, library: str
) -> None:
    asked: list[Any] = []
    both = threading.Event()

    def late(one: Any) -> None:
        asked.append(one)
        if len(asked) == 2:
            both.set()
        both.wait(SOON)

    with StandIn() as standin:
        standin.on("GET", "/users/whoami", late)
        address = Address(standin.endpoint, standin.routes.token)
        environment = command_environment(address, FUSE_LIBRARY_NAME=library)
        two = [
            subprocess.Popen(
                [sys.executable, "-m", "flowfs", "mount", "--fuse", "mfusepy", directory],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        said = [one.communicate(timeout=60)[1] for one in two]
        try:
            assert sorted(one.returncode for one in two) == [0, 1], said
            assert len(mounts_at(str(directory))) == 1
            assert "mount" in "".join(said)
        finally:
            for _ in mounts_at(str(directory)):
                assert flowfs("umount", directory).returncode == 0


# -- homes -----------------------------------------------------------------


def test_who_has_no_home_directory_has_no_login_and_may_do_without(
    service: EmbeddedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {one.pw_uid for one in pwd.getpwall()}
    unknown = next(number for number in range(54321, 60000) if number not in numbers)
    program = (
        "import os, sys, flowfs.cli, flowfs.cli.login, flowfs.filesystem\n"
        f"os.getuid() == 0 and os.setuid({unknown})\n"
        "import pwd; pwd.getpwuid = pwd.getpwnam = {}.__getitem__\n"  # for who is not root
        "flowfs.cli.main()"
    )
    monkeypatch.delenv("XDG_CONFIG_HOME")
    environment = uncovered(command_environment(service))
    del environment["HOME"]

    def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert run("whoami").stdout.startswith("flow at http://")
    refused = run("login", "--token-stdin", service.endpoint, given=service.token)
    (line,) = refused.stderr.splitlines()
    assert line == (
        "flowfs: you have no home directory to keep logins in: set HOME or XDG_CONFIG_HOME"
    )
    del environment["FLOWSERV_ACCESS_TOKEN"]
    (line,) = run("whoami").stderr.splitlines()
    assert "no access token was sent" in line


def test_a_relative_place_of_logins_is_from_where_the_command_is(
    service: EmbeddedService, directory: Path, tmp_path: Path
) -> None:
    environment = command_environment(service, XDG_CONFIG_HOME="config")
    del environment["FLOWSERV_ACCESS_TOKEN"]
    script = f'cd "{tmp_path}" && printf %s {service.token} | flowfs login --token-stdin'
    assert shell(f"{script} {service.endpoint}", environment).returncode == 0
    done = shell(f'cd "{tmp_path}" && flowfs mount "{directory}"', environment)
    assert done.returncode == 0, done.stderr
    assert flowfs("umount", directory).returncode == 0


# -- programs --------------------------------------------------------------


def test_where_warnings_are_errors_a_mount_in_use_is_out_of_sight_all_the_same(
    service: EmbeddedService, directory: Path
) -> None:
    mount = flowfs_package.mount(f"flow+{service.endpoint}", directory, token=service.token)
    with subprocess.Popen(["sleep", "60"], cwd=directory) as inside:
        try:
            with warnings.catch_warnings():
                # Not what is left of other tests, which may be collected just now.
                warnings.simplefilter("error", UserWarning)
                with pytest.raises(UserWarning, match=r"is in use by sleep"):
                    mount.unmount()
            assert not is_mounted(directory)
        finally:
            inside.kill()


def test_root_who_cannot_look_at_a_users_mount_is_told_what_holds_it(
    service: EmbeddedService, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root")
    monkeypatch.setattr(unmounting, "states", lambda places: dict.fromkeys(places, FOREIGN))
    with (
        mounted_in_background(service, directory),
        subprocess.Popen(["sleep", "60"], cwd=directory) as inside,
    ):
        try:
            with pytest.raises(FlowError, match="in use by sleep") as caught:
                unmounting.unmount(str(directory))
            assert caught.value.errno == errno.EBUSY
        finally:
            inside.kill()


def test_a_program_that_is_killed_while_it_mounts_leaves_no_mount_though_a_fork_of_it_lives_on(
    directory: Path,
) -> None:
    asked: list[Any] = []
    go_on = threading.Event()

    def late(one: Any) -> None:
        asked.append(one)
        go_on.wait(SOON)

    program = (
        "import flowfs, os, sys, threading, time\n"
        "mounting = threading.Thread(target=flowfs.mount, args=('', sys.argv[1]), daemon=True)\n"
        "mounting.start()\n"
        "sys.stdin.readline()\n"
        "os.fork()\n"
        "os.write(1, b'forked\\n')\n"  # as a whole, by both
        "time.sleep(100)\n"
    )
    with StandIn() as standin:
        standin.on("GET", "/users/whoami", late)
        environment = command_environment(Address(standin.endpoint, standin.routes.token))
        with subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program, directory],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                wait_until(lambda: asked, SOON, "the request")
                children = Path(f"/proc/{process.pid}/task").glob("*/children")
                (pid,) = (int(one) for file in children for one in file.read_text().split())
                process.stdin.write("\n")
                process.stdin.flush()
                assert process.stdout.readline() + process.stdout.readline() == "forked\n" * 2
                process.kill()
                process.wait()
                go_on.set()
                wait_until(lambda: not is_running(pid), SOON, "the end of the mount's process")
                assert not is_mounted(directory)
            finally:
                go_on.set()
                os.killpg(process.pid, signal.SIGKILL)


# -- what is refused -------------------------------------------------------


def test_of_a_service_that_does_not_tell_who_one_is_the_error_says_which_it_is(
    directory: Path,
) -> None:
    with StandIn() as standin:
        standin.on("GET", "/users/whoami", Reply(503, body=b"{}"))
        address = Address(standin.endpoint, standin.routes.token)
        environment = command_environment(address)
        done = flowfs("mount", "--retries", "0", directory, environment=environment)
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"flowfs: {standin.endpoint}: ")


# -- bounds ----------------------------------------------------------------


@pytest.mark.parametrize("where", [[], ["--foreground"]], ids=["background", "foreground"])
def test_a_timeout_of_ages_is_one(
    service: EmbeddedService, directory: Path, where: list[str]
) -> None:
    environment = command_environment(service)
    given = [sys.executable, "-m", "flowfs", "mount", *where, "--timeout", "1e15", str(directory)]
    with subprocess.Popen(given, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: is_mounted(directory) or process.poll(), SOON, "the mount")
        said = process.stderr
        assert is_mounted(directory), said and said.read()
        looked = subprocess.run(["ls", directory / "workflows"], timeout=SOON)
        assert looked.returncode == 0
        assert flowfs("umount", directory).returncode == 0
