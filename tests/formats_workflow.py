"""A workflow whose results are in the formats that readers read, and a group with three runs of it.

The files are made here, with the libraries of the tests, and carried by the workflow's script: the
service's own Python has none of them.
"""

from __future__ import annotations

import base64
import contextlib
import io
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from results_workflow import add_workflow
from support import Rest

from flowfs.embedded import EmbeddedService

__all__ = ["MEANS", "ROWS", "FormatsGroup", "formats_group"]

#: What is in each table.
ROWS = [("Harbour", 23.75), ("Ridge", 14.0)]
MEANS = [mean for _, mean in ROWS]


class FormatsGroup:
    """A group called ``study``, with runs whose results are all alike.

    Parameters
    ----------
    service : EmbeddedService
        A service of the test's own.

    Attributes
    ----------
    files : dict of str to bytes
        The results of each run by name.
    path : str
        The group's.
    runs : list of str
        Ids.
    """

    def __init__(self, service: EmbeddedService) -> None:
        self.service = service
        self.files = _files()
        with contextlib.closing(Rest(service)) as rest:
            workflow = add_workflow(service, tuple(self.files), _script(self.files), "formats")
            reply = rest.request("POST", f"workflows/{workflow}/groups", json={"name": "study"})
            assert reply.ok, reply.text
            group_id = str(reply.json()["id"])
            started = [rest.start(group_id, {}) for _ in range(3)]
            handles = [rest.ended(run_id) for run_id in started]
        assert {handle["state"] for handle in handles} == {"SUCCESS"}, handles
        self.path = f"groups/{group_id}"
        self.runs = [str(handle["id"]) for handle in handles]

    def url(self, path: str, protocol: str = "flow") -> str:
        """Return the URL of a path below the group."""
        return f"{protocol}://{self.service.endpoint.partition('://')[2]}/{self.path}/{path}"

    def output(self, name: str) -> str:
        """Return the URL of a result of the first run."""
        return self.url(f"runs/{self.runs[0]}/outputs/results/{name}")

    def every(self, name: str) -> str:
        """Return the pattern that a result of all runs matches."""
        return self.url(f"runs/*/outputs/results/{name}")


@contextlib.contextmanager
def formats_group() -> Iterator[FormatsGroup]:
    """Start a service with that workflow and group."""
    with EmbeddedService.start() as service:
        yield FormatsGroup(service)


def _files() -> dict[str, bytes]:
    import numpy as np
    import pandas as pd
    from PIL import Image

    frame = pd.DataFrame(ROWS, columns=["station", "mean"])
    field = np.arange(12.0).reshape(3, 4)
    with TemporaryDirectory() as place:
        results = Path(place) / "results"
        results.mkdir()
        frame.to_csv(results / "table.csv", index=False)
        frame.to_json(results / "table.json", orient="records")
        frame.to_json(results / "table.jsonl", orient="records", lines=True)
        frame.to_parquet(results / "table.parquet", index=False)
        frame.to_excel(results / "table.xlsx", index=False)
        np.save(results / "field.npy", field)
        if find_spec("zarr") and find_spec("xarray"):  # Python 3.10 has no zarr 3
            import xarray as xr

            dataset: Any = xr.Dataset({"temperature": (("y", "x"), field)})
            dataset.to_zarr(results / "field.zarr", consolidated=False)
            if find_spec("h5netcdf"):
                dataset.to_netcdf(results / "field.nc", engine="h5netcdf")
        Image.new("RGB", (8, 4), (1, 2, 3)).save(results / "plot.png")
        with zipfile.ZipFile(results / "pack.zip", "w") as pack:
            pack.write(results / "table.csv", "inner/table.csv")
        files = sorted(path for path in results.rglob("*") if path.is_file())
        return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}


def _script(files: dict[str, bytes]) -> str:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, data in files.items():
            pack.writestr(name, data)
    text = base64.b64encode(packed.getvalue()).decode()
    return (
        "import base64, io, zipfile\n"
        f"packed = io.BytesIO(base64.b64decode({text!r}))\n"
        "zipfile.ZipFile(packed).extractall()\n"
    )
