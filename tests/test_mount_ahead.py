"""Programs that go through all runs of a mount: how many requests that is, and how many at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import Address, flowfs, mounted, out, serve_mount
from standin import Reply, StandIn
from support import wait_until
from wire import Wire

from flowfs.fuse.attributes import run_inodes

pytestmark = pytest.mark.mount

RUNS, RESULTS = 40, 3
FOR_EVER = 600  # seconds; longer than any test lasts
HANDLES = {"runs:get": RUNS}
SIZES = {"runs:download:file": RUNS * RESULTS}


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire(runs=RUNS, results=RESULTS, size=100, latency=0.05) as wire:
        yield wire


class Far:
    """The runs of a service that is far away, mounted."""

    def __init__(self, wire: Wire, mount: Path) -> None:
        self.wire = wire
        self.runs = mount / "groups" / wire.group / "runs"
        wire.reset()

    def asked(self) -> tuple[dict[str, int], int]:
        """Return the requests since the last time, listings aside, and how many at once."""
        stats = self.wire.stats()
        self.wire.reset()
        requests = {
            kind: count for kind, count in stats["requests"].items() if not kind.startswith("group")
        }
        return requests, stats["at_once"]


@pytest.fixture
def far(wire: Wire, binding: dict[str, str]) -> Iterator[Far]:
    with mounted(Address(wire.endpoint, wire.token), ttl=FOR_EVER, **binding) as mount:
        yield Far(wire, mount)


def test_find_by_name_then_by_size_asks_for_each_once_and_several_at_once(far: Far) -> None:
    # Each run has three files of its own, three directories, and results under both names.
    assert int(out("find . | wc -l", far.runs)) == 2 + RUNS * (7 + 2 * RESULTS)
    requests, at_once = far.asked()
    assert requests == HANDLES
    assert at_once > 4
    # What goes through a large directory by inode is known to do so by these.
    run = far.wire.runs[0]
    assert [int(out(f"stat -c %i {run}", far.runs))] == run_inodes(far.wire.group, [run])
    out("find .", far.runs)
    assert far.asked()[0] == {}
    sizes = out("find . -path '*/results/*' -printf '%s\\n' | sort -u", far.runs)
    assert sizes == "100\n"
    requests, at_once = far.asked()
    assert requests == SIZES
    assert at_once > 4
    out("find . -printf '%s %p\\n'; grep -rc x */results; cat */outputs/*/* | wc -c", far.runs)
    assert far.asked()[0] == {}


@pytest.mark.parametrize("command", ["ls -lR", "grep -rc --include='data-*' x . || true"])
def test_all_at_first_sight_costs_no_more_than_each_once(wire: Wire, command: str) -> None:
    with mounted(Address(wire.endpoint, wire.token), ttl=FOR_EVER) as mount:
        far = Far(wire, mount)
        out(command, far.runs)
        requests, at_once = far.asked()
        assert requests == HANDLES | SIZES
        assert at_once > 4


def test_one_result_of_each_run_in_a_state_is_fetched_and_no_other(wire: Wire) -> None:
    with mounted(Address(wire.endpoint, wire.token), ttl=FOR_EVER) as mount:
        far = Far(wire, mount)
        out("cat ../states/SUCCESS/*/outputs/results/data-1.bin | wc -c", far.runs)
        requests, at_once = far.asked()
        assert requests == HANDLES | {"runs:download:file": RUNS}
        assert at_once > 4


def test_one_run_brings_no_other(wire: Wire) -> None:
    with mounted(Address(wire.endpoint, wire.token), ttl=FOR_EVER) as mount:
        far = Far(wire, mount)
        out(f"ls -lR {wire.runs[3]}; cat {wire.runs[3]}/handle.json; ls -l .", far.runs)
        assert far.asked()[0] == {"runs:get": 1, "runs:download:file": RESULTS}


def test_what_hangs_ahead_holds_up_neither_others_nor_the_end_of_the_mount(
    tmp_path: Path,
) -> None:
    with StandIn() as server:
        for number in range(12):
            handle = server.routes.runs.pop(server.routes.add_run()["id"])
            handle["id"] = f"r{number * 7 % 12:02}"  # in another order than by name
            server.routes.runs[handle["id"]] = handle
        ids = list(server.routes.runs)
        server.on("GET", f"/runs/({'|'.join(ids[2:10])})", Reply(hang="before"))
        service = Address(server.endpoint, server.routes.token)
        mount = tmp_path / "mnt"
        mount.mkdir()
        runs = mount / "groups" / server.routes.group / "runs"
        with serve_mount(service, mount, "", tmp_path / "log", timeout=FOR_EVER) as process:  # type: ignore[arg-type]
            wait_until(lambda: "mounted" in (tmp_path / "log").read_text(), 20, "the mount")
            out(f"ls {ids[0]}; ls {ids[1]}", runs)
            wait_until(lambda: server.count("GET", "/runs/.*") == 4, 20, "what hangs")
            out(f"ls {ids[11]}", runs)
            assert server.count("GET", "/runs/.*") == 5
            assert not out("cat .flowfs/errors", mount)
            done = flowfs("umount", mount)
            assert done.returncode == 0, done.stderr
            assert process.wait(60) == 0
        server.let_go()
        assert "Traceback" not in (tmp_path / "log").read_text()
