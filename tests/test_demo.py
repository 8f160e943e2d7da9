"""The demonstration: what it shows is what happened, and nothing is left of it."""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from mounting import is_running
from rich.console import Console
from support import wait_until

from flowfs.cli import cli
from flowfs.demo import show
from flowfs.demo.prompt import Prompt
from flowfs.demo.screen import Screen
from flowfs.demo.shell import Shell
from flowfs.demo.stage import Stage, is_mounted
from flowfs.errors import FlowError, NotFound, failure

Step = tuple[str, str]
DEMO = [sys.executable, "-m", "flowfs", "demo"]


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the demo keeps its files; at the end none is left, and nothing is mounted."""
    # Short, since a socket's path must be.
    with tempfile.TemporaryDirectory(prefix="fd-") as name:
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setenv("XDG_CACHE_HOME", os.path.join(name, "caches"))
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.setenv("LC_ALL", "C.UTF-8")
        yield Path(name)
        left = os.listdir(name)
        assert name not in Path("/proc/self/mounts").read_text()
        assert left == []


@pytest.fixture
def printed() -> tuple[Screen, Callable[[], str]]:
    """A screen that is no terminal, and what it has shown."""
    file = io.StringIO()
    return Screen(Console(file=file)), file.getvalue


def pids(output: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"pid (\d+)", output)]


def steps(output: str) -> list[Step]:
    """The commands that were shown, each with what was printed below it."""
    found: list[tuple[str, list[str]]] = []
    for line in output.splitlines():
        if line.startswith(("$ ", ">>> ")):
            found.append((line.partition(" ")[2], []))
        elif line.startswith("... ") and found and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line[4:]}", [])
        elif re.match(r"\d+\. ", line):
            found.append(("", []))
        elif found:
            found[-1][1].append(line)
    return [(command, "\n".join(lines).strip("\n")) for command, lines in found if command]


def output_of(shown: list[Step], beginning: str) -> str:
    """The output of the first command that begins so."""
    return next(output for command, output in shown if command.startswith(beginning))


def states(text: str) -> list[str]:
    return re.findall(r"^ +[\d.]+ s  ([A-Z]+)$", text, re.M)


def assert_ended(processes: list[int]) -> None:
    wait_until(lambda: not any(map(is_running, processes)), 30, "end of service and mount")


def same_table(csv: str, printed_table: str) -> bool:
    pandas = pytest.importorskip("pandas")
    return str(pandas.read_csv(io.StringIO(csv))) == printed_table


# -- the whole of it -------------------------------------------------------


@pytest.mark.mount
@pytest.mark.service
def test_on_a_mount_every_step_shows_its_true_output(temporary: Path) -> None:
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    shown = steps(done.stdout)
    assert output_of(shown, "ls") == "groups\nworkflows"
    assert " -> ../../../groups/" in output_of(shown, "ls -l workflows")
    assert "stations.csv" in output_of(shown, "ls -l $G/uploads")
    assert " 10835 " in output_of(shown, "ls -l $G/uploads")
    assert output_of(shown, """echo '{"data": "stations.csv\"""") == ""
    run = output_of(shown, "R=")
    assert re.fullmatch(r"groups/\w+/runs/\w+", run)
    assert states(output_of(shown, "while [ -e"))[-1] == "SUCCESS"
    listing = output_of(shown, "ls -RF $R")
    assert f"{run}/outputs/results:\nplot.svg\nsummary.csv\nsummary.json" in listing
    assert output_of(shown, "ls $G/states/SUCCESS") == run.rpartition("/")[2]
    csv = output_of(shown, "cat $R/outputs/results/summary.csv")
    assert csv.startswith("station,measurements,mean,minimum,maximum,days_above\nHarbour,120,")
    archived = output_of(shown, "tar tzf $R/archive.tar.gz").splitlines()
    assert sorted(archived) == [
        "results/plot.svg",
        "results/summary.csv",
        "results/summary.json",
    ]
    assert same_table(csv, output_of(shown, "print(pandas.read_csv"))
    refused = output_of(shown, """echo '{"data": "nowhere.csv\"""")
    assert refused == "bash: line 1: echo: write error: Invalid argument"
    assert "unknown file 'nowhere.csv'" in output_of(shown, "cat $G/runs/new.error")
    assert "no int 'wide'" in output_of(shown, "cat $G/runs/new.error")
    assert "cancel" in output_of(shown, "C=").splitlines()
    assert '"ten minutes are too long"' in output_of(shown, "ls $H/states/CANCELED")
    assert output_of(shown, "rm -r $R") == ""
    assert output_of(shown, "ls $G/runs") == "new\nnew.error"
    assert done.stdout.endswith(
        "\n$ flowfs umount mnt\n\nThe service is stopped; nothing is left of it.\n"
    )
    assert len(pids(done.stdout)) == 2
    assert_ended(pids(done.stdout))


@pytest.mark.service
def test_without_a_mount_the_same_is_shown_through_fsspec(temporary: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--no-mount"], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    shown = steps(done.stdout)
    assert output_of(shown, "fs.ls('', detail=False)") == "['groups', 'workflows']"
    assert output_of(shown, "for entry in fs.ls(f'{G}/uploads')").startswith("10835 groups/")
    run = dict(shown)["R"].strip("'")
    assert re.fullmatch(r"groups/\w+/runs/\w+", run)
    assert states(output_of(shown, "while fs.exists"))[-1] == "SUCCESS"
    csv = output_of(shown, "print(fs.cat(f'{R}/outputs")
    assert csv.startswith("station,measurements,mean,minimum,maximum,days_above\nHarbour,120,")
    assert same_table(csv, output_of(shown, "print(pandas.read_csv"))
    assert "results/plot.svg" in output_of(shown, "with fs.open(f'{R}/archive.tar.gz')")
    assert "unknown file 'nowhere.csv'" in output_of(shown, "try:")
    assert "no int 'wide'" in output_of(shown, "print(fs.cat(f'{G}/runs/new.error')")
    assert output_of(shown, "fs.info(C)") == "('CANCELED', ['ten minutes are too long'])"
    assert run not in output_of(shown, "fs.ls(f'{G}/runs'")
    assert_ended(pids(done.stdout))


@pytest.mark.service
def test_where_nothing_can_be_mounted_it_says_so_and_goes_on_through_fsspec(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "why_no_mount", lambda: "there is no FUSE")
    monkeypatch.setattr(show, "find_spec", lambda name: None)
    result = CliRunner().invoke(cli, ["demo"])
    assert result.exit_code == 0, result.output
    assert "Nothing can be mounted here: there is no FUSE." in result.stdout
    assert "pandas is not installed" in result.stdout
    csv = output_of(steps(result.stdout), "with fsspec.open(url")
    assert csv == output_of(steps(result.stdout), "print(fs.cat(f'{R}/outputs")
    assert "FLOWSERV_ACCESS_TOKEN" not in os.environ


@pytest.mark.service
def test_on_a_terminal_it_is_lively_and_shows_the_same(temporary: Path) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*DEMO, "--no-mount"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "60"},
        start_new_session=True,
    )
    os.close(follower)
    pieces = []
    try:
        while piece := os.read(leader, 65536):
            pieces.append(piece)
    except OSError:  # nobody has the other end any more
        pass
    finally:
        os.close(leader)
    assert process.wait(60) == 0
    text = b"".join(pieces).decode()
    assert "\x1b[1;36m>>> " in text
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text).replace("\r", "")
    assert "print(pandas.read_csv(url, storage_options=options))" in plain
    assert "('CANCELED', ['ten minutes are too long'])" in plain


# -- its end ---------------------------------------------------------------


@pytest.mark.service
@pytest.mark.parametrize(
    ("options", "number"),
    [
        pytest.param([], signal.SIGINT, marks=pytest.mark.mount),
        pytest.param([], signal.SIGTERM, marks=pytest.mark.mount),
        pytest.param(["--keep"], signal.SIGINT, marks=pytest.mark.mount),
        (["--no-mount"], signal.SIGINT),
    ],
)
def test_stopped_halfway_it_clears_everything_away(
    temporary: Path, options: list[str], number: int
) -> None:
    process = subprocess.Popen(
        [*DEMO, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("2. "):
            # To all of the terminal's programs, as Ctrl-C does.
            os.killpg(process.pid, number)
            break
    lines += process.stdout.readlines()
    assert process.wait(60) != 0
    output = "".join(lines)
    assert "Traceback" not in output
    started = pids(output)
    assert started
    assert_ended(started)


@pytest.mark.service
def test_a_step_that_fails_ends_it_with_what_failed(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(screen: Screen, stage: Stage, prompt: Prompt, *, has_pandas: bool) -> None:
        prompt.run("1 / 0")

    monkeypatch.setattr(show, "show_unmounted", fails)
    result = CliRunner().invoke(cli, ["demo", "--no-mount"])
    assert result.exit_code != 0
    assert isinstance(result.exception, FlowError)
    assert "'1 / 0' raised ZeroDivisionError" in str(result.exception)
    assert ">>> 1 / 0" in result.stdout
    assert_ended(pids(result.stdout))


@pytest.mark.service
def test_a_mount_that_fails_is_told_with_its_own_words(
    temporary: Path, printed: tuple[Screen, Callable[[], str]]
) -> None:
    with Stage(keep=False) as stage:
        stage.mountpoint.mkdir()
        (stage.mountpoint / "in the way").touch()
        shell = Shell(printed[0], stage.directory, stage.environment, stage.directory)
        with pytest.raises(FlowError, match="ended with 1"), stage.mounting():
            shell.run(f"flowfs mount {stage.service.endpoint} mnt")
        assert "mnt: the directory is not empty" in printed[1]()


@pytest.mark.mount
@pytest.mark.service
def test_kept_it_goes_on_until_it_is_ended_as_it_says(temporary: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--keep"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    _, _, told = done.stdout.partition("Left running:\n")
    use, _, end = told.partition("To end them:\n")
    kept = sorted(set(pids(told)))
    try:
        assert len(kept) == 2
        assert all(map(is_running, kept))
        assert re.findall("token|TOKEN", told) == []
        commands = [line for line in use.splitlines() if re.match("  (source|cd) ", line)]
        commands.append("ls groups && flowfs whoami && ls ..")
        path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path}
        looked = subprocess.run(
            ["bash", "-ec", "\n".join(commands)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert looked.returncode == 0, looked.stderr
        assert "flow at http://127.0.0.1:" in looked.stdout
        ended = subprocess.run(
            ["bash", "-ec", end],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        wait_until(lambda: not any(map(is_running, kept)), 30, "end of service and mount")
    finally:
        for directory in temporary.glob("flowfs-demo-*/mnt"):
            if is_mounted(directory):
                subprocess.run(["umount", "-l", str(directory)], check=False)
        for pid in filter(is_running, kept):
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not any(map(is_running, kept)), 30, "end of service and mount")
        for directory in temporary.glob("flowfs-demo-*"):
            shutil.rmtree(directory, ignore_errors=True)


# -- shell and prompt ------------------------------------------------------


@pytest.fixture
def shell(printed: tuple[Screen, Callable[[], str]], tmp_path: Path) -> Shell:
    (tmp_path / "keep").mkdir()
    return Shell(printed[0], tmp_path, dict(os.environ), tmp_path / "keep")


def test_what_the_shell_shows_is_what_was_run_and_said(
    shell: Shell, printed: tuple[Screen, Callable[[], str]]
) -> None:
    shell.run("echo out; echo err >&2; printf '[bold]x[/bold] no newline'")
    assert printed[1]() == (
        "$ echo out; echo err >&2; printf '[bold]x[/bold] no newline'\n"
        "out\nerr\n[bold]x[/bold] no newline\n"
    )


def test_variables_and_directory_last_from_one_command_to_the_next(
    shell: Shell, tmp_path: Path
) -> None:
    shell.run("X='two  words'; mkdir -p 'a b'; cd 'a b'")
    assert shell.run('printf "%s|" "$X"; pwd') == f"two  words|{tmp_path}/a b\n"
    assert shell.value("X") == "two  words"
    with pytest.raises(FlowError, match="have not set Y"):
        shell.value("Y")


def test_a_command_that_ends_otherwise_than_it_should_is_an_error(shell: Shell) -> None:
    with pytest.raises(FlowError, match="'exit 3' ended with 3"):
        shell.run("exit 3")
    assert shell.run("no-such-program-here", fails=True).endswith("command not found\n")
    with pytest.raises(FlowError, match="'true' ended well, and should not have"):
        shell.run("true", fails=True)


def test_the_prompt_shows_values_as_the_interpreter_does(
    printed: tuple[Screen, Callable[[], str]],
) -> None:
    prompt = Prompt(printed[0])
    prompt.run("x = 'a'\nx\nNone\nfor i in range(2):\n    print(i)")
    assert printed[1]() == (
        ">>> x = 'a'\n>>> x\n'a'\n>>> None\n>>> for i in range(2):\n...     print(i)\n... \n0\n1\n"
    )
    assert prompt.value("x") == "a"


def test_what_a_watched_state_raises_is_raised(
    printed: tuple[Screen, Callable[[], str]],
) -> None:
    asked = iter(["PENDING", "PENDING", "RUNNING"])

    def ask() -> str:
        try:
            return next(asked)
        except StopIteration:
            raise failure(NotFound, "gone") from None

    with pytest.raises(NotFound), printed[0].watching(ask):
        wait_until(lambda: "RUNNING" in printed[1](), 10, "the state shown")
    assert states(printed[1]()) == ["PENDING", "RUNNING"]
