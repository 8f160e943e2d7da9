"""The door of the embedded service: what a web page could abuse stays outside.

rob-flask answers any origin and lets anyone register, which on a laptop would let every web
page that is open in a browser start runs, and a run is a shell command. This WSGI layer
closes that: it refuses what only a browser or a DNS rebinding attack would send, and the
routes by which somebody without the token could get one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})

# Segments below the API root; whatever follows them is closed as well.
_CLOSED_ROUTES = (
    ("users", "register"),
    ("users", "activate"),
    ("users", "password"),
)


class Guard:
    """Pass on what a local client sends, refuse the rest with 403.

    Parameters
    ----------
    application : WSGI application
        The service.
    port : int
        The port that the service listens on; a ``Host`` must name it.
    root : str
        Path of the API root, ``/flowserv/api/v1``.
    """

    def __init__(self, application: Application, *, port: int, root: str) -> None:
        self._application = application
        self._port = port
        self._root = _segments(root)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        refusal = self._refusal(environ)
        if refusal is not None:
            body = json.dumps({"message": refusal}).encode()
            headers = [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
                # What the client still wants to send is not read.
                ("Connection", "close"),
            ]
            start_response("403 Forbidden", headers)
            return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]

        def start_without_cors(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Any:
            kept = [
                (name, value)
                for name, value in headers
                if not name.lower().startswith("access-control-")
            ]
            return start_response(status, kept, exc_info)

        return self._application(environ, start_without_cors)

    def _refusal(self, environ: Environ) -> str | None:
        if "HTTP_ORIGIN" in environ:
            return "requests of web pages are not served"
        host = str(environ.get("HTTP_HOST", ""))
        if not self._is_here(host):
            return f"this service is not {host!r}: it answers on the loopback interface only"
        if self._is_closed(str(environ.get("PATH_INFO", ""))):
            return "the embedded service has one user; registration and passwords are closed"
        return None

    def _is_here(self, host: str) -> bool:
        name, separator, port = host.strip().lower().rpartition(":")
        if not separator or port.endswith("]"):
            # Without a port the header means HTTP's own.
            name, port = host.strip().lower(), "80"
        return name in _LOOPBACK and port == str(self._port)

    def _is_closed(self, path: str) -> bool:
        segments = _segments(path)
        if segments[: len(self._root)] != self._root:
            return False
        route = segments[len(self._root) :]
        return any(route[: len(closed)] == closed for closed in _CLOSED_ROUTES)


def _segments(path: str) -> tuple[str, ...]:
    # Repeated slashes mean the same route to the service, so they do here.
    return tuple(part for part in path.split("/") if part)
