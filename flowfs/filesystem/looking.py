"""Looking around in the tree: what is there, and what is known of it."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator
from typing import Any

from fsspec.utils import stringify_path, tokenize

from flowfs import tree
from flowfs.errors import NotADirectory, NotFound, NotPermitted, failure
from flowfs.filesystem import globbing
from flowfs.filesystem.bound import BoundFileSystem, one_operation
from flowfs.filesystem.places import Entry
from flowfs.pool import Failures, map_all, result_of, results_of
from flowfs.service import STATES

__all__ = ["Looking"]


class Looking(BoundFileSystem):
    """Listing, finding, and asking about places."""

    @one_operation
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
            node = self._resolve(path)
            self.entries.ahead.looked(node)
            listing = self.entries.children(node, refresh=refresh, state=state)
        return listing if detail else [entry["name"] for entry in listing]

    @one_operation
    def info(self, path: str, **kwargs: Any) -> Entry:
        """Return the entry of a place.

        No request for a run in a fresh listing; at most one for its handle, and for a result
        one for its size, which brings a small file along. Both are asked once.

        Returns
        -------
        dict
            ``name``, ``size`` (bytes; None for an archive or a table of runs that has not been
            read), ``type``, and ``mtime`` (seconds), ``place``, ``id``, ``state``, ``islink``,
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
            return self.entries.entry(self._resolve(path))

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
                return self.entries.exists(self._resolve(path))
            except (NotFound, NotADirectory):
                return False

    def isdir(self, path: str) -> bool:
        """Tell whether a place is there and a directory; raises as :meth:`exists` does.

        Nothing is asked where a path can be nothing but a file by its form.
        """
        try:
            kind = tree.parse(self._strip_protocol(path)).kind
        except (NotFound, NotADirectory):
            return False
        if not kind.directory and kind is not tree.OUTPUT:
            return False
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
                    return str(self.entries.entry(node, ask=False)["type"])
                self.entries.check(node)
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
                start = self.entries.follow(self._resolve(path))
                if on_error == "raise":
                    self.entries.check(start)
            except (NotFound, NotADirectory) as error:
                if on_error == "raise":
                    raise
                if call is not None:
                    call(error)
                return
            steps = globbing.walk(
                self.entries, start, maxdepth=maxdepth, topdown=topdown, on_error=call
            )
            for here, directories, files in steps:
                named = [
                    {entry["name"].rpartition("/")[2]: entry for entry in entries}
                    for entries in (directories, files)
                ]
                below, within = named if detail else map(list, named)
                yield here, below, within

    @one_operation
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
                self.entries, start, maxdepth=maxdepth, withdirs=withdirs, workers=self._workers
            )
        return found if detail else list(found)

    @one_operation
    def glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        """Return the paths that match a pattern, one level at a time.

        ``groups/G/runs/*/handle.json`` costs one request, however many runs there are;
        ``groups/G/runs/*/outputs/*.csv`` one more for each run in SUCCESS that is not known.
        Paths of results carry that with them when they are pickled, so that no worker of a
        cluster asks for it again: see :class:`~flowfs.filesystem.found.FoundPath`.

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
                self.entries,
                f"{path}/" if only_directories and path else path,
                maxdepth=maxdepth,
                workers=self._workers,
            )
            if not detail:
                return self._to_be_carried(found)
            with self._together(found):
                entries = map_all(
                    lambda p: self.entries.entry(self._resolve(p)), found, self._workers
                )
        return {
            p: result_of(entry)
            for p, entry in zip(found, entries, strict=True)
            if not isinstance(entry, NotFound)
        }

    def expand_path(
        self, path: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any
    ) -> list[str]:
        """Return the paths that patterns match and that are below directories.

        Raises
        ------
        NotFound
            If there are none.
        """
        try:
            expanded: list[str] = super().expand_path(path, recursive, maxdepth, **kwargs)
        except FileNotFoundError as error:
            if error.errno is not None:
                raise
            one = isinstance(path, (str, os.PathLike))
            names = [self.unstrip_protocol(p) for p in ([path] if one else path)]
            raise failure(NotFound, "nothing is there, or matches", ", ".join(names)) from None
        return expanded

    @one_operation
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

        Raises
        ------
        FlowError
            The first in the order of the paths; ``others`` has what else went wrong.
        """
        found = self.find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True)
        unknown = [p for p, entry in found.items() if entry["size"] is None]
        with self._together(unknown):
            asked = map_all(lambda p: self.info(p)["size"], unknown, self._workers)
        sizes = {p: entry["size"] for p, entry in found.items()}
        Failures.check_all(asked)
        sizes |= dict(zip(unknown, asked, strict=True))
        sizes = {p: size or 0 for p, size in sizes.items()}
        return sum(sizes.values()) if total else sizes

    @one_operation
    def sizes(self, paths: list[str]) -> list[int | None]:
        """Return the sizes of files in bytes, in their order; as :meth:`info` tells them.

        A request for each that is not known, several at once.

        Raises
        ------
        FlowError
            The first in the order of the paths; ``others`` has what else went wrong.
        """
        with self._together(paths):
            asked = map_all(lambda p: self.info(p)["size"], paths, self._workers)
        Failures.check_all(asked)
        return results_of(asked)

    def created(self, path: str) -> datetime.datetime:
        """Return when a run was created, or a file of it came to be (UTC)."""
        return self._time(path, "created")

    def modified(self, path: str) -> datetime.datetime:
        """Return when a run was created, or a file of it last changed (UTC)."""
        return self._time(path, "mtime")

    def _time(self, path: str, member: str) -> datetime.datetime:
        path = self._strip_protocol(path)
        with self._naming(path):
            entry = self.entries.entry(self._resolve(path), ask=False)
        if member not in entry:
            raise NotImplementedError(
                f"the service tells no time of {self.unstrip_protocol(path)} ({entry['place']})"
            )
        return datetime.datetime.fromtimestamp(entry[member], datetime.timezone.utc)

    @one_operation
    def ukey(self, path: str) -> str:
        """Return a token that changes when the file's bytes do.

        That of a result, an upload or an archive depends on its id alone, since those never
        change: no request for its size or bytes.
        """
        path = self._strip_protocol(path)
        with self._naming(path):
            node = self._resolve(path)
            self.entries.check(node)
            source = self.entries.source(node)
            what: Any
            if source is not None:
                what = source.key
            elif node.kind.directory:
                what = self.entries.entry(node)
            else:
                what = self.entries.read(node)
        token: str = tokenize(self.endpoint, node.kind.name, what)
        return token

    def checksum(self, path: str) -> int:
        """Return :meth:`ukey` as a number."""
        return int(self.ukey(path), 16)

    @one_operation
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
            node = self.entries.follow(self._resolve(path))
            self.entries.check(node)
            url = self.entries.url(node)
        if url is None:
            raise failure(
                NotPermitted, "the service has no URL for it", self.unstrip_protocol(path)
            )
        return url

    url = sign

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget what may have changed; ended runs and their files stay known."""
        self.catalog.forget()
