"""Many programs at once on a mount whose service answers late."""

from __future__ import annotations

from pathlib import Path

import pytest
import soak as soaking
from soak import Findings, soak


@pytest.mark.mount
@pytest.mark.service
def test_readers_and_writers_at_once_find_everything_right() -> None:
    found = soak(8, delay=(0.0, 0.1), ttl=0.5)
    assert found.faults() == []
    # All of it was tried, and much was compared.
    kinds = {step.partition(":")[0] for step in found.steps}
    assert kinds == {"reader", "writer"}
    assert len(found.steps) >= 12
    assert found.bytes_compared > 10 << 20


# -- that it would notice ----------------------------------------------------


@pytest.fixture
def reader(tmp_path: Path) -> soaking._Reader:
    """A reader of one result, which is a plain file here."""
    data = bytes(range(256)) * 1000
    run = tmp_path / "group" / "runs" / "one"
    result = run / "outputs" / "results" / "file"
    result.parent.mkdir(parents=True)
    result.write_bytes(data)
    (tmp_path / "copy").write_bytes(data)
    known = soaking._Known(
        str(result.relative_to(tmp_path)),
        str(tmp_path / "copy"),
        soaking.hashlib.sha256(data).hexdigest(),
        len(data),
    )
    world = soaking._World(str(tmp_path), "group", "", [known], ["one"], 1.0)
    return soaking._Reader(1, world)


def test_readers_notice_a_wrong_byte_a_short_file_and_a_missing_run(
    reader: soaking._Reader, tmp_path: Path
) -> None:
    for step in (reader.whole, reader.parts, reader.mapped, reader.look_around):
        step()
    assert reader.compared > 0
    result = tmp_path / reader.world.known[0].path
    good = result.read_bytes()
    result.write_bytes(good[:-1] + b"?")
    with pytest.raises(soaking._Wrong):
        reader.whole()
    result.write_bytes(good[:-1])
    for step in (reader.whole, reader.mapped, reader.look_around):
        with pytest.raises(soaking._Wrong):
            step()
    result.write_bytes(bytes(len(good)))
    reader.random.seed(1)
    with pytest.raises(soaking._Wrong):
        reader.parts()
    reader.world.runs.append("another")
    with pytest.raises(soaking._Wrong, match="another"):
        reader.look_around()


def test_growth_is_told_from_chance() -> None:
    steady = [(float(i), 100 << 20, 20 + i % 3, 30 + i % 5) for i in range(100)]
    assert Findings(samples=steady).grown() == []
    leaking = [(float(i), (100 + i) << 20, 20 + i, 30 + i) for i in range(100)]
    assert [fault.split()[0] for fault in Findings(samples=leaking).grown()] == [
        "memory",
        "threads",
        "files",
    ]
