"""Where a file's bytes come from: the service, or what is made here."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar

from flowfs import arguments as documents
from flowfs import tree
from flowfs.catalog import FileRecord, RunRecord
from flowfs.content import FEWEST, Pack, Source
from flowfs.errors import BadReply, IsADirectory, NotFound, failure
from flowfs.filesystem.facts import RunFacts
from flowfs.filesystem.places import Places
from flowfs.filesystem.rendering import (
    group_json,
    leaderboard_table,
    pretty_json,
    table_row,
)
from flowfs.pool import map_all, results_of
from flowfs.service import FlowService
from flowfs.service.asking import ahead, waited, waiting
from flowfs.service.body import Body
from flowfs.tree import Kind, Node

__all__ = ["Sources", "source_in_run"]


def source_in_run(
    service: FlowService, run_id: str, record: FileRecord, facts: RunFacts | None = None
) -> Source:
    """Return where the bytes of a run's result file come from.

    Parameters
    ----------
    service : FlowService
        Whom to ask.
    run_id : str
        The run.
    record : FileRecord
        Which of its files.
    facts : RunFacts, optional
        What the run's handle says: which others are in the archive with it.
    """
    file_id = record.id
    return Source(
        ("run", run_id, file_id),
        lambda range: service.runs.get_result_file(run_id, file_id, range=range),
        pack=None if facts is None else _pack(service, run_id, facts),
        name=record.stored,
    )


def _pack(service: FlowService, run_id: str, facts: RunFacts) -> Pack | None:
    """Return what is in a run's archive; None for a few files, where nobody wants to know."""
    if facts.pack is None and len(facts.files) >= FEWEST:
        files, session = facts.files, service.session

        def open(seconds: float) -> Body:
            with ahead(), waiting(session.timeout - waited() - seconds):
                return service.runs.get_result_archive(run_id)

        facts.pack = Pack(
            ("run", run_id),
            [record.stored for record in files],
            lambda: [source_in_run(service, run_id, record) for record in files],
            open,
            lambda: session.statistics.shortest,
            session.timeout,
        )
    return facts.pack


def _is_argument(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str) and "value" in value


class Sources(Places):
    """Bytes of places that are files."""

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
            handle = self.catalog.known_run(run_id, any_age=True)
            facts = None if handle is None else self._facts_of(handle)
            return source_in_run(service, run_id, record, facts)
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

    def _errors(self, node: Node) -> bytes:
        return self.status.errors()

    def _statistics(self, node: Node) -> bytes:
        return pretty_json(self.status.statistics())

    def _version(self, node: Node) -> bytes:
        return self.status.version()

    def _nothing(self, node: Node) -> bytes:
        return b""

    def _refusal(self, node: Node) -> bytes:
        self.check(node)
        return self.catalog.refusal(self.group_id(node)) or b""

    def _group_json(self, node: Node) -> bytes:
        return group_json(self.catalog.group(self.group_id(node)))

    def _template(self, node: Node) -> bytes:
        declared = self.catalog.group(self.group_id(node)).get("parameters")
        return documents.template(declared if isinstance(declared, list) else [])

    def _handle_json(self, node: Node) -> bytes:
        return pretty_json(self._handle(node))

    def _arguments_json(self, node: Node) -> bytes:
        arguments = self._handle(node).get("arguments")
        if arguments is None:
            arguments = []
        if not isinstance(arguments, list) or not all(map(_is_argument, arguments)):
            raise failure(
                BadReply, "what the service tells of its arguments is not understood", node.asked
            )
        return documents.dump(arguments)

    def run_handles(
        self, group_id: str, states: Collection[str] | None = None
    ) -> list[dict[str, Any]]:
        """Return the handles of a group's runs, in the service's order.

        One request for the listing, unless it is known, and one for each run whose handle is
        not, several at once.

        Parameters
        ----------
        group_id : str
            The group.
        states : collection of str, optional
            Only runs in one of these states: in the listing, and by their handles.
        """

        def handle_of(record: RunRecord) -> dict[str, Any] | None:
            try:
                return self.catalog.run(group_id, record.id)
            except NotFound:  # deleted since it was listed
                return None

        records = [
            record
            for record in self.catalog.runs(group_id).values()
            if states is None or record.state in states
        ]
        return [
            handle
            for handle in results_of(map_all(handle_of, records, self._workers))
            if handle is not None and (states is None or handle.get("state") in states)
        ]

    def upload_names(self, group_id: str) -> dict[str, str]:
        """Return the names of a group's uploads by their ids. One request unless it is known."""
        return {record.id: record.stored for record in self.catalog.uploads(group_id)}

    def _run_table(self, node: Node) -> bytes:
        """One line a run; a request for each run whose handle is not known."""
        group_id = self.group_id(node)
        uploads = self.upload_names(group_id)
        return b"".join(table_row(handle, uploads) for handle in self.run_handles(group_id))

    def _workflow_json(self, node: Node) -> bytes:
        return pretty_json(self.catalog.workflow(self._id(node, "workflow")))

    def _leaderboard_json(self, node: Node) -> bytes:
        return pretty_json(self.catalog.leaderboard(self._id(node, "workflow")))

    def _leaderboard_csv(self, node: Node) -> bytes:
        return leaderboard_table(self.catalog.leaderboard(self._id(node, "workflow")))

    _MAKERS: ClassVar[dict[Kind, Callable[[Sources, Node], bytes]]] = {
        tree.ERRORS: _errors,
        tree.STATISTICS: _statistics,
        tree.VERSION: _version,
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
