"""Replies of any shape on their way through all of flowfs: right, or an error that says so.

A service in this process answers one request with something else than flowServ would: JSON
nearly right, bytes that are none, headers of every kind. Everything from the socket to what
fsspec returns is real. What is said of right replies is found out here by other means.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from canned import Answer, Canned, Request, told
from examples import tried_on
from hypothesis import example, given
from hypothesis import strategies as st
from replies import (
    anything,
    descriptors,
    group,
    handle,
    ids,
    leaderboard,
    listings,
    spoilt,
    uploads,
    workflow,
    written,
)

from flowfs import FlowFileSystem
from flowfs.errors import BadReply, NotFound, UnclearStart
from flowfs.names import to_name
from flowfs.tree import RESERVED_RUN_NAMES

SIZE = 70_000  # more than comes along when a size is asked for
DATA = random.Random(3).randbytes(SIZE)
GROUP = "group-1"
RUN = "run-1"


class World(Canned):
    """A group with a run that has ended, one that goes on, and two uploads."""

    def __init__(self, data: bytes = DATA) -> None:
        super().__init__()
        routes = self.routes
        self.file = "file-1"
        routes.files[self.file] = data
        files = [{"id": self.file, "name": "results/data.bin"}]
        for run_id, state in ((RUN, "SUCCESS"), ("run-2", "RUNNING")):
            made = routes.add_run(state, files=files)
            routes.runs[run_id] = {**routes.runs.pop(made["id"]), "id": run_id}
        self.names = routes.add_upload(b"Ada\n", "names.txt", GROUP)["id"]
        self.old = routes.add_upload(b"as it was", "data.txt", GROUP)["id"]
        self.run = f"groups/{GROUP}/runs/{RUN}"
        self.result = f"{self.run}/results/{self.file}"
        self.spoiled: list[Request] = []

    def spoil_with(self, wanted: str, answer: Callable[[Request, Answer], Answer]) -> None:
        """Answer requests that look so otherwise: ``"GET /runs/run-1"``."""

        def spoil(request: Request, own: Answer) -> Answer:
            if f"{request.method} {request.path.partition('?')[0]}" != wanted:
                return own
            self.spoiled.append(request)
            return answer(request, own)

        self.spoil = spoil


def decoded(data: bytes) -> Any:
    """Return what a reply in JSON holds, or raise what Python does where it holds nothing."""
    if not data.strip():
        return None
    return json.loads(data)


def depth(document: Any) -> int:
    """Return how many brackets there are within brackets."""
    levels, level = 0, [document]
    while True:
        level = [one for one in level if isinstance(one, (dict, list))]
        if not level:
            return levels
        levels += 1
        level = [x for one in level for x in (one.values() if isinstance(one, dict) else one)]


def right(data: bytes) -> Any:
    """Return the same; None where it must be refused."""
    with contextlib.suppress(ValueError, RecursionError):
        document = decoded(data)
        if depth(document) <= 300:
            return document
    return None


def is_list(document: Any, member: str, *required: str) -> bool:
    entries = document.get(member) if isinstance(document, dict) else None
    return isinstance(entries, list) and all(
        isinstance(one, dict) and all(isinstance(one.get(name), str) for name in required)
        for one in entries
    )


def is_run(document: Any, run_id: str | None = None) -> bool:
    if not isinstance(document, dict) or not isinstance(document.get("state"), str):
        return False
    if not isinstance(document.get("id"), str) or run_id not in (None, document["id"]):
        return False
    return document["state"] != "SUCCESS" or is_list(document, "files", "id")


def shown(data: bytes) -> Any:
    return json.loads(data.decode("utf-8", "surrogatepass"))


DIRECTORIES = ("", "groups", "workflows", f"groups/{GROUP}", f"groups/{GROUP}/runs")
FILES = (
    f"groups/{GROUP}/group.json",
    f"groups/{GROUP}/arguments.template.json",
    f"groups/{GROUP}/runs.jsonl",
    f"groups/{GROUP}/runs/{RUN}/handle.json",
    f"groups/{GROUP}/runs/{RUN}/arguments.json",
    "workflows/workflow-1/workflow.json",
    "workflows/workflow-1/leaderboard.csv",
    "workflows/workflow-1/leaderboard.json",
)
TREES = (f"groups/{GROUP}", "workflows/workflow-1", f"groups/{GROUP}/runs/{RUN}")
TIMED = (f"groups/{GROUP}/latest", f"groups/{GROUP}/runs/{RUN}", f"groups/{GROUP}")


class Look(NamedTuple):
    """Something that may be looked at when all else is over."""

    what: str
    path: str

    def __call__(self, fs: FlowFileSystem) -> None:
        """Look; it may be refused, as must be said."""
        with told():
            if self.what == "list":
                for entry in fs.ls(self.path, detail=True):
                    assert isinstance(entry["name"], str)
                    entry["name"].encode()
            elif self.what == "read":
                size = fs.info(self.path)["size"]
                data = fs.cat_file(self.path)
                assert size in (None, len(data))
            elif self.what == "find":
                found = fs.find(self.path, withdirs=True)
                assert len(set(found)) == len(found)
            else:
                with contextlib.suppress(NotImplementedError):
                    getattr(fs, self.what)(self.path)
        errors = fs.cat_file(".flowfs/errors").decode()
        assert all(line.isprintable() for line in errors.replace("\t", " ").splitlines())


LOOKS = (
    *(Look("list", path) for path in DIRECTORIES),
    *(Look("read", path) for path in FILES),
    *(Look("find", path) for path in TREES),
    *(Look(what, path) for what in ("modified", "created", "ukey", "sign") for path in TIMED),
)
looks = st.sampled_from(LOOKS)
ARGUMENTS = Look("read", f"groups/{GROUP}/runs/{RUN}/arguments.json")
CREATED = Look("created", f"groups/{GROUP}/runs/{RUN}")


# -- JSON --------------------------------------------------------------------------------


@tried_on(20)
@given(looks, written(spoilt(listings)))
@example(
    LOOKS[0], b'{"runs": [{"id": "a", "state": "x", "createdAt": "0001-01-01T00:00:00+23:59"}]}'
)
def test_a_listing_is_all_of_it_or_an_error(look: Look, data: bytes) -> None:
    world = World()
    world.spoil_with(f"GET /groups/{GROUP}/runs", lambda request, own: Answer(200, data))
    fs = world.fs()
    document = right(data)
    with told() as refused:
        found = [one.rpartition("/")[2] for one in fs.ls(f"groups/{GROUP}/runs", detail=False)]
        assert is_list(document, "runs", "id", "state")
        ids_listed = dict.fromkeys(run["id"] for run in document["runs"])
        expected = [to_name(one, RESERVED_RUN_NAMES) for one in ids_listed]
        assert sorted(found) == sorted(["new", *expected])
        for run in document["runs"]:  # the last of one id counts
            ids_listed[run["id"]] = run["state"]
        for state in ("PENDING", "RUNNING", "SUCCESS", "ERROR", "CANCELED"):
            with_state = fs.ls(f"groups/{GROUP}/states/{state}", detail=False)
            assert len(with_state) == list(ids_listed.values()).count(state)
    assert bool(refused) != is_list(document, "runs", "id", "state")
    look(fs)


@tried_on(20)
@given(looks, written(spoilt(handle(st.just(RUN), st.just(GROUP)))))
@example(ARGUMENTS, b'{"id": "run-1", "state": "ERROR", "groupId": "group-1", "arguments": [1]}')
@example(
    ARGUMENTS, b'{"id": "run-1", "state": "ERROR", "groupId": "group-1", "arguments": {"a": 1}}'
)
@example(
    LOOKS[0],
    b'{"id": "run-1", "state": "ERROR", "groupId": "group-1", "a": '
    + b"[" * 500
    + b"]" * 500
    + b"}",
)
@example(
    CREATED,
    b'{"id": "run-1", "state": "ERROR", "groupId": "group-1",'
    b' "createdAt": "9999-12-31T23:59:59-23:59"}',
)
def test_a_run_is_as_its_handle_says_or_an_error(look: Look, data: bytes) -> None:
    world = World()
    world.spoil_with(f"GET /runs/{RUN}", lambda request, own: Answer(200, data))
    fs = world.fs()
    document = right(data)
    good = is_run(document, RUN)
    with told() as refused:
        assert repr(shown(fs.cat_file(f"{world.run}/handle.json"))) == repr(document)
    assert bool(refused) != (good and document.get("groupId") == GROUP)
    if refused:
        assert isinstance(refused[0], NotFound if good else BadReply)
    with told() as refused:
        names = [one.rpartition("/")[2] for one in fs.ls(f"{world.run}/results", detail=False)]
        ended = good and document["state"] == "SUCCESS"
        wanted = [to_name(file["id"]) for file in document["files"]] if ended else []
        assert len(set(names)) == len(names) == len(wanted)
        assert set(names) >= set(wanted) or len(set(wanted)) < len(wanted)
    with told():
        for path in fs.find(f"{world.run}/outputs"):
            assert fs.info(path)["name"] == path
    look(fs)


@tried_on(20)
@given(looks, written(spoilt(group(st.just(GROUP)))))
@example(
    LOOKS[0], b'{"id": "group-1", "parameters": [{"name": "a", "index": 1e999}, {"name": "b"}]}'
)
def test_a_group_is_as_its_handle_says_or_an_error(look: Look, data: bytes) -> None:
    world = World()
    world.spoil_with(f"GET /groups/{GROUP}", lambda request, own: Answer(200, data))
    fs = world.fs()
    document = right(data)
    with told() as refused:
        assert repr(shown(fs.cat_file(f"groups/{GROUP}/group.json"))) == repr(document)
    good = isinstance(document, dict) and document.get("id") == GROUP
    assert bool(refused) != good
    look(fs)
    for arguments in (b'{"names": "names.txt"}', b"{}", b'{"a": 1, "b": {"c": []}}'):
        before = len(world.routes.runs)
        with told() as refused:
            fs.pipe_file(f"groups/{GROUP}/runs/new", arguments)
        started = len(world.routes.runs) - before
        assert started == (0 if refused else 1)


@tried_on(20)
@given(looks, written(spoilt(uploads)))
def test_uploads_are_all_that_are_listed_or_an_error(look: Look, data: bytes) -> None:
    world = World()
    world.spoil_with(f"GET /uploads/{GROUP}/files", lambda request, own: Answer(200, data))
    fs = world.fs()
    document = right(data)
    good = is_list(document, "files", "id", "name")
    with told() as refused:
        found = fs.ls(f"groups/{GROUP}/uploads", detail=True)
        wanted = [file["id"] for file in document["files"]]
        assert sorted({one["id"] for one in found}) == sorted(set(wanted))
        assert len({one["name"] for one in found}) == len(found)
    assert bool(refused) != good
    there = dict(world.routes.files)
    for name in ("data.txt", "new.txt"):
        with told() as refused:
            fs.pipe_file(f"groups/{GROUP}/uploads/{name}", b"as it is to be")
        stored = [
            world.routes.files[one["id"]]
            for one in world.routes.uploads
            if one["name"] == name and one["id"] in world.routes.files
        ]
        if not refused:
            assert b"as it is to be" in stored
    # What is not of that name is never touched.
    assert world.routes.files[world.names] == there[world.names]
    look(fs)


@tried_on(20)
@given(
    looks,
    st.sampled_from(["GET /workflows", "GET /workflows/workflow-1/groups", "GET /groups"]),
    st.data(),
)
def test_lists_of_groups_and_workflows_are_whole_or_an_error(
    look: Look, wanted: str, data: st.DataObject
) -> None:
    member = "workflows" if wanted.endswith("workflows") else "groups"
    entry = st.fixed_dictionaries({"id": ids}, optional={"name": ids})
    lists = st.fixed_dictionaries({member: st.lists(entry, max_size=4)})
    reply = data.draw(written(spoilt(lists)))
    world = World()
    world.spoil_with(wanted, lambda request, own: Answer(200, reply))
    fs = world.fs()
    document = right(reply)
    path = "workflows" if member == "workflows" else "groups"
    with told() as refused:
        found = {one["id"] for one in fs.ls(path, detail=True)}
        if wanted == "GET /workflows":
            assert found == {one["id"] for one in document["workflows"]}
        else:
            assert found == {one["id"] for one in document["groups"]}
    assert bool(refused) != is_list(document, member, "id")
    look(fs)


@tried_on(20)
@given(
    looks,
    written(st.one_of(spoilt(leaderboard), st.none())),
    written(spoilt(workflow.map(lambda one: {**one, "id": "workflow-1"}))),
)
def test_a_workflow_and_its_ranking_are_as_they_are_told_or_an_error(
    look: Look, ranking: bytes, about: bytes
) -> None:
    world = World()

    def spoil(request: Request, own: Answer) -> Answer:
        path = request.path.partition("?")[0]
        if path == "/workflows/workflow-1/leaderboard":
            return Answer(200, ranking)
        return Answer(200, about) if path == "/workflows/workflow-1" else own

    world.spoil = spoil
    fs = world.fs()
    document = right(about)
    with told() as refused:
        got = shown(fs.cat_file("workflows/workflow-1/workflow.json"))
        assert repr(got) == repr(document)
    if not isinstance(document, dict) or not isinstance(document.get("id"), str):
        assert refused
    with told() as refused:
        got = shown(fs.cat_file("workflows/workflow-1/leaderboard.json"))
        if got != {"schema": [], "ranking": []}:
            assert repr(got) == repr(right(ranking))
    look(fs)
    with told():
        for path in fs.find("workflows/workflow-1/postproc"):
            with told():
                fs.info(path)


@tried_on(20)
@given(looks, written(spoilt(descriptors)))
@example(LOOKS[0], b'{"routes": [{"id": "runs:get", "pattern": "//evil.example/{runId}"}]}')
@example(LOOKS[0], b'{"routes": [{"id": "runs:get", "pattern": "../../../{runId}"}]}')
def test_whatever_a_service_says_of_itself_requests_go_below_its_address(
    look: Look, data: bytes
) -> None:
    world = World()
    world.spoil_with("GET /", lambda request, own: Answer(200, data))
    fs = world.fs()
    look(fs)
    with told():
        fs.cat_file(world.result)
    assert all(request.headers.get("api_key") for request in world.asked)


# -- what changes something -----------------------------------------------------------------

BODILESS = (204, 304)
statuses = st.sampled_from([200, 201, 200, 204, 202, 206, 300, 304, 400, 404, 409, 416, 500, 599])


@tried_on(20)
@given(looks, statuses, written(spoilt(handle(st.just("run-9"), st.just(GROUP)))), st.booleans())
def test_a_start_is_the_run_that_is_told_or_an_error_that_says_what_may_be(
    look: Look, status: int, data: bytes, acts: bool
) -> None:
    world = World()

    def answer(request: Request, own: Answer) -> Answer:
        if not acts:
            for run_id in [i for i in world.routes.runs if i not in (RUN, "run-2")]:
                del world.routes.runs[run_id]
        return Answer(status, data)

    world.spoil_with(f"POST /groups/{GROUP}/runs", answer)
    fs = world.fs()
    document = None if status in BODILESS else right(data)
    with told() as refused:
        got = fs.start_run(GROUP, {"names": "names.txt"})
        assert is_run(document)
        assert repr(got) == repr(document)
    assert len(world.spoiled) == 1  # sent once, whatever came of it
    if 200 <= status < 300 and status != 206:
        assert bool(refused) != is_run(document)
    else:
        assert refused
    unclear = not 400 <= status < 500
    assert isinstance(refused[0], UnclearStart) == unclear if refused else True
    if refused and isinstance(refused[0], UnclearStart):
        made = [run_id for run_id in world.routes.runs if run_id not in (RUN, "run-2")]
        assert list(refused[0].run_ids) == made
    look(fs)


@tried_on(20)
@given(looks, statuses, written(spoilt(handle(st.just("run-2"), st.just(GROUP)))))
def test_a_cancel_is_done_or_an_error(look: Look, status: int, data: bytes) -> None:
    world = World()
    world.spoil_with("PUT /runs/run-2", lambda request, own: Answer(status, data))
    fs = world.fs()
    document = None if status in BODILESS else right(data)
    with told() as refused:
        got = fs.cancel_run("run-2", "enough")
        assert repr(got) == repr(document)
    assert len(world.spoiled) == 1
    if 200 <= status < 300 and status != 206:
        assert bool(refused) != is_run(document, "run-2")
    else:
        assert refused
    look(fs)


@tried_on(20)
@given(looks, statuses, st.one_of(written(anything), st.just(b"")))
def test_a_delete_and_an_upload_are_done_or_an_error(look: Look, status: int, data: bytes) -> None:
    world = World()

    def spoil(request: Request, own: Answer) -> Answer:
        return own if request.method == "GET" else Answer(status, data)

    world.spoil = spoil
    fs = world.fs()
    for act in (
        lambda: fs.rm(world.run, recursive=True),
        lambda: fs.pipe_file(f"groups/{GROUP}/uploads/data.txt", b"as it is to be"),
        lambda: fs.rm(f"groups/{GROUP}/uploads/names.txt"),
    ):
        with told() as refused:
            act()
        if not 200 <= status < 300 or status == 206:
            assert refused
    assert world.run not in fs.ls(f"groups/{GROUP}/runs", detail=False)
    look(fs)


# -- errors, and headers ----------------------------------------------------------------------

header_values = st.one_of(
    st.sampled_from(
        [
            b"",
            b"0",
            b"1",
            b"-1",
            b"+5",
            b"5, 5",
            b"5, 6",
            b" 7 ",
            b"1_000",
            b"0x10",
            b"1e3",
            b"nan",
            b"inf",
            b"-inf",
            b"9" * 25,
            b"9" * 4300,
            b"9" * 4301,
            b"9" * 20_000,
            b"%d" % SIZE,
            b"%d" % (SIZE + 1),
            b"%d" % (SIZE - 1),
            b"%d" % 10**15,
            b"\xb2\xb9",
            b"Wed, 21 Oct 2015 07:28:00 GMT",
            b"Wed, 99 Oct 99999 07:28:00 GMT",
            b"identity",
            b"gzip",
            b"gzip, gzip",
            b"br",
            b"chunked",
            b"text/html; charset=\xff",
            b"application/json; charset=utf-16",
            b"bytes",
            b"bytes 0-9/10",
            b"bytes 5-4/10",
            b"bytes 0-9/5",
            b"bytes */10",
            b"bytes */*",
            b"bytes */" + b"9" * 5000,
            b"bytes 0-%d/%d" % (SIZE - 1, SIZE),
            b"bytes 0-65535/%d" % SIZE,
            b"bytes 0-65535/" + b"9" * 5000,
            b"bytes " + b"9" * 5000 + b"-" + b"9" * 5001 + b"/*",
            b"bytes=0-9/10",
            b"attachment; filename=../../x",
            b"/flowserv/api/v1/runs/run-1",
            b"?again",
            b"http://[::1",
            b"http://127.0.0.1:99999999999/",
            b"http://127.0.0.1:" + b"9" * 5000 + b"/",
            b"//evil.example/\xff",
            b"http://\xff\xfe/",
            b"http://a b/",
            b"javascript:alert(1)",
            b"http://evil.example\\@127.0.0.1:9/",
        ]
    ),
    st.binary(max_size=12).map(lambda value: value.replace(b"\r", b"").replace(b"\n", b"")),
)
header_names = st.sampled_from(
    [
        "Content-Length",
        "Content-Length",
        "Content-Range",
        "Content-Range",
        "Retry-After",
        "Location",
        "Content-Type",
        "Content-Encoding",
        "Transfer-Encoding",
        "Connection",
        "Set-Cookie",
        "X",
        "",
    ]
)
headers = st.lists(st.tuples(header_names, header_values), max_size=3).map(tuple)
any_status = st.one_of(
    st.sampled_from([200, 200, 206, 206, 416, 301, 302, 307, 429, 503, 401, 404, 500]),
    st.integers(0, 999),
)

LEADS = {
    "GET": "/runs/run-1",
    "POST": f"/groups/{GROUP}/runs",
    "PUT": "/runs/run-2",
    "DELETE": "/runs/run-1",
}


@tried_on(40)
@given(
    st.sampled_from([*LEADS]),
    any_status,
    headers,
    st.one_of(st.none(), st.binary(max_size=40), written(anything)),
)
@example("GET", 416, (("Content-Range", b"bytes */10"),), None)
@example("GET", 302, (("Location", b"http://127.0.0.1:" + b"9" * 5000 + b"/"),), None)
def test_a_reply_with_any_headers_is_right_or_an_error(
    method: str, status: int, more: tuple[tuple[str, bytes], ...], body: bytes | None
) -> None:
    world = World()
    world.spoil_with(
        f"{method} {LEADS[method]}",
        lambda request, own: Answer(status, own.body if body is None else body, more),
    )
    fs = world.fs(timeout=5.0)
    with told():
        if method == "GET":
            got = shown(fs.cat_file(f"{world.run}/handle.json"))
            assert got["id"] == RUN
            if body is None:
                assert got == world.routes.get_run(RUN)[1]
        elif method == "POST":
            assert fs.start_run(GROUP, {"names": "names.txt"})["id"]
        elif method == "PUT":
            assert fs.cancel_run("run-2")["id"] == "run-2"
        else:
            fs.rm(world.run, recursive=True)
            assert 200 <= status < 300
    if method in ("POST", "PUT"):
        assert len(world.spoiled) == 1
    assert not [one for one in world.asked if one.headers.get("api_key") is None and not more]


@tried_on(20)
@given(st.sampled_from([*LEADS]), st.binary(max_size=200), st.booleans(), st.data())
def test_bytes_that_are_no_http_are_an_error(
    method: str, noise: bytes, whole: bool, data: st.DataObject
) -> None:
    world = World()

    def answer(request: Request, own: Answer) -> Answer:
        if whole:
            return Answer(raw=noise)
        wire = own.wire
        cut = data.draw(st.integers(0, len(wire)), label="cut")
        return Answer(raw=wire[:cut] + noise + wire[cut + len(noise) :])

    world.spoil_with(f"{method} {LEADS[method]}", answer)
    fs = world.fs(timeout=5.0)
    with told():
        if method == "GET":
            assert shown(fs.cat_file(f"{world.run}/handle.json"))["id"] == RUN
        elif method == "POST":
            fs.start_run(GROUP, {"names": "names.txt"})
        elif method == "PUT":
            fs.cancel_run("run-2")
        else:
            fs.rm(world.run, recursive=True)
    if method in ("POST", "PUT"):
        assert len(world.spoiled) == 1


# -- bytes --------------------------------------------------------------------------------------


def as_asked(request: Request, data: bytes) -> tuple[int, bytes, dict[str, bytes]]:
    """Answer a request for bytes as a service does that honours ranges."""
    span = request.headers.get("Range")
    if span is None:
        return 200, data, {}
    first, _, last = span.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last or len(data)), len(data) - 1)
    if start >= len(data):
        return 416, b"", {"Content-Range": b"bytes */%d" % len(data)}
    return (
        206,
        data[start : end + 1],
        {"Content-Range": b"bytes %d-%d/%d" % (start, end, len(data))},
    )


@tried_on(40)
@given(
    st.sampled_from([0, 1, 17, 1000, SIZE]),
    headers,
    st.sampled_from([None, None, 200, 206, 416, 404, 500, 302]),
    st.sampled_from(["as it is", "as it is", "cut", "longer", "gzip", "chunked", "badly chunked"]),
    st.booleans(),
    st.booleans(),
    st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)),
)
@example(17, (("Content-Length", b"9" * 5000),), None, "as it is", False, False, (0, 5))
@example(17, (("Content-Length", b"9" * 21),), None, "as it is", False, True, (0, 5))
@example(17, (("Content-Range", b"bytes */*"),), 416, "as it is", False, False, (0, 5))
def test_bytes_are_the_files_or_an_error(
    size: int,
    more: tuple[tuple[str, bytes], ...],
    status: int | None,
    body: str,
    ranged: bool,
    kept: bool,
    part: tuple[int, int],
) -> None:
    data = DATA[:size]
    world = World(data)
    lies = {name.lower() for name, _ in more} | ({"status"} if status else set())

    def answer(request: Request, own: Answer) -> Answer:
        code, part_of, told_so = as_asked(request, data) if ranged else (200, data, {})
        said = {**told_so, **dict(more)}
        if body == "cut":
            said.setdefault("Content-Length", b"%d" % len(part_of))
            part_of = part_of[: len(part_of) // 2]
        elif body == "longer":
            said.setdefault("Content-Length", b"%d" % len(part_of))
            part_of += b"more"
        elif body == "gzip":
            said["Content-Encoding"] = b"gzip"
            part_of = gzip.compress(part_of)
        elif body.endswith("chunked"):
            said["Transfer-Encoding"] = b"chunked"
            said.pop("Content-Length", None)
            part_of = (
                b"%x\r\n%s\r\n0\r\n\r\n" % (len(part_of), part_of) if part_of else b"0\r\n\r\n"
            )
            part_of = part_of[: len(part_of) // 2] if body.startswith("badly") else part_of
        return Answer(status or code, part_of, tuple(said.items()), sized="chunked" not in body)

    world.spoil_with(f"GET /runs/{RUN}/downloads/files/{world.file}", answer)
    fs = world.fs(timeout=5.0)
    start, end = min(part), max(part)
    # A service that says another length, or another place, than it has cannot be found out.
    honest = not lies & {"content-length", "content-range", "content-encoding", "status"}
    if kept:
        with told(), fs.open(world.result, "rb", block_size=1000) as file:
            got = file.read(end)
            if honest:
                assert got == data[:end]
            file.seek(start)
            got = file.read()
            if honest:
                assert got == data[start:]
    with told():
        got = fs.cat_file(world.result)
        if honest:
            assert got == data
    with told():
        got = fs.cat_file(world.result, start, end)
        if honest:
            assert got == data[start:end]
    with told():
        told_size = fs.info(world.result)["size"]
        if honest:
            assert told_size == size
        assert isinstance(told_size, int)
        assert told_size >= 0
    if body == "as it is" and not lies:
        assert fs.cat_file(world.result) == data
    if body == "cut" and size > 1 and honest:
        world.spoiled.clear()
        with told() as refused:
            fs.cat_file(world.result, 0, size)
        assert refused
    assert len(world.spoiled) < 100


@tried_on(15)
@given(headers, st.sampled_from([200, 206, 416, 404]), st.integers(0, 60), st.booleans())
@example((("Content-Length", b"9" * 21),), 200, 30, True)
@example((("Content-Length", b"9" * 18),), 200, 30, True)
def test_bytes_that_are_kept_on_disk_are_the_files_or_an_error(
    tmp_path: Path, more: tuple[tuple[str, bytes], ...], status: int, size: int, archive: bool
) -> None:
    data = DATA[:size]
    world = World(data)
    world.spoil_with(
        f"GET /runs/{RUN}/downloads/" + ("archive" if archive else f"files/{world.file}"),
        lambda request, own: Answer(status, data, more),
    )
    fs = world.fs(timeout=5.0, cache_dir=str(tmp_path / "cache"))
    path = f"{world.run}/archive.tar.gz" if archive else world.result
    lies = {name.lower() for name, _ in more} & {
        "content-length",
        "content-range",
        "content-encoding",
        "transfer-encoding",
    }
    for _ in range(2):
        with told():
            got = fs.cat_file(path)
            assert lies or got == data
        with told(), fs.open(path, "rb") as file:
            got = file.read()
            assert lies or got == data
        with told():
            fs.info(path)
