"""Which cases there are, in the order in which they run."""

from __future__ import annotations

from benchmarks import importing, reading
from benchmarks.case import Case

__all__ = ["CASES"]

CASES: list[Case] = [
    *reading.CASES,
    importing.CASE,
]
