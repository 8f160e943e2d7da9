"""Groups: who runs a workflow together, with their uploads and runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowfs.errors import BadReply, NotFound, failure
from flowfs.service.descriptor import ServiceDescriptor
from flowfs.service.json_shapes import object_of, objects_in
from flowfs.service.session import Session
from flowfs.service.workflows import WorkflowService

__all__ = ["GroupService"]


class GroupService:
    """Find groups.

    Parameters
    ----------
    descriptor : ServiceDescriptor
        Routes.
    session : Session
        Connections and token.
    workflows : WorkflowService
        The way to groups where the service lists none.
    """

    def __init__(
        self, descriptor: ServiceDescriptor, session: Session, workflows: WorkflowService
    ) -> None:
        self._urls = descriptor.urls
        self._session = session
        self._workflows = workflows

    def get_group(
        self, group_id: str, objects: Callable[[list[tuple[str, Any]]], Any] | None = None
    ) -> dict[str, Any]:
        """Get a group's handle. One request.

        Parameters
        ----------
        group_id : str
            The group.
        objects : callable, optional
            Makes what is to stand for each object of the reply, of its members.

        Returns
        -------
        dict
            ``id``, ``name``, ``workflow``, ``members``, ``parameters`` (declarations),
            ``files`` (uploads) and ``runs``.

        Raises
        ------
        NotFound, AccessDenied, FlowError
            As the service says.
        """
        what, path = f"get group {group_id!r}", f"groups/{group_id}"
        url = self._urls("groups:get", userGroupId=group_id)
        reply = self._session.json("GET", url, what=what, path=path, objects=objects)
        group = object_of(reply, what, path, "id")
        if group["id"] != group_id:
            raise failure(BadReply, f"cannot {what}: the reply is about {group['id']!r}", path)
        return group

    def list_groups(self) -> list[dict[str, Any]]:
        """List all groups of the user.

        One request where the service lists groups. Where it does not (rob-flask announces
        that route and has none), one for the workflows and one for each of them.

        Returns
        -------
        list of dict
            ``{"id", "name", "workflow"}``.

        Raises
        ------
        AccessDenied, FlowError
            As the service says; never a part of the list.
        """
        what = "list the groups"
        try:
            reply = self._session.json("GET", self._urls("groups:list"), what=what, path="groups")
            return objects_in(reply, "groups", what, "groups", "id")
        except NotFound:
            pass
        groups: dict[str, dict[str, Any]] = {}
        for workflow in self._workflows.list_workflows():
            for group in self._workflows.list_groups(workflow["id"]):
                groups[group["id"]] = {"workflow": workflow["id"], **group}
        return list(groups.values())
