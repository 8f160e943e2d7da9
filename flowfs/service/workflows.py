"""Workflows, their rankings and the results of their post-processing."""

from __future__ import annotations

from typing import Any

from flowfs.service.body import Body
from flowfs.service.descriptor import ServiceDescriptor
from flowfs.service.json_shapes import object_of, objects_in
from flowfs.service.session import Session

__all__ = ["WorkflowService"]


class WorkflowService:
    """Find workflows and what belongs to them. Every call costs one request.

    Parameters
    ----------
    descriptor : ServiceDescriptor
        Routes.
    session : Session
        Connections and token.
    """

    def __init__(self, descriptor: ServiceDescriptor, session: Session) -> None:
        self._urls = descriptor.urls
        self._session = session

    def list_workflows(self) -> list[dict[str, Any]]:
        """List the workflows: ``{"id", "name", …}`` each.

        Raises
        ------
        FlowError
            As the service says; never a part of the list.
        """
        what = "list the workflows"
        reply = self._session.json("GET", self._urls("workflows:list"), what=what, path="workflows")
        return objects_in(reply, "workflows", what, "workflows", "id")

    def get_workflow(self, workflow_id: str) -> dict[str, Any]:
        """Get a workflow's handle.

        Returns
        -------
        dict
            ``id``, ``name``, ``parameters``; ``postproc``, the handle of the post-processing
            run, once there is one.

        Raises
        ------
        NotFound, FlowError
            As the service says.
        """
        what, path = f"get workflow {workflow_id!r}", f"workflows/{workflow_id}"
        url = self._urls("workflows:get", workflowId=workflow_id)
        return object_of(self._session.json("GET", url, what=what, path=path), what, path, "id")

    def list_groups(self, workflow_id: str) -> list[dict[str, Any]]:
        """List the user's groups of a workflow: ``{"id", "name", …}`` each.

        Raises
        ------
        NotFound, AccessDenied, FlowError
            As the service says; never a part of the list.
        """
        what = f"list the groups of workflow {workflow_id!r}"
        path = f"workflows/{workflow_id}/groups"
        url = self._urls("workflows:groups", workflowId=workflow_id)
        reply = self._session.json("GET", url, what=what, path=path)
        return objects_in(reply, "groups", what, path, "id")

    def get_leaderboard(self, workflow_id: str) -> dict[str, Any]:
        """Get the ranking of a workflow's results.

        Returns
        -------
        dict
            ``schema`` (columns) and ``ranking`` (one entry a run, best first); both empty for
            a workflow that ranks nothing, for which the service answers null.

        Raises
        ------
        NotFound, FlowError
            As the service says.
        """
        what = f"get the leaderboard of workflow {workflow_id!r}"
        path = f"workflows/{workflow_id}/leaderboard"
        url = self._urls("leaderboard", workflowId=workflow_id)
        reply = self._session.json("GET", url, what=what, path=path)
        if reply is None:
            return {"schema": [], "ranking": []}
        objects_in(reply, "ranking", what, path)
        return object_of(reply, what, path)

    def get_result_file(self, workflow_id: str, file_id: str, *, range: str | None = None) -> Body:
        """Open a file of the post-processing run, as for a run's result file."""
        return self._session.stream(
            self._urls("workflows:download:file", workflowId=workflow_id, fileId=file_id),
            what=f"get file {file_id!r} of workflow {workflow_id!r}",
            path=f"workflows/{workflow_id}/files/{file_id}",
            headers={"Range": range} if range else None,
        )

    def get_result_archive(self, workflow_id: str) -> Body:
        """Open the archive of the post-processing run, as for a run's archive."""
        return self._session.stream(
            self._urls("workflows:download:archive", workflowId=workflow_id),
            what=f"get the archive of workflow {workflow_id!r}",
            path=f"workflows/{workflow_id}/archive",
        )
