"""Replies with headers of every kind, bytes of files, and bytes that are no HTTP at all.

As in `test_replies`: right, or an error that says so.
"""

from __future__ import annotations

import gzip
from pathlib import Path

from canned import Answer, Request, told
from examples import tried_on
from hypothesis import example, given
from hypothesis import strategies as st
from replies import anything, written
from reply_world import DATA, GROUP, RUN, SIZE, World, shown

# -- errors, and headers ----------------------------------------------------------------------

header_values = st.one_of(
    st.sampled_from(
        [
            b"",
            b"0",
            b"1",
            b"-1",
            b"+5",
            b"5, 5",
            b"5, 6",
            b" 7 ",
            b"1_000",
            b"0x10",
            b"1e3",
            b"nan",
            b"inf",
            b"-inf",
            b"9" * 25,
            b"9" * 4300,
            b"9" * 4301,
            b"9" * 20_000,
            b"%d" % SIZE,
            b"%d" % (SIZE + 1),
            b"%d" % (SIZE - 1),
            b"%d" % 10**15,
            b"\xb2\xb9",
            b"Wed, 21 Oct 2015 07:28:00 GMT",
            b"Wed, 99 Oct 99999 07:28:00 GMT",
            b"identity",
            b"gzip",
            b"gzip, gzip",
            b"br",
            b"chunked",
            b"text/html; charset=\xff",
            b"application/json; charset=utf-16",
            b"bytes",
            b"bytes 0-9/10",
            b"bytes 5-4/10",
            b"bytes 0-9/5",
            b"bytes */10",
            b"bytes */*",
            b"bytes */" + b"9" * 5000,
            b"bytes 0-%d/%d" % (SIZE - 1, SIZE),
            b"bytes 0-65535/%d" % SIZE,
            b"bytes 0-65535/" + b"9" * 5000,
            b"bytes " + b"9" * 5000 + b"-" + b"9" * 5001 + b"/*",
            b"bytes=0-9/10",
            b"attachment; filename=../../x",
            b"/flowserv/api/v1/runs/run-1",
            b"?again",
            b"http://[::1",
            b"http://127.0.0.1:99999999999/",
            b"http://127.0.0.1:" + b"9" * 5000 + b"/",
            b"//evil.example/\xff",
            b"http://\xff\xfe/",
            b"http://a b/",
            b"javascript:alert(1)",
            b"http://evil.example\\@127.0.0.1:9/",
        ]
    ),
    st.binary(max_size=12).map(lambda value: value.replace(b"\r", b"").replace(b"\n", b"")),
)
header_names = st.sampled_from(
    [
        "Content-Length",
        "Content-Length",
        "Content-Range",
        "Content-Range",
        "Retry-After",
        "Location",
        "Content-Type",
        "Content-Encoding",
        "Transfer-Encoding",
        "Connection",
        "Set-Cookie",
        "X",
        "",
    ]
)
headers = st.lists(st.tuples(header_names, header_values), max_size=3).map(tuple)
any_status = st.one_of(
    st.sampled_from([200, 200, 206, 206, 416, 301, 302, 307, 429, 503, 401, 404, 500]),
    st.integers(0, 999),
)

LEADS = {
    "GET": "/runs/run-1",
    "POST": f"/groups/{GROUP}/runs",
    "PUT": "/runs/run-2",
    "DELETE": "/runs/run-1",
}


@tried_on(40)
@given(
    st.sampled_from([*LEADS]),
    any_status,
    headers,
    st.one_of(st.none(), st.binary(max_size=40), written(anything)),
)
@example("GET", 416, (("Content-Range", b"bytes */10"),), None)
@example("GET", 302, (("Location", b"http://127.0.0.1:" + b"9" * 5000 + b"/"),), None)
def test_a_reply_with_any_headers_is_right_or_an_error(
    method: str, status: int, more: tuple[tuple[str, bytes], ...], body: bytes | None
) -> None:
    world = World()
    world.spoil_with(
        f"{method} {LEADS[method]}",
        lambda request, own: Answer(status, own.body if body is None else body, more),
    )
    fs = world.fs(timeout=5.0)
    with told():
        if method == "GET":
            got = shown(fs.cat_file(f"{world.run}/handle.json"))
            assert got["id"] == RUN
            if body is None:
                assert got == world.routes.get_run(RUN)[1]
        elif method == "POST":
            assert fs.start_run(GROUP, {"names": "names.txt"})["id"]
        elif method == "PUT":
            assert fs.cancel_run("run-2")["id"] == "run-2"
        else:
            fs.rm(world.run, recursive=True)
            assert 200 <= status < 300
    if method in ("POST", "PUT"):
        assert len(world.spoiled) == 1
    assert not [one for one in world.asked if one.headers.get("api_key") is None and not more]


@tried_on(20)
@given(st.sampled_from([*LEADS]), st.binary(max_size=200), st.booleans(), st.data())
def test_bytes_that_are_no_http_are_an_error(
    method: str, noise: bytes, whole: bool, data: st.DataObject
) -> None:
    world = World()

    def answer(request: Request, own: Answer) -> Answer:
        if whole:
            return Answer(raw=noise)
        wire = own.wire
        cut = data.draw(st.integers(0, len(wire)), label="cut")
        return Answer(raw=wire[:cut] + noise + wire[cut + len(noise) :])

    world.spoil_with(f"{method} {LEADS[method]}", answer)
    fs = world.fs(timeout=5.0)
    with told():
        if method == "GET":
            assert shown(fs.cat_file(f"{world.run}/handle.json"))["id"] == RUN
        elif method == "POST":
            fs.start_run(GROUP, {"names": "names.txt"})
        elif method == "PUT":
            fs.cancel_run("run-2")
        else:
            fs.rm(world.run, recursive=True)
    if method in ("POST", "PUT"):
        assert len(world.spoiled) == 1


# -- bytes --------------------------------------------------------------------------------------


def as_asked(request: Request, data: bytes) -> tuple[int, bytes, dict[str, bytes]]:
    """Answer a request for bytes as a service does that honours ranges."""
    span = request.headers.get("Range")
    if span is None:
        return 200, data, {}
    first, _, last = span.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last or len(data)), len(data) - 1)
    if start >= len(data):
        return 416, b"", {"Content-Range": b"bytes */%d" % len(data)}
    return (
        206,
        data[start : end + 1],
        {"Content-Range": b"bytes %d-%d/%d" % (start, end, len(data))},
    )


@tried_on(40)
@given(
    st.sampled_from([0, 1, 17, 1000, SIZE]),
    headers,
    st.sampled_from([None, None, 200, 206, 416, 404, 500, 302]),
    st.sampled_from(["as it is", "as it is", "cut", "longer", "gzip", "chunked", "badly chunked"]),
    st.booleans(),
    st.booleans(),
    st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)),
)
@example(17, (("Content-Length", b"9" * 5000),), None, "as it is", False, False, (0, 5))
@example(17, (("Content-Length", b"9" * 21),), None, "as it is", False, True, (0, 5))
@example(17, (("Content-Range", b"bytes */*"),), 416, "as it is", False, False, (0, 5))
def test_bytes_are_the_files_or_an_error(
    size: int,
    more: tuple[tuple[str, bytes], ...],
    status: int | None,
    body: str,
    ranged: bool,
    kept: bool,
    part: tuple[int, int],
) -> None:
    data = DATA[:size]
    world = World(data)
    lies = {name.lower() for name, _ in more} | ({"status"} if status else set())

    def answer(request: Request, own: Answer) -> Answer:
        code, part_of, told_so = as_asked(request, data) if ranged else (200, data, {})
        said = {**told_so, **dict(more)}
        if body == "cut":
            said.setdefault("Content-Length", b"%d" % len(part_of))
            part_of = part_of[: len(part_of) // 2]
        elif body == "longer":
            said.setdefault("Content-Length", b"%d" % len(part_of))
            part_of += b"more"
        elif body == "gzip":
            said["Content-Encoding"] = b"gzip"
            part_of = gzip.compress(part_of)
        elif body.endswith("chunked"):
            said["Transfer-Encoding"] = b"chunked"
            said.pop("Content-Length", None)
            part_of = (
                b"%x\r\n%s\r\n0\r\n\r\n" % (len(part_of), part_of) if part_of else b"0\r\n\r\n"
            )
            part_of = part_of[: len(part_of) // 2] if body.startswith("badly") else part_of
        return Answer(status or code, part_of, tuple(said.items()), sized="chunked" not in body)

    world.spoil_with(f"GET /runs/{RUN}/downloads/files/{world.file}", answer)
    fs = world.fs(timeout=5.0)
    start, end = min(part), max(part)
    # A service that says another length, or another place, than it has cannot be found out.
    honest = not lies & {"content-length", "content-range", "content-encoding", "status"}
    if kept:
        with told(), fs.open(world.result, "rb", block_size=1000) as file:
            got = file.read(end)
            if honest:
                assert got == data[:end]
            file.seek(start)
            got = file.read()
            if honest:
                assert got == data[start:]
    with told():
        got = fs.cat_file(world.result)
        if honest:
            assert got == data
    with told():
        got = fs.cat_file(world.result, start, end)
        if honest:
            assert got == data[start:end]
    with told():
        told_size = fs.info(world.result)["size"]
        if honest:
            assert told_size == size
        assert isinstance(told_size, int)
        assert told_size >= 0
    if body == "as it is" and not lies:
        assert fs.cat_file(world.result) == data
    if body == "cut" and size > 1 and honest:
        world.spoiled.clear()
        with told() as refused:
            fs.cat_file(world.result, 0, size)
        assert refused
    assert len(world.spoiled) < 100


@tried_on(15)
@given(headers, st.sampled_from([200, 206, 416, 404]), st.integers(0, 60), st.booleans())
@example((("Content-Length", b"9" * 21),), 200, 30, True)
@example((("Content-Length", b"9" * 18),), 200, 30, True)
def test_bytes_that_are_kept_on_disk_are_the_files_or_an_error(
    tmp_path: Path, more: tuple[tuple[str, bytes], ...], status: int, size: int, archive: bool
) -> None:
    data = DATA[:size]
    world = World(data)
    world.spoil_with(
        f"GET /runs/{RUN}/downloads/" + ("archive" if archive else f"files/{world.file}"),
        lambda request, own: Answer(status, data, more),
    )
    fs = world.fs(timeout=5.0, cache_dir=str(tmp_path / "cache"))
    path = f"{world.run}/archive.tar.gz" if archive else world.result
    lies = {name.lower() for name, _ in more} & {
        "content-length",
        "content-range",
        "content-encoding",
        "transfer-encoding",
    }
    for _ in range(2):
        with told():
            got = fs.cat_file(path)
            assert lies or got == data
        with told(), fs.open(path, "rb") as file:
            got = file.read()
            assert lies or got == data
        with told():
            fs.info(path)
