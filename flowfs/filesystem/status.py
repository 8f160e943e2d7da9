"""What the program tells of itself: the files of ``.flowfs/``. Nothing here costs a request."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from flowfs import __version__
from flowfs.catalog import Catalog
from flowfs.content import Content
from flowfs.service.journal import Journal
from flowfs.service.statistics import Statistics

__all__ = ["Status"]

_UNITS = {"VmRSS": ("memory_bytes", 1024), "Threads": ("threads", 1)}


class Status:
    """Errors, figures and versions of one service's file systems in this process.

    Parameters
    ----------
    catalog : Catalog
        What is known of the service's things.
    content : Content
        What is known of its files' bytes.

    Attributes
    ----------
    versions : dict of str to str
        More to be told in ``version``, by name; a mount adds what it is mounted with.
    """

    def __init__(self, catalog: Catalog, content: Content) -> None:
        self._catalog = catalog
        self._content = content
        self.versions: dict[str, str] = {}

    @property
    def journal(self) -> Journal:
        """The last refusals and failures."""
        return self._catalog.service.session.journal

    @property
    def _counted(self) -> Statistics:
        return self._catalog.service.session.statistics

    def errors(self) -> bytes:
        """Return the last refusals and failures, a line each, the newest last."""
        return self.journal.text().encode("utf-8", "replace")

    @property
    def since(self) -> float:
        """When counting began, in seconds since the epoch."""
        return self._counted.since

    def changed(self) -> float:
        """Return when an error was recorded last, or else counting began; in seconds."""
        return self.journal.latest or self.since

    def statistics(self) -> dict[str, Any]:
        """Return the figures of ``stats.json``.

        Returns
        -------
        dict
            ``since`` and ``now`` (UTC), ``process`` (``id``, and as far as the system tells
            ``memory_bytes``, ``threads``, ``open_files``), ``requests`` by kind as
            :meth:`~flowfs.service.statistics.Statistics.document` has them, and ``caches``
            with ``hits``, ``misses`` and ``kept`` (a number of things).
        """
        usage = {**self._catalog.usage(), **self._content.usage()}
        return {
            "since": _utc(self.since),
            "now": _utc(time.time()),
            "process": _process(),
            "requests": self._counted.document(),
            "caches": {
                name: {"hits": one.hits, "misses": one.misses, "kept": kept}
                for name, (one, kept) in usage.items()
            },
        }

    def version(self) -> bytes:
        """Return names and versions, one a line: of the program and what it works with."""
        lines = {"flowfs": __version__, "Python": platform.python_version(), **self.versions}
        for package in ("fsspec", "requests"):
            try:
                lines[package] = version(package)
            except PackageNotFoundError:  # put there without its metadata
                continue
        service = self._catalog.service.known_descriptor
        if service is not None and (service.name or service.version):
            lines["service"] = " ".join(str(it) for it in (service.name, service.version) if it)
        text = "".join(f"{name} {' '.join(value.split())}\n" for name, value in lines.items())
        return text.encode("utf-8", "replace")


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _process() -> dict[str, int]:
    """Return figures of this process, as far as Linux' /proc has them."""
    figures = {"id": os.getpid()}
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in _UNITS:
                    member, unit = _UNITS[name]
                    figures[member] = int(value.split()[0]) * unit
        figures["open_files"] = len(os.listdir("/proc/self/fd"))
    except (OSError, ValueError):
        pass
    return figures
