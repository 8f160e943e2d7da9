"""Which cases there are, in the order in which they run."""

from __future__ import annotations

from benchmarks import (
    columns,
    footprint,
    growth,
    importing,
    many,
    mount_finding,
    mount_listing,
    mount_reading,
    packed,
    reading,
)
from benchmarks.case import Case

__all__ = ["CASES"]

CASES: list[Case] = [
    *reading.CASES,
    many.CASE,
    packed.CASE,
    *mount_reading.CASES,
    *mount_listing.CASES,
    *mount_finding.CASES,
    columns.CASE,
    footprint.CASE,
    importing.CASE,
    growth.CASE,
]
