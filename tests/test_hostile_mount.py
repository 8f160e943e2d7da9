"""What comes of each fault of a service or a network, for each operation, through a mount.

Cell by cell what `docs/faults.md` says; `faults` has the table.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults import FAULTS, OPERATIONS, Fault
from hostile import Arena, check, check_all, mount_arena

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with mount_arena(tmp_path_factory.mktemp("hostile") / "log") as arena:
        yield arena


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_gives_the_right_answer_or_its_error_and_nothing_else(
    arena: Arena, fault: Fault, operation: str
) -> None:
    check(arena, fault, operation)


def test_after_all_of_that_everything_works_and_the_token_went_nowhere_else(arena: Arena) -> None:
    check_all(arena)
