"""What a soak looks at: runs with results of several sizes, whose bytes are known."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from pathlib import Path

from support import Rest

from flowfs.embedded import EmbeddedService

__all__ = ["Known", "Plan", "World", "new_groups", "prepare"]

_SIZES = (0, 1, 700, 65_536, 65_537, 300_000, 3 << 20, 9 << 20)  # bytes of the results read


@dataclass
class Known:
    """A result that readers compare: where it is, and a local copy of its bytes."""

    path: str
    copy: str
    digest: str
    size: int


@dataclass
class Plan:
    """How long and how hard.

    Attributes
    ----------
    seconds : float
        How long.
    mount_readers, mount_writers, readers, writers : int
        How many of each, every one a process; the latter use fsspec.
    faults : float
        The part of the requests that meet a fault.
    kill_service, kill_mount, kill_reader : float
        Seconds between two kills of each; 0: none.
    delay : tuple of float
        Seconds by which each request is late, at least and at most.
    pause : float
        Seconds that each worker rests between two steps, at most.
    timeout : float
        Seconds for a request.
    cache_size : int
        Bytes of the cache that all share: less than what is read.
    log : Path, optional
        Where what the mounts say is written to.
    mount : dict
        Further options of ``flowfs mount``.
    keep : bool
        Whether what the service, the workers and the mounts have written stays there.
    without : tuple of str
        Faults that do not come.
    after : float
        Seconds for which a fault or a kill explains errors.
    """

    seconds: float
    mount_readers: int = 4
    mount_writers: int = 2
    readers: int = 3
    writers: int = 2
    faults: float = 0.05
    kill_service: float = 60.0
    kill_mount: float = 300.0
    kill_reader: float = 20.0
    delay: tuple[float, float] = (0.0, 0.05)
    pause: float = 0.3
    timeout: float = 20.0
    cache_size: int = 16 << 20
    log: Path | None = None
    mount: dict[str, str] = field(default_factory=dict)
    keep: bool = False
    without: tuple[str, ...] = ()
    after: float = 6.0


@dataclass
class World:
    """What workers need to know; it is sent to them.

    Attributes
    ----------
    place : str
        A directory of the soak's own.
    mount : str
        Where the service is mounted.
    endpoint, token : str
        Of the service, by way of the proxy.
    reading : str
        Id of the group that is read.
    writing : list of str
        Ids of the groups that are changed, one for each writer.
    known : list of Known
        What is read.
    runs : list of str
        The runs of the group that is read.
    pause : float
        Seconds that each worker rests between two steps, at most.
    timeout : float
        Seconds for a request of those who use fsspec.
    cache_size : int
        Bytes of the cache that they share.
    """

    place: str
    mount: str
    endpoint: str
    token: str
    reading: str
    writing: list[str]
    known: list[Known]
    runs: list[str]
    pause: float
    timeout: float
    cache_size: int

    @property
    def over(self) -> Path:
        """A file that is there when the time is up."""
        return Path(self.place, "over")

    @property
    def cache(self) -> Path:
        """The cache that the mount shares with those who use fsspec."""
        return Path(self.place, "cache")

    def found(self, number: int) -> Path:
        """Where a worker writes what it has found."""
        return Path(self.place, f"found-{number}")


def prepare(service: EmbeddedService, place: Path) -> tuple[list[Known], list[str]]:
    """Make runs with results of several sizes, and keep copies of what they hold."""
    rest, group = Rest(service), service.groups["hello"]
    known, runs = [], []
    for number, size in enumerate(_SIZES):
        source = place / f"names-{number}.txt"
        generator = random.Random(number)
        with open(source, "w") as file:
            left = size
            while left > 0:
                # Lines of their own: bytes from a wrong place are seen to be wrong.
                line = f"{number}-{left}-{generator.getrandbits(256):x}"[: max(1, left - 9)]
                file.write(f"{line}\n")
                left -= len(line) + 9
        handle = rest.ended(
            rest.start(group, {"names": {"fileId": rest.upload(group, source)}}), timeout=60
        )
        assert handle["state"] == "SUCCESS", handle
        data = rest.result(handle, "results/greetings.txt")
        copy = place / f"copy-{number}"
        copy.write_bytes(data)
        path = f"groups/{group}/runs/{handle['id']}/outputs/results/greetings.txt"
        known.append(Known(path, str(copy), hashlib.sha256(data).hexdigest(), len(data)))
        runs.append(str(handle["id"]))
    rest.close()
    return known, runs


def new_groups(service: EmbeddedService, count: int) -> list[str]:
    """Make groups to be changed; return their ids."""
    rest, groups = Rest(service), []
    for number in range(count):
        reply = rest.request(
            "POST",
            f"workflows/{service.workflows['hello']}/groups",
            json={"name": f"written-{number}"},
        )
        reply.raise_for_status()
        groups.append(str(reply.json()["id"]))
    rest.close()
    return groups
