"""flowfs beside what else a user could take, in one run: ``scripts/bench`` runs it."""

import sys
from pathlib import Path

# The stand-in that is asked, and what mounts it, are those of the tests.
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
