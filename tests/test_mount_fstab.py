"""``mount -t fuse.flowfs``: what mount(8) and /etc/fstab do with a service."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from blocks import commands_of, taken
from mounting import command_environment, is_mounted, mountpoint
from sessions import replaced

from flowfs.embedded import EmbeddedService

pytestmark = [pytest.mark.mount, pytest.mark.service]

HELPER = Path(sys.executable).with_name("mount.fuse.flowfs")
LINK = Path("/sbin/mount.fuse.flowfs")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    with mountpoint(tmp_path) as place:
        yield place


@pytest.fixture
def token_file(service: EmbeddedService, tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{service.token}\n")
    file.chmod(0o600)
    return file


def call(*arguments: str | Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from flowfs.cli.fstab import main; main()", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def options_of(directory: Path) -> tuple[str, set[str]]:
    """What the table of mounts says: the source, and the options."""
    (line,) = (
        line.split()
        for line in Path("/proc/self/mounts").read_text().splitlines()
        if line.split()[1] == str(directory)
    )
    return line[0], set(line[3].split(","))


@pytest.fixture
def mount_8(service: EmbeddedService) -> Iterator[dict[str, str]]:
    """mount(8) finds the helper; yields the environment to call it in, without a token."""
    if os.getuid() != 0:
        pytest.skip("needs root: mount(8) takes helpers from /sbin only")
    if not HELPER.exists():
        pytest.skip(f"needs the script {HELPER}: install flowfs again")
    if shutil.which("mount") is None:
        pytest.skip("needs mount(8)")
    if LINK.is_symlink() or LINK.exists():
        pytest.skip(f"{LINK} is there already")
    # The line of the page; root needs no sudo for it.
    ((link,),) = map(commands_of, taken("docs/mounting.md", "console", "For good: fstab"))
    line = link.text.removeprefix("sudo ")
    path = os.pathsep.join([str(HELPER.parent), os.environ["PATH"]])
    try:
        subprocess.run(["bash", "-c", line], env={**os.environ, "PATH": path}, check=True)
        assert LINK.readlink() == HELPER
        yield {**os.environ, "LC_ALL": "C"}
    finally:
        LINK.unlink(missing_ok=True)


def run(*command: str | Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


# -- with mount(8) ---------------------------------------------------------


def test_mount_mounts_it_by_type(
    service: EmbeddedService, directory: Path, token_file: Path, mount_8: dict[str, str]
) -> None:
    options = f"ro,allow_other,uid=nobody,umask=022,noatime,ttl=0.5,token_file={token_file}"
    source = f"flow+{service.endpoint}"
    done = run("mount", "-t", "fuse.flowfs", "-o", options, source, directory, environment=mount_8)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(directory)) == ["groups", "workflows"]
    assert directory.stat().st_uid == 65534
    shown, flags = options_of(directory)
    assert shown == source
    assert {"ro", "noatime", "allow_other", "default_permissions"} <= flags
    assert service.token not in Path("/proc/self/mounts").read_text()
    done = run("umount", directory, environment=mount_8)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_line_of_fstab_mounts_it_once(
    service: EmbeddedService,
    directory: Path,
    token_file: Path,
    tmp_path: Path,
    mount_8: dict[str, str],
) -> None:
    fstab = tmp_path / "fstab"
    options = f"_netdev,nofail,user,x-systemd.automount,token_file={token_file}"
    fstab.write_text(f"{service.endpoint} {directory} fuse.flowfs {options} 0 0\n")
    done = run("mount", "-a", "-T", fstab, environment=mount_8)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(directory)) == ["groups", "workflows"]
    assert {"nosuid", "nodev"} <= options_of(directory)[1]
    # It knows what is mounted already.
    done = run("mount", "-a", "-T", fstab, environment=mount_8)
    assert (done.returncode, done.stderr) == (0, "")
    assert run("umount", directory, environment=mount_8).returncode == 0


def test_the_line_of_the_page_mounts_it(
    service: EmbeddedService,
    directory: Path,
    token_file: Path,
    tmp_path: Path,
    mount_8: dict[str, str],
) -> None:
    (block,) = taken("docs/mounting.md", "text", "For good: fstab")
    samples = {
        "flow://flow.example.org": f"flow+{service.endpoint}",
        "/mnt/flow": str(directory),
        "/etc/flowfs.token": str(token_file),
    }
    (tmp_path / "fstab").write_text(replaced(block.text, samples))
    done = run("mount", "-a", "-T", tmp_path / "fstab", environment=mount_8)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir(directory)) == ["groups", "workflows"]
    assert "allow_other" in options_of(directory)[1]
    assert run("umount", directory, environment=mount_8).returncode == 0


def test_what_cannot_be_mounted_is_mounts_failure_with_our_words(
    service: EmbeddedService, directory: Path, mount_8: dict[str, str]
) -> None:
    done = run("mount", "-t", "fuse.flowfs", service.endpoint, directory, environment=mount_8)
    assert done.returncode == 32
    assert "flowfs login" in done.stderr
    assert not is_mounted(directory)


# -- the helper by itself --------------------------------------------------


def test_the_source_none_is_the_configured_service(
    service: EmbeddedService, directory: Path
) -> None:
    environment = command_environment(service)
    done = call("none", directory, "-v", "-o", "rw,noexec", environment=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"mounted flow+{service.endpoint} on {directory} (pid ")
    assert options_of(directory)[0] == "none"
    assert "noexec" in options_of(directory)[1]


def test_with_f_nothing_is_mounted(service: EmbeddedService, directory: Path) -> None:
    done = call(service.endpoint, directory, "-fv", environment=dict(os.environ))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not is_mounted(directory)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("uid=nobody at all", "no user"),
        ("umask=9", "octal"),
        ("timeout=soon", "timeout must be a number, not 'soon'"),
        ("cache_size=x", "512M"),
        ("token=secret", "token_file=FILE"),
        ("ro=1", "takes no value"),
        ("remount,ro", "unmount it, and mount it anew"),
        ("log_file", "needs a value"),
        ("token_file=/nowhere", "cannot read the token"),
        ("no_such_option", "unknown option"),
    ],
)
def test_a_bad_option_is_named(
    service: EmbeddedService, directory: Path, options: str, words: str
) -> None:
    environment = command_environment(service)
    done = call(service.endpoint, directory, "-o", options, environment=environment)
    assert done.returncode == 32
    (line,) = done.stderr.splitlines()
    assert line.startswith("mount.fuse.flowfs: ")
    assert words in line
    assert "secret" not in line
    assert not is_mounted(directory)


def test_a_token_that_others_can_read_is_not_used(
    service: EmbeddedService, directory: Path, token_file: Path
) -> None:
    token_file.chmod(0o644)
    done = call(
        service.endpoint, directory, "-o", f"token_file={token_file}", environment=dict(os.environ)
    )
    assert done.returncode == 32
    assert "chmod 600" in done.stderr


def test_called_wrongly_it_says_how() -> None:
    for arguments in ([], ["one"], ["a", "b", "c"], ["a", "b", "-Z"]):
        done = call(*arguments, environment=dict(os.environ))
        assert done.returncode == 1
        assert "usage: mount.fuse.flowfs" in done.stderr
    done = call("--help", environment=dict(os.environ))
    assert done.returncode == 0
    assert done.stdout.startswith("usage: mount.fuse.flowfs")
