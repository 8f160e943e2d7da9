"""Completion, in the shells themselves: what is there is completed, and nothing of it is run."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mounting import Address, command_environment
from standin import Reply, StandIn
from terminal import Terminal

from flowfs.cli.completion import Typed

# What a shell would run, if it were not one word to it.
NASTY = "a $(touch run) `touch run`;'\"&|<>*[x]\\ü.csv"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


@pytest.fixture
def variables(server: StandIn, tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that finds the service, and ``flowfs``."""
    told = command_environment(Address(server.endpoint, server.routes.token))
    told = {name: value for name, value in told.items() if name.startswith("FLOWSERV_")}
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "flowfs"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m flowfs "$@"\n')
    script.chmod(0o755)
    return told | {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "FLOWFS_COMPLETION_TIMEOUT": "100",  # however slow the machine is
    }


def completed(variables: dict[str, str], line: str, **more: str) -> list[str]:
    """What bash is told of a line."""
    done = subprocess.run(
        ["flowfs"],
        env={
            **os.environ,
            **variables,
            "_FLOWFS_COMPLETE": "bash_complete",
            "COMP_LINE": line,
            "COMP_WORDBREAKS": " \t\n\"'><=;|&(:",
            **more,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        executable=f"{variables['HOME']}/bin/flowfs",
    )
    assert done.stderr == ""
    return [line for line in done.stdout.split("\n") if line]


# -- what is told ----------------------------------------------------------------


def test_commands_options_groups_runs_and_outputs_are_completed(
    server: StandIn, variables: dict[str, str]
) -> None:
    run, _ = server.routes.add_file(b"x", "results/summary.csv")
    group = server.routes.group
    called = {"groups": [{"id": group, "name": "my group"}]}
    server.on("GET", "/workflows/[^/]*/groups", *[Reply(body=called)] * 20)
    assert completed(variables, "flowfs l") == ["word\tlogin", "word\tlogout", "word\tls"]
    assert completed(variables, "flowfs ls --rec") == ["word\t--recursive"]
    assert completed(variables, "flowfs ls m") == ["open\tmy\\ group/"]
    assert completed(variables, "flowfs ls 'my") == ["open\tmy group/"]
    assert completed(variables, "flowfs ls groups/") == ["open\tgroups/my\\ group/"]
    assert completed(variables, f"flowfs ls groups/{group[:3]}") == [f"open\tgroups/{group}/"]
    place = f"groups/{group}/runs/{run}/outputs/results"
    assert completed(variables, f"flowfs -h ls -l {place}/") == [f"word\t{place}/summary.csv"]
    assert completed(variables, f"flowfs cp {place}/s") == [f"word\t{place}/summary.csv"]
    assert completed(variables, "flowfs cp x") == ["file"]
    assert completed(variables, "flowfs completion z") == ["word\tzsh"]


def test_what_is_known_is_kept_for_its_owner_alone(
    server: StandIn, variables: dict[str, str], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    completed(variables, "flowfs ls groups/", XDG_CACHE_HOME=str(cache))
    (file,) = (cache / "flowfs" / "completion").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert server.routes.token not in file.read_text()
    assert server.routes.token not in file.name
    # And for a moment, as which this counts however long it takes.
    os.utime(file, (time.time() + 1000,) * 2)
    before = len(server.requests())
    told = completed(variables, "flowfs ls groups/", XDG_CACHE_HOME=str(cache))
    assert told == ["open\tgroups/hello/"]
    assert len(server.requests()) == before
    # Another user's is another.
    other = {"XDG_CACHE_HOME": str(cache), "FLOWSERV_ACCESS_TOKEN": "another"}
    completed(variables | other, "flowfs ls groups/")
    assert len(server.requests()) > before


@pytest.mark.parametrize(
    "fault", [Reply(500), Reply(body=b"nonsense"), Reply(reset=True), Reply(hang="before")]
)
def test_of_a_service_that_does_not_answer_nothing_is_said(
    server: StandIn, variables: dict[str, str], fault: Reply
) -> None:
    for method in ("GET", "HEAD"):
        server.on(method, ".*", *[fault] * 50)
    variables = {**variables, "FLOWFS_COMPLETION_TIMEOUT": "1"}
    assert completed(variables, "flowfs ls groups/x/") == []


@given(st.lists(st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]))))
def test_a_line_is_read_as_a_shell_reads_it(words: list[str]) -> None:
    import shlex

    typed = Typed.read(shlex.join(["flowfs", *words]))
    assert typed.words == ["flowfs", *words]
    assert typed.quote == ""


@given(st.text())
def test_whatever_is_typed_is_read_to_its_end(line: str) -> None:
    typed = Typed.read(line)
    assert typed.words
    assert line.endswith(typed.raw)
    assert typed.quote in ("", "'", '"')


# -- in the shells ---------------------------------------------------------------

SHELLS = {
    "bash": (
        ["bash", "--noprofile", "--norc", "-i"],
        "PS1='ready> '; bind 'set enable-bracketed-paste off'; eval \"$(flowfs completion bash)\"",
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        "PS1='ready> '; autoload -Uz compinit; compinit -u -D; eval \"$(flowfs completion zsh)\"",
    ),
    "fish": (
        [
            "script",
            "-qec",
            "fish --no-config -i",
            "/dev/null",
        ],  # which needs the terminal as its own
        "function fish_prompt; echo 'ready> '; end; flowfs completion fish | source",
    ),
}


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param(name, marks=pytest.mark.tool(name, name, command[0]))
        for name, (command, _) in SHELLS.items()
    ],
)
def test_a_shell_completes_names_and_runs_none_of_them(
    server: StandIn, variables: dict[str, str], tmp_path: Path, shell: str
) -> None:
    command, setup = SHELLS[shell]
    group = server.routes.group
    server.routes.add_upload(b"the bytes", NASTY, group)
    (tmp_path / "cwd").mkdir()
    told = [f"{name}={value}" for name, value in variables.items()]
    with Terminal(["env", *told, *command], tmp_path / "cwd", tmp_path) as terminal:
        terminal.type(f"{setup}; echo set''tled\n")
        terminal.await_text("settled\r\n")
        # One after the other, each in its own time.
        terminal.type(f"flowfs cat groups/{group}/upl\t")
        terminal.await_text("oads/")
        terminal.type("a\t")
        terminal.await_text(".csv")
        terminal.type("\n")
        terminal.await_text("the bytes")
        terminal.type("exit\n")
        terminal.ended()
    assert os.listdir(tmp_path / "cwd") == []
