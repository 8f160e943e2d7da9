"""One archive in place of many small files of a run, where that is cheaper."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flowfs.content.unpacking import MOST, unpacked
from flowfs.errors import FlowError, again
from flowfs.service.body import Body
from flowfs.service.waits import wait

if TYPE_CHECKING:
    from flowfs.content.source import Source

__all__ = ["FEWEST", "SMALL", "Cost", "Pack", "Packs"]

logger: logging.Logger = logging.getLogger("flowfs.content")

Key = tuple[str, ...]

#: Files that a run has at least for its archive to be thought of.
FEWEST = 64
SMALL = 1 << 16  # bytes; what is larger is no small file
_TRIED = 8  # files that are asked for one by one before anything is decided
_RUNS = 64  # of which it is known what their files cost
# What a request costs the service at least, beside the way there and back, where it is dear.
_DEAR = 0.003  # seconds
# How long an archive takes is estimated as two requests behind those that are under way, a part
# of one for each file in it, and bytes by this pace: what can hardly be packed takes that long.
_PART = 1 / 40
_PACKED = 30e6  # bytes a second
_REST = 600.0  # seconds without archives after one that came late, or was wrong


@dataclass(frozen=True, eq=False)
class Pack:
    """What is in the archive of a run.

    Attributes
    ----------
    key : tuple of str
        How the keys of its files begin.
    names : list of str
        What its members must be called, in this order: the service's names of the files.
    sources : callable
        Returns the files, in the same order.
    open : callable
        Asks for the archive; takes the seconds until the reply must have begun. One request,
        which is not sent again.
    shortest : callable
        Returns the seconds that the shortest request took so far.
    timeout : float
        Seconds that one request may take.
    """

    key: Key
    names: list[str]
    sources: Callable[[], list[Source]]
    open: Callable[[float], Body]
    shortest: Callable[[], float]
    timeout: float


class _Flight:
    """An archive that is on its way, and until when it is waited for.

    Attributes
    ----------
    late : bool
        Whether it is given up, for its time is over.
    gone : bool
        Whether its run has been deleted.
    interrupted : FlowError or None
        What it ended with, if somebody interrupted it.
    """

    def __init__(self, patience: float) -> None:
        self.until: float = time.monotonic() + patience
        self.over: threading.Event = threading.Event()
        self.late: bool = False
        self.gone: bool = False
        self.interrupted: Exception | None = None

    def give_up(self, body: Body) -> None:
        """End it, for its time is over."""
        self.late = True
        body.interrupt()


@dataclass(eq=False)
class Cost:
    """What the files of a run have cost that were asked for one by one.

    Attributes
    ----------
    files, bytes : int
        How many came, and how large they were in all.
    seconds : float
        What their requests took, all added up.
    busy : float
        Seconds in which at least one was under way.
    now : int
        Requests that are under way.
    wanted, askers : int
        How many more files will be asked for, and how many have said so.
    endings : set of str
        Of their names.
    looks_at : int
        How many files there must be when the archive is thought of next.
    flight : _Flight or None
        The archive, once it is asked for.
    over : bool
        Whether nothing is left to be decided.
    """

    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    now: int = 0
    wanted: int = 0
    askers: int = 0
    endings: set[str] = field(default_factory=set)
    looks_at: int = _TRIED
    flight: _Flight | None = None
    over: bool = False
    since: float = 0.0

    def begin(self) -> None:
        """Note that a request begins."""
        if not self.now:
            self.since = time.monotonic()
        self.now += 1

    def end(self, seconds: float) -> None:
        """Note that one has taken so long."""
        self.now -= 1
        self.seconds += seconds
        if not self.now:
            self.busy += time.monotonic() - self.since

    def _each(self, pack: Pack) -> tuple[float, float, float]:
        """Return what a file takes, and what of that is its own, in seconds; the bytes of all."""
        busy = self.busy + (time.monotonic() - self.since if self.now else 0.0)
        each = busy / self.files
        # What they take beside the way there and back is what the archive saves.
        own = each * max(0.0, 1 - pack.shortest() * self.files / max(self.seconds, 1e-9))
        return each, own, self.bytes / self.files * len(pack.names)

    def is_dear(self, pack: Pack) -> bool:
        """Tell whether the files are small and dear: what is left need not be looked at if not."""
        _, own, size = self._each(pack)
        return own >= _DEAR and size <= MOST

    def plan(self, pack: Pack, unknown: list[str]) -> float:
        """Return how long to wait for the archive, in seconds; 0 where it is not worth it.

        Parameters
        ----------
        pack : Pack
            What is in it.
        unknown : list of str
            Names of the files that are not known yet.
        """
        each, own, size = self._each(pack)
        left = len(unknown) - self.now
        # Whose plans nobody knows goes on for as long as they have gone on.
        meant = min(left, max(self.wanted, 0 if self.askers else self.files))
        if not self.is_dear(pack) or meant < (1 if self.askers else FEWEST):
            return 0.0
        if not {_ending(name) for name in unknown} <= self.endings:
            return 0.0  # of others it is not known how large they are
        takes = pack.shortest() + self.now * each
        takes += (2 + len(pack.names) * _PART) * own + size / _PACKED
        saves = meant * each
        patience = min(saves * 3 / 4, 2 * takes, pack.timeout / 10)
        worth = takes <= saves / (2 if self.askers else 4) and takes <= patience
        return patience if worth else 0.0


class Packs:
    """Decides where many small files of a run come as one archive, and fetches that.

    The service looks at all files of a run for each that it sends, so that many of them are
    dear, and its archive is not. But nobody tells how large files are, and a large archive takes
    long before it begins. So the first files of a run are asked for one by one, as always; where
    they are small and dear, and so many are left that the archive takes a fraction of their
    time, it is fetched, once, by one of those who ask, while the others wait for a bounded time.
    What comes late, or breaks, or is not what it must be, is dropped without a word, and the
    files are asked for one by one. Thread-safe; no lock is held while the service is asked.

    Parameters
    ----------
    held : callable
        Returns all of a small file where it is kept in memory, its size where only that is
        known, and None otherwise; takes a key.
    keep : callable
        Keeps a file that has come; takes its source and its bytes.

    Attributes
    ----------
    on : bool
        Whether archives are fetched.
    """

    def __init__(
        self,
        held: Callable[[Key], bytes | int | None],
        keep: Callable[[Source, bytes], None],
    ) -> None:
        self.on = True
        self._held = held
        self._keep = keep
        self._lock = threading.Lock()
        self._costs: OrderedDict[Key, Cost] = OrderedDict()
        self._rests_until = 0.0

    @contextlib.contextmanager
    def expecting(self, counts: Mapping[Key, int]) -> Iterator[None]:
        """Say that so many files of runs will be asked for within the ``with`` block."""
        costs = []
        with self._lock:
            for key, count in counts.items():
                cost = self._cost(key)
                cost.askers += 1
                cost.wanted += count
                costs.append(cost)
        try:
            yield
        finally:
            with self._lock:
                for cost in costs:
                    cost.askers -= 1
                    if not cost.askers:
                        cost.wanted = 0

    def _cost(self, key: Key) -> Cost:
        cost = self._costs.setdefault(key, Cost())
        self._costs.move_to_end(key)
        while len(self._costs) > _RUNS:
            self._costs.popitem(last=False)
        return cost

    def forget(self, key: Key) -> None:
        """Forget what the files of a run that is gone have cost."""
        with self._lock:
            cost = self._costs.pop(key, None)
            if cost is not None and cost.flight is not None:
                cost.flight.gone = True

    # -- one by one --------------------------------------------------------

    def ask(self, source: Source, span: str | None) -> Body:
        """Ask for a file by itself, and note what that costs; see :class:`Source`."""
        pack = source.pack
        if pack is None or not self.on:
            return source.fetch(span)
        with self._lock:
            cost = self._cost(pack.key)
            cost.begin()
        begun = time.monotonic()
        body = None
        try:
            body = source.fetch(span)
            return body
        finally:
            with self._lock:
                cost.end(time.monotonic() - begun)
                if body is None or body.total is None or body.total > SMALL:
                    cost.over = True
                else:
                    cost.files += 1
                    cost.bytes += body.total
                    cost.endings.add(_ending(source.name))

    # -- all at once -------------------------------------------------------

    def bring(self, source: Source) -> float | None:
        """Have a file that is about to be asked for come in an archive, where that is better.

        One request for all files of its run, or a wait for it where that is under way; mostly
        nothing.

        Returns
        -------
        float or None
            Seconds that this took. Whether the file has come is to be looked up then; None
            where it has not.

        Raises
        ------
        FlowError
            If the archive was interrupted: that is for all who wait for it.
        """
        pack = source.pack
        if pack is None or not self.on:
            return None
        begun = time.monotonic()
        with self._lock:
            cost = self._cost(pack.key)
            cost.wanted -= cost.wanted > 0
            flight = cost.flight
            mine = flight is None and self._begins(cost, pack, begun)
            flight = cost.flight
        if flight is None:
            return None
        waits = not flight.over.is_set()
        if mine:
            try:
                if not self._fetch(pack, flight):
                    self._rests_until = time.monotonic() + _REST
            finally:
                flight.over.set()
        else:
            wait(flight.over.wait, max(0.0, flight.until - begun))
        if waits and flight.interrupted is not None:
            raise again(flight.interrupted)
        return time.monotonic() - begun

    def _begins(self, cost: Cost, pack: Pack, now: float) -> bool:
        """Tell whether to fetch an archive now; the lock is held."""
        if cost.over or cost.files < cost.looks_at or now < self._rests_until:
            return False
        cost.looks_at = cost.files + max(_TRIED, cost.files // 4)
        if not cost.is_dear(pack):
            return False
        files = zip(pack.names, pack.sources(), strict=True)
        unknown = [name for name, source in files if self._held(source.key) is None]
        patience = cost.plan(pack, unknown)
        if patience > 0:
            cost.flight, cost.over = _Flight(patience), True
        return patience > 0

    def _fetch(self, pack: Pack, flight: _Flight) -> bool:
        """Fetch an archive, and keep what is in it; tell whether it came, and was right."""
        try:
            body = pack.open(flight.until - time.monotonic())
            with body:
                left = flight.until - time.monotonic()
                ends = threading.Timer(left, flight.give_up, (body,))
                ends.daemon = True
                ends.start()
                try:
                    files = list(zip(pack.sources(), unpacked(body, pack.names), strict=True))
                finally:
                    ends.cancel()
            self._compare(files)
        except Exception as error:  # nobody has asked for an archive: it is nobody's error
            interrupted = isinstance(error, FlowError) and error.errno == errno.ECANCELED
            if interrupted and not flight.late:
                flight.interrupted = again(error)
            logger.debug("files of %s are asked for one by one: %s", "/".join(pack.key), error)
            return False
        for source, data in files:
            if self._held(source.key) is None and not flight.gone:
                self._keep(source, data)
        return True

    def _compare(self, files: list[tuple[Source, bytes]]) -> None:
        """Raise unless files that came one by one are the same in the archive."""
        for source, data in files:
            held = self._held(source.key)
            if held is not None and held != (data if isinstance(held, bytes) else len(data)):
                raise ValueError(f"the file {source.key[-1]!r} is another one in the archive")


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()
