"""What ``flowfs cp`` copies: which file to where, by the rules of cp."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import click

from flowfs.cli.ending import Several
from flowfs.cli.naming import Place
from flowfs.errors import (
    AlreadyExists,
    IsADirectory,
    NotADirectory,
    NotFound,
    NotPermitted,
    failure,
)
from flowfs.names import to_name

__all__ = ["Copy", "End", "Planning", "check_targets"]

# A place on a service, or the path of a file of this machine; - is stdin.
End: TypeAlias = "Place | str"


@dataclass
class Copy:
    """A file to be copied.

    Attributes
    ----------
    source, target : Place or str
        From where, and to where.
    told : dict
        What JSON tells of it.
    """

    source: End
    target: End
    told: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.told = {"from": told_of(self.source), "to": told_of(self.target)}

    @property
    def acts(self) -> bool:
        """Whether what is written there starts or cancels a run."""
        if not isinstance(self.target, Place):
            return False
        return self.target.path.split("/")[2:3] == ["runs"]

    @property
    def is_there(self) -> bool:
        """Whether the target is there already."""
        if isinstance(self.target, Place):
            return bool(self.target.fs.exists(self.target.path))
        return os.path.lexists(self.target)


def told_of(one: End) -> str:
    return one.url if isinstance(one, Place) else one


def check_targets(copies: Sequence[Copy]) -> None:
    """Raise AlreadyExists if two files would go to one place."""
    seen: dict[str, str] = {}
    for copy in copies:
        source, target = copy.told["from"], copy.told["to"]
        if target in seen and not copy.acts:
            raise failure(
                AlreadyExists, f"two would be copied there: {seen[target]}, {source}", target
            )
        seen[target] = source


class Planning:
    """Finds out which file is copied to where.

    Parameters
    ----------
    several : Several
        Told what cannot be copied.
    recursive : bool
        Whether directories are.
    """

    def __init__(self, several: Several, recursive: bool) -> None:
        self._several = several
        self._recursive = recursive

    def from_service(self, sources: Sequence[End], target: str) -> list[Copy]:
        """Return what is copied where files come to this machine.

        Raises
        ------
        NotFound, NotADirectory
            If a directory is needed and there is none.
        """
        into = os.path.isdir(target)
        if not into and (len(sources) > 1 or target.endswith("/")):
            if os.path.lexists(target.rstrip("/")):
                raise failure(NotADirectory, "is no directory", target)
            if len(sources) > 1 or not self._recursive:
                raise failure(NotFound, "there is no such directory; make it with mkdir", target)
        copies: list[Copy] = []
        for source in sources:
            with self._several.one():
                if not isinstance(source, Place):
                    raise click.UsageError(f"{source} is on no service: there is cp for it")
                copies += self._fetched(source, target, into)
        return copies

    def _fetched(self, source: Place, target: str, into: bool) -> list[Copy]:
        goal = os.path.join(target, source.name) if into else target.rstrip("/") or "/"
        if not source.fs.isdir(source.path):
            with source.named():
                source.fs.entries.check(source.fs.entries.resolve(source.path))
            if os.path.isdir(goal):
                raise failure(IsADirectory, "is a directory: a file does not go there", goal)
            return [Copy(source, goal)]
        if not self._recursive:
            raise failure(IsADirectory, "is a directory: -r copies it", source.url)
        if os.path.lexists(goal) and not os.path.isdir(goal):
            raise failure(NotADirectory, "is a file: a directory does not go there", goal)
        files = source.fs.find(source.path)
        os.makedirs(goal, exist_ok=True)
        start = len(source.path) + 1 if source.path else 0
        return [
            Copy(Place(source.fs, path, path), os.path.join(goal, *path[start:].split("/")))
            for path in files
        ]

    def to_service(self, sources: Sequence[End], target: Place) -> list[Copy]:
        """Return what is copied where files go to a service.

        Raises
        ------
        NotPermitted, NotADirectory
            If nothing can be put there.
        """
        from flowfs import tree

        fs = target.fs
        with target.named(), fs.entries.operation():
            node = fs.entries.follow(fs.entries.resolve(target.path))
        into = node.kind is tree.UPLOADS
        if node.kind not in (tree.UPLOADS, tree.UPLOAD, tree.NEW, tree.CANCEL):
            raise failure(
                NotPermitted,
                "nothing can be put there: files go to uploads/, arguments to runs/new",
                target.url,
            )
        if node.kind in (tree.UPLOAD, tree.CANCEL) and (
            len(sources) > 1 or target.given.endswith("/")
        ):
            raise failure(NotADirectory, "is no directory", target.url)
        # Through links once: `new` of a group that was named another way is the same.
        target = Place(fs, node.path, target.given)
        copies: list[Copy] = []
        for source in sources:
            with self._several.one():
                copies.append(self._sent(source, target, into))
        return copies

    @staticmethod
    def _sent(source: End, target: Place, into: bool) -> Copy:
        if isinstance(source, Place):
            name, directory = source.name, source.fs.isdir(source.path)
        else:
            name, directory = to_name(os.path.basename(source)), os.path.isdir(source)
        if directory:
            raise failure(
                IsADirectory,
                "is a directory, and uploads/ holds files only: name the files in it",
                told_of(source),
            )
        if into and source == "-":
            raise click.UsageError(f"stdin has no name: give one behind {target.given}")
        return Copy(source, target.below(name) if into else target)
