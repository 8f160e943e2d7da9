"""What the embedded service refuses, and what it takes out of replies."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from flowfs.embedded.guard import Guard

PORT = 8123
ROOT = "/flowserv/api/v1"


class Reply:
    """What a WSGI application answered."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


def permissive_service(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answers everybody, with the headers that rob-flask adds for browsers."""
    headers = [
        ("Content-Type", "text/plain"),
        ("Access-Control-Allow-Origin", "*"),
        ("access-control-allow-headers", "api_key"),
        ("Vary", "Origin"),
    ]
    start_response("200 OK", headers)
    return [b"welcome"]


def ask(path: str = f"{ROOT}/", method: str = "GET", **headers: str | None) -> Reply:
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": f"127.0.0.1:{PORT}"}
    for name, value in headers.items():
        if value is None:
            del environ[f"HTTP_{name.upper()}"]
        else:
            environ[f"HTTP_{name.upper()}"] = value
    reply = Reply()

    def start_response(
        status: str, reply_headers: list[tuple[str, str]], exc_info: object = None
    ) -> None:
        reply.status, reply.headers = status, reply_headers

    guard = Guard(permissive_service, port=PORT, root=ROOT)
    reply.body = b"".join(guard(environ, start_response))
    return reply


def assert_refused(reply: Reply) -> None:
    assert reply.status.startswith("403 ")
    assert dict(reply.headers)["Content-Type"] == "application/json"
    assert dict(reply.headers)["Content-Length"] == str(len(reply.body))
    assert json.loads(reply.body)["message"]


def test_a_local_request_is_passed_on() -> None:
    reply = ask()
    assert reply.status == "200 OK"
    assert reply.body == b"welcome"


def test_no_reply_has_cors_headers() -> None:
    assert ask().headers == [("Content-Type", "text/plain"), ("Vary", "Origin")]


@pytest.mark.parametrize("origin", ["https://example.org", f"http://127.0.0.1:{PORT}", "null", ""])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_request_with_an_origin_header_is_refused(origin: str, method: str) -> None:
    assert_refused(ask(method=method, origin=origin))


@pytest.mark.parametrize(
    "host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"[::1]:{PORT}", f"LocalHost:{PORT}"]
)
def test_loopback_names_with_the_port_are_served(host: str) -> None:
    assert ask(host=host).status == "200 OK"


@pytest.mark.parametrize(
    "host",
    [
        f"example.org:{PORT}",
        f"127.0.0.1.example.org:{PORT}",
        f"localhost.example.org:{PORT}",
        f"user@localhost:{PORT}",
        f"0.0.0.0:{PORT}",
        "127.0.0.1",
        "[::1]",
        "127.0.0.1:80",
        f"127.0.0.1:{PORT}:{PORT}",
        f"::1:{PORT}",
        "",
        None,
    ],
)
def test_another_host_or_port_is_refused(host: str | None) -> None:
    assert_refused(ask(host=host))


@pytest.mark.parametrize(
    "route",
    [
        "users/register",
        "users/activate",
        "users/password/request",
        "users/password/reset",
        "users/password",
        "users/register/",
        "/users//register",
    ],
)
def test_registration_activation_and_passwords_are_closed(route: str) -> None:
    assert_refused(ask(f"{ROOT}/{route}", method="POST"))


@pytest.mark.parametrize("route", ["users/login", "users/whoami", "users", "groups/users/register"])
def test_other_routes_stay_open(route: str) -> None:
    assert ask(f"{ROOT}/{route}").status == "200 OK"


def test_the_refusal_of_a_head_request_has_no_body() -> None:
    reply = ask(method="HEAD", origin="https://example.org")
    assert reply.status.startswith("403 ")
    assert reply.body == b""
