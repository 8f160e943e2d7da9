"""What is imported when: nothing before somebody uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import flowfs.fuse

# Each takes time to import, or may not be installed.
HEAVY = {
    "asyncio", "click", "fsspec", "fuse", "html", "mfusepy", "pandas", "requests", "rich",
    "robflask", "sqlite3", "ssl", "urllib3", "upath", "xml",
}  # fmt: skip
# What comes with fsspec and requests.
CLIENT = {"asyncio", "fsspec", "requests", "ssl", "urllib3"}


def imported(program: str) -> set[str]:
    """Return the modules that a program imports, in a process of its own."""
    told = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    # What measures coverage imports much.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{told}"],
        env=plain,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def run(*arguments: str) -> str:
    """Return a program that runs a command line."""
    return (
        "import sys\n"
        f"sys.argv = ['flowfs', *{arguments!r}]\n"
        "from flowfs.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass"
    )


@pytest.mark.parametrize(
    ("program", "allowed"),
    [
        ("import flowfs", set()),
        ("import flowfs; flowfs.NotFound", set()),
        ("from flowfs import FlowFileSystem; FlowFileSystem('http://localhost:1/x')", CLIENT),
        ("from flowfs import RemoteRunService", CLIENT - {"asyncio", "fsspec"}),
        (run("--help"), {"click"}),
        (run("--version"), {"click"}),
        (run("mount", "--help"), {"click"}),
        (run("ls", "--help"), {"click"}),
        (run("cp", "--help"), {"click"}),
        (run("rm", "--help"), {"click"}),
        (run("completion", "bash"), {"click"}),
        (run("mount", "--list"), {"click"}),
        (run("umount", "/nowhere"), {"click"}),
        ("from flowfs.fuse.background import start", set()),
    ],
)
def test_only_what_is_used_is_imported(program: str, allowed: set[str]) -> None:
    assert imported(program) & HEAVY <= allowed


def test_the_names_of_the_package_are_there_without_being_imported() -> None:
    modules = imported("import flowfs; assert 'mount' in dir(flowfs)")
    assert {name for name in modules if name.startswith("flowfs")} == {"flowfs"}


def test_the_mount_is_there_when_it_is_asked_for() -> None:
    modules = imported("from flowfs import mount, Mounted; assert callable(mount)")
    assert "flowfs.fuse.mounted" in modules
    assert not hasattr(flowfs.fuse, "unknown")
