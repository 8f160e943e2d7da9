"""The programs and scripts of README and pages run as they stand, each page from top to bottom."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from blocks import ROOT, Block, taken
from formats_workflow import formats_group
from mounting import is_mounted, mounted
from sessions import environment, replaced, run_script

from flowfs import FlowFileSystem
from flowfs.embedded import EmbeddedService, sample


def in_order(blocks: Sequence[Block], number_them: str = "") -> str:
    """Blocks as one script, with what says in between where it is."""
    return "\n".join(
        f"{number_them.format(f'--- {block.page}:{block.line}')}\n{block.text}" for block in blocks
    )


def in_bash(blocks: Sequence[Block]) -> str:
    return "set -eo pipefail\n" + in_order(blocks, "echo '{}'") + "\nwait\n"


def in_python(blocks: Sequence[Block]) -> str:
    return in_order(blocks, "print('{}')")


@contextlib.contextmanager
def unmounted_in_the_end(directory: Path) -> Iterator[None]:
    """Leave nothing mounted on a directory; it must not be, unless something has failed."""
    try:
        yield
        assert not is_mounted(directory)
    finally:
        if is_mounted(directory):
            subprocess.run(["umount", "-l", str(directory)], check=False)


@pytest.mark.mount
def test_the_readmes_five_minutes_at_the_shell_run_as_they_stand(
    service: EmbeddedService, tmp_path: Path
) -> None:
    script = in_bash(taken("README.md", "bash", "Five minutes at the shell"))
    with unmounted_in_the_end(tmp_path / "mnt"):
        done = run_script(["bash"], script, tmp_path, environment(service))
        assert done.returncode == 0
    for shown in ("Harbour,2,23.75,", "results/summary.csv", "nowhere.csv", "ten minutes are too"):
        assert shown in done.stdout


def test_the_readmes_five_minutes_in_python_run_as_they_stand(
    service: EmbeddedService, tmp_path: Path
) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("dask.dataframe")
    script = in_python(taken("README.md", "python", "Five minutes in Python"))
    done = run_script([sys.executable], script, tmp_path, environment(service))
    assert done.returncode == 0
    assert "unknown file 'nowhere.csv'" in done.stdout
    assert "no int 'wide'" in done.stdout


@pytest.mark.service
def test_the_page_of_readers_runs_as_it_stands(tmp_path: Path) -> None:
    for module in ("dask.dataframe", "polars", "duckdb", "xarray", "zarr", "PIL", "upath"):
        pytest.importorskip(module)
    script = in_python(taken("docs/readers.md", "python"))
    with formats_group() as study:
        done = run_script([sys.executable], script, tmp_path, environment(study.service))
    assert done.returncode == 0
    for shown in ("Harbour", "23.75", "SUCCESS", "5.5\n", "(8, 4)", "66.0\n", "field.npy"):
        assert shown in done.stdout


def test_the_commands_page_runs_as_it_stands(service: EmbeddedService, tmp_path: Path) -> None:
    script = in_bash(taken("docs/command.md", "bash"))
    done = run_script(["bash"], script, tmp_path, environment(service))
    assert done.returncode == 0
    for shown in ("drwxr-xr-x", "days.csv", "Harbour,2,23.75,", "\nresults\n"):
        assert shown in done.stdout


def test_many_runs_are_started_waited_for_and_shown_as_their_page_says(
    service: EmbeddedService, tmp_path: Path
) -> None:
    pytest.importorskip("pandas")
    for command, script, shown in (
        (
            [sys.executable],
            in_python(taken("docs/runs.md", "python")),
            ["days_above", "number 1: unknown file 'nowhere.csv'"],
        ),
        (
            ["bash"],
            in_bash(taken("docs/runs.md", "bash")),
            ["3 of 3 would be started", "4 of 4 started", "days_above"],
        ),
    ):
        done = run_script(command, script, tmp_path, environment(service))
        assert done.returncode == 0
        for text in shown:
            assert text in done.stdout


@pytest.mark.mount
def test_the_tutorial_runs_as_it_stands(own_service: EmbeddedService, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    script = ["set -eo pipefail"]
    for block in taken("docs/tutorial.md", "bash python"):
        script.append(f"echo '--- {block.page}:{block.line}'")
        if block.language == "python":
            # One program from the first block to this one: what they begin with is needed later.
            script.append(f"cat >>script.py <<'END_OF_PYTHON'\n{block.text}END_OF_PYTHON")
        else:
            script.append(block.text)
    script.append(f"'{sys.executable}' script.py")
    with unmounted_in_the_end(tmp_path / "mnt"):
        done = run_script(["bash"], "\n".join(script), tmp_path, environment(own_service))
        assert done.returncode == 0
    for shown in ("Harbour,2,23.75,21.5,26.0,2", "days_above", "most days above: 14"):
        assert shown in done.stdout


@pytest.mark.mount
def test_a_mount_in_a_program_is_as_its_page_says(service: EmbeddedService, tmp_path: Path) -> None:
    script = in_python(taken("docs/mounting.md", "python"))
    script = replaced(script, {"flow://flow.example.org": f"flow+{service.endpoint}"})
    (tmp_path / "mnt").mkdir()
    with unmounted_in_the_end(tmp_path / "mnt"):
        done = run_script([sys.executable], script, tmp_path, environment(service))
        assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("[")


@pytest.mark.service
def test_a_service_of_ones_own_is_started_in_python_as_its_page_says(tmp_path: Path) -> None:
    script = in_python(taken("docs/embedded-service.md", "python"))
    done = run_script([sys.executable], script, tmp_path, {**os.environ, "HOME": str(tmp_path)})
    assert done.returncode == 0
    endpoint, group, sample = done.stdout.splitlines()[-1].split()
    assert endpoint.startswith("http://127.0.0.1:")
    assert len(group) == 32
    assert Path(sample).is_file()


def test_each_form_of_arguments_starts_the_run_that_the_page_says(
    service: EmbeddedService,
) -> None:
    blocks = taken("docs/tree.md", "json")
    fs = FlowFileSystem(service.endpoint, service.token)
    group = f"groups/{service.groups['analysis']}"
    fs.put(str(sample("analysis")), f"{group}/uploads/stations.csv")
    (form, *others) = (json.loads(block.text) for block in blocks)
    assert form == {"data": "stations.csv", "threshold": 22.5}
    assert len({type(form), *map(str, others)}) == len(blocks) == 3
    for block in blocks:
        fs.pipe(f"{group}/runs/new", block.text.encode())
    rows = [json.loads(row) for row in fs.cat(f"{group}/runs.jsonl").splitlines()]
    for row in rows[-len(blocks) :]:
        assert {name: row[name] for name in form} == form


@pytest.mark.mount
@pytest.mark.tool("git", "git")
def test_a_file_is_added_to_the_tree_as_the_page_says(
    service: EmbeddedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = taken("docs/architecture.md", "diff", "Adding a file to the tree")
    shutil.copytree(ROOT / "flowfs", tmp_path / "flowfs")
    subprocess.run(
        ["git", "apply", "-"],
        input=block.text.encode(),
        cwd=tmp_path,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
        check=True,
    )
    group, member = f"groups/{service.groups['analysis']}", service.username
    script = f"""if True:
        import flowfs, fsspec
        assert flowfs.__file__.startswith({str(tmp_path)!r})
        fs = fsspec.filesystem("flow")
        assert "{group}/members.txt" in fs.ls("{group}", detail=False)
        assert fs.glob("{group}/*.txt") == ["{group}/members.txt"]
        assert fs.info("{group}/members.txt")["size"] == {len(member) + 1}
        assert fs.cat("{group}/members.txt") == b"{member}\\n"
    """
    changed = {"PYTHONPATH": str(tmp_path)}
    done = run_script([sys.executable], script, tmp_path, environment(service, **changed))
    assert done.returncode == 0
    monkeypatch.chdir(tmp_path)  # where `python -m flowfs` looks first
    with mounted(service, extra=changed) as directory:
        shown = subprocess.run(
            ["cat", str(directory / group / "members.txt")], capture_output=True, check=True
        )
    assert shown.stdout.decode() == f"{member}\n"
