"""What a reply must look like before anything believes it."""

from __future__ import annotations

from typing import Any

from flowfs.errors import BadReply, failure

__all__ = ["object_of", "objects_in", "run_of"]


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


def run_of(reply: Any, what: str, path: str, run_id: str | None = None) -> dict[str, Any]:
    """Return a reply that must be a run's handle.

    Parameters
    ----------
    reply : Any
        The reply.
    what, path : str
        The act as words, and what it is about, for errors.
    run_id : str, optional
        The run that it must be about.

    Raises
    ------
    BadReply
        If it has no id and state as text, is about another run, or does not list the files of
        a run in SUCCESS, each with an id: what is not understood is never left out.
    """
    handle = object_of(reply, what, path, "id", "state")
    if run_id is not None and handle["id"] != run_id:
        raise failure(BadReply, f"cannot {what}: the reply is about {handle['id']!r}", path)
    if handle["state"] == "SUCCESS":
        objects_in(handle, "files", what, path, "id")
    return handle


def _kind(value: Any) -> str:
    return {type(None): "empty", list: "a list", str: "a text"}.get(type(value), "a value")
