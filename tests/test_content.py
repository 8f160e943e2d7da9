"""How bytes are fetched and kept: few requests, and never a wrong or missing byte."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standin import Asked, Reply, StandIn
from support import wait_until

from flowfs.content import Content, Room, SharedFile, Source
from flowfs.content.fetching import Fetch
from flowfs.content.kept import Kept
from flowfs.content.pace import Pace
from flowfs.content.spans import Spans
from flowfs.content.window import Window
from flowfs.errors import BadReply, FlowError, NotFound
from flowfs.service import Credentials, FlowService, ServiceDescriptor, Session
from flowfs.service.body import Body

DATA = random.Random(7).randbytes(3_000_001)
SMALL = DATA[:5000]
FILES = "/runs/.*/downloads/files/.*"
ARCHIVE = "/runs/.*/downloads/archive"


class Interrupt(BaseException):
    """As KeyboardInterrupt, which would end pytest."""


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def flow(server: StandIn) -> Iterator[FlowService]:
    session = Session(server.endpoint, Credentials(server.routes.token), timeout=600)
    flow = FlowService(session)
    flow._descriptor = ServiceDescriptor(server.endpoint)
    yield flow
    session.close()


@pytest.fixture
def content() -> Content:
    return Content()


Make = Callable[..., Source]


@pytest.fixture
def make(server: StandIn, flow: FlowService) -> Make:
    def make(data: bytes = DATA) -> Source:
        run, file = server.routes.add_file(data)
        return Source(
            ("result", run, file), lambda span: flow.runs.get_result_file(run, file, range=span)
        )

    return make


@pytest.fixture
def archive(server: StandIn, flow: FlowService) -> Source:
    run, _ = server.routes.add_file(DATA)
    return Source(("archive", run), lambda span: flow.runs.get_result_archive(run), whole=True)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """A disk that has room for nothing more."""

    def refuse(*args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        yield


def ranges(server: StandIn) -> list[str | None]:
    return [asked.headers.get("Range") for asked in server.requests("GET", FILES)]


class TestReading:
    @pytest.mark.parametrize("size", [1009, 65536, 1 << 20, -1])
    def test_front_to_back_is_one_request_whatever_the_reads(
        self, server: StandIn, content: Content, make: Make, size: int
    ) -> None:
        with content.open(make()) as file:
            read = b"".join(iter(lambda: file.read(size), b""))
        assert read == DATA
        assert ranges(server) == [None]

    def test_who_reads_on_has_nothing_looked_up(self, content: Content, make: Make) -> None:
        def refuse(source: Source) -> Any:
            raise AssertionError("it was looked up")

        buffer = bytearray(100_000)
        with content.open(make()) as file, pytest.MonkeyPatch.context() as patch:
            assert file.read(1000) == DATA[:1000]
            patch.setattr(content, "small", refuse)
            patch.setattr(content, "known_size", refuse)
            assert file.readinto(buffer) == len(buffer)
            assert buffer == DATA[1000:101_000]
            assert file.read(10) == DATA[101_000:101_010]

    @settings(max_examples=20)
    @given(
        st.lists(
            st.tuples(st.integers(0, 400_000), st.integers(0, 200_000)), min_size=1, max_size=8
        ),
        st.sampled_from([True, False]),
    )
    def test_any_seeks_and_reads_give_the_right_bytes(
        self, server: StandIn, make: Make, jumps: list[tuple[int, int]], honoured: bool
    ) -> None:
        data = DATA[:300_000]
        server.on("GET", FILES, None if honoured else Reply(body=data, ranges=False))
        with io.BufferedReader(Content().open(make(data)), 10_000) as file:
            for at, size in jumps:
                file.seek(at)
                assert file.read(size) == data[at : at + size]

    def test_a_jump_is_a_request_for_that_place(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        with content.open(make()) as file:
            file.seek(2_000_000)
            assert file.read(10) == DATA[2_000_000:2_000_010]
            assert file.read(10) == DATA[2_000_010:2_000_020]
            file.seek(5)
            assert file.read(5) == DATA[5:10]
        first, second = ranges(server)
        assert first == "bytes=2000000-2065535"
        assert second == "bytes=5-65540"

    def test_reading_on_after_a_jump_is_a_stream_again(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        with content.open(make()) as file:
            file.seek(1_000_000)
            assert b"".join(iter(lambda: file.read(50_000), b"")) == DATA[1_000_000:]
        assert len(ranges(server)) == 2

    def test_a_short_way_forward_is_read_through(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        with content.open(make()) as file:
            file.read(10)
            file.seek(100_000)
            assert file.read(10) == DATA[100_000:100_010]
        assert ranges(server) == [None]

    def test_what_is_read_through_is_what_comes_sooner_than_a_request(
        self, server: StandIn, content: Content, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Pace, "worth", 1 << 20)
        with content.open(make()) as file:
            file.read(10)
            for place in (1_000_000, 2_048_000):
                file.seek(place)
                assert file.read(10) == DATA[place : place + 10]
            monkeypatch.setattr(Pace, "worth", 1 << 16)
            file.seek(2_900_000)
            assert file.read(10) == DATA[2_900_000:2_900_010]
        first, second = ranges(server)
        assert first is None
        assert (second or "").startswith("bytes=2900000-")

    def test_who_goes_on_to_jump_forward_by_a_little_gets_a_stream(
        self, server: StandIn, content: Content, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Pace, "worth", 1 << 18)
        with content.open(make()) as file:
            for place in range(100_000, 2_900_000, 200_000):
                file.seek(place)
                assert file.read(512) == DATA[place : place + 512]
        asked = ranges(server)
        assert len(asked) <= 4
        assert asked[-1] is not None
        assert asked[-1].endswith("-")

    def test_several_reads_of_what_was_announced_are_one_request(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        with content.open(make()) as file:
            file.seek(1_000_000)
            file.wanted = 700_000
            parts = [bytearray(300_000), bytearray(300_000), bytearray(100_000)]
            assert [file.readinto(part) for part in parts] == [300_000, 300_000, 100_000]
            assert b"".join(parts) == DATA[1_000_000:1_700_000]
        assert ranges(server) == ["bytes=1000000-1699999"]
        assert server.connections == 1

    def test_reading_at_or_beyond_the_end_is_empty(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make()
        with content.open(source) as file:
            assert file.seek(0, os.SEEK_END) == len(DATA)
            assert file.read(10) == b""
            file.seek(10, os.SEEK_CUR)
            assert file.read() == b""
        assert content.read(source, len(DATA), len(DATA) + 5) == b""
        assert content.read(source, 5, 5) == content.read(source, 5, 2) == b""

    def test_an_empty_file(self, server: StandIn, content: Content, make: Make) -> None:
        source = make(b"")
        assert content.read(source, 0, 10) == b""
        assert content.size(source) == 0
        with content.open(source) as file:
            assert file.read() == b""

    def test_a_closed_file_refuses(self, content: Content, make: Make) -> None:
        file = content.open(make())
        file.close()
        file.close()
        with pytest.raises(ValueError):
            file.read(1)

    def test_bad_seeks_are_refused(self, content: Content, make: Make) -> None:
        with content.open(make()) as file:
            with pytest.raises(ValueError):
                file.seek(-1)
            with pytest.raises(ValueError):
                file.seek(0, 9)

    def test_a_file_that_is_gone_is_enoent_and_forgotten(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make(SMALL)
        assert content.size(source) == len(SMALL)
        content.forget(source)
        server.on("GET", FILES, Reply(404))
        with pytest.raises(NotFound):
            content.read(source, 0, None)
        with content.open(source) as file, pytest.raises(NotFound):
            file.read(1)
        assert len(ranges(server)) == 3


class TestServersThatDiffer:
    @pytest.mark.parametrize("chunked", [False, True])
    def test_one_that_ignores_ranges_is_read_right(
        self, server: StandIn, content: Content, make: Make, chunked: bool
    ) -> None:
        server.on("GET", FILES, Reply(body=DATA, ranges=False, chunked=chunked))
        source = make()
        assert content.read(source, 2_000_000, 2_000_010) == DATA[2_000_000:2_000_010]
        assert content.read(source, 4_000_000, 4_000_010) == b""
        with content.open(source) as file:
            file.seek(1_500_000)
            assert b"".join(iter(lambda: file.read(300_000), b"")) == DATA[1_500_000:]

    def test_of_one_that_ignores_ranges_jumps_forward_are_read_through(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        server.on("GET", FILES, Reply(body=DATA, ranges=False))
        with content.open(make()) as file:
            for place in (500_000, 1_500_000, 2_900_000):
                file.seek(place)
                assert file.read(200_000) == DATA[place : place + 200_000]
        assert len(ranges(server)) == 1

    @pytest.mark.parametrize("known", [False, True])
    def test_the_end_of_a_body_whose_length_nobody_says(
        self, server: StandIn, content: Content, make: Make, known: bool
    ) -> None:
        source = make(DATA[:200_000])
        if known:
            assert content.size(source) == 200_000
        server.on("GET", FILES, Reply(body=DATA[:200_000], chunked=True, ranges=False))
        with content.open(source) as file:
            file.seek(250_000)
            assert file.read(10) == b""
            file.seek(199_990)
            assert file.read(100) == DATA[199_990:200_000]
            assert file.read(100) == b""

    @pytest.mark.parametrize(
        ("span", "length"),
        [
            ("bytes 200-299/5000", 100),  # elsewhere
            ("bytes 100-149/5000", 50),  # shorter
            ("bytes 0-149/5000", 150),  # from the front, not far enough
        ],
    )
    def test_another_range_than_asked_for_is_an_error(
        self, server: StandIn, content: Content, make: Make, span: str, length: int
    ) -> None:
        server.on("GET", FILES, Reply(body=bytes(length), ranges=span))
        with pytest.raises(BadReply, match="asked for the bytes from 100 to 200"):
            content.read(make(SMALL), 100, 200)

    def test_a_stream_that_a_server_caps_is_an_error_not_a_short_file(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        server.on("GET", FILES, Reply(body=SMALL[:1000], ranges="bytes 0-999/5000"))
        with content.open(make(SMALL)) as file, pytest.raises(BadReply):
            file.read()
        server.on(
            "GET", FILES, Reply(body=b"", status=416, headers={"Content-Range": "bytes */5000"})
        )
        with pytest.raises(BadReply):
            content.read(make(SMALL), 100, 200)

    def test_a_capped_first_part_is_not_kept_for_the_whole(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make(SMALL)
        server.on("GET", FILES, Reply(body=SMALL[:1000], ranges="bytes 0-999/5000"), None)
        assert content.size(source) == 5000
        assert content.read(source, 0, None) == SMALL

    def test_a_stream_that_breaks_is_taken_up_where_it_broke(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        server.on("GET", FILES, Reply(body=DATA, cut=1_234_567), None)
        with content.open(make()) as file:
            assert b"".join(iter(lambda: file.read(100_000), b"")) == DATA
        first, second, *_ = ranges(server)
        assert first is None
        assert second is not None
        assert second.startswith("bytes=1200000-")

    def test_one_that_breaks_every_time_is_an_error(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        server.on("GET", FILES, Reply(body=DATA, cut=0, ranges=False))
        with content.open(make()) as file, pytest.raises(BadReply, match="broke"):
            file.read(10)
        assert len(ranges(server)) <= 5

    def test_a_part_cut_short_is_an_error(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make()
        server.on("GET", FILES, Reply(body=DATA, cut=500))
        with pytest.raises(BadReply):
            content.read(source, 1000, 2000)
        with pytest.raises(BadReply):
            content.read(source, 0, None)

    def test_an_end_that_nobody_announced_is_noticed_where_the_size_is_known(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make(DATA[:200_000])
        assert content.size(source) == 200_000
        server.on("GET", FILES, Reply(body=DATA[:150_000], length=False, ranges=False))
        with pytest.raises(BadReply, match="broke off after 150000"):
            content.read(source, 0, None)
        with content.open(source) as file, pytest.raises(BadReply):
            file.read()

    def test_a_compressed_file_is_read_as_it_is(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        server.on("GET", FILES, Reply(body=DATA, gzip=True))
        with content.open(make()) as file:
            assert file.read() == DATA
        assert content.read(make(), 2_000_000, 2_000_010) == DATA[2_000_000:2_000_010]
        with pytest.raises(BadReply, match="does not say how large"):
            content.size(make())

    def test_an_interrupt_within_a_read_loses_no_bytes(
        self, content: Content, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with content.open(make()) as file:
            start = file.read(1000)
            body = file._body
            assert body is not None
            assert body._plain is not None
            real = body._plain.read

            def interrupted(*args: Any, **kwargs: Any) -> bytes:
                real(500)  # lost
                raise Interrupt

            monkeypatch.setattr(body._plain, "read", interrupted)
            with pytest.raises(Interrupt):
                file.read(1000)
            assert start + file.readall() == DATA


class TestSizes:
    def test_a_size_is_asked_once_and_a_small_file_comes_along(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make(SMALL)
        assert content.known_size(source) is None
        assert [content.size(source) for _ in range(3)] == [5000] * 3
        assert content.read(source, 0, None) == SMALL
        assert content.read(source, 10, 20) == SMALL[10:20]
        with content.open(source) as file:
            assert file.read() == SMALL
            assert file.seek(0, os.SEEK_END) == 5000
        assert ranges(server) == ["bytes=0-65535"]
        assert server.count("HEAD") == 0

    def test_a_small_file_that_is_open_is_read_though_it_has_gone_and_takes_no_room(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make(SMALL)
        file = content.share(source)
        content.forget(source)
        assert file.read(10, 10_000) == SMALL[10:]
        assert file.read(5000, 10) == b""
        file.close()
        assert len(list(content.shelf)) == 0
        assert ranges(server) == ["bytes=0-65535"]

    def test_a_large_files_size_costs_one_small_request(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make()
        assert [content.size(source) for _ in range(3)] == [len(DATA)] * 3
        assert ranges(server) == ["bytes=0-65535"]
        assert server.connections == 1
        assert content.read(source, 0, 10) == DATA[:10]
        assert server.connections == 1

    def test_reading_tells_the_size_as_well(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        first, second = make(SMALL), make()
        content.read(first, 10, 20)
        with content.open(second) as file:
            file.read(10)
        assert (content.size(first), content.size(second)) == (5000, len(DATA))
        assert server.count() == 2

    def test_a_small_file_read_whole_is_kept(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make(SMALL)
        for _ in range(3):
            assert content.read(source, 0, None) == SMALL
        assert server.count() == 1

    def test_a_small_file_streamed_is_kept(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make(SMALL)
        for _ in range(3):
            with content.open(source) as file:
                assert file.read(100) + file.readall() == SMALL
        assert server.count() == 1

    def test_small_files_are_kept_within_bounds(
        self, server: StandIn, content: Content, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("flowfs.content.store._SMALL_BOUND", 12_000)
        sources = [make(SMALL) for _ in range(4)]
        for source in sources:
            content.read(source, 0, None)
        assert [content.small(source) is not None for source in sources] == [False] * 2 + [True] * 2

    def test_what_is_forgotten_is_asked_for_again(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make(SMALL)
        for _ in range(2):
            assert content.size(source) == 5000
            content.forget(source)
        assert server.count() == 2

    def test_what_may_have_broken_off_unnoticed_is_asked_about_and_not_kept(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        server.on("GET", FILES, Reply(body=SMALL, length=False, ranges=False, cut=1000), None)
        source = make(SMALL)
        with pytest.raises(BadReply, match="broke off after 1000 of 5000"):
            content.read(source, 0, None)
        assert content.read(source, 0, None) == SMALL


class TestArchives:
    def test_eight_threads_read_one_download(
        self, server: StandIn, content: Content, archive: Source
    ) -> None:
        def read(number: int) -> bytes:
            with content.open(archive) as file:
                if number % 2:
                    file.seek(0, os.SEEK_END)
                    file.seek(0)
                return b"".join(iter(lambda: file.read(10_000 * (number + 1)), b""))

        with ThreadPoolExecutor(8) as pool:
            all_read = set(pool.map(read, range(8)))
        assert len(all_read) == 1
        assert server.count("GET", ARCHIVE) == 1
        (data,) = all_read
        assert content.read(archive, 100, 200) == data[100:200]
        assert content.known_size(archive) == len(data)
        assert server.count() == 1

    def test_its_size_is_unknown_until_it_has_been_read(
        self, server: StandIn, content: Content, archive: Source
    ) -> None:
        assert content.size(archive) is None
        assert server.count() == 0
        data = content.read(archive, 0, None)
        assert content.size(archive) == len(data)

    def test_one_abandoned_half_read_is_fetched_anew_as_a_whole(
        self, server: StandIn, content: Content, archive: Source
    ) -> None:
        with content.open(archive) as file:
            begun = file.read(100)
        again = content.read(archive, 0, None)
        assert server.count("GET", ARCHIVE) == 2
        assert begun != again[:100]  # no two are alike, and nothing of the first is in the second
        assert content.read(archive, 0, 100) == again[:100]

    def test_of_one_that_was_opened_nothing_is_left_but_its_bytes(
        self, content: Content, archive: Source
    ) -> None:
        for _ in range(3):
            assert content.read(archive, 0, 100)
        assert content._opening == {}

    def test_one_that_breaks_is_an_error_for_all_and_fetched_anew_by_the_next(
        self, server: StandIn, content: Content, archive: Source
    ) -> None:
        server.on("GET", ARCHIVE, Reply(body=DATA, cut=2_500_000), None)
        first, second = content.open(archive), content.open(archive)
        caught = []
        for file in (first, second):
            assert file.read(10) == DATA[:10]
            with pytest.raises(BadReply, match="broke") as error:
                file.read()
            caught.append(error.value)
        assert caught[0] is not caught[1]  # each may be told about another path
        with content.open(archive) as third:
            assert third.read()
        for file in (first, second):
            file.close()
        assert server.count("GET", ARCHIVE) == 2

    def test_one_that_does_not_come_is_not_waited_for_in_turn(
        self, server: StandIn, content: Content, archive: Source
    ) -> None:
        all_ask = threading.Barrier(4)

        def refuse(asked: Asked) -> Reply:
            time.sleep(0.3)  # the others wait for this one
            return Reply(500, {"message": "no"})

        def open_it() -> FlowError:
            all_ask.wait()
            with pytest.raises(BadReply, match="no") as caught:
                content.open(archive)
            return caught.value

        server.on("GET", ARCHIVE, refuse)
        with ThreadPoolExecutor(4) as pool:
            errors = [pool.submit(open_it) for _ in range(4)]
        assert len({id(error.result()) for error in errors}) == 4
        assert server.count("GET", ARCHIVE) == 1
        server.on("GET", ARCHIVE, None)
        assert content.read(archive, 0, None)

    def test_a_part_for_the_whole_is_an_error(
        self, server: StandIn, content: Content, archive: Source
    ) -> None:
        server.on("GET", ARCHIVE, Reply(body=DATA[:100], ranges="bytes 0-99/5000"))
        with pytest.raises(BadReply):
            content.open(archive)

    def test_no_room_for_it_is_enospc_and_leaves_no_wrong_bytes(
        self, server: StandIn, content: Content, archive: Source
    ) -> None:
        with content.open(archive) as file:
            with full_disk(), pytest.raises(FlowError, match="temporary file: No space") as caught:
                file.read(10)
            assert caught.value.errno == errno.ENOSPC
            with pytest.raises(FlowError, match="No space"):
                file.read(10)
        assert content.read(archive, 0, None)

    def test_an_interrupted_download_is_not_gone_on_with(
        self, content: Content, archive: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(self: Body, size: int | None = -1) -> bytes:
            raise Interrupt

        with content.open(archive) as file:
            file.read(10)
            with monkeypatch.context() as patch:
                patch.setattr(Body, "read", interrupted)
                with pytest.raises(Interrupt):
                    file.read()
            with pytest.raises(FlowError, match="interrupted"):
                file.read()
        assert content.read(archive, 0, None)

    def test_one_whose_length_nobody_says(
        self, server: StandIn, content: Content, archive: Source
    ) -> None:
        server.on("GET", ARCHIVE, Reply(body=DATA, chunked=True))
        with content.open(archive) as file:
            assert file.seek(0, os.SEEK_END) == len(DATA)
            file.seek(5)
            assert file.read() == DATA[5:]
        assert server.count() == 1

    def test_known_to_be_complete_with_its_last_byte(
        self, server: StandIn, content: Content, archive: Source
    ) -> None:
        server.on("GET", ARCHIVE, Reply(body=DATA))
        with content.open(archive) as file:
            read = 0
            while read < len(DATA):  # as who knows the size: never beyond the end
                read += len(file.read(min(1 << 20, len(DATA) - read)))
        assert content.size(archive) == len(DATA)
        assert content.read(archive, 0, None) == DATA
        assert server.count() == 1

    def test_a_refusal_is_told_to_each_and_nothing_is_kept(
        self, server: StandIn, content: Content, archive: Source
    ) -> None:
        server.on("GET", ARCHIVE, Reply(404), Reply(404), None)
        for _ in range(2):
            with pytest.raises(NotFound):
                content.open(archive)
        assert content.read(archive, 0, None)

    def test_opening_one_does_not_hold_up_another(
        self, server: StandIn, flow: FlowService, content: Content, archive: Source
    ) -> None:
        run, _ = server.routes.add_file(SMALL)
        quick = Source(("archive", run), lambda span: flow.runs.get_result_archive(run), whole=True)
        begun, go_on = threading.Event(), threading.Event()

        def slow(asked: Asked) -> None:
            begun.set()
            go_on.wait(60)

        server.on("GET", f"/runs/{archive.key[1]}/.*", slow)
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(content.read, archive, 0, None)
            assert begun.wait(60)
            assert content.read(quick, 0, None)
            assert not opening.done()
            go_on.set()
            assert opening.result()

    def test_the_oldest_go_when_there_are_too_many_and_their_readers_read_on(
        self,
        server: StandIn,
        flow: FlowService,
        content: Content,
        archive: Source,
    ) -> None:
        content.room.size = 1
        with content.open(archive) as file:
            first = file.read(1000)
            rest = file.readall()
            run, _ = server.routes.add_file(SMALL)
            other = Source(("archive", run), lambda span: flow.runs.get_result_archive(run), True)
            content.read(other, 0, None)
            file.seek(0)
            assert file.readall() == first + rest
        assert content.known_size(archive) is None
        assert content.known_size(other) is not None


class TestSharing:
    """What one reader fetches, all have."""

    def test_eight_threads_that_begin_a_bit_apart_read_one_download(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make()
        content.size(source)
        server.asked.clear()

        def read(number: int) -> bytes:
            time.sleep(number * 0.005)
            file = content.share(source)
            try:
                return whole(file, 10_000 * (number + 1))
            finally:
                file.close()

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(read, range(8))) == {DATA}
        assert whole(content.share(source)) == DATA  # and who comes later
        assert ranges(server) == [None]

    def test_a_reader_that_has_begun_is_joined_and_what_is_there_is_not_fetched_again(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make()
        first = content.share(source)
        assert first.read(0, 1_000_000) == DATA[:1_000_000]
        first.close()
        second = content.share(source)
        assert whole(second, 100_000) == DATA
        second.close()
        assert ranges(server) == ["bytes=0-65535", None, "bytes=1000000-"]

    def test_what_the_kernel_reads_ahead_may_come_in_any_order(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        file = content.share(make())
        server.asked.clear()
        for start in (393_216, 131_072, 0, 262_144, 917_504, 524_288):
            assert file.read(start, 131_072) == DATA[start : start + 131_072]
        assert whole(file) == DATA
        assert ranges(server) == [None]
        file.close()

    def test_a_jump_far_ahead_fetches_a_block_and_not_what_is_between(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        file = content.share(make())
        server.asked.clear()
        assert file.read(2_900_000, 100) == DATA[2_900_000:2_900_100]
        assert file.read(2_950_000, 60_000) == DATA[2_950_000:]  # in the same block
        assert file.read(1_200_000, 10) == DATA[1_200_000:1_200_010]
        assert file.read(0, 100) == DATA[:100]
        assert ranges(server) == ["bytes=2900000-", "bytes=1200000-1331071", None]
        file.close()

    def test_what_is_here_fills_a_buffer_and_what_is_not_is_not_asked_for(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        file = content.share(make())
        assert file.read(1_500_000, 300_000) == DATA[1_500_000:1_800_000]
        asked = len(ranges(server))
        buffer = bytearray(100_000)
        assert file.read_into(memoryview(buffer), 1_600_000) == 100_000
        assert buffer == DATA[1_600_000:1_700_000]
        assert file.read_into(memoryview(buffer)[:0], 1_600_000) == 0
        for at in (0, 1_450_000, 1_750_000, len(DATA)):
            assert file.read_into(memoryview(buffer), at) is None
        assert len(ranges(server)) == asked
        file.close()

    def test_what_several_fetched_here_and_there_is_joined(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        file = content.share(make())
        file.read(2_000_000, 10)
        assert whole(file, 100_000) == DATA
        file.close()
        server.asked.clear()
        again = content.share(file._source)
        assert again.read(0, len(DATA)) == DATA
        assert server.count() == 0
        again.close()

    def test_who_is_interrupted_while_waiting_takes_nobody_elses_turn(
        self, server: StandIn, content: Content, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(timeout: float) -> None:
            raise Interrupt

        def take(fetch: Fetch, end: int) -> threading.Event | None:
            event = begin(fetch, end)
            if event is not None and end == 200_000:
                monkeypatch.setattr(event, "wait", interrupted)
            return event

        def slowly(asked: Asked) -> None:
            go_on.wait(60)

        begin, go_on = Fetch.take, threading.Event()
        monkeypatch.setattr(Fetch, "take", take)
        source = make()
        content.size(source)
        server.on("GET", FILES, slowly)
        file = content.share(source)
        got: list[bytes] = []
        readers = [
            threading.Thread(target=lambda at=at: got.append(file.read(at, 100_000)), daemon=True)
            for at in (0, 200_000)
        ]
        readers[0].start()
        wait_until(lambda: server.count("GET", FILES) == 2, 10, "who fetches")
        with pytest.raises(Interrupt):
            file.read(100_000, 100_000)
        readers[1].start()
        wait_until(lambda: waiting(content) == 1, 10, "who waits")
        go_on.set()
        for reader in readers:
            reader.join(60)
        assert sorted(got) == sorted((DATA[:100_000], DATA[200_000:300_000]))
        file.close()

    def test_one_that_ignores_ranges_sends_it_once_and_all_of_it_is_kept(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make()
        server.on("GET", FILES, Reply(body=DATA, ranges=False))
        file = content.share(source)
        server.asked.clear()
        assert file.read(2_000_000, 10) == DATA[2_000_000:2_000_010]
        assert file.read(1_500_000, 10) == DATA[1_500_000:1_500_010]
        assert file.read(2_900_000, 10) == DATA[2_900_000:2_900_010]
        assert whole(file) == DATA
        assert server.count() == 1
        file.close()

    def test_a_stream_that_breaks_is_taken_up_where_it_broke(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        file = content.share(make())
        server.asked.clear()
        server.on("GET", FILES, Reply(body=DATA, cut=1_234_567), None)
        assert whole(file, 100_000) == DATA
        assert ranges(server) == [None, "bytes=1200000-"]
        file.close()

    def test_one_that_breaks_every_time_is_an_error_and_may_be_right_again_later(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        file = content.share(make())
        server.on("GET", FILES, Reply(body=DATA, cut=0))
        with pytest.raises(BadReply, match="broke"):
            file.read(0, 10)
        server.on("GET", FILES, None)
        assert whole(file) == DATA
        file.close()

    def test_who_waits_for_the_same_bytes_gets_the_same_error_and_asks_no_more(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        file = content.share(make())
        server.asked.clear()
        begun, go_on = threading.Event(), threading.Event()

        def refuse(asked: Asked) -> Reply:
            begun.set()
            go_on.wait(60)
            return Reply(500, {"message": "no"})

        server.on("GET", FILES, refuse)
        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(file.read, 0, 100)]
            assert begun.wait(60)
            calls += [pool.submit(file.read, start * 100, 100) for start in range(7)]
            wait_until(lambda: waiting(content) == 7, 10, "the others to wait")
            go_on.set()
            for call in calls:
                with pytest.raises(BadReply, match="no"):
                    call.result(60)
        assert server.count() == 1
        file.close()

    def test_who_wants_what_is_there_or_elsewhere_waits_for_nobody(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        file = content.share(make())
        assert file.read(0, 500_000) == DATA[:500_000]
        begun, go_on = threading.Event(), threading.Event()

        def hang(asked: Asked) -> None:
            if asked.headers.get("Range", "").startswith("bytes=2500000-"):
                begun.set()
                go_on.wait(60)

        server.on("GET", FILES, hang)
        with ThreadPoolExecutor(1) as pool:
            hung = pool.submit(file.read, 2_500_000, 10)
            assert begun.wait(60)
            assert file.read(1000, 10) == DATA[1000:1010]
            assert file.read(500_000, 10) == DATA[500_000:500_010]
            assert not hung.done()
            go_on.set()
            assert hung.result() == DATA[2_500_000:2_500_010]
        file.close()

    def test_one_larger_than_all_the_room_is_streamed_with_one_request_for_each(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        content.room.size = len(DATA) - 1
        source = make()
        for _ in range(2):
            file = content.share(source)
            server.asked.clear()
            assert whole(file) == DATA
            assert ranges(server) == [None]
            file.close()
        assert content.shelf.used == 0

    def test_where_others_need_the_room_what_was_read_longest_ago_goes(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        content.room.size = 2 * len(DATA)
        sources = [make() for _ in range(3)]
        for source in (*sources[:2], sources[0], sources[2]):
            file = content.share(source)
            assert whole(file) == DATA
            file.close()
        assert content.shelf.used == 2 * len(DATA)
        server.asked.clear()
        for source in (sources[0], sources[2], sources[1]):
            file = content.share(source)
            assert whole(file) == DATA
            file.close()
        assert server.count() == 1

    def test_what_is_read_now_is_not_dropped_and_where_no_room_is_left_others_are_streamed(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        content.room.size = len(DATA) + 1000
        first, second = content.share(make()), content.share(make())
        assert whole(first) == DATA
        assert whole(second) == DATA
        server.asked.clear()
        assert whole(first) == DATA
        assert server.count() == 0
        assert content.shelf.used <= content.room.size
        first.close()
        second.close()

    def test_a_full_disk_fails_no_read(self, server: StandIn, content: Content, make: Make) -> None:
        source = make()
        file = content.share(source)
        assert file.read(0, 1_000_000) == DATA[:1_000_000]
        with full_disk():
            assert file.read(1_000_000, 200_000) == DATA[1_000_000:1_200_000]
            assert whole(file) == DATA
        file.close()
        again = content.share(source)  # there is room again
        assert whole(again) == DATA
        again.close()
        server.asked.clear()
        third = content.share(source)
        assert whole(third) == DATA
        assert server.count() == 0
        third.close()

    def test_a_directory_that_has_gone_fails_no_read(
        self, server: StandIn, make: Make, tmp_path: Path
    ) -> None:
        content = Content(Room(os.fspath(tmp_path / "cache")))
        (tmp_path / "cache").rmdir()
        file = content.share(make())
        assert whole(file) == DATA
        file.close()

    def test_a_temporary_file_that_is_lost_fails_no_read(
        self, server: StandIn, content: Content, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = content.share(make())
        assert file.read(0, 1000) == DATA[:1000]
        monkeypatch.setattr(os, "pread", lambda *args: b"")
        assert file.read(0, 1000) == DATA[:1000]
        assert whole(file) == DATA
        file.close()

    def test_one_that_is_gone_is_read_as_far_as_it_is_held_and_then_not_found(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        file = content.share(make())
        assert file.read(2_000_000, 10) == DATA[2_000_000:2_000_010]
        server.on("GET", FILES, Reply(404))
        assert file.read(2_000_010, 100) == DATA[2_000_010:2_000_110]
        with pytest.raises(NotFound):
            file.read(0, 10)
        assert file.read(2_000_010, 100) == DATA[2_000_010:2_000_110]
        file.close()
        assert content.shelf.used == 0

    def test_an_archive_is_shared_too(
        self, server: StandIn, content: Content, archive: Source
    ) -> None:
        first, second = content.share(archive), content.share(archive)
        assert whole(first) == whole(second)
        assert len(whole(first)) == first.size
        assert server.count() == 1
        first.close()
        second.close()

    def test_a_small_file_and_an_empty_one(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        for data in (SMALL, b""):
            file = content.share(make(data))
            assert whole(file) == data
            assert file.read(len(data), 10) == file.read(len(data) + 5, 10) == b""
            file.close()
        assert server.count() == 2
        assert content.shelf.used == 0

    def test_a_small_file_that_is_no_longer_kept_in_memory(
        self, server: StandIn, content: Content, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("flowfs.content.store._SMALL_BOUND", 0)
        file = content.share(make(SMALL))
        assert whole(file) == whole(file) == SMALL
        assert server.count() == 2
        file.close()

    def test_no_more_files_are_held_open_than_a_process_may_have(
        self, content: Content, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("flowfs.content.shelf._ITEMS", 3)
        monkeypatch.setattr("flowfs.content.store._SMALL_BOUND", 0)
        sources = [make(SMALL) for _ in range(6)]
        make_file, files = content.shelf.room.file, []
        monkeypatch.setattr(
            type(content.shelf.room), "file", lambda room: files.append(make_file()) or files[-1]
        )
        for source in sources:
            file = content.share(source)
            assert whole(file) == SMALL
            file.close()
        assert len(list(content.shelf)) == 3
        assert [file.closed for file in files] == [True] * 3 + [False] * 3

    def test_replies_are_closed_with_the_last_reader(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make()
        first, second = content.share(source), content.share(source)
        first.read(0, 10)
        kept = first._kept
        assert kept is not None
        assert kept is second._kept
        first.close()
        assert len(kept._fetches) == 1
        second.close()
        assert kept._fetches == []

    @settings(max_examples=25)
    @given(
        parts=st.lists(
            st.tuples(st.integers(0, 3_000_000), st.integers(0, 300_000)), min_size=1, max_size=12
        ),
        honoured=st.booleans(),
        room=st.sampled_from([1 << 30, 500_000, 0]),
        cut=st.sampled_from([None, 700_000]),
        ahead=st.booleans(),
    )
    def test_any_parts_read_by_any_threads_are_right(
        self,
        server: StandIn,
        make: Make,
        parts: list[tuple[int, int]],
        honoured: bool,
        room: int,
        cut: int | None,
        ahead: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("flowfs.content.kept._STEADY", 100_000)
        source = make()
        content = Content(Room(None, room))
        content.size(source)
        server.on("GET", FILES, Reply(body=DATA, ranges=honoured, cut=cut), None)
        if not honoured:
            server.on("GET", FILES, Reply(body=DATA, ranges=False))
        content.room.size = max(room, len(DATA)) if room else 0
        files = [content.share(source, ahead=ahead) for _ in range(3)]
        content.room.size = room
        with ThreadPoolExecutor(6) as pool:
            calls = [
                (at, size, pool.submit(files[number % 3].read, at, size))
                for number, (at, size) in enumerate(parts)
            ]
            for at, size, call in calls:
                assert call.result(60) == DATA[at : at + size]
        for file in files:
            file.close()
        wait_until(lambda: not reading_ahead(), 10, "the end of reading ahead")
        assert 0 <= content.shelf.used <= room


class TestReadingAhead:
    """What is fetched ahead of who reads a shared file from front to back."""

    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("flowfs.content.kept._STEADY", 200_000)
        monkeypatch.setattr("flowfs.content.fetching._LEAST_LEAD", 500_000)

    def test_it_is_one_request_and_ends_with_the_file(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        file = content.share(make(), ahead=True)
        assert whole(file) == DATA
        file.close()
        wait_until(lambda: not reading_ahead(), 10, "the end of reading ahead")
        assert ranges(server) == ["bytes=0-65535", None]

    def test_it_stays_ahead_of_who_reads_by_a_bounded_way(
        self, content: Content, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("flowfs.content.kept._IDLE", 600)
        file = content.share(make(), ahead=True)
        kept = file._kept
        assert kept is not None
        for at in range(0, 400_000, 100_000):
            file.read(at, 100_000)
        wait_until(lambda: kept.held >= 650_000, 10, "what is ahead")
        wait_until(lambda: len(reading_ahead()) == 1, 10, "the thread")
        for at in range(400_000, 700_000, 100_000):
            assert file.read(at, 100_000) == DATA[at : at + 100_000]
        wait_until(lambda: kept.held >= 950_000, 10, "what is ahead")
        assert kept.held <= 1_500_000
        file.close()

    def test_it_ends_where_nobody_follows_and_begins_again_where_somebody_does(
        self,
        server: StandIn,
        content: Content,
        make: Make,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("flowfs.content.kept._IDLE", 0.01)
        file = content.share(make(), ahead=True)
        start = b"".join(file.read(at, 50_000) for at in range(0, 400_000, 50_000))
        wait_until(lambda: not reading_ahead(), 10, "the end of reading ahead")
        assert start + file.read(400_000, 3_000_000) == DATA
        assert len(ranges(server)) == 2  # its size, and all of it

    def test_with_the_last_reader_it_ends_at_once_though_the_service_hangs(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make()
        content.size(source)
        server.on("GET", FILES, Reply(body=DATA, hang="body"))
        first, second = (content.share(source, ahead=True) for _ in range(2))
        kept = first._kept
        assert kept is not None
        for at in range(0, 1_400_000, 100_000):
            first.read(at, 100_000)
        (thread,) = reading_ahead()
        first.close()
        assert thread.is_alive()
        second.close()
        thread.join(60)  # the deadline is ten times as far
        assert not thread.is_alive()
        assert (kept.users, kept._fetches) == (0, [])
        server.on("GET", FILES, None)
        with contextlib.closing(content.share(source, ahead=True)) as file:
            assert whole(file) == DATA

    def test_an_interrupt_ends_it_and_who_waits_for_it(
        self, server: StandIn, flow: FlowService, content: Content, make: Make
    ) -> None:
        source = make()
        content.size(source)
        server.on("GET", FILES, Reply(body=DATA, hang="body"))
        file = content.share(source, ahead=True)
        for at in range(0, 1_400_000, 100_000):
            file.read(at, 100_000)
        with ThreadPoolExecutor(1) as pool:
            waiter = pool.submit(file.read, 1_500_000, 100_000)
            wait_until(lambda: waiting(content) == 1, 10, "who waits")
            flow.session.interrupt()
            with pytest.raises(FlowError) as caught:
                waiter.result(60)
        assert caught.value.errno == errno.ECANCELED
        wait_until(lambda: not reading_ahead(), 10, "the end of reading ahead")
        file.close()

    def test_what_fails_ahead_of_everybody_is_asked_for_again_by_who_wants_it(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make()
        content.size(source)
        server.on("GET", FILES, Reply(body=DATA, cut=600_000), Reply(500), None)
        file = content.share(source, ahead=True)
        start = b"".join(file.read(at, 50_000) for at in range(0, 250_000, 50_000))
        wait_until(lambda: not reading_ahead(), 10, "the end of reading ahead")
        assert start + file.read(250_000, 3_000_000) == DATA
        file.close()

    def test_a_stream_that_breaks_is_taken_up_where_it_broke(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        source = make()
        content.size(source)
        server.on("GET", FILES, Reply(body=DATA, cut=1_234_567), None)
        with contextlib.closing(content.share(source, ahead=True)) as file:
            assert whole(file) == DATA
        assert len(ranges(server)) == 3

    def test_what_came_before_a_break_is_given_to_who_waits_for_it(
        self, server: StandIn, content: Content, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Bytes come, little by little, and fewer than are worth a write.
        monkeypatch.setattr("flowfs.content.fetching._WORTH", 1 << 30)
        source = make()
        content.size(source)
        server.on("GET", FILES, Reply(body=DATA, cut=650_000), Reply(500), Reply(500))
        with contextlib.closing(content.share(source, ahead=True)) as file:
            pieces = [file.read(at, 50_000) for at in range(0, 650_000, 50_000)]
            assert b"".join(pieces) == DATA[:650_000]
            with pytest.raises(FlowError, match="500"):
                file.read(650_000, 50_000)

    def test_who_waits_for_what_is_far_ahead_is_not_left_to_wait_until_nobody_follows(
        self, server: StandIn, content: Content, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("flowfs.content.kept._IDLE", 600)
        with contextlib.closing(content.share(make(), ahead=True)) as file:
            for at in range(0, 400_000, 50_000):
                file.read(at, 50_000)
            kept = file._kept
            assert kept is not None
            wait_until(lambda: kept.held >= 650_000, 10, "what is ahead")
            with ThreadPoolExecutor(1) as pool:
                rest = pool.submit(file.read, 400_000, 2_000_000)
                assert rest.result(60) == DATA[400_000:2_400_000]

    def test_what_is_here_already_is_not_fetched_again(
        self, flow: FlowService, content: Content, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("flowfs.content.kept._AHEAD", 100_000)
        file = content.share(make(), ahead=True)
        kept = file._kept
        assert kept is not None
        file.read(1_000_000, 1_500_000)
        assert whole(file) == DATA
        file.close()
        wait_until(lambda: not reading_ahead(), 10, "the end of reading ahead")
        assert (
            flow.session.statistics.document()["GET runs:download:file"]["bytes_received"]
            < len(DATA) + 1_000_000
        )

    def test_no_room_ends_it_and_fails_no_read(
        self, server: StandIn, content: Content, make: Make
    ) -> None:
        file = content.share(make(), ahead=True)
        content.room.size = 700_000
        assert whole(file) == DATA
        file.close()
        wait_until(lambda: not reading_ahead(), 10, "the end of reading ahead")
        assert content.shelf.used <= 700_000


def reading_ahead() -> list[threading.Thread]:
    """Return the threads that fetch ahead of who reads."""
    return [one for one in threading.enumerate() if one.name == "flowfs-reading-ahead"]


def whole(file: SharedFile, size: int = 131_072) -> bytes:
    """Read a file from front to back, as the kernel does."""
    return b"".join(file.read(at, size) for at in range(0, file.size, size))


def waiting(content: Content) -> int:
    """Return how many wait for what somebody else fetches."""
    return sum(
        len(fetch._waiting)
        for item in content.shelf
        if isinstance(item, Kept)
        for fetch in item._fetches
    )


class TestSpans:
    @given(
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=20),
        st.integers(0, 80),
        st.integers(0, 80),
    )
    def test_it_is_a_set_of_numbers(
        self, added: list[tuple[int, int]], start: int, end: int
    ) -> None:
        spans, numbers = Spans(), set[int]()
        for at, size in added:
            new = set(range(at, at + size))
            assert spans.add(at, at + size) == len(new - numbers)
            numbers |= new
        listed = list(spans)
        assert {number for first, last in listed for number in range(first, last)} == numbers
        for (_, before), (after, _) in itertools.pairwise(listed):
            assert before < after, "spans that touch are one"
        lacking = [number for number in range(start, end) if number not in numbers]
        assert spans.missing(start, end) == (lacking[0] if lacking else None)
        if start <= end:
            assert spans.lacking(start, end) == len(lacking)
        ends = [last for _, last in listed if last <= start]
        assert spans.end_before(start) == max(ends, default=0)


class TestPace:
    def test_a_request_is_worth_the_bytes_that_come_in_its_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        pace = Pace()
        assert pace.worth == 1 << 18  # nothing is known yet
        pace.began(99.9)
        assert pace.worth == pytest.approx(1e7)  # of a rate that is supposed
        pace.came(4_000_000, 99.8)
        assert pace.worth == pytest.approx(2e6)
        pace.began(100.0)
        assert pace.worth == 1 << 18
        pace.began(0.0)
        assert pace.worth == 1 << 26


class TestWindow:
    """What is kept nowhere: several requests of the kernel at once, in any order."""

    class Recorded(io.BytesIO):
        """What is read from; it remembers the jumps, each of which costs a request."""

        def __init__(self) -> None:
            super().__init__(DATA)
            self.jumps: list[int] = []

        def seek(self, offset: int, whence: int = 0) -> int:
            self.jumps.append(offset)
            return super().seek(offset, whence)

    @pytest.fixture
    def reader(self) -> Recorded:
        return self.Recorded()

    @pytest.fixture
    def window(self, reader: Recorded) -> Window:
        return Window(reader)  # type: ignore[arg-type]

    def test_reads_in_order_never_jump(self, window: Window, reader: Recorded) -> None:
        for start in range(0, len(DATA), 128 << 10):
            assert window.read(start, 128 << 10) == DATA[start : start + (128 << 10)]
        assert window.read(len(DATA), 100) == b""
        assert reader.jumps == []

    def test_a_read_that_comes_a_little_early_is_read_up_to(
        self, window: Window, reader: Recorded
    ) -> None:
        assert window.read(1_000_000, 1_000_000) == DATA[1_000_000:2_000_000]
        assert window.read(0, 1_000_000) == DATA[:1_000_000]
        assert reader.jumps == []

    def test_a_jump_is_one_jump(self, window: Window, reader: Recorded) -> None:
        for start in (2_000_000, 0, 2_900_000):
            assert window.read(start, 100) == DATA[start : start + 100]
        assert reader.jumps == [2_000_000, 0, 2_900_000]

    def test_what_it_keeps_is_bounded(
        self, window: Window, reader: Recorded, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("flowfs.content.window._KEPT", 200_000)
        for start in range(0, len(DATA), 100_000):
            window.read(start, 100_000)
        assert sum(map(len, window._pieces)) <= 300_000


class TestRoom:
    def test_a_missing_directory_is_made_for_its_owner_alone(self, tmp_path: Path) -> None:
        Room(os.fspath(tmp_path / "made" / "here"))
        assert (tmp_path / "made" / "here").stat().st_mode & 0o777 == 0o700

    def test_a_directory_that_is_there_stays_as_it_is(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        Room(os.fspath(tmp_path))
        assert tmp_path.stat().st_mode & 0o777 == 0o755

    @pytest.mark.parametrize("place", ["file", "file/below", "/proc", "/proc/none"])
    def test_where_no_file_can_be_made_is_an_error_at_once(
        self, tmp_path: Path, place: str
    ) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(FlowError, match="cache_dir must be a directory") as caught:
            Room(os.fspath(tmp_path / place))
        assert caught.value.filename == os.fspath(tmp_path / place)

    def test_files_are_made_there_and_leave_no_name(
        self, tmp_path: Path, server: StandIn, archive: Source
    ) -> None:
        content = Content(Room(os.fspath(tmp_path)))
        with content.open(archive) as file:
            file.read(10)
            assert any(
                target.startswith(f"{tmp_path}/")
                for name in os.listdir("/proc/self/fd")
                if (target := _target(f"/proc/self/fd/{name}"))
            )
            assert os.listdir(tmp_path) == []


def _target(link: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(link)
    return ""
