"""Where a path leads: places, the links on the way, and whether they are there."""

from __future__ import annotations

from typing import Any

from flowfs import tree
from flowfs.catalog import Catalog, FileRecord, RunRecord, run_files
from flowfs.content import Content
from flowfs.errors import NotADirectory, NotFound, failure
from flowfs.names import from_name, to_name
from flowfs.tree import Node, join

__all__ = ["Entry", "Places"]

Entry = dict[str, Any]

_MAX_LINKS = 8


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
