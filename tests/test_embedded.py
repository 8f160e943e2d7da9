"""The embedded service: what it offers, keeps, closes and leaves behind."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from support import Rest, wait_until

from flowfs.cli import cli
from flowfs.embedded import EmbeddedService, sample
from flowfs.embedded.directory import DataDirectory
from flowfs.errors import DirectoryNotEmpty, FlowError


@pytest.fixture
def any_rest(any_service: EmbeddedService) -> Iterator[Rest]:
    client = Rest(any_service)
    yield client
    client.close()


@pytest.fixture
def hello(any_service: EmbeddedService, any_rest: Rest) -> tuple[str, dict[str, str]]:
    """Group of ``hello``, and names uploaded to it."""
    group = any_service.groups["hello"]
    return group, {"fileId": any_rest.upload(group, sample("hello"))}


@pytest.fixture
def analysis(any_service: EmbeddedService, any_rest: Rest) -> tuple[str, dict[str, str]]:
    """Group of ``analysis``, and measurements uploaded to it."""
    group = any_service.groups["analysis"]
    return group, {"fileId": any_rest.upload(group, sample("analysis"))}


def processes_of(service: EmbeddedService, run_id: str) -> list[int]:
    """Processes that work in a run's directory."""
    rundir = service.directory / "api" / "runs" / run_id
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")) == rundir:
                found.append(int(process.name))
        except OSError:
            continue
    return found


def parent_of(pid: int) -> int:
    match = re.search(r"^PPid:\s*(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert match
    return int(match.group(1))


def started(service: EmbeddedService, rest: Rest) -> str:
    """A run that goes on until it is stopped, with its processes at work."""
    group = service.groups["hello"]
    names = {"fileId": rest.upload(group, sample("hello"))}
    run_id = rest.start(group, {"names": names, "sleeptime": 6000})
    wait_until(lambda: len(processes_of(service, run_id)) >= 2, 20, "processes of the run")
    return run_id


# What it offers


def test_the_token_logs_in(any_service: EmbeddedService, any_rest: Rest) -> None:
    descriptor = any_rest.get("")
    assert descriptor["username"] == any_service.username == "flow"
    assert descriptor["url"] == any_service.endpoint


def test_every_workflow_has_a_group_of_its_name(
    any_service: EmbeddedService, any_rest: Rest
) -> None:
    assert set(any_service.groups) == set(any_service.workflows) == {"hello", "analysis"}
    for name, workflow in any_service.workflows.items():
        assert any_rest.get(f"workflows/{workflow}")["name"] == name
        # Other tests of this process make more of them.
        first = any_rest.get(f"workflows/{workflow}/groups")["groups"][0]
        assert first["id"] == any_service.groups[name]
        assert first["name"] == name


def test_hello_greets_everybody(any_rest: Rest, hello: tuple[str, dict[str, str]]) -> None:
    group, names = hello
    handle = any_rest.ended(any_rest.start(group, {"names": names, "greeting": "Bonjour"}))
    assert handle["state"] == "SUCCESS"
    greetings = any_rest.result(handle, "results/greetings.txt").decode().splitlines()
    assert greetings[0] == "Bonjour, Ada!"
    assert len(greetings) == len(sample("hello").read_text().split())


def test_what_a_shell_would_interpret_arrives_as_it_is(
    any_rest: Rest, hello: tuple[str, dict[str, str]]
) -> None:
    group, names = hello
    greeting = 'it\'s "$HOME" `id` $(id) \\ ; # & | > * é'
    handle = any_rest.ended(any_rest.start(group, {"names": names, "greeting": greeting}))
    text = any_rest.result(handle, "results/greetings.txt").decode()
    assert text.splitlines()[0] == f"{greeting}, Ada!"


def test_analysis_gives_a_table_figures_and_a_plot(
    any_rest: Rest, analysis: tuple[str, dict[str, str]]
) -> None:
    group, data = analysis
    handle = any_rest.ended(any_rest.start(group, {"data": data}))
    assert handle["state"] == "SUCCESS", handle
    assert all(file["title"] and file["caption"] and file["format"] for file in handle["files"])
    table = any_rest.result(handle, "results/summary.csv").decode()
    stations = list(csv.DictReader(io.StringIO(table)))
    assert [row["station"] for row in stations] == ["Harbour", "Valley", "Ridge"]
    figures = json.loads(any_rest.result(handle, "results/summary.json"))
    assert figures["measurements"] == 360
    assert figures["maximum"] == max(float(row["maximum"]) for row in stations)
    plot = ElementTree.fromstring(any_rest.result(handle, "results/plot.svg"))
    assert plot.tag == "{http://www.w3.org/2000/svg}svg"


def test_the_leaderboard_ranks_the_runs_of_analysis(
    any_service: EmbeddedService, any_rest: Rest, analysis: tuple[str, dict[str, str]]
) -> None:
    group, data = analysis
    run_ids = [any_rest.start(group, {"data": data, "threshold": t}) for t in (15.0, 22.5)]
    for run_id in run_ids:
        any_rest.ended(run_id)
    workflow = any_service.workflows["analysis"]
    board = any_rest.get(f"workflows/{workflow}/leaderboard?includeAll=true")
    ranked = [row["run"]["id"] for row in board["ranking"] if row["run"]["id"] in run_ids]
    assert ranked == run_ids
    assert board["schema"][0]["name"] == "days_above"


def test_the_figures_of_ranked_runs_are_put_together_after_a_run(
    any_service: EmbeddedService, any_rest: Rest, analysis: tuple[str, dict[str, str]]
) -> None:
    group, data = analysis
    workflow = any_service.workflows["analysis"]
    # Best of all so far, whatever ran before.
    with ThreadPoolExecutor(4) as threads:
        for handle in threads.map(
            lambda degrees: any_rest.ended(
                any_rest.start(group, {"data": data, "threshold": degrees})
            ),
            (-40.0, -41.0, -42.0, -43.0),
        ):
            assert handle["state"] == "SUCCESS"
    best = any_rest.get(f"workflows/{workflow}/leaderboard")["ranking"][0]["run"]["id"]

    def comparison() -> str | None:
        run = any_rest.get(f"workflows/{workflow}").get("postproc")
        if not run or run["state"] != "SUCCESS":
            return None
        (file,) = run["files"]
        assert file["name"] == "results/comparison.csv"
        path = f"workflows/{workflow}/downloads/files/{file['id']}"
        text = any_rest.request("GET", path).text
        return text if best in text else None

    table = wait_until(comparison, 20, "post-processing of the best run")
    assert table.startswith("run,group,column,window,threshold,")
    log = (any_service.directory / "service.log").read_text()
    assert "IntegrityError" not in log


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"column": "wind"}, "no column 'wind' in the data; its columns are: station, date"),
        ({"column": "station"}, "line 2, column 'station': could not convert string to float"),
        ({"window": 0}, "window must be at least 1 day: 0"),
    ],
)
def test_bad_input_ends_in_an_error_that_says_why(
    any_rest: Rest,
    analysis: tuple[str, dict[str, str]],
    arguments: dict[str, Any],
    message: str,
) -> None:
    group, data = analysis
    handle = any_rest.ended(any_rest.start(group, {"data": data, **arguments}))
    assert handle["state"] == "ERROR"
    assert handle["messages"][0].startswith(message)


def test_there_is_no_sample_of_an_unknown_workflow() -> None:
    with pytest.raises(ValueError, match="no workflow 'nope': there are hello, analysis"):
        sample("nope")


# How runs run


def test_many_runs_at_once_and_in_a_row_all_end(
    any_rest: Rest, hello: tuple[str, dict[str, str]]
) -> None:
    group, names = hello

    def run(number: int) -> str:
        run_id = any_rest.start(group, {"names": names, "greeting": str(number)})
        handle = any_rest.ended(run_id, timeout=60)
        text = any_rest.result(handle, "results/greetings.txt").decode()
        assert text.startswith(f"{number}, ")
        return str(handle["state"])

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(run, range(30))) == ["SUCCESS"] * 30


def test_canceling_a_run_ends_its_command(any_service: EmbeddedService, any_rest: Rest) -> None:
    run_id = started(any_service, any_rest)
    reply = any_rest.request("PUT", f"runs/{run_id}", json={"reason": "enough"})
    assert reply.json()["state"] == "CANCELED"
    assert reply.json()["messages"] == ["enough"]
    wait_until(lambda: not processes_of(any_service, run_id), 10, "end of the run's command")
    rundir = any_service.directory / "api" / "runs" / run_id
    wait_until(lambda: not rundir.exists(), 10, "removal of the run's directory")


def test_a_run_that_has_ended_cannot_be_canceled(
    any_rest: Rest, hello: tuple[str, dict[str, str]]
) -> None:
    group, names = hello
    run_id = any_rest.start(group, {"names": names})
    any_rest.ended(run_id)
    assert any_rest.request("PUT", f"runs/{run_id}", json={}).status_code == 400
    assert any_rest.run(run_id)["state"] == "SUCCESS"


def test_canceling_while_a_run_ends_gives_one_answer_for_ever(
    any_rest: Rest, hello: tuple[str, dict[str, str]]
) -> None:
    group, names = hello
    for _ in range(10):
        run_id = any_rest.start(group, {"names": names})
        reply = any_rest.request("PUT", f"runs/{run_id}", json={})
        state = any_rest.ended(run_id)["state"]
        assert state == ("CANCELED" if reply.status_code == 200 else "SUCCESS"), reply.text
        assert any_rest.run(run_id)["state"] == state


def test_a_run_whose_process_dies_ends_in_an_error(
    any_service: EmbeddedService, any_rest: Rest
) -> None:
    run_id = started(any_service, any_rest)
    at_work = processes_of(any_service, run_id)
    (worker,) = {parent_of(pid) for pid in at_work}.difference(at_work)
    os.kill(worker, signal.SIGKILL)
    handle = any_rest.ended(run_id)
    assert handle["state"] == "ERROR"
    assert handle["messages"] == ["the process of the run ended without a result"]
    wait_until(lambda: not processes_of(any_service, run_id), 10, "end of the run's command")


# What is closed


def test_no_web_page_and_no_stranger_gets_in(any_rest: Rest) -> None:
    account = {"username": "eve", "password": "secret", "verify": False}
    assert any_rest.request("POST", "users/register", json=account).status_code == 403
    for headers in ({"Origin": "https://example.org"}, {"Host": "example.org"}):
        reply = any_rest.request("GET", "", headers=headers)
        assert reply.status_code == 403
        assert reply.json()["message"]
    reply = any_rest.request("GET", "")
    assert not [name for name in reply.headers if name.lower().startswith("access-control-")]


def test_it_listens_on_the_loopback_interface_only(service: EmbeddedService) -> None:
    port = int(service.endpoint.split(":")[2].split("/")[0])
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        if Path(table).exists()
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    ]
    assert listening == [f"0100007F:{port:04X}"]


@pytest.mark.service
def test_a_token_in_the_environment_lets_nobody_else_in(tmp_path: Path) -> None:
    with EmbeddedService.start(tmp_path / "data") as first:
        token = first.token
    settings = {"FLOWSERV_ACCESS_TOKEN": token, "FLOWSERV_AUTH": "open"}
    with EmbeddedService.start(tmp_path / "data", env=settings) as again:
        rest = Rest(again)
        del rest.session.headers["api_key"]
        assert "username" not in rest.get("")
        assert rest.request("GET", f"groups/{again.groups['hello']}/runs").status_code == 403
        rest.close()


@pytest.mark.service
def test_an_upload_over_the_limit_is_refused(tmp_path: Path) -> None:
    big = tmp_path / "big.txt"
    big.write_bytes(bytes(1024 * 1024 + 1))
    with EmbeddedService.start(max_upload=1) as service:
        rest = Rest(service)
        with open(big, "rb") as file:
            path = f"uploads/{service.groups['hello']}/files"
            reply = rest.request("POST", path, files={"file": file})
        assert reply.status_code == 413
        rest.close()


# What it keeps


@pytest.mark.service
def test_everything_but_running_runs_survives_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with EmbeddedService.start(data) as first:
        rest = Rest(first)
        group = first.groups["hello"]
        done = rest.ended(
            rest.start(group, {"names": {"fileId": rest.upload(group, sample("hello"))}})
        )
        greetings = rest.result(done, "results/greetings.txt")
        running = started(first, rest)
        rest.close()
    assert not processes_of(first, running)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((data / "password").stat().st_mode) == 0o600
    with EmbeddedService.start(data) as again:
        assert again.groups == first.groups
        assert again.workflows == first.workflows
        rest = Rest(again)
        assert rest.run(done["id"]) == done
        assert rest.result(done, "results/greetings.txt") == greetings
        handle = rest.run(running)
        assert handle["state"] == "CANCELED"
        assert handle["messages"] == ["the embedded service was stopped"]
        rest.close()


@pytest.mark.service
def test_a_service_that_was_killed_leaves_no_run_behind(tmp_path: Path) -> None:
    data = tmp_path / "data"
    # Its fork server's socket stays behind; a path of pytest's would be too long for one.
    with (
        tempfile.TemporaryDirectory() as leftovers,
        EmbeddedService.start(data, env={"TMPDIR": leftovers}) as first,
    ):
        rest = Rest(first)
        running = started(first, rest)
        rest.close()
        os.killpg(first.pid, signal.SIGKILL)
        wait_until(lambda: not processes_of(first, running), 10, "end of the run's command")
    with EmbeddedService.start(data) as again:
        rest = Rest(again)
        assert rest.run(running)["state"] == "CANCELED"
        rest.close()


@pytest.mark.service
def test_a_directory_serves_once_at_a_time(tmp_path: Path) -> None:
    with EmbeddedService.start(tmp_path / "data"):
        with pytest.raises(FlowError, match="another embedded service uses this directory"):
            EmbeddedService.start(tmp_path / "data")


@pytest.mark.service
def test_a_password_that_was_changed_by_hand_is_an_error_that_says_so(tmp_path: Path) -> None:
    EmbeddedService.start(tmp_path / "data").stop()
    (tmp_path / "data" / "password").write_text("another\n")
    with pytest.raises(FlowError, match="the password in this directory is not that of its user"):
        EmbeddedService.start(tmp_path / "data")


# The command


def command(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flowfs", "serve", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        start_new_session=True,
    )


@pytest.mark.service
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_one_line_of_json_and_ends_cleanly_at_a_signal(number: signal.Signals) -> None:
    process = command("--json")
    assert process.stdout
    greeting = json.loads(process.stdout.readline())
    keys = {"endpoint", "token", "username", "groups", "workflows", "dir", "pid"}
    assert set(greeting) == keys
    assert greeting["pid"] == process.pid
    assert Path(greeting["dir"]).is_dir()
    process.send_signal(number)
    output, complaints = process.communicate(timeout=60)
    assert (process.returncode, output, complaints) == (0, "", "")
    assert not Path(greeting["dir"]).exists()


@pytest.mark.service
def test_who_has_stopped_to_read_an_answer_does_not_hold_up_the_end(tmp_path: Path) -> None:
    data = tmp_path / "large"
    data.write_bytes(bytes(12 << 20))
    with EmbeddedService.start(tmp_path / "service") as service:
        rest, group = Rest(service), service.groups["hello"]
        file_id = rest.upload(group, data)
        rest.close()
        address = urlsplit(service.endpoint)
        path = f"{address.path}/uploads/{group}/files/{file_id}"
        with socket.create_connection(("127.0.0.1", address.port)) as idle:
            idle.sendall(f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
            assert idle.recv(12) == b"HTTP/1.1 200"
            os.kill(service.pid, signal.SIGTERM)
            wait_until(lambda: service._process.poll() == 0, 10, "the service to end")


@pytest.mark.service
def test_its_instructions_are_lines_to_paste(tmp_path: Path) -> None:
    process = command("--dir", str(tmp_path / "data"))
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith("Ctrl-C"):
            break
    process.terminate()
    process.communicate(timeout=60)
    exports = dict(line.strip()[7:].split("=", 1) for line in lines if "export " in line)
    assert exports["FLOWSERV_API_PROTOCOL"] == "http"
    assert exports["FLOWSERV_API_HOST"] == "127.0.0.1"
    assert exports["FLOWSERV_API_PATH"] == "/flowserv/api/v1"
    assert exports["FLOWSERV_API_PORT"].isdigit()
    assert re.fullmatch("[0-9a-f]{32}", exports["FLOWSERV_ACCESS_TOKEN"])
    text = "\n".join(lines)
    assert "may run commands on this machine" in text
    assert "flowfs mount DIR" in text
    assert (tmp_path / "data" / "service.log").stat().st_size > 0


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(DirectoryNotEmpty, match="no service has kept its data there"):
        DataDirectory(tmp_path).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_directory_that_is_empty_or_of_an_earlier_service_is_taken(tmp_path: Path) -> None:
    for _ in range(2):
        with DataDirectory(tmp_path) as data:
            data.log.touch()
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@pytest.mark.service
def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = f"cannot listen on port {port}: Address already in use"
        with pytest.raises(FlowError, match=words):
            EmbeddedService.start(port=port)


def test_help_says_that_runs_are_commands() -> None:
    text = " ".join(CliRunner().invoke(cli, ["serve", "--help"]).output.split())
    assert "Whoever may start a run may run commands on this machine as you" in text


def test_without_rob_flask_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "robflask", None)
    result = CliRunner().invoke(cli, ["serve", "--json"])
    assert isinstance(result.exception, FlowError)
    assert "pip install 'flowfs[server]'" in str(result.exception)


def test_an_interpreter_that_cannot_serve_is_an_error_with_its_last_words(
    tmp_path: Path,
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such module >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(FlowError, match="ended with code 3: no such module"):
        EmbeddedService.start(python=str(broken))
