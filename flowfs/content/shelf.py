"""What is kept in temporary files: how much, by whom it is read, and what goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol, TypeVar

from flowfs.content.room import Room

__all__ = ["Item", "Shelf"]

# Each is an open file of this process, which may have some 1000.
_ITEMS = 256

Key = tuple[str, ...]


class Item(Protocol):
    """Bytes of one file.

    Attributes
    ----------
    users : int
        How many read it now; counted by the shelf.
    held : int
        Bytes of it; counted by the shelf.
    """

    users: int
    held: int

    @property
    def worth_keeping(self) -> bool:
        """Whether the next reader will be glad to find it."""
        ...

    def rest(self) -> None:
        """Let go of connections that nobody uses now."""
        ...

    def close(self) -> None:
        """Drop the bytes."""
        ...


I = TypeVar("I", bound=Item)  # noqa: E741


class Shelf:
    """Items by the key of their source. Thread-safe; asks nobody for anything.

    What nobody reads is kept until others need the room, and the one used least recently goes
    first. What somebody reads is never dropped.

    Parameters
    ----------
    room : Room
        Where their files are, and how many bytes of them there may be.
    """

    def __init__(self, room: Room) -> None:
        self.room = room
        self._lock = threading.Lock()
        self._items: OrderedDict[Key, Item] = OrderedDict()
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes in all."""
        return self._used

    def __iter__(self) -> Iterator[Item]:
        with self._lock:
            return iter(list(self._items.values()))

    def peek(self, key: Key) -> Item | None:
        """Return an item without reading it."""
        with self._lock:
            return self._items.get(key)

    def take(self, key: Key, item: I | None = None) -> I | None:
        """Return the item of that key, to be released; where there is none, the one given."""
        with self._lock:
            kept: I | None = self._items.get(key)  # type: ignore[assignment]
            if kept is None:
                if item is None:
                    return None
                self._items[key] = kept = item
            kept.users += 1
            self._items.move_to_end(key)
            dropped = self._crowded()
        _close(dropped)
        return kept

    def hold(self, item: Item) -> None:
        """Read an item that somebody has taken, once more; to be released."""
        with self._lock:
            item.users += 1

    def release(self, key: Key, item: Item) -> None:
        """Tell that somebody who took an item is done with it."""
        with self._lock:
            item.users -= 1
            if item.users:
                return
            there = self._items.get(key) is item
            dropped = []
            if there and not item.worth_keeping:
                del self._items[key]
                there = False
            if not there:
                dropped.append(self._counted_out(item))
            if self._items:  # the one taken last stays, however large it is
                dropped += self._evicted(0, next(reversed(self._items.values())))
        if item not in dropped:
            item.rest()
        _close(dropped)

    def forget(self, key: Key) -> None:
        """Take an item from the shelf, or all whose keys begin so; who reads them goes on."""
        with self._lock:
            begin_so = [one for one in self._items if one[: len(key)] == key]
            items = [self._items.pop(one) for one in begin_so]
            dropped = [self._counted_out(item) for item in items if not item.users]
        _close(dropped)

    def reserve(self, item: Item, count: int) -> bool:
        """Make room for so many more bytes of an item; return whether there is."""
        with self._lock:
            dropped = self._evicted(count, item)
            fits = self._used + count <= self.room.size
            if fits:
                self._count(item, count)
        _close(dropped)
        return fits

    def charge(self, item: Item, count: int) -> None:
        """Count so many more bytes of an item (or fewer), whether there is room or not."""
        with self._lock:
            dropped = self._evicted(count, item)
            self._count(item, count)
        _close(dropped)

    def clear(self) -> None:
        """Drop all that nobody reads."""
        with self._lock:
            unused = [key for key, item in self._items.items() if not item.users]
            dropped = [self._counted_out(self._items.pop(key)) for key in unused]
        _close(dropped)

    def _count(self, item: Item, count: int) -> None:
        item.held += count
        self._used += count

    def _counted_out(self, item: Item) -> Item:
        self._count(item, -item.held)
        return item

    def _evicted(self, count: int, but: Item) -> list[Item]:
        """Take from the shelf what must go before so many bytes can come."""
        dropped: list[Item] = []
        if self._used + count > self.room.size:
            for key, item in list(self._items.items()):
                if item is not but and not item.users:
                    dropped.append(self._counted_out(self._items.pop(key)))
                    if self._used + count <= self.room.size:
                        break
        return dropped

    def _crowded(self) -> list[Item]:
        """Take from the shelf what is too much by number."""
        dropped: list[Item] = []
        if len(self._items) > _ITEMS:
            for key, item in list(self._items.items()):
                if not item.users:
                    dropped.append(self._counted_out(self._items.pop(key)))
                    break
        return dropped


def _close(items: list[Item]) -> None:
    # Not while the shelf is locked: it may take a moment.
    for item in items:
        item.close()
