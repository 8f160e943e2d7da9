"""Where there is no more room on the disk, or no descriptor: reading goes on, or says so."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mounting import Address, is_mounted, mounted, out, serve_mount, sh
from standin import StandIn
from support import wait_until

DATA = random.Random(19).randbytes(3_000_001)
SMALL = DATA[:5000]
CONTENT = "/(runs|uploads|workflows)/.*/(downloads|files)/.*"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


def results(server: StandIn, *contents: bytes) -> list[str]:
    paths = []
    for data in contents:
        run, file = server.routes.add_file(data)
        paths.append(f"groups/{server.routes.group}/runs/{run}/results/{file}")
    return paths


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system in memory of so many bytes."""
    if os.getuid() != 0:
        pytest.skip("only root may mount a file system in memory")
    place.mkdir()
    made = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]
    if subprocess.run(made, capture_output=True).returncode:
        pytest.skip("no file system in memory can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


READ = """
import hashlib, json, sys
from flowfs import FlowFileSystem
endpoint, token, cache, *paths = sys.argv[1:]
fs = FlowFileSystem(endpoint, token, cache_dir=cache, cache_size=100_000_000)
told = []
for path in paths:
    with fs.open(path) as file:
        told.append(hashlib.sha256(b"".join(iter(lambda: file.read(100_000), b""))).hexdigest())
told.append(len(fs.cat_file(paths[0].rpartition("/results")[0] + "/archive.tar.gz")) > 1000)
if fs.content.disk is not None:
    fs.content.disk.flush()
print(json.dumps(told))
"""


def read(server: StandIn, cache: Path, *paths: str) -> list[Any]:
    """Read files and an archive in a process of its own, which may end by a signal."""
    given = [server.endpoint, server.routes.token, os.fspath(cache), *paths]
    done = subprocess.run([sys.executable, "-c", READ, *given], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def digests(*contents: bytes) -> list[Any]:
    from hashlib import sha256

    return [*(sha256(data).hexdigest() for data in contents), True]


@pytest.mark.parametrize("size", ["256k", "4m"])
def test_on_a_disk_that_is_full_all_is_read_and_kept_once_there_is_room(
    server: StandIn, tmp_path: Path, size: str
) -> None:
    contents = (DATA, SMALL, DATA[1:], DATA[:40_000])
    paths = results(server, *contents)
    with small_disk(tmp_path / "disk", size) as disk:
        for _ in range(2):
            assert read(server, disk / "cache", *paths) == digests(*contents)
        remount(disk, "size=64m")
        assert read(server, disk / "cache", *paths) == digests(*contents)
        asked = server.count("GET", CONTENT)
        assert read(server, disk / "cache", *paths) == digests(*contents)
        assert server.count("GET", CONTENT) == asked


def test_on_a_disk_that_can_only_be_read_all_is_read(server: StandIn, tmp_path: Path) -> None:
    contents = (DATA, SMALL)
    paths = results(server, *contents)
    with small_disk(tmp_path / "disk", "64m") as disk:
        assert read(server, disk / "cache", *paths) == digests(*contents)
        remount(disk, "ro")
        assert read(server, disk / "cache", *paths) == digests(*contents)
        remount(disk, "rw")
        asked = server.count("GET", CONTENT)
        assert read(server, disk / "cache", *paths) == digests(*contents)
        assert server.count("GET", CONTENT) == asked


def cat(directory: Path, path: str) -> bytes:
    """Read a file of a mount, in another process as everything there."""
    done = subprocess.run(["cat", directory / path], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.mount
def test_a_mount_whose_disk_is_full_gone_or_something_else_reads_on(
    server: StandIn, tmp_path: Path
) -> None:
    contents = [DATA[n:] for n in range(12)]
    paths = iter(zip(results(server, *contents), contents, strict=True))
    log = tmp_path / "log"

    def reads_on(directory: Path) -> None:
        path, data = next(paths)
        assert [cat(directory, path), cat(directory, path)] == [data, data]

    with small_disk(tmp_path / "disk", "4m") as disk:
        cache = disk / "cache"
        options = {"cache_dir": os.fspath(cache), "ttl": 600}
        with mounted(Address(server.endpoint, server.routes.token), log=log, **options) as there:
            for _ in range(3):
                reads_on(there)
            remount(disk, "size=64m")
            reads_on(there)
            shutil.rmtree(cache)
            reads_on(there)
            cache.rename(disk / "aside")
            cache.write_text("a file")
            reads_on(there)
            cache.unlink()
            cache.symlink_to("nowhere")
            reads_on(there)
            cache.unlink()
            cache.mkdir()
            os.chown(cache, 12345, 12345)
            (cache / "flowfs-v1").mkdir()
            os.chown(cache / "flowfs-v1", 12345, 12345)
            reads_on(there)
            shutil.rmtree(cache)
            reads_on(there)
            assert list(cache.glob("flowfs-v1/*/files/*/*"))
    assert "Traceback" not in log.read_text()


FULL_IN_THE_MIDDLE = """
import hashlib, resource, signal, sys
from flowfs import FlowFileSystem
endpoint, token, cache, path = sys.argv[1:]
fs = FlowFileSystem(endpoint, token, cache_dir=cache)
fs.ls("groups")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
# As on a disk that is full, no file grows beyond that; it is another errno.
resource.setrlimit(resource.RLIMIT_FSIZE, (1_234_567, resource.RLIM_INFINITY))
with fs.open(path) as file:
    print(hashlib.sha256(b"".join(iter(lambda: file.read(100_000), b""))).hexdigest())
fs.content.disk.flush()
"""


def test_where_a_file_can_grow_no_more_in_the_middle_of_reading_others_are_not_misled(
    server: StandIn, tmp_path: Path
) -> None:
    (path,) = results(server, DATA)
    given = [server.endpoint, server.routes.token, os.fspath(tmp_path / "cache"), path]
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", FULL_IN_THE_MIDDLE, *given], capture_output=True, text=True
        )
        assert done.stdout.strip() == digests(DATA)[0], done.stderr
    assert read(server, tmp_path / "cache", path) == digests(DATA)


NO_DESCRIPTORS = """
import errno, os, resource, sys
from flowfs import FlowFileSystem
endpoint, token, cache, group, large, small, fresh = sys.argv[1:]
options = {"cache_dir": cache} if cache else {}
fs = FlowFileSystem(endpoint, token, ttl=0, skip_instance_cache=True, **options)
archive = small.rpartition("/results")[0] + "/archive.tar.gz"

def everything():
    return {
        "list": lambda: sorted(fs.ls(f"groups/{group}/runs", detail=False)),
        "find": lambda: sorted(fs.find(f"groups/{group}/runs")),
        "info": lambda: fs.info(large)["size"],
        "exists": lambda: fs.exists(large),
        "glob": lambda: fs.glob(f"groups/{group}/runs/*"),
        "large": lambda: len(fs.cat_file(large)),
        "fresh": lambda: len(fs.cat_file(fresh)),
        "part": lambda: len(fs.cat_file(large, 1_000_000, 1_500_000)),
        "small": lambda: len(fs.cat_file(small)),
        "archive": lambda: len(fs.cat_file(archive)) > 1000,
        "upload": lambda: fs.pipe_file(f"groups/{group}/uploads/new.txt", b"new"),
        "many": lambda: sum(map(len, fs.cat([large, small]).values())),
    }

def tried(name, act):
    try:
        return act()
    except OSError as error:
        return errno.errorcode[error.errno]

def count():
    return len(os.listdir("/proc/self/fd"))

import requests, sqlite3, tempfile  # what is imported late needs descriptors, too
good = {name: tried(name, act) for name, act in everything().items() if name != "fresh"}
assert good["large"] == 3_000_001 and len(good["list"]) > 2, good
before = count()
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
for spare in range(14):
    if cache and spare % 3 == 0:  # no connections, and nothing is open
        options = {"timeout": 30 + spare / 100, "cache_dir": cache, "skip_instance_cache": True}
        fs = FlowFileSystem(endpoint, token, ttl=0, **options)
    held = []
    while True:
        try:
            held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            break
    for _ in range(min(spare, len(held))):
        os.close(held.pop())
    found = {name: tried(name, act) for name, act in everything().items() if name != "fresh"}
    for one in held:
        os.close(one)
    for name, what in found.items():
        if what != good[name] and what not in ("EMFILE", "EAGAIN"):
            print(f"{name} with {spare} descriptors: {str(what)[:200]}, not {str(good[name])[:80]}")
assert len(fs.cat_file(fresh)) == 2_999_999
again = {name: tried(name, act) for name, act in everything().items() if name != "fresh"}
assert again == good, (again, good)
import gc
gc.collect()
left = count() - before
print("" if left <= 8 else f"{left} more descriptors are open")
"""


@pytest.mark.parametrize("cached", [False, True])
def test_without_descriptors_nothing_is_found_wrong_and_all_works_once_there_are_some(
    server: StandIn, tmp_path: Path, cached: bool
) -> None:
    large, small, fresh = results(server, DATA, SMALL, DATA[2:])
    cache = os.fspath(tmp_path / "cache") if cached else ""
    given = [server.endpoint, server.routes.token, cache, server.routes.group]
    done = subprocess.run(
        [sys.executable, "-c", NO_DESCRIPTORS, *given, large, small, fresh],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.mount
def test_a_mount_without_descriptors_says_so_and_goes_on_once_it_has_some(
    server: StandIn, tmp_path: Path
) -> None:
    contents = [DATA[n:] for n in range(8)] + [SMALL]
    paths = results(server, *contents)
    runs = f"groups/{server.routes.group}/runs"
    (tmp_path / "mnt").mkdir()
    extra = {"XDG_CACHE_HOME": os.fspath(tmp_path / "xdg")}
    with serve_mount(
        Address(server.endpoint, server.routes.token),
        tmp_path / "mnt",
        "",
        tmp_path / "log",
        extra=extra,
        ttl=0,
    ) as process:
        wait_until(lambda: is_mounted(tmp_path / "mnt"), 30, "the mount")
        names = out(f"ls {runs}", tmp_path / "mnt")
        assert len(names.split()) == len(paths) + 1
        _, most = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        for spare, path, data in zip(range(-3, 6), paths, contents, strict=True):
            there = len(os.listdir(f"/proc/{process.pid}/fd"))
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (there + spare, most))
            for script, good in ((f"cat {path} | sha256sum", ""), (f"ls {runs}", names)):
                done = sh(f"set -o pipefail; {script}", tmp_path / "mnt")
                if done.returncode:
                    unavailable = "Resource temporarily unavailable" in done.stderr
                    assert unavailable or "Too many open files" in done.stderr, done.stderr
                elif good:
                    assert done.stdout == good
                else:
                    assert done.stdout.split()[0] == digests(data)[0]
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, most))
            assert cat(tmp_path / "mnt", path) == data
            assert out(f"ls {runs}", tmp_path / "mnt") == names
