"""The lines of the documentation that begin with something: services, logins, packages, scripts.

Those that install are run by ``tests/installing.py``, which ``scripts/package`` starts; all others
here, so that none is left.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from blocks import ROOT
from installing import (
    is_for_here,
    of_the_embedded_service,
    of_the_readme,
    of_the_tutorial,
)
from sessions import environment, replaced
from support import lasting_port
from terminal import Terminal

from flowfs.embedded import EmbeddedService

COMMANDS = [*of_the_readme(), *of_the_tutorial(), *of_the_embedded_service()]
LINES = [command.text for command in COMMANDS]


def of(program: str) -> list[str]:
    """The lines that begin so, each once, in their order."""
    return [line for line in dict.fromkeys(LINES) if line.startswith(program)]


def test_each_line_is_run_by_the_packages_script_or_here() -> None:
    assert "tests/installing.py" in (ROOT / "scripts" / "package").read_text()
    assert "scripts/package" in (ROOT / ".ci" / "run").read_text()
    here = {*of("flowfs serve"), *of("flowfs login"), *of("sudo apt install")}
    assert here == {line for line in LINES if not is_for_here(line)}


def test_packages_of_the_system_are_those_that_the_scripts_install() -> None:
    # Nobody installs anything while testing. What the page names, scripts/setup.sh installs when
    # it misses the program, and continuous integration has run that.
    (line,) = of("sudo apt install")
    setup = (ROOT / "scripts" / "setup.sh").read_text()
    missing = re.findall(r"missing\+=\(([^)]*)\)", setup)
    installed = {name for names in missing for name in re.split(r"[\s'|]+", names)}
    named = line.split()[3:]
    assert named
    assert set(named) <= installed
    if shutil.which("apt-cache"):
        known = subprocess.run(["apt-cache", "pkgnames"], capture_output=True, text=True).stdout
        assert not known or set(named) <= set(known.split())


@contextlib.contextmanager
def served(line: str, home: Path) -> Iterator[dict[str, str]]:
    """Run a line that starts a service, and yield what it says to paste; Ctrl-C ends it."""
    process = subprocess.Popen(
        ["bash", "-c", line],
        env=environment(None, HOME=str(home), TMPDIR=str(home)),
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    said = []
    try:
        for printed in process.stdout:
            said.append(printed)
            if printed.startswith("Ctrl-C"):
                break
        pasted = dict(re.findall(r"^  export (\w+)=(.*)$", "".join(said), re.M))
        assert len(pasted) == 5, "".join(said)
        yield pasted
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()


def listed(pasted: dict[str, str]) -> str:
    """What a second terminal, into which that was pasted, shows of the service."""
    done = subprocess.run(
        ["flowfs", "ls", "groups"],
        env={**environment(None), **pasted},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) == 2
    return done.stdout


@pytest.mark.service
def test_a_service_is_started_as_the_pages_say(tmp_path: Path) -> None:
    passing, kept, placed = of("flowfs serve")
    with served(passing, tmp_path) as pasted:
        listed(pasted)
        assert list(tmp_path.glob("flowfs-*"))
    assert not list(tmp_path.glob("flowfs-*"))  # "gone at the end"
    with served(kept, tmp_path) as first:
        groups = listed(first)
    assert (tmp_path / "flow").is_dir()
    port = str(lasting_port())
    with served(replaced(placed, {"5000": port}), tmp_path) as second:
        assert second["FLOWSERV_API_PORT"] == port
        assert second["FLOWSERV_ACCESS_TOKEN"] == first["FLOWSERV_ACCESS_TOKEN"]
        assert listed(second) == groups  # "the next start has them again"


def test_a_login_asks_as_the_page_shows(own_service: EmbeddedService, tmp_path: Path) -> None:
    (line,) = of("flowfs login")
    (shown,) = [command.shown for command in COMMANDS if command.text == line]
    asked = [question.partition(":")[0] for question in shown]
    answers = {"Username": own_service.username}
    answers["Password"] = (own_service.directory / "password").read_text().strip()
    line = replaced(line, {"https://flow.example.org/flowserv/api/v1": own_service.endpoint})
    variables = {"PATH": environment(None)["PATH"]}
    with Terminal(["bash", "-c", line], tmp_path, tmp_path, variables) as terminal:
        for question in asked:
            terminal.await_text(f"{question}:")
            terminal.type(answers.pop(question) + "\n")
        assert terminal.ended() == 0, terminal.screen
    assert not answers
