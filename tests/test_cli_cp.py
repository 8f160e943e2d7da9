"""``flowfs cp`` and ``flowfs cat``: whole files or none, in both directions, by the rules of cp."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commanding import Commanding
from mounting import Address, command_environment
from standin import Reply, StandIn
from support import wait_until
from terminal import Terminal
from world import World

from flowfs.embedded import EmbeddedService

BINARY = bytes(range(256)) * 300


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
def flowfs(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> Commanding:
    return Commanding(monkeypatch, Address(server.endpoint, server.routes.token))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, empty."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def uploads(server: StandIn) -> str:
    return f"groups/{server.routes.group}/uploads"


def result(server: StandIn, data: bytes = BINARY, name: str = "results/data.bin") -> str:
    """Make a run with one result, and return the path of that under its name."""
    run, _ = server.routes.add_file(data, name)
    return f"groups/{server.routes.group}/runs/{run}/outputs/{name}"


# -- on the real service ---------------------------------------------------------


def test_an_upload_a_run_and_its_results_go_through_cp_alone(
    service: EmbeddedService, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(service, "hello")
    flowfs = Commanding(monkeypatch, service)
    (here / "people.txt").write_text("Ada\nGrace\n")
    (here / "args.json").write_text('{"names": "people.txt"}')
    assert flowfs.out("cp", "people.txt", f"{world.group}/uploads/") == ""
    assert world.upload_names() == ["names.txt", "people.txt"]
    started = flowfs.out("cp", "args.json", f"groups/{world.group_name}/runs/new")
    match = re.fullmatch(rf"\w+ ({world.group}/runs/(\w+))\n", started)
    assert match, started
    handle = world.ended(match[2])
    assert flowfs.out("cp", "-r", match[1], ".") == ""
    expected = world.rest.result(handle, "results/greetings.txt")
    file = handle["files"][0]["id"]
    assert (here / match[2] / "results" / file).read_bytes() == expected
    assert not (here / match[2] / "outputs").exists()  # the same once more
    flowfs.out("cp", "-rp", f"{match[1]}/outputs", "out")
    assert (here / "out/results/greetings.txt").read_bytes() == expected
    (entry,) = flowfs.json("ls", f"{match[1]}/results")
    assert entry["modified"] is not None
    assert abs((here / "out/results/greetings.txt").stat().st_mtime - handle_end(handle)) < 0.001
    assert flowfs("cat", f"{match[1]}/outputs/results/greetings.txt").bytes == expected
    # Once more, by what it was started with.
    (again,) = flowfs.json("cp", f"{match[1]}/arguments.json", f"{world.group}/runs/new")
    assert world.ended(again["id"])["state"] == "SUCCESS"
    assert again["run"] == f"{world.group}/runs/{again['id']}"


def handle_end(handle: dict[str, str]) -> float:
    """When a run ended."""
    from flowfs.catalog.records import timestamp

    end = timestamp(handle["finishedAt"])
    assert end is not None
    return end


def test_arguments_that_are_refused_start_nothing_and_say_why(
    service: EmbeddedService, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(service, "hello")
    flowfs = Commanding(monkeypatch, service)
    (here / "args.json").write_text('{"names": "nobody.txt"}')
    said = flowfs("cp", "args.json", world.new)
    assert (said.code, said.out) == (1, "")
    assert "unknown file 'nobody.txt'" in said.err
    assert world.run_ids() == []


# -- from the service --------------------------------------------------------------


def test_bytes_are_as_they_are_wherever_they_go(
    server: StandIn, flowfs: Commanding, here: Path
) -> None:
    place = result(server)
    assert flowfs("cat", place, place).bytes == BINARY * 2
    assert flowfs("cp", place, "-").bytes == BINARY
    flowfs.out("cp", place, ".")
    flowfs.out("cp", place, "other")
    flowfs.out("cp", place, str(here / "other"))  # once more: in place of it
    assert (here / "data.bin").read_bytes() == (here / "other").read_bytes() == BINARY


def test_of_a_file_that_breaks_off_nothing_is_left(
    server: StandIn, flowfs: Commanding, here: Path
) -> None:
    place, good = result(server), result(server, name="results/good.bin")
    run = place.split("/")[3]
    broken = Reply(body=BINARY, cut=1000)
    server.on("GET", f"/runs/{run}/downloads/files/.*", *[broken] * 20)
    (here / "data.bin").write_text("before")
    said = flowfs("cp", place, good, ".", "--retries", "1")
    assert said.code == 1
    assert len(said.err.splitlines()) == 1
    assert sorted(os.listdir(here)) == ["data.bin", "good.bin"]
    assert (here / "data.bin").read_text() == "before"
    assert (here / "good.bin").read_bytes() == BINARY
    said = flowfs("cat", place, good, "--retries", "1")
    assert said.code == 1
    assert said.bytes.endswith(BINARY)


def test_a_disk_that_is_full_is_told_with_the_file(server: StandIn, flowfs: Commanding) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    said = flowfs("cp", result(server), "/dev/full")
    assert (said.code, said.err) == (1, "flowfs: /dev/full: No space left on device\n")


def test_who_could_not_read_what_was_there_cannot_read_what_comes(
    server: StandIn, flowfs: Commanding, here: Path
) -> None:
    (here / "data.bin").write_text("before")
    (here / "data.bin").chmod(0o600)
    (here / "link").symlink_to("data.bin")
    flowfs.out("cp", result(server), "link")
    assert (here / "data.bin").read_bytes() == BINARY
    assert stat.S_IMODE((here / "data.bin").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("{place}", "{place}", "nowhere"), 3, "no such directory"),
        (("{place}", "nowhere/"), 3, "no such directory"),
        (("{place}", "file/"), 1, "is no directory"),
        (("{run}", "."), 1, "-r copies it"),
        (("-r", "{run}", "file"), 1, "a directory does not go there"),
        (("{place}", "{other}", "."), 1, "two would be copied there"),
        (("{place}", "in"), 1, "a file does not go there"),
        (("nowhere", "."), 3, "no such file here"),
        (("file", "in"), 2, "neither is on a service: a place there begins with groups/"),
        (("{place}",), 2, "a source and a target"),
        (("{run}/outputs/nothing", "."), 3, "no output"),
        (("{place}", "-", "-"), 2, "on no service"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(
    server: StandIn,
    flowfs: Commanding,
    here: Path,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    place, other = result(server), result(server)
    (here / "file").write_text("here")
    (here / "in" / "data.bin").mkdir(parents=True)
    run = place.partition("/outputs")[0]
    said = flowfs("cp", *(one.format(place=place, other=other, run=run) for one in arguments))
    assert (said.code, len(said.err.splitlines())) == (code, 1), said
    assert words in said.err
    assert sorted(os.listdir(here)) == ["file", "in"]
    assert (here / "file").read_text() == "here"


def test_what_is_there_is_left_alone_where_that_is_asked_for(
    server: StandIn, flowfs: Commanding, here: Path, uploads: str
) -> None:
    place = result(server)
    (here / "data.bin").write_text("before")
    flowfs.out("cp", "-n", place, ".")
    assert (here / "data.bin").read_text() == "before"
    flowfs.out("cp", "data.bin", f"{uploads}/")
    (here / "data.bin").write_text("after")
    assert flowfs.out("cp", "-nv", "data.bin", f"{uploads}/") == ""
    assert flowfs("cat", f"{uploads}/data.bin").bytes == b"before"


def test_names_of_a_service_stay_within_the_directory(
    server: StandIn, flowfs: Commanding, here: Path
) -> None:
    place = result(server, b"x", "../../../etc/evil")
    flowfs.out("cp", "-r", place.partition("/outputs")[0] + "/outputs", "out")
    found = [str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()]
    assert found == ["out/%2E%2E/%2E%2E/%2E%2E/etc/evil"]


def test_each_file_is_one_request(server: StandIn, flowfs: Commanding, here: Path) -> None:
    places = [result(server, b"x" * 100_000, f"results/{n}.bin") for n in range(5)]
    flowfs.out("cp", *places, ".")
    asked = [f"{it.method} {it.path}" for it in server.requests(pattern=".*/downloads/.*")]
    assert len(asked) == 5
    assert server.count("GET", "/runs/[^/]*") == 5


# -- to the service ----------------------------------------------------------------


def test_stdin_is_uploaded_under_the_name_given_and_starts_runs(
    server: StandIn, flowfs: Commanding, uploads: str
) -> None:
    flowfs.out("cp", "-", f"{uploads}/people.txt", stdin=BINARY)
    assert flowfs("cat", f"{uploads}/people.txt").bytes == BINARY
    flowfs.out("cp", "-", f"{uploads}/people.txt", stdin=b"Ada\n")
    said = flowfs("cp", "-", uploads, stdin=b"x")
    assert (said.code, "stdin has no name" in said.err) == (2, True)
    new = uploads.replace("uploads", "runs/new")
    started = flowfs.json("cp", "-", new, stdin=b'{"names": "people.txt"}')
    assert [one["run"].rpartition("/")[2] for one in started] == list(server.routes.runs)


def test_directories_do_not_go_into_uploads_and_nothing_goes_elsewhere(
    server: StandIn, flowfs: Commanding, here: Path, uploads: str
) -> None:
    (here / "dir").mkdir()
    (here / "file").write_text("x")
    said = flowfs("cp", "-r", "dir", "file", uploads)
    assert (said.code, "holds files only" in said.err) == (1, True)
    assert [one["name"] for one in server.routes.uploads] == ["file"]
    for target in (uploads.replace("uploads", "runs"), "groups", f"{uploads}/a/b", "workflows/"):
        said = flowfs("cp", "file", target)
        assert said.code in (1, 3), said
        assert len(said.err.splitlines()) == 1
    assert server.count("POST") == 1


def test_no_run_is_started_after_one_that_is_refused(
    server: StandIn, flowfs: Commanding, here: Path, uploads: str
) -> None:
    server.routes.add_upload(b"Ada\n", "n.txt", server.routes.group)
    (here / "good").write_text('{"names": "n.txt"}')
    (here / "bad").write_text('{"names": "nothing"}')
    said = flowfs("cp", "good", "bad", "good", uploads.replace("uploads", "runs/new"))
    assert (said.code, len(said.lines), len(server.routes.runs)) == (1, 1, 1)


def test_files_go_from_group_to_group(server: StandIn, flowfs: Commanding, uploads: str) -> None:
    place, other = result(server), server.routes.add_group()
    flowfs.out("cp", place, f"groups/{other}/uploads")
    assert flowfs("cat", f"groups/{other}/uploads/data.bin").bytes == BINARY


def test_a_name_that_the_service_changes_is_said(
    service: EmbeddedService, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(service, "hello")
    (here / "my data.csv").write_text("x")
    done = subprocess.run(
        [sys.executable, "-m", "flowfs", "cp", "my data.csv", f"{world.group}/uploads"],
        env=command_environment(service),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith("flowfs: the service stored 'my data.csv' as 'my_data.csv'")


# -- interrupted, and looked at ----------------------------------------------------


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        ("cp", signal.SIGINT, -signal.SIGINT),
        ("cat", signal.SIGINT, -signal.SIGINT),
        ("cp", signal.SIGTERM, 128 + signal.SIGTERM),
    ],
)
def test_ctrl_c_and_kill_end_it_at_once_and_leave_nothing(
    server: StandIn, here: Path, command: str, number: int, code: int
) -> None:
    place = result(server, b"x" * 500_000)
    server.on("GET", "/runs/.*/downloads/files/.*", Reply(body=b"x" * 500_000, hang="body"))
    target = ["."] if command == "cp" else []
    with subprocess.Popen(
        [sys.executable, "-m", "flowfs", command, place, *target],
        env=command_environment(Address(server.endpoint, server.routes.token)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # A shell's background jobs hear nothing of it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        wait_until(lambda: server.count("GET", ".*/downloads/.*"), 60, "the request")
        process.send_signal(number)
        assert process.stderr is not None
        assert process.stderr.read().strip() == b""
        assert process.wait(60) == code
    assert os.listdir(here) == []


def test_on_a_terminal_it_is_shown_how_far_it_has_come(server: StandIn, here: Path) -> None:
    first, late = result(server, name="results/first"), result(server, name="results/late")
    run = late.split("/")[3]
    # Longer than what shows nothing, since it is over at once.
    server.on("GET", f"/runs/{run}/downloads/files/.*", Reply(body=BINARY, delay=1.0))
    variables = command_environment(Address(server.endpoint, server.routes.token))
    told = [f"{name}={value}" for name, value in variables.items() if "FLOWSERV" in name]
    command = ["env", *told, sys.executable, "-m", "flowfs", "cp", first, late, "."]
    with Terminal(command, here, here.parent) as terminal:
        terminal.await_text("2 files")
        assert terminal.ended() == 0
    assert sorted(os.listdir(here)) == ["first", "late"]
