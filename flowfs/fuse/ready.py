"""What a mount tells once it answers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Ready"]


@dataclass(frozen=True)
class Ready:
    """A mount that answers.

    Attributes
    ----------
    url : str
        What is mounted, in full.
    directory : str
        Where; absolute.
    pid : int
        The process that serves it.
    log : str
        Where it logs to, in words; empty: nowhere.
    notes : tuple of str
        What had to be done first, for the user.
    """

    url: str
    directory: str
    pid: int
    log: str
    notes: tuple[str, ...] = ()
