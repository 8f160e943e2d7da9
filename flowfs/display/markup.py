"""HTML, put together so that nothing which comes from a service can be more than text in it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from urllib.parse import urlsplit

from flowfs.errors import printable
from flowfs.service.descriptor import origin_of

__all__ = ["Html", "element", "joined", "shortened", "table", "to_copy", "to_fetch", "to_save"]

_LONGEST = 4000  # characters of a text
_HREF = 2000  # characters of a link
_NAME = 200  # characters of the name that a file is saved under


class Html(str):
    """Markup. Every other text is escaped before it is put into some."""

    __slots__ = ()


def _escaped(text: str) -> str:
    # What is no character that can be shown is told as Python writes it: half of a surrogate
    # pair, which no notebook could be saved with, and what turns the direction of writing.
    return text if isinstance(text, Html) else escape(printable(shortened(text, _LONGEST)))


def shortened(text: str, longest: int) -> str:
    """Return a text of so many characters at most, with an ellipsis where it was longer."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def joined(*parts: str) -> Html:
    """Return parts one after the other; those that are no markup are escaped."""
    return Html("".join(map(_escaped, parts)))


def element(name: str, *children: str, **attributes: str | None) -> Html:
    """Return an element.

    Parameters
    ----------
    name : str
        Its tag.
    *children : str
        What is in it; escaped, unless it is markup.
    **attributes : str or None
        By name; an underscore at the end of a name is left out, None means none.
    """
    told = "".join(
        f' {key.rstrip("_")}="{escape(printable(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = joined(*children)
    return Html(f"<{name}{told}>" if name in ("br", "img") else f"<{name}{told}>{inner}</{name}>")


def to_copy(text: str, place: str | None = None) -> Html:
    """Return an id or a path: a click selects all of it, which is then to be copied.

    Parameters
    ----------
    text : str
        What is shown.
    place : str or None
        Its ``flow://`` URL, which is told to whoever points at it. It is no link: a browser has
        no token to send there.
    """
    about = None if place is None else shortened(place, _LONGEST)
    return element("code", text, title=about, style="user-select:all")


def to_save(data: bytes, name: str, *children: str) -> Html:
    """Return a link that saves bytes, which are in it; whatever they are, no browser shows them.

    Parameters
    ----------
    data : bytes
        All of the file.
    name : str
        Its path; it is saved under the last part of it.
    *children : str
        What is shown.
    """
    return element(
        "a",
        *children,
        href=f"data:application/octet-stream;base64,{b64encode(data).decode('ascii')}",
        download=shortened(name.rpartition("/")[2], _NAME),
        title=f"save {len(data)} bytes",
    )


def to_fetch(url: str | None, endpoint: str, *children: str) -> Html:
    """Return a link to a file at the service; nothing where the URL leads elsewhere.

    flowServ gives the results of a run to whoever knows their ids, and always as files to save.

    Parameters
    ----------
    url : str or None
        Where to: of the scheme, host and port of `endpoint`, which are http or https.
    endpoint : str
        URL of the service's API root.
    *children : str
        What is shown.
    """
    if url is None or not _is_of(url, endpoint):
        return Html("")
    about = "fetch it from the service"
    return element(
        "a", *children, href=url, target="_blank", rel="noopener noreferrer", title=about
    )


def _is_of(url: str, endpoint: str) -> bool:
    if len(url) > _HREF or not url.isprintable() or not url.isascii():
        return False
    if any(character in url for character in " \\\"'<>`"):
        return False
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.username is not None:
            return False
        return origin_of(url) == origin_of(endpoint)
    except ValueError:
        return False


_CELL = "text-align:left;vertical-align:top;padding:2px 10px 2px 0"


def table(rows: Sequence[Sequence[str]], head: Sequence[str] | None = None) -> Html:
    """Return a table; cells that are no markup are escaped."""

    def row(tag: str, cells: Sequence[str]) -> Html:
        return element("tr", *(element(tag, cell, style=_CELL) for cell in cells))

    body = element("tbody", *(row("td", cells) for cells in rows))
    above = () if head is None else (element("thead", row("th", head)),)
    # Colours and sizes are those of whatever it is shown in, light or dark.
    return element("table", *above, body, style="border-collapse:collapse;margin:4px 0")
