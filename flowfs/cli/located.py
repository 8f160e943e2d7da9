"""Which service a name is of, and which path there: by its URL, or the mount that it is on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from flowfs.errors import NotFound, failure

if TYPE_CHECKING:
    from flowfs.cli.access import Access
    from flowfs.filesystem import FlowFileSystem

__all__ = ["TOP", "located", "mounted_url"]

#: What is at the top of the tree.
TOP = ("groups", "workflows", ".flowfs")
_LOCAL = ("/", "./", "../", "~")


def located(access: Access, text: str) -> tuple[FlowFileSystem, str]:
    """Return the service that a name is of, and the path in it as it was written."""
    from flowfs.filesystem.urls import parse_url

    if not text:
        raise click.UsageError("a place is needed, not an empty name; the root is '/'")
    scheme, separator, _ = text.partition("://")
    if not separator or "/" in scheme:
        mounted = mounted_url(text)
        if mounted is not None:
            text = mounted
        elif text.startswith(_LOCAL) and text.strip("/").split("/")[0] not in ("", *TOP):
            raise failure(NotFound, "is not on a mount of flowfs, and no path as groups/…", text)
    elif scheme.lower() in ("http", "https"):
        text = f"flow+{scheme.lower()}://{text.partition('://')[2]}"
    try:
        location = parse_url(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return access.file_system(location.service), location.path


def mounted_url(text: str) -> str | None:
    """Return the URL of a path on a mount of flowfs; None if it is on none.

    The mount itself is not looked at: it may hang.
    """
    from flowfs.fuse.table import TYPE, mounts

    try:
        there = {one.directory: one for one in mounts() if one.type == TYPE}
        here = os.getcwd() if there else ""
    except OSError:
        return None
    if not there:
        return None
    top = text.split("/", 1)[0] in TOP
    path = os.path.normpath(os.path.join(here, os.path.expanduser(text)))
    directory = _mountpoint(here if top else path, list(there))
    if directory is None and not top and text.startswith(_LOCAL):
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        directory = _mountpoint(path, list(there))
    if directory is None:
        return None
    url = _url_of(directory, there[directory].number, there[directory].source)
    if url is None:
        return None
    if top:  # of the service that is mounted here
        from flowfs.filesystem.urls import parse_url

        service = parse_url(url).service
        return f"{service}/{text}" if service else text
    below = os.path.relpath(path, directory)
    return url if below == "." else f"{url.rstrip('/')}/{below}"


def _mountpoint(path: str, directories: list[str]) -> str | None:
    """Return the innermost of some directories that a path is in."""
    within = [one for one in directories if path == one or path.startswith(one.rstrip("/") + "/")]
    return max(within, key=len, default=None)


def _url_of(directory: str, number: int, source: str) -> str | None:
    if "://" in source:
        return f"flow+{source}" if source.startswith("http") else source
    from flowfs.fuse.registry import find

    record = find(directory, number)
    return record.url if record is not None else None
