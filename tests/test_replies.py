"""Replies in JSON of any shape on their way through all of flowfs: right, or an error that says so.

A service in this process answers one request with something else than flowServ would. Everything
from the socket to what fsspec returns is real. What is said of right replies is found out here
by other means.
"""

from __future__ import annotations

from canned import Answer, Request, told
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
from reply_world import (
    ARGUMENTS,
    CREATED,
    GROUP,
    LOOKS,
    RUN,
    Look,
    World,
    is_list,
    is_run,
    looks,
    right,
    shown,
)

from flowfs.errors import BadReply, NotFound, UnclearStart
from flowfs.names import to_name
from flowfs.tree import RESERVED_RUN_NAMES

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
