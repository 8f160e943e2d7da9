"""A large result read from front to back: ways to do it, and whether the bytes were right."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fsspec
import requests
from wire import Result, Wire

from benchmarks.case import Contender

__all__ = ["Content", "Stream", "curl", "http_filesystem", "opened", "plain", "streamed"]

#: Reads all of something and hands each piece to a function.
Stream = Callable[[Callable[[bytes], None]], None]

_PIECE = 1 << 20


@dataclass(frozen=True)
class Content:
    """What is to arrive.

    Attributes
    ----------
    size : int
        Bytes.
    part : callable
        Takes a place and a size, and returns the bytes there.
    """

    size: int
    part: Callable[[int, int], bytes]

    @classmethod
    def of(cls, server: Wire, result: Result) -> Content:
        """Return that of a result of the stand-in."""
        return cls(result.size, lambda at, size: server.expected(result, at, size))

    def check_size(self, size: int) -> None:
        """Raise unless all of it has arrived."""
        if size != self.size:
            raise ValueError(f"{size} bytes instead of {self.size}")

    def check_file(self, path: str, *, whole: bool) -> None:
        """Raise unless a local file is that: in every byte, or in size and at many places."""
        self.check_size(os.path.getsize(path))
        step = _PIECE if whole else max(self.size // 64, 1)
        with open(path, "rb") as file:
            for at in range(0, self.size, step):
                file.seek(at)
                size = min(_PIECE if whole else 4096, self.size - at)
                if file.read(size) != self.part(at, size):
                    raise ValueError(f"{path} has wrong bytes between {at} and {at + size}")


class _Tally:
    """Counts bytes."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, piece: bytes) -> None:
        self.size += len(piece)


class _Proof(_Tally):
    """Compares each byte."""

    def __init__(self, content: Content) -> None:
        super().__init__()
        self._content = content

    def take(self, piece: bytes) -> None:
        if piece != self._content.part(self.size, len(piece)):
            raise ValueError(f"wrong bytes between {self.size} and {self.size + len(piece)}")
        super().take(piece)


def streamed(name: str, stream: Stream, content: Content) -> Contender:
    """Return a contender that reads a result: first with a look at each byte, then at speed."""

    def act() -> int:
        tally = _Tally()
        stream(tally.take)
        return tally.size

    def prove() -> None:
        proof = _Proof(content)
        stream(proof.take)
        content.check_size(proof.size)

    return Contender(name, act, content.check_size, prove)


def opened(filesystem: Any, path: str, block: int) -> Stream:
    """Return a stream of a file that a file system opens, in reads of a size."""

    def stream(take: Callable[[bytes], None]) -> None:
        with filesystem.open(path, "rb") as file:
            while piece := file.read(block):
                take(piece)

    return stream


def plain(url: str) -> Stream:
    """Return the stream of a plain GET with requests."""
    session = requests.Session()
    session.trust_env = False

    def stream(take: Callable[[bytes], None]) -> None:
        headers = {"Accept-Encoding": "identity"}
        with session.get(url, stream=True, headers=headers, timeout=60) as reply:
            reply.raise_for_status()
            for piece in reply.iter_content(_PIECE):
                take(piece)

    return stream


def curl(url: str, content: Content) -> Contender:
    """Return curl, which throws away what it gets."""
    program = shutil.which("curl")
    if program is None:
        return Contender("curl", missing="curl is not installed")
    command = [program, "--silent", "--show-error", "--fail", url]

    def act() -> int:
        told = ["--output", os.devnull, "--write-out", "%{size_download}"]
        done = subprocess.run([*command, *told], capture_output=True, text=True, check=True)
        return int(done.stdout)

    def prove() -> None:
        proof = _Proof(content)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while piece := process.stdout.read(_PIECE):
                proof.take(piece)
        content.check_size(proof.size)

    return Contender("curl", act, content.check_size, prove)


def http_filesystem(**options: Any) -> Any:
    """Return fsspec's file system of URLs, which knows nothing yet.

    Raises
    ------
    ImportError
        Without aiohttp.
    """
    return fsspec.filesystem("http", skip_instance_cache=True, **options)
