"""The tree as an fsspec filesystem."""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any

from fsspec.spec import AbstractFileSystem
from fsspec.utils import stringify_path, tokenize

from flowfs import tree
from flowfs.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    FlowError,
    InvalidArguments,
    IsADirectory,
    NotADirectory,
    NotFound,
    NotPermitted,
    ReadOnly,
    failure,
)
from flowfs.filesystem import globbing
from flowfs.filesystem.entries import Entry
from flowfs.filesystem.files import GeneratedFile, ResultFile, TextFile
from flowfs.filesystem.shared import Options, shared_for
from flowfs.filesystem.transaction import FlowTransaction
from flowfs.filesystem.urls import PROTOCOLS, Location, parse_url
from flowfs.filesystem.writing import (
    CancelFile,
    NewRunFile,
    OutgoingFile,
    StoredNameWarning,
    UploadFile,
)
from flowfs.names import from_name
from flowfs.pool import map_all
from flowfs.service import (
    STATES,
    endpoint_from_environment,
    find_credentials,
    normalize_endpoint,
)
from flowfs.service.credentials import saved_logins
from flowfs.service.endpoint import environment_names_endpoint
from flowfs.tree import Node

__all__ = ["FlowFileSystem"]


class _StripProtocol:
    """``_strip_protocol`` of the class, and of an instance, which knows its own service.

    fsspec calls it on both. An instance refuses URLs of another service: without that,
    ``fs.cat("flow://elsewhere/…")`` would silently read this one.
    """

    def __get__(
        self, instance: FlowFileSystem | None, owner: type[FlowFileSystem]
    ) -> Callable[[Any], Any]:
        def strip(path: Any) -> Any:
            if isinstance(path, list):
                return [strip(one) for one in path]
            location = parse_url(stringify_path(path))
            if instance is not None:
                instance._check_own(location)
            return location.path

        return strip


class FlowFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """A workflow service as a file system.

    ``groups/<id>/runs/`` lists runs, writing JSON arguments to ``groups/<id>/runs/new`` starts
    one, its results are below ``groups/<id>/runs/<run>/results`` and ``…/outputs``, inputs are
    below ``groups/<id>/uploads``. The whole tree stands in the documentation.

    Parameters
    ----------
    endpoint : str, optional
        http(s) URL of the service's API root. By default what ``FLOWSERV_API_PROTOCOL``,
        ``_HOST``, ``_PORT`` and ``_PATH`` name, else the one service that ``flowfs login``
        knows, else flowServ's own default, ``http://localhost:5000/flowserv/api/v1``.
    token : str, optional
        Access token. By default ``FLOWSERV_ACCESS_TOKEN``, if the environment names this
        endpoint, else what ``flowfs login`` saved for it. In no repr, error, log or
        ``to_json``; it travels in pickles, so that workers of a cluster can read.
    timeout : float
        Seconds. Bounds every call that moves no bulk data as a whole, and in bulk transfers
        any stretch without progress.
    retries : int
        How often a request that changes nothing is sent again after a passing failure.
    ttl : float
        Seconds for which active runs and listings are kept. Runs that have ended never
        change and are kept for ever.
    max_connections : int
        Connections kept, and requests at once of calls that take many paths.
    read_only : bool
        Refuse every change with :class:`~flowfs.ReadOnly`.
    verify, cert
        TLS, as in requests.
    url_endpoint : str, optional
        The service that a URL names; given by fsspec. One that differs from `endpoint` is a
        ValueError.
    **storage_options
        As for every fsspec filesystem.

    Notes
    -----
    Making one costs no request; the first use costs one for the service's routes, once per
    process and service. Instances of one service and token share connections and what is
    known. All errors are :class:`~flowfs.FlowError`, hence OSError, with errno, the full URL
    and the service's own words.
    """

    protocol = PROTOCOLS
    root_marker = ""
    transaction_type = FlowTransaction
    _strip_protocol = _StripProtocol()

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        ttl: float = 2.0,
        max_connections: int = 16,
        read_only: bool = False,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        url_endpoint: str | None = None,
        **storage_options: Any,
    ) -> None:
        super().__init__(**storage_options)
        self.endpoint = _choose_endpoint(endpoint, url_endpoint)
        self.read_only = bool(read_only)
        options = Options(
            timeout=_number("timeout", timeout, above=0),
            retries=int(_number("retries", retries)),
            ttl=_number("ttl", ttl),
            max_connections=int(_number("max_connections", max_connections, above=0)),
            verify=verify,
            cert=tuple(cert) if isinstance(cert, list) else cert,
        )
        # fsspec reads FSSPEC_FLOW_TOKEN through JSON: a token of digits arrives as a number.
        given = None if token is None else str(token)
        credentials = find_credentials(self.endpoint, given)
        self._workers = options.max_connections
        self._token_digest = tokenize("flowfs", credentials.token)
        self._options = options
        self._shared = shared_for(self.endpoint, credentials, options)
        self._entries = self._shared.entries
        self._catalog = self._shared.catalog

    # -- identity ----------------------------------------------------------

    @property
    def _fs_token(self) -> str:
        # Without the thread and process that fsspec's own token has: two instances of one
        # service are equal wherever they are, and dask's keys with them.
        token: str = tokenize(
            type(self).__name__, self.endpoint, self._options, self.read_only, self._token_digest
        )
        return token

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r})"

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Return what makes this instance again, without the token.

        Whoever makes it again finds the token as one is found where none is given.
        """
        document: dict[str, Any] = super().to_dict(include_password=include_password)
        document.pop("token", None)
        if len(document.get("args", ())) > 1:
            document["args"] = [document["args"][0]]
        return document

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        """Return the options that a URL says: the service it names, under a key of its own."""
        service = parse_url(stringify_path(path)).service
        return {} if service is None else {"url_endpoint": service}

    def _check_own(self, location: Location) -> None:
        named = location.endpoint(self.endpoint)
        if named is not None and named != self.endpoint:
            raise ValueError(
                f"the URL is of {named}, this file system of {self.endpoint}: "
                "make another FlowFileSystem for it"
            )

    def unstrip_protocol(self, name: str) -> str:
        """Return the full URL of a path: protocol, host, root and all."""
        path = self._strip_protocol(name)
        return f"flow+{self.endpoint}/{path}" if path else f"flow+{self.endpoint}"

    # -- plumbing ----------------------------------------------------------

    @contextlib.contextmanager
    def _naming(self, path: str) -> Iterator[None]:
        """Make errors name the full URL of what they are about."""
        try:
            yield
        except FlowError as error:
            error.filename = self.unstrip_protocol(path)
            raise

    def _resolve(self, path: Any) -> Node:
        return self._entries.resolve(self._strip_protocol(path))

    def _changing(self, path: str) -> None:
        if self.read_only:
            raise failure(ReadOnly, "this file system is read-only", self.unstrip_protocol(path))

    def _refuse(self, path: Any, message: str) -> None:
        path = self._strip_protocol(path)
        self._changing(path)
        raise failure(NotPermitted, message, self.unstrip_protocol(path))

    # -- looking -----------------------------------------------------------

    def ls(
        self,
        path: str = "",
        detail: bool = True,
        refresh: bool = False,
        state: str | None = None,
        **kwargs: Any,
    ) -> list[Any]:
        """List a directory, or a file itself.

        One request for a directory of runs, of uploads, of workflows, of a run or of a group;
        none while a listing is fresh. Sizes that would cost a request each are None.

        Parameters
        ----------
        path : str
            What to list.
        detail : bool
            Whether to return entries, or only names.
        refresh : bool
            Ask the service even if a listing is fresh.
        state : str, optional
            In a directory of runs: only those in this state.

        Returns
        -------
        list of dict, or list of str

        Raises
        ------
        NotFound
            If there is no such place.
        ValueError
            If there is no such state.
        FlowError
            As the service says; never a part of the list.
        """
        path = self._strip_protocol(path)
        if state is not None and state not in STATES:
            raise ValueError(f"no state {state!r}: there are {', '.join(STATES)}")
        with self._naming(path):
            listing = self._entries.children(self._resolve(path), refresh=refresh, state=state)
        return listing if detail else [entry["name"] for entry in listing]

    def info(self, path: str, **kwargs: Any) -> Entry:
        """Return the entry of a place.

        No request for a run in a fresh listing; at most one for its handle, and for a result
        one for its size, which brings a small file along. Both are asked once.

        Returns
        -------
        dict
            ``name``, ``size`` (bytes; None for an archive or a table of runs that has not been
            read), ``type``, and ``mtime`` (seconds), ``kind``, ``id``, ``state``, ``islink``,
            ``target`` where they apply.

        Raises
        ------
        NotFound
            If there is no such place.
        FlowError
            As the service says.
        """
        path = self._strip_protocol(path)
        with self._naming(path):
            return self._entries.entry(self._resolve(path))

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Tell whether a place is there.

        Raises
        ------
        FlowError
            If the service cannot be asked: only a true "not found" is False.
        """
        path = self._strip_protocol(path)
        with self._naming(path):
            try:
                return self._entries.exists(self._resolve(path))
            except (NotFound, NotADirectory):
                return False

    def isdir(self, path: str) -> bool:
        """Tell whether a place is there and a directory; raises as :meth:`exists` does."""
        return self._type_of(path) == "directory"

    def isfile(self, path: str) -> bool:
        """Tell whether a place is there and a file; raises as :meth:`exists` does."""
        return self._type_of(path) == "file"

    def _type_of(self, path: str) -> str | None:
        path = self._strip_protocol(path)
        with self._naming(path):
            try:
                node = self._resolve(path)
                if node.kind is tree.OUTPUT:
                    return str(self._entries.entry(node, ask=False)["type"])
                self._entries.check(node)
            except (NotFound, NotADirectory):
                return None
        return "directory" if node.kind.directory else "file"

    def walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: str | Callable[[OSError], Any] = "omit",
        **kwargs: Any,
    ) -> Iterator[tuple[str, Any, Any]]:
        """Yield path, directories and files of each directory, as :func:`os.walk` does.

        Views below the start are passed by. Only directories that have vanished since they
        were listed are left out; other failures are raised, whatever `on_error` says, unless
        it is a function: that is called with each.

        Parameters
        ----------
        path : str
            Where to begin.
        maxdepth : int, optional
            Levels to descend.
        topdown : bool
            Whether directories come before what is in them.
        on_error : "omit", "raise" or callable
            What to do about failures.
        detail : bool
            Whether to yield entries by name, or only names.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        detail = kwargs.pop("detail", False)
        path = self._strip_protocol(path)
        call = on_error if callable(on_error) else None
        with self._naming(path):
            try:
                start = self._entries.follow(self._resolve(path))
                if on_error == "raise":
                    self._entries.check(start)
            except (NotFound, NotADirectory) as error:
                if on_error == "raise":
                    raise
                if call is not None:
                    call(error)
                return
            steps = globbing.walk(
                self._entries, start, maxdepth=maxdepth, topdown=topdown, on_error=call
            )
            for here, directories, files in steps:
                named = [
                    {entry["name"].rpartition("/")[2]: entry for entry in entries}
                    for entries in (directories, files)
                ]
                below, within = named if detail else map(list, named)
                yield here, below, within

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return all files below a place; the place itself if it is a file.

        Views below the start are passed by. The directories of a level are listed several at
        once: a request for each run that is not known.

        Returns
        -------
        list of str, or dict of str to dict
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        path = self._strip_protocol(path)
        with self._naming(path):
            try:
                start = self._resolve(path)
            except (NotFound, NotADirectory):
                return {} if detail else []
            found = globbing.find(
                self._entries, start, maxdepth=maxdepth, withdirs=withdirs, workers=self._workers
            )
        return found if detail else list(found)

    def glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        """Return the paths that match a pattern, one level at a time.

        ``groups/G/runs/*/handle.json`` costs one request, however many runs there are;
        ``groups/G/runs/*/outputs/*.csv`` one more for each run in SUCCESS that is not known.

        Returns
        -------
        list of str, or dict of str to dict with ``detail=True``
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        detail = kwargs.pop("detail", False)
        only_directories = stringify_path(path).endswith("/")
        path = self._strip_protocol(path)
        with self._naming(path):
            found = globbing.glob(
                self._entries,
                f"{path}/" if only_directories and path else path,
                maxdepth=maxdepth,
                workers=self._workers,
            )
            if not detail:
                return found
            entries = map_all(lambda p: self._entries.entry(self._resolve(p)), found, self._workers)
        return {
            p: _raised_or_value(entry)
            for p, entry in zip(found, entries, strict=True)
            if not isinstance(entry, NotFound)
        }

    def du(
        self,
        path: str,
        total: bool = True,
        maxdepth: int | None = None,
        withdirs: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return the bytes of all files below a place; views below it do not count.

        A request for each result whose size is not known, several at once.
        """
        found = self.find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True)
        unknown = [p for p, entry in found.items() if entry["size"] is None]
        asked = map_all(lambda p: self.info(p)["size"], unknown, self._workers)
        sizes = {p: entry["size"] for p, entry in found.items()}
        sizes |= {p: _raised_or_value(size) for p, size in zip(unknown, asked, strict=True)}
        sizes = {p: size or 0 for p, size in sizes.items()}
        return sum(sizes.values()) if total else sizes

    def created(self, path: str) -> datetime.datetime:
        """Return when a run was created, or a file of it came to be (UTC)."""
        return self._time(path, "created")

    def modified(self, path: str) -> datetime.datetime:
        """Return when a run was created, or a file of it last changed (UTC)."""
        return self._time(path, "mtime")

    def _time(self, path: str, member: str) -> datetime.datetime:
        path = self._strip_protocol(path)
        with self._naming(path):
            entry = self._entries.entry(self._resolve(path), ask=False)
        if member not in entry:
            raise NotImplementedError(
                f"the service tells no time of {self.unstrip_protocol(path)} ({entry['kind']})"
            )
        return datetime.datetime.fromtimestamp(entry[member], datetime.timezone.utc)

    def ukey(self, path: str) -> str:
        """Return a token that changes when the file's bytes do.

        That of a result, an upload or an archive depends on its id alone, since those never
        change: no request for its size or bytes.
        """
        path = self._strip_protocol(path)
        with self._naming(path):
            node = self._resolve(path)
            source = self._entries.source(node)
            what: Any
            if source is not None:
                what = source.key
            elif node.kind.directory:
                what = self._entries.entry(node)
            else:
                what = self._entries.read(node)
        token: str = tokenize(self.endpoint, node.kind.name, what)
        return token

    def checksum(self, path: str) -> int:
        """Return :meth:`ukey` as a number."""
        return int(self.ukey(path), 16)

    def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> str:
        """Return the service's HTTP URL of a result, upload, archive or handle.

        Nothing is signed, and nothing expires: flowServ lets whoever knows the ids download
        results. Other services may ask for the token, which is not in the URL.

        Raises
        ------
        NotPermitted
            If the service has no URL for it.
        """
        path = self._strip_protocol(path)
        with self._naming(path):
            node = self._entries.follow(self._resolve(path))
            self._entries.check(node)
            url = self._entries.url(node)
        if url is None:
            raise failure(
                NotPermitted, "the service has no URL for it", self.unstrip_protocol(path)
            )
        return url

    url = sign

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget what may have changed; ended runs and their files stay known."""
        self._catalog.forget()

    # -- reading -----------------------------------------------------------

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: Mapping[str, Any] | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Open a file.

        Reading a result from front to back is one request, made at the first read. A file
        that is written (``new``, ``cancel``, uploads) acts when it is closed; left by an
        exception, it does not act. A run that was started is then its attribute ``run``.

        Parameters
        ----------
        path : str
            Which.
        mode : str
            ``r``, ``w``, ``a`` (uploads) or ``x``, with ``b`` or ``t``.
        block_size : int, optional
            Bytes of the buffer that small reads are served from.
        compression : str, optional
            As in fsspec.

        Raises
        ------
        NotFound, IsADirectory, NotPermitted, ReadOnly
            At once, if it cannot be opened so.
        """
        if "b" in mode:
            return super().open(path, mode, block_size, cache_options, compression, **kwargs)
        text = {k: kwargs.pop(k) for k in ("encoding", "errors", "newline") if k in kwargs}
        binary = self.open(
            path,
            mode.replace("t", "") + "b",
            block_size,
            cache_options,
            compression,
            **kwargs,
        )
        return TextFile(binary, **text)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        with self._naming(path):
            if mode == "rb":
                return self._open_to_read(path, block_size)
            if mode in ("wb", "ab", "xb"):
                self._changing(path)
                return self._open_to_write(path, mode, autocommit)
            raise failure(
                InvalidArguments, f"no mode {mode!r}: files are read (r) or written (w, a, x)", path
            )

    def _open_to_read(self, path: str, block_size: int | None) -> IO[bytes]:
        node = self._entries.follow(self._resolve(path))
        self._entries.check(node)
        if node.kind.directory:
            raise failure(IsADirectory, f"is a directory ({node.kind.name})", path)
        source = self._entries.source(node)
        if source is None:
            return GeneratedFile(self._entries.read(node), path)
        return ResultFile(self._shared.content.open(source), path, block_size or (1 << 18))

    def _open_to_write(self, path: str, mode: str, autocommit: bool) -> OutgoingFile:
        node = self._node_to_write(path)
        if mode == "xb" and self._entries.exists(node):
            raise failure(AlreadyExists, "is there already", path)
        if node.kind is tree.NEW:
            group_id = self._entries.group_id(node)
            return NewRunFile(
                path,
                lambda document: self._start(group_id, document, path),
                autocommit=autocommit,
            )
        if node.kind is tree.CANCEL:
            self._entries.check(node)
            run_id = self._entries.run_id(node)

            def cancel(reason: str | None) -> dict[str, Any]:
                with self._naming(path):
                    return self._catalog.cancel_run(run_id, reason)

            return CancelFile(path, cancel, autocommit=autocommit)
        before = None
        if mode == "ab" and self._entries.exists(node):
            before = self._open_to_read(path, None)
        return UploadFile(
            path,
            lambda file: self._upload(node, file, None),
            before=before,
            autocommit=autocommit,
        )

    def _node_to_write(self, path: str) -> Node:
        """Return the place to write to.

        Raises
        ------
        NotPermitted, IsADirectory
            If nothing can be written there.
        """
        try:
            node = self._resolve(path)
        except NotFound:
            raise failure(NotPermitted, "nothing can be created there", path) from None
        if node.kind.directory:
            raise failure(IsADirectory, f"is a directory ({node.kind.name})", path)
        if not node.kind.writable:
            raise failure(NotPermitted, f"a {node.kind.name} cannot be written", path)
        return node

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """Return the bytes of a file, or of a part of it; negative places count from the end.

        One request; none for what is known.
        """
        path = self._strip_protocol(path)
        with self._naming(path):
            node = self._entries.follow(self._resolve(path))
            self._entries.check(node)
            if node.kind.directory:
                raise failure(IsADirectory, f"is a directory ({node.kind.name})", path)
            source = self._entries.source(node)
            if source is None:
                return self._entries.read(node)[start:end]
            content = self._shared.content
            if (start or 0) < 0 or (end or 0) < 0:
                size = content.open(source).size
                start, end, _ = slice(start, end).indices(size)
            return content.read(source, start or 0, end)

    def cat(
        self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any
    ) -> Any:
        """Return the bytes of one file, or of many by path, several requests at once.

        Parameters
        ----------
        path : str or list of str
            Paths or patterns.
        recursive : bool
            Take all files below directories.
        on_error : "raise", "omit" or "return"
            What to do about a path that fails.

        Returns
        -------
        bytes, or dict of str to bytes
            A dict for a list, a pattern, or recursive.
        """
        paths = [
            p
            for p in self.expand_path(path, recursive=recursive)
            if not recursive or self.isfile(p)
        ]
        single = isinstance(path, (str, os.PathLike)) and not recursive
        if single and paths == [self._strip_protocol(path)]:
            return self.cat_file(paths[0], **kwargs)
        outcomes = map_all(lambda p: self.cat_file(p, **kwargs), paths, self._workers)
        found: dict[str, Any] = {}
        for one, outcome in zip(paths, outcomes, strict=True):
            if isinstance(outcome, Exception):
                if on_error == "raise":
                    raise outcome
                if on_error == "omit":
                    continue
            found[one] = outcome
        return found

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Return parts of files, several requests at once.

        Parameters
        ----------
        paths : list of str
            Files.
        starts, ends : int or list of int
            Places in each.
        on_error : "return" or "raise"
            Whether failures are returned in the place of bytes.

        Returns
        -------
        list of bytes or Exception
        """
        if max_gap is not None:
            raise NotImplementedError("max_gap: parts of files are not joined")
        count = len(paths)
        starts = list(starts) if isinstance(starts, Iterable) else [starts] * count
        ends = list(ends) if isinstance(ends, Iterable) else [ends] * count
        if not len(starts) == len(ends) == count:
            raise ValueError("paths, starts and ends must be of one length")
        outcomes = map_all(
            lambda part: self.cat_file(part[0], part[1], part[2], **kwargs),
            zip(paths, starts, ends, strict=True),
            self._workers,
        )
        if on_error == "raise":
            return [_raised_or_value(outcome) for outcome in outcomes]
        return list(outcomes)

    # -- writing -----------------------------------------------------------

    def start_run(self, group_id: str, arguments: Any) -> dict[str, Any]:
        """Start a run.

        One request, and one for the group's declarations and uploads unless they are fresh.

        Parameters
        ----------
        group_id : str
            The group.
        arguments : mapping or list of dict
            ``{"names": "names.txt", "sleeptime": 1}``, or the service's own list of
            ``{"name", "value"}``. A file is an upload's name or id.

        Returns
        -------
        dict
            The run's handle.

        Raises
        ------
        InvalidArguments
            With all that is wrong at once; nothing has started.
        UnclearStart
            If a run may have started.
        FlowError
            As the service says.
        """
        path = f"groups/{group_id}/runs/new"
        self._changing(path)
        return self._start(group_id, arguments, path)

    def _start(self, group_id: str, arguments: Any, path: str) -> dict[str, Any]:
        with self._naming(path):
            return self._catalog.start_run(group_id, arguments, about=self.unstrip_protocol(path))

    def cancel_run(self, run_id: str, reason: str | None = None) -> dict[str, Any]:
        """Cancel an active run. One request.

        Parameters
        ----------
        run_id : str
            The run.
        reason : str, optional
            Kept among the run's messages.

        Returns
        -------
        dict
            The handle of the canceled run.

        Raises
        ------
        InvalidRunState
            If it has ended.
        FlowError
            As the service says.
        """
        handle = self._catalog.known_run(run_id) or {}
        group_id = handle.get("groupId")
        path = f"groups/{group_id}/runs/{run_id}" if group_id else ""
        self._changing(path)
        with self._naming(path):
            return self._catalog.cancel_run(run_id, reason)

    def _upload(self, node: Node, file: IO[bytes], progress: Callable[[int], None] | None) -> None:
        name = node.names["upload"]
        raw_name = from_name(name) or name
        group_id = self._entries.group_id(node)
        with self._naming(node.asked):
            stored = self._catalog.upload_file(group_id, name, raw_name, file, progress).stored
        if stored != raw_name:
            warnings.warn(
                f"the service stored {raw_name!r} as {stored!r}; "
                "both names find it here, only the second is listed",
                StoredNameWarning,
                stacklevel=2,
            )

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Write bytes: start a run (``new``), cancel one (``cancel``), or upload a file."""
        with self.open(path, "xb" if mode == "create" else "wb", **kwargs) as file:
            file.write(value)

    def put(self, lpath: Any, rpath: Any, recursive: bool = False, **kwargs: Any) -> None:
        """Copy local files here, as in fsspec: into ``uploads/``, or to ``new``.

        ``put("args.json", ".../runs/new")`` and ``".../runs/new/"`` both start a run.
        """
        if isinstance(rpath, (str, os.PathLike)):
            with contextlib.suppress(NotFound, NotADirectory):
                node = self._resolve(rpath)
                if node.kind in (tree.NEW, tree.CANCEL):
                    rpath = node.asked
        super().put(lpath, rpath, recursive=recursive, **kwargs)

    def put_file(
        self,
        lpath: str,
        rpath: str,
        callback: Any = None,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> None:
        """Copy a local file here; uploads are streamed from it."""
        if os.path.isdir(lpath):
            self.makedirs(rpath, exist_ok=True)
            return
        rpath = self._strip_protocol(rpath)
        with open(lpath, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if callback is not None:
                callback.set_size(size)
            progress = None if callback is None else callback.relative_update
            with self._naming(rpath):
                self._changing(rpath)
                node = self._node_to_write(rpath)
            if node.kind is tree.UPLOAD and not self._intrans:
                if mode == "create" and self.exists(rpath):
                    raise failure(AlreadyExists, "is there already", self.unstrip_protocol(rpath))
                self._upload(node, file, progress)
                return
            with self.open(rpath, "xb" if mode == "create" else "wb") as out:
                while piece := file.read(1 << 20):
                    out.write(piece)
                    if progress is not None:
                        progress(len(piece))

    def get_file(
        self, rpath: str, lpath: Any, callback: Any = None, outfile: Any = None, **kwargs: Any
    ) -> None:
        """Copy a file from here. It has its name only once it is whole."""
        if outfile is not None or hasattr(lpath, "write"):
            self._copy_out(rpath, outfile or lpath, callback)
            return
        if self.isdir(rpath):
            os.makedirs(lpath, exist_ok=True)
            return
        folder = os.path.dirname(lpath)
        if folder:
            os.makedirs(folder, exist_ok=True)
        partial = f"{lpath}.flowfs-part"
        try:
            with open(partial, "wb") as file:
                self._copy_out(rpath, file, callback)
            os.replace(partial, lpath)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise

    def _copy_out(self, rpath: str, file: IO[bytes], callback: Any) -> None:
        with self.open(rpath, "rb") as source:
            raw: Any = source.raw if isinstance(source, ResultFile) else source
            buffer = bytearray(1 << 20)
            view = memoryview(buffer)
            with self._naming(self._strip_protocol(rpath)):
                # The first bytes bring the size along.
                got = raw.readinto(buffer)
                if callback is not None:
                    callback.set_size(source.size)
                while got:
                    file.write(view[:got])
                    if callback is not None:
                        callback.relative_update(got)
                    got = raw.readinto(buffer)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy within the service: any file into ``uploads/``, or to ``new``."""
        if self.isdir(path1):
            self.makedirs(path2, exist_ok=True)
            return
        with self.open(path2, "wb") as target, self.open(path1, "rb") as source:
            while piece := source.read(1 << 20):
                target.write(piece)

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Make an empty upload, or empty one; ``new`` and ``cancel`` stay as they are."""
        path = self._strip_protocol(path)
        with self._naming(path):
            self._changing(path)
            node = self._node_to_write(path)
            if node.kind is tree.UPLOAD and (truncate or not self._entries.exists(node)):
                self._upload(node, io.BytesIO(), None)

    # -- deleting ----------------------------------------------------------

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete runs (``recursive=True``) and uploads; one request each.

        All paths are looked at before anything is deleted. A pattern never takes ``new``.

        Parameters
        ----------
        path : str or list of str
            Paths or patterns.
        recursive : bool
            Delete runs with all that is in them.
        maxdepth : int, optional
            Not used: a run goes as a whole.

        Raises
        ------
        InvalidRunState
            If a run is active; it is untouched.
        IsADirectory
            If it is a run and `recursive` is not given.
        NotFound, NotPermitted, ReadOnly, FlowError
            As the tree and the service say.
        """
        paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
        targets: dict[str, Node] = {}
        for one in map(self._strip_protocol, paths):
            self._changing(one)
            with self._naming(one):
                for node in self._to_remove(one):
                    self._check_removable(node, recursive)
                    targets[node.path] = node
        for node in targets.values():
            with self._naming(node.asked):
                if node.kind is tree.RUN:
                    self._catalog.delete_run(self._entries.run_id(node))
                else:
                    group_id = self._entries.group_id(node)
                    self._catalog.delete_upload(group_id, node.names["upload"])

    def _to_remove(self, path: str) -> list[Node]:
        if not globbing.has_magic(path):
            return [self._resolve(path)]
        nodes = [self._resolve(found) for found in self.glob(path)]
        nodes = [node for node in nodes if node.kind not in (tree.NEW, tree.NEW_ERROR)]
        if not nodes:
            raise failure(NotFound, "nothing matches", path)
        return nodes

    def _check_removable(self, node: Node, recursive: bool) -> None:
        if node.asked != node.path or node.kind.link:
            raise failure(
                NotPermitted, f"nothing is removed through a view: see {node.path}", node.asked
            )
        if node.kind not in (tree.RUN, tree.UPLOAD):
            raise failure(NotPermitted, f"a {node.kind.name} cannot be removed", node.asked)
        self._entries.check(node)
        if node.kind is tree.RUN and not recursive:
            raise failure(
                IsADirectory, "is a run: remove it with all that is in it (recursive)", node.asked
            )

    def rm_file(self, path: str) -> None:
        """Delete an upload. One request."""
        self.rm(path)

    _rm = rm_file

    def rmdir(self, path: str) -> None:
        """Refuse: a directory here is never empty, or always there.

        Raises
        ------
        DirectoryNotEmpty
            For a run: it goes with all that is in it, by ``rm(path, recursive=True)``.
        NotADirectory, NotPermitted, NotFound, ReadOnly
            For everything else.
        """
        path = self._strip_protocol(path)
        self._changing(path)
        with self._naming(path):
            node = self._resolve(path)
            self._entries.check(node)
            if not node.kind.directory:
                raise failure(NotADirectory, f"is a file ({node.kind.name})", path)
            if node.kind is tree.RUN and node.asked == node.path:
                raise failure(
                    DirectoryNotEmpty, "the run's files are there: rm(path, recursive=True)", path
                )
            raise failure(NotPermitted, f"a {node.kind.name} cannot be removed", path)

    # -- what cannot be done -----------------------------------------------

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Refuse: directories come from the service (EPERM, or EEXIST)."""
        self.makedirs(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Refuse, unless the directory is there and `exist_ok` is given."""
        there = self._type_of(path)
        if there == "directory" and exist_ok:
            return
        if there is not None:
            raise failure(AlreadyExists, "is there already", self.unstrip_protocol(path))
        self._refuse(path, "no directory can be made: the service has its own")

    def mv(self, path1: str, path2: str, *args: Any, **kwargs: Any) -> None:
        """Refuse: nothing on the service can be renamed."""
        self._refuse(path1, "nothing on the service can be renamed")

    mv_file = mv
    move = mv
    rename = mv


def _choose_endpoint(endpoint: str | None, url_endpoint: str | None) -> str:
    given = None if endpoint is None else normalize_endpoint(endpoint)
    if url_endpoint is not None:
        named = Location(url_endpoint, "").endpoint(given or _environment_default())
        assert named is not None
        if given is not None and named != given:
            raise ValueError(f"the URL is of {named}, the option endpoint says {given}: give one")
        return named
    if given is not None:
        return given
    if not environment_names_endpoint():
        known = list(saved_logins())
        if len(known) == 1:
            return known[0]
    return endpoint_from_environment()


def _environment_default() -> str | None:
    return endpoint_from_environment() if environment_names_endpoint() else None


def _number(name: str, value: Any, above: float | None = None) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not (number > above if above is not None else number >= 0):
        raise ValueError(
            f"{name} must be a number {'above' if above is not None else 'of at least'} 0, "
            f"not {value!r}"
        )
    return number


def _raised_or_value(outcome: Any) -> Any:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
