"""What stat and listings tell, as the bytes of libfuse's own structs.

Where what is in them differs from machine to machine and from one binding to the other: it is
read off the binding's ``struct stat``.
"""

from __future__ import annotations

import ctypes
import operator
import struct
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Stat", "entries"]

_SECOND = 10**9  # nanoseconds
_CODES: Mapping[int, str] = {2: "H", 4: "I", 8: "Q"}  # by size


def entries(struct_of: Any) -> Callable[[list[int], list[int]], bytes]:
    """Return what makes structs of inode numbers and types, one behind the other.

    Parameters
    ----------
    struct_of : type
        The binding's ``struct stat``.

    Returns
    -------
    callable
        Takes the numbers, and as many types (``st_mode``).
    """
    number, mode = struct_of.st_ino, struct_of.st_mode
    first, second = (number, mode) if number.offset < mode.offset else (mode, number)
    ends = first.offset + first.size
    between, behind = second.offset - ends, ctypes.sizeof(struct_of) - second.offset - second.size
    codes = _CODES[first.size], _CODES[second.size]
    pack = struct.Struct(f"={first.offset}x{codes[0]}{between}x{codes[1]}{behind}x").pack

    def packed(numbers: list[int], types: list[int]) -> bytes:
        values = (numbers, types) if first is number else (types, numbers)
        return b"".join(map(pack, *values))

    return packed


class Stat:
    """Writes what stat tells into the struct of a binding, wherever that has what.

    Parameters
    ----------
    struct_of : type
        The binding's ``struct stat``.
    """

    _NUMBERS = (
        "st_mode",
        "st_ino",
        "st_nlink",
        "st_uid",
        "st_gid",
        "st_size",
        "st_blocks",
        "st_blksize",
    )
    _TIMES = ("st_atime", "st_mtime", "st_ctime")

    def __init__(self, struct_of: Any) -> None:
        members = []  # offset, code, which of the values
        for index, name in enumerate(self._NUMBERS):
            field = getattr(struct_of, name)
            members.append((field.offset, _CODES[field.size], index))
        for index, name in enumerate(self._TIMES):
            field = getattr(struct_of, f"{name}spec")
            half = field.size // 2
            for part in (0, 1):
                which = len(self._NUMBERS) + 2 * index + part
                members.append((field.offset + part * half, _CODES[half].lower(), which))
        form, at = "=", 0
        for offset, code, _ in sorted(members):
            form += f"{offset - at}x{code}"
            at = offset + struct.calcsize(code)
        self._size = ctypes.sizeof(struct_of)
        self._pack = struct.Struct(f"{form}{self._size - at}x").pack
        self._values = operator.itemgetter(*self._NUMBERS, *self._TIMES)
        self._order = operator.itemgetter(*[which for _, _, which in sorted(members)])
        self._last: tuple[Mapping[str, int], bytes] = {}, b""

    def write(self, buffer: Any, told: Mapping[str, int]) -> None:
        """Write all of it; times are in nanoseconds. What is told stays as it is."""
        last, packed = self._last
        if last is not told:  # as it is where the kernel asks for the same once more
            packed = self._packed(told)
            self._last = told, packed
        ctypes.memmove(buffer, packed, self._size)

    def _packed(self, told: Mapping[str, int]) -> bytes:
        *numbers, accessed, modified, changed = self._values(told)
        seconds = (
            *divmod(accessed, _SECOND),
            *divmod(modified, _SECOND),
            *divmod(changed, _SECOND),
        )
        return self._pack(*self._order((*numbers, *seconds)))
