"""A text that shows itself to nobody by accident."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

__all__ = ["Secret"]

_KEY = secrets.token_bytes(16)


class Secret(str):
    """A string whose ``repr`` is not what it holds.

    It is for tokens, which would otherwise stand in whatever shows the values of variables:
    reports of errors with locals, debuggers, dictionaries of options that are printed. ``str``,
    ``encode`` and formatting give the text itself: whoever sends it needs it.

    Notes
    -----
    Two of them look alike only if they are, within a process: fsspec tells instances apart by
    how their options look. What they look like tells nothing to who does not know the key,
    which is made anew by each process.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<secret {hashlib.blake2b(self.encode(), key=_KEY, digest_size=8).hexdigest()}>"

    def __reduce__(self) -> Any:
        return Secret, (str(self),)
