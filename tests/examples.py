"""How many examples a property is tried on: few and the same ones, or very many others.

Environment variables:

``FLOWFS_PROPERTY_EXAMPLES``
    How many examples each property is tried on; unless set, as many as it says itself, and the
    same ones each time.
``FLOWFS_PROPERTY_SEED``
    A whole number, or ``random``, for the long form; the one that was used is printed, and the
    same one makes the same examples.

``scripts/properties`` runs the long form.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, seed, settings

__all__ = ["EXAMPLES", "LONG", "SEED", "tried_on"]

EXAMPLES = int(os.environ.get("FLOWFS_PROPERTY_EXAMPLES") or 0)
LONG = EXAMPLES > 0
_wanted = os.environ.get("FLOWFS_PROPERTY_SEED") or "random"
SEED = random.SystemRandom().randrange(2**32) if _wanted == "random" else int(_wanted)

T = TypeVar("T", bound=Callable[..., Any])


def tried_on(few: int) -> Callable[[T], T]:
    """Try a property on so many examples, or on as many as the long form has.

    Stands above ``given``.
    """

    def decorate(test: T) -> T:
        if not LONG:
            return settings(max_examples=few)(test)  # type: ignore[no-any-return]
        more = settings(
            max_examples=EXAMPLES,
            derandomize=False,  # the seed counts
            database=None,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        return seed(SEED)(more(test))  # type: ignore[no-any-return]

    return decorate


if LONG:
    sys.stderr.write(f"\nFLOWFS_PROPERTY_SEED={SEED} FLOWFS_PROPERTY_EXAMPLES={EXAMPLES}\n")
