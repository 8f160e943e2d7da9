"""What commands say, print and return where something is wrong: always the same in all of them."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commanding import Commanding, Said
from mounting import Address, command_environment
from standin import Reply, StandIn
from support import PATIENCE, lasting_port, wait_until


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
def flowfs(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> Commanding:
    return Commanding(monkeypatch, Address(server.endpoint, server.routes.token))


# -- no service -------------------------------------------------------------------


@pytest.mark.parametrize("command", [["ls"], ["ls", "/"], ["tree"], ["info", "groups"]])
def test_the_top_of_the_tree_is_not_shown_where_no_service_answers(
    flowfs: Commanding, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("FLOWSERV_")]:
        monkeypatch.delenv(name)
    address = f"http://127.0.0.1:{lasting_port()}/flowserv/api/v1"
    # What is taken where nothing is named, but for the port: somebody may be at that.
    monkeypatch.setattr("flowfs.filesystem.bound.endpoint_from_environment", lambda: address)
    monkeypatch.setattr("flowfs.service.endpoint.endpoint_from_environment", lambda: address)
    said = flowfs(*command)
    assert (said.code, said.out) == (1, "")
    (line,) = said.err.splitlines()
    assert address in line
    assert "name it: 'flowfs login URL' or FLOWSERV_API_HOST" in line


# -- used wrongly -----------------------------------------------------------------


@pytest.mark.parametrize("command", [["runs", "hello"], ["rm", "-r", "hello/runs/*", "--yes"]])
def test_a_state_that_there_is_not_is_used_wrongly_and_all_are_named(
    server: StandIn, flowfs: Commanding, command: list[str]
) -> None:
    said = flowfs(*command, "--state", "DONE")
    assert (said.code, said.out) == (2, "")
    for state in ("PENDING", "RUNNING", "SUCCESS", "ERROR", "CANCELED"):
        assert state in said.err
    assert server.requests() == []


def test_what_makes_no_sense_is_used_wrongly_in_all_commands(
    server: StandIn, flowfs: Commanding, tmp_path: Path
) -> None:
    for wrong in (
        ["wait", "hello", "--timeout", "-1"],
        ["ls", "--timeout", "0"],
        ["whoami", "--timeout", "0"],
        ["ls", "ftp://example.org/"],
        ["mount", "--timeout", "-1", str(tmp_path)],
        ["mount", "--no-cache", "--cache-dir", str(tmp_path), str(tmp_path)],
        ["mount", "-o", "timeout=never", str(tmp_path)],
    ):
        said = flowfs(*wrong)
        assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1), wrong
    assert server.requests() == []


def test_a_file_of_this_machine_that_is_not_there_is_not_there(
    server: StandIn, flowfs: Commanding, tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "nowhere.jsonl")
    for command in (["start", "hello", nowhere], ["cp", nowhere, "groups/hello/uploads/"]):
        said = flowfs(*command)
        assert (said.code, said.out) == (3, "")
        assert nowhere in said.err


def test_all_that_talk_to_a_service_take_its_certificates(
    server: StandIn, flowfs: Commanding, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    for command in (["whoami"], ["logout", server.endpoint], ["ls"]):
        assert flowfs(*command, "--ca", str(tmp_path / "no.pem")).code == 2
    # Not used for http, and taken all the same.
    assert flowfs("whoami", "--ca", str(bundle), "--timeout", "60").code == 0


# -- JSON -------------------------------------------------------------------------


def told(said: Said) -> Any:
    """The document, of a command that fails."""
    assert said.code != 0
    assert said.err.startswith("flowfs: ")
    return json.loads(said.bytes)


def test_json_is_a_list_of_what_did_not_fail_in_all_commands(
    server: StandIn, flowfs: Commanding, tmp_path: Path
) -> None:
    run_id = str(server.routes.add_run()["id"])
    server.routes.add_upload(b"x", "days.csv", server.routes.group)
    for command in ("ls", "info", "tree", "cancel", "wait", "open"):
        assert told(flowfs(command, "hello/nothing", "--json")) == []
    assert told(flowfs("runs", "nobody", "--json")) == []
    assert told(flowfs("rm", "hello/uploads/days.csv", "hello/uploads/no", "-y", "--json")) == []
    assert told(flowfs("cp", "groups/hello/no", str(tmp_path), "--json")) == []
    assert told(flowfs("cp", str(tmp_path / "no"), "groups/hello/uploads/", "--json")) == []
    assert told(flowfs("wait", run_id, "nobody", "--json")) == [{"id": run_id, "state": "SUCCESS"}]
    listed = told(flowfs("ls", "hello/uploads", "hello/nothing", "--json"))
    assert [entry["name"] for entry in listed] == ["days.csv"]


def test_wait_shows_what_has_ended_when_the_time_is_up(server: StandIn, flowfs: Commanding) -> None:
    ended, active = (str(server.routes.add_run(one)["id"]) for one in ("SUCCESS", "RUNNING"))
    said = flowfs("wait", ended, active, "--timeout", "0", "--json")
    assert (said.code, told(said)) == (6, [{"id": ended, "state": "SUCCESS"}])
    said = flowfs("wait", ended, active, "--timeout", "0")
    assert (said.code, said.lines) == (6, [f"{ended}  SUCCESS"])


def test_a_single_start_that_is_refused_is_in_the_document(
    server: StandIn, flowfs: Commanding, tmp_path: Path
) -> None:
    server.routes.add_upload(b"x", "names.txt", server.routes.group)
    server.on("POST", "/groups/.*", Reply(403, {"message": "not authorized"}))
    arguments = tmp_path / "args.json"
    arguments.write_text('{"names": "names.txt"}')
    said = flowfs("start", "hello", str(arguments), "--json")
    (row,) = told(said)["rows"]
    assert (said.code, row["what"], row["run"]) == (4, "refused", None)


def test_where_the_bytes_go_to_stdout_no_document_can(server: StandIn, flowfs: Commanding) -> None:
    said = flowfs("cp", "groups/hello/group.json", "-", "--json")
    assert (said.code, said.out) == (2, "")


# -- names with *, ? and [ ----------------------------------------------------------


def test_what_is_called_so_goes_before_a_pattern(
    server: StandIn, flowfs: Commanding, tmp_path: Path
) -> None:
    names = ["a*.csv", "a1.csv", "b?", "b2", "[c]", "c"]
    for name in names:
        server.routes.add_upload(name.encode(), name, server.routes.group)
    for name in ("a*.csv", "b?", "[c]"):
        assert flowfs.out("cat", f"hello/uploads/{name}") == name
        flowfs.out("cp", f"groups/hello/uploads/{name}", str(tmp_path / "fetched"))
        assert (tmp_path / "fetched").read_text() == name
        (gone,) = flowfs.json("rm", "--yes", f"hello/uploads/{name}")
        assert gone["name"] == name
    # Now that there is nothing of that name, it is a pattern.
    assert flowfs.out("cat", "hello/uploads/a*.csv") == "a1.csv"
    assert flowfs.out("cat", "hello/uploads/[c]") == "c"


def test_a_pattern_costs_no_more_than_it_did(server: StandIn, flowfs: Commanding) -> None:
    for name in ("a", "b"):
        server.routes.add_upload(b"x", name, server.routes.group)
    server.routes.add_run()
    for pattern in ("uploads/*", "runs/*", "states/SUCCESS/*"):
        known = len(server.requests())
        flowfs.out("ls", "-d", f"groups/group-1/{pattern}")
        asked = [one.path for one in server.requests()[known:] if one.path not in ("", "/")]
        assert len(asked) == len(set(asked))
        assert not [path for path in asked if "*" in path or "%2A" in path]


# -- times ------------------------------------------------------------------------


def test_cp_p_warns_where_times_cannot_be_kept_and_leaves_the_file(
    server: StandIn, flowfs: Commanding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes.add_upload(b"figures", "days.csv", server.routes.group)

    def no_times(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("flowfs.cli.copying.os.utime", no_times)
    target = tmp_path / "here.csv"
    said = flowfs("cp", "-p", "groups/hello/uploads/days.csv", str(target), "--json")
    assert (said.code, [one["to"] for one in told(said)]) == (1, [str(target)])
    (line,) = said.err.splitlines()
    assert "here.csv: is copied, but its time could not be kept: Operation not permitted" in line
    assert target.read_bytes() == b"figures"


# -- a command that prints a token ---------------------------------------------------


def test_ctrl_c_ends_a_token_command_with_all_that_it_has_started(
    server: StandIn, tmp_path: Path
) -> None:
    environment = command_environment(Address(server.endpoint, server.routes.token))
    del environment["FLOWSERV_ACCESS_TOKEN"]
    script = tmp_path / "token"
    # Its child is no longer its own, and has the output.
    script.write_text(f"trap '' INT\nsleep 1000 &\necho $! > {tmp_path}/pid\nwait\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "flowfs", "ls", "groups", "--token-command", f"sh {script}"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # no terminal
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    try:
        written = tmp_path / "pid"
        number = wait_until(
            lambda: int(written.read_text() or 0) if written.exists() else 0, PATIENCE, "a child"
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == -signal.SIGINT
        wait_until(lambda: not _runs(number), PATIENCE, "the end of the child")
    finally:
        process.kill()
        process.wait(PATIENCE)
    assert server.requests() == []


def _runs(number: int) -> bool:
    try:
        stat = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"  # nobody has to take note of it
