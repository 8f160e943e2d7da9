"""How an answer of the stand-in goes wrong: each function here makes one that spoils it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from standin import Asked, Reply, StandIn

Spoil = Callable[[StandIn, Asked], "Reply | None"]
Change = Callable[[Any], Any]  # of a document

_MANY = 1_000_000


def instead(reply: Reply) -> Spoil:
    """Answer this, and do nothing of what is asked."""
    return lambda server, asked: reply


def status(number: int, words: str = "as you wish", **headers: str) -> Spoil:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return instead(Reply(number, {"message": words}, told))


def spoilt(**how: Any) -> Spoil:
    """Do what is asked, and spoil the answer."""
    return lambda server, asked: replace(server.own(asked), **how)


def acted(reply: Reply) -> Spoil:
    """Do what is asked, and answer something else."""

    def spoil(server: StandIn, asked: Asked) -> Reply:
        server.own(asked)
        return reply

    return spoil


def shaped(change: Change) -> Spoil:
    """Do what is asked, and change the JSON that answers it."""

    def spoil(server: StandIn, asked: Asked) -> Reply:
        own = server.own(asked)
        # A reply without a body becomes one that has some.
        return replace(own, status=200, body=change({} if own.body == b"" else own.body))

    return spoil


def redirected(where: Callable[[StandIn, Asked], str]) -> Spoil:
    def spoil(server: StandIn, asked: Asked) -> Reply | None:
        if asked.query.endswith("again"):
            return None
        return Reply(302, headers={"Location": where(server, asked)})

    return spoil


def full(server: StandIn, asked: Asked) -> str:
    return server.endpoint + asked.path + "?again"


def longer(by: int) -> Spoil:
    """Say a length that is another one than that of the body."""

    def spoil(server: StandIn, asked: Asked) -> Reply:
        own = server.own(asked)
        data = own.body if isinstance(own.body, bytes) else json.dumps(own.body).encode()
        return replace(own, body=data, length=max(0, len(data) + by))

    return spoil


def dripping(server: StandIn, asked: Asked) -> Reply:
    """Send the last bytes one by one: JSON takes longer than any time that is short."""
    own = server.own(asked)
    pause = 0.02 if isinstance(own.body, bytes) else 1.0
    return replace(own, drip="body", dripped=40, pause=pause)


def another_part(server: StandIn, asked: Asked) -> Reply:
    own = server.own(asked)
    size = len(own.body) if isinstance(own.body, bytes) else 100
    return replace(own, body=b"x" * 50, ranges=f"bytes 7-56/{size}")


def partly_unsaid(server: StandIn, asked: Asked) -> Reply:
    own = server.own(asked)
    return replace(own, status=206, ranges=False)


def changing(server: StandIn, asked: Asked) -> Reply:
    """Cut off, and go on with something that is longer than what it was."""
    own = server.own(asked)
    if not isinstance(own.body, bytes) or asked.method != "GET":
        return own
    if any(one is not asked for one in server.requests(asked.method, asked.path)):
        return replace(own, body=b"another" * len(own.body))
    return replace(own, cut=0.5)


def restarted(server: StandIn, asked: Asked) -> Reply:
    server.restart()
    return Reply(reset=True)


def beside(raw: str) -> Change:
    """Put something of another name beside what there is, and give what is alone that name."""

    def changed(value: dict[str, Any]) -> Any:
        for name in ("runs", "files"):
            if isinstance(value.get(name), list):
                one = {"id": raw, "name": raw, "state": "SUCCESS", "createdAt": "2025-01-01"}
                value = {**value, name: [*value[name], one]}
        return {**value, "name": raw}

    return changed


def lost_run(server: StandIn, asked: Asked) -> Reply:
    """Forget the run that this is about, and everything else of its group."""
    routes = server.routes
    told = asked.path.split("/")
    group = routes.runs[told[2]]["groupId"] if told[1] == "runs" else told[2]
    with server.lock:
        routes.groups.discard(group)
        for run in [i for i, handle in routes.runs.items() if handle["groupId"] == group]:
            del routes.runs[run]
    return server.own(asked)


# -- shapes ---------------------------------------------------------------------


def ids(change: Change) -> Change:
    """Change each id in a document."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: change(v) if k == "id" else changed(v) for k, v in value.items()}
        return [changed(one) for one in value] if isinstance(value, list) else value

    return changed


def entries(change: Callable[[list[Any]], Any]) -> Change:
    """Change the list in a document that is looked for; of what has none, make the document one."""

    def changed(value: Any) -> Any:
        for name in ("runs", "files"):
            if isinstance(value.get(name), list):
                value = {**value, name: change(value[name])}
                found = True
        return value if "found" in locals() else change([value])

    return changed


def without_members(value: Any) -> Any:
    if "id" in value or not value:
        return {"title": "nothing else"}
    return {name: [{"title": "nothing else"}] for name in value}


def deep(value: Any) -> bytes:
    text = json.dumps(value)[:-1] + (", " if value else "")
    return text.encode() + b'"deep": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"


@cache
def million() -> bytes:
    """List a million things, as JSON."""
    one = b'{"id": "abc", "state": "SUCCESS", "createdAt": ""}'
    many = b"[" + b",".join([one] * _MANY) + b"]"
    return b'{"id": "abc", "state": "SUCCESS", "files": [], "runs": ' + many + b"}"


@cache
def packed() -> bytes:
    return gzip.compress(million(), 1)
