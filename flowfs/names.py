"""Names and ids of the service as file names, and back.

A service may call things whatever it likes; a directory may not. The rules here turn any text
into one path segment that every Linux file system takes, leave alone what needs no change, and
can be undone, except for names that are too long to be kept whole.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from hashlib import sha256

__all__ = [
    "MAX_BYTES",
    "from_name",
    "to_name",
    "to_names",
    "to_parts",
    "unique",
    "unique_paths",
]

#: Bytes that one path segment may have (NAME_MAX of Linux).
MAX_BYTES = 255

_EMPTY = "%"
_DOTS = frozenset({".", ".."})

# What cannot stay: `/` and what a terminal or a C string would trip over, halves of surrogate
# pairs (not encodable), and a `%` that would read as the beginning of an escape.
_OFFENDING = re.compile(
    r"[/\x00-\x1f\x7f-\x9f\ud800-\udfff]|%(?=[0-9A-Fa-f]{2}|~)",
)
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_SHORTENED = re.compile(r"%~[0-9a-f]{8}\Z")
# One character of an escaped name: all the bytes of one escaped character belong together.
_UNIT = re.compile(
    r"%[0-7][0-9A-F]|%[CD][0-9A-F]%[0-9A-F]{2}|%E[0-9A-F](?:%[0-9A-F]{2}){2}"
    r"|%F[0-9A-F](?:%[0-9A-F]{2}){3}|.",
    re.S,
)


def to_name(raw: str, reserved: Collection[str] = ()) -> str:
    """Give the path segment that stands for a name or id of the service.

    What can stand as it is stays as it is. Otherwise the offending characters alone are
    percent-escaped (the bytes of their UTF-8 form, upper-case digits): ``/``, NUL, control
    characters (C0, DEL, C1), unpaired surrogates, the dots of ``.`` and ``..``, and a ``%``
    that could be taken for an escape. An empty name is ``%``.

    Parameters
    ----------
    raw : str
        The name as the service gives it; any text.
    reserved : collection of str, optional
        Plain names that mean something else where this one is to stand, such as ``new``. A
        name equal to one of them has its first character escaped.

    Returns
    -------
    str
        1 to 255 bytes of UTF-8. A longer one is cut, between characters and never within an
        escape, and ends in ``%~`` and 8 hexadecimal digits of the SHA-256 of `raw`; what was
        cut off is lost, see :func:`from_name`.
    """
    if not raw:
        return _EMPTY
    if _stays(raw) and len(raw) <= MAX_BYTES and raw not in _DOTS and raw not in reserved:
        return raw
    if raw == _EMPTY:
        return _escape(raw)
    if raw in _DOTS:
        return _escape(raw)
    name = _OFFENDING.sub(lambda match: _escape(match[0]), raw)
    if name in reserved:
        name = _escape(raw[0]) + _OFFENDING.sub(lambda match: _escape(match[0]), raw[1:])
    return _shorten(name, raw)


def to_names(raw: list[str], reserved: Collection[str] = ()) -> list[str]:
    """Give the path segments that stand for many names or ids, as :func:`to_name` does.

    Where all of them can stay as they are, as ids nearly always can, that is found out of all
    at once.
    """
    special = {"", *_DOTS, *reserved}
    if _stays("".join(raw)) and len(max(raw, key=len, default="")) <= MAX_BYTES:
        return raw if special.isdisjoint(raw) else [to_name(one, reserved) for one in raw]
    return [to_name(one, reserved) for one in raw]


def _stays(text: str) -> bool:
    """Tell whether no character of a text is one that might have to be escaped."""
    return text.isascii() and text.isprintable() and "/" not in text and "%" not in text


def from_name(name: str) -> str | None:
    """Give the name or id of the service that a path segment stands for.

    Lenient, since people type ids: each escape that stands for a character is undone, whether
    or not :func:`to_name` would have made it, and everything else is left as it is.

    Parameters
    ----------
    name : str
        One path segment.

    Returns
    -------
    str or None
        What :func:`to_name` was given; None for a shortened name, which only a listing can
        tell the whole of.
    """
    if "%" not in name:
        return name
    if name == _EMPTY:
        return ""
    if _SHORTENED.search(name):
        return None
    return _ESCAPES.sub(lambda match: _unescape(match[0]), name)


def to_parts(raw: str) -> tuple[str, ...]:
    """Give the path segments that stand for a name which is a path.

    flowServ calls result files by the path at which the workflow left them
    (``results/greetings.txt``).

    Parameters
    ----------
    raw : str
        The path, ``/`` between its segments; any text.

    Returns
    -------
    tuple of str
        At least one segment, each as :func:`to_name` gives it. Empty segments are left out, so
        that a leading ``/`` means nothing; ``..`` is a name like any other.
    """
    return tuple(to_name(part) for part in raw.split("/") if part) or (_EMPTY,)


def unique(entries: Sequence[tuple[str, str]]) -> list[str]:
    """Tell apart what has the same name in one directory.

    Parameters
    ----------
    entries : sequence of (str, str)
        Path segment (see :func:`to_name`) and the service's id of each entry, oldest first.

    Returns
    -------
    list of str
        A name for each entry, in the same order, no two alike. The newest of a name has it;
        each older one has `` (<id>)`` behind it.
    """
    return [path[0] for path in unique_paths([((name,), id_) for name, id_ in entries])]


def unique_paths(
    entries: Sequence[tuple[tuple[str, ...], str]],
) -> list[tuple[str, ...]]:
    """Tell apart what has the same path in one tree.

    Parameters
    ----------
    entries : sequence of (tuple of str, str)
        Path segments (see :func:`to_parts`), never none, and the service's id of each file,
        oldest first.

    Returns
    -------
    list of tuple of str
        A path for each file, in the same order, no two alike and none the directory of
        another. A directory keeps its name, then the newest file of a name has it; each other
        one has `` (<id>)`` behind its last segment.
    """
    # Only last segments change, so the directories are known before anything is renamed.
    taken = {path[:depth] for path, _ in entries for depth in range(1, len(path))}
    paths = [path for path, _ in entries]
    if len(set(paths)) == len(paths) and taken.isdisjoint(paths):  # as nearly always
        return paths
    result: dict[int, tuple[str, ...]] = {}
    # All that keep their names come first: a made-up name must not take one that is given.
    for position in reversed(range(len(entries))):
        path = entries[position][0]
        if path not in taken:
            taken.add(path)
            result[position] = path
    for position in reversed(range(len(entries))):
        if position not in result:
            path, id_ = entries[position]
            result[position] = next(
                other for other in _others(path, to_name(id_)) if other not in taken
            )
            taken.add(result[position])
    return [result[position] for position in range(len(entries))]


def _others(path: tuple[str, ...], id_: str) -> itertools.chain[tuple[str, ...]]:
    """All names that an entry may have instead of its own, best first, without end."""
    marks = itertools.chain(
        (f" ({id_})",), (f" ({id_}) ({number})" for number in itertools.count(2))
    )
    names = (path[-1] + mark for mark in marks)
    return itertools.chain((*path[:-1], _shorten(name, name)) for name in names)


def _escape(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def _unescape(run: str) -> str:
    """Undo a run of escapes; those that make up no character stay."""
    data = bytes.fromhex(run.replace("%", ""))
    result = []
    at = 0
    while at < len(data):
        try:
            result.append(data[at:].decode("utf-8", "surrogatepass"))
            break
        except UnicodeDecodeError as error:
            good, bad = at + error.start, at + error.end
            result.append(data[at:good].decode("utf-8", "surrogatepass"))
            result.append(run[3 * good : 3 * bad])
            at = bad
    return "".join(result)


def _shorten(name: str, raw: str) -> str:
    """Keep an escaped name within the limit; `raw` is what the digest is taken of."""
    if len(name.encode()) <= MAX_BYTES:
        return name
    mark = "%~" + sha256(raw.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    room = MAX_BYTES - len(mark)
    kept = []
    for match in _UNIT.finditer(name):
        room -= len(match[0].encode())
        if room < 0:
            break
        kept.append(match[0])
    return "".join(kept) + mark
