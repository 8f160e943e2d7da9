"""What is measured: cases, the contenders in them, and the goals they are held to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from wire import Wire

    from benchmarks.bench import Bench

__all__ = ["Case", "Comparison", "Contender", "Goal", "Measured", "Quantity"]

Quantity = Literal["seconds", "requests", "bytes", "memory"]


@dataclass(frozen=True)
class Measured:
    """What one run of a contender cost; what is None is measured from outside.

    Attributes
    ----------
    seconds : float, optional
        How long it took, where that is not the time of the call.
    requests, bytes : int, optional
        What it asked of the server, where the server's own count is not meant.
    memory : int, optional
        Bytes.
    """

    seconds: float | None = None
    requests: int | None = None
    bytes: int | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes
    ----------
    name : str
        Ours is ``flowfs``, or begins with it.
    act : callable
        Does the work once; this is what is timed. It may return `Measured`.
    check : callable, optional
        Takes what `act` returned and raises if that was not the work; not timed.
    prove : callable, optional
        Does the work in a way that looks at every byte, and raises if one is wrong. Runs once,
        before anything is timed, and instead of a run to warm up.
    before, after : callable, optional
        Around each run, not timed: a cold start is made here.
    missing : str
        Why it cannot run on this machine.
    """

    name: str
    act: Callable[[], Any] = lambda: None
    check: Callable[[Any], None] | None = None
    prove: Callable[[], None] | None = None
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    missing: str = ""


@dataclass(frozen=True)
class Goal:
    """What a contender is to reach; exactly one of the bounds is given.

    Attributes
    ----------
    text : str
        In words.
    against : str or float, optional
        Another contender, or a figure: the bound is of the ratio to it. None: of the
        quantity itself.
    at_most, at_least : float, optional
        The bound. Of seconds against a contender, `at_least` is of the speed, which is the
        other's time divided by ours; so is the ratio that is shown.
    quantity : str
        Of what: ``seconds``, ``requests``, ``bytes`` or ``memory``.
    of : str
        Whose.
    difference : bool
        The bound is of the difference, not of the ratio.
    kind : str
        Of requests: only those of this kind.
    """

    text: str
    against: str | float | None = None
    at_most: float | None = None
    at_least: float | None = None
    quantity: Quantity = "seconds"
    of: str = "flowfs"
    difference: bool = False
    kind: str = ""

    def value(self, own: float, other: float | None) -> float:
        """Return the figure that the bound is of."""
        if other is None:
            return own
        if self.difference:
            return own - other
        if self.at_least is not None and self.quantity == "seconds":
            own, other = other, own
        return own / other if other else float("inf")

    def reached(self, value: float) -> bool:
        """Tell whether a figure is within the bound."""
        if self.at_most is not None:
            return value <= self.at_most
        return self.at_least is not None and value >= self.at_least

    @property
    def bound(self) -> dict[str, Any]:
        """The goal for machines."""
        word, limit = (
            ("at_most", self.at_most) if self.at_most is not None else ("at_least", self.at_least)
        )
        how = "difference" if self.difference else "ratio" if self.against is not None else "value"
        return {
            "quantity": self.quantity,
            "kind": self.kind,
            "of": self.of,
            "against": self.against,
            "how": how,
            "bound": word,
            "limit": limit,
        }


@dataclass(frozen=True)
class Comparison:
    """Contenders that do the same work, in turn.

    Attributes
    ----------
    name : str
        Which part of the case, such as the size of a read; may be empty.
    contenders : list of Contender
        They run in this order, round for round.
    goals : list of Goal
        Of which each contender is held to.
    server : Wire, optional
        The stand-in that counts their requests.
    repeats : int, optional
        Rounds, where the bench's own number is not meant.
    warm : bool
        Whether each contender runs once before anything is timed.
    notes : dict
        Whatever else belongs to the figures: sizes, counts.
    """

    name: str
    contenders: list[Contender]
    goals: list[Goal] = field(default_factory=list)
    server: Wire | None = None
    repeats: int | None = None
    warm: bool = True
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """Something that is measured.

    Attributes
    ----------
    name : str
        What ``--only`` takes.
    title : str
        In words.
    goal : str
        What is to be shown, in words; the bounds are those of the comparisons.
    run : callable
        Takes the `Bench` and yields comparisons. What it has set up stays until it is asked for
        the next one.
    only_asked_for : bool
        Whether it runs only if ``--only`` names it.
    """

    name: str
    title: str
    goal: str
    run: Callable[[Bench], Iterator[Comparison]]
    only_asked_for: bool = False
