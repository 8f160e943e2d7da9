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
    "ServiceBusy": "flowfs.errors",
    "TooLarge": "flowfs.errors",
    "UnclearStart": "flowfs.errors",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604

if TYPE_CHECKING:
    from flowfs.errors import (
        AccessDenied as AccessDenied,
        AlreadyExists as AlreadyExists,
        BadReply as BadReply,
        ConnectionFailed as ConnectionFailed,
        DeadlineExceeded as DeadlineExceeded,
        DirectoryNotEmpty as DirectoryNotEmpty,
        FlowError as FlowError,
        InvalidArguments as InvalidArguments,
        InvalidRunState as InvalidRunState,
        IsADirectory as IsADirectory,
        NoSpace as NoSpace,
        NotADirectory as NotADirectory,
        NotFound as NotFound,
        NotPermitted as NotPermitted,
        ReadOnly as ReadOnly,
        ServiceBusy as ServiceBusy,
        TooLarge as TooLarge,
        UnclearStart as UnclearStart,
    )
    from flowfs.filesystem import FlowFileSystem as FlowFileSystem
    from flowfs.service import (
        RemoteRunService as RemoteRunService,
        ServiceDescriptor as ServiceDescriptor,
    )


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
