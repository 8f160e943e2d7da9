"""Who is killed in the middle of an upload leaves no half file, and what was there stays."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mounting import Address, mounted_in_background
from reader_results import new_group
from support import Rest

from flowfs.embedded import EmbeddedService

_SIZE = 12 << 20  # bytes of an upload, less than the service's limit
_SOME = 1 << 20  # bytes after which nothing is passed on


class Choke:
    """A way to the service on which what is large comes to a halt.

    Attributes
    ----------
    halted : threading.Event
        Something has.
    downwards : bool
        Replies come to a halt, and not requests.
    """

    def __init__(self, service: EmbeddedService) -> None:
        behind = urlsplit(service.endpoint)
        self._service = (str(behind.hostname), behind.port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        here = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.address = Address(f"http://{here}{behind.path}", service.token)
        # The service answers under its own name only.
        self._hosts = [f"Host: {name}\r\n".encode() for name in (here, behind.netloc)]
        self.halted = threading.Event()
        self.downwards = False
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                service = socket.create_connection(self._service)
                self._open += [client, service]
                threading.Thread(target=self._pass, args=(client, service, True)).start()
                threading.Thread(target=self._pass, args=(service, client, False)).start()

    def _pass(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if upwards is not self.downwards and passed > _SOME:
                    # The rest of what is sent stays where it is, until its sender has ended.
                    self.halted.set()
                    while source.recv(65536, socket.MSG_PEEK):
                        threading.Event().wait(0.05)
                    break
                sink.sendall(data.replace(*self._hosts))
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.close()
        for one in self._open:
            one.close()


@pytest.fixture
def choke(service: EmbeddedService) -> Iterator[Choke]:
    made = Choke(service)
    yield made
    made.close()


@pytest.fixture
def group(service: EmbeddedService, rest: Rest) -> str:
    return new_group(rest, service.workflows["hello"])


def _uploads(rest: Rest, group: str) -> dict[str, list[bytes]]:
    """What the service has, by name: the bytes of each file of that name."""
    found: dict[str, list[bytes]] = {}
    for file in rest.get(f"uploads/{group}/files")["files"]:
        reply = rest.request("GET", f"uploads/{group}/files/{file['id']}")
        reply.raise_for_status()
        found.setdefault(file["name"], []).append(reply.content)
    return found


_PUT = """
import sys
from flowfs import FlowFileSystem
endpoint, token, source, target = sys.argv[1:]
FlowFileSystem(endpoint, token).put_file(source, target)
"""
_GET = """
import sys
from flowfs import FlowFileSystem
endpoint, token, source, target = sys.argv[1:]
FlowFileSystem(endpoint, token).get(source, target + "/")
"""


@pytest.mark.parametrize("there", [True, False], ids=["replaced", "new"])
def test_of_a_program_that_is_killed_while_it_uploads_nothing_is_left_and_nothing_is_gone(
    service: EmbeddedService, group: str, rest: Rest, choke: Choke, tmp_path: Path, there: bool
) -> None:
    new, old = tmp_path / "new", tmp_path / "data.bin"
    new.write_bytes(os.urandom(_SIZE))
    old.write_bytes(b"as it was")
    if there:
        rest.upload(group, old)
    before = _uploads(rest, group)
    process = subprocess.Popen(
        [sys.executable, "-c", _PUT, *choke.address, new, f"groups/{group}/uploads/data.bin"],
        stdin=subprocess.DEVNULL,
    )
    try:
        assert choke.halted.wait(60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    # The service has noticed: it answers whoever comes after.
    rest.upload(group, Path(__file__))
    assert _uploads(rest, group) == {**before, Path(__file__).name: [Path(__file__).read_bytes()]}


@pytest.mark.mount
@pytest.mark.parametrize("there", [True, False], ids=["replaced", "new"])
def test_of_a_mount_that_is_killed_while_it_uploads_nothing_is_left_and_nothing_is_gone(
    service: EmbeddedService, group: str, rest: Rest, choke: Choke, tmp_path: Path, there: bool
) -> None:
    new, old, mountpoint = tmp_path / "new", tmp_path / "data.bin", tmp_path / "mnt"
    new.write_bytes(os.urandom(_SIZE))
    old.write_bytes(b"as it was")
    mountpoint.mkdir()
    if there:
        rest.upload(group, old)
    before = _uploads(rest, group)
    with mounted_in_background(choke.address, mountpoint) as mount:
        copying = subprocess.Popen(
            ["cp", new, mountpoint / "groups" / group / "uploads" / "data.bin"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert choke.halted.wait(60)
            os.kill(mount["pid"], signal.SIGKILL)
            assert copying.wait(60) != 0
        finally:
            copying.kill()
            copying.wait(60)
    rest.upload(group, Path(__file__))
    assert _uploads(rest, group) == {**before, Path(__file__).name: [Path(__file__).read_bytes()]}


def test_a_download_that_is_killed_leaves_no_file_that_looks_whole(
    service: EmbeddedService, group: str, rest: Rest, choke: Choke, tmp_path: Path
) -> None:
    """The other way round: what is fetched has its name once it is whole."""
    target = tmp_path / "fetched"
    target.mkdir()
    source = tmp_path / "data.bin"
    source.write_bytes(os.urandom(_SIZE))
    rest.upload(group, source)
    choke.downwards = True
    process = subprocess.Popen(
        [sys.executable, "-c", _GET, *choke.address, f"groups/{group}/uploads/data.bin", target],
        stdin=subprocess.DEVNULL,
    )
    try:
        assert choke.halted.wait(60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert not (target / "data.bin").exists()
