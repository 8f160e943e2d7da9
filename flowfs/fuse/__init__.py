"""The tree as a FUSE mount: operations over :class:`~flowfs.FlowFileSystem`.

What is here is imported when it is used: who only ends or lists mounts needs no file system.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["Mounted", "mount", "unmount"]

if TYPE_CHECKING:
    from flowfs.fuse.mounted import Mounted, mount
    from flowfs.fuse.unmounting import unmount

_HERE = {
    "Mounted": "flowfs.fuse.mounted",
    "mount": "flowfs.fuse.mounted",
    "unmount": "flowfs.fuse.unmounting",
}


def __getattr__(name: str) -> Any:
    if name not in _HERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HERE[name]), name)
