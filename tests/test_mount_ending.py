"""The end of a mount while programs wait on it for a service that hangs, whatever they wait for."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hanging import DATA, OPERATIONS, Hang, hang, program
from mounting import (
    BINDINGS,
    Address,
    command_environment,
    is_mounted,
    is_running,
    mounted_in_background,
    mountpoint,
)
from standin import StandIn
from support import PATIENCE, wait_until

pytestmark = pytest.mark.mount

# What programs say of a request that was given up, and of a mount that has gone: mv looks again,
# and where the kernel could not read ahead it has a word of its own.
_SAID = [
    os.strerror(number)
    for number in (errno.ECANCELED, errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT, errno.EIO)
]


def ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for a program, which must say that it got no answer."""
    said = process.communicate(timeout=PATIENCE)[1].decode()
    assert process.returncode > 0
    assert any(words in said for words in _SAID), said


def ends(
    place: Path,
    operations: tuple[str, ...],
    way: str,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mount, have programs hang, end the mount; all of them end, and it is gone."""
    fuse, library = BINDINGS[number % len(BINDINGS)]
    pytest.importorskip("fuse" if fuse == "fusepy" else "mfusepy")
    (place / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place / "run"))
    with StandIn() as server, mountpoint(place) as directory:
        address = Address(server.endpoint, server.routes.token)
        options = ["--fuse", fuse, "--timeout", "600", "--no-cache"]
        with mounted_in_background(address, directory, *options, library=library) as told:
            hung = [hang(one, server, directory, place) for one in operations]
            programs = [one.begin() for one in hung]
            command = subprocess.Popen(
                # Who is slow to go on a busy machine has it in use for longer.
                [
                    "sh",
                    "-c",
                    'for n in 1 2 3 4 5; do "$0" -m flowfs umount "$1" && exit; done; exit 1',
                    sys.executable,
                    directory,
                ]
                if way == "umount"
                else ["kill", "-s", way, str(told["pid"])],
                env=command_environment(None),
            )
            for process in programs:
                ended(process)
            for one in hung:
                if "uploads" in one.path:  # what was not sent is sent at the last
                    one.go_on.set()
            assert command.wait(PATIENCE) == 0
            wait_until(lambda: not is_running(told["pid"]), 30, "the end of its process")
            assert not is_mounted(directory)
            check(server, hung)


def check(server: StandIn, hung: list[Hang]) -> None:
    """Nothing was sent twice that may not be, and the upload is there, whole."""
    for one in hung:
        if one.method in ("POST", "PUT") and "uploads" not in one.path:
            assert one.count == 1
        if one.command[0] == "cp":
            stored = server.routes.get_uploads(one.names["group"])[1]["files"]
            assert {server.routes.files[entry["id"]] for entry in stored} == {DATA}


@pytest.mark.parametrize(
    ("number", "operation", "way"),
    [pytest.param(at, one, ("umount", "INT")[at % 2], id=one) for at, one in enumerate(OPERATIONS)],
)
def test_it_ends_though_an_operation_hangs(
    tmp_path: Path, number: int, operation: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends(tmp_path, (operation,), way, number, monkeypatch)


@pytest.mark.parametrize(("number", "way"), [(0, "TERM"), (1, "umount"), (2, "INT")])
def test_it_ends_though_all_of_them_hang_at_once(
    tmp_path: Path, number: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The listing at the last: with libfuse 2 nobody else looks into `groups` meanwhile.
    ends(tmp_path, (*OPERATIONS[::-1],), way, number, monkeypatch)


@pytest.mark.parametrize("number", range(len(BINDINGS)), ids=["-".join(one) for one in BINDINGS])
def test_a_plain_umount_works_once_those_who_hung_have_been_killed(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuse, library = BINDINGS[number]
    pytest.importorskip("fuse" if fuse == "fusepy" else "mfusepy")
    with StandIn() as server, mountpoint(tmp_path) as directory:
        address = Address(server.endpoint, server.routes.token)
        options = ["--fuse", fuse, "--timeout", "600", "--no-cache"]
        with mounted_in_background(address, directory, *options, library=library) as told:
            hung = [
                hang(one, server, directory, tmp_path)
                for one in ("delete", "cancel", "start", "archive", "read", "info", "list")
            ]
            programs = [one.begin() for one in hung]
            unmount = ["umount"] if os.getuid() == 0 else ["fusermount", "-u"]
            busy = subprocess.run([*unmount, directory], capture_output=True)
            assert b"busy" in busy.stderr
            for process in programs:
                process.kill()
            for process in programs:
                assert process.wait(PATIENCE) == -signal.SIGKILL
            # A file is closed a moment after who had it open is gone.
            wait_until(lambda: program(*unmount, directory).wait(PATIENCE) == 0, 30, "the unmount")
            wait_until(lambda: not is_running(told["pid"]), 30, "the end of its process")
