"""Bytes that are on their way: replies, taken up where they break, and who waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from flowfs.content.source import Source
from flowfs.errors import BadReply, FlowError, failure
from flowfs.service.body import Body

if TYPE_CHECKING:
    from flowfs.content.store import Store

__all__ = ["Fetch", "Fetching"]

_RESUMES = 3
# How far is fetched ahead of who follows: as much as was read already, within these.
_LEAST_LEAD = 1 << 20  # bytes
_MOST_LEAD = 1 << 24  # bytes
_WORTH = 1 << 17  # bytes that are written at once, unless somebody waits for some of them


class Fetching:
    """How bytes of one file are fetched.

    Parameters
    ----------
    store : Store
        What asks for them.
    source : Source
        The file, which never changes.
    size : int
        Bytes in it.

    Attributes
    ----------
    from_the_front : bool
        Whether the service sends all of it whatever is asked for.
    """

    def __init__(self, store: Store, source: Source, size: int) -> None:
        self.size = size
        self.from_the_front: bool = False
        self._store = store
        self._source = source

    def begin(self, start: int, until: int, body: Body | None = None) -> Fetch:
        """Return a fetch of the bytes from `start`; asks for nothing before it is read.

        Where somebody has asked for them already, `body` is the reply.
        """
        if self.from_the_front:
            start, until = 0, self.size
        return Fetch(self, start, until, body)

    def body(self, start: int, until: int) -> Body:
        """Open a reply with the bytes from `start` on; one request."""
        body = self._store.fetch(self._source, start, None if until == self.size else until)
        if body.total not in (None, self.size):  # it was forgotten, and is another one now
            body.close()
            message = f"it has {body.total} bytes now and had {self.size} when it was opened"
            raise failure(BadReply, message, body.name, status=200)
        self.from_the_front |= start > 0 and body.length != 0 and body.start == 0
        return body


class Fetch:
    """One reply, or several that continue each other, read by one thread after another.

    Parameters
    ----------
    fetching : Fetching
        How replies are opened.
    start, until : int
        Where in the file it begins and ends.
    body : Body, optional
        The reply, if it was asked for already.

    Attributes
    ----------
    at : int
        Where the next byte stands in the file.
    target : int
        How far who reads it now wants to get.
    busy : bool
        Whether somebody reads it now.
    used : float
        When it was last read.
    error : FlowError or None
        What it ended with.
    since : int
        Where who reads it now, or follows, began.
    led : bool
        Whether a thread of its own reads it, ahead of all others.
    stopped : bool
        Whether that thread is to end, for nobody is there to follow.
    wake : Event
        Set when that thread has something to do.

    Notes
    -----
    Only :meth:`read` and :meth:`read_ahead` ask the service, and only who has set `busy` calls
    them. The rest is called with the lock of the file held.
    """

    def __init__(
        self, fetching: Fetching, start: int, until: int, body: Body | None = None
    ) -> None:
        self.at: int = start
        self.target: int = start
        self.until: int = until
        self.busy: bool = False
        self.used: float = 0.0
        self.error: FlowError | None = None
        self._fetching = fetching
        self._body = body
        self.since: int = start
        self.led: bool = False
        self.stopped: bool = False
        self.wake: threading.Event = threading.Event()
        self._failures = 0
        self._broke: FlowError | None = None  # why there is no more than what came last
        self._waiting: list[tuple[int, threading.Event]] = []

    def brings(self, place: int, ahead: int) -> bool:
        """Tell whether who waits for a byte does best to wait for this."""
        if not self.at <= place < self.until:
            return False
        near = place <= max(self.at + ahead, self.target)
        return near or self._fetching.from_the_front

    def read(self, size: int) -> bytes:
        """Return up to `size` more bytes, at least one; to be told of when they are kept.

        They stand at `at`, which a reply may have moved to the front of the file: that is
        where the service begins that takes no note of what is asked for.

        Raises
        ------
        FlowError
            As the service says; if a reply broke off several times without bringing anything.
        """
        return self._taken(lambda body: body.read(min(size, self.until - self.at)))

    def read_ahead(self, size: int) -> bytes:
        """Return up to `size` more bytes: what has come, not much less than is worth a write."""
        return self._taken(lambda body: self._come(body, min(size, self.until - self.at)))

    def _come(self, body: Body, size: int) -> bytes:
        data = body.read1(size)
        # Who waits for what is here does not wait for more.
        while len(data) < min(size, _WORTH) and not self._is_awaited(self.at + len(data)):
            try:
                more = body.read1(size - len(data))
            except FlowError as error:  # first what has come: it is good
                self._broke = error
                break
            if not more:
                break
            data += more
        return data

    def _is_awaited(self, place: int) -> bool:
        return any(end <= place for end, _ in list(self._waiting))

    def _taken(self, take: Callable[[Body], bytes]) -> bytes:
        while True:
            try:
                if self._broke is not None:
                    broke, self._broke = self._broke, None
                    raise broke
                if self._body is None or self._body.closed:  # an interrupt closes a body
                    self._body = self._fetching.body(self.at, self.until)
                    if self._fetching.from_the_front:
                        self.at, self.until = 0, self._fetching.size
                got = take(self._body)
                if not got:
                    message = f"the reply broke off after {self.at} bytes"
                    raise failure(BadReply, message, self._body.name)
                self._failures = 0
                return got
            except BaseException as error:
                self._drop()
                # A file that is gone, or a refusal, does not get better by asking again.
                if not isinstance(error, BadReply) or error.status is not None:
                    raise
                self._failures += 1
                if self._failures > _RESUMES:
                    raise

    # -- who waits ---------------------------------------------------------

    def take(self, end: int) -> threading.Event | None:
        """Begin to read on as far as `end`; where somebody reads already, wait for that.

        Returns
        -------
        Event or None
            What is set when the bytes before `end` are there, or it is one's turn; None: it
            is one's turn now.
        """
        if not self.busy:
            self.busy = True
            self._broke = None  # that was for who read ahead
            self.target = end
            self.used = time.monotonic()
            return None
        if self.led and self.target < end:
            self.target = end  # however far that is: somebody waits
            self.wake.set()
        event = threading.Event()
        self._waiting.append((end, event))
        return event

    def give_up(self, event: threading.Event | None) -> None:
        """Wait no longer; if it was one's own turn, it is that of another who waits."""
        self._waiting = [one for one in self._waiting if one[1] is not event]
        self.pass_on()

    def arrived(self, count: int) -> None:
        """Tell those whose bytes have come: so many more have been read, and are kept."""
        self.at += count
        if self._waiting:
            for one in [one for one in self._waiting if one[0] <= self.at]:
                self._waiting.remove(one)
                one[1].set()

    # -- who follows -------------------------------------------------------

    @property
    def goal(self) -> int:
        """How far the thread is to get that reads ahead of others."""
        return min(self.until, self.target + self._lead)

    @property
    def _lead(self) -> int:
        return max(_LEAST_LEAD, min(self.target - self.since, _MOST_LEAD))

    def follow(self, end: int) -> None:
        """Note that somebody has read, or waits for, the bytes before `end`."""
        if self.led and self.target < end <= max(self.at, self.target) + _LEAST_LEAD:
            self.target = end
            if self.at < min(self.until, end + self._lead // 2):
                self.wake.set()

    def stop(self) -> None:
        """Have the thread that reads ahead end at once."""
        self.stopped = True
        self.wake.set()
        body = self._body  # which the thread may drop meanwhile
        if body is not None:
            body.interrupt()

    def pass_on(self) -> None:
        """Let one of those who wait read on, if nobody reads."""
        if self._waiting and not self.busy:
            first = min(self._waiting, key=lambda one: one[0])
            self._waiting.remove(first)
            first[1].set()

    def fail(self, error: BaseException) -> None:
        """Note why it ended; that nobody follows any more is no failure."""
        self.busy = False
        if isinstance(error, FlowError) and not self.stopped:
            self.error = error

    def close(self) -> None:
        """Close the reply, and tell all who wait."""
        self._drop()
        waiting, self._waiting = self._waiting, []
        for _, event in waiting:
            event.set()

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
