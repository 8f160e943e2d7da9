"""What a service says is shown at a terminal as text, whatever it would do there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mounting import Address, command_environment, mounted, mounted_in_background, sh
from standin import Reply, StandIn

from flowfs.cli.words import line
from flowfs.embedded import EmbeddedService
from flowfs.errors import FlowError, NotFound, describe, failure
from flowfs.fuse.process import _options
from flowfs.fuse.settings import Settings

# Clears the screen, colours, sets the title, moves, turns the direction, begins a line; and
# what rich would take for markup.
NASTY = "a\x1b[2J\x1b[31m\x1b]0;title\x07\x9b1A\u202e\u2066\r\nflowfs: all is well[red]\x00"

TOKEN = "a-token"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        standin.routes.tokens = {TOKEN}
        yield standin


def run(server: StandIn, *args: str, **more: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "flowfs", *args],
        env=command_environment(Address(server.endpoint, TOKEN), **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    return done.stdout.decode(), done.stderr.decode()


def assert_harmless(text: str, lines: int = 1) -> None:
    assert text.endswith("\n")
    told = text.removesuffix("\n").split("\n")
    assert len(told) == lines
    assert all(one.isprintable() for one in told), text


def test_a_users_name_is_shown_as_it_is_and_does_nothing(server: StandIn) -> None:
    server.on("GET", "/users/whoami", Reply(body={"id": "1", "username": NASTY}))
    stdout, stderr = run(server, "whoami")
    assert_harmless(stdout)
    assert stderr == ""
    assert r"a\x1b[2J" in stdout
    assert r"\u202e" in stdout
    assert "[red]" in stdout


def test_a_name_of_many_pages_is_cut(server: StandIn) -> None:
    server.on("GET", "/users/whoami", Reply(body={"id": "1", "username": "x" * 1_000_000}))
    stdout, _ = run(server, "whoami")
    assert_harmless(stdout)
    assert len(stdout) < 5000


@pytest.mark.parametrize(
    "body",
    [{"message": NASTY}, NASTY.encode(), f"<title>{NASTY}</title>".encode()],
    ids=["json", "text", "page"],
)
def test_the_services_words_in_an_error_are_one_harmless_line(
    server: StandIn, body: object
) -> None:
    server.on("GET", "/users/whoami", Reply(400, body))
    stdout, stderr = run(server, "whoami")
    assert stdout == ""
    assert_harmless(stderr)
    assert "all is well" in stderr


def test_a_redirect_to_a_nasty_address_is_one_harmless_line(server: StandIn) -> None:
    location = "http://x.invalid:99999/\x1b[2J"
    server.on("GET", "/users/whoami", Reply(302, headers={"Location": location}))
    assert_harmless(run(server, "whoami")[1])


@given(st.text())
def test_an_error_is_one_line_whatever_it_is_about(text: str) -> None:
    error = failure(NotFound, f"no such run: {text}", text)
    assert describe(error).isprintable()
    assert str(error).isprintable()
    assert line(text).isprintable()


def test_an_error_of_python_itself_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        open(tmp_path / "no\x1b[2J\nsuch")  # noqa: SIM115 - there is none
    assert describe(caught.value).isprintable()
    assert not isinstance(caught.value, FlowError)


@pytest.mark.mount
def test_the_list_of_mounts_is_a_line_for_each_whatever_their_directories_are_called(
    server: StandIn, tmp_path: Path
) -> None:
    directory = tmp_path / "m\x1b[2J\n\u202enasty"
    directory.mkdir()
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with mounted_in_background(Address(server.endpoint, TOKEN), directory, **runtime):
        stdout, _ = run(server, "mount", "--list", **runtime)
        told = [one for one in stdout.splitlines() if "nasty" in one]
        assert len(told) == 1
        assert told[0].isprintable()
        assert re.search(r"m\\x1b\[2J\\n\\u202enasty .* serving$", told[0])


# -- who may look ------------------------------------------------------------

AS_NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"


@pytest.mark.mount
def test_only_its_owner_may_look_at_a_mount(service: EmbeddedService) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to be somebody else")
    with mounted(service, umask="000") as there:
        os.chmod(there.parent, 0o755)  # the directory it is in, not the mount
        group = f"{there}/groups/{service.groups['hello']}"
        assert sh(f"ls {there}").stdout.split() == ["groups", "workflows"]
        for act in (f"ls {there}", f"stat {group}", f"cat {group}/group.json"):
            done = sh(f"{AS_NOBODY} {act}")
            assert done.stdout == ""
            assert "Permission denied" in done.stderr
        done = sh(f"{AS_NOBODY} sh -c 'echo {{}} > {group}/runs/new'")
        assert "Permission denied" in done.stderr


@pytest.mark.mount
def test_a_umask_takes_permissions_from_others_who_may_look(service: EmbeddedService) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to be somebody else")
    with mounted(service, allow_other=True, umask="077") as there:
        os.chmod(there.parent, 0o755)
        done = sh(f"{AS_NOBODY} ls {there}")
        assert (done.stdout, "Permission denied" in done.stderr) == ("", True)


@pytest.mark.parametrize("option", ["allow_other", "allow_root"])
def test_whoever_lets_others_in_has_the_kernel_check_permissions(
    server: StandIn, option: str
) -> None:
    settings = Settings(
        "/mnt", server.endpoint, cache=False, options={option: True, "default_permissions": False}
    )
    fs, _ = settings.file_system()
    assert _options(settings, fs, "flow://x")["default_permissions"] is True
