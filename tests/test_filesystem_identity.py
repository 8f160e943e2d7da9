"""Which service and user a file system is of: URLs, options, tokens, instances."""

from __future__ import annotations

import json
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.core import url_to_fs
from hypothesis import given
from hypothesis import strategies as st
from standin import StandIn
from world import World, counted

from flowfs import AccessDenied, FlowError, FlowFileSystem
from flowfs.embedded import EmbeddedService
from flowfs.filesystem.urls import PROTOCOLS, parse_url

# Of plain http to elsewhere there is a warning, which has tests of its own.
pytestmark = pytest.mark.filterwarnings("ignore:what is sent to an http:UserWarning")

ROOT = "/flowserv/api/v1"


@pytest.fixture(scope="module")
def world(service: EmbeddedService) -> World:
    world = World(service)
    world.succeeded()
    return world


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


def host_of(endpoint: str) -> str:
    return endpoint.partition("://")[2].partition("/")[0]


# -- URLs ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "endpoint", "path"),
    [
        ("flow://host/groups/G", f"https://host{ROOT}", "groups/G"),
        ("flow://host:8080/groups/G", f"https://host:8080{ROOT}", "groups/G"),
        ("flow://host", f"https://host{ROOT}", ""),
        ("flow://host/", f"https://host{ROOT}", ""),
        ("flow://host/groups", f"https://host{ROOT}", "groups"),
        ("flow://host/workflows/W/", f"https://host{ROOT}", "workflows/W"),
        ("flow://host/my/api/groups/G", "https://host/my/api", "groups/G"),
        ("flow://host/my/api/workflows", "https://host/my/api", "workflows"),
        ("flow://host/my/api", "https://host/my/api", ""),
        ("flow://host/my/api/", "https://host/my/api", ""),
        ("flow://host/api/groups/workflows/runs", "https://host/api", "groups/workflows/runs"),
        ("flow+http://host/groups/G", f"http://host{ROOT}", "groups/G"),
        ("flow+https://host/groups/G", f"https://host{ROOT}", "groups/G"),
        ("flow+https://localhost/groups/G", f"https://localhost{ROOT}", "groups/G"),
        ("flow://localhost:5000/groups/G", f"http://localhost:5000{ROOT}", "groups/G"),
        ("flow://127.0.0.1/groups/G", f"http://127.0.0.1{ROOT}", "groups/G"),
        ("flow://127.1.2.3:80/groups/G", f"http://127.1.2.3{ROOT}", "groups/G"),
        ("flow://[::1]:5000/groups/G", f"http://[::1]:5000{ROOT}", "groups/G"),
        ("flow://[2001:db8::1]/api/groups/G", "https://[2001:db8::1]/api", "groups/G"),
        ("flow+http://[2001:db8::1]:81/groups", f"http://[2001:db8::1]:81{ROOT}", "groups"),
        ("flow://HOST:443/groups/G", f"https://host{ROOT}", "groups/G"),
        ("flow+http://Host:80//api//groups//G/", "http://host/api", "groups/G"),
        ("flow:///groups/G", None, "groups/G"),
        ("flow://groups/G", None, "groups/G"),
        ("flow://workflows/W", None, "workflows/W"),
        ("flow://", None, ""),
        ("flow:///", None, ""),
        ("groups/G", None, "groups/G"),
        ("/groups/G/", None, "groups/G"),
        ("groups/G/uploads/a://b", None, "groups/G/uploads/a:/b"),
    ],
)
def test_a_url_says_the_service_and_the_path(url: str, endpoint: str | None, path: str) -> None:
    location = parse_url(url)
    assert (location.endpoint(), location.path) == (endpoint, path)
    assert FlowFileSystem._strip_protocol(url) == path
    fs = fsspec.filesystem("flow", **FlowFileSystem._get_kwargs_from_urls(url))
    assert fs.endpoint == (endpoint or f"http://localhost:5000{ROOT}")


@pytest.mark.parametrize(
    "url",
    [
        "http://host/groups/G",
        "s3://bucket/x",
        "flow+http:///groups/G",
        "flow+https://",
        "flow://user:secret@host/groups/G",
        "flow://host:notaport/groups/G",
        "flow://host/api?x=1/groups/G",
    ],
)
def test_a_url_that_is_none_is_a_value_error_without_secrets(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_url(url).endpoint()
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError):
        FlowFileSystem(**FlowFileSystem._get_kwargs_from_urls(url))


@pytest.mark.parametrize(
    ("url", "option"),
    [
        ("flow://host/groups", f"https://host{ROOT}"),
        ("flow://host/groups", f"https://host{ROOT}/"),
        ("flow://host/groups", "https://host"),
        ("flow://host/groups", "https://HOST:443/"),
        ("flow://host/groups", f"http://host{ROOT}"),  # the option says the scheme
        ("flow://host:5000/api/groups", "http://host:5000/api/"),
        ("flow+http://host/groups", f"http://host:80{ROOT}"),
        ("flow+https://host/api/groups", "https://host/api"),
        ("flow://localhost/groups", f"http://localhost{ROOT}"),
        ("flow://localhost/groups", f"https://localhost{ROOT}"),
        ("flow:///groups", "https://host/any"),
        ("flow://groups", "https://host/any"),
    ],
)
def test_url_and_option_may_say_the_same_endpoint_twice(url: str, option: str) -> None:
    fs, path = url_to_fs(url, endpoint=option)
    assert path == "groups"
    assert fs.endpoint == FlowFileSystem(option).endpoint


@pytest.mark.parametrize(
    ("url", "option"),
    [
        ("flow://host/groups", f"https://other{ROOT}"),
        ("flow://host/groups", f"https://host:8443{ROOT}"),
        ("flow://host/groups", "https://host/api"),
        ("flow://host/api/groups", "https://host"),
        ("flow+http://host/groups", f"https://host{ROOT}"),
        ("flow+https://localhost/groups", f"http://localhost{ROOT}"),
        ("flow://localhost:5000/groups", f"http://127.0.0.1:5000{ROOT}"),
    ],
)
def test_a_difference_between_url_and_option_is_a_value_error(url: str, option: str) -> None:
    with pytest.raises(ValueError, match="the URL is of"):
        url_to_fs(url, endpoint=option)


def test_a_url_of_another_service_is_a_value_error_for_an_instance() -> None:
    fs = FlowFileSystem("https://host/api")
    same = "flow://host/api/groups/G/runs/R"
    assert fs._strip_protocol(same) == "groups/G/runs/R"
    assert fs._strip_protocol([same, "groups/G"]) == ["groups/G/runs/R", "groups/G"]
    other = "flow://elsewhere/api/groups/G/runs/R"
    for act in (fs.ls, fs.info, fs.cat, fs.open, fs.exists, fs.rm, fs.find, fs.glob, fs.sign):
        with pytest.raises(ValueError, match="make another FlowFileSystem for it"):
            act(other)
    with pytest.raises(ValueError):
        fs.cat([same, other])
    with pytest.raises(ValueError):
        fs.pipe(other, b"x")
    assert FlowFileSystem._strip_protocol(other) == "groups/G/runs/R"


ENDPOINTS = ["https://host/api", f"http://127.0.0.1:5000{ROOT}", "http://[::1]:81/a/b"]
NAMES = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1)


@given(
    st.sampled_from(ENDPOINTS),
    st.sampled_from(["groups", "workflows"]),
    st.lists(NAMES.filter(lambda name: name not in (".", "..")), max_size=5),
)
def test_full_urls_lead_back_to_the_path(endpoint: str, top: str, names: list[str]) -> None:
    fs = FlowFileSystem(endpoint)
    path = "/".join([top, *names])
    url = fs.unstrip_protocol(path)
    assert url == f"flow+{endpoint.replace('::', '0:0:0:0:0:0:0:')}/{path}"
    assert fs._strip_protocol(url) == path
    assert fs.unstrip_protocol(url) == url
    assert parse_url(url).endpoint() == endpoint
    assert fs._strip_protocol(path) == path


@given(st.text())
def test_any_text_is_a_path_or_a_value_error(text: str) -> None:
    for url in (text, f"flow://{text}", f"flow+http://{text}"):
        try:
            once = FlowFileSystem._strip_protocol(url)
        except ValueError:
            continue
        assert not once.startswith("/")
        assert not once.endswith("/")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_fsspec_finds_the_protocols_by_entry_point(protocol: str) -> None:
    (found,) = [e for e in entry_points(group="fsspec.specs") if e.name == protocol]
    assert found.value.replace(":", ".") == "flowfs.FlowFileSystem"
    assert fsspec.get_filesystem_class(protocol) is FlowFileSystem


@pytest.mark.parametrize("protocol", ["flow", "flow+http"])
def test_fsspec_reads_by_url(world: World, protocol: str) -> None:
    url = world.url(f"{world.group}/uploads/names.txt", protocol)
    with fsspec.open(url, **world.options()) as file:
        assert file.read().startswith(b"Ada\n")
    fs, path = url_to_fs(url, **world.options())
    assert (fs.endpoint, path) == (world.endpoint, f"{world.group}/uploads/names.txt")
    (one,) = fsspec.open_files(world.url(f"{world.group}/uploads/*", protocol), **world.options())
    assert one.full_name == world.url(f"{world.group}/uploads/names.txt")
    mapper = fs.get_mapper(f"{world.group}/uploads")
    assert mapper["names.txt"].startswith(b"Ada")


def test_an_instance_takes_full_urls_of_its_own_service(world: World) -> None:
    fs = world.fs()
    for protocol in ("flow", "flow+http"):
        url = world.url(world.group, protocol)
        assert fs.ls(url, detail=False) == fs.ls(world.group, detail=False)
        assert fs.info(url)["name"] == world.group


# -- where nothing is said -------------------------------------------------


def test_the_environment_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FlowFileSystem().endpoint == f"http://localhost:5000{ROOT}"
    monkeypatch.setenv("FLOWSERV_API_HOST", "flow.example.org")
    assert FlowFileSystem(skip_instance_cache=True).endpoint == (
        f"http://flow.example.org:5000{ROOT}"
    )
    monkeypatch.setenv("FLOWSERV_API_PROTOCOL", "https")
    monkeypatch.setenv("FLOWSERV_API_PORT", "8443")
    monkeypatch.setenv("FLOWSERV_API_PATH", "/api")
    fs = fsspec.filesystem("flow", skip_instance_cache=True)
    assert fs.endpoint == "https://flow.example.org:8443/api"
    # A plain URL of that host takes the scheme that the environment says.
    monkeypatch.setenv("FLOWSERV_API_PROTOCOL", "http")
    fs, _ = url_to_fs("flow://flow.example.org:8443/api/groups", skip_instance_cache=True)
    assert fs.endpoint == "http://flow.example.org:8443/api"


def point_environment_at(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    host, _, port = host_of(endpoint).rpartition(":")
    monkeypatch.setenv("FLOWSERV_API_HOST", host)
    monkeypatch.setenv("FLOWSERV_API_PORT", port)


def test_the_environments_token_goes_to_the_service_that_it_names(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWSERV_ACCESS_TOKEN", server.routes.token)
    point_environment_at(monkeypatch, server.endpoint)
    fs = FlowFileSystem(skip_instance_cache=True)
    assert fs.exists("groups/group-1")
    assert server.requests("GET", "/groups/group-1")[0].headers["api_key"] == server.routes.token


def test_the_environments_token_goes_nowhere_else_and_the_error_says_what_to_set(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWSERV_ACCESS_TOKEN", server.routes.token)
    fs = FlowFileSystem(server.endpoint, skip_instance_cache=True)
    with pytest.raises(AccessDenied, match="FLOWSERV_API_HOST") as caught:
        fs.ls("groups/group-1/runs")
    assert all("api_key" not in asked.headers for asked in server.asked)
    assert server.routes.token not in str(caught.value)


def test_fsspecs_own_environment_is_read(server: StandIn) -> None:
    token = "1234567890"  # read as JSON it is a number
    server.routes.tokens.add(token)
    code = (
        "import fsspec; fs = fsspec.filesystem('flow'); "
        "print(fs.endpoint, fs._options.ttl, fs.ls('groups/group-1/runs', detail=False))"
    )
    environment = {
        **os.environ,
        "FSSPEC_FLOW_ENDPOINT": server.endpoint,
        "FSSPEC_FLOW_TOKEN": token,
        "FSSPEC_FLOW_TTL": "7",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f"{server.endpoint} 7.0 ['groups/group-1/runs/new']\n", done.stderr


def save_logins(tokens: dict[str, str], mode: int = 0o600) -> Path:
    path = Path(os.environ["XDG_CONFIG_HOME"]) / "flowfs" / "logins.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"tokens": tokens}))
    path.chmod(mode)
    return path


def test_a_saved_login_is_taken_for_its_service(server: StandIn) -> None:
    save_logins({server.endpoint: server.routes.token})
    # The only one that is known needs not be named.
    for fs in (
        FlowFileSystem(skip_instance_cache=True),
        FlowFileSystem(server.endpoint, skip_instance_cache=True),
        fsspec.filesystem("flow", url_endpoint=f"flow://{host_of(server.endpoint)}"),
    ):
        assert fs.endpoint == server.endpoint
        assert fs.exists("groups/group-1")
    other = FlowFileSystem(f"{server.origin}/other/root", skip_instance_cache=True)
    assert other._shared.session.credentials.token is None


def test_of_several_logins_none_is_taken_unnamed(server: StandIn) -> None:
    save_logins({server.endpoint: "a", "https://host/api": "b"})
    assert FlowFileSystem(skip_instance_cache=True).endpoint == f"http://localhost:5000{ROOT}"


def test_logins_that_others_can_read_are_refused() -> None:
    path = save_logins({"https://host/api": "a"}, mode=0o644)
    with pytest.raises(AccessDenied, match="chmod 600") as caught:
        FlowFileSystem("https://host/api", skip_instance_cache=True)
    assert caught.value.filename == str(path)


# -- the token -------------------------------------------------------------


SECRET = "very-secret-token-0123456789"


def test_a_token_is_shown_nowhere(caplog: pytest.LogCaptureFixture, server: StandIn) -> None:
    caplog.set_level(logging.DEBUG)
    for fs in (
        FlowFileSystem(server.endpoint, SECRET),
        FlowFileSystem(server.endpoint, token=SECRET),
        FlowFileSystem(endpoint=server.endpoint, token=SECRET, read_only=True),
    ):
        shown = [repr(fs), str(fs), fs.to_json(), str(fs.to_dict()), fs._fs_token, str(hash(fs))]
        shown.append(repr(fs._shared.session.credentials))
        with pytest.raises(AccessDenied) as caught:
            fs.ls("groups/group-1/runs")
        shown += [str(caught.value), repr(caught.value)]
        shown += [fs.unstrip_protocol("groups/G"), fs.ukey("groups")]
        assert not [text for text in shown if SECRET in text]
    assert SECRET not in caplog.text


def test_json_makes_the_instance_again_but_for_the_token(server: StandIn) -> None:
    fs = FlowFileSystem(server.endpoint, SECRET, ttl=5)
    again = FlowFileSystem.from_json(fs.to_json())
    assert (again.endpoint, again._options.ttl) == (server.endpoint, 5)
    assert again._shared.session.credentials.token is None
    assert FlowFileSystem.from_dict(fs.to_dict()) == again


def test_a_pickled_instance_works_in_another_process(world: World) -> None:
    fs = world.fs(ttl=3)
    code = (
        "import pickle, sys; fs = pickle.load(sys.stdin.buffer); "
        f"print(fs.cat({world.group + '/uploads/names.txt'!r})[:3], fs._options.ttl)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(fs), capture_output=True, timeout=60
    )
    assert done.stdout == b"b'Ada' 3.0\n", done.stderr.decode()


def test_a_pickle_carries_what_was_found_on_this_machine(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWSERV_ACCESS_TOKEN", server.routes.token)
    point_environment_at(monkeypatch, server.endpoint)
    fs = FlowFileSystem(skip_instance_cache=True)
    by_url, _ = url_to_fs(f"flow://{host_of(server.endpoint)}/groups", skip_instance_cache=True)
    data = [pickle.dumps(one) for one in (fs, by_url)]
    for name in ("FLOWSERV_ACCESS_TOKEN", "FLOWSERV_API_HOST", "FLOWSERV_API_PORT"):
        monkeypatch.delenv(name)
    for one in data:
        again = pickle.loads(one)
        assert again == fs
        assert again.endpoint == server.endpoint
        assert again.exists("groups/group-1")


def test_a_pickled_open_file_reads_on(world: World) -> None:
    opened = fsspec.open(world.url(f"{world.group}/uploads/names.txt"), **world.options())
    with pickle.loads(pickle.dumps(opened)) as file:
        assert file.read(3) == b"Ada"


# -- instances -------------------------------------------------------------


def test_instances_are_equal_across_threads_and_share_what_is_known(world: World) -> None:
    fs = world.fs()
    options = {"token": world.token, "timeout": fs._options.timeout, "ttl": fs._options.ttl}
    made: list[FlowFileSystem] = []
    thread = threading.Thread(target=lambda: made.append(FlowFileSystem(world.endpoint, **options)))
    thread.start()
    thread.join()
    (other,) = made
    assert other is not fs
    assert other == fs
    assert hash(other) == hash(fs)
    assert other._shared is fs._shared
    by_url, _ = url_to_fs(world.url("groups"), **options)
    assert by_url == fs


@pytest.mark.parametrize(
    ("written", "endpoint"),
    [
        ("[0:0:0:0:0:0:0:1]:5000", f"http://[::1]:5000{ROOT}"),
        ("[2001:DB8:0:0:0:0:0:1]/api", "https://[2001:db8::1]/api"),
        ("[fe80:0:0:0:1:0:0:1]", f"https://[fe80::1:0:0:1]{ROOT}"),
    ],
)
def test_an_ipv6_address_that_is_written_out_goes_through_fsspec_and_back(
    written: str, endpoint: str
) -> None:
    # fsspec takes '::' for the seam of a chained URL, brackets or not.
    fs, path = url_to_fs(f"flow://{written}/groups/G")
    assert (fs.endpoint, path) == (endpoint, "groups/G")
    assert fs == FlowFileSystem(endpoint)
    full = fs.unstrip_protocol(path)
    assert "::" not in full
    again, path = url_to_fs(full)
    assert (again, path) == (fs, "groups/G")
    file = fsspec.open(f"simplecache::{full}/group.json")
    assert file.fs.fs == fs


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint": "https://other/api"},
        {"token": "other"},
        {"token": None},
        {"ttl": 1},
        {"read_only": True},
        {"verify": False},
        {"cache_size": 0},
        {"cache_dir": "/tmp"},
    ],
)
def test_instances_that_differ_are_not_equal(options: dict[str, Any]) -> None:
    base = {"endpoint": "https://host/api", "token": "x"}
    assert FlowFileSystem(**base) != FlowFileSystem(**{**base, **options})


def test_dask_tokens_are_the_same_in_every_process(world: World) -> None:
    pytest.importorskip("dask")
    code = (
        "from dask.base import tokenize; from flowfs import FlowFileSystem; "
        f"print(tokenize(FlowFileSystem({world.endpoint!r}, 'secret')), "
        f"tokenize(FlowFileSystem({world.endpoint!r}, 'other')))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
        )
        for seed in ("1", "2")
    ]
    assert outputs[0].stdout == outputs[1].stdout != "", outputs[0].stderr
    first, second = outputs[0].stdout.split()
    assert first != second


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"endpoint": "host"}, "not an endpoint"),
        ({"endpoint": "ftp://host"}, "not an endpoint"),
        ({"endpoint": "https://user:secret@host/api"}, "no user name or password"),
        ({"endpoint": "https://host/api?x"}, r"no '\?'"),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": -1}, "timeout must be"),
        ({"timeout": "soon"}, "timeout must be"),
        ({"timeout": float("inf")}, "timeout must be"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"retries": -1}, "retries must be"),
        ({"retries": 1.5}, "retries must be a whole number"),
        ({"retries": float("inf")}, "retries must be"),
        ({"ttl": -1}, "ttl must be"),
        ({"ttl": None}, "ttl must be"),
        ({"max_connections": 0}, "max_connections must be"),
        ({"max_connections": 0.5}, "max_connections must be a whole number"),
        ({"cache_size": -1}, "cache_size must be"),
        ({"cache_size": "much"}, "cache_size must be"),
        ({"token": "line\nbreak"}, "no access token"),
        ({"token": "schlüssel"}, "no access token"),
    ],
)
def test_options_that_make_no_sense_are_value_errors(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        FlowFileSystem(**{"endpoint": "https://host/api", **options})
    assert "secret" not in str(caught.value)
    assert "schlüssel" not in str(caught.value)


def test_options_may_be_text_as_from_a_configuration() -> None:
    fs = FlowFileSystem("https://host/api", timeout="30", retries="2", ttl="0.5", cache_size="9")
    assert (fs._options.timeout, fs._options.retries, fs._options.ttl) == (30, 2, 0.5)
    assert fs.content.room.size == 9


def test_a_cache_directory_is_made_travels_in_pickles_and_is_refused_if_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fs = FlowFileSystem("https://host/api", cache_dir="cache")
    assert fs.content.room.directory == os.fspath(tmp_path / "cache")
    monkeypatch.chdir("/")
    again = pickle.loads(pickle.dumps(fs))
    assert again == fs
    assert again.content.room.directory == os.fspath(tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(FlowError, match="cannot keep temporary files there"):
        FlowFileSystem("https://host/api", cache_dir=tmp_path / "file")


def test_making_one_needs_no_service() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with counted() as requests_made:
            fs = FlowFileSystem(endpoint)
            repr(fs)
            pickle.dumps(fs)
        assert requests_made.made == []


def test_threads_do_not_get_in_each_others_way(world: World) -> None:
    fs = world.fs(ttl=0.01)
    run = f"{world.group}/runs/{world.run_ids()[0]}"
    expected = fs.cat(f"{run}/outputs/results/greetings.txt")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            mine = (
                fs
                if number % 2
                else FlowFileSystem(
                    world.endpoint, world.token, timeout=fs._options.timeout, ttl=0.01
                )
            )
            for _ in range(10):
                assert run in mine.ls(f"{world.group}/runs", detail=False)
                assert mine.info(run)["state"] == "SUCCESS"
                assert mine.cat(f"{run}/outputs/results/greetings.txt") == expected
                with mine.open(f"{run}/archive.tar.gz") as archive:
                    assert archive.read(2) == b"\x1f\x8b"
                mine.invalidate_cache()
                assert mine.exists(f"{world.group}/latest/handle.json")
        except BaseException as error:
            failures.append(error)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert failures == []


def test_every_error_is_an_os_error_with_errno(server: StandIn) -> None:
    fs = FlowFileSystem(server.endpoint, "bad token")
    for act in (fs.ls, fs.info, fs.cat, fs.find):
        with pytest.raises(OSError) as caught:
            act("groups/group-1/runs")
        assert isinstance(caught.value, FlowError)
        assert caught.value.errno is not None
        assert caught.value.filename == f"flow+{server.endpoint}/groups/group-1/runs"
