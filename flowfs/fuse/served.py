"""What all of FUSE's operations rest on: places by the kernel's paths, and errors it can take."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from flowfs.errors import (
    FlowError,
    InvalidArguments,
    NotFound,
    NotPermitted,
    ReadOnly,
    describe,
    failure,
)
from flowfs.filesystem import FlowFileSystem
from flowfs.fuse.attributes import Attributes
from flowfs.fuse.deleting import Deletions
from flowfs.fuse.drafts import Drafts
from flowfs.fuse.handles import Handles
from flowfs.fuse.lapses import Lapses
from flowfs.fuse.opening import Opening
from flowfs.fuse.shown import Shown
from flowfs.fuse.told import Told
from flowfs.service.interruption import Stopped
from flowfs.service.journal import Journal
from flowfs.tree import Node, join

__all__ = ["Answer", "Served", "operation"]

logger: logging.Logger = logging.getLogger("flowfs.mount")

P = ParamSpec("P")
R = TypeVar("R")

# What happens all the time: worth a line only to who wants all of them.
_ORDINARY = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EPERM,
        errno.EROFS,
        errno.EBUSY,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.ENOTSUP,
        errno.EXDEV,
    }
)


class Answer(FlowError):
    """An errno that is the answer to a question, and tells of no failure: it is not recorded."""


def operation(method: Callable[P, R]) -> Callable[P, R]:
    """Make whatever a method raises an OSError with a number: the kernel takes nothing else.

    fusepy shows an empty directory, or nonsense, where it gets an error without one. The
    words, which the kernel does not pass on, are kept in the journal.
    """

    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        served = cast(Served, args[0])
        journal = served.journal
        try:
            with journal.spoken_for():
                return method(*args, **kwargs)
        except Stopped:  # whoever asked wants no more: he hears of nothing else, and nobody does
            logger.debug("%s: given up by who asked", method.__name__)
            number = errno.EINTR
        except Answer as answer:
            raise OSError(answer.errno, os.strerror(answer.errno or errno.EIO)) from None
        except OSError as error:
            number = error.errno if isinstance(error.errno, int) and error.errno > 0 else errno.EIO
            journal.record(method.__name__, served.about(*args[1:]), error)
            level = logging.DEBUG if number in _ORDINARY else logging.WARNING
            logger.log(
                level,
                "%s: %s",
                method.__name__,
                describe(error),
                exc_info=not isinstance(error, FlowError),
            )
        except BaseException as error:
            journal.record(method.__name__, served.about(*args[1:]), error)
            logger.exception("%s failed", method.__name__)
            number = errno.EIO
        raise OSError(number, os.strerror(number))

    return guarded


class Served:
    """A mounted tree, or a part of it, and what is under way on it.

    Parameters
    ----------
    fs : FlowFileSystem
        The service.
    root : str
        Path in the tree of what is mounted.
    caller : callable
        Returns the thread id of who asked for the operation at hand.
    attributes : Attributes
        How entries become what stat tells.

    Attributes
    ----------
    journal : Journal
        What has failed lately.
    """

    def __init__(
        self, fs: FlowFileSystem, root: str, caller: Callable[[], int], attributes: Attributes
    ) -> None:
        self._fs = fs
        self._entries = fs.entries
        self._root = root
        self._caller = caller
        self._attributes = replace(attributes, in_a_run=len(root.split("/")) >= 4)
        self.journal: Journal = fs.entries.status.journal
        self._handles = Handles()
        self._lapses = Lapses(fs.catalog.service.session)
        self._drafts = Drafts(fs)
        self._deletions = Deletions(fs)
        self._shown = Shown(fs.catalog, self._attributes)
        self._told = Told(fs.catalog, fs.content)
        self._opening = Opening(fs, self._handles, self._drafts)

    def _place(self, path: str | None) -> Node:
        """Return the place that the kernel's path names, hidden or not."""
        if path is None:
            raise failure(NotFound, "the file has been removed")
        if not path.isascii():
            try:
                path.encode()
            except UnicodeEncodeError:
                raise failure(InvalidArguments, "the name is no UTF-8", ascii(path)) from None
        return self._entries.resolve(self._in_tree(path))

    def _in_tree(self, path: str) -> str:
        """Return the path in the tree of a path on the mount."""
        path = path.strip("/")
        if not self._root:
            return path
        # What the program tells of itself is in the root of whatever is mounted.
        return path if path.partition("/")[0] == ".flowfs" else join(self._root, path)

    def about(self, path: Any = None, *rest: Any) -> str:
        """Return the path in the tree that an operation's arguments are about; for people."""
        if isinstance(path, str):
            return self._in_tree(path)
        for argument in rest:  # of a file that is open and has no name any more
            number = getattr(argument, "fh", None)
            with contextlib.suppress(KeyError):
                return self._handles.get(cast(int, number)).path
        return "?"

    def _bounded(self, path: str) -> AbstractContextManager[None]:
        """Look at a place for the caller, who does not wait for it twice."""
        return self._lapses.bounding(self._caller, path)

    def _visible(self, path: str | None) -> Node:
        node = self._place(path)
        if self._deletions.hides(node):
            raise failure(NotFound, "has been removed", node.path)
        return node

    def _changing(self, path: str) -> None:
        if self._fs.read_only:
            raise failure(ReadOnly, "this mount is read-only", path)

    def _refuse(self, path: str, message: str) -> int:
        self._changing(path)
        raise failure(NotPermitted, message, path)
