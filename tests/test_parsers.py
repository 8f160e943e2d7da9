"""Everything that reads what others have written: a right value, or an error that says so.

Of what a service sends, and of what lies on disk, any shape: never another exception, and never
something else than what is there.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import math
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canned import check, told
from examples import tried_on
from hypothesis import example, given
from hypothesis import strategies as st
from replies import (
    anything,
    declarations,
    descriptors,
    group,
    handle,
    ids,
    leaderboard,
    listings,
    names,
    spoilt,
    times,
    upload,
    written,
)

from flowfs import arguments as documents
from flowfs.arguments.document import decode
from flowfs.catalog.listing import Listing, plain, read_object
from flowfs.catalog.records import RunRecord, named, run_files, timestamp, upload_files
from flowfs.content.unpacking import unpacked
from flowfs.errors import FlowError, from_reply, words_of
from flowfs.filesystem.rendering import (
    group_json,
    leaderboard_table,
    plain_arguments,
    pretty_json,
    table_row,
)
from flowfs.filesystem.sources import _is_argument
from flowfs.filesystem.times import Times, _group_times
from flowfs.fuse import registry
from flowfs.names import MAX_BYTES, from_name
from flowfs.service.credentials import Credentials, saved_logins
from flowfs.service.descriptor import DEFAULT_ROUTES, ServiceDescriptor, origin_of
from flowfs.service.json_shapes import object_of, objects_in, run_of
from flowfs.service.session import _decoded
from flowfs.service.statistics import kind_of
from flowfs.tokens.sources import read_token


def read(data: bytes, objects: Any = None) -> Any:
    """Return what a reply in JSON holds as everything else gets it; what none is, ends a test."""
    with told():
        return _decoded(data, "look", "there", objects)
    raise Unread


class Unread(Exception):
    """It is no JSON, which was said."""


@contextlib.contextmanager
def if_read() -> Iterator[None]:
    with contextlib.suppress(Unread), told():
        yield


def same(one: Any, other: Any) -> bool:
    """Tell whether two documents are the same, what is no number too."""
    return repr(one) == repr(other)


# -- JSON, and what must be in it --------------------------------------------------------


@tried_on(40)
@given(written(st.one_of(spoilt(handle()), anything)))
def test_a_reply_in_json_is_what_it_says_or_is_refused(data: bytes) -> None:
    with told() as refused:
        got = _decoded(data, "look", "there")
    if refused:
        assert refused[0].unclear
        if "levels deep" in str(refused[0].strerror):
            assert data.count(b"[") + data.count(b"{") > 300
            return
        with pytest.raises((ValueError, RecursionError)):
            json.loads(data)
    else:
        assert same(got, json.loads(data))


@tried_on(40)
@given(written(spoilt(handle())), ids)
def test_a_runs_handle_has_what_it_must_have_or_is_refused(data: bytes, run_id: str) -> None:
    with if_read():
        got = run_of(read(data), "look", "there")
        assert isinstance(got["id"], str)
        assert isinstance(got["state"], str)
        if got["state"] == "SUCCESS":
            assert all(isinstance(file["id"], str) for file in got["files"])
        with told() as refused:
            run_of(got, "look", "there", run_id)
        assert bool(refused) == (got["id"] != run_id)


@tried_on(40)
@given(written(spoilt(listings)))
def test_a_list_has_all_that_is_in_it_or_is_refused(data: bytes) -> None:
    with if_read():
        reply = read(data)
        entries = objects_in(reply, "runs", "list", "there", "id", "state")
        assert entries is reply["runs"]
        assert all(isinstance(one[name], str) for one in entries for name in ("id", "state"))


@tried_on(40)
@given(written(spoilt(listings)))
def test_a_listing_kept_small_tells_what_the_service_told(data: bytes) -> None:
    with if_read():
        reply = object_of(read(data), "list", "there")
        small = read(data, read_object)
        with told() as refused:
            entries = objects_in(small, "runs", "list", "there", "id", "state", made=tuple)
        with told() as refused_plain:
            objects_in(reply, "runs", "list", "there", "id", "state")
        assert bool(refused) == bool(refused_plain)
        assert same(plain(small), reply)
        if refused:
            return
        listing = Listing(entries)
        by_id = {run["id"]: RunRecord.of(run) for run in reply["runs"]}
        assert dict(listing) == by_id
        assert list(listing) == list(by_id)
        assert listing.active == [i for i, run in by_id.items() if run.active]
        assert listing.names() == [run.name for run in by_id.values()]
        for run in listing.values():
            assert_is_file_name(run.name)
            assert run.mtime is None or math.isfinite(run.mtime)
        _group_times(listing, [])


def assert_is_file_name(name: str) -> None:
    assert 0 < len(name.encode()) <= MAX_BYTES
    assert not set(name) & {"/", "\0", "\n"}
    assert name not in (".", "..")


# -- what the tree makes of it ------------------------------------------------------------


@tried_on(40)
@given(written(spoilt(handle())))
def test_result_files_have_names_of_their_own_that_can_be_file_names(data: bytes) -> None:
    with if_read():
        reply = run_of(read(data), "look", "there")
        files = run_files(reply)
        if reply["state"] == "SUCCESS":
            assert [file.id for file in files] == [file["id"] for file in reply["files"]]
        assert len({file.name for file in files}) == len(files)
        assert len({file.output for file in files}) == len(files)
        for file in files:
            assert_is_file_name(file.name)
            for part in file.output:
                assert_is_file_name(part)
            # None is within the directory that another one needs.
            assert not any(
                other.output[: len(file.output)] == file.output
                for other in files
                if other is not file
            )
            assert file.mtime is None or isinstance(file.mtime, float)


@tried_on(40)
@given(written(spoilt(st.lists(upload, max_size=5))), st.dictionaries(ids, names, max_size=3))
@example(b'[{"id": "r1", "name": "a"}, {"id": "r1", "name": "a"}]', {})
def test_uploads_have_names_of_their_own_that_can_be_file_names(
    data: bytes, asked: dict[str, str]
) -> None:
    with if_read():
        files = objects_in({"files": read(data)}, "files", "list", "there", "id", "name")
        records = upload_files(files, asked)
        assert sorted(record.id for record in records) == sorted({file["id"] for file in files})
        assert len({record.name for record in records}) == len(records)
        for one in records:
            assert_is_file_name(one.name)


@tried_on(40)
@given(written(spoilt(group())), st.sampled_from(["id", "name"]))
def test_things_have_names_of_their_own(data: bytes, by: str) -> None:
    with if_read():
        reply = object_of(read(data), "look", "there")
        for member in ("files", "runs", "members"):
            with told():
                entries = objects_in(reply, member, "look", "there", "id")
                found = named(entries, by)
                assert [one.id for one in found] == [one["id"] for one in entries]
                assert len({one.name for one in found}) == len(found)
                for one in found:
                    assert_is_file_name(one.name)


@tried_on(40)
@given(written(spoilt(group())))
def test_a_group_is_shown_as_it_was_told(data: bytes) -> None:
    with if_read():
        reply = object_of(read(data), "look", "there", "id")
        shown = group_json(read(data, read_object))
        assert same(json.loads(shown.decode("utf-8", "surrogatepass")), reply)


@tried_on(40)
@given(written(spoilt(handle())), st.dictionaries(ids, names, max_size=3))
def test_a_run_is_shown_as_it_was_told(data: bytes, uploads: dict[str, str]) -> None:
    with if_read():
        reply = run_of(read(data), "look", "there")
        shown = pretty_json(reply).decode("utf-8", "surrogatepass")
        assert same(json.loads(shown), reply)
        with told():
            row = table_row(reply, uploads)
            assert row.count(b"\n") == 1
            line = json.loads(row.decode("utf-8", "surrogatepass"))
            assert line["id"] == reply["id"]
        Times.run(reply)
        plain_arguments(reply.get("arguments"), uploads)


@tried_on(40)
@given(written(spoilt(leaderboard)))
def test_a_ranking_is_shown_as_a_table_whatever_is_in_it(data: bytes) -> None:
    with if_read():
        reply = object_of(read(data), "rank", "there")
        objects_in(reply, "ranking", "rank", "there")
        table = leaderboard_table(reply).decode()
        assert table.startswith("rank,run,group,")
        assert len(table.splitlines()) > len(reply["ranking"])
        Times.ranking(reply)


@tried_on(100)
@given(st.one_of(times, anything))
@example("0001-01-01T00:00:00+23:59")
@example("2025-06-01T10:00:00.\ud800")
def test_a_time_is_seconds_or_none(value: Any) -> None:
    seconds = timestamp(value)
    assert seconds is None or math.isfinite(seconds)
    if isinstance(value, str) and seconds is None:
        with contextlib.suppress(ValueError, OverflowError):
            # Python's own forms, in the oldest version too; a zone may lead out of the calendar.
            when = datetime.datetime.fromisoformat(value)
            if when.tzinfo is not None:
                when = when.astimezone(datetime.timezone.utc)
            raise AssertionError(f"{value!r} is {when}")


# -- arguments ------------------------------------------------------------------------------


@tried_on(40)
@given(written(spoilt(handle())))
def test_a_runs_arguments_are_a_document_that_starts_it_again(data: bytes) -> None:
    with if_read():
        told_by = run_of(read(data), "look", "there").get("arguments")
        entries = told_by if isinstance(told_by, list) else []
        if not all(map(_is_argument, entries)):
            return  # whoever wants to read them is told so
        document = documents.dump(entries)
        again = documents.normalize(decode(document))
        assert [one["name"] for one in again] == [one["name"] for one in entries]


@tried_on(40)
@given(written(spoilt(declarations)), written(spoilt(st.dictionaries(names, anything))))
def test_arguments_are_checked_against_declarations_of_any_shape(
    declared: bytes, given: bytes
) -> None:
    with if_read():
        parameters = read(declared)
        if not isinstance(parameters, list):
            return
        template = documents.template(parameters)
        entries = documents.normalize(decode(template))
        assert all(isinstance(one["name"], str) for one in entries)
        with told() as refused:
            arguments = documents.parse(given, "new", parameters)
            uploads = documents.Uploads({"a": "f1"}, {"f2"})
            checked = documents.check(arguments, parameters, uploads, "new")
            left = [one["name"] for one in arguments if one["value"] is not None]
            assert [one["name"] for one in checked] == left
        assert all(isinstance(error, ValueError) for error in refused)


# -- what is no JSON --------------------------------------------------------------------------

markup = st.lists(
    st.sampled_from(
        [
            "<title>",
            "</title>",
            "<h1>",
            "</h1>",
            "<p>",
            "</p>",
            "<",
            ">",
            "&#",
            ";",
            "9" * 5000,
            "x",
        ]
    )
    | names,
    max_size=8,
).map("".join)
errors = st.one_of(
    st.binary(max_size=80),
    written(spoilt(st.fixed_dictionaries({"message": names}))),
    markup.map(lambda text: text.encode("utf-8", "surrogatepass")),
)


@tried_on(100)
@given(st.integers(100, 599), errors, names)
@example(500, b"<title>&#" + b"9" * 5000 + b";</title>", "x")
def test_what_a_service_says_of_an_error_is_told_in_a_line(
    status: int, body: bytes, what: str
) -> None:
    words = words_of(body)
    assert words is None or (words.isprintable() and 0 < len(words) <= 2000)
    error = from_reply(status, body, what, what=f"look at {what}", hint="or not")
    check(error)
    assert error.status == status
    assert error.service_message == words


@tried_on(40)
@given(written(spoilt(descriptors)), ids)
def test_routes_lead_to_the_service_that_was_asked(data: bytes, some_id: str) -> None:
    endpoint = "http://flow.test:5000/flowserv/api/v1"
    with if_read():
        descriptor = ServiceDescriptor.from_document(endpoint, read(data))
        for route in {*DEFAULT_ROUTES, *descriptor.routes()}:
            with told():
                values = dict.fromkeys(("userGroupId", "runId", "fileId", "workflowId"), some_id)
                url = descriptor.urls(route, state=None, **values)
                assert url.startswith(f"{endpoint}/")
                assert origin_of(url) == ("http", "flow.test", 5000)
                assert kind_of("GET", url)


@tried_on(40)
@given(
    st.one_of(
        written(spoilt(st.fixed_dictionaries({"tokens": st.dictionaries(names, names)}))),
        written(anything),
    )
)
@example(b"[" * 100_000)
def test_saved_logins_are_texts_or_an_error(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "flowfs" / "logins.json"
    file.parent.mkdir(exist_ok=True)
    file.touch(mode=0o600)
    file.write_bytes(data)
    with told():
        for endpoint, token in saved_logins({"XDG_CONFIG_HOME": str(tmp_path)}).items():
            assert isinstance(endpoint, str)
            assert isinstance(token, str)


@tried_on(40)
@given(st.one_of(st.binary(max_size=60), names.map(lambda s: s.encode("utf-8", "surrogatepass"))))
def test_a_file_with_a_token_holds_one_or_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_bytes(data)
    with told():
        token = read_token(str(file))
        assert token == data.decode().strip()
        with contextlib.suppress(ValueError):  # which is what to tell a caller
            assert Credentials(token).token == token


mounts = st.fixed_dictionaries(
    {
        "directory": names,
        "url": names,
        "pid": st.integers(1, 99),
        "started": st.integers(),
        "since": st.floats(),
    },
    optional={"log": names, "number": st.integers()},
)


@tried_on(40)
@given(written(spoilt(mounts)))
@example(b'{"directory": "", "url": "", "pid": Infinity, "started": 1, "since": 1}')
@example(b'{"directory": "", "url": "", "pid": 1, "started": 1, "since": ' + b"9" * 400 + b"}")
@example(b"[" * 100_000)
def test_what_is_written_down_of_a_mount_is_one_or_none(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "1.json"
    file.write_bytes(data)
    found = registry._read(file)
    if found is not None:
        assert isinstance(found.pid, int)
        assert isinstance(found.since, float)
        assert isinstance(found.directory, str)
        assert found.running in (True, False)


# -- archives ----------------------------------------------------------------------------------

members = st.lists(
    st.tuples(st.sampled_from(["a", "b/c", "n" * 90, "é"]), st.binary(max_size=30)), max_size=4
)
headers = st.lists(st.tuples(st.integers(0, 511), st.binary(max_size=12)), max_size=3)


def packed(files: list[tuple[str, bytes]], format: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format) as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


class Came:
    """The body of a reply, as far as it is read here."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read1(self, size: int) -> bytes:
        return self._file.read(size)


@tried_on(40)
@given(
    members,
    headers,
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.data(),
)
def test_an_archive_has_the_bytes_of_its_files_or_is_refused(
    files: list[tuple[str, bytes]],
    changes: list[tuple[int, bytes]],
    format: int,
    data: st.DataObject,
) -> None:
    plain = packed(files, format)
    for at, new in changes:
        at += 512 * data.draw(st.integers(0, 3))
        plain = plain[:at] + new + plain[at + len(new) :]
        if data.draw(st.booleans()):  # and the checksum of the header is right
            start = at // 512 * 512
            head = plain[start : start + 148] + b" " * 8 + plain[start + 156 : start + 512]
            plain = plain[: start + 148] + b"%06o\0 " % sum(head) + plain[start + 156 :]
    compressor = zlib.compressobj(wbits=31)
    came = compressor.compress(plain) + compressor.flush()
    if data.draw(st.integers(0, 9)) == 0:
        came = came[: data.draw(st.integers(0, len(came)))]
    names = [name for name, _ in files]
    try:
        got = unpacked(Came(came), names, most=1 << 20)  # type: ignore[arg-type]
    except (ValueError, FlowError):  # nobody's error: they are asked for one by one
        assert changes or len(set(names)) < len(names) or len(came) < 1 << 20
        return
    assert len(got) == len(names)
    if not changes:
        assert got == [content for _, content in files]


@tried_on(40)
@given(names)
def test_a_name_stands_for_one_thing(raw: str) -> None:
    name = named([{"id": raw}], "id")[0].name
    assert_is_file_name(name)
    assert from_name(name) in (raw, None)
    os.fsencode(name)
