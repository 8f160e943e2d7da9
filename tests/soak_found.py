"""What a soak found, and what of it something explains."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass, field
from statistics import median

from faulty import Disturbance

__all__ = ["STEP_BOUND", "Failed", "Findings", "Life", "explained"]

STEP_BOUND = 120.0  # seconds that one step may take: some deadlines of its requests

# For how long what went wrong may still be told to who asks: nothing is fetched ahead for five
# seconds after a failure, and who waited for a request is told what came of that.
_AFTER = 6.0

_OLD = 100.0  # seconds after which a process has what it needs

# What a fault on the way to the service may come to. ENOENT, EINVAL, EACCES, ENOSPC would be lies.
_OF_FAULTS = {
    errno.EIO,
    errno.EAGAIN,
    errno.ETIMEDOUT,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ECONNABORTED,
}
# What the kernel says while nobody serves the mount, or it is mounted anew.
_OF_NO_MOUNT = {errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT, errno.ENODEV, errno.ESTALE}


@dataclass
class Failed:
    """A step that did not end well.

    Attributes
    ----------
    step : str
        Whose, and which.
    number : int
        Its errno; 0 for what was other than it should be because a run was canceled.
    begin, end : float
        When it was taken, of :func:`time.monotonic`.
    words : str
        What was said.
    """

    step: str
    number: int
    begin: float
    end: float
    words: str


def explained(failed: Failed, disturbances: list[Disturbance], after: float = _AFTER) -> bool:
    """Tell whether something that was done on purpose explains a failure.

    Parameters
    ----------
    failed : Failed
        What failed.
    disturbances : list of Disturbance
        What was done.
    after : float
        Seconds after which nothing is explained by it any more.
    """
    near = [
        one for one in disturbances if one.begin <= failed.end and one.end >= failed.begin - after
    ]
    if failed.number == 0:
        return any(one.kind == "kill of the service" for one in near)
    if failed.number in _OF_FAULTS and any(one.kind != "kill of the mount" for one in near):
        return True
    by_mount = failed.step.startswith("mount") and failed.number in _OF_NO_MOUNT
    return by_mount and any(one.kind == "kill of the mount" for one in near)


@dataclass
class Life:
    """What one process had, from time to time.

    Attributes
    ----------
    samples : list
        Seconds since its start, resident memory in bytes, threads, open files.
    """

    name: str
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)

    def growth(self) -> dict[str, tuple[float, float]]:
        """Return medians of memory, threads and files: in the second quarter, and the last."""
        quarter = max(1, len(self.samples) // 4)
        early, last = self.samples[quarter : 2 * quarter] or self.samples, self.samples[-quarter:]
        return {
            name: (median(s[i] for s in early), median(s[i] for s in last))
            for i, name in ((1, "memory"), (2, "threads"), (3, "files"))
        }

    def grown(self) -> list[str]:
        """Name what has grown by more than caches and chance explain; of a short life nothing."""
        if not self.samples or self.samples[-1][0] < _OLD:
            return []
        allowed = {"memory": 32 << 20, "threads": 8, "files": 16}
        return [
            f"{self.name}: {name} from {early:g} to {last:g}"
            for name, (early, last) in self.growth().items()
            if last - early > allowed[name]
        ]


@dataclass
class Findings:
    """What a soak found.

    Attributes
    ----------
    steps : dict of str to int
        How often each step was taken.
    bytes_compared : int
        Bytes read and found to be right.
    wrong : list of str
        Wrong bytes, names or states.
    errors : list of str
        Errors that nothing explains.
    tolerated : dict of str to int
        How often an error was seen that something explains.
    late : list of str
        Steps that took over two minutes, or had not come back at the end.
    slowest : dict of str to float
        The longest time of each step, in seconds.
    lives : list of Life
        Of each process that was watched.
    figures : dict
        What else was counted.
    """

    steps: Counter[str] = field(default_factory=Counter)
    bytes_compared: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    tolerated: Counter[str] = field(default_factory=Counter)
    late: list[str] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=dict)
    lives: list[Life] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def judge(
        self, failed: list[Failed], disturbances: list[Disturbance], after: float = _AFTER
    ) -> None:
        """Tell errors that something explains from those that nothing does."""
        for one in failed:
            if explained(one, disturbances, after):
                name = errno.errorcode.get(one.number, "canceled by a kill")
                self.tolerated[f"{one.step.partition(' ')[0]} {name}"] += 1
            else:
                self.errors.append(f"{one.step}: {one.words}")

    def grown(self) -> list[str]:
        """Name what has grown; that shows in minutes only."""
        return [told for life in self.lives for told in life.grown()]

    def faults(self) -> list[str]:
        """Return everything that should not have been."""
        return self.wrong + self.errors + self.late
