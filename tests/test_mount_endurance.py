"""Many programs at once on a mount and with fsspec, while everything fails now and then."""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty import FAULTS, Disturbance, Faulty
from mounting import Address
from soak import soak
from soak_found import Failed, Findings, Life, explained
from soak_hands import MountHands
from soak_ledger import Ledger, compare
from soak_work import Reader, Wrong
from soak_world import Known, Plan, World
from standin import StandIn
from support import Rest, lasting_port


@pytest.mark.mount
@pytest.mark.service
def test_whatever_fails_everything_that_is_found_is_right() -> None:
    found = soak(
        Plan(
            8,
            mount_readers=2,
            mount_writers=1,
            readers=1,
            writers=1,
            kill_service=8,
            kill_mount=6,
            faults=0.15,
            kill_reader=4,
            # Nobody here can tell how long this machine takes for anything.
            timeout=100,
            without=("silent",),
            after=1000,
            pause=0.05,
            cache_size=8 << 20,
        )
    )
    assert found.faults() == []
    # All of it was tried; how often depends on the machine.
    kinds = {step.partition(":")[0] for step in found.steps}
    assert kinds >= {"mount reader", "mount writer", "fsspec reader", "fsspec writer"}
    assert len(found.steps) == 26
    assert found.bytes_compared > 0
    assert found.figures["kill of the service, times"] >= 1
    assert found.figures["kill of the mount, times"] >= 1
    assert found.figures["requests"] > 0


# -- that it would notice ----------------------------------------------------


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """A reader of one result, which is a plain file here."""
    data = bytes(range(256)) * 1000
    run = tmp_path / "groups" / "group" / "runs" / "one"
    result = run / "outputs" / "results" / "file"
    result.parent.mkdir(parents=True)
    result.write_bytes(data)
    (tmp_path / "copy").write_bytes(data)
    path = str(result.relative_to(tmp_path))
    digest = "b57b64b198d5d59ce5a22a9b9f25e72a7d081476d432051aa923f3dbebb90934"
    known = Known(path, str(tmp_path / "copy"), digest, len(data))
    world = World(str(tmp_path), str(tmp_path), "", "", "group", [], [known], ["one"], 0, 1, 1)
    return Reader(1, world, MountHands(world))


def test_readers_notice_a_wrong_byte_a_short_file_and_a_missing_run(
    reader: Reader, tmp_path: Path
) -> None:
    for step in (reader.whole, reader.parts, reader.mapped, reader.look_around):
        step()
    assert reader.compared > 0
    result = tmp_path / reader.world.known[0].path
    good = result.read_bytes()
    result.write_bytes(good[:-1] + b"?")
    with pytest.raises(Wrong):
        reader.whole()
    result.write_bytes(good[:-1])
    for step in (reader.whole, reader.mapped, reader.look_around):
        with pytest.raises(Wrong):
            step()
    result.write_bytes(bytes(len(good)))
    reader.random.seed(1)
    with pytest.raises(Wrong):
        reader.parts()
    reader.world.runs.append("another")
    with pytest.raises(Wrong, match="another"):
        reader.look_around()


def test_growth_is_told_from_chance() -> None:
    steady = [(float(i), 100 << 20, 20 + i % 3, 30 + i % 5) for i in range(200)]
    assert Findings(lives=[Life("one", steady)]).grown() == []
    leaking = [(float(i), (100 + i) << 20, 20 + i, 30 + i) for i in range(200)]
    grown = Findings(lives=[Life("one", steady), Life("two", leaking)]).grown()
    assert [fault.split()[:2] for fault in grown] == [
        ["two:", "memory"],
        ["two:", "threads"],
        ["two:", "files"],
    ]


def test_an_error_is_explained_by_what_was_done_at_its_time_and_can_come_to_it() -> None:
    fault = Disturbance("cut", 10, 11)
    service = Disturbance("kill of the service", 10, 11)
    mount = Disturbance("kill of the mount", 10, 11)

    def told(number: int, *done: Disturbance, at: float = 12, step: str = "mount: x") -> bool:
        return explained(Failed(step, number, at, at + 1, ""), list(done), 5)

    assert told(errno.EIO, fault)
    assert told(errno.ECONNREFUSED, service)
    assert told(errno.ENOTCONN, mount)
    assert told(0, service)
    assert not told(0, fault)
    assert not told(errno.EIO)
    assert not told(errno.EIO, mount)
    assert not told(errno.EIO, fault, at=17)
    assert not told(errno.EIO, fault, at=8)
    assert not told(errno.ENOENT, fault)
    assert not told(errno.ENOENT, service)
    assert not told(errno.ENOTCONN, mount, step="fsspec: x")


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


def test_what_a_writer_did_is_compared_with_what_the_service_has(standin: StandIn) -> None:
    group = standin.routes.group

    def run(greeting: str, state: str = "SUCCESS") -> str:
        arguments = [{"name": "greeting", "value": greeting}]
        return str(standin.routes.add_run(state, arguments=arguments)["id"])

    standin.routes.runs.clear()
    ledger = Ledger(group)
    rest = Rest(Address(standin.endpoint, standin.routes.token))  # type: ignore[arg-type]

    def wrong(made: dict[str, str] | None = None, asked: Counter[str] | None = None) -> list[str]:
        return compare(ledger, rest, asked or Counter(), made or {})[0]

    before = wrong()
    ledger.start("a").run = run("a")
    assert wrong() == before
    twice = run("a")
    assert any("made" in told for told in wrong())
    ledger.start("b").may_be = False
    assert any("was refused" in told for told in wrong({"x": "b"}))
    ledger.starts.pop()
    unclear = ledger.start("c")
    del standin.routes.runs[twice]
    unclear.named = "another"
    assert any("may have made another" in told for told in wrong())
    unclear.named = run("c")
    assert wrong() == before
    assert any("2 times" in told for told in wrong(asked=Counter({"c": 2})))
    ledger.deleted.append(unclear.named)
    assert any("was deleted" in told for told in wrong())
    ledger.deleted.clear()
    del standin.routes.runs[str(ledger.starts[0].run)]
    assert any("is not there" in told for told in wrong())
    ledger.starts.pop(0)
    other = run("nobody's")
    assert any("by nobody" in told for told in wrong())
    del standin.routes.runs[other]
    assert wrong() == before
    with ledger.storing("one.txt", b"new"):
        pass
    assert any("is gone" in told for told in wrong())
    standin.routes.add_upload(b"ne", "one.txt", group)
    assert any("half of it" in told for told in wrong())
    standin.routes.uploads.pop()
    for _ in range(2):
        standin.routes.add_upload(b"new", "one.txt", group)
    assert any("2 times" in told for told in wrong())
    rest.close()


@pytest.mark.parametrize("kind", sorted(set(FAULTS) - {"silent"}))
def test_the_proxy_spoils_what_it_is_told_to_and_nothing_else(
    standin: StandIn, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Faulty(
        standin.endpoint,
        standin.routes.token,
        lasting_port(),
        without=tuple(set(FAULTS) - {kind}),
    ) as proxy:
        rest = Rest(proxy)  # type: ignore[arg-type]
        whole = rest.get("")
        proxy.rate = 1.0
        try:
            good = rest.request("GET", "").json() == whole
        except (OSError, ValueError):
            good = False
        assert good == (kind in ("late", "the end a byte at a time"))
        proxy.rate = 0.0
        assert rest.get("") == whole
        rest.close()
        assert [one.kind for one in proxy.disturbances] == [kind]
        assert proxy.requests == 3
    with pytest.raises(OSError, match="refused"), socket.socket() as nobody:
        nobody.connect(("127.0.0.1", int(proxy.endpoint.split(":")[2].split("/")[0])))
