"""Running contenders in turn, and what came of it."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.bench import Bench
from benchmarks.case import Case, Comparison, Contender, Goal, Measured, Quantity

__all__ = ["CaseOutcome", "Outcome", "Spread", "run_case"]


@dataclass(frozen=True)
class Spread:
    """Several figures of one thing."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: list[float]) -> Spread:
        """Return the spread of some figures."""
        return cls(statistics.median(figures), min(figures), max(figures))


@dataclass
class Round:
    """What one run of a contender cost."""

    seconds: float
    cpu: float
    requests: int | None = None
    bytes: int | None = None
    memory: int | None = None
    kinds: dict[str, int] = field(default_factory=dict)


@dataclass
class Outcome:
    """What came of a comparison.

    Attributes
    ----------
    comparison : Comparison
        What was compared.
    rounds : dict of str to list of Round
        By contender.
    failed : dict of str to str
        Why a contender has no figures.
    """

    comparison: Comparison
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def spread(self, name: str, quantity: Quantity = "seconds", kind: str = "") -> Spread | None:
        """Return the spread of a quantity of a contender."""
        figures = self._figures(name, quantity, kind)
        return Spread.of(figures) if figures else None

    def ratio(self, goal: Goal) -> Spread | None:
        """Return the spread of what a goal bounds: round by round, of what ran side by side."""
        own = self._figures(goal.of, goal.quantity, goal.kind)
        if not own:
            return None
        if not isinstance(goal.against, str):
            return Spread.of([goal.value(figure, goal.against) for figure in own])
        other = self._figures(goal.against, goal.quantity, goal.kind)
        pairs = list(zip(own, other, strict=False))
        return Spread.of([goal.value(*pair) for pair in pairs]) if pairs else None

    def reached(self, goal: Goal) -> bool | None:
        """Tell whether a goal was reached; None where there are no figures."""
        spread = self.ratio(goal)
        return None if spread is None else goal.reached(spread.median)

    def _figures(self, name: str, quantity: Quantity, kind: str) -> list[float]:
        if kind:
            return [one.kinds.get(kind, 0) for one in self.rounds.get(name, [])]
        figures = [getattr(one, quantity) for one in self.rounds.get(name, [])]
        return [figure for figure in figures if figure is not None]

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "name": self.comparison.name,
            "notes": self.comparison.notes,
            "contenders": [
                {
                    "name": one.name,
                    "cannot_run": self.failed.get(one.name),
                    "rounds": [asdict(cost) for cost in self.rounds.get(one.name, [])],
                }
                for one in self.comparison.contenders
            ],
            "goals": [
                {
                    "text": goal.text,
                    **goal.bound,
                    "value": asdict(spread) if (spread := self.ratio(goal)) else None,
                    "reached": self.reached(goal),
                }
                for goal in self.comparison.goals
            ],
        }


@dataclass
class CaseOutcome:
    """What came of a case; `failed` says why it ended early."""

    case: Case
    outcomes: list[Outcome] = field(default_factory=list)
    failed: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "name": self.case.name,
            "title": self.case.title,
            "goal": self.case.goal,
            "cannot_run": self.failed or None,
            "comparisons": [outcome.to_json() for outcome in self.outcomes],
        }


def run_case(case: Case, bench: Bench, tell: Callable[[str], None]) -> CaseOutcome:
    """Run all comparisons of a case.

    Parameters
    ----------
    case : Case
        Which.
    bench : Bench
        How.
    tell : callable
        Takes a line about what goes on.
    """
    done = CaseOutcome(case)
    try:
        for comparison in case.run(bench):
            done.outcomes.append(_compare(comparison, bench, tell, case.name))
    except Exception as error:
        done.failed = _why(error)
        tell(f"{case.name}: CANNOT RUN: {done.failed}")
    return done


def _compare(
    comparison: Comparison, bench: Bench, tell: Callable[[str], None], case: str
) -> Outcome:
    outcome = Outcome(comparison)
    what = f"{case} {comparison.name}".strip()

    def without(contender: Contender, why: str) -> None:
        outcome.failed[contender.name] = why
        outcome.rounds.pop(contender.name, None)
        tell(f"{what}: {contender.name} CANNOT RUN: {why}")

    for contender in comparison.contenders:
        if contender.missing:
            without(contender, contender.missing)
            continue
        try:
            if contender.prove is not None:
                contender.prove()
            elif comparison.warm:
                _once(contender, comparison)
        except Exception as error:
            without(contender, _why(error))
    for number in range(comparison.repeats or bench.repeats):
        # Each goes first at times: the second finds what the first has left in the caches.
        for contender in _turned(comparison.contenders, number):
            if contender.name in outcome.failed:
                continue
            try:
                cost = _once(contender, comparison)
            except Exception as error:
                without(contender, _why(error))
                continue
            outcome.rounds.setdefault(contender.name, []).append(cost)
    for name, rounds in outcome.rounds.items():
        spread = Spread.of([one.seconds for one in rounds])
        tell(f"{what}: {name}: {spread.median:.3f} s ({spread.least:.3f} to {spread.most:.3f})")
    return outcome


def _turned(contenders: list[Contender], number: int) -> Iterator[Contender]:
    for place in range(len(contenders)):
        yield contenders[(place + number) % len(contenders)]


def _once(contender: Contender, comparison: Comparison) -> Round:
    if contender.before is not None:
        contender.before()
    try:
        gc.collect()
        if comparison.server is not None:
            comparison.server.reset()
        cpu, began = sum(os.times()[:4]), time.perf_counter()
        got = contender.act()
        seconds = time.perf_counter() - began
        cost = Round(seconds, sum(os.times()[:4]) - cpu)
        if comparison.server is not None:
            stats = comparison.server.stats()
            cost.requests, cost.kinds = stats["total"], stats["requests"]
            cost.bytes = sum(stats["bytes"].values())
        if isinstance(got, Measured):
            for name, figure in asdict(got).items():
                if figure is not None:
                    setattr(cost, name, figure)
        if contender.check is not None:
            contender.check(got)
        return cost
    finally:
        if contender.after is not None:
            contender.after()


def _why(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
