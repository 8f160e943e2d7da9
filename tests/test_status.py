"""What the program tells of itself: errors, figures, versions, without a request."""

from __future__ import annotations

import errno
import json
import os
import platform
import threading
import time
from importlib.metadata import version
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standin import Reply, StandIn
from world import World, counted

import flowfs
from flowfs import (
    AccessDenied,
    FlowFileSystem,
    NotFound,
    NotPermitted,
    ServiceBusy,
    ServiceDescriptor,
)
from flowfs.embedded import EmbeddedService
from flowfs.errors import BadReply, FlowError, failure
from flowfs.service.descriptor import ForeignDescriptor
from flowfs.service.journal import Journal
from flowfs.service.statistics import Latencies, Statistics, kind_of

# -- the journal -----------------------------------------------------------


def lines(journal: Journal) -> list[list[str]]:
    return [line.split("\t") for line in journal.text().splitlines()]


def test_a_line_has_time_operation_path_errno_and_message() -> None:
    journal = Journal()
    before = time.time()
    journal.record("unlink", "groups/G/runs/new", failure(NotPermitted, "cannot be removed"))
    ((at, *rest),) = lines(journal)
    assert rest == ["unlink", "groups/G/runs/new", "EPERM", "cannot be removed"]
    told = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before))
    assert told <= at <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def test_the_same_error_again_is_counted_and_another_ends_the_count() -> None:
    journal = Journal()
    one, other = failure(BadReply, "broken"), failure(BadReply, "short")
    for error in (one, one, one, other, one):
        journal.record("read", "groups", error)
    assert [line[-1] for line in lines(journal)] == ["broken (3 times)", "short", "broken"]


def test_the_journal_is_bounded_and_keeps_the_newest() -> None:
    journal = Journal()
    for number in range(2000):
        journal.record("read", f"groups/{number}", failure(BadReply, "x" * 100_000))
    kept = lines(journal)
    assert len(kept) == 500
    assert kept[-1][2] == "groups/1999"
    assert len(journal.text()) < 500 * 3000


@pytest.mark.parametrize(
    "number",
    [errno.ENOENT, errno.ENODATA, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY],
)
def test_what_happens_all_the_time_is_no_news(number: int) -> None:
    journal = Journal()
    journal.record("getattr", "groups", failure(FlowError, "as always", errno=number))
    assert journal.text() == ""
    assert journal.latest is None


def test_an_error_without_an_errno_is_eio_and_has_words() -> None:
    journal = Journal()
    journal.record("read", "groups", ZeroDivisionError())
    journal.record("read", "groups", OSError("text alone"))
    journal.record("read", "groups", failure(FlowError, "strange", errno=99999))
    assert [line[3:] for line in lines(journal)] == [
        ["EIO", "ZeroDivisionError"],
        ["EIO", "text alone"],
        ["99999", "strange"],
    ]


@given(st.text(), st.text())
def test_no_text_speaks_to_the_terminal_or_makes_a_line_of_its_own(path: str, said: str) -> None:
    journal = Journal()
    journal.record("read", path, failure(BadReply, said or "nothing"))
    text = journal.text()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert text.count("\t") == 4
    assert all(c.isprintable() for c in text if c not in "\t\n")


def test_control_characters_stay_readable() -> None:
    journal = Journal()
    journal.record("create", "uploads/\x1b[31mred\nline", failure(NotPermitted, "no"))
    assert lines(journal)[0][2] == "uploads/\\x1b[31mred\\nline"


def test_the_token_is_in_no_line() -> None:
    journal = Journal({"the-token"})
    journal.record("read", "groups/the-token", failure(BadReply, "bad the-token here"))
    assert "the-token" not in journal.text()
    assert "bad ... here" in journal.text()


def test_who_speaks_for_an_error_records_it_alone() -> None:
    journal = Journal()
    error = failure(BadReply, "broken")
    with journal.spoken_for():
        journal.failed("GET runs:get", "runs/R", error)
    assert journal.text() == ""
    journal.failed("GET runs:get", "runs/R", error)
    assert len(lines(journal)) == 1


# -- figures ---------------------------------------------------------------


@given(st.lists(st.floats(0.0001, 1000), min_size=1, max_size=200))
def test_percentiles_are_told_to_a_tenth(durations: list[float]) -> None:
    latencies = Latencies()
    for seconds in durations:
        latencies.add(seconds)
    exact = sorted(durations)
    figures = latencies.document()
    assert figures["count"] == len(durations)
    assert figures["mean"] == pytest.approx(sum(durations) / len(durations), rel=1e-3, abs=1e-6)
    assert figures["max"] == pytest.approx(exact[-1], abs=1e-6)
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        rank = exact[max(0, -(-int(share * 100) * len(exact) // 100) - 1)]
        assert figures[name] == pytest.approx(rank, rel=0.06, abs=2e-6)


def test_a_million_durations_take_no_more_room_than_a_thousand() -> None:
    latencies = Latencies()
    for number in range(100_000):
        latencies.add((number % 9973) ** 2 / 1e5)
    latencies.add(1e9)
    latencies.add(0)
    assert len(latencies._classes) <= 202
    assert latencies.document()["max"] == 1e9


def test_no_request_is_lost_however_many_threads_count() -> None:
    statistics = Statistics()

    def count() -> None:
        for _ in range(2000):
            statistics.count("GET runs:get", 0.01, sent=2)
            statistics.received("GET runs:get", 3)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    figures = statistics.document()["GET runs:get"]
    assert figures["count"] == figures["seconds"]["count"] == 16_000
    assert (figures["bytes_sent"], figures["bytes_received"]) == (32_000, 48_000)


def test_kinds_that_nobody_foresaw_do_not_fill_the_memory() -> None:
    statistics = Statistics()
    for number in range(1000):
        statistics.count(f"GET strange:{number}", 0.01)
    figures = statistics.document()
    assert len(figures) <= 101
    assert sum(one["count"] for one in figures.values()) == 1000


class Foreign:
    """A descriptor as flowServ's own: plain text for a URL."""

    def urls(self, key: str, **kwargs: str) -> str:
        return f"http://localhost/{key}/{'/'.join(kwargs.values())}"


@pytest.mark.parametrize(
    "descriptor", [ServiceDescriptor("http://localhost"), ForeignDescriptor(Foreign())]
)
def test_a_request_is_counted_by_its_method_and_route(
    descriptor: ServiceDescriptor | ForeignDescriptor,
) -> None:
    url = descriptor.urls("runs:get", runId="R")
    assert kind_of("DELETE", url) == "DELETE runs:get"
    assert kind_of("GET", str(url)) == "GET other"


def test_every_attempt_is_counted_and_only_the_last_failure_is_kept() -> None:
    with StandIn() as server:
        fs = FlowFileSystem(server.endpoint, server.routes.token, retries=2, ttl=600)
        server.on("GET", "/groups/group-1", Reply(503), Reply(503), None)
        fs.info("groups/group-1")
        figures = statistics(fs)["requests"]["GET groups:get"]
        assert (figures["count"], figures["failures"]) == (3, 2)
        assert fs.cat(".flowfs/errors") == b""
        fs.invalidate_cache()
        server.on("GET", "/groups/group-1", Reply(503, {"message": "full up"}))
        with pytest.raises(ServiceBusy):
            fs.info("groups/group-1")
        (line,) = fs.cat(".flowfs/errors").decode().splitlines()
        assert line.split("\t")[1:4] == ["GET groups:get", "groups/group-1", "EAGAIN"]
        assert "full up" in line


def test_where_nothing_answers_that_is_a_failure_too() -> None:
    with StandIn() as server:
        endpoint = server.endpoint
    fs = FlowFileSystem(endpoint, "token", retries=0)
    with pytest.raises(ConnectionError):
        fs.ls("groups")
    assert statistics(fs)["requests"]["GET service"]["failures"] == 1
    (line,) = fs.cat(".flowfs/errors").decode().splitlines()
    assert line.split("\t")[1] == "GET service"
    assert line.split("\t")[3] == "ECONNREFUSED"


# -- in the tree -----------------------------------------------------------


@pytest.fixture(scope="module")
def world(service: EmbeddedService) -> World:
    return World(service)


def statistics(fs: FlowFileSystem) -> dict[str, dict[str, dict[str, int]]]:
    document: dict[str, dict[str, dict[str, int]]] = json.loads(fs.cat(".flowfs/stats.json"))
    return document


def test_the_status_costs_no_request_not_even_the_first(world: World) -> None:
    fs = world.fs()
    with counted() as requests:
        assert fs.ls(".flowfs", detail=False) == [
            ".flowfs/errors",
            ".flowfs/stats.json",
            ".flowfs/version",
        ]
        fs.cat([".flowfs/errors", ".flowfs/stats.json", ".flowfs/version"])
        assert fs.isdir(".flowfs")
        assert fs.isfile(".flowfs/errors")
        assert fs.exists(".flowfs/version")
        assert not fs.exists(".flowfs/token")
        assert fs.info(".flowfs/version")["size"] == len(fs.cat(".flowfs/version"))
    assert requests.made == []


def test_nothing_that_lists_meets_the_status_directory(world: World) -> None:
    fs = world.fs()
    assert fs.ls("", detail=False) == ["groups", "workflows"]
    assert fs.glob("*") == ["groups", "workflows"]
    assert fs.glob(".*") == []
    assert not any(".flowfs" in path for path in fs.find("", maxdepth=2, withdirs=True))
    assert next(iter(fs.walk("")))[1] == ["groups", "workflows"]
    assert fs.glob(".flowfs/*.json") == [".flowfs/stats.json"]
    assert len(fs.find(".flowfs")) == 3


def test_the_status_has_urls_like_any_place(world: World) -> None:
    with fsspec.open(world.url(".flowfs/version"), "rt", **world.options()) as file:
        assert file.read().startswith(f"flowfs {flowfs.__version__}\n")


def test_the_status_is_copied_whole(world: World, tmp_path: Path) -> None:
    fs = world.fs()
    fs.get(".flowfs/", str(tmp_path / "copy"), recursive=True)
    assert sorted(file.name for file in (tmp_path / "copy").iterdir()) == [
        "errors",
        "stats.json",
        "version",
    ]
    assert json.loads((tmp_path / "copy" / "stats.json").read_text())["process"]["id"]


def test_the_version_names_what_is_known(world: World) -> None:
    fs = world.fs()
    first = fs.cat(".flowfs/version").decode()
    assert f"Python {platform.python_version()}\n" in first
    assert f"fsspec {version('fsspec')}\n" in first
    assert "fusepy" not in first
    assert "service" not in first  # nobody has asked it yet
    fs.ls(world.group)
    told = world.rest.get("")
    assert f"service {told['name']} {told['version']}\n" in fs.cat(".flowfs/version").decode()


def test_requests_are_counted_by_kind_with_their_bytes(world: World) -> None:
    fs = world.fs()
    handle = world.succeeded()
    assert statistics(fs)["requests"] == {}
    fs.cat(f"{world.run(handle)}/handle.json")
    body = fs.cat(world.result(handle))
    fs.pipe(f"{world.uploads}/counted.txt", b"x" * 70_000)
    with pytest.raises(NotFound):
        fs.ls(f"{world.group}/runs/nowhere")
    requests = statistics(fs)["requests"]
    assert requests["GET runs:download:file"]["bytes_received"] == len(body)
    assert requests["GET runs:download:file"]["count"] == 1
    assert requests["POST files:upload"]["bytes_sent"] > 70_000
    assert requests["GET runs:get"]["failures"] == 1
    assert requests["GET service"]["count"] == 1
    seconds = requests["GET runs:download:file"]["seconds"]
    assert 0 < seconds["p50"] <= seconds["p95"] <= seconds["max"]  # type: ignore[index]


def test_caches_tell_what_they_had_and_what_they_fetched(world: World) -> None:
    fs = world.fs()
    handle = world.succeeded()
    for _ in range(3):
        fs.cat(f"{world.run(handle)}/handle.json")
        fs.cat(world.result(handle))
    caches = statistics(fs)["caches"]
    assert caches["runs"]["misses"] == 1
    assert caches["runs"]["hits"] >= 2
    assert caches["runs"]["kept"] == 1
    assert (caches["small files"]["misses"], caches["small files"]["hits"]) == (1, 2)
    fs.cat(f"{world.run(handle)}/archive.tar.gz")
    fs.cat(f"{world.run(handle)}/archive.tar.gz")
    assert statistics(fs)["caches"]["archives"] == {"hits": 1, "misses": 1, "kept": 1}


def test_the_process_is_told(world: World) -> None:
    document = json.loads(world.fs().cat(".flowfs/stats.json"))
    process = document["process"]
    assert process["id"] == os.getpid()
    assert process["threads"] >= 1
    assert process["open_files"] > 3
    assert process["memory_bytes"] > 1 << 20
    assert document["since"] <= document["now"]


def test_what_the_service_refuses_is_in_the_errors_without_the_token(world: World) -> None:
    fs = world.fs(token="a-wrong-token")
    for _ in range(2):
        with pytest.raises(AccessDenied):
            fs.ls(f"{world.group}/runs")
    text = fs.cat(".flowfs/errors").decode()
    (line,) = text.splitlines()
    assert "\tGET groups:runs\t" in line
    assert "\tEACCES\t" in line
    assert "not authorized" in line
    assert line.endswith("(2 times)")
    assert "a-wrong-token" not in text
    assert fs.info(".flowfs/errors")["mtime"] == pytest.approx(time.time(), abs=60)


def test_what_is_not_there_is_no_news(world: World) -> None:
    fs = world.fs()
    assert not fs.exists(f"{world.group}/runs/nowhere")
    assert fs.cat(".flowfs/errors") == b""


def test_nothing_is_written_or_removed_there(world: World) -> None:
    fs = world.fs()
    with pytest.raises(NotPermitted):
        fs.pipe(".flowfs/errors", b"nothing happened")
    with pytest.raises(NotPermitted):
        fs.pipe(".flowfs/mine", b"x")
    with pytest.raises(NotPermitted):
        fs.rm(".flowfs/errors")
    with pytest.raises(NotPermitted):
        fs.rm(".flowfs", recursive=True)
