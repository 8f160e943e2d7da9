"""The process that serves a mount in the background; :mod:`flowfs.fuse.background` starts it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
from dataclasses import asdict
from typing import Any

from fsspec.config import conf, set_conf_env

from flowfs.errors import describe
from flowfs.fuse.background import tell_error
from flowfs.fuse.ending import Ending
from flowfs.fuse.process import Ready, serve
from flowfs.fuse.settings import Settings
from flowfs.tokens.environment import adopt

__all__ = ["main"]

logger: logging.Logger = logging.getLogger("flowfs.mount")


def main() -> None:
    """Read from stdin what is to be mounted, and serve it; stdin is told how that goes."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as name:
        name.write("flowfs")  # else this is one of many called python
    settings = Settings.load(sys.stdin.buffer.readline())
    told = json.loads(sys.stdin.buffer.readline())
    parent = told["parent"]
    adopt(told["environment"])
    set_conf_env(conf, told["environment"])  # as fsspec would have read it
    channel = socket.socket(fileno=os.dup(0))
    _forget_streams(0)
    owner = [] if parent is None else _owner(channel, parent)
    with Ending() as ending:

        def tell(document: dict[str, Any]) -> None:
            try:
                channel.sendall(json.dumps(document).encode() + b"\n")
            except OSError:
                ending.request()  # who wanted it is gone

        def ready(mount: Ready) -> None:
            _forget_streams(1, 2)
            tell({"ready": asdict(mount)})
            if owner:
                threading.Thread(
                    target=_follow, args=(owner, ending), name="flowfs-owner", daemon=True
                ).start()
            else:
                channel.close()

        try:
            serve(
                settings,
                ready=ready,
                begin=lambda timeout: tell({"timeout": timeout}),
                ending=ending,
            )
        except Exception as error:
            logger.error("%s", describe(error))
            tell({"error": tell_error(error)})
            sys.exit(1)


def _forget_streams(*numbers: int) -> None:
    """Let go of what was inherited: who reads it would wait for this process to end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in numbers:
        os.dup2(nothing, number)
    os.close(nothing)


def _owner(channel: socket.socket, parent: int) -> list[Any]:
    """Return what can be read once the process that wanted the mount has ended.

    To be called while it still waits: later, its number may be another's.
    """
    watched: list[Any] = [channel]
    # A process that it forked would keep the channel open.
    with contextlib.suppress(AttributeError):
        try:
            watched.append(os.pidfd_open(parent))
        except ProcessLookupError:
            sys.exit(1)  # it did not wait
        except OSError:
            pass  # a kernel without
    return watched


def _follow(owner: list[Any], ending: Ending) -> None:
    """End when the process that wanted the mount does, or closes the channel."""
    select.select(owner, [], [])  # nothing is ever sent
    ending.request(signal.SIGTERM)
