"""fsspec's own wrappers, chained URLs and archives, and parts of files, on the real service."""

from __future__ import annotations

import concurrent.futures
import csv
import json
import multiprocessing
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import pytest
from reader_results import CSV, JSON, SVG, AnalysisResults, Cost

from flowfs import FlowFileSystem, NotFound, NotPermitted

pd = pytest.importorskip("pandas")


def test_a_member_of_the_archive_is_read_by_a_chained_url(results: AnalysisResults) -> None:
    archive = results.url(f"runs/{results.runs[0]}/archive.tar.gz")
    with fsspec.open(f"tar://{CSV}::{archive}", flow=results.options) as file:
        pd.testing.assert_frame_equal(pd.read_csv(file), results.frame())


@pytest.mark.skipif(
    int(pd.__version__.partition(".")[0]) < 3, reason="older pandas takes no chained URLs"
)
def test_pandas_takes_chained_urls(results: AnalysisResults, tmp_path: Path) -> None:
    archive = results.url(f"runs/{results.runs[0]}/archive.tar.gz")
    options: dict[str, Any] = {"flow": results.options}
    frame = pd.read_csv(f"tar://{CSV}::{archive}", storage_options=options)
    pd.testing.assert_frame_equal(frame, results.frame())
    options["simplecache"] = {"cache_storage": str(tmp_path)}
    frame = pd.read_csv(f"simplecache::{results.summary()}", storage_options=options)
    pd.testing.assert_frame_equal(frame, results.frame())


@pytest.mark.parametrize("mode", ["r:gz", "r|gz", "r:*"])
def test_tarfile_reads_the_archive(results: AnalysisResults, fs: FlowFileSystem, mode: str) -> None:
    path = f"{results.group}/runs/{results.runs[1]}/archive.tar.gz"
    with fs.open(path) as file, tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        found = {}
        for member in archive:
            content = archive.extractfile(member)
            if content is not None:
                found[member.name.removeprefix("./")] = content.read()
    assert found == results.files[results.runs[1]]


def test_the_archive_is_asked_for_once_however_often_it_is_read(
    results: AnalysisResults, fresh: dict[str, Any], cost: Cost
) -> None:
    archive = results.url(f"runs/{results.runs[2]}/archive.tar.gz")
    for name in (CSV, JSON, SVG):
        with fsspec.open(f"tar://{name}::{archive}", flow=fresh) as file:
            assert file.read() == results.files[results.runs[2]][name]
    assert sum("downloads/archive" in request for request in cost.requests) == 1


@pytest.mark.parametrize("cache", ["simplecache", "filecache"])
def test_a_local_cache_keeps_a_result(
    results: AnalysisResults, fresh: dict[str, Any], tmp_path: Path, cost: Cost, cache: str
) -> None:
    options = {"flow": fresh, cache: {"cache_storage": str(tmp_path / "cache")}}
    for _ in range(2):
        with fsspec.open(f"{cache}::{results.summary()}", **options) as file:
            pd.testing.assert_frame_equal(pd.read_csv(file), results.frame())
    assert sum("downloads/files" in request for request in cost.requests) == 1
    kept = [path.read_bytes() for path in (tmp_path / "cache").iterdir() if path.name != "cache"]
    assert kept == [results.files[results.runs[0]][CSV]]


def test_a_local_cache_that_checks_its_files_is_valid_in_the_next_process(
    results: AnalysisResults, tmp_path: Path, fresh: dict[str, Any], cost: Cost
) -> None:
    cached = {"cache_storage": str(tmp_path / "cache"), "check_files": True}
    url = f"filecache::{results.summary()}"
    for run in range(2):
        FlowFileSystem.clear_instance_cache()
        options = {**fresh, "ttl": fresh["ttl"] + 100 * run}  # as nothing were known
        with fsspec.open(url, flow=options, filecache=cached) as file:
            assert file.read() == results.files[results.runs[0]][CSV]
    assert sum("downloads/files" in request for request in cost.requests) == 1


def test_open_files_opens_what_a_pattern_matches(results: AnalysisResults) -> None:
    files = fsspec.open_files(results.every_summary, "rt", **results.options)
    assert len(files) == 3
    texts = []
    for file in files:
        with file as opened:
            texts.append(opened.read())
    expected = [results.files[run][CSV].decode() for run in sorted(results.runs)]
    assert texts == expected


def test_a_mapping_shows_the_outputs_of_a_run(results: AnalysisResults, fs: FlowFileSystem) -> None:
    mapping = fs.get_mapper(results.output("").rstrip("/"))
    expected = results.files[results.runs[0]]
    assert dict(mapping) == expected
    assert len(mapping) == 3
    assert CSV in mapping
    assert "nothing" not in mapping
    assert mapping.getitems([CSV, JSON]) == {name: expected[name] for name in (CSV, JSON)}
    with pytest.raises(KeyError):
        mapping["nothing"]
    with pytest.raises(PermissionError):
        mapping["more"] = b""


def test_text_and_json_are_read_from_text_files(
    results: AnalysisResults, fs: FlowFileSystem
) -> None:
    expected = results.files[results.runs[0]]
    with fs.open(results.output(JSON), "r") as file:
        assert json.load(file) == json.loads(expected[JSON])
    with fs.open(results.output(CSV), "r", newline="") as file:
        assert list(csv.DictReader(file)) == results.rows(0)
    assert fs.read_text(results.output(SVG)) == expected[SVG].decode()
    assert fs.read_bytes(results.output(SVG), start=3, end=9) == expected[SVG][3:9]


def test_parts_of_a_result(results: AnalysisResults, fs: FlowFileSystem) -> None:
    path, expected = results.output(SVG), results.files[results.runs[0]][SVG]
    assert fs.head(path, 100) == expected[:100]
    assert fs.tail(path, 100) == expected[-100:]
    assert fs.cat_file(path, 50, -50) == expected[50:-50]
    assert fs.cat_file(path, len(expected) - 5, len(expected) + 5) == expected[-5:]
    assert fs.cat_file(path, len(expected) + 5) == b""
    assert fs.read_block(path, 10, 20) == expected[10:30]
    lines = results.files[results.runs[0]][CSV]
    first = lines.index(b"\n") + 1
    second = lines.index(b"\n", first) + 1
    block = fs.read_block(results.output(CSV), 1, first, delimiter=b"\n")
    assert block == lines[first:second]


def test_many_ranges_of_many_files(results: AnalysisResults, fs: FlowFileSystem) -> None:
    paths = [results.output(SVG, run) for run in (0, 1, 2, 0)]
    expected = [results.files[results.runs[run]][SVG] for run in (0, 1, 2, 0)]
    starts, ends = [0, 10, 20, 30], [5, 20, 40, 60]
    parts = fs.cat_ranges(paths, starts, ends)
    assert parts == [d[s:e] for d, s, e in zip(expected, starts, ends, strict=True)]
    parts = fs.cat_ranges([*paths[:2], results.output("nothing")], 7, 9)
    assert parts[:2] == [data[7:9] for data in expected[:2]]
    assert isinstance(parts[2], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges([results.output("nothing")], 0, 1, on_error="raise")


def _digest(fs: FlowFileSystem, path: str) -> tuple[int, bytes]:
    return os.getpid(), fs.cat_file(path)


def test_workers_in_other_processes_read_with_a_pickled_file_system(
    results: AnalysisResults, fs: FlowFileSystem
) -> None:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=spawn) as pool:
        outcomes = list(pool.map(_digest, [fs] * 3, [results.output(SVG, i) for i in range(3)]))
    assert [data for _, data in outcomes] == [results.files[run][SVG] for run in results.runs]
    assert os.getpid() not in {pid for pid, _ in outcomes}


def test_an_open_file_of_fsspec_is_read_after_it_was_pickled(results: AnalysisResults) -> None:
    file = fsspec.open(results.summary(), "rt", **results.options)
    with pickle.loads(pickle.dumps(file)) as opened:
        assert opened.read() == results.files[results.runs[0]][CSV].decode()


def test_threads_read_at_once_and_each_gets_its_own_bytes(
    results: AnalysisResults, fresh: dict[str, Any]
) -> None:
    paths = [(run, name) for run in range(3) for name in (CSV, JSON, SVG)] * 8

    def read(what: tuple[int, str]) -> bool:
        run, name = what
        fs = FlowFileSystem(results.endpoint, **fresh)
        with fs.open(results.output(name, run)) as file:
            return bool(file.read() == results.files[results.runs[run]][name])

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert all(pool.map(read, paths))


# -- what people write without reading docs --------------------------------


def test_a_group_called_by_its_name_is_reached_by_its_id_and_by_its_workflow(
    results: AnalysisResults, fs: FlowFileSystem
) -> None:
    title = fs.info(results.group)["title"]
    assert fs.group_id(title) == results.group_id
    (link,) = fs.glob(f"workflows/*/groups/{title}")
    path = f"{link}/runs/{results.runs[0]}/outputs/{CSV}"
    read = pd.read_csv(
        f"flow://{path}", storage_options={**results.options, "endpoint": fs.endpoint}
    )
    pd.testing.assert_frame_equal(read, results.frame())
    with pytest.raises(NotFound, match="unknown group"):
        fs.ls(f"groups/{title}")


def test_uploads_are_copied_and_removed_where_they_cannot_be_renamed(
    fs: FlowFileSystem, uploads: str
) -> None:
    fs.pipe(f"{uploads}/one.txt", b"1")
    with pytest.raises(NotPermitted, match="nothing on the service can be renamed"):
        fs.mv(f"{uploads}/one.txt", f"{uploads}/two.txt")
    assert fs.cat(f"{uploads}/one.txt") == b"1"
    fs.cp(f"{uploads}/one.txt", f"{uploads}/two.txt")
    fs.rm(f"{uploads}/one.txt")
    assert fs.cat(f"{uploads}/two.txt") == b"1"


def test_rsync_takes_the_outputs_of_a_run_once(
    results: AnalysisResults, fs: FlowFileSystem, tmp_path: Path
) -> None:
    from fsspec.generic import rsync

    # It makes file systems by their protocol alone, without the URL's host: they are configured.
    fsspec.config.conf["flow+http"] = {**results.options, "endpoint": results.endpoint}
    try:
        outputs = fs.unstrip_protocol(results.output("").rstrip("/"))
        assert len(rsync(outputs, f"file://{tmp_path}/copy")) == len(results.files[results.runs[0]])
        assert not rsync(outputs, f"file://{tmp_path}/copy")
    finally:
        del fsspec.config.conf["flow+http"]
    assert (tmp_path / "copy" / CSV).read_bytes() == results.files[results.runs[0]][CSV]


def test_a_mapper_and_a_directory_file_system_show_what_is_there(
    results: AnalysisResults, fs: FlowFileSystem
) -> None:
    outputs = results.output("").rstrip("/")
    files = results.files[results.runs[0]]
    mapper = fs.get_mapper(outputs)
    assert {name: mapper[name] for name in mapper} == files
    with pytest.raises(KeyError):
        mapper["nothing"]
    below = fsspec.filesystem("dir", path=outputs, fs=fs)
    assert below.cat(CSV) == files[CSV]
    assert CSV in below.glob("results/*")
