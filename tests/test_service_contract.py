"""The calls mean the same on two versions of flowServ, and on the stand-ins that others rely on."""

from __future__ import annotations

import contextlib
import errno
import io
import tarfile
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from standin import StandIn
from support import ENDED, wait_until
from wire import Wire

from flowfs.embedded import EmbeddedService
from flowfs.errors import (
    AccessDenied,
    InvalidArguments,
    InvalidRunState,
    NotFound,
    TooLarge,
)
from flowfs.service import Credentials, FlowService, Session

NAMES = b"Ada\nGrace\n"
GREETINGS = b"Hello, Ada!\nHello, Grace!\n"


@dataclass
class Place:
    """A service, and what there is in it."""

    endpoint: str
    token: str
    username: str
    password: str
    group: str
    workflow: str

    @classmethod
    def of(cls, started: EmbeddedService) -> Place:
        return cls(
            started.endpoint,
            started.token,
            started.username,
            (started.directory / "password").read_text().strip(),
            started.groups["hello"],
            started.workflows["hello"],
        )

    def service(self, token: str | None = None) -> FlowService:
        return FlowService(Session(self.endpoint, Credentials(token, "a test", "log in")))


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Place]:
    with StandIn() as server:
        known = server.routes
        yield Place(
            server.endpoint,
            known.token,
            known.username,
            known.password,
            known.group,
            known.workflow,
        )


@pytest.fixture(scope="module")
def wire() -> Iterator[Place]:
    """The fast stand-in, which has runs of its own beside those that tests start."""
    with Wire(big=1 << 20, runs=2) as server:
        login = server.username, server.password
        yield Place(server.endpoint, server.token, *login, server.group, server.workflow)


@pytest.fixture(scope="module", params=["stand-in", "wire", "flowserv-0.8.1", "flowserv-0.7.2"])
def any_service(request: pytest.FixtureRequest) -> Place:
    if request.param in ("stand-in", "wire"):
        place: Place = request.getfixturevalue(request.param.replace("-", "_"))
        return place
    older = request.param == "flowserv-0.7.2"
    return Place.of(request.getfixturevalue("_older_service" if older else "service"))


@pytest.fixture
def flow(any_service: Place) -> Iterator[FlowService]:
    service = any_service.service(any_service.token)
    yield service
    service.session.close()


@pytest.fixture
def group(any_service: Place) -> str:
    return any_service.group


def names_file(flow: FlowService, group: str, data: bytes = NAMES) -> dict[str, Any]:
    """An argument for `names`."""
    upload = flow.uploads.upload_file(group, io.BytesIO(data), "names.txt")
    return {"name": "names", "value": {"type": "$file", "value": {"fileId": upload["id"]}}}


def ended(flow: FlowService, handle: dict[str, Any]) -> dict[str, Any]:
    return wait_until(
        lambda: run if (run := flow.runs.get_run(handle["id"]))["state"] in ENDED else None,
        30,
        f"end of run {handle['id']}",
    )


@pytest.fixture
def greeted(flow: FlowService, group: str) -> dict[str, Any]:
    """A run in SUCCESS."""
    handle = ended(flow, flow.runs.start_run(group, [names_file(flow, group)]))
    assert handle["state"] == "SUCCESS"
    return handle


@pytest.fixture
def active(flow: FlowService, group: str) -> Iterator[dict[str, Any]]:
    """A run that goes on until it is canceled."""
    sleep = {"name": "sleeptime", "value": 100}
    handle = flow.runs.start_run(group, [names_file(flow, group), sleep])
    yield handle
    with contextlib.suppress(InvalidRunState, NotFound):
        flow.runs.cancel_run(handle["id"])


class TestStart:
    def test_a_started_run_has_a_handle_with_its_arguments_as_sent(
        self, flow: FlowService, group: str
    ) -> None:
        arguments = [names_file(flow, group), {"name": "sleeptime", "value": 0}]
        handle = flow.runs.start_run(group, arguments)
        assert handle["groupId"] == group
        assert handle["arguments"] == arguments
        assert flow.runs.get_run(handle["id"])["arguments"] == arguments

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("nope", 1, "unknown parameter 'nope'"),
            ("sleeptime", "abc", "no int 'abc'"),
        ],
    )
    def test_a_bad_argument_is_einval_in_the_services_words(
        self, flow: FlowService, group: str, name: str, value: Any, words: str
    ) -> None:
        arguments = [names_file(flow, group), {"name": name, "value": value}]
        with pytest.raises(InvalidArguments, match=words) as caught:
            flow.runs.start_run(group, arguments)
        assert (caught.value.errno, caught.value.status) == (errno.EINVAL, 400)
        assert caught.value.service_message == words
        assert not caught.value.unclear

    def test_a_missing_argument_is_einval_and_starts_nothing(
        self, flow: FlowService, group: str
    ) -> None:
        before = flow.runs.list_runs(group)
        with pytest.raises(InvalidArguments, match="missing argument for 'names'"):
            flow.runs.start_run(group, [])
        assert len(flow.runs.list_runs(group)["runs"]) == len(before["runs"])

    def test_an_argument_that_names_no_file_is_einval_not_enoent(
        self, flow: FlowService, group: str
    ) -> None:
        value = {"type": "$file", "value": {"fileId": "nope"}}
        with pytest.raises(InvalidArguments, match="unknown file 'nope'") as caught:
            flow.runs.start_run(group, [{"name": "names", "value": value}])
        assert caught.value.status == 404

    def test_an_unknown_group_is_enoent(self, flow: FlowService) -> None:
        with pytest.raises(NotFound, match="unknown group 'nope'"):
            flow.runs.start_run("nope", [])


class TestListAndGet:
    def test_runs_are_listed_oldest_first_and_by_state(
        self, flow: FlowService, group: str, greeted: dict[str, Any], active: dict[str, Any]
    ) -> None:
        states = {run["id"]: run["state"] for run in flow.runs.list_runs(group)["runs"]}
        assert list(states)[-2:] == [greeted["id"], active["id"]]
        assert states[greeted["id"]] == "SUCCESS"
        listed = flow.runs.list_runs(group, state="SUCCESS")["runs"]
        assert greeted["id"] in [run["id"] for run in listed]
        assert {run["state"] for run in listed} == {"SUCCESS"}
        assert flow.runs.list_runs(group, state="NO SUCH & STATE")["runs"] == []

    def test_a_run_in_success_names_its_files(self, greeted: dict[str, Any]) -> None:
        assert [file["name"] for file in greeted["files"]] == ["results/greetings.txt"]
        assert greeted["finishedAt"] >= greeted["createdAt"]

    def test_what_is_unknown_is_enoent_in_the_services_words(
        self, flow: FlowService, greeted: dict[str, Any]
    ) -> None:
        with pytest.raises(NotFound, match="unknown run 'nope'"):
            flow.runs.get_run("nope")
        with pytest.raises(NotFound, match="unknown group 'nope'"):
            flow.runs.list_runs("nope")
        with pytest.raises(NotFound, match="unknown file 'nope'"):
            flow.runs.get_result_file(greeted["id"], "nope")
        with pytest.raises(NotFound, match="unknown group 'nope'"):
            flow.uploads.list_files("nope")
        with pytest.raises(NotFound, match="unknown workflow 'nope'"):
            flow.workflows.get_workflow("nope")

    @pytest.mark.parametrize("run_id", ["a/b", "..", ".", "", "%2e%2e", "a?b#c", "größe", "a b"])
    def test_odd_ids_are_just_unknown(self, flow: FlowService, group: str, run_id: str) -> None:
        for call in (flow.runs.get_run, flow.runs.delete_run, flow.runs.cancel_run):
            with pytest.raises(NotFound):
                call(run_id)
        assert flow.groups.get_group(group)["id"] == group


class TestCancelAndDelete:
    def test_canceling_an_active_run_keeps_the_reason(
        self, flow: FlowService, active: dict[str, Any]
    ) -> None:
        handle = flow.runs.cancel_run(active["id"], "too slow: 'größer' & \"more\"")
        assert handle["state"] == "CANCELED"
        assert "too slow: 'größer' & \"more\"" in flow.runs.get_run(active["id"])["messages"]

    def test_canceling_without_a_reason(self, flow: FlowService, active: dict[str, Any]) -> None:
        assert flow.runs.cancel_run(active["id"])["state"] == "CANCELED"

    def test_canceling_an_ended_run_is_ebusy_and_says_why(
        self, flow: FlowService, greeted: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidRunState, match="only an active run can be canceled") as caught:
            flow.runs.cancel_run(greeted["id"])
        assert caught.value.errno == errno.EBUSY
        assert "bound method" not in str(caught.value)

    def test_deleting_an_active_run_is_ebusy_and_leaves_it_alone(
        self, flow: FlowService, active: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidRunState, match="cancel it first") as caught:
            flow.runs.delete_run(active["id"])
        assert caught.value.errno == errno.EBUSY
        assert flow.runs.get_run(active["id"])["state"] not in ENDED

    def test_deleting_twice_is_enoent_the_second_time(
        self, flow: FlowService, group: str, greeted: dict[str, Any]
    ) -> None:
        assert flow.runs.delete_run(greeted["id"]) is None
        assert greeted["id"] not in [run["id"] for run in flow.runs.list_runs(group)["runs"]]
        with pytest.raises(NotFound, match="unknown run"):
            flow.runs.delete_run(greeted["id"])


class TestResults:
    def test_a_result_file_streams_and_knows_its_length(
        self, flow: FlowService, greeted: dict[str, Any]
    ) -> None:
        with flow.runs.get_result_file(greeted["id"], greeted["files"][0]["id"]) as body:
            assert (body.start, body.length, body.total) == (0, len(GREETINGS), len(GREETINGS))
            assert (body.read(3), body.read(), body.read()) == (GREETINGS[:3], GREETINGS[3:], b"")

    @pytest.mark.parametrize("span", ["2-4", "0-0", "20-", "20-9999"])
    def test_a_range_is_that_part(
        self, flow: FlowService, greeted: dict[str, Any], span: str
    ) -> None:
        first, _, last = span.partition("-")
        expected = GREETINGS[int(first) : int(last) + 1 if last else None]
        file_id = greeted["files"][0]["id"]
        with flow.runs.get_result_file(greeted["id"], file_id, range=f"bytes={span}") as body:
            assert (body.start, body.total) == (int(first), len(GREETINGS))
            assert body.length == len(expected)
            assert body.read() == expected

    def test_a_range_past_the_end_is_an_empty_body_that_tells_the_size(
        self, flow: FlowService, greeted: dict[str, Any]
    ) -> None:
        file_id = greeted["files"][0]["id"]
        with flow.runs.get_result_file(greeted["id"], file_id, range="bytes=999-") as body:
            assert (body.length, body.total, body.read()) == (0, len(GREETINGS), b"")

    def test_an_empty_result_is_empty(self, flow: FlowService, group: str) -> None:
        handle = ended(flow, flow.runs.start_run(group, [names_file(flow, group, b"")]))
        (file,) = handle["files"]
        with flow.runs.get_result_file(handle["id"], file["id"]) as body:
            assert (body.length, body.read()) == (0, b"")
        with flow.runs.get_result_file(handle["id"], file["id"], range="bytes=0-9") as body:
            assert (body.start, body.total, body.read()) == (0, 0, b"")

    def test_the_archive_holds_the_files(self, flow: FlowService, greeted: dict[str, Any]) -> None:
        with flow.runs.get_result_archive(greeted["id"]) as body:
            data = body.read()
            assert body.length == len(data)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            (member,) = [m for m in archive.getmembers() if m.isfile()]
            file = archive.extractfile(member)
            assert file is not None
            assert file.read() == GREETINGS

    def test_an_active_run_has_no_archive(self, flow: FlowService, active: dict[str, Any]) -> None:
        with pytest.raises(NotFound, match="unknown run"):
            flow.runs.get_result_archive(active["id"])


class Unreadable(io.RawIOBase):
    """A large file of zeros that is not there, and refuses to be read at once."""

    def __init__(self, size: int) -> None:
        self.size, self.at, self.largest = size, 0, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None
        assert 0 <= size <= 1 << 20, "read at once"
        self.largest = max(self.largest, size)
        size = min(size, self.size - self.at)
        self.at += size
        return bytes(size)


class TestUploads:
    def test_an_upload_is_listed_read_back_and_deleted(self, flow: FlowService, group: str) -> None:
        made = flow.uploads.upload_file(group, io.BytesIO(b"some bytes"), "some.txt")
        assert made["name"] == "some.txt"
        assert made["id"] in [file["id"] for file in flow.uploads.list_files(group)]
        assert made["id"] in [file["id"] for file in flow.groups.get_group(group)["files"]]
        with flow.uploads.get_file(group, made["id"]) as body:
            assert (body.length, body.read()) == (10, b"some bytes")
        with flow.uploads.get_file(group, made["id"], range="bytes=5-") as body:
            assert (body.start, body.read()) == (5, b"bytes")
        flow.uploads.delete_file(group, made["id"])
        assert made["id"] not in [file["id"] for file in flow.uploads.list_files(group)]
        with pytest.raises(NotFound, match="unknown file"):
            flow.uploads.delete_file(group, made["id"])

    def test_an_empty_file_can_be_uploaded(self, flow: FlowService, group: str) -> None:
        made = flow.uploads.upload_file(group, io.BytesIO(), "empty.txt")
        with flow.uploads.get_file(group, made["id"]) as body:
            assert body.read() == b""

    def test_the_same_name_twice_makes_two_files(self, flow: FlowService, group: str) -> None:
        first = flow.uploads.upload_file(group, io.BytesIO(b"1"), "twice.txt")
        second = flow.uploads.upload_file(group, io.BytesIO(b"2"), "twice.txt")
        assert first["id"] != second["id"]
        with flow.uploads.get_file(group, first["id"]) as body:
            assert body.read() == b"1"

    @pytest.mark.parametrize(
        ("name", "stored"),
        [
            ("a b.txt", "a_b.txt"),
            ("日本.txt", "txt"),
            ("it's.txt", "its.txt"),
            ("../up/x.txt", "up_x.txt"),
            ("line\r\nbreak.txt", None),
            ('say "hi".txt', None),
            ("back\\slash;x=1.txt", None),
        ],
    )
    def test_the_reply_tells_the_stored_name(
        self, flow: FlowService, group: str, name: str, stored: str | None
    ) -> None:
        made = flow.uploads.upload_file(group, io.BytesIO(b"data"), name)
        if stored is not None:
            assert made["name"] == stored
        listed = {file["id"]: file["name"] for file in flow.uploads.list_files(group)}
        assert listed[made["id"]] == made["name"]
        with flow.uploads.get_file(group, made["id"]) as body:
            assert body.read() == b"data"

    def test_a_name_of_which_nothing_remains_is_einval(self, flow: FlowService, group: str) -> None:
        with pytest.raises(InvalidArguments, match="invalid name"):
            flow.uploads.upload_file(group, io.BytesIO(b"data"), "日本")

    def test_a_name_that_is_no_utf_8_is_einval(self, flow: FlowService, group: str) -> None:
        with pytest.raises(InvalidArguments, match="no UTF-8"):
            flow.uploads.upload_file(group, io.BytesIO(b"data"), "half \ud800.txt")

    def test_an_upload_begins_where_the_file_stands_and_tells_its_progress(
        self, flow: FlowService, group: str
    ) -> None:
        file = io.BytesIO(b"skip" + bytes(3 << 20))
        file.seek(4)
        sent: list[int] = []
        made = flow.uploads.upload_file(group, file, "large.bin", progress=sent.append)
        assert sum(sent) == 3 << 20
        assert len(sent) > 2
        with flow.uploads.get_file(group, made["id"]) as body:
            assert body.length == 3 << 20

    def test_an_upload_is_never_in_memory_as_a_whole(self, flow: FlowService, group: str) -> None:
        # The stand-in keeps what it gets, in this very process.
        server_is_here = flow.descriptor.name == "stand-in"
        file = Unreadable(4 << 20 if server_is_here else 64 << 20)
        tracemalloc.start()
        try:
            flow.uploads.upload_file(group, file, "large.bin")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert file.at == file.size
        assert server_is_here or peak < 8 << 20

    def test_an_upload_to_an_unknown_group_is_enoent(self, flow: FlowService) -> None:
        with pytest.raises(NotFound, match="unknown group 'nope'"):
            flow.uploads.upload_file("nope", io.BytesIO(b"data"), "x.txt")


class TestUsers:
    def test_no_token_is_eacces_and_says_how_to_log_in(
        self, any_service: Place, group: str
    ) -> None:
        flow = any_service.service(None)
        for call in (flow.users.whoami, lambda: flow.runs.list_runs(group)):
            with pytest.raises(AccessDenied, match="no access token was sent; log in") as caught:
                call()
            assert caught.value.errno == errno.EACCES
            assert caught.value.service_message == "not logged in"

    def test_a_bad_token_is_eacces_and_says_which_was_sent(
        self, any_service: Place, group: str
    ) -> None:
        flow = any_service.service("bad-token")
        with pytest.raises(AccessDenied, match="the token from a test was sent") as caught:
            flow.runs.list_runs(group)
        assert "api_key" in str(caught.value)
        assert "bad-token" not in repr(caught.value)

    def test_a_wrong_password_is_refused(self, any_service: Place) -> None:
        with pytest.raises((NotFound, AccessDenied)):
            any_service.service().users.login(any_service.username, "wrong")


class TestGroupsAndWorkflows:
    def test_a_group_tells_parameters_uploads_and_runs(
        self, flow: FlowService, group: str, greeted: dict[str, Any]
    ) -> None:
        handle = flow.groups.get_group(group)
        assert [p["name"] for p in handle["parameters"]] == ["names", "greeting", "sleeptime"]
        assert greeted["id"] in [run["id"] for run in handle["runs"]]

    def test_groups_are_found_through_the_workflows(
        self, any_service: Place, flow: FlowService
    ) -> None:
        groups = {entry["id"]: entry for entry in flow.groups.list_groups()}
        assert groups[any_service.group]["name"] == "hello"
        assert groups[any_service.group]["workflow"] == any_service.workflow

    def test_workflows_and_their_leaderboards(self, any_service: Place, flow: FlowService) -> None:
        assert any_service.workflow in [entry["id"] for entry in flow.workflows.list_workflows()]
        assert flow.workflows.get_workflow(any_service.workflow)["name"] == "hello"
        # The service says null where a workflow ranks nothing.
        board = flow.workflows.get_leaderboard(any_service.workflow)
        assert board == {"schema": [], "ranking": []}
        groups = flow.workflows.list_groups(any_service.workflow)
        assert any_service.group in [entry["id"] for entry in groups]


@pytest.fixture(scope="module")
def small_service() -> Iterator[Place]:
    """A service of its own, since whoever logs out does so for all; it takes 1 MiB at most."""
    with EmbeddedService.start(max_upload=1) as started:
        yield Place.of(started)


@pytest.mark.service
def test_an_upload_over_the_limit_is_efbig(small_service: Place) -> None:
    flow = small_service.service(small_service.token)
    for size in (2 << 20, 64 << 20):
        with pytest.raises(TooLarge) as caught:
            flow.uploads.upload_file(small_service.group, Unreadable(size), "large.bin")
        assert (caught.value.errno, caught.value.status) == (errno.EFBIG, 413)
    assert flow.uploads.list_files(small_service.group) == []
    flow.session.close()


@pytest.mark.parametrize(
    "place", ["stand_in", "wire", pytest.param("small_service", marks=pytest.mark.service)]
)
def test_a_login_gives_a_token_that_a_logout_ends(
    place: str, request: pytest.FixtureRequest
) -> None:
    where: Place = request.getfixturevalue(place)
    reply = where.service().users.login(where.username, where.password)
    assert reply["username"] == where.username
    flow = where.service(reply["token"])
    assert flow.users.whoami()["username"] == where.username
    assert flow.users.logout()["username"] == where.username
    for call in (flow.users.whoami, lambda: flow.runs.list_runs(where.group)):
        with pytest.raises(AccessDenied):
            call()
    flow.session.close()
