"""What people read results with: pandas, dask, pyarrow, tarfile and fsspec's own wrappers.

All on runs of the real service's workflow `analysis`; what they read is compared with what
the service's REST interface gives without flowfs.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import csv
import gzip
import io
import itertools
import json
import logging
import multiprocessing
import os
import pickle
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.callbacks import Callback
from support import Rest, wait_until

from flowfs import FlowFileSystem
from flowfs.content.pace import Pace
from flowfs.embedded import EmbeddedService, sample
from flowfs.service.body import Body

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")

_COLUMNS = ("temperature", "humidity", "rainfall")
_CSV, _JSON, _SVG = "results/summary.csv", "results/summary.json", "results/plot.svg"


_numbers = itertools.count()


class _Results:
    """Three runs of `analysis` that have ended, and what is in them.

    Attributes
    ----------
    group : str
        Path of the group, which has nothing else in it.
    runs : list of str
        Ids of the runs, one for each of :data:`_COLUMNS`.
    files : dict
        For each run its files' bytes by name, read without flowfs.
    """

    def __init__(self, service: EmbeddedService) -> None:
        rest = Rest(service)
        self.endpoint, self.token = service.endpoint, service.token
        self.group_id = _new_group(rest, service.workflows["analysis"])
        self.group = f"groups/{self.group_id}"
        data = {"fileId": rest.upload(self.group_id, sample("analysis"))}
        started = [
            rest.start(self.group_id, {"data": data, "column": column, "threshold": 15.5})
            for column in _COLUMNS
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
        return list(csv.DictReader(self.files[self.runs[run]][_CSV].decode().splitlines()))


def _new_group(rest: Rest, workflow: str) -> str:
    reply = rest.request(
        "POST", f"workflows/{workflow}/groups", json={"name": f"readers {os.urandom(4).hex()}"}
    )
    assert reply.ok, reply.text
    return str(reply.json()["id"])


@pytest.fixture(scope="module")
def results(service: EmbeddedService) -> _Results:
    return _Results(service)


@pytest.fixture
def fs(results: _Results) -> FlowFileSystem:
    return FlowFileSystem(results.endpoint, **results.options)


def _expected(results: _Results, run: int = 0) -> Any:
    return pd.read_csv(io.BytesIO(results.files[results.runs[run]][_CSV]))


def _summary_url(results: _Results, protocol: str = "flow", run: int = 0) -> str:
    return results.url(f"runs/{results.runs[run]}/outputs/{_CSV}", protocol)


def _every_summary(results: _Results) -> str:
    return results.url(f"runs/*/outputs/{_CSV}")


@pytest.fixture
def uploads(results: _Results, fs: FlowFileSystem) -> Iterator[str]:
    """The group's uploads, put back to what they were."""
    directory = f"{results.group}/uploads"
    before = set(fs.ls(directory, detail=False, refresh=True))
    yield directory
    after = set(fs.ls(directory, detail=False, refresh=True))
    fs.rm(sorted(after - before))


# -- pandas ----------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["flow", "flow+http"])
def test_pandas_reads_a_csv_result_by_its_url(results: _Results, protocol: str) -> None:
    frame = pd.read_csv(_summary_url(results, protocol), storage_options=results.options)
    pd.testing.assert_frame_equal(frame, _expected(results))
    assert list(frame["station"]) == [row["station"] for row in results.rows(0)]
    assert len(frame) == 3


def test_pandas_reads_through_latest_and_states(results: _Results) -> None:
    newest = pd.read_csv(results.url(f"latest/outputs/{_CSV}"), storage_options=results.options)
    pd.testing.assert_frame_equal(newest, _expected(results, -1))
    url = results.url(f"states/SUCCESS/{results.runs[0]}/outputs/{_CSV}")
    pd.testing.assert_frame_equal(
        pd.read_csv(url, storage_options=results.options), _expected(results)
    )


def test_pandas_reads_a_csv_result_with_its_pyarrow_engine(results: _Results) -> None:
    frame = pd.read_csv(_summary_url(results), storage_options=results.options, engine="pyarrow")
    assert frame["mean"].tolist() == [float(row["mean"]) for row in results.rows(0)]


def test_pandas_reads_in_chunks(results: _Results) -> None:
    with pd.read_csv(_summary_url(results), storage_options=results.options, chunksize=2) as chunks:
        frames = list(chunks)
    assert [len(frame) for frame in frames] == [2, 1]
    pd.testing.assert_frame_equal(pd.concat(frames), _expected(results))


def test_pandas_reads_a_json_result(results: _Results) -> None:
    url = results.url(f"runs/{results.runs[1]}/outputs/{_JSON}")
    series = pd.read_json(url, typ="series", storage_options=results.options)
    assert series.to_dict() == json.loads(results.files[results.runs[1]][_JSON])
    assert series["column"] == "humidity"


def test_pandas_reads_the_table_of_runs(results: _Results) -> None:
    frame = pd.read_json(results.url("runs.jsonl"), lines=True, storage_options=results.options)
    frame = frame.set_index("id").loc[results.runs]
    assert list(frame["state"]) == ["SUCCESS"] * 3
    assert list(frame["column"]) == list(_COLUMNS)


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".zip"])
def test_a_frame_written_to_an_upload_is_read_back_compressed_by_its_name(
    results: _Results, fs: FlowFileSystem, uploads: str, suffix: str
) -> None:
    frame = _expected(results)
    url = results.url(f"uploads/table.csv{suffix}")
    frame.to_csv(url, index=False, storage_options=results.options)
    back = pd.read_csv(url, storage_options=results.options)
    pd.testing.assert_frame_equal(back, frame)
    stored = fs.cat(f"{uploads}/table.csv{suffix}")
    starts = {"": b"station", ".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ", ".zip": b"PK"}
    assert stored.startswith(starts[suffix])


def test_a_frame_that_fails_to_be_written_leaves_no_upload(
    results: _Results, fs: FlowFileSystem, uploads: str
) -> None:
    class Unwritable:
        def __str__(self) -> str:
            raise RuntimeError("cannot be written")

    frame = pd.DataFrame({"value": [1, Unwritable()]})
    with pytest.raises(RuntimeError, match="cannot be written"):
        frame.to_csv(results.url("uploads/half.csv"), storage_options=results.options)
    assert not fs.exists(f"{uploads}/half.csv")


def test_a_frame_written_to_an_upload_starts_a_run(
    results: _Results, fs: FlowFileSystem, uploads: str
) -> None:
    frame = pd.read_csv(sample("analysis"))
    frame[frame["station"] == "Harbour"].to_csv(
        results.url("uploads/harbour.csv"), index=False, storage_options=results.options
    )
    handle = fs.start_run(results.group_id, {"data": "harbour.csv", "column": "rainfall"})
    try:
        path = f"{results.group}/runs/{handle['id']}/handle.json"

        def ended() -> bool:
            fs.invalidate_cache()
            return bool(json.loads(fs.cat(path))["state"] == "SUCCESS")

        wait_until(ended, 30, "the run's end")
        url = results.url(f"runs/{handle['id']}/outputs/{_CSV}")
        done = pd.read_csv(url, storage_options=results.options)
        assert list(done["station"]) == ["Harbour"]
    finally:
        fs.rm(f"{results.group}/runs/{handle['id']}", recursive=True)


# -- parquet, and what it costs --------------------------------------------


class _Cost:
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


@pytest.fixture
def fresh(results: _Results) -> dict[str, Any]:
    """Storage options with which nothing is known yet: what is known is kept by options."""
    return {**results.options, "ttl": 1000 + next(_numbers)}


@pytest.fixture
def cost(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> _Cost:
    return _Cost(caplog, monkeypatch)


def test_one_column_of_a_parquet_upload_costs_few_requests_and_a_part_of_its_bytes(
    results: _Results, fs: FlowFileSystem, uploads: str, cost: _Cost
) -> None:
    count = 60_000
    table = {
        f"c{i}": [(row * (2 * i + 1) * 7919) % 1_000_003 for row in range(count)] for i in range(16)
    }
    frame = pd.DataFrame(table)
    url = results.url("uploads/wide.parquet")
    frame.to_parquet(url, compression=None, storage_options=results.options)
    size = fs.info(f"{uploads}/wide.parquet")["size"]
    assert size > 4 << 20
    fs.ls(uploads)
    begun, read = len(cost.requests), cost.read
    column = pd.read_parquet(url, columns=["c3"], storage_options=results.options)
    assert column["c3"].tolist() == table["c3"]
    assert list(column.columns) == ["c3"]
    assert len(cost.requests) - begun <= 6, cost.requests[begun:]
    assert 0 < cost.read - read < 2 * 8 * count


def test_a_csv_result_read_by_pandas_is_one_request_once_the_run_is_known(
    results: _Results, fresh: dict[str, Any], cost: _Cost
) -> None:
    fs = FlowFileSystem(results.endpoint, **fresh)
    fs.ls(f"{results.group}/runs/{results.runs[0]}/outputs")
    begun, read = len(cost.requests), cost.read
    frame = pd.read_csv(_summary_url(results), storage_options=fresh)
    pd.testing.assert_frame_equal(frame, _expected(results))
    assert len(cost.requests) - begun == 1, cost.requests[begun:]
    assert cost.read - read == len(results.files[results.runs[0]][_CSV])


def test_a_large_upload_read_by_pandas_in_chunks_is_one_request(
    results: _Results, fs: FlowFileSystem, uploads: str, cost: _Cost
) -> None:
    text = b"number\n" + b"".join(b"%d\n" % number for number in range(400_000))
    fs.pipe(f"{uploads}/long.csv", text)
    fs.ls(uploads)
    begun, total = len(cost.requests), 0
    url = results.url("uploads/long.csv")
    with pd.read_csv(url, storage_options=results.options, chunksize=50_000) as chunks:
        for chunk in chunks:
            total += int(chunk["number"].sum())
    assert total == sum(range(400_000))
    assert len(cost.requests) - begun == 1, cost.requests[begun:]


# -- dask ------------------------------------------------------------------


def test_dask_reads_a_csv_of_every_run(results: _Results) -> None:
    dd = pytest.importorskip("dask.dataframe")
    lazy = dd.read_csv(_every_summary(results), storage_options=results.options)
    with _in_threads():
        frame = lazy.compute()
    order = sorted(range(3), key=lambda run: results.runs[run])
    expected = pd.concat([_expected(results, run) for run in order])
    assert lazy.npartitions == 3
    pd.testing.assert_frame_equal(frame, expected, check_dtype=False)


def test_dasks_processes_read_too(results: _Results) -> None:
    dd = pytest.importorskip("dask.dataframe")
    lazy = dd.read_csv(_every_summary(results), storage_options=results.options)
    frame = lazy.compute(scheduler="processes", num_workers=2)
    assert sorted(frame["mean"]) == _all_means(results)


def test_dask_splits_a_csv_into_blocks(results: _Results) -> None:
    dd = pytest.importorskip("dask.dataframe")
    with _in_threads():
        lazy = dd.read_csv(_summary_url(results), storage_options=results.options, blocksize=64)
        frame = lazy.compute().reset_index(drop=True)
    assert lazy.npartitions > 1
    pd.testing.assert_frame_equal(frame, _expected(results), check_dtype=False)


def test_dask_says_which_run_a_row_is_of(results: _Results) -> None:
    dd = pytest.importorskip("dask.dataframe")
    lazy = dd.read_csv(
        _every_summary(results), storage_options=results.options, include_path_column=True
    )
    with _in_threads():
        frame = lazy.compute()
    by_run = frame.assign(run=frame["path"].astype(str).str.split("/").str[-4])
    for run, run_id in enumerate(results.runs):
        means = by_run[by_run["run"] == run_id]["mean"].tolist()
        assert means == [float(row["mean"]) for row in results.rows(run)]


def test_dasks_keys_do_not_change_between_instances(results: _Results) -> None:
    dd = pytest.importorskip("dask.dataframe")
    names = set()
    for _ in range(2):
        FlowFileSystem.clear_instance_cache()
        lazy = dd.read_csv(_every_summary(results), storage_options=results.options)
        names.add(lazy._name)
    assert len(names) == 1


def test_a_dask_bag_reads_lines_of_every_run_and_of_the_table_of_runs(results: _Results) -> None:
    bag = pytest.importorskip("dask.bag")
    with _in_threads():
        lines = bag.read_text(_every_summary(results), storage_options=results.options)
        assert lines.count().compute() == 12
        runs = bag.read_text(results.url("runs.jsonl"), storage_options=results.options)
        ids = runs.map(json.loads).pluck("id").compute()
    assert set(ids) >= set(results.runs)


def test_dask_read_bytes_gives_the_bytes_in_blocks(results: _Results) -> None:
    dask = pytest.importorskip("dask")
    from dask.bytes import read_bytes

    url = results.url(f"runs/{results.runs[0]}/outputs/{_SVG}")
    head, (blocks,) = read_bytes(url, blocksize=4096, sample=100, **results.options)
    with _in_threads():
        data = b"".join(dask.compute(*blocks))
    expected = results.files[results.runs[0]][_SVG]
    assert head == expected[:100]
    assert len(blocks) > 1
    assert data == expected


def test_dask_writes_partitions_to_uploads(
    results: _Results, fs: FlowFileSystem, uploads: str
) -> None:
    dd = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame({"number": range(10)})
    url = results.url("uploads/part-*.csv")
    with _in_threads():
        dd.from_pandas(frame, npartitions=3).to_csv(
            url, index=False, storage_options=results.options
        )
        assert len(fs.glob(f"{uploads}/part-*.csv")) == 3
        back = dd.read_csv(url, storage_options=results.options).compute()
    assert back["number"].tolist() == list(range(10))


def _in_threads() -> contextlib.AbstractContextManager[Any]:
    import dask

    setting: contextlib.AbstractContextManager[Any] = dask.config.set(scheduler="threads")
    return setting


# -- pyarrow ---------------------------------------------------------------


@pytest.fixture
def arrow(fs: FlowFileSystem) -> Any:
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return PyFileSystem(FSSpecHandler(fs))


def _means(table: Any) -> list[float]:
    return sorted(table.column("mean").to_pylist())


def _all_means(results: _Results) -> list[float]:
    return sorted(float(row["mean"]) for run in range(3) for row in results.rows(run))


def test_pyarrow_reads_csv_results_that_a_glob_finds(
    results: _Results, fs: FlowFileSystem, arrow: Any
) -> None:
    from pyarrow import csv as arrow_csv

    tables = []
    for path in fs.glob(f"{results.group}/runs/*/outputs/**/*.csv"):
        with arrow.open_input_stream(path) as stream:
            tables.append(arrow_csv.read_csv(stream))
    assert len(tables) == 3
    assert _means(pa.concat_tables(tables)) == _all_means(results)


@pytest.mark.parametrize("through", ["handler", "fsspec"])
def test_a_pyarrow_dataset_over_the_outputs_of_every_run(
    results: _Results, fs: FlowFileSystem, arrow: Any, through: str
) -> None:
    from pyarrow import dataset

    paths = fs.glob(f"{results.group}/runs/*/outputs/{_CSV}")
    filesystem = {"handler": arrow, "fsspec": fs}[through]
    found = dataset.dataset(paths, format="csv", filesystem=filesystem)
    assert found.files == paths
    assert _means(found.to_table(columns=["mean"])) == _all_means(results)
    harbours = found.to_table(filter=dataset.field("station") == "Harbour")
    assert harbours.num_rows == 3


def test_a_pyarrow_dataset_over_a_runs_directory_of_outputs(results: _Results, arrow: Any) -> None:
    from pyarrow import dataset

    directory = results.output("").rstrip("/")
    found = dataset.dataset(directory, format="csv", filesystem=arrow, exclude_invalid_files=True)
    assert found.files == [results.output(_CSV)]
    pd.testing.assert_frame_equal(found.to_table().to_pandas(), _expected(results))


def test_pyarrow_lists_a_runs_outputs_with_their_types_and_sizes(
    results: _Results, arrow: Any
) -> None:
    from pyarrow.fs import FileSelector, FileType

    selector = FileSelector(results.output("").rstrip("/"), recursive=True)
    found = {info.path: info for info in arrow.get_file_info(selector)}
    files = {path: info.size for path, info in found.items() if info.type == FileType.File}
    expected = results.files[results.runs[0]]
    assert {results.output(name) for name in expected} == set(files)
    assert found[results.output("results")].type == FileType.Directory
    asked = arrow.get_file_info(results.output(_CSV))
    assert asked.size == len(expected[_CSV])
    assert arrow.get_file_info(results.output("nothing")).type == FileType.NotFound


def test_pyarrow_writes_and_removes_an_upload(fs: FlowFileSystem, arrow: Any, uploads: str) -> None:
    from pyarrow import parquet

    table = pa.table({"number": [1, 2, 3], "name": ["a", "b", "c"]})
    parquet.write_table(table, f"{uploads}/small.parquet", filesystem=arrow)
    read = parquet.read_table(f"{uploads}/small.parquet", columns=["name"], filesystem=arrow)
    assert read.to_pydict() == {"name": ["a", "b", "c"]}
    arrow.delete_file(f"{uploads}/small.parquet")
    assert not fs.exists(f"{uploads}/small.parquet")


# -- archives --------------------------------------------------------------


def test_a_member_of_the_archive_is_read_by_a_chained_url(results: _Results) -> None:
    archive = results.url(f"runs/{results.runs[0]}/archive.tar.gz")
    with fsspec.open(f"tar://{_CSV}::{archive}", flow=results.options) as file:
        pd.testing.assert_frame_equal(pd.read_csv(file), _expected(results))


@pytest.mark.skipif(
    int(pd.__version__.partition(".")[0]) < 3, reason="older pandas takes no chained URLs"
)
def test_pandas_takes_chained_urls(results: _Results, tmp_path: Path) -> None:
    archive = results.url(f"runs/{results.runs[0]}/archive.tar.gz")
    options: dict[str, Any] = {"flow": results.options}
    frame = pd.read_csv(f"tar://{_CSV}::{archive}", storage_options=options)
    pd.testing.assert_frame_equal(frame, _expected(results))
    options["simplecache"] = {"cache_storage": str(tmp_path)}
    frame = pd.read_csv(f"simplecache::{_summary_url(results)}", storage_options=options)
    pd.testing.assert_frame_equal(frame, _expected(results))


@pytest.mark.parametrize("mode", ["r:gz", "r|gz", "r:*"])
def test_tarfile_reads_the_archive(results: _Results, fs: FlowFileSystem, mode: str) -> None:
    path = f"{results.group}/runs/{results.runs[1]}/archive.tar.gz"
    with fs.open(path) as file, tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        found = {}
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                found[member.name.removeprefix("./")] = content.read()
    assert found == results.files[results.runs[1]]


def test_the_archive_is_asked_for_once_however_often_it_is_read(
    results: _Results, fresh: dict[str, Any], cost: _Cost
) -> None:
    archive = results.url(f"runs/{results.runs[2]}/archive.tar.gz")
    for name in (_CSV, _JSON, _SVG):
        with fsspec.open(f"tar://{name}::{archive}", flow=fresh) as file:
            assert file.read() == results.files[results.runs[2]][name]
    assert sum("downloads/archive" in request for request in cost.requests) == 1


# -- fsspec's wrappers -----------------------------------------------------


@pytest.mark.parametrize("cache", ["simplecache", "filecache"])
def test_a_local_cache_keeps_a_result(
    results: _Results, fresh: dict[str, Any], tmp_path: Path, cost: _Cost, cache: str
) -> None:
    options = {"flow": fresh, cache: {"cache_storage": str(tmp_path / "cache")}}
    for _ in range(2):
        with fsspec.open(f"{cache}::{_summary_url(results)}", **options) as file:
            pd.testing.assert_frame_equal(pd.read_csv(file), _expected(results))
    assert sum("downloads/files" in request for request in cost.requests) == 1
    kept = [path.read_bytes() for path in (tmp_path / "cache").iterdir() if path.name != "cache"]
    assert kept == [results.files[results.runs[0]][_CSV]]


def test_a_local_cache_that_checks_its_files_is_valid_in_the_next_process(
    results: _Results, tmp_path: Path, fresh: dict[str, Any], cost: _Cost
) -> None:
    cached = {"cache_storage": str(tmp_path / "cache"), "check_files": True}
    url = f"filecache::{_summary_url(results)}"
    for run in range(2):
        FlowFileSystem.clear_instance_cache()
        options = {**fresh, "ttl": fresh["ttl"] + 100 * run}  # as nothing were known
        with fsspec.open(url, flow=options, filecache=cached) as file:
            assert file.read() == results.files[results.runs[0]][_CSV]
    assert sum("downloads/files" in request for request in cost.requests) == 1


def test_open_files_opens_what_a_pattern_matches(results: _Results) -> None:
    files = fsspec.open_files(_every_summary(results), "rt", **results.options)
    assert len(files) == 3
    texts = []
    for file in files:
        with file as opened:
            texts.append(opened.read())
    expected = [results.files[run][_CSV].decode() for run in sorted(results.runs)]
    assert texts == expected


def test_a_mapping_shows_the_outputs_of_a_run(results: _Results, fs: FlowFileSystem) -> None:
    mapping = fs.get_mapper(results.output("").rstrip("/"))
    expected = results.files[results.runs[0]]
    assert dict(mapping) == expected
    assert len(mapping) == 3
    assert _CSV in mapping
    assert "nothing" not in mapping
    assert mapping.getitems([_CSV, _JSON]) == {name: expected[name] for name in (_CSV, _JSON)}
    with pytest.raises(KeyError):
        mapping["nothing"]
    with pytest.raises(PermissionError):
        mapping["more"] = b""


# -- parts of files --------------------------------------------------------


def test_text_and_json_are_read_from_text_files(results: _Results, fs: FlowFileSystem) -> None:
    expected = results.files[results.runs[0]]
    with fs.open(results.output(_JSON), "r") as file:
        assert json.load(file) == json.loads(expected[_JSON])
    with fs.open(results.output(_CSV), "r", newline="") as file:
        assert list(csv.DictReader(file)) == results.rows(0)
    assert fs.read_text(results.output(_SVG)) == expected[_SVG].decode()
    assert fs.read_bytes(results.output(_SVG), start=3, end=9) == expected[_SVG][3:9]


def test_parts_of_a_result(results: _Results, fs: FlowFileSystem) -> None:
    path, expected = results.output(_SVG), results.files[results.runs[0]][_SVG]
    assert fs.head(path, 100) == expected[:100]
    assert fs.tail(path, 100) == expected[-100:]
    assert fs.cat_file(path, 50, -50) == expected[50:-50]
    assert fs.cat_file(path, len(expected) - 5, len(expected) + 5) == expected[-5:]
    assert fs.cat_file(path, len(expected) + 5) == b""
    assert fs.read_block(path, 10, 20) == expected[10:30]
    lines = results.files[results.runs[0]][_CSV]
    first = lines.index(b"\n") + 1
    second = lines.index(b"\n", first) + 1
    block = fs.read_block(results.output(_CSV), 1, first, delimiter=b"\n")
    assert block == lines[first:second]


def test_many_ranges_of_many_files(results: _Results, fs: FlowFileSystem) -> None:
    paths = [results.output(_SVG, run) for run in (0, 1, 2, 0)]
    expected = [results.files[results.runs[run]][_SVG] for run in (0, 1, 2, 0)]
    starts, ends = [0, 10, 20, 30], [5, 20, 40, 60]
    parts = fs.cat_ranges(paths, starts, ends)
    assert parts == [d[s:e] for d, s, e in zip(expected, starts, ends, strict=True)]
    parts = fs.cat_ranges([*paths[:2], results.output("nothing")], 7, 9)
    assert parts[:2] == [data[7:9] for data in expected[:2]]
    assert isinstance(parts[2], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges([results.output("nothing")], 0, 1, on_error="raise")


# -- copies ----------------------------------------------------------------


class _Progress(Callback):
    """As a progress bar sees it: files, and the bytes of each."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, Callback] = {}

    def branched(self, path_1: Any, path_2: Any, **kwargs: Any) -> Callback:
        self.files[str(path_1)] = Callback()
        return self.files[str(path_1)]


def test_a_run_is_copied_whole_with_its_progress(
    results: _Results, fs: FlowFileSystem, tmp_path: Path
) -> None:
    progress = _Progress()
    run = f"{results.group}/runs/{results.runs[0]}"
    fs.get(run, str(tmp_path / "run"), recursive=True, callback=progress)
    there = {
        path.relative_to(tmp_path / "run").as_posix()
        for path in (tmp_path / "run").rglob("*")
        if path.is_file()
    }
    files = {str(entry["id"]): entry["output"] for entry in fs.ls(f"{run}/results")}
    assert there == {"handle.json", "arguments.json", *(f"results/{name}" for name in files)}
    for name, output in files.items():
        data = (tmp_path / "run" / "results" / name).read_bytes()
        assert data == results.files[results.runs[0]][output]
    handle = json.loads((tmp_path / "run" / "handle.json").read_text())
    assert (handle["id"], handle["state"]) == (results.runs[0], "SUCCESS")
    assert progress.value == progress.size == len(progress.files)
    moved = {path.rpartition("/")[2]: (c.size, c.value) for path, c in progress.files.items()}
    for name in there:
        size = (tmp_path / "run" / name).stat().st_size
        assert moved[name.rpartition("/")[2]] == (size, size)


def test_the_outputs_of_a_run_are_copied_under_the_workflows_names(
    results: _Results, fs: FlowFileSystem, tmp_path: Path
) -> None:
    fs.get(results.output(""), f"{tmp_path}/out/", recursive=True)
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == results.files[results.runs[0]]


def test_a_flat_local_directory_is_copied_into_uploads_with_its_progress(
    fs: FlowFileSystem, uploads: str, tmp_path: Path
) -> None:
    local = {"one.csv": b"a,b\n1,2\n", "two.txt": b"x" * 200_000, "empty.dat": b""}
    (tmp_path / "inputs").mkdir()
    for name, data in local.items():
        (tmp_path / "inputs" / name).write_bytes(data)
    progress = _Progress()
    fs.put(f"{tmp_path}/inputs/", f"{uploads}/", recursive=True, callback=progress)
    assert {name: fs.cat(f"{uploads}/{name}") for name in local} == local
    moved = {os.path.basename(path): (c.size, c.value) for path, c in progress.files.items()}
    assert {name: moved[name] for name in local} == {
        name: (len(data), len(data)) for name, data in local.items()
    }


@pytest.mark.parametrize("compression", ["infer", "gzip"])
def test_compressed_files_are_written_and_read_as_their_content(
    results: _Results, fs: FlowFileSystem, uploads: str, compression: str
) -> None:
    url = results.url("uploads/notes.txt.gz")
    with fsspec.open(url, "wt", compression=compression, **results.options) as file:
        file.write("one\ntwo\n")
    assert gzip.decompress(fs.cat(f"{uploads}/notes.txt.gz")) == b"one\ntwo\n"
    with fsspec.open(url, "rt", compression=compression, **results.options) as file:
        assert file.read() == "one\ntwo\n"
    with fs.open(f"{uploads}/notes.txt.gz", "rt", compression=compression) as file:
        assert file.readlines() == ["one\n", "two\n"]


def test_other_writers_and_readers_use_the_files_as_python_files(
    results: _Results, fs: FlowFileSystem, uploads: str
) -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(12.0).reshape(3, 4)
    with fs.open(f"{uploads}/array.npy", "wb") as file:
        np.save(file, array)
    with fs.open(f"{uploads}/array.npy") as file:
        assert np.array_equal(np.load(file), array)
    with fs.open(f"{uploads}/pack.zip", "wb") as file, zipfile.ZipFile(file, "w") as pack:
        pack.writestr("inner.txt", "packed")
    url = f"zip://inner.txt::{results.url('uploads/pack.zip')}"
    with fsspec.open(url, flow=results.options) as file:
        assert file.read() == b"packed"


def test_an_empty_upload_is_empty_however_it_is_read(fs: FlowFileSystem, uploads: str) -> None:
    path = f"{uploads}/empty.txt"
    fs.pipe(path, b"")
    assert fs.info(path)["size"] == 0
    with fs.open(path) as file:
        assert file.read() == b""
    parts = (fs.cat(path), fs.cat_file(path, 0, 9), fs.head(path), fs.tail(path))
    assert parts == (b"", b"", b"", b"")
    assert fs.read_block(path, 0, 9, delimiter=b"\n") == b""


# -- processes -------------------------------------------------------------


def _digest(fs: FlowFileSystem, path: str) -> tuple[int, bytes]:
    return os.getpid(), fs.cat_file(path)


def test_workers_in_other_processes_read_with_a_pickled_file_system(
    results: _Results, fs: FlowFileSystem
) -> None:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=spawn) as pool:
        outcomes = list(pool.map(_digest, [fs] * 3, [results.output(_SVG, i) for i in range(3)]))
    assert [data for _, data in outcomes] == [results.files[run][_SVG] for run in results.runs]
    assert os.getpid() not in {pid for pid, _ in outcomes}


def test_an_open_file_of_fsspec_is_read_after_it_was_pickled(results: _Results) -> None:
    file = fsspec.open(_summary_url(results), "rt", **results.options)
    with pickle.loads(pickle.dumps(file)) as opened:
        assert opened.read() == results.files[results.runs[0]][_CSV].decode()


def test_threads_read_at_once_and_each_gets_its_own_bytes(
    results: _Results, fresh: dict[str, Any]
) -> None:
    paths = [(run, name) for run in range(3) for name in (_CSV, _JSON, _SVG)] * 8

    def read(what: tuple[int, str]) -> bool:
        run, name = what
        fs = FlowFileSystem(results.endpoint, **fresh)
        with fs.open(results.output(name, run)) as file:
            return bool(file.read() == results.files[results.runs[run]][name])

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert all(pool.map(read, paths))
