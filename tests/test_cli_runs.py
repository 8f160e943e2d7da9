"""What `flowfs runs` shows where a terminal has no room for all columns."""

from __future__ import annotations

import os
import shutil

import pytest

from flowfs.cli.runs import _fitting

COLUMNS = ["id", "state", "created", "duration", "data", "window", "result.window", "mean"]
WIDTHS = [32, 7, 16, 8, 8, 6, 13, 8]
LINES = [[("x" * width, "x" * width) for width in WIDTHS], [("y", "y")] * len(WIDTHS)]
WHOLE = sum(WIDTHS) + 2 * (len(WIDTHS) - 1)


def shown(monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((width, 24)))
    return [COLUMNS[place] for place in _fitting(LINES, COLUMNS)]


def test_all_columns_stand_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, WHOLE) == COLUMNS


@pytest.mark.parametrize(
    ("missing", "left_out"),
    [
        (1, {"created"}),
        (18 + 1, {"created", "duration"}),
        (18 + 10 + 1, {"created", "duration", "result.window"}),
        (18 + 10 + 15 + 1, {"created", "duration", "result.window", "mean"}),
    ],
)
def test_times_give_way_first_then_what_is_said_twice_then_what_is_at_the_right(
    monkeypatch: pytest.MonkeyPatch, missing: int, left_out: set[str]
) -> None:
    assert shown(monkeypatch, WHOLE - missing) == [c for c in COLUMNS if c not in left_out]


def test_id_and_state_stay_however_narrow_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, 10) == ["id", "state"]
