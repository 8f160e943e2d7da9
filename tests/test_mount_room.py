"""Uploads written on a mount where there is no room for temporary files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import BINDINGS, Address, inside, mounted
from standin import StandIn

pytestmark = [pytest.mark.mount]

_ROOM = 2 << 20  # bytes

WRITE = """
import errno, os, sys
file = os.open("x", os.O_CREAT | os.O_RDWR)
written = 0
try:
    while True:
        piece = bytes([written % 251]) * int(sys.argv[1])
        written += os.write(file, piece)
except OSError as error:
    print(errno.errorcode[error.errno])
again = os.dup(file)
for one in (again, file):
    os.close(one)
print(written, os.stat("x").st_size)
"""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Yield a directory in which hardly anything can be kept."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "none", os.fspath(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here but by FUSE")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize(("fuse", "library"), BINDINGS)
@pytest.mark.parametrize("piece", [3_000, 33_000, 100_000])
def test_of_what_there_is_no_room_for_the_writer_hears_and_what_was_taken_is_sent(
    small: Path, tmp_path: Path, fuse: str, library: str, piece: int
) -> None:
    pytest.importorskip("fuse" if fuse == "fusepy" else "mfusepy")
    log = tmp_path / "log"
    with (
        StandIn() as server,
        mounted(
            Address(server.endpoint, server.routes.token),  # type: ignore[arg-type]
            fuse=fuse,
            library=library,
            log=log,
            cache_dir=os.fspath(small),
            cache_size="1M",
        ) as directory,
    ):
        uploads = directory / "groups" / server.routes.group / "uploads"
        done = subprocess.run(
            [*inside(uploads), sys.executable, "-c", WRITE, str(piece)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        error, sizes = done.stdout.splitlines()
        assert error == "ENOSPC"
        written, size = map(int, sizes.split())
        assert 0 < written == size <= _ROOM
        ((name, file_id),) = [(one["name"], one["id"]) for one in server.routes.uploads]
        stored = server.routes.files[file_id]
        expected = b"".join(bytes([at % 251]) * piece for at in range(0, written, piece))
        assert (name, stored) == ("x", expected[:written])
        # What is emptied has room again.
        (uploads / "x").write_bytes(b"short")
        assert (uploads / "x").read_bytes() == b"short"
        (uploads / "x").unlink()
        assert server.routes.uploads == []
    assert "Traceback" not in log.read_text(), log.read_text()
