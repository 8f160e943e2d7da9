"""Changing things through the file system: runs started, canceled, deleted; uploads."""

# ruff: noqa: PT012, PT031 - what is to be raised is raised in the body of a `with`
from __future__ import annotations

import errno
import gc
import io
import json
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
import requests
from fsspec.callbacks import Callback
from standin import Reply, StandIn
from support import Rest, wait_until
from world import World, counted

from flowfs import (
    AccessDenied,
    AlreadyExists,
    DirectoryNotEmpty,
    FlowError,
    FlowFileSystem,
    InvalidArguments,
    InvalidRunState,
    IsADirectory,
    NotADirectory,
    NotFound,
    NotPermitted,
    ReadOnly,
    TooLarge,
    UnclearStart,
)
from flowfs.embedded import EmbeddedService
from flowfs.filesystem.writing import StoredNameWarning


@pytest.fixture(scope="module")
def world(service: EmbeddedService) -> World:
    return World(service)


@pytest.fixture(scope="module")
def ended(world: World) -> dict[str, Any]:
    """A run in SUCCESS; what is done to it must leave it there."""
    return world.succeeded(greeting="Hi")


@pytest.fixture
def fs(world: World) -> FlowFileSystem:
    return world.fs()


@pytest.fixture
def active(world: World) -> Iterator[str]:
    run_id = world.active()
    yield run_id
    world.cancel(run_id)


@pytest.fixture
def nothing_starts(world: World) -> Iterator[None]:
    before = world.run_ids()
    yield
    assert world.run_ids() == before


@pytest.fixture
def one_starts(world: World) -> Iterator[None]:
    before = world.run_ids()
    yield
    (started,) = set(world.run_ids()) - set(before)
    assert world.ended(started)["state"] == "SUCCESS"


ARGUMENTS = {"names": "names.txt", "greeting": "Hey"}
DOCUMENT = json.dumps(ARGUMENTS).encode()


# -- starting a run --------------------------------------------------------


def file_argument(world: World, form: str) -> Any:
    return {
        "name": world.upload,
        "id": world.upload_id,
        "fileId": {"fileId": world.upload_id},
        "fileId of the name": {"fileId": world.upload},
        "targetPath": {"fileId": world.upload_id, "targetPath": "data/names.txt"},
        "service's own": {"type": "$file", "value": {"fileId": world.upload_id}},
    }[form]


@pytest.mark.parametrize(
    "form", ["name", "id", "fileId", "fileId of the name", "targetPath", "service's own"]
)
@pytest.mark.parametrize("document", ["mapping", "list", "wrapped"])
@pytest.mark.usefixtures("one_starts")
def test_new_takes_every_form_of_arguments(
    fs: FlowFileSystem, world: World, form: str, document: str
) -> None:
    mapping = {"names": file_argument(world, form), "greeting": "Hey"}
    listed = [{"name": name, "value": value} for name, value in mapping.items()]
    made = {"mapping": mapping, "list": listed, "wrapped": {"arguments": listed}}[document]
    with fs.open(world.new, "wb") as file:
        file.write(json.dumps(made).encode())
    assert file.run["state"] in ("PENDING", "RUNNING", "SUCCESS")
    assert world.rest.result(world.ended(file.run["id"]), "results/greetings.txt").startswith(
        b"Hey, Ada!"
    )


@pytest.mark.usefixtures("one_starts")
def test_the_template_starts_a_run_once_the_file_is_named(fs: FlowFileSystem, world: World) -> None:
    template = json.loads(fs.cat(f"{world.group}/arguments.template.json"))
    template[0]["value"] = world.upload
    fs.pipe(world.new, json.dumps(template).encode())


@pytest.mark.usefixtures("nothing_starts")
def test_the_template_as_it_is_starts_nothing(fs: FlowFileSystem, world: World) -> None:
    with pytest.raises(InvalidArguments, match="missing argument for 'names'"):
        fs.cp(f"{world.group}/arguments.template.json", world.new)


@pytest.mark.parametrize("target", ["new", "new/"])
@pytest.mark.usefixtures("one_starts")
def test_the_arguments_of_a_run_copied_to_new_run_again(
    fs: FlowFileSystem, world: World, ended: dict[str, Any], target: str
) -> None:
    fs.cp(f"{world.run(ended)}/arguments.json", f"{world.group}/runs/{target}")
    again = world.run_ids()[-1]
    assert world.rest.run(again)["arguments"] == ended["arguments"]


@pytest.mark.parametrize("target", ["new", "new/"])
@pytest.mark.usefixtures("one_starts")
def test_a_local_file_is_put_to_new(
    fs: FlowFileSystem, world: World, tmp_path: Path, target: str
) -> None:
    (tmp_path / "args.json").write_bytes(DOCUMENT)
    fs.put(str(tmp_path / "args.json"), f"{world.group}/runs/{target}")


@pytest.mark.usefixtures("one_starts")
def test_a_local_file_is_put_to_the_url_of_new(
    fs: FlowFileSystem, world: World, tmp_path: Path
) -> None:
    (tmp_path / "args.json").write_bytes(DOCUMENT)
    fs.put_file(str(tmp_path / "args.json"), world.url(world.new))


@pytest.mark.usefixtures("one_starts")
def test_arguments_are_piped_to_new(fs: FlowFileSystem, world: World) -> None:
    fs.pipe(world.new, DOCUMENT)


@pytest.mark.usefixtures("one_starts")
def test_starting_a_run_returns_its_handle(fs: FlowFileSystem, world: World) -> None:
    handle = fs.start_run(world.group_id, ARGUMENTS)
    assert handle["id"] == world.run_ids()[-1]
    assert handle["groupId"] == world.group_id


@pytest.mark.usefixtures("one_starts")
def test_a_text_file_knows_the_run_it_started(fs: FlowFileSystem, world: World) -> None:
    with fs.open(world.new, "w") as file:
        json.dump(ARGUMENTS, file)
        assert file.run is None
    assert file.run["id"] == world.run_ids()[-1]


@pytest.mark.parametrize("mode", ["w", "wb"])
@pytest.mark.usefixtures("one_starts")
def test_a_file_of_fsspec_open_knows_the_run_it_started(world: World, mode: str) -> None:
    with fsspec.open(world.url(world.new), mode, **world.options()) as file:
        file.write(DOCUMENT if "b" in mode else DOCUMENT.decode())
    below = file if "b" in mode else file.buffer
    assert below.run["id"] == world.run_ids()[-1]


@pytest.mark.usefixtures("one_starts")
def test_a_file_written_piece_by_piece_flushed_and_closed_twice_starts_one_run(
    fs: FlowFileSystem, world: World
) -> None:
    file = fs.open(world.new, "w")
    for character in DOCUMENT.decode():
        file.write(character)
        file.flush()
    file.close()
    file.close()
    file.buffer.close()


def test_two_writers_start_two_runs(fs: FlowFileSystem, world: World) -> None:
    before = world.run_ids()
    with fs.open(world.new, "wb") as one, fs.open(world.new, "wb") as other:
        one.write(DOCUMENT)
        other.write(DOCUMENT)
    assert one.run["id"] != other.run["id"]
    assert set(world.run_ids()) - set(before) == {one.run["id"], other.run["id"]}


@pytest.mark.parametrize("written", [b"", b" \n\t"])
@pytest.mark.usefixtures("nothing_starts")
def test_nothing_written_starts_nothing(fs: FlowFileSystem, world: World, written: bytes) -> None:
    with fs.open(world.new, "wb") as file:
        file.write(written)
    assert file.run is None
    fs.pipe(world.new, written)
    fs.touch(world.new)
    with fs.open(world.new, "w"):
        pass


@pytest.mark.usefixtures("nothing_starts")
def test_several_documents_are_refused(fs: FlowFileSystem, world: World) -> None:
    with pytest.raises(InvalidArguments, match="several documents in one"):
        fs.pipe(world.new, DOCUMENT + b"\n" + DOCUMENT)


@pytest.mark.usefixtures("nothing_starts")
def test_everything_that_is_wrong_is_told_at_once(fs: FlowFileSystem, world: World) -> None:
    with counted() as requests_made, pytest.raises(InvalidArguments) as caught:
        fs.start_run(world.group_id, {"nope": 1, "sleeptime": "abc", "names": "lost.txt"})
    for said in ("unknown parameter 'nope'", "no int 'abc'", "unknown file 'lost.txt'"):
        assert said in str(caught.value)
    assert requests_made.of("POST .*") == []


def test_a_file_that_was_uploaded_by_somebody_else_just_now_is_found(
    fs: FlowFileSystem, world: World
) -> None:
    fs = world.fs(ttl=1e6)
    fs.ls(world.group)
    reply = world.rest.request(
        "POST", f"uploads/{world.group_id}/files", files={"file": ("later.txt", b"Ada\n")}
    )
    assert reply.ok
    assert fs.start_run(world.group_id, {"names": "later.txt"})["id"]


def test_new_is_empty_to_read(fs: FlowFileSystem, world: World, active: str) -> None:
    for path in (world.new, f"{world.group}/runs/{active}/cancel"):
        assert fs.cat(path) == b""
        assert fs.info(path)["size"] == 0
        with fs.open(path) as file:
            assert file.read() == b""


# -- what is not closed properly sends nothing -----------------------------


def through_fs(mode: str) -> Callable[[World, str], Any]:
    return lambda world, path: world.fs().open(path, mode)


def through_fsspec(mode: str) -> Callable[[World, str], Any]:
    return lambda world, path: fsspec.open(world.url(path), mode, **world.options())


WAYS_TO_OPEN = {
    "fs.open w": through_fs("w"),
    "fs.open wb": through_fs("wb"),
    "fsspec.open w": through_fsspec("w"),
    "fsspec.open wb": through_fsspec("wb"),
    "gzip": lambda world, path: world.fs().open(path, "wb", compression="gzip"),
    "text through gzip": lambda world, path: world.fs().open(path, "wt", compression="gzip"),
}


def write(file: Any, data: bytes) -> None:
    try:
        file.write(data)
    except TypeError:
        file.write(data.decode())


class Broken(Exception):
    pass


@pytest.mark.parametrize("way", WAYS_TO_OPEN)
@pytest.mark.parametrize("share", [0.5, 1])
@pytest.mark.usefixtures("nothing_starts")
def test_a_with_body_that_raises_starts_nothing(world: World, way: str, share: float) -> None:
    with pytest.raises(Broken), WAYS_TO_OPEN[way](world, world.new) as file:
        write(file, DOCUMENT[: int(len(DOCUMENT) * share)])
        raise Broken


@pytest.mark.parametrize("way", WAYS_TO_OPEN)
def test_a_with_body_that_raises_uploads_nothing_and_keeps_what_was_there(
    world: World, way: str
) -> None:
    fs = world.fs()
    fs.pipe(f"{world.uploads}/kept.txt", b"before")
    with pytest.raises(Broken), WAYS_TO_OPEN[way](world, f"{world.uploads}/kept.txt") as file:
        write(file, b"half")
        raise Broken
    assert fs.cat(f"{world.uploads}/kept.txt") == b"before"


@pytest.mark.parametrize("way", WAYS_TO_OPEN)
def test_a_with_body_that_raises_cancels_nothing(world: World, active: str, way: str) -> None:
    with pytest.raises(Broken):
        with WAYS_TO_OPEN[way](world, f"{world.group}/runs/{active}/cancel") as file:
            write(file, b"because\n")
            raise Broken
    assert world.rest.run(active)["state"] == "RUNNING"


@pytest.mark.usefixtures("nothing_starts")
def test_whoever_leaves_for_an_exception_sends_nothing(world: World, fs: FlowFileSystem) -> None:
    """As pandas does it: a context of its own that only closes the file."""

    class Handles:
        def __enter__(self) -> Any:
            self.file = fs.open(world.new, "wb")
            return self.file

        def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
            self.file.close()

    with pytest.raises(Broken), Handles() as file:
        file.write(DOCUMENT)
        raise Broken


@pytest.mark.usefixtures("one_starts")
def test_what_is_written_while_another_exception_is_dealt_with_is_sent(
    world: World, fs: FlowFileSystem
) -> None:
    class Fallback:
        def __enter__(self) -> None: ...

        def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
            with fs.open(world.new, "w") as file:
                file.write(DOCUMENT.decode())
            return True

    with Fallback():
        raise Broken


@pytest.mark.parametrize("way", WAYS_TO_OPEN)
@pytest.mark.usefixtures("nothing_starts")
def test_a_file_that_is_never_closed_starts_nothing_and_says_so(world: World, way: str) -> None:
    opened = WAYS_TO_OPEN[way](world, world.new)
    file = opened.open() if way.startswith("fsspec") else opened
    write(file, DOCUMENT)
    with pytest.warns(ResourceWarning, match="was never closed: nothing was sent"):
        del opened, file
        gc.collect()


@pytest.mark.usefixtures("nothing_starts")
def test_a_text_wrapper_of_ones_own_that_is_never_closed_starts_nothing(
    world: World, fs: FlowFileSystem
) -> None:
    file = io.TextIOWrapper(fs.open(world.new, "wb"))
    file.write(DOCUMENT.decode())
    with pytest.warns(ResourceWarning, match="was never closed"):
        del file
        gc.collect()


def test_a_closed_file_takes_nothing_more(world: World, fs: FlowFileSystem) -> None:
    file = fs.open(world.new, "wb")
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.write(DOCUMENT)


# -- transactions ----------------------------------------------------------


def test_in_a_transaction_runs_start_at_its_end(fs: FlowFileSystem, world: World) -> None:
    before = world.run_ids()
    with fs.transaction:
        with fs.open(world.new, "wb") as file:
            file.write(DOCUMENT)
        with fs.open(world.new, "w") as text:
            text.write(DOCUMENT.decode())
        fs.pipe(f"{world.uploads}/in.txt", b"Ada\n")
        with fs.open(f"{world.uploads}/in.gz", "wt", compression="gzip") as packed:
            packed.write("Grace\n")
        assert (file.run, text.run) == (None, None)
        assert world.run_ids() == before
        assert "in.txt" not in world.upload_names()
    assert world.run_ids() == [*before, file.run["id"], text.run["id"]]
    assert "in.txt" in world.upload_names()
    assert fs.open(f"{world.uploads}/in.gz", compression="gzip").read() == b"Grace\n"
    fs.rm([f"{world.uploads}/in.txt", f"{world.uploads}/in.gz"])


@pytest.mark.usefixtures("nothing_starts")
def test_a_discarded_transaction_starts_nothing(
    fs: FlowFileSystem, world: World, tmp_path: Path
) -> None:
    (tmp_path / "args.json").write_bytes(DOCUMENT)
    with pytest.raises(Broken), fs.transaction:
        fs.pipe(world.new, DOCUMENT)
        fs.put(str(tmp_path / "args.json"), world.new)
        fs.put(str(tmp_path / "args.json"), f"{world.uploads}/")
        raise Broken
    assert "args.json" not in world.upload_names()
    assert fs.transaction is not None
    assert not fs._intrans


def test_a_transaction_that_is_refused_says_what_was_sent(fs: FlowFileSystem, world: World) -> None:
    before = world.run_ids()
    with pytest.raises(InvalidArguments, match="unknown parameter 'nope'") as caught:
        with fs.transaction:
            with fs.open(world.new, "wb") as first:
                first.write(DOCUMENT)
            fs.pipe(world.new, b'{"names": "names.txt", "nope": 1}')
            with fs.open(world.new, "wb") as last:
                last.write(DOCUMENT)
    assert world.run_ids() == [*before, first.run["id"]]
    assert f"sent before it in this transaction: run {first.run['id']}" in str(caught.value)
    assert last.run is None
    fs.pipe(world.new, b"")  # the file system is out of the transaction


# -- canceling -------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "messages"),
    [
        (b"too slow\n", ["too slow"]),
        (b"too slow", ["too slow"]),
        ("zu langsam: ä".encode(), ["zu langsam: ä"]),
    ],
)
def test_a_reason_written_to_cancel_cancels(
    fs: FlowFileSystem, world: World, active: str, written: bytes, messages: list[str]
) -> None:
    with fs.open(f"{world.group}/runs/{active}/cancel", "wb") as file:
        file.write(written)
    assert file.run["state"] == "CANCELED"
    assert world.rest.run(active)["messages"] == messages


def test_blanks_cancel_without_a_reason(fs: FlowFileSystem, world: World, active: str) -> None:
    fs.pipe(f"{world.group}/runs/{active}/cancel", b"\n")
    handle = world.rest.run(active)
    assert handle["state"] == "CANCELED"
    assert "" not in handle["messages"]


def test_nothing_written_cancels_nothing(fs: FlowFileSystem, world: World, active: str) -> None:
    cancel = f"{world.group}/runs/{active}/cancel"
    fs.pipe(cancel, b"")
    fs.touch(cancel)
    assert world.rest.run(active)["state"] == "RUNNING"
    with pytest.raises(InvalidArguments, match="no UTF-8") as caught:
        fs.pipe(cancel, b"\xff\xfe")
    assert caught.value.filename == world.url(cancel)
    assert world.rest.run(active)["state"] == "RUNNING"


def test_canceling_in_python_returns_the_handle(
    fs: FlowFileSystem, world: World, active: str
) -> None:
    handle = fs.cancel_run(active, "enough")
    assert (handle["state"], handle["messages"]) == ("CANCELED", ["enough"])
    with pytest.raises(InvalidRunState) as caught:
        fs.cancel_run(active)
    assert caught.value.errno == errno.EBUSY


def test_what_cannot_be_canceled_says_which_run(
    fs: FlowFileSystem, world: World, ended: dict[str, Any]
) -> None:
    fs.ls(f"{world.group}/runs")
    with pytest.raises(InvalidRunState) as caught:
        fs.cancel_run(ended["id"])
    assert caught.value.filename == world.url(world.run(ended))


# -- uploads ---------------------------------------------------------------


@pytest.fixture
def file(world: World, request: pytest.FixtureRequest) -> Iterator[str]:
    """The path of an upload that is not there yet, and is removed."""
    name = f"file-{os.urandom(4).hex()}.txt"
    yield f"{world.uploads}/{name}"
    fs = world.fs()
    if fs.exists(f"{world.uploads}/{name}"):
        fs.rm(f"{world.uploads}/{name}")


def test_what_is_written_is_uploaded(fs: FlowFileSystem, file: str) -> None:
    with fs.open(file, "w") as out:
        out.write("Ada\n")
        assert not fs.exists(file)
    assert fs.cat(file) == b"Ada\n"
    assert fs.info(file)["size"] == 4


def test_nothing_written_is_an_empty_upload(fs: FlowFileSystem, file: str) -> None:
    fs.touch(file)
    assert (fs.cat(file), fs.info(file)["size"]) == (b"", 0)


def test_appending_keeps_what_was_there(fs: FlowFileSystem, world: World, file: str) -> None:
    with fs.open(file, "ab") as out:
        out.write(b"Ada\n")
    with fs.open(file, "a") as text:
        text.write("Grace\n")
    assert fs.cat(file) == b"Ada\nGrace\n"
    assert world.upload_names().count(file.rpartition("/")[2]) == 1


def test_exclusive_creation_refuses_what_is_there_at_once(fs: FlowFileSystem, file: str) -> None:
    with fs.open(file, "xb") as out:
        out.write(b"one")
    for act in (
        lambda: fs.open(file, "xb"),
        lambda: fs.open(file, "x"),
        lambda: fs.pipe_file(file, b"two", mode="create"),
    ):
        with pytest.raises(AlreadyExists):
            act()
    assert fs.cat(file) == b"one"


def test_replacing_leaves_no_moment_without(world: World, file: str) -> None:
    fs, name = world.fs(), file.rpartition("/")[2]
    fs.pipe(file, b"0")
    counts, done = set(), threading.Event()

    def watch() -> None:
        rest = Rest(world.service)
        while not done.is_set():
            listed = rest.get(f"uploads/{world.group_id}/files")["files"]
            counts.add(sum(each["name"] == name for each in listed))
        rest.close()

    thread = threading.Thread(target=watch)
    thread.start()
    for number in range(1, 6):
        fs.pipe(file, b"%d" % number)
    done.set()
    thread.join()
    assert counts <= {1, 2}
    assert world.upload_names().count(name) == 1
    assert fs.cat(file) == b"5"


class Progress(Callback):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[int] = []

    def relative_update(self, inc: int = 1) -> None:
        self.pieces.append(inc)
        super().relative_update(inc)


def test_a_local_file_is_streamed_with_progress(
    fs: FlowFileSystem, file: str, tmp_path: Path
) -> None:
    data = os.urandom(3_500_000)
    (tmp_path / "data").write_bytes(data)
    progress = Progress()
    fs.put_file(str(tmp_path / "data"), file, callback=progress)
    assert fs.cat(file) == data
    assert (progress.size, progress.value, sum(progress.pieces)) == (len(data),) * 3
    assert max(progress.pieces) <= 1 << 20
    progress = Progress()
    fs.get_file(file, str(tmp_path / "copy"), callback=progress)
    assert (tmp_path / "copy").read_bytes() == data
    assert (progress.size, progress.value) == (len(data), len(data))


def test_a_file_is_copied_to_whatever_can_be_written(
    fs: FlowFileSystem, file: str, tmp_path: Path
) -> None:
    fs.pipe(file, b"Ada\n")
    longest = tmp_path / ("x" * 255)
    fs.get_file(file, str(longest))
    assert longest.read_bytes() == b"Ada\n"
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(longest)
    fs.pipe(file, b"Grace\n")
    fs.get_file(file, str(link))
    assert link.is_symlink()
    assert longest.read_bytes() == b"Grace\n"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fs.get_file(file, str(pipe))
    assert os.read(reader, 100) == b"Grace\n"
    os.close(reader)
    assert pipe.is_fifo()
    assert {path.name for path in tmp_path.iterdir()} == {longest.name, "link", "pipe"}


def test_a_name_that_is_stored_differently_goes_on_resolving(
    fs: FlowFileSystem, world: World
) -> None:
    asked, stored = f"{world.uploads}/two words.txt", f"{world.uploads}/two_words.txt"
    with pytest.warns(StoredNameWarning, match=r"stored 'two words.txt' as 'two_words.txt'"):
        fs.pipe(asked, b"Ada\n")
    assert fs.cat(asked) == fs.cat(stored) == b"Ada\n"
    assert fs.info(asked)["name"] == asked
    assert stored in fs.ls(world.uploads, detail=False)
    assert asked not in fs.ls(world.uploads, detail=False)
    with pytest.warns(StoredNameWarning), fs.open(asked, "ab") as out:
        out.write(b"Grace\n")
    assert fs.cat(asked) == b"Ada\nGrace\n"
    assert world.upload_names().count("two_words.txt") == 1
    run = fs.start_run(world.group_id, {"names": "two words.txt"})
    assert world.ended(run["id"])["state"] == "SUCCESS"
    fs.rm(asked)
    assert not fs.exists(asked)
    assert not fs.exists(stored)


def test_what_is_stored_under_another_name_replaces_nothing_of_somebody_else(
    world: World,
) -> None:
    theirs, ours = world.fs(), world.fs()
    theirs.pipe(f"{world.uploads}/the_file.txt", b"theirs")
    with pytest.warns(StoredNameWarning):
        ours.pipe(f"{world.uploads}/the file.txt", b"ours")
    assert world.upload_names().count("the_file.txt") == 2
    contents = {theirs.cat(path) for path in theirs.glob(f"{world.uploads}/the_file*")}
    assert contents == {b"theirs", b"ours"}
    theirs.rm(f"{world.uploads}/the_file*")


def test_a_name_that_the_service_refuses_is_an_error(fs: FlowFileSystem, world: World) -> None:
    with pytest.raises(FlowError) as caught:
        fs.pipe(f"{world.uploads}/日本", b"x")
    assert caught.value.errno is not None
    assert "日本" in str(caught.value)


def test_what_is_over_the_limit_is_refused_and_replaces_nothing(tmp_path: Path) -> None:
    with StandIn() as server:
        server.routes.max_upload = 1000
        fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=600)
        path = "groups/group-1/uploads/data.bin"
        fs.pipe(path, b"small")
        (tmp_path / "data").write_bytes(b"x" * 2000)
        for act in (
            lambda: fs.pipe(path, b"x" * 2000),
            lambda: fs.put(str(tmp_path / "data"), path),
        ):
            with pytest.raises(TooLarge) as caught:
                act()
            assert caught.value.errno == errno.EFBIG
            assert str(caught.value.filename).endswith(path)
        assert fs.cat(path) == b"small"


def test_what_the_service_itself_replaced_is_not_deleted() -> None:
    with StandIn() as server:
        fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=600)
        path = "groups/group-1/uploads/data.csv"
        fs.pipe(path, b"1")
        server.on("POST", "/uploads/.*", Reply(201, server.routes.uploads[0]))
        fs.pipe(path, b"2")
        assert server.count("DELETE") == 0
        assert fs.exists(path)


@pytest.mark.parametrize("compression", ["gzip", "bz2", "xz", "infer"])
def test_what_is_compressed_on_the_way_arrives(
    fs: FlowFileSystem, world: World, compression: str
) -> None:
    path = f"{world.uploads}/packed.gz"
    with fs.open(path, "wb", compression=compression) as out:
        out.write(b"Ada\n" * 1000)
    assert 0 < fs.size(path) < 1000
    with fs.open(path, "rt", compression=compression) as back:
        assert back.read() == "Ada\n" * 1000
    with fs.open(path, "wt", compression=compression) as text:
        text.write("Grace\n")
    assert fs.open(path, compression=compression).read() == b"Grace\n"
    fs.rm(path)


def test_copying_within_the_service_makes_an_upload_of_any_file(
    fs: FlowFileSystem, world: World, ended: dict[str, Any]
) -> None:
    fs.cp(world.result(ended), f"{world.uploads}/copied.txt")
    assert fs.cat(f"{world.uploads}/copied.txt") == fs.cat(world.result(ended))
    fs.rm(f"{world.uploads}/copied.txt")


def test_an_upload_that_is_removed_is_gone(fs: FlowFileSystem, world: World, file: str) -> None:
    fs.pipe(file, b"x")
    fs.rm(file)
    assert not fs.exists(file)
    assert file.rpartition("/")[2] not in world.upload_names()
    for act in (fs.rm, fs.rm_file):
        with pytest.raises(NotFound):
            act(file)


def test_one_file_is_removed_by_its_name_which_is_no_pattern(
    fs: FlowFileSystem, world: World
) -> None:
    asked = f"{world.uploads}/data?.csv"
    fs.pipe(f"{world.uploads}/data1.csv", b"1")
    with pytest.warns(StoredNameWarning):
        fs.pipe(asked, b"?")  # stored as data.csv
    fs.rm_file(asked)
    assert "data.csv" not in world.upload_names()
    with pytest.raises(NotFound):
        fs.rm_file(asked)
    assert "data1.csv" in world.upload_names()
    fs.rm_file(f"{world.uploads}/data1.csv")


# -- deleting --------------------------------------------------------------


def test_rm_r_of_a_run_is_one_delete(fs: FlowFileSystem, world: World) -> None:
    run = world.succeeded()
    with counted() as requests_made:
        fs.rm(world.run(run), recursive=True)
    assert requests_made.of("DELETE .*") == [f"DELETE runs/{run['id']}"]
    assert run["id"] not in world.run_ids()


def test_rm_r_of_an_active_run_is_ebusy_and_leaves_it_alone(
    fs: FlowFileSystem, world: World, active: str
) -> None:
    path = f"{world.group}/runs/{active}"
    with pytest.raises(InvalidRunState) as caught:
        fs.rm(path, recursive=True)
    assert (caught.value.errno, caught.value.filename) == (errno.EBUSY, world.url(path))
    assert world.rest.run(active)["state"] == "RUNNING"


def test_a_pattern_takes_runs_and_never_new(fs: FlowFileSystem, service: EmbeddedService) -> None:
    world = World(service)
    fs = world.fs()
    for _ in range(3):
        world.succeeded()
    with pytest.raises(InvalidArguments):
        fs.pipe(world.new, b"{}")
    assert fs.exists(f"{world.new}.error")
    with pytest.raises(IsADirectory):
        fs.rm(f"{world.group}/runs/*")
    assert len(world.run_ids()) == 3
    fs.rm(f"{world.group}/runs/*", recursive=True)
    assert world.run_ids() == []
    assert fs.exists(world.new)
    with pytest.raises(NotFound, match="nothing matches"):
        fs.rm(f"{world.group}/runs/n*", recursive=True)


def test_a_pattern_removes_several_uploads(fs: FlowFileSystem, world: World) -> None:
    for name in ("one.tmp", "two.tmp"):
        fs.pipe(f"{world.uploads}/{name}", b"x")
    fs.rm(f"{world.uploads}/*.tmp")
    assert world.upload_names() == sorted({*world.upload_names()} - {"one.tmp", "two.tmp"})
    assert world.upload in world.upload_names()


def test_where_one_run_is_active_none_is_deleted(
    fs: FlowFileSystem, service: EmbeddedService
) -> None:
    world = World(service)
    fs = world.fs()
    done = [world.succeeded()["id"] for _ in range(2)]
    active = world.active()
    with pytest.raises(InvalidRunState):
        fs.rm(f"{world.group}/runs/*", recursive=True)
    assert world.run_ids() == [*done, active]
    world.cancel(active)


def test_everything_is_looked_at_before_anything_is_deleted(
    fs: FlowFileSystem, world: World, ended: dict[str, Any], file: str
) -> None:
    fs.pipe(file, b"x")
    for bad in (
        f"{world.uploads}/nope",
        f"{world.group}/runs/nope",
        world.new,
        f"{world.run(ended)}/handle.json",
        f"{world.group}/latest",
        "nothing/like/this",
    ):
        with pytest.raises((NotFound, NotPermitted)):
            fs.rm([file, world.run(ended), bad], recursive=True)
    assert fs.exists(file)
    assert ended["id"] in world.run_ids()


# -- what is refused, at once ----------------------------------------------


@pytest.mark.parametrize(
    ("act", "kind", "number"),
    [
        ("fs.mv({run}, {group} + '/runs/other')", NotPermitted, errno.EPERM),
        ("fs.mv({uploads} + '/names.txt', {uploads} + '/x')", NotPermitted, errno.EPERM),
        ("fs.rename({run}, 'x')", NotPermitted, errno.EPERM),
        ("fs.mkdir({group} + '/runs/mine')", NotPermitted, errno.EPERM),
        ("fs.mkdir({uploads} + '/sub')", NotPermitted, errno.EPERM),
        ("fs.mkdir('groups/mine')", NotPermitted, errno.EPERM),
        ("fs.mkdir({group} + '/runs')", AlreadyExists, errno.EEXIST),
        ("fs.makedirs({uploads} + '/a/b')", NotPermitted, errno.EPERM),
        ("fs.makedirs({uploads})", AlreadyExists, errno.EEXIST),
        ("fs.open({result}, 'wb')", NotPermitted, errno.EPERM),
        ("fs.open({result}, 'ab')", NotPermitted, errno.EPERM),
        ("fs.open({result}, 'w')", NotPermitted, errno.EPERM),
        ("fs.open({run} + '/handle.json', 'wb')", NotPermitted, errno.EPERM),
        ("fs.open({run} + '/outputs/new.txt', 'wb')", NotPermitted, errno.EPERM),
        ("fs.open({run} + '/note.txt', 'wb')", NotPermitted, errno.EPERM),
        ("fs.open({run} + '/cancel', 'wb')", NotFound, errno.ENOENT),
        ("fs.open({group} + '/group.json', 'wb')", NotPermitted, errno.EPERM),
        ("fs.open({group} + '/runs/new.error', 'wb')", NotPermitted, errno.EPERM),
        ("fs.open({group} + '/nope', 'wb')", NotPermitted, errno.EPERM),
        ("fs.open({group}, 'wb')", IsADirectory, errno.EISDIR),
        ("fs.open({run}, 'wb')", IsADirectory, errno.EISDIR),
        ("fs.open({uploads} + '/names.txt/x', 'wb')", NotADirectory, errno.ENOTDIR),
        ("fs.open({run})", IsADirectory, errno.EISDIR),
        ("fs.cat_file({run} + '/outputs')", IsADirectory, errno.EISDIR),
        ("fs.open({run} + '/outputs/results')", IsADirectory, errno.EISDIR),
        ("fs.open({result}, 'r+b')", InvalidArguments, errno.EINVAL),
        ("fs.touch({result})", NotPermitted, errno.EPERM),
        ("fs.pipe({result}, b'x')", NotPermitted, errno.EPERM),
        ("fs.rmdir({run})", DirectoryNotEmpty, errno.ENOTEMPTY),
        ("fs.rmdir({group})", NotPermitted, errno.EPERM),
        ("fs.rmdir({group} + '/latest')", NotPermitted, errno.EPERM),
        ("fs.rmdir({result})", NotADirectory, errno.ENOTDIR),
        ("fs.rmdir({group} + '/runs/nope')", NotFound, errno.ENOENT),
        ("fs.rm({run})", IsADirectory, errno.EISDIR),
        ("fs.rm_file({run})", IsADirectory, errno.EISDIR),
        ("fs.rm({group} + '/runs', recursive=True)", NotPermitted, errno.EPERM),
        ("fs.rm({group}, recursive=True)", NotPermitted, errno.EPERM),
        ("fs.rm({uploads}, recursive=True)", NotPermitted, errno.EPERM),
        ("fs.rm('', recursive=True)", NotPermitted, errno.EPERM),
        ("fs.rm({group} + '/runs/new')", NotPermitted, errno.EPERM),
        ("fs.rm({result})", NotPermitted, errno.EPERM),
        ("fs.rm({run} + '/results', recursive=True)", NotPermitted, errno.EPERM),
        ("fs.rm({group} + '/latest', recursive=True)", NotPermitted, errno.EPERM),
        ("fs.rm({group} + '/states/SUCCESS/' + {id}, recursive=True)", NotPermitted, errno.EPERM),
        ("fs.rm({group} + '/states/SUCCESS/*', recursive=True)", NotPermitted, errno.EPERM),
        ("fs.rm({by_name} + '/runs/' + {id}, recursive=True)", NotPermitted, errno.EPERM),
        ("fs.rm({by_name} + '/uploads/names.txt')", NotPermitted, errno.EPERM),
        ("fs.rm({run} + '/outputs/results/greetings.txt')", NotPermitted, errno.EPERM),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    fs: FlowFileSystem,
    world: World,
    ended: dict[str, Any],
    act: str,
    kind: type[FlowError],
    number: int,
) -> None:
    fill = {
        "run": world.run(ended),
        "id": ended["id"],
        "group": world.group,
        "uploads": world.uploads,
        "result": world.result(ended),
        "by_name": f"workflows/{world.workflow_id}/groups/{world.group_name}",
    }
    code = act.format_map({name: repr(value) for name, value in fill.items()})
    with counted() as requests_made, pytest.raises(kind) as caught:
        eval(code, {"fs": fs})
    assert caught.value.errno == number
    assert str(caught.value.filename).startswith(world.url())
    assert [made for made in requests_made.made if not made.startswith("GET")] == []


def test_directories_that_are_there_can_be_asked_for(fs: FlowFileSystem, world: World) -> None:
    fs.makedirs(world.uploads, exist_ok=True)
    fs.makedirs(f"{world.group}/runs", exist_ok=True)


@pytest.mark.parametrize(
    "act",
    [
        "fs.start_run({group_id}, {{}})",
        "fs.pipe({new}, b'{{}}')",
        "fs.open({new}, 'w')",
        "fs.open({new}, 'ab')",
        "fs.cancel_run('x')",
        "fs.open({run} + '/cancel', 'wb')",
        "fs.rm({run}, recursive=True)",
        "fs.rm({uploads} + '/*')",
        "fs.rmdir({run})",
        "fs.pipe({uploads} + '/x', b'')",
        "fs.touch({uploads} + '/x')",
        "fs.put_file({local}, {uploads} + '/x')",
        "fs.put({local}, {uploads} + '/')",
        "fs.cp_file({run} + '/handle.json', {uploads} + '/x')",
        "fs.mkdir({uploads} + '/x')",
        "fs.makedirs({uploads} + '/x')",
        "fs.mv({uploads} + '/names.txt', {uploads} + '/x')",
        "fs.open({result}, 'wb')",
        "fs.rm('nothing/like/this')",
    ],
)
def test_read_only_refuses_every_change(
    world: World, ended: dict[str, Any], tmp_path: Path, act: str
) -> None:
    (tmp_path / "local").write_text("x")
    fill = {
        "group_id": world.group_id,
        "new": world.new,
        "run": world.run(ended),
        "uploads": world.uploads,
        "result": world.result(ended),
        "local": str(tmp_path / "local"),
    }
    fs = world.fs(read_only=True)
    with counted() as requests_made, pytest.raises(ReadOnly) as caught:
        eval(act.format_map({k: repr(v) for k, v in fill.items()}), {"fs": fs})
    assert caught.value.errno == errno.EROFS
    assert str(caught.value.filename).startswith(world.url())
    assert [made for made in requests_made.made if not made.startswith("GET")] == []


# -- the service's refusals ------------------------------------------------


@dataclass
class Wrong:
    """Something wrong that is tried, and how it is refused."""

    kind: type[FlowError]
    number: int
    words: str
    document: bytes = DOCUMENT
    group: str | None = None
    token: str | None = "good"


WRONG = {
    "bad JSON": Wrong(InvalidArguments, errno.EINVAL, "not JSON", b'{"names": '),
    "unknown parameter": Wrong(
        InvalidArguments,
        errno.EINVAL,
        "unknown parameter 'nope'",
        b'{"names": "names.txt", "nope": 1}',
    ),
    "missing argument": Wrong(
        InvalidArguments, errno.EINVAL, "missing argument for 'names'", b'{"greeting": "Hi"}'
    ),
    "file never uploaded": Wrong(
        InvalidArguments, errno.EINVAL, "unknown file 'lost.txt'", b'{"names": "lost.txt"}'
    ),
    "wrong type": Wrong(
        InvalidArguments,
        errno.EINVAL,
        "no int 'abc'",
        b'{"names": "names.txt", "sleeptime": "abc"}',
    ),
    "unknown group": Wrong(NotFound, errno.ENOENT, "unknown group 'nope'", group="nope"),
    "no token": Wrong(AccessDenied, errno.EACCES, "not logged in", token=None),
    "bad token": Wrong(AccessDenied, errno.EACCES, "not authorized", token="0123456789abcdef"),
}


@pytest.fixture(scope="module")
def any_world(any_service: EmbeddedService) -> World:
    return World(any_service)


def by_start_run(fs: FlowFileSystem, group: str, document: bytes) -> None:
    fs.start_run(group, document)


def by_pipe(fs: FlowFileSystem, group: str, document: bytes) -> None:
    fs.pipe(f"groups/{group}/runs/new", document)


def by_text_file(fs: FlowFileSystem, group: str, document: bytes) -> None:
    with fs.open(f"groups/{group}/runs/new", "w") as file:
        file.write(document.decode())


@pytest.mark.parametrize("way", [by_start_run, by_pipe, by_text_file])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_start_is_refused_in_the_services_words(
    any_world: World, way: Callable[..., None], wrong: str
) -> None:
    case, world = WRONG[wrong], any_world
    group = case.group or world.group_id
    token = world.token if case.token == "good" else case.token
    fs = world.fs(token=token)
    before = world.run_ids()
    with pytest.raises(case.kind) as caught:
        way(fs, group, case.document)
    error = caught.value
    assert type(error) is case.kind
    assert error.errno == case.number
    assert error.filename == world.url(f"groups/{group}/runs/new")
    assert case.words in str(error)
    assert isinstance(error, OSError)
    assert isinstance(error, ValueError) is (case.kind is InvalidArguments)
    assert world.run_ids() == before
    # What was said stays to be read, until a start succeeds.
    assert case.words in fs.cat(f"groups/{group}/runs/new.error").decode()
    if case.kind is AccessDenied:
        assert "flowfs login" in str(error)
        assert world.token not in str(error)


def test_the_words_of_a_refusal_are_there_until_the_next_success(any_world: World) -> None:
    fs, world = any_world.fs(), any_world
    assert not fs.exists(f"{world.new}.error")
    for wrong in (b"{}", b"[", b'{"names": "names.txt", "sleeptime": "abc"}'):
        with pytest.raises(InvalidArguments):
            fs.pipe(world.new, wrong)
    assert "no int 'abc'" in fs.cat(f"{world.new}.error").decode()
    listed = {e["name"]: e for e in fs.ls(f"{world.group}/runs")}
    assert listed[f"{world.new}.error"]["size"] == fs.size(f"{world.new}.error") > 0
    fs.pipe(world.new, DOCUMENT)
    assert not fs.exists(f"{world.new}.error")
    assert f"{world.new}.error" not in fs.ls(f"{world.group}/runs", detail=False)


def test_an_active_run_cannot_be_deleted_nor_an_ended_one_canceled(any_world: World) -> None:
    fs, world = any_world.fs(), any_world
    run_id = world.active()
    path = f"{world.group}/runs/{run_id}"
    with pytest.raises(InvalidRunState, match="invalid operation for run") as caught:
        fs.rm(path, recursive=True)
    assert (caught.value.errno, caught.value.filename) == (errno.EBUSY, world.url(path))
    assert caught.value.status == 400
    assert world.rest.run(run_id)["state"] == "RUNNING"
    cancel = fs.open(f"{path}/cancel", "w")
    world.cancel(run_id)
    cancel.write("too late")
    with pytest.raises(InvalidRunState, match="invalid operation for run") as caught:
        cancel.close()
    assert caught.value.errno == errno.EBUSY
    assert caught.value.filename == world.url(f"{path}/cancel")
    fs.invalidate_cache()
    with pytest.raises(NotFound):
        fs.pipe(f"{path}/cancel", b"too late")
    with pytest.raises(InvalidRunState):
        fs.cancel_run(run_id)


def test_a_token_that_was_logged_out_is_refused() -> None:
    with StandIn() as server:
        fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=600)
        fs.ls("groups/group-1")
        requests.post(
            f"{server.endpoint}/users/logout",
            headers={"api_key": server.routes.token},
            timeout=10,
        )
        fs.invalidate_cache()
        with pytest.raises(AccessDenied, match="if it has expired") as caught:
            fs.start_run("group-1", {"names": "x"})
        assert server.routes.token not in str(caught.value)
        assert server.routes.runs == {}


@pytest.mark.parametrize("way", [by_start_run, by_pipe, by_text_file])
def test_a_start_whose_reply_is_lost_is_sent_once_and_says_that_a_run_may_have_started(
    way: Callable[..., None],
) -> None:
    with StandIn() as server:
        server.routes.uploads.append({"id": "file-1", "name": "names.txt"})
        server.on("POST", "/groups/group-1/runs", Reply(reset=True))
        fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=600)
        with pytest.raises(UnclearStart, match="may have started") as caught:
            way(fs, "group-1", DOCUMENT)
        assert server.count("POST", "/groups/group-1/runs") == 1
        assert caught.value.errno is not None
        assert caught.value.filename == fs.unstrip_protocol("groups/group-1/runs/new")
        assert b"may have started" in fs.cat("groups/group-1/runs/new.error")


def test_a_large_document_is_refused_by_its_full_url(fs: FlowFileSystem, world: World) -> None:
    with pytest.raises(TooLarge) as caught:
        fs.pipe(world.new, b" " * ((1 << 26) + 1))
    assert caught.value.filename == world.url(world.new)


# -- errors while a file is read -------------------------------------------


def test_a_file_that_breaks_off_while_it_is_read_names_its_full_url() -> None:
    with StandIn() as server:
        run_id, file_id = server.routes.add_file(b"x" * 2_000_000)
        fs = FlowFileSystem(server.endpoint, server.routes.token, retries=0, ttl=600)
        path = f"groups/group-1/runs/{run_id}/results/{file_id}"
        url = fs.unstrip_protocol(path)
        with fs.open(path) as file:
            server.on("GET", ".*/downloads/.*", Reply(503, {"message": "later"}))
            for act in (file.read, lambda: file.size, lambda: file.seek(-1, 2)):
                with pytest.raises(FlowError, match="later") as caught:
                    act()
                assert caught.value.filename == url
        with pytest.raises(FlowError, match="later") as caught:
            fs.cat(path)
        assert caught.value.filename == url


def test_waiting_for_a_run_by_its_state(fs: FlowFileSystem, world: World) -> None:
    fs = world.fs(ttl=0.05)
    run = fs.start_run(world.group_id, ARGUMENTS)
    path = f"{world.group}/runs/{run['id']}"
    wait_until(lambda: fs.info(path)["state"] == "SUCCESS", 30, "success")
    assert fs.cat(f"{path}/outputs/results/greetings.txt").startswith(b"Hey, Ada!")
    with warnings.catch_warnings():
        # Not what is left of other tests, which may be collected just now.
        warnings.simplefilter("error", UserWarning)
        fs.rm(path, recursive=True)


# -- what is kept of what has gone -------------------------------------------


def test_of_what_is_deleted_no_temporary_file_is_kept(world: World, fs: FlowFileSystem) -> None:
    data = os.urandom(100_000)
    path = f"{world.group}/uploads/kept.bin"

    def read(path: str) -> bytes:
        source = fs.entries.source(fs.entries.resolve(path))
        assert source is not None
        file = fs.content.share(source)
        try:
            return file.read(0, file.size)
        finally:
            file.close()

    before = fs.content.shelf.used
    for changed in (data, data[::-1]):  # the second replaces the first
        fs.pipe_file(path, changed)
        assert read(path) == changed
        assert fs.content.shelf.used == before + len(data)
    fs.rm_file(path)
    assert fs.content.shelf.used == before

    run = world.run(world.succeeded())
    assert read(f"{run}/archive.tar.gz")
    assert fs.content.shelf.used > before
    fs.rm(run, recursive=True)
    assert fs.content.shelf.used == before
