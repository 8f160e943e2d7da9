"""Pictures within a page, as data: URLs of bytes that are what they are said to be. Pure."""

from __future__ import annotations

import re
from base64 import b64encode

from flowfs.display.markup import Html, element

__all__ = ["ENDINGS", "MOST_BYTES", "picture", "type_of"]

#: Names of results that may be pictures end so.
ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")

#: Bytes of a picture that is shown.
MOST_BYTES = 512 * 1024

_SIGNATURES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF.{4}WEBPVP8[ LX]", re.DOTALL), "image/webp"),
)
# A drawing is shown as an image, where browsers run nothing in it and fetch nothing for it. What
# would do more if somebody opened it by itself is not shown all the same.
_DOCTYPE = r"<!DOCTYPE\s+svg[^\[\]<>]*>"
_COMMENT = r"<!--(?:(?!--).)*-->"
_SVG = re.compile(
    r"\ufeff?\s*(?:<\?xml\s[^<>]*\?>\s*)?"
    rf"(?:{_COMMENT}\s*)*(?:{_DOCTYPE}\s*)?(?:{_COMMENT}\s*)*<svg[\s>]",
    re.DOTALL,
)
_ACTIVE = re.compile(
    rf"(?!{_DOCTYPE}|{_COMMENT})<!|<\?(?!xml\s)"
    r"|<[\w.-]*:?(?:script|foreignobject|iframe|embed|object|set|animate)"
    r"|[\s/\"']on\w+\s*=|@import|javascript:"
    r"|href\s*=\s*(?![\"']#)|url\s*\(\s*(?![\"']?#)",
    re.IGNORECASE,
)


def type_of(data: bytes) -> str | None:
    """Return which type of picture these bytes are, by what they begin with.

    Returns
    -------
    str or None
        PNG, JPEG, GIF, WebP, or SVG without anything in it that acts or is elsewhere; None for
        everything else.
    """
    for signature, kind in _SIGNATURES:
        if signature.match(data):
            return kind
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return "image/svg+xml" if _SVG.match(text) and not _ACTIVE.search(text) else None


def picture(data: bytes, name: str, height: int = 320) -> Html | None:
    """Return an image of bytes; None if they are none, or too many.

    Parameters
    ----------
    data : bytes
        All of the file.
    name : str
        Shown in its place where it cannot be shown.
    height : int
        Pixels at most.
    """
    kind = type_of(data) if len(data) <= MOST_BYTES else None
    if kind is None:
        return None
    return element(
        "img",
        src=f"data:{kind};base64,{b64encode(data).decode('ascii')}",
        alt=name,
        style=f"max-width:100%;max-height:{height}px;background-color:#ffffff",
    )
