"""Directories of many names, and many who look at once, on a mount of each binding."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import BINDINGS, Address, mounted, out
from support import wait_until
from wire import Wire

from flowfs import tree
from flowfs.filesystem.entries import Alike
from flowfs.fuse.attributes import inode
from flowfs.fuse.listings import Directory, Snapshots
from flowfs.fuse.threads import Kept

RUNS = 2500  # more than libfuse is given at once

_BY_MANY = """
import os, sys, threading
def look():
    for name in os.listdir(sys.argv[1])[:20]:
        os.stat(os.path.join(sys.argv[1], name))
for _ in range(3):
    threads = [threading.Thread(target=look) for _ in range(40)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Wire]:
    with Wire(runs=RUNS) as wire:
        yield wire


@pytest.fixture(scope="module", params=BINDINGS, ids="-".join)
def mount(request: pytest.FixtureRequest, server: Wire) -> Iterator[Path]:
    fuse, library = request.param
    address = Address(server.endpoint, server.token)
    with mounted(address, fuse=fuse, library=library, ttl=600) as directory:  # type: ignore[arg-type]
        yield directory


pytestmark = pytest.mark.mount


@pytest.mark.usefixtures("server")
def test_all_of_a_large_directory_is_listed_once_each(mount: Path, server: Wire) -> None:
    runs = mount / "groups" / server.group / "runs"
    server.reset()
    shown = out("ls -f", runs).splitlines()
    assert sorted(shown) == sorted([".", "..", "new", *server.runs])
    assert server.stats()["total"] <= 1
    # Again from the beginning, by who has it open.
    script = (
        "import os, sys\n"
        "with os.scandir(sys.argv[1]) as one, os.scandir(sys.argv[1]) as other:\n"
        "    first = [next(one).name for _ in range(1500)]\n"
        "    whole = {entry.name: (entry.inode(), entry.is_dir()) for entry in other}\n"
        "    first += [entry.name for entry in one]\n"
        "assert sorted(first) == sorted(whole)\n"
        "for name in sorted(whole)[:20]:\n"
        "    told = os.lstat(os.path.join(sys.argv[1], name))\n"
        "    assert whole[name] == (told.st_ino, name != 'new'), name\n"
        "print(len(whole))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, runs], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (str(RUNS + 1), "")


def test_many_at_once_leave_no_threads_behind(mount: Path, server: Wire) -> None:
    def threads() -> int:
        told = json.loads((mount / ".flowfs/stats.json").read_text())
        return int(told["process"]["threads"])

    runs = mount / "groups" / server.group / "runs"
    subprocess.run([sys.executable, "-c", _BY_MANY, runs], check=True)
    wait_until(lambda: threads() <= 30, 10, "idle threads to end")
    assert len(os.fsencode(out("ls", runs))) > RUNS


NODE = tree.parse("groups/G/runs")


def test_a_part_of_a_listing_is_what_the_whole_has_there() -> None:
    names = [f"r{number}" for number in range(50)]
    first = [(".", 0, 1), ("..", 0, 2)]
    listing = Directory(NODE, first, Alike(tree.NEW, False, ["new"]), Alike(tree.RUN, True, names))
    whole = list(listing)
    assert [name for name, _, _ in whole] == [".", "..", "new", *names]
    for start in (0, 1, 2, 3, 4, 40, 53, 60):
        for stop in (0, 2, 3, 10, 53, 80):
            assert listing.part(start, stop) == whole[start:stop]
    for name, _, number in whole[2:]:
        assert number == inode(NODE.child(name), {})


def test_listings_that_nobody_reads_to_their_end_are_dropped_in_time() -> None:
    snapshots = Snapshots()
    for handle in range(40):
        snapshots.begin(handle, b"/", Directory(NODE))
        assert snapshots.get(0, b"/") is not None  # which somebody reads
    kept = [handle for handle in range(40) if snapshots.get(handle, b"/") is not None]
    assert kept == [0, *range(9, 40)]
    snapshots.end(39)
    snapshots.end(39)
    assert snapshots.get(39, b"/") is None


def test_a_listing_is_of_the_directory_that_it_was_made_for() -> None:
    snapshots, directory = Snapshots(), Directory(NODE)
    snapshots.begin(1, b"/a", directory)
    assert snapshots.get(1, b"/b") is None
    assert snapshots.get(1, b"/a") is directory
    assert snapshots.get(1, None) is directory  # removed, and still open


@pytest.mark.usefixtures("server")
def test_who_goes_on_in_a_directory_sees_none_of_one_left_half_read(
    mount: Path, server: Wire
) -> None:
    runs = mount / "groups" / server.group / "runs"
    script = """
import ctypes, os, sys
library = ctypes.CDLL(None)
def names(directory, place):
    descriptor = os.open(directory, os.O_RDONLY)
    os.lseek(descriptor, place, os.SEEK_SET)
    buffer = ctypes.create_string_buffer(4096)
    got = ctypes.c_ssize_t(library.getdents64(descriptor, buffer, 4096)).value
    os.close(descriptor)
    assert got >= 0
    return buffer.raw[:got]
large, small = sys.argv[1:]
for _ in range(30):
    for _ in range(4):
        assert names(large, 0)
    assert names(small, 100) == b""
"""
    done = subprocess.run(
        [sys.executable, "-c", script, runs, runs / server.runs[0]], capture_output=True, text=True
    )
    assert done.stderr == ""


def test_a_thread_from_outside_is_remembered_whatever_was_left_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library, kept, remembered = ctypes.CDLL(None), Kept(), []

    def tell(*_: object) -> int:
        remembered.append(threading.get_ident())
        return 1  # not this time

    monkeypatch.setattr(kept, "_tell", tell)

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    def enter(_: object) -> None:
        kept.keep()
        threading.current_thread()  # as whoever logs does, or begins a thread

    for _ in range(3):  # the system gives each the number of the one before
        thread = ctypes.c_ulong()
        assert library.pthread_create(ctypes.byref(thread), None, enter, None) == 0
        assert library.pthread_join(thread, None) == 0
    kept.keep()
    assert len(remembered) == 3
    assert threading.get_ident() not in remembered
