"""Which cases there are, in the order in which they run."""

from __future__ import annotations

from benchmarks import importing
from benchmarks.case import Case

__all__ = ["CASES"]

CASES: list[Case] = [
    importing.CASE,
]
