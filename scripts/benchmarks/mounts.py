"""File systems that another process serves: mounted, asked what they cost, and taken away.

Who reads is a third process: whoever looks at a mount from the process that serves it waits
for itself for ever, and who serves the files over HTTP must not be busy with reading them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowfs.fuse.table import mounts

__all__ = ["Mount", "Usage", "served"]

_PATIENCE = 60.0  # seconds for a mount to come or to go
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """What a process has used up to now.

    Attributes
    ----------
    memory, peak : int
        Bytes of memory that it holds now, and held at most.
    cpu : float
        Seconds of processor time, of its threads together.
    calls : int
        System calls of it that read. FUSE asks by one for each of its requests, so that a file
        which comes from the kernel's page cache costs hardly any, and one that does not costs
        one for each 128 KiB.
    """

    memory: int
    peak: int
    cpu: float
    calls: int


@dataclass(frozen=True)
class Mount:
    """A mount that answers.

    Attributes
    ----------
    path : Path
        Where it is.
    pid : int
        The process that serves it.
    """

    path: Path
    pid: int

    def usage(self) -> Usage:
        """Return what the process has used up to now."""
        held = {}
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                held[name] = int(value.split()[0]) * 1024
        times = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        figures = dict(
            line.split(": ") for line in Path(f"/proc/{self.pid}/io").read_text().splitlines()
        )
        cpu = (int(times[11]) + int(times[12])) / _TICK
        return Usage(held["VmRSS"], held["VmHWM"], cpu, int(figures["syscr"]))


@contextlib.contextmanager
def served(
    command: Sequence[str | os.PathLike[str]],
    environment: Mapping[str, str] | None = None,
) -> Iterator[Mount]:
    """Run a command that mounts and serves in the foreground; yield the mount once it answers.

    Parameters
    ----------
    command : sequence
        The word ``{mount}`` in it is replaced by the directory to mount on.
    environment : mapping, optional
        Variables on top of this process's own. Cache and temporary files of the process go to
        a directory of its own, which is empty, unless they say otherwise.

    Raises
    ------
    RuntimeError
        If it ends, or does not answer in time; with what it said.
    """
    place = Path(tempfile.mkdtemp(prefix="flowfs-bench-"))
    directory, cache, log = place / "mnt", place / "cache", place / "log"
    directory.mkdir()
    cache.mkdir()
    words = [os.fspath(word).replace("{mount}", os.fspath(directory)) for word in command]
    variables = {"XDG_CACHE_HOME": os.fspath(cache), **(environment or {})}
    with open(log, "wb") as said:
        process = subprocess.Popen(
            words,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        _wait_for(process, directory, log)
        yield Mount(directory, process.pid)
    finally:
        _end(process, directory)
        directory.rmdir()  # nothing is cleared away while there may be a mount in it
        shutil.rmtree(place)


def is_mounted(directory: Path) -> bool:
    """Tell whether something is mounted on a directory, without looking at it."""
    return any(one.directory == os.fspath(directory) for one in mounts())


def _wait_for(process: subprocess.Popen[bytes], directory: Path, log: Path) -> None:
    late = time.monotonic() + _PATIENCE
    while time.monotonic() < late:
        if process.poll() is not None:
            said = log.read_text(errors="replace").strip()
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {said}")
        if is_mounted(directory):
            # In another process, which can be given up.
            subprocess.run(["stat", directory], capture_output=True, timeout=_PATIENCE, check=True)
            return
        time.sleep(0.01)
    raise RuntimeError(f"{process.args!r}: no mount within {_PATIENCE:g} s")


def _end(process: subprocess.Popen[bytes], directory: Path) -> None:
    for command in (["fusermount", "-u"], ["fusermount", "-uz"], ["umount", "-l"]):
        if is_mounted(directory):
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run([*command, directory], capture_output=True, timeout=_PATIENCE)
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number is not None and process.poll() is None:
            process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return
