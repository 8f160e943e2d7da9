"""pandas on results of the real service: csv, json, tables of runs, parquet, and its cost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from reader_results import COLUMNS, CSV, JSON, AnalysisResults, Cost
from support import wait_until

from flowfs import FlowFileSystem
from flowfs.embedded import sample

pd = pytest.importorskip("pandas")


@pytest.mark.parametrize("protocol", ["flow", "flow+http"])
def test_pandas_reads_a_csv_result_by_its_url(results: AnalysisResults, protocol: str) -> None:
    frame = pd.read_csv(results.summary(protocol=protocol), storage_options=results.options)
    pd.testing.assert_frame_equal(frame, results.frame())
    assert list(frame["station"]) == [row["station"] for row in results.rows(0)]
    assert len(frame) == 3


def test_pandas_reads_through_latest_and_states(results: AnalysisResults) -> None:
    newest = pd.read_csv(results.url(f"latest/outputs/{CSV}"), storage_options=results.options)
    pd.testing.assert_frame_equal(newest, results.frame(-1))
    url = results.url(f"states/SUCCESS/{results.runs[0]}/outputs/{CSV}")
    pd.testing.assert_frame_equal(
        pd.read_csv(url, storage_options=results.options), results.frame()
    )


def test_pandas_reads_a_csv_result_with_its_pyarrow_engine(results: AnalysisResults) -> None:
    frame = pd.read_csv(results.summary(), storage_options=results.options, engine="pyarrow")
    assert frame["mean"].tolist() == [float(row["mean"]) for row in results.rows(0)]


def test_pandas_reads_in_chunks(results: AnalysisResults) -> None:
    with pd.read_csv(results.summary(), storage_options=results.options, chunksize=2) as chunks:
        frames = list(chunks)
    assert [len(frame) for frame in frames] == [2, 1]
    pd.testing.assert_frame_equal(pd.concat(frames), results.frame())


def test_pandas_reads_a_json_result(results: AnalysisResults) -> None:
    url = results.url(f"runs/{results.runs[1]}/outputs/{JSON}")
    series = pd.read_json(url, typ="series", storage_options=results.options)
    assert series.to_dict() == json.loads(results.files[results.runs[1]][JSON])
    assert series["column"] == "humidity"


def test_pandas_reads_the_table_of_runs(results: AnalysisResults) -> None:
    frame = pd.read_json(results.url("runs.jsonl"), lines=True, storage_options=results.options)
    frame = frame.set_index("id").loc[results.runs]
    assert list(frame["state"]) == ["SUCCESS"] * 3
    assert list(frame["column"]) == list(COLUMNS)


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".zip"])
def test_a_frame_written_to_an_upload_is_read_back_compressed_by_its_name(
    results: AnalysisResults, fs: FlowFileSystem, uploads: str, suffix: str
) -> None:
    frame = results.frame()
    url = results.url(f"uploads/table.csv{suffix}")
    frame.to_csv(url, index=False, storage_options=results.options)
    back = pd.read_csv(url, storage_options=results.options)
    pd.testing.assert_frame_equal(back, frame)
    stored = fs.cat(f"{uploads}/table.csv{suffix}")
    starts = {"": b"station", ".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ", ".zip": b"PK"}
    assert stored.startswith(starts[suffix])


def test_a_frame_that_fails_to_be_written_leaves_no_upload(
    results: AnalysisResults, fs: FlowFileSystem, uploads: str
) -> None:
    class Unwritable:
        def __str__(self) -> str:
            raise RuntimeError("cannot be written")

    frame = pd.DataFrame({"value": [1, Unwritable()]})
    with pytest.raises(RuntimeError, match="cannot be written"):
        frame.to_csv(results.url("uploads/half.csv"), storage_options=results.options)
    assert not fs.exists(f"{uploads}/half.csv")


def test_a_frame_written_to_an_upload_starts_a_run(
    results: AnalysisResults, fs: FlowFileSystem, uploads: str
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
        url = results.url(f"runs/{handle['id']}/outputs/{CSV}")
        done = pd.read_csv(url, storage_options=results.options)
        assert list(done["station"]) == ["Harbour"]
    finally:
        fs.rm(f"{results.group}/runs/{handle['id']}", recursive=True)


def test_one_column_of_a_parquet_upload_costs_few_requests_and_a_part_of_its_bytes(
    results: AnalysisResults, fs: FlowFileSystem, uploads: str, cost: Cost
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
    results: AnalysisResults, fresh: dict[str, Any], cost: Cost
) -> None:
    fs = FlowFileSystem(results.endpoint, **fresh)
    fs.ls(f"{results.group}/runs/{results.runs[0]}/outputs")
    begun, read = len(cost.requests), cost.read
    frame = pd.read_csv(results.summary(), storage_options=fresh)
    pd.testing.assert_frame_equal(frame, results.frame())
    assert len(cost.requests) - begun == 1, cost.requests[begun:]
    assert cost.read - read == len(results.files[results.runs[0]][CSV])


def test_a_large_upload_read_by_pandas_in_chunks_is_one_request(
    results: AnalysisResults, fs: FlowFileSystem, uploads: str, cost: Cost
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
