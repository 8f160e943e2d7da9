"""What all cases need: sizes, places, file systems that know nothing yet."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from wire import Wire

from flowfs import FlowFileSystem

__all__ = ["Bench"]

T = TypeVar("T")


@dataclass
class Bench:
    """How this run is to be made.

    Attributes
    ----------
    place : Path
        A directory for temporary files, on a disk.
    quick : bool
        Whether small sizes and few rounds will do: it shows that everything runs.
    repeats : int
        Rounds.
    """

    place: Path
    quick: bool = False
    repeats: int = 5
    _made: int = field(default=0)

    def either(self, full: T, quick: T) -> T:
        """Return the one, or with ``--quick`` the other."""
        return quick if self.quick else full

    def directory(self) -> Path:
        """Make a directory that was not there before."""
        return Path(tempfile.mkdtemp(dir=self.place))

    def filesystem(self, server: Any, **options: Any) -> FlowFileSystem:
        """Return a file system of a service that shares nothing with others, and knows nothing.

        Parameters
        ----------
        server : Wire or EmbeddedService
            Anything with ``endpoint`` and ``token``.
        **options
            Of `FlowFileSystem`.
        """
        self._made += 1
        # Whatever is kept on disk is kept below this.
        os.environ["XDG_CACHE_HOME"] = os.fspath(self.directory())
        # File systems of equal options share what they know.
        options = {"timeout": 60 + self._made * 1e-6, **options}
        return FlowFileSystem(server.endpoint, server.token, skip_instance_cache=True, **options)

    def wire(self, **contents: Any) -> Wire:
        """Return a stand-in, which starts when it is entered."""
        return Wire(**contents)
