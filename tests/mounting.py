"""Mount a service for a test: another process serves the mount, and nothing stays behind.

Whoever looks at a mount from the process that serves it waits for itself for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from support import wait_until

from flowfs.embedded import EmbeddedService
from flowfs.fuse.table import mounts

__all__ = [
    "BINDINGS",
    "Address",
    "command_environment",
    "flowfs",
    "is_mounted",
    "is_running",
    "mounted",
    "mounted_in_background",
    "mountpoint",
    "serve_mount",
]

# Every binding with every library that it works with.
BINDINGS = [("fusepy", "fuse"), ("mfusepy", "fuse"), ("mfusepy", "fuse3")]

_PATIENCE = 60  # seconds


class Address(NamedTuple):
    """A service that is none of :class:`EmbeddedService`, such as a stand-in."""

    endpoint: str
    token: str


def command_environment(service: EmbeddedService | Address | None, **more: str) -> dict[str, str]:
    """Return the environment in which flowfs finds a service and its token."""
    environment = dict(os.environ)
    if service is not None:
        scheme, _, rest = service.endpoint.partition("://")
        host, _, path = rest.partition("/")
        environment |= {
            "FLOWSERV_API_PROTOCOL": scheme,
            "FLOWSERV_API_HOST": host.partition(":")[0],
            "FLOWSERV_API_PORT": host.partition(":")[2],
            "FLOWSERV_API_PATH": f"/{path}",
            "FLOWSERV_ACCESS_TOKEN": service.token,
        }
    return environment | more


def flowfs(
    *arguments: str | Path, environment: dict[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run ``flowfs`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "flowfs", *map(os.fspath, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def inside(cwd: str | Path) -> list[str]:
    """Return what to put before a command so that it runs in a directory; see :func:`sh`."""
    return ["sh", "-c", 'cd "$0" && exec "$@"', os.fspath(cwd)]


def sh(
    script: str, cwd: str | Path = "/", *, timeout: float = 240, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a script of bash in a directory, to its end.

    It goes to the directory by itself. A child that subprocess sends there holds up this
    process meanwhile, in which the service may be that the mount asks on its way.
    """
    return subprocess.run(
        [*inside(cwd), "bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=timeout,
        **{"env": {**os.environ, "LC_ALL": "C"}, **options},
    )


def out(script: str, cwd: str | Path) -> str:
    """Return what a script prints; it must succeed."""
    done = sh(script, cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(script: str, cwd: str | Path, *arguments: str) -> str:
    """Run Python in a directory; return what it prints, or the name of the errno it fails with."""
    wrapped = (
        "import errno, os, sys\n"
        "try:\n"
        + "".join(f"    {line}\n" for line in script.strip().splitlines())
        + "except OSError as error:\n"
        "    print(errno.errorcode[error.errno])\n"
    )
    done = subprocess.run(
        [*inside(cwd), sys.executable, "-c", wrapped, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextlib.contextmanager
def mounted(
    service: EmbeddedService,
    path: str = "",
    *,
    library: str | None = None,
    log: Path | None = None,
    extra: dict[str, str] | None = None,
    **options: str | float | bool,
) -> Iterator[Path]:
    """Mount a service, or a part of its tree, and yield the directory.

    Parameters
    ----------
    service : EmbeddedService
        Which; its token goes by the environment.
    path : str
        What of its tree.
    library : str, optional
        ``"fuse"`` or ``"fuse3"``: the library that mfusepy loads.
    log : Path, optional
        Where what the process says is written to.
    extra : dict, optional
        Further environment variables of the process.
    **options
        Of ``flowfs mount``: ``read_only=True`` is ``--read-only``, ``ttl=0`` is ``--ttl 0``.
    """
    with tempfile.TemporaryDirectory(prefix="flowfs-mount-") as place:
        directory = Path(place, "mnt")
        directory.mkdir()
        said = log or Path(place, "log")
        # What one test has read, no other finds; of those that share a mount it is not the
        # fixture of each test that says where the cache is.
        extra = {"XDG_CACHE_HOME": os.fspath(Path(place, "cache")), **(extra or {})}
        with serve_mount(service, directory, path, said, library, extra, **options) as process:
            wait_until(
                lambda: _answers(process, directory, said), _PATIENCE, f"the mount on {directory}"
            )
            yield directory


@contextlib.contextmanager
def serve_mount(
    service: EmbeddedService,
    directory: Path,
    path: str,
    log: Path,
    library: str | None = None,
    extra: dict[str, str] | None = None,
    **options: str | float | bool,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``flowfs mount -f`` and yield its process; it and the mount are gone afterwards."""
    given = []
    for name, value in options.items():
        option = "-o" if name == "o" else "--" + name.replace("_", "-")
        given += [option] if value is True else [] if value is False else [option, str(value)]
    url = f"flow+{service.endpoint}/{path}"
    environment = command_environment(service, **(extra or {}))
    if library is not None:
        environment["FUSE_LIBRARY_NAME"] = library
    with open(log, "ab") as said:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "flowfs",
                "mount",
                "--foreground",
                *given,
                url,
                os.fspath(directory),
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        yield process
    finally:
        _end(process, directory)


@contextlib.contextmanager
def mounted_in_background(
    service: EmbeddedService | Address,
    directory: Path,
    *options: str,
    library: str | None = None,
    **extra: str,
) -> Iterator[dict[str, Any]]:
    """Run ``flowfs mount``, which must succeed, and yield what it says with ``--json``.

    Parameters
    ----------
    service : EmbeddedService or Address
        Which.
    directory : Path
        Where.
    *options
        Of the command.
    library : str, optional
        As in :func:`mounted`.
    **extra
        Further environment variables.
    """
    environment = command_environment(service, **extra)
    if library is not None:
        environment["FUSE_LIBRARY_NAME"] = library
    done = flowfs("mount", "--json", *options, directory, environment=environment)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    try:
        yield {**told, "stderr": done.stderr}
    finally:
        if is_running(told["pid"]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(told["pid"], signal.SIGCONT)
                os.kill(told["pid"], signal.SIGTERM)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not is_running(told["pid"]), 10, "the end of the mount")
        if is_running(told["pid"]):
            os.kill(told["pid"], signal.SIGKILL)
        if is_mounted(directory):
            subprocess.run(["umount", "-l", directory], capture_output=True, timeout=_PATIENCE)


@contextlib.contextmanager
def mountpoint(place: Path) -> Iterator[Path]:
    """Make a directory to mount on, of which nothing is left that should not have been mounted."""
    directory = place / "mnt"
    directory.mkdir()
    try:
        yield directory
    finally:
        if is_mounted(directory):
            # Without that, whoever clears the directories of tests away would go through it.
            flowfs("umount", "--lazy", directory)


def is_running(pid: int) -> bool:
    """Tell whether a process is there, and not only waits to be asked how it ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def _answers(process: subprocess.Popen[bytes], directory: Path, log: Path) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"flowfs mount ended with {process.returncode}: {log.read_text()}")
    if not is_mounted(directory):
        return False
    # In another process, which can be given up.
    done = subprocess.run(["stat", os.fspath(directory)], capture_output=True, timeout=_PATIENCE)
    return done.returncode == 0


def is_mounted(directory: Path) -> bool:
    """Tell whether something is mounted on a directory, without looking at it."""
    return any(one.directory == os.fspath(directory) for one in mounts())


def _end(process: subprocess.Popen[bytes], directory: Path) -> None:
    for command in (["fusermount", "-u"], ["umount", "-l"]):
        if is_mounted(directory):
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run([*command, directory], capture_output=True, timeout=_PATIENCE)
    if process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
    if process.poll() is None:
        process.kill()
        process.wait()
