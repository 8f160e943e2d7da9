"""The notebook in the documentation runs as it stands, and shows what it says it shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support import Rest

from flowfs.embedded import EmbeddedService

for _module in ("ipykernel", "matplotlib", "nbclient", "pandas"):
    pytest.importorskip(_module)

import nbformat  # noqa: E402
from study_notebook import executed, told  # noqa: E402

STUDY = Path(__file__).parent.parent / "docs" / "study.ipynb"


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
