"""What a reply must look like before anything believes it."""

from __future__ import annotations

from typing import Any

from flowfs.errors import BadReply, failure

__all__ = ["object_of", "objects_in"]


def object_of(reply: Any, what: str, path: str, *required: str) -> dict[str, Any]:
    """Return a reply that must be a JSON object, with some members that must be text.

    Raises
    ------
    BadReply
        If it is anything else.
    """
    if not isinstance(reply, dict):
        raise failure(
            BadReply, f"cannot {what}: the reply is {_kind(reply)} instead of an object", path
        )
    for name in required:
        if not isinstance(reply.get(name), str):
            raise failure(BadReply, f"cannot {what}: the reply has no text {name!r}", path)
    return reply


def objects_in(
    reply: Any, member: str, what: str, path: str, *required: str, made: type | None = None
) -> list[Any]:
    """Return the objects listed in a member of a reply.

    Parameters
    ----------
    reply : Any
        The reply.
    member : str
        Where it lists them.
    what, path : str
        The act as words, and what it is about, for errors.
    *required : str
        Members of each that must be text.
    made : type, optional
        What stands for objects that were looked at when the reply was read: JSON has no such.

    Raises
    ------
    BadReply
        If the member is missing or no list, or an entry is no object with the required
        members as text. A part of a list is never given for the whole.
    """
    entries = object_of(reply, what, path).get(member)
    if not isinstance(entries, list):
        raise failure(BadReply, f"cannot {what}: the reply lists no {member!r}", path)
    for entry in entries:
        if made is None or not isinstance(entry, made):
            object_of(entry, what, path, *required)
    return entries


def _kind(value: Any) -> str:
    return {type(None): "empty", list: "a list", str: "a text"}.get(type(value), "a value")
