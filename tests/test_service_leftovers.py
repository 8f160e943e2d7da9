"""Files that nobody closes: dropped wherever Python happens to be, with any lock held."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import random
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standin import StandIn
from support import wait_until

from flowfs import FlowFileSystem
from flowfs.service.leftovers import clear_up, leave

DATA = random.Random(11).randbytes(3_000_001)
_PATIENCE = 120  # seconds
_LOCK = type(threading.Lock())
_WITHOUT = (type, types.ModuleType, types.FrameType, types.CodeType)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


def locks_below(*roots: Any) -> list[Any]:
    """Return the locks of some objects, and of all that they refer to; none of modules."""
    found, seen, left = [], set(), list(roots)
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, _WITHOUT):
            continue
        seen.add(id(one))
        if isinstance(one, _LOCK):
            found.append(one)
        elif not (isinstance(one, dict) and "__builtins__" in one):
            left.extend(gc.get_referents(one))
    return found


def without_waiting(act: Callable[[], Any], locks: list[Any]) -> None:
    """Do something in a thread that holds all these locks, but those that are held anyway."""
    over = threading.Event()

    def hold_and_act() -> None:
        with contextlib.ExitStack() as held:
            for lock in locks:
                if lock.acquire(blocking=False):
                    held.callback(lock.release)
            act()
            gc.collect()
        over.set()

    threading.Thread(target=hold_and_act, daemon=True).start()
    assert over.wait(_PATIENCE), "it waits for a lock that is its own"


Opened = Callable[[FlowFileSystem, str], Any]

WAYS: dict[str, Opened] = {
    "binary": lambda fs, path: fs.open(path, "rb"),
    "text": lambda fs, path: fs.open(path, "r", encoding="latin-1"),
    "a text wrapper of one's own": lambda fs, path: io.TextIOWrapper(fs.open(path), "latin-1"),
    "in a cycle": lambda fs, path: in_a_cycle(fs.open(path)),
    "with its raw file": lambda fs, path: fs.open(path).raw,
    "a buffer over the reply": lambda fs, path: io.BufferedReader(
        fs.entries.catalog.service.runs.get_result_archive(path.split("/")[3])
    ),
}


def in_a_cycle(file: Any) -> Any:
    """Return what refers to a file, and to itself: only a garbage collection finds it."""
    cycle = [file]
    cycle.append(cycle)
    return _Holder(cycle)


class _Holder:
    def __init__(self, cycle: list[Any]) -> None:
        self.cycle = cycle

    def read(self, size: int) -> Any:
        return self.cycle[0].read(size)


def file_system(server: StandIn, cache_dir: Path | None) -> FlowFileSystem:
    return FlowFileSystem(
        server.endpoint,
        server.routes.token,
        cache_dir=None if cache_dir is None else str(cache_dir),
        skip_instance_cache=True,
    )


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("kind", ["result", "archive"])
@pytest.mark.parametrize("way", WAYS)
def test_a_file_can_be_dropped_unclosed_whatever_lock_is_held(
    server: StandIn, tmp_path: Path, way: str, kind: str, cached: bool
) -> None:
    run, file = server.routes.add_file(DATA)
    place = f"groups/{server.routes.group}/runs/{run}"
    fs = file_system(server, tmp_path if cached else None)
    path = f"{place}/archive.tar.gz" if kind == "archive" else f"{place}/results/{file}"
    opened = [WAYS[way](fs, path)]
    assert opened[0].read(100)
    service = fs.entries.catalog.service
    locks = locks_below(fs.content, service, *opened)
    connections: Any = service.session.sender()._pool
    assert connections.pool.mutex in locks
    assert fs.content.shelf._lock in locks
    without_waiting(opened.clear, locks)
    clear_up()
    assert not any(item.users for item in fs.content.shelf)
    assert fs.cat_file(f"{place}/results/{file}") == DATA


def test_the_next_call_lets_go_of_what_was_dropped(server: StandIn) -> None:
    run, file = server.routes.add_file(DATA)
    place = f"groups/{server.routes.group}/runs/{run}"
    fs = file_system(server, None)
    archive = fs.open(f"{place}/archive.tar.gz")
    assert archive.read(100)
    assert any(item.users for item in fs.content.shelf)
    del archive
    gc.collect()
    assert fs.cat_file(f"{place}/results/{file}") == DATA
    assert not any(item.users for item in fs.content.shelf)


def test_a_file_system_can_be_dropped_whatever_lock_is_held(
    server: StandIn, tmp_path: Path
) -> None:
    run, file = server.routes.add_file(DATA[:1000])
    held = [file_system(server, tmp_path)]
    held[0].cat_file(f"groups/{server.routes.group}/runs/{run}/results/{file}")
    facts = held[0].content.disk._facts
    locks = locks_below(held[0].content)
    assert facts._lock in locks
    without_waiting(held.clear, locks)

    def written() -> bool:
        gc.collect()
        clear_up()
        return bool(facts._closed)

    wait_until(written, _PATIENCE, "what was learned was never written")


def test_what_goes_wrong_with_one_is_nothing_to_the_next() -> None:
    done = []

    def fail() -> None:
        raise OSError

    leave(fail)
    leave(functools.partial(done.append, 1))
    clear_up()
    assert done == [1]
