"""How long the files are that tell of all runs of a group; measured once for each listing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowfs.catalog import Catalog
from flowfs.filesystem.rendering import group_json, table_row
from flowfs.service.runs import ENDED_STATES

__all__ = ["Tables"]

_GROUPS = 64  # groups whose rows' lengths are kept


@dataclass
class _Table:
    listing: Any = None  # of which `size` is
    size: int = 0
    names: dict[str, str] = field(default_factory=dict)  # of uploads, as the rows have them
    rows: dict[str, int] = field(default_factory=dict)  # bytes by run; of ended ones only


class Tables:
    """Sizes of ``runs.jsonl`` and ``group.json``. Never asks; thread-safe.

    Parameters
    ----------
    catalog : Catalog
        What is known of the runs.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._tables: OrderedDict[str, _Table] = OrderedDict()
        self._handles: OrderedDict[str, tuple[Mapping[str, Any], int]] = OrderedDict()

    def handle_size(self, group: Mapping[str, Any]) -> int:
        """Return the bytes of ``group.json`` for a group's handle."""
        group_id = str(group["id"])
        with self._lock:
            known = self._handles.get(group_id)
        if known is None or known[0] is not group:
            known = (group, len(group_json(group)))
            with self._lock:
                self._handles[group_id] = known
                self._handles.move_to_end(group_id)
                if len(self._handles) > _GROUPS:
                    self._handles.popitem(last=False)
        return known[1]

    def size(self, group_id: str) -> int | None:
        """Return the bytes in a group's table of runs.

        A row is made once, that of an active run and the sum again when the group was listed
        anew.

        Returns
        -------
        int or None
            None while the handle of a run is not known, or not in the state that the run is
            in now: reading the table asks for those.
        """
        listing = self._catalog.known_listing(group_id)
        if listing is None:
            return None
        with self._lock:
            known = self._tables.get(group_id, _Table())
        if known.listing is not None and all(
            one is other for one, other in zip(known.listing, listing, strict=True)
        ):
            return known.size
        runs, uploads = listing
        table = _Table(listing, 0, {upload.id: upload.stored for upload in uploads})
        before = known.rows if known.names == table.names else {}
        complete = True
        for run_id, record in runs.items():
            length = before.get(run_id)
            if length is None:
                # Nothing of a run changes but with its state, however old its handle is.
                handle = self._catalog.known_run(run_id, any_age=True)
                if handle is None or handle.get("state") != record.state:
                    complete = False
                    break
                length = len(table_row(handle, table.names))
            if record.state in ENDED_STATES:
                table.rows[run_id] = length
            table.size += length
        if not complete:
            table.listing = None
            table.rows = {**before, **table.rows}
        with self._lock:
            self._tables[group_id] = table
            self._tables.move_to_end(group_id)
            if len(self._tables) > _GROUPS:
                self._tables.popitem(last=False)
        return table.size if complete else None
