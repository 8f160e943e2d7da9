"""flowfs: a workflow service as a file system.

The public names are imported when they are first used, so that ``import flowfs`` costs
next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "FlowFileSystem": "flowfs.filesystem",
    "Run": "flowfs.filesystem",
    "RunsTable": "flowfs.filesystem",
    "Mounted": "flowfs.fuse",
    "mount": "flowfs.fuse",
    "RemoteRunService": "flowfs.service",
    "ServiceDescriptor": "flowfs.service",
    "FlowError": "flowfs.errors",
    "AccessDenied": "flowfs.errors",
    "AlreadyExists": "flowfs.errors",
    "BadReply": "flowfs.errors",
    "ConnectionFailed": "flowfs.errors",
    "DeadlineExceeded": "flowfs.errors",
    "DirectoryNotEmpty": "flowfs.errors",
    "InvalidArguments": "flowfs.errors",
    "InvalidRunState": "flowfs.errors",
    "IsADirectory": "flowfs.errors",
    "NoSpace": "flowfs.errors",
    "NotADirectory": "flowfs.errors",
    "NotFound": "flowfs.errors",
    "NotPermitted": "flowfs.errors",
    "ReadOnly": "flowfs.errors",
    "RunsGone": "flowfs.errors",
    "ServiceBusy": "flowfs.errors",
    "StartsFailed": "flowfs.errors",
    "StillActive": "flowfs.errors",
    "TooLarge": "flowfs.errors",
    "UnclearStart": "flowfs.errors",
}

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "BadReply",
    "ConnectionFailed",
    "DeadlineExceeded",
    "DirectoryNotEmpty",
    "FlowError",
    "FlowFileSystem",
    "InvalidArguments",
    "InvalidRunState",
    "IsADirectory",
    "Mounted",
    "NoSpace",
    "NotADirectory",
    "NotFound",
    "NotPermitted",
    "ReadOnly",
    "RemoteRunService",
    "Run",
    "RunsGone",
    "RunsTable",
    "ServiceBusy",
    "ServiceDescriptor",
    "StartsFailed",
    "StillActive",
    "TooLarge",
    "UnclearStart",
    "__version__",
    "mount",
]

if TYPE_CHECKING:
    from flowfs.errors import (
        AccessDenied,
        AlreadyExists,
        BadReply,
        ConnectionFailed,
        DeadlineExceeded,
        DirectoryNotEmpty,
        FlowError,
        InvalidArguments,
        InvalidRunState,
        IsADirectory,
        NoSpace,
        NotADirectory,
        NotFound,
        NotPermitted,
        ReadOnly,
        RunsGone,
        ServiceBusy,
        StartsFailed,
        StillActive,
        TooLarge,
        UnclearStart,
    )
    from flowfs.filesystem import FlowFileSystem, Run, RunsTable
    from flowfs.fuse import Mounted, mount
    from flowfs.service import RemoteRunService, ServiceDescriptor


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
