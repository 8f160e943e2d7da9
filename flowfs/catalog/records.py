"""What the service tells of its things, in the form the tree needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

from flowfs.names import to_name, to_parts, unique, unique_paths
from flowfs.service.runs import ENDED_STATES
from flowfs.tree import RESERVED_RUN_NAMES

__all__ = [
    "FileRecord",
    "Named",
    "RunRecord",
    "output_names",
    "timestamp",
]


_EPOCH = datetime(1970, 1, 1)
_FIRST = (datetime.min - _EPOCH).total_seconds()
_LAST = (datetime.max - _EPOCH).total_seconds()
_PLAIN_LENGTHS = (26, 19)  # with microseconds, and without


def timestamp(value: Any) -> float | None:
    """Return an ISO time of the service as seconds since the epoch; None if it is none.

    flowServ writes times in UTC and does not say so (``flowserv.util.datetime.utc_now``).
    """
    if not isinstance(value, str):
        return None
    try:
        if len(value) in _PLAIN_LENGTHS:  # as flowServ writes them: no zone, as there is none
            time = datetime.fromisoformat(value)
            if time.tzinfo is None:
                return (time - _EPOCH).total_seconds()
    except ValueError:
        pass
    try:
        # Python 3.10 reads neither a Z nor more or less than 3 or 6 digits of a second.
        head, dot, fraction = value.replace("Z", "+00:00").partition(".")
        digits = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))]
        time = datetime.fromisoformat(
            f"{head}{dot}{digits[:6]:0<6}{fraction[len(digits) :]}" if dot else head
        )
    except ValueError:
        return None
    seconds = (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).timestamp()
    # At either end of the calendar a zone may lead beyond it.
    return seconds if _FIRST <= seconds < _LAST else None


@dataclass(frozen=True)
class Named:
    """Something with an id and the name that it has in the tree.

    Attributes
    ----------
    id, name : str
        Which.
    title : str
        What the service calls it, where that is told.
    """

    id: str
    name: str
    title: str = ""


class RunRecord(NamedTuple):
    """A run as a listing tells of it.

    Attributes
    ----------
    id : str
        The service's id.
    state : str
        One of flowServ's states.
    created : str
        When it was created, as the service writes it.
    """

    id: str
    state: str
    created: str

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> RunRecord:
        """Read an entry of a listing, or a handle."""
        created = run.get("createdAt")
        return cls(run["id"], run["state"], created if isinstance(created, str) else "")

    @property
    def name(self) -> str:
        """The id as a file name."""
        return to_name(self.id, RESERVED_RUN_NAMES)

    @property
    def active(self) -> bool:
        """Whether it can still change."""
        return self.state not in ENDED_STATES

    @property
    def mtime(self) -> float | None:
        """When it was created, in seconds since the epoch."""
        return timestamp(self.created)


class FileRecord(NamedTuple):
    """A file of a run, or an upload.

    Attributes
    ----------
    id : str
        The service's id.
    name : str
        Its name in ``results/`` (the id) or ``uploads/``.
    stored : str
        The service's name for it.
    output : tuple of str
        Its path below ``outputs/``; empty for an upload.
    mtime : float or None
        Seconds since the epoch.
    about : mapping
        What else the service says: ``title``, ``caption``, ``format``, ``widget``.
    asked : str or None
        The name that this client asked for when it made the upload; None if another made it.
    """

    id: str
    name: str
    stored: str
    output: tuple[str, ...]
    mtime: float | None
    about: Mapping[str, Any]
    asked: str | None = None

    @property
    def mangled(self) -> bool:
        """Whether this client asked for another name than the one that is stored."""
        return self.asked is not None and self.asked != self.stored


def run_files(handle: Mapping[str, Any]) -> list[FileRecord]:
    """Return the result files that a run's handle names; none unless it is in SUCCESS."""
    files = handle.get("files")
    if handle.get("state") != "SUCCESS" or not isinstance(files, list):
        return []
    files = [f for f in files if isinstance(f, Mapping) and isinstance(f.get("id"), str)]
    ids = [f["id"] for f in files]
    stored = [f["name"] if isinstance(f.get("name"), str) else f["id"] for f in files]
    names = unique([(to_name(i), i) for i in ids])
    mtime = timestamp(handle.get("finishedAt")) or timestamp(handle.get("createdAt"))
    return [
        FileRecord(
            id=file["id"],
            name=name,
            stored=title,
            output=output,
            mtime=mtime,
            about={k: v for k, v in file.items() if k not in ("id", "name")},
        )
        for file, name, title, output in zip(
            files, names, stored, output_names(list(zip(stored, ids, strict=True))), strict=True
        )
    ]


def output_names(files: list[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Return the paths below ``outputs/`` for names and ids, all different."""
    return unique_paths([(to_parts(name), file_id) for name, file_id in files])


def upload_files(
    files: list[dict[str, Any]], asked: Mapping[str, str] | None = None
) -> list[FileRecord]:
    """Return the uploads of a group, oldest first.

    Of two with one name the newest has it; but one that was asked for under another name only
    if no other is there.

    Parameters
    ----------
    files : list of dict
        As the service lists them.
    asked : mapping of str to str, optional
        Names that this client asked for, by the uploads' ids.
    """
    asked = {} if asked is None else asked
    files = sorted(files, key=lambda file: str(file.get("createdAt") or ""))
    files = list({file["id"]: file for file in files}.values())  # one that comes twice is one
    # The last one of a name gets it.
    order = sorted(files, key=lambda file: asked.get(file["id"], file["name"]) == file["name"])
    names = dict(
        zip(
            (file["id"] for file in order),
            unique([(to_name(file["name"]), file["id"]) for file in order]),
            strict=True,
        )
    )
    return [
        FileRecord(
            id=file["id"],
            name=names[file["id"]],
            stored=file["name"],
            output=(),
            mtime=timestamp(file.get("createdAt")),
            about={},
            asked=asked.get(file["id"]),
        )
        for file in files
    ]


def named(entries: list[dict[str, Any]], by: str) -> list[Named]:
    """Return things by name (`by` a member, ``id`` or ``name``), all names different."""
    raw = [entry[by] if isinstance(entry.get(by), str) else entry["id"] for entry in entries]
    names = unique([(to_name(n), e["id"]) for n, e in zip(raw, entries, strict=True)])
    titles = [e["name"] if isinstance(e.get("name"), str) else "" for e in entries]
    return [Named(e["id"], n, title) for e, n, title in zip(entries, names, titles, strict=True)]
