"""``flowfs mount`` and ``flowfs umount``, and mounts that are not of the whole tree."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import command_environment, flowfs, is_mounted, mounted, mountpoint, serve_mount, sh
from support import Rest, lasting_port, wait_until

from flowfs.embedded import EmbeddedService, sample
from flowfs.filesystem import FlowFileSystem
from flowfs.fuse.settings import bytes_of

pytestmark = [pytest.mark.mount, pytest.mark.service]


@pytest.fixture(scope="module")
def ended(service: EmbeddedService) -> Iterator[str]:
    """The id of a run in SUCCESS in the group of the workflow ``hello``."""
    rest = Rest(service)
    group = service.groups["hello"]
    file_id = rest.upload(group, sample("hello"))
    yield rest.ended(rest.start(group, {"names": {"fileId": file_id}}))["id"]
    rest.close()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    with mountpoint(tmp_path) as place:
        yield place


def refusal(*arguments: str | Path, environment: dict[str, str]) -> str:
    """Run ``flowfs``, which must fail with one line; return that."""
    done = flowfs(*arguments, environment=environment)
    assert done.returncode in (1, 2, 3, 4), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("flowfs: ")
    assert "Traceback" not in line
    return line


# -- what is refused before anything is mounted ----------------------------


def test_no_service_there_is_said(directory: Path) -> None:
    environment = command_environment(None)
    said = refusal(
        "mount", f"flow://127.0.0.1:{lasting_port()}/", directory, environment=environment
    )
    assert "is the service running?" in said


def test_an_address_that_is_no_flowserv_is_said(service: EmbeddedService, directory: Path) -> None:
    root = service.endpoint.rpartition("/flowserv")[0]
    said = refusal(
        "mount", f"{root}/elsewhere", directory, environment=command_environment(service)
    )
    assert "no flowServ API there" in said


def test_a_bad_token_is_said(service: EmbeddedService, directory: Path) -> None:
    environment = command_environment(service, FLOWSERV_ACCESS_TOKEN="nonsense")
    said = refusal("mount", directory, environment=environment)
    assert "FLOWSERV_ACCESS_TOKEN" in said
    assert "nonsense" not in said
    assert not is_mounted(directory)


def test_no_token_is_said(service: EmbeddedService, directory: Path) -> None:
    environment = command_environment(service)
    del environment["FLOWSERV_ACCESS_TOKEN"]
    assert "flowfs login" in refusal("mount", directory, environment=environment)


def test_what_is_missing_or_in_the_wrong_order_is_said(directory: Path) -> None:
    for arguments, said in [
        ((), "A directory is needed"),
        ((directory, "flow://127.0.0.1:9"), "the directory comes last"),
        (("flow://127.0.0.1:9",), "the directory comes last"),
        (("flow://127.0.0.1:9", directory, directory), "one directory, not: flow://"),
    ]:
        done = flowfs("mount", *arguments, environment=command_environment(None))
        assert done.returncode == 2
        assert said in done.stderr


def test_the_help_tells_the_defaults_as_they_are() -> None:
    told = " ".join(flowfs("mount", "--help").stdout.split())
    signature = inspect.signature(FlowFileSystem.__init__)
    for name in ("timeout", "retries", "ttl", "max_connections", "cache_size"):
        default = signature.parameters[name].default
        shown = "4G" if name == "cache_size" else f"{default:g}"
        assert name != "cache_size" or default == bytes_of(shown)
        _, _, help_text = told.partition(f"--{name.replace('_', '-')} ")
        assert f"({shown})." in help_text.partition(" --")[0], name


def test_a_bad_directory_is_said(service: EmbeddedService, directory: Path) -> None:
    environment = command_environment(service)
    assert "make it first" in refusal("mount", directory / "no", environment=environment)
    (directory / "file").touch()
    assert "not a directory" in refusal("mount", directory / "file", environment=environment)
    assert "not empty" in refusal("mount", directory, environment=environment)


def test_a_place_that_is_not_there_is_said(service: EmbeddedService, directory: Path) -> None:
    environment = command_environment(service)
    for url, words in (
        (f"flow+{service.endpoint}/groups/nothing", "nothing"),
        (f"flow+{service.endpoint}/groups/{service.groups['hello']}/group.json", "is a file"),
        ("ftp://example.org/", "not a flow URL"),
    ):
        assert words in refusal("mount", url, directory, environment=environment)
    missing = f"flow+{service.endpoint}/groups/nothing"
    said = refusal("mount", missing, directory, environment=environment)
    assert said.strip() == f"flowfs: {missing}: unknown group 'nothing'"


def test_a_directory_in_use_is_said(service: EmbeddedService) -> None:
    with mounted(service) as there:
        said = refusal("mount", there, environment=command_environment(service))
        assert "mounted there already" in said


def test_a_missing_library_is_said_with_what_to_install(
    service: EmbeddedService, directory: Path
) -> None:
    pytest.importorskip("mfusepy")
    environment = command_environment(service, FUSE_LIBRARY_NAME="no-such-library")
    said = refusal("mount", "--fuse", "mfusepy", directory, environment=environment)
    assert "libfuse3" in said


def test_a_missing_binding_is_said_with_what_to_install(
    service: EmbeddedService, directory: Path, tmp_path: Path
) -> None:
    for name in ("fuse", "mfusepy"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')")
    environment = command_environment(service, PYTHONPATH=str(tmp_path))
    for fuse, words in (("auto", "flowfs[fuse"), ("fusepy", "flowfs[fuse]")):
        assert words in refusal("mount", "--fuse", fuse, directory, environment=environment)


# -- mounting and unmounting -----------------------------------------------


def test_one_line_says_that_it_is_mounted_and_how_to_end_it(
    service: EmbeddedService, directory: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with serve_mount(service, directory, "", log, fuse="fusepy") as process:
        line = wait_until(lambda: log.read_text(), 20, "the line")
        assert line.splitlines() == [
            f"mounted flow+{service.endpoint} on {directory} (pid {process.pid}); "
            f"end with Ctrl-C or: flowfs umount {directory}"
        ]
        assert sh("ls", directory).stdout.split() == ["groups", "workflows"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("fuse", ["fusepy", "mfusepy"])
def test_a_signal_ends_it_cleanly(
    service: EmbeddedService, directory: Path, tmp_path: Path, number: int, fuse: str
) -> None:
    log = tmp_path / "log"
    with serve_mount(service, directory, "", log, fuse=fuse) as process:
        wait_until(lambda: "mounted" in log.read_text(), 20, "the mount")
        process.send_signal(number)
        assert process.wait(60) == 0
        assert not is_mounted(directory)
        assert "Traceback" not in log.read_text()


def test_umount_ends_it_and_its_process(
    service: EmbeddedService, directory: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with serve_mount(service, directory, "", log) as process:
        wait_until(lambda: "mounted" in log.read_text(), 20, "the mount")
        done = flowfs("umount", directory)
        assert done.returncode == 0, done.stderr
        assert process.wait(60) == 0
    assert "nothing is mounted" in refusal("umount", directory, environment=dict(os.environ))


def test_umount_of_a_mount_in_use_says_so(
    service: EmbeddedService, directory: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with serve_mount(service, directory, "", log):
        wait_until(lambda: "mounted" in log.read_text(), 20, "the mount")
        with subprocess.Popen(["sleep", "60"], cwd=directory) as user:
            assert "in use" in refusal("umount", directory, environment=dict(os.environ))
            assert flowfs("umount", "--lazy", directory).returncode == 0
            user.kill()


def test_umount_clears_a_mount_whose_process_has_died(
    service: EmbeddedService, directory: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with serve_mount(service, directory, "", log) as process:
        wait_until(lambda: "mounted" in log.read_text(), 20, "the mount")
        process.kill()
        process.wait()
        assert flowfs("umount", directory).returncode == 0
        assert not is_mounted(directory)


def test_the_token_is_not_in_the_arguments_nor_in_the_table_of_mounts(
    service: EmbeddedService, directory: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with serve_mount(service, directory, "", log) as process:
        wait_until(lambda: "mounted" in log.read_text(), 20, "the mount")
        told = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        told += Path("/proc/self/mounts").read_bytes() + log.read_bytes()
        assert service.token.encode() not in told
        # the mount says what it is
        assert b"fuse.flowfs" in told


# -- a part of the tree, and only to look ----------------------------------


def test_a_part_of_the_tree_can_be_mounted(service: EmbeddedService, ended: str) -> None:
    group = service.groups["hello"]
    with mounted(service, f"groups/{group}") as there:
        assert "runs" in sh("ls", there).stdout.split()
        assert sh("readlink latest", there).stdout.startswith("runs/")
        assert "Hello" in sh(f"cat runs/{ended}/outputs/*/*", there).stdout
    with mounted(service, f"groups/{group}/runs/{ended}") as there:
        assert "Hello" in sh("cat outputs/*/*", there).stdout
        # What is mounted cannot be removed, so nothing of it is hidden.
        assert "not permitted" in sh("rm handle.json", there).stderr
        assert "handle.json" in sh("ls", there).stdout


def test_a_link_out_of_the_part_that_is_mounted_has_the_text_it_has_in_the_whole(
    service: EmbeddedService, ended: str
) -> None:
    with mounted(service, f"groups/{service.groups['hello']}/states") as there:
        assert sh(f"readlink SUCCESS/{ended}", there).stdout.strip() == f"../../runs/{ended}"


def test_a_read_only_mount_refuses_every_change(service: EmbeddedService, ended: str) -> None:
    with mounted(service, f"groups/{service.groups['hello']}", read_only=True) as there:
        for command in (
            "echo {} > runs/new",
            "echo x > uploads/x",
            "touch uploads/x",
            "rm uploads/names.txt",
            f"rm -rf runs/{ended}",
            "mkdir x",
            "echo x > x",
        ):
            done = sh(command, there)
            assert done.returncode != 0
            assert "Read-only file system" in done.stderr, command
        assert "Hello" in sh(f"cat runs/{ended}/outputs/*/*", there).stdout
        assert sh("stat -c %A runs uploads", there).stdout.split() == ["dr-xr-xr-x"] * 2


def test_options_for_fuse_are_passed_on(service: EmbeddedService) -> None:
    with mounted(service, o="noatime,max_read=65536") as there:
        options = next(
            line.split()[3]
            for line in Path("/proc/self/mounts").read_text().splitlines()
            if line.split()[1] == str(there)
        )
        assert "noatime" in options
        assert "max_read=65536" in options


def test_others_may_look_but_not_change(service: EmbeddedService, ended: str) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to be somebody else")
    group = f"groups/{service.groups['hello']}"
    with mounted(service, allow_other=True) as there:
        os.chmod(there.parent, 0o755)  # the directory it is in, not the mount
        as_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
        looked = sh(
            f"{as_nobody} cat {there}/{group}/runs/{ended}/outputs/results/greetings.txt", "/"
        )
        assert "Hello" in looked.stdout, looked.stderr
        done = sh(f"{as_nobody} sh -c 'echo {{}} > {there}/{group}/runs/new'")
        assert "Permission denied" in done.stderr
        done = sh(f"{as_nobody} rm -rf {there}/{group}/runs/{ended}")
        assert "Permission denied" in done.stderr


def test_a_service_that_is_gone_is_an_error_and_not_an_empty_directory() -> None:
    with EmbeddedService.start() as own:
        # fusepy is the one that shows an empty directory for an error without a number
        with mounted(own, ttl=0, retries=0, timeout=5, fuse="fusepy") as there:
            runs = there / "groups" / own.groups["hello"] / "runs"
            with subprocess.Popen(["sleep", "60"], cwd=runs) as inside:
                own.stop()
                done = sh(f"ls {runs}; ls /proc/{inside.pid}/cwd/", "/")
                inside.kill()
            assert done.returncode != 0
            assert done.stderr.count("refused") == 2
