"""What file systems of one service and user share: connections, and what is known.

fsspec makes an instance for each thread; connections and caches live below the instances.
"""

from __future__ import annotations

import atexit
import errno
import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from flowfs.catalog import Catalog
from flowfs.content import Content, Room
from flowfs.disk import Disk
from flowfs.errors import FlowError, describe
from flowfs.filesystem.entries import Entries
from flowfs.service import Credentials, FlowService, Session
from flowfs.service.leftovers import clear_up, leave

__all__ = ["Options", "Shared", "shared_for"]

logger: logging.Logger = logging.getLogger("flowfs.disk")

# What may be another time: a disk that is full, or can only be read, and too few descriptors.
_AT_THE_MOMENT = {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO}


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
    archives: bool


class Shared:
    """One service as one user sees it."""

    def __init__(self, endpoint: str, credentials: Credentials, options: Options) -> None:
        self.session: Session = Session(
            endpoint,
            credentials,
            timeout=options.timeout,
            retries=options.retries,
            max_connections=options.max_connections,
            verify=options.verify,
            cert=options.cert,
        )
        self.service: FlowService = FlowService(self.session)
        room, disk = _kept(options, functools.partial(_whose, self.service))
        if disk is not None:
            # What it has learned last is written when nobody needs it any more.
            weakref.finalize(self, leave, disk.close).atexit = False
        self.content: Content = Content(room, disk)
        self.content.packs.on = options.archives
        # The keys of sources begin as the catalog names what has gone.
        self.catalog: Catalog = Catalog(self.service, options.ttl, self.content.gone, disk)
        self.entries: Entries = Entries(self.catalog, self.content, options.max_connections)


def _kept(
    options: Options, whose: Callable[[bool], tuple[str, ...] | None]
) -> tuple[Room, Disk | None]:
    """Return where bytes are kept.

    Where that is not possible at the moment, nothing stays on disk; a place where it never will
    be is refused.
    """
    try:
        room, disk = Room(options.cache_dir, options.cache_size), None
        if options.cache_dir is not None and options.cache_size:
            disk = Disk(options.cache_dir, options.cache_size, whose)
    except FlowError as error:
        if options.cache_dir is None or error.errno not in _AT_THE_MOMENT:
            raise
        logger.warning("nothing is kept on disk: %s", describe(error))
        return Room(None, options.cache_size), None
    return room, disk


def _whose(service: FlowService, ask: bool) -> tuple[str, ...] | None:
    """Return what tells a service and its user from all others, as far as that is known.

    Who the user is the service tells along with its routes; where it does not, it is whoever
    has this token. What belongs to one is nothing for another, whatever they may call alike.
    """
    descriptor = service.descriptor if ask else service.known_descriptor
    if descriptor is None:
        return None
    endpoint, user = service.session.endpoint, descriptor.username
    if isinstance(user, str) and user:
        return endpoint, "user", user
    return endpoint, "token", service.session.credentials.token or ""


_lock = threading.Lock()
_all: weakref.WeakValueDictionary[tuple[object, ...], Shared] = weakref.WeakValueDictionary()


def shared_for(endpoint: str, credentials: Credentials, options: Options) -> Shared:
    """Return what instances with these options share; made when first asked for."""
    clear_up()
    # The process is part of the key: a fork inherits neither threads nor usable sockets.
    key = (os.getpid(), endpoint, credentials.token, options)
    with _lock:
        shared = _all.get(key)
        if shared is None:
            shared = _all[key] = Shared(endpoint, credentials, options)
        elif shared.session.credentials.again is None and credentials.again is not None:
            # Of the same token, this one can be asked for again when it has expired.
            shared.session.credentials = credentials
        return shared


@atexit.register
def _end() -> None:
    for shared in list(_all.values()):
        if shared.content.disk is not None:
            leave(shared.content.disk.close)
    clear_up()
