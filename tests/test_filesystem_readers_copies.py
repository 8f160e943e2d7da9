"""Copies from and to the real service, with their progress; what other writers and readers use."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.callbacks import Callback
from reader_results import AnalysisResults

from flowfs import FlowFileSystem


class _Progress(Callback):
    """As a progress bar sees it: files, and the bytes of each."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, Callback] = {}

    def branched(self, path_1: Any, path_2: Any, **kwargs: Any) -> Callback:
        self.files[str(path_1)] = Callback()
        return self.files[str(path_1)]


def test_a_run_is_copied_whole_with_its_progress(
    results: AnalysisResults, fs: FlowFileSystem, tmp_path: Path
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
    results: AnalysisResults, fs: FlowFileSystem, tmp_path: Path
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
    results: AnalysisResults, fs: FlowFileSystem, uploads: str, compression: str
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
    results: AnalysisResults, fs: FlowFileSystem, uploads: str
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
