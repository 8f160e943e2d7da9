"""What a path means: the grammar of the tree, as data. No I/O.

Every place in the tree is one line in :data:`_PLACES`. A placeholder ``{run}`` takes one
segment, ``{output...}`` all that are left. Whoever reads or lists a place looks it up by its
:class:`Kind`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from flowfs.errors import NotADirectory, NotFound, failure
from flowfs.names import from_name
from flowfs.service.runs import STATES

__all__ = [
    "RESERVED_RUN_NAMES",
    "Kind",
    "Node",
    "child_kinds",
    "in_run",
    "in_status",
    "join",
    "normalize",
    "parse",
]


@dataclass(frozen=True, eq=False)
class Kind:
    """What is at a place; there is one of each.

    Attributes
    ----------
    name : str
        The domain's word for it.
    directory : bool
        Whether it is a directory (an output may be either: its handle tells).
    view : bool
        Whether it shows again what has its place elsewhere. Walks from above pass it by.
    link : bool
        Whether it stands for one other place: a symbolic link on a mount.
    writable : bool
        Whether something can be written there.
    when : str
        When it is there: ``always``, or once its parent is ``success``, ``active``,
        ``refused``, ``started`` (has a run) or ``processed`` (has a post-processing run).
    listed : bool
        Whether its directory lists it. What is not listed is there for who names it.
    """

    name: str
    directory: bool = False
    view: bool = False
    link: bool = False
    writable: bool = False
    when: str = "always"
    listed: bool = True


ROOT = Kind("root", directory=True)
STATUS = Kind("status directory", directory=True, listed=False)
ERRORS = Kind("list of errors")
STATISTICS = Kind("statistics file")
VERSION = Kind("version file")
GROUPS = Kind("groups", directory=True)
GROUP = Kind("group", directory=True)
GROUP_HANDLE = Kind("group handle")
TEMPLATE = Kind("arguments template")
LATEST = Kind("latest run", directory=True, view=True, link=True, when="started")
RUNS = Kind("runs", directory=True)
NEW = Kind("new run", writable=True)
NEW_ERROR = Kind("refusal", when="refused")
RUN = Kind("run", directory=True)
RUN_HANDLE = Kind("run handle")
RUN_ARGUMENTS = Kind("run arguments")
RESULTS = Kind("results", directory=True)
RESULT = Kind("result")
OUTPUTS = Kind("outputs", directory=True, view=True)
OUTPUT = Kind("output")
ARCHIVE = Kind("archive", view=True, when="success")
CANCEL = Kind("cancel", writable=True, when="active")
RUN_TABLE = Kind("table of runs", view=True)
STATES_DIRECTORY = Kind("states", directory=True, view=True)
STATE = Kind("state", directory=True)
STATE_RUN = Kind("run by state", directory=True, link=True)
UPLOADS = Kind("uploads", directory=True)
UPLOAD = Kind("upload", writable=True)
WORKFLOWS = Kind("workflows", directory=True)
WORKFLOW = Kind("workflow", directory=True)
WORKFLOW_HANDLE = Kind("workflow handle")
LEADERBOARD_JSON = Kind("leaderboard")
LEADERBOARD_CSV = Kind("leaderboard table")
POSTPROC = Kind("post-processing run", directory=True, when="processed")
WORKFLOW_GROUPS = Kind("groups of a workflow", directory=True, view=True)
WORKFLOW_GROUP = Kind("group by name", directory=True, link=True)

_STATUS = ".flowfs"
_GROUP, _RUN = "groups/{group}", "groups/{group}/runs/{run}"
_WORKFLOW, _POSTPROC = "workflows/{workflow}", "workflows/{workflow}/postproc"

_PLACES: tuple[tuple[str, Kind], ...] = (
    ("", ROOT),
    (_STATUS, STATUS),
    (f"{_STATUS}/errors", ERRORS),
    (f"{_STATUS}/stats.json", STATISTICS),
    (f"{_STATUS}/version", VERSION),
    ("groups", GROUPS),
    (_GROUP, GROUP),
    (f"{_GROUP}/group.json", GROUP_HANDLE),
    (f"{_GROUP}/arguments.template.json", TEMPLATE),
    (f"{_GROUP}/latest", LATEST),
    (f"{_GROUP}/runs", RUNS),
    (f"{_GROUP}/runs/new", NEW),
    (f"{_GROUP}/runs/new.error", NEW_ERROR),
    (_RUN, RUN),
    (f"{_RUN}/handle.json", RUN_HANDLE),
    (f"{_RUN}/arguments.json", RUN_ARGUMENTS),
    (f"{_RUN}/results", RESULTS),
    (f"{_RUN}/results/{{file}}", RESULT),
    (f"{_RUN}/outputs", OUTPUTS),
    (f"{_RUN}/outputs/{{output...}}", OUTPUT),
    (f"{_RUN}/archive.tar.gz", ARCHIVE),
    (f"{_RUN}/cancel", CANCEL),
    (f"{_GROUP}/runs.jsonl", RUN_TABLE),
    (f"{_GROUP}/states", STATES_DIRECTORY),
    (f"{_GROUP}/states/{{state}}", STATE),
    (f"{_GROUP}/states/{{state}}/{{run}}", STATE_RUN),
    (f"{_GROUP}/uploads", UPLOADS),
    (f"{_GROUP}/uploads/{{upload}}", UPLOAD),
    ("workflows", WORKFLOWS),
    (_WORKFLOW, WORKFLOW),
    (f"{_WORKFLOW}/workflow.json", WORKFLOW_HANDLE),
    (f"{_WORKFLOW}/leaderboard.json", LEADERBOARD_JSON),
    (f"{_WORKFLOW}/leaderboard.csv", LEADERBOARD_CSV),
    (_POSTPROC, POSTPROC),
    (f"{_POSTPROC}/handle.json", RUN_HANDLE),
    (f"{_POSTPROC}/arguments.json", RUN_ARGUMENTS),
    (f"{_POSTPROC}/results", RESULTS),
    (f"{_POSTPROC}/results/{{file}}", RESULT),
    (f"{_POSTPROC}/outputs", OUTPUTS),
    (f"{_POSTPROC}/outputs/{{output...}}", OUTPUT),
    (f"{_POSTPROC}/archive.tar.gz", ARCHIVE),
    (f"{_WORKFLOW}/groups", WORKFLOW_GROUPS),
    (f"{_WORKFLOW}/groups/{{group_name}}", WORKFLOW_GROUP),
)


@dataclass
class _Step:
    """One step in the grammar: what is here, and where each next segment leads."""

    kind: Kind = ROOT
    fixed: dict[str, _Step] = field(default_factory=dict)
    variable: tuple[str, _Step] | None = None


def _grow() -> _Step:
    root = _Step()
    for pattern, kind in _PLACES:
        step = root
        for segment in pattern.split("/") if pattern else ():
            if segment.startswith("{"):
                if step.variable is None:
                    step.variable = (segment[1:-1], _Step())
                step = step.variable[1]
            else:
                step = step.fixed.setdefault(segment, _Step())
        step.kind = kind
    return root


_GRAMMAR = _grow()

# What may be no state, and what takes all that follows: :func:`parse` looks at these.
_CHECKED = frozenset({"state", "output..."})
_NO_NAMES = frozenset({"", ".", ".."})

# Names in runs/ that are not runs; an id that equals one is escaped.
RESERVED_RUN_NAMES = frozenset({"new", "new.error"})


class Node(NamedTuple):
    """A place in the tree that a path names.

    Attributes
    ----------
    kind : Kind
        What is there.
    path : str
        Its own path, through no link.
    asked : str
        The path that was asked for, normalized; another than `path` where it went through a
        link. Names in listings start with it.
    names : mapping of str to str
        What the placeholders took: the path's own segments, escapes and all.
    step : object
        Where the grammar is there.
    rest : tuple of str
        Segments beyond a link; the link's target has to be known to go on.
    """

    kind: Kind
    path: str
    asked: str
    names: Mapping[str, str]
    step: _Step
    rest: tuple[str, ...] = ()

    def id(self, variable: str) -> str:
        """Return the service's id that a placeholder's segment stands for.

        Raises
        ------
        NotFound
            If the segment is a shortened name: only a listing can tell what it was.
        """
        value = from_name(self.names[variable])
        if value is None:
            raise failure(NotFound, f"no {self.kind.name} of that name is listed", self.path)
        return value

    @property
    def name(self) -> str:
        """The last segment of the path asked for."""
        return self.asked.rpartition("/")[2]

    def child(self, name: str) -> Node:
        """Return the place `name` in this directory, named under the path asked for."""
        following = self.step.fixed.get(name)
        names = self.names
        if following is None and self.step.variable is not None:
            variable, following = self.step.variable
            if variable in _CHECKED or "/" in name or name in _NO_NAMES or "\0" in name:
                following = None
            else:
                names = MappingProxyType({**names, variable: name})
        if following is None or self.kind.link:
            node = parse(f"{self.path}/{name}" if self.path else name)
            return node if self.asked == self.path else node._replace(asked=join(self.asked, name))
        path = f"{self.path}/{name}" if self.path else name
        asked = path if self.asked == self.path else join(self.asked, name)
        return Node(following.kind, path, asked, names, following)

    def reached_as(self, asked: str) -> Node:
        """Return this place as one that was asked for under another path."""
        return self if asked == self.asked else self._replace(asked=asked)


def in_run(node: Node) -> bool:
    """Tell whether a place is a run or within one, a post-processing run among them."""
    return "run" in node.names or node.path.split("/")[2:3] == ["postproc"]


def join(*segments: str) -> str:
    """Join segments to a path; empty ones (the root) leave no slash."""
    return "/".join(segment for segment in segments if segment)


def normalize(path: str) -> str:
    """Return a path without slashes at its ends, doubled slashes or ``.`` segments.

    Raises
    ------
    NotFound
        If it has a ``..`` segment or a NUL: nothing in the tree has such a name.
    """
    return "/".join(_segments(path))


def _segments(path: str) -> list[str]:
    segments = path.split("/")
    if "" in segments or "." in segments:
        segments = [segment for segment in segments if segment not in ("", ".")]
    if ".." in segments or "\0" in path:
        raise failure(NotFound, "no such place: a path has no '..' and no NUL", path)
    return segments


_PARSED = 4096  # paths of which it is kept what they mean: some 3 MiB


@lru_cache(_PARSED)
def parse(path: str) -> Node:
    """Find the place that a path names, by its form alone.

    Parameters
    ----------
    path : str
        Relative to the service's root: ``"groups/<id>/runs/new"``.

    Returns
    -------
    Node
        With `rest` where the path goes on beyond a link.

    Raises
    ------
    NotFound
        If the tree has no such place; the message says which part of the path is wrong.
    NotADirectory
        If the path goes on below a file.
    """
    segments = _segments(path)
    path = "/".join(segments)
    step = _GRAMMAR
    names: dict[str, str] = {}
    for index, segment in enumerate(segments):
        if step.kind.link:
            link = "/".join(segments[:index])
            rest = tuple(segments[index:])
            return Node(step.kind, link, path, MappingProxyType(names), step, rest)
        following = step.fixed.get(segment)
        if following is None and step.variable is not None:
            variable, following = step.variable
            if variable.endswith("..."):
                names[variable[:-3]] = "/".join(segments[index:])
                return Node(following.kind, path, path, MappingProxyType(names), following)
            names[variable] = segment
            if variable == "state" and segment not in STATES:
                following = None
        if following is None:
            here = "/".join(segments[:index])
            if not step.kind.directory:
                raise failure(NotADirectory, f"{here!r} is no directory ({step.kind.name})", path)
            listed = [name for name, below in step.fixed.items() if below.kind.listed]
            known = ", ".join(STATES if step.kind is STATES_DIRECTORY else listed)
            where = repr(here) if here else "the root"
            raise failure(NotFound, f"nothing is called {segment!r} in {where} ({known})", path)
        step = following
    return Node(step.kind, path, path, MappingProxyType(names), step)


def in_status(node: Node) -> bool:
    """Tell whether a place is of the program itself, which a mount has in its own root."""
    return node.path.partition("/")[0] == _STATUS


def child_kinds(node: Node) -> Iterator[tuple[str, Kind]]:
    """Yield name and kind of what a directory lists by its form alone (no ids, no names)."""
    for name, following in node.step.fixed.items():
        if following.kind.listed:
            yield name, following.kind
