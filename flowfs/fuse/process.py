"""The process that serves a mount: what is checked first, and the serving."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
import resource
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from flowfs.errors import (
    AccessDenied,
    DeadlineExceeded,
    FlowError,
    NotADirectory,
    NotFound,
    failure,
)
from flowfs.filesystem import FlowFileSystem
from flowfs.fuse import registry
from flowfs.fuse.attributes import Attributes
from flowfs.fuse.binding import Binding, load
from flowfs.fuse.callers import are_visible, is_leaving
from flowfs.fuse.ending import Ending
from flowfs.fuse.log import conceal, start_log
from flowfs.fuse.mountpoint import check_device, check_directory, claimed
from flowfs.fuse.operations import Operations
from flowfs.fuse.ready import Ready
from flowfs.fuse.settings import Settings
from flowfs.fuse.table import DEAD, mounts_at, moved, states
from flowfs.fuse.unmounting import detach
from flowfs.service import waits
from flowfs.service.endpoint import OPEN, is_open
from flowfs.tokens.environment import withhold

__all__ = ["Ready", "serve"]

logger: logging.Logger = logging.getLogger("flowfs.mount")

_SET_DUMPABLE = 4  # PR_SET_DUMPABLE of prctl(2)
_SUBTYPE = "flowfs"
_NAMES_LAST = 1.0  # seconds for which the kernel need not ask again what is where
_REFUSED = re.compile(r"permi(ssion|tted)|no write access|user_allow_other", re.I)


@dataclass(frozen=True)
class _Prepared:
    directory: str
    notes: list[str]
    binding: Binding
    root: str


def serve(
    settings: Settings,
    *,
    ready: Callable[[Ready], None] | None = None,
    begin: Callable[[float], None] | None = None,
    ending: Ending | None = None,
) -> None:
    """Mount a tree, or a part of it, and serve it until it is unmounted or a signal comes.

    By the main thread of a process that does nothing else. Costs three requests at most before
    anything is mounted: for the service's routes, for who the user is, and for the place.

    Parameters
    ----------
    settings : Settings
        What, where and how.
    ready : callable, optional
        Called once the mount answers, from another thread.
    begin : callable, optional
        Called before anything is asked, with the seconds after which it will have been given
        up if nothing answers.
    ending : Ending, optional
        By which the end is asked for; entered.

    Raises
    ------
    FlowError
        If it cannot be mounted; nothing is.
    SystemExit
        If a signal came before anything was mounted.
    """
    with contextlib.ExitStack() as stack:
        end = ending or stack.enter_context(Ending())
        withhold()
        _leave_no_core()
        start_log(settings.log)
        warnings.filterwarnings("ignore", re.escape(OPEN))  # it is noted below
        fs, path = settings.file_system()
        session = fs.catalog.service.session
        conceal(session.secrets)
        if begin is not None:
            begin(session.timeout)
        late = failure(
            DeadlineExceeded, f"no answer within {session.timeout:g} s", fs.unstrip_protocol(path)
        )
        # The session's own deadline is for each request, and has the better words.
        prepared = end.bounded(lambda: _prepare(settings, fs, path), session.timeout + 0.5, late)
        end.watch(lambda closing: session.interrupt(closing=closing), prepared.directory)
        _serve(settings, fs, prepared, end, ready)


def _leave_no_core() -> None:
    """Have the system write no memory, and no token in it, to disk where this process crashes.

    A program that takes cores does so whatever the limit is, but not of a process that is said
    not to be dumped. No other process of the same user can look into its memory either then.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)


def _prepare(settings: Settings, fs: FlowFileSystem, path: str) -> _Prepared:
    directory, notes = check_directory(settings.directory)
    check_device()
    binding = load(settings.fuse)
    if is_open(fs.endpoint):
        notes.append(OPEN)
    return _Prepared(directory, notes, binding, _check_service(fs, path))


def _serve(
    settings: Settings,
    fs: FlowFileSystem,
    prepared: _Prepared,
    ending: Ending,
    ready: Callable[[Ready], None] | None,
) -> None:
    binding, directory = prepared.binding, prepared.directory
    pid = os.getpid()
    url = fs.unstrip_protocol(prepared.root)
    told = Ready(url, directory, pid, settings.log.target, tuple(prepared.notes))

    numbers: list[int] = []
    claim = contextlib.ExitStack()

    def began() -> None:
        claim.close()
        said.pass_on()
        ending.began(binding.leaver())
        if are_visible():
            waits.serve(binding.caller, is_leaving)
        started = registry.started_at(pid) or 0
        numbers.extend(one.number for one in mounts_at(directory)[-1:])
        registry.remember(
            registry.Record(
                directory, url, pid, started, time.time(), settings.log.target, *numbers
            )
        )
        for note in prepared.notes:
            logger.info("%s", note)
        logger.info("mounted %s on %s", url, directory)
        if ready is not None:
            ready(told)

    attributes = _attributes(settings, fs)
    operations = Operations(fs, prepared.root, binding.caller, attributes, began, ending.served)
    fs.entries.status.versions.update(binding.versions())
    try:
        with _Said() as said, claim:
            claim.enter_context(claimed(directory))
            try:
                binding.serve(operations, directory, _options(settings, fs, url))
            except FlowError as error:
                if not said.text:
                    raise
                kind = AccessDenied if _REFUSED.search(said.text) else FlowError
                raise failure(kind, f"cannot mount there: {said.text}", error.filename) from None
    finally:
        waits.serve(None, is_leaving)
        # libfuse unmounts by the name that the directory had, and it may have been moved.
        for left in filter(None, map(moved, numbers)):
            if states([left])[left] == DEAD:  # else another has the number by now
                detach(left, True)
        registry.forget(pid)
    logger.info("no longer mounted on %s", directory)


def _attributes(settings: Settings, fs: FlowFileSystem) -> Attributes:
    given: dict[str, Any] = {}
    if settings.uid is not None:
        given["uid"] = settings.uid
    if settings.gid is not None:
        given["gid"] = settings.gid
    if settings.umask:
        given["umask"] = settings.umask
    return Attributes(fs.read_only, time.time_ns(), **given)


def _options(settings: Settings, fs: FlowFileSystem, url: str) -> dict[str, str | bool]:
    chosen: dict[str, str | bool] = {
        "fsname": _escaped(settings.source or url),
        "subtype": _SUBTYPE,
        "use_ino": True,  # or hard links would not be seen to be one file
        "hard_remove": True,  # or removing an open file would ask for a rename
        # A size that is not known yet must not be remembered. Names may be: what has gone
        # is noticed when its attributes are asked for, which is always.
        "attr_timeout": "0",
        "entry_timeout": str(_NAMES_LAST),
        "negative_timeout": "0",
        "ro": fs.read_only,
    }
    if settings.allow_other:
        chosen["allow_other"] = True
    chosen |= settings.options
    if chosen.get("allow_other") or chosen.get("allow_root"):
        # Without that, others could start and delete runs in the owner's name.
        chosen["default_permissions"] = True
    return chosen


def _check_service(fs: FlowFileSystem, path: str) -> str:
    """Return the path of what is to be mounted; it, the service and the token are good."""
    service = fs.catalog.service
    service.descriptor  # noqa: B018 - asks the service for it
    try:
        service.users.whoami()
    except NotFound:
        pass  # a service that cannot tell
    except FlowError as error:
        error.filename = fs.endpoint
        raise
    try:
        node = fs.entries.follow(fs.entries.resolve(path))
        entry = fs.entries.entry(node, ask=False)
        if entry["type"] != "directory":
            raise failure(NotADirectory, "is a file", path)
    except FlowError as error:
        error.filename = fs.unstrip_protocol(path)
        raise
    return node.path


def _escaped(value: str) -> str:
    return re.sub(r"([\\,])", r"\\\1", value)


class _Said:
    """Keeps what is written to stderr until it is known whether the mount comes about.

    libfuse says there why it cannot mount, and nowhere else.
    """

    def __enter__(self) -> _Said:
        sys.stderr.flush()
        self._memory = os.memfd_create("said")
        self._kept: int | None = os.dup(2)
        os.dup2(self._memory, 2)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._release()
        os.close(self._memory)

    @property
    def text(self) -> str:
        """What has been kept; nothing once it was passed on."""
        if self._kept is None:
            return ""
        return " ".join(self._said().decode("utf-8", "replace").split())

    def pass_on(self) -> None:
        """Have stderr go where it went, and what came meanwhile too."""
        self._release()
        if said := self._said():
            os.write(2, said)

    def _said(self) -> bytes:
        return os.pread(self._memory, 1 << 16, 0)

    def _release(self) -> None:
        if self._kept is not None:
            sys.stderr.flush()
            os.dup2(self._kept, 2)
            os.close(self._kept)
            self._kept = None
