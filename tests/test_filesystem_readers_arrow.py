"""pyarrow on results of the real service: its file systems, streams and datasets."""

from __future__ import annotations

from typing import Any

import pytest
from reader_results import CSV, AnalysisResults

from flowfs import FlowFileSystem

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")


@pytest.fixture
def arrow(fs: FlowFileSystem) -> Any:
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return PyFileSystem(FSSpecHandler(fs))


def _means(table: Any) -> list[float]:
    return sorted(table.column("mean").to_pylist())


def test_pyarrow_reads_csv_results_that_a_glob_finds(
    results: AnalysisResults, fs: FlowFileSystem, arrow: Any
) -> None:
    from pyarrow import csv as arrow_csv

    tables = []
    for path in fs.glob(f"{results.group}/runs/*/outputs/**/*.csv"):
        with arrow.open_input_stream(path) as stream:
            tables.append(arrow_csv.read_csv(stream))
    assert len(tables) == 3
    assert _means(pa.concat_tables(tables)) == results.means


@pytest.mark.parametrize("through", ["handler", "fsspec"])
def test_a_pyarrow_dataset_over_the_outputs_of_every_run(
    results: AnalysisResults, fs: FlowFileSystem, arrow: Any, through: str
) -> None:
    from pyarrow import dataset

    paths = fs.glob(f"{results.group}/runs/*/outputs/{CSV}")
    filesystem = {"handler": arrow, "fsspec": fs}[through]
    found = dataset.dataset(paths, format="csv", filesystem=filesystem)
    assert found.files == paths
    assert _means(found.to_table(columns=["mean"])) == results.means
    harbours = found.to_table(filter=dataset.field("station") == "Harbour")
    assert harbours.num_rows == 3


def test_a_pyarrow_dataset_over_a_runs_directory_of_outputs(
    results: AnalysisResults, arrow: Any
) -> None:
    from pyarrow import dataset

    directory = results.output("").rstrip("/")
    found = dataset.dataset(directory, format="csv", filesystem=arrow, exclude_invalid_files=True)
    assert found.files == [results.output(CSV)]
    pd.testing.assert_frame_equal(found.to_table().to_pandas(), results.frame())


def test_pyarrow_lists_a_runs_outputs_with_their_types_and_sizes(
    results: AnalysisResults, arrow: Any
) -> None:
    from pyarrow.fs import FileSelector, FileType

    selector = FileSelector(results.output("").rstrip("/"), recursive=True)
    found = {info.path: info for info in arrow.get_file_info(selector)}
    files = {path: info.size for path, info in found.items() if info.type == FileType.File}
    expected = results.files[results.runs[0]]
    assert {results.output(name) for name in expected} == set(files)
    assert found[results.output("results")].type == FileType.Directory
    asked = arrow.get_file_info(results.output(CSV))
    assert asked.size == len(expected[CSV])
    assert arrow.get_file_info(results.output("nothing")).type == FileType.NotFound


def test_pyarrow_writes_and_removes_an_upload(fs: FlowFileSystem, arrow: Any, uploads: str) -> None:
    from pyarrow import parquet

    table = pa.table({"number": [1, 2, 3], "name": ["a", "b", "c"]})
    parquet.write_table(table, f"{uploads}/small.parquet", filesystem=arrow)
    read = parquet.read_table(f"{uploads}/small.parquet", columns=["name"], filesystem=arrow)
    assert read.to_pydict() == {"name": ["a", "b", "c"]}
    arrow.delete_file(f"{uploads}/small.parquet")
    assert not fs.exists(f"{uploads}/small.parquet")
