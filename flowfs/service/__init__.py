"""The REST client: descriptor, session and the service's calls. Knows nothing of files."""

from flowfs.service.body import Body
from flowfs.service.client import FlowService
from flowfs.service.credentials import Credentials, find_credentials
from flowfs.service.descriptor import DEFAULT_ROUTES, Descriptor, ServiceDescriptor
from flowfs.service.endpoint import endpoint_from_environment, normalize_endpoint
from flowfs.service.runs import ACTIVE_STATES, ENDED_STATES, STATES, RemoteRunService
from flowfs.service.session import Session

__all__ = [
    "ACTIVE_STATES",
    "DEFAULT_ROUTES",
    "ENDED_STATES",
    "STATES",
    "Body",
    "Credentials",
    "Descriptor",
    "FlowService",
    "RemoteRunService",
    "ServiceDescriptor",
    "Session",
    "endpoint_from_environment",
    "find_credentials",
    "normalize_endpoint",
]
