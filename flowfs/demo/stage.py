"""What the demonstration runs on: a service, a mount of it, a directory; and their end."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from flowfs.embedded import EmbeddedService, sample
from flowfs.errors import DeadlineExceeded, FlowError, describe, failure
from flowfs.fuse import registry, unmount
from flowfs.fuse.binding import load
from flowfs.fuse.table import mounts

__all__ = ["Stage", "is_mounted", "why_no_mount"]

_START_SECONDS = 60.0
_END_SECONDS = 15.0


def why_no_mount() -> str | None:
    """Return what is missing for mounting; None if nothing is."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
        load()
    except OSError as error:
        return describe(error)
    if os.getuid() and not (shutil.which("fusermount3") or shutil.which("fusermount")):
        return "there is no fusermount (Debian and Ubuntu: apt install fuse3)"
    return None


def is_mounted(directory: Path) -> bool:
    """Tell whether something is mounted there, a mount whose process has died included."""
    return any(mount.directory == os.fspath(directory) for mount in mounts())


class Stage:
    """A temporary directory with sample files, a service of its own, and perhaps a mount.

    Leaving it as a context ends and removes all of that, whatever happened, unless
    :meth:`keep` was called.

    Parameters
    ----------
    keep : bool
        Whether service and mount are to be able to outlive this process.

    Attributes
    ----------
    directory : Path
        Holds the samples ``stations.csv`` and ``names.txt``, and ``mnt``.
    mountpoint : Path
        Where the service is mounted, if it is.
    service : EmbeddedService
        Running.
    """

    service: EmbeddedService

    def __init__(self, *, keep: bool) -> None:
        self._may_outlive = keep
        self._kept = False
        self._mount: registry.Record | None = None
        self.directory: Path = Path(tempfile.mkdtemp(prefix="flowfs-demo-")).resolve()
        self.mountpoint: Path = self.directory / "mnt"

    def __enter__(self) -> Stage:
        try:
            for name in ("analysis", "hello"):
                shutil.copy(sample(name), self.directory)
            self.service = self._serve()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._kept:
            return
        with _undisturbed():
            try:
                self.unmount()
            finally:
                self.service.stop()
                self._remove()

    @property
    def environment(self) -> dict[str, str]:
        """What a shell needs to reach the service: address, token, and ``flowfs`` itself.

        The cache is in the directory of the demo, and goes with it.
        """
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FLOWSERV_")}
        path = os.pathsep.join([os.path.dirname(sys.executable), kept.get("PATH", os.defpath)])
        cache = os.fspath(self.directory / "cache")
        return {**kept, "PATH": path, "XDG_CACHE_HOME": cache, **self.settings}

    @property
    def settings(self) -> dict[str, str]:
        """The variables that name the service and hold its token."""
        address = urlsplit(self.service.endpoint)
        return {
            "FLOWSERV_API_PROTOCOL": address.scheme,
            "FLOWSERV_API_HOST": str(address.hostname),
            "FLOWSERV_API_PORT": str(address.port),
            "FLOWSERV_API_PATH": address.path,
            "FLOWSERV_ACCESS_TOKEN": self.service.token,
        }

    # -- service -----------------------------------------------------------

    def _serve(self) -> EmbeddedService:
        directory = self.directory / "service"
        if not self._may_outlive:
            return EmbeddedService.start(directory)
        # One that is started as usual ends with the process that started it.
        start_log = self.directory / "service-start.log"
        with open(start_log, "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "flowfs", "serve", "--json", "--dir", os.fspath(directory)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                said = start_log.read_text("utf-8", "replace").strip()
                raise failure(FlowError, f"the embedded service has not started: {said}")
        except BaseException:
            _end(process)
            raise
        return EmbeddedService(process, json.loads(line), False)

    # -- mount -------------------------------------------------------------

    @contextlib.contextmanager
    def mounting(self) -> Iterator[None]:
        """Take up the mount that the body makes on :attr:`mountpoint`, to be ended here.

        Raises
        ------
        FlowError
            There is none.
        """
        try:
            yield
        finally:
            # Also where the body was broken off.
            self._mount = registry.find(os.fspath(self.mountpoint))
        if self._mount is None or not is_mounted(self.mountpoint):
            raise failure(FlowError, "nothing is mounted there", self.mountpoint)

    def await_unmounted(self) -> None:
        """Check that the mount and its process have ended, after an unmount.

        Raises
        ------
        FlowError
            They have not.
        """
        assert self._mount is not None
        if self._mount.running or is_mounted(self.mountpoint):
            message = f"the mount (pid {self._mount.pid}) has not ended"
            raise failure(DeadlineExceeded, message, self.mountpoint)

    def unmount(self) -> None:
        """Unmount, by force where it must be; no harm if nothing is mounted."""
        # One that was broken off while it was being made is found only now.
        mount = self._mount or registry.find(os.fspath(self.mountpoint))
        for lazy in (False, True):
            if is_mounted(self.mountpoint):
                with contextlib.suppress(OSError):
                    unmount(os.fspath(self.mountpoint), lazy=lazy)
        if mount is not None and mount.running:
            os.kill(mount.pid, signal.SIGTERM)
            deadline = time.monotonic() + _END_SECONDS
            while mount.running and time.monotonic() < deadline:
                time.sleep(0.02)
            if mount.running:
                os.kill(mount.pid, signal.SIGKILL)

    # -- end ---------------------------------------------------------------

    def keep(self) -> list[str]:
        """Leave service and mount running; return lines that say where, and how to end them."""
        assert self._may_outlive
        self._kept = True
        variables = self.directory / "env"
        with open(os.open(variables, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            for name, value in self.settings.items():
                file.write(f"export {name}={shlex.quote(value)}\n")
        mounted = self._mount is not None and self._mount.running
        lines = [
            "Left running:",
            f"  the service  {self.service.endpoint} (pid {self.service.pid})",
        ]
        if mounted:
            assert self._mount is not None
            lines.append(f"  the mount    {self.mountpoint} (pid {self._mount.pid})")
        lines += ["", "To use them, in a shell:", f"  source {variables}"]
        if mounted:
            lines.append(f"  cd {self.mountpoint}")
        lines += ["", "To end them:"]
        if mounted:
            lines.append(f"  flowfs umount {self.mountpoint}")
        lines += [f"  kill {self.service.pid}", f"  rm -r {self.directory}"]
        return lines

    def _remove(self) -> None:
        if not is_mounted(self.mountpoint):
            shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold off a second Ctrl-C while what the first one ended is cleared away."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process, by force where asking does not help."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
