"""Directories of many names, and many who look at once, on a mount of each binding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
    for handle in range(20):
        snapshots.begin(handle, Directory(NODE))
    assert [handle for handle in range(20) if snapshots.get(handle) is not None] == list(
        range(12, 20)
    )
    snapshots.end(19)
    snapshots.end(19)
    assert snapshots.get(19) is None
