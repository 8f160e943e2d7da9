"""Files of the service as the kernel reads them: several requests at once, in any order."""

from __future__ import annotations

import io

import pytest

from flowfs.errors import BadReply
from flowfs.fuse.handles import StreamHandle

MIB = 1 << 20
DATA = bytes(range(256)) * (8 * MIB // 256)


class Recorded(io.BytesIO):
    """What a handle reads from; it remembers the jumps, each of which costs a request."""

    def __init__(self, data: bytes = DATA, size: int | None = None) -> None:
        super().__init__(data)
        self.size = len(data) if size is None else size
        self.jumps: list[int] = []

    def seek(self, offset: int, whence: int = 0) -> int:
        self.jumps.append(offset)
        return super().seek(offset, whence)


@pytest.fixture
def reader() -> Recorded:
    return Recorded()


@pytest.fixture
def handle(reader: Recorded) -> StreamHandle:
    return StreamHandle("groups/G/runs/R/results/F", reader)  # type: ignore[arg-type]


def part(start: int, size: int = MIB) -> bytes:
    return DATA[start : start + size]


def test_reads_in_order_never_jump(handle: StreamHandle, reader: Recorded) -> None:
    for start in range(0, len(DATA), 128 << 10):
        assert handle.read(128 << 10, start) == part(start, 128 << 10)
    assert handle.read(MIB, len(DATA)) == b""
    assert reader.jumps == []


def test_a_read_that_comes_a_little_early_is_read_up_to(
    handle: StreamHandle, reader: Recorded
) -> None:
    assert handle.read(MIB, MIB) == part(MIB)
    assert handle.read(MIB, 0) == part(0)
    assert reader.jumps == []


def test_a_jump_is_one_jump(handle: StreamHandle, reader: Recorded) -> None:
    assert handle.read(100, 5 * MIB) == part(5 * MIB, 100)
    assert handle.read(100, 0) == part(0, 100)
    assert handle.read(100, 7 * MIB) == part(7 * MIB, 100)
    assert reader.jumps == [5 * MIB, 0, 7 * MIB]


def test_a_file_that_ends_before_its_length_is_an_error() -> None:
    handle = StreamHandle("F", Recorded(b"half", size=8))  # type: ignore[arg-type]
    with pytest.raises(BadReply, match="ends after 4 of 8 bytes"):
        handle.read(8, 0)
