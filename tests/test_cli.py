"""The command line as a whole: its commands, its errors, and how quickly it answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import flowfs
from flowfs.cli import cli
from flowfs.cli.ending import _hint
from flowfs.errors import ConnectionFailed, NotFound, failure

COMMANDS = sorted(cli.list_commands(None))  # type: ignore[arg-type]


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flowfs", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_lists_every_command_with_a_line_about_it() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    _, _, listed = result.stdout.partition("Commands:\n")
    listed, _, end = listed.partition("\n\n")
    assert "Exit codes: 0" in end
    lines = dict(line.split(None, 1) for line in listed.splitlines())
    assert sorted(lines) == COMMANDS
    assert all(line.endswith(".") for line in lines.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command: str) -> None:
    for option in ("--help", "-h"):
        result = CliRunner().invoke(cli, [command, option], prog_name="flowfs")
        assert result.exit_code == 0
        assert result.stdout.startswith(f"Usage: flowfs {command} ")


def test_version() -> None:
    assert run("--version").stdout == f"flowfs, version {flowfs.__version__}\n"


def test_an_unknown_command_is_a_usage_error() -> None:
    done = run("fly")
    assert done.returncode == 2
    assert "No such command 'fly'" in done.stderr


def test_where_nothing_names_a_service_the_error_says_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for part in ("PROTOCOL", "HOST", "PORT", "PATH"):
        monkeypatch.delenv(f"FLOWSERV_API_{part}", raising=False)
    error = failure(ConnectionFailed, "no", "http://localhost:5000/flowserv/api/v1")
    assert "'flowfs login URL'" in _hint(error)
    assert _hint(failure(ConnectionFailed, "no", "http://elsewhere/flowserv/api/v1")) == ""
    assert _hint(failure(NotFound, "no", "http://localhost:5000/flowserv/api/v1")) == ""
    monkeypatch.setenv("FLOWSERV_API_HOST", "localhost")
    assert _hint(error) == ""


def test_an_error_is_one_line_on_stderr_and_an_exit_code() -> None:
    done = run("logout")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "flowfs: nobody is logged in\n"


def test_debug_shows_where_an_error_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" in run("--debug", "logout").stderr
    monkeypatch.setenv("FLOWFS_DEBUG", "1")
    assert "Traceback" in run("logout").stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_the_list_of_commands_says_of_each_what_its_help_says(command: str) -> None:
    listed = CliRunner().invoke(cli, ["--help"]).stdout
    width = max(map(len, COMMANDS))
    found = cli.get_command(None, command)  # type: ignore[arg-type]
    assert found is not None
    assert f"{command:<{width}}  {found.get_short_help_str(100)}\n" in listed
