"""Files on a mount that become others while they are open: what somebody else has replaced."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from mounted_group import MountedGroup
from mounting import BINDINGS, Address, mounted
from standin import Asked, Reply, StandIn
from support import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.service]


def replace(group: MountedGroup, name: str, data: bytes) -> None:
    """Replace an upload as another client would."""
    before = [
        file["id"]
        for file in group.rest.get(f"uploads/{group.id}/files")["files"]
        if file["name"] == name
    ]
    group.put(name, data)
    for file_id in before:
        group.rest.request("DELETE", f"uploads/{group.id}/files/{file_id}")


@pytest.mark.parametrize("first", ["r", "w"], ids=["before", "after"])
def test_what_another_has_replaced_is_seen_and_added_to_whoever_reads_the_old_one(
    group: MountedGroup, first: str
) -> None:
    group.put("log", b"old\n")
    with (
        open(group.path / "uploads/log", "rb") as reader,
    ):
        with open(group.path / "uploads/log", "wb") as writer:
            writer.write(b"mine\n")
            writer.flush()
            late = open(group.path / "uploads/log", "rb")  # noqa: SIM115
        replace(group, "log", b"theirs, which is longer\n")
        kept = reader if first == "r" else late
        (late if first == "r" else reader).close()
        seen = group.out("sleep 0.2; cat uploads/log; echo more >> uploads/log; cat uploads/log")
        assert seen == "theirs, which is longer\n" * 2 + "more\n"
        assert group.stored() == [("log", b"theirs, which is longer\nmore\n")]
        kept.close()


def test_who_opens_what_another_has_replaced_reads_it_and_nothing_of_the_old_one(
    group: MountedGroup,
) -> None:
    old, new = b"o" * 3_000_000, b"n" * 3_000_000
    group.put("x", old)
    with open(group.path / "uploads/x", "rb") as first:
        assert first.read() == old
        replace(group, "x", new)
        group.out("sleep 0.2")
        with open(group.path / "uploads/x", "rb") as second:
            assert second.read(10) == new[:10]
            # The kernel has one cache for both.
            os.posix_fadvise(first.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            first.seek(1_000_000)
            assert set(first.read(1_000_000)) == {ord("o")}
            second.seek(0)
            assert set(second.read()) == {ord("n")}
        assert group.out("cat uploads/x | tr -d n | wc -c") == "0\n"
    assert group.out("cat uploads/x | tr -d n | wc -c") == "0\n"


# -- within the time for which a listing is known ----------------------------


class Other:
    """A mount that has listed its uploads, for a long time, and a client that it knows not of."""

    def __init__(self, server: StandIn, directory: Path) -> None:
        self._server = server
        self.uploads = directory / "groups" / server.routes.group / "uploads"

    def put(self, name: str, data: bytes) -> None:
        """Replace an upload, or make one."""
        routes = self._server.routes
        before = [one for one in routes.uploads if one["name"] == name]
        file_id = secrets.token_hex(8)
        now = datetime.now(timezone.utc).isoformat()
        routes.files[file_id] = data
        routes.uploads.append({"id": file_id, "name": name, "createdAt": now, "size": 0})
        for one in before:
            routes.uploads.remove(one)
            del routes.files[one["id"]]

    def stored(self) -> list[tuple[str, bytes]]:
        """Return the names and bytes of all uploads."""
        routes = self._server.routes
        return sorted((one["name"], routes.files[one["id"]]) for one in routes.uploads)

    @property
    def server(self) -> StandIn:
        """The service."""
        return self._server


@pytest.fixture(params=BINDINGS, ids="-".join)
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Other]:
    pytest.importorskip("fuse" if request.param[0] == "fusepy" else "mfusepy")
    with (
        StandIn() as server,
        mounted(
            Address(server.endpoint, server.routes.token),  # type: ignore[arg-type]
            ttl=1000,
            log=tmp_path / "log",
            fuse=request.param[0],
            library=request.param[1],
        ) as directory,
    ):
        yield Other(server, directory)


def test_a_line_is_added_to_what_another_has_written_meanwhile(other: Other) -> None:
    other.put("log", b"one\n")
    assert (other.uploads / "log").read_bytes() == b"one\n"
    other.put("log", b"one\ntwo\n")
    with open(other.uploads / "log", "a") as log:
        log.write("three\n")
    assert other.stored() == [("log", b"one\ntwo\nthree\n")]
    other.put("log", b"1\n2\n3\n")  # that line was written just now, and is at hand
    with open(other.uploads / "log", "a") as log:
        log.write("4\n")
    assert other.stored() == [("log", b"1\n2\n3\n4\n")]


def test_who_has_it_open_still_and_who_opens_it_both_add_to_what_another_has_written(
    other: Other,
) -> None:
    with open(other.uploads / "log", "ab", buffering=0) as first:
        first.write(b"one\n")
        os.fsync(first.fileno())
        assert other.stored() == [("log", b"one\n")]
        other.put("log", b"1\n2\n")
        with open(other.uploads / "log", "ab") as second:
            second.write(b"3\n")
        assert other.stored() == [("log", b"1\n2\n3\n")]
        first.write(b"4\n")
    assert other.stored() == [("log", b"1\n2\n3\n4\n")]


def test_a_file_that_another_has_made_meanwhile_is_added_to(other: Other) -> None:
    assert os.listdir(other.uploads) == []
    other.put("log", b"theirs\n")
    with open(other.uploads / "log", "a") as log:
        log.write("mine\n")
    assert other.stored() == [("log", b"theirs\nmine\n")]


def test_who_makes_a_file_of_its_own_takes_the_place_of_no_other(other: Other) -> None:
    assert os.listdir(other.uploads) == []
    other.put("lock", b"theirs\n")
    with pytest.raises(FileExistsError), open(other.uploads / "lock", "x"):
        pass
    assert other.stored() == [("lock", b"theirs\n")]


def test_an_upload_that_another_has_replaced_meanwhile_is_there(other: Other) -> None:
    for data in (b"old", b"newer"):
        for name in ("asked after", "read"):
            other.put(name, data)
        assert len(os.listdir(other.uploads)) == 2
    assert (other.uploads / "asked after").stat().st_size == 5
    assert (other.uploads / "read").read_bytes() == b"newer"


@pytest.mark.parametrize("act", ["rm", "mv"])
def test_an_upload_that_another_has_replaced_meanwhile_is_removed_and_renamed(
    other: Other, act: str
) -> None:
    other.put("x", b"old")
    assert (other.uploads / "x").read_bytes() == b"old"
    other.put("x", b"newer")
    if act == "rm":
        (other.uploads / "x").unlink()
        assert other.stored() == []
    else:
        (other.uploads / "x").rename(other.uploads / "y")
        assert other.stored() == [("y", b"newer")]


def test_who_reads_an_upload_does_not_wait_until_it_has_been_sent(other: Other) -> None:
    other.server.on("POST", "/uploads/.*", Reply(hang="before"))
    path = os.fspath(other.uploads / "x")
    writing = subprocess.Popen(["sh", "-c", f"echo text > {path}"], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: other.server.count("POST", "/uploads/.*") == 1, 20, "the upload")
        done = subprocess.run(["cat", path], capture_output=True, timeout=20)
        assert (done.stdout, writing.poll()) == (b"text\n", None)
    finally:
        other.server.let_go()
        writing.wait(60)


def test_the_size_of_what_was_sent_is_not_taken_for_that_of_what_replaced_it(
    other: Other,
) -> None:
    def overtaken(asked: Asked) -> Reply:
        status, body = other.server.routes.answer(
            asked.method, asked.path, asked.headers, asked.body
        )
        other.put("x", b"theirs, and longer")
        return Reply(status, body)

    other.server.on("POST", "/uploads/.*", overtaken, None)
    (other.uploads / "x").write_bytes(b"mine")
    path = other.uploads / "x"
    wait_until(lambda: path.stat().st_size == 18, 10, "the size of what is there now")
    assert path.read_bytes() == b"theirs, and longer"


def test_of_two_archives_of_a_run_none_has_bytes_of_the_other(other: Other) -> None:
    routes = other.server.routes
    run, _ = routes.add_file(b"data")
    archive = other.uploads.parent / "runs" / run / "archive.tar.gz"
    first, second = b"1" * 4_000_000, b"2" * 4_000_000
    other.server.on("GET", "/runs/.*/archive", Reply(200, first, cut=2_500_000), Reply(200, second))

    def opened() -> bool:
        with contextlib.suppress(OSError):  # who waited in vain just now does not wait again
            files.append(os.open(archive, os.O_RDONLY))
        return len(files) == 2

    files = [os.open(archive, os.O_RDONLY)]
    try:
        assert os.pread(files[0], 100_000, 1_000_000) == first[:100_000]
        with pytest.raises(OSError, match="Input/output error"):
            os.pread(files[0], 100_000, 3_900_000)
        wait_until(opened, 20, "another archive")
        os.posix_fadvise(files[0], 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(files[0], 100_000, 1_000_000) == first[:100_000]
        found = [os.pread(files[1], 100_000, at) for at in range(0, 4_000_000, 100_000)]
        assert b"".join(found) == second
        assert archive.read_bytes() == second
    finally:
        for file in files:
            os.close(file)
    assert archive.read_bytes() == second
