"""What goes along with a path that a pattern has found, into another process."""

from __future__ import annotations

import copy
import json
import pickle
import tarfile
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from standin import Reply, StandIn

from flowfs import FlowFileSystem, NotFound
from flowfs.filesystem.found import FoundPath, _unpacked

_NAME = "results/table.csv"
_DATA = b"run,value\n"


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        for number in range(3):
            server.routes.add_file(_DATA + b"%d,1\n" % number, _NAME)
        yield server


_PATTERN = f"groups/group-1/runs/*/outputs/{_NAME}"


def _here(server: StandIn, **options: Any) -> FlowFileSystem:
    return FlowFileSystem(server.endpoint, server.routes.token, ttl=600, **options)


def _elsewhere(server: StandIn, ttl: float = 700, **options: Any) -> FlowFileSystem:
    """Return what another process has: a file system that knows nothing yet."""
    fs = FlowFileSystem(server.endpoint, server.routes.token, ttl=ttl, **options)
    fs.ls("workflows")  # the routes are asked for once in a process
    server.asked.clear()
    return fs


def _sent(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def _asked(server: StandIn) -> list[str]:
    kinds = {"runs/": "run", "groups/": "listing"}
    return [
        "bytes" if "downloads" in asked.path else kinds[asked.path[1:].partition("/")[0] + "/"]
        for asked in server.asked
    ]


def test_a_path_that_was_found_is_read_elsewhere_with_one_request(server: StandIn) -> None:
    found = _here(server).glob(_PATTERN)
    sent = _sent(found)
    there = _elsewhere(server)
    assert {there.open(path).read() for path in sent} == {
        _DATA + b"%d,1\n" % number for number in range(3)
    }
    assert _asked(server) == ["bytes"] * 3


def test_it_is_read_so_by_an_open_file_too_however_often_it_is_sent_on(server: StandIn) -> None:
    url = f"flow://{server.endpoint.partition('://')[2]}/{_PATTERN}"
    options = {"token": server.routes.token, "ttl": 600}
    files = fsspec.open_files(url, "rt", **options)
    _elsewhere(server)
    for file in _sent(_sent(list(files))):
        file.fs = _elsewhere(server)
        with file as opened:
            assert opened.read().startswith("run,value")
        assert _asked(server) == ["bytes"]


def test_bytes_that_were_at_hand_go_along_and_the_listing_says_that_the_run_is_there(
    server: StandIn,
) -> None:
    here = _here(server)
    found = here.glob(_PATTERN)
    here.sizes(found)
    there = _elsewhere(server)
    sent = _sent(found)
    assert [there.cat_file(path) for path in sent] == [here.cat_file(path) for path in found]
    assert [there.open(path).read() for path in sent] == [here.cat_file(path) for path in found]
    assert there.cat_file(sent[0], 4, 9) == b"value"
    assert _asked(server) == ["listing"]


def test_only_so_many_bytes_go_along_with_all_paths_of_a_pattern(server: StandIn) -> None:
    for _ in range(97):
        server.routes.add_file(bytes(50_000), _NAME)
    here = _here(server)
    found = here.glob(_PATTERN)
    here.sizes(found)
    assert len(found) == 100
    assert len(pickle.dumps(found)) < 1 << 16
    there = _elsewhere(server)
    sizes = [len(there.open(path).read()) for path in _sent(found)]
    assert sizes.count(50_000) == 97
    assert sorted(set(_asked(server))) == ["bytes", "listing"]
    assert _asked(server).count("bytes") == 97


@pytest.mark.parametrize("asked_for_its_size", [False, True])
def test_a_run_that_was_deleted_meanwhile_is_not_found_elsewhere(
    server: StandIn, asked_for_its_size: bool
) -> None:
    here = _here(server)
    found = here.glob(_PATTERN)
    if asked_for_its_size:
        here.sizes(found)
    sent = _sent(found)
    server.routes.runs.clear()
    there = _elsewhere(server)
    with pytest.raises(NotFound) as caught:
        there.open(sent[0]).read()
    assert caught.value.filename == f"flow+{server.endpoint}/{found[0]}"


def test_what_is_kept_there_is_given_out_only_while_the_run_is_listed(server: StandIn) -> None:
    (path, *_) = _sent(_here(server).glob(_PATTERN))
    there = _elsewhere(server, ttl=0)
    there.cat_file(path)
    there.cat_file(path)
    assert _asked(server) == ["bytes", "listing"]
    server.routes.runs.clear()
    with pytest.raises(NotFound):
        there.cat_file(path)


def test_nothing_goes_along_where_the_token_does_not(server: StandIn) -> None:
    here = _here(server, pickle_token=False)
    found = here.glob(_PATTERN)
    here.sizes(found)
    assert {type(path) for path in found} == {str}


def test_a_service_is_told_nothing_of_anothers_files(server: StandIn) -> None:
    found = _sent(_here(server).glob(_PATTERN))
    with StandIn() as other:
        there = _elsewhere(other)
        with pytest.raises(NotFound):
            there.open(found[0]).read()
        assert all("downloads" not in asked.path for asked in other.asked)


def test_a_found_path_is_a_str_like_any_other(server: StandIn) -> None:
    here = _here(server)
    found = here.glob(_PATTERN)
    plain = [str(path) for path in found]
    assert {type(path) for path in found} == {FoundPath}
    assert {type(path) for path in plain} == {str}
    assert found == plain
    assert set(found) == set(plain)
    assert json.dumps(found) == json.dumps(plain)
    assert repr(found) == repr(plain)
    assert copy.deepcopy(found) == plain
    assert here.cat(found) == here.cat(plain)
    assert {type(path) for path in here.glob("groups/group-1/runs/*/handle.json")} == {str}
    assert {type(path) for path in here.glob("groups/group-1/latest/outputs/**")} == {str}


def test_nothing_goes_along_of_a_run_that_was_deleted_here(server: StandIn) -> None:
    here = _here(server)
    found = here.glob(_PATTERN)
    here.rm(found[0].partition("/outputs/")[0], recursive=True)
    assert [type(path) for path in _sent(found)] == [str, FoundPath, FoundPath]
    assert _sent(found) == found


def test_no_token_goes_along_with_a_path(server: StandIn) -> None:
    here = _here(server)
    found = here.glob(_PATTERN)
    here.sizes(found)
    assert server.routes.token.encode() not in pickle.dumps(found)


def test_a_reply_that_differs_in_size_from_what_went_along_is_no_file(server: StandIn) -> None:
    server.routes.add_file(bytes(100_000), "results/large.bin")
    here = _here(server)
    (found,) = here.glob("groups/group-1/runs/*/outputs/results/large.bin")
    assert here.info(found)["size"] == 100_000
    sent = _sent(found)
    server.on("GET", ".*/downloads/files/.*", Reply(200, bytes(90_000)))
    with pytest.raises(OSError, match="bytes"):
        _elsewhere(server).open(sent).read()


# -- pickles of other versions ---------------------------------------------


def _pickled(server: StandIn) -> tuple[Any, dict[str, Any]]:
    """Return a found path, and what makes it again: a function and what is told it."""
    here = _here(server)
    (path, *_) = here.glob(_PATTERN)
    here.info(path)
    _, (text, document) = path.__reduce__()
    assert text == path
    return path, document


def _there(server: StandIn, path: str) -> bytes:
    """Return what the service has at a path."""
    run = server.routes.runs[path.split("/")[3]]
    return bytes(server.routes.files[run["files"][0]["id"]])


def test_what_goes_along_is_plain_values_by_name(server: StandIn) -> None:
    path, document = _pickled(server)
    assert {type(value) for value in document.values()} == {str, int, bytes}
    assert {"endpoint", "group_id", "run_id", "file_id", "size", "data"} <= document.keys()
    (made, _) = path.__reduce__()
    # Pickles of other versions name it so.
    assert f"{made.__module__}.{made.__name__}" == "flowfs.filesystem.found._unpacked"


def test_what_a_newer_flowfs_sends_along_is_passed_over_where_it_is_not_known(
    server: StandIn,
) -> None:
    path, document = _pickled(server)
    newer = _unpacked(str(path), {**document, "colour": "blue", 7: None})
    there = _elsewhere(server)
    assert there.cat_file(newer) == _there(server, path)
    assert _asked(server) == ["listing"]


@pytest.mark.parametrize("missing", ["data", "size", "created", "name", "file_id", "run_id"])
def test_what_an_older_flowfs_does_not_send_along_is_asked_for(
    server: StandIn, missing: str
) -> None:
    path, document = _pickled(server)
    document = {name: value for name, value in document.items() if name != missing}
    there = _elsewhere(server)
    assert there.cat_file(_unpacked(str(path), document)) == _there(server, path)


@pytest.mark.parametrize(
    "document",
    [None, 3, (), ("a", "b"), {}, {"endpoint": 1}, {"size": "many"}, {"file_id": None}, [["a"]]],
)
def test_what_cannot_be_understood_leaves_the_path_as_it_is(server: StandIn, document: Any) -> None:
    path, known = _pickled(server)
    if isinstance(document, dict) and document:
        document = {**known, **document}
    made = _unpacked(str(path), document)
    assert (type(made), made) == (str, path)
    assert _elsewhere(server).cat_file(made) == _there(server, path)


# -- archives --------------------------------------------------------------


def test_archives_that_were_found_are_read_elsewhere_for_one_listing_and_one_request_each(
    server: StandIn,
) -> None:
    found = _here(server).glob("groups/group-1/runs/*/archive.tar.gz")
    there = _elsewhere(server)
    for path in _sent(found):
        with there.open(path) as file, tarfile.open(fileobj=file) as archive:
            assert archive.getnames() == [_NAME]
    kinds = [asked.path.rpartition("/")[2] for asked in server.asked]
    assert kinds == ["runs", "archive", "archive", "archive"]


def test_an_archive_of_a_run_that_was_deleted_meanwhile_is_not_found(server: StandIn) -> None:
    sent = _sent(_here(server).glob("groups/group-1/runs/*/archive.tar.gz"))
    there = _elsewhere(server, ttl=0)
    there.cat_file(sent[0])
    server.routes.runs.clear()
    for path in sent:
        with pytest.raises(NotFound):
            there.cat_file(path)
