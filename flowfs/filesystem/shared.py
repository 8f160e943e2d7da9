"""What file systems of one service and user share: connections, and what is known.

fsspec makes an instance for each thread; connections and caches live below the instances.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass

from flowfs.catalog import Catalog
from flowfs.content import Content, Room
from flowfs.filesystem.entries import Entries
from flowfs.service import Credentials, FlowService, Session

__all__ = ["Options", "Shared", "shared_for"]


@dataclass(frozen=True)
class Options:
    """How to talk to a service; see :class:`~flowfs.FlowFileSystem`."""

    timeout: float
    retries: int
    ttl: float
    max_connections: int
    verify: bool | str
    cert: str | tuple[str, str] | None
    cache_dir: str | None
    cache_size: int


class Shared:
    """One service as one user sees it."""

    def __init__(self, endpoint: str, credentials: Credentials, options: Options) -> None:
        self.session = Session(
            endpoint,
            credentials,
            timeout=options.timeout,
            retries=options.retries,
            max_connections=options.max_connections,
            verify=options.verify,
            cert=options.cert,
        )
        self.service = FlowService(self.session)
        self.content = Content(Room(options.cache_dir, options.cache_size))
        # The keys of sources begin as the catalog names what has gone.
        self.catalog = Catalog(self.service, options.ttl, self.content.shelf.forget)
        self.entries = Entries(self.catalog, self.content, options.max_connections)


_lock = threading.Lock()
_all: weakref.WeakValueDictionary[tuple[object, ...], Shared] = weakref.WeakValueDictionary()


def shared_for(endpoint: str, credentials: Credentials, options: Options) -> Shared:
    """Return what instances with these options share; made when first asked for."""
    # The process is part of the key: a fork inherits neither threads nor usable sockets.
    key = (os.getpid(), endpoint, credentials.token, options)
    with _lock:
        shared = _all.get(key)
        if shared is None:
            shared = _all[key] = Shared(endpoint, credentials, options)
        return shared
