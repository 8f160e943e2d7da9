"""Paths that a pattern has found, and what goes with them into other processes.

A cluster's workers get a file system and paths, pickled, and nothing of what is known where they
were found: each would ask for each run anew, only to learn which of its files is meant.
"""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flowfs import tree
from flowfs.catalog import RunRecord
from flowfs.errors import NotADirectory, NotFound
from flowfs.filesystem.sources import Sources, source_in_run
from flowfs.names import from_name
from flowfs.service.runs import ENDED_STATES

__all__ = ["Carried", "FoundPath", "found_paths"]

_LARGEST = 1 << 16  # bytes of a file that go along with its path
_IN_ALL = 1 << 22  # bytes that go along with all paths of one pattern


@dataclass(frozen=True)
class Carried:
    """What goes along with the path of a run's result file or archive: it never changes.

    Attributes
    ----------
    endpoint : str
        The service that it is of.
    group_id, run_id, created : str
        The run, and when the service says that it was created.
    file_id, name : str
        Which of its files, and the service's name for it. Without a file's id it is the archive:
        there is nothing to know of it but that its group lists the run.
    size : int or None
        Its bytes, if somebody has asked for them.
    data : bytes or None
        The bytes themselves, if they are at hand and few.
    """

    endpoint: str
    group_id: str
    run_id: str
    created: str = ""
    file_id: str = ""
    name: str = ""
    size: int | None = None
    data: bytes | None = None

    def document(self) -> dict[str, Any]:
        """Return what is pickled: plain values by their names, and no class of this version."""
        return {name: value for name, value in vars(self).items() if value not in (None, "")}

    @classmethod
    def of(cls, document: Any) -> Carried | None:
        """Return what another flowfs has pickled, older or newer than this one.

        What this one does not know is passed over. None if it cannot be used.
        """
        if not isinstance(document, Mapping):
            return None
        known = {name: value for name, value in document.items() if name in _TYPES}
        if not all(type(value) is _TYPES[name] for name, value in known.items()):
            return None
        try:
            return cls(**known)
        except TypeError:  # something that is needed is not there
            return None


# By their names, as they are where they are told.
_TYPES: dict[Any, type] = {
    **{field.name: str for field in dataclasses.fields(Carried)},
    "size": int,
    "data": bytes,
}


class FoundPath(str):
    """A path as a pattern has found it: a str, which tells more of itself when it is pickled.

    Parameters
    ----------
    path : str
        The path.
    tell : callable, optional
        Returns what is known of it by now, when it is pickled.
    carried : Carried, optional
        What came along when it was unpickled.
    """

    __slots__ = ("_tell", "carried")

    carried: Carried | None

    def __new__(
        cls,
        path: str,
        tell: Callable[[str], Carried | None] | None = None,
        carried: Carried | None = None,
    ) -> FoundPath:
        """Make one; a str is whole once it is made."""
        made = super().__new__(cls, path)
        made._tell = tell
        made.carried = carried
        return made

    _tell: Callable[[str], Carried | None] | None

    def __reduce__(self) -> tuple[Any, ...]:
        path = str.__str__(self)
        carried = self.carried
        if carried is None and self._tell is not None:
            carried = self._tell(path)
        return (str, (path,)) if carried is None else (_unpacked, (path, carried.document()))


def _unpacked(path: str, document: Any) -> str:
    """Make a path again. Pickles name it, also those of other versions: it stays what it is."""
    carried = Carried.of(document)
    return path if carried is None else FoundPath(path, None, carried)


def found_paths(places: Sources, endpoint: str, paths: list[str]) -> list[str]:
    """Return paths such that what is known of results and archives of runs goes with them.

    Parameters
    ----------
    places : Sources
        Where it is known.
    endpoint : str
        Of which service.
    paths : list of str
        As a pattern has found them; all but those of results and archives stay as they are.
    """
    tell = functools.partial(
        _tell, weakref.ref(places), endpoint, min(_LARGEST, _IN_ALL // max(1, len(paths)))
    )
    return [FoundPath(path, tell) if _is_of_run(path) else path for path in paths]


def _is_of_run(path: str) -> bool:
    """Tell whether a path is of a run's result or archive; not through a link, which may change."""
    parts = path.split("/", 5)
    if len(parts) < 5 or parts[0] != "groups" or parts[2] != "runs":
        return False
    if len(parts) == 5:
        return parts[4] == "archive.tar.gz"
    return parts[4] in ("outputs", "results")


def _tell(places: weakref.ref[Sources], endpoint: str, most: int, path: str) -> Carried | None:
    """Return what is known of a result; asks for nothing. None if it is not known (any more)."""
    known = places()
    if known is None:
        return None
    try:
        node = tree.parse(path)
        run_id, group_id = from_name(node.names["run"]), from_name(node.names["group"])
        if run_id is None or group_id is None:
            return None
        if node.kind is tree.ARCHIVE:
            return Carried(endpoint, group_id, run_id)
        handle = known.catalog.known_run(run_id, any_age=True)
        if handle is None or handle.get("state") not in ENDED_STATES:
            return None
        record = known.file_of(node, handle)
    except (NotFound, NotADirectory):
        return None
    if record is None or not isinstance(handle.get("groupId"), str):
        return None
    run = RunRecord.of(handle)
    source = source_in_run(known.catalog.service, run.id, record)
    size = known.content.known_size(source)
    data = None if size is None or size > most else known.content.small(source)
    return Carried(
        endpoint, handle["groupId"], run.id, run.created, record.id, record.stored, size, data
    )
