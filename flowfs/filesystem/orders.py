"""The orders in which programs go through a directory. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence

__all__ = ["Order", "orders_of"]


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


# `find`, `du` and `grep -r` go through larger directories by inode (fts of GNU).
_BY_NUMBER = 10_000


def orders_of(
    listed: Collection[str], number: Callable[[str], int] | None = None
) -> Iterator[Order]:
    """Yield the orders in which the names of a listing are likely to be gone through.

    Parameters
    ----------
    listed : collection of str
        Names as they are listed, all different: the order of `find` and `ls -l`. Next comes
        that of a shell and of `ls -R`, by name.
    number : callable, optional
        Returns the inode of a name. The last order is by that, in large listings.
    """
    names = list(listed)
    ranks = array("L", sorted(range(len(names)), key=names.__getitem__))
    by_name = [names[at] for at in ranks]
    yield Order(names, by_name, ranks)
    yield Order(by_name, by_name)
    if number is not None and len(names) > _BY_NUMBER:
        numbers = [number(name) for name in names]
        by_number = sorted(range(len(names)), key=numbers.__getitem__)
        places = array("L", bytes(8 * len(names)))
        for place, at in enumerate(by_number):
            places[at] = place
        yield Order(
            [names[at] for at in by_number], by_name, array("L", (places[at] for at in ranks))
        )
