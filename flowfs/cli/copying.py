"""How ``flowfs cp`` copies: several files at once, starts of runs one after the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

from flowfs.cli.copies import Copy, End
from flowfs.cli.ending import Several
from flowfs.cli.naming import Place
from flowfs.cli.output import stdin
from flowfs.errors import FlowError, failure

if TYPE_CHECKING:
    from fsspec.callbacks import Callback

    from flowfs.cli.progress import CopyProgress

__all__ = ["carry_out"]

_CHUNK = 1 << 20  # bytes


def carry_out(copies: Sequence[Copy], several: Several, preserve: bool) -> list[Copy]:
    """Copy, and return what was copied. What fails is told, the rest is done.

    Runs are started one after the other, in order, and none after one that is refused;
    everything else is copied several files at once.
    """
    from flowfs.cli.progress import CopyProgress

    with CopyProgress(len(copies)) as progress:
        outcomes = _all(copies, progress)
    done = []
    for copy, outcome in zip(copies, outcomes, strict=False):
        if isinstance(outcome, OSError):
            several.failed(outcome)
            continue
        if isinstance(outcome, Exception):
            raise outcome
        done.append(copy)
        if preserve and isinstance(copy.source, Place) and isinstance(copy.target, str):
            with several.one():
                _keep_time(copy.source, copy.target)
    return done


def _all(copies: Sequence[Copy], progress: CopyProgress) -> list[object]:
    """Copy all; return for each None, or the exception that was raised."""
    from flowfs.pool import map_all

    def one(copy: Copy) -> None:
        _copy(copy, progress.branched("", ""))
        progress.relative_update(1)

    if any(copy.acts for copy in copies):
        outcomes: list[object] = []
        for copy in copies:
            outcomes += map_all(one, [copy], 1)
            if isinstance(outcomes[-1], Exception):
                break
        return outcomes
    services: dict[int, Any] = {}
    fetched: dict[int, list[str]] = {}
    for copy in copies:
        for end in (copy.source, copy.target):
            if isinstance(end, Place):
                services[id(end.fs)] = end.fs
                paths = fetched.setdefault(id(end.fs), [])
                if end is copy.source:
                    paths.append(end.path)
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(services[it].together(fetched[it])) for it in services]
        return list(map_all(one, copies, max(workers, default=1)))


def _copy(copy: Copy, progress: Callback) -> None:
    source, target = copy.source, copy.target
    if not isinstance(target, Place):
        assert isinstance(source, Place)
        try:
            source.fs.get_file(source.path, target, callback=progress)
        except OSError as error:
            # Who writes to a descriptor is not told of what file.
            if error.filename is None and not isinstance(error, FlowError):
                error.filename = target
            raise
        return
    if isinstance(source, str) and source != "-" and not copy.acts:
        target.fs.put_file(source, target.path, callback=progress)
        return
    # What fails while it is read sends nothing.
    with target.fs.open(target.path, "wb") as out, _opened(source) as file:
        while piece := file.read(_CHUNK):
            out.write(piece)
            progress.relative_update(len(piece))
    if out.run is not None:
        run = target.fs.entries.path_of_run(out.run["id"])
        copy.told |= {"run": run, "id": out.run["id"], "state": out.run["state"]}


@contextlib.contextmanager
def _opened(source: End) -> Iterator[IO[bytes]]:
    if isinstance(source, Place):
        with source.fs.open(source.path) as file:
            yield file
    elif source == "-":
        yield stdin().buffer
    else:
        with open(source, "rb") as local:
            yield local


def _keep_time(source: Place, target: str) -> None:
    entry = source.fs.entries.entry(source.fs.entries.resolve(source.path), ask=False)
    time = entry.get("mtime")
    if time is None:
        return
    try:
        os.utime(target, (time, time))
    except OSError as error:  # a file system without, or that of others: as with cp, it stays
        raise failure(
            FlowError,
            f"is copied, but its time could not be kept: {error.strerror}",
            target,
            errno=error.errno,
        ) from None
