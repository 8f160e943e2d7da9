"""A program that reads results with a cluster of four processes, started by a test.

    python cluster_driver.py < scenarios.json

By itself, so that the test's process has none of a cluster's threads, event loops and processes.
Each scenario is a function of this module and its arguments; what they return is printed as JSON.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tarfile
from collections import Counter
from typing import Any

import dask
import dask.dataframe
import fsspec
from dask.base import tokenize
from distributed import Client, LocalCluster

from flowfs import FlowFileSystem

# However slow the machine is, workers are waited for.
_PATIENCE = {
    "distributed.comm.timeouts.connect": "300s",
    "distributed.comm.timeouts.tcp": "300s",
    "distributed.scheduler.worker-ttl": None,
    "distributed.deploy.lost-worker-timeout": "300s",
    "distributed.nanny.pre-spawn-environ": {},
}


def table(client: Client, url: str, options: dict[str, Any]) -> Any:
    """Add up a column of all results; without a block size each file would be a block anyway."""
    frame = dask.dataframe.read_csv(url, storage_options=options)
    return int(frame["value"].sum().compute())


def open_files(client: Client, url: str, options: dict[str, Any]) -> Any:
    """Read open files that were pickled, each where there is room."""

    def value(file: Any) -> tuple[int, int]:
        with file as opened:
            return os.getpid(), int(opened.read().split(",")[-1])

    read = client.gather(client.map(value, list(fsspec.open_files(url, "rt", **options))))
    return {"here": os.getpid(), "in": [pid for pid, _ in read], "sum": sum(v for _, v in read)}


def texts(client: Client, url: str, options: dict[str, Any]) -> Any:
    """Read URLs that were put together as text."""

    def value(url: str) -> int:
        with fsspec.open(url, "rt", **options) as opened:
            return int(opened.read().split(",")[-1])

    fs, path = fsspec.url_to_fs(url, **options)
    urls = [fs.unstrip_protocol(one) for one in fs.glob(path)]
    return sum(client.gather(client.map(value, urls)))


def keys(client: Client, url: str, options: dict[str, Any]) -> Any:
    """Return what tells the file system, and a table, from all others, here and on each worker."""

    def told() -> list[str]:
        fs, _ = fsspec.url_to_fs(url, **options)
        lazy = dask.dataframe.read_csv(url, storage_options=options)
        return [fs._fs_token, tokenize(fs), lazy._name, os.environ.get("FLOWSERV_ACCESS_TOKEN", "")]

    return {"here": told(), "there": list(client.run(told).values())}


def refused(client: Client, url: str, options: dict[str, Any]) -> Any:
    """Read with a file system that takes its token along, and with one that does not."""

    def read(fs: FlowFileSystem, path: str) -> Any:
        return fs.cat_file(path).decode()

    said = {}
    for pickle_token in (True, False):
        fs, path = fsspec.url_to_fs(url, **options, pickle_token=pickle_token)
        # Both are the same file system to dask: what one has read would be the other's.
        future = client.submit(read, fs, fs.glob(path)[0], pure=False)
        error = future.exception()
        name = None if error is None else [type(error).__name__, error.errno, error.filename]
        said[str(pickle_token)] = name or future.result()
        if error is not None:
            pickle.loads(pickle.dumps(error))
    return said


def deleted(client: Client, url: str, options: dict[str, Any]) -> Any:
    """Read a result of a run that is deleted between being found and being read."""

    def read(fs: FlowFileSystem, path: str) -> Any:
        return fs.cat_file(path).decode()

    fs, path = fsspec.url_to_fs(url, **options)
    found = fs.glob(path)[0]
    taken = pickle.loads(pickle.dumps(found))  # what is known now goes along
    fs.rm(found.partition("/outputs/")[0], recursive=True)
    error = client.submit(read, fs, taken, pure=False).exception()
    return [type(error).__name__, error.errno, error.filename]


def _asked(client: Client, options: dict[str, Any]) -> dict[str, int]:
    """Return what these options' file systems have asked for, here and on the workers."""

    def told() -> dict[str, int]:
        fs = FlowFileSystem(**options)
        kinds = json.loads(fs.cat_file(".flowfs/stats.json"))["requests"]
        return {name: kind["count"] for name, kind in kinds.items()}

    asked: Counter[str] = Counter(told())
    for there in client.run(told).values():
        asked.update(there)
    return dict(asked)


def cold(client: Client, url: str, options: dict[str, Any]) -> Any:
    """Read a table of all results, of which nothing is known."""
    return {"sum": table(client, url, options), "asked": _asked(client, options)}


def after_runs(client: Client, url: str, options: dict[str, Any]) -> Any:
    """Read it where the table of runs has been shown before; tell what that cost."""
    fs, path = fsspec.url_to_fs(url, **options)
    fs.runs(path.partition("/runs/")[0])
    before = _asked(client, options)
    return {"before": before, **cold(client, url, options)}


def after_results(client: Client, url: str, options: dict[str, Any]) -> Any:
    """Read it where the table of runs has been shown, with the same results."""
    fs, path = fsspec.url_to_fs(url, **options)
    fs.runs(path.partition("/runs/")[0], results=path.partition("/runs/*/")[2])
    before = _asked(client, options)
    return {"before": before, **cold(client, url, options)}


def kept(client: Client, url: str, options: dict[str, Any]) -> Any:
    """Read it where another process has looked at the runs, with the same directory on disk."""
    find = "import fsspec, json, sys; fsspec.open_files(sys.argv[1], **json.loads(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", find, url, json.dumps(options)], check=True)
    first = cold(client, url, options)
    # What is learned is written a moment later, and not while others write for long.
    for attempt in range(1, 9):
        again = cold(client, url, {**options, "ttl": options["ttl"] + attempt})
        if "GET runs:download:file" not in again["asked"]:
            break
    return {"first": first, "again": again}


def archives(client: Client, url: str, options: dict[str, Any]) -> Any:
    """Read a member of each run's archive."""
    before, _, member = url.partition("/outputs/")

    def value(file: Any) -> int:
        with file as opened, tarfile.open(fileobj=opened) as archive:
            found = archive.extractfile(member)
            assert found is not None
            return int(found.read().decode().split(",")[-1])

    files = fsspec.open_files(f"{before}/archive.tar.gz", **options)
    total = sum(client.gather(client.map(value, list(files))))
    return {"sum": total, "asked": _asked(client, options)}


def main() -> None:
    """Run the scenarios that stdin names, and print what comes of each."""
    scenarios = json.load(sys.stdin)
    outcomes = {}
    with dask.config.set(_PATIENCE):
        with (
            LocalCluster(
                n_workers=4,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
                memory_limit=0,
            ) as cluster,
            Client(cluster, timeout=300) as client,
        ):
            client.wait_for_workers(4, timeout=300)
            for name, (url, options) in scenarios.items():
                outcomes[name] = globals()[name](client, url, options)
    sys.stdout.write(json.dumps(outcomes) + "\n")


if __name__ == "__main__":
    main()
