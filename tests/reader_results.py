"""Results of real runs for trying readers on them, and what reading them costs.

What is read is compared with what the service's REST interface gives without flowfs.
"""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
from typing import Any

import pytest
from support import Rest

from flowfs.content.pace import Pace
from flowfs.embedded import EmbeddedService, sample
from flowfs.service.body import Body

__all__ = ["COLUMNS", "CSV", "JSON", "SVG", "AnalysisResults", "Cost", "in_threads"]

COLUMNS = ("temperature", "humidity", "rainfall")
CSV, JSON, SVG = "results/summary.csv", "results/summary.json", "results/plot.svg"


class AnalysisResults:
    """Three runs of `analysis` that have ended, and what is in them.

    Attributes
    ----------
    group : str
        Path of the group, which has nothing else in it.
    runs : list of str
        Ids of the runs, one for each of :data:`COLUMNS`.
    files : dict
        For each run its files' bytes by name, read without flowfs.
    """

    def __init__(self, service: EmbeddedService) -> None:
        rest = Rest(service)
        self.endpoint, self.token = service.endpoint, service.token
        self.group_id = new_group(rest, service.workflows["analysis"])
        self.group = f"groups/{self.group_id}"
        data = {"fileId": rest.upload(self.group_id, sample("analysis"))}
        started = [
            rest.start(self.group_id, {"data": data, "column": column, "threshold": 15.5})
            for column in COLUMNS
        ]
        handles = [rest.ended(run_id) for run_id in started]
        assert {handle["state"] for handle in handles} == {"SUCCESS"}, handles
        self.runs = [str(handle["id"]) for handle in handles]
        self.files = {
            str(handle["id"]): {
                file["name"]: rest.result(handle, file["name"]) for file in handle["files"]
            }
            for handle in handles
        }
        rest.close()

    @property
    def options(self) -> dict[str, Any]:
        # However slow the machine is, nothing is asked for twice only because time has passed.
        return {"token": self.token, "ttl": 600}

    def url(self, path: str, protocol: str = "flow") -> str:
        return f"{protocol}://{self.endpoint.partition('://')[2]}/{self.group}/{path}"

    def output(self, name: str, run: int = 0) -> str:
        return f"{self.group}/runs/{self.runs[run]}/outputs/{name}"

    def rows(self, run: int) -> list[dict[str, str]]:
        return list(csv.DictReader(self.files[self.runs[run]][CSV].decode().splitlines()))

    def frame(self, run: int = 0) -> Any:
        """Return what pandas makes of a run's summary."""
        import pandas

        return pandas.read_csv(io.BytesIO(self.files[self.runs[run]][CSV]))

    def summary(self, run: int = 0, protocol: str = "flow") -> str:
        """Return the URL of a run's summary."""
        return self.url(f"runs/{self.runs[run]}/outputs/{CSV}", protocol)

    @property
    def every_summary(self) -> str:
        """The pattern that all summaries match."""
        return self.url(f"runs/*/outputs/{CSV}")

    @property
    def means(self) -> list[float]:
        """The means in all summaries, sorted."""
        return sorted(float(row["mean"]) for run in range(3) for row in self.rows(run))


def new_group(rest: Rest, workflow: str) -> str:
    reply = rest.request(
        "POST", f"workflows/{workflow}/groups", json={"name": f"readers {os.urandom(4).hex()}"}
    )
    assert reply.ok, reply.text
    return str(reply.json()["id"])


class Cost:
    """Requests sent and bytes of bodies read since it was made."""

    def __init__(self, caplog: pytest.LogCaptureFixture, patch: pytest.MonkeyPatch) -> None:
        self.read = 0
        self._caplog = caplog
        caplog.set_level(logging.DEBUG, logger="flowfs.service")
        caplog.clear()
        count = Body._count

        def counted(body: Body, got: int, wanted: int) -> None:
            self.read += got
            count(body, got, wanted)

        patch.setattr(Body, "_count", counted)
        # What is read through instead of asked for anew depends on how long requests take.
        patch.setattr(Pace, "worth", 1 << 18)

    @property
    def requests(self) -> list[str]:
        """Method and path of each request."""
        lines = [r.getMessage() for r in self._caplog.records if r.name == "flowfs.service"]
        return [line.partition(" -> ")[0] for line in lines if " -> " in line]


def in_threads() -> contextlib.AbstractContextManager[Any]:
    import dask

    setting: contextlib.AbstractContextManager[Any] = dask.config.set(scheduler="threads")
    return setting
