"""All of one service, behind one session."""

from __future__ import annotations

import threading
from functools import cached_property

from flowfs.errors import BadReply, NotFound, failure
from flowfs.service.descriptor import RouteURL, ServiceDescriptor
from flowfs.service.groups import GroupService
from flowfs.service.runs import RemoteRunService
from flowfs.service.session import Session
from flowfs.service.uploads import UploadService
from flowfs.service.users import UserService
from flowfs.service.workflows import WorkflowService

__all__ = ["FlowService"]


class FlowService:
    """The calls of a service, by what they are about.

    Parameters
    ----------
    session : Session
        Where the service is, and who asks.

    Attributes
    ----------
    descriptor : ServiceDescriptor
        The service's routes; fetched when first used, with one request.
    runs, groups, uploads, workflows, users
        The calls.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._lock = threading.Lock()
        self._descriptor: ServiceDescriptor | None = None

    @property
    def descriptor(self) -> ServiceDescriptor:
        """The service's routes.

        Raises
        ------
        BadReply
            If there is no service at the endpoint.
        FlowError
            If it cannot be asked.
        """
        if self._descriptor is None:
            descriptor = self._fetch()
            with self._lock:
                self._descriptor = self._descriptor or descriptor
        return self._descriptor

    @property
    def known_descriptor(self) -> ServiceDescriptor | None:
        """The service's routes if they have been fetched; never asks."""
        return self._descriptor

    def _fetch(self) -> ServiceDescriptor:
        endpoint = self.session.endpoint
        try:
            reply = self.session.json(
                "GET",
                RouteURL.of("service", endpoint + "/"),
                what="reach the service",
                path=endpoint,
            )
        except NotFound as error:
            # Not NotFound: nothing may take this for an empty tree.
            raise failure(
                BadReply,
                f"no flowServ API there: {error.service_message or 'not found'}; check the URL of "
                "the API root (flowServ's own is /flowserv/api/v1)",
                endpoint,
                status=404,
                words=error.service_message,
            ) from error
        descriptor = ServiceDescriptor.from_document(endpoint, reply)
        if isinstance(descriptor.username, str) and descriptor.username:
            self.session.user = descriptor.username
        return descriptor

    @cached_property
    def runs(self) -> RemoteRunService:
        """The seven calls about runs."""
        return RemoteRunService(self.descriptor, session=self.session)

    @cached_property
    def workflows(self) -> WorkflowService:
        """The calls about workflows."""
        return WorkflowService(self.descriptor, self.session)

    @cached_property
    def groups(self) -> GroupService:
        """The calls about groups."""
        return GroupService(self.descriptor, self.session, self.workflows)

    @cached_property
    def uploads(self) -> UploadService:
        """The calls about uploads."""
        return UploadService(self.descriptor, self.session)

    @cached_property
    def users(self) -> UserService:
        """The calls about users."""
        return UserService(self.descriptor, self.session)
