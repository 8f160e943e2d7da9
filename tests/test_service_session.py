"""How requests are made: deadlines, retries, redirects, whom the token is for, what is believed."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import json
import logging
import os
import pickle
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standin import ROOT, Asked, Reply, StandIn
from support import lasting_port, wait_until

from flowfs.errors import (
    AccessDenied,
    BadReply,
    ConnectionFailed,
    DeadlineExceeded,
    FlowError,
    InvalidArguments,
    NotFound,
    ServiceBusy,
    UnclearStart,
)
from flowfs.service import (
    Credentials,
    FlowService,
    RemoteRunService,
    ServiceDescriptor,
    Session,
    find_credentials,
)
from flowfs.service import exchange as exchange_module
from flowfs.service.deadline import Watch, _keeper

TOKEN = "t0ken-that-nobody-may-see"
HANDLE = {"id": "abc", "state": "RUNNING"}
FOR_EVER = 60.0  # seconds; what is not ended within it was not ended by a deadline

Make = Callable[..., FlowService]


@pytest.fixture
def server() -> Iterator[StandIn]:
    """A stand-in that lets go of everybody when a test takes for ever, which fails it."""
    with StandIn() as standin:
        standin.routes.tokens.add(TOKEN)
        late = threading.Event()
        watchdog = threading.Timer(120, lambda: (late.set(), standin.let_go()))
        watchdog.start()
        yield standin
        watchdog.cancel()
        watchdog.join()
        assert not late.is_set(), "nothing ended this test's requests"


@pytest.fixture
def other() -> Iterator[StandIn]:
    """Another origin: the same host, another port."""
    with StandIn() as standin:
        yield standin


@pytest.fixture
def make(server: StandIn) -> Iterator[Make]:
    made: list[FlowService] = []

    def make(endpoint: str = server.endpoint, **options: Any) -> FlowService:
        credentials = Credentials(TOKEN, "a test", "log in")
        service = FlowService(Session(endpoint, credentials, **{"timeout": 10, **options}))
        service._descriptor = ServiceDescriptor(endpoint)  # known, so that counts are plain
        made.append(service)
        return service

    yield make
    for service in made:
        service.session.close()


@pytest.fixture
def flow(make: Make) -> FlowService:
    return make()


def names_argument(server: StandIn) -> list[dict[str, Any]]:
    server.routes.files["names"] = b"Ada\n"
    return [{"name": "names", "value": {"type": "$file", "value": {"fileId": "names"}}}]


class TestDeadline:
    SLOW = (
        Reply(hang="before"),
        Reply(hang="headers"),
        Reply(body=HANDLE, hang="body"),
        Reply(body=b"", hang="body", length=False),
        Reply(drip="headers"),
        Reply(body=b" " * 2000, drip="body"),
        Reply(body=b" " * 2000, drip="body", length=False),
        Reply(body=b" " * 2000, drip="body", chunked=True),
        Reply(404, b" " * 2000, drip="body"),
    )

    @pytest.mark.parametrize("reply", SLOW)
    def test_a_call_ends_in_time_however_slow_the_reply_is(
        self, server: StandIn, make: Make, reply: Reply
    ) -> None:
        server.on("GET", "/runs/abc", reply)
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.8 seconds") as caught:
            make(timeout=0.8).runs.get_run("abc")
        assert time.monotonic() - begun < FOR_EVER / 2
        assert caught.value.errno == errno.ETIMEDOUT
        assert server.count("GET") == 1

    @pytest.mark.parametrize("reply", SLOW)
    def test_a_delete_whose_reply_is_late_has_not_succeeded(
        self, server: StandIn, make: Make, reply: Reply
    ) -> None:
        server.on("DELETE", "/runs/abc", reply)
        with pytest.raises(DeadlineExceeded) as caught:
            make(timeout=0.8).runs.delete_run("abc")
        assert caught.value.unclear

    @pytest.mark.parametrize("reply", SLOW[:2] + SLOW[4:5])
    def test_headers_of_a_file_come_in_time_or_not_at_all(
        self, server: StandIn, make: Make, reply: Reply
    ) -> None:
        server.on("GET", "/runs/abc/downloads/archive", reply)
        with pytest.raises(DeadlineExceeded):
            make(timeout=0.3).runs.get_result_archive("abc")

    def test_a_file_that_stands_still_is_an_error(self, server: StandIn, make: Make) -> None:
        server.on("GET", "/runs/abc/downloads/archive", Reply(body=bytes(100), hang="body"))
        with make(timeout=1.5).runs.get_result_archive("abc") as body:
            with pytest.raises(DeadlineExceeded):
                body.read()

    def test_a_file_may_take_longer_than_the_timeout_while_bytes_come(
        self, server: StandIn, make: Make
    ) -> None:
        server.on(
            "GET", "/runs/abc/downloads/archive", Reply(body=b"x" * 40, drip="body", pause=0.08)
        )
        with make(timeout=2.0).runs.get_result_archive("abc") as body:
            assert body.read() == b"x" * 40

    def test_the_stretch_allowed_within_a_file_does_not_shrink_by_retries(
        self, server: StandIn, make: Make
    ) -> None:
        busy = Reply(503, headers={"Retry-After": "2.0"})
        slow = Reply(body=b"xy", drip="body", pause=2.2)
        server.on("GET", "/runs/abc/downloads/archive", busy, slow)
        with make(timeout=4.0).runs.get_result_archive("abc") as body:
            assert body.read() == b"xy"

    def test_retries_end_at_the_deadline(self, server: StandIn, make: Make) -> None:
        server.on("GET", "/workflows", Reply(503))
        with pytest.raises(ServiceBusy):
            make(timeout=2.5, retries=10_000).workflows.list_workflows()

    def test_deadlines_hold_beside_and_after_an_upload(self, server: StandIn, make: Make) -> None:
        # An upload has no deadline as a whole; its watch once ended all others.
        uploading, go_on = threading.Event(), threading.Event()

        def slow(asked: Asked) -> None:
            uploading.set()
            go_on.wait(FOR_EVER)

        server.on("POST", "/uploads/.*", slow)
        server.on("GET", "/runs/abc", Reply(drip="headers"))
        service = make(timeout=FOR_EVER)
        with ThreadPoolExecutor(1) as pool:
            upload = pool.submit(
                service.uploads.upload_file, server.routes.group, io.BytesIO(b"data"), "x.txt"
            )
            assert uploading.wait(FOR_EVER)
            for _ in range(2):
                with pytest.raises(DeadlineExceeded):
                    make(timeout=0.3).runs.get_run("abc")
                go_on.set()
                upload.result()

    def test_very_long_timeouts_are_fine(self, server: StandIn, make: Make) -> None:
        assert make(timeout=1e9).workflows.list_workflows()

    def test_what_is_over_is_not_kept_until_its_time(self) -> None:
        ends = time.monotonic() + 1000
        for number in range(100):
            with Watch(ends + number, 10):
                pass
        assert len([each for each in _keeper._heap if each[0] >= ends]) <= 1

    def test_a_watch_has_no_say_over_a_connection_that_went_back(
        self, server: StandIn, flow: FlowService
    ) -> None:
        http = flow.session.sender().http
        with Watch(time.monotonic() + FOR_EVER, 10) as watch:
            assert http.get(server.endpoint + "/", stream=True).content
            watch.fire()
        assert http.get(server.endpoint + "/").ok
        assert server.connections == 1


class TestUploading:
    """Against a socket that reads as slowly as the test wants."""

    @pytest.fixture
    def listener(self) -> Iterator[socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
            yield listener

    def test_a_slow_receiver_has_the_whole_timeout_for_each_part(
        self, listener: socket.socket, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exchange_module, "_MAX_CONNECT", 1.0)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as file:
                length = 0
                while (line := file.readline()).strip():
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                threading.Event().wait(2.5)
                file.read(length)
                reply = b'{"id": "i", "name": "n"}'
                connection.sendall(b"HTTP/1.1 201 x\r\nContent-Length: 24\r\n\r\n" + reply)

        with ThreadPoolExecutor(1) as pool:
            served = pool.submit(serve)
            service = make(f"http://127.0.0.1:{listener.getsockname()[1]}/api")
            made = service.uploads.upload_file("g", io.BytesIO(bytes(16 << 20)), "n")
            served.result()
        assert made["id"] == "i"

    def test_a_receiver_that_stands_still_ends_the_upload(
        self, listener: socket.socket, make: Make
    ) -> None:
        service = make(f"http://127.0.0.1:{listener.getsockname()[1]}/api", timeout=1.5)
        with pytest.raises(DeadlineExceeded) as caught:
            service.uploads.upload_file("g", io.BytesIO(bytes(16 << 20)), "n")
        assert caught.value.unclear

    def test_a_service_has_time_to_store_what_it_was_sent(
        self, server: StandIn, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exchange_module, "_STORED", 1)  # so that a few bytes are many
        server.on("POST", "/uploads/.*", lambda asked: replace(server.own(asked), delay=3.0))
        uploads = make(timeout=1.5).uploads
        assert uploads.upload_file(server.routes.group, io.BytesIO(b"data"), "x")["name"] == "x"

    @pytest.mark.parametrize(
        "error",
        [
            OSError(errno.EIO, "disk gone"),
            ConnectionResetError(errno.ECONNRESET, "nfs"),
            TimeoutError("nfs"),
            ValueError("closed"),
        ],
    )
    def test_what_goes_wrong_while_reading_the_file_is_told_as_it_is(
        self, server: StandIn, flow: FlowService, error: Exception
    ) -> None:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if self.tell():
                    raise error
                return super().read(size)

        with pytest.raises(type(error)) as caught:
            flow.uploads.upload_file(server.routes.group, Broken(bytes(2 << 20)), "x")
        assert caught.value is error
        assert server.routes.uploads == []

    def test_a_file_that_becomes_shorter_is_not_uploaded(
        self, server: StandIn, flow: FlowService
    ) -> None:
        class Shrinking(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                return b"" if self.tell() else super().read(size)

        with pytest.raises(BadReply, match="the file became shorter"):
            flow.uploads.upload_file(server.routes.group, Shrinking(bytes(2 << 20)), "x")
        assert server.routes.uploads == []


class TestRetries:
    @pytest.mark.parametrize(
        "fault",
        [Reply(503), Reply(429), Reply(502), Reply(504), Reply(reset=True),
         Reply(body={"workflows": []}, cut=3), Reply(body={"workflows": []}, cut_headers=True),
         Reply(body={"workflows": []}, chunked=True, cut=8)],
    )  # fmt: skip
    def test_a_get_is_sent_again(self, server: StandIn, flow: FlowService, fault: Reply) -> None:
        server.on("GET", "/workflows", fault, fault, None)
        assert [w["id"] for w in flow.workflows.list_workflows()] == [server.routes.workflow]
        assert server.count() == 3

    @pytest.mark.parametrize(
        ("fault", "kind", "number"),
        [
            (Reply(503), ServiceBusy, errno.EAGAIN),
            (Reply(429), ServiceBusy, errno.EAGAIN),
            (Reply(502), BadReply, errno.EIO),
            (Reply(reset=True), BadReply, errno.EIO),
        ],
    )
    def test_as_often_as_allowed_and_no_more(
        self, server: StandIn, make: Make, fault: Reply, kind: type[FlowError], number: int
    ) -> None:
        server.on("GET", "/workflows", fault)
        with pytest.raises(kind) as caught:
            make(retries=2).workflows.list_workflows()
        assert caught.value.errno == number
        assert server.count() == 3

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 500, 501, 507])
    def test_what_would_not_change_is_not_asked_again(
        self, server: StandIn, flow: FlowService, status: int
    ) -> None:
        server.on("GET", "/workflows", Reply(status))
        with pytest.raises(FlowError) as caught:
            flow.workflows.list_workflows()
        assert caught.value.status == status
        assert server.count() == 1

    @pytest.mark.parametrize("fault", [Reply(503), Reply(502), Reply(reset=True)])
    def test_a_delete_that_may_have_arrived_succeeds_by_a_404(
        self, server: StandIn, flow: FlowService, fault: Reply
    ) -> None:
        run = server.routes.add_run()["id"]

        def arrives(asked: Asked) -> Reply:
            del server.routes.runs[run]
            return fault

        server.on("DELETE", f"/runs/{run}", arrives, None)
        assert flow.runs.delete_run(run) is None
        assert server.count("DELETE") == 2

    @pytest.mark.parametrize("first", [Reply(429), None])
    def test_a_404_after_a_clear_refusal_is_a_404(
        self, server: StandIn, flow: FlowService, first: Reply | None
    ) -> None:
        server.on("DELETE", "/runs/abc", first, None)
        with pytest.raises(NotFound):
            flow.runs.delete_run("abc")

    @pytest.mark.parametrize(
        "fault",
        [Reply(503), Reply(429), Reply(500), Reply(reset=True), Reply(hang="before"),
         Reply(201, HANDLE, cut=3), Reply(201, HANDLE, cut_headers=True), Reply(201, b"<html>"),
         Reply(201, b"")],
    )  # fmt: skip
    def test_post_and_put_are_never_sent_again(
        self, server: StandIn, make: Make, fault: Reply
    ) -> None:
        server.on("POST", ".*", fault)
        server.on("PUT", ".*", fault)
        service = make(timeout=1.5 if fault.hang else FOR_EVER)
        group = server.routes.group
        for call in (
            lambda: service.runs.start_run(group, []),
            lambda: service.runs.cancel_run("abc"),
            lambda: service.uploads.upload_file(group, io.BytesIO(b"data"), "x.txt"),
        ):
            with pytest.raises(FlowError):
                call()
        assert (server.count("POST"), server.count("PUT")) == (2, 1)

    def test_hours_are_not_waited_for(self, server: StandIn, flow: FlowService) -> None:
        server.on("GET", "/workflows", Reply(503, headers={"Retry-After": "7200"}))
        with pytest.raises(ServiceBusy) as caught:
            flow.workflows.list_workflows()
        assert caught.value.retry_after == 7200
        assert server.count() == 1

    @pytest.mark.parametrize(
        "advice", ["0.01", "0", "-5", "nan", "", "soon", "Wed, 21 Oct 2099 07:28:00 GMT"]
    )
    def test_advice_that_cannot_be_followed_is_no_advice(
        self, server: StandIn, flow: FlowService, advice: str
    ) -> None:
        server.on("GET", "/workflows", Reply(503, headers={"Retry-After": advice}), None)
        assert flow.workflows.list_workflows()

    def test_what_the_caller_is_handling_does_not_matter(
        self, server: StandIn, flow: FlowService
    ) -> None:
        server.on("GET", "/workflows", Reply(reset=True), None)
        try:
            raise TimeoutError("of the caller's own")
        except TimeoutError:
            assert flow.workflows.list_workflows()

    def test_a_stale_connection_is_no_error(self, server: StandIn, flow: FlowService) -> None:
        server.on("GET", "/workflows", Reply(body={"workflows": []}, headers={}, length=False))
        flow.workflows.list_workflows()
        assert flow.runs.list_runs(server.routes.group) == {"runs": []}


class TestRedirects:
    def test_a_get_follows_to_the_same_origin_with_the_token(
        self, server: StandIn, flow: FlowService
    ) -> None:
        server.on("GET", "/runs/abc", Reply(302, headers={"Location": f"{ROOT}/moved"}))
        server.on("GET", "/moved", Reply(308, headers={"Location": "here?x=1"}))
        server.on("GET", "/here", Reply(body=HANDLE))
        assert flow.runs.get_run("abc") == HANDLE
        assert [asked.headers["api_key"] for asked in server.asked] == [TOKEN] * 3
        assert server.asked[-1].query == "x=1"

    def test_another_origin_gets_no_token_nor_does_who_comes_after_it(
        self, server: StandIn, other: StandIn, flow: FlowService
    ) -> None:
        there, back = f"{other.endpoint}/there", f"{server.endpoint}/back"
        server.on("GET", "/runs/abc", Reply(307, headers={"Location": there}))
        other.on("GET", "/there", Reply(307, headers={"Location": back}))
        server.on("GET", "/back", Reply(body=HANDLE))
        assert flow.runs.get_run("abc") == HANDLE
        assert ["api_key" in asked.headers for asked in server.asked] == [True, False]
        assert "api_key" not in other.asked[0].headers
        assert TOKEN not in repr(other.asked)

    def test_a_backslash_makes_no_origin_of_another(
        self, server: StandIn, other: StandIn, flow: FlowService
    ) -> None:
        # Python takes what is before the '@' for a user's name, urllib3 for the host.
        host, own = other.origin.partition("//")[2], server.endpoint.partition("//")[2]
        server.on("GET", "/runs/abc", Reply(302, headers={"Location": f"http://{host}\\@{own}"}))
        other.on("GET", ".*", Reply(body=HANDLE))
        assert flow.runs.get_run("abc") == HANDLE
        assert other.count() == 1
        assert TOKEN not in repr(other.asked)

    def test_files_follow_as_well(self, server: StandIn, other: StandIn, flow: FlowService) -> None:
        server.on("GET", "/runs/abc/.*", Reply(302, headers={"Location": other.endpoint + "/f"}))
        other.on("GET", "/f", Reply(body=b"0123456789"))
        with flow.runs.get_result_file("abc", "f", range="bytes=2-5") as body:
            assert body.read() == b"2345"
        assert "api_key" not in other.asked[0].headers

    def test_five_are_followed_and_a_loop_ends(self, server: StandIn, flow: FlowService) -> None:
        def onwards(asked: Asked) -> Reply:
            left = int(asked.path[-1])
            if not left:
                return Reply(body={**HANDLE, "id": "5"})
            return Reply(301, headers={"Location": f"{server.endpoint}/runs/{left - 1}"})

        server.on("GET", "/runs/[0-9]", onwards)
        assert flow.runs.get_run("5") == {**HANDLE, "id": "5"}
        server.asked.clear()
        with pytest.raises(BadReply, match="more than 5 redirects"):
            flow.runs.get_run("6")
        assert server.count() == 6
        server.on("GET", "/workflows", Reply(302, headers={"Location": f"{ROOT}/workflows"}))
        server.asked.clear()
        with pytest.raises(BadReply, match="more than 5 redirects"):
            flow.workflows.list_workflows()
        assert server.count() == 6

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_other_methods_follow_none(
        self, server: StandIn, other: StandIn, flow: FlowService, status: int
    ) -> None:
        there = Reply(status, headers={"Location": f"{other.endpoint}/there"})
        for method in ("POST", "PUT", "DELETE"):
            server.on(method, ".*", there)
        for call in (
            lambda: flow.runs.cancel_run("abc"),
            lambda: flow.runs.delete_run("abc"),
            lambda: flow.uploads.upload_file(server.routes.group, io.BytesIO(b"data"), "x.txt"),
            lambda: flow.users.login("flow", "secret"),
        ):
            with pytest.raises(BadReply, match=f"redirects to '{other.endpoint}") as caught:
                call()
            assert caught.value.status == status
        assert (server.count(), other.count()) == (4, 0)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_start_that_is_sent_elsewhere_is_clear_unless_the_reply_was_see_other(
        self, server: StandIn, flow: FlowService, status: int
    ) -> None:
        server.on("POST", ".*", Reply(status, headers={"Location": "elsewhere"}))
        with pytest.raises(UnclearStart if status == 303 else BadReply):
            flow.runs.start_run(server.routes.group, [])
        assert server.count("POST") == 1

    @pytest.mark.parametrize(
        "location",
        ["http://[", "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "file:///etc/passwd",
         "ftp://127.0.0.1/", "mailto:x"],
    )  # fmt: skip
    def test_nonsense_is_an_error(self, server: StandIn, flow: FlowService, location: str) -> None:
        server.on("GET", "/workflows", Reply(302, headers={"Location": location}))
        with pytest.raises(BadReply, match="redirects to"):
            flow.workflows.list_workflows()
        assert server.count() == 1

    def test_a_redirect_without_an_address_is_an_error(
        self, server: StandIn, flow: FlowService
    ) -> None:
        server.on("GET", "/workflows", Reply(302))
        with pytest.raises(BadReply):
            flow.workflows.list_workflows()


class TestToken:
    def test_a_descriptor_cannot_lead_it_away(
        self, server: StandIn, other: StandIn, make: Make
    ) -> None:
        server.routes.url = other.endpoint
        server.routes.patterns["runs:get"] = f"{other.endpoint}/runs/{{runId}}"
        server.routes.patterns["groups:runs"] = "//" + other.origin.partition("//")[2] + "/runs"
        service = make()
        service._descriptor = None
        for call in (lambda: service.runs.get_run("abc"), lambda: service.runs.list_runs("g")):
            with pytest.raises(FlowError):
                call()
        assert other.count() == 0
        assert server.count() == 3

    def test_a_foreign_descriptor_of_another_origin_gets_none(
        self, other: StandIn, flow: FlowService
    ) -> None:
        class Foreign:
            def urls(self, key: str, **kwargs: Any) -> str:
                return f"{other.endpoint}/elsewhere"

        with pytest.raises(NotFound):
            RemoteRunService(Foreign(), session=flow.session).get_run("abc")
        assert "api_key" not in other.asked[0].headers

    def test_that_of_the_environment_is_kept_from_other_hosts_and_the_error_tells(
        self, server: StandIn, other: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLOWSERV_ACCESS_TOKEN", TOKEN)
        monkeypatch.setenv("FLOWSERV_API_HOST", "127.0.0.1")
        monkeypatch.setenv("FLOWSERV_API_PORT", server.origin.rpartition(":")[2])
        for standin in (server, other):
            session = Session(standin.endpoint, find_credentials(standin.endpoint))
            service = FlowService(session)
            if standin is server:
                assert service.users.whoami()["username"] == "flow"
            else:
                with pytest.raises(AccessDenied, match="FLOWSERV_API_PORT to name") as caught:
                    service.users.whoami()
                assert other.endpoint in str(caught.value)
            session.close()
        assert TOKEN not in repr(other.asked)

    def test_the_callers_own_descriptor_takes_that_of_the_environment(
        self, server: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLOWSERV_ACCESS_TOKEN", TOKEN)
        service = RemoteRunService(ServiceDescriptor(server.endpoint))
        assert service.list_runs(server.routes.group) == {"runs": []}
        service.session.close()

    def test_netrc_cookies_and_passwords_in_addresses_are_not_sent(
        self, server: StandIn, flow: FlowService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("default login somebody password secret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        there = server.endpoint.replace("//", "//user:secret@") + "/workflows"
        cookie = {"Set-Cookie": "a=b; Path=/", "Location": there}
        server.on("GET", "/runs/abc", Reply(302, headers=cookie))
        with pytest.raises(BadReply):
            flow.runs.get_run("abc")
        flow.workflows.list_workflows()
        assert server.count() == 3
        for asked in server.asked:
            assert not {"cookie", "authorization"} & {name.lower() for name in asked.headers}

    def test_it_is_in_no_repr_message_log_or_pickle(
        self,
        server: StandIn,
        make: Make,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        service = make(timeout=0.4, retries=1)
        told = [repr(service.session), repr(service.session.credentials), str(vars(service))]
        faults = [Reply(s) for s in (302, 400, 401, 403, 404, 429, 500, 503)]
        faults += [
            Reply(reset=True),
            Reply(hang="before"),
            Reply(body=b"<html>"),
            Reply(body=b"[]"),
        ]
        for fault in faults:
            for method in ("GET", "POST"):
                server.on(method, ".*", fault)
            for call in (
                lambda: service.runs.get_run("abc"),
                lambda: service.runs.start_run("g", []),
                lambda: service.runs.get_result_file("abc", "f").read(5) and 1 / 0,
            ):
                try:
                    call()
                except (FlowError, ZeroDivisionError) as error:
                    told += traceback.format_exception(error)
                    told.append(repr(pickle.dumps(error)))
        assert "flowfs.service" in caplog.text
        assert TOKEN in server.asked[0].headers.values()
        assert TOKEN not in caplog.text + "".join(told)

    @pytest.mark.parametrize(
        "token", ["", " ", f" {TOKEN}", f"{TOKEN} ", f"{TOKEN}\n", f"{TOKEN}\r\nX: y", f"{TOKEN}é"]
    )
    def test_one_that_no_header_can_carry_is_refused_without_telling_it(self, token: str) -> None:
        with pytest.raises(ValueError, match="no access token") as caught:
            Credentials(token, "a test")
        assert TOKEN not in str(caught.value)

    def test_one_that_the_service_says_back_is_not_told(
        self, server: StandIn, flow: FlowService
    ) -> None:
        server.on("GET", "/runs/abc", Reply(403, {"message": f"the token {TOKEN} has expired"}))
        with pytest.raises(AccessDenied, match="the token") as caught:
            flow.runs.get_run("abc")
        assert TOKEN not in f"{caught.value} {caught.value.service_message}"


class TestConnections:
    def test_one_is_kept_alive_through_replies_of_all_kinds(
        self, server: StandIn, flow: FlowService
    ) -> None:
        run, file = server.routes.add_file(b"data")
        for _ in range(3):
            flow.workflows.list_workflows()
            flow.runs.get_run(run)
            with flow.runs.get_result_file(run, file) as body:
                assert body.read() == b"data"
            with flow.runs.get_result_file(run, file, range="bytes=99-") as body:
                assert body.read() == b""
            with pytest.raises(NotFound):
                flow.runs.get_run("nope")
            flow.uploads.upload_file(server.routes.group, io.BytesIO(b"data"), "x.txt")
        assert server.connections == 1

    def test_threads_share_them(self, server: StandIn, flow: FlowService) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: flow.workflows.list_workflows(), range(200)))
        assert server.count() == 200
        assert server.connections <= 8

    def test_more_open_files_than_connections_are_kept_is_no_deadlock(
        self, server: StandIn, make: Make
    ) -> None:
        service = make(max_connections=2)
        run, file = server.routes.add_file(bytes(1 << 20))
        with contextlib.ExitStack() as stack:
            bodies = [
                stack.enter_context(service.runs.get_result_file(run, file)) for _ in range(6)
            ]
            assert {len(body.read()) for body in bodies} == {1 << 20}

    def test_the_proxy_of_the_environment_is_used_unless_it_names_the_host(
        self, server: StandIn, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", server.origin)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        behind = make(f"http://service.invalid{ROOT}")
        run, file = server.routes.add_file(b"data")
        for _ in range(2):
            assert behind.runs.get_run(run)["id"] == run
            with behind.runs.get_result_file(run, file, range="bytes=1-2") as body:
                assert body.read() == b"at"
        assert {asked.headers["Host"] for asked in server.asked} == {"service.invalid"}
        direct = make()
        for _ in range(2):
            direct.workflows.list_workflows()
        hosts = [asked.headers["Host"] for asked in server.asked[-2:]]
        assert hosts == [server.origin.removeprefix("http://")] * 2
        assert server.connections == 2

    @pytest.mark.parametrize("named", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_the_authorities_of_the_environment_count_unless_others_are_given(
        self,
        server: StandIn,
        make: Make,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        named: str,
    ) -> None:
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.setenv(named, str(tmp_path / "of-environment.pem"))
        endpoint = server.endpoint.replace("http:", "https:")
        for options, told in (({}, "of-environment"), ({"verify": "/given.pem"}, "/given.pem")):
            service = make(endpoint, **options)
            for _ in range(2):
                with pytest.raises(FlowError, match=told):
                    service.runs.get_run("abc")
        assert server.asked == []

    def test_many_other_origins_do_not_close_the_connections_to_the_service(
        self, server: StandIn, flow: FlowService
    ) -> None:
        with contextlib.ExitStack() as stack:
            others = [stack.enter_context(StandIn()) for _ in range(6)]
            flow.workflows.list_workflows()
            for number, other in enumerate(others):
                run, file = other.routes.add_file(b"elsewhere")
                there = f"{other.endpoint}/runs/{run}/downloads/files/{file}"
                server.on("GET", f"/runs/{number}/.*", Reply(307, headers={"Location": there}))
                with flow.runs.get_result_file(str(number), "f") as body:
                    assert body.read() == b"elsewhere"
            flow.workflows.list_workflows()
            assert server.connections == 1

    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_fork_makes_its_own_and_keeps_its_deadlines(
        self, server: StandIn, make: Make
    ) -> None:
        service = make(timeout=1.5)
        server.on("GET", "/runs/slow", Reply(drip="headers"))
        service.workflows.list_workflows()
        child = os.fork()
        if not child:
            code = 1
            try:
                service.workflows.list_workflows()
                try:
                    service.runs.get_run("slow")
                except DeadlineExceeded:
                    code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        service.workflows.list_workflows()
        peers = [asked.peer for asked in server.requests(pattern="/workflows")]
        assert peers[0] == peers[2] != peers[1]


class TestDescriptor:
    def test_the_services_patterns_are_used(self, server: StandIn, make: Make) -> None:
        server.routes.patterns["runs:get"] = "v2/{runId}/show?full=1&id={runId}"
        server.on("GET", "/v2/a%2Fb/show", Reply(body={**HANDLE, "id": "a/b"}))
        service = make()
        service._descriptor = None
        assert service.runs.get_run("a/b") == {**HANDLE, "id": "a/b"}
        assert server.asked[-1].query == "full=1&id=a%2Fb"

    @pytest.mark.parametrize(
        "value",
        ["a/b", "..%2f", "%2e%2e", "a%b", "a?b", "a#b", "a b", "größe", "日本", "...", "a;b", "a:b",
         "\x00", "{runId}", "\ud800", "a&b=c", "~", "@"],
    )  # fmt: skip
    def test_values_stay_in_their_place(
        self, server: StandIn, flow: FlowService, value: str
    ) -> None:
        from urllib.parse import unquote_to_bytes

        with pytest.raises(NotFound):
            flow.runs.get_result_file("abc", value)
        (asked,) = server.asked
        head, _, last = asked.path.rpartition("/")
        assert (head, asked.query) == ("/runs/abc/downloads/files", "")
        assert unquote_to_bytes(last) == value.encode("utf-8", "surrogatepass")

    @pytest.mark.parametrize("value", ["", ".", ".."])
    def test_ids_that_clients_fold_away_never_reach_a_url(
        self, server: StandIn, flow: FlowService, value: str
    ) -> None:
        for call in (
            lambda: flow.runs.get_run(value),
            lambda: flow.runs.delete_run(value),
            lambda: flow.runs.cancel_run(value),
            lambda: flow.runs.list_runs(value),
            lambda: flow.runs.start_run(value, []),
            lambda: flow.runs.get_result_file("abc", value),
            lambda: flow.runs.get_result_archive(value),
            lambda: flow.uploads.delete_file("g", value),
            lambda: flow.uploads.upload_file(value, io.BytesIO(), "x"),
            lambda: flow.groups.get_group(value),
            lambda: flow.workflows.get_workflow(value),
        ):
            with pytest.raises(NotFound, match="cannot be an id"):
                call()
        assert server.count() == 0

    def test_no_state_leaves_the_query_out(self, server: StandIn, flow: FlowService) -> None:
        flow.runs.list_runs(server.routes.group)
        flow.runs.list_runs(server.routes.group, "A&B=c")
        assert [asked.query for asked in server.asked] == ["", "state=A%26B%3Dc"]

    @pytest.mark.parametrize(
        "pattern",
        ["runs/{", "runs/}", "runs/{}", "runs/{0}", "runs/{runId!r}", "runs/{runId.__class__}",
         "runs/{runId[0]}", "runs/{group}", "{{runId}}"],
    )  # fmt: skip
    def test_an_odd_pattern_is_an_error_of_the_service(
        self, server: StandIn, make: Make, pattern: str
    ) -> None:
        server.routes.patterns["runs:get"] = pattern
        service = make()
        service._descriptor = None
        with pytest.raises(FlowError):
            service.runs.get_run("abc")

    @pytest.mark.parametrize("document", [None, [], "text", 5, {"routes": 5}, {"routes": None}])
    def test_what_is_no_descriptor_is_no_service(
        self, server: StandIn, make: Make, document: Any
    ) -> None:
        server.on("GET", "/", Reply(body=document))
        service = make()
        service._descriptor = None
        with pytest.raises(BadReply, match="no flowServ API"):
            service.runs.get_run("abc")

    def test_where_no_api_is_the_error_says_what_to_check(self, server: StandIn) -> None:
        session = Session(server.origin + "/elsewhere")
        with pytest.raises(BadReply, match="check the URL of the API root"):
            FlowService(session).workflows.list_workflows()
        session.close()

    def test_routes_that_a_service_does_not_announce_are_flowservs(self, server: StandIn) -> None:
        descriptor = ServiceDescriptor.from_document(server.endpoint, {"name": "old"})
        assert descriptor.urls("runs:get", runId="a") == f"{server.endpoint}/runs/a"
        with pytest.raises(KeyError):
            descriptor.urls("no:such")


class TestReplies:
    SHAPES = (None, [], "text", 5, True, {}, {"runs": None}, {"runs": {}}, {"runs": [None]},
              {"runs": [{"id": "a", "state": "SUCCESS"}, {"id": 5, "state": "SUCCESS"}]},
              {"runs": [{"id": "a", "state": "SUCCESS"}, {"state": "SUCCESS"}]},
              {"runs": [{"id": "a", "state": "SUCCESS"}, {"id": "b"}]})  # fmt: skip

    @pytest.mark.parametrize("shape", SHAPES, ids=repr)
    def test_a_listing_is_whole_or_an_error(
        self, server: StandIn, flow: FlowService, shape: Any
    ) -> None:
        server.on("GET", ".*", Reply(body=shape))
        for call in (
            lambda: flow.runs.list_runs("g"),
            lambda: flow.uploads.list_files("g"),
            flow.workflows.list_workflows,
            lambda: flow.workflows.list_groups("w"),
            flow.groups.list_groups,
        ):
            with pytest.raises(BadReply) as caught:
                call()
            assert caught.value.errno == errno.EIO

    def test_a_group_may_have_hundreds_of_thousands_of_runs(
        self, server: StandIn, make: Make
    ) -> None:
        created = "2025-06-01T12:00:00.000000+00:00"
        told = {"state": "SUCCESS", "createdAt": created}
        text = json.dumps({"runs": [{"id": f"{n:032x}", **told} for n in range(300_000)]}).encode()
        server.on("GET", "/groups/.*", Reply(body=text))
        runs = make(timeout=10 * FOR_EVER).runs.list_runs("g")["runs"]
        assert len(runs) == 300_000

    @pytest.mark.parametrize("shape", [*SHAPES[1:7], {"ranking": [5]}], ids=repr)
    def test_a_leaderboard_is_whole_or_an_error(
        self, server: StandIn, flow: FlowService, shape: Any
    ) -> None:
        server.on("GET", ".*", Reply(body=shape))
        with pytest.raises(BadReply):
            flow.workflows.get_leaderboard("w")

    @pytest.mark.parametrize(
        "shape",
        [None, [], "x", 5, {}, {"id": 5, "state": "SUCCESS"}, {"id": "a"}, {"state": "SUCCESS"}],
        ids=repr,
    )
    def test_a_handle_has_an_id_and_a_state_or_is_an_error(
        self, server: StandIn, flow: FlowService, shape: Any
    ) -> None:
        server.on("GET", ".*", Reply(body=shape))
        with pytest.raises(BadReply):
            flow.runs.get_run("abc")

    def test_a_group_that_cannot_be_listed_is_an_error_of_all(
        self, server: StandIn, flow: FlowService
    ) -> None:
        server.on("GET", "/workflows/.*/groups", Reply(500))
        with pytest.raises(BadReply):
            flow.groups.list_groups()

    def test_groups_are_taken_from_the_service_where_it_lists_them(
        self, server: StandIn, flow: FlowService
    ) -> None:
        server.on("GET", "/groups", Reply(body={"groups": [{"id": "g", "name": "n"}]}))
        assert flow.groups.list_groups() == [{"id": "g", "name": "n"}]
        assert server.count() == 1

    @pytest.mark.parametrize(
        "body", [b"<html>login</html>", b"{", b"\xff\xfe", b'{"runs": [', b"[" * 100_000]
    )
    def test_what_is_no_json_is_an_error(
        self, server: StandIn, flow: FlowService, body: bytes
    ) -> None:
        server.on("GET", ".*", Reply(body=body))
        with pytest.raises(BadReply, match="no JSON"):
            flow.runs.list_runs("g")

    def test_a_compressed_reply_is_read_all_the_same(
        self, server: StandIn, flow: FlowService
    ) -> None:
        server.on("GET", "/runs/abc", Reply(body=HANDLE, gzip=True))
        server.on("GET", "/runs/abc/.*", Reply(body=b"x" * 100_000, gzip=True))
        assert flow.runs.get_run("abc") == HANDLE
        assert server.asked[0].headers["Accept-Encoding"] == "identity"
        with flow.runs.get_result_file("abc", "f") as body:
            assert (body.length, body.total) == (None, None)  # that of the file is not known
            assert body.read() == b"x" * 100_000

    @pytest.mark.parametrize(
        "reply",
        [Reply(body=bytes(5000), cut=1000), Reply(body=bytes(100), length=200),
         Reply(body=bytes(5000), chunked=True, cut=3000), Reply(body=bytes(50), gzip=True, cut=9)],
    )  # fmt: skip
    def test_a_file_cut_short_is_an_error(
        self, server: StandIn, flow: FlowService, reply: Reply
    ) -> None:
        server.on("GET", ".*", reply)
        with flow.runs.get_result_file("abc", "f") as body:
            with pytest.raises(BadReply):
                body.read()
            assert body.closed

    @pytest.mark.parametrize("length", [True, False])
    def test_headers_cut_short_are_never_an_empty_file(
        self, server: StandIn, make: Make, length: bool
    ) -> None:
        server.on("GET", ".*", Reply(body=b"data", cut_headers=True, length=length))
        with pytest.raises(BadReply, match="within the headers"):
            make(retries=0).runs.get_result_file("abc", "f")

    @pytest.mark.parametrize(
        "span", ["bytes 0-9/100", "bytes 0-3", "bytes */100", "lines 0-3/4", "bytes x-y/z", ""]
    )
    def test_a_part_that_is_not_what_it_says_is_an_error(
        self, server: StandIn, flow: FlowService, span: str
    ) -> None:
        server.on("GET", ".*", Reply(body=b"data!", ranges=span))
        with pytest.raises(BadReply, match="partial reply"):
            flow.runs.get_result_file("abc", "f", range="bytes=0-3")


class TestUnclearStart:
    @staticmethod
    def acting(server: StandIn, fault: Reply) -> None:
        """Start the run all the same, then fail."""

        def act(asked: Asked) -> Reply:
            server.routes.answer(asked.method, asked.path, asked.headers, asked.body)
            return fault

        server.on("POST", "/groups/.*", act)

    @pytest.mark.parametrize(
        ("fault", "number"),
        [
            (Reply(reset=True), errno.EIO),
            (Reply(hang="before"), errno.ETIMEDOUT),
            (Reply(201, HANDLE, drip="headers"), errno.ETIMEDOUT),
            (Reply(500, {"error": "KeyError"}), errno.EIO),
            (Reply(503), errno.EAGAIN),
            (Reply(504), errno.ETIMEDOUT),
            (Reply(201, HANDLE, cut=3), errno.EIO),
            (Reply(201, HANDLE, cut_headers=True), errno.EIO),
            (Reply(201, b"<html>"), errno.EIO),
            (Reply(201, b""), errno.EIO),
            (Reply(201, {"id": 5}), errno.EIO),
        ],
    )
    def test_it_names_the_newest_run_with_these_arguments(
        self, server: StandIn, make: Make, fault: Reply, number: int
    ) -> None:
        arguments = names_argument(server)
        older = server.routes.add_run(arguments=arguments)["id"]
        self.acting(server, fault)
        with pytest.raises(UnclearStart, match="a run may have started") as caught:
            make(timeout=2.5).runs.start_run(server.routes.group, arguments)
        (started,) = server.routes.runs.keys() - {older}
        assert caught.value.run_ids == (started,)
        assert started in str(caught.value)
        assert (caught.value.errno, caught.value.unclear) == (number, True)
        assert server.count("POST") == 1

    def test_runs_with_other_arguments_are_not_named_nor_those_gone_since(
        self, server: StandIn, flow: FlowService
    ) -> None:
        arguments = names_argument(server)
        wanted = server.routes.add_run(arguments=arguments)["id"]
        other = server.routes.add_run()["id"]
        gone = server.routes.add_run()["id"]
        server.on("GET", f"/runs/{gone}", Reply(404))
        server.on("POST", ".*", Reply(500))
        with pytest.raises(UnclearStart) as caught:
            flow.runs.start_run(server.routes.group, arguments)
        assert caught.value.run_ids == (wanted,)
        assert other not in str(caught.value)

    def test_it_says_where_it_can_name_none(self, server: StandIn, flow: FlowService) -> None:
        server.on("POST", ".*", Reply(500))
        with pytest.raises(UnclearStart, match="lists no run with these arguments") as caught:
            flow.runs.start_run(server.routes.group, names_argument(server))
        assert caught.value.run_ids == ()
        server.on("GET", ".*", Reply(500))
        with pytest.raises(UnclearStart, match="does not list its runs now"):
            flow.runs.start_run(server.routes.group, names_argument(server))

    def test_a_slow_service_is_not_asked_for_long(self, server: StandIn, make: Make) -> None:
        for _ in range(5):
            server.routes.add_run()

        def slow(asked: Asked) -> Reply:  # each in time, and all of them not
            server.stopped.wait(1.5)
            return Reply(body={**HANDLE, "id": asked.path.rpartition("/")[2]})

        server.on("POST", ".*", Reply(500))
        server.on("GET", "/runs/.*", slow)
        with pytest.raises(UnclearStart, match="too slow to tell which"):
            make(timeout=4.0).runs.start_run(server.routes.group, names_argument(server))
        assert server.count("GET", "/runs/.*") < 5

    @pytest.mark.parametrize(
        ("reply", "kind"),
        [
            (Reply(400, {"message": "no int"}), InvalidArguments),
            (Reply(404, {"message": "unknown file 'x'"}), InvalidArguments),
            (Reply(404, {"message": "unknown group 'file'"}), NotFound),
            (Reply(403), AccessDenied),
            (Reply(429), ServiceBusy),
            (Reply(405), BadReply),
        ],
    )
    def test_a_refusal_is_clear(
        self, server: StandIn, flow: FlowService, reply: Reply, kind: type[FlowError]
    ) -> None:
        server.on("POST", ".*", reply)
        with pytest.raises(kind) as caught:
            flow.runs.start_run("file", [])
        assert not isinstance(caught.value, UnclearStart)
        assert server.count() == 1

    @pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, b"bytes"])
    def test_what_json_cannot_say_is_not_sent(
        self, server: StandIn, flow: FlowService, value: Any
    ) -> None:
        with pytest.raises(InvalidArguments, match="cannot be sent as JSON"):
            flow.runs.start_run("g", [{"name": "x", "value": value}])
        assert server.count() == 0


class TestUnreachable:
    CALLS = (
        lambda flow: flow.workflows.list_workflows(),
        lambda flow: flow.runs.start_run("g", []),
        lambda flow: flow.uploads.upload_file("g", io.BytesIO(bytes(1 << 20)), "x"),
        lambda flow: flow.runs.get_result_archive("r"),
    )

    @pytest.mark.parametrize("call", CALLS)
    def test_refused(self, make: Make, call: Callable[[FlowService], Any]) -> None:
        with pytest.raises(ConnectionFailed, match="is the service running") as caught:
            call(make(f"http://127.0.0.1:{lasting_port()}/api", retries=1))
        assert caught.value.errno == errno.ECONNREFUSED
        assert not caught.value.unclear

    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES])
    def test_unreachable(
        self,
        make: Make,
        call: Callable[[FlowService], Any],
        number: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def refuse(watch: Watch, sock: socket.socket, address: Any) -> int:
            return number

        monkeypatch.setattr(Watch, "begin_connecting", refuse)
        with pytest.raises(ConnectionFailed, match=re.escape(os.strerror(number))) as caught:
            call(make("http://127.0.0.1:9/api", retries=1))
        assert caught.value.errno == errno.EHOSTUNREACH
        assert not caught.value.unclear

    def test_a_name_unknown(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*args: Any, **kwargs: Any) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(ConnectionFailed, match="no host of that name") as caught:
            make("http://no-such-host.invalid/api", retries=1).runs.start_run("g", [])
        assert caught.value.errno == errno.EHOSTUNREACH

    @pytest.mark.parametrize("call", CALLS)
    def test_a_service_that_speaks_no_tls(
        self, make: Make, server: StandIn, call: Callable[[FlowService], Any]
    ) -> None:
        address = server.endpoint.replace("http://", "https://")
        with pytest.raises(ConnectionFailed, match=r"TLS.*begins with http, or flow") as caught:
            call(make(address, retries=1))
        assert caught.value.errno == errno.EPROTO
        assert not caught.value.unclear
        assert server.count() == 0

    def test_no_http_at_all(self, make: Make) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

            def serve() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"220 mail.example ESMTP\r\n")

            served = pool.submit(serve)
            with pytest.raises(BadReply):
                make(
                    f"http://127.0.0.1:{listener.getsockname()[1]}/api", retries=0
                ).workflows.list_workflows()
            served.result()


class TestInterrupting:
    """Whoever ends a mount does not wait for the service."""

    @staticmethod
    def interrupt_when(condition: Callable[[], Any], session: Session, **options: bool) -> None:
        wait_until(condition, 10, "the request to be under way")
        session.interrupt(**options)

    @staticmethod
    def assert_interrupted(call: Future[Any], *, unclear: bool | None = None) -> None:
        begun = time.monotonic()
        with pytest.raises(FlowError, match="interrupted") as caught:
            call.result(FOR_EVER)
        assert time.monotonic() - begun < FOR_EVER / 2
        assert caught.value.errno == errno.ECANCELED
        assert unclear is None or caught.value.unclear is unclear

    @pytest.fixture
    def pool(self) -> Iterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(16) as pool:
            yield pool

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(hang="before"),
            Reply(hang="headers"),
            Reply(body=HANDLE, hang="body"),
            Reply(body=b"", hang="body", length=False),
            Reply(body=b" " * 2000, drip="body"),
            Reply(404, b" " * 2000, hang="body"),
        ],
    )
    def test_who_waits_for_a_reply_gets_an_error_at_once_and_later_calls_work(
        self, server: StandIn, make: Make, pool: ThreadPoolExecutor, reply: Reply
    ) -> None:
        server.on("GET", "/runs/abc", reply)
        flow = make(timeout=FOR_EVER)
        calls = [pool.submit(flow.runs.get_run, "abc") for _ in range(8)]
        self.interrupt_when(lambda: server.count("GET") == 8, flow.session)
        for call in calls:
            self.assert_interrupted(call)
        assert server.count() == 8, "nothing is sent again"
        assert flow.workflows.list_workflows()

    def test_who_waits_between_two_attempts_gets_an_error_at_once(
        self, server: StandIn, make: Make, pool: ThreadPoolExecutor
    ) -> None:
        server.on("GET", "/workflows", Reply(503, headers={"Retry-After": "4.9"}))
        flow = make(timeout=FOR_EVER)
        call = pool.submit(flow.workflows.list_workflows)
        self.interrupt_when(lambda: server.count("GET") == 1, flow.session)
        self.assert_interrupted(call)
        assert server.count("GET") == 1

    def test_who_waits_for_a_connection_gets_an_error_at_once(
        self, make: Make, pool: ThreadPoolExecutor
    ) -> None:
        with full_listener() as (port, waiting):
            flow = make(f"http://127.0.0.1:{port}/api", timeout=FOR_EVER)
            call = pool.submit(flow.workflows.list_workflows)
            self.interrupt_when(waiting, flow.session)
            self.assert_interrupted(call, unclear=False)

    def test_a_tls_handshake_that_never_ends_is_ended(
        self, make: Make, pool: ThreadPoolExecutor
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            flow = make(f"https://127.0.0.1:{listener.getsockname()[1]}/api", timeout=FOR_EVER)
            call = pool.submit(flow.workflows.list_workflows)
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(1)
                flow.session.interrupt()
                self.assert_interrupted(call, unclear=False)

    def test_a_body_that_is_waited_for_or_open_is_ended(
        self, server: StandIn, make: Make, pool: ThreadPoolExecutor
    ) -> None:
        server.on("GET", "/runs/abc/downloads/archive", Reply(body=bytes(100), hang="body"))
        server.on("GET", "/runs/def/downloads/archive", Reply(body=bytes(1 << 26)))
        flow = make(timeout=FOR_EVER)
        with (
            flow.runs.get_result_archive("abc") as waited_for,
            flow.runs.get_result_archive("def") as idle,
        ):
            assert len(waited_for.read(50)) == len(idle.read(50)) == 50
            call = pool.submit(waited_for.read)
            flow.session.interrupt()
            self.assert_interrupted(call)
            self.assert_interrupted(pool.submit(idle.read))
        with flow.runs.get_result_archive("def") as body:
            assert len(body.read()) == 1 << 26

    def test_a_body_without_a_length_is_not_taken_for_whole(
        self, server: StandIn, make: Make, pool: ThreadPoolExecutor
    ) -> None:
        path = "/runs/abc/downloads/archive"
        server.on("GET", path, Reply(body=bytes(100), hang="body", length=False))
        flow = make(timeout=FOR_EVER)
        with flow.runs.get_result_archive("abc") as body:
            call = pool.submit(body.readall)
            flow.session.interrupt()
            self.assert_interrupted(call)

    def test_a_body_that_was_read_to_its_end_is_whole(self, server: StandIn, make: Make) -> None:
        server.on("GET", "/runs/abc/downloads/archive", Reply(body=bytes(100)))
        flow = make()
        with flow.runs.get_result_archive("abc") as body:
            assert len(body.read(100)) == 100
            flow.session.interrupt()
            assert body.read() == b""

    def test_a_start_that_may_have_arrived_is_unclear(
        self, server: StandIn, make: Make, pool: ThreadPoolExecutor
    ) -> None:
        server.on("POST", "/groups/.*", Reply(hang="before"))
        flow = make(timeout=FOR_EVER)
        call = pool.submit(flow.runs.start_run, server.routes.group, names_argument(server))
        self.interrupt_when(lambda: server.count("POST") == 1, flow.session)
        self.assert_interrupted(call, unclear=True)
        assert isinstance(call.exception(), UnclearStart)
        assert server.count() == 1, "nobody looks for the run: that might take long"

    def test_a_start_that_cannot_have_arrived_is_clear(
        self, make: Make, pool: ThreadPoolExecutor
    ) -> None:
        with full_listener() as (port, waiting):
            flow = make(f"http://127.0.0.1:{port}/api", timeout=FOR_EVER)
            call = pool.submit(flow.runs.start_run, "g", [])
            self.interrupt_when(waiting, flow.session)
            self.assert_interrupted(call, unclear=False)
            assert not isinstance(call.exception(), UnclearStart)

    def test_an_upload_is_ended(
        self, server: StandIn, make: Make, pool: ThreadPoolExecutor
    ) -> None:
        server.on("POST", "/uploads/.*", Reply(hang="before"))
        flow = make(timeout=FOR_EVER)
        call = pool.submit(
            flow.uploads.upload_file, server.routes.group, io.BytesIO(b"data"), "x.txt"
        )
        self.interrupt_when(lambda: server.count("POST") == 1, flow.session)
        self.assert_interrupted(call)

    def test_closing_refuses_what_would_begin_later(
        self, server: StandIn, make: Make, pool: ThreadPoolExecutor
    ) -> None:
        server.on("GET", "/runs/abc", Reply(hang="before"))
        flow = make(timeout=FOR_EVER)
        call = pool.submit(flow.runs.get_run, "abc")
        self.interrupt_when(lambda: server.count("GET") == 1, flow.session, closing=True)
        self.assert_interrupted(call)
        for later in (
            flow.workflows.list_workflows,
            lambda: flow.runs.get_result_archive("abc"),
            lambda: flow.runs.start_run("g", []),
        ):
            self.assert_interrupted(pool.submit(later), unclear=False)
        assert server.count() == 1

    def test_it_spares_other_sessions(self, server: StandIn, make: Make) -> None:
        server.on("GET", "/runs/abc/downloads/archive", Reply(body=bytes(1 << 24)))
        flow = make()
        with flow.runs.get_result_archive("abc") as body:
            make().session.interrupt(closing=True)
            assert len(body.read()) == 1 << 24

    def test_nothing_is_remembered_of_what_is_over(self, server: StandIn, make: Make) -> None:
        flow = make()
        for _ in range(20):
            flow.workflows.list_workflows()
            with flow.runs.get_result_archive(server.routes.add_file(b"x")[0]) as body:
                body.read()
        gc.collect()
        assert len(flow.session.underway) <= 1


@contextlib.contextmanager
def full_listener() -> Iterator[tuple[int, Callable[[], bool]]]:
    """Yield a port at which connecting neither succeeds nor fails, and whether somebody tries."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):  # until the queue of those who wait is full
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        before = _connecting_to(port)
        yield port, lambda: _connecting_to(port) > before


def _connecting_to(port: int) -> int:
    """Return how many sockets of this machine have sent a SYN to a port, unanswered."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[2].endswith(f":{port:04X}") and line[3] == "02" for line in lines)
