"""What people name on a command line, and what ``rm``, ``info`` and ``open`` do with it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commanding import Commanding
from mounting import Address, command_environment, mounted_in_background
from standin import Reply, StandIn
from terminal import Terminal
from world import World

from flowfs.embedded import EmbeddedService


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
def address(server: StandIn) -> Address:
    return Address(server.endpoint, server.routes.token)


@pytest.fixture
def flowfs(address: Address, monkeypatch: pytest.MonkeyPatch) -> Commanding:
    return Commanding(monkeypatch, address)


def name_groups(server: StandIn, **named: str) -> None:
    """Have the service tell of groups, by id."""
    groups = [{"id": id_, "name": name} for id_, name in named.items()]
    server.on("GET", "/workflows/[^/]*/groups", *[Reply(body={"groups": groups})] * 20)


# -- names -----------------------------------------------------------------------


def test_an_id_goes_before_a_name_and_costs_no_list_of_groups(
    server: StandIn, flowfs: Commanding
) -> None:
    group, other = server.routes.group, server.routes.add_group()
    name_groups(server, **{other: group, group: "another"})
    assert flowfs.json("info", f"groups/{group}")["id"] == group
    assert flowfs.json("info", group)["id"] == group
    assert server.count("GET", "/workflows.*") == 0


def test_a_name_costs_a_look_for_an_id_and_the_list_of_groups(
    server: StandIn, flowfs: Commanding
) -> None:
    name_groups(server, **{server.routes.group: "my group"})
    assert flowfs.json("ls", "-d", "groups/my group")[0]["id"] == server.routes.group
    asked = [one.path for one in server.requests("GET") if one.path.strip("/")]
    listing = ["/groups", "/workflows", f"/workflows/{server.routes.workflow}/groups"]
    assert asked == ["/groups/my%20group", *listing, f"/groups/{server.routes.group}"]


def test_an_id_as_flowserv_makes_them_is_not_looked_for(
    server: StandIn, flowfs: Commanding
) -> None:
    run = server.routes.add_run(id="1" * 32)
    assert flowfs("ls", f"groups/{'2' * 32}/runs/{run['id']}").code == 3
    assert server.count("GET", "/groups/.*") == 0


def test_where_several_have_a_name_all_are_told_and_none_is_taken(
    server: StandIn, flowfs: Commanding
) -> None:
    other = server.routes.add_group()
    name_groups(server, **{server.routes.group: "twins", other: "twins"})
    for name in ("twins", "groups/twins/uploads"):
        said = flowfs("ls", name)
        assert (said.code, said.out, len(said.err.splitlines())) == (3, "", 1)
        assert f"groups/{server.routes.group}, groups/{other}" in said.err


def test_what_is_nowhere_says_what_there_is(server: StandIn, flowfs: Commanding) -> None:
    name_groups(server, **{server.routes.group: "my group"})
    for name in ("nobody", "groups/nobody"):
        said = flowfs("ls", name)
        assert said.code == 3
        assert "my group" in said.err
    assert flowfs("ls", "/etc/passwd").code == 3
    assert flowfs("ls", "").code == 2
    assert flowfs("ls", "ftp://x/groups").code in (2, 3)
    assert flowfs("ls", "--endpoint", "http://127.0.0.1:1", server.endpoint).code == 2


@pytest.mark.mount
def test_a_path_on_a_mount_is_of_the_service_that_is_mounted(
    address: Address,
    server: StandIn,
    flowfs: Commanding,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, _ = server.routes.add_file(b"x")
    place = f"groups/{server.routes.group}/runs/{run}"
    directory = tmp_path / "mnt"
    directory.mkdir()
    (tmp_path / "link").symlink_to(directory)
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with mounted_in_background(address, directory, **runtime):
        for name in (directory / place, tmp_path / "link" / place):
            told = flowfs.json("info", str(name))
            assert (told["path"], told["kind"]) == (place, "run")
        monkeypatch.chdir(tmp_path)
        assert flowfs.json("info", f"mnt/{place}")["path"] == place


# -- rm --------------------------------------------------------------------------


def test_uploads_and_runs_are_deleted_one_request_each(server: StandIn, flowfs: Commanding) -> None:
    group = f"groups/{server.routes.group}"
    runs = [server.routes.add_run(state)["id"] for state in ("ERROR", "SUCCESS", "ERROR")]
    server.routes.add_upload(b"x", "a.csv", server.routes.group)
    gone = flowfs.json("rm", "--yes", "-r", f"{group}/uploads/*", f"{group}/runs/{runs[1]}")
    assert [entry["kind"] for entry in gone] == ["upload", "run"]
    assert server.count("DELETE") == 2
    out = flowfs.out("rm", "-rvy", f"{group}/runs/*", "--state", "error")
    assert sorted(out.split()[1::2]) == sorted(f"{group}/runs/{run}" for run in (runs[0], runs[2]))
    assert list(server.routes.runs) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("{run}", "--yes"), 1, "-r deletes it"),
        (("-r", "{group}/latest", "--yes"), 1, "through a link or view"),
        (("-r", "{group}/states/SUCCESS/{id}", "--yes"), 1, "through a link or view"),
        (("-r", "{group}", "--yes"), 1, "cannot be deleted"),
        (("{run}/handle.json", "--yes"), 1, "cannot be deleted"),
        (("-r", "{run}", "{group}/uploads/nothing", "--yes"), 3, "nothing was deleted"),
        (("-r", "{run}"), 2, "--yes"),
        (("-rf", "{group}/uploads/nothing", "{group}/runs/nothing"), 0, ""),
        (("-r", "{active}", "--yes"), 1, "invalid operation"),
    ],
)
def test_what_is_not_to_be_deleted_stays(
    server: StandIn, flowfs: Commanding, arguments: tuple[str, ...], code: int, words: str
) -> None:
    active = server.routes.add_run("RUNNING")["id"]
    run = server.routes.add_run()["id"]
    group = f"groups/{server.routes.group}"
    names = {"group": group, "run": f"{group}/runs/{run}", "id": run}
    names["active"] = f"{group}/runs/{active}"
    said = flowfs("rm", *(one.format(**names) for one in arguments))
    assert (said.code, words in said.err) == (code, True), said
    assert set(server.routes.runs) == {active, run}


def test_at_a_terminal_it_says_what_will_go_and_asks(
    server: StandIn, address: Address, tmp_path: Path
) -> None:
    run, _ = server.routes.add_file(b"x")
    place = f"groups/{server.routes.group}/runs/{run}"
    told = [f"{k}={v}" for k, v in command_environment(address).items() if "FLOWSERV" in k]
    command = f"{sys.executable} -m flowfs rm -r {place}"
    script = f"{command}; echo said $?; {command}; echo said $?; {command}; echo said $?"
    with Terminal(["env", *told, "bash", "-c", script], tmp_path, tmp_path) as terminal:
        terminal.await_text(f"{place} (SUCCESS, 1 result)")
        terminal.await_text("Delete it? [y/N]")
        terminal.type("\n")
        terminal.await_text("said 1")
        terminal.await_text("Delete it? [y/N]")
        assert terminal.interrupted() == -signal.SIGINT  # the script as well, as it should
    assert list(server.routes.runs) == [run]
    with Terminal(["env", *told, "bash", "-c", command], tmp_path, tmp_path) as terminal:
        terminal.await_text("Delete it? [y/N]")
        terminal.type("y\n")
        assert terminal.ended() == 0
    assert list(server.routes.runs) == []


# -- info ------------------------------------------------------------------------


def test_all_that_is_known_of_a_run_is_told(
    service: EmbeddedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(service, "hello")
    flowfs = Commanding(monkeypatch, service)
    handle = world.succeeded(greeting="Hi")
    told = flowfs.json("info", world.run(handle))
    assert told["arguments"] == {"greeting": "Hi", "names": "names.txt"} | {
        name: value for name, value in told["arguments"].items() if name == "sleeptime"
    }
    assert (told["state"], told["files"]) == ("SUCCESS", ["results/greetings.txt"])
    assert told["address"] == f"{world.endpoint}/runs/{handle['id']}"
    assert told["url"] == world.url(world.run(handle))
    assert told["seconds"] >= 0
    text = flowfs.out("info", handle["id"])
    for shown in ("SUCCESS", 'greeting = "Hi"', 'names = "names.txt"', "results/greetings.txt"):
        assert shown in text
    group = flowfs.json("info", world.group_name)
    assert (group["runs"], group["uploads"]) == ({"SUCCESS": 1}, ["names.txt"])
    assert flowfs.json("info", f"{handle['id']}/outputs/results/greetings.txt")["size"] == len(
        world.rest.result(handle, "results/greetings.txt")
    )


def test_of_a_run_that_failed_the_messages_are_told_as_text(
    server: StandIn, flowfs: Commanding
) -> None:
    server.routes.add_run("ERROR", messages=["no\x1b[2J space", "left"])
    out = flowfs.out("info", f"groups/{server.routes.group}/latest")
    assert r"messages    no\x1b[2J space" in out
    assert "\x1b" not in out
    # Named by a path it is a listing and a handle, and nothing more.
    asked = [it.path for it in server.requests("GET") if it.path.strip("/")]
    assert len(asked) == 2, asked


# -- open ------------------------------------------------------------------------


def test_a_result_is_opened_by_the_desktop_under_its_own_name(
    server: StandIn, flowfs: Commanding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = server.routes.add_file(b"<svg/>", "results/chart.svg")
    place = f"groups/{server.routes.group}/runs/{run}/outputs/results/chart.svg"
    (tmp_path / "xdg-open").write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/seen\n')
    (tmp_path / "xdg-open").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (told,) = flowfs.json("open", place)
    assert told["opened"] is True
    file = Path(told["file"])
    assert (file.name, file.read_bytes()) == ("chart.svg", b"<svg/>")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.parent.stat().st_mode) == 0o700


def test_where_there_is_no_viewer_it_says_where_the_file_is(
    server: StandIn, flowfs: Commanding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = server.routes.add_file(b"x")
    place = f"groups/{server.routes.group}/runs/{run}/outputs/results/data.bin"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BROWSER", raising=False)
    said = flowfs("open", place)
    assert (said.code, "no viewer" in said.err) == (1, True)
    assert Path(said.lines[0]).read_bytes() == b"x"
    assert flowfs("open", "--no-viewer", place).code == 0
    assert flowfs("open", place.rpartition("/")[0]).code == 1


def test_a_desktop_that_has_nothing_for_a_file_is_no_viewer_and_says_nothing_itself(
    server: StandIn, flowfs: Commanding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = server.routes.add_file(b"x")
    place = f"groups/{server.routes.group}/runs/{run}/outputs/results/data.bin"
    opener = tmp_path / "xdg-open"
    opener.write_text("#!/bin/sh\necho links: not found >&2\necho no method\nexit 3\n")
    opener.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("BROWSER", raising=False)
    said = flowfs("open", place)
    assert said.code == 1
    assert said.err.splitlines() == [
        "flowfs: there is no viewer here; the file is where it is said"
    ]
    assert Path(said.lines[0]).read_bytes() == b"x"
    (told,) = json.loads(flowfs("open", place, "--json").out)
    assert told["opened"] is False


# -- all of them -------------------------------------------------------------------


def test_every_error_is_one_line_and_an_exit_code(
    server: StandIn, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowfs = Commanding(monkeypatch, address)
    group = f"groups/{server.routes.group}"
    for arguments, code in (
        (("cat", f"{group}/uploads/nothing"), 3),
        (("ls", "--nothing"), 2),
        (("fly",), 2),
        (("help", "fly"), 2),
        (("ls", "--timeout", "-1"), 2),
        (("cat", f"{group}/uploads"), 1),
        (("ls", "--endpoint", "http://127.0.0.1:9", "groups"), 1),
        (("ls", "--token-file", "/nowhere", "groups"), 1),
    ):
        said = flowfs(*arguments)
        assert (said.code, len(said.err.splitlines())) == (code, 1), said
        assert said.err.startswith("flowfs: ")
    server.routes.tokens = {"another"}
    for command in ("ls", "cat", "info", "tree"):
        said = flowfs(command, f"{group}/group.json")
        assert (said.code, len(said.err.splitlines())) == (4, 1), said
        assert "flowfs login" in said.err or "token" in said.err


def test_a_traceback_is_shown_wherever_on_the_line_it_is_asked_for(flowfs: Commanding) -> None:
    for arguments in (("--debug", "cat", "x"), ("cat", "x", "--debug"), ("cat", "--debug", "x")):
        assert "Traceback" in flowfs(*arguments).err
    assert "Traceback" not in flowfs("cat", "x").err


def test_a_token_comes_from_a_file_or_a_command(
    server: StandIn, flowfs: Commanding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLOWSERV_ACCESS_TOKEN")
    server.routes.tokens = {server.routes.token}
    file = tmp_path / "token"
    file.write_text(server.routes.token)
    file.chmod(0o600)
    group = f"groups/{server.routes.group}"
    assert flowfs("ls", group).code == 4
    assert flowfs("ls", group, "--token-file", str(file)).code == 0
    assert flowfs("ls", group, "--token-command", f"cat {file}").code == 0


def test_help_is_there_as_a_command(flowfs: Commanding) -> None:
    assert flowfs.out("help") == flowfs.out("--help")
    assert flowfs.out("help", "ls") == flowfs.out("ls", "--help")


def test_a_full_disk_behind_stdout_is_an_error(address: Address, server: StandIn) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    run, _ = server.routes.add_file(b"x" * 10)
    place = f"groups/{server.routes.group}/runs/{run}/outputs/results/data.bin"
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "flowfs",
                "cat",
                place,
            ],
            # What is left in a buffer would be tried once more at the end of the process.
            env={k: v for k, v in command_environment(address).items() if k != "PYTHONUNBUFFERED"},
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_streams_that_are_closed_are_an_error_and_nothing_is_asked(
    server: StandIn, address: Address, tmp_path: Path
) -> None:
    group = f"groups/{server.routes.group}"
    flowfs = f"{sys.executable} -m flowfs"
    script = f"""
        {flowfs} ls {group} >&-; echo $?
        {flowfs} cp - {group}/uploads/x <&-; echo $?
        {flowfs} start {group} - <&-; echo $?
        {flowfs} wait - <&-; echo $?
        {flowfs} login --token-stdin {address.endpoint} <&-; echo $?
        {flowfs} runs {group} --csv >&-; echo $?
        {flowfs} rm {group}/group.json --yes <&- >&- 2>&-; echo $?
    """
    done = subprocess.run(
        ["bash", "-c", script],
        env=command_environment(address),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stdout.split() == ["1", "3", "3", "3", "3", "1", "1"]
    assert done.stderr.splitlines() == [
        "flowfs: standard output: is closed",
        *["flowfs: standard input: is closed"] * 4,
        "flowfs: standard output: is closed",
    ]
    assert server.routes.uploads == []


def test_json_holds_nothing_but_ascii(server: StandIn, flowfs: Commanding) -> None:
    server.routes.add_upload(b"x", "größe\u202e.csv", server.routes.group)
    said = flowfs("ls", "--json", f"groups/{server.routes.group}/uploads")
    assert said.bytes.isascii()
    assert json.loads(said.bytes)[0]["name"] == "größe\u202e.csv"
