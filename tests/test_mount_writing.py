"""``new`` as the kernel writes it, without a service that behaves."""

from __future__ import annotations

from typing import Any

import pytest

from flowfs import FlowFileSystem
from flowfs.errors import FlowError, TooLarge
from flowfs.fuse.writing import NewRunHandle
from flowfs.tree import parse


class BrokenFileSystem(FlowFileSystem):
    """One whose starts fail as nobody foresaw, after they were sent."""

    starts = 0

    def start_run(self, group_id: str, arguments: Any) -> dict[str, Any]:
        type(self).starts += 1
        raise RuntimeError("out of the blue")


def test_a_file_whose_start_failed_in_an_unforeseen_way_starts_no_other() -> None:
    fs = BrokenFileSystem("http://127.0.0.1:1/api", token="t", skip_instance_cache=True)
    handle = NewRunHandle(fs, parse("groups/G/runs/new"))

    with pytest.raises(RuntimeError):
        handle.write(b"{}", 0)
    with pytest.raises(FlowError, match="may have started: out of the blue"):
        handle.write(b"\n", 2)
    with pytest.raises(FlowError, match="may have started"):
        handle.write(b"{}", 3)
    handle.flush(None)
    handle.release()

    assert fs.starts == 1


def test_arguments_that_are_too_large_are_refused_as_in_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flowfs.filesystem.writing._MAX_DOCUMENT", 4)
    fs = FlowFileSystem("http://127.0.0.1:1/api", token="t", skip_instance_cache=True)
    handle = NewRunHandle(fs, parse("groups/G/runs/new"))

    handle.write(b"{", 0)
    with pytest.raises(TooLarge, match="start no run"):
        handle.write(b'"a": 1}', 1)

    assert b"start no run" in (fs.catalog.refusal("G") or b"")
