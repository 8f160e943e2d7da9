"""Every reader of docs/readers.md on results of the real service, and what each costs there."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import pytest
from formats_workflow import MEANS, ROWS, FormatsGroup, formats_group
from reader_results import Cost, in_threads

from flowfs import FlowFileSystem

for _module in ("pandas", "dask", "pyarrow", "polars", "duckdb", "openpyxl", "PIL"):
    pytest.importorskip(_module)

_PAGE = Path(__file__).parents[1] / "docs" / "readers.md"
_EVERY = sorted(ROWS * 3)


@pytest.fixture(scope="module")
def study() -> Iterator[FormatsGroup]:
    with formats_group() as group:
        yield group


class _Case(NamedTuple):
    """What a reader is tried on, with nothing known of it.

    Attributes
    ----------
    study : FormatsGroup
        The group.
    options : dict
        Storage options.
    place : Path
        An empty directory.
    """

    study: FormatsGroup
    options: dict[str, Any]
    place: Path

    @property
    def fs(self) -> FlowFileSystem:
        return FlowFileSystem(self.study.service.endpoint, **self.options)

    def open(self, name: str) -> Any:
        return fsspec.open(self.study.output(name), **self.options)

    def glob(self, name: str) -> list[str]:
        found: list[str] = self.fs.glob(f"{self.study.path}/runs/*/outputs/results/{name}")
        return found

    def duck(self, query: str) -> Any:
        import duckdb

        with contextlib.closing(duckdb.connect()) as connection:
            connection.register_filesystem(self.fs)
            return connection.sql(query).fetchall()


_numbers = itertools.count()


def _options(study: FormatsGroup) -> dict[str, Any]:
    return {"token": study.service.token, "ttl": 10_000 + next(_numbers)}


@pytest.fixture
def case(study: FormatsGroup, tmp_path: Path) -> _Case:
    return _Case(study, _options(study), tmp_path)


# -- each reader: what the page calls it, and what comes of it -------------

_READERS: dict[str, tuple[Callable[[_Case], Any], Any]] = {}


def _reads(call: str, expected: Any) -> Callable[[Callable[[_Case], Any]], None]:
    def note(read: Callable[[_Case], Any]) -> None:
        _READERS[call] = read, expected

    return note


def _rows(frame: Any) -> list[tuple[str, float]]:
    return sorted(zip(frame["station"], frame["mean"], strict=True))


@_reads("pandas.read_csv", ROWS)
def _pandas_csv(case: _Case) -> Any:
    import pandas

    return _rows(pandas.read_csv(case.study.output("table.csv"), storage_options=case.options))


@_reads("pandas.read_json", ROWS)
def _pandas_json(case: _Case) -> Any:
    import pandas

    return _rows(pandas.read_json(case.study.output("table.json"), storage_options=case.options))


@_reads("pandas.read_parquet", ROWS)
def _pandas_parquet(case: _Case) -> Any:
    import pandas

    url = case.study.output("table.parquet")
    return _rows(pandas.read_parquet(url, storage_options=case.options))


@_reads("pandas.read_excel", ROWS)
def _pandas_excel(case: _Case) -> Any:
    import pandas

    return _rows(pandas.read_excel(case.study.output("table.xlsx"), storage_options=case.options))


@_reads("pandas.read_csv of simplecache::", ROWS)
def _pandas_simplecache(case: _Case) -> Any:
    return _cached(case, "simplecache")


@_reads("pandas.read_csv of filecache::", ROWS)
def _pandas_filecache(case: _Case) -> Any:
    return _cached(case, "filecache")


@_reads("pandas.read_csv of blockcache::", ROWS)
def _pandas_blockcache(case: _Case) -> Any:
    return _cached(case, "blockcache")


def _cached(case: _Case, cache: str) -> Any:
    import pandas

    options = {"flow": case.options, cache: {"cache_storage": str(case.place)}}
    with fsspec.open(f"{cache}::{case.study.output('table.csv')}", **options) as file:
        return _rows(pandas.read_csv(file))


@_reads("pandas.read_csv of zip://", ROWS)
def _pandas_zip(case: _Case) -> Any:
    import pandas

    url = f"zip://inner/table.csv::{case.study.output('pack.zip')}"
    with fsspec.open(url, flow=case.options) as file:
        return _rows(pandas.read_csv(file))


@_reads("pandas.read_csv of tar://", ROWS)
def _pandas_tar(case: _Case) -> Any:
    import pandas

    archive = case.study.url(f"runs/{case.study.runs[0]}/archive.tar.gz")
    with fsspec.open(f"tar://results/table.csv::{archive}", flow=case.options) as file:
        return _rows(pandas.read_csv(file))


@_reads("polars.read_csv", ROWS)
def _polars_csv(case: _Case) -> Any:
    import polars

    with case.open("table.csv") as file:
        return _rows(polars.read_csv(file))


@_reads("polars.read_ndjson", ROWS)
def _polars_ndjson(case: _Case) -> Any:
    import polars

    with case.open("table.jsonl") as file:
        return _rows(polars.read_ndjson(file))


@_reads("polars.read_parquet", MEANS)
def _polars_parquet(case: _Case) -> Any:
    import polars

    with case.open("table.parquet") as file:
        return polars.read_parquet(file, columns=["mean"])["mean"].to_list()


@_reads("polars.scan_csv", _EVERY)
def _polars_scan_csv(case: _Case) -> Any:
    import polars

    with fsspec.open_files(case.study.every("table.csv"), **case.options) as files:
        return _rows(polars.scan_csv(list(files)).collect())


@_reads("polars.scan_parquet", sorted(MEANS * 3))
def _polars_scan_parquet(case: _Case) -> Any:
    import polars

    with fsspec.open_files(case.study.every("table.parquet"), **case.options) as files:
        lazy = polars.scan_parquet(list(files)).filter(polars.col("mean") > 0)
        return sorted(lazy.select("mean").collect()["mean"])


@_reads("polars.scan_pyarrow_dataset", _EVERY)
def _polars_dataset(case: _Case) -> Any:
    import polars
    from pyarrow import dataset

    found = dataset.dataset(case.glob("table.parquet"), filesystem=case.fs)
    return _rows(polars.scan_pyarrow_dataset(found).collect())


@_reads("duckdb read_csv", _EVERY)
def _duckdb_csv(case: _Case) -> Any:
    return sorted(case.duck(f"FROM read_csv('{case.study.every('table.csv')}')"))


@_reads("duckdb read_json", _EVERY)
def _duckdb_json(case: _Case) -> Any:
    return sorted(case.duck(f"FROM read_json('{case.study.every('table.json')}')"))


@_reads("duckdb read_parquet", _EVERY)
def _duckdb_parquet(case: _Case) -> Any:
    return sorted(case.duck(f"FROM read_parquet('{case.study.every('table.parquet')}')"))


@_reads("pyarrow.dataset", _EVERY)
def _arrow_dataset(case: _Case) -> Any:
    from pyarrow import dataset

    found = dataset.dataset(case.glob("table.parquet"), filesystem=case.fs)
    return _rows(found.to_table().to_pandas())


@_reads("dask.dataframe.read_csv", _EVERY)
def _dask_csv(case: _Case) -> Any:
    import dask.dataframe

    with in_threads():
        found = dask.dataframe.read_csv(case.study.every("table.csv"), storage_options=case.options)
        return _rows(found.compute())


@_reads("dask.dataframe.read_parquet", _EVERY)
def _dask_parquet(case: _Case) -> Any:
    import dask.dataframe

    url = case.study.every("table.parquet")
    with in_threads():
        return _rows(dask.dataframe.read_parquet(url, storage_options=case.options).compute())


@_reads("dask.bag.read_text", 6)
def _dask_bag(case: _Case) -> Any:
    import dask.bag

    url = case.study.every("table.jsonl")
    with in_threads():
        return len(dask.bag.read_text(url, storage_options=case.options).map(json.loads).compute())


@_reads("fsspec.open_files", _EVERY)
def _open_files(case: _Case) -> Any:
    rows = []
    with fsspec.open_files(case.study.every("table.jsonl"), "rt", **case.options) as files:
        for file in files:
            rows += [(row["station"], row["mean"]) for row in map(json.loads, file)]
    return sorted(rows)


@_reads("PIL.Image.open", ((8, 4), (1, 2, 3)))
def _image(case: _Case) -> Any:
    from PIL import Image

    with case.open("plot.png") as file, Image.open(file) as image:
        return image.size, image.getpixel((0, 0))


@_reads("numpy.load", 66.0)
def _numpy(case: _Case) -> Any:
    import numpy

    with case.open("field.npy") as file:
        return float(numpy.load(file).sum())


@_reads("tarfile.open", True)
def _tarfile(case: _Case) -> Any:
    url = case.study.url(f"runs/{case.study.runs[0]}/archive.tar.gz")
    with fsspec.open(url, **case.options) as file, tarfile.open(fileobj=file) as archive:
        names = {member.name.removeprefix("./") for member in archive if member.isfile()}
    return names == set(case.study.files)


@_reads("zipfile.ZipFile", ["inner/table.csv"])
def _zipfile(case: _Case) -> Any:
    with case.open("pack.zip") as file, zipfile.ZipFile(file) as pack:
        return pack.namelist()


# -- what each reads, and for how much -------------------------------------


@pytest.fixture(scope="module")
def told() -> dict[str, int]:
    """What the page says that each costs: of three runs, where it is so much a run."""
    table = re.findall(r"^\| `([^`]+)` \| (\d+)(?: \+ (\d+) a run)? \|", _PAGE.read_text(), re.M)
    return {call: int(once) + 3 * int(a_run or 0) for call, once, a_run in table}


def test_the_page_has_each_reader_that_is_tested_and_no_other(told: dict[str, int]) -> None:
    assert set(told) == set(_READERS)


@pytest.mark.parametrize("call", _READERS)
def test_a_reader_reads_what_is_there_for_what_the_page_says(
    call: str, case: _Case, told: dict[str, int], cost: Cost
) -> None:
    read, expected = _READERS[call]
    case.fs.ls("workflows")  # the service's routes are asked for once in a process
    begun = len(cost.requests)
    assert read(case) == expected
    assert len(cost.requests) - begun == told[call], cost.requests[begun:]


# -- netCDF ----------------------------------------------------------------


@pytest.mark.parametrize("opened", [True, False])
def test_xarray_reads_netcdf_by_its_url_and_from_an_open_file_for_two_requests(
    case: _Case, cost: Cost, opened: bool
) -> None:
    pytest.importorskip("h5netcdf")
    xarray = pytest.importorskip("xarray")
    case.fs.ls("workflows")  # the service's routes are asked for once in a process
    begun = len(cost.requests)
    with contextlib.ExitStack() as stack:
        if opened:
            given: Any = stack.enter_context(case.open("field.nc"))
            found = xarray.open_dataset(given)
        else:
            url = case.study.output("field.nc")
            found = xarray.open_dataset(url, engine="h5netcdf", storage_options=case.options)
        with found:
            assert float(found["temperature"].sum()) == 66.0
            assert float(found["temperature"][1, 2]) == 6.0
    assert len(cost.requests) - begun == 2, cost.requests[begun:]


# -- zarr: a directory of files --------------------------------------------


def test_a_zarr_group_in_outputs_is_opened_by_xarray_and_no_file_is_asked_for_twice(
    case: _Case, cost: Cost
) -> None:
    pytest.importorskip("zarr")
    xarray = pytest.importorskip("xarray")
    with xarray.open_zarr(
        case.study.output("field.zarr"), storage_options=case.options, consolidated=False
    ) as found:
        assert float(found["temperature"].sum()) == 66.0
    asked = [request for request in cost.requests if "downloads" in request]
    assert len(asked) == len(set(asked)) <= len(case.study.files)
    assert sum("/runs/" in request for request in cost.requests) - len(asked) == 1


def test_a_zarr_array_is_read_by_zarr_itself(case: _Case) -> None:
    zarr = pytest.importorskip("zarr")
    pytest.importorskip("xarray")  # made it
    group: Any = zarr.open_group(
        case.study.output("field.zarr"), mode="r", storage_options=case.options
    )
    assert group["temperature"][:].sum() == 66.0
    assert group["temperature"][1, 2] == 6.0


@pytest.mark.skipif(
    tuple(map(int, fsspec.__version__.split(".")[:2])) < (2026, 9),
    reason="zarr finds nothing in an archive through an older fsspec, local or not",
)
def test_a_zarr_group_is_read_out_of_the_archive(case: _Case, cost: Cost) -> None:
    pytest.importorskip("zarr")
    xarray = pytest.importorskip("xarray")
    archive = case.study.url(f"runs/{case.study.runs[0]}/archive.tar.gz")
    with xarray.open_zarr(
        f"tar://results/field.zarr::{archive}",
        storage_options={"flow": case.options},
        consolidated=False,
    ) as found:
        assert float(found["temperature"].sum()) == 66.0
    assert sum("downloads" in request for request in cost.requests) == 1


# -- DuckDB ----------------------------------------------------------------


@pytest.fixture
def uploads(case: _Case) -> Iterator[str]:
    directory = f"{case.study.path}/uploads"
    yield directory
    case.fs.rm(case.fs.ls(directory, detail=False, refresh=True))


@pytest.mark.parametrize("protocol", ["flow", "flow+http"])
def test_duckdb_says_which_file_a_row_is_of_as_it_was_asked_for(case: _Case, protocol: str) -> None:
    pattern = case.study.url("runs/*/outputs/results/table.csv", protocol)
    rows = case.duck(f"SELECT DISTINCT filename FROM read_csv('{pattern}', filename=true)")
    runs = [name.split("/runs/")[1].partition("/")[0] for (name,) in rows]
    assert sorted(runs) == sorted(case.study.runs)
    assert {name.partition("://")[0] for (name,) in rows} <= {"flow", "flow+http"}


def test_duckdb_reads_the_table_of_runs_of_the_configured_service(case: _Case) -> None:
    url = f"flow:///{case.study.path}/runs.jsonl"
    rows = case.duck(f"SELECT id, state FROM read_json('{url}')")
    # Older ones take the ids for UUIDs.
    ids = [str(run).replace("-", "") for run, _ in rows]
    assert sorted(ids) == sorted(case.study.runs)
    assert {state for _, state in rows} == {"SUCCESS"}


def test_duckdbs_threads_read_each_its_own_bytes_of_one_file(case: _Case, uploads: str) -> None:
    import pandas

    count = 200_000
    numbers = [(row * 7919) % 1_000_003 for row in range(count)]
    frame = pandas.DataFrame({"a": numbers, "b": range(count)})
    url = f"flow:///{uploads}/wide.parquet"
    frame.to_parquet(
        case.study.url("uploads/wide.parquet"),
        storage_options=case.options,
        compression=None,
        row_group_size=10_000,
    )
    expected = [(sum(numbers), sum(range(count)), count)]
    for _ in range(3):
        here = case._replace(options=_options(case.study))
        assert here.duck(f"SELECT sum(a), sum(b), count(*) FROM read_parquet('{url}')") == expected


def test_duckdb_writes_an_upload_and_replaces_it_without_a_temporary_file(
    case: _Case, uploads: str
) -> None:
    import duckdb

    url = f"flow:///{uploads}/out.csv"
    with contextlib.closing(duckdb.connect()) as connection:
        connection.register_filesystem(case.fs)
        for number in (1, 2):
            connection.sql(f"COPY (SELECT {number} AS a) TO '{url}' (USE_TMP_FILE false)")
            assert case.fs.cat(f"{uploads}/out.csv").split() == [b"a", b"%d" % number]


# -- polars ----------------------------------------------------------------


def test_polars_reads_lazily_from_open_files_of_many_runs(case: _Case) -> None:
    import polars

    with fsspec.open_files(case.study.every("table.csv"), **case.options) as files:
        frame = polars.concat([polars.read_csv(file) for file in files])
    assert _rows(frame) == _EVERY
    with case.open("table.csv") as file:
        lazy = polars.scan_csv(file).filter(polars.col("station") == "Ridge")
        assert _rows(lazy.collect()) == ROWS[1:]


def test_polars_reads_excel(case: _Case) -> None:
    import polars

    with case.open("table.xlsx") as file:
        assert _rows(polars.read_excel(file, engine="openpyxl")) == ROWS
