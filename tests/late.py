"""A service that answers late: a proxy that passes each request on after a random time."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time

from flowfs.embedded import EmbeddedService

__all__ = ["Late"]


class Late:
    """A service behind a proxy that passes each request on after a random time.

    Parameters
    ----------
    service : EmbeddedService
        The service.
    delay : tuple of float
        Seconds at least and at most.

    Attributes
    ----------
    endpoint : str
        URL of the API root, through the proxy.
    token : str
        The service's.
    """

    def __init__(self, service: EmbeddedService, delay: tuple[float, float]) -> None:
        scheme, _, rest = service.endpoint.partition("://")
        host, _, path = rest.partition("/")
        name, _, port = host.partition(":")
        self.token = service.token
        self._target = (name, int(port))
        self._delay = delay
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/{path}"
        # The service answers to its own address only.
        self._host = (self.endpoint.split("/")[2].encode(), host.encode())
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Late:
        return self

    def __exit__(self, *what: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._target) as far:
            # Set when the service has spoken: what the client says next is a new request.
            begins = threading.Event()
            begins.set()
            back = threading.Thread(target=self._pump, args=(far, client, begins), daemon=True)
            back.start()
            while piece := client.recv(1 << 16):
                if begins.is_set():
                    begins.clear()
                    piece = piece.replace(b"Host: " + self._host[0], b"Host: " + self._host[1], 1)
                    time.sleep(random.uniform(*self._delay))
                far.sendall(piece)
            with contextlib.suppress(OSError):
                far.shutdown(socket.SHUT_WR)
            back.join()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, spoken: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 18):
                spoken.set()
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
