"""One archive in place of many small files: when, and that nobody notices anything else."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import io
import itertools
import os
import random
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from results_workflow import add_workflow
from standin import Asked, Reply, StandIn
from support import Rest

from flowfs import FlowFileSystem
from flowfs.cli.mount import settings_of
from flowfs.content import Source, packs
from flowfs.content.packs import FEWEST, Cost, Pack
from flowfs.content.unpacking import unpacked
from flowfs.embedded import EmbeddedService
from flowfs.fuse.settings import read_options

ARCHIVE = "/runs/.*/downloads/archive"
FILE = "/runs/.*/downloads/files/.*"
TRIED = 8
LONG = 120.0  # seconds
COUNT = 80
_numbers = itertools.count(1)


class Run:
    """A run of the stand-in with many small results, and who looks at it."""

    def __init__(self, server: StandIn, count: int = COUNT) -> None:
        self.server = server
        shuffled = random.Random(1)
        self.data = {f"f{n:03}": shuffled.randbytes(n * 7 % 400) for n in range(count)}
        server.routes.files.update(self.data)
        files = [{"id": name, "name": f"results/{name}.txt"} for name in self.data]
        self.id = server.routes.add_run("SUCCESS", files=files)["id"]
        self.path = f"groups/{server.routes.group}/runs/{self.id}"
        self.paths = [f"{self.path}/results/{name}" for name in self.data]

    def fs(self, **options: Any) -> FlowFileSystem:
        """Return a file system that knows nothing yet."""
        options = {
            "timeout": LONG + next(_numbers) / 1000,
            "max_connections": 1,
            "ttl": 600,
        } | options
        return FlowFileSystem(
            self.server.endpoint, self.server.routes.token, skip_instance_cache=True, **options
        )

    def asked(self) -> tuple[int, int]:
        """How many requests there were for files, and for archives."""
        return self.server.count("GET", FILE), self.server.count("GET", ARCHIVE)

    def archive(self, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]) -> bytes:
        """Return the run's archive, its members changed."""
        members = []
        for name, data in self.data.items():
            member = tarfile.TarInfo(f"results/{name}.txt")
            member.size = len(data)
            members.append((member, data))
        change(members)
        return packed(members)


def packed(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


@pytest.fixture
def run() -> Iterator[Run]:
    with StandIn() as server:
        yield Run(server)


@pytest.fixture
def worth(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Have an archive be worth it as soon as it is thought of, and be waited for so long."""
    waits = {"for": LONG}
    monkeypatch.setattr(Cost, "is_dear", lambda *_: True)
    monkeypatch.setattr(Cost, "plan", lambda *_: waits["for"])
    return waits


# -- when an archive is worth it -------------------------------------------


def cost(**changes: Any) -> Cost:
    """What files cost that are small and dear: the real service's, of a run of 500."""
    usual = Cost(files=16, bytes=16_000, seconds=3.0, busy=0.2, wanted=480, askers=1)
    usual.endings = {".csv"}
    return dataclasses.replace(usual, **changes)


def plan(of: Cost, unknown: int = 480, files: int = 500, **changes: Any) -> float:
    names = [f"{number}.csv" for number in range(files)]
    pack = Pack(("run", "r"), names, list, _nothing, lambda: 0.004, 30.0)
    return of.plan(dataclasses.replace(pack, **changes), names[files - unknown :])


def _nothing(_: Any) -> Any:
    raise AssertionError


def test_many_that_are_small_and_dear_are_worth_an_archive() -> None:
    assert 0 < plan(cost()) <= 3.0
    assert plan(cost(bytes=20_000 * 16), unknown=84, files=100) > 0


def test_what_is_left_is_not_looked_at_where_files_are_cheap() -> None:
    def look() -> Any:
        raise AssertionError("a step for each file of the run, after every few of them")

    pack = Pack(("run", "r"), ["1.csv"] * 500, look, _nothing, lambda: 0.02, 30.0)
    told = packs.Packs(lambda _: None, lambda *_: None)
    told._costs[pack.key] = cost(seconds=16 * 0.02)
    assert told.bring(Source(("f",), _nothing, pack=pack, name="1.csv")) is None


def test_it_is_waited_for_less_long_than_the_files_would_take() -> None:
    each = 0.2 / 16
    for wanted in (30, 60, 120, 240, 480):
        assert plan(cost(wanted=wanted)) <= wanted * each * 3 / 4


@pytest.mark.parametrize(
    "changes",
    [
        {"busy": 0.04},  # 2.5 ms each
        {"seconds": 16 * 0.0045},  # each takes what the way there and back takes
        {"wanted": 12},
        {"bytes": 16 * 40_000},
        {"endings": {".txt"}},
    ],
    ids=["cheap", "far", "few wanted", "too much", "others"],
)
def test_what_is_cheap_or_far_or_large_or_not_known_is_not(changes: dict[str, Any]) -> None:
    assert plan(cost(**changes)) == 0


def test_who_does_not_say_what_they_want_is_thought_to_want_as_much_again() -> None:
    assert plan(cost(wanted=0, askers=0)) == 0
    longer = cost(files=200, bytes=200_000, seconds=36.0, busy=2.5, wanted=0, askers=0)
    assert plan(longer, unknown=300) > 0
    assert plan(longer, unknown=FEWEST - 1) == 0


def test_where_a_request_may_take_no_time_nothing_is_waited_for() -> None:
    assert plan(cost(), timeout=0.5) == 0


# -- what is asked for -----------------------------------------------------


@pytest.mark.parametrize("disk", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize("call", ["cat", "cat_ranges", "get", "sizes", "du", "info", "share"])
@pytest.mark.usefixtures("worth")
def test_after_a_few_the_rest_comes_with_one_request(
    run: Run, tmp_path: Path, call: str, disk: bool
) -> None:
    fs = run.fs(**({"cache_dir": tmp_path / "cache"} if disk else {}))
    sizes = [len(data) for data in run.data.values()]
    if call == "cat":
        assert list(fs.cat(run.paths).values()) == list(run.data.values())
    elif call == "cat_ranges":
        assert fs.cat_ranges(run.paths, None, None) == list(run.data.values())
    elif call == "get":
        fs.get(f"{run.path}/outputs/results/", f"{tmp_path}/copy/", recursive=True)
        for name, data in run.data.items():
            assert (tmp_path / "copy" / f"{name}.txt").read_bytes() == data
    elif call == "sizes":
        assert fs.sizes(run.paths) == sizes
    elif call == "du":
        assert fs.du(f"{run.path}/results") == sum(sizes)
    elif call == "info":
        assert [fs.info(path)["size"] for path in run.paths] == sizes
    else:
        for path, data in zip(run.paths, run.data.values(), strict=True):
            source = fs.entries.source(fs._resolve(path))
            assert source is not None
            shared = fs.content.share(source)
            assert shared.read(0, 1000) == data
            shared.close()
    assert run.asked() == (TRIED, 1)
    assert list(fs.cat(run.paths).values()) == list(run.data.values())
    assert run.asked() == (TRIED, 1)


@pytest.mark.usefixtures("worth")
def test_it_is_asked_for_once_however_many_ask_and_they_wait_for_it(run: Run) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def late(_: Asked) -> None:
        asked.set()
        go_on.wait(LONG)

    run.server.on("GET", ARCHIVE, late)
    fs = run.fs(max_connections=4)
    with ThreadPoolExecutor(1) as pool:
        all_of_it = pool.submit(fs.cat, run.paths)
        assert asked.wait(LONG)
        go_on.set()
        assert list(all_of_it.result(LONG).values()) == list(run.data.values())
    files, archives = run.asked()
    assert archives == 1
    assert files <= TRIED + 3  # those that were on their way when it was decided


@pytest.mark.usefixtures("worth")
def test_who_wants_it_otherwise_has_a_request_for_each(run: Run) -> None:
    assert len(run.fs(archives=False).cat(run.paths)) == COUNT
    assert run.asked() == (COUNT, 0)


def test_a_mount_can_be_told_to_ask_for_each() -> None:
    for text, archives in (("", True), ("no_archives", False)):
        ours, others = read_options(text)
        settings = settings_of("http://127.0.0.1:1", "/mnt", ours, others)
        fs, _ = settings.file_system()
        assert fs.content.packs.on is archives


@pytest.mark.usefixtures("worth")
def test_of_a_run_with_few_files_nobody_thinks_of_it(run: Run) -> None:
    few = Run(run.server, FEWEST - 1)
    assert len(few.fs().cat(few.paths)) == FEWEST - 1
    assert few.asked() == (FEWEST - 1, 0)


@pytest.mark.usefixtures("worth")
def test_where_one_of_the_first_is_large_each_is_asked_for(run: Run) -> None:
    run.server.routes.files["f003"] = run.data["f003"] = bytes(70_000)
    assert list(run.fs().cat(run.paths).values()) == list(run.data.values())
    assert run.asked() == (COUNT, 0)


@pytest.mark.usefixtures("worth")
def test_a_large_one_among_the_others_is_asked_for_by_itself(run: Run) -> None:
    run.server.routes.files["f050"] = run.data["f050"] = bytes(70_000)
    fs = run.fs()
    assert list(fs.cat(run.paths).values()) == list(run.data.values())
    assert run.asked() == (TRIED + 1, 1)
    assert fs.info(run.paths[50])["size"] == 70_000


@pytest.mark.usefixtures("worth")
def test_what_has_come_is_there_for_later_processes(run: Run, tmp_path: Path) -> None:
    first = run.fs(cache_dir=tmp_path / "cache")
    first.cat(run.paths)
    disk = first.content.disk
    assert disk is not None
    disk.close()
    later = run.fs(cache_dir=tmp_path / "cache")
    assert list(later.cat(run.paths).values()) == list(run.data.values())
    assert run.asked() == (TRIED, 1)


# -- what goes wrong -------------------------------------------------------


def _another(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    member, data = members[2]
    members[2] = (member, bytes(len(data)))


def _longer(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    member, data = members[2]
    member.size += 1
    members[2] = (member, data + b"x")


def _linked(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    member = members[30][0]
    member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
    members[30] = (member, b"")


def _renamed(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    members[30][0].name = "../results/f030.txt"


CHANGES: Mapping[str, Callable[[Any], object]] = {
    "a file less": lambda members: members.pop(),
    "a file more": lambda members: members.append((tarfile.TarInfo("more"), b"")),
    "another order": list.reverse,
    "one twice": lambda members: members.append(members[-1]),
    "another name": _renamed,
    "a link": _linked,
    "other bytes": _another,
    "another size": _longer,
    "nothing": list.clear,
}


@pytest.mark.usefixtures("worth")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_archive_that_is_not_what_it_must_be_is_done_without(
    run: Run, change: Callable[[Any], object]
) -> None:
    run.server.on("GET", ARCHIVE, Reply(body=run.archive(change)))
    assert list(run.fs().cat(run.paths).values()) == list(run.data.values())
    assert run.asked() == (COUNT, 1)


WHOLE = gzip.compress(b"no tar" * 100)
FAULTS = {
    "refused": Reply(403, {"message": "not authorized"}),
    "gone": Reply(404, {"message": "unknown run"}),
    "broken": Reply(500, {"message": "it is broken"}),
    "busy": Reply(503),
    "reset": Reply(reset=True),
    "empty": Reply(body=b""),
    "no gzip": Reply(body=b"what is this"),
    "no tar": Reply(body=WHOLE),
    "cut": Reply(body=bytes(10_000), cut=500),
}


@pytest.mark.usefixtures("worth")
@pytest.mark.parametrize("reply", FAULTS.values(), ids=FAULTS)
def test_an_archive_that_fails_is_nobodys_error_and_is_not_asked_for_again(
    run: Run, reply: Reply
) -> None:
    run.server.on("GET", ARCHIVE, reply)
    fs = run.fs()
    assert list(fs.cat(run.paths).values()) == list(run.data.values())
    assert run.asked() == (COUNT, 1)
    assert fs.cat(".flowfs/errors") == b""
    other = Run(run.server)
    assert list(fs.cat(other.paths).values()) == list(other.data.values())
    assert run.asked()[1] == 1  # not even for another run


@pytest.mark.usefixtures("worth")
@pytest.mark.parametrize("damage", ["cut short", "a bit", "checksum", "goes on"])
def test_nothing_of_a_damaged_archive_is_given_out(run: Run, damage: str) -> None:
    whole = bytearray(run.archive(lambda _: None))
    if damage == "cut short":
        del whole[-12:]
    elif damage == "a bit":
        whole[len(whole) // 2] ^= 1
    elif damage == "checksum":
        whole[-5] ^= 1
    else:
        whole += WHOLE
    run.server.on("GET", ARCHIVE, Reply(body=bytes(whole)))
    assert list(run.fs().cat(run.paths).values()) == list(run.data.values())
    assert run.asked() == (COUNT, 1)


@pytest.mark.parametrize("where", ["before", "headers", "body"])
def test_an_archive_that_does_not_come_is_waited_for_a_bounded_time(
    run: Run, worth: dict[str, float], where: str
) -> None:
    worth["for"] = 0.2
    run.server.on("GET", ARCHIVE, Reply(body=run.archive(lambda _: None), hang=where))
    fs = run.fs(max_connections=4)  # whose requests may take two minutes
    assert list(fs.cat(run.paths).values()) == list(run.data.values())
    assert run.asked() == (COUNT, 1)
    assert fs.cat(".flowfs/errors") == b""


@pytest.mark.usefixtures("worth")
def test_an_interrupt_ends_the_wait_for_an_archive(run: Run) -> None:
    asked = threading.Event()

    def hang(_: Asked) -> Reply:
        asked.set()
        return Reply(hang="before")

    run.server.on("GET", ARCHIVE, hang)
    fs = run.fs(max_connections=4)
    with ThreadPoolExecutor(1) as pool:
        all_of_it = pool.submit(fs.cat, run.paths, on_error="return")
        assert asked.wait(LONG)
        fs.catalog.service.session.interrupt()
        got = list(all_of_it.result(LONG).values())
    files = [one for one in got if isinstance(one, bytes)]
    assert len(got) == COUNT
    assert len(files) >= TRIED


@pytest.mark.usefixtures("worth")
def test_an_interrupt_is_for_all_who_wait_for_an_archive(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, waiting = threading.Event(), threading.Semaphore(0)

    class Over(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waiting.release()
            return super().wait(timeout)

    class Flight(packs._Flight):
        def __init__(self, patience: float) -> None:
            super().__init__(patience)
            self.over = Over()

    def hang(_: Asked) -> Reply:
        asked.set()
        return Reply(hang="before")

    monkeypatch.setattr(packs, "_Flight", Flight)
    run.server.on("GET", ARCHIVE, hang)
    fs = run.fs()
    for path in run.paths[:TRIED]:
        fs.cat_file(path)
    with ThreadPoolExecutor(3) as pool:
        all_of_them = [pool.submit(fs.cat_file, path) for path in run.paths[TRIED : TRIED + 3]]
        assert asked.wait(LONG)
        assert all(waiting.acquire(timeout=LONG) for _ in range(2))
        fs.catalog.service.session.interrupt()
        failed = [one.exception(LONG) for one in all_of_them]
    assert [getattr(error, "errno", None) for error in failed] == [errno.ECANCELED] * 3
    assert run.asked() == (TRIED, 1)
    assert fs.cat_file(run.paths[TRIED]) == run.data["f008"]  # who comes later does not hear of it


@pytest.mark.usefixtures("worth")
def test_nothing_is_kept_of_an_archive_whose_run_is_deleted_meanwhile(run: Run) -> None:
    fs = run.fs()

    def delete(_: Asked) -> None:
        fs.content.gone(("run", run.id))
        fs.content.packs.on = False

    run.server.on("GET", ARCHIVE, delete)
    assert len(fs.cat(run.paths)) == COUNT
    assert run.asked() == (COUNT, 1)


@pytest.mark.usefixtures("worth")
def test_where_no_thread_can_be_had_an_archive_holds_no_connection(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Timer(threading.Timer):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    fs = run.fs()
    runs = fs.catalog.service.runs
    opened, ask = [], runs.get_result_archive
    monkeypatch.setattr(packs.threading, "Timer", Timer)
    monkeypatch.setattr(runs, "get_result_archive", lambda of: opened.append(ask(of)) or opened[0])
    assert list(fs.cat(run.paths).values()) == list(run.data.values())
    assert [body.closed for body in opened] == [True]


@pytest.mark.parametrize("kind", [tarfile.XGLTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_what_an_archive_says_of_its_members_is_not_looked_at_where_it_is_much(
    kind: bytes,
) -> None:
    said = {tarfile.XGLTYPE: b"8 a=bcd\n", tarfile.XHDTYPE: b"8 a=bcd\n" * 1000}
    text = said.get(kind, b"name\0" * 2000)
    header = tarfile.TarInfo("said")
    header.type, header.size = kind, len(text)
    made = io.BytesIO()
    with gzip.open(made, "wb") as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT) + text + bytes(-len(text) % 512))
        file.write(tarfile.TarInfo("name").tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    made.seek(0)
    body: Any = made
    with pytest.raises(ValueError, match=r"no file|bytes of one member"):
        unpacked(body, ["name"])


def test_no_more_is_unpacked_than_may_be() -> None:
    member = tarfile.TarInfo("zeros")
    member.size = 1 << 20
    body: Any = io.BytesIO(packed([(member, bytes(1 << 20))]))
    with pytest.raises(ValueError, match="larger"):
        unpacked(body, ["zeros"], 1 << 19)
    body.seek(0)
    assert unpacked(body, ["zeros"], 1 << 21) == [bytes(1 << 20)]
    body.seek(0)
    with pytest.raises(ValueError, match="too large"):
        unpacked(body, ["zeros"], 100)


# -- the real service ------------------------------------------------------

NAMES = [
    *(f"results/{number}.txt" for number in range(FEWEST)),
    "results/empty.txt",
    "results/odd name & größe.txt",
    "results/-dash.txt",
    "results/deep/er/random.txt",
    "results/windows.txt",
    "top.txt",
    f"results/{'long' * 30}/{'name' * 30}.txt",
]
SCRIPT = f"""
import random
from pathlib import Path

for number, name in enumerate({NAMES!r}):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(random.Random(number).randbytes(number * 31))
Path("results/empty.txt").write_bytes(b"")
Path("results/windows.txt").write_bytes(b"one\\r\\ntwo\\r\\n\\x1a\\n" * 100)
"""


@pytest.mark.usefixtures("worth")
def test_the_real_services_archive_has_the_same_bytes_as_each_file_by_itself() -> None:
    python = os.environ.get("FLOWFS_TEST_SERVICE_PYTHON", sys.executable)
    with EmbeddedService.start(python=python) as service:
        rest = Rest(service)
        workflow = add_workflow(service, NAMES, SCRIPT, "many")
        made = rest.request("POST", f"workflows/{workflow}/groups", json={"name": "many"})
        group = made.json()["id"]
        handle = rest.ended(rest.start(group, {}))
        assert handle["state"] == "SUCCESS", handle
        fs = FlowFileSystem(service.endpoint, service.token, max_connections=1, ttl=600)
        got = fs.cat(f"groups/{group}/runs/{handle['id']}/results/*")
        asked = fs.catalog.service.session.statistics.document()
        assert asked["GET runs:download:file"]["count"] == TRIED
        assert asked["GET runs:download:archive"]["count"] == 1
        by_id = {path.rpartition("/")[2]: data for path, data in got.items()}
        assert {file["name"] for file in handle["files"]} == set(NAMES)
        for file in handle["files"]:
            assert by_id[file["id"]] == rest.result(handle, file["name"]), file["name"]
        rest.close()
