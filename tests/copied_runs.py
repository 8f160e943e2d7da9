"""Many runs of the real service in no time: one that it has run, and copies of it.

The service finds a run in its database, and the run's files in a directory that is called as the
run is. A copy of both is a run to it like any other, with results of its own.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from flowfs.embedded import EmbeddedService

__all__ = ["copy_run"]


def copy_run(
    service: EmbeddedService,
    handle: Mapping[str, Any],
    count: int,
    result: Callable[[int], tuple[str, bytes]],
) -> list[str]:
    """Copy a run of a service so often, and return the ids of all copies.

    Parameters
    ----------
    service : EmbeddedService
        The test's own.
    handle : mapping
        The run, in SUCCESS.
    count : int
        How many copies.
    result : callable
        Returns the name and the bytes of the result that a copy has of its own, by its number.
    """
    run_id, copies = str(handle["id"]), [uuid.uuid4().hex for _ in range(count)]
    place = service.directory / "api" / str(handle["workflowId"]) / "runs"
    with contextlib.closing(sqlite3.connect(service.directory / "service.db", 60)) as base, base:
        files = base.execute("SELECT file_id FROM run_file WHERE run_id = ?", (run_id,)).fetchall()
        for number, copy in enumerate(copies):
            shutil.copytree(place / run_id, place / copy)
            name, data = result(number)
            (place / copy / name).write_bytes(data)
            base.execute(
                "INSERT INTO workflow_run SELECT ?, workflow_id, group_id, state_type, created_at, "
                "started_at, ended_at, arguments, result FROM workflow_run WHERE run_id = ?",
                (copy, run_id),
            )
            for (file_id,) in files:
                base.execute(
                    "INSERT INTO run_file SELECT ?, key, name, created_at, mime_type, size, ? "
                    "FROM run_file WHERE file_id = ?",
                    (uuid.uuid4().hex, copy, file_id),
                )
    return copies
