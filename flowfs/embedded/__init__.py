"""The real service, embedded: rob-flask on flowserv-core, for demo, tests and trying out.

It listens on the loopback interface only and is closed to web pages, but whoever may start
a run may run commands on this machine: flowServ puts the arguments of a run into shell
commands.

>>> from flowfs.embedded import EmbeddedService, sample
>>> with EmbeddedService.start() as service:  # doctest: +SKIP
...     print(service.endpoint, service.groups["hello"], sample("hello"))
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from flowfs.errors import DeadlineExceeded, FlowError, failure

__all__ = ["EmbeddedService", "sample"]

_WORKFLOWS = Path(__file__).parent / "workflows"
_STOP_SECONDS = 15.0


def sample(name: str) -> Path:
    """Return the example input of a workflow.

    Parameters
    ----------
    name : str
        ``"hello"`` (a text file of names) or ``"analysis"`` (a CSV of weather stations).

    Returns
    -------
    Path
        An existing file.

    Raises
    ------
    ValueError
        There is no workflow of that name.
    """
    files = {
        "hello": _WORKFLOWS / "hello" / "sample" / "names.txt",
        "analysis": _WORKFLOWS / "analysis" / "sample" / "stations.csv",
    }
    if name not in files:
        raise ValueError(f"no workflow {name!r}: there are {', '.join(files)}")
    return files[name]


class EmbeddedService:
    """A service in a process of its own; see :meth:`start`.

    As a context manager it is stopped at the end.

    Attributes
    ----------
    endpoint : str
        URL of the API root.
    token : str
        Access token of `username`.
    username : str
        The only user.
    groups : dict of str to str
        Workflow name to the id of its group.
    workflows : dict of str to str
        Workflow name to id.
    directory : Path
        The data directory, with ``service.log`` in it.
    pid : int
        The serving process, leader of its own process group.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], greeting: Mapping[str, Any], temporary: bool
    ) -> None:
        self._process = process
        self._temporary = temporary
        self.endpoint: str = greeting["endpoint"]
        self.token: str = greeting["token"]
        self.username: str = greeting["username"]
        self.groups: dict[str, str] = dict(greeting["groups"])
        self.workflows: dict[str, str] = dict(greeting["workflows"])
        self.directory: Path = Path(greeting["dir"])
        self.pid: int = greeting["pid"]

    @classmethod
    def start(
        cls,
        directory: Path | None = None,
        *,
        port: int = 0,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        max_upload: int = 1024,
    ) -> EmbeddedService:
        """Start ``python -m flowfs serve`` and wait until it answers.

        Parameters
        ----------
        directory : Path, optional
            Data directory, kept. None is a temporary one, removed by :meth:`stop`.
        port : int, default=0
            Port on the loopback interface; 0 takes a free one.
        python : str, optional
            Interpreter with rob-flask, of another environment perhaps. This flowfs is put
            on its path.
        env : mapping of str to str, optional
            Environment variables beside the present ones.
        timeout : float, default=60.0
            Seconds to wait for the answer.
        max_upload : int, default=1024
            Largest upload, in MiB.

        Returns
        -------
        EmbeddedService
            Ready for requests.

        Raises
        ------
        FlowError
            It ended instead; the error has the end of its output.
        DeadlineExceeded
            It did not answer in time.
        """
        temporary = directory is None
        place = Path(tempfile.mkdtemp(prefix="flowfs-")) if directory is None else directory
        with tempfile.TemporaryFile() as complaints:
            options = ["--json", "--end-with-stdin", "--dir", os.fspath(place)]
            options += ["--port", str(port), "--max-upload", str(max_upload)]
            process = subprocess.Popen(
                [python, "-m", "flowfs", "serve", *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=_environment(env),
                start_new_session=True,
            )
            try:
                greeting = _greeting(process, complaints, place, timeout)
            except BaseException:
                _end(process, 0)
                if temporary:
                    shutil.rmtree(place, ignore_errors=True)
                raise
        return cls(process, greeting, temporary)

    def stop(self) -> None:
        """End the service and its runs; no harm if it has ended."""
        _end(self._process, _STOP_SECONDS)
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> EmbeddedService:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<EmbeddedService {self.endpoint} pid {self.pid}>"


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    environment = dict(os.environ)
    # The other interpreter must find this flowfs, but nothing else of this environment:
    # a checkout holds flowfs alone, site-packages also this environment's flowserv.
    root = Path(__file__).parents[2]
    if root.name not in ("site-packages", "dist-packages"):
        path = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{root}{os.pathsep}{path}" if path else os.fspath(root)
    environment.update(extra or {})
    return environment


def _greeting(
    process: subprocess.Popen[bytes], complaints: IO[bytes], directory: Path, timeout: float
) -> dict[str, Any]:
    assert process.stdout is not None
    deadline = time.monotonic() + timeout
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            message = f"no answer of the embedded service within {timeout:g} s"
            raise failure(DeadlineExceeded, f"{message}{_tail(complaints, directory)}")
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            code = process.wait()
            message = f"the embedded service ended with code {code}"
            raise failure(FlowError, f"{message}{_tail(complaints, directory)}")
        line += data
    greeting: dict[str, Any] = json.loads(line)
    return greeting


def _tail(complaints: IO[bytes], directory: Path) -> str:
    complaints.seek(0)
    text = complaints.read().decode("utf-8", "replace").strip()
    if not text:
        with contextlib.suppress(OSError):
            text = (directory / "service.log").read_text("utf-8", "replace").strip()
    return f": {text[-2000:]}" if text else ""


def _end(process: subprocess.Popen[bytes], patience: float) -> None:
    """End a process: asked politely, then its whole group by force."""
    if patience and process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    if process.poll() is None:
        # Not reaped, so the id is still that of this process and its group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
