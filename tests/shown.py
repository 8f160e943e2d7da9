"""What is in the HTML of a display, and that it is nothing but what displays are made of."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

__all__ = ["Shown"]

_TAGS = {
    "a", "b", "code", "div", "img", "pre", "span", "table", "tbody", "td", "th", "thead", "tr",
}  # fmt: skip
_ATTRIBUTES = {"style", "href", "target", "rel", "src", "alt"}
_STYLE = re.compile(r"[a-z0-9:;%. #-]*")  # no url(…), nothing that is quoted


class Shown(HTMLParser):
    """The texts, links and images of a page; AssertionError for whatever else is in it.

    Parameters
    ----------
    html : str
        The page.
    origin : str
        Where links may lead.

    Attributes
    ----------
    text : str
        All that can be read.
    links : list of str
        Where links lead.
    images : list of (str, bytes)
        Types and bytes of images.
    """

    def __init__(self, html: str, origin: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.links: list[str] = []
        self.images: list[tuple[str, bytes]] = []
        self._origin = origin
        self._open: list[str] = []
        assert isinstance(html, str)
        html.encode()  # or no notebook could hold it
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _TAGS
        if tag != "img":
            self._open.append(tag)
        for name, value in attrs:
            assert name in _ATTRIBUTES
            assert value is not None
            if name == "style":
                assert _STYLE.fullmatch(value)
            elif name == "href":
                assert tag == "a"
                assert value == self._origin or value.startswith(f"{self._origin}/")
                self.links.append(value)
            elif name == "src":
                assert tag == "img"
                kind = re.match(r"data:(image/(?:png|jpeg|gif|webp|svg\+xml));base64,", value)
                assert kind is not None
                data = base64.b64decode(value[kind.end() :], validate=True)
                self.images.append((kind[1], data))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        assert all(char.isprintable() or char == "\n" for char in data)
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment
