"""Programs that wait on a mount for a service which hangs, one for each operation."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from standin import Asked, StandIn
from support import wait_until

__all__ = ["DATA", "OPERATIONS", "Hang", "hang", "program"]

DATA = b"0123456789abcdef" * 16384  # bytes of a result, too many for a small file
OPERATIONS = (
    "list",
    "info",
    "read",
    "archive",
    "start",
    "cancel",
    "delete",
    "upload",
    "rename",
)

_WRITE = "import os, sys; os.write(os.open(sys.argv[1], os.O_WRONLY), sys.argv[2].encode())"
_HANGS = 240  # seconds for which nothing is answered at the most


def _own_signals() -> None:
    # A shell that starts something in the background has it ignore them.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def program(*words: str | Path) -> subprocess.Popen[bytes]:
    """Start a program that ends by signals as at a terminal; what it prints is kept."""
    return subprocess.Popen(
        list(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_own_signals,
    )


@dataclass
class Hang:
    """An operation whose request is not answered before it is told to.

    Attributes
    ----------
    command : list
        What a program does for it.
    method, path : str
        The request that hangs.
    right : bytes or None
        What the program prints when it is answered; None: whatever that is.
    names : dict
        Ids of what it is about.
    """

    server: StandIn
    command: list[str | Path]
    method: str
    path: str
    right: bytes | None = None
    names: dict[str, str] = field(default_factory=dict)
    go_on: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.server.on(self.method, self.path, self._late)

    def _late(self, asked: Asked) -> None:
        ends = time.monotonic() + _HANGS
        while not (self.go_on.wait(0.05) or self.server.stopped.is_set()):
            if time.monotonic() > ends:
                break

    @property
    def count(self) -> int:
        """How often it was asked for."""
        return self.server.count(self.method, self.path)

    def begin(self) -> subprocess.Popen[bytes]:
        """Start the program; it waits for the service when this returns."""
        before = self.count
        started = program(*self.command)
        wait_until(lambda: self.count > before, 30, f"{self.method} {self.path}")
        return started


def hang(operation: str, server: StandIn, mount: Path, place: Path) -> Hang:
    """Have an operation hang; nobody has done it before on that mount.

    Parameters
    ----------
    operation : str
        One of :data:`OPERATIONS`.
    server : StandIn
        The service.
    mount : Path
        Where it is mounted.
    place : Path
        A directory for what is to be copied.
    """
    with server.lock:
        made = _MAKERS[operation](server, mount, place)
    return Hang(server, *made)


def _run(server: StandIn, mount: Path, state: str) -> tuple[str, Path]:
    """Make a run in a group of its own: libfuse 2 has who looks into one directory wait in turn."""
    group = server.routes.add_group()
    if state == "SUCCESS":
        run, _ = server.routes.add_file(DATA, groupId=group)
    else:
        run = server.routes.add_run(state, groupId=group)["id"]
    return run, mount / "groups" / group / "runs" / run


def _list(server: StandIn, mount: Path, place: Path) -> tuple[Any, ...]:
    group = server.routes.add_group()
    return ["ls", mount / "groups" / group / "runs"], "GET", f"/groups/{group}", b"new\n"


def _info(server: StandIn, mount: Path, place: Path) -> tuple[Any, ...]:
    run, shown = _run(server, mount, "RUNNING")
    right = f"{shown}/handle.json\n".encode()
    return ["stat", "-c", "%n", shown / "handle.json"], "GET", f"/runs/{run}", right, {"run": run}


def _read(server: StandIn, mount: Path, place: Path) -> tuple[Any, ...]:
    run, shown = _run(server, mount, "SUCCESS")
    file = server.routes.runs[run]["files"][0]["id"]
    shown = shown / "results" / file
    server.lock.release()
    try:
        subprocess.run(["stat", shown], stdout=subprocess.DEVNULL, check=True, timeout=60)
    finally:
        server.lock.acquire()
    # Its length is known now: what hangs is the read, and not the open before it.
    return ["cat", shown], "GET", f"/runs/{run}/downloads/files/{file}", DATA, {"run": run}


def _archive(server: StandIn, mount: Path, place: Path) -> tuple[Any, ...]:
    run, shown = _run(server, mount, "SUCCESS")
    return (
        ["cat", shown / "archive.tar.gz"],
        "GET",
        f"/runs/{run}/downloads/archive",
        None,
        {"run": run},
    )


def _start(server: StandIn, mount: Path, place: Path) -> tuple[Any, ...]:
    group = server.routes.add_group()
    upload = server.routes.add_upload(b"Ada\n", "names.txt", group)
    document = json.dumps([{"name": "names", "value": upload["name"]}])
    shown = mount / "groups" / group / "runs" / "new"
    command = [sys.executable, "-c", _WRITE, shown, document]
    return command, "POST", f"/groups/{group}/runs", b"", {"group": group}


def _cancel(server: StandIn, mount: Path, place: Path) -> tuple[Any, ...]:
    run, shown = _run(server, mount, "RUNNING")
    command = [sys.executable, "-c", _WRITE, shown / "cancel", "enough\n"]
    return command, "PUT", f"/runs/{run}", b"", {"run": run}


def _delete(server: StandIn, mount: Path, place: Path) -> tuple[Any, ...]:
    run, shown = _run(server, mount, "SUCCESS")
    return ["rm", "-r", shown], "DELETE", f"/runs/{run}", b"", {"run": run}


def _upload(server: StandIn, mount: Path, place: Path) -> tuple[Any, ...]:
    group = server.routes.add_group()
    source = place / f"{group}.bin"
    source.write_bytes(DATA)
    command = ["cp", source, mount / "groups" / group / "uploads" / "data.bin"]
    return command, "POST", f"/uploads/{group}/files", b"", {"group": group}


def _rename(server: StandIn, mount: Path, place: Path) -> tuple[Any, ...]:
    group = server.routes.add_group()
    server.routes.add_upload(DATA, "old.bin", group)
    uploads = mount / "groups" / group / "uploads"
    command = ["mv", uploads / "old.bin", uploads / "new.bin"]
    return command, "POST", f"/uploads/{group}/files", b"", {"group": group}


_MAKERS: dict[str, Callable[[StandIn, Path, Path], tuple[Any, ...]]] = {
    "list": _list,
    "info": _info,
    "read": _read,
    "archive": _archive,
    "start": _start,
    "cancel": _cancel,
    "delete": _delete,
    "upload": _upload,
    "rename": _rename,
}
