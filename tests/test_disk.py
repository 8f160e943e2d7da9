"""What stays on disk: for later processes, for those of the same time, and never a wrong byte."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import pickle
import random
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from standin import Asked, Reply, StandIn
from support import wait_until

from flowfs import AccessDenied, FlowError, FlowFileSystem, NotADirectory, NotFound
from flowfs.disk import CachedFile, Disk, put
from flowfs.disk.allowance import Allowance
from flowfs.disk.directory import name_in_cache
from flowfs.disk.journal import SIZE, records
from flowfs.disk.telling import Teller

DATA = random.Random(11).randbytes(3_000_001)
SMALL = DATA[:5000]
CONTENT = "/(runs|uploads|workflows)/.*/(downloads|files)/.*"
HANDLES = "/runs/[^/]*"
ARCHIVE = "/runs/.*/downloads/archive"

_numbers = itertools.count(1)


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


Make = Callable[..., FlowFileSystem]


@pytest.fixture
def make(server: StandIn, tmp_path: Path) -> Make:
    """Make a file system that shares nothing with others but the cache."""

    def make(token: str | None = None, **options: Any) -> FlowFileSystem:
        options.setdefault("timeout", 20 + next(_numbers) / 1000)
        options.setdefault("cache_dir", tmp_path / "cache")
        options.setdefault("ttl", 600)
        return FlowFileSystem(
            server.endpoint, token or server.routes.token, skip_instance_cache=True, **options
        )

    return make


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def path_of(server: StandIn, run: str, file: str = "") -> str:
    base = f"groups/{server.routes.group}/runs/{run}"
    return f"{base}/results/{file}" if file else f"{base}/archive.tar.gz"


def added(server: StandIn, data: bytes = DATA) -> str:
    return path_of(server, *server.routes.add_file(data))


def flush(fs: FlowFileSystem) -> None:
    assert fs.content.disk is not None
    fs.content.disk.flush()


READ = """
import sys
from flowfs import FlowFileSystem
endpoint, token, cache, path, size = sys.argv[1:]
fs = FlowFileSystem(endpoint, token, cache_dir=cache)
with fs.open(path) as file:
    sys.stdout.buffer.write(file.read(int(size)))
    sys.stdout.buffer.flush()
    sys.stdout.buffer.write(file.read())
"""


def another(server: StandIn, cache: Path, path: str, size: int = -1) -> subprocess.Popen[bytes]:
    """Read a file in another process, first so many bytes of it."""
    token = server.routes.token
    return subprocess.Popen(
        [sys.executable, "-c", READ, server.endpoint, token, os.fspath(cache), path, str(size)],
        stdout=subprocess.PIPE,
    )


def used(cache: Path) -> int:
    return sum(one.lstat().st_blocks * 512 for one in cache.rglob("*") if one.is_file())


def told(cache: Path) -> int:
    """How many bytes of the one file in the cache are told of."""
    (journal,) = (one for one in contents(cache) if one.suffix == ".j")
    name = name_in_cache(os.fspath(journal.with_suffix("")))
    return sum(one.end - one.start for one in records(name, journal.read_bytes()[SIZE:]))


def contents(cache: Path) -> list[Path]:
    """The files that bytes are in, and their journals."""
    return sorted(one for one in cache.glob("flowfs-v1/*/files/*/*"))


class TestLater:
    @pytest.mark.parametrize("data", [b"", SMALL, DATA], ids=["empty", "small", "large"])
    @pytest.mark.parametrize("reading", ["open", "cat", "get", "part"])
    def test_what_one_has_read_costs_the_next_no_request_for_content(
        self, server: StandIn, make: Make, tmp_path: Path, data: bytes, reading: str
    ) -> None:
        path = added(server, data)

        def read(fs: FlowFileSystem) -> bytes:
            if reading == "open":
                with fs.open(path) as file:
                    return file.read()  # type: ignore[no-any-return]
            if reading == "get":
                fs.get(path, os.fspath(tmp_path / "got"))
                return (tmp_path / "got").read_bytes()
            if reading == "part":
                return bytes(fs.cat_file(path, 100, 4000) + fs.cat_file(path, -10))
            return bytes(fs.cat(path))

        expected = data[100:4000] + data[-10:] if reading == "part" else data
        first = make()
        assert read(first) == expected
        flush(first)
        asked = server.count("GET", CONTENT)
        assert asked <= (3 if reading == "part" else 1)
        second = make()
        assert read(second) == expected
        assert server.count("GET", CONTENT) == asked

    def test_from_front_to_back_it_is_one_request_and_kept_for_other_readers(
        self, server: StandIn, make: Make
    ) -> None:
        path, fs = added(server), make()
        with fs.open(path) as one, fs.open(path) as two:
            for at in range(0, len(DATA), 100_000):
                expected = DATA[at : at + 100_000]
                assert one.read(100_000) == two.read(100_000) == expected
        assert server.count("GET", CONTENT) == 1

    def test_readers_at_once_share_what_is_on_its_way(self, server: StandIn, make: Make) -> None:
        path, fs = added(server), make()
        assert fs.info(path)["size"] == len(DATA)
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda _: fs.cat_file(path), range(4))) == [DATA] * 4
        assert server.count("GET", CONTENT) == 2

    def test_an_archive_is_kept_whole_and_its_size_is_known(
        self, server: StandIn, make: Make
    ) -> None:
        run, _ = server.routes.add_file(DATA)
        path = path_of(server, run)
        first = make()
        assert first.info(path)["size"] is None
        archive = first.cat_file(path)
        second = make()
        assert second.info(path)["size"] == len(archive)
        assert second.cat_file(path) == archive
        assert second.cat_file(path, -9) == archive[-9:]
        assert server.count("GET", ARCHIVE) == 1

    def test_an_archive_that_was_not_read_to_its_end_is_nothing_for_others(
        self, server: StandIn, make: Make, cache: Path
    ) -> None:
        run, _ = server.routes.add_file(DATA)
        first, path = make(), path_of(server, run)
        with first.open(path) as file:
            file.read(1000)
            archive = make().cat_file(path)
        assert server.count("GET", ARCHIVE) == 2
        assert make().cat_file(path) == archive
        assert server.count("GET", ARCHIVE) == 2
        assert len(contents(cache)) == 2

    def test_of_few_archives_it_is_remembered_that_they_were_good_and_all_are_read_right(
        self, server: StandIn, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("flowfs.disk.disk._VERIFIED", 2)
        fs = make()
        paths = [path_of(server, server.routes.add_file(DATA[:n])[0]) for n in (10, 20, 30, 40)]
        archives = [fs.cat_file(path) for path in paths]
        for other in (fs, make()):
            assert [other.cat_file(path) for path in paths] == archives
            assert fs.content.disk is not None
            assert len(fs.content.disk._verified) == 2
        assert server.count("GET", ARCHIVE) == len(paths)

    def test_handles_of_ended_runs_and_sizes_are_known_after_one_listing(
        self, server: StandIn, make: Make
    ) -> None:
        paths = [added(server, DATA[:n]) for n in (1000, 70_000, 2000)]
        active = server.routes.add_run("RUNNING")
        first = make()
        sizes = first.du(f"groups/{server.routes.group}/runs", total=False)
        assert sorted(sizes.values())[-3:] == [1000, 2000, 70_000]
        handles = [
            first.cat_file(f"{path.rpartition('/results')[0]}/handle.json") for path in paths
        ]
        flush(first)
        before = len(server.asked)
        second = make()
        assert second.du(f"groups/{server.routes.group}/runs", total=False) == sizes
        assert [
            second.cat_file(f"{path.rpartition('/results')[0]}/handle.json") for path in paths
        ] == handles
        asked = [one.path for one in server.asked[before:]]
        group = f"/groups/{server.routes.group}"
        assert {path for path in asked if path != f"/runs/{active['id']}"} <= {
            "/",
            group,
            f"{group}/runs",
        }

    def test_pickles_share_it_and_go_without_where_there_is_none(
        self, server: StandIn, make: Make, tmp_path: Path
    ) -> None:
        place = tmp_path / "here"
        path, fs = added(server), make(cache_dir=place)
        assert pickle.loads(pickle.dumps(fs)).content.disk is fs.content.disk
        dump = pickle.dumps(fs)
        del fs
        place.rename(tmp_path / "away")
        place.write_text("a file")
        there = pickle.loads(dump)
        assert there.cat_file(path) == DATA


class TestAtOnce:
    def test_another_process_reads_what_was_read_here_without_a_request(
        self, server: StandIn, make: Make, cache: Path
    ) -> None:
        large, small, fs = added(server), added(server, SMALL), make()
        assert fs.cat([large, small]) == {large: DATA, small: SMALL}
        flush(fs)
        asked = server.count("GET", CONTENT)
        for path, data in ((large, DATA), (small, SMALL)):
            assert another(server, cache, path).communicate()[0] == data
        assert server.count("GET", CONTENT) == asked

    def test_what_is_there_of_a_file_on_its_way_others_read_and_a_kill_leaves_it_to_them(
        self, server: StandIn, make: Make, cache: Path
    ) -> None:
        path = added(server)
        server.on("GET", CONTENT, Reply(body=DATA, hang="body"), None)
        here = 1_300_000
        process = another(server, cache, path, here)
        assert process.stdout is not None
        try:
            assert process.stdout.read(here) == DATA[:here]
            # It tells of what it has a moment later.
            wait_until(lambda: told(cache) >= here, 10, "what is there")
            fs = make()
            assert fs.info(path)["size"] == len(DATA)
            asked = server.count("GET", CONTENT)
            with fs.open(path) as file:
                assert file.read(here) == DATA[:here]
            assert server.count("GET", CONTENT) == asked
            flush(fs)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        third = make()
        assert third.cat_file(path) == DATA
        (last,) = server.requests("GET", CONTENT)[asked:]
        assert int((last.headers["Range"]).removeprefix("bytes=").rstrip("-")) >= here

    def test_many_that_read_here_what_another_has_read_there_ask_for_nothing(
        self, server: StandIn, make: Make
    ) -> None:
        path, first = added(server), make()
        assert first.cat_file(path) == DATA
        flush(first)
        asked = server.count("GET", CONTENT)
        for _ in range(5):
            fs = make()
            assert fs.info(path)["size"] == len(DATA)
            with ThreadPoolExecutor(8) as pool:
                places = [(at, at + 50_000) for at in range(0, 3_000_000, 50_000)]
                parts = pool.map(lambda p, fs=fs: fs.cat_file(path, *p), places)
                assert b"".join(parts) == DATA[:3_000_000]
        assert server.count("GET", CONTENT) == asked

    def test_what_has_died_in_the_middle_of_a_record_spoils_nothing(
        self, server: StandIn, make: Make, cache: Path
    ) -> None:
        path = added(server)
        fs = make()
        fs.cat_file(path, 0, 1_000_000)
        flush(fs)
        (journal,) = (one for one in contents(cache) if one.suffix == ".j")
        with open(journal, "ab") as file:
            file.write(b"1234567")
        fs = make()
        assert fs.cat_file(path) == DATA
        flush(fs)
        asked = server.count("GET", CONTENT)
        assert make().cat_file(path) == DATA
        assert server.count("GET", CONTENT) == asked

    def test_two_that_read_the_same_at_once_both_read_it_right(
        self, server: StandIn, cache: Path
    ) -> None:
        path = added(server)
        both = [another(server, cache, path, 1000) for _ in range(2)]
        assert [one.communicate()[0] for one in both] == [DATA, DATA]


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2 + 1)


def emptied(file: Path) -> None:
    os.truncate(file, 0)


def garbage(file: Path) -> None:
    file.write_bytes(random.Random(5).randbytes(file.stat().st_size))


def removed(file: Path) -> None:
    file.unlink()


DAMAGES = [flipped, cut, emptied, garbage, removed]


class TestDamage:
    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.parametrize("what", ["bytes", "journal"])
    def test_damaged_files_are_noticed_and_fetched_again(
        self,
        server: StandIn,
        make: Make,
        cache: Path,
        damage: Callable[[Path], None],
        what: str,
    ) -> None:
        path = added(server)
        for count in (1, 2):
            fs = make()
            assert fs.cat_file(path) == DATA
            flush(fs)
            if count == 1:
                data, journal = contents(cache)
                damage(journal if what == "journal" else data)
        asked = server.count("GET", CONTENT)
        assert asked >= 2
        # And it is mended.
        assert make().cat_file(path) == DATA
        assert server.count("GET", CONTENT) == asked

    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.parametrize("what", ["bytes", "journal"])
    def test_damaged_archives_are_noticed_before_a_byte_is_read(
        self,
        server: StandIn,
        make: Make,
        cache: Path,
        damage: Callable[[Path], None],
        what: str,
    ) -> None:
        run, _ = server.routes.add_file(DATA)
        path = path_of(server, run)
        first = make().cat_file(path)
        data, journal = contents(cache)
        damage(journal if what == "journal" else data)
        second = make().cat_file(path)
        assert server.count("GET", ARCHIVE) == 2
        assert second != first  # another reply, whole
        assert (second[:4], second[8:]) == (first[:4], first[8:])
        assert make().cat_file(path) == second
        assert server.count("GET", ARCHIVE) == 2

    def test_who_comes_after_it_was_closed_opens_it_for_nobody(
        self, server: StandIn, make: Make
    ) -> None:
        path, first = added(server, SMALL), make()
        assert first.cat_file(path) == SMALL
        source = first.entries.source(first.entries.resolve(path))
        disk = first.content.disk
        assert disk is not None
        assert source is not None
        flush(first)
        assert disk.fact("size", source.key) is not None
        disk.close()
        assert disk.fact("size", source.key) is None
        assert disk._facts is not None
        assert disk._facts._held is None

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_a_damaged_database_is_begun_anew(
        self, server: StandIn, make: Make, cache: Path, damage: Callable[[Path], None]
    ) -> None:
        paths = [added(server, DATA[at : at + 5000]) for at in range(0, 100_000, 5000)]
        expected = {p: DATA[n * 5000 : (n + 1) * 5000] for n, p in enumerate(paths)}
        first = make()
        assert first.cat(paths) == expected
        first.content.disk.close()  # type: ignore[union-attr]
        (database,) = cache.glob("flowfs-v1/*/facts-*.db")
        damage(database)
        # What was found before the damage was met is not written again by who found it; but
        # before long all of it is there again.
        for _ in range(6):
            asked = server.count("GET", CONTENT)
            fs = make()
            assert fs.cat(paths) == expected
            flush(fs)
            if server.count("GET", CONTENT) == asked:
                break
        else:
            pytest.fail("what could not be read is not kept again")

    def test_bytes_removed_while_what_tells_of_them_stays_are_fetched_again(
        self, server: StandIn, make: Make, cache: Path
    ) -> None:
        path, fs = added(server), make()
        with fs.open(path) as file:
            assert file.read(1_500_000) == DATA[:1_500_000]
        flush(fs)
        data, _ = contents(cache)
        data.unlink()
        with fs.open(path) as file:  # which makes a new one, with a hole in front
            file.seek(2_900_000)
            assert file.read() == DATA[2_900_000:]
        assert fs.cat_file(path) == DATA
        flush(fs)
        assert make().cat_file(path) == DATA

    def test_the_cache_may_be_removed_while_it_is_used(
        self, server: StandIn, make: Make, cache: Path
    ) -> None:
        one, two, fs = added(server), added(server, DATA[:100_000]), make()
        with fs.open(one) as file:
            assert file.read(1000) == DATA[:1000]
            subprocess.run(["rm", "-rf", cache], check=True)
            assert file.read() == DATA[1000:]
        assert fs.cat_file(two) == DATA[:100_000]
        flush(fs)
        asked = server.count("GET", CONTENT)
        assert make().cat_file(two) == DATA[:100_000]
        assert server.count("GET", CONTENT) == asked


class TestWhose:
    def test_users_do_not_see_what_others_have_read(
        self, server: StandIn, make: Make, cache: Path
    ) -> None:
        path = added(server)
        server.routes.tokens.add("another")
        fs = make()
        assert fs.cat_file(path) == DATA
        flush(fs)
        asked = server.count("GET", CONTENT)
        assert make("another").cat_file(path) == DATA
        assert server.count("GET", CONTENT) > asked
        assert len(list(cache.glob("flowfs-v1/*/files"))) == 2

    def test_it_is_the_users_under_a_new_token_too(self, server: StandIn, make: Make) -> None:
        path = added(server)

        def described(asked: Asked) -> Reply:
            return Reply(body={**server.routes.get_service()[1], "username": "ada"})

        server.on("GET", "/", described)
        server.routes.tokens.add("new")
        fs = make()
        assert fs.cat_file(path) == DATA
        flush(fs)
        asked = server.count("GET", CONTENT)
        assert make("new").cat_file(path) == DATA
        assert server.count("GET", CONTENT) == asked

    def test_services_do_not_mix(self, server: StandIn, make: Make) -> None:
        run, file = server.routes.add_file(DATA)
        assert make().cat_file(path_of(server, run, file)) == DATA
        with StandIn() as other:
            other.routes.token = server.routes.token
            other.routes.tokens.add(server.routes.token)
            other.routes.runs[run] = server.routes.runs[run]
            other.routes.files[file] = DATA[::-1]
            fs = make()
            elsewhere = FlowFileSystem(
                other.endpoint, server.routes.token, cache_dir=fs._options.cache_dir
            )
            assert elsewhere.cat_file(path_of(server, run, file)) == DATA[::-1]

    def test_no_token_no_id_and_nothing_for_others_is_in_it(
        self, server: StandIn, make: Make, cache: Path
    ) -> None:
        umask = os.umask(0)
        try:
            paths = [added(server), added(server, SMALL)]
            fs = make()
            fs.cat(paths)
            flush(fs)
        finally:
            os.umask(umask)
        everything = [cache, *cache.rglob("*")]
        secret = server.routes.token
        for one in everything:
            mode = stat.S_IMODE(one.lstat().st_mode)
            assert mode & 0o077 == 0 or one.name == "CACHEDIR.TAG", (one, oct(mode))
            assert secret not in one.name
            assert not any(run in one.name for run in server.routes.runs)
            if one.is_file():
                assert secret.encode() not in one.read_bytes()

    def test_a_directory_that_others_can_look_into_is_closed(
        self, server: StandIn, make: Make, cache: Path
    ) -> None:
        (cache / "flowfs-v1").mkdir(parents=True)
        (cache / "flowfs-v1").chmod(0o755)
        make()
        assert stat.S_IMODE((cache / "flowfs-v1").stat().st_mode) == 0o700

    def test_what_is_not_ones_own_is_refused_and_the_error_says_what_to_do(
        self, make: Make, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache.mkdir()
        (cache / "flowfs-v1").symlink_to(tmp_path)
        with pytest.raises(NotADirectory, match="is a link: remove it, or take another cache_dir"):
            make()
        (cache / "flowfs-v1").unlink()
        make()
        me = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
        with pytest.raises(AccessDenied, match=r"belongs to another user .* another cache_dir"):
            make()
        monkeypatch.undo()
        cache.chmod(0o777)
        with pytest.raises(AccessDenied, match="everybody can write there: 'chmod o-w' it"):
            make()


class TestGone:
    def test_what_is_deleted_is_dropped(self, server: StandIn, make: Make, cache: Path) -> None:
        run, file = server.routes.add_file(DATA)
        path, fs = path_of(server, run, file), make()
        fs.cat([path, path_of(server, run)])
        assert len(contents(cache)) == 4
        fs.rm(f"groups/{server.routes.group}/runs/{run}", recursive=True)
        assert contents(cache) == []
        with pytest.raises(NotFound):
            make().cat_file(path)

    def test_what_somebody_else_has_deleted_is_gone_and_dropped(
        self, server: StandIn, make: Make, cache: Path
    ) -> None:
        run, file = server.routes.add_file(DATA)
        path, first = path_of(server, run, file), make()
        assert first.cat_file(path) == DATA
        flush(first)
        del server.routes.runs[run]
        second = make()
        assert second.ls(f"groups/{server.routes.group}/runs", detail=False)
        for fs in (second, make()):
            with pytest.raises(NotFound):
                fs.cat_file(path)
        assert contents(cache) == []

    def test_a_service_made_anew_may_give_the_same_ids_again(
        self, server: StandIn, make: Make
    ) -> None:
        run, file = server.routes.add_file(DATA)
        path, first = path_of(server, run, file), make()
        assert first.cat_file(path) == DATA
        flush(first)
        server.routes.runs[run]["createdAt"] = "2031-01-01T00:00:00"
        server.routes.files[file] = DATA[::-1]
        second = make()
        assert len(second.ls(f"groups/{server.routes.group}/runs", detail=False)) == 2
        assert second.cat_file(path) == DATA[::-1]

    def test_a_run_that_was_active_when_it_was_listed_may_have_ended_since(
        self, server: StandIn, make: Make
    ) -> None:
        run, file = server.routes.add_file(DATA)
        runs, path = f"groups/{server.routes.group}/runs", path_of(server, run, file)
        server.routes.runs[run]["state"] = "RUNNING"
        second = make(ttl=1000)
        assert second.ls(runs)
        server.routes.runs[run]["state"] = "SUCCESS"
        first = make()
        assert first.cat_file(path) == DATA
        flush(first)
        asked = server.count("GET", CONTENT)
        assert second.catalog.run(server.routes.group, run)["state"] == "SUCCESS"
        assert second.cat_file(path) == DATA
        assert server.count("GET", CONTENT) == asked


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "flowfs.disk")
    return lambda: [one.getMessage() for one in caplog.records if one.name == "flowfs.disk"]


class TestWithout:
    def test_where_the_disk_is_full_reading_goes_on_and_others_are_not_misled(
        self, server: StandIn, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, fs = added(server), make()
        write, left = os.pwrite, [5]

        def full(fd: int, data: Any, at: int) -> int:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(fd, data[: len(data) // 2 + 1], at)

        monkeypatch.setattr(os, "pwrite", full)
        with fs.open(path) as file:
            assert b"".join(iter(lambda: file.read(250_000), b"")) == DATA
        monkeypatch.undo()
        assert make().cat_file(path) == DATA

    @pytest.mark.parametrize("number", [errno.EMFILE, errno.EROFS, errno.EACCES])
    def test_where_no_file_can_be_opened_reading_goes_on_and_that_is_said_once(
        self,
        server: StandIn,
        make: Make,
        monkeypatch: pytest.MonkeyPatch,
        said: Callable[[], list[str]],
        number: int,
    ) -> None:
        large, small, fs = added(server), added(server, SMALL), make()
        really = os.open

        def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if "flowfs-v1" in str(path):
                raise OSError(number, os.strerror(number), path)
            return really(path, flags, *rest, **more)

        monkeypatch.setattr(os, "open", refuse)
        for _ in range(2):
            assert fs.cat_file(large) == DATA
            assert fs.cat_file(small) == SMALL
            assert len(fs.cat_file(large.rpartition("/results")[0] + "/archive.tar.gz")) > 1000
            flush(fs)
        kept = [line for line in said() if "not all is kept" in line]
        learned = [line for line in said() if "what is learned is not kept" in line]
        assert (len(kept), len(learned), len(said())) == (1, 1, 2)

    def test_a_database_that_somebody_holds_keeps_nobody_waiting_for_long(
        self, server: StandIn, make: Make, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import sqlite3

        monkeypatch.setattr("flowfs.disk.facts._BUSY", 0.01)
        path, first = added(server, SMALL), make()
        assert first.cat_file(path) == SMALL
        flush(first)
        (database,) = cache.glob("flowfs-v1/*/facts-*.db")
        holder = sqlite3.connect(database, isolation_level=None)
        holder.execute("begin immediate")
        second, other = make(), added(server, SMALL)
        assert second.cat([path, other]) == {path: SMALL, other: SMALL}
        flush(second)
        holder.execute("rollback")
        holder.close()
        assert server.count("GET", CONTENT) == 2

    def test_a_cache_dir_that_cannot_be_used_is_refused_at_once(
        self, make: Make, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(FlowError, match="cache_dir must be a directory"):
            make(cache_dir=tmp_path / "file")


FILL = """
import os, sys
from flowfs.disk.allowance import Allowance
from flowfs.disk.files import CachedFile
from flowfs.disk.telling import Teller
root, name, bound = sys.argv[1], sys.argv[2], int(sys.argv[3])
allowance = Allowance(root, bound)
for number in range(40):
    path = f"{root}/space/files/{name}/{number}"
    directory = lambda: os.makedirs(os.path.dirname(path), exist_ok=True)
    file = CachedFile(path, 100_000, allowance, Teller(), directory)
    file.write(0, bytes(100_000))
"""


class TestRoom:
    def test_the_bound_holds_for_all_processes_together(self, tmp_path: Path) -> None:
        bound = 8_000_000
        for number in range(3):
            (tmp_path / "space" / "files" / str(number)).mkdir(parents=True)
        started = [
            subprocess.Popen([sys.executable, "-c", FILL, tmp_path, str(number), str(bound)])
            for number in range(3)
        ]
        assert [one.wait() for one in started] == [0, 0, 0]
        # Each may have written 64 KiB before it counts them, and be about to write what it has
        # counted when another sets the count to what is there.
        slack = 3 * ((1 << 16) + 100_352)
        assert bound // 2 < used(tmp_path) <= bound + slack

    @pytest.mark.parametrize("end", [Disk.flush, Disk.close])
    def test_the_bound_holds_for_many_that_write_little_one_after_the_other(
        self, tmp_path: Path, end: Callable[[Disk], None]
    ) -> None:
        bound, size = 8_000_000, 60_000
        for number in range(200):
            disk = Disk(os.fspath(tmp_path), bound, lambda ask: ("service", "user", "ada"))
            file = disk.file(("run", str(number), "file"), size)
            assert file is not None
            file.write(0, bytes(size))
            end(disk)
        assert bound // 2 < used(tmp_path) <= bound + 2 * (1 << 16)

    def test_the_least_recently_used_goes_first_and_what_is_open_stays(
        self, tmp_path: Path
    ) -> None:
        allowance = Allowance(os.fspath(tmp_path), 1_000_000)
        places = iter(range(100))

        def file(name: str) -> CachedFile:
            path = tmp_path / "space" / "files" / name / "x"
            parent = path.parent
            made = CachedFile(
                os.fspath(path), 100_000, allowance, Teller(), lambda: parent.mkdir(parents=True)
            )
            made.write(0, bytes(100_000))
            os.utime(path, (next(places),) * 2)
            return made

        held = file("held")
        for number in range(6):
            file(f"old{number}")
        os.utime(tmp_path / "space" / "files" / "old0" / "x")  # it is used once more
        for number in range(5):
            file(f"new{number}")
        there = {one.name for one in (tmp_path / "space" / "files").iterdir()}
        assert {"held", "old0", "new3", "new4"} <= there
        assert not {"old1", "old2", "old3"} & there
        assert used(tmp_path) <= 1_000_000
        assert os.pread(held.fd, 10, 0) == bytes(10)

    def test_what_is_read_stays_readable_while_others_need_the_room(
        self, server: StandIn, make: Make, cache: Path
    ) -> None:
        bound = 2 * len(DATA)
        paths = [added(server, DATA[:n]) for n in range(1_500_000, 1_500_008)]
        first = make(cache_size=bound)
        with first.open(paths[0]) as file:
            assert file.read(700_000) == DATA[:700_000]
            second = make(cache_size=bound)
            for n, path in enumerate(paths):
                assert second.cat_file(path) == DATA[: 1_500_000 + n]
            assert file.read() == DATA[700_000:1_500_000]
            file.seek(0)
            assert file.read() == DATA[:1_500_000]
        assert used(cache) <= bound + (1 << 20)

    def test_more_facts_than_there_is_room_for_make_place(
        self, server: StandIn, make: Make, cache: Path
    ) -> None:
        fs = make(cache_size=4 << 20)
        disk = fs.content.disk
        assert disk is not None
        disk.fact("size", ("run", "1", "1"), ask=True)
        for number in range(100):
            disk.learn("bytes", ("run", "1", str(number)), bytes(60_000))
        disk.flush()
        assert used(cache) < 20 << 20
        assert disk.fact("bytes", ("run", "1", "99")) is not None

    def test_what_the_dead_have_begun_goes(self, tmp_path: Path) -> None:
        left = tmp_path / "space" / "files" / "a" / "x.1.part"
        left.parent.mkdir(parents=True)
        left.write_bytes(bytes(100_000))
        os.utime(left, (1, 1))
        assert Allowance(os.fspath(tmp_path), 1_000_000).take(70_000)
        assert not left.exists()


def test_all_is_written_though_the_system_takes_less_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: write(fd, data[:50_001], at))
    with open(tmp_path / "file", "wb") as file:
        put(file.fileno(), 7, DATA)
    assert (tmp_path / "file").read_bytes() == bytes(7) + DATA
