"""Find out where a JSON document ends while its bytes arrive in pieces."""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass

from flowfs.arguments.document import BLANKS, FORMS, decode, shown
from flowfs.errors import InvalidArguments

__all__ = ["Progress", "Scanner", "State", "scan"]

_BOM = b"\xef\xbb\xbf"
_NOT_BLANK = re.compile(b"[^" + BLANKS.encode() + b"]")
_BRACKET_OR_QUOTE = re.compile(rb'["{}\[\]]')
_QUOTE_OR_BACKSLASH = re.compile(rb'["\\]')
_WRITTEN_BY_HAND = 1 << 16  # bytes
_CLOSING = {ord("["): ord("]"), ord("{"): ord("}")}


class State(enum.Enum):
    """How far a document has come."""

    EMPTY = "empty"
    """Nothing yet, or blanks only."""

    INCOMPLETE = "incomplete"
    """Something that may be the beginning of a document."""

    COMPLETE = "complete"
    """Exactly one object or array, and blanks at most around it."""

    INVALID = "invalid"
    """Whatever comes, it will never be one document."""


@dataclass(frozen=True)
class Progress:
    """What the bytes so far amount to.

    Attributes
    ----------
    state : State
        How far the document has come.
    message : str
        One line for people: what is wrong (INVALID) or still lacking (EMPTY, INCOMPLETE), and
        what to do; empty if COMPLETE.
    """

    state: State
    message: str = ""


_EMPTY = Progress(State.EMPTY, f"no arguments: the document is empty; write {FORMS}")
_COMPLETE = Progress(State.COMPLETE)


class Scanner:
    """Tell after each piece of a document whether it is whole, in linear time overall.

    Python's own parser cannot tell: for a document that is not whole yet it raises the same
    error, with the same words and often at the same place, as for a broken one (``[tru`` and
    ``[trx`` both expect a value at 1; an open string is reported where it begins), and to ask it
    after every byte would read the document anew every time. So brackets and strings
    are followed here, byte by byte (in UTF-8 no part of a longer character looks like one
    of them), and the parser has the last word, once, when the last bracket closes.

    Notes
    -----
    What is wrong between the brackets is noticed when the last of them closes; before that at
    the end of a line, where nothing but blanks may be cut in two, in documents that people
    write (64 KiB). INVALID is final.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # all before it has been looked at
        self._lines_end = 0  # all before it may be the beginning of a document
        self._closers = bytearray()  # closing brackets still to come, the next one last
        self._in_string = False
        self._progress = _EMPTY

    @property
    def progress(self) -> Progress:
        """What the bytes so far amount to."""
        return self._progress

    @property
    def text(self) -> bytes:
        """The bytes so far; once COMPLETE, without the blanks that follow the document."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> Progress:
        """Take the next piece of the document.

        Parameters
        ----------
        data : bytes
            Any number of bytes, cut anywhere.

        Returns
        -------
        Progress
            What all bytes so far amount to.
        """
        state = self._progress.state
        if state is State.INVALID:
            return self._progress
        if state is State.COMPLETE:
            if _NOT_BLANK.search(data):
                self._progress = _several(data)
            return self._progress
        self._buffer += data
        if self._closers or self._begin():
            self._follow()
        return self._progress

    def _begin(self) -> bool:
        """Pass by what may stand before the first bracket; tell if that has come."""
        if self._at == 0:
            if self._buffer.startswith(_BOM):
                self._at = len(_BOM)
            elif self._buffer and _BOM.startswith(self._buffer):
                self._progress = Progress(State.INCOMPLETE, "incomplete byte order mark")
                return False
        first = _NOT_BLANK.search(self._buffer, self._at)
        if first is None:
            self._at = len(self._buffer)
            self._progress = _EMPTY
            return False
        self._at = first.start()
        if self._buffer[self._at] in _CLOSING:
            return True
        begins = self._buffer[self._at : self._at + 20].decode("utf-8", "replace")
        self._progress = Progress(
            State.INVALID,
            f"not a JSON object or array: it begins with '{shown(begins)}'; write {FORMS}",
        )
        return False

    def _follow(self) -> None:
        """Look at what has come since; once the last bracket has closed, at the whole."""
        size = len(self._buffer)
        while True:
            pattern = _QUOTE_OR_BACKSLASH if self._in_string else _BRACKET_OR_QUOTE
            found = pattern.search(self._buffer, self._at)
            if found is None:
                self._at = size
                break
            byte = self._buffer[found.start()]
            self._at = found.end()
            if byte == ord("\\"):
                if self._at == size:
                    # The escaped byte is still to come: see this one again then.
                    self._at -= 1
                    break
                self._at += 1
            elif byte == ord('"'):
                self._in_string = not self._in_string
            elif byte in _CLOSING:
                self._closers.append(_CLOSING[byte])
            elif byte != self._closers.pop():
                self._judge("not JSON: brackets do not match")
                return
            elif not self._closers:
                self._judge()
                return
        self._end_of_line()
        if self._progress.state is State.INVALID:
            return
        missing = "a string" if self._in_string else f"'{chr(self._closers[-1])}'"
        self._progress = Progress(
            State.INCOMPLETE,
            f"incomplete JSON: the document ends before {missing} closes; write the whole of it",
        )

    def _end_of_line(self) -> None:
        """Let the parser say whether the lines so far can be the beginning of a document."""
        end = self._buffer.rfind(b"\n", self._lines_end, _WRITTEN_BY_HAND) + 1
        if not end:
            return
        self._lines_end = end
        lines = bytes(self._buffer[:end])
        try:
            text = lines.decode("utf-8-sig")
            json.loads(text)
        except json.JSONDecodeError as error:
            # Where it asks for more at the end, more may come. A line never ends in a string.
            if not text[error.pos :].strip(BLANKS) and "control character" not in error.msg:
                return
        except (ValueError, RecursionError):
            pass
        try:
            decode(lines)
        except InvalidArguments as error:
            self._progress = Progress(State.INVALID, str(error.strerror))

    def _judge(self, otherwise: str | None = None) -> None:
        """Let the parser decide; `otherwise` is what is wrong in case it finds nothing."""
        rest = bytes(self._buffer[self._at :])
        del self._buffer[self._at :]
        try:
            decode(self.text)
        except InvalidArguments as error:
            self._progress = Progress(State.INVALID, str(error.strerror))
            return
        if otherwise is not None:
            self._progress = Progress(State.INVALID, otherwise)
        elif _NOT_BLANK.search(rest):
            self._progress = _several(rest)
        else:
            self._progress = _COMPLETE


def scan(text: bytes) -> Progress:
    """Tell whether bytes are one whole document, the beginning of one, or neither.

    Parameters
    ----------
    text : bytes
        All bytes so far.

    Returns
    -------
    Progress
        What they amount to; see :class:`Scanner`, which takes them piece by piece.
    """
    return Scanner().feed(text)


def _several(rest: bytes) -> Progress:
    begins = rest.strip(BLANKS.encode())[:20].decode("utf-8", "replace")
    return Progress(
        State.INVALID,
        f"several documents in one: '{shown(begins)}' follows the first; write one alone",
    )
