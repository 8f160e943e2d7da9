"""Anything at all, written to `runs/new` in any pieces: one run with what was meant, or none.

By fsspec, and by what serves a mount (without a kernel in between). A service in this process
counts what reaches it.
"""

from __future__ import annotations

import codecs
import json
from typing import Any

import pytest
from canned import Answer, Canned, Request, told
from examples import tried_on
from hypothesis import example, given
from hypothesis import strategies as st
from replies import anything, dumped, names, spoilt, written

from flowfs import FlowFileSystem
from flowfs.arguments.document import BLANKS
from flowfs.errors import FlowError, InvalidArguments
from flowfs.fuse.writing import NewRunHandle

GROUP = "group-1"
PATH = f"groups/{GROUP}/runs/new"
SHELL = 4711  # the process that has opened it


class Group(Canned):
    """A group with two uploads; whatever its service cannot make sense of, it refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.names = self.routes.add_upload(b"Ada\n", "names.txt", GROUP)["id"]
        self.other = self.routes.add_upload(b"Grace\n", "other.txt", GROUP)["id"]

    def answer(self, request: Request) -> Answer:
        before = dict(self.routes.runs)
        try:
            return super().answer(request)
        except Exception as error:  # of the stand-in, half-way
            self.routes.runs = before
            return Answer(400, json.dumps({"message": type(error).__name__}).encode())

    def started(self) -> list[list[dict[str, Any]]]:
        """Return the arguments of all runs that have started."""
        return [run["arguments"] for run in self.routes.runs.values()]


def by_fsspec(fs: FlowFileSystem, pieces: list[bytes]) -> FlowError | None:
    """Write it, and return what was said."""
    with told() as refused, fs.open(PATH, "wb") as file:
        for piece in pieces:
            file.write(piece)
    return refused[0] if refused else None


def by_mount(fs: FlowFileSystem, pieces: list[bytes]) -> FlowError | None:
    """Write it as the kernel would, and return what was said first."""
    handle = NewRunHandle(fs, fs.entries.resolve(PATH), opener=SHELL)
    at = 0
    refused: list[FlowError] = []
    for piece in pieces:
        with told() as wrong:
            assert handle.write(piece, at) == len(piece)
            at += len(piece)
        refused += wrong
    with told() as wrong:
        handle.flush(SHELL)
    refused += wrong
    handle.release()
    return refused[0] if refused else None


def meant(data: bytes, files: dict[str, str]) -> list[dict[str, Any]]:
    """Return the arguments that a document is about, read in the plainest way."""
    document = json.loads(data.decode("utf-8-sig"))
    if isinstance(document, dict) and list(document) == ["arguments"]:
        document = document["arguments"]
    if isinstance(document, dict):
        document = [{"name": name, "value": value} for name, value in document.items()]
    found = []
    for one in document:
        name, value = one["name"], one["value"]
        if value is None:
            continue
        if name == "names":
            inner = value
            if isinstance(inner, dict) and inner.get("type") == "$file":
                inner = inner["value"]
            inner = inner if isinstance(inner, dict) else {"fileId": inner}
            file = {"fileId": files.get(inner["fileId"], inner["fileId"])}
            if inner.get("targetPath") is not None:
                file["targetPath"] = inner["targetPath"]
            value = {"type": "$file", "value": file}
        found.append({"name": name, "value": value})
    return found


file_values = st.one_of(
    st.sampled_from(["names.txt", "other.txt", "nowhere.txt"]),
    st.sampled_from(["names.txt", "other.txt"]).map(lambda name: {"fileId": name}),
    st.just({"type": "$file", "value": {"fileId": "names.txt", "targetPath": "data/x"}}),
)
mappings = st.fixed_dictionaries(
    {"names": file_values},
    optional={
        "greeting": st.one_of(names, st.none()),
        "sleeptime": st.one_of(st.integers(0, 9), st.just("3"), st.none()),
    },
)
lists = mappings.map(
    lambda mapping: [
        {"name": name, "value": value, "label": name} for name, value in mapping.items()
    ]
)
arguments = st.one_of(mappings, lists, lists.map(lambda entries: {"arguments": entries}))
blanks = st.text(BLANKS, max_size=3).map(str.encode)
documents = st.one_of(
    st.builds(
        lambda before, document, after: before + dumped(document).encode() + after,
        blanks,
        arguments,
        blanks,
    ),
    written(arguments),
    written(spoilt(arguments)),
    written(spoilt(arguments)),
    written(anything),
    st.tuples(written(arguments), st.one_of(blanks, st.binary(max_size=4), written(arguments))).map(
        b"".join
    ),
    st.binary(max_size=40),
)


@st.composite
def in_pieces(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> list[bytes]:
    """Return documents, cut anywhere; some pieces are empty."""
    data = draw(whole)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@tried_on(120)
@given(in_pieces(documents))
@example([b"\x0b"])
@example([codecs.BOM_UTF8])
@example([b"\x1c\n"])
@example([b'{"names": "names.txt", "greeting": ', b"9" * 5000, b"}"])
@example([b'{"names": "names.txt"', b", ", b'"names": "other.txt"}'])
@example([b'{"names": "names.txt"}', b"{}"])
@example([b"\xef", b"\xbb", b'\xbf{"names": "names.txt"}'])
@example([b'{"names": "names.txt", "greeting": ' + b"[" * 990 + b"]" * 990 + b"}"])
@example([b'{"names": "names.txt", "greeting": "\\ud800"}'])
def test_what_is_written_to_new_starts_one_run_with_it_or_none(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    outcomes = []
    for write in (by_fsspec, by_mount):
        group = Group()
        fs = group.fs()
        error = write(fs, pieces)
        started = group.started()
        posts = [one for one in group.asked if one.method == "POST"]
        assert len(posts) <= 1
        assert len(started) <= 1
        if started:
            files = {"names.txt": group.names, "other.txt": group.other}
            expected = meant_in_front(data, files) if error else meant(data, files)
            assert repr(started[0]) == repr(expected)
            if error is not None:  # more came behind it, which the run cannot know of
                assert write is by_mount
                assert next(iter(group.routes.runs)) in str(error)
        elif error is None:
            # A mark of byte order with nothing behind it is nothing, too.
            text = data.removeprefix(codecs.BOM_UTF8)
            assert not text.strip(BLANKS.encode()), "neither a run nor an error"
        if error is not None:
            assert isinstance(error, InvalidArguments)
            assert isinstance(error, ValueError)
            told_of = fs.cat_file(f"{PATH}.error").decode()
            assert str(error.strerror) in told_of or started
        outcomes.append((started, error))
    (by_python, said), (by_kernel, _) = outcomes
    if by_python:
        assert repr(normal(by_python)) == repr(normal(by_kernel))
    elif by_kernel:
        assert said is not None


def meant_in_front(data: bytes, files: dict[str, str]) -> list[dict[str, Any]]:
    """Return what the document at the beginning is about, whatever follows it."""
    text = data.decode("utf-8-sig", "replace").lstrip(BLANKS)
    _, end = json.JSONDecoder().raw_decode(text)
    return meant(text[:end].encode("utf-8", "surrogatepass"), files)


def normal(started: list[list[dict[str, Any]]]) -> list[Any]:
    """Leave out the ids of uploads: each group has its own."""
    return [
        [(one["name"], None if one["name"] == "names" else one["value"]) for one in run]
        for run in started
    ]


@tried_on(30)
@given(in_pieces(st.one_of(names.map(lambda s: s.encode("utf-8", "replace")), st.binary())))
def test_what_is_written_to_cancel_is_the_reason_or_refused(pieces: list[bytes]) -> None:
    group = Group()
    run = group.routes.add_run("RUNNING")
    fs = group.fs()
    data = b"".join(pieces)
    with told() as refused, fs.open(f"groups/{GROUP}/runs/{run['id']}/cancel", "wb") as file:
        for piece in pieces:
            file.write(piece)
    state = group.routes.runs[run["id"]]["state"]
    assert (state == "CANCELED") == (bool(data) and not refused)
    if refused:
        with pytest.raises(UnicodeDecodeError):
            data.decode()
    elif data.strip():
        reason = group.routes.runs[run["id"]]["messages"]
        assert reason == [data.decode().strip() or "canceled at user request"]
