"""Runs as objects, and what notebooks show of a service: what it costs, and that it never fails."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests
from group_of_runs import GroupOfRuns
from shown import Shown
from standin import Reply, StandIn
from support import wait_until
from world import World

import flowfs.filesystem.hurried
import flowfs.filesystem.run
import flowfs.filesystem.showing
from flowfs import FlowFileSystem, InvalidArguments, InvalidRunState, NotFound
from flowfs.display.pictures import MOST_BYTES
from flowfs.embedded import EmbeddedService

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + bytes(17)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, displays have the time for what comes."""
    monkeypatch.setattr(flowfs.filesystem.run, "_PATIENCE", 60)
    monkeypatch.setattr(flowfs.filesystem.showing, "_PATIENCE", 60)


@contextlib.contextmanager
def impatient(server: StandIn, pattern: str) -> Iterator[None]:
    """Have a display's time be up as soon as a request that matches has come, and hangs."""
    before = server.count("GET", pattern)

    def until_it_hangs(step: Callable[[float], object], seconds: float) -> bool:
        hangs = lambda: server.count("GET", pattern) > before  # noqa: E731
        wait_until(lambda: step(0) or hangs(), 60, "a request that hangs")
        return bool(step(0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flowfs.filesystem.hurried, "wait", until_it_hangs)
        yield
    assert server.count("GET", pattern) == before + 1


class Gallery(GroupOfRuns):
    """Runs, and what notebooks show of them."""

    def run(
        self, state: str = "SUCCESS", files: dict[str, bytes] | None = None, **more: Any
    ) -> str:
        """Make a run and return its id."""
        return self.made(state, files, **more)

    def shown(self, display: Any) -> Shown:
        """Return what a notebook shows."""
        return Shown(display._repr_html_(), self.fs.endpoint)


@pytest.fixture
def gallery() -> Iterator[Gallery]:
    with StandIn() as server:
        yield Gallery(server)


@pytest.fixture(scope="module")
def world(service: EmbeddedService) -> Iterator[World]:
    made = World(service, "analysis")
    yield made
    made.rest.close()


# -- a run ---------------------------------------------------------------------


def test_a_run_tells_what_its_handle_tells(world: World) -> None:
    handle = world.succeeded(window=2)
    run = world.fs().run(handle["id"])
    assert run.handle == handle
    assert json.loads(json.dumps(run.handle)) == handle
    assert (run.id, run.group_id, run.state) == (handle["id"], world.group_id, "SUCCESS")
    assert run.path == world.run(handle)
    assert not run.active
    assert run.arguments == {"data": world.upload, "window": 2}
    assert run.created is not None
    assert run.started is not None
    assert run.finished is not None
    assert run.created <= run.started
    assert run.duration == pytest.approx((run.finished - run.started).total_seconds())
    assert run.finished.utcoffset() == timedelta(0)
    assert run.messages == []
    names = ["results/summary.csv", "results/summary.json", "results/plot.svg"]
    assert sorted(run.outputs) == sorted(f"outputs/{name}" for name in names)
    with run.open("outputs/results/summary.json") as file:
        assert file.read() == world.rest.result(handle, "results/summary.json")
    with run.open("handle.json", "r") as file:
        assert json.load(file) == handle


def test_a_run_is_named_as_anybody_names_it(world: World) -> None:
    fs, handle = world.fs(), world.succeeded()
    path = world.run(handle)
    run = fs.run(handle)
    for name in (handle["id"], path, f"{path}/outputs", world.url(path), handle, run):
        assert fs.run(name) == run
    assert fs.run(f"{world.group}/latest") == run
    assert {run, world.fs().run(path)} == {run}
    assert run != fs.run(world.succeeded())
    assert run != handle["id"]
    with pytest.raises(InvalidArguments, match="no run, nor a place in one"):
        fs.run(world.group)
    with pytest.raises(InvalidArguments, match="no run: an id, path or handle is needed"):
        fs.run(None)
    with pytest.raises(InvalidArguments, match="no handle of a run"):
        fs.run({})
    with pytest.raises(NotFound):
        fs.run("nothing")
    with pytest.raises(NotFound):
        fs.run(f"{world.group}/runs/nothing")


def test_a_run_is_waited_for_canceled_and_deleted(service: EmbeddedService) -> None:
    world = World(service)
    fs = world.fs()
    run = fs.run(world.active())
    assert run.active
    assert (run.finished, run.duration, run.outputs) == (None, None, [])
    with pytest.raises(TimeoutError):
        run.wait(timeout=0)
    with pytest.raises(InvalidRunState):
        run.delete()
    assert run.cancel("enough").wait() is run
    assert run.state == "CANCELED"
    assert run.messages == ["enough"]
    run.delete()
    assert world.run_ids() == []
    with pytest.raises(NotFound):
        run.state  # noqa: B018
    world.rest.close()


def test_a_run_travels_in_a_pickle(world: World) -> None:
    run = world.fs().run(world.succeeded())
    other = pickle.loads(pickle.dumps(run))
    assert other == run
    assert hash(other) == hash(run)
    assert other.handle == run.handle


def test_what_somebody_does_to_a_handle_is_nobody_elses(gallery: Gallery) -> None:
    run = gallery.fs.run(gallery.run(arguments=[{"name": "a", "value": [1]}]))
    run.handle["arguments"][0]["value"].append(2)
    run.arguments["a"].append(3)
    assert run.arguments == {"a": [1]}


def test_a_run_is_looked_up_once_and_after_its_end_never_again(gallery: Gallery) -> None:
    fs = gallery.another()
    run = fs.run(f"{gallery.group}/runs/{gallery.run()}")
    before = gallery.server.count()
    assert before == 2  # the routes, the run
    assert (run.state, run.active, run.messages, run.outputs) == ("SUCCESS", False, [], [])
    assert "SUCCESS" in repr(run)
    assert gallery.server.count() == before
    active = gallery.another(ttl=0).run(f"{gallery.group}/runs/{gallery.run('RUNNING')}")
    before = gallery.server.count()
    assert active.state == "RUNNING"
    assert gallery.server.count() == before + 1
    assert repr(active) == f"<Run {active.id!r} RUNNING>"
    assert gallery.server.count() == before + 1


# -- a run in a notebook -------------------------------------------------------


def test_a_run_shows_arguments_results_and_pictures(world: World) -> None:
    handle = world.succeeded(window=3)
    run = world.fs().run(handle["id"])
    shown = Shown(run._repr_html_(), world.endpoint)
    for part in (handle["id"], "SUCCESS", world.upload, "window", "outputs/results/summary.csv"):
        assert part in shown.text
    assert shown.images == [("image/svg+xml", world.rest.result(handle, "results/plot.svg"))]
    below = world.url(run.path)
    files = [f"{below}/outputs/{file['name']}" for file in handle["files"]]
    assert shown.places == [below, below, *files]
    for url in shown.places:
        assert world.fs().exists(url)
    # The links are for a browser, which has no token.
    text = [file for file in handle["files"] if file["name"] != "results/plot.svg"]
    fetched = [requests.get(link, timeout=60).content for link in shown.links]
    assert fetched == [world.rest.result(handle, file["name"]) for file in text]


def test_a_failed_run_shows_what_was_said(gallery: Gallery) -> None:
    run_id = gallery.run("ERROR", messages=["first\nsecond <b>", "third"])
    shown = gallery.shown(gallery.fs.run(run_id))
    assert "first\nsecond <b>\nthird\n" in shown.text


def test_the_first_four_pictures_are_asked_for_and_none_that_is_too_large(
    gallery: Gallery,
) -> None:
    large = PNG + bytes(MOST_BYTES)
    files = {"a.PNG": PNG, "b.txt": PNG, "c.svg": SVG, "d.png": large, "e.jpg": b"no picture"}
    run = gallery.fs.run(gallery.run(files={**files, "f.png": PNG}))
    shown = gallery.shown(run)
    assert shown.images == [("image/png", PNG), ("image/svg+xml", SVG)]
    assert gallery.server.count("GET", ".*/downloads/.*") == 4
    assert "outputs/f.png" in shown.text
    # Small results are kept; of a large one no more is taken than is needed.
    assert gallery.server.count("HEAD") == 0


def test_a_picture_that_cannot_be_had_is_left_out(gallery: Gallery) -> None:
    run = gallery.fs.run(gallery.run(files={"a.png": PNG, "b.png": PNG}))
    gallery.server.on("GET", ".*/downloads/files/file-0", Reply(500))
    assert gallery.shown(run).images == [("image/png", PNG)]


def test_a_run_whose_service_hangs_shows_what_is_known(gallery: Gallery) -> None:
    run = gallery.fs.run(gallery.run(files={"a.png": PNG, "b.png": PNG}))
    gallery.server.on("GET", ".*/downloads/files/file-0", Reply(hang="before"))
    with impatient(gallery.server, ".*/downloads/files/file-0"):
        shown = gallery.shown(run)
    assert "no answer within" in shown.text
    assert "SUCCESS" in shown.text
    # Whoever waits is let go: the next one asks anew.
    gallery.server.on("GET", ".*/downloads/files/file-0", None)
    assert len(gallery.shown(run).images) == 2


def test_a_run_that_is_gone_shows_so(gallery: Gallery) -> None:
    fs = gallery.another(ttl=0)
    run = fs.run(f"{gallery.group}/runs/{gallery.run('RUNNING')}")
    gallery.server.routes.runs.clear()
    shown = gallery.shown(run)
    assert "unknown run" in shown.text
    assert run.id in shown.text


@pytest.mark.parametrize(
    "handle",
    [
        {"arguments": "none", "messages": {"a": 1}, "files": [{"id": "x"}], "startedAt": []},
        {"arguments": [None, {}, {"name": 1}], "messages": [[], None], "finishedAt": "never"},
        {"files": [{"id": "..", "name": "/../", "title": {"a": 1}, "format": 3}], "createdAt": ""},
        {"files": [{"id": "a\u202e", "name": "\ud800.png"}], "createdAt": "9999-12-31T23:59:59"},
    ],
)
def test_whatever_a_handle_holds_is_shown(gallery: Gallery, handle: dict[str, Any]) -> None:
    run_id = gallery.run()
    gallery.server.routes.runs[run_id].update(handle)
    run = gallery.fs.run(f"{gallery.group}/runs/{run_id}")
    assert run_id in gallery.shown(run).text
    assert run_id in gallery.shown(gallery.fs.show_runs(gallery.group_id)).text


def test_results_that_are_at_hand_can_be_saved_and_nobody_is_asked_for_them(
    gallery: Gallery,
) -> None:
    files = {"d/a.json": b"{}", "b.csv": b"a,b", "c.png": PNG, "d.bin": bytes((64 << 10) + 1)}
    run = gallery.fs.run(gallery.run(files={**files, "e.txt": b""}))
    assert gallery.shown(run).saved == [("c.png", PNG)]  # which is shown
    for name in ("d/a.json", "d.bin", "e.txt"):
        with run.open(f"outputs/{name}") as file:
            assert file.read() == files.get(name, b"")
    before = gallery.server.count()
    shown = gallery.shown(run)
    assert shown.saved == [("a.json", b"{}"), ("c.png", PNG), ("e.txt", b"")]
    assert "outputs/b.csv" in shown.text
    assert gallery.server.count() == before
    # The others can be fetched from the service.
    assert len(shown.links) == 2


def test_what_is_shown_leads_to_results_at_the_service_and_holds_no_token(
    gallery: Gallery,
) -> None:
    run_id = gallery.run(files={"p.png": PNG})
    fs = gallery.another()
    for display in (fs.run(run_id), fs.show_runs(gallery.group_id, pictures="outputs/p.png"), fs):
        html = display._repr_html_()
        shown = Shown(html, fs.endpoint)  # where all links lead
        assert "http://" not in html.replace("flow+http://", "").replace(fs.endpoint, "")
        assert str(fs._shared.session.credentials.token) not in html
        for place in shown.places:
            assert fs.exists(place)


def test_a_table_tells_where_the_runs_are_that_are_known(gallery: Gallery) -> None:
    pytest.importorskip("pandas")
    run_id = gallery.run()
    fs = gallery.another()
    place = fs.unstrip_protocol(f"{gallery.group}/runs/{run_id}")
    assert gallery.shown(fs.show_runs(gallery.group_id)).places == [place]
    frame = fs.runs(gallery.group_id)
    assert gallery.shown(fs.show_runs(frame)).places == [place]
    stranger = gallery.another()
    before = gallery.server.count()
    shown = gallery.shown(stranger.show_runs(frame))
    assert (shown.places, run_id in shown.text) == ([], True)
    assert gallery.server.count() == before


# -- a table in a notebook -----------------------------------------------------


def test_a_groups_runs_are_shown_with_pictures(gallery: Gallery) -> None:
    gallery.run(files={"plot.svg": SVG, "a.json": b'{"mean": 4.5}'}, arguments=[])
    gallery.run("ERROR")
    table = gallery.fs.show_runs(
        gallery.group_id, results="outputs/a.json", pictures="outputs/plot.svg"
    )
    shown = gallery.shown(table)
    assert shown.images == [("image/svg+xml", SVG)]
    for part in ("SUCCESS", "ERROR", "mean", "4.5", "created (UTC)", "outputs/plot.svg"):
        assert part in shown.text
    assert len(shown.places) == 2
    assert repr(table) == "<RunsTable of 2 runs>"


def test_it_costs_what_runs_costs_and_a_request_for_each_picture(gallery: Gallery) -> None:
    for _ in range(3):
        gallery.run(files={"plot.png": PNG})
    fs = gallery.another()
    table = fs.show_runs(gallery.group_id, pictures="outputs/plot.png")
    assert gallery.server.count() == 1 + 1 + 3 + 3  # the routes, the group, runs, pictures
    gallery.shown(table)
    assert gallery.server.count() == 8


def test_a_frame_is_shown_with_the_rows_and_columns_that_are_left(gallery: Gallery) -> None:
    pytest.importorskip("pandas")
    ids = [
        gallery.run(files={"p.png": PNG}, arguments=[{"name": "w", "value": w}]) for w in range(4)
    ]
    gallery.run("RUNNING")
    frame = gallery.fs.runs(gallery.group_id).nlargest(2, "w")
    frame["score"] = [0.5, None]
    before = gallery.server.count()
    shown = gallery.shown(gallery.fs.show_runs(frame, pictures=["outputs/p.png"]))
    assert gallery.server.count() == before + 2
    assert [one for one in ids if one in shown.text] == ids[2:]
    assert "score0.5" not in shown.text
    assert "0.5" in shown.text
    for missing in ("NaN", "NaT", "None", "<NA>"):
        assert missing not in shown.text
    assert "2 s" in gallery.shown(gallery.fs.show_runs(frame.assign(duration=2.0))).text
    with pytest.raises(InvalidArguments, match="a column 'id'"):
        gallery.fs.show_runs(frame.drop(columns="id"))
    with pytest.raises(InvalidArguments, match="not int"):
        gallery.fs.show_runs(3)


def test_a_runs_frame_stays_a_plain_frame(gallery: Gallery) -> None:
    pandas: Any = pytest.importorskip("pandas")
    gallery.run()
    assert type(gallery.fs.runs(gallery.group_id)) is pandas.DataFrame


def test_of_many_runs_the_first_are_shown(gallery: Gallery) -> None:
    ids = [gallery.run(files={"p.png": PNG}) for _ in range(12)]
    table = gallery.fs.show_runs(gallery.group_id, limit=5, pictures="outputs/p.png")
    shown = gallery.shown(table)
    assert [one for one in ids if one in shown.text] == ids[:5]
    assert "7 runs more" in shown.text
    assert gallery.server.count("GET", ".*/downloads/.*") == 5
    assert repr(table) == "<RunsTable of 12 runs>"


def test_pictures_are_bounded_in_number_and_in_all(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flowfs.filesystem.showing, "_PICTURES", 3)
    for _ in range(5):
        gallery.run(files={"p.png": PNG})
    table = gallery.fs.show_runs(gallery.group_id, pictures="outputs/p.png")
    assert len(gallery.shown(table).images) == 3
    assert "not shown: there are too many" in gallery.shown(table).text
    monkeypatch.setattr(flowfs.filesystem.showing, "_ALL_BYTES", 0)
    table = gallery.fs.show_runs(gallery.group_id, pictures="outputs/p.png")
    assert gallery.shown(table).images == []


def test_it_is_told_why_a_picture_is_not_shown(gallery: Gallery) -> None:
    for data in (PNG + bytes(MOST_BYTES), b"text", PNG):
        gallery.run(files={"p.png": data})
    gallery.run(files={})
    gallery.server.on("GET", ".*/downloads/files/file-2", Reply(500, {"message": "broken <b>"}))
    shown = gallery.shown(gallery.fs.show_runs(gallery.group_id, pictures="outputs/p.png"))
    assert shown.images == []
    for why in ("of more than 512 KiB", "no picture that can be shown", "broken <b>"):
        assert why in shown.text


def test_a_failure_is_an_error_and_no_part_of_a_table(gallery: Gallery) -> None:
    gallery.server.on("GET", f"/runs/{gallery.run()}", Reply(500, {"message": "broken"}))
    with pytest.raises(OSError, match="broken"):
        gallery.fs.show_runs(gallery.group_id)


# -- a file system in a notebook -----------------------------------------------


def test_a_file_system_shows_whose_it_is_and_its_groups(gallery: Gallery) -> None:
    gallery.run()
    fs = gallery.another(read_only=True)
    shown = gallery.shown(fs)
    for part in (fs.endpoint, "read-only", gallery.server.routes.username, gallery.group):
        assert part in shown.text
    assert fs._shared.session.credentials.token not in shown.text
    assert gallery.server.count() == 3  # the routes, the workflows, the groups of the only one
    gallery.shown(fs)
    assert gallery.server.count() == 3
    fs.ls(f"{gallery.group}/runs")
    assert shown.text.replace(gallery.group, f"{gallery.group}1") == gallery.shown(fs).text


def test_a_file_system_whose_service_hangs_shows_what_is_known(gallery: Gallery) -> None:
    fs = gallery.another(ttl=0)
    gallery.server.on("GET", "/workflows", None, Reply(hang="before"))
    assert gallery.group in gallery.shown(fs).text
    with impatient(gallery.server, "/workflows"):
        shown = gallery.shown(fs)
    assert gallery.group in shown.text
    assert "no answer within" in shown.text


@pytest.mark.parametrize("reply", [Reply(500), Reply(403), Reply(reset=True), Reply(body=[1])])
def test_a_file_system_whose_service_fails_says_so(gallery: Gallery, reply: Reply) -> None:
    gallery.server.on("GET", "/workflows", reply)
    shown = gallery.shown(gallery.fs)
    assert gallery.fs.endpoint in shown.text
    assert "What is known by now: " in shown.text


def test_a_file_system_without_a_service_shows_its_address(gallery: Gallery) -> None:
    fs = FlowFileSystem("http://127.0.0.1:1/api", "x", retries=0)
    assert fs.endpoint in Shown(fs._repr_html_()).text


def test_groups_of_one_workflow_that_fails_are_left_out(gallery: Gallery) -> None:
    gallery.server.on("GET", "/workflows/workflow-1/groups", Reply(500, {"message": "broken <"}))
    shown = gallery.shown(gallery.fs)
    assert "broken <" in shown.text
    assert "hello" in shown.text


def test_a_display_leaves_no_thread_behind(gallery: Gallery) -> None:
    import threading

    gallery.server.on("GET", "/workflows", Reply(hang="before"))
    with impatient(gallery.server, "/workflows"):
        gallery.shown(gallery.fs)
    wait_until(
        lambda: not [t for t in threading.enumerate() if t.name == "flowfs-display"],
        60,
        "the end of the display's thread",
    )


# -- file browsers -------------------------------------------------------------


def test_nothing_told_of_a_place_is_called_as_what_jupyters_file_browser_goes_by(
    world: World,
) -> None:
    """jupyter-fs hands on all that is told; in the browser `kind` is the type of a row."""
    fs, handle = world.fs(), world.succeeded()
    run = world.run(handle)
    for path in ("", world.group, f"{world.group}/runs", run, f"{run}/outputs/results"):
        for entry in [fs.info(path), *fs.ls(path)]:
            assert "kind" not in entry
            json.dumps(entry)
