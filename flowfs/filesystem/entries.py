"""What is at a place in the tree: its entry, and what it lists.

File system and mount both ask here, so that both show the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import ClassVar, NamedTuple

from flowfs import tree
from flowfs.catalog import Catalog, FileRecord, RunRecord
from flowfs.content import Content
from flowfs.errors import NotFound
from flowfs.filesystem.ahead import Ahead
from flowfs.filesystem.places import Entry
from flowfs.filesystem.sources import Sources
from flowfs.names import to_name
from flowfs.service.runs import STATES
from flowfs.tree import Kind, Node, join

__all__ = ["Alike", "Entries", "Entry"]


_Named = tuple[str, FileRecord | None]


def _grouped(named: Iterator[_Named]) -> Iterator[tuple[bool, list[_Named]]]:
    """Yield files that stand together, and directories that do; with which of both they are."""
    for directory, some in itertools.groupby(named, lambda one: one[1] is None):
        yield directory, list(some)


class Alike(NamedTuple):
    """Names in one directory of what is of one kind.

    Attributes
    ----------
    kind : Kind
        What they are.
    directory : bool
        Whether they are directories.
    names : list of str
        One or many.
    ids : list of str, optional
        The service's ids of files of a run, in the same order.
    """

    kind: Kind
    directory: bool
    names: list[str]
    ids: list[str] | None = None


class Entries(Sources):
    """The tree of one service: its places, their entries, and their bytes.

    Parameters
    ----------
    catalog, content, workers
        As :class:`~flowfs.filesystem.places.Places` has them.

    Attributes
    ----------
    ahead : Ahead
        Fetches what will be looked at next; to be told what is.

    Notes
    -----
    An entry is fsspec's: ``name`` (as asked for), ``type``, ``size`` (bytes or None), and
    where they apply ``mtime`` and ``created`` (seconds since the epoch), ``place`` (a word of
    the domain), ``id``, ``state``, ``title``, ``stored`` (the service's name of an upload),
    ``islink`` and ``target``.
    """

    def __init__(self, catalog: Catalog, content: Content, workers: int) -> None:
        super().__init__(catalog, content, workers)
        self.ahead: Ahead = Ahead(catalog, content, self._facts, workers)

    def entry(self, node: Node, *, ask: bool = True) -> Entry:
        """Return the entry of a place.

        Parameters
        ----------
        node : Node
            Which.
        ask : bool
            Whether to find out a size that is not known: one request for a result or an
            upload. Without it the size is None then.

        Raises
        ------
        NotFound
            If there is no such place now.
        FlowError
            As the service says.
        """
        kind = node.kind
        if kind is tree.OUTPUT:
            record = self._output(node)
            if record is None:
                return self._base(node, directory=True) | self._inside_run(node, ask)
            return self._file_entry(node, record, ask)
        if kind is tree.RESULT:
            return self._file_entry(node, self._result(node), ask)
        if kind is tree.UPLOAD:
            group_id, name = self.group_id(node), node.names["upload"]
            upload = self.catalog.upload(group_id, name)
            try:
                return self._file_entry(node, upload, ask)
            except NotFound:  # asking for its size
                pass
            # It may have been replaced since it was listed.
            self.catalog.uploads(group_id, refresh=True)
            return self._file_entry(node, self.catalog.upload(group_id, name), ask)
        self.check(node)
        entry = self._base(node)
        if kind is tree.STATE_RUN or kind is tree.LATEST:
            run = self.follow(node)
            entry.update(self._run_attributes(self._record(run)))
        elif kind is tree.RUN:
            entry.update(self._run_attributes(self._record(node)))
        elif kind is tree.GROUP:
            group = self.catalog.group(self.group_id(node))
            entry.update(id=group["id"], title=group.get("name"))
        elif kind is tree.WORKFLOW:
            workflow = self.catalog.workflow(self._id(node, "workflow"))
            entry.update(id=workflow["id"], title=workflow.get("name"))
        elif tree.in_run(node):
            entry.update(self._inside_run(node, ask))
        if not kind.directory and entry["size"] is None:
            entry["size"] = self._size(node, ask)
        if "mtime" not in entry and (mtime := self._mtime(node, entry)) is not None:
            entry["mtime"] = mtime
        return entry

    def _mtime(self, node: Node, entry: Entry) -> float | None:
        """Return when what a place shows changed last; None if nobody tells. Never asks."""
        kind = node.kind
        if tree.in_status(node):
            # Not of now, though the figures are: tar would say that they change as it reads.
            return self.status.changed() if kind is tree.ERRORS else self.status.since
        if kind is tree.NEW_ERROR:
            return self._times.first_seen(node.path, self.catalog.refusal(self.group_id(node)))
        if kind in (tree.LEADERBOARD_JSON, tree.LEADERBOARD_CSV):
            board = self.catalog.known_leaderboard(self._id(node, "workflow"))
            return None if board is None else self._times.ranking(board)
        if kind in (tree.WORKFLOW, tree.WORKFLOW_HANDLE):
            run = self.catalog.known_postproc(self._id(node, "workflow"))
            return None if run is None else self._times.run(run)
        if "group" not in node.names:
            return None
        times = self._times.group(self.group_id(node))
        if times is None:
            return None
        if kind in (tree.GROUP_HANDLE, tree.RUN_TABLE):
            return self._times.table(node.path, times)
        told = {
            tree.GROUP: times.newest,
            tree.RUNS: times.runs,
            tree.STATES_DIRECTORY: times.runs,
            tree.UPLOADS: times.uploads,
            tree.STATE: times.states.get(node.names.get("state", "")),
        }.get(kind)
        # What tells of no run and no upload is as old as the group: older than all of them.
        return times.oldest if told is None else told

    def _base(self, node: Node, *, directory: bool | None = None) -> Entry:
        kind = node.kind
        is_directory = kind.directory if directory is None else directory
        entry: Entry = {
            "name": node.asked,
            "size": 0 if is_directory else None,
            "type": "directory" if is_directory else "file",
            "place": kind.name,
        }
        if kind.view or kind.link:
            entry["islink"] = True
            entry["target"] = self.target(node)
        return entry

    @staticmethod
    def _run_attributes(record: RunRecord) -> Entry:
        attributes: Entry = {"id": record.id, "state": record.state}
        if record.mtime is not None:
            attributes |= {"mtime": record.mtime, "created": record.mtime}
        return attributes

    def _inside_run(self, node: Node, ask: bool) -> Entry:
        """Times: when the run was created, and when it ended, or else changed last."""
        if ask or self._knows_handle(node):
            return self._facts_of(self._handle(node)).times
        created = self._record(node).mtime
        return {} if created is None else {"mtime": created, "created": created}

    def _file_entry(self, node: Node, record: FileRecord, ask: bool) -> Entry:
        entry: Entry = {"name": node.asked, "type": "file", "place": node.kind.name}
        source = self._source_of(node, record)
        entry["size"] = self.content.size(source) if ask else self.content.known_size(source)
        entry["id"] = record.id
        if record.mtime is not None:
            entry |= {"mtime": record.mtime, "created": record.mtime}
        if node.kind is tree.UPLOAD:
            entry["stored"] = record.stored
        else:  # on both of its names: on a mount they are one file
            entry["output"] = "/".join(record.output)
        if node.kind is tree.OUTPUT:
            # A file of a view: `target` finds it again by its name, which here is known.
            entry |= {
                "islink": True,
                "target": join(self._run_path(node), "results", record.name),
            }
        for name, value in record.about.items():
            if name != "size":
                entry.setdefault(name, value)
        return entry

    def _size(self, node: Node, ask: bool) -> int | None:
        kind = node.kind
        source = self.source(node)
        if source is not None:
            return self.content.known_size(source)
        if kind is tree.RUN_TABLE:
            return self._tables.size(self.group_id(node))  # asked for only when it is read
        if kind is tree.GROUP_HANDLE:
            return self._tables.handle_size(self.catalog.group(self.group_id(node)))
        if not ask and not self._is_free(node):
            return None
        if kind is tree.RUN_HANDLE or kind is tree.RUN_ARGUMENTS:
            sizes = self._facts_of(self._handle(node)).sizes
            if kind.name not in sizes:
                sizes[kind.name] = len(self.read(node))
            return sizes[kind.name]
        return len(self.read(node))

    def _is_free(self, node: Node) -> bool:
        """Tell whether a generated file can be made without asking."""
        if "run" in node.names:
            return self._knows_handle(node)
        return node.kind not in (tree.LEADERBOARD_JSON, tree.LEADERBOARD_CSV)

    def _knows_handle(self, node: Node) -> bool:
        if "run" not in node.names:
            return True
        return self.catalog.known_run(self.run_id(node)) is not None

    # -- listings ----------------------------------------------------------

    def children(
        self, node: Node, *, refresh: bool = False, state: str | None = None
    ) -> list[Entry]:
        """Return the entries of a directory, or of a file itself.

        Sizes that would cost a request are None.

        Parameters
        ----------
        node : Node
            Which; a link is followed.
        refresh : bool
            Ask the service even if a listing is known.
        state : str, optional
            In a directory of runs: only those in this state.

        Raises
        ------
        NotFound
            If there is no such place now.
        FlowError
            As the service says; never a part of a listing.
        """
        node = self.follow(node)
        if not node.kind.directory and node.kind is not tree.OUTPUT:
            return [self.entry(node, ask=False)]
        list_of = self._LISTERS.get(node.kind)
        if list_of is not None:
            return list(list_of(self, node, refresh, state))
        return [self.entry(node.child(name), ask=False) for name, _ in self._fixed(node, refresh)]

    def names(self, node: Node) -> list[Alike]:
        """Return what a directory lists by name and kind alone; costs what :meth:`children` does.

        Of 100,000 runs there are no entries made.

        Returns
        -------
        list of Alike
            What is of one kind together, in the order of :meth:`children`.

        Raises
        ------
        NotFound, FlowError
            As :meth:`children`.
        """
        node = self.follow(node)
        kind = node.kind
        if kind is tree.RUNS:
            runs = self.catalog.runs(self.group_id(node))
            fixed = [Alike(it, False, [name]) for name, it in self._fixed_of_runs(node)]
            return [*fixed, Alike(tree.RUN, True, runs.names())]
        if kind is tree.RESULTS:
            self.check(node)
            files = self._files(node)
            names = [record.name for record in files]
            return [Alike(tree.RESULT, False, names, [record.id for record in files])]
        if kind is tree.OUTPUTS or kind is tree.OUTPUT:
            self.check(node)
            return [
                Alike(tree.OUTPUT, directory, [name for name, _ in some], ids)
                for directory, some in _grouped(self._below(node))
                for ids in (None if directory else [it.id for _, it in some if it is not None],)
            ]
        if kind.directory and kind not in self._LISTERS:
            return [Alike(it, it.directory, [name]) for name, it in self._fixed(node, False)]
        listed = [(entry["name"].rpartition("/")[2], entry) for entry in self.children(node)]
        return [
            Alike(node.child(name).kind, entry["type"] == "directory", [name])
            for name, entry in listed
        ]

    def _fixed(self, node: Node, refresh: bool) -> Iterator[tuple[str, Kind]]:
        """Yield name and kind of what is in a directory that holds the same everywhere."""
        if node.kind is tree.GROUP:
            self.catalog.group(self.group_id(node), refresh=refresh)
        elif node.kind is tree.RUN:
            self.catalog.run(self.group_id(node), self.run_id(node), refresh=refresh)
            record = self._record(node)  # asked for once: it tells of all that may be there
            for name, kind in tree.child_kinds(node):
                if self._has_kind(record, kind):
                    yield name, kind
            return
        elif node.kind is tree.WORKFLOW:
            self.catalog.workflow(self._id(node, "workflow"), refresh=refresh)
        elif node.kind is not tree.ROOT:
            self.check(node)
        for name, kind in tree.child_kinds(node):
            if kind.when == "always" or self.exists(node.child(name)):
                yield name, kind

    def _list_groups(self, node: Node, refresh: bool, state: str | None) -> Iterator[Entry]:
        for group in self.catalog.groups(refresh=refresh):
            entry = self._base(node.child(group.name)) | {"id": group.id}
            yield entry | {"title": group.title} if group.title else entry

    def _list_workflows(self, node: Node, refresh: bool, state: str | None) -> Iterator[Entry]:
        for workflow in self.catalog.workflows(refresh=refresh):
            entry = self._base(node.child(workflow.name)) | {"id": workflow.id}
            yield entry | {"title": workflow.title} if workflow.title else entry

    def _list_workflow_groups(
        self, node: Node, refresh: bool, state: str | None
    ) -> Iterator[Entry]:
        workflow_id = self._id(node, "workflow")
        for group in self.catalog.workflow_groups(workflow_id, refresh=refresh):
            yield {
                "name": join(node.asked, group.name),
                "size": 0,
                "type": "directory",
                "place": tree.WORKFLOW_GROUP.name,
                "id": group.id,
                "islink": True,
                "target": join("groups", to_name(group.id)),
            }

    def _list_runs(self, node: Node, refresh: bool, state: str | None) -> Iterator[Entry]:
        group_id = self.group_id(node)
        runs = self.catalog.runs(group_id, refresh=refresh)
        for name, _ in self._fixed_of_runs(node) if state is None else ():
            child = node.child(name)
            yield {**self._base(child), "size": len(self.read(child))}
        for name, record in zip(runs.names(), runs.values(), strict=True):
            if state is None or record.state == state:
                yield {
                    "name": f"{node.asked}/{name}",
                    "size": 0,
                    "type": "directory",
                    "place": tree.RUN.name,
                    **self._run_attributes(record),
                }

    def _fixed_of_runs(self, node: Node) -> Iterator[tuple[str, Kind]]:
        for name, kind in tree.child_kinds(node):
            if kind.when == "always" or self.exists(node.child(name)):
                yield name, kind

    def _list_state(self, node: Node, refresh: bool, state: str | None) -> Iterator[Entry]:
        for record in self.catalog.runs(self.group_id(node), refresh=refresh).values():
            if record.state == node.names["state"]:
                yield {
                    "name": join(node.asked, record.name),
                    "size": 0,
                    "type": "directory",
                    "place": tree.STATE_RUN.name,
                    **self._run_attributes(record),
                    "islink": True,
                    "target": join(self._group_path(node), "runs", record.name),
                }

    def _list_states(self, node: Node, refresh: bool, state: str | None) -> Iterator[Entry]:
        self.check(node)
        for name in STATES:
            yield self._base(node.child(name))

    def _list_uploads(self, node: Node, refresh: bool, state: str | None) -> Iterator[Entry]:
        for record in self.catalog.uploads(self.group_id(node), refresh=refresh):
            yield self._file_entry(node.child(record.name), record, ask=False)

    def _list_results(self, node: Node, refresh: bool, state: str | None) -> Iterator[Entry]:
        self._look_at_run(node, refresh)
        for record in self._files(node):
            yield self._file_entry(node.child(record.name), record, ask=False)

    def _look_at_run(self, node: Node, refresh: bool) -> None:
        """Check a directory of a run's files; with `refresh`, first ask how the run is."""
        if refresh and "run" in node.names:
            self.catalog.run(self.group_id(node), self.run_id(node), refresh=True)
        elif refresh:
            self.catalog.workflow(self._id(node, "workflow"), refresh=True)
        self.check(node)

    def _list_outputs(self, node: Node, refresh: bool, state: str | None) -> Iterator[Entry]:
        self._look_at_run(node, refresh)
        if node.kind is tree.OUTPUT and (record := self._output(node)) is not None:
            yield self._file_entry(node, record, ask=False)
            return
        for name, record in self._below(node):
            child = node.child(name)
            if record is not None:
                yield self._file_entry(child, record, ask=False)
            else:
                yield self._base(child, directory=True)

    def _below(self, node: Node) -> Iterator[tuple[str, FileRecord | None]]:
        """Yield the names in a directory of outputs, with their files; None: a directory."""
        here = tuple(node.names["output"].split("/")) if "output" in node.names else ()
        depth = len(here)
        seen = set()
        for record in self._files(node):
            if len(record.output) > depth and record.output[:depth] == here:
                name = record.output[depth]
                if name not in seen:
                    seen.add(name)
                    yield name, record if len(record.output) == depth + 1 else None

    _LISTERS: ClassVar[dict[Kind, Callable[[Entries, Node, bool, str | None], Iterator[Entry]]]] = {
        tree.GROUPS: _list_groups,
        tree.RUNS: _list_runs,
        tree.RESULTS: _list_results,
        tree.OUTPUTS: _list_outputs,
        tree.OUTPUT: _list_outputs,
        tree.STATES_DIRECTORY: _list_states,
        tree.STATE: _list_state,
        tree.UPLOADS: _list_uploads,
        tree.WORKFLOWS: _list_workflows,
        tree.WORKFLOW_GROUPS: _list_workflow_groups,
    }
