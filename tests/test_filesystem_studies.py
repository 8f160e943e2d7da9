"""The runs of a group as a table: one in Python, one in the tree, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from group_of_runs import GroupOfRuns
from hypothesis import given
from hypothesis import strategies as st
from standin import Asked, Reply, StandIn
from world import World

from flowfs import BadReply, InvalidArguments, NotFound, TooLarge
from flowfs.embedded import EmbeddedService
from flowfs.filesystem import studies
from flowfs.filesystem.rendering import RUN_COLUMNS, run_row
from flowfs.filesystem.scalars import named_apart, scalars

pd: Any = pytest.importorskip("pandas")


class Study(GroupOfRuns):
    """Runs with arguments and results, and who makes a table of them."""

    def run(
        self, state: str = "SUCCESS", files: dict[str, Any] | None = None, **arguments: Any
    ) -> str:
        """Make a run; files are bytes or what is to be JSON."""
        listed = [{"name": name, "value": value} for name, value in arguments.items()]
        return self.made(state, files, arguments=listed)


@pytest.fixture
def study() -> Iterator[Study]:
    with StandIn() as server:
        yield Study(server)


@pytest.fixture(scope="module")
def world(service: EmbeddedService) -> Iterator[World]:
    made = World(service, "analysis")
    yield made
    made.rest.close()


# -- on the real service -----------------------------------------------------


@pytest.fixture(scope="module")
def swept(world: World) -> list[dict[str, Any]]:
    return [world.succeeded(window=window) for window in (2, 3)]


def test_a_study_is_one_line(world: World, swept: list[dict[str, Any]]) -> None:
    table = world.fs().runs(world.group_id, results="outputs/results/summary.json")
    assert list(table["id"]) == [handle["id"] for handle in swept]
    assert list(table["window"]) == [2, 3]
    assert list(table["data"]) == [world.upload] * 2
    expected = [json.loads(world.rest.result(h, "results/summary.json")) for h in swept]
    for column in ("mean", "maximum"):
        assert list(table[column]) == [one[column] for one in expected]
    for name in ("created", "started", "finished"):
        assert str(table[name].dtype) == "datetime64[us, UTC]"
        assert [f"{t:%Y-%m-%dT%H:%M:%S.%f}" for t in table[name]] == [
            handle[f"{name}At"].removesuffix("+00:00") for handle in swept
        ]
    took = (table["finished"] - table["started"]).dt.total_seconds()
    assert list(took) == pytest.approx(list(table["duration"]))


def test_the_table_in_the_tree_has_the_same_columns_and_cells(
    world: World, swept: list[dict[str, Any]]
) -> None:
    fs = world.fs()
    url = world.url(f"{world.group}/runs.jsonl")
    times = ["created", "started", "finished"]
    read = pd.read_json(url, lines=True, storage_options=world.options())
    read[times] = read[times].apply(pd.to_datetime, utc=True).astype("datetime64[us, UTC]")
    pd.testing.assert_frame_equal(read, fs.runs(world.group_id), check_dtype=False)


def test_jq_reads_it(world: World, swept: list[dict[str, Any]]) -> None:
    table = world.fs().cat(f"{world.group}/runs.jsonl")
    try:
        done = subprocess.run(
            ["jq", "-r", 'select(.window > 2 and .state == "SUCCESS") | .id'],
            input=table,
            stdout=subprocess.PIPE,
            check=True,
        )
    except FileNotFoundError:
        pytest.skip("there is no jq")
    assert done.stdout.decode().split() == [swept[1]["id"]]


def test_duckdb_reads_it(world: World, swept: list[dict[str, Any]]) -> None:
    duckdb: Any = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    connection.register_filesystem(world.fs())
    found = connection.sql(
        'SELECT id, "window", created < finished '
        f"FROM read_json('flow://{world.group}/runs.jsonl') "
        'WHERE duration >= 0 ORDER BY "window" DESC'
    ).fetchall()
    assert found == [(h["id"], w, True) for h, w in zip(swept[::-1], (3, 2), strict=True)]


# -- what it costs -------------------------------------------------------------


def test_one_request_for_the_group_one_a_handle_and_one_a_result(study: Study) -> None:
    for window in range(5):
        study.run(files={"results/a.json": {"mean": window}}, window=window)
    study.run("ERROR", window=5)
    study.run("RUNNING", window=6)
    table = study.fs.runs(study.group_id, results="outputs/results/a.json")
    assert len(table) == 7
    assert study.server.count() == 1 + 1 + 7 + 5  # the routes, the group, handles, results
    study.fs.runs(study.group_id, results="outputs/results/a.json")
    assert study.server.count("GET", "/runs/[^/]+") == 7  # good for ttl
    assert study.server.count("GET", ".*/files/.*") == 5
    assert list(study.fs.runs(study.group_id, state="ERROR")["window"]) == [5]


def test_only_handles_of_runs_in_the_state_are_asked_for(study: Study) -> None:
    for state in ("SUCCESS", "ERROR", "RUNNING", "SUCCESS"):
        study.run(state)
    assert list(study.fs.runs(study.group_id, state="SUCCESS")["state"]) == ["SUCCESS"] * 2
    assert study.server.count("GET", "/runs/.*") == 2
    both = study.fs.runs(study.group_id, state=["RUNNING", "ERROR"])
    assert list(both["state"]) == ["ERROR", "RUNNING"]
    with pytest.raises(InvalidArguments, match=r"no state of a run: 'success'; there are PENDING"):
        study.fs.runs(study.group_id, state="success")


def test_a_run_that_ends_while_others_are_canceled_is_in_the_table(study: Study) -> None:
    run_id, *others = (study.run("RUNNING") for _ in range(3))
    study.fs.cat(f"{study.group}/runs/{run_id}/handle.json")

    def cancels(asked: Asked) -> Reply:
        reply = study.server.own(asked)
        # What was asked for before a change is not kept after it.
        study.fs.cancel_run(others.pop())
        return reply

    def ends(asked: Asked) -> Reply:
        with study.server.lock:
            study.server.routes.runs[run_id].update(state="SUCCESS")
        return cancels(asked)

    study.server.on("GET", "/groups/[^/]+", cancels, None)
    study.server.on("GET", "/groups/[^/]+/runs", ends, None)
    rows, _ = study.fs.run_rows(study.group, state="SUCCESS")
    assert [(row["id"], row["state"]) for row in rows] == [(run_id, "SUCCESS")]


def test_a_failure_is_an_error_and_never_a_part_of_the_table(study: Study) -> None:
    run_ids = [study.run() for _ in range(3)]
    study.server.on("GET", f"/runs/{run_ids[1]}", Reply(500, {"message": "broken"}))
    with pytest.raises(OSError, match="broken"):
        study.fs.runs(study.group_id)


def test_a_run_that_goes_meanwhile_is_left_out(study: Study) -> None:
    run_ids = [study.run() for _ in range(3)]
    study.server.on("GET", f"/runs/{run_ids[1]}", Reply(404, {"message": "unknown run"}))
    assert list(study.fs.runs(study.group_id)["id"]) == [run_ids[0], run_ids[2]]


# -- which group ---------------------------------------------------------------


def test_a_group_is_named_by_id_path_url_or_name(study: Study) -> None:
    study.run()
    names = [
        study.group_id,
        study.group,
        f"{study.group}/runs",
        f"flow://{study.server.endpoint.partition('://')[2]}/{study.group}",
        "workflows/workflow-1/groups/hello",
        "hello",
    ]
    for name in names:
        assert len(study.another().runs(name)) == 1, name
    with pytest.raises(NotFound, match="no group has this id or name"):
        study.fs.runs("nobody")
    with pytest.raises(InvalidArguments, match="no group, nor a place in one"):
        study.fs.runs("workflows/workflow-1")


def test_a_name_that_several_groups_have_is_refused_with_their_ids(study: Study) -> None:
    groups = [{"id": "a", "name": "twin"}, {"id": "b", "name": "twin"}]
    study.server.on("GET", "/workflows/workflow-1/groups", Reply(body={"groups": groups}))
    study.server.on("GET", "/groups/twin", Reply(404, {"message": "unknown group 'twin'"}))
    with pytest.raises(InvalidArguments, match="by its id: a, b"):
        study.fs.runs("twin")


# -- columns -------------------------------------------------------------------


def test_columns_have_types_that_their_cells_have(study: Study) -> None:
    rows = [
        {"whole": 1, "some": 1, "mixed": 1, "text": "a", "yes": True, "real": 1, "huge": 1 << 70},
        {"whole": 2, "mixed": "b", "text": "c", "real": 0.5, "huge": 2},
        {"whole": 3, "some": 3, "mixed": [1], "text": "d", "yes": False, "real": 2, "huge": 3},
    ]
    for row in rows:
        study.run(**row)
    table = study.fs.runs(study.group_id)
    kinds = {name: str(table[name].dtype) for name in rows[0]}
    assert {n: k for n, k in kinds.items() if n != "text"} == {
        "whole": "int64",
        "some": "Int64",
        "mixed": "object",
        "yes": "boolean",
        "real": "float64",
        "huge": "object",
    }
    assert list(table["mixed"]) == [1, "b", [1]]
    assert list(table["huge"]) == [1 << 70, 2, 3]
    assert list(table["some"].isna()) == [False, True, False]


def test_halves_of_surrogate_pairs_are_texts_like_others(study: Study) -> None:
    half = "\ud800"
    study.run(text=half, **{half: 1})
    study.run(text="a", **{half: 2})
    table = study.fs.runs(study.group_id)
    assert list(table["text"]) == [half, "a"]
    assert list(table[half]) == [1, 2]


def test_an_empty_group_has_a_table_without_rows(study: Study) -> None:
    table = study.fs.runs(study.group_id, results="outputs/a.json")
    assert list(table.columns) == list(RUN_COLUMNS)
    assert len(table) == 0
    assert str(table["created"].dtype) == "datetime64[us, UTC]"


def test_times_far_away_are_told(study: Study) -> None:
    far = ["0001-01-01T00:00:00", "9999-12-31T23:59:59"]
    for time in far:
        run_id = study.run()
        study.server.routes.runs[run_id].update(createdAt=time)
    table = study.fs.runs(study.group_id)
    assert [time.year for time in table["created"]] == [1, 9999]


def test_what_has_not_happened_yet_is_missing(study: Study) -> None:
    study.run("RUNNING")
    (row,) = study.fs.runs(study.group_id)[["finished", "duration"]].isna().to_numpy()
    assert row.all()


def test_arguments_and_results_that_are_called_as_other_columns_are_told_apart(
    study: Study,
) -> None:
    arguments = {"id": 1, "argument.id": 2, "window": 3}
    results = {"window": 4, "state": 5, "result.state": 6, "mean": 7}
    study.run(files={"a.json": results}, **arguments)
    (row,) = study.fs.runs(study.group_id, results="outputs/a.json").to_dict("records")
    assert {name: value for name, value in row.items() if name not in RUN_COLUMNS} == {
        "argument.id": 1,
        "argument.argument.id": 2,
        "window": 3,
        "result.window": 4,
        "result.result.state": 5,
        "result.state": 6,
        "mean": 7,
    }
    assert row["state"] == "SUCCESS"


@given(st.dictionaries(st.text(), st.integers()))
def test_no_argument_is_lost_in_a_row(arguments: dict[str, int]) -> None:
    listed = [{"name": name, "value": value} for name, value in arguments.items()]
    row = run_row({"id": "r", "state": "SUCCESS", "arguments": listed}, {})
    assert len(row) == len(RUN_COLUMNS) + len(arguments)
    assert list(row.values())[len(RUN_COLUMNS) :] == list(arguments.values())


@given(st.lists(st.none() | st.dictionaries(st.text("ares.ult", max_size=8), st.integers())))
def test_no_result_is_lost_nor_taken_for_another_column(found: list[dict[str, int] | None]) -> None:
    taken = ["a", "result.a", "state"]
    called = named_apart(found, taken)
    assert set(called) == {name for one in found for name in one or ()}
    assert len({*called.values(), *taken}) == len(called) + len(taken)


def test_pandas_is_asked_for_where_it_is_missing(study: Study) -> None:
    program = (
        "import sys\nsys.modules['pandas'] = None\nfrom flowfs import FlowFileSystem\n"
        "fs = FlowFileSystem('http://localhost:1/x')\n"
        "try:\n    fs.runs('g')\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install pandas" in done.stdout, done.stderr


# -- results -------------------------------------------------------------------


def test_results_of_runs_without_any_are_missing(study: Study) -> None:
    study.run(files={"a.json": {"mean": 1.5}})
    study.run("ERROR")
    study.run(files={"b.json": {}})
    table = study.fs.runs(study.group_id, results="outputs/a.json")
    assert list(table["mean"].isna()) == [False, True, True]


def test_a_result_that_no_run_has_is_not_found(study: Study) -> None:
    study.run(files={"results/a.json": {}})
    with pytest.raises(NotFound, match=r"results/a\.json"):
        study.fs.runs(study.group_id, results="outputs/a.json")
    with pytest.raises(InvalidArguments, match=r"as outputs/results/summary\.json"):
        study.fs.runs(study.group_id, results="handle.json")


def test_several_results_have_their_names_before_their_columns(study: Study) -> None:
    study.run(files={"x/a.json": {"mean": 1}, "b.csv": b"mean,name\n2,two\n"})
    table = study.fs.runs(study.group_id, results=["outputs/x/a.json", "outputs/b.csv"])
    assert [table[name][0] for name in ("a.mean", "b.mean", "b.name")] == [1, 2, "two"]
    named = {"": "outputs/x/a.json", "other": "outputs/b.csv"}
    table = study.fs.runs(study.group_id, results=named)
    assert [table[name][0] for name in ("mean", "other.mean")] == [1, 2]


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("a.json", b'{"a": {"b": {"c": 1}, "d": null}, "e": [1], "f": true, "g": "x"}',
         {"f": True, "g": "x", "a.d": None, "a.b.c": 1}),
        ("a.json", b'{"a": {"b": 1}, "a.b": 2}', {"a.b": 2, "a.b'": 1}),
        ("a.json", b'\xef\xbb\xbf{"a": 1e-3}', {"a": 0.001}),
        ("a.csv", b"n,mean,name,none\r\n3,1.5,Ada,\r\n",
         {"n": 3, "mean": 1.5, "name": "Ada", "none": None}),
        ("a.tsv", b"a\tb\n007\t1_0\n", {"a": 7, "b": "1_0"}),
    ],
)  # fmt: skip
def test_scalars_are_found_in_objects_and_rows(
    name: str, data: bytes, found: dict[str, Any]
) -> None:
    assert scalars(data, name) == found


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.json", b"[1]", "no JSON object, but a list"),
        ("a.json", b"3", "no JSON object, but a single value"),
        ("a.json", b"{", "no JSON"),
        ("a.json", b'{"a":' * 1200 + b"1" + b"}" * 1200, "recursion"),
        ("a.json", b"\xff", "not UTF-8"),
        ("a.csv", b"a,b\n1,2\n3,4\n", "it has 2 rows"),
        ("a.csv", b"", "it has 0 rows"),
        ("a.csv", b"a,a\n1,2\n", "no CSV of a header and one row"),
    ],
)
def test_what_is_neither_is_an_error_unless_it_is_to_be_left_out(
    study: Study, name: str, data: bytes, why: str
) -> None:
    study.run(files={name: data})
    with pytest.raises(InvalidArguments, match=why) as caught:
        study.fs.runs(study.group_id, results=f"outputs/{name}", on_error="raise")
    assert str(caught.value.filename).endswith(f"outputs/{name}")
    table = study.fs.runs(study.group_id, results=f"outputs/{name}", on_error="omit")
    assert list(table.columns) == list(RUN_COLUMNS)


# -- one bad result among good ones ------------------------------------------


@pytest.fixture
def spoilt(study: Study) -> Study:
    """Runs of which some have a result that cannot be read, each for a reason of its own."""
    for number, data in enumerate((b'{"mean": 1}', b"[1]", b"{", b'{"mean": 2}', b"\xff")):
        study.run(files={"a.json": data}, number=number)
    study.run(number=5)
    return study


def test_what_is_wrong_with_the_results_of_some_runs_is_warned_of_and_the_others_are_there(
    spoilt: Study,
) -> None:
    with pytest.warns(UserWarning, match="results of 3 of 6 runs are missing") as caught:
        table = spoilt.fs.runs(spoilt.group_id, results="outputs/a.json")
    assert list(table["number"]) == list(range(6))
    assert table["mean"].to_list()[::3] == [1, 2]
    assert list(table["mean"].isna()) == [False, True, True, False, True, True]
    (warning,) = caught
    assert str(warning.message).count("a.json: ") == 3
    assert warning.filename == __file__


def test_they_are_an_error_for_who_wants_one_and_nothing_is_asked_for_twice(
    spoilt: Study,
) -> None:
    with pytest.raises(InvalidArguments, match="no JSON object, but a list"):
        spoilt.fs.runs(spoilt.group_id, results="outputs/a.json", on_error="raise")
    asked = spoilt.server.count("GET", ".*/files/.*")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = spoilt.fs.runs(spoilt.group_id, results="outputs/a.json", on_error="omit")
    assert len(table) == 6
    assert spoilt.server.count("GET", ".*/files/.*") == asked
    with pytest.raises(InvalidArguments, match="'warn', 'raise', 'omit', not 'ignore'"):
        spoilt.fs.runs(spoilt.group_id, on_error="ignore")


def test_a_result_that_is_too_large_is_told_with_its_size_and_not_read(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "_LARGEST", 1000)
    study.run(files={"a.json": {"mean": 1}})
    study.run(files={"a.json": b'{"mean": "' + b"x" * 200_000 + b'"}'})
    with pytest.raises(TooLarge, match=r"has 200,012 bytes; .* up to 1,000: ") as caught:
        study.fs.runs(study.group_id, results="outputs/a.json", on_error="raise")
    assert str(caught.value.filename).endswith("/outputs/a.json")
    with pytest.warns(UserWarning, match="has 200,012 bytes"):
        table = study.fs.runs(study.group_id, results="outputs/a.json")
    assert list(table["mean"].isna()) == [False, True]


def test_a_result_that_the_service_cannot_give_is_missing_unless_it_can_give_none(
    study: Study,
) -> None:
    for number in range(2):
        study.run(files={"a.json": {"mean": number}})
    study.server.on("GET", ".*/files/file-1", Reply(500, {"message": "lost it"}))
    with pytest.warns(UserWarning, match="lost it"):
        table = study.fs.runs(study.group_id, results="outputs/a.json")
    assert list(table["mean"].isna()) == [False, True]
    study.server.on("GET", ".*/files/.*", Reply(500, {"message": "lost all"}))
    with pytest.raises(BadReply, match="lost"):
        study.another().runs(study.group_id, results="outputs/a.json", on_error="omit")


@pytest.mark.parametrize("status", [403, 503])
def test_a_failure_that_is_not_of_one_result_is_raised(study: Study, status: int) -> None:
    for number in range(2):
        study.run(files={"a.json": {"mean": number}})
    study.server.on("GET", ".*/files/file-1", Reply(status, {"message": "not now"}))
    with pytest.raises(OSError, match="not now"):
        study.fs.runs(study.group_id, results="outputs/a.json", on_error="omit")


def test_cells_of_odd_results_are_what_pandas_makes_of_them(study: Study) -> None:
    study.run(files={"a.json": b'{"x": NaN, "n": 12345678901234567890123, "b": true, "t": "1"}'})
    study.run(files={"a.json": b'{"x": Infinity, "n": 1, "b": null, "t": null, "y": {}, "z": []}'})
    study.run(files={"a.json": b'{"x": 1, "n": -0.5, "b": false, "x": 2, "": 7}'})
    table = study.fs.runs(study.group_id, results="outputs/a.json")
    assert str(table["x"].dtype) == "float64"
    assert table["x"].to_list()[1:] == [float("inf"), 2]
    assert list(table["x"].isna()) == [True, False, False]
    assert table["n"].to_list() == [12345678901234567890123, 1, -0.5]
    assert str(table["b"].dtype) == "boolean"
    assert list(table["t"].isna()) == [False, True, True]
    assert table[""].to_list()[2] == 7
    assert not {"y", "z"} & set(table.columns)
