"""Replies of a service as strategies: right ones, nearly right ones, and anything at all.

A reply in JSON is a document of the right shape in which a few things were changed, and is
written with a few liberties: keys twice, numbers that Python cannot hold, brackets without end.
"""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import strategies as st

__all__ = [
    "anything",
    "declarations",
    "descriptors",
    "group",
    "handle",
    "ids",
    "leaderboard",
    "listings",
    "names",
    "spoilt",
    "times",
    "upload",
    "written",
]

Strategy = st.SearchStrategy[Any]

STATES = ("PENDING", "RUNNING", "SUCCESS", "ERROR", "CANCELED")

# -- values ------------------------------------------------------------------------

odd_names = st.sampled_from(
    [
        "",
        ".",
        "..",
        "../../x",
        "/etc/passwd",
        "a/b",
        "a//b/",
        "new",
        "new.error",
        "%",
        "%2F",
        "%~01234567",
        "a\0b",
        "a\nb",
        "\x1b[2J\x9b",
        "\ud800",
        "a\udc80b",
        "n" * 300,
        "日" * 100,
        "\u202egnp.exe",
        "a b.csv",
        "1",
        "None",
        "-rf",
        "groups",
        "*?[x]",
    ]
)
texts = st.text(max_size=12)
names = st.one_of(st.sampled_from(["a", "b", "data.csv"]), odd_names, texts)
ids = st.one_of(st.sampled_from(["r1", "r2", "f1"]), st.text("0123456789abcdef", min_size=8), names)

times = st.one_of(
    st.builds(
        lambda time, zone: time.isoformat() + zone,
        st.datetimes(),
        st.sampled_from(["", "", "Z", "+00:00", "-23:59", "+05:30:17"]),
    ),
    st.sampled_from(
        [
            "",
            "now",
            "2025-06-01",
            "2025-06-01T10:00",
            "2025-06-01T10:00:00.1234567890123Z",
            "2025-06-01 10:00:00,5",
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
            "0000-00-00T00:00:00",
            "2025-02-30T00:00:00.000000",
            "2025-W23-7",
            "20250601T100000Z",
            "2025-06-01T24:00:00",
            "2025-06-01T10:00:00+99:99",
            "2025-06-01T10:00:00.",
            "\ud800" * 19,
            "٢٠٢٥-٠٦-٠١T١٠:٠٠:٠٠",
            "2025-06-01T10:00:00\n",
            "-" * 26,
        ]
    ),
    st.text("0123456789-:.TZ+ ", max_size=30),
)


class Raw:
    """JSON as it is written, in the place of a value."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"Raw({self.text[:40]!r}… of {len(self.text)})" if len(self.text) > 40 else self.text


numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 2**63, 2**64, 10**400, 10**4299, 1e308, math.inf, -math.inf, math.nan]),
)
deep = st.builds(
    lambda depth, opening, closing: Raw(opening * depth + closing * depth),
    st.sampled_from([100, 300, 480, 700, 900, 970, 2_000, 20_000]),
    *(st.sampled_from([one]) for one in "[]"),
) | st.sampled_from([100, 300, 480, 900, 970, 5_000]).map(
    lambda depth: Raw('{"a":' * depth + "1" + "}" * depth)
)
raw = st.one_of(
    deep,
    st.sampled_from(["9" * 4300, "9" * 4301, "-" + "9" * 5000, "1e999", "NaN", "-Infinity"]).map(
        Raw
    ),
    st.sampled_from(['{"id": "x", "id": "y"}', "01", "1.", "tru", '"\\ud800"', '"\t"', ""]).map(
        Raw
    ),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, names, times, ids)
anything = st.recursive(
    st.one_of(scalars, scalars, raw),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)


# -- documents ---------------------------------------------------------------------


def record(required: dict[str, Strategy], optional: dict[str, Strategy]) -> Strategy:
    return st.fixed_dictionaries(required, optional=optional)


run = record({"id": ids, "state": st.sampled_from(STATES)}, {"createdAt": times})
listings = st.fixed_dictionaries({"runs": st.lists(run, max_size=5)})
upload = record({"id": ids, "name": names}, {"createdAt": times, "size": st.just(0)})
uploads = st.fixed_dictionaries({"files": st.lists(upload, max_size=5)})
file = record({"id": ids}, {"name": names, "title": names, "caption": names, "widget": anything})
file_argument = st.fixed_dictionaries(
    {
        "type": st.just("$file"),
        "value": st.fixed_dictionaries({"fileId": ids}, optional={"targetPath": names}),
    }
)
argument = st.fixed_dictionaries({"name": names, "value": st.one_of(scalars, file_argument)})
intervals = st.sampled_from(["[0,10]", "(,1)", "[,]", "1,2", "[nan,2]", "[10,0]", "(0,inf)", ""])
declaration = record(
    {
        "name": names,
        "dtype": st.sampled_from(
            ["int", "float", "string", "bool", "file", "select", "enum", "list", "record", "new"]
        ),
    },
    {
        "label": names,
        "index": numbers,
        "isRequired": st.booleans(),
        "defaultValue": scalars,
        "range": intervals,
        "target": st.none() | names,
        "values": st.lists(record({"value": scalars}, {"isDefault": st.booleans()}), max_size=3),
        "para": anything,
        "fields": anything,
    },
)
declarations = st.lists(declaration, max_size=4)


def handle(run_id: Strategy = ids, group_id: Strategy = ids) -> Strategy:
    """Return handles of runs."""
    return record(
        {"id": run_id, "state": st.sampled_from(STATES)},
        {
            "groupId": group_id,
            "workflowId": ids,
            "createdAt": times,
            "startedAt": times,
            "finishedAt": times,
            "arguments": st.lists(argument, max_size=3),
            "parameters": declarations,
            "files": st.lists(file, max_size=4),
            "messages": st.lists(names, max_size=2),
        },
    )


def group(group_id: Strategy = ids) -> Strategy:
    """Return handles of groups."""
    return record(
        {"id": group_id, "name": names},
        {
            "workflow": ids,
            "members": st.lists(record({"id": ids, "username": names}, {}), max_size=2),
            "parameters": declarations,
            "files": st.lists(upload, max_size=4),
            "runs": st.lists(run, max_size=4),
        },
    )


column = record({"name": names, "label": names, "dtype": names}, {"required": st.booleans()})
ranked = record(
    {
        "run": record({"id": ids}, {"createdAt": times, "finishedAt": times}),
        "group": record({"id": ids}, {"name": names}),
        "results": st.lists(record({"name": names, "value": scalars}, {}), max_size=3),
    },
    {},
)
leaderboard = record(
    {"schema": st.lists(column, max_size=3), "ranking": st.lists(ranked, max_size=3)},
    {"postproc": handle()},
)
routes = record(
    {
        "id": st.sampled_from(["runs:get", "groups:get", "files:list", "runs:start", "x"]),
        "pattern": st.one_of(
            st.sampled_from(
                [
                    "runs/{runId}",
                    "../{runId}",
                    "//evil.example/{runId}",
                    "@evil.example/",
                    "\\evil.example",
                    "http://evil.example/{runId}",
                    "{",
                    "{}",
                    "{x}",
                    "r?{runId}",
                    "r?s={state}&&t",
                    "r#{runId}",
                    "a\nb",
                    "\ud800",
                ]
            ),
            texts,
        ),
    },
    {},
)
descriptors = record(
    {"name": names, "version": names, "url": names, "routes": st.lists(routes, max_size=3)},
    {"username": names},
)
workflow = record({"id": ids, "name": names}, {"parameters": declarations, "postproc": handle()})


# -- what goes wrong in them -----------------------------------------------------------


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where a document has values, its own place first."""
    found = [path]
    inner = document.items() if isinstance(document, dict) else ()
    inner = enumerate(document) if isinstance(document, list) else inner
    for key, value in inner:
        found += places(value, (*path, key))
    return found


def at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def assigned(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy with another value in a place."""
    copied = copy(document)
    at(copied, path[:-1])[path[-1]] = value
    return copied


def copy(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: copy(value) for key, value in document.items()}
    return [copy(one) for one in document] if isinstance(document, list) else document


WHATS = ("other", "other", "missing", "twice", "number", "another's", "raw")


@st.composite
def spoilt(draw: st.DrawFn, documents: Strategy) -> Any:
    """Return documents in which a few things are missing, twice, or of another kind."""
    document = draw(documents)
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(places(document)))
        what = draw(st.sampled_from(WHATS))
        if not path:
            document = draw(anything) if what == "other" else document
        elif what in ("missing", "twice"):
            document = copy(document)
            where = at(document, path[:-1])
            if what == "missing":
                del where[path[-1]]
            elif isinstance(where, list):
                where.append(where[path[-1]])
        elif what == "number":
            document = assigned(document, path, 7)
        elif what == "another's":
            other = at(document, draw(st.sampled_from(places(document))))
            document = assigned(document, path, other)
        else:
            document = assigned(document, path, draw(raw if what == "raw" else anything))
    return document


# -- how they are written --------------------------------------------------------------


def dumped(value: Any, escaped: bool = True) -> str:
    """Write JSON with liberties: :class:`Raw` as it is."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        inner = (f"{json.dumps(key)}: {dumped(one, escaped)}" for key, one in value.items())
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(dumped(one, escaped) for one in value) + "]"
    return json.dumps(value, ensure_ascii=escaped)


@st.composite
def written(draw: st.DrawFn, documents: Strategy) -> bytes:
    """Return documents as bytes: mostly as JSON is written, and sometimes not quite."""
    document = draw(documents)
    text = dumped(document, draw(st.booleans()))
    data = text.encode("utf-8", "surrogatepass")
    how = draw(st.integers(0, 19))
    if how == 0:
        return data[: draw(st.integers(0, len(data)))]
    if how == 1:
        return data + draw(st.binary(max_size=5))
    if how == 2:
        return draw(st.sampled_from([b"\xef\xbb\xbf", b" \n", b"\0", b"null"])) + data
    if how == 3:
        return text.encode(
            draw(st.sampled_from(["utf-16", "utf-32", "utf-16-le"])), "surrogatepass"
        )
    if how == 4:
        return draw(st.binary(max_size=60))
    if how == 5 and data[:1] == b"{":  # a key twice
        return b'{"id": "twice", "state": "RUNNING", ' + data[1:]
    return data
