"""What is at a place in the tree: its entry, what it lists, and where its bytes come from.

File system and mount both ask here, so that both show the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from flowfs import arguments as documents
from flowfs import tree
from flowfs.catalog import Catalog, FileRecord, RunRecord, run_files, timestamp
from flowfs.content import Content, Source
from flowfs.errors import IsADirectory, NotADirectory, NotFound, failure
from flowfs.filesystem.rendering import leaderboard_table, pretty_json, table_row
from flowfs.names import from_name, to_name
from flowfs.pool import map_all, results_of
from flowfs.service.runs import STATES
from flowfs.tree import Kind, Node, join

__all__ = ["Entries", "Entry"]

Entry = dict[str, Any]

_MAX_LINKS = 8


class Entries:
    """The tree of one service.

    Parameters
    ----------
    catalog : Catalog
        What is known of its things.
    content : Content
        What is known of its files' bytes.
    workers : int
        Requests at once where many are needed.

    Notes
    -----
    An entry is fsspec's: ``name`` (as asked for), ``type``, ``size`` (bytes or None), and
    where they apply ``mtime`` and ``created`` (seconds since the epoch), ``kind`` (a word of
    the domain), ``id``, ``state``, ``title``, ``islink`` and ``target``.
    """

    def __init__(self, catalog: Catalog, content: Content, workers: int) -> None:
        self.catalog = catalog
        self.content = content
        self._workers = workers

    # -- places ------------------------------------------------------------

    def resolve(self, path: str) -> Node:
        """Find the place a path names, through links on its way (not one at its end).

        Raises
        ------
        NotFound, NotADirectory
            If there is no such place by its form, or a link on the way leads nowhere.
        """
        node = tree.parse(path)
        asked = node.asked
        for _ in range(_MAX_LINKS):
            if not node.rest:
                return node.reached_as(asked)
            node = tree.parse(join(self.target(node), *node.rest))
        raise failure(NotFound, "too many links on the way", asked)

    def follow(self, node: Node) -> Node:
        """Return the place a link leads to, named as the link; other places as they are."""
        if not node.kind.link or node.kind is tree.OUTPUT:
            return node
        return tree.parse(self.target(node)).reached_as(node.asked)

    def target(self, node: Node) -> str:
        """Return the path of what a link or view shows again.

        Raises
        ------
        NotFound
            If it leads nowhere.
        """
        kind = node.kind
        parent = node.path.rpartition("/")[0]
        if kind is tree.LATEST:
            record = self.catalog.latest(self._id(node, "group"))
            if record is None:
                raise failure(NotFound, "no run has been started yet", node.path)
            return join(parent, "runs", record.name)
        if kind is tree.STATE_RUN:
            return join(self._group_path(node), "runs", self._state_record(node).name)
        if kind is tree.WORKFLOW_GROUP:
            name = node.names["group_name"]
            for group in self.catalog.workflow_groups(self._id(node, "workflow")):
                if group.name == name:
                    return join("groups", to_name(group.id))
            raise failure(NotFound, f"no group of this workflow is called {name!r}", node.path)
        if kind is tree.OUTPUT:
            record_of = self._output(node)
            return join(self._run_path(node), "results", record_of.name) if record_of else ""
        if kind in (tree.OUTPUTS, tree.ARCHIVE):
            return join(parent, "results")
        return join(parent, "runs") if kind in (tree.RUN_TABLE, tree.STATES_DIRECTORY) else "groups"

    def _id(self, node: Node, variable: str) -> str:
        """Return the id that a segment stands for; names that were cut are looked up."""
        name = node.names[variable]
        value = from_name(name)
        if value is not None:
            return value
        if variable == "run":
            found = self.catalog.listed_run(self._id(node, "group"), name)
        else:
            listed = self.catalog.groups() if variable == "group" else self.catalog.workflows()
            found = next((thing.id for thing in listed if thing.name == name), None)
        if found is None:
            raise failure(NotFound, f"no {variable} of that name is listed", node.path)
        return found

    def group_id(self, node: Node) -> str:
        """Return the id of the group that a place belongs to."""
        return self._id(node, "group")

    def run_id(self, node: Node) -> str:
        """Return the id of the run that a place belongs to."""
        return self._id(node, "run")

    @staticmethod
    def _group_path(node: Node) -> str:
        return join("groups", node.names["group"])

    def _run_path(self, node: Node) -> str:
        if "run" in node.names:
            return join(self._group_path(node), "runs", node.names["run"])
        return join("workflows", node.names["workflow"], "postproc")

    # -- what a place shows ------------------------------------------------

    def exists(self, node: Node) -> bool:
        """Tell whether a place is there; asks as little as it can.

        Raises
        ------
        FlowError
            If it cannot be told. Only a true "not found" is False.
        """
        try:
            self.check(node)
        except (NotFound, NotADirectory):
            return False
        return True

    def check(self, node: Node) -> None:
        """Raise NotFound unless a place is there; asks as little as it can."""
        kind = node.kind
        if kind in (tree.ROOT, tree.GROUPS, tree.WORKFLOWS):
            return
        if kind.link and kind is not tree.OUTPUT:
            self.target(node)
        elif kind is tree.RESULT:
            self._result(node)
        elif kind is tree.OUTPUT:
            self._output(node)
        elif kind is tree.UPLOAD:
            self.catalog.upload(self.group_id(node), node.names["upload"])
        elif "run" in node.names:
            self._check_run(node, self._record(node))
        elif kind is tree.NEW_ERROR:
            if self.catalog.refusal(self.group_id(node)) is None:
                raise failure(NotFound, "no start was refused since the last success", node.path)
        elif "group" in node.names:
            self.catalog.group(self.group_id(node))
        else:
            self.catalog.workflow(self._id(node, "workflow"))
            if node.path.split("/")[2:3] == ["postproc"]:
                self._check_run(node, RunRecord.of(self._handle(node)))

    def _check_run(self, node: Node, record: RunRecord) -> None:
        when = node.kind.when
        if (when == "success" and record.state != "SUCCESS") or (
            when == "active" and not record.active
        ):
            raise failure(
                NotFound,
                f"the run is in state {record.state}: it has no {node.kind.name}",
                node.path,
            )

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
        self.check(node)
        kind = node.kind
        if kind is tree.OUTPUT:
            record = self._output(node)
            if record is None:
                return self._base(node, directory=True)
            return self._file_entry(node, record, ask)
        if kind is tree.RESULT:
            return self._file_entry(node, self._result(node), ask)
        if kind is tree.UPLOAD:
            upload = self.catalog.upload(self.group_id(node), node.names["upload"])
            return self._file_entry(node, upload, ask)
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
        elif "run" in node.names or kind is tree.POSTPROC:
            handle = None
            if not kind.directory and (ask or self._knows_handle(node)):
                handle = self._handle(node)
            entry.update(self._inside_run(node, handle))
        if not kind.directory and entry["size"] is None:
            entry["size"] = self._size(node, ask)
        return entry

    def _base(self, node: Node, *, directory: bool | None = None) -> Entry:
        kind = node.kind
        is_directory = kind.directory if directory is None else directory
        entry: Entry = {
            "name": node.asked,
            "size": 0 if is_directory else None,
            "type": "directory" if is_directory else "file",
            "kind": kind.name,
        }
        if kind.view or (kind.link and not (kind is tree.OUTPUT and is_directory)):
            entry["islink"] = True
            entry["target"] = self.target(node)
        return entry

    @staticmethod
    def _run_attributes(record: RunRecord) -> Entry:
        attributes: Entry = {"id": record.id, "state": record.state}
        if record.mtime is not None:
            attributes |= {"mtime": record.mtime, "created": record.mtime}
        return attributes

    def _inside_run(self, node: Node, handle: dict[str, Any] | None) -> Entry:
        if handle is None:
            handle = self.catalog.known_run(self.run_id(node)) if "run" in node.names else None
        times = handle or {}
        created = timestamp(times.get("createdAt"))
        if handle is None and "run" in node.names:
            created = self._record(node).mtime
        mtime = timestamp(times.get("finishedAt")) or created
        return {k: v for k, v in (("mtime", mtime), ("created", created)) if v is not None}

    def _file_entry(self, node: Node, record: FileRecord, ask: bool) -> Entry:
        entry = self._base(node, directory=False)
        source = self._source_of(node, record)
        entry["size"] = self.content.size(source) if ask else self.content.known_size(source)
        entry["id"] = record.id
        if record.mtime is not None:
            entry |= {"mtime": record.mtime, "created": record.mtime}
        if node.kind is tree.RESULT:
            entry["output"] = "/".join(record.output)
        entry.update({k: v for k, v in record.about.items() if k not in entry and k != "size"})
        return entry

    def _size(self, node: Node, ask: bool) -> int | None:
        source = self.source(node)
        if source is not None:
            return self.content.known_size(source)
        if node.kind is tree.RUN_TABLE:
            return None  # a request for each run that is not known: only when it is read
        if not ask and not self._is_free(node):
            return None
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

    # -- runs and their files ----------------------------------------------

    def _record(self, node: Node) -> RunRecord:
        return self.catalog.run_record(self.group_id(node), self.run_id(node))

    def _state_record(self, node: Node) -> RunRecord:
        record = self._record(node)
        if record.state != node.names["state"]:
            raise failure(NotFound, f"the run is in state {record.state}", node.path)
        return record

    def _handle(self, node: Node) -> dict[str, Any]:
        if "run" in node.names:
            return self.catalog.run(self.group_id(node), self.run_id(node))
        handle = self.catalog.postproc(self._id(node, "workflow"))
        if handle is None:
            raise failure(NotFound, "this workflow has no post-processing run", node.path)
        return handle

    def _files(self, node: Node) -> list[FileRecord]:
        # A listing tells that a run has no files yet: no need to open it.
        if "run" in node.names and self._record(node).state != "SUCCESS":
            return []
        return run_files(self._handle(node))

    def _result(self, node: Node) -> FileRecord:
        name = node.names["file"]
        for record in self._files(node):
            if record.name == name:
                return record
        raise failure(NotFound, f"the run has no result file {name!r}", node.path)

    def _output(self, node: Node) -> FileRecord | None:
        """Return the file that an output's path names; None if it is a directory."""
        wanted = tuple(node.names["output"].split("/"))
        files = self._files(node)
        for record in files:
            if record.output == wanted:
                return record
        for record in files:
            if record.output[: len(wanted)] == wanted:
                return None
            if wanted[: len(record.output)] == record.output:
                raise failure(NotADirectory, f"{'/'.join(record.output)!r} is a file", node.path)
        known = ", ".join("/".join(record.output) for record in files[:8])
        raise failure(
            NotFound,
            f"the run has no output {'/'.join(wanted)!r}" + (f" (it has {known})" if known else ""),
            node.path,
        )

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
        return list(self._list_fixed(node, refresh))

    def _list_fixed(self, node: Node, refresh: bool) -> Iterator[Entry]:
        if node.kind is tree.GROUP:
            self.catalog.group(self.group_id(node), refresh=refresh)
        elif node.kind is tree.RUN:
            self.catalog.run(self.group_id(node), self.run_id(node), refresh=refresh)
        elif node.kind is tree.WORKFLOW:
            self.catalog.workflow(self._id(node, "workflow"), refresh=refresh)
        elif node.kind is not tree.ROOT:
            self.check(node)
        for name, kind in tree.child_kinds(node):
            child = node.child(name)
            if kind.when == "always" or self.exists(child):
                yield self.entry(child, ask=False)

    def _list_groups(self, node: Node, refresh: bool, state: str | None) -> Iterator[Entry]:
        for group in self.catalog.groups(refresh=refresh):
            yield self._base(node.child(group.name)) | {"id": group.id}

    def _list_workflows(self, node: Node, refresh: bool, state: str | None) -> Iterator[Entry]:
        for workflow in self.catalog.workflows(refresh=refresh):
            yield self._base(node.child(workflow.name)) | {"id": workflow.id}

    def _list_workflow_groups(
        self, node: Node, refresh: bool, state: str | None
    ) -> Iterator[Entry]:
        workflow_id = self._id(node, "workflow")
        for group in self.catalog.workflow_groups(workflow_id, refresh=refresh):
            entry = self._base(node.child(group.name))
            yield entry | {"id": group.id, "target": join("groups", to_name(group.id))}

    def _list_runs(self, node: Node, refresh: bool, state: str | None) -> Iterator[Entry]:
        group_id = self.group_id(node)
        records = self.catalog.runs(group_id, refresh=refresh).values()
        for name, kind in tree.child_kinds(node):
            child = node.child(name)
            if state is None and (kind.when == "always" or self.exists(child)):
                yield {**self._base(child), "size": len(self.read(child))}
        for record in records:
            if state is None or record.state == state:
                yield {
                    "name": join(node.asked, record.name),
                    "size": 0,
                    "type": "directory",
                    "kind": tree.RUN.name,
                    **self._run_attributes(record),
                }

    def _list_state(self, node: Node, refresh: bool, state: str | None) -> Iterator[Entry]:
        for record in self.catalog.runs(self.group_id(node), refresh=refresh).values():
            if record.state == node.names["state"]:
                yield {
                    "name": join(node.asked, record.name),
                    "size": 0,
                    "type": "directory",
                    "kind": tree.STATE_RUN.name,
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
        self.check(node)
        for record in self._files(node):
            yield self._file_entry(node.child(record.name), record, ask=False)

    def _list_outputs(self, node: Node, refresh: bool, state: str | None) -> Iterator[Entry]:
        self.check(node)
        here = tuple(node.names["output"].split("/")) if "output" in node.names else ()
        seen = set()
        for record in self._files(node):
            if record.output[: len(here)] != here or len(record.output) == len(here):
                if record.output == here:
                    yield self._file_entry(node, record, ask=False)
                continue
            name = record.output[len(here)]
            if name not in seen:
                seen.add(name)
                child = node.child(name)
                if len(record.output) == len(here) + 1:
                    yield self._file_entry(child, record, ask=False)
                else:
                    yield self._base(child, directory=True)

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

    # -- bytes -------------------------------------------------------------

    def source(self, node: Node) -> Source | None:
        """Return where a file's bytes come from; None for what is made here.

        Raises
        ------
        NotFound
            If there is no such file now.
        IsADirectory
            If it is a directory of outputs.
        """
        if node.kind is tree.ARCHIVE:
            return self._archive(node)
        if node.kind is tree.RESULT:
            return self._source_of(node, self._result(node))
        if node.kind is tree.OUTPUT:
            record = self._output(node)
            if record is None:
                raise failure(IsADirectory, "is a directory of outputs", node.path)
            return self._source_of(node, record)
        if node.kind is tree.UPLOAD:
            record = self.catalog.upload(self.group_id(node), node.names["upload"])
            return self._source_of(node, record)
        return None

    def _source_of(self, node: Node, record: FileRecord) -> Source:
        service, file_id = self.catalog.service, record.id
        if node.kind is tree.UPLOAD:
            group_id = self.group_id(node)
            return Source(
                ("upload", group_id, file_id),
                lambda range: service.uploads.get_file(group_id, file_id, range=range),
            )
        if "run" in node.names:
            run_id = self.run_id(node)
            return Source(
                ("run", run_id, file_id),
                lambda range: service.runs.get_result_file(run_id, file_id, range=range),
            )
        workflow_id = self._id(node, "workflow")
        return Source(
            ("workflow", workflow_id, file_id),
            lambda range: service.workflows.get_result_file(workflow_id, file_id, range=range),
        )

    def _archive(self, node: Node) -> Source:
        service = self.catalog.service
        if "run" in node.names:
            run_id = self.run_id(node)
            return Source(
                ("run", run_id),
                lambda range: service.runs.get_result_archive(run_id),
                whole=True,
            )
        workflow_id = self._id(node, "workflow")
        return Source(
            ("workflow", workflow_id, str(self._handle(node)["id"])),
            lambda range: service.workflows.get_result_archive(workflow_id),
            whole=True,
        )

    def url(self, node: Node) -> str | None:
        """Return the service's own URL of a place; None if it has none.

        Raises
        ------
        NotFound
            If there is no such file now.
        """
        runs = self.catalog.service.runs
        source = self.source(node)
        if source is not None:
            space, *ids = source.key
            if space == "upload":
                return runs.urls("files:download", userGroupId=ids[0], fileId=ids[1])
            owner = {"runId" if space == "run" else "workflowId": ids[0]}
            place = f"{space}s:download"
            if source.whole:
                return runs.urls(f"{place}:archive", **owner)
            return runs.urls(f"{place}:file", **owner, fileId=ids[1])
        if node.kind in (tree.RUN, tree.RUN_HANDLE) and "run" in node.names:
            return runs.urls("runs:get", runId=self.run_id(node))
        if node.kind in (tree.GROUP, tree.GROUP_HANDLE):
            return runs.urls("groups:get", userGroupId=self.group_id(node))
        if node.kind in (tree.WORKFLOW, tree.WORKFLOW_HANDLE):
            return runs.urls("workflows:get", workflowId=self._id(node, "workflow"))
        if node.kind is tree.LEADERBOARD_JSON:
            return runs.urls("leaderboard", workflowId=self._id(node, "workflow"))
        return None

    def read(self, node: Node) -> bytes:
        """Return all of a file that is made here, as of now.

        Raises
        ------
        IsADirectory
            If it is no file.
        FlowError
            As the service says.
        """
        make = self._MAKERS.get(node.kind)
        if make is None:
            raise failure(IsADirectory, f"is a directory ({node.kind.name})", node.asked)
        return make(self, node)

    def _nothing(self, node: Node) -> bytes:
        return b""

    def _refusal(self, node: Node) -> bytes:
        self.check(node)
        return self.catalog.refusal(self.group_id(node)) or b""

    def _group_json(self, node: Node) -> bytes:
        return pretty_json(self.catalog.group(self.group_id(node)))

    def _template(self, node: Node) -> bytes:
        declared = self.catalog.group(self.group_id(node)).get("parameters")
        return documents.template(declared if isinstance(declared, list) else [])

    def _handle_json(self, node: Node) -> bytes:
        return pretty_json(self._handle(node))

    def _arguments_json(self, node: Node) -> bytes:
        arguments = self._handle(node).get("arguments")
        return documents.dump(arguments if isinstance(arguments, list) else [])

    def _run_table(self, node: Node) -> bytes:
        """One line a run; a request for each run whose handle is not known."""
        group_id = self.group_id(node)
        uploads = {r.id: r.stored for r in self.catalog.uploads(group_id)}

        def row(record: RunRecord) -> bytes:
            try:
                return table_row(self.catalog.run(group_id, record.id), uploads)
            except NotFound:  # deleted since it was listed
                return b""

        records = list(self.catalog.runs(group_id).values())
        return b"".join(results_of(map_all(row, records, self._workers)))

    def _workflow_json(self, node: Node) -> bytes:
        return pretty_json(self.catalog.workflow(self._id(node, "workflow")))

    def _leaderboard_json(self, node: Node) -> bytes:
        return pretty_json(self.catalog.leaderboard(self._id(node, "workflow")))

    def _leaderboard_csv(self, node: Node) -> bytes:
        return leaderboard_table(self.catalog.leaderboard(self._id(node, "workflow")))

    _MAKERS: ClassVar[dict[Kind, Callable[[Entries, Node], bytes]]] = {
        tree.NEW: _nothing,
        tree.CANCEL: _nothing,
        tree.NEW_ERROR: _refusal,
        tree.GROUP_HANDLE: _group_json,
        tree.TEMPLATE: _template,
        tree.RUN_HANDLE: _handle_json,
        tree.RUN_ARGUMENTS: _arguments_json,
        tree.RUN_TABLE: _run_table,
        tree.WORKFLOW_HANDLE: _workflow_json,
        tree.LEADERBOARD_JSON: _leaderboard_json,
        tree.LEADERBOARD_CSV: _leaderboard_csv,
    }
