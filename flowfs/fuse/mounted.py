"""A mount as a Python program has it: for as long as a block lasts, or the program."""

from __future__ import annotations

import atexit
import contextlib
import errno
import inspect
import os
import tempfile
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from flowfs.errors import FlowError, InvalidArguments, failure
from flowfs.filesystem import FlowFileSystem
from flowfs.fuse.background import Started, start
from flowfs.fuse.log import Log
from flowfs.fuse.settings import (
    Settings,
    bytes_of,
    group_number,
    read_options,
    umask_of,
    user_number,
)
from flowfs.fuse.table import mounts_at
from flowfs.fuse.unmounting import unmount

__all__ = ["Mounted", "mount"]

_lock = threading.Lock()
# Those that nobody holds go on, until the program ends.
_mounted: set[Mounted] = set()


class Mounted:
    """A mount of this program's, served by a process of its own. Made by :func:`mount`.

    As a context manager it gives its directory, and ends when the block does.

    Attributes
    ----------
    path : pathlib.Path
        The directory.
    url : str
        What is mounted, in full.
    pid : int
        The process that serves it.
    """

    def __init__(self, started: Started, own: Path | None) -> None:
        self.path: Path = Path(started.ready.directory)
        self.url: str = started.ready.url
        self.pid: int = started.ready.pid
        self._started = started
        self._own = own
        self._owner = os.getpid()
        with _lock:
            _mounted.add(self)

    def __repr__(self) -> str:
        on = "on" if self in _mounted else "no longer on"
        return f"<{self.url} {on} {self.path}>"

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.unmount()

    def unmount(self) -> None:
        """End the mount; no harm if it has ended already.

        If it is in use, it is out of sight at once and ends with its last user, or with this
        program; that is warned of.
        """
        if os.getpid() != self._owner:  # a fork of the program
            return
        with _lock:
            if self not in _mounted:
                return
            _mounted.remove(self)
        process = self._started.process
        used = ""
        if process.poll() is None and mounts_at(str(self.path)):
            try:
                unmount(str(self.path))
            except FlowError as error:
                if error.errno != errno.EBUSY:
                    with _lock:
                        _mounted.add(self)
                    raise
                unmount(str(self.path), lazy=True)
                used = str(error.strerror).partition(": ")[0]
        if used:
            # Closed with the process, at the end of this program.
            _lingering.append(self._started)
        else:
            assert self._started.channel is not None
            self._started.channel.close()
            process.wait()
        if self._own is not None:
            with contextlib.suppress(OSError):
                self._own.rmdir()
        if used:  # last: a warning may be an error
            warnings.warn(
                f"{self.path} {used}: it is out of sight, and ends with its last user",
                stacklevel=2,
            )


_lingering: list[Started] = []


def mount(
    url: str | FlowFileSystem | None = "",
    directory: str | os.PathLike[str] | None = None,
    *,
    token: str | None = None,
    endpoint: str | None = None,
    fuse: str = "auto",
    allow_other: bool = False,
    uid: int | str | None = None,
    gid: int | str | None = None,
    umask: int | str = 0,
    cache: bool = True,
    cache_size: int | str | None = None,
    options: str | Mapping[str, str | bool] = "",
    log_file: str | os.PathLike[str] | None = None,
    debug: bool = False,
    **service: Any,
) -> Mounted:
    """Mount a service, or a part of it, for this program.

    ::

        with flowfs.mount("flow://flow.example.org") as path:
            print(sorted(path.iterdir()))

    A process of its own serves it: this one could not look at a mount of its own. The mount
    ends with the ``with`` block, by :meth:`Mounted.unmount`, or with this program, however
    that ends.

    Parameters
    ----------
    url : str or FlowFileSystem
        What: a flow URL, or the http(s) address of an API root; without it the service that
        the environment or the one login names. A file system: its service, with its options.
    directory : str or path-like, optional
        An empty directory; without it a temporary one.
    token : str, optional
        Access token; by default that of the environment or of a login. ``token_file`` and
        ``token_command`` are options of the file system.
    endpoint : str, optional
        URL of the API root.
    fuse : {"auto", "fusepy", "mfusepy"}
        The binding.
    allow_other : bool
        Whether other users of the machine may look.
    uid, gid : int or str, optional
        Whom the files belong to, by number or name.
    umask : int or str
        Permissions that nobody has: ``0o027``, or in octal ``"027"``.
    cache : bool
        Whether content stays on disk for later mounts: in `cache_dir`, an option of
        :class:`~flowfs.FlowFileSystem`, or else in ``~/.cache/flowfs``.
    cache_size : int or str, optional
        Bytes of content kept on disk, also as ``"512M"``.
    options : str or mapping
        For FUSE, as its ``-o``: ``"noatime,max_read=65536"``.
    log_file : str or path-like, optional
        Where to log to; by default syslog, if there is one.
    debug : bool
        Whether to log requests, and every error of an operation.
    **service
        Other options of :class:`~flowfs.FlowFileSystem`: ``timeout``, ``read_only``, …

    Returns
    -------
    Mounted
        Mounted already; as a context manager, its directory as a :class:`pathlib.Path`.

    Raises
    ------
    FlowError
        If it cannot be mounted, of the class and errno that say why; nothing is then.

    Notes
    -----
    Costs three requests at most.
    """
    _check_names(service)
    given = {**service, "token": token, "endpoint": endpoint}
    given["cache_size"] = bytes_of(cache_size) if isinstance(cache_size, str) else cache_size
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(url, FlowFileSystem):
        given = {**url.whole_options(), **given}
        url = ""
    if not isinstance(url or "", str):
        raise failure(InvalidArguments, f"a URL is a string, not {url!r}")
    for name in ("cache_dir", "cert", "verify"):
        if name in given:
            given[name] = _absolute(given[name])
    if isinstance(options, str):
        ours, others = read_options(options)
        if ours:
            raise failure(
                InvalidArguments,
                f"options are those of FUSE; these are arguments of their own: {', '.join(ours)}",
            )
    else:
        others = dict(options)
    own = None
    if directory is None:
        own = Path(tempfile.mkdtemp(prefix="flowfs-"))
    settings = Settings(
        directory=os.path.abspath(own or os.fspath(directory or "")),
        url=url or "",
        service=given,
        cache=cache,
        fuse=fuse,
        allow_other=allow_other,
        uid=user_number(str(uid)) if uid is not None else None,
        gid=group_number(str(gid)) if gid is not None else None,
        umask=umask_of(umask) if isinstance(umask, str) else umask,
        options=others,
        log=Log(file=os.path.abspath(os.fspath(log_file)) if log_file else "", debug=debug),
    )
    try:
        return Mounted(start(settings, tied=True), own)
    except BaseException:
        if own is not None:
            with contextlib.suppress(OSError):
                own.rmdir()
        raise


def _check_names(given: Mapping[str, Any]) -> None:
    """Refuse an option that there is not: fsspec passes over it, so `readonly` would do nothing."""
    known = inspect.signature(FlowFileSystem.__init__).parameters.values()
    names = [one.name for one in known if one.kind is one.KEYWORD_ONLY]
    names.remove("url_endpoint")
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise failure(
            InvalidArguments,
            f"no such option: {', '.join(unknown)}; the file system has {', '.join(names)}",
        )


def _absolute(value: Any) -> Any:
    """Make paths absolute: the process that serves the mount is in another directory."""
    if isinstance(value, (list, tuple)):
        return [_absolute(one) for one in value]
    return value if isinstance(value, bool) else os.path.abspath(os.fspath(value))


@atexit.register
def _unmount_all() -> None:
    with _lock:
        left = [one for one in _mounted if one._owner == os.getpid()]
    for one in left:
        with contextlib.suppress(Exception):
            one.unmount()
