"""Each row of a sweep is started once, whoever was killed when, and whatever the service did."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standin import Asked, Reply, StandIn
from support import ctrl_c, wait_until
from world import World

from flowfs import AccessDenied, FlowFileSystem, InvalidArguments
from flowfs.embedded import EmbeddedService
from flowfs.filesystem.waiting import Patience
from flowfs.sweep import Ledger, Outcome, read_sweep, start_sweep

LONG = 60.0
ROWS = 4
SOON = Patience(shortest=0.001, longest=0.001)

_tokens = itertools.count()


class Sweeping:
    """A stand-in with a group, a sweep of it, and who starts that."""

    def __init__(self, server: StandIn, directory: Path) -> None:
        self.server = server
        self.group = server.routes.group
        self.ledger = directory / "sweep.jsonl.ledger"
        server.routes.add_upload(b"Ada\n", "names.txt", self.group)
        # Others were there before, one of them with arguments of the sweep.
        file = {"type": "$file", "value": {"fileId": server.routes.uploads[0]["id"]}}
        listed = [{"name": "names", "value": file}, {"name": "greeting", "value": "Hi 1"}]
        self.old = server.routes.add_run(arguments=listed)["id"]
        server.routes.add_run()
        self.rows: list[dict[str, Any]] = [
            {"names": "names.txt", "greeting": f"Hi {n}"} for n in range(ROWS)
        ]

    def text(self) -> bytes:
        return b"".join(json.dumps(row).encode() + b"\n" for row in self.rows)

    def fs(self, **options: Any) -> FlowFileSystem:
        """Return a file system that knows nothing yet."""
        self.server.routes.tokens.add(token := f"t{next(_tokens)}")
        return FlowFileSystem(self.server.endpoint, token, **{"retries": 0, **options})

    def start(self, **options: Any) -> Outcome:
        """Start what is left."""
        fs = options.pop("fs", None) or self.fs()
        with Ledger(str(self.ledger), self.group) as ledger:
            sweep = read_sweep(self.text(), "sweep.jsonl")
            return start_sweep(fs, self.group, sweep, ledger, patience=SOON, **options)

    def time_passes(self) -> None:
        """Have the ledger say that all was sent long ago."""
        text = self.ledger.read_text()
        self.ledger.write_text(re.sub(r'"up":[0-9.]+', '"up":-1000000.5', text))

    def has(self, *, sent: int, acted: int) -> bool:
        """Tell whether so many starts have come, and the service has done so many of them."""
        return self.server.count("POST") == sent and len(self.server.routes.runs) == 2 + acted

    def runs(self) -> list[str]:
        """Return the greetings of all runs that came of it, in order."""
        handles = list(self.server.routes.runs.values())[2:]
        return [_greeting(handle["arguments"]) for handle in handles]

    def all_once(self) -> bool:
        """Tell whether each row has one run."""
        return sorted(self.runs()) == sorted(row["greeting"] for row in self.rows)


def _greeting(arguments: list[dict[str, Any]]) -> str:
    return str({one["name"]: one["value"] for one in arguments}["greeting"])


@pytest.fixture
def sweeping(tmp_path: Path) -> Iterator[Sweeping]:
    with StandIn() as server:
        yield Sweeping(server, tmp_path)


# -- killed --------------------------------------------------------------------

_KILLED = """
import os, signal, sys
from flowfs import FlowFileSystem
from flowfs.sweep import ledger as ledgers, read_sweep, start_sweep
from flowfs.sweep.ledger import Ledger

endpoint, token, path, group, text, where, which, workers = sys.argv[1:]
seen = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dying(method, moment):
    real = getattr(Ledger, method)

    def call(self, *args):
        global seen
        seen += 1
        if seen != int(which):
            return real(self, *args)
        if moment == "before":
            die()
        if moment == "half":
            write = os.write
            os.write = lambda file, data: (write(file, data[:len(data) // 2]), die())
        result = real(self, *args)
        die()

    setattr(Ledger, method, call)

if where != "never":
    dying(*where.split())
fs = FlowFileSystem(endpoint, token, retries=0)
with Ledger(path, group) as ledger:
    sweep = read_sweep(text.encode(), "a.jsonl")
    start_sweep(fs, group, sweep, ledger, workers=int(workers))
"""


def killed(sweeping: Sweeping, where: str, which: int = 1, workers: int = 1) -> Any:
    """Start the sweep in a process that is killed there."""
    words = [
        sweeping.server.endpoint, sweeping.server.routes.token, str(sweeping.ledger),
        sweeping.group, sweeping.text().decode(), where, str(which), str(workers),
    ]  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", _KILLED, *words], stderr=subprocess.PIPE)


@pytest.mark.parametrize("moment", ["before", "half", "after"])
@pytest.mark.parametrize("method", ["begin", "intend", "started"])
def test_whoever_is_killed_while_he_writes_each_row_is_started_once(
    sweeping: Sweeping, method: str, moment: str
) -> None:
    which = 1 if method == "begin" else 2
    process = killed(sweeping, f"{method} {moment}", which)
    _, said = process.communicate(timeout=LONG)
    assert process.returncode == -signal.SIGKILL, said
    sent = {"begin": 0, "intend": 1, "started": 2}[method]
    assert sweeping.server.count("POST") == sent
    sweeping.time_passes()
    outcome = sweeping.start()
    assert outcome.whole
    assert len(outcome.before) == sent
    assert sweeping.all_once()
    assert sweeping.server.count("POST") == ROWS
    assert list(outcome.runs) == list(range(ROWS))
    told = [_greeting(sweeping.server.routes.runs[r]["arguments"]) for r in outcome.runs.values()]
    assert told == [row["greeting"] for row in sweeping.rows]


@pytest.mark.parametrize("acts", [True, False])
@pytest.mark.parametrize("workers", [1, 3])
def test_whoever_is_killed_while_he_waits_for_replies_each_row_is_started_once(
    sweeping: Sweeping, workers: int, acts: bool
) -> None:
    def hold(asked: Asked) -> Reply | None:
        if b"Hi 0" in asked.body:
            return None
        if acts:
            sweeping.server.own(asked)
        return Reply(hang="before")

    sweeping.server.on("POST", "/groups/.*", hold)
    process = killed(sweeping, "never", workers=workers)
    sent, acted = 1 + workers, 1 + (workers if acts else 0)
    wait_until(lambda: sweeping.has(sent=sent, acted=acted), LONG, "starts that hang")
    process.kill()
    process.communicate(timeout=LONG)
    sweeping.server.on("POST", "/groups/.*", None)
    sweeping.time_passes()
    outcome = sweeping.start()
    assert outcome.whole
    assert sweeping.all_once()
    again = 0 if acts else workers
    assert sweeping.server.count("POST") == ROWS + again
    assert len(outcome.before) == 1 + (workers if acts else 0)


def test_a_run_that_comes_late_is_waited_for_and_not_started_again(sweeping: Sweeping) -> None:
    late: list[Asked] = []

    def hold(asked: Asked) -> Reply | None:
        if b"Hi 1" not in asked.body:
            return None
        late.append(asked)
        return Reply(hang="before")

    sweeping.server.on("POST", "/groups/.*", hold)
    process = killed(sweeping, "never")
    wait_until(lambda: late, LONG, "a start that hangs")
    process.kill()
    process.communicate(timeout=LONG)
    looks = iter(range(9))

    def listed(asked: Asked) -> None:
        if next(looks, None) == 1:  # the second look
            sweeping.server.own(late[0])

    sweeping.server.on("POST", "/groups/.*", None)
    sweeping.server.on("GET", "/groups/[^/]+/runs", listed)
    told: list[tuple[int, float]] = []
    outcome = sweeping.start(
        fs=sweeping.fs(timeout=LONG), looking=lambda count, seconds: told.append((count, seconds))
    )
    assert outcome.whole
    ((count, seconds),) = told
    assert count == 1
    assert 0 <= seconds <= LONG
    assert sweeping.all_once()
    assert sweeping.server.count("POST") == 1 + 1 + ROWS - 2


def test_rows_of_the_same_arguments_are_as_many_runs(sweeping: Sweeping) -> None:
    sweeping.rows = [{"names": "names.txt", "greeting": "Hi"}] * 5

    def hold(asked: Asked) -> Reply | None:
        if sweeping.server.count("POST") < 3:
            return None
        sweeping.server.own(asked)
        return Reply(hang="before")

    sweeping.server.on("POST", "/groups/.*", hold)
    process = killed(sweeping, "never")
    wait_until(lambda: sweeping.has(sent=3, acted=3), LONG, "a start that hangs")
    process.kill()
    process.communicate(timeout=LONG)
    sweeping.server.on("POST", "/groups/.*", None)
    sweeping.time_passes()
    outcome = sweeping.start()
    assert (len(outcome.before), len(outcome.started)) == (3, 2)
    assert len(set(outcome.runs.values())) == 5
    assert sweeping.runs() == ["Hi"] * 5


def one_is_unclear(sweeping: Sweeping) -> None:
    """Have somebody killed while a row is on its way."""
    sweeping.server.on("POST", "/groups/.*", Reply(hang="before"))
    process = killed(sweeping, "never")
    wait_until(lambda: sweeping.has(sent=1, acted=0), LONG, "a start that hangs")
    process.kill()
    process.communicate(timeout=LONG)
    sweeping.server.on("POST", "/groups/.*", None)


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        (r'"at":[0-9.]+', '"at":1000.5'),  # the day's clock jumps ahead by years
        (r'"boot":"[^"]*"', '"boot":"another"'),  # no clock tells how long ago that was
    ],
)
def test_a_clock_that_jumps_does_not_have_a_row_sent_before_its_time_is_up(
    sweeping: Sweeping, written: str, instead: str
) -> None:
    one_is_unclear(sweeping)
    text = sweeping.ledger.read_text()
    changed, count = re.subn(written, instead, text)
    assert count == 1
    sweeping.ledger.write_text(changed)

    def looked(count: int, seconds: float) -> None:
        # The reply was lost, the start was not: it comes while it is looked for.
        assert (count, sweeping.server.count("POST")) == (1, 1)
        sweeping.server.own(sweeping.server.requests("POST")[0])

    outcome = sweeping.start(fs=sweeping.fs(timeout=LONG), looking=looked)
    assert (len(outcome.before), len(outcome.started)) == (1, ROWS - 1)
    assert sweeping.all_once()


def test_starting_all_anew_is_noted_once_all_rows_are_right(sweeping: Sweeping) -> None:
    first = sweeping.start()
    right, sweeping.rows = sweeping.rows, [*sweeping.rows, {"names": "nowhere.txt"}]
    with pytest.raises(InvalidArguments):
        sweeping.start(again=True)
    sweeping.rows = right
    assert sweeping.start().before == first.started
    assert sweeping.server.count("POST") == ROWS
    anew = sweeping.start(again=True)
    assert len(anew.started) == ROWS
    assert set(anew.started.values()).isdisjoint(first.started.values())


# -- what a service does -----------------------------------------------------------


def test_a_reply_that_is_lost_is_found_at_once_and_the_rest_next_time(sweeping: Sweeping) -> None:
    def lost(asked: Asked) -> Reply | None:
        if b"Hi 1" not in asked.body:
            return None
        sweeping.server.own(asked)
        return Reply(reset=True)

    sweeping.server.on("POST", "/groups/.*", lost)
    outcome = sweeping.start(workers=1)
    # Nothing more is sent where nobody knows what became of one.
    assert (sorted(outcome.started), outcome.unclear, outcome.unsent) == ([0, 1], [], [2, 3])
    outcome = sweeping.start()
    assert (sorted(outcome.before), sorted(outcome.started)) == ([0, 1], [2, 3])
    assert sweeping.all_once()
    assert sweeping.server.count("POST") == ROWS


def test_a_request_that_is_lost_is_unclear_until_its_time_is_up(sweeping: Sweeping) -> None:
    sweeping.server.on("POST", "/groups/.*", None, Reply(reset=True), None)
    outcome = sweeping.start(workers=1)
    assert (sorted(outcome.started), outcome.unclear, outcome.unsent) == ([0], [1], [2, 3])
    assert not outcome.whole
    sweeping.time_passes()
    outcome = sweeping.start()
    assert (sorted(outcome.before), sorted(outcome.started)) == ([0], [1, 2, 3])
    assert sweeping.all_once()


def test_a_row_that_is_refused_is_sent_again_next_time(sweeping: Sweeping) -> None:
    def picky(asked: Asked) -> Reply | None:
        return Reply(400, {"message": "not now"}) if b"Hi 2" in asked.body else None

    sweeping.server.on("POST", "/groups/.*", picky)
    outcome = sweeping.start()
    assert sorted(outcome.started) == [0, 1, 3]
    assert outcome.refused[2].service_message == "not now"
    sweeping.server.on("POST", "/groups/.*", None)
    outcome = sweeping.start()
    assert (sorted(outcome.before), sorted(outcome.started)) == ([0, 1, 3], [2])
    assert sweeping.all_once()


def test_nothing_costs_more_than_a_request_a_row_and_three(sweeping: Sweeping) -> None:
    sweeping.start()
    assert sweeping.server.count() == 1 + 1 + 1 + ROWS  # the routes, the group, its runs
    asked = sweeping.server.count()
    outcome = sweeping.start(fs=(fs := sweeping.fs()))
    assert len(outcome.before) == ROWS
    assert sweeping.server.count() == asked
    del fs


def test_the_real_service_tells_arguments_as_they_were_sent(
    any_service: EmbeddedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(any_service, "analysis")
    rows = [
        {"data": world.upload, "window": 2, "threshold": 20.5},
        {"data": {"fileId": world.upload, "targetPath": "data/stations.csv"}, "column": "humidity"},
    ]
    sweep = read_sweep(json.dumps(rows).encode(), "a.json")

    def start() -> Outcome:
        with Ledger(str(tmp_path / "ledger"), world.group_id) as ledger:
            return start_sweep(world.fs(), world.group_id, sweep, ledger, workers=2)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "started", lambda self, number, run_id: None)  # as if killed there
        assert len(start().started) == 2
    outcome = start()
    assert len(outcome.before) == 2
    assert outcome.whole
    assert sorted(outcome.runs.values()) == sorted(world.run_ids())
    assert len(world.run_ids()) == len(rows)
    world.rest.close()


# -- what changes --------------------------------------------------------------------


def test_rows_that_are_added_or_moved_are_known_by_what_they_say(sweeping: Sweeping) -> None:
    sweeping.start()
    sweeping.rows = [{"names": "names.txt", "greeting": "new"}, *sweeping.rows[::-1]]
    del sweeping.rows[2]
    outcome = sweeping.start()
    assert (sorted(outcome.before), sorted(outcome.started)) == ([1, 2, 3], [0])
    assert sweeping.server.count("POST") == ROWS + 1


def test_rows_that_are_wrong_start_none_and_rows_that_were_started_are_not_asked_about(
    sweeping: Sweeping,
) -> None:
    sweeping.rows.append({"names": "names.txt", "sleeptime": "long"})
    with pytest.raises(InvalidArguments, match=r"1 of 5 .* line 5: no int 'long'"):
        sweeping.start()
    assert sweeping.server.count("POST") == 0
    sweeping.rows.pop()
    sweeping.start()
    # What they named is gone: nobody minds.
    sweeping.server.routes.uploads.clear()
    assert sweeping.start().whole


def test_a_dry_run_starts_nothing_and_says_what_would_be(sweeping: Sweeping) -> None:
    assert sweeping.start(dry=True).unsent == [0, 1, 2, 3]
    sweeping.rows, rest = sweeping.rows[:2], sweeping.rows[2:]
    sweeping.start()
    sweeping.rows += rest
    outcome = sweeping.start(dry=True)
    assert (sorted(outcome.before), outcome.unsent) == ([0, 1], [2, 3])
    assert sweeping.server.count("POST") == 2


def test_what_was_to_be_sent_is_written_down_before_it_is(sweeping: Sweeping) -> None:
    written: list[int] = []
    sweeping.server.on(
        "POST",
        "/groups/.*",
        lambda asked: written.append(sweeping.ledger.read_text().count('"intent":')),
    )
    sweeping.start(workers=1)
    assert written == [1, 2, 3, 4]


def test_where_nothing_can_be_written_nothing_is_sent(
    sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Ledger, *args: Any) -> int:
        raise OSError(28, "No space left on device", self.path)

    monkeypatch.setattr(Ledger, "intend", full)
    outcome = sweeping.start()
    assert isinstance(outcome.broken, OSError)
    assert outcome.unsent == [0, 1, 2, 3]
    assert sweeping.server.count("POST") == 0
    monkeypatch.undo()
    monkeypatch.setattr(Ledger, "started", full)
    outcome = sweeping.start(workers=1)
    assert isinstance(outcome.broken, OSError)
    assert list(outcome.started) == [0]
    monkeypatch.undo()
    assert sweeping.start().whole  # and what was started is found
    assert sweeping.all_once()


def test_no_more_are_active_than_may_be(sweeping: Sweeping) -> None:
    most = 0

    def one_more(asked: Asked) -> Reply:
        nonlocal most
        reply = sweeping.server.own(asked)
        active = [h for h in sweeping.server.routes.runs.values() if h["state"] == "RUNNING"]
        most = max(most, len(active))
        return reply

    def ends_one(asked: Asked) -> None:
        for handle in sweeping.server.routes.runs.values():
            if handle["state"] == "RUNNING":
                handle["state"] = "SUCCESS"
                return

    sweeping.rows = [{**row, "sleeptime": 10**6} for row in sweeping.rows * 2]
    sweeping.server.on("POST", "/groups/.*", one_more)
    sweeping.server.on("GET", "/groups/.*/runs", ends_one)
    sweeping.server.on("GET", "/runs/.*", ends_one)
    outcome = sweeping.start(max_active=2)
    assert outcome.whole
    assert len(outcome.started) == 2 * ROWS
    assert most == 2


def test_ctrl_c_ends_it_and_the_next_one_goes_on(sweeping: Sweeping) -> None:
    def hold(asked: Asked) -> Reply | None:
        if b"Hi 1" not in asked.body:
            return None
        sweeping.server.own(asked)
        return Reply(hang="before")

    sweeping.server.on("POST", "/groups/.*", hold)
    with (
        pytest.raises(KeyboardInterrupt),
        ctrl_c(lambda: sweeping.has(sent=2, acted=2)),
    ):
        sweeping.start(workers=1)
    sweeping.server.on("POST", "/groups/.*", None)
    outcome = sweeping.start()
    assert outcome.whole
    assert sweeping.all_once()
    assert sweeping.server.count("POST") == ROWS


def test_what_was_started_is_told_where_waiting_for_it_fails(sweeping: Sweeping) -> None:
    sweeping.server.on("GET", "/groups/.*/runs", Reply(403))
    sweeping.server.on("GET", "/runs/.*", Reply(403))
    sweep = read_sweep(sweeping.text(), "sweep.jsonl")
    outcome = start_sweep(sweeping.fs(), sweeping.group, sweep, None, max_active=1, patience=SOON)
    assert list(outcome.started) == [0]
    assert outcome.unsent == [1, 2, 3]
    assert isinstance(outcome.broken, AccessDenied)
    assert not outcome.whole
