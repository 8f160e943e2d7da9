"""The orders in which programs go through a directory. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence

__all__ = ["Order", "Orders"]


class Order:
    """Names in some order, in which each is found quickly, and in little memory.

    Parameters
    ----------
    names : sequence of str
        In this order, all different.
    by_name : sequence of str
        The same, sorted.
    places : sequence of int, optional
        Where each of `by_name` is in `names`; without it, that is the order itself.
    """

    def __init__(
        self, names: Sequence[str], by_name: Sequence[str], places: Sequence[int] | None = None
    ) -> None:
        self.names = names
        self._by_name = by_name
        self._places = places

    def place(self, name: str) -> int:
        """Return where a name is; -1 if it is not among them."""
        rank = bisect_left(self._by_name, name)
        if rank == len(self._by_name) or self._by_name[rank] != name:
            return -1
        return rank if self._places is None else self._places[rank]

    def backwards(self) -> Order:
        """Return the opposite order."""
        last = len(self.names) - 1
        places = range(last + 1) if self._places is None else self._places
        return Order(
            self.names[::-1], self._by_name, array("L", [last - place for place in places])
        )


# `find`, `du` and `grep -r` go through larger directories by inode (fts of GNU).
_BY_NUMBER = 10_000


class Orders:
    """The orders in which a listing is likely to be gone through; each made when it is looked at.

    Parameters
    ----------
    listed : collection of str
        Names as they are listed, all different: the order of `find` and `ls -l`. The next is
        that of a shell and of `ls -R`, by name; and then both backwards: bash looks for what is
        below ``*/`` from the last to the first.
    numbers : callable, optional
        Returns the inodes of names. In large listings the last order is by that.
    """

    def __init__(
        self, listed: Collection[str], numbers: Callable[[list[str]], list[int]] | None = None
    ) -> None:
        self._made: list[Order] = []
        self._more = _orders_of(listed, numbers)

    def __iter__(self) -> Iterator[Order]:
        yield from self._made
        for order in self._more:
            self._made.append(order)
            yield order


def _orders_of(
    listed: Collection[str], numbers: Callable[[list[str]], list[int]] | None
) -> Iterator[Order]:
    names = list(listed)
    ranks = array("L", sorted(range(len(names)), key=names.__getitem__))
    by_name = [names[at] for at in ranks]
    forwards = Order(names, by_name, ranks), Order(by_name, by_name)
    yield from forwards
    for order in forwards:
        yield order.backwards()
    if numbers is not None and len(names) > _BY_NUMBER:
        by_number = sorted(range(len(names)), key=numbers(names).__getitem__)
        places = array("L", [0] * len(names))
        for place, at in enumerate(by_number):
            places[at] = place
        yield Order(
            [names[at] for at in by_number], by_name, array("L", [places[at] for at in ranks])
        )
