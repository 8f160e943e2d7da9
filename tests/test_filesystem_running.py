"""Many runs: started with a bounded number at once, none twice, none lost; and waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fsspec.callbacks import Callback
from standin import Asked, Reply, StandIn
from support import ctrl_c
from world import World

from flowfs import (
    AccessDenied,
    BadReply,
    FlowFileSystem,
    InvalidArguments,
    NotFound,
    ReadOnly,
    RunsGone,
    StartsFailed,
    StillActive,
)
from flowfs.embedded import EmbeddedService
from flowfs.filesystem.waiting import Patience

LONG = 60.0
SOON = (0.001, 0.001)


class Several:
    """A stand-in with a group that has an upload, and who starts runs of it."""

    def __init__(self, server: StandIn) -> None:
        self.server = server
        self.group = server.routes.group
        server.routes.add_upload(b"Ada\n", "names.txt", self.group)
        self.fs = FlowFileSystem(
            server.endpoint, server.routes.token, max_connections=4, retries=0, ttl=600
        )

    def arguments(self, count: int) -> list[dict[str, Any]]:
        """Return arguments of runs that go on until somebody ends them."""
        return [
            {"names": "names.txt", "greeting": f"Hi {n}", "sleeptime": 10**6} for n in range(count)
        ]

    def starts(self) -> list[str]:
        """Return the greetings of all that was sent to be started."""
        return [_greeting(asked.json["arguments"]) for asked in self.server.requests("POST")]

    def active(self, count: int) -> list[str]:
        """Make active runs without starting them."""
        return [str(self.server.routes.add_run("RUNNING")["id"]) for _ in range(count)]

    def end(self, run_id: str, state: str = "SUCCESS") -> None:
        """Have a run end."""
        with self.server.lock:
            self.server.routes.runs[run_id].update(state=state)

    def when_listed(self, *acts: Callable[[], object]) -> None:
        """Do something before each listing of the runs, one after the other."""
        left = list(acts)

        def listed(asked: Asked) -> None:
            if left:
                left.pop(0)()

        self.server.on("GET", "/groups/[^/]+/runs", listed)


def _greeting(arguments: list[dict[str, Any]]) -> str:
    return str({one["name"]: one["value"] for one in arguments}["greeting"])


@pytest.fixture
def several() -> Iterator[Several]:
    with StandIn() as server:
        yield Several(server)


# -- on the real service -----------------------------------------------------


def test_a_study_on_the_real_service(service: EmbeddedService) -> None:
    world = World(service, "analysis")
    fs = world.fs()
    given = [{"data": world.upload, "window": w} for w in (1, 2, 3)]
    handles = fs.start_runs(world.group_name, given)
    ended = fs.wait(handles, timeout=LONG * 4)
    assert [handle["id"] for handle in ended] == [handle["id"] for handle in handles]
    assert [handle["state"] for handle in ended] == ["SUCCESS"] * 3
    table = fs.runs(world.group_id, results="outputs/results/summary.json").set_index("id")
    assert list(table.loc[[h["id"] for h in handles], "window"]) == [1, 2, 3]
    assert table["mean"].nunique() == 1
    world.rest.close()


# -- starting ------------------------------------------------------------------


def test_handles_come_in_the_order_of_the_arguments_for_a_request_each(several: Several) -> None:
    handles = several.fs.start_runs(several.group, several.arguments(9))
    assert [_greeting(handle["arguments"]) for handle in handles] == [f"Hi {n}" for n in range(9)]
    assert sorted(several.starts()) == sorted(f"Hi {n}" for n in range(9))
    assert several.server.count() == 1 + 1 + 9  # the routes, the group


@pytest.mark.parametrize(("workers", "most"), [(None, 4), (2, 2)])
def test_as_many_are_started_at_once_as_may_be(
    several: Several, workers: int | None, most: int
) -> None:
    together = threading.Barrier(most)
    lock, now, seen = threading.Lock(), 0, 0

    def slow(asked: Asked) -> None:
        nonlocal now, seen
        with lock:
            now += 1
            seen = max(seen, now)
        together.wait(LONG)
        with lock:
            now -= 1

    several.server.on("POST", "/groups/.*", slow)
    several.fs.start_runs(several.group, several.arguments(8), workers=workers)
    assert seen == most


def test_all_are_checked_before_the_first_is_sent_and_all_faults_are_told(several: Several) -> None:
    given: list[Any] = several.arguments(6)
    given[1]["names"] = "nowhere.txt"
    given[3]["sleeptime"] = "long"
    given[4] = b'{"names": '
    with pytest.raises(InvalidArguments) as caught:
        several.fs.start_runs(several.group, given)
    said = str(caught.value)
    assert "3 of 6 runs cannot be started, and none has been" in said
    assert "number 1: unknown file 'nowhere.txt'" in said
    assert "number 3: no int 'long' for 'sleeptime'" in said
    assert "number 4: not JSON" in said
    assert caught.value.others == ()
    assert several.server.count("POST") == 0
    assert several.server.count("GET", "/groups/[^/]+") == 2  # it may have come since
    assert b"number 3" in several.fs.cat(f"groups/{several.group}/runs/new.error")


def test_of_very_many_faults_the_message_has_the_first_and_the_error_all(several: Several) -> None:
    with pytest.raises(InvalidArguments, match=r"number 9: .*; and 5 more") as caught:
        several.fs.start_runs(several.group, [{f"nams{n}": n} for n in range(15)])
    said = [str(other) for other in caught.value.others]
    assert [f"number {n}: unknown" in one for n, one in enumerate(said, 10)] == [True] * 5


def test_one_fault_of_many_is_told_once_with_all_that_have_it(several: Several) -> None:
    given: list[Any] = [{"names": "names.txt", "sleptime": n} for n in range(30)]
    given[7], given[9] = several.arguments(2)
    given[12]["names"] = "nowhere.txt"
    with pytest.raises(InvalidArguments) as caught:
        several.fs.start_runs(several.group, given)
    said = str(caught.value)
    assert said.count("unknown parameter 'sleptime'") == 2
    assert ": number 0 to number 6, number 8, number 10 to number 11, number 13 to " in said
    assert "number 12: " in said
    assert "more" not in said
    assert caught.value.others == ()


def test_of_one_fault_of_very_many_the_error_names_all_that_have_it(several: Several) -> None:
    given: list[Any] = several.arguments(50)
    for number in range(0, 50, 2):
        given[number] = {"names": "nowhere.txt"}
    for number in range(1, 20, 2):
        given[number] = {f"nams{number}": 1}
    with pytest.raises(InvalidArguments, match=r"35 of 50 runs .*; and 3 more") as caught:
        several.fs.start_runs(several.group, given)
    told = "; ".join([str(caught.value), *(str(other) for other in caught.value.others)])
    assert [n for n in range(50) if f"number {n}," in told or f"number {n}:" in told] == [
        n for n in range(50) if n % 2 == 0 or n < 20
    ]


def test_a_table_is_told_how_to_become_a_list(several: Several) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(several.arguments(2))
    with pytest.raises(InvalidArguments, match=r"table\.to_dict\('records'\)"):
        several.fs.start_runs(several.group, table)
    handles = several.fs.start_runs(several.group, table.to_dict("records"))
    runs = several.fs.runs(several.group)
    with pytest.raises(InvalidArguments, match=r"table\['id'\]"):
        several.fs.wait(runs)
    with pytest.raises(StillActive) as caught:
        several.fs.wait(runs["id"], timeout=0)
    assert sorted(caught.value.run_ids) == sorted(handle["id"] for handle in handles)


def test_a_group_is_waited_for_by_its_name_and_id_too(several: Several) -> None:
    (handle,) = several.fs.start_runs(several.group, several.arguments(1))
    for group in (several.group, "hello"):
        with pytest.raises(StillActive) as caught:
            several.fs.wait(group, timeout=0)
        assert list(caught.value.run_ids) == [handle["id"]]
    with pytest.raises(NotFound, match="nor a group"):
        several.fs.wait("nothing")


def test_what_has_come_since_is_seen(several: Several) -> None:
    several.fs.runs(several.group)
    several.server.routes.add_upload(b"Bob\n", "late.txt", several.group)
    (handle,) = several.fs.start_runs(several.group, [{"names": "late.txt"}])
    assert handle["state"] in ("RUNNING", "SUCCESS")


def test_what_is_refused_for_its_arguments_stops_no_other(several: Several) -> None:
    def picky(asked: Asked) -> Reply | None:
        return Reply(400, {"message": "no threes"}) if b"Hi 3" in asked.body else None

    several.server.on("POST", "/groups/.*", picky)
    with pytest.raises(StartsFailed, match=r"number 3 was not started: .*no threes") as caught:
        several.fs.start_runs(several.group, several.arguments(8))
    error = caught.value
    assert {n: _greeting(h["arguments"]) for n, h in error.started.items()} == {
        n: f"Hi {n}" for n in range(8) if n != 3
    }
    assert error.refused[3].service_message == "no threes"
    assert (error.uncertain, error.unsent) == ({}, ())
    assert len(several.starts()) == 8


@pytest.mark.parametrize("fault", [Reply(403, {"message": "not authorized"}), Reply(429)])
def test_after_any_other_refusal_nothing_more_is_sent(several: Several, fault: Reply) -> None:
    several.server.on("POST", "/groups/.*", None, None, fault)
    with pytest.raises(StartsFailed) as caught:
        several.fs.start_runs(several.group, several.arguments(9), workers=1)
    error = caught.value
    assert sorted(error.started) == [0, 1]
    assert sorted(error.refused) == [2]
    assert error.unsent == tuple(range(3, 9))
    assert error.errno == error.refused[2].errno
    assert len(several.starts()) == 3


def test_a_start_whose_reply_is_lost_is_told_and_never_sent_again(several: Several) -> None:
    def lost(asked: Asked) -> Reply:
        several.server.own(asked)
        return Reply(reset=True)

    several.server.on("POST", "/groups/.*", None, lost)
    with pytest.raises(StartsFailed, match="number 1 may have started") as caught:
        several.fs.start_runs(several.group, several.arguments(4), workers=1)
    error = caught.value
    assert sorted(error.started) == [0]
    assert error.uncertain[1].run_ids == (list(several.server.routes.runs)[1],)  # type: ignore[attr-defined]
    assert error.unsent == (2, 3)
    assert several.starts() == ["Hi 0", "Hi 1"]


def test_one_mapping_is_not_taken_for_many(several: Several) -> None:
    for wrong in ({"names": "names.txt"}, '[{"names": "names.txt"}]'):
        with pytest.raises(InvalidArguments, match="start_run is for one"):
            several.fs.start_runs(several.group, wrong)
    assert several.fs.start_runs(several.group, []) == []
    assert several.server.count("POST") == 0


def test_nothing_is_started_where_nothing_may_be_changed(several: Several) -> None:
    fs = FlowFileSystem(several.server.endpoint, several.server.routes.token, read_only=True)
    with pytest.raises(ReadOnly):
        fs.start_runs(several.group, several.arguments(2))
    assert several.server.count("POST") == 0


class Told(Callback):  # type: ignore[misc]
    """Counts what it is told; may raise."""

    def __init__(self, raises: BaseException | None = None) -> None:
        super().__init__()
        self.raises = raises

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
        """Raise, once the first is over."""
        if self.raises is not None and self.value:
            raise self.raises


def test_progress_is_told_and_ends_it_by_raising(several: Several) -> None:
    told = Told()
    several.fs.start_runs(several.group, several.arguments(5), callback=told)
    assert (told.size, told.value) == (5, 5)
    with pytest.raises(RuntimeError, match="enough") as caught:
        several.fs.start_runs(
            several.group, several.arguments(5), workers=1, callback=Told(RuntimeError("enough"))
        )
    assert list(caught.value.starts.started) == [0]  # type: ignore[attr-defined]
    assert caught.value.starts.unsent == [1, 2, 3, 4]  # type: ignore[attr-defined]


def test_ctrl_c_ends_it_at_once_and_tells_what_was_started(several: Several) -> None:
    def hold(asked: Asked) -> Reply | None:
        return None if b"Hi 0" in asked.body else Reply(hang="before")

    several.server.on("POST", "/groups/.*", hold)
    with pytest.raises(KeyboardInterrupt) as caught, ctrl_c(lambda: len(several.starts()) == 3):
        several.fs.start_runs(several.group, several.arguments(9), workers=2)
    starts = caught.value.starts  # type: ignore[attr-defined]
    assert list(starts.started) == [0]
    assert sorted(starts.uncertain) == [1, 2]
    assert starts.unsent == list(range(3, 9))
    assert len(several.starts()) == 3


# -- waiting -------------------------------------------------------------------


def test_one_request_a_look_tells_of_all_runs_of_a_group(several: Several) -> None:
    runs = several.active(20)
    several.when_listed(
        lambda: several.end(runs[0]),
        lambda: several.end(runs[1], "ERROR"),
        lambda: [several.end(run, "CANCELED") for run in runs[2:]],
    )
    handles = several.fs.wait(
        [f"groups/{several.group}/runs/{run}" for run in runs[::-1]], poll=SOON
    )
    assert [handle["id"] for handle in handles] == runs[::-1]
    states = [handle["state"] for handle in handles]
    assert states == ["CANCELED"] * 18 + ["ERROR", "SUCCESS"]
    # Once to find the runs, if at all; three looks; a handle each.
    assert several.server.count("GET", "/groups/.*") == 3
    assert several.server.count("GET", "/runs/.*") == 20


def test_ids_alone_cost_one_request_more(several: Several) -> None:
    runs = several.active(9)
    for run in runs:
        several.end(run)
    assert len(several.fs.wait(runs, poll=SOON)) == 9
    assert several.server.count("GET", "/runs/.*") == 9  # one of them to find the group
    assert several.server.count("GET", "/groups/.*") == 2


def test_of_a_single_run_only_that_is_asked_for(several: Several) -> None:
    (run,) = several.active(1)
    several.server.on("GET", f"/runs/{run}", None, None, lambda asked: several.end(run), None)
    (handle,) = several.fs.wait(run, poll=SOON)
    assert handle["state"] == "SUCCESS"
    assert several.server.count("GET", "/groups/.*") == 1
    assert several.server.count("GET", "/runs/.*") >= 3


def test_a_group_stands_for_its_active_runs(several: Several) -> None:
    several.end(several.active(1)[0])
    runs = several.active(3)
    several.when_listed(
        lambda: None, lambda: several.end(runs[0]), lambda: [several.end(run) for run in runs[1:]]
    )
    handles = several.fs.wait(f"groups/{several.group}", poll=SOON)
    assert [handle["id"] for handle in handles] == runs
    assert several.fs.wait(f"groups/{several.group}", poll=SOON) == []


def test_handles_that_have_ended_are_waited_for_like_others(several: Several) -> None:
    handles = several.fs.start_runs(several.group, several.arguments(2))
    several.when_listed(lambda: [several.end(handle["id"]) for handle in handles])
    told = Told()
    waited = several.fs.wait([*handles, handles[0]], poll=SOON, callback=told)
    assert [handle["id"] for handle in waited] == [h["id"] for h in [*handles, handles[0]]]
    assert (told.size, told.value) == (2, 2)


def test_a_change_meanwhile_leaves_no_handle_as_it_was(several: Several) -> None:
    *handles, another = several.fs.start_runs(several.group, several.arguments(3))

    def ends_and_changes() -> None:
        for handle in handles:
            several.end(handle["id"])
        # What was asked for before a change is not kept after it.
        several.fs.cancel_run(another["id"])

    several.when_listed(ends_and_changes)
    ended = several.fs.wait(handles, poll=SOON)
    assert [handle["state"] for handle in ended] == ["SUCCESS", "SUCCESS"]


def test_when_the_time_is_up_it_says_which_are_active(several: Several) -> None:
    runs = several.active(3)
    several.end(runs[1])
    with pytest.raises(StillActive, match=f"2 of the runs .*{runs[0]}, {runs[2]}") as caught:
        several.fs.wait([f"groups/{several.group}/runs/{run}" for run in runs], timeout=0)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.run_ids == (runs[0], runs[2])
    assert several.server.count("GET", "/groups/.*") == 1


def test_a_service_that_hangs_is_not_waited_for_any_longer(several: Several) -> None:
    runs = several.active(2)
    paths = [f"groups/{several.group}/runs/{run}" for run in runs]
    several.server.on("GET", "/groups/.*", Reply(hang="before"))
    fs = FlowFileSystem(several.server.endpoint, several.server.routes.token, timeout=3600)
    with pytest.raises(StillActive, match="the last look failed"):
        fs.wait(paths, timeout=0.1)


def test_faults_that_pass_are_outlived(several: Several) -> None:
    runs = several.active(2)
    paths = [f"groups/{several.group}/runs/{run}" for run in runs]

    def ended(asked: Asked) -> None:
        for run in runs:
            several.end(run)

    several.server.on(
        "GET",
        "/groups/.*",
        None,
        Reply(reset=True),
        Reply(503),
        Reply(500, {"message": "broken"}),
        Reply(body=b"no JSON"),
        None,
        ended,
    )
    assert len(several.fs.wait(paths, poll=SOON)) == 2


def test_faults_that_do_not_pass_are_raised_and_so_is_a_refusal_at_once(several: Several) -> None:
    paths = [f"groups/{several.group}/runs/{run}" for run in several.active(2)]
    several.server.on("GET", "/groups/.*", Reply(500, {"message": "broken"}))
    with pytest.raises(BadReply, match=r"broken.*; 2 of the runs that are waited for had not"):
        several.fs.wait(paths, poll=SOON, faults=0.05)
    asked = several.server.count()
    several.server.on("GET", "/groups/.*", Reply(403, {"message": "not authorized"}))
    with pytest.raises(AccessDenied):
        several.fs.wait(paths, poll=SOON)
    assert several.server.count() == asked + 1


def test_a_run_that_goes_is_told_once_all_others_have_ended(several: Several) -> None:
    runs = several.active(3)
    paths = [f"groups/{several.group}/runs/{run}" for run in runs]
    several.when_listed(
        lambda: None,
        lambda: several.server.routes.runs.pop(runs[1]),
        lambda: [several.end(runs[0]), several.end(runs[2])],
    )
    with pytest.raises(RunsGone, match=f"1 of 3 runs .*{runs[1]}") as caught:
        several.fs.wait(paths, poll=SOON)
    assert isinstance(caught.value, NotFound)
    assert caught.value.run_ids == (runs[1],)
    ended = [handle and handle["state"] for handle in caught.value.handles]
    assert ended == ["SUCCESS", None, "SUCCESS"]


def test_what_is_no_run_is_refused(several: Several) -> None:
    for wrong, said in [
        ({"id": "r"}, "no handle"),
        ([3], "no run"),
        ("groups/group-1/uploads", "no run"),
    ]:
        with pytest.raises(InvalidArguments, match=said):
            several.fs.wait(wrong)
    with pytest.raises(NotFound):
        several.fs.wait("unknown")
    for name, value in [("timeout", -1), ("timeout", float("nan")), ("faults", -1)]:
        with pytest.raises(InvalidArguments, match=name):
            several.fs.wait([], **{name: value})
    with pytest.raises(InvalidArguments, match="longest"):
        several.fs.wait([], poll=(2, 1))


def test_pauses_grow_with_the_time_that_was_waited() -> None:
    patience = Patience(shortest=0.5, longest=15)
    for waited, plain in [(0, 0.5), (5, 0.5), (50, 5), (150, 15), (9999, 15)]:
        pauses = [patience.pause(waited) for _ in range(100)]
        assert all(plain * 0.79 < pause < plain * 1.21 for pause in pauses)
        assert len(set(pauses)) > 1  # not all who wait ask at the same moment


def test_ctrl_c_ends_the_waiting_at_once(several: Several) -> None:
    several.active(2)
    looks = several.server
    with pytest.raises(KeyboardInterrupt), ctrl_c(lambda: looks.count("GET", ".*/runs") == 2):
        several.fs.wait(f"groups/{several.group}", poll=(3600, 3600))


# -- one run, named as people name it ----------------------------------------


@pytest.mark.parametrize("how", ["id", "path", "url", "name", "below"])
def test_a_run_is_started_of_a_group_however_it_is_named_and_once(
    several: Several, how: str
) -> None:
    path = f"groups/{several.group}"
    named = {
        "id": several.group,
        "path": path,
        "url": several.fs.unstrip_protocol(path),
        "name": "hello",
        "below": f"{path}/runs",
    }[how]
    handle = several.fs.start_run(named, several.arguments(1)[0])
    assert handle["groupId"] == several.group
    assert several.starts() == ["Hi 0"]


def test_of_a_group_that_is_not_there_nothing_starts(several: Several) -> None:
    for named in ("nobody", "groups/nobody", "workflows/workflow-1/groups/nobody"):
        with pytest.raises(NotFound):
            several.fs.start_run(named, several.arguments(1)[0])
    assert several.server.count("POST") == 0


def test_of_a_name_that_several_groups_have_nothing_starts(several: Several) -> None:
    groups = [{"id": name, "name": "twin"} for name in "ab"]
    several.server.on("GET", "/workflows/workflow-1/groups", Reply(body={"groups": groups}))
    with pytest.raises(InvalidArguments, match="by its id: a, b"):
        several.fs.start_run("twin", several.arguments(1)[0])
    assert several.server.count("POST") == 0


def test_a_run_is_canceled_by_its_id_path_and_url(several: Several) -> None:
    path = f"groups/{several.group}/runs"
    first, second, third = several.active(3)
    for named in (first, f"{path}/{second}", several.fs.unstrip_protocol(f"{path}/{third}")):
        assert several.fs.cancel_run(named, "enough")["state"] == "CANCELED"
    with pytest.raises(InvalidArguments, match="is no run"):
        several.fs.cancel_run(path)
    with pytest.raises(NotFound):
        several.fs.cancel_run(f"{path}/nobody")


def test_bytes_piped_into_many_uploads_are_one_listing_and_a_request_each(several: Several) -> None:
    uploads = f"groups/{several.group}/uploads"
    data = {f"{uploads}/{name}.txt": name.encode() for name in "abc"}
    several.fs.ls(uploads)
    several.server.asked.clear()
    several.fs.pipe(data)
    assert several.server.count("POST") == 3
    assert several.server.count("GET") <= 1
    assert several.fs.cat(list(data)) == data
