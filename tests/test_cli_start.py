"""``flowfs start``, ``wait``, ``cancel`` and ``runs``: from a file of arguments to a table."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commanding import Commanding
from mounting import Address, command_environment, mounted
from standin import Asked, Reply, StandIn
from support import wait_until
from terminal import Terminal
from world import World

from flowfs.embedded import EmbeddedService

LONG = 60.0
FOREVER = 10**6


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        standin.routes.add_upload(b"Ada\n", "names.txt", standin.routes.group)
        yield standin


@pytest.fixture
def flowfs(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> Commanding:
    return Commanding(monkeypatch, Address(server.endpoint, server.routes.token))


@pytest.fixture
def sweep(tmp_path: Path) -> str:
    path = tmp_path / "sweep.jsonl"
    rows = [{"names": "names.txt", "greeting": f"Hi {n}"} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def document(tmp_path: Path, **arguments: Any) -> str:
    path = tmp_path / "args.json"
    path.write_text(json.dumps({"names": "names.txt", **arguments}))
    return str(path)


def end(server: StandIn, run_id: str, state: str = "SUCCESS", **members: Any) -> None:
    with server.lock:
        server.routes.runs[run_id].update(state=state, **members)


# -- all of it, on the real service -------------------------------------------------


def test_a_sweep_from_a_csv_to_a_table(
    service: EmbeddedService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world = World(service, "analysis")
    flowfs = Commanding(monkeypatch, world.service)
    file = tmp_path / "sweep.csv"
    file.write_text(f"data,window,threshold\n{world.upload},2,\n{world.upload},3,20.5\n")
    said = flowfs("start", world.group_name, str(file), "--wait", "--jobs", "1")
    assert (said.code, said.lines) == (0, world.run_ids())
    assert "2 of 2 started" in said.err
    again = flowfs("start", world.group_name, str(file))
    assert (again.code, again.lines) == (0, said.lines)
    assert len(world.run_ids()) == 2
    rows = flowfs.json("runs", world.group_name, "--results", "outputs/results/summary.json")
    assert [row["id"] for row in rows] == said.lines
    assert [(row["window"], row.get("threshold")) for row in rows] == [(2, None), (3, 20.5)]
    expected = [json.loads(world.rest.result(world.rest.run(run), "results/summary.json"))
                for run in said.lines]  # fmt: skip
    assert [row["mean"] for row in rows] == [one["mean"] for one in expected]
    world.rest.close()


@pytest.mark.mount
def test_a_group_on_a_mount_is_a_group(
    service: EmbeddedService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world = World(service, "hello")
    path = document(tmp_path, names=world.upload)
    with mounted(service) as directory:
        flowfs = Commanding(monkeypatch, service)
        (run_id,) = flowfs.out("start", f"{directory}/groups/{world.group_id}", path).split()
        said = flowfs("wait", f"{directory}/groups/{world.group_id}/runs/{run_id}")
        assert (said.code, said.lines) == (0, [f"{run_id}  SUCCESS"])
    assert world.run_ids() == [run_id]
    world.rest.close()


# -- start -------------------------------------------------------------------------


def test_one_document_is_one_run_each_time(
    server: StandIn, flowfs: Commanding, tmp_path: Path
) -> None:
    path = document(tmp_path)
    first = flowfs.out("start", "hello", path)
    second = flowfs.out("start", "hello", "-", stdin=Path(path).read_bytes())
    assert [first.strip(), second.strip()] == list(server.routes.runs)
    assert [name for name in os.listdir(tmp_path) if "ledger" in name] == []


def test_a_sweep_goes_on_where_it_stopped(server: StandIn, flowfs: Commanding, sweep: str) -> None:
    def lost(asked: Asked) -> Reply | None:
        return Reply(429) if b"Hi 1" in asked.body else None

    server.on("POST", "/groups/.*", lost)
    said = flowfs("start", "hello", sweep, "--jobs", "1")
    assert said.code == 1
    assert said.lines == list(server.routes.runs)
    assert "line 2 was not started:" in said.err
    assert "1 was not sent" in said.err
    server.on("POST", "/groups/.*", None)
    said = flowfs("start", "hello", sweep)
    assert said.code == 0
    # Those that are started at once come to the service in any order.
    assert sorted(said.lines) == sorted(server.routes.runs)
    assert len(said.lines) == 3
    assert Path(f"{sweep}.ledger").exists()


def test_again_starts_all_anew(server: StandIn, flowfs: Commanding, sweep: str) -> None:
    first = flowfs("start", "hello", sweep).lines
    same = flowfs("start", "hello", sweep)
    assert same.lines == first
    assert same.err == (
        "flowfs: nothing left to do: all have been started before; --again starts them anew\n"
    )
    assert not set(flowfs("start", "hello", sweep, "--again").lines) & set(first)
    assert len(server.routes.runs) == 6
    assert flowfs("start", "hello", "-", "--again", stdin=b"{}").code == 2


def test_a_dry_run_of_starting_anew_is_of_all_and_forgets_nothing(
    server: StandIn, flowfs: Commanding, sweep: str
) -> None:
    first = flowfs("start", "hello", sweep).lines
    assert flowfs.out("start", "hello", sweep, "--again", "--dry-run") == (
        "3 of 3 would be started\n"
    )
    assert flowfs("start", "hello", sweep).lines == first


def test_whoever_starts_anew_is_told_to_go_on_without_again(
    server: StandIn, flowfs: Commanding, sweep: str
) -> None:
    def lost(asked: Asked) -> Reply | None:
        return Reply(reset=True) if b"Hi 1" in asked.body else None

    server.on("POST", "/groups/.*", lost)
    said = flowfs("start", "hello", sweep, "--jobs", "1")
    assert said.code == 1
    assert "the same command looks again" in said.err
    # This one does not look for the run of the other before, until that can come no more.
    said = flowfs("start", "hello", sweep, "--again", "--jobs", "1")
    assert said.code == 1
    assert "the same command without --again looks again" in said.err


def test_a_link_to_a_sweep_is_the_same_sweep(
    server: StandIn, flowfs: Commanding, sweep: str, tmp_path: Path
) -> None:
    first = flowfs("start", "hello", sweep).lines
    (tmp_path / "link.jsonl").symlink_to(sweep)
    assert flowfs("start", "hello", str(tmp_path / "link.jsonl")).lines == first


def test_a_sweep_on_stdin_keeps_a_ledger_only_where_it_is_told(
    server: StandIn, flowfs: Commanding, sweep: str, tmp_path: Path
) -> None:
    data, ledger = Path(sweep).read_bytes(), str(tmp_path / "kept")
    for _ in range(2):
        flowfs("start", "hello", "-", "--ledger", ledger, stdin=data)
    assert len(server.routes.runs) == 3
    flowfs("start", "hello", "-", stdin=data)
    assert len(server.routes.runs) == 6


def test_a_dry_run_starts_nothing_and_tells_all_that_is_wrong(
    server: StandIn, flowfs: Commanding, sweep: str, tmp_path: Path
) -> None:
    assert flowfs.out("start", "hello", sweep, "--dry-run") == "3 of 3 would be started\n"
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("names,sleeptime\nnames.txt,1\nno.txt,x\nnames.txt,y\n")
    for option in (["--dry-run"], []):
        said = flowfs("start", "hello", str(wrong), *option)
        assert said.code == 1
        (line,) = said.err.splitlines()
        for part in ("2 of 3 runs", "line 3: unknown file 'no.txt'", "line 4: no int 'y'"):
            assert part in line
    assert server.count("POST") == 0


def test_json_says_what_became_of_each_row(server: StandIn, flowfs: Commanding, sweep: str) -> None:
    server.on(
        "POST",
        "/groups/.*",
        lambda asked: Reply(400, {"message": "no"}) if b"Hi 1" in asked.body else None,
    )
    said = flowfs("start", "hello", sweep, "--json", "--wait", "--quiet")
    assert said.code == 1
    told = json.loads(said.bytes)
    assert told["ledger"] == f"{sweep}.ledger"
    rows = [(row["row"], row["what"], row["run"], row.get("state")) for row in told["rows"]]
    first, last = server.routes.runs
    by_greeting = {"Hi 0": first, "Hi 2": last}
    if server.routes.runs[first]["arguments"][1]["value"] == "Hi 2":  # several at once
        by_greeting = {"Hi 0": last, "Hi 2": first}
    assert rows == [
        ("line 1", "started", by_greeting["Hi 0"], "SUCCESS"),
        ("line 2", "refused", None, None),
        ("line 3", "started", by_greeting["Hi 2"], "SUCCESS"),
    ]
    assert told["rows"][1]["error"].endswith("no")
    assert told["rows"][0]["arguments"] == {"names": "names.txt", "greeting": "Hi 0"}


def test_a_single_start_that_is_refused_or_unclear_is_one_line(
    server: StandIn, flowfs: Commanding, tmp_path: Path
) -> None:
    path = document(tmp_path, sleeptime=FOREVER)
    server.on("POST", "/groups/.*", Reply(403, {"message": "not authorized"}))
    said = flowfs("start", "hello", path)
    assert (said.code, said.lines, len(said.err.splitlines())) == (4, [], 1)
    server.on("POST", "/groups/.*", Reply(reset=True))
    said = flowfs("start", "hello", path)
    assert said.code == 1
    assert "may have been started" in said.err
    assert server.count("POST") == 2


def test_two_at_once_do_not_start_a_sweep_twice(
    server: StandIn, flowfs: Commanding, sweep: str
) -> None:
    server.on("POST", "/groups/.*", lambda asked: server.own(asked) and Reply(hang="before"))
    environment = command_environment(Address(server.endpoint, server.routes.token))
    first = subprocess.Popen(
        [sys.executable, "-m", "flowfs", "start", "hello", sweep],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: len(server.routes.runs) == 3, LONG, "starts that hang")
        said = flowfs("start", "hello", sweep)
        assert said.code == 1
        assert "somebody else is starting runs by it" in said.err
    finally:
        first.kill()
        first.wait(LONG)
    assert server.count("POST") == 3


def test_where_no_ledger_can_be_written_nothing_is_started(
    server: StandIn, flowfs: Commanding, sweep: str
) -> None:
    said = flowfs("start", "hello", sweep, "--ledger", "/proc/no/ledger")
    assert said.code in (1, 3)
    assert len(said.err.splitlines()) == 1
    Path(f"{sweep}.ledger").write_text("something else\n")
    said = flowfs("start", "hello", sweep)
    assert (said.code, "is no ledger of a sweep" in said.err) == (1, True)
    assert server.count("POST") == 0


def test_a_file_that_is_not_there_or_no_sweep_is_one_line(
    server: StandIn, flowfs: Commanding, tmp_path: Path
) -> None:
    said = flowfs("start", "hello", str(tmp_path / "no.jsonl"))
    assert said.code in (1, 3)
    assert "no.jsonl" in said.err
    (tmp_path / "bad.jsonl").write_text("{}\n{\n")
    said = flowfs("start", "hello", str(tmp_path / "bad.jsonl"))
    assert said.code == 1
    assert "bad.jsonl: line 2: not JSON" in said.err
    assert len(said.err.splitlines()) == 1


# -- wait --------------------------------------------------------------------------


def test_wait_says_how_each_ended_and_why(server: StandIn, flowfs: Commanding) -> None:
    good, bad = (str(server.routes.add_run("SUCCESS")["id"]) for _ in range(2))
    end(server, bad, "ERROR", messages=["Traceback\n  x\nno column 'y'"])
    said = flowfs("wait", bad, good)
    assert (said.code, said.lines) == (5, [f"{bad}  ERROR", f"{good}  SUCCESS"])
    assert f"run {bad} ended in ERROR: no column 'y'\n" in said.err
    assert flowfs.json("wait", "-", stdin=f"{good}\n".encode()) == [
        {"id": good, "state": "SUCCESS"}
    ]


def test_wait_for_a_group_is_for_all_that_are_active(server: StandIn, flowfs: Commanding) -> None:
    server.routes.add_run("ERROR")
    runs = [str(server.routes.add_run("RUNNING")["id"]) for _ in range(2)]
    listed = iter([None, *runs])

    def ends(asked: Asked) -> None:
        for run_id in runs if next(listed, None) else ():
            end(server, run_id)

    server.on("GET", "/groups/.*/runs", ends)
    said = flowfs("wait", "hello")
    assert (said.code, said.lines) == (0, [f"{run_id}  SUCCESS" for run_id in runs])


def test_wait_ends_when_the_time_is_up_and_names_what_is_active(
    server: StandIn, flowfs: Commanding
) -> None:
    run_id = str(server.routes.add_run("RUNNING")["id"])
    said = flowfs("wait", run_id, "--timeout", "0")
    assert (said.code, said.lines) == (6, [])
    assert f"have not ended within 0 s: {run_id}" in said.err
    assert flowfs("wait", "nobody").code == 3
    assert flowfs("wait", run_id, "--timeout", "-1").code == 2


# -- cancel --------------------------------------------------------------------------


def test_cancel_cancels_what_can_be_and_tells_of_the_rest(
    server: StandIn, flowfs: Commanding
) -> None:
    active = [str(server.routes.add_run("RUNNING")["id"]) for _ in range(2)]
    ended = str(server.routes.add_run("SUCCESS")["id"])
    said = flowfs("cancel", active[0], ended, f"hello/runs/{active[1]}", "--reason", "too long")
    assert said.lines == [f"{run_id}  CANCELED" for run_id in active]
    assert said.code == 1
    assert "only an active run can be canceled" in said.err
    assert [server.routes.runs[run_id]["messages"] for run_id in active] == [["too long"]] * 2
    said = flowfs("cancel", "hello")
    assert "is a group: name its runs" in said.err
    run_id = str(server.routes.add_run("RUNNING")["id"])
    (handle,) = flowfs.json("cancel", run_id)
    assert (handle["id"], handle["state"]) == (run_id, "CANCELED")


# -- runs ----------------------------------------------------------------------------


def test_runs_is_a_table_for_people_and_for_programs(server: StandIn, flowfs: Commanding) -> None:
    arguments = [{"name": "a\x1b", "value": [1]}, {"name": "b", "value": "x,\ny"}]
    server.routes.files["f"] = b'{"mean": 0.1}'
    files = [{"id": "f", "name": "s.json"}]
    first = server.routes.add_run(arguments=arguments, files=files)["id"]
    second = server.routes.add_run("ERROR", arguments=[{"name": "b", "value": True}])["id"]
    said = flowfs("runs", "hello", "--results", "outputs/s.json")
    head, one, other = said.lines
    assert head.split() == ["ID", "STATE", "CREATED", "DURATION", r"a\x1b", "b", "mean"]
    assert one.split()[0] == first
    assert one.split()[-3:] == ["[1]", r"x,\ny", "0.1"]
    assert other.split()[-4:] == ["0.0", "-", "true", "-"]
    rows = list(csv.DictReader(io.StringIO(flowfs.out("runs", "hello", "--csv"))))
    assert [(row["id"], row["a\x1b"], row["b"]) for row in rows] == [
        (first, "[1]", "x,\ny"),
        (second, "", "true"),
    ]
    (row,) = flowfs.json("runs", "hello", "--state", "error")
    assert (row["id"], row["state"], row["b"], row["duration"]) == (second, "ERROR", True, 0.0)
    assert flowfs("runs", "hello", "--state", "no").code == 2
    assert flowfs("runs", "hello", "--state", "PENDING").lines == []
    assert flowfs("runs", "nobody").code == 3
    assert flowfs("runs", "hello", "--csv", "--json").code == 2


# -- on a terminal -------------------------------------------------------------------


def test_a_bar_shows_how_far_it_is_on_a_terminal(
    server: StandIn, sweep: str, tmp_path: Path
) -> None:
    held = iter([None])
    server.on("POST", "/groups/.*", lambda asked: next(held, Reply(hang="before")))
    environment = command_environment(Address(server.endpoint, server.routes.token))
    told = [f"{k}={v}" for k, v in environment.items() if k.startswith("FLOWSERV_")]
    command = ["env", *told, sys.executable, "-m", "flowfs", "start", "hello", sweep, "-j", "1"]
    with Terminal(command, tmp_path, tmp_path) as terminal:
        terminal.await_text("1/3")
