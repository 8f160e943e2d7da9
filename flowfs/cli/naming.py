"""What people name on a command line: paths of the tree, URLs, groups and runs, mounted files.

A name is taken for the first of these that it is:

1. a URL: ``flow://…``, or the http(s) address of the API root with a path behind it;
2. a path on a mount of flowfs: one that begins with ``/``, ``./``, ``../`` or ``~``, or any
   other where the working directory is on a mount;
3. a path of the tree: ``groups/…``, ``workflows/…``, ``.flowfs/…``. The group is its id or,
   where there is no group of that id, its name;
4. a group or a run, and a path below it: ``analysis``, ``analysis/runs``, ``<run id>/outputs``.
   An id goes before a name.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flowfs.cli.located import TOP, located, mounted_url
from flowfs.errors import FlowError, InvalidArguments, NotFound, failure

if TYPE_CHECKING:
    from flowfs.cli.access import Access
    from flowfs.filesystem import FlowFileSystem
    from flowfs.tree import Node

__all__ = ["Place", "expand", "find_group", "find_place", "has_magic", "is_remote"]

_SCHEMES = ("flow", "flow+http", "flow+https", "http", "https")
# As flowServ makes ids: nobody calls a group so.
_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Place:
    """A place that was named.

    Attributes
    ----------
    fs : FlowFileSystem
        The service that it is of.
    path : str
        In the tree.
    given : str
        As it was named.
    """

    fs: FlowFileSystem
    path: str
    given: str

    @property
    def name(self) -> str:
        """The last segment of the path; empty for the root."""
        return self.path.rpartition("/")[2]

    @property
    def url(self) -> str:
        """The full URL."""
        return str(self.fs.unstrip_protocol(self.path))

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Have errors that are raised within be about this place."""
        try:
            yield
        except FlowError as error:
            error.filename = self.url
            raise

    def below(self, *names: str) -> Place:
        """Return a place below this one."""
        from flowfs.tree import join

        return replace(
            self, path=join(self.path, *names), given=join(self.given.rstrip("/"), *names)
        )


def is_remote(text: str) -> bool:
    """Tell whether a name is of a place on a service where files of this machine may be named.

    URLs, paths of the tree from its top, and what is on a mount of flowfs are; a bare name of
    a group is not. Nothing is asked.
    """
    scheme, separator, _ = text.partition("://")
    if separator and scheme.lower() in _SCHEMES:
        return True
    return text.split("/", 1)[0] in TOP or mounted_url(text) is not None


def find_place(access: Access, text: str) -> Place:
    """Return the place that a name is of.

    Nothing is asked for a URL or path with a group by an id as flowServ makes them; one
    request for any other id, and for a name three and one for each workflow. Of the top of the
    tree the service's routes are asked for: nothing else would tell that there is none.

    Parameters
    ----------
    access : Access
        How to talk to the service.
    text : str
        What was named.

    Raises
    ------
    NotFound
        If no group is called so, or several are; the message names what there is.
    click.UsageError
        If it is no URL of a service.
    """
    fs, path = located(access, text)
    head, _, rest = path.partition("/")
    if head == "groups" and rest:
        name, _, below = rest.partition("/")
        return Place(fs, _joined(_group(fs, name), below), text)
    if not path or head in TOP:
        place = Place(fs, path, text)
        if head != ".flowfs" and not rest:
            with place.named():
                _ = fs.catalog.service.descriptor
        return place
    return Place(fs, _joined(_bare(fs, head), rest), text)


def find_group(access: Access, text: str) -> tuple[FlowFileSystem, str]:
    """Return the group that a name is of, or that it is a place in: its service and its id.

    Raises
    ------
    NotFound, InvalidArguments
        If there is none, or it is no place in a group.
    """
    place = find_place(access, text)
    with _node_with(place, "group", "a group is needed, by its id, name or path") as node:
        return place.fs, place.fs.entries.group_id(node)


@contextlib.contextmanager
def _node_with(place: Place, part: str, needed: str) -> Iterator[Node]:
    """Look a place up, links followed, which must be in a group or a run, or one itself."""
    with place.named(), place.fs.entries.operation():
        node = place.fs.entries.follow(place.fs.entries.resolve(place.path))
        if part not in node.names:
            raise failure(InvalidArguments, needed, place.given)
        yield node


def has_magic(text: str) -> bool:
    """Tell whether a name is a pattern."""
    return any(letter in text for letter in "*?[")


def expand(access: Access, texts: Iterable[str]) -> list[Place]:
    """Return the places that names are of, patterns among them (``*``, ``?``, ``[…]``, ``**``).

    What is called so goes before a pattern. Ids have no such letters.

    Raises
    ------
    NotFound
        If nothing matches a pattern, and nothing is called so either.
    """
    found = []
    for text in texts:
        place = find_place(access, text)
        if not has_magic(place.path) or _is_called_so(place):
            found.append(place)
            continue
        matching = place.fs.glob(place.path)
        if matching:
            found += [Place(place.fs, path, path) for path in matching]
        elif place.fs.exists(place.path):
            found.append(place)
        else:
            raise failure(NotFound, "nothing matches", text)
    return found


def _is_called_so(place: Place) -> bool:
    """Tell whether something has a pattern for its name; costs no more than the pattern would."""
    segments = place.path.split("/")
    where = segments[2] if len(segments) > 2 else ""
    ids = segments[: {"runs": 4, "states": 5}.get(where, 2)]
    return not any(map(has_magic, ids)) and bool(place.fs.exists(place.path))


# -- groups and runs --------------------------------------------------------------


def _joined(*segments: str) -> str:
    return "/".join(segment for segment in segments if segment)


def _group(fs: FlowFileSystem, name: str) -> str:
    """Return the path of a group by its id, else by its name."""
    from flowfs.names import from_name, to_name

    raw = from_name(name)
    if _ID.fullmatch(name) or name in (".", ".."):
        return f"groups/{name}"
    if raw and not has_magic(name):
        try:
            fs.catalog.group(raw)
            return f"groups/{name}"
        except NotFound:
            pass
    listed = fs.catalog.groups()
    called = [one for one in listed if one.title and name in (one.title, to_name(one.title))]
    if len(called) == 1:
        return f"groups/{called[0].name}"
    if called:
        paths = ", ".join(f"groups/{one.name}" for one in called)
        raise failure(
            NotFound, f"{len(called)} groups are called {name!r}: {paths}", f"groups/{name}"
        )
    if has_magic(name):
        return f"groups/{name}"
    known = ", ".join(sorted(one.title or one.name for one in listed)[:20]) or "none"
    raise failure(NotFound, f"no group has this id or name; there are: {known}", f"groups/{name}")


def _bare(fs: FlowFileSystem, name: str) -> str:
    """Return the path of a group or run that was named without saying which of both it is."""
    from flowfs.names import from_name, to_name

    raw = from_name(name)
    if raw and raw not in (".", "..") and not has_magic(name):
        try:
            fs.catalog.group(raw)
            return f"groups/{name}"
        except NotFound:
            pass
        try:
            handle = fs.catalog.find_run(raw)
        except NotFound:
            pass
        else:
            from flowfs.tree import RESERVED_RUN_NAMES

            run = to_name(raw, RESERVED_RUN_NAMES)
            return f"groups/{to_name(handle['groupId'])}/runs/{run}"
    try:
        return _group(fs, name)
    except NotFound as error:
        told = str(error.strerror).replace("no group has", "no group and no run has")
        raise failure(NotFound, told.replace("there are", "groups are"), name) from None
