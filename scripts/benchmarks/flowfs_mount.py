"""Our own mount, as the command makes it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.mounts import Mount, served

__all__ = ["environment_of", "flowfs_mount"]


def environment_of(endpoint: str, token: str) -> dict[str, str]:
    """Return the environment in which flowfs finds a service and its token."""
    url = urlsplit(endpoint)
    return {
        "FLOWSERV_API_PROTOCOL": url.scheme,
        "FLOWSERV_API_HOST": url.hostname or "",
        "FLOWSERV_API_PORT": str(url.port),
        "FLOWSERV_API_PATH": url.path,
        "FLOWSERV_ACCESS_TOKEN": token,
    }


@contextlib.contextmanager
def flowfs_mount(
    endpoint: str,
    token: str,
    path: str = "",
    *,
    binding: str = "fusepy",
    library: str | None = None,
    options: Sequence[str] = (),
    cache: Path | None = None,
) -> Iterator[Mount]:
    """Mount a service with ``flowfs mount``; it finds nothing kept from before.

    Parameters
    ----------
    endpoint, token : str
        The service.
    path : str
        What of its tree.
    binding : {"fusepy", "mfusepy"}
        By which binding.
    library : {"fuse", "fuse3"}, optional
        What mfusepy loads.
    options : sequence of str
        Further ones of the command.
    cache : Path, optional
        Where it keeps content, and finds what is kept there; by default in an empty place.
    """
    environment = environment_of(endpoint, token)
    if library is not None:
        environment["FUSE_LIBRARY_NAME"] = library
    if cache is not None:
        environment["XDG_CACHE_HOME"] = os.fspath(cache)
    command = [sys.executable, "-m", "flowfs", "mount", "--foreground", "--fuse", binding]
    with served([*command, *options, f"flow+{endpoint}/{path}", "{mount}"], environment) as mount:
        yield mount
