"""The fast stand-in: what it holds is what it says, and it counts what it is asked.

That it answers as the service does is tested with the service, in `test_service_contract`.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import wire
from wire import Wire

LATENCY = 2.0


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wire") / "local.bin"
    path.write_bytes(b"a local file, " * 50_000)
    return path


@pytest.fixture(scope="module")
def started(local: Path) -> Iterator[Wire]:
    with Wire(big=3_000_000, paths=[local], runs=40, results=2, size=300) as server:
        yield server


@pytest.fixture
def server(started: Wire) -> Wire:
    started.reset()
    return started


def get(server: Wire, path: str, **headers: str) -> requests.Response:
    headers.setdefault("api_key", server.token)
    return requests.get(f"{server.endpoint}/{path}", headers=headers, timeout=30)


def test_runs_and_their_results_are_listed_and_have_distinct_bytes(server: Wire) -> None:
    listed = get(server, f"groups/{server.group}/runs").json()["runs"]
    assert [run["id"] for run in listed][:40] == server.runs
    assert [run["id"] for run in listed][40:] == [server.big.run, server.files[0].run]
    assert get(server, f"groups/{server.group}").json()["runs"] == listed
    handle = get(server, f"runs/{server.runs[1]}").json()
    assert handle["createdAt"] == listed[1]["createdAt"]
    results = server.results[2:4]
    assert [(file["id"], file["name"]) for file in handle["files"]] == [
        (result.id, result.name) for result in results
    ]
    bodies = [requests.get(result.url, timeout=30).content for result in server.results]
    assert [len(body) for body in bodies] == [300] * 80
    assert len(set(bodies)) == 80
    assert bodies == [server.expected(result) for result in server.results]


@pytest.mark.parametrize("span", [None, (0, 9), (1_000_000, 2_500_000), (2_999_999, None), (-7,)])
def test_the_big_result_is_sent_whole_and_in_parts(
    server: Wire, span: tuple[int, ...] | None
) -> None:
    first, last = 0, 2_999_999
    headers = {}
    if span:
        first, last = (span[0] % 3_000_000, 2_999_999) if len(span) < 2 else (span[0], span[1])
        last = 2_999_999 if last is None else last
        headers = {"Range": "bytes=" + "-".join("" if n is None else str(n) for n in span)}
        if len(span) < 2:
            headers = {"Range": f"bytes={span[0]}"}
    reply = requests.get(server.big.url, headers=headers, timeout=30)
    assert reply.status_code == (206 if span else 200)
    assert reply.content == server.expected(server.big, first, last + 1 - first)
    if span:
        assert reply.headers["Content-Range"] == f"bytes {first}-{last}/3000000"


def test_a_range_past_the_end_is_416(server: Wire) -> None:
    for result in (server.big, server.results[0]):
        headers = {"Range": f"bytes={result.size}-"}
        reply = requests.get(result.url, headers=headers, timeout=30)
        assert (reply.status_code, reply.content) == (416, b"")
        assert reply.headers["Content-Range"] == f"bytes */{result.size}"


def test_a_local_file_is_a_result(server: Wire, local: Path) -> None:
    (result,) = server.files
    assert requests.get(result.url, timeout=30).content == local.read_bytes()
    head = requests.head(result.url, timeout=30)
    assert (head.headers["Content-Length"], head.content) == (str(result.size), b"")
    part = requests.get(result.url, headers={"Range": "bytes=14-27"}, timeout=30)
    assert part.content == b"a local file, "


def test_the_same_files_are_behind_pages_of_links(server: Wire) -> None:
    page = requests.get(server.plain, timeout=30)
    assert page.headers["Content-Type"] == "text/html"
    assert page.text.count("<a href=") == 42
    page = requests.get(f"{server.plain}{server.runs[3]}/", timeout=30)
    assert '<a href="data-1.bin">' in page.text
    body = requests.get(f"{server.plain}{server.runs[3]}/data-1.bin", timeout=30).content
    assert body == server.expected(server.results[7])
    assert server.stats()["requests"] == {"plain:list": 2, "plain:file": 1}


def test_requests_and_bytes_are_counted_by_kind(server: Wire) -> None:
    with requests.Session() as session:
        for _ in range(3):
            session.get(server.results[0].url, timeout=30)
        session.head(server.big.url, timeout=30)
        session.get(server.big.url, timeout=30)
        session.get(f"{server.endpoint}/runs/{server.runs[0]}", timeout=30)
    stats = server.stats()
    kinds = {"runs:download:file": 4, "HEAD runs:download:file": 1, "runs:get": 1}
    assert stats["requests"] == kinds
    assert stats["bytes"]["runs:download:file"] == 3_000_900
    assert (stats["total"], stats["connections"], stats["at_once"]) == (6, 1, 1)
    server.reset()
    assert server.stats()["requests"] == {}


def test_requests_wait_for_their_latency_at_the_same_time(server: Wire) -> None:
    server.set_latency(LATENCY)
    urls = [result.url for result in server.results[:16]]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda url: requests.get(url, timeout=30), urls))
    server.set_latency(0)
    assert server.stats()["at_once"] > 8


def test_a_deleted_run_is_gone_from_the_listing(local: Path) -> None:
    with Wire(runs=3) as server:
        headers = {"api_key": server.token}
        url = f"{server.endpoint}/runs/{server.runs[1]}"
        assert requests.delete(url, headers=headers, timeout=30).status_code == 204
        assert get(server, f"runs/{server.runs[1]}").status_code == 404
        listed = get(server, f"groups/{server.group}/runs").json()["runs"]
        assert [run["id"] for run in listed] == [server.runs[0], server.runs[2]]


def test_a_request_in_pieces_and_two_at_once_are_answered_in_order(server: Wire) -> None:
    host = server.origin.rpartition("/")[2]
    path = server.results[0].url.removeprefix(server.origin)
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.connect()
    one = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    two = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    connection.sock.sendall(one[:20])
    connection.sock.sendall(one[20:] + two)
    said = b"".join(iter(lambda: connection.sock.recv(1 << 16), b""))
    connection.close()
    assert said.count(server.expected(server.results[0])) == 2


def test_the_command_serves_until_its_input_ends() -> None:
    done = subprocess.run(
        [sys.executable, wire.__file__, "--runs", "2", "--until-eof"],
        input="",
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0
    assert '"endpoint": "http://127.0.0.1:' in done.stdout
