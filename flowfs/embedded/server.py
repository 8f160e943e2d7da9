"""The embedded service's own process: rob-flask on flowserv-core, served by cheroot.

Everything of flowServ is configured by environment variables that it reads while it is
imported. So nothing of it is imported before :func:`serve` has set them, and a process
serves once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from flowfs.embedded.directory import DataDirectory
from flowfs.embedded.guard import Application, Guard
from flowfs.errors import AccessDenied, ConnectionFailed, FlowError, failure

HOST = "127.0.0.1"
ROOT = "/flowserv/api/v1"
USERNAME = "flow"
WORKFLOWS = ("hello", "analysis")

# The token is the user's own, on the user's own machine: ten years.
_TOKEN_SECONDS = 10 * 365 * 24 * 3600
_MIB = 1024 * 1024
_GRACE = 1.0  # seconds for answers that are under way when it ends


@dataclass(frozen=True)
class Greeting:
    """What a client needs to know about a service that is ready.

    Attributes
    ----------
    endpoint : str
        URL of the API root.
    token : str
        Access token of the user.
    username : str
        The only user.
    groups : dict of str to str
        Workflow name to the id of its group.
    workflows : dict of str to str
        Workflow name to id.
    dir : str
        The data directory.
    pid : int
        The serving process.
    """

    endpoint: str
    token: str
    username: str
    groups: dict[str, str]
    workflows: dict[str, str]
    dir: str
    pid: int


def serve(
    directory: Path | None,
    *,
    port: int,
    max_upload: int,
    ready: Callable[[Greeting, IO[str]], None],
    end_with_stdin: bool = False,
) -> None:
    """Serve until SIGINT or SIGTERM; whoever may start a run may run commands here.

    Parameters
    ----------
    directory : Path or None
        Data directory; None is a temporary one.
    port : int
        Port on the loopback interface; 0 takes a free one.
    max_upload : int
        Largest upload, in MiB.
    ready : callable
        Called with the greeting and the user's stdout once requests are answered. Nothing
        else is written to that stdout.
    end_with_stdin : bool, default=False
        End also when stdin is closed, so that the service does not outlive its parent.

    Raises
    ------
    FlowError
        Not installed, directory in use, or port taken.
    """
    wsgi = _import_cheroot()
    os.umask(0o077)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if end_with_stdin:
        threading.Thread(target=_set_at_end_of_stdin, args=(stop,), daemon=True).start()
    with DataDirectory(directory) as data, _chatter_to(data.log) as stdout:
        server = wsgi.Server((HOST, port), None, numthreads=24, request_queue_size=128)
        server.timeout = 300
        try:
            server.prepare()
        except OSError as error:
            # cheroot's error has the socket's in its words only.
            said = re.search(r"\[Errno (\d+)\]", str(error))
            code = int(said[1]) if said else error.errno
            why = os.strerror(code) if code else str(error)
            message = f"cannot listen on port {port}: {why}"
            raise failure(ConnectionFailed, message, errno=code) from None
        port = server.bind_addr[1]
        service = None
        try:
            _set_environment(data, port=port, max_upload=max_upload)
            service, application = _load()
            _keep_temporary_files_in(data.temporary)
            greeting = _set_up(service, data, f"http://{HOST}:{port}{ROOT}")
            server.wsgi_app = Guard(application, port=port, root=ROOT)
            threading.Thread(target=server.serve, daemon=True).start()
            _await_answer(greeting)
            ready(greeting, stdout)
            stop.wait()
        finally:
            # In this order, so that nobody starts another run.
            _stop(server)
            if service is not None:
                _end_runs(service)


def _stop(server: Any) -> None:
    """End a server; who is still being answered after a moment is cut off.

    cheroot by itself waits, for ever, for clients that have stopped to read what they asked for.
    """
    workers = list(server.requests._threads)

    def cut_off() -> None:
        for worker in workers:
            with contextlib.suppress(AttributeError, OSError):  # it has none, or no longer
                worker.conn.socket.shutdown(socket.SHUT_RDWR)

    late = threading.Timer(_GRACE, cut_off)
    late.start()
    server.stop()
    late.cancel()


def _import_cheroot() -> Any:
    try:
        import robflask  # noqa: F401  does not read the environment yet
        from cheroot import wsgi
    except ImportError as error:
        message = f"the embedded service is not installed ({error}): pip install 'flowfs[server]'"
        raise failure(FlowError, message) from None
    return wsgi


def _set_at_end_of_stdin(stop: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    stop.set()


@contextlib.contextmanager
def _chatter_to(log: Path) -> Iterator[IO[str]]:
    """Send what the process and its children write to the log; yield the real stdout."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    try:
        with open(kept[0], "w", encoding="utf-8", closefd=False) as stdout:
            yield stdout
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for number in kept:
            os.close(number)


def _set_environment(data: DataDirectory, *, port: int, max_upload: int) -> None:
    # The user's own settings are for clients. A token among them would log everybody in:
    # the service takes it for requests that bring none.
    for name in list(os.environ):
        if name.startswith(("FLOWSERV_", "ROB_")):
            del os.environ[name]
    os.environ.update(
        FLOWSERV_API_DIR=str(data.api),
        FLOWSERV_API_NAME="flowfs embedded service",
        FLOWSERV_API_PROTOCOL="http",
        FLOWSERV_API_HOST=HOST,
        FLOWSERV_API_PORT=str(port),
        FLOWSERV_API_PATH=ROOT,
        FLOWSERV_AUTH_TTL=str(_TOKEN_SECONDS),
        FLOWSERV_BACKEND_MODULE="flowfs.embedded.engine",
        FLOWSERV_BACKEND_CLASS="RunEngine",
        # Threads share the file; a writer waits for another instead of giving up.
        FLOWSERV_DATABASE=f"sqlite:///{data.database}?check_same_thread=False&timeout=60",
        ROB_WEBAPI_CONTENTLENGTH=str(max_upload * _MIB),
        ROB_WEBAPI_LOG=str(data.path / "errors"),
        # The workflows' steps name their interpreter so.
        FLOWFS_PYTHON=sys.executable,
        # GitPython, which flowserv imports, must not insist on git.
        GIT_PYTHON_REFRESH="quiet",
    )
    data.api.mkdir(mode=0o700, exist_ok=True)


def _load() -> tuple[Any, Application]:
    """Import the service, which reads the environment; return its API factory and WSGI app."""
    from robflask.api import create_app
    from robflask.service import service

    application = create_app()
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    return service, application


def _keep_temporary_files_in(directory: Path) -> None:
    """Have flowServ's leftovers where they go with the data directory, or at the next start.

    To be called after the engine is there: its fork server listens on a socket among the
    temporary files, and a socket's path must be short.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    tempfile.tempdir = str(directory)


def _set_up(service: Any, data: DataDirectory, endpoint: str) -> Greeting:
    """Make database, user, workflows and groups as far as they are missing."""
    if not data.is_set_up:
        from flowserv.model.database import DB

        DB(connect_url=os.environ["FLOWSERV_DATABASE"]).init()
        # With a write-ahead log readers and the writer do not wait for each other. The
        # setting stays with the file.
        with contextlib.closing(sqlite3.connect(data.database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        password = data.make_password()
    else:
        password = data.read_password()
    user_id, token = _log_in(service, data, password)
    workflows: dict[str, str] = {}
    groups: dict[str, str] = {}
    with service(user_id=user_id) as api:
        for workflow in api.workflows().list_workflows()["workflows"]:
            workflows.setdefault(workflow["name"], workflow["id"])
    for name in WORKFLOWS:
        with service(user_id=user_id) as api:
            if name not in workflows:
                source = Path(__file__).parent / "workflows" / name
                workflows[name] = api.workflows().create_workflow(source=str(source))["id"]
        with service(user_id=user_id) as api:
            listing = api.groups().list_groups(workflow_id=workflows[name])["groups"]
            group = listing[0] if listing else None
            if group is None:
                group = api.groups().create_group(workflow_id=workflows[name], name=name)
            groups[name] = group["id"]
    _end_runs(service)
    return Greeting(
        endpoint=endpoint,
        token=token,
        username=USERNAME,
        groups=groups,
        workflows=workflows,
        dir=str(data.path),
        pid=os.getpid(),
    )


def _log_in(service: Any, data: DataDirectory, password: str) -> tuple[str, str]:
    from flowserv.error import ConstraintViolationError, UnknownUserError

    for _ in range(2):
        try:
            with service() as api:
                user = api.users().login_user(username=USERNAME, password=password)
            return user["id"], user["token"]
        except UnknownUserError:
            with contextlib.suppress(ConstraintViolationError), service() as api:
                api.users().register_user(username=USERNAME, password=password, verify=False)
    message = "the password in this directory is not that of its user"
    raise failure(AccessDenied, message, data.path)


def _end_runs(service: Any) -> None:
    """End what runs, and put on record as canceled what no process works at (any more)."""
    from flowserv.model.base import RunObject
    from flowserv.model.workflow.state import ACTIVE_STATES

    engine = service._engine
    engine.stop()
    with engine.recording, service() as api:
        manager = api.runs().run_manager
        query = manager.session.query(RunObject).filter(RunObject.state_type.in_(ACTIVE_STATES))
        for run in query.all():
            state = run.state().cancel(messages=["the embedded service was stopped"])
            manager.update_run(run_id=run.run_id, state=state)


def _await_answer(greeting: Greeting) -> None:
    import requests

    with requests.Session() as session:
        session.trust_env = False
        reply = session.get(
            f"{greeting.endpoint}/", headers={"api_key": greeting.token}, timeout=30
        )
    if reply.status_code != 200 or reply.json().get("username") != USERNAME:
        raise failure(FlowError, "the embedded service does not answer", greeting.endpoint)
