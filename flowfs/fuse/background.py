"""A mount in a process of its own: started, and waited for until it answers or says why not.

Never a fork of this process: that would share its connections, and have none of its threads.
A fresh one is started, in a session of its own; options and token go to it through a socket,
and what the environment says in secret goes the same way: anybody who may look at a process can
read the environment it began with, for as long as it lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flowfs.errors
from flowfs.errors import DeadlineExceeded, FlowError, failure
from flowfs.fuse.ready import Ready
from flowfs.fuse.settings import Settings
from flowfs.fuse.table import DEAD, TYPE, mounts_at, place, states
from flowfs.fuse.unmounting import detach
from flowfs.tokens.environment import secrets_in, withheld

__all__ = ["Started", "error_told", "start", "tell_error"]

_STARTING = 30.0  # seconds for Python to start
_MARGIN = 3.0  # seconds beyond the timeout for what is no request
_ENDING = 2.0  # seconds for a process that was given up

# The new process finds modules where this one does: not by the current directory, which is
# nobody's there, nor by an environment that may name directories relative to it.
_BEGIN = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from flowfs.fuse.daemon import main; main()"
)


# Variables that name a directory or a file.
_PLACES = (
    "CURL_CA_BUNDLE",
    "FUSE_LIBRARY_PATH",
    "HOME",
    "REQUESTS_CA_BUNDLE",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
)


@dataclass
class Started:
    """A mount that answers, in a process of its own.

    Attributes
    ----------
    ready : Ready
        What, where, and by which process.
    process : subprocess.Popen
        That process.
    channel : socket or None
        Of a mount that is tied to this process: it ends when this is closed.
    """

    ready: Ready
    process: subprocess.Popen[bytes]
    channel: socket.socket | None


def start(settings: Settings, *, tied: bool = False) -> Started:
    """Start a process that mounts and serves; return once the mount answers.

    Parameters
    ----------
    settings : Settings
        What, where and how.
    tied : bool
        Whether the mount is to end with this process.

    Returns
    -------
    Started

    Raises
    ------
    FlowError
        As that process told, or DeadlineExceeded where it told nothing: at the latest some
        seconds after the timeout. Nothing is mounted then.
    """
    ours, theirs = socket.socketpair()
    with theirs, open(os.memfd_create("said"), "w+b") as said:
        process = subprocess.Popen(
            # The last ones are for people who look at the list of processes.
            [sys.executable, "-I", "-c", _BEGIN, "flowfs", "mount", settings.directory],
            cwd="/",
            env=_environment(),
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        theirs.close()
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # Who reads none of it is gone, which shows below.
                ours.sendall(_line([os.path.abspath(entry) for entry in sys.path]))
                ours.sendall(settings.dump())
                told = {"parent": os.getpid() if tied else None, "environment": _secrets()}
                ours.sendall(_line(told))
            ready = _await(ours, process, settings, said)
        except BaseException:
            ours.close()
            _give_up(process, settings.directory)
            raise
    if tied:
        return Started(ready, process, ours)
    ours.close()
    return Started(ready, process, None)


def _secrets() -> dict[str, str]:
    return {**withheld(), **secrets_in(os.environ)}


def _environment() -> dict[str, str]:
    """Return the environment of the process that serves: nothing secret, nothing relative."""
    secret = secrets_in(os.environ)
    plain = {name: value for name, value in os.environ.items() if name not in secret}
    return plain | _from_here()


def _from_here() -> dict[str, str]:
    """Return what of the environment names places relative to the current directory, absolute."""
    return {
        name: os.path.abspath(os.environ[name])
        for name in _PLACES
        if os.environ.get(name) and not os.path.isabs(os.environ[name])
    }


def _line(document: Any) -> bytes:
    return json.dumps(document).encode() + b"\n"


def _await(
    channel: socket.socket, process: subprocess.Popen[bytes], settings: Settings, said: Any
) -> Ready:
    deadline = time.monotonic() + _STARTING
    allowed = _STARTING
    received = b""
    while True:
        channel.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            piece = channel.recv(1 << 16)
        except TimeoutError:
            raise failure(
                DeadlineExceeded, f"nothing is mounted after {allowed:g} s", settings.directory
            ) from None
        except ConnectionResetError:
            piece = b""
        if not piece:
            raise _unsaid(process, settings.directory, said)
        received += piece
        *lines, received = received.split(b"\n")
        for line in lines:
            told: Mapping[str, Any] = json.loads(line)
            if "error" in told:
                raise error_told(told["error"])
            if "ready" in told:
                document = told["ready"]
                return Ready(**{**document, "notes": tuple(document["notes"])})
            allowed = told["timeout"] + _MARGIN
            deadline = time.monotonic() + allowed


def _unsaid(process: subprocess.Popen[bytes], directory: str, said: Any) -> FlowError:
    """Return the error of a process that ended without a word on the channel."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_ENDING)
    said.seek(0)
    lines = said.read().decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
    return failure(
        FlowError, f"the mount's process ended with {process.returncode}: {lines[-1]}", directory
    )


def _give_up(process: subprocess.Popen[bytes], directory: str) -> None:
    process.terminate()
    try:
        process.wait(_ENDING)
        return
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING)
    # It may have come as far as mounting.
    path = place(directory)
    there = mounts_at(path)
    if there and there[-1].type == TYPE and states([path])[path] == DEAD:
        detach(path, True)


# -- errors from one process to another ------------------------------------


def tell_error(error: BaseException) -> dict[str, Any]:
    """Return what another process needs to raise an error again."""
    number = getattr(error, "errno", None)
    return {
        "kind": type(error).__name__,
        "errno": number if isinstance(number, int) else None,
        "message": getattr(error, "strerror", None) or str(error) or type(error).__name__,
        "filename": getattr(error, "filename", None),
        "status": getattr(error, "status", None),
        "words": getattr(error, "service_message", None),
    }


def error_told(told: Mapping[str, Any]) -> FlowError:
    """Return the error that another process told of, with its class and all it carried."""
    kind = getattr(flowfs.errors, str(told["kind"]), FlowError)
    if not (isinstance(kind, type) and issubclass(kind, FlowError)):
        kind = FlowError
    filename = told["filename"]
    return failure(
        kind,
        told["message"],
        None if filename is None else str(filename),
        errno=told["errno"],
        status=told["status"],
        words=told["words"],
    )
