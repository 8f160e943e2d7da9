"""Open files: what the kernel gets to see of one that ends early, is gone, or is open twice."""

from __future__ import annotations

import errno

import pytest

from flowfs.errors import BadReply, FlowError, InvalidArguments, NotFound, failure
from flowfs.fuse.handles import Handle, Handles, SnapshotHandle, StreamHandle


class Shared:
    """What a handle reads from."""

    def __init__(self, data: bytes, size: int) -> None:
        self.data, self.size = data, size
        self.identity = ("data",)
        self.closed = False

    def read(self, start: int, size: int) -> bytes:
        if start >= 100:
            raise failure(NotFound, "unknown run")
        return self.data[start : start + size]

    def close(self) -> None:
        self.closed = True


def stream(data: bytes, size: int) -> StreamHandle:
    return StreamHandle("groups/G/runs/R/results/F", Shared(data, size))  # type: ignore[arg-type]


def test_a_file_that_ends_before_its_length_is_an_error() -> None:
    handle = stream(b"half", 8)
    assert handle.read(4, 0) == b"half"
    with pytest.raises(BadReply, match="ends after 4 of 8 bytes"):
        handle.read(8, 0)


def test_nothing_is_read_beyond_the_end() -> None:
    handle = stream(b"whole, and more", 5)
    assert handle.read(100, 0) == b"whole"
    assert handle.read(100, 3) == b"le"
    assert handle.read(100, 5) == handle.read(100, 9) == b""


def test_a_file_that_is_gone_since_it_was_opened_is_estale_and_not_enoent() -> None:
    with pytest.raises(FlowError, match=r"deleted since it was opened \(unknown run\)") as caught:
        stream(bytes(100), 200).read(10, 100)
    assert caught.value.errno == errno.ESTALE
    assert not isinstance(caught.value, NotFound)


def test_closing_it_lets_go_of_it() -> None:
    shared = Shared(b"", 0)
    StreamHandle("F", shared).release()  # type: ignore[arg-type]
    assert shared.closed


def test_a_plain_handle_neither_reads_nor_writes() -> None:
    for act in (lambda: Handle("F").read(1, 0), lambda: Handle("F").write(b"x", 0)):
        with pytest.raises(InvalidArguments, match="was not opened for"):
            act()


def test_a_path_has_the_size_it_was_last_opened_with_as_long_as_it_is_open() -> None:
    handles = Handles()
    assert handles.size("F") is None
    first = handles.add(SnapshotHandle("F", b"one"))
    second = handles.add(SnapshotHandle("F", b"three"))
    other = handles.add(Handle("F"))
    assert handles.size("F") == 5
    handles.remove(second)
    assert handles.size("F") == 3
    handles.remove(first)
    handles.remove(other)
    assert handles.size("F") is None
    assert handles.at("F") == []
