"""Sweeps: many runs out of one file, started each once however often that is begun anew.

:mod:`~flowfs.sweep.rows` reads the file, :mod:`~flowfs.sweep.ledger` keeps what became of each
row, and :mod:`~flowfs.sweep.starting` starts what is left. The first two are pure but for the
ledger's own file: nothing in them talks to a service.
"""

from flowfs.sweep.ledger import Baseline, Intent, Ledger
from flowfs.sweep.rows import FORMATS, Row, Sweep, read_sweep
from flowfs.sweep.starting import Outcome, start_sweep

__all__ = [
    "FORMATS",
    "Baseline",
    "Intent",
    "Ledger",
    "Outcome",
    "Row",
    "Sweep",
    "read_sweep",
    "start_sweep",
]
