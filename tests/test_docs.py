"""What the documentation says is so: its commands run, its links lead somewhere."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from formats_workflow import formats_group

from flowfs import tree
from flowfs.embedded import EmbeddedService

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def section(title: str) -> str:
    """The README's text below a heading, up to the next."""
    _, found, rest = README.read_text().partition(f"\n## {title}\n")
    assert found, f"README.md has no section {title!r}"
    return rest.partition("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    found = [body for name, body in _FENCE.findall(text) if name == language]
    assert found
    return found


def environment(service: EmbeddedService) -> dict[str, str]:
    """What ``flowfs serve`` prints to be pasted, and the command itself."""
    address = urlsplit(service.endpoint)
    return {
        **os.environ,
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
        "FLOWSERV_API_PROTOCOL": address.scheme,
        "FLOWSERV_API_HOST": str(address.hostname),
        "FLOWSERV_API_PORT": str(address.port),
        "FLOWSERV_API_PATH": address.path,
        "FLOWSERV_ACCESS_TOKEN": service.token,
    }


def run(
    command: list[str], script: str, directory: Path, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a script that comes on stdin; its output is shown if the test fails."""
    path = directory / "script"
    path.write_text(script)
    done = subprocess.run(
        [*command, str(path)],
        cwd=directory,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    sys.stdout.write(done.stdout)
    return done


@pytest.mark.mount
def test_the_readmes_five_minutes_at_the_shell_run_as_they_stand(
    service: EmbeddedService, tmp_path: Path
) -> None:
    commands = blocks(section("Five minutes at the shell"), "bash")
    script = ["set -eo pipefail"]
    for number, block in enumerate(commands, 1):
        script += [f"echo '--- block {number}'", block]
    script.append("wait")
    mountpoint = tmp_path / "mnt"
    try:
        done = run(["bash"], "\n".join(script), tmp_path, environment(service))
    finally:
        if os.path.ismount(mountpoint):
            with contextlib.suppress(FileNotFoundError):
                subprocess.run(["fusermount3", "-u", "-z", str(mountpoint)], check=False)
    assert done.returncode == 0
    for shown in ("Harbour,2,23.75,", "results/summary.csv", "nowhere.csv", "ten minutes are too"):
        assert shown in done.stdout
    assert not os.path.ismount(mountpoint)


def test_the_readmes_five_minutes_in_python_run_as_they_stand(
    service: EmbeddedService, tmp_path: Path
) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("dask.dataframe")
    script = []
    for number, block in enumerate(blocks(section("Five minutes in Python"), "python"), 1):
        script += [f"print('--- block {number}')", block]
    done = run([sys.executable], "\n".join(script), tmp_path, environment(service))
    assert done.returncode == 0
    assert "unknown file 'nowhere.csv'" in done.stdout
    assert "no int 'wide'" in done.stdout


@pytest.mark.service
def test_the_page_of_readers_runs_as_it_stands(tmp_path: Path) -> None:
    for module in ("dask.dataframe", "polars", "duckdb", "xarray", "zarr", "PIL", "upath"):
        pytest.importorskip(module)
    script = []
    page = (ROOT / "docs" / "readers.md").read_text()
    for number, block in enumerate(blocks(page, "python"), 1):
        script += [f"print('--- block {number}')", block]
    with formats_group() as study:
        done = run([sys.executable], "\n".join(script), tmp_path, environment(study.service))
    assert done.returncode == 0
    for shown in ("Harbour", "23.75", "SUCCESS", "5.5\n", "(8, 4)", "66.0\n", "field.npy"):
        assert shown in done.stdout


def test_the_commands_page_runs_as_it_stands(service: EmbeddedService, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "command.md").read_text()
    script = "\n".join(["set -eo pipefail", *blocks(page, "bash")])
    done = run(["bash"], script, tmp_path, environment(service))
    assert done.returncode == 0
    for shown in ("drwxr-xr-x", "days.csv", "Harbour,2,23.75,", "\nresults\n"):
        assert shown in done.stdout


def page_section(page: str, title: str) -> str:
    """A page's text below a heading, up to the next of its level."""
    _, found, rest = (ROOT / "docs" / page).read_text().partition(f"\n## {title}\n")
    assert found, f"{page} has no section {title!r}"
    return rest.partition("\n## ")[0]


def test_many_runs_are_started_waited_for_and_shown_as_their_page_says(
    service: EmbeddedService, tmp_path: Path
) -> None:
    pytest.importorskip("pandas")
    in_python = "\n".join(blocks(page_section("runs.md", "In Python"), "python"))
    at_a_shell = "\n".join(
        ["set -eo pipefail", *blocks(page_section("runs.md", "At a shell"), "bash")]
    )
    for command, script, shown in (
        ([sys.executable], in_python, ["days_above", "number 1: unknown file 'nowhere.csv'"]),
        (["bash"], at_a_shell, ["3 of 3 would be started", "4 of 4 started", "days_above"]),
    ):
        done = run(command, script, tmp_path, environment(service))
        assert done.returncode == 0
        for text in shown:
            assert text in done.stdout


@pytest.mark.mount
def test_the_tutorial_runs_as_it_stands(own_service: EmbeddedService, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    page = (ROOT / "docs" / "tutorial.md").read_text()
    script = ["set -eo pipefail"]
    for language, block in _FENCE.findall(page):
        if language == "python":
            script.append(f"cat >> script.py <<'END_OF_PYTHON'\n{block}END_OF_PYTHON")
        elif language == "bash":
            script.append(block)
    script.append(f"'{sys.executable}' script.py")
    try:
        done = run(["bash"], "\n".join(script), tmp_path, environment(own_service))
    finally:
        if os.path.ismount(tmp_path / "mnt"):
            subprocess.run(["fusermount3", "-u", "-z", str(tmp_path / "mnt")], check=False)
    assert done.returncode == 0
    for shown in ("Harbour,2,23.75,21.5,26.0,2", "days_above", "most days above: 14"):
        assert shown in done.stdout
    assert not os.path.ismount(tmp_path / "mnt")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
            anchors = [
                re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings
            ]
            assert anchor in anchors, target


def test_every_place_of_the_tree_is_documented() -> None:
    page = (ROOT / "docs" / "tree.md").read_text()
    names = {
        segment
        for pattern, _ in tree._PLACES
        for segment in pattern.split("/")
        if segment and not segment.startswith("{")
    }
    assert {name for name in names if name not in page} == set()
    readme = section("The tree")
    assert {name for name in names if name not in readme} == set()


def test_every_test_that_security_md_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text()))
    assert named
    assert {one for one in named if not (ROOT / "tests" / f"{one}.py").exists()} == set()


def test_every_tool_of_the_page_has_a_test_and_every_test_of_a_tool_a_row() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "tools.md").read_text(), re.M)
    tests = (ROOT / "tests" / "test_mount_tools.py").read_text()
    tested = re.findall(r'^@tool\("([^"]+)"', tests, re.M)
    assert len(rows) == len(set(rows)) > 40
    assert set(rows) == set(tested)


def test_every_error_of_the_readme_is_public() -> None:
    import flowfs

    named = re.findall(r"`([A-Z]\w+)`", section("Errors"))
    builtin = {"OSError", "ValueError", "PermissionError", "TimeoutError", "ConnectionError"}
    for name in set(named) - builtin - {"FileNotFoundError"}:
        assert issubclass(getattr(flowfs, name), OSError), name


# The layers as docs/architecture.md lists them; each may import from those before it.
LAYERS = [
    {"errors", "__init__"},
    {"tokens"},
    {"service"},
    {"disk"},
    {"names", "arguments", "pool"},
    {"tree"},
    {"catalog", "content"},
    {"display"},
    {"filesystem"},
    {"sweep"},
    {"fuse"},
    {"cli", "demo", "__main__"},
]


def layer_of(module: str) -> int:
    name = module.removeprefix("flowfs").lstrip(".").partition(".")[0] or "__init__"
    return next(rank for rank, layer in enumerate(LAYERS) if name in layer)


def test_no_layer_imports_from_one_below_it() -> None:
    package = ROOT / "flowfs"
    upward = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[0] in ("embedded", "__init__"):  # beside the stack; names of all layers
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("flowfs"):
                continue
            modules = [str(node.module)]
            if node.module == "flowfs":
                names = [alias.name for alias in node.names]
                modules = [f"flowfs.{n}" for n in names if find_spec(f"flowfs.{n}")]
            for module in modules:
                if module.startswith("flowfs.embedded"):
                    wrong = layer_of(parts[0]) < layer_of("cli")
                else:
                    wrong = layer_of(module) > layer_of(parts[0])
                if wrong:
                    upward.append(f"{'.'.join(parts)} imports {module}")
    assert upward == []
