"""``flowfs ls`` and ``flowfs tree``: what is listed, how it looks, what it costs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commanding import Commanding
from hypothesis import given
from hypothesis import strategies as st
from mounting import Address, command_environment
from standin import Reply, StandIn
from terminal import Terminal
from world import World

from flowfs.cli.output import columns, human_size
from flowfs.embedded import EmbeddedService


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
def flowfs(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> Commanding:
    return Commanding(monkeypatch, Address(server.endpoint, server.routes.token))


@pytest.fixture(scope="module")
def world(service: EmbeddedService) -> World:
    made = World(service, "hello")
    made.succeeded()
    return made


def asked(server: StandIn) -> list[str]:
    """The requests that there were, the one for the routes left out."""
    return [f"{one.method} {one.path}" for one in server.requests() if one.path not in ("", "/")]


# -- on the real service ---------------------------------------------------------


def test_a_group_is_listed_by_its_id_its_name_its_path_and_its_url(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowfs = Commanding(monkeypatch, world.service)
    listed = flowfs.out("ls", world.group).splitlines()
    assert listed == [
        "group.json",
        "arguments.template.json",
        "latest",
        "runs",
        "runs.jsonl",
        "states",
        "uploads",
    ]
    for name in (
        world.group_id,
        world.group_name,
        f"groups/{world.group_name}",
        world.url(world.group),
        f"{world.endpoint}/{world.group}",
    ):
        assert flowfs.out("ls", name).splitlines() == listed


def test_a_run_is_listed_by_its_id_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    flowfs = Commanding(monkeypatch, world.service)
    (run,) = world.run_ids()
    assert flowfs.out("ls", f"{run}/outputs/results").splitlines() == ["greetings.txt"]
    assert flowfs.out("ls", run) == flowfs.out("ls", f"{world.group}/runs/{run}")


def test_the_long_form_tells_modes_sizes_times_states_and_where_links_lead(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowfs = Commanding(monkeypatch, world.service)
    (run,) = world.run_ids()
    rows = {
        line.split()[-1]: line.split() for line in flowfs.out("ls", "-l", world.group).splitlines()
    }
    latest = rows[f"runs/{run}"]
    assert latest[0] == "lrwxrwxrwx"
    assert latest[-4:] == ["SUCCESS", "latest", "->", f"runs/{run}"]
    assert rows["runs"][0] == "drwxr-xr-x"
    assert rows["group.json"][0] == "-r--r--r--"
    assert int(rows["arguments.template.json"][1]) > 0
    (file,) = flowfs.out("ls", "-l", f"{run}/outputs/results").splitlines()
    size = len(world.rest.result(world.rest.run(run), "results/greetings.txt"))
    assert re.fullmatch(rf"-r--r--r--  {size}  \d{{4}}-\d\d-\d\d \d\d:\d\d  greetings.txt", file)
    (directory,) = flowfs.out("ls", "-ld", run).splitlines()
    assert directory.split()[0] == "drwxr-xr-x"
    assert "SUCCESS" in directory


def test_everything_below_is_listed_once_and_as_json_with_paths(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowfs = Commanding(monkeypatch, world.service)
    (run,) = world.run_ids()
    found = flowfs.json("ls", "-R", world.group)
    paths = [entry["path"] for entry in found]
    assert len(set(paths)) == len(paths)
    assert f"{world.group}/runs/{run}/handle.json" in paths
    assert not any("/outputs/" in path or "/latest/" in path for path in paths)
    (told,) = (entry for entry in found if entry["path"].endswith(f"/runs/{run}"))
    assert (told["kind"], told["type"], told["state"]) == ("run", "directory", "SUCCESS")
    assert told["size"] is None
    assert told["modified"].endswith("Z")


def test_a_pattern_is_matched_by_the_service(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    flowfs = Commanding(monkeypatch, world.service)
    (run,) = world.run_ids()
    found = flowfs.out("ls", f"{world.group}/runs/*/outputs/results/*.txt")
    assert found == f"{world.group}/runs/{run}/outputs/results/greetings.txt\n"
    said = flowfs("ls", f"{world.group}/uploads/*.nothing")
    assert said.code == 3
    assert "nothing matches" in said.err


def test_a_tree_shows_states_and_enters_outputs_and_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowfs = Commanding(monkeypatch, world.service)
    (run,) = world.run_ids()
    drawn = flowfs.out("tree", "-L", "5", world.group)
    assert f"│   └── {run}  SUCCESS" in drawn
    assert "greetings.txt" in drawn
    assert drawn.count("handle.json") == 1
    assert drawn.splitlines()[0] == world.group
    assert re.search(r"\n\d+ directories, \d+ files\n$", drawn)
    document = flowfs.json("tree", "-L", "1", "-d", world.group)
    names = [child["name"] for child in document["children"]]
    assert names == ["latest", "runs", "states", "uploads"]
    assert "children" not in document["children"][1]


# -- what it costs ---------------------------------------------------------------


def test_the_root_costs_nothing_and_runs_one_request_however_many(
    server: StandIn, flowfs: Commanding
) -> None:
    assert flowfs.out("ls").splitlines() == ["groups", "workflows"]
    assert asked(server) == []
    for _ in range(3):
        server.routes.add_file(b"x" * 100_000)
    group = server.routes.group
    assert len(flowfs.out("ls", "-l", f"{server.endpoint}/groups/{group}/runs").splitlines()) == 4
    # Which has no id as flowServ makes them: it is looked at, with all its runs.
    assert asked(server) == [f"GET /groups/{group}"]


def test_sizes_of_results_are_asked_for_by_the_long_form_alone(
    server: StandIn, flowfs: Commanding
) -> None:
    run, file = server.routes.add_file(b"x" * 100_000)
    place = f"groups/{server.routes.group}/runs/{run}/outputs/results"
    assert flowfs.out("ls", place) == "data.bin\n"
    assert flowfs.out("ls", "-l", "--no-sizes", place).split()[1] == "-"
    assert not [one for one in asked(server) if "downloads" in one]
    assert flowfs.out("ls", "-l", place).split()[1] == "98K"
    assert len([one for one in asked(server) if file in one]) == 1
    assert flowfs.out("ls", "-lB", place).split()[1] == "100000"


def test_a_tree_costs_a_request_for_what_it_enters(server: StandIn, flowfs: Commanding) -> None:
    run, _ = server.routes.add_file(b"x")
    group = server.routes.group
    flowfs.out("tree", f"groups/{group}")
    assert asked(server) == [f"GET /groups/{group}"]
    flowfs.out("tree", "-L", "3", f"groups/{group}")
    assert asked(server)[1:] == [f"GET /groups/{group}", f"GET /runs/{run}"]


def test_sizes_for_people_may_be_asked_for_as_of_ls_and_h_alone_is_help(
    server: StandIn, flowfs: Commanding
) -> None:
    server.routes.add_upload(b"x" * 2000, "a.csv", server.routes.group)
    uploads = f"groups/{server.routes.group}/uploads"
    assert flowfs.out("ls", "-lh", uploads) == flowfs.out("ls", "-l", uploads)
    assert "2.0K" in flowfs.out("ls", "-lh", uploads)
    assert flowfs.out("ls", "-h") == flowfs.out("ls", "--help")


# -- what goes wrong -------------------------------------------------------------


def test_of_several_places_those_that_are_there_are_listed(
    server: StandIn, flowfs: Commanding
) -> None:
    server.routes.add_upload(b"x", "a.csv", server.routes.group)
    uploads = f"groups/{server.routes.group}/uploads"
    said = flowfs("ls", f"{uploads}/nothing", uploads)
    assert (said.code, said.lines) == (3, [f"{uploads}:", "a.csv"])
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("flowfs: flow+http://")
    for command in ("tree", "info"):  # what was asked for tells the form, not what came of it
        said = flowfs(command, "--json", f"{uploads}/nothing", uploads)
        assert [entry["path"] for entry in json.loads(said.out)] == [uploads], command


def test_a_size_that_cannot_be_told_is_said_and_the_rest_is_listed(
    server: StandIn, flowfs: Commanding
) -> None:
    run, file = server.routes.add_file(b"x")
    server.on("GET", f"/runs/{run}/downloads/files/{file}", Reply(500, {"message": "broken"}))
    place = f"groups/{server.routes.group}/runs/{run}/results"
    said = flowfs("ls", "-l", place, "--retries", "0")
    assert (said.code, said.lines[0].split()[1]) == (1, "-")
    assert "broken" in said.err
    assert len(said.err.splitlines()) == 1


def test_names_of_a_service_do_nothing_to_a_terminal(server: StandIn, flowfs: Commanding) -> None:
    nasty = "a\x1b[2J\u202e\x9b1A\nb"
    server.routes.add_upload(b"x", nasty, server.routes.group)
    uploads = f"groups/{server.routes.group}/uploads"
    for options in ((), ("-l",), ("--json",)):
        out = flowfs.out("ls", *options, uploads)
        assert all(line.isprintable() for line in out.splitlines()), out
        assert len(out.splitlines()) == (3 if options == ("--json",) else 1)
    assert all(line.isprintable() for line in flowfs.out("tree", uploads).splitlines())


def test_whoever_stops_reading_ends_it_without_a_word(server: StandIn) -> None:
    for _ in range(2000):
        server.routes.add_run()
    environment = command_environment(Address(server.endpoint, server.routes.token))
    with subprocess.Popen(
        [sys.executable, "-m", "flowfs", "ls", "-l", f"groups/{server.routes.group}/runs"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith(b"new\n")
        process.stdout.close()
        assert process.stderr.read() == b""
        # As the signal would end it, which is what a shell expects.
        assert process.wait(60) == -13


# -- on a terminal ---------------------------------------------------------------


def test_on_a_terminal_names_stand_in_columns_and_states_in_colour(
    server: StandIn, tmp_path: Path
) -> None:
    server.routes.add_run("ERROR")
    for number in range(40):
        server.routes.add_upload(b"x", f"upload-{number:02}.csv", server.routes.group)
    variables = command_environment(Address(server.endpoint, server.routes.token))
    told = [f"{name}={value}" for name, value in variables.items() if "FLOWSERV" in name]
    group = f"groups/{server.routes.group}"
    script = (
        f"{sys.executable} -m flowfs ls {group}/uploads; {sys.executable} -m flowfs ls -l {group}"
    )
    with Terminal(["env", *told, "bash", "-c", script], tmp_path, tmp_path) as terminal:
        assert terminal.ended() == 0
        columns_, _, listed = terminal.screen.partition("\r\n-r--r--r--")
    lines = columns_.split("\r\n")
    assert len(lines) == 7  # 40 names of 13 letters, 6 in a line of 100
    assert lines[0].split()[:2] == ["upload-00.csv", "upload-07.csv"]
    assert "\x1b[31mERROR\x1b[0m" in listed


@given(
    st.lists(st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1), max_size=60),
    st.integers(1, 120),
)
def test_columns_hold_every_name_once_within_the_width(names: list[str], width: int) -> None:
    lines = list(columns([(name, name) for name in names], width))
    assert sorted(" ".join(lines).split()) == sorted(names)
    assert all(len(line) <= width or len(line.split()) == 1 for line in lines)
    by_column = [line.split() for line in lines]
    read = [
        row[at]
        for at in range(max(map(len, by_column), default=0))
        for row in by_column
        if at < len(row)
    ]
    assert read == names


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (None, "-"),
        (0, "0"),
        (1023, "1023"),
        (1024, "1.0K"),
        (1025, "1.1K"),
        (10240, "10K"),
        (10241, "11K"),
        ((1 << 20) - 1, "1.0M"),
        (5 << 30, "5.0G"),
    ],
)
def test_sizes_are_written_as_ls_writes_them(size: int | None, shown: str) -> None:
    assert human_size(size) == shown
