"""Patterns and walks: one level at a time, asking for nothing that need not be opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from fsspec.utils import glob_translate

from flowfs import tree
from flowfs.errors import NotADirectory, NotFound
from flowfs.filesystem.entries import Entries
from flowfs.filesystem.places import Entry
from flowfs.pool import map_all, result_of, results_of
from flowfs.tree import Node

__all__ = ["find", "glob", "has_magic", "walk"]

OnError = Callable[[OSError], object]

_MAGIC = re.compile(r"[*?[]")
_VIEWS = frozenset(
    kind.name for kind in vars(tree).values() if isinstance(kind, tree.Kind) and kind.view
)


def has_magic(path: str) -> bool:
    """Tell whether a path is a pattern."""
    return bool(_MAGIC.search(path))


def walk(
    entries: Entries,
    start: Node,
    *,
    maxdepth: int | None = None,
    topdown: bool = True,
    on_error: OnError | None = None,
) -> Iterator[tuple[str, list[Entry], list[Entry]]]:
    """Yield path, directories and files of each directory from `start` on.

    Views below the start are passed by, so that nothing is met twice; a start at or in a view
    is entered. A directory that has vanished since it was listed is left out; every other
    failure is raised, or given to `on_error`. One request at a time waits; from the second run
    on, what the next ones need is fetched ahead.
    """
    try:
        start = entries.follow(start)
        entries.ahead.looked(start)
        listing = entries.children(start)
    except (NotFound, NotADirectory) as error:
        if on_error is not None:
            on_error(error)
        return
    except OSError as error:
        if on_error is None:
            raise
        on_error(error)
        return
    shown = [entry for entry in listing if entry["place"] not in _VIEWS]
    directories = [entry for entry in shown if entry["type"] == "directory"]
    files = [entry for entry in shown if entry["type"] != "directory"]
    if topdown:
        yield start.asked, directories, files
    if maxdepth is None or maxdepth > 1:
        below = None if maxdepth is None else maxdepth - 1
        for entry in directories:
            node = _node(start, entry)
            yield from walk(entries, node, maxdepth=below, topdown=topdown, on_error=on_error)
    if not topdown:
        yield start.asked, directories, files


def find(
    entries: Entries,
    start: Node,
    *,
    maxdepth: int | None = None,
    withdirs: bool = False,
    workers: int = 1,
) -> dict[str, Entry]:
    """Return all files below a place by path, as :func:`walk` meets them.

    The directories of one level are listed several at once.

    Parameters
    ----------
    entries : Entries
        The tree.
    start : Node
        Where to begin; a file is its own only find.
    maxdepth : int, optional
        Levels to descend.
    withdirs : bool
        Whether directories are found too, the start among them.
    workers : int
        Requests at once.
    """
    found: dict[str, Entry] = {}
    try:
        start = entries.follow(start)
        first = entries.entry(start, ask=False)
    except (NotFound, NotADirectory):
        return {}
    if first["type"] != "directory":
        return {start.asked: first}
    if withdirs and start.asked:
        found[start.asked] = first
    level, depth = [start], 0
    while level and (maxdepth is None or depth < maxdepth):
        following: list[Node] = []
        outcomes = map_all(lambda node: _opened(entries, node), level, workers)
        for asked, outcome in zip(level, outcomes, strict=True):
            if isinstance(outcome, NotFound) and asked is not start:
                continue  # vanished since it was listed
            node, listing = result_of(outcome)
            for entry in listing:
                if entry["place"] in _VIEWS:
                    continue
                if entry["type"] == "directory":
                    following.append(_node(node, entry))
                    if not withdirs:
                        continue
                found[entry["name"]] = entry
        level, depth = following, depth + 1
    return dict(sorted(found.items()))


def _opened(entries: Entries, node: Node) -> tuple[Node, list[Entry]]:
    """Return the directory that a place is or leads to, and its listing."""
    node = entries.follow(node)
    return node, entries.children(node)


def _node(parent: Node, entry: Entry) -> Node:
    """Return the place of an entry in its parent's listing."""
    return parent.child(entry["name"].rpartition("/")[2])


def glob(entries: Entries, pattern: str, *, maxdepth: int | None, workers: int) -> list[str]:
    """Return the paths that match a pattern, sorted.

    Each level with a wildcard is listed, each without is only named: where the grammar and
    a listing tell that a path is there, nothing is asked. ``**`` walks.

    Parameters
    ----------
    entries : Entries
        The tree.
    pattern : str
        As in fsspec; a ``/`` at the end takes only directories.
    maxdepth : int, optional
        How deep ``**`` reaches.
    workers : int
        Requests at once.
    """
    only_directories = pattern.endswith("/")
    segments = [segment for segment in pattern.split("/") if segment]
    level = [tree.parse("")]
    for index, segment in enumerate(segments):
        if "**" in segment:
            return _glob_deep(
                entries, level, "/".join(segments[index:]), only_directories, maxdepth, workers
            )
        step = _listed if has_magic(segment) else _named
        level = step(entries, level, segment, workers)
    # What the last step listed is there; what it only named has to be looked at.
    if segments and not has_magic(segments[-1]):
        level = _existing(entries, level, workers)
    if only_directories:
        level = [node for node in level if _is_directory(entries, node)]
    return sorted({node.asked for node in level})


def _listed(entries: Entries, level: list[Node], segment: str, workers: int) -> list[Node]:
    matches = re.compile(glob_translate(segment)).match
    opened = map_all(lambda node: _opened_or_none(entries, node), level, workers)
    return [
        _node(node, entry)
        for node, listing in results_of(opened)
        for entry in listing
        if matches(entry["name"].rpartition("/")[2])
    ]


def _opened_or_none(entries: Entries, node: Node) -> tuple[Node, list[Entry]]:
    """List a directory; nothing for a file, or for what is not there."""
    try:
        node = entries.follow(node)
        if not _is_directory(entries, node):
            return node, []
        return node, entries.children(node)
    except (NotFound, NotADirectory):
        return node, []


def _is_directory(entries: Entries, node: Node) -> bool:
    if node.kind is tree.OUTPUT:
        return bool(entries.entry(node, ask=False)["type"] == "directory")
    return node.kind.directory


def _named(entries: Entries, level: list[Node], segment: str, workers: int) -> list[Node]:
    named = []
    for node in level:
        try:
            named.append(entries.follow(node).child(segment))
        except (NotFound, NotADirectory):
            continue
    return named


def _existing(entries: Entries, level: list[Node], workers: int) -> list[Node]:
    there = results_of(map_all(entries.exists, level, workers))
    return [node for node, exists in zip(level, there, strict=True) if exists]


def _glob_deep(
    entries: Entries,
    level: list[Node],
    rest: str,
    only_directories: bool,
    maxdepth: int | None,
    workers: int,
) -> list[str]:
    """Match what is below some places against a pattern that begins with ``**``."""
    matched: set[str] = set()
    matches = re.compile(glob_translate(rest + ("/" if only_directories else ""))).match
    # One place is walked by all workers, many by one each.
    within = workers if len(level) == 1 else 1
    walks = map_all(
        lambda node: find(entries, node, maxdepth=maxdepth, withdirs=True, workers=within),
        level,
        workers,
    )
    for node, below in zip(level, results_of(walks), strict=True):
        for path, entry in below.items():
            relative = path[len(node.asked) :].lstrip("/")
            is_directory = entry["type"] == "directory"
            as_directory = is_directory and (only_directories or rest.endswith("**"))
            if matches(f"{relative}/" if as_directory else relative):
                matched.add(path)
    return sorted(matched)
