"""What somebody waits for only so long: a display, which shows what there is by then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context

from flowfs.service.interruption import Batch, Stopped
from flowfs.service.waits import wait

__all__ = ["within"]

_LAST = 0.2  # seconds that an ended request has for coming to its end


def within(seconds: float, work: Callable[[], object]) -> Exception | None:
    """Do something for so long at most.

    It is done by a thread of its own. When the time is up, its requests are ended and none
    begins: what it has set down by then is all there is.

    Parameters
    ----------
    seconds : float
        How long.
    work : callable
        Does it.

    Returns
    -------
    Exception or None
        What it raised; a TimeoutError, if the time was up; None once all is done.
    """
    batch, over = Batch(), threading.Event()
    raised: list[Exception] = []

    def begin() -> None:
        try:
            with batch:
                work()
        except Stopped:
            pass
        except Exception as error:
            raised.append(error)
        finally:
            over.set()

    thread = threading.Thread(
        target=copy_context().run, args=(begin,), name="flowfs-display", daemon=True
    )
    try:
        thread.start()
    except RuntimeError as error:  # there are as many threads as may be
        return error
    try:
        finished = wait(over.wait, seconds)
    finally:
        batch.stop()
    if finished:
        return raised[0] if raised else None
    over.wait(_LAST)
    return TimeoutError(f"no answer within {seconds:g} s")
