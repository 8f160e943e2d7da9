"""Changing things: runs started, canceled, deleted; uploads written and removed."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.spec import AbstractFileSystem

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
    failure,
)
from flowfs.filesystem import globbing
from flowfs.filesystem.bound import one_operation
from flowfs.filesystem.copying import Plan, copy_all
from flowfs.filesystem.looking import Looking
from flowfs.filesystem.reading import Reading
from flowfs.filesystem.writing import (
    CancelFile,
    NewRunFile,
    OutgoingFile,
    StoredNameWarning,
    UploadFile,
)
from flowfs.names import from_name, to_name
from flowfs.tree import Node

__all__ = ["Changing"]


class Changing(Looking, Reading):
    """Writing and removing, and what is refused."""

    def _open_to_write(self, path: str, mode: str, autocommit: bool) -> OutgoingFile:
        node, url = self._node_to_write(path), self.unstrip_protocol(path)
        if mode == "xb" and self.entries.exists(node):
            raise failure(AlreadyExists, "is there already", path)
        if node.kind is tree.NEW:
            group_id = self.entries.group_id(node)
            return NewRunFile(
                path,
                url,
                lambda document: self._start(group_id, document, path),
                autocommit=autocommit,
            )
        if node.kind is tree.CANCEL:
            self.entries.check(node)
            run_id = self.entries.run_id(node)

            def cancel(reason: str | None) -> dict[str, Any]:
                with self._naming(path):
                    return self.catalog.cancel_run(run_id, reason)

            return CancelFile(path, url, cancel, autocommit=autocommit)
        before = None
        if mode == "ab" and self.entries.exists(node):
            before = self._open_to_read(path, None)
        return UploadFile(
            path,
            url,
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
            raise failure(NotPermitted, f"the {node.kind.name} cannot be written", path)
        return node

    def start_run(self, group_id: str, arguments: Any) -> dict[str, Any]:
        """Start a run.

        One request, and one for the group's declarations and uploads unless they are fresh.

        Parameters
        ----------
        group_id : str
            The group; its path or URL, or its name, where only one is called so, do too. A name
            costs two requests more, and one for each workflow.
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
        if "/" in group_id:
            group_id = self.group_id(group_id)
        path = f"groups/{to_name(group_id)}/runs/new"
        self._changing(path)
        try:
            return self._start(group_id, arguments, path)
        except NotFound as error:  # nothing has started
            try:
                named = self.group_id(group_id)
            except InvalidArguments:  # several are called so
                raise
            except FlowError:
                named = group_id
            if named == group_id:
                raise error from None
        return self._start(named, arguments, f"groups/{to_name(named)}/runs/new")

    def _start(self, group_id: str, arguments: Any, path: str) -> dict[str, Any]:
        with self._naming(path):
            return self.catalog.start_run(group_id, arguments, about=self.unstrip_protocol(path))

    def cancel_run(self, run_id: str, reason: str | None = None) -> dict[str, Any]:
        """Cancel an active run. One request.

        Parameters
        ----------
        run_id : str
            The run; its path or URL does too.
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
        if "/" in run_id:
            path = self._strip_protocol(run_id)
            with self._naming(path), self.entries.operation():
                node = self.entries.follow(self._resolve(path))
                if node.kind is not tree.RUN:
                    raise failure(InvalidArguments, "is no run", path)
                run_id = self.entries.run_id(node)
        path = self.entries.path_of_run(run_id)
        self._changing(path)
        with self._naming(path):
            return self.catalog.cancel_run(run_id, reason)

    def _upload(self, node: Node, file: IO[bytes], progress: Callable[[int], None] | None) -> None:
        name = node.names["upload"]
        raw_name = from_name(name) or name
        group_id = self.entries.group_id(node)
        with self._naming(node.asked):
            stored = self.catalog.upload_file(group_id, name, raw_name, file, progress).stored
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

    def put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy local files here, as in fsspec: into ``uploads/``, or to ``new``.

        Uploads are sent several at once, each to its end whatever becomes of others: a request
        for each, one more where it replaces another, and a listing every `ttl` seconds.
        ``put("args.json", ".../runs/new")`` and ``".../runs/new/"`` both start a run; several
        are started one after another, and none after one that is refused.

        Parameters
        ----------
        lpath, rpath : str or list of str
            Where they are, and where they go.
        recursive : bool
            Take all files below directories.
        callback : Callback
            As in fsspec. It is called from threads, one at a time; what it raises ends all.
        maxdepth : int, optional
            Levels to descend.

        Raises
        ------
        OSError
            The first in the order of the paths; ``others`` has what else went wrong.
        """
        rpath = self._without_slash(rpath)
        plan = Plan(self)
        AbstractFileSystem.put(plan, lpath, rpath, recursive, maxdepth=maxdepth, **kwargs)
        callback = Callback.as_callback(callback)
        if self._intrans or any(map(self._acts, {target for _, target in plan.pairs})):
            super().put(lpath, rpath, recursive, callback, maxdepth, **kwargs)
            return
        with self.catalog.together():
            copy_all(self.put_file, plan.pairs, self._workers, callback, **kwargs)

    @contextlib.contextmanager
    def together(self, paths: Sequence[str]) -> Iterator[int]:
        """Copy many files one by one within the ``with`` block, as `get` and `put` do at once.

        Parameters
        ----------
        paths : sequence of str
            Those of them that are read here.

        Yields
        ------
        int
            How many at once are not too many.
        """
        with self._together(paths), self.catalog.together():
            yield self._workers

    def _acts(self, target: str) -> bool:
        """Tell whether what is written to a place starts or cancels a run."""
        with contextlib.suppress(NotFound, NotADirectory):
            return self._resolve(target).kind in (tree.NEW, tree.CANCEL)
        return False

    @one_operation
    def copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        on_error: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy within the service, as in fsspec: into ``uploads/``, or to ``new``.

        A run's ``arguments.json`` copied to ``new`` runs it again.
        """
        super().copy(path1, self._without_slash(path2), recursive, maxdepth, on_error, **kwargs)

    cp = copy

    def _without_slash(self, target: Any) -> Any:
        """Return a target without the slash that would make a directory of ``new/``."""
        if isinstance(target, (str, os.PathLike)):
            with contextlib.suppress(NotFound, NotADirectory):
                node = self._resolve(target)
                if node.kind in (tree.NEW, tree.CANCEL):
                    return node.asked
        return target

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
            if node.kind is tree.UPLOAD and (truncate or not self.entries.exists(node)):
                self._upload(node, io.BytesIO(), None)

    def pipe(self, path: Any, value: bytes | None = None, **kwargs: Any) -> None:
        """Write bytes into a file, or into many by path; uploads as :meth:`put` sends them."""
        with self.catalog.together() if isinstance(path, dict) else contextlib.nullcontext():
            super().pipe(path, value, **kwargs)

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
        self._remove(paths, self._to_remove, recursive)

    def _remove(
        self, paths: list[Any], nodes_of: Callable[[str], list[Node]], recursive: bool
    ) -> None:
        targets: dict[str, Node] = {}
        for one in map(self._strip_protocol, paths):
            self._changing(one)
            with self._naming(one):
                for node in nodes_of(one):
                    self._check_removable(node, recursive)
                    targets[node.path] = node
        # Active runs first: if the service refuses one, nothing has been deleted yet.
        for node in sorted(targets.values(), key=self.entries.is_active, reverse=True):
            with self._naming(node.asked):
                if node.kind is tree.RUN:
                    self.catalog.delete_run(self.entries.run_id(node))
                else:
                    group_id = self.entries.group_id(node)
                    self.catalog.delete_upload(group_id, node.names["upload"])

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
            raise failure(NotPermitted, f"the {node.kind.name} cannot be removed", node.asked)
        self.entries.check(node)
        if node.kind is tree.RUN and not recursive:
            raise failure(
                IsADirectory, "is a run: remove it with all that is in it (recursive)", node.asked
            )

    def rm_file(self, path: str) -> None:
        """Delete an upload. One request. The path is no pattern."""
        self._remove([path], lambda one: [self._resolve(one)], False)

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
            self.entries.check(node)
            if not node.kind.directory:
                raise failure(NotADirectory, f"is a file ({node.kind.name})", path)
            if node.kind is tree.RUN and node.asked == node.path:
                raise failure(
                    DirectoryNotEmpty, "the run's files are there: rm(path, recursive=True)", path
                )
            raise failure(NotPermitted, f"the {node.kind.name} cannot be removed", path)

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
