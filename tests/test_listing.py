"""What is kept of large listings: the same to see as if each reply were kept as it came."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standin import StandIn

from flowfs import FlowFileSystem, tree
from flowfs.catalog import Listing, plain, timestamp
from flowfs.catalog.listing import read_object
from flowfs.filesystem.entries import Alike
from flowfs.filesystem.rendering import group_json, pretty_json
from flowfs.filesystem.times import _group_times
from flowfs.fuse.attributes import inode, inodes
from flowfs.names import to_name, to_names

PLAIN = {"id": "r1", "state": "SUCCESS", "createdAt": "2025-06-02T09:14:03.120000"}

# What a service may say of a run, in its usual form and in any other.
RUN = st.fixed_dictionaries({"id": st.text(), "state": st.text(), "createdAt": st.text()}).flatmap(
    lambda run: st.sampled_from([run, dict(sorted(run.items()))])
) | st.dictionaries(st.text(), st.none() | st.text() | st.integers(), max_size=4)
HANDLE = st.fixed_dictionaries(
    {"id": st.text(), "runs": st.lists(RUN, max_size=3) | st.none()},
    optional={"name": RUN | st.text(), "files": st.lists(RUN, max_size=2)},
)


@given(HANDLE)
def test_a_groups_handle_is_shown_as_the_service_gave_it(handle: dict[str, Any]) -> None:
    read = json.loads(json.dumps(handle), object_pairs_hook=read_object)
    assert plain(read) == handle
    kept = {name: it if name == "runs" else plain(it) for name, it in read.items()}
    assert group_json(kept) == pretty_json(handle)


@pytest.mark.parametrize(
    "other",
    [
        {**PLAIN, "group": "G"},
        {"state": "SUCCESS", "id": "r1", "createdAt": ""},
        {**PLAIN, "createdAt": None},
        {"id": "r1", "state": "SUCCESS"},
    ],
)
def test_only_what_can_be_told_again_to_the_letter_is_kept_as_a_row(other: Any) -> None:
    def read(document: Any) -> Any:
        return json.loads(json.dumps(document), object_pairs_hook=read_object)

    assert read(PLAIN) == ("r1", "SUCCESS", PLAIN["createdAt"])
    alphabetical = dict(sorted(PLAIN.items()))
    assert isinstance(read(alphabetical), tuple)  # as the service itself writes it
    assert list(plain(read(alphabetical)).items()) == list(alphabetical.items())
    assert read(other) == other
    assert list(read(other)) == list(other)


def test_runs_of_a_listing_share_the_words_for_their_states() -> None:
    runs = json.loads(json.dumps([PLAIN, {**PLAIN, "id": "r2"}]), object_pairs_hook=read_object)
    listing = Listing(runs)
    assert listing["r1"].state is listing["r2"].state
    assert listing.active == []
    assert Listing([{"id": "r3", "state": "RUNNING"}, *runs]).active == ["r3"]


def test_runs_are_the_same_in_whatever_order_they_are_told_of() -> None:
    texts = [json.dumps([PLAIN]), json.dumps([PLAIN], sort_keys=True)]
    one, other = (Listing(json.loads(text, object_pairs_hook=read_object)) for text in texts)
    assert one["r1"] == other["r1"] == next(iter(other.values()))
    assert other.having({"r1": other["r1"]})["r1"] == one["r1"]


@given(st.lists(st.text(max_size=3) | st.sampled_from(["new", "..", "%", "a%41", "x" * 300])))
def test_many_names_are_made_as_each_is(raw: list[str]) -> None:
    assert to_names(raw, {"new"}) == [to_name(one, {"new"}) for one in raw]


TIMES = st.datetimes().map(lambda time: time.isoformat())


@given(
    st.lists(TIMES, max_size=5)
    | st.lists(TIMES | TIMES.map(lambda t: f"{t}Z") | TIMES.map(lambda t: f"{t}+02:00") | st.text())
)
def test_the_times_of_a_group_are_those_of_its_first_and_last_run(written: list[str]) -> None:
    runs = [{"id": str(n), "state": "ERROR", "createdAt": t} for n, t in enumerate(written)]
    told = _group_times(Listing(runs), [])
    times = [time for time in map(timestamp, written) if time is not None]
    assert told.oldest == min(times, default=None)
    assert told.newest == told.runs == told.states.get("ERROR") == max(times, default=None)


def test_runs_with_names_of_all_kinds_are_listed_under_them() -> None:
    with StandIn() as server:
        for run_id in ("new", "a/b", "..", "plain-1"):
            run = server.routes.add_run("SUCCESS", files=[])
            del server.routes.runs[run["id"]]
            server.routes.runs[run_id] = {**run, "id": run_id}
        fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=600)
        names = {path.rpartition("/")[2] for path in fs.ls("groups/group-1/runs", detail=False)}
        assert names == {"new", "%6Eew", "a%2Fb", "%2E%2E", "plain-1"}
        for name in names - {"new"}:
            assert fs.info(f"groups/group-1/runs/{name}")["state"] == "SUCCESS"


ID = st.uuids().map(lambda number: number.hex) | st.text("0123456789abcdefABCDEF -_", min_size=1)


@given(st.lists(ID, unique=True))
def test_a_run_has_the_same_inode_in_whatever_company_it_is_listed(ids: list[str]) -> None:
    runs = tree.parse("groups/g/runs")
    names = to_names(ids, {"new"})
    numbers = inodes(runs, Alike(tree.RUN, True, names))
    assert numbers == [inode(runs.child(name), {}) for name in names]
    assert all(0 < number < 1 << 63 for number in numbers)


def test_ids_that_are_much_alike_have_inodes_of_their_own() -> None:
    names = [f"{number:032x}" for number in range(1000)] + [f"run-{n}" for n in range(1000)]
    assert len(set(inodes(tree.parse("groups/g/runs"), Alike(tree.RUN, True, names)))) == 2000
