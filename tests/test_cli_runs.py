"""What `flowfs runs` shows where a terminal has no room for all columns."""

from __future__ import annotations

import os
import shutil

import pytest

from flowfs.cli.runs import _fitting

COLUMNS = [
    "id",
    "state",
    "created",
    "duration",
    "data",
    "window",
    "result.window",
    "mean",
    "stations",
]
WIDTHS = [32, 7, 16, 8, 8, 6, 13, 8, 8]
SAME = {"data", "stations"}  # for all runs
LINES = [
    [("h" * width, "") for width in WIDTHS],
    [("1", "")] * len(WIDTHS),
    [("1" if name in SAME else "2", "") for name in COLUMNS],
]
WHOLE = sum(WIDTHS) + 2 * (len(WIDTHS) - 1)


def shown(monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((width, 24)))
    return [COLUMNS[place] for place in _fitting(LINES, COLUMNS)]


def test_all_columns_stand_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, WHOLE) == COLUMNS


def test_times_give_way_first_then_what_all_share_what_is_said_twice_and_what_is_at_the_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left_out: list[str] = []
    room = WHOLE
    for name in ("duration", "created", "stations", "data", "result.window", "mean", "window"):
        assert shown(monkeypatch, room) == [c for c in COLUMNS if c not in left_out]
        assert name in shown(monkeypatch, room)
        left_out.append(name)
        room -= 1
        assert shown(monkeypatch, room) == [c for c in COLUMNS if c not in left_out]
        room -= WIDTHS[COLUMNS.index(name)] + 1


def test_id_and_state_stay_however_narrow_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, 10) == ["id", "state"]
