"""What is in the HTML of a display, and that it is nothing but what displays are made of."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

__all__ = ["Shown"]

_TAGS = {
    "a", "b", "code", "div", "img", "pre", "span", "table", "tbody", "td", "th", "thead", "tr",
}  # fmt: skip
_ATTRIBUTES = {
    "a": {"href", "download", "title", "target", "rel"},
    "code": {"style", "title"},
    "img": {"src", "alt", "style"},
}
_SAVED = "data:application/octet-stream;base64,"
_STYLE = re.compile(r"[a-z0-9:;%. #-]*")  # no url(…), nothing that is quoted


class Shown(HTMLParser):
    """The texts, images and files to be saved of a page; AssertionError for whatever else is in it.

    Parameters
    ----------
    html : str
        The page.
    origin : str
        Where the links to a service must lead: its scheme, host and port.

    Attributes
    ----------
    text : str
        All that can be read.
    places : list of str
        What is told to whoever points at an id or a path.
    saved : list of (str, bytes)
        Names and bytes of what can be saved.
    links : list of str
        All other links; they lead to the service.
    images : list of (str, bytes)
        Types and bytes of images.
    """

    def __init__(self, html: str, origin: str | None = None) -> None:
        super().__init__(convert_charrefs=True)
        self.origin = origin
        self.text = ""
        self.places: list[str] = []
        self.saved: list[tuple[str, bytes]] = []
        self.links: list[str] = []
        self.images: list[tuple[str, bytes]] = []
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
        told = dict(attrs)
        assert len(told) == len(attrs)
        for name, value in attrs:
            assert name in _ATTRIBUTES.get(tag, {"style"})
            assert value is not None
            assert value.isprintable()
            if name == "style":
                assert _STYLE.fullmatch(value)
            elif name == "src":
                kind = re.match(r"data:(image/(?:png|jpeg|gif|webp|svg\+xml));base64,", value)
                assert kind is not None
                data = base64.b64decode(value[kind.end() :], validate=True)
                self.images.append((kind[1], data))
        if tag == "code" and told.get("title"):
            self.places.append(str(told["title"]))
        if tag == "a" and "target" in told:
            url = str(told["href"])
            assert told["rel"] == "noopener noreferrer"
            assert "download" not in told
            assert self.origin is not None
            assert url.startswith(f"{self.origin}/")
            assert set(url).isdisjoint("\\\"'<>` ")
            self.links.append(url)
        elif tag == "a":
            url, name = str(told["href"]), str(told["download"])
            # Without a name it would be opened, and not saved.
            assert "/" not in name
            assert url.startswith(_SAVED)
            self.saved.append((name, base64.b64decode(url[len(_SAVED) :], validate=True)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        assert all(char.isprintable() or char == "\n" for char in data)
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment
