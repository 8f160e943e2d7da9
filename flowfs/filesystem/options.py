"""Which options a file system has: fsspec passes over one that it does not know, in silence."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from typing import Any

__all__ = ["check_options", "option_names"]

# Options of fsspec for file systems of any kind, and for reading that is asked for along with
# them: fsspec.open and its like pass on whatever they do not know themselves.
_OF_FSSPEC = frozenset(
    {
        "asynchronous",
        "auto_mkdir",
        "batch_size",
        "block_size",
        "cache_options",
        "cache_type",
        "default_block_size",
        "default_cache_type",
        "listings_expiry_time",
        "loop",
        "max_paths",
        "skip_instance_cache",
        "use_listings_cache",
    }
)


def option_names(of: type) -> list[str]:
    """Return the options that a file system has of its own, in their order."""
    parameters = inspect.signature(of.__init__).parameters.values()  # type: ignore[misc]
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [one.name for one in parameters if one.kind in kinds and one.name != "self"]


def check_options(given: Iterable[str], of: type[Any]) -> None:
    """Refuse options that there are not: ``tokn`` would be no token, and ``readonly`` no lock.

    Parameters
    ----------
    given : iterable of str
        Names that are none of the file system's own.
    of : type
        The file system.

    Raises
    ------
    TypeError
        If there is one that fsspec does not know either; the nearest is named. What was given
        for it is not: it may be a token.
    """
    unknown = sorted(set(given) - _OF_FSSPEC)
    if not unknown:
        return
    own = [name for name in option_names(of) if name != "url_endpoint"]
    near = difflib.get_close_matches(unknown[0], [*own, *sorted(_OF_FSSPEC)], 1)
    raise TypeError(
        f"no such option: {', '.join(map(ascii, unknown))}; "
        + (f"is {near[0]!r} meant? " if near else "")
        + f"There are {', '.join(own)}, and fsspec's own"
    )
