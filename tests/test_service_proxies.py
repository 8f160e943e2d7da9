"""Proxies: what goes through them, and what they are told."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from standin import ROOT, StandIn
from test_service_tls import TOKEN, SecureStandIn

from flowfs.errors import ConnectionFailed, FlowError
from flowfs.service import Credentials, FlowService, Session

NAME = "service.invalid"


class Proxy:
    """A proxy on the loopback interface that leads everything to one port of it.

    Attributes
    ----------
    heads : list of str
        What it was told: the head of each request to it.
    refusal : bytes
        What it says instead of doing anything.
    """

    def __init__(self, port: int) -> None:
        self.heads: list[str] = []
        self.refusal = b""
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Proxy:
        self._begin(self._accept)
        return self

    def __exit__(self, *error: object) -> None:
        for one in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()

    def _begin(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                self._sockets.append(client)
                self._begin(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        head = b""
        with contextlib.suppress(OSError):
            while b"\r\n\r\n" not in head:
                piece = client.recv(1 << 16)
                if not piece:
                    return
                head += piece
            text = head.decode("latin-1")
            self.heads.append(text)
            if self.refusal:
                client.sendall(self.refusal)
                client.close()
                return
            there = socket.create_connection(("127.0.0.1", self._port))
            self._sockets.append(there)
            if text.startswith("CONNECT "):
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:  # as a proxy must: the path alone, and nothing that is for itself
                first, _, rest = text.partition("\r\n")
                method, url, version = first.split()
                path = url.removeprefix(f"http://{NAME}")
                lines = [one for one in rest.split("\r\n") if not one.startswith("Proxy-")]
                there.sendall(
                    f"{method} {path} {version}\r\n".encode() + "\r\n".join(lines).encode()
                )
            self._relay(client, there)

    def _relay(self, one: socket.socket, other: socket.socket) -> None:
        to = {one: other, other: one}
        while True:
            for ready in select.select(list(to), [], [])[0]:
                piece = ready.recv(1 << 16)
                if not piece:
                    for both in to:
                        with contextlib.suppress(OSError):
                            both.shutdown(socket.SHUT_RDWR)
                    return
                to[ready].sendall(piece)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[SecureStandIn]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    with SecureStandIn(context) as standin:
        yield standin


def port_of(server: StandIn) -> int:
    return int(server.origin.rpartition(":")[2])


def service(scheme: str, **options: object) -> FlowService:
    endpoint = f"{scheme}://{NAME}{ROOT}"
    return FlowService(Session(endpoint, Credentials(TOKEN), timeout=20, retries=0, **options))  # type: ignore[arg-type]


def test_through_a_tunnel_the_token_is_for_the_service_alone(
    secure: SecureStandIn, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(bundle)
    with Proxy(port_of(secure)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://eve:pass-word@{proxy.address}")
        flow = service("https", verify=bundle)
        run, file = secure.routes.add_file(b"data")
        for _ in range(3):
            assert flow.workflows.list_workflows()
            with flow.runs.get_result_file(run, file, range="bytes=1-2") as body:
                assert body.read() == b"at"
        flow.session.close()
    (told,) = proxy.heads  # one tunnel, kept
    assert told.startswith(f"CONNECT {NAME}:443 ")
    assert TOKEN not in told
    login = base64.b64encode(b"eve:pass-word").decode()
    assert f"Proxy-Authorization: Basic {login}" in told
    assert {asked.headers["api_key"] for asked in secure.asked} == {TOKEN}
    assert not [asked for asked in secure.asked if "Proxy-Authorization" in asked.headers]


def test_a_proxy_that_is_somebody_else_is_found_out(
    secure: SecureStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = str(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(bundle)
    with Proxy(port_of(secure)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://{proxy.address}")
        with pytest.raises(FlowError, match="TLS"):
            service("https", verify=bundle).workflows.list_workflows()
    assert secure.asked == []


def test_plain_http_goes_through_the_proxy_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with StandIn() as plain, Proxy(port_of(plain)) as proxy:
        plain.routes.tokens = {TOKEN}
        monkeypatch.setenv("http_proxy", f"http://eve:pass-word@{proxy.address}")
        flow = service("http")
        for _ in range(3):
            assert flow.workflows.list_workflows()
        flow.session.close()
        assert {asked.headers["Host"] for asked in plain.asked} == {NAME}
        assert {asked.headers["api_key"] for asked in plain.asked} == {TOKEN}
    assert all(head.startswith(f"GET http://{NAME}{ROOT}/") for head in proxy.heads)
    assert all("Proxy-Authorization" in head for head in proxy.heads)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_an_error_without_its_password(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with Proxy(9) as proxy:
        proxy.refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        monkeypatch.setenv(f"{scheme}_proxy", f"http://eve:pass-word@{proxy.address}")
        with pytest.raises(FlowError, match="407") as caught:
            service(scheme).session.json("POST", f"{scheme}://{NAME}{ROOT}/x", what="start", body=1)
        assert "pass-word" not in str(caught.value)
        assert not caught.value.unclear


def test_a_proxy_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy(9) as proxy:
        address = proxy.address
    monkeypatch.setenv("https_proxy", f"http://eve:pass-word@{address}")
    with pytest.raises(ConnectionFailed) as caught:
        service("https").workflows.list_workflows()
    assert "pass-word" not in str(caught.value)
    assert not caught.value.unclear
