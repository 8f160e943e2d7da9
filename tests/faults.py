"""Everything that a service or a network can do wrong, as one table: fault, and what comes of it.

Each row is a :class:`Fault`: how it spoils the answer to the request that an operation is
about, and what whoever asked is to get of it. `hostile` tries all of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from spoiling import (
    Spoil,
    acted,
    another_part,
    beside,
    changing,
    deep,
    dripping,
    entries,
    full,
    ids,
    instead,
    longer,
    lost_run,
    million,
    packed,
    partly_unsaid,
    redirected,
    restarted,
    shaped,
    spoilt,
    status,
    without_members,
)
from standin import Reply

__all__ = ["FAULTS", "OPERATIONS", "RIGHT", "Fault"]

OPERATIONS = (
    "list",
    "info",
    "read",
    "ranged read",
    "archive",
    "start",
    "cancel",
    "delete",
    "upload",
)
RIGHT = "right"


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes
    ----------
    name : str
        What, in few words.
    spoil : callable
        Given the stand-in and a request, returns what is answered.
    python, mount : tuple of str
        What comes of it for each of `OPERATIONS`: ``"right"``, or the name of an errno.
    times : int, optional
        How often it happens in each place; by default always.
    json : bool
        Whether it happens to replies in JSON: of what is read, to the run's handle.
    waits : bool
        Whether what comes of it takes until time is up.
    alone : bool
        Whether it happens to everybody who asks at the same time.
    more : str, optional
        An id that is in listings beside those that there are.
    """

    name: str
    spoil: Spoil
    python: tuple[str, ...]
    mount: tuple[str, ...]
    times: int | None = None
    json: bool = False
    waits: bool = False
    alone: bool = False
    more: str | None = None

    def expected(self, operation: str, way: str) -> str:
        """Return what is to come of it."""
        row = self.mount if way == "mount" else self.python
        return row[OPERATIONS.index(operation)]


# -- the table --------------------------------------------------------------------


def row(**expected: str) -> tuple[str, ...]:
    """Return what comes of each operation: by its name, by what it is like, or by `other`."""
    names = [operation.replace(" ", "_") for operation in OPERATIONS]
    kinds = ["look"] * 2 + ["bytes"] * 3 + ["change"] * 4
    return tuple(
        next(expected[key] for key in (name, kind, "other") if key in expected)
        for name, kind in zip(names, kinds, strict=True)
    )


def fault(
    name: str,
    spoil: Spoil,
    *,
    mount: dict[str, str] | None = None,
    times: int | None = None,
    json: bool = False,
    waits: bool = False,
    alone: bool = False,
    more: str | None = None,
    **expected: str,
) -> Fault:
    """Return a row; what comes of it on a mount is the same but for what is said of that."""
    rows = row(**expected), row(**{**expected, **(mount or {})})
    return Fault(name, spoil, *rows, times, json, waits, alone, more)


# What comes before a break is good: a small part may be in it, of what was asked for with it.
PARTLY: dict[str, Any] = {"ranged_read": RIGHT, "mount": {"ranged_read": "EIO"}}

FAULTS: tuple[Fault, ...] = (
    # -- late
    fault("late by 0.2 s", spoilt(delay=0.2), other=RIGHT),
    fault("silent before the reply", instead(Reply(hang="before")), waits=True, other="ETIMEDOUT"),
    fault("silent in the headers", spoilt(hang="headers"), waits=True, other="ETIMEDOUT"),
    fault("silent in the body", spoilt(hang="body"), waits=True, other="ETIMEDOUT", delete=RIGHT),
    fault("headers a byte at a time", spoilt(drip="headers"), waits=True, other="ETIMEDOUT"),
    fault(
        "the end of the body a byte at a time",
        dripping,
        waits=True,
        other="ETIMEDOUT",
        bytes=RIGHT,
        delete=RIGHT,
    ),
    # -- broken
    fault(
        "started anew meanwhile",
        restarted,
        times=1,
        alone=True,
        other=RIGHT,
        start="EIO",
        cancel="EIO",
        upload="EIO",
    ),
    fault("no HTTP", instead(Reply(raw=b"SSH-2.0-OpenSSH_9.6\r\n")), other="EIO"),
    fault("a thousand headers", spoilt(headers={f"X-{n}": "x" for n in range(1000)}), other="EIO"),
    fault("a header without end", spoilt(headers={"X": "x" * 100_000}), other="EIO"),
    fault("reset before it acts", instead(Reply(reset=True)), other="EIO"),
    fault(
        "reset once",
        instead(Reply(reset=True)),
        times=1,
        other=RIGHT,
        start="EIO",
        cancel="EIO",
        upload="EIO",
    ),
    fault("reset after it acted", acted(Reply(reset=True)), other="EIO"),
    fault(
        "reset after it acted once",
        acted(Reply(reset=True)),
        times=1,
        other=RIGHT,
        start="EIO",
        cancel="EIO",
        upload="EIO",
    ),
    fault("reset in the body", spoilt(reset_within=True), other="EIO", delete=RIGHT, **PARTLY),
    fault(
        "reset in the body once",
        spoilt(reset_within=True),
        times=1,
        other=RIGHT,
        archive="EIO",
        change="EIO",
        delete=RIGHT,
    ),
    fault("headers cut short", spoilt(cut_headers=True), other="EIO"),
    fault("body cut short", spoilt(cut=0.5), other="EIO", delete=RIGHT, **PARTLY),
    fault(
        "body cut short once",
        spoilt(cut=0.5),
        times=1,
        other=RIGHT,
        archive="EIO",
        change="EIO",
        delete=RIGHT,
    ),
    fault(
        "body cut short, no length",
        spoilt(cut=0.5, length=False),
        other="EIO",
        delete=RIGHT,
        **PARTLY,
    ),
    fault(
        "body cut short in chunks",
        spoilt(cut=0.5, chunked=True),
        other="EIO",
        delete=RIGHT,
        **PARTLY,
    ),
    fault("a length that is too long", longer(5), other="EIO", delete=RIGHT),
    fault("a length that is too short", longer(-5), json=True, other="EIO", delete=RIGHT),
    fault(
        "a length that is no number",
        spoilt(headers={"Content-Length": "many"}, closes=True),
        other=RIGHT,
        archive="EIO",
    ),
    fault(
        "a length below zero",
        spoilt(headers={"Content-Length": "-5"}, closes=True),
        other=RIGHT,
        archive="EIO",
    ),
    fault("no length", spoilt(length=False), other=RIGHT, archive="EIO"),
    fault("chunks", spoilt(chunked=True), other=RIGHT),
    # -- other than asked
    fault(
        "gzip unasked", spoilt(gzip=True), other=RIGHT, mount={"read": "EIO", "ranged_read": "EIO"}
    ),
    fault(
        "gzip that is none",
        acted(Reply(200, b"no gzip" * 99, {"Content-Encoding": "gzip"}, ranges=False)),
        other="EIO",
    ),
    fault("Range ignored", spoilt(ranges=False), other=RIGHT),
    fault("another range", another_part, other="EIO"),
    fault("a part, and not which", partly_unsaid, other="EIO"),
    fault("other bytes when read on", changing, other=RIGHT, bytes="EIO"),
    # -- redirects
    fault("redirect to itself once", redirected(full), other=RIGHT, change="EIO"),
    fault(
        "redirect to another port",
        redirected(lambda s, a: f"{s.other.endpoint}{a.path}"),
        other="EACCES",
        bytes=RIGHT,
        change="EIO",
    ),
    fault(
        "redirect to another host",
        redirected(lambda s, a: full(s, a).replace("127.0.0.1", "localhost")),
        other="EACCES",
        bytes=RIGHT,
        change="EIO",
    ),
    fault("redirects without end", instead(Reply(302, headers={"Location": "?more"})), other="EIO"),
    fault(
        "redirect to no address",
        instead(Reply(302, headers={"Location": "file:///etc/passwd"})),
        other="EIO",
    ),
    fault("redirect to nowhere", instead(Reply(302)), other="EIO"),
    # -- refusals
    fault("400", status(400), other="EINVAL"),
    fault("422", status(422), other="EINVAL"),
    fault("405", status(405), other="EIO"),
    fault("401", status(401), other="EACCES"),
    fault("403", status(403), other="EACCES"),
    fault("403 once", status(403), times=1, other="EACCES"),
    fault("the run and its group forgotten", lost_run, other="ENOENT", mount={"delete": RIGHT}),
    fault("404", status(404), other="ENOENT", mount={"delete": RIGHT}),
    fault(
        "404 of a page",
        instead(Reply(404, b"<title>404 Not Found</title>")),
        other="ENOENT",
        mount={"delete": RIGHT},
    ),
    fault("408", status(408), other="ETIMEDOUT"),
    fault("409", status(409), other="EBUSY"),
    fault("413", status(413), other="EFBIG"),
    fault("429", status(429), other="EAGAIN"),
    fault(
        "429 once, Retry-After 0.1",
        status(429, Retry_After="0.1"),
        times=1,
        other=RIGHT,
        change="EAGAIN",
        delete=RIGHT,
    ),
    fault("429, Retry-After a day", status(429, Retry_After="86400"), other="EAGAIN"),
    fault("429, Retry-After nan", status(429, Retry_After="nan"), other="EAGAIN"),
    fault("429, Retry-After -1e999", status(429, Retry_After="-1e999"), other="EAGAIN"),
    fault("500", status(500), other="EIO"),
    fault("500 after it acted", acted(Reply(500)), other="EIO"),
    fault("502", status(502), other="EIO"),
    fault("503", status(503), other="EAGAIN"),
    fault("503 once", status(503), times=1, other=RIGHT, change="EAGAIN", delete=RIGHT),
    fault("504", status(504), other="ETIMEDOUT"),
    fault("504 after it acted", acted(Reply(504)), other="ETIMEDOUT"),
    fault(
        "504 after it acted once",
        acted(Reply(504)),
        times=1,
        other=RIGHT,
        change="ETIMEDOUT",
        delete=RIGHT,
    ),
    fault("507", status(507), other="ENOSPC"),
    fault("an endless error", instead(Reply(500, b"x" * (1 << 24))), other="EIO"),
    # -- no JSON, or another
    fault(
        "a page in place of JSON",
        acted(Reply(200, b"<html><h1>Welcome</h1>")),
        json=True,
        other="EIO",
    ),
    fault("nothing in place of JSON", acted(Reply(200, b"")), json=True, other="EIO", delete=RIGHT),
    fault("204 in place of JSON", acted(Reply(204)), json=True, other="EIO", delete=RIGHT),
    fault("JSON: null", shaped(lambda v: None), json=True, other="EIO", delete=RIGHT),
    fault("JSON: a list", shaped(lambda v: [v]), json=True, other="EIO", delete=RIGHT),
    fault(
        "JSON: half of it",
        shaped(lambda v: (json.dumps(v) + " }").encode()[:-3]),
        json=True,
        other="EIO",
    ),
    fault(
        "JSON: no UTF-8",
        shaped(lambda v: b'{"id": "\xff\xfe", ' + json.dumps(v).encode()[1:]),
        json=True,
        other="EIO",
    ),
    fault("JSON: members missing", shaped(without_members), json=True, other="EIO", delete=RIGHT),
    fault(
        "JSON: members null",
        shaped(lambda v: dict.fromkeys(v)),
        json=True,
        other="EIO",
        delete=RIGHT,
    ),
    fault(
        "JSON: entries null",
        shaped(entries(lambda all: [None] * len(all))),
        json=True,
        other="EIO",
        delete=RIGHT,
    ),
    fault("JSON: numbers as ids", shaped(ids(lambda i: 7)), json=True, other="EIO", delete=RIGHT),
    fault("JSON: lists as ids", shaped(ids(lambda i: [i])), json=True, other="EIO", delete=RIGHT),
    fault(
        "JSON: members of members text",
        shaped(entries(lambda all: "text")),
        json=True,
        other="EIO",
        delete=RIGHT,
    ),
    fault(
        "JSON: an object for a list",
        shaped(entries(lambda all: {"0": all[0]})),
        json=True,
        other="EIO",
        delete=RIGHT,
    ),
    fault(
        "JSON: everything twice",
        shaped(entries(lambda all: all * 2)),
        json=True,
        other=RIGHT,
        cancel="EIO",
        upload="EIO",
    ),
    fault("JSON: nested 200,000 deep", shaped(deep), json=True, other="EIO"),
    fault("JSON: a million entries", shaped(lambda v: million()), json=True, other="EIO"),
    fault(
        "JSON: a million entries, packed",
        lambda server, asked: acted(Reply(200, packed(), {"Content-Encoding": "gzip"}))(
            server, asked
        ),
        json=True,
        other="EIO",
    ),
    fault(
        "JSON: another's",
        shaped(lambda v: {**v, "id": "another"}),
        json=True,
        other="EIO",
        list=RIGHT,
        start=RIGHT,
        delete=RIGHT,
        upload=RIGHT,
        mount={"list": "EIO"},
    ),
    # -- names that are no file names
    *(
        fault(f"names: {name}", shaped(beside(raw)), json=True, more=raw, other=RIGHT)
        for name, raw in (
            ("none", ""),
            ("slashes", "/etc/passwd"),
            ("..", ".."),
            ("../..", "../../.bashrc"),
            ("NUL", "a\0b"),
            ("a newline", "a\nb"),
            ("control characters", "\x1b[2J\x07\x9b"),
            ("half of a surrogate pair", "a\ud800b"),
            ("300 bytes", "n" * 300),
            ("300 bytes of UTF-8", "日" * 100),
            ("new", "new"),
        )
    ),
)
