"""The long scripts as the pages have them: the same lines, with little to do.

What takes hours is begun, with the options of the page, in a copy of the checkout whose
environments are those that the tests run in; nothing is installed, and what is written is
written there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import ROOT, commands_of, taken

ENVIRONMENTS = {
    ".venv": "-e '.[all]'",
    ".venv-flowserv-0.9.4": "flowserv-core==0.9.4 'pyyaml-include<2' 'setuptools<81'",
}


def executable(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which each environment is this one, and made as the scripts want it."""
    place = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("scripts", "tests", "docs", "flowfs"):
        shutil.copytree(ROOT / name, place / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "SECURITY.md"):
        shutil.copy(ROOT / name, place)
    for name, arguments in ENVIRONMENTS.items():
        programs = {"python": sys.executable, "pytest": f"{sys.executable} -m pytest"}
        for program, called in programs.items():
            executable(place / name / "bin" / program, f'exec {called} "$@"')
        stamp = f'source scripts/setup.sh; stamp_of {arguments} > "$root/{name}/stamp"'
        subprocess.run(["bash", "-ec", stamp], cwd=place, check=True, timeout=120)
    # Nobody installs anything while testing.
    for name in ("apt-get", "sudo"):
        executable(place / "nothing" / name, "exit 1")
    return place


def run(line: str, checkout: Path, **variables: str) -> str:
    """Run a line in the copy; return what it prints."""
    path = os.pathsep.join([str(checkout / "nothing"), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=checkout,
        env={**os.environ, "PATH": path, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_long_form_of_the_properties_is_begun_as_its_page_says(checkout: Path) -> None:
    all_of_it, one = (
        command.text
        for block in taken("docs/faults.md", "console")
        for command in commands_of(block)
    )
    # Which there are; and of one file, one of them, on few examples.
    told = run(all_of_it, checkout, PYTEST_ADDOPTS="--collect-only -q")
    assert "test_parsers.py::" in told
    assert "test_filesystem_model.py::" in told
    assert "FLOWFS_PROPERTY_EXAMPLES=1000 " in one
    few = one.replace("EXAMPLES=1000", "EXAMPLES=2")
    assert " passed" in run(few, checkout, PYTEST_ADDOPTS="-q -p no:cacheprovider")


@pytest.mark.mount
def test_the_benchmarks_take_the_options_of_their_page(checkout: Path) -> None:
    (block,) = taken("docs/performance.md", "console", "Of flowfs itself")
    lines = [command.text.partition(" #")[0] for command in commands_of(block)]
    for line in lines:
        # All options are known, and the cases that are named.
        cases = re.findall(r"--only (\S+)", line)
        listed = [told.split()[0] for told in run(f"{line} --list", checkout).splitlines()]
        assert listed == cases if cases else len(listed) > 5
    # The same with the shortest case: figures come, and go where they are to go.
    page, figures = checkout / "docs" / "performance.md", checkout / "figures.json"
    before = page.read_text()
    told = ["--quick", "--json figures.json", "--markdown docs/performance.md"]
    assert all(any(one in line for line in lines) for one in told)
    run(f"{lines[0]} {' '.join(told)} --only import --repeats 1", checkout)
    assert json.loads(figures.read_text())["cases"][0]["name"] == "import"
    assert page.read_text() != before
