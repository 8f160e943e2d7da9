"""What the pages show of a mount, typed and printed, is what a mount does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from blocks import Block, commands_of, taken
from mounting import is_mounted, mounted, mountpoint
from sessions import environment, play, unlike
from support import Rest, wait_until

from flowfs.embedded import EmbeddedService, sample

ADDRESS = "https://flow.example.org/flowserv/api/v1"  # of the service on the pages


class World(NamedTuple):
    """A mount, and on it a run that has ended; as the pages call them."""

    service: EmbeddedService
    directory: Path  # in which it is, as `mnt`
    group: str
    run: str

    @property
    def variables(self) -> dict[str, str]:
        return {"G": self.group, "R": self.run}


@pytest.fixture(scope="module")
def world(service: EmbeddedService) -> Iterator[World]:
    group = service.groups["analysis"]
    rest = Rest(service)
    for name in ("days.csv", "stations.csv"):
        file = rest.request(
            "POST",
            f"uploads/{group}/files",
            files={"file": (name, sample("analysis").read_bytes())},
        ).json()["id"]
    run = rest.start(group, {"data": {"fileId": file, "targetPath": None}, "threshold": 22.5})
    assert rest.ended(run)["state"] == "SUCCESS"
    rest.close()
    with mounted(service, ttl=0.1) as directory:
        yield World(service, directory.parent, group, run)


pytestmark = [pytest.mark.mount, pytest.mark.service]


def test_the_readmes_first_lines_start_list_read_and_delete(world: World) -> None:
    here = {**world.variables, "PATH": environment(None)["PATH"]}
    *_, deleted = play(
        taken("README.md", "console", "flowfs"),
        world.service,
        world.directory,
        variables=here,
        before="cd mnt",
        # Who types waits for the run, and deletes that one.
        meanwhile="while [ -e groups/$G/latest/cancel ]; do sleep 0.05; done\n"
        "R=$(basename $(realpath groups/$G/latest))",
    )
    assert deleted == ""


def test_a_mount_begins_and_ends_as_its_page_shows(
    service: EmbeddedService, tmp_path: Path
) -> None:
    with mountpoint(tmp_path) as directory:
        directory.rmdir()  # the page makes it
        blocks = taken("docs/mounting.md", "console", "Mounting")
        play(blocks, service, tmp_path, samples={ADDRESS: service.endpoint})
        assert not is_mounted(directory)


def test_mounts_are_listed_as_their_page_shows(service: EmbeddedService, tmp_path: Path) -> None:
    blocks = taken("docs/mounting.md", "console", "Which there are")

    def is_as_shown() -> bool:
        try:
            play(
                blocks,
                service,
                tmp_path,
                samples={ADDRESS: service.endpoint, "/home/ada": str(tmp_path)},
                variables={"XDG_RUNTIME_DIR": str(tmp_path)},
                before="mountpoint -q mnt || flowfs mount mnt",
                among_others=True,
            )
        except AssertionError as error:
            if "not answering" in str(error):  # within two seconds, on a machine that is busy
                return False
            raise
        return True

    with mountpoint(tmp_path):
        wait_until(is_as_shown, 60, "an answer of the mount")


def test_a_runs_attributes_are_as_their_page_shows(world: World) -> None:
    play(
        taken("docs/tree.md", "console", "On a mount"),
        world.service,
        world.directory,
        samples={ADDRESS: world.service.endpoint, "G": world.group, "R": world.run},
        variables=world.variables,
        before="cd mnt",
    )


def test_the_table_of_runs_is_read_by_other_programs_as_its_page_shows(world: World) -> None:
    pytest.importorskip("duckdb_cli")
    ids, averages = play(
        taken("docs/runs.md", "console", "The table"),
        world.service,
        world.directory,
        variables=world.variables,
    )
    assert world.run in ids.split()
    assert "22.5" in averages


def test_what_a_mount_costs_is_shown_as_its_page_says(world: World) -> None:
    took, requests = play(
        taken("docs/performance.md", "console", "Of a mount of your own"),
        world.service,
        world.directory,
        variables=world.variables,
        before="F=$(ls mnt/groups/$G/runs/$R/results | head -n 1)",
    )
    assert "real" in took
    assert sum(kind["count"] for kind in json.loads(requests).values()) > 0


@pytest.mark.tool("zsh", "zsh")
@pytest.mark.tool("fish", "fish")
def test_completion_is_switched_on_as_its_page_says(
    service: EmbeddedService, tmp_path: Path
) -> None:
    (tmp_path / ".config" / "fish" / "completions").mkdir(parents=True)
    # In each shell, behind the line: what is completed with now.
    shells = {
        "bash": ["bash", "-c", "{}\ncomplete -p flowfs"],
        "zsh": ["zsh", "-fc", "autoload -Uz compinit; compinit -D\n{}\nprint $_comps[flowfs]"],
        "fish": ["fish", "-c", "{}; complete -C 'flowfs logo'"],
    }
    (block,) = taken("docs/command.md", "console", "Completion")
    for command, (shell, script) in zip(commands_of(block), shells.items(), strict=True):
        assert f"flowfs completion {shell}" in command.text
        words = [*script[:-1], script[-1].replace("{}", command.text.partition("  #")[0])]
        variables = environment(service, HOME=str(tmp_path))
        variables.pop("XDG_CONFIG_HOME")
        done = subprocess.run(
            words, env=variables, capture_output=True, text=True, timeout=120, cwd=tmp_path
        )
        assert (done.returncode, done.stderr) == (0, ""), done
        assert ("logout" if shell == "fish" else "flowfs") in done.stdout
    complete = tmp_path / ".config" / "fish" / "completions" / "flowfs.fish"
    assert "complete" in complete.read_text()


# -- how sessions are compared -------------------------------------------------


def session(text: str) -> list[Block]:
    return [Block("page.md", 1, ("A page",), "console", text)]


def test_commands_are_what_stands_behind_a_prompt_and_what_goes_on_with_it() -> None:
    (block,) = session("$ one \\\n  more\nout\n> out\n$ cat <<END\n> in\n> END\nin\n$ three\n")
    assert [tuple(command) for command in commands_of(block)] == [
        ("one \\\n  more", ["out", "> out"]),
        ("cat <<END\nin\nEND", ["in"]),
        ("three", []),
    ]
    with pytest.raises(AssertionError, match="begins with no command"):
        commands_of(session("flowfs ls\n")[0])


@pytest.mark.parametrize(
    ("shown", "printed", "wrong"),
    [
        ("a b", "a b", False),
        ("a b", "a  b", True),
        ("a  b", "a     b", False),
        ("a  b", "a b", False),
        ("a  b", "ab", True),
        ("(pid 4711)", "(pid 12)", False),
        ("(pid 4711)", "(pid x)", True),
        ("at 2025-06-02 09:14:03", "at 1999-01-01 00:00:00", False),
        ("at 2025-06-02 09:14:03", "at noon", True),
        ("as ada", "as flow", False),
        ("as ada", "as ada", True),  # a sample is what it stands for, and nothing else
        ("as adam", "as adam", False),
        ("x … z", "x y z", False),
        ("x … z", "x y", True),
        ("a.c (d)", "abc (d)", True),  # nothing else is a pattern
        ("a\nb", "a", True),
        ("a", "a\nb", True),
    ],
)
def test_what_is_printed_is_what_is_shown_or_differs(shown: str, printed: str, wrong: bool) -> None:
    told = unlike(shown.splitlines(), printed.splitlines(), {"ada": "flow"})
    assert (told is not None) == wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$ echo right\nwrong\n", "'wrong' is 'right'"),
        ("$ true\nout\n", "not printed"),
        ("$ echo one; echo two\none\n", "not shown: 'two'"),
        ("$ echo one\n$ false\n$ echo two\n", "ended with 1"),
        ("$ flowfs ls nowhere/at/all\n", "ended with 3"),
    ],
)
def test_a_session_that_is_not_as_shown_is_noticed(
    service: EmbeddedService, tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(AssertionError, match=said):
        play(session(text), service, tmp_path)


def test_a_session_goes_on_in_one_shell_on_a_terminal(
    service: EmbeddedService, tmp_path: Path
) -> None:
    text = "$ A=1; cd /\n$ echo $A ada $HOME\n1 ada /home/ada\n$ test -t 1 && pwd\n/\n"
    samples = {"ada": "flow", "/home/ada": str(tmp_path)}
    first, *_ = play(session(text), service, tmp_path, samples=samples)
    assert first == ""
