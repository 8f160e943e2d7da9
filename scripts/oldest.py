"""Print the oldest versions that flowfs may be installed with, as constraints for pip.

    python scripts/oldest.py EXTRA... > constraints.txt

They are the lower bounds of what flowfs requires and of what the extras named bring. Of an
environment made with them only what those require in their turn is new.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?>=(?P<version>[0-9][^,;\s]*)")


def oldest(project: str, extras: list[str]) -> list[str]:
    """Return ``name==version`` for each lower bound.

    Parameters
    ----------
    project : str
        What stands in `pyproject.toml`.
    extras : list of str
        Extras whose bounds are wanted as well as those of what is required.

    Raises
    ------
    SystemExit
        If there is no such extra, or something required has no lower bound.
    """
    pins = []
    for name in ("dependencies", *extras):
        # tomllib came with Python 3.11, and this runs before anything is installed.
        found = re.search(rf"^{re.escape(name)} = \[(.*?)\]$", project, re.DOTALL | re.MULTILINE)
        if found is None:
            sys.exit(f"pyproject.toml has no list '{name}'")
        for text in re.findall(r'"([^"]+)"', found[1]):
            bound = _REQUIREMENT.match(text)
            if bound is None:
                sys.exit(f"'{text}' of '{name}' has no lower bound to test with")
            pins.append(f"{bound['name']}=={bound['version']}")
    return pins


if __name__ == "__main__":
    print(*oldest((_ROOT / "pyproject.toml").read_text(), sys.argv[1:]), sep="\n")
