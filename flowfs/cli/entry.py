"""How a place looks in a listing, and what JSON tells of it."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowfs.cli.output import document_time, state_style, style
from flowfs.errors import printable

if TYPE_CHECKING:
    from flowfs.filesystem import FlowFileSystem
    from flowfs.tree import Node

__all__ = ["Cell", "ask_sizes", "document", "mode_of", "name_cell"]

#: A text as it is, printable, and as it looks.
Cell = tuple[str, str]

# Whose size the service tells: one request each.
_ASKED_FOR = frozenset({"result", "output", "upload"})
_AS_THEY_ARE = ("id", "state", "title", "target", "output", "stored")


def document(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON tells of an entry of the file system.

    ``path``, ``name``, ``kind``, ``type`` (file or directory), ``size`` (bytes; null: not
    known, and of a directory), ``modified`` (UTC; null: nobody tells); where they apply ``id``,
    ``state``, ``title``, ``target`` (of a link or view: the path it stands for), ``output``
    (of a result, its path below ``outputs/``) and ``stored`` (the service's name of an upload).
    """
    path = entry["name"]
    told = {
        "path": path,
        "name": path.rpartition("/")[2],
        "kind": entry["place"],
        "type": entry["type"],
        "size": entry["size"] if entry["type"] == "file" else None,
        "modified": document_time(entry.get("mtime")),
    }
    return told | {name: entry[name] for name in _AS_THEY_ARE if entry.get(name) is not None}


def mode_of(node: Node, entry: Mapping[str, Any], *, read_only: bool) -> str:
    """Return type and permissions as ``ls -l`` writes them; what can be done, as on a mount."""
    from flowfs.fuse.attributes import Attributes

    attributes = Attributes(read_only, 0)
    type_of = attributes.file_type(node, dict(entry))
    return stat.filemode(type_of | attributes.permissions(node, type_of))


def name_cell(
    node: Node,
    entry: Mapping[str, Any],
    color: bool,
    *,
    name: str | None = None,
    long: bool = False,
) -> Cell:
    """Return the name of a place as it is listed, coloured by what it is.

    Parameters
    ----------
    node, entry
        The place.
    color : bool
        Whether there are colours.
    name : str, optional
        To be shown in place of the last segment.
    long : bool
        Whether to say where a link leads.
    """
    text = printable(node.name if name is None else name)
    if entry.get("state"):
        look = {**state_style(entry["state"]), "bold": True}
    elif node.kind.link:
        look = {"fg": "cyan", "bold": True}
    elif entry["type"] == "directory":
        look = {"fg": "blue", "bold": True}
    else:
        look = {}
    shown = style(text, color, **look)
    if long and node.kind.link:
        from flowfs.fuse.attributes import link_text

        target = f" -> {printable(link_text(node, entry['target']))}"
        text, shown = text + target, shown + target
    title = entry.get("title")
    if title and entry["type"] == "directory":
        told = f" ({printable(str(title))})"
        text, shown = text + told, shown + style(told, color, dim=True)
    return text, shown


def ask_sizes(fs: FlowFileSystem, entries: list[dict[str, Any]]) -> None:
    """Find out the sizes of files in a listing that are not known, several at once.

    Raises
    ------
    FlowError
        If some cannot be told; those that can are filled in all the same.
    """
    unknown = [
        entry
        for entry in entries
        if entry["size"] is None and entry["type"] == "file" and entry["place"] in _ASKED_FOR
    ]
    if not unknown:
        return
    try:
        sizes: list[int | None] = fs.sizes([entry["name"] for entry in unknown])
    except OSError:
        for entry in unknown:  # what came is kept: nothing is asked again
            entry["size"] = _known_size(fs, entry["name"])
        raise
    for entry, size in zip(unknown, sizes, strict=True):
        entry["size"] = size


def _known_size(fs: FlowFileSystem, path: str) -> int | None:
    size: int | None = fs.entries.entry(fs.entries.resolve(path), ask=False)["size"]
    return size
