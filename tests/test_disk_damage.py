"""Whatever becomes of the files of the cache: they are fetched again, and nobody waits for them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standin import StandIn

from flowfs import FlowFileSystem
from flowfs.disk import CachedFile
from flowfs.disk.allowance import Allowance
from flowfs.disk.archives import CachedArchive, Draft, size_of
from flowfs.disk.facts import Facts
from flowfs.disk.telling import Teller

DATA = random.Random(17).randbytes(300_001)
CONTENT = "/(runs|uploads|workflows)/.*/(downloads|files)/.*"

Damage = Callable[[Path], None]


# -- one file of it ------------------------------------------------------------------


def opened(path: Path, size: int = len(DATA)) -> CachedFile:
    allowance = Allowance(os.fspath(path.parents[3]), 1 << 30)

    def directory() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)

    return CachedFile(os.fspath(path), size, allowance, Teller(), directory)


def wrong(file: CachedFile, data: bytes = DATA) -> list[tuple[int, int]]:
    """Return what is said to be good, and is not."""
    bad, at = [], 0
    while at < len(data):
        good = file.verify(at, at + 1) if file.claims(at) else []
        for start, end in good:
            if os.pread(file.fd, end - start, start) != data[start:end]:
                bad.append((start, end))
        at = good[-1][1] if good else at + 10_000
    return bad


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The bytes of a file of the cache, and its journal."""
    path = tmp_path_factory.mktemp("made") / "root" / "space" / "files" / "owner" / "item"
    file = opened(path)
    for at in range(0, len(DATA), 50_000):
        file.write(at, DATA[at : at + 50_000])
        file.tell(at, min(len(DATA), at + 50_000))
    another = opened(path)
    assert wrong(another) == []
    assert another.verify(0, len(DATA))[-1][1] == len(DATA)
    return path.read_bytes(), (path.parent / "item.j").read_bytes()


class _Place:
    """A cache with one file in it, made anew for each example."""

    def __init__(self, root: Path, made: tuple[bytes, bytes]) -> None:
        self.data = root / "root" / "space" / "files" / "owner" / "item"
        self.journal = self.data.with_name("item.j")
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self.data.write_bytes(made[0])
        self.journal.write_bytes(made[1])

    def is_right(self) -> None:
        """See that nothing wrong is believed, and that it can be filled once more."""
        file = opened(self.data)
        assert wrong(file) == []
        file.write(0, DATA)
        file.tell(0, len(DATA))
        again = opened(self.data)
        assert again.claims(0)
        assert again.verify(0, len(DATA)) == [(0, len(DATA))]
        assert os.pread(again.fd, len(DATA), 0) == DATA


def changed(data: bytes, how: str, at: float, bits: int) -> bytes:
    place = int(at * (len(data) - 1))
    if how == "flip":
        return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]
    if how == "cut":
        return data[:place]
    if how == "hole":
        return data[:place] + bytes(min(4096, len(data) - place)) + data[place + 4096 :]
    return data[:place] + data[place // 2 : place // 2 + bits] + data[place:]  # moved


DAMAGED = {
    "how": st.sampled_from(["flip", "cut", "hole", "moved"]),
    "at": st.floats(0, 1),
    "bits": st.integers(1, 255),
}


@given(journal=st.booleans(), **DAMAGED)
def test_a_file_that_is_damaged_anywhere_is_not_believed_and_filled_again(
    tmp_path: Path, made: tuple[bytes, bytes], journal: bool, how: str, at: float, bits: int
) -> None:
    place = _Place(tmp_path, made)
    file = place.journal if journal else place.data
    file.write_bytes(changed(file.read_bytes(), how, at, bits))
    place.is_right()


def test_a_journal_without_end_is_begun_anew(tmp_path: Path, made: tuple[bytes, bytes]) -> None:
    place = _Place(tmp_path, made)
    os.truncate(place.journal, 1 << 40)
    place.is_right()
    assert place.journal.stat().st_size < 1 << 20


def test_files_that_were_swapped_with_their_journals_are_noticed(
    tmp_path: Path, made: tuple[bytes, bytes]
) -> None:
    place = _Place(tmp_path, made)
    other = opened(place.data.with_name("other"))
    other.write(0, DATA[::-1])
    other.tell(0, len(DATA))
    for end in ("", ".j"):
        one, two = f"{place.data}{end}", f"{place.data.with_name('other')}{end}"
        os.rename(one, f"{tmp_path}/aside")
        os.rename(two, one)
        os.rename(f"{tmp_path}/aside", two)
    assert wrong(opened(place.data)) == []
    assert wrong(opened(place.data.with_name("other")), DATA[::-1]) == []
    place.is_right()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


def link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def lost_link(path: Path) -> None:
    path.symlink_to("nowhere")


def door(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(path.parent, os.O_RDONLY)
        try:  # its path may be too long for one
            listening.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


def device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero


def anothers(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    path.write_bytes(DATA)
    os.chown(path, 12345, 12345)


NO_FILES = [fifo, directory, link, lost_link, door, device, anothers]


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("what", ["data", "journal"])
def test_what_is_in_the_place_of_a_file_is_removed_and_nobody_waits_for_it(
    tmp_path: Path, made: tuple[bytes, bytes], kind: Damage, what: str
) -> None:
    place = _Place(tmp_path, made)
    path: Path = getattr(place, what)
    path.unlink()
    kind(path)
    place.is_right()
    assert path.is_file()
    assert not path.is_symlink()


# -- archives ------------------------------------------------------------------------


def archive(root: Path) -> Path:
    path = root / "root" / "space" / "files" / "owner" / "archive"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Draft(os.fspath(path), Allowance(os.fspath(root / "root"), 1 << 30), lambda: None)
    draft.write(0, DATA)
    draft.finish()
    return path


@given(journal=st.booleans(), **DAMAGED)
def test_an_archive_that_is_damaged_anywhere_is_not_there(
    tmp_path: Path, journal: bool, how: str, at: float, bits: int
) -> None:
    path = archive(tmp_path)
    file = path.with_name("archive.j") if journal else path
    before = file.read_bytes()
    file.write_bytes(changed(before, how, at, bits))
    size = size_of(os.fspath(path))
    assert size in (None, len(DATA))
    try:
        found = CachedArchive(os.fspath(path))
    except OSError:
        return
    assert os.pread(found.fd, found.size + 1, 0) == DATA


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("end", ["", ".j"])
def test_what_is_in_the_place_of_an_archive_has_no_size_and_makes_room(
    tmp_path: Path, kind: Damage, end: str
) -> None:
    path = archive(tmp_path)
    place = path.with_name(f"archive{end}")
    place.unlink()
    kind(place)
    assert size_of(os.fspath(path)) is None
    with pytest.raises(OSError, match=r".*"):
        CachedArchive(os.fspath(path))
    archive(tmp_path)
    found = CachedArchive(os.fspath(path))
    assert os.pread(found.fd, found.size + 1, 0) == DATA


# -- what is known -------------------------------------------------------------------

KEYS = [(b"owner%d" % (n % 5), b"item%d" % n, "bytes") for n in range(60)]
VALUES = {key: random.Random(n).randbytes(50 + 30 * n) for n, key in enumerate(KEYS)}


def facts(path: Path, bound: int = 1 << 20) -> Facts:
    return Facts(os.fspath(path), bound, lambda: None, lambda count: None)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("known") / "facts.db"
    known = facts(path)
    for key, value in VALUES.items():
        known.put(key, value)
    known.close()
    data = path.read_bytes()
    assert len(data) > 40_000
    return data


def is_usable(path: Path) -> None:
    """See that nothing wrong is known, and that what is learned is."""
    known = facts(path)
    try:
        for key, value in VALUES.items():
            assert known.get(key) in (None, value)
        known.put((b"new", b"new", "size"), b"1234")
        known.forget(b"owner1", None)
        known.flush()
        known._written = 1 << 30  # it is looked how large it is
        known.put((b"new", b"newer", "size"), b"5678")
        known.flush()
    finally:
        known.close()


# Where SQLite has its header, and the first entry of its first page; and anywhere.
ANYWHERE = st.one_of(st.floats(0, 1), st.integers(0, 128).map(lambda at: at / 60_000))


@given(how=DAMAGED["how"], bits=DAMAGED["bits"], places=st.lists(ANYWHERE, min_size=1, max_size=4))
def test_a_database_that_is_damaged_anywhere_tells_nothing_wrong(
    tmp_path: Path, database: bytes, how: str, bits: int, places: list[float]
) -> None:
    path = tmp_path / "known" / "facts.db"
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    data = database
    for at in places:
        data = changed(data, how, at, bits) or b"\0"
    path.write_bytes(data)
    is_usable(path)


@given(**DAMAGED)
def test_a_log_that_is_damaged_anywhere_tells_nothing_wrong(
    tmp_path: Path, how: str, at: float, bits: int
) -> None:
    path = tmp_path / "facts.db"
    for end in ("", "-wal", "-shm"):
        path.with_name(f"facts.db{end}").unlink(missing_ok=True)
    known = facts(path)
    for key, value in VALUES.items():
        known.put(key, value)
    known.flush()
    log = path.with_name("facts.db-wal")
    # As it stands there when a process is killed.
    whole, logged = path.read_bytes(), log.read_bytes()
    known.close()
    path.write_bytes(whole)
    log.write_bytes(changed(logged, how, at, bits))
    is_usable(path)


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("end", ["facts.db", "facts.db-wal", "facts.db-shm", "lock"])
def test_what_is_in_the_place_of_the_database_is_removed_and_nobody_waits_for_it(
    tmp_path: Path, kind: Damage, end: str
) -> None:
    kind(tmp_path / end)
    is_usable(tmp_path / "facts.db")
    known = facts(tmp_path / "facts.db")
    assert known.get((b"new", b"new", "size")) == b"1234"
    known.close()


def test_a_row_whose_values_are_of_other_kinds_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "facts.db"
    known = facts(path)
    for key, value in VALUES.items():
        known.put(key, value)
    known.close()
    change = sqlite3.connect(path)
    others = [("used", "text"), ("used", b"bytes"), ("used", float("inf")), ("checksum", "text")]
    others += [("value", "text"), ("value", 7), ("used", 1 << 62), ("used", -(1 << 62))]
    for number, (column, value) in enumerate(others):
        change.execute(f"update facts set {column} = ? where item = ?", (value, KEYS[number][1]))
    change.commit()
    change.close()
    known = facts(path)
    assert [known.get(key) is None for key in KEYS[:8]] == [False] * 3 + [True] * 3 + [False] * 2
    known.flush()
    known.close()


def test_a_database_of_another_service_or_user_is_not_believed(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for place in (one, other):
        place.mkdir()
    known = facts(one / "facts.db")
    known.put(KEYS[0], b"of one")
    known.close()
    shutil.copy(one / "facts.db", other / "facts.db")
    known = facts(other / "facts.db")
    assert known.get(KEYS[0]) is None
    known.close()


# -- all of it -----------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


class _Reader:
    """Reads a result, an archive and a small result as new processes do, and compares them."""

    def __init__(self, server: StandIn, cache: Path) -> None:
        self.server = server
        self.cache = cache
        self.paths = {}
        for data in (DATA, DATA[:5000]):
            run, file = server.routes.add_file(data)
            base = f"groups/{server.routes.group}/runs/{run}"
            self.paths[f"{base}/results/{file}"] = data
        self.archive = f"{base}/archive.tar.gz"
        self._number = 0

    def fs(self, **options: Any) -> FlowFileSystem:
        self._number += 1
        options = {"cache_dir": self.cache, "ttl": 600, **options}
        return FlowFileSystem(
            self.server.endpoint,
            self.server.routes.token,
            timeout=20 + self._number / 1000,  # nothing is shared with those before it
            skip_instance_cache=True,
            **options,
        )

    def read(self) -> int:
        """Return how many requests for content it took."""
        fs, before = self.fs(), self.server.count("GET", CONTENT)
        for path, data in self.paths.items():
            assert fs.cat_file(path) == data
        archive = fs.cat_file(self.archive)
        assert fs.info(self.archive)["size"] == len(archive)
        assert archive[:3] == b"\x1f\x8b\x08"
        fs.content.disk.close()
        return self.server.count("GET", CONTENT) - before


@pytest.fixture
def reader(server: StandIn, tmp_path: Path) -> _Reader:
    return _Reader(server, tmp_path / "cache")


@pytest.mark.parametrize("kind", [fifo, directory, link, lost_link, device, anothers])
def test_all_files_of_a_cache_may_be_something_else(
    reader: _Reader, kind: Damage, tmp_path: Path
) -> None:
    assert reader.read() == 3
    for one in [one for one in (tmp_path / "cache").rglob("*") if one.is_file()]:
        one.unlink()
        kind(one)
    assert reader.read() == 3
    assert reader.read() == 0


def test_what_another_version_keeps_is_neither_read_nor_touched(
    reader: _Reader, tmp_path: Path
) -> None:
    others = [tmp_path / "cache" / name for name in ("flowfs-v0", "flowfs-v2", "flowfs")]
    for one in others:
        (one / "files").mkdir(parents=True)
        (one / "files" / "used").write_bytes(DATA)
    (tmp_path / "cache" / "flowfs-v3").write_text("a file")
    assert [reader.read(), reader.read()] == [3, 0]
    for one in others:
        assert [file.name for file in (one / "files").iterdir()] == ["used"]
        assert (one / "files" / "used").read_bytes() == DATA


def test_what_changes_while_nobody_has_it_open_is_looked_through_again(
    server: StandIn, reader: _Reader, tmp_path: Path
) -> None:
    fs, path = reader.fs(), next(iter(reader.paths))
    assert fs.cat_file(path) == DATA
    archive = fs.cat_file(reader.archive)
    fs.content.disk.flush()
    assert (fs.cat_file(path), fs.cat_file(reader.archive)) == (DATA, archive)
    asked = server.count("GET", CONTENT)
    for one in (tmp_path / "cache").glob("flowfs-v1/*/files/*/*"):
        if one.suffix != ".j":
            with open(one, "r+b") as file:
                file.seek(one.stat().st_size // 2)
                file.write(b"damaged")
    assert fs.cat_file(path) == DATA
    assert b"damaged" not in fs.cat_file(reader.archive)
    assert server.count("GET", CONTENT) > asked


READ_FOR_EVER = """
import sys
from flowfs import FlowFileSystem
endpoint, token, cache, *paths = sys.argv[1:]
number = 0
while True:
    number += 1
    fs = FlowFileSystem(endpoint, token, cache_dir=cache, timeout=20 + number / 1000)
    for path in paths:
        fs.cat_file(path)
    fs.content.disk.flush()
    for path in paths:
        fs.content.forget(fs.entries.source(fs.entries.resolve(path)))
    print("read", flush=True)
"""


def test_who_is_killed_while_writing_leaves_nothing_wrong(
    server: StandIn, reader: _Reader, tmp_path: Path
) -> None:
    given = [server.endpoint, server.routes.token, os.fspath(tmp_path / "cache")]
    chosen = random.Random(3)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", READ_FOR_EVER, *given, *reader.paths, reader.archive],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"read\n"
        time.sleep(chosen.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        reader.read()
        assert reader.read() == 0
