"""dask on results of the real service, in threads and in processes of its own."""

from __future__ import annotations

import json

import pytest
from reader_results import SVG, AnalysisResults, in_threads

from flowfs import FlowFileSystem

pd = pytest.importorskip("pandas")


def test_dask_reads_a_csv_of_every_run(results: AnalysisResults) -> None:
    dd = pytest.importorskip("dask.dataframe")
    lazy = dd.read_csv(results.every_summary, storage_options=results.options)
    with in_threads():
        frame = lazy.compute()
    order = sorted(range(3), key=lambda run: results.runs[run])
    expected = pd.concat([results.frame(run) for run in order])
    assert lazy.npartitions == 3
    pd.testing.assert_frame_equal(frame, expected, check_dtype=False)


def test_dasks_processes_read_too(results: AnalysisResults) -> None:
    dd = pytest.importorskip("dask.dataframe")
    lazy = dd.read_csv(results.every_summary, storage_options=results.options)
    frame = lazy.compute(scheduler="processes", num_workers=2)
    assert sorted(frame["mean"]) == results.means


def test_dask_splits_a_csv_into_blocks(results: AnalysisResults) -> None:
    dd = pytest.importorskip("dask.dataframe")
    with in_threads():
        lazy = dd.read_csv(results.summary(), storage_options=results.options, blocksize=64)
        frame = lazy.compute().reset_index(drop=True)
    assert lazy.npartitions > 1
    pd.testing.assert_frame_equal(frame, results.frame(), check_dtype=False)


def test_dask_says_which_run_a_row_is_of(results: AnalysisResults) -> None:
    dd = pytest.importorskip("dask.dataframe")
    lazy = dd.read_csv(
        results.every_summary, storage_options=results.options, include_path_column=True
    )
    with in_threads():
        frame = lazy.compute()
    by_run = frame.assign(run=frame["path"].astype(str).str.split("/").str[-4])
    for run, run_id in enumerate(results.runs):
        means = by_run[by_run["run"] == run_id]["mean"].tolist()
        assert means == [float(row["mean"]) for row in results.rows(run)]


def test_dasks_keys_do_not_change_between_instances(results: AnalysisResults) -> None:
    dd = pytest.importorskip("dask.dataframe")
    names = set()
    for _ in range(2):
        FlowFileSystem.clear_instance_cache()
        lazy = dd.read_csv(results.every_summary, storage_options=results.options)
        names.add(lazy._name)
    assert len(names) == 1


def test_a_dask_bag_reads_lines_of_every_run_and_of_the_table_of_runs(
    results: AnalysisResults,
) -> None:
    bag = pytest.importorskip("dask.bag")
    with in_threads():
        lines = bag.read_text(results.every_summary, storage_options=results.options)
        assert lines.count().compute() == 12
        runs = bag.read_text(results.url("runs.jsonl"), storage_options=results.options)
        ids = runs.map(json.loads).pluck("id").compute()
    assert set(ids) >= set(results.runs)


def test_dask_read_bytes_gives_the_bytes_in_blocks(results: AnalysisResults) -> None:
    dask = pytest.importorskip("dask")
    from dask.bytes import read_bytes

    url = results.url(f"runs/{results.runs[0]}/outputs/{SVG}")
    head, (blocks,) = read_bytes(url, blocksize=4096, sample=100, **results.options)
    with in_threads():
        data = b"".join(dask.compute(*blocks))
    expected = results.files[results.runs[0]][SVG]
    assert head == expected[:100]
    assert len(blocks) > 1
    assert data == expected


def test_dask_writes_partitions_to_uploads(
    results: AnalysisResults, fs: FlowFileSystem, uploads: str
) -> None:
    dd = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame({"number": range(10)})
    url = results.url("uploads/part-*.csv")
    with in_threads():
        dd.from_pandas(frame, npartitions=3).to_csv(
            url, index=False, storage_options=results.options
        )
        assert len(fs.glob(f"{uploads}/part-*.csv")) == 3
        back = dd.read_csv(url, storage_options=results.options).compute()
    assert back["number"].tolist() == list(range(10))
