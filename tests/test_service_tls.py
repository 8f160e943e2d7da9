"""TLS with real certificates, of an authority made for the test: who is believed, who is not."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from standin import Reply, StandIn

from flowfs import FlowFileSystem
from flowfs.errors import (
    BadReply,
    ConnectionFailed,
    FlowError,
    InvalidArguments,
    UnclearStart,
)
from flowfs.service import Credentials, FlowService, Session

Make = Callable[..., FlowService]

TOKEN = "t0ken-for-one-service"
UPLOAD = {"name": "names", "value": {"type": "$file", "value": {"fileId": "x"}}}


class SecureStandIn(StandIn):
    """A stand-in that speaks TLS."""

    def __init__(self, context: ssl.SSLContext, host: str = "127.0.0.1") -> None:
        super().__init__()
        self.routes.tokens = {TOKEN}
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.origin = self.origin.replace("http:", "https:").replace("127.0.0.1", host)
        self.endpoint = self.endpoint.replace("http:", "https:").replace("127.0.0.1", host)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return str(file)


def context_of(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture
def server(authority: trustme.CA) -> Iterator[SecureStandIn]:
    with SecureStandIn(context_of(authority, "127.0.0.1")) as standin:
        yield standin


@pytest.fixture
def make(server: SecureStandIn) -> Iterator[Make]:
    made: list[Session] = []

    def make(endpoint: str = server.endpoint, **options: Any) -> FlowService:
        session = Session(endpoint, Credentials(TOKEN), **{"timeout": 20, "retries": 0, **options})
        made.append(session)
        return FlowService(session)

    yield make
    for session in made:
        session.close()


@pytest.fixture(autouse=True)
def _no_authorities_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def assert_refused(server: StandIn, flow: FlowService, said: str) -> None:
    for act in (
        lambda: flow.workflows.list_workflows(),
        lambda: flow.session.json("POST", flow.session.endpoint + "/x", what="start", body=[]),
    ):
        with pytest.raises(ConnectionFailed, match=said) as caught:
            act()
        assert caught.value.errno == errno.EPROTO
        assert not caught.value.unclear
        assert "verify" in str(caught.value)
    assert server.asked == [], "nobody is told anything before it is known who it is"


def test_the_right_authority_is_believed(server: SecureStandIn, make: Make, bundle: str) -> None:
    flow = make(verify=bundle)
    run, file = server.routes.add_file(b"data")
    for _ in range(3):
        assert flow.workflows.list_workflows()
        with flow.runs.get_result_file(run, file, range="bytes=1-2") as body:
            assert body.read() == b"at"
    assert server.connections == 1
    assert {asked.headers["api_key"] for asked in server.asked} == {TOKEN}


def test_the_authorities_of_the_system_do_not_vouch_for_it(
    server: SecureStandIn, make: Make
) -> None:
    assert_refused(server, make(), "CERTIFICATE_VERIFY_FAILED|certificate verify failed")


def test_another_authority_is_not_believed(
    server: SecureStandIn, make: Make, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    assert_refused(server, make(verify=str(other)), "certificate verify failed")


def test_a_certificate_of_another_host_is_refused(
    authority: trustme.CA, make: Make, bundle: str
) -> None:
    with SecureStandIn(context_of(authority, "other.example")) as elsewhere:
        assert_refused(elsewhere, make(elsewhere.endpoint, verify=bundle), "TLS.*127.0.0.1")


def test_a_certificate_that_has_expired_is_refused(
    authority: trustme.CA, make: Make, bundle: str
) -> None:
    from datetime import datetime, timezone

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = datetime(2020, 1, 1, tzinfo=timezone.utc)
    authority.issue_cert("127.0.0.1", not_after=past).configure_cert(context)
    with SecureStandIn(context) as elsewhere:
        assert_refused(elsewhere, make(elsewhere.endpoint, verify=bundle), "expired")


def test_whoever_wants_no_verification_says_so(server: SecureStandIn, make: Make) -> None:
    with pytest.warns(match="Unverified HTTPS"):
        assert make(verify=False).workflows.list_workflows()


def test_the_authorities_of_the_environment_are_believed(
    server: SecureStandIn, bundle: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    assert make().workflows.list_workflows()


def test_the_file_system_takes_the_same_options(server: SecureStandIn, bundle: str) -> None:
    fs = FlowFileSystem(server.endpoint, TOKEN, verify=bundle)
    assert fs.ls("groups/group-1/runs", detail=False)


@pytest.fixture
def strict(authority: trustme.CA) -> Iterator[SecureStandIn]:
    """A service that wants to see a certificate."""
    context = context_of(authority, "127.0.0.1")
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with SecureStandIn(context) as standin:
        yield standin


def test_a_client_with_a_certificate_is_let_in(
    strict: SecureStandIn, make: Make, authority: trustme.CA, bundle: str, tmp_path: Path
) -> None:
    mine = authority.issue_cert("ada@example.org")
    whole, chain, key = (str(tmp_path / name) for name in ("whole.pem", "chain.pem", "key.pem"))
    mine.private_key_and_cert_chain_pem.write_to_path(whole)
    mine.cert_chain_pems[0].write_to_path(chain)
    mine.private_key_pem.write_to_path(key)
    for cert in (whole, (chain, key)):
        flow = make(strict.endpoint, verify=bundle, cert=cert)
        assert flow.workflows.list_workflows()


def test_a_client_without_a_certificate_is_refused_and_has_started_nothing(
    strict: SecureStandIn, make: Make, bundle: str
) -> None:
    flow = make(strict.endpoint, verify=bundle)
    with pytest.raises(FlowError) as caught:
        flow.session.json("POST", strict.endpoint + "/groups/group-1/runs", what="start", body={})
    assert isinstance(caught.value, (ConnectionFailed, BadReply))
    assert strict.asked == []
    # Where the refusal comes in words, it is known for certain; a system may drop them along
    # with the connection.
    assert caught.value.unclear is isinstance(caught.value, BadReply)


@pytest.mark.parametrize("option", ["verify", "cert", "key", "environment"])
def test_a_file_that_is_not_there_is_named(
    server: SecureStandIn,
    make: Make,
    bundle: str,
    tmp_path: Path,
    option: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = str(tmp_path / "missing.pem")
    if option == "environment":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", missing)
    options = {
        "verify": {"verify": missing},
        "cert": {"cert": missing},
        "key": {"cert": (bundle, missing)},
        "environment": {},
    }[option]
    with pytest.raises(InvalidArguments, match="No such file or directory") as caught:
        make(**options).workflows.list_workflows()
    assert caught.value.filename == missing
    assert "certificate" in str(caught.value.strerror)
    assert server.asked == []


def test_a_file_that_holds_no_certificate_is_an_error_of_tls(
    server: SecureStandIn, make: Make, tmp_path: Path
) -> None:
    file = tmp_path / "nothing.pem"
    file.write_text("nothing")
    with pytest.raises(ConnectionFailed, match="TLS"):
        make(verify=str(file)).workflows.list_workflows()


def test_a_connection_that_breaks_within_tls_leaves_a_start_unclear(
    server: SecureStandIn, make: Make, bundle: str
) -> None:
    server.on("POST", "/groups/.*", Reply(cut_headers=True))
    flow = make(verify=bundle)
    with pytest.raises(UnclearStart):
        flow.runs.start_run("group-1", [UPLOAD])
    assert server.count("POST") == 1


def test_a_redirect_to_plain_http_is_followed_without_the_token(
    server: SecureStandIn, make: Make, bundle: str
) -> None:
    with StandIn() as plain:
        run, file = plain.routes.add_file(b"elsewhere")
        there = f"{plain.endpoint}/runs/{run}/downloads/files/{file}"
        server.on("GET", "/runs/.*", Reply(307, headers={"Location": there}))
        with make(verify=bundle).runs.get_result_file("r", "f") as body:
            assert body.read() == b"elsewhere"
        assert ["api_key" in asked.headers for asked in plain.asked] == [False]
