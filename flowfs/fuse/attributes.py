"""What stat tells of a place, made of its entry. Pure."""

from __future__ import annotations

import os
import re
import stat
import struct
from dataclasses import dataclass, field
from hashlib import blake2b
from posixpath import dirname, relpath
from typing import Any

from flowfs import tree
from flowfs.filesystem.entries import Alike
from flowfs.names import to_name, to_names
from flowfs.tree import Kind, Node

__all__ = [
    "PLACEHOLDER_SIZE",
    "Attributes",
    "inode",
    "inodes",
    "link_text",
    "run_inodes",
    "type_bits",
]

#: What a file shows whose size nobody knows yet: tar never opens one of size 0.
PLACEHOLDER_SIZE = 1

_BLOCK = 512  # bytes; the unit of st_blocks whatever the file system
_DIGITS = 32  # of an id as flowServ makes it
_LARGEST = (1 << 63) - 1  # number of an inode
_HEX = re.compile("[0-9a-f]*")
_PREFERRED = 1 << 17  # bytes; what the kernel asks for at once
# Where something can be made or removed. What is below a run goes with it.
_CHANGING = frozenset({tree.RUNS, tree.UPLOADS, tree.RUN, tree.RESULTS, tree.OUTPUTS, tree.OUTPUT})


@dataclass(frozen=True)
class Attributes:
    """How entries become what stat tells.

    Parameters
    ----------
    read_only : bool
        Whether nothing can be changed.
    started : int
        Nanoseconds since the epoch; the time of what has none of its own.
    uid, gid : int
        Whose everything is.
    umask : int
        Permissions that nothing has; links excepted, whose own mean nothing.
    in_a_run : bool
        Whether a run, or a part of one, is all that is mounted: then nothing of it can be
        removed, since the service removes a run as a whole.
    """

    read_only: bool
    started: int
    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)
    umask: int = 0
    in_a_run: bool = False

    def of(self, node: Node, entry: dict[str, Any], size: int | None = None) -> dict[str, int]:
        """Return the members of a ``struct stat``, times in nanoseconds.

        Parameters
        ----------
        node : Node
            The place.
        entry : dict
            Its entry.
        size : int, optional
            Bytes, where they are better known than by the entry.
        """
        type_of = self.file_type(node, entry)
        if type_of == stat.S_IFLNK:
            size = len(os.fsencode(link_text(node, entry["target"])))
        elif type_of == stat.S_IFDIR:
            size = 0
        elif size is None:
            size = PLACEHOLDER_SIZE if entry["size"] is None else entry["size"]
        mtime = entry.get("mtime")
        time = self.started if mtime is None else nanoseconds(mtime)
        twins = node.kind in (tree.RESULT, tree.OUTPUT) and type_of == stat.S_IFREG
        return {
            "st_mode": type_of | self.permissions(node, type_of),
            "st_ino": inode(node, entry),
            # 1 for a directory says that subdirectories are not counted here.
            "st_nlink": 2 if twins else 1,
            "st_uid": self.uid,
            "st_gid": self.gid,
            "st_size": size,
            "st_blocks": (size + _BLOCK - 1) // _BLOCK,
            "st_blksize": _PREFERRED,
            "st_atime": time,
            "st_mtime": time,
            "st_ctime": time,
        }

    @staticmethod
    def file_type(node: Node, entry: dict[str, Any]) -> int:
        """Return the type bits of ``st_mode``."""
        return type_bits(node.kind, entry["type"] == "directory")

    def permissions(self, node: Node, type_of: int) -> int:
        """Return the permission bits of ``st_mode``."""
        if type_of == stat.S_IFLNK:
            return 0o777
        if type_of == stat.S_IFDIR:
            mode = 0o755 if self._changes(node) else 0o555
        else:
            mode = 0o644 if node.kind.writable and not self.read_only else 0o444
        return mode & ~self.umask

    def _changes(self, node: Node) -> bool:
        """Tell whether something can be made or removed in a directory."""
        if self.read_only or "group" not in node.names or node.kind not in _CHANGING:
            return False
        return node.kind in (tree.RUNS, tree.UPLOADS) or not self.in_a_run


def nanoseconds(seconds: float) -> int:
    """Return a time as the kernel has it, exact to the microsecond: that is what services tell."""
    whole = int(seconds // 1)
    return whole * 1_000_000_000 + round((seconds - whole) * 1e6) * 1000


def type_bits(kind: Kind, directory: bool) -> int:
    """Return the type bits of ``st_mode`` for what is of a kind, as a mount shows it."""
    if kind.link and kind is not tree.OUTPUT:
        return stat.S_IFLNK
    return stat.S_IFDIR if directory else stat.S_IFREG


def inodes(node: Node, alike: Alike) -> list[int]:
    """Return :func:`inode` of each of many names in a directory."""
    if alike.kind is tree.RUN and (made := _of_digits(alike.names)) is not None:
        return made
    if alike.kind is tree.RUN and len(alike.names) > 1:  # some may be so, and others not
        return [inodes(node, Alike(tree.RUN, True, [name]))[0] for name in alike.names]
    if alike.ids is not None:
        ends, begun = alike.ids, "\0".join(("result", _owner(node), ""))
    else:
        ends, begun = alike.names, "\0".join(("path", f"{node.path}/" if node.path else ""))
    first = blake2b(begun.encode("utf-8", "surrogatepass"), digest_size=8)
    numbers = []
    for end in ends:
        whole = first.copy()
        whole.update(end.encode("utf-8", "surrogatepass"))
        numbers.append(int.from_bytes(whole.digest(), "big") >> 1 or 1)
    return numbers


def _of_digits(names: list[str]) -> list[int] | None:
    """Return inodes of names that are 32 hexadecimal digits each; None if others are among them.

    flowServ makes its ids so, at random. Half of their bits are as good a number as any digest,
    and there are listings of very many.
    """
    digits = "".join(names)
    if set(map(len, names)) != {_DIGITS} or not _HEX.fullmatch(digits):
        return None
    halves = struct.unpack(f">{2 * len(names)}Q", bytes.fromhex(digits))
    pairs = zip(halves[::2], halves[1::2], strict=True)
    return [(one ^ other) % _LARGEST + 1 for one, other in pairs]


def run_inodes(group_id: str, run_ids: list[str]) -> list[int]:
    """Return the inodes of a group's runs."""
    runs = tree.parse(tree.join("groups", to_name(group_id), "runs"))
    return inodes(runs, Alike(tree.RUN, True, to_names(run_ids, tree.RESERVED_RUN_NAMES)))


def _owner(node: Node) -> str:
    """Return what tells the run of a result from others."""
    return node.names.get("run") or f"workflow {node.names['workflow']}"


def inode(node: Node, entry: dict[str, Any]) -> int:
    """Return a number that is the same for the same thing, now and in any other mount.

    A result has it from its run and file, so that its two names show one file; a run from its
    id, where that is a long number; everything else from its path.
    """
    if node.kind is tree.RUN and (made := _of_digits([node.names["run"]])) is not None:
        return made[0]
    identity: tuple[str, ...] = ("path", node.path)
    if node.kind in (tree.RESULT, tree.OUTPUT) and "id" in entry:
        identity = ("result", _owner(node), entry["id"])
    name = "\0".join(identity).encode("utf-8", "surrogatepass")
    number = int.from_bytes(blake2b(name, digest_size=8).digest(), "big") >> 1
    return number or 1  # 0 means: no inode


def link_text(node: Node, target: str) -> str:
    """Return what a symbolic link says: the way to its target from where it stands."""
    return relpath(f"/{target}", f"/{dirname(node.path)}")
