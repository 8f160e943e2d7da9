"""The page of faults says what the tests of each cell expect."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import FAULTS, OPERATIONS, Fault

PAGE = Path(__file__).parents[1] / "docs" / "faults.md"
BEGIN, END = "<!-- written by the tests -->\n", "<!-- end -->\n"


def cell(fault: Fault, operation: str) -> str:
    """Return what comes of it, by fsspec and through a mount where that is not the same."""
    ways = [fault.expected(operation, way) for way in ("fsspec", "mount")]
    return " / ".join(dict.fromkeys(ways))


def table() -> str:
    lines = [f"| fault | {' | '.join(OPERATIONS)} |", "|---" * (len(OPERATIONS) + 1) + "|"]
    lines += [
        f"| {fault.name} | {' | '.join(cell(fault, operation) for operation in OPERATIONS)} |"
        for fault in FAULTS
    ]
    cells = len(FAULTS) * len(OPERATIONS) * 2
    tried = (
        f"{len(FAULTS)} faults, {len(OPERATIONS)} operations and two ways in are {cells:,} cells. "
        "Each is a\ntest. None of them ends wrong, or late: that would be a test that fails.\n"
    )
    return tried + "\n" + "\n".join(lines) + "\n"


def test_each_fault_has_a_name_of_its_own_and_all_operations_an_outcome() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 30
    assert {len(row) for fault in FAULTS for row in (fault.python, fault.mount)} == {9}


def test_the_page_of_faults_is_that_of_the_tests(request: pytest.FixtureRequest) -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page = before + BEGIN + "\n" + table() + "\n" + END + after
    if request.config.getoption("--write-faults"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page, "pytest tests/test_hostile_docs.py --write-faults"
