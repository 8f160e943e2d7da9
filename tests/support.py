"""What several test modules need: waiting, and the service without flowfs in between."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import requests

from flowfs.embedded import EmbeddedService

T = TypeVar("T")

# Seconds that anything is waited for at least before it is taken never to come: a machine that
# has much else to do may stand still for a while. Who gets what it waits for loses no time.
PATIENCE = 60.0

ENDED = ("SUCCESS", "ERROR", "CANCELED")


def wait_until(condition: Callable[[], T | None], timeout: float, message: str) -> T:
    """Return the condition's first true value.

    Parameters
    ----------
    condition : callable
        Asked again and again; whatever it raises is not caught.
    timeout : float
        Seconds; anything is given :data:`PATIENCE` at least.
    message : str
        What was waited for, for the failure.

    Returns
    -------
    T
        What the condition returned at last.

    Raises
    ------
    AssertionError
        It was not true in time.
    """
    given = max(timeout, PATIENCE)
    deadline = time.monotonic() + given
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {given:g} s: {message}")
        time.sleep(0.02)


@contextlib.contextmanager
def ctrl_c(condition: Callable[[], Any]) -> Iterator[None]:
    """Send the main thread a Ctrl-C within the ``with`` block, once something is so."""
    main = threading.get_ident()

    def press() -> None:
        with contextlib.suppress(AssertionError):
            wait_until(condition, PATIENCE, "what is to be interrupted")
        signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    pressing = threading.Thread(target=press)
    try:
        pressing.start()
        yield
    finally:
        pressing.join()
        signal.signal(signal.SIGINT, before)


def uncovered(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment whose processes leave no figures of coverage.

    Another user could not write them where they belong, and would complain.
    """
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}


def lasting_port() -> int:
    """Return a free port of the loopback interface that the system gives to nobody by itself.

    Where a server is to come back, one that the system has chosen may be another's by then.
    """
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    while True:
        port = random.SystemRandom().randrange(10_000, 60_000)
        if int(ephemeral[0]) <= port <= int(ephemeral[1]):
            continue
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Rest:
    """The service's REST interface as plain requests, to check flowfs against.

    Parameters
    ----------
    service : EmbeddedService
        The service; every request carries its token.
    """

    def __init__(self, service: EmbeddedService) -> None:
        self.endpoint = service.endpoint
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["api_key"] = service.token

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request to a path below the API root."""
        return self.session.request(method, f"{self.endpoint}/{path}", **{"timeout": 30, **options})

    def get(self, path: str) -> Any:
        """Return the JSON at a path; other replies than success raise."""
        reply = self.request("GET", path)
        reply.raise_for_status()
        return reply.json()

    def upload(self, group: str, source: Path) -> str:
        """Upload a file and return its id."""
        with open(source, "rb") as file:
            reply = self.request("POST", f"uploads/{group}/files", files={"file": file})
        reply.raise_for_status()
        return str(reply.json()["id"])

    def start(self, group: str, arguments: Mapping[str, Any]) -> str:
        """Start a run and return its id; a value that is a dict is a file's ``fileId`` etc."""
        listed = [
            {"name": name, "value": {"type": "$file", "value": value}}
            if isinstance(value, dict)
            else {"name": name, "value": value}
            for name, value in arguments.items()
        ]
        reply = self.request("POST", f"groups/{group}/runs", json={"arguments": listed})
        assert reply.status_code == 201, reply.text
        return str(reply.json()["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """Return a run's handle."""
        handle: dict[str, Any] = self.get(f"runs/{run_id}")
        return handle

    def ended(self, run_id: str, timeout: float = 30) -> dict[str, Any]:
        """Wait for a run's end and return its handle."""
        return wait_until(
            lambda: handle if (handle := self.run(run_id))["state"] in ENDED else None,
            timeout,
            f"end of run {run_id}",
        )

    def result(self, handle: Mapping[str, Any], name: str) -> bytes:
        """Return the bytes of a run's result of that name."""
        (file_id,) = (file["id"] for file in handle["files"] if file["name"] == name)
        reply = self.request("GET", f"runs/{handle['id']}/downloads/files/{file_id}")
        reply.raise_for_status()
        return reply.content

    def close(self) -> None:
        """Close the connections."""
        self.session.close()
