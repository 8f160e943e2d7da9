"""The benchmarks of the mount run, leave nothing mounted, and put their figures into a page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from test_bench import SCRIPTS, figures

from flowfs.fuse.table import mounts

PAGE = """# A page

<!-- measured -->

| case | flowfs |
|---|---|
| read 1 MiB | 1 s |
| list | old |

Then.

<!-- end -->

Between.

<!-- growth -->
<!-- end -->
"""


@pytest.mark.mount
def test_a_case_of_the_mount_counts_requests_and_updates_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", os.fspath(tmp_path))
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    document, _ = figures(
        tmp_path, "--only", "list", "--repeats", "1", "--markdown", os.fspath(page)
    )
    assert not [one for one in mounts() if one.directory.startswith(os.fspath(tmp_path))]
    (comparison,) = document["cases"][0]["comparisons"]
    ours = comparison["contenders"][0]
    assert ours["name"] == "flowfs"
    (cost,) = ours["rounds"]
    assert cost["requests"] >= 1
    assert cost["memory"] is not None
    text = page.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[1] == "| read 1 MiB | 1 s |"
    assert rows[2].startswith("| list | ")
    assert "| list | old |" not in rows
    assert "Then." not in text
    assert text.endswith("Between.\n\n<!-- growth -->\n<!-- end -->\n")


def test_a_page_without_the_table_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(os.fspath(SCRIPTS))
    from benchmarks.bench import Bench
    from benchmarks.case import Case
    from benchmarks.markdown import write_markdown
    from benchmarks.running import CaseOutcome

    def nothing(bench: Any) -> Any:
        return iter(())

    page = tmp_path / "page.md"
    page.write_text("# A page\n")
    outcome = CaseOutcome(Case("list", "a case", "a goal", nothing))
    with pytest.raises(ValueError, match="no table between <!-- measured -->"):
        write_markdown(page, [outcome], Bench(tmp_path))
    assert page.read_text() == "# A page\n"
