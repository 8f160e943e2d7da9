"""Looks at a mount as programs do, in a process of its own that can be given up.

As a program it reads one order a line (JSON) and answers each when it is done, whatever others
take meanwhile: what came of it, or the errno.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["KernelView"]


class KernelView:
    """The process, and what it is told. Thread-safe; a context manager."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[threading.Event, list[Any]]] = {}
        self._count = 0

    def __enter__(self) -> KernelView:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *error: object) -> None:
        # Who waits in the kernel cannot even be killed; it ends with the mount.
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._listener.join(10)

    def ask(self, act: str, path: str, data: bytes = b"", timeout: float = 60) -> Any:
        """Do something, and return what comes of it.

        Raises
        ------
        OSError
            With the errno that a program gets.
        TimeoutError
            Without an errno: it has not come back.
        """
        done, answer = threading.Event(), []  # type: ignore[var-annotated]
        with self._lock:
            self._count += 1
            number = self._count
            self._waiting[number] = done, answer
            order = [number, act, path, base64.b64encode(data).decode()]
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        if not done.wait(timeout):
            raise TimeoutError
        number, error, value = answer
        if error is not None:
            raise OSError(error, os.strerror(error), path)
        return base64.b64decode(value["bytes"]) if isinstance(value, dict) else value

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._lock:
                done, place = self._waiting.pop(answer[0])
            place += answer
            done.set()


# -- the process ------------------------------------------------------------------


def _read(path: str, data: bytes) -> Any:
    pieces = []
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(1 << 17):
            pieces.append(piece)
    return b"".join(pieces)


def _read_part(path: str, data: bytes) -> Any:
    offset, size = json.loads(data)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)


def _write(path: str, data: bytes) -> Any:
    # As a shell does; what a close says is part of what came of it.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(descriptor, data)
    except OSError:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise
    os.close(descriptor)


_ACTS: dict[str, Callable[[str, bytes], Any]] = {
    "list": lambda path, data: os.listdir(path),
    "size": lambda path, data: os.stat(path).st_size,
    "read": _read,
    "read part": _read_part,
    "write": _write,
    "remove": lambda path, data: shutil.rmtree(path),
}


def _main() -> None:
    out = threading.Lock()

    def do(number: int, act: str, path: str, data: str) -> None:
        try:
            value, error = _ACTS[act](path, base64.b64decode(data)), None
        except OSError as refusal:
            value, error = None, refusal.errno
        if isinstance(value, bytes):
            value = {"bytes": base64.b64encode(value).decode()}
        with out:
            sys.stdout.write(json.dumps([number, error, value]) + "\n")
            sys.stdout.flush()

    for line in sys.stdin:
        # A thread of its own for each: a mount remembers who has waited in vain.
        threading.Thread(target=do, args=json.loads(line), daemon=True).start()


if __name__ == "__main__":
    _main()
