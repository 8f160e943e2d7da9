"""Waiting for runs: one request tells of all of a group, asked ever more rarely."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from flowfs.catalog import Catalog, RunRecord
from flowfs.errors import (
    BadReply,
    ConnectionFailed,
    DeadlineExceeded,
    FlowError,
    InvalidArguments,
    NotFound,
    ServiceBusy,
    StillActive,
    failure,
)
from flowfs.service.asking import waiting

__all__ = ["Patience", "Watched", "await_runs"]

# What passes: a service that is started anew, or has too much to do.
_PASSING = (BadReply, ConnectionFailed, DeadlineExceeded, ServiceBusy)
_PART = 0.1  # of the time that was waited, until somebody looks again
_JITTER = 0.2  # of each pause, so that many who wait do not ask at the same moments

_LAST = 5.0  # seconds that a look may take at least
_SHOWN = 8  # runs that a message names

#: A run: the ids of its group and of itself.
Watched = tuple[str, str]


@dataclass(frozen=True)
class Patience:
    """How long is waited, and how often somebody looks.

    Attributes
    ----------
    timeout : float or None
        Seconds to wait at most; None: as long as it takes.
    shortest, longest : float
        Seconds between two looks: a tenth of the time that was waited, within these.
    faults : float
        Seconds for which a service may fail, one look after the other.
    """

    timeout: float | None = None
    shortest: float = 0.5
    longest: float = 15.0
    faults: float = 300.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value >= 0:
                raise failure(
                    InvalidArguments, f"{name} must be a number of at least 0, not {value!r}"
                )
        if self.longest < self.shortest:
            raise failure(
                InvalidArguments,
                f"the longest pause ({self.longest:g} s) is shorter than the shortest "
                f"({self.shortest:g} s)",
            )

    def pause(self, waited: float) -> float:
        """Return the seconds until the next look, for who has waited so many seconds."""
        plain = min(max(waited * _PART, self.shortest), self.longest)
        return plain * random.uniform(1 - _JITTER, 1 + _JITTER)


def await_runs(
    catalog: Catalog,
    runs: Iterable[Watched],
    patience: Patience,
    changed: Callable[[str, RunRecord | None], object] = lambda run_id, record: None,
    *,
    enough: int = 0,
) -> dict[str, RunRecord | None]:
    """Wait until runs have ended, or few enough are left.

    Each look costs one request for each group of which several runs are waited for, whatever
    their number, and one for each run that is alone in its group. One more for a run that is
    missing from the listing: it may be there all the same.

    Parameters
    ----------
    catalog : Catalog
        What is asked, each time anew.
    runs : iterable of (str, str)
        Ids of groups and runs.
    patience : Patience
        How long, and how often.
    changed : callable
        Called with the id of a run and what is told of it now, whenever its state is another;
        None: it is gone. What it raises ends the waiting.
    enough : int
        How many may be active at the end.

    Returns
    -------
    dict of str to RunRecord or None
        What was last told of each run, by its id; None: it is gone.

    Raises
    ------
    StillActive
        If the time is up; what is told of each run until then went to `changed`.
    FlowError
        As the service says: at once where it refuses, else once it has failed for too long.
    """
    known: dict[str, RunRecord | None] = {}
    active = dict.fromkeys(runs)  # in order, each once
    began = time.monotonic()
    ends = None if patience.timeout is None else began + patience.timeout
    failing: float | None = None
    fault: FlowError | None = None
    while True:
        try:
            with _until(ends, catalog):
                looked = list(_looked(catalog, active))
            for group_id, run_id, record in looked:
                before = known.get(run_id)
                known[run_id] = record
                if record is None or not record.active:
                    del active[group_id, run_id]
                if record is None or before is None or before.state != record.state:
                    changed(run_id, record)
            failing = fault = None
        except _PASSING as error:
            now = time.monotonic()
            failing, fault = (now if failing is None else failing), error
            if now - failing >= patience.faults:
                raise _told(error, len(active)) from error
        if fault is None and len(active) <= enough:
            return known
        now = time.monotonic()
        if ends is not None and now >= ends:
            raise _late([run_id for _, run_id in active], patience, fault) from fault
        pause = patience.pause(now - began)
        # A last look when the time is up.
        time.sleep(pause if ends is None else min(pause, ends - now))


def _looked(
    catalog: Catalog, active: Iterable[Watched]
) -> Iterable[tuple[str, str, RunRecord | None]]:
    """Look once at all that is active."""
    groups: dict[str, list[str]] = {}
    for group_id, run_id in active:
        groups.setdefault(group_id, []).append(run_id)
    for group_id, run_ids in groups.items():
        listing = None
        if len(run_ids) > 1:
            # NotFound: a group that can only be asked for its runs one by one, or it is gone.
            with contextlib.suppress(NotFound):
                listing = catalog.runs(group_id, refresh=True)
        for run_id in run_ids:
            record = None if listing is None else listing.get(run_id)
            if record is None:
                try:
                    record = RunRecord.of(catalog.run(group_id, run_id, refresh=True))
                except NotFound:
                    record = None
            yield group_id, run_id, record


@contextlib.contextmanager
def _until(ends: float | None, catalog: Catalog) -> Iterator[None]:
    """Have what is asked for within take no longer than there is time; some seconds in any case."""
    if ends is None:
        yield
        return
    left = max(ends - time.monotonic(), _LAST)
    with waiting(max(catalog.service.session.timeout - left, 0.0)):
        yield


def _told(error: FlowError, left: int) -> FlowError:
    error.strerror = f"{error.strerror}; {left} of the runs that are waited for had not ended"
    return error


def _late(run_ids: list[str], patience: Patience, fault: FlowError | None) -> StillActive:
    shown = ", ".join(run_ids[:_SHOWN])
    more = f" and {len(run_ids) - _SHOWN} more" if len(run_ids) > _SHOWN else ""
    why = f"; the last look failed: {fault.strerror}" if fault is not None else ""
    error = failure(
        StillActive,
        f"{len(run_ids)} of the runs that are waited for have not ended within "
        f"{patience.timeout:g} s: {shown}{more}{why}",
    )
    error.run_ids = tuple(run_ids)
    return error
