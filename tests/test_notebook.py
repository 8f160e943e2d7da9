"""The notebook in the documentation runs as it stands, and shows what it says it shows."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from blocks import taken
from fsspec.core import url_to_fs
from sessions import environment, run_script
from support import Rest

from flowfs import FlowFileSystem
from flowfs.embedded import EmbeddedService, sample

for _module in ("ipykernel", "matplotlib", "nbclient", "pandas"):
    pytest.importorskip(_module)

import nbformat  # noqa: E402
from study_notebook import executed, told  # noqa: E402

DOCS = Path(__file__).parent.parent / "docs"
STUDY = DOCS / "study.ipynb"


def test_the_study_runs_and_shows_what_it_has_shown(own_service: EmbeddedService) -> None:
    kept = nbformat.read(STUDY, as_version=4)
    now = executed(STUDY, own_service)
    for before, after in zip(kept.cells, now.cells, strict=True):
        assert told(after) == told(before), after["source"]
    rest = Rest(own_service)
    runs = rest.get(f"groups/{own_service.groups['analysis']}/runs")["runs"]
    rest.close()
    assert [run["state"] for run in runs] == ["SUCCESS"] * 50


def test_the_study_as_it_is_kept_is_whole_and_of_no_machine() -> None:
    kept: Any = nbformat.read(STUDY, as_version=4)
    nbformat.validate(kept)
    code = [cell for cell in kept.cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(re.fullmatch("[a-z-]+", cell["id"]) for cell in kept.cells)
    assert sum(kind == "image/png" for cell in code for kind, _ in told(cell)) == 1
    outputs = [output for cell in code for output in cell["outputs"]]
    assert all(output.get("name") != "stderr" for output in outputs)
    text = json.dumps(outputs)
    assert not re.search(r"/(home|root|tmp|Users)/", text)
    assert len(text) < 200_000


@pytest.mark.mount
def test_the_page_about_notebooks_runs_as_it_stands(
    own_service: EmbeddedService, tmp_path: Path
) -> None:
    fs = FlowFileSystem(own_service.endpoint, own_service.token)
    group = own_service.groups["analysis"]
    fs.put(str(sample("analysis")), f"groups/{group}/uploads/days.csv")
    fs.wait(fs.start_runs(group, [{"data": "days.csv", "window": 3}]))
    script = "\n".join(block.text for block in taken("docs/notebooks.md", "python"))
    done = run_script([sys.executable], script, tmp_path, environment(own_service))
    assert done.returncode == 0
    for shown in ("SUCCESS", "days_above", "'days.csv'"):
        assert shown in done.stdout


def test_the_settings_of_jupyter_fs_are_settings_and_name_the_service(
    own_service: EmbeddedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from traitlets.config import PyFileConfigLoader

    (block,) = taken("docs/notebooks.md", "text", "JupyterLab's file browser")
    (tmp_path / "jupyter_server_config.py").write_text(block.text)
    settings = PyFileConfigLoader("jupyter_server_config.py", str(tmp_path)).load_config()
    assert set(settings) == {"ServerApp", "JupyterFs"}
    assert settings.ServerApp.jpserver_extensions == {"jupyterfs.extension": True}
    (resource,) = settings.JupyterFs.resources
    assert (resource["type"], resource["auth"]) == ("fsspec", "none")
    for name, value in environment(own_service).items():
        if name.startswith("FLOWSERV_"):
            monkeypatch.setenv(name, value)
    fs, path = url_to_fs(resource["url"])
    assert fs.endpoint == own_service.endpoint
    assert [Path(name).name for name in fs.ls(path, detail=False)] == ["groups", "workflows"]
