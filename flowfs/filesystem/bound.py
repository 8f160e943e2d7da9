"""A file system bound to one service: who it is, and how its paths are named."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from fsspec.spec import AbstractFileSystem
from fsspec.utils import stringify_path, tokenize

from flowfs import tree
from flowfs.catalog import Catalog
from flowfs.content import FEWEST, Content
from flowfs.errors import FlowError, InvalidArguments, NotFound, NotPermitted, ReadOnly, failure
from flowfs.filesystem.entries import Entries
from flowfs.filesystem.found import FoundPath, found_paths
from flowfs.filesystem.options import check_options
from flowfs.filesystem.shared import Options, shared_for
from flowfs.filesystem.transaction import FlowTransaction
from flowfs.filesystem.urls import PROTOCOLS, Location, address_of, parse_url
from flowfs.names import from_name
from flowfs.service import endpoint_from_environment, find_credentials, normalize_endpoint
from flowfs.service.credentials import saved_logins
from flowfs.service.endpoint import environment_names_endpoint, warn_of_plain_http
from flowfs.tokens.secret import Secret
from flowfs.tree import Node

__all__ = ["BoundFileSystem", "one_operation"]

F = TypeVar("F", bound=Callable[..., Any])

_IN_RUN = re.compile("/(?:results|outputs)/")
_LONGEST = 1e9  # seconds; of much more no socket and no lock can be told


def one_operation(method: F) -> F:
    """Make a method of a file system resolve each link of the tree once."""

    @functools.wraps(method)
    def call(self: BoundFileSystem, *args: Any, **kwargs: Any) -> Any:
        with self.entries.operation():
            return method(self, *args, **kwargs)

    return call  # type: ignore[return-value]


class _StripProtocol:
    """``_strip_protocol`` of the class, and of an instance, which knows its own service.

    fsspec calls it on both. An instance refuses URLs of another service: without that,
    ``fs.cat("flow://elsewhere/…")`` would silently read this one.
    """

    def __get__(
        self, instance: BoundFileSystem | None, owner: type[BoundFileSystem]
    ) -> Callable[[Any], Any]:
        def strip(path: Any) -> Any:
            if isinstance(path, list):
                return [strip(one) for one in path]
            if isinstance(path, FoundPath):  # as it is, with what goes along
                return path
            location = parse_url(stringify_path(path))
            if instance is not None:
                instance._check_own(location)
            return location.path

        return strip


class BoundFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """What all of :class:`~flowfs.FlowFileSystem` rests on; its parameters stand there.

    Attributes
    ----------
    endpoint : str
        The service's API root.
    read_only : bool
        Whether every change is refused.
    entries : Entries
        What is at each place of the tree.
    catalog : Catalog
        What is known of the service's things.
    content : Content
        What is known of its files' bytes.
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
        cache_dir: str | os.PathLike[str] | None = None,
        cache_size: int = 4 << 30,
        archives: bool = True,
        token_file: str | os.PathLike[str] | None = None,
        token_command: str | Sequence[str] | None = None,
        pickle_token: bool = True,
        url_endpoint: str | None = None,
        **storage_options: Any,
    ) -> None:
        check_options(storage_options, type(self))
        super().__init__(**storage_options)
        self.endpoint: str = _choose_endpoint(endpoint, url_endpoint)
        self.read_only: bool = bool(read_only)
        options = Options(
            timeout=min(_number("timeout", timeout, above=0, finite=True), _LONGEST),
            retries=_count("retries", retries),
            ttl=_number("ttl", ttl),
            max_connections=_count("max_connections", max_connections, above=0),
            verify=verify,
            cert=tuple(cert) if isinstance(cert, list) else cert,
            cache_dir=_directory(cache_dir),
            cache_size=_count("cache_size", cache_size),
            archives=bool(archives),
        )
        # fsspec reads FSSPEC_FLOW_TOKEN through JSON: a token of digits arrives as a number.
        given = None if token is None else str(token)
        credentials = find_credentials(
            self.endpoint, given, token_file=token_file, token_command=token_command
        )
        warn_of_plain_http(self.endpoint)
        self._pickle_token = bool(pickle_token)
        self._workers = options.max_connections
        # As plain text: what a secret shows of itself differs from process to process.
        self._token_digest = tokenize("flowfs", str(credentials.token))
        self._options = options
        self._shared = shared_for(self.endpoint, credentials, options)
        self.entries: Entries = self._shared.entries
        self.catalog: Catalog = self._shared.catalog
        self.content: Content = self._shared.content

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

    def __reduce__(self) -> Any:
        options = self.whole_options()
        if not self._pickle_token:
            # Whoever unpickles it finds a token as one is found where none is given.
            for name in ("token", "token_file", "token_command"):
                options.pop(name, None)
        return _make, (type(self), self.storage_args[2:], options)

    def whole_options(self) -> dict[str, Any]:
        """Return what makes this instance again, on another machine too, the token included.

        There may be none of this machine's environment and logins: what was found there goes
        along.
        """
        options = {**self.storage_options, "endpoint": self.endpoint}
        token = self._shared.session.credentials.token
        options["token"] = None if token is None else str(token)
        options.pop("url_endpoint", None)
        if self._options.cache_dir is not None:
            options["cache_dir"] = self._options.cache_dir  # whatever directory is current there
        return options

    # fsspec puts down here what an instance was made with. What can be looked at shows no token.

    @property
    def storage_options(self) -> dict[str, Any]:
        """What the instance was made with, by name; a token in it does not show itself."""
        return self._storage_options

    @storage_options.setter
    def storage_options(self, options: Mapping[str, Any]) -> None:
        token = options.get("token")
        self._storage_options = {
            **options,
            **({} if token is None else {"token": Secret(str(token))}),
        }

    @property
    def storage_args(self) -> tuple[Any, ...]:
        """What the instance was made with, by position; a token in it does not show itself."""
        return self._storage_args

    @storage_args.setter
    def storage_args(self, args: Sequence[Any]) -> None:
        self._storage_args = tuple(
            Secret(str(one)) if place == 1 and one is not None else one
            for place, one in enumerate(args)
        )

    def to_dict(self, **options: Any) -> dict[str, Any]:
        """Return what makes this instance again, without the token.

        Whoever makes it again finds the token as one is found where none is given. Options
        are fsspec's, whose newer versions have ``include_password``.
        """
        document: dict[str, Any] = super().to_dict(**options)
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
        service = address_of(self.endpoint)
        return f"{service}/{path}" if path else service

    def group_id(self, group: str) -> str:
        """Return the id of a group.

        Parameters
        ----------
        group : str
            Its id; the path or URL of it or of a place in it; or its name, where only one is
            called so. An id goes before a name. One request unless the group is known, for a
            name one more for each workflow, and two.

        Raises
        ------
        NotFound
            If there is none.
        InvalidArguments
            If several are called so.
        """
        if "/" in group:
            path = self._strip_protocol(group)
            with self._naming(path), self.entries.operation():
                node = self.entries.follow(self._resolve(path))
                if "group" not in node.names:
                    raise failure(InvalidArguments, "no group, nor a place in one", path)
                return self.entries.group_id(node)
        raw = from_name(group)
        if raw is not None and raw not in ("", ".", ".."):
            try:
                self.catalog.group(raw)
                return raw
            except NotFound:
                pass
        called = [one.id for one in self.catalog.groups() if group in (one.title, one.id)]
        if len(called) == 1:
            return called[0]
        if called:
            raise failure(
                InvalidArguments,
                f"{len(called)} groups are called so: name one by its id: {', '.join(called)}",
                group,
            )
        raise failure(NotFound, "no group has this id or name", group)

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
        return self.entries.resolve(self._strip_protocol(path))

    def _together(self, paths: Sequence[str]) -> AbstractContextManager[None]:
        """Say that all of some files will be asked for within the ``with`` block.

        Where they are many of one run, they may come as its archive. No request but what the
        first of them would cost as well.
        """
        if len(paths) < FEWEST:
            return contextlib.nullcontext()
        counts: dict[tuple[str, ...], int] = {}
        below = Counter(_IN_RUN.split(str(path), maxsplit=1)[0] for path in paths)
        for path, count in below.items():
            if count >= FEWEST:
                with contextlib.suppress(OSError, ValueError):  # each path will tell for itself
                    node = self.entries.follow(self._resolve(path))
                    if node.kind is tree.RUN:
                        counts["run", self.entries.run_id(node)] = count
        return self.content.packs.expecting(counts)

    def _to_be_carried(self, paths: list[str]) -> list[str]:
        """Return paths that take along what is known of them, where the token goes too."""
        if not self._pickle_token:
            return paths
        return found_paths(self.entries, self.endpoint, paths)

    def _changing(self, path: str) -> None:
        if self.read_only:
            raise failure(ReadOnly, "this file system is read-only", self.unstrip_protocol(path))

    def _refuse(self, path: Any, message: str) -> None:
        path = self._strip_protocol(path)
        self._changing(path)
        raise failure(NotPermitted, message, self.unstrip_protocol(path))


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


def _number(name: str, value: Any, *, above: float | None = None, finite: bool = False) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    large_enough = number > above if above is not None else number >= 0
    if not large_enough or (finite and math.isinf(number)):
        raise ValueError(
            f"{name} must be a {'finite ' if finite else ''}number "
            f"{'above' if above is not None else 'of at least'} 0, not {value!r}"
        )
    return number


def _count(name: str, value: Any, *, above: float | None = None) -> int:
    number = _number(name, value, above=above, finite=True)
    if not number.is_integer():
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    return int(number)


def _directory(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.path.abspath(os.path.expanduser(os.fspath(path)))


def _make(cls: type[BoundFileSystem], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    try:
        return cls(*args, **options)
    except FlowError:
        if "cache_dir" not in options:
            raise
        # What can be kept where it was made need not be possible here.
        del options["cache_dir"]
        return cls(*args, **options)
