"""Many files in one call: several requests at once, each file to its end, interrupts at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.callbacks import Callback
from standin import Asked, Reply, StandIn
from support import ctrl_c, wait_until

from flowfs import BadReply, FlowError, FlowFileSystem, NotFound, TooLarge
from flowfs.service.interruption import Batch, Stopped

CONNECTIONS = 4
LONG = 60.0


class Many:
    """A run with results, and who looks at it."""

    def __init__(self, server: StandIn, count: int = 12) -> None:
        self.server = server
        self.data = {f"f{n:02d}": bytes([n]) * (1000 + n) for n in range(count)}
        server.routes.files.update(self.data)
        files = [{"id": name, "name": f"results/{name}"} for name in self.data]
        run = server.routes.add_run("SUCCESS", files=files)
        self.group = f"groups/{server.routes.group}"
        self.results = f"{self.group}/runs/{run['id']}/results"
        self.uploads = f"{self.group}/uploads"
        self.paths = [f"{self.results}/{name}" for name in self.data]
        self.fs = FlowFileSystem(
            server.endpoint, server.routes.token, max_connections=CONNECTIONS, retries=0, ttl=600
        )

    def files(self) -> int:
        """How many requests there were for results."""
        return self.server.count("GET", ".*/downloads/.*")


@pytest.fixture
def many() -> Iterator[Many]:
    with StandIn() as server:
        yield Many(server)


def content(directory: Path) -> dict[str, bytes]:
    """All files in a directory, hidden ones among them."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# -- how many at once ------------------------------------------------------


@pytest.mark.parametrize("call", ["cat", "cat_ranges", "get", "sizes"])
def test_a_request_for_each_file_and_as_many_at_once_as_there_are_connections(
    many: Many, tmp_path: Path, call: str
) -> None:
    together = threading.Barrier(CONNECTIONS)
    lock, now, most = threading.Lock(), 0, 0

    def slow(asked: Asked) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait(LONG)  # breaks unless as many are here
        with lock:
            now -= 1

    many.server.on("GET", ".*/downloads/.*", slow)
    if call == "cat":
        assert many.fs.cat(many.paths) == dict(zip(many.paths, many.data.values(), strict=True))
    elif call == "cat_ranges":
        parts = many.fs.cat_ranges(many.paths, 1, 3)
        assert parts == [data[1:3] for data in many.data.values()]
    elif call == "get":
        many.fs.get(many.paths, f"{tmp_path}/")
        assert content(tmp_path) == many.data
    else:
        assert many.fs.sizes(many.paths) == [len(data) for data in many.data.values()]
    assert most == CONNECTIONS
    assert many.files() == len(many.paths)
    assert many.server.count() == len(many.paths) + 2  # the descriptor, the run's handle


def test_what_a_pattern_matches_costs_one_listing_more(many: Many, tmp_path: Path) -> None:
    many.fs.get(f"{many.group}/runs/*/results/*", f"{tmp_path}/")
    assert content(tmp_path) == many.data
    assert many.server.count("GET", "/groups/.*/runs") == 1
    assert many.server.count() == len(many.paths) + 3


def test_parts_that_are_near_are_one_request(many: Many) -> None:
    one, other = many.paths[:2]
    paths = [one, other, one, one, one, other, one]
    starts = [100, 5, 0, 20, 900, None, -5]
    ends = [200, 9, 15, 30, 901, None, None]
    parts = many.fs.cat_ranges(paths, starts, ends, max_gap=5)
    data = {path: many.data[path.rpartition("/")[2]] for path in paths}
    assert parts == [data[p][s:e] for p, s, e in zip(paths, starts, ends, strict=True)]
    asked = [a.headers.get("Range") for a in many.server.requests("GET", f".*/{one[-3:]}")]
    assert {"bytes=0-29", "bytes=100-199", "bytes=900-900"} <= set(asked)
    failed = many.fs.cat_ranges([f"{many.results}/no"] * 3, [0, 5, 9], [5, 9, 9], max_gap=0)
    assert [type(error) for error in failed] == [NotFound] * 3
    assert len({id(error) for error in failed}) == 3


# -- what goes wrong -------------------------------------------------------

FAULTS = {
    "f03": Reply(500, {"message": "three is broken"}),
    "f05": Reply(body=bytes(1000), cut=400),
    "f09": Reply(404, {"message": "nine is gone"}),
}


@pytest.fixture
def broken(many: Many) -> Many:
    for name, reply in FAULTS.items():
        many.server.on("GET", f".*/{name}", reply)
    return many


def failing(broken: Many, call: str, tmp_path: Path) -> Callable[[], Any]:
    if call == "get":
        return lambda: broken.fs.get(broken.paths, f"{tmp_path}/")
    if call == "cat_ranges":
        return lambda: broken.fs.cat_ranges(broken.paths, 0, None, on_error="raise")
    return lambda: getattr(broken.fs, call)(broken.paths)


@pytest.mark.parametrize("call", ["get", "cat", "cat_ranges"])
def test_the_first_error_is_raised_the_others_with_it_and_all_else_is_done(
    broken: Many, tmp_path: Path, call: str
) -> None:
    with pytest.raises(BadReply, match="three is broken") as caught:
        failing(broken, call, tmp_path)()
    assert str(caught.value.filename).endswith("results/f03")
    assert [type(error) for error in caught.value.others] == [BadReply, NotFound]
    assert [str(error.filename)[-3:] for error in caught.value.others] == ["f05", "f09"]
    assert all(error.__traceback__ is None for error in caught.value.others)
    if sys.version_info >= (3, 11):
        (note,) = caught.value.__notes__
        assert "2 more of 12 failed" in note
        assert "nine is gone" in note
    whole = {name: data for name, data in broken.data.items() if name not in FAULTS}
    if call == "get":
        assert content(tmp_path) == whole
    before = broken.files()
    assert before >= len(broken.data)
    assert broken.fs.cat([f"{broken.results}/{name}" for name in whole])


def test_one_error_alone_tells_of_no_others(many: Many, tmp_path: Path) -> None:
    many.server.on("GET", ".*/f03", FAULTS["f03"])
    with pytest.raises(BadReply) as caught:
        many.fs.get(many.paths, f"{tmp_path}/")
    assert caught.value.others == ()
    assert not hasattr(caught.value, "__notes__")


def test_what_fails_here_leaves_other_files_alone(many: Many, tmp_path: Path) -> None:
    targets = [str(tmp_path / f"{name}.txt") for name in many.data]
    (tmp_path / "f00.txt").write_text("before")
    (tmp_path / "f01.txt").mkdir()
    many.server.on("GET", ".*/f00", FAULTS["f03"])
    with pytest.raises(BadReply) as caught:
        many.fs.get(many.paths, targets)
    assert isinstance(caught.value.others[0], OSError)
    assert (tmp_path / "f00.txt").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}.txt" for n in many.data]


def test_two_for_one_place_go_there_in_their_order(many: Many, tmp_path: Path) -> None:
    target = str(tmp_path / "one")
    late = threading.Event()

    def slow(asked: Asked) -> None:
        late.wait(0.1)

    many.server.on("GET", ".*/f00", slow)
    many.fs.get(many.paths[:2], [target, target])
    assert content(tmp_path) == {"one": many.data["f01"]}


# -- interrupts ------------------------------------------------------------


@pytest.mark.parametrize("call", ["get", "cat", "sizes"])
def test_ctrl_c_ends_what_is_under_way_and_begins_nothing(
    many: Many, tmp_path: Path, call: str
) -> None:
    many.fs.sizes(many.paths[:1])
    many.server.on("GET", ".*/f0[1-9]", Reply(body=bytes(1000), hang="body"))
    body = many.fs.open(many.paths[11])
    asked = many.files()
    where = [f"{tmp_path}/"] if call == "get" else []
    with pytest.raises(KeyboardInterrupt), ctrl_c(lambda: many.files() == asked + CONNECTIONS):
        getattr(many.fs, call)(many.paths[1:], *where)
    assert many.files() == asked + CONNECTIONS
    assert content(tmp_path) == {}
    assert not [t for t in threading.enumerate() if t.name.startswith("flowfs_")]
    # Others who use the same connections notice nothing.
    assert body.read() == many.data["f11"]
    assert many.fs.cat(many.paths[10]) == many.data["f10"]


def test_ctrl_c_ends_a_put(many: Many, tmp_path: Path) -> None:
    for name, data in many.data.items():
        (tmp_path / name).write_bytes(data)
    many.server.on("POST", "/uploads/.*", Reply(hang="before"))
    with pytest.raises(KeyboardInterrupt), ctrl_c(lambda: many.server.count("POST") == CONNECTIONS):
        many.fs.put(f"{tmp_path}/*", f"{many.uploads}/")
    assert many.server.count("POST") == CONNECTIONS


def test_a_stopped_batch_ends_pauses_requests_and_batches_within_it(many: Many) -> None:
    fs = FlowFileSystem(
        many.server.endpoint, many.server.routes.token, retries=9, timeout=10 * LONG
    )
    busy = Reply(503, headers={"Retry-After": "5"})
    many.server.on("GET", ".*/f00", busy)
    batch, ended = Batch(), []

    def work() -> None:
        with batch:
            try:
                fs.cat(many.paths[:2])
            except BaseException as error:
                ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: many.server.count("GET", ".*/f00"), LONG, "a request")
    batch.stop()
    thread.join(60)
    assert [type(error) for error in ended] == [Stopped]
    with batch, pytest.raises(Stopped):
        fs.cat(many.paths[2])
    assert fs.cat(many.paths[2]) == many.data["f02"]


# -- progress --------------------------------------------------------------


class Progress(Callback):
    """Of many files; notes if it was called by two at once."""

    def __init__(self, where: Progress | None = None) -> None:
        super().__init__()
        self.root = where or self
        self.files: dict[str, Progress] = {}
        self.entered = self.exited = self.now = self.twice = 0

    def __enter__(self) -> Progress:
        self.entered += 1
        return self

    def __exit__(self, *error: Any) -> None:
        self.exited += 1

    def branched(self, path_1: Any, path_2: Any, **kwargs: Any) -> Progress:
        self.files[str(path_1)] = Progress(self)
        return self.files[str(path_1)]

    def call(self, *args: Any, **kwargs: Any) -> None:
        self.root.now += 1
        self.root.twice += self.root.now > 1
        threading.Event().wait(0.001)
        self.root.now -= 1


@pytest.mark.parametrize("act", ["get", "put"])
def test_progress_is_told_of_all_files_and_of_each_by_one_thread_at_a_time(
    many: Many, tmp_path: Path, act: str
) -> None:
    progress = Progress()
    if act == "get":
        many.fs.get(many.paths, f"{tmp_path}/", callback=progress)
    else:
        for name, data in many.data.items():
            (tmp_path / name).write_bytes(data)
        many.fs.put(f"{tmp_path}/*", f"{many.uploads}/", callback=progress)
    assert progress.size == progress.value == len(progress.files) == len(many.data)
    for path, child in progress.files.items():
        size = len(many.data[path.rpartition("/")[2]])
        assert (child.size, child.value) == (size, size)
        assert (child.entered, child.exited) == (1, 1)
    assert not progress.twice


def test_what_a_callback_raises_ends_all(many: Many, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    class Impatient(Callback):
        def call(self, *args: Any, **kwargs: Any) -> None:
            if self.value:
                raise Enough

    many.server.on("GET", ".*/f0[1-9]", Reply(body=bytes(1000), hang="body"))
    with pytest.raises(Enough):
        many.fs.get(many.paths, f"{tmp_path}/", callback=Impatient())
    assert set(content(tmp_path)) == {"f00"}
    assert many.files() <= 1 + CONNECTIONS


# -- uploads ---------------------------------------------------------------


def test_many_uploads_are_one_listing_and_a_request_each(many: Many, tmp_path: Path) -> None:
    for name, data in many.data.items():
        (tmp_path / name).write_bytes(data)
    many.fs.put(f"{tmp_path}/*", f"{many.uploads}/")
    assert {f["name"] for f in many.server.routes.uploads} == set(many.data)
    listings = many.server.count("GET", "/uploads/.*|/groups/[^/]*")
    assert listings <= 2  # of the group, to look at the place, and of its uploads
    assert many.server.count("POST") == len(many.data)
    # Again: each is replaced, and one that somebody else has stored is seen.
    (tmp_path / "f00").write_bytes(b"another")
    many.fs.put(f"{tmp_path}/*", f"{many.uploads}/")
    assert len(many.server.routes.uploads) == len(many.data)
    assert many.server.count("DELETE") == len(many.data)
    assert many.fs.cat(f"{many.uploads}/f00") == b"another"


def test_an_upload_that_is_refused_leaves_the_others(many: Many, tmp_path: Path) -> None:
    many.server.routes.max_upload = 3000
    for name, data in many.data.items():
        (tmp_path / name).write_bytes(data * (4 if name in ("f02", "f07") else 1))
    with pytest.raises(TooLarge) as caught:
        many.fs.put(f"{tmp_path}/*", f"{many.uploads}/")
    assert str(caught.value.filename).endswith("f02")
    assert [str(error.filename)[-3:] for error in caught.value.others] == ["f07"]
    assert {f["name"] for f in many.server.routes.uploads} == set(many.data) - {"f02", "f07"}


def test_a_name_that_was_changed_meanwhile_is_listed_for_anew(many: Many, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    with many.fs.catalog.together():
        many.fs.put_file(str(tmp_path / "a"), f"{many.uploads}/a")
        many.fs.put_file(str(tmp_path / "a"), f"{many.uploads}/a")
        assert len(many.server.routes.uploads) == 1
        many.fs.rm(f"{many.uploads}/a")
        many.fs.put_file(str(tmp_path / "a"), f"{many.uploads}/a")
    assert [f["name"] for f in many.server.routes.uploads] == ["a"]


def test_runs_are_started_one_after_another_and_none_after_a_refusal(
    many: Many, tmp_path: Path
) -> None:
    for name, text in (("a", '{"names": "x"}'), ("b", "{"), ("c", '{"names": "x"}')):
        (tmp_path / name).write_text(text)
    many.fs.pipe(f"{many.uploads}/x", b"Ada\n")
    before = len(many.server.routes.runs)
    new = f"{many.group}/runs/new"
    with pytest.raises(FlowError):
        many.fs.put([str(tmp_path / name) for name in "abc"], [new] * 3)
    assert len(many.server.routes.runs) == before + 1
