"""Where bytes come from: files that never change once they have an id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from flowfs.content.packs import Pack
from flowfs.service.body import Body

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """A file of the service.

    Attributes
    ----------
    key : tuple of str
        Tells it from every other of the same service: what it is of (``run``, ``upload``,
        ``workflow``), and ids. Result files and uploads have ids
        that are never given twice, so that size and bytes of a key never change.
    fetch : callable
        Opens it; takes the value of a Range header, or None for all of it.
    whole : bool
        Whether it must come in one reply and be kept: the service makes it anew for each
        request, and no two are alike (archives).
    pack : Pack, optional
        An archive that it is in, with others.
    name : str
        The service's name for it, where it is in one.
    """

    key: tuple[str, ...]
    fetch: Callable[[str | None], Body] = field(compare=False, repr=False)
    whole: bool = False
    pack: Pack | None = field(default=None, compare=False, repr=False)
    name: str = field(default="", compare=False, repr=False)
