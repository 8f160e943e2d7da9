"""Contenders that are mounts: each run on a fresh one, which nobody has read from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from benchmarks.case import Contender, Measured
from benchmarks.mounts import Mount
from benchmarks.reader import shell

__all__ = ["BINDINGS", "Make", "counted", "on_mount"]

#: Makes a mount.
Make = Callable[[], AbstractContextManager[Mount]]

#: Name of each binding with each library: what to give to `flowfs_mount` and `memory_mount`.
BINDINGS: dict[str, dict[str, Any]] = {
    "fusepy": {"binding": "fusepy"},
    "mfusepy, libfuse 2": {"binding": "mfusepy", "library": "fuse"},
    "mfusepy, libfuse 3": {"binding": "mfusepy", "library": "fuse3"},
}


def counted(command: str, least: int, path: str, mount: Mount) -> Measured:
    """Run a command on a path of a mount, and count the lines that it prints.

    Parameters
    ----------
    command : str
        Of the shell; the path is ``$1``.
    least : int
        How many lines there must be.

    Returns
    -------
    Measured
        With the bytes that the mount's process has grown by.

    Raises
    ------
    ValueError
        If there are fewer lines.
    """
    before = mount.usage().memory
    took = shell(command, mount.path / path)
    lines = took.output.count(b"\n")
    if lines < least:
        raise ValueError(f"{lines} lines, at least {least} expected")
    return Measured(took.seconds, memory=max(0, mount.usage().memory - before))


def on_mount(
    name: str,
    make: Make,
    act: Callable[[Mount], Any],
    *,
    check: Callable[[Any], None] | None = None,
    prove: Callable[[Mount], None] | None = None,
    first: Callable[[Mount], Any] | None = None,
    missing: str = "",
) -> Contender:
    """Return a contender that does its work on a mount, which is made anew for each run.

    Parameters
    ----------
    name : str
        Of the contender.
    make : callable
        Makes the mount. Neither this nor its end is timed.
    act : callable
        Does the work.
    check, missing
        As of `Contender`.
    prove : callable, optional
        Does the work on a mount of its own, and raises if a byte is wrong.
    first : callable, optional
        What is done on the mount before the work, and not timed.
    """
    stack = contextlib.ExitStack()
    made: list[Mount] = []

    def before() -> None:
        try:
            made.append(stack.enter_context(make()))
            if first is not None:
                first(made[-1])
        except BaseException:
            after()
            raise

    def after() -> None:
        made.clear()
        stack.close()

    def proof() -> None:
        with make() as mount:
            assert prove is not None
            prove(mount)

    return Contender(
        name,
        lambda: act(made[-1]),
        check,
        proof if prove is not None else None,
        before,
        after,
        missing,
    )
