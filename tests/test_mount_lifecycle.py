"""The life of a mount: how it begins, how it ends though something hangs, and how it is found."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from mounting import (
    BINDINGS,
    Address,
    command_environment,
    flowfs,
    is_mounted,
    is_running,
    mounted_in_background,
    mountpoint,
    serve_mount,
)
from standin import Reply, StandIn
from support import wait_until

from flowfs.cli.mounts import lines
from flowfs.embedded import EmbeddedService

pytestmark = pytest.mark.mount

SOON = 60  # seconds; what takes one or two, on a machine that is busy otherwise
DATA = b"0123456789abcdef" * 16384  # bytes of a result, too many for a small file


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    with mountpoint(tmp_path) as place:
        yield place


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where these mounts are written down."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "flowfs"


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def address(standin: StandIn) -> Address:
    return Address(standin.endpoint, standin.routes.token)


@pytest.fixture(params=BINDINGS, ids="-".join)
def binding(request: pytest.FixtureRequest) -> tuple[str, str]:
    pytest.importorskip("fuse" if request.param[0] == "fusepy" else "mfusepy")
    return request.param  # type: ignore[no-any-return]


def refusal(*arguments: str | Path, environment: dict[str, str]) -> str:
    """Run ``flowfs``, which must fail with one line; return that."""
    done = flowfs(*arguments, environment=environment)
    assert done.returncode in (1, 2, 3, 4), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("flowfs: ")
    return line


def at(directory: Path) -> dict[str, Any]:
    """The line of the list that is about a directory."""
    (line,) = (line for line in lines() if line.directory == str(directory))
    return asdict(line)


def answering(directory: Path) -> dict[str, Any]:
    """The same line, once the mount answers: a look at it lasts two seconds and no longer."""
    return wait_until(
        lambda: line if (line := at(directory))["state"] == "serving" else None, 30, "an answer"
    )


def ended(pid: int) -> Callable[[], bool]:
    return lambda: not is_running(pid)


# -- into the background ---------------------------------------------------


def test_it_returns_once_the_mount_answers_and_says_how_to_end_it(
    service: EmbeddedService, directory: Path
) -> None:
    environment = command_environment(service)
    # Who reads what it prints to the end does not wait for the mount's.
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m flowfs mount mnt 2>&1 | cat; exit $PIPESTATUS"],
        cwd=directory.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    try:
        assert done.returncode == 0, done.stdout
        assert os.listdir(directory) == ["groups", "workflows"]
        pid = at(directory)["pid"]
        assert done.stdout == (
            f"mounted flow+{service.endpoint} on mnt (pid {pid}); end: flowfs umount mnt\n"
        )
        # Nothing of whoever started it holds it, nor does it hold anything.
        assert os.getsid(pid) == pid
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
        assert Path(f"/proc/{pid}/comm").read_text() == "flowfs\n"
        assert service.token.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    finally:
        done = flowfs("umount", directory, environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert not is_running(pid)
    assert not is_mounted(directory)


def test_what_is_refused_is_said_in_one_line_by_the_command_itself(
    service: EmbeddedService, directory: Path
) -> None:
    environment = command_environment(service)
    said = refusal("mount", "-o", "no_such_option=1", directory, environment=environment)
    assert "unknown option" in said
    assert "no_such_option" in said
    assert not is_mounted(directory)
    assert "No such" in refusal(
        "mount", "--log-file", directory / "no" / "log", directory, environment=environment
    )
    assert "timeout" in refusal("mount", "--timeout", "-1", directory, environment=environment)


def test_it_finds_its_modules_whatever_the_current_directory_holds(
    service: EmbeddedService, directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong one')")
    program = "from flowfs.cli import main; import sys; sys.argv[1:] = ['mount', 'mnt']; main()"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=tmp_path,
        env=command_environment(service),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert flowfs("umount", directory).returncode == 0


@pytest.mark.parametrize("foreground", [[], ["--foreground"]], ids=["background", "foreground"])
@pytest.mark.parametrize(
    "answer",
    [
        Reply(hang="before"),
        Reply(hang="headers"),
        # Each comes in time, and all of them do not.
        Reply(body=b" " * 10_000, drip="body", pause=0.1),
    ],
    ids=["no answer", "half an answer", "a byte at a time"],
)
def test_a_service_that_hangs_is_given_up_within_the_timeout(
    standin: StandIn, address: Address, directory: Path, answer: Reply, foreground: list[str]
) -> None:
    standin.on("GET", "/users/whoami", answer)
    begun = time.monotonic()
    said = refusal(
        "mount",
        *foreground,
        "--timeout",
        "2",
        directory,
        environment=command_environment(address),
    )
    assert time.monotonic() - begun < 2 + SOON
    assert "2 s" in said
    assert not is_mounted(directory)


def test_the_timeout_is_for_all_requests_together(
    standin: StandIn, address: Address, directory: Path
) -> None:
    def late(asked: Any) -> None:
        time.sleep(1.5)

    for path in ("/", "/users/whoami", "/groups/group-1"):
        standin.on("GET", path, late)
    said = refusal(
        "mount",
        "--timeout",
        "2",
        f"flow+{address.endpoint}/groups/group-1",
        directory,
        environment=command_environment(address),
    )
    assert "no answer within 2 s" in said
    assert not is_mounted(directory)


def test_who_gives_up_waiting_for_it_leaves_no_mount(
    standin: StandIn, address: Address, directory: Path
) -> None:
    asked, go_on = [], threading.Event()

    def late(one: Any) -> None:
        asked.append(one)
        go_on.wait(60)

    standin.on("GET", "/users/whoami", late)
    command = subprocess.Popen(
        [sys.executable, "-m", "flowfs", "mount", directory],
        env=command_environment(address),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: asked, 20, "the request")
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
    (pid,) = map(int, children)
    command.kill()
    command.wait()
    go_on.set()
    wait_until(ended(pid), 20, "the end of the process that nobody wants any more")
    assert not is_mounted(directory)


# -- the end ---------------------------------------------------------------


class Hanging:
    """A process that looks at a mount, and waits for a request that is never answered."""

    def __init__(self, standin: StandIn, directory: Path, command: str) -> None:
        run, file = standin.routes.add_file(DATA)
        # What is asked of a run hangs as a whole, or only once a file of it is open.
        asked = {"stat": f"/runs/{run}", "cat": f"/runs/{run}/downloads/files/{file}"}[command]
        standin.on("GET", asked, Reply(body=DATA, hang="before" if command == "stat" else "body"))
        self.process = subprocess.Popen(
            [command, directory / "groups" / "group-1" / "runs" / run / "results" / file],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: standin.count("GET", asked), 20, "the request that hangs")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_though_a_request_hangs(
    standin: StandIn,
    address: Address,
    directory: Path,
    tmp_path: Path,
    binding: tuple[str, str],
    number: int,
) -> None:
    log = tmp_path / "log"
    fuse, library = binding
    with serve_mount(address, directory, "", log, library, fuse=fuse, timeout=600) as process:
        wait_until(lambda: "mounted" in log.read_text(), 20, "the mount")
        hanging = Hanging(standin, directory, "stat")
        process.send_signal(number)
        assert process.wait(SOON) == 0
        assert not is_mounted(directory)
        assert hanging.process.wait(SOON) == 1
        assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("command", ["stat", "cat"])
def test_umount_ends_it_though_a_request_hangs(
    standin: StandIn, address: Address, directory: Path, binding: tuple[str, str], command: str
) -> None:
    fuse, library = binding
    options = ["--fuse", fuse, "--timeout", "600"]
    with mounted_in_background(address, directory, *options, library=library) as told:
        hanging = Hanging(standin, directory, command)
        begun = time.monotonic()
        done = flowfs("umount", directory)
        assert (done.returncode, done.stderr) == (0, "")
        assert time.monotonic() - begun < SOON
        assert "Operation canceled" in hanging.process.communicate(timeout=SOON)[1]
        assert hanging.process.returncode == 1
        assert not is_mounted(directory)
        assert not is_running(told["pid"])


def test_umount_does_not_disturb_who_waits_where_another_has_the_mount_in_use(
    standin: StandIn, address: Address, directory: Path
) -> None:
    run, file = standin.routes.add_file(DATA)
    path = f"/runs/{run}/downloads/files/{file}"
    go_on = threading.Event()

    def late(asked: Any) -> None:
        go_on.wait(60)

    standin.on("GET", path, late)
    with mounted_in_background(address, directory):
        shown = directory / "groups" / "group-1" / "runs" / run / "results" / file
        with subprocess.Popen(["cat", shown], stdout=subprocess.PIPE) as reader:
            wait_until(lambda: standin.count("GET", path), 20, "the download")
            with subprocess.Popen(["sleep", "60"], cwd=directory) as idle:
                said = refusal("umount", directory, environment=dict(os.environ))
                idle.kill()
            assert f"in use by sleep ({idle.pid})" in said
            go_on.set()
            assert reader.communicate(timeout=60)[0] == DATA
            assert reader.returncode == 0


def test_who_reads_and_gets_on_has_the_mount_in_use(
    standin: StandIn, address: Address, directory: Path
) -> None:
    run, file = standin.routes.add_file(DATA)
    with mounted_in_background(address, directory):
        shown = directory / "groups" / "group-1" / "runs" / run / "results" / file
        with subprocess.Popen(["cat", shown], stdout=subprocess.PIPE, bufsize=0) as reader:
            assert reader.stdout is not None
            first = reader.stdout.read(1)
            said = refusal("umount", directory, environment=dict(os.environ))
            assert f"in use by cat ({reader.pid})" in said
            assert first + reader.communicate(timeout=60)[0] == DATA


@pytest.mark.parametrize("ignored", [False, True])
def test_the_terminals_end_is_its_end_unless_nohup_says_otherwise(
    standin: StandIn, address: Address, directory: Path, tmp_path: Path, ignored: bool
) -> None:
    def nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    log = tmp_path / "log"
    with open(log, "wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "flowfs", "mount", "-f", directory],
            env=command_environment(address),
            stdout=said,
            stderr=said,
            preexec_fn=nohup if ignored else None,
        )
    wait_until(lambda: "mounted" in log.read_text(), 20, "the mount")
    process.send_signal(signal.SIGHUP)
    if ignored:
        assert subprocess.run(["stat", directory], capture_output=True).returncode == 0
        process.send_signal(signal.SIGTERM)
    assert process.wait(SOON) == 0
    assert not is_mounted(directory)


def test_a_signal_before_anything_is_mounted_ends_it_at_once(
    standin: StandIn, address: Address, directory: Path
) -> None:
    standin.on("GET", "/users/whoami", Reply(hang="before"))
    process = subprocess.Popen(
        [sys.executable, "-m", "flowfs", "mount", "-f", directory],
        env=command_environment(address),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: standin.count("GET", "/users/whoami"), 20, "the request")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=SOON)[1] == ""
    assert process.returncode == 128 + signal.SIGINT


def test_what_hangs_elsewhere_than_in_a_request_does_not_hold_up_the_end(
    standin: StandIn, address: Address, directory: Path, tmp_path: Path
) -> None:
    # As where the system looks for a host's address: nothing can interrupt that.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import pathlib, threading\n"
        "from flowfs.fuse.looking import Looking\n"
        "def hang(self, path):\n"
        f"    pathlib.Path({str(tmp_path / 'hangs')!r}).touch()\n"
        "    threading.Event().wait()\n"
        "Looking.statfs = hang\n"
    )
    log = tmp_path / "log"
    extra = {"PYTHONPATH": str(tmp_path / "site")}
    with serve_mount(address, directory, "", log, extra=extra) as process:
        wait_until(lambda: "mounted" in log.read_text(), 20, "the mount")
        looker = subprocess.Popen(["df", directory], stdout=-3, stderr=-3)
        wait_until((tmp_path / "hangs").exists, 20, "df")
        process.terminate()
        assert process.wait(5 + SOON) == 1
        assert not is_mounted(directory)
        assert looker.wait(SOON) != 0
        assert "still hangs" in log.read_text()


@pytest.mark.parametrize("how", ["signal", "umount"])
def test_a_mount_whose_directory_has_been_moved_ends_like_any_other(
    service: EmbeddedService, tmp_path: Path, registry: Path, how: str
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    with mountpoint(before) as directory, mounted_in_background(service, directory) as told:
        before.rename(after)
        try:
            assert at(after / "mnt")["pid"] == told["pid"]
            assert [line for line in lines() if line.directory == str(directory)] == []
            if how == "umount":
                assert flowfs("umount", after / "mnt").returncode == 0
                assert not is_running(told["pid"])
            else:
                os.kill(told["pid"], signal.SIGTERM)
                wait_until(ended(told["pid"]), SOON, "its end")
            assert not is_mounted(after / "mnt")
            assert list(registry.iterdir()) == []
        finally:
            if is_mounted(after / "mnt"):
                subprocess.run(["umount", "-l", after / "mnt"])


# -- mounts whose process has died -----------------------------------------


def test_a_dead_mount_is_explained_and_cleared_by_the_next(
    service: EmbeddedService, directory: Path, binding: tuple[str, str], registry: Path
) -> None:
    fuse, library = binding
    with mounted_in_background(service, directory, "--fuse", fuse, library=library) as first:
        os.kill(first["pid"], signal.SIGKILL)
        wait_until(ended(first["pid"]), 10, "its end")
        wait_until(lambda: at(directory)["state"] == "dead", 30, "it to be known")
        with mounted_in_background(service, directory, "--fuse", fuse, library=library) as second:
            assert second["stderr"] == (
                f"flowfs: {directory}: a mount whose process had died was there; "
                "it has been cleared\n"
            )
            assert os.listdir(directory) == ["groups", "workflows"]
            assert at(directory)["pid"] == second["pid"]
            # Of the first, nothing is written down any more.
            assert [file.name for file in registry.iterdir()] == [f"{second['pid']}.json"]


def test_a_dead_mount_of_something_else_is_left_alone(
    service: EmbeddedService, directory: Path
) -> None:
    program = (
        "import sys, mfusepy\n"
        "nothing = type('Nothing', (mfusepy.Operations,), {'use_ns': True})()\n"
        "mfusepy.FUSE(nothing, sys.argv[1], foreground=True, subtype='other')"
    )
    pytest.importorskip("mfusepy")
    with subprocess.Popen([sys.executable, "-c", program, directory]) as other:
        try:
            wait_until(lambda: is_mounted(directory) or other.poll(), SOON, "its mount")
        finally:
            other.kill()
    try:
        said = refusal("mount", directory, environment=command_environment(service))
        assert "fuse.other" in said
        assert is_mounted(directory)
        assert "not of flowfs" in refusal("umount", directory, environment=dict(os.environ))
        assert is_mounted(directory)
    finally:
        subprocess.run(["fusermount", "-uz", directory], timeout=SOON)


def test_a_mount_that_is_alive_is_never_cleared(service: EmbeddedService, directory: Path) -> None:
    with mounted_in_background(service, directory) as told:
        for stopped in (False, True):
            if stopped:
                os.kill(told["pid"], signal.SIGSTOP)
            said = refusal("mount", directory, environment=command_environment(service))
            assert "mounted there already" in said
        os.kill(told["pid"], signal.SIGCONT)
        assert os.listdir(directory) == ["groups", "workflows"]


# -- the list --------------------------------------------------------------


def test_the_list_tells_what_is_mounted_where_by_whom_since_when(
    service: EmbeddedService, directory: Path, registry: Path
) -> None:
    with mounted_in_background(service, directory) as told:
        line = answering(directory)
        assert line["url"] == f"flow+{service.endpoint}"
        assert line["pid"] == told["pid"]
        assert abs(line["since"] - time.time()) < 600

        def told_as_json() -> bool:
            listed = json.loads(flowfs("mount", "--list", "--json").stdout)
            return [one for one in listed if one["directory"] == str(directory)] == [line]

        def told_in_a_table() -> bool:
            table = flowfs("mount", "--list").stdout.splitlines()
            assert table[0].split() == ["DIRECTORY", "WHAT", "PID", "SINCE", "STATE"]
            (row,) = (row.split() for row in table if row.startswith(f"{directory} "))
            assert row[1:3] == [f"flow+{service.endpoint}", str(told["pid"])]
            return row[-1] == "serving"

        wait_until(told_as_json, 30, "the same as JSON")
        wait_until(told_in_a_table, 30, "the same in a table")
        (file,) = registry.iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        assert registry.stat().st_mode & 0o777 == 0o700
        assert service.token not in file.read_text()
    assert list(registry.iterdir()) == []


def test_the_list_does_not_hang_where_a_mount_does(
    service: EmbeddedService, directory: Path
) -> None:
    with mounted_in_background(service, directory) as told:
        os.kill(told["pid"], signal.SIGSTOP)
        assert at(directory)["state"] == "not answering"
        os.kill(told["pid"], signal.SIGCONT)
        assert answering(directory)["pid"] == told["pid"]


def test_one_whose_process_is_stopped_is_not_waited_for_and_goes_out_of_sight(
    service: EmbeddedService, directory: Path
) -> None:
    with mounted_in_background(service, directory) as told:
        os.kill(told["pid"], signal.SIGSTOP)
        wait_until(lambda: state_of(told["pid"]) == "T", 20, "the stop")
        said = refusal("umount", directory, environment=dict(os.environ))
        assert f"kill -CONT {told['pid']}" in said
        assert is_mounted(directory)
        assert flowfs("umount", "--lazy", directory).returncode == 0
        assert not is_mounted(directory)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_what_another_user_mounted_is_listed_as_that(
    service: EmbeddedService, directory: Path
) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to be somebody else")
    if shutil.which("python3", path="/usr/bin") is None:
        pytest.skip("needs a Python that everybody may run")
    with mounted_in_background(service, directory):
        directory.parent.chmod(0o755)
        for parent in directory.parents[:-2]:
            if parent.owner() == "root" and parent.name.startswith("pytest"):
                parent.chmod(0o755)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        looked = subprocess.run([*nobody, "stat", directory], capture_output=True, text=True)
        assert "Permission denied" in looked.stderr
        program = (
            "import sys, flowfs.fuse.table as table\n"
            "table.sys.executable = '/usr/bin/python3'\n"
            "import os; os.setuid(65534)\n"
            "print(table.states([sys.argv[1]]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, directory], capture_output=True, text=True
        )
        assert "another user's" in done.stdout, done.stderr


def test_a_mount_that_nobody_wrote_down_is_listed_and_ended_all_the_same(
    service: EmbeddedService, directory: Path, registry: Path
) -> None:
    with mounted_in_background(service, directory) as told:
        (file,) = registry.iterdir()
        file.unlink()
        line = answering(directory)
        assert (line["pid"], line["since"], line["state"]) == (None, None, "serving")
        assert line["url"] == f"flow+{service.endpoint}"
        assert flowfs("umount", directory).returncode == 0
        wait_until(ended(told["pid"]), SOON, "its end")


def test_another_process_of_the_same_number_is_not_taken_for_the_mounts(
    service: EmbeddedService, directory: Path, registry: Path
) -> None:
    with mounted_in_background(service, directory) as told:
        (file,) = registry.iterdir()
        record = json.loads(file.read_text())
        file.unlink()
        with subprocess.Popen(["sleep", "60"]) as other:
            (registry / f"{other.pid}.json").write_text(json.dumps({**record, "pid": other.pid}))
            (registry / f"{other.pid}.json").chmod(0o600)
            assert at(directory)["pid"] is None
            assert flowfs("umount", directory).returncode == 0
            assert other.poll() is None
            other.kill()
        wait_until(ended(told["pid"]), SOON, "its end")


def test_what_is_out_of_sight_and_in_use_is_listed_as_ending(
    service: EmbeddedService, directory: Path
) -> None:
    with mounted_in_background(service, directory) as told:
        with subprocess.Popen(["sleep", "60"], cwd=directory) as user:
            assert flowfs("umount", "--lazy", directory).returncode == 0
            assert (at(directory)["state"], at(directory)["pid"]) == ("ending", told["pid"])
            user.kill()
        wait_until(ended(told["pid"]), SOON, "its end")
        assert [line for line in lines() if line.directory == str(directory)] == []


def test_a_directory_that_others_could_have_made_is_not_used_as_registry(
    service: EmbeddedService, directory: Path, registry: Path
) -> None:
    registry.mkdir()
    registry.chmod(0o755)
    with mounted_in_background(service, directory):
        assert list(registry.iterdir()) == []


# -- logs ------------------------------------------------------------------


def test_a_log_file_tells_of_beginning_end_and_failures_and_with_debug_of_requests(
    service: EmbeddedService, directory: Path, tmp_path: Path
) -> None:
    plain, much = tmp_path / "plain.log", tmp_path / "much.log"
    for log, options in ((plain, []), (much, ["--debug"])):
        with mounted_in_background(service, directory, "--log-file", str(log), *options) as told:
            assert told["log"] == str(log)
            subprocess.run(["stat", directory / "groups" / "nowhere"], capture_output=True)
        text = log.read_text()
        assert f"mounted flow+{service.endpoint} on {directory}" in text
        assert "ending: SIGTERM" in text
        assert f"no longer mounted on {directory}" in text
        assert service.token not in text
        assert f"[{told['pid']}]" in text
    assert "GET" not in plain.read_text()
    assert f"GET {service.endpoint}/users/whoami -> 200" in much.read_text()
    assert "getattr: " in much.read_text()


def test_syslog_is_told_what_a_file_would_be(
    service: EmbeddedService, directory: Path, tmp_path: Path
) -> None:
    where = str(tmp_path / "syslog")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(where)
        syslog.settimeout(20)
        with mounted_in_background(service, directory, "--syslog", FLOWFS_SYSLOG=where) as told:
            assert told["log"] == "syslog"
            said = syslog.recv(1 << 16).decode()
            assert said.startswith(f"<30>flowfs[{told['pid']}]: INFO mounted flow+")


def test_no_syslog_where_one_is_asked_for_is_said(
    service: EmbeddedService, directory: Path, tmp_path: Path
) -> None:
    environment = command_environment(service, FLOWFS_SYSLOG=str(tmp_path / "none"))
    assert "syslog" in refusal("mount", "--syslog", directory, environment=environment)


# -- options ---------------------------------------------------------------


def test_owner_group_and_umask_are_as_asked(service: EmbeddedService, directory: Path) -> None:
    options = ["--uid", "nobody", "--gid", "4242", "--umask", "027"]
    with mounted_in_background(service, directory, *options):
        status = (directory / "workflows").stat()
        assert (status.st_uid, status.st_gid) == (65534, 4242)
        assert status.st_mode & 0o777 == 0o550


def test_options_behind_o_mean_the_same(service: EmbeddedService, directory: Path) -> None:
    with mounted_in_background(service, directory, "-o", "ro,gid=4242,umask=077", "-o", "noatime"):
        assert (directory / "workflows").stat().st_gid == 4242
        assert (directory / "workflows").stat().st_mode & 0o777 == 0o500
        (options,) = (
            line.split()[3].split(",")
            for line in Path("/proc/self/mounts").read_text().splitlines()
            if line.split()[1] == str(directory)
        )
        assert {"ro", "noatime"} <= set(options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--uid", "no such user"], "no user 'no such user'"),
        (["--gid", "-1"], "no group '-1'"),
        (["--umask", "8"], "octal"),
        (["--cache-size", "much"], "512M"),
        (["--list", "x"], "mounts nothing"),
    ],
)
def test_a_bad_option_is_a_usage_error_that_says_what_would_be_good(
    directory: Path, options: list[str], words: str
) -> None:
    done = flowfs("mount", *options, *([directory] if options[0] != "--list" else []))
    assert done.returncode == 2
    assert words in done.stderr


def test_what_is_kept_is_kept_where_it_is_asked_to_be(
    service: EmbeddedService, directory: Path, tmp_path: Path
) -> None:
    # Relative, to where the command is run and not to where the process is that serves.
    environment = command_environment(service)
    (tmp_path / "kept").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "flowfs", "mount", "--cache-dir", "nowhere/there", "mnt"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 0:
        flowfs("umount", directory)
    else:
        assert str(tmp_path / "nowhere/there") in done.stderr
    options = ["--cache-dir", str(tmp_path / "kept"), "--cache-size", "1M"]
    with mounted_in_background(service, directory, *options):
        assert os.listdir(directory) == ["groups", "workflows"]
