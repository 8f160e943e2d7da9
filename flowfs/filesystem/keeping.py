"""Where mounts and commands keep what never changes, unless they are told otherwise."""

from __future__ import annotations

import logging

from flowfs.content import Room
from flowfs.disk import claim, default_place
from flowfs.errors import FlowError, describe

__all__ = ["usual_place"]

logger: logging.Logger = logging.getLogger("flowfs.disk")


def usual_place() -> str | None:
    """Return the user's directory for caches; None if nothing can be kept there, which is logged.

    It is made, for its owner alone, if it is missing. Costs no request.
    """
    place = default_place()
    if place is None:
        logger.warning("nothing is kept on disk: there is no home directory; name a cache_dir")
        return None
    try:
        claim(place)
        Room(place)
    except FlowError as error:
        logger.warning("nothing is kept on disk: %s", describe(error))
        return None
    return place
