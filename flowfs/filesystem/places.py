"""Where a path leads: places, the links on the way, and whether they are there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from flowfs import tree
from flowfs.catalog import Catalog, FileRecord, RunRecord
from flowfs.content import Content
from flowfs.errors import NotADirectory, NotFound, failure
from flowfs.filesystem.facts import KeptFacts, RunFacts
from flowfs.filesystem.status import Status
from flowfs.filesystem.tables import Tables
from flowfs.filesystem.times import Times
from flowfs.names import from_name, to_name
from flowfs.tree import Kind, Node, join

__all__ = ["Entry", "Places"]

Entry = dict[str, Any]

_MAX_LINKS = 8

# Where links lead, as found out in the operation under way; one dict for all its threads.
_links: ContextVar[dict[tuple[int, str], str] | None] = ContextVar("links", default=None)


class Places:
    """The places of one service's tree.

    Parameters
    ----------
    catalog : Catalog
        What is known of its things.
    content : Content
        What is known of its files' bytes.
    workers : int
        Requests at once where many are needed.

    Attributes
    ----------
    status : Status
        What the program tells of itself.
    """

    def __init__(self, catalog: Catalog, content: Content, workers: int) -> None:
        self.catalog = catalog
        self.content = content
        self.status: Status = Status(catalog, content)
        self._times = Times(catalog)
        self._tables = Tables(catalog)
        self._workers = workers
        self._facts = KeptFacts()

    # -- places ------------------------------------------------------------

    @staticmethod
    @contextlib.contextmanager
    def operation() -> Iterator[None]:
        """Resolve each link once, however often it is met within.

        Without it a recursive copy of ``latest/`` would go over to a run that somebody starts
        meanwhile. An operation within another belongs to it.
        """
        if _links.get() is not None:
            yield
            return
        before = _links.set({})
        try:
            yield
        finally:
            _links.reset(before)

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
        asked = node.asked
        for _ in range(_MAX_LINKS):
            if not node.kind.link:
                return node.reached_as(asked)
            node = tree.parse(join(self.target(node), *node.rest))
        raise failure(NotFound, "too many links on the way", asked)

    def target(self, node: Node) -> str:
        """Return the path of what a link or view shows again.

        Raises
        ------
        NotFound
            If it leads nowhere.
        """
        links = _links.get()
        if links is None or not node.kind.link:
            return self._target(node)
        key = (id(self), node.path)
        return links.get(key) or links.setdefault(key, self._target(node))

    def _target(self, node: Node) -> str:
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

    def path_of_run(self, run_id: str) -> str:
        """Return the path of a run, as far as it is known which group it is of; never asks."""
        handle = self.catalog.known_run(run_id) or {}
        group_id = handle.get("groupId") or self.catalog.group_of_run(run_id)
        if group_id is None:
            return "groups"
        return join("groups", to_name(group_id), "runs", to_name(run_id, tree.RESERVED_RUN_NAMES))

    def is_active(self, node: Node) -> bool:
        """Tell whether a place is a run that can still change, as far as known."""
        return node.kind is tree.RUN and self._record(node).active

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
        if kind in (tree.ROOT, tree.GROUPS, tree.WORKFLOWS) or tree.in_status(node):
            return
        if kind.link:
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
            if tree.in_run(node):
                self._check_run(node, RunRecord.of(self._handle(node)))

    @staticmethod
    def _has_kind(record: RunRecord, kind: Kind) -> bool:
        """Tell whether a run has what is of a kind, in the state that it is in."""
        if kind.when == "success":
            return record.state == "SUCCESS"
        return record.active if kind.when == "active" else True

    def _check_run(self, node: Node, record: RunRecord) -> None:
        if not self._has_kind(record, node.kind):
            raise failure(
                NotFound,
                f"the run is in state {record.state}: it has no {node.kind.name}",
                node.path,
            )

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
        if not self._has_files(node):
            return []
        return self._facts_of(self._handle(node)).files

    def _has_files(self, node: Node) -> bool:
        """Tell whether the run may have files; a listing tells of most that have none."""
        return "run" not in node.names or self._record(node).state == "SUCCESS"

    def _facts_of(self, handle: dict[str, Any]) -> RunFacts:
        return self._facts.of(handle)

    def file_of(self, node: Node, handle: dict[str, Any]) -> FileRecord | None:
        """Return which of a run's files a place is, by its handle; None: a directory.

        Never asks.

        Raises
        ------
        NotFound
            If it is none of them.
        """
        facts = self._facts_of(handle)
        if node.kind is tree.RESULT:
            named: FileRecord | None = facts.by_name.get(node.names["file"])
            if named is not None:
                return named
        else:
            output = tuple(node.names["output"].split("/"))
            if output in facts.by_output:
                return facts.by_output[output]
        raise failure(NotFound, "the run has no such file", node.path)

    def _result(self, node: Node) -> FileRecord:
        name = node.names["file"]
        if self._has_files(node):
            record = self._facts_of(self._handle(node)).by_name.get(name)
            if record is not None:
                return record
        raise failure(NotFound, f"the run has no result file {name!r}", node.path)

    def _output(self, node: Node) -> FileRecord | None:
        """Return the file that an output's path names; None if it is a directory."""
        wanted = tuple(node.names["output"].split("/"))
        files = []
        if self._has_files(node):
            facts = self._facts_of(self._handle(node))
            if wanted in facts.by_output:
                return facts.by_output[wanted]
            files = facts.files
        for record in files:
            if wanted[: len(record.output)] == record.output:
                raise failure(NotADirectory, f"{'/'.join(record.output)!r} is a file", node.path)
        known = ", ".join("/".join(record.output) for record in files[:8])
        raise failure(
            NotFound,
            f"the run has no output {'/'.join(wanted)!r}" + (f" (it has {known})" if known else ""),
            node.path,
        )
