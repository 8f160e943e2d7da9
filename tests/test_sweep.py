"""Sweeps as files: what a row is, and what a ledger says of it, whoever was killed when."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowfs import FlowError, InvalidArguments
from flowfs.arguments import check, normalize
from flowfs.catalog import RunRecord
from flowfs.sweep import Baseline, Intent, Ledger, read_sweep
from flowfs.sweep.rows import row_key
from flowfs.sweep.starting import baseline_of, is_newer, matched

DECLARED: list[dict[str, Any]] = [
    {"name": "data", "dtype": "file"},
    {"name": "window", "dtype": "int"},
    {"name": "limit", "dtype": "float"},
    {"name": "fast", "dtype": "bool"},
    {"name": "title", "dtype": "string"},
    {"name": "kind", "dtype": "select", "values": [{"value": 1}, {"value": "two"}]},
    {"name": "list", "dtype": "list"},
]
GROUP = "g"

_NAMES = st.sampled_from([str(one["name"]) for one in DECLARED])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, width=32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
).filter(lambda value: "inf" not in repr(value))
_ROWS = st.lists(st.dictionaries(_NAMES, _VALUES, max_size=4), min_size=1, max_size=5)


def values(sweep: Any) -> list[dict[str, Any]]:
    return [{one["name"]: one["value"] for one in row.arguments} for row in sweep.rows]


def lines(*documents: Any) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


# -- reading -------------------------------------------------------------------


@settings(max_examples=30)
@given(_ROWS, st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n"]), st.booleans())
def test_a_document_a_line_is_a_run_a_line(rows: list[Any], end: str, last: bool) -> None:
    text = end.join(map(json.dumps, rows)) + (end if last else "")
    sweep = read_sweep(b"\xef\xbb\xbf" + text.encode(), "a.jsonl", DECLARED)
    assert values(sweep) == rows
    assert not sweep.single


@settings(max_examples=30)
@given(_ROWS)
def test_an_array_of_mappings_is_a_run_each(rows: list[Any]) -> None:
    sweep = read_sweep(json.dumps(rows).encode(), "a.json", DECLARED)
    assert values(sweep) == rows
    assert [row.name for row in sweep.rows] == [f"number {n}" for n in range(1, len(rows) + 1)]


@settings(max_examples=30)
@given(_ROWS)
def test_all_forms_of_the_same_arguments_have_one_key(rows: list[Any]) -> None:
    for row in rows:
        listed = [{"name": name, "value": value} for name, value in row.items()]
        forms = [row, listed[::-1], {"arguments": listed}, {**row, "none": None}]
        read = read_sweep(lines(*forms), "a.jsonl", DECLARED)
        assert len({one.key for one in read.rows}) == 1


@settings(max_examples=30)
@given(_ROWS)
def test_rows_have_one_key_if_and_only_if_they_say_the_same(rows: list[Any]) -> None:
    keys = [row_key(normalize(row)) for row in rows]
    said = [
        json.dumps({n: v for n, v in row.items() if v is not None}, sort_keys=True) for row in rows
    ]
    for key, one in zip(keys, said, strict=True):
        assert [key == k for k in keys] == [one == s for s in said]


@pytest.mark.parametrize(
    ("data", "name", "single", "count"),
    [
        (b'{"window": 1}', "a.json", True, 1),
        (b'{"window": 1}', "", True, 1),
        (b'{"window":\n 1}', "", True, 1),
        (b'[{"name": "window", "value": 1}]', "a.json", True, 1),
        (b'{"arguments": [{"name": "window", "value": 1}]}', "a.json", True, 1),
        (b'[[{"name": "window", "value": 1}], [{"name": "window", "value": 2}]]', "", False, 2),
        (b'[{"arguments": [{"name": "window", "value": 1}]}, {"window": 2}]', "", False, 2),
        (b'{"window": 1}\n{"window": 2}\n', "", False, 2),
        (b'{"window": 1}\n', "a.jsonl", False, 1),
        (b"window\n1\n2\n", "", False, 2),
    ],
)
def test_what_it_is_is_told_by_its_name_or_its_beginning(
    data: bytes, name: str, single: bool, count: int
) -> None:
    sweep = read_sweep(data, name, DECLARED)
    assert (sweep.single, len(sweep.rows)) == (single, count)


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (b"[]", "a.json", "neither a run nor several"),
        (b'[{"name": "a", "value": 1}, {"b": 2}]', "a.json", "and some have not"),
        (b'{"a": 1}\n{"b": 2}', "a.json", r"several, a line each, the name ends in \.jsonl"),
        (b"", "a.jsonl", "no rows"),
        (b"\n\n", "a.csv", "empty"),
        (b"a,b\n", "a.csv", "no rows"),
        (b"", "", "empty"),
        (b'{"a": 1}\n[1]\n{"a": }\n', "a.jsonl", "line 2: argument 1 .*; line 3: not JSON"),
        (b"a,b\n1,2\n3\n4,5,6\n", "a.csv", "line 3: 1 cells, .*; line 4: 3 cells"),
        (b",window\n0,1\n", "a.csv", "column 1 has no name"),
        (b"a,a\n0,1\n", "a.csv", "several columns 'a'"),
        (b'a\n"x\n', "a.csv", "no CSV"),
        (b"a\n\xff\n", "a.csv", "not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_told_with_all_that_is_wrong(
    data: bytes, name: str, said: str
) -> None:
    with pytest.raises(InvalidArguments, match=said):
        read_sweep(data, name, DECLARED)


def test_an_array_that_may_be_one_run_or_several_is_refused() -> None:
    data = json.dumps([{"name": "a", "value": 1}, {"name": "b", "value": 2}]).encode()
    assert read_sweep(data, "a.json", DECLARED).single
    declared = [{"name": "name", "dtype": "string"}, {"name": "value", "dtype": "int"}]
    with pytest.raises(InvalidArguments, match="one run or several"):
        read_sweep(data, "a.json", declared)


def test_cells_are_of_their_parameters_types() -> None:
    head = "data;window;limit;fast;title;kind;list\n"
    cells = [
        "days.csv;3;2;True; x;1;[1, 2]",
        "days.csv;4.0;1e3;f;;two;",
        "days.csv;x;inf;yes;7;3;[1",
    ]
    sweep = read_sweep((head + "\n".join(cells)).encode(), "a.csv", DECLARED)
    assert values(sweep) == [
        {"data": "days.csv", "window": 3, "limit": 2.0, "fast": True, "title": " x", "kind": 1,
         "list": [1, 2]},
        {"data": "days.csv", "window": 4, "limit": 1000.0, "fast": False, "kind": "two"},
        {"data": "days.csv", "window": "x", "limit": "inf", "fast": "yes", "title": "7",
         "kind": "3", "list": "[1"},
    ]  # fmt: skip
    # What is no such value is refused in the service's words, as ever.
    with pytest.raises(InvalidArguments, match="no int 'x' for 'window'"):
        check(sweep.rows[2].arguments, DECLARED)


_CELLS = st.fixed_dictionaries(
    {
        "window": st.integers(),
        "limit": st.floats(allow_nan=False, allow_infinity=False),
        "fast": st.booleans(),
        "title": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6).filter(
            str.strip
        ),
    }
)


@given(st.lists(_CELLS, min_size=1, max_size=3), st.sampled_from([",", ";", "\t"]))
def test_what_a_table_was_written_of_is_read_from_it(rows: list[Any], delimiter: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    read = values(read_sweep(text.getvalue().encode(), "a.csv", DECLARED))
    assert read == rows
    for one, row in zip(read, rows, strict=True):
        assert {name: type(value) for name, value in one.items()} == {
            name: type(value) for name, value in row.items()
        }


@given(st.binary(max_size=60), st.sampled_from(["", "a.json", "a.jsonl", "a.csv", "a.tsv"]))
def test_nothing_is_read_as_anything_but_rows_or_an_error(data: bytes, name: str) -> None:
    try:
        sweep = read_sweep(data, name, DECLARED)
    except InvalidArguments:
        return
    assert sweep.rows


# -- the ledger ------------------------------------------------------------------

ARGUMENTS = [{"name": "window", "value": 1}]


def test_of_each_row_a_ledger_says_what_became_of_it(tmp_path: Path) -> None:
    path = str(tmp_path / "a.ledger")
    keys = ["a", "b", "a", "c", "a"]
    with Ledger(path, GROUP) as ledger:
        assert ledger.due(keys) == ({}, [0, 1, 2, 3, 4])
        ledger.begin(Baseline(None, frozenset({"old"})))
        for key, run_id in (("a", "r1"), ("b", None), ("c", None), ("a", "r2")):
            number = ledger.intend(key, ARGUMENTS)
            if key == "b":
                ledger.refused(number, "no")
            elif run_id:
                ledger.started(number, run_id)
    with Ledger(path, GROUP) as ledger:
        # Two of three rows 'a' were started, 'b' was not, and of 'c' nobody knows.
        assert ledger.due(keys) == ({0: "r1", 2: "r2"}, [1, 4])
        (intent,) = ledger.intents
        assert (intent.key, intent.arguments) == ("c", ARGUMENTS)
        assert intent.baseline == Baseline(None, frozenset({"old"}))
        assert ledger.runs == {"r1", "r2"}
        # Rows that moved, or went, make no difference to others.
        assert ledger.due(["d", "a"]) == ({1: "r1"}, [0])
    with Ledger(path, f"{GROUP}2") as ledger:
        assert ledger.due(keys) == ({}, [0, 1, 2, 3, 4])
    with Ledger(path, GROUP) as ledger:
        ledger.again()
    with Ledger(path, GROUP) as ledger:
        assert (ledger.due(keys), ledger.intents) == (({}, [0, 1, 2, 3, 4]), [])
        assert ledger.runs == {"r1", "r2"}  # which are nobody else's all the same


def _written(path: str) -> list[tuple[dict[str, Any], Any]]:
    """Write a ledger, and return what it says after each record."""
    keys = ["a", "b", "a"]
    said = []
    with Ledger(path, GROUP) as ledger:

        def note() -> None:
            said.append((os.path.getsize(path), (ledger.due(keys), ledger.intents, ledger.runs)))

        note()
        ledger.begin(Baseline("2025-06-01T00:00:00", frozenset({"x", "y"})))
        note()
        first = ledger.intend("a", ARGUMENTS)
        note()
        second = ledger.intend("b", [{"name": "title", "value": "\u2028 ü\n"}])
        note()
        ledger.started(first, "r1")
        note()
        ledger.refused(second, "no\nnever")
        note()
        ledger.started(ledger.intend("a", ARGUMENTS), "r2")
        note()
    return said  # type: ignore[return-value]


def test_wherever_the_writing_stops_it_says_what_whole_lines_say(tmp_path: Path) -> None:
    path = str(tmp_path / "a.ledger")
    said: list[Any] = _written(path)
    data = Path(path).read_bytes()
    sizes = [size for size, _ in said]
    near = {max(size + by, sizes[0]) for size in sizes for by in (-2, -1, 0, 1)}
    for size in sorted((near | set(range(sizes[0], len(data), 23))) - {len(data) + 1}):
        Path(path).write_bytes(data[:size])
        with Ledger(path, GROUP) as ledger:
            last = data[:size].rfind(b"\n") + 1
            now = (ledger.due(["a", "b", "a"]), ledger.intents, ledger.runs)
            if last in sizes:
                expected = said[sizes.index(last)][1]
                assert now == expected
            number = ledger.intend("z", [])  # and can be written on
            ledger.started(number, "rz")
        with Ledger(path, GROUP) as ledger:
            assert ledger.due(["z"]) == ({0: "rz"}, [])


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [*lines[:2], b"{}", *lines[2:]],
        lambda lines: [*lines[:3], b"x" + lines[3], *lines[4:]],
        lambda lines: lines[1:],
        lambda lines: [b'{"flowfs": "sweep", "version": 2}', *lines[1:]],
        lambda lines: [*lines[:2], *lines[3:]],
        lambda lines: [b"window", b"1"],
        lambda lines: [*lines, b"[]"],
    ],
)
def test_a_ledger_that_is_damaged_is_not_believed(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "a.ledger"
    _written(str(path))
    path.write_bytes(b"\n".join(damage(path.read_bytes().splitlines())) + b"\n")
    before = path.read_bytes()
    with pytest.raises(FlowError, match="damaged: line"):
        Ledger(str(path), GROUP)
    assert path.read_bytes() == before


@pytest.mark.parametrize("data", [b'{"names": "a.txt"}', b"a line\nand another one", b"\0" * 9])
def test_what_is_no_ledger_is_left_as_it_is(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "notes"
    path.write_bytes(data)
    with pytest.raises(FlowError, match="no ledger"):
        Ledger(str(path), GROUP)
    assert path.read_bytes() == data


def test_whoever_is_killed_while_he_begins_a_ledger_has_begun_it(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    Ledger(str(path), GROUP).__exit__(None, None, None)
    header = path.read_bytes()
    for size in range(len(header)):
        path.write_bytes(header[:size])
        with Ledger(str(path), GROUP):
            assert path.read_bytes() == header


def test_two_at_once_cannot_have_a_ledger(tmp_path: Path) -> None:
    path = str(tmp_path / "a.ledger")
    with Ledger(path, GROUP):
        with pytest.raises(FlowError, match="somebody else is starting runs"):
            Ledger(path, GROUP)
        program = f"from flowfs.sweep import Ledger\nLedger({path!r}, 'other')"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert "somebody else is starting runs" in done.stderr
    Ledger(path, GROUP).__exit__(None, None, None)


def test_what_cannot_be_written_is_not_taken_for_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "a.ledger")
    with Ledger(path, GROUP) as ledger:
        size = os.path.getsize(path)

        def half(file: int, data: Any) -> int:
            if len(data) < 20:
                raise OSError(28, "No space left on device")
            return real(file, data[: len(data) // 2])

        real = os.write
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left") as caught:
            ledger.intend("a", ARGUMENTS)
        monkeypatch.undo()
        assert caught.value.filename == path
        assert os.path.getsize(path) == size
        assert (ledger.intents, ledger.due(["a"])) == ([], ({}, [0]))


# -- which run came of which row ---------------------------------------------------


def _run(number: int, created: int) -> RunRecord:
    return RunRecord(f"r{number}", "SUCCESS", f"2025-06-01T00:00:{created:02d}.000000")


_RUNS = st.lists(st.integers(0, 9), max_size=8)  # the time of each
_ASKED = st.lists(st.integers(0, 2), max_size=5)  # the arguments of each


@given(_RUNS, _ASKED, st.sets(st.integers(0, 7)), st.sets(st.integers(0, 7)))
def test_each_run_comes_of_one_row_with_its_arguments_and_is_newer(
    times: list[int], asked: list[int], old: set[int], claimed: set[int]
) -> None:
    baseline = Baseline(None, frozenset(f"r{n}" for n in old))
    runs = [(_run(n, t), [{"name": "window", "value": n % 3}]) for n, t in enumerate(times)]
    intents = [
        Intent(n, f"k{w}", [{"name": "window", "value": w}], baseline, 0.0)
        for n, w in enumerate(asked)
    ]
    found = matched(intents, runs, {f"r{n}" for n in claimed})
    assert len(set(found.values())) == len(found)
    for number, run_id in found.items():
        which = int(run_id[1:])
        assert which % 3 == asked[number]
        assert which not in old | claimed
    for wanted in range(3):  # and none is left over that could be one's
        free = [n for n in range(len(times)) if n % 3 == wanted and n not in old | claimed]
        assert sum(asked[n] == wanted for n in found) == min(len(free), asked.count(wanted))


def test_arguments_are_the_same_in_whatever_order_and_with_what_says_nothing() -> None:
    file = {"type": "$file", "value": {"fileId": "f"}}
    shown = {"type": "$file", "value": {"fileId": "f", "targetPath": None}}
    sent = [{"name": "a", "value": file}, {"name": "b", "value": 1}]
    intent = Intent(1, "k", sent, Baseline(None, frozenset()), 0.0)
    told = [{"name": "b", "value": 1}, {"name": "a", "value": shown}]
    assert matched([intent], [(_run(1, 1), told)], ()) == {1: "r1"}
    for other in ([], None, told[:1], [*told, {"name": "c", "value": 2}], [1],
                  [{"name": "b", "value": True}, told[1]]):  # fmt: skip
        assert matched([intent], [(_run(1, 1), other)], ()) == {}


@given(st.integers(0, 600), st.integers(0, 59))
def test_no_run_that_was_there_before_is_newer(count: int, later: int) -> None:
    there = [
        RunRecord(f"r{n}", "SUCCESS", f"2025-06-01T00:{n // 60:02d}:{n % 60 // 7:02d}")
        for n in range(count)
    ]
    baseline = baseline_of(there[::-1])
    assert len(baseline.known) <= 256
    assert not any(is_newer(record, baseline) for record in there)
    assert is_newer(RunRecord("new", "PENDING", f"2025-06-01T00:59:{later:02d}"), baseline)
    assert is_newer(RunRecord("new", "PENDING", ""), baseline)
