"""HTML of displays: whatever a service says is text, images are images, and no link leads
anywhere but to the service."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from shown import Shown

from flowfs.display import words
from flowfs.display.markup import element, joined, table, to_copy, to_fetch, to_save
from flowfs.display.pages import File, RunPage, ServicePage, TablePage
from flowfs.display.pictures import MOST_BYTES, picture, type_of

ORIGIN = "https://flow.example.org"
ENDPOINT = f"{ORIGIN}/flowserv/api/v1"

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + bytes(17)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0 0"/></svg>'

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</td></table></div><iframe src=//evil.example>",
    "javascript:alert(1)",
    "https://evil.example/x",
    "&lt;script&gt;",
    "&#x3c;script>",
    "<!--",
    "]]>",
    "\u202egnp.exe",
    "\x1b[31m\0",
    "\ud800",
    "{{7*7}}",
]
texts = st.text() | st.sampled_from(HOSTILE) | st.text(st.sampled_from("<>&\"'/=;:()!-` \nonx"))
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
places = st.none() | texts | texts.map(lambda text: f"{ENDPOINT}/runs/{text}")
rows = st.dictionaries(
    st.sampled_from(["id", "state", "created", "started", "finished", "duration"]) | texts, values
)
some_bytes = st.none() | st.binary() | st.binary().map(lambda b: PNG + b)
urls = st.none() | texts | texts.map(lambda text: f"{ENDPOINT}/runs/{text}")
files = st.builds(File, texts, places, values, some_bytes, some_bytes, urls)


# -- whatever it is ------------------------------------------------------------


@given(
    user=st.none() | texts,
    workflows=st.lists(
        st.tuples(texts, st.lists(st.tuples(texts, texts, st.none() | st.integers()))), max_size=3
    ),
    remark=texts,
)
def test_a_service_is_nothing_but_text(user: str | None, workflows: Any, remark: str) -> None:
    page = ServicePage(ENDPOINT, user, True, workflows, remark)
    assert Shown(page.html()).saved == []


@given(
    run_id=texts,
    row=rows,
    arguments=st.dictionaries(texts, values, max_size=4),
    messages=st.lists(values, max_size=3),
    made=st.lists(files, max_size=3),
    place=places,
    remark=texts,
)
def test_a_run_is_nothing_but_text_images_and_results_to_save_or_fetch(
    run_id: str, row: Any, arguments: Any, messages: Any, made: Any, place: Any, remark: str
) -> None:
    page = RunPage(run_id, "p", row, arguments, messages, made, place, remark, ENDPOINT)
    shown = Shown(page.html(), ORIGIN)
    assert [data for _, data in shown.saved] == [
        file.kept for file in made if file.kept is not None
    ]
    assert all(type_of(data) == kind for kind, data in shown.images)


@given(
    columns=st.lists(texts, max_size=4),
    made=st.lists(rows, max_size=3),
    place=st.dictionaries(texts, texts, max_size=2),
    pictures=st.dictionaries(st.tuples(texts, texts), st.binary() | texts, max_size=3),
)
def test_a_table_is_nothing_but_text_and_images(
    columns: Any, made: Any, place: Any, pictures: Any
) -> None:
    columns = list(dict.fromkeys(["id", "state", *columns]))
    assert Shown(TablePage(columns, made, place, pictures, 3).html()).saved == []


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_told_can_be_read_as_it_is(text: str) -> None:
    arguments = {"a": text}
    shown = Shown(RunPage("r", "p", arguments=arguments).html())
    told = text if text.isprintable() else text.encode("unicode_escape", "surrogatepass").decode()
    assert told in shown.text


def test_what_is_long_is_cut() -> None:
    page = RunPage(
        "r" * 100_000,
        "p" * 100_000,
        {"state": "S" * 100_000, "created": "C" * 100_000},
        {"a" * 100_000: "b" * 100_000, **{str(n): n for n in range(1000)}},
        ["line\n" * 100_000, "m" * 100_000],
        [File("f" * 100_000, "p" * 100_000, title="t" * 100_000, kept=b"")] * 1000,
        remark="r" * 100_000,
    )
    assert len(page.html()) < 500_000
    wide = [str(n) for n in range(10_000)]
    assert len(TablePage(wide, [dict.fromkeys(wide, "x" * 10_000)]).html()) < 50_000


# -- markup --------------------------------------------------------------------


def test_text_is_escaped_and_markup_is_not() -> None:
    made = element("b", "<i>", element("i", "&"), alt="\"'<")
    assert made == '<b alt="&quot;&#x27;&lt;">&lt;i&gt;<i>&amp;</i></b>'
    assert joined("<", made) == f"&lt;{made}"
    assert "&lt;x&gt;" in table([["<x>"]], ["head"])


def test_an_id_is_to_be_copied_and_leads_nowhere() -> None:
    made = to_copy("<r>", f"{ENDPOINT}/groups/g/runs/r?a=b&c=\"d'")
    shown = Shown(made)
    assert "user-select:all" in made
    assert (shown.text, shown.saved) == ("<r>", [])
    assert shown.places == [f"{ENDPOINT}/groups/g/runs/r?a=b&c=\"d'"]
    assert Shown(to_copy("r")).places == []


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "javascript:alert(1)",
        "http://flow.example.org/flowserv/api/v1/runs/r",
        "https://flow.example.org:444/x",
        "https://flow.example.org.evil.example/x",
        "https://flow.example.org@evil.example/x",
        "https://user@flow.example.org/x",
        "//flow.example.org/x",
        "https://flow.example.org\\@evil.example/x",
        "https://flow.example.org/\n",
        'https://flow.example.org/"><script>',
        "https://[::1/x",
        "https://flow.example.org:x/",
        f"{ORIGIN}/{'x' * 5000}",
        "data:text/html,x",
    ],
)
def test_a_link_that_would_lead_elsewhere_is_left_out(url: str | None) -> None:
    assert to_fetch(url, ENDPOINT, "text") == ""


def test_a_link_to_the_service_does_not_tell_it_where_it_was() -> None:
    made = to_fetch(f"{ENDPOINT}/runs/r%20?a=b&c=d", ENDPOINT, "<r>")
    assert 'rel="noopener noreferrer"' in made
    shown = Shown(made, ORIGIN)
    assert (shown.links, shown.text) == ([f"{ENDPOINT}/runs/r%20?a=b&c=d"], "<r>")


@pytest.mark.parametrize("data", [b"", b"a,b\n1,2\n", b"<script>alert(1)</script>", SVG, PNG])
def test_whatever_a_result_is_it_is_saved_and_never_opened(data: bytes) -> None:
    made = to_save(data, "outputs/results/page.html", "save <it>")
    shown = Shown(made)
    assert shown.saved == [("page.html", data)]
    assert shown.text == "save <it>"
    assert 'href="data:application/octet-stream;base64,' in made


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("a/b", "b"),
        ("../../.bashrc", ".bashrc"),
        ('x" onclick="alert(1)', 'x" onclick="alert(1)'),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\nb", "a\\nb"),
    ],
)
def test_a_result_is_saved_under_the_last_part_of_its_name(name: str, saved: str) -> None:
    assert Shown(to_save(b"", name, "save")).saved == [(saved, b"")]


def test_only_small_results_can_be_saved_and_not_too_many() -> None:
    kept = [bytes(64 << 10), bytes((64 << 10) + 1), *[bytes(64 << 10)] * 4, b"1", b""]
    made = [File(f"f{number}", kept=data) for number, data in enumerate(kept)]
    shown = Shown(RunPage("r", "p", files=made).html())
    assert [name for name, _ in shown.saved] == ["f0", "f2", "f3", "f4", "f7"]
    assert sum(len(data) for _, data in shown.saved) == 256 << 10
    assert all(file.name in shown.text for file in made)


# -- pictures ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
        (b"GIF89a\x01\x00", "image/gif"),
        (b"RIFF\x0a\x00\x00\x00WEBPVP8L", "image/webp"),
        (SVG, "image/svg+xml"),
        (b'<?xml version="1.0"?>\n<!-- made -->\n' + SVG, "image/svg+xml"),
        # As matplotlib writes them.
        (
            b'<?xml version="1.0" encoding="utf-8" standalone="no"?>\n'
            b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN"\n'
            b'  "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">\n'
            b'<svg xmlns:xlink="http://www.w3.org/1999/xlink"><metadata>'
            b'<dc:type rdf:resource="http://purl.org/dc/dcmitype/StillImage"/></metadata>'
            b'<!-- text --><style type="text/css">*{stroke-linejoin: round}</style>'
            b'<use xlink:href="#m1" clip-path="url(#p2)"/></svg>',
            "image/svg+xml",
        ),
        (b"", None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"RIFF\x0a\x00\x00\x00WAVEfmt ", None),
        (b"<html><svg></svg></html>", None),
        (b"<svgx>", None),
        (b"\xff" + SVG, None),
        *(
            (SVG.replace(b"<path", inside + b"<path"), None)
            for inside in (
                b"<script>alert(1)</script>",
                b"<s:script>alert(1)</s:script>",
                b"<SCRIPT href='x'/>",
                b"<g onload='x()'/>",
                b"<g\nonClick = 'x()'/>",
                b"<foreignObject/>",
                b"<image href='https://evil.example/x.png'/>",
                b"<image xlink:href = https://evil.example/x.png/>",
                b"<a href='javascript:x()'/>",
                b"<style>@import 'https://evil.example/x.css'</style>",
                b"<g style='fill: url( https://evil.example/x)'/>",
                b"<set attributeName='href' to='x'/>",
                b"<?xml-stylesheet href='x'?>",
                b"<!ENTITY x 'y'>",
            )
        ),
        (b'<!DOCTYPE svg [<!ENTITY x "y">]>' + SVG, None),
    ],
)  # fmt: skip
def test_a_picture_is_known_by_its_bytes(data: bytes, kind: str | None) -> None:
    assert type_of(data) == kind
    assert (picture(data, "x") is None) == (kind is None)


def test_a_picture_that_is_too_large_is_none() -> None:
    assert picture(PNG + bytes(MOST_BYTES - len(PNG)), "x") is not None
    assert picture(PNG + bytes(MOST_BYTES - len(PNG) + 1), "x") is None


@pytest.mark.parametrize(
    "part", [b"<", b"<!--", b" on", b"<a", b"href ", b"url ", b"<!DOCTYPE svg "]
)
def test_no_drawing_takes_long_to_look_through(part: bytes) -> None:
    """What takes the square of its length would take hours."""
    type_of(b"<svg " + part * (MOST_BYTES // len(part)))
    type_of(part * (MOST_BYTES // len(part)))


@given(st.binary())
@example(b"<svg ")
def test_any_bytes_are_a_picture_or_none(data: bytes) -> None:
    assert picture(data, "x") is None or type_of(data)


# -- words ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"), (0.04, "0 s"), (12.34, "12.3 s"), (59.99, "59.9 s"), (60, "1 min"),
        (185, "3 min 5 s"), (3599.9, "59 min 59 s"), (3600, "1 h"), (7620, "2 h 7 min"),
        (86400, "1 d"), (90000.5, "1 d 1 h"), (None, ""), (-1, ""), (float("nan"), ""),
        (float("inf"), ""), ("x", ""), (10**400, ""),
    ],
)  # fmt: skip
def test_a_duration_is_told_as_people_say_it(seconds: Any, told: str) -> None:
    assert words.duration(seconds) == told


def test_a_time_is_of_utc() -> None:
    zone = timezone(timedelta(hours=2))
    for value in (
        "2025-06-02T09:14:03.123456",
        "2025-06-02T11:14:03+02:00",
        datetime(2025, 6, 2, 9, 14, 3),
        datetime(2025, 6, 2, 11, 14, 3, tzinfo=zone),
    ):
        assert words.moment(value) == "2025-06-02 09:14:03"
    assert words.moment(None) == ""
    assert words.moment("whenever") == "whenever"
    assert words.moment(datetime.min.replace(tzinfo=zone)) != ""


def test_a_state_has_its_colour_and_one_that_nobody_knows_none_of_them() -> None:
    told = {name: words.state(name) for name in ("PENDING", "RUNNING", "SUCCESS", "ERROR", "X")}
    assert len({one.partition("color:")[2].partition(";")[0] for one in told.values()}) == 4
    assert ">X<" in told["X"]


def test_values_are_told_in_a_line() -> None:
    told = {1.23456789: "1.23457", None: "", "a" * 100: "a" * 79 + "…", 10**5000: "…", True: "True"}
    assert {value: words.as_text(value) for value in told} == told
    assert words.as_text({"a": [1, None]}) == '{"a": [1, null]}'
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert words.as_text(deep) == "…"
