"""Names of the service as file names: always valid, reversible unless shortened."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowfs.names import from_name, to_name, to_parts, unique, unique_paths

RESERVED = ("new", "new.error")

# All code points, the awkward ones often; text() alone leaves out surrogates.
awkward = st.sampled_from(["/", "\0", "\n", "\x7f", "\x85", "\ud800", "\udc00", "%", "~", ".", "2"])
characters = awkward | st.characters()
raws = st.text(characters | st.characters(categories=["Cs"]), max_size=40)
long_raws = st.builds(lambda unit, times: unit * times, raws, st.integers(1, 60))
segments = raws.map(to_name)


def assert_is_a_file_name(name):
    assert name not in ("", ".", "..")
    assert "/" not in name
    assert not any(unicodedata.category(character) == "Cc" for character in name)
    assert len(name.encode("utf-8")) <= 255


@given(raws | long_raws, st.sampled_from([(), RESERVED]))
@example("", ())
@example(".", ())
@example("..", ())
@example("%", ())
@example("%~00000000", ())
def test_any_text_becomes_a_file_name_that_stands_for_it(raw, reserved):
    name = to_name(raw, reserved)
    assert_is_a_file_name(name)
    assert name not in reserved
    back = from_name(name)
    assert back == raw or (back is None and re.search(r"%~[0-9a-f]{8}$", name))


@given(raws | long_raws, raws | long_raws)
def test_two_texts_never_share_a_name(one, other):
    assert (to_name(one) == to_name(other)) == (one == other)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="/%")))
def test_what_can_stand_stays_as_it_is(raw):
    if raw not in ("", ".", "..") and len(raw.encode()) <= 255:
        assert to_name(raw) == raw


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("a/b", "a%2Fb"),
        ("a\0\n\x7f", "a%00%0A%7F"),
        ("\x85", "%C2%85"),
        ("\udcff", "%ED%B3%BF"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("...", "..."),
        ("", "%"),
        ("%", "%25"),
        ("%%", "%%"),
        ("100%", "100%"),
        ("%2F", "%252F"),
        ("%2f", "%252f"),
        ("%2g", "%2g"),
        ("a%~", "a%25~"),
        ("new", "%6Eew"),
        ("%6Eew", "%256Eew"),
        ("日本 (1).txt", "日本 (1).txt"),
    ],
)
def test_only_the_offending_characters_are_escaped(raw, name):
    assert to_name(raw, RESERVED) == name
    assert from_name(name) == raw


def test_a_reserved_name_is_escaped_whatever_script_it_begins_with():
    assert to_name("été", {"été"}) == "%C3%A9té"
    assert from_name("%C3%A9té") == "été"


def test_255_bytes_are_kept_and_256_are_shortened():
    assert to_name("x" * 255) == "x" * 255
    name = to_name("x" * 256)
    assert re.fullmatch(r"x{245}%~[0-9a-f]{8}", name)
    assert from_name(name) is None


def test_shortening_cuts_neither_characters_nor_escapes():
    assert re.fullmatch(r"日{81}%~[0-9a-f]{8}", to_name("日" * 100))
    assert re.fullmatch(r"x(%2F){81}%~[0-9a-f]{8}", to_name("x" + "/" * 100))
    assert re.fullmatch(r"(%C2%85){40}%~[0-9a-f]{8}", to_name("\x85" * 100))


def test_names_with_a_common_beginning_are_shortened_differently():
    assert to_name("x" * 300) != to_name("x" * 301)


@given(st.text())
def test_any_segment_people_type_is_taken(name):
    assert from_name(name) is None or isinstance(from_name(name), str)


@pytest.mark.parametrize(
    ("typed", "raw"),
    [
        ("%41", "A"),
        ("%c3%a9", "é"),
        ("%FF", "%FF"),
        ("%41%ff%42", "A%ffB"),
        ("%C3x", "%C3x"),
        ("%2", "%2"),
        ("a/b", "a/b"),
    ],
)
def test_valid_escapes_are_undone_and_the_rest_is_left(typed, raw):
    assert from_name(typed) == raw


@given(raws)
def test_any_path_becomes_segments_that_are_file_names(raw):
    parts = to_parts(raw)
    assert parts
    for part in parts:
        assert_is_a_file_name(part)


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        ("results/greetings.txt", ("results", "greetings.txt")),
        ("/abs//x/../y/", ("abs", "x", "%2E%2E", "y")),
        ("", ("%",)),
        ("//", ("%",)),
    ],
)
def test_a_name_that_is_a_path_is_taken_apart(raw, parts):
    assert to_parts(raw) == parts


few = st.sampled_from(["a", "b", "a (1)", "a (2)", "a (1) (2)", "x" * 255])
ids = st.sampled_from(["1", "2", "a/b", "", "y" * 255])


@given(st.lists(st.tuples(few | segments, ids | raws)))
def test_names_in_one_directory_are_told_apart(entries):
    names = unique(entries)
    assert len(names) == len(entries) == len(set(names))
    for name in names:
        assert_is_a_file_name(name)
    newest = {name: position for position, (name, _) in enumerate(entries)}
    for name, position in newest.items():
        assert names[position] == name


def test_the_newest_keeps_its_name_and_older_ones_get_their_id():
    assert unique([("a", "1"), ("b", "2"), ("a", "x/3"), ("a", "4")]) == [
        "a (1)",
        "b",
        "a (x%2F3)",
        "a",
    ]


def test_a_name_given_is_never_taken_by_one_made_up():
    assert unique([("a", "1"), ("a", "2"), ("a (1)", "3")]) == ["a (1) (2)", "a", "a (1)"]


def test_the_same_name_and_id_twice_are_still_told_apart():
    assert unique([("a", "1")] * 3) == ["a (1) (2)", "a (1)", "a"]


@given(st.lists(st.tuples(st.lists(few, min_size=1, max_size=3).map(tuple), ids)))
def test_paths_in_one_tree_are_told_apart(entries):
    paths = unique_paths(entries)
    assert len(paths) == len(entries) == len(set(paths))
    directories = {path[:depth] for path in paths for depth in range(1, len(path))}
    assert directories.isdisjoint(paths)
    for (given_path, _), path in zip(entries, paths, strict=True):
        assert given_path[:-1] == path[:-1]
        assert_is_a_file_name(path[-1])


def test_a_directory_has_its_name_and_a_file_beside_it_gets_its_id():
    assert unique_paths([(("a",), "1"), (("a", "b"), "2"), (("a",), "3")]) == [
        ("a (1)",),
        ("a", "b"),
        ("a (3)",),
    ]
