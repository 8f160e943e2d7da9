"""What a service or network says, and the error that comes of it."""

from __future__ import annotations

import copy
import errno
import json
import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowfs import errors
from flowfs.errors import (
    AccessDenied,
    BadReply,
    ConnectionFailed,
    DeadlineExceeded,
    FlowError,
    InvalidArguments,
    InvalidRunState,
    NoSpace,
    NotFound,
    ServiceBusy,
    TooLarge,
    UnclearStart,
    again,
    describe,
    failure,
    from_reply,
    words_of,
)

CLASSES = sorted(
    (c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, FlowError)),
    key=lambda c: c.__name__,
)


@pytest.mark.parametrize(
    ("status", "words", "kind", "number"),
    [
        (401, "log in first", AccessDenied, errno.EACCES),
        (403, "not authorized", AccessDenied, errno.EACCES),
        (404, "unknown run 'x'", NotFound, errno.ENOENT),
        (400, "invalid operation for run in state RUNNING", InvalidRunState, errno.EBUSY),
        (400, "invalid operation for run <bound method x>", InvalidRunState, errno.EBUSY),
        (400, "unknown parameter 'nope'", InvalidArguments, errno.EINVAL),
        (422, "no int 'x'", InvalidArguments, errno.EINVAL),
        (405, "method not allowed", BadReply, errno.EIO),
        (410, "gone", BadReply, errno.EIO),
        (418, "invalid operation for run in state RUNNING", InvalidRunState, errno.EBUSY),
        (413, "too large", TooLarge, errno.EFBIG),
        (429, "slow down", ServiceBusy, errno.EAGAIN),
        (503, "starting", ServiceBusy, errno.EAGAIN),
        (507, "disk full", NoSpace, errno.ENOSPC),
        (408, "too slow", DeadlineExceeded, errno.ETIMEDOUT),
        (504, "too slow", DeadlineExceeded, errno.ETIMEDOUT),
        (500, "KeyError", BadReply, errno.EIO),
        (502, "bad gateway", BadReply, errno.EIO),
        (599, "?", BadReply, errno.EIO),
        (304, "not modified", BadReply, errno.EIO),
    ],
)
def test_a_status_has_its_class_errno_path_and_the_services_words(
    status: int, words: str, kind: type[FlowError], number: int
) -> None:
    body = json.dumps({"message": words}).encode()
    error = from_reply(status, body, "runs/x", what="do it", hint="try this")
    assert type(error) is kind
    assert (error.errno, error.filename, error.status) == (number, "runs/x", status)
    assert error.service_message == words
    assert words.partition(" <bound")[0] in str(error.strerror)
    assert str(error.strerror).startswith("cannot do it: ")
    assert "try this" in str(error)
    assert "bound method" not in str(error)


def test_a_reply_without_words_tells_its_status() -> None:
    error = from_reply(500, b"", None, what="do it")
    assert (error.service_message, error.strerror) == (
        None,
        "cannot do it: the service answered 500",
    )
    assert error.filename is None


@pytest.mark.parametrize("kind", CLASSES)
def test_all_are_oserrors_with_an_integer_errno(kind: type[FlowError]) -> None:
    error = failure(kind, "went wrong", "some/path")
    assert isinstance(error, OSError)
    assert isinstance(error.errno, int)
    assert error.errno == kind.default_errno
    assert (error.strerror, error.filename) == ("went wrong", "some/path")
    assert failure(kind, "went wrong", errno=errno.EXDEV).errno == errno.EXDEV
    assert describe(error) == "some/path: went wrong"


def test_each_is_the_builtin_that_callers_would_catch() -> None:
    assert issubclass(InvalidArguments, ValueError)
    assert issubclass(NotFound, FileNotFoundError)
    assert issubclass(AccessDenied, PermissionError)
    assert issubclass(DeadlineExceeded, TimeoutError)
    assert issubclass(ConnectionFailed, ConnectionError)
    assert issubclass(errors.AlreadyExists, FileExistsError)
    assert issubclass(errors.NotADirectory, NotADirectoryError)
    assert issubclass(errors.IsADirectory, IsADirectoryError)


@pytest.mark.parametrize("path", [None, "some/path"])
@pytest.mark.parametrize("kind", CLASSES)
def test_pickle_and_copy_keep_everything(kind: type[FlowError], path: str | None) -> None:
    error = failure(kind, "went wrong", path, status=418, words="teapot")
    error.unclear, error.retry_after = True, 2.5
    if isinstance(error, UnclearStart):
        error.run_ids = ("a", "b")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), again(error)):
        assert type(other) is kind
        assert other is not error
        assert str(other) == str(error)
        assert (other.errno, other.strerror, other.filename) == (error.errno, "went wrong", path)
        assert vars(other) == vars(error)


def test_an_error_raised_again_is_another_with_the_same_cause() -> None:
    error = failure(BadReply, "went wrong", "one")
    error.__cause__ = KeyError("why")
    other = again(error)
    assert isinstance(other, BadReply)
    other.filename = "another"
    assert error.filename == "one"
    assert other.__cause__ is error.__cause__


class TestWords:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b'{"message": "unknown run"}', "unknown run"),
            (b'{"error": "500 Internal"}', "500 Internal"),
            (b'{"message": "", "error": "E"}', "E"),
            (b'{"message": 5}', None),
            (b'{"message": "\\u0000"}', None),
            (b"{}", None),
            (b"", None),
            (b" \n ", None),
            (b"\x00\x01", None),
            (b'"just text"', "just text"),
            (b"plain\r\n\ttext", "plain text"),
            (b'{"message": "two\\nlines\\u001b[31m\\u202e"}', "two lines [31m"),
            (b"caf\xe9", "caf\ufffd"),
            (
                b"<!doctype html><html><title>404 Not Found</title><body><h1>Not Found</h1>"
                b"<p>The URL is &lt;not&gt; here.</p>",
                "404 Not Found: The URL is <not> here.",
            ),
            (b"<html><h1>Bad <i>Gateway</i></h1></html>", "Bad Gateway"),
            (b"<html><body><script>alert(1)</script></body></html>", None),
        ],
    )
    def test_the_message_without_markup_or_control_characters(
        self, body: bytes, words: str | None
    ) -> None:
        assert words_of(body) == words

    def test_a_huge_message_is_cut(self) -> None:
        words = words_of(json.dumps({"message": "x" * 1_000_000}).encode())
        assert words == "x" * 2000

    @pytest.mark.parametrize(
        "body",
        [b"<title>" * 100_000, b"<p><h1>" * 100_000, b"[" * 1_000_000, b"<" * 1_000_000],
        ids=["titles", "paragraphs", "brackets", "angles"],
    )
    def test_a_hostile_page_is_soon_read(self, body: bytes) -> None:
        begun = time.process_time()
        words_of(body)
        assert time.process_time() - begun < 2

    @given(
        st.binary()
        | st.text().map(str.encode)
        | st.builds(
            lambda text, tag: f"<{tag}>{text}</{tag}>".encode("utf-8", "replace"),
            st.text(),
            st.sampled_from(["title", "h1", "p"]),
        )
        | st.builds(
            lambda key, value: json.dumps({key: value}).encode(),
            st.sampled_from(["message", "error", "detail", "other"]),
            st.text() | st.integers() | st.none() | st.lists(st.text()),
        )
    )
    def test_any_bytes_give_nothing_or_one_printable_line(self, body: bytes) -> None:
        words = words_of(body)
        if words is not None:
            assert words.strip() == words or len(words) == 2000
            assert words
            assert words.isprintable()
            assert len(words) <= 2000


def test_what_was_to_be_got_is_named_once() -> None:
    body = b'{"message": "unknown group \'nothing\'"}'
    got = from_reply(404, body, "groups/nothing", what="get group 'nothing'")
    assert got.strerror == "unknown group 'nothing'"
    deleted = from_reply(404, body, "groups/nothing", what="delete group 'nothing'")
    assert deleted.strerror == "cannot delete group 'nothing': unknown group 'nothing'"
