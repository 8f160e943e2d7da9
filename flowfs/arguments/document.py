"""JSON documents of arguments: what may be written, and its one canonical form."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from flowfs.errors import InvalidArguments, failure

__all__ = [
    "BLANKS",
    "FORMS",
    "Argument",
    "Declarations",
    "decode",
    "dump",
    "normalize",
    "parse",
    "shown",
]

#: One argument: ``{"name": str, "value": Any}``.
Argument = dict[str, Any]

#: Parameter declarations as ``parameters`` of a group's handle has them; None if not known.
Declarations = Sequence[Mapping[str, Any]]

#: What may stand around a JSON document (RFC 8259, section 2).
BLANKS = " \t\n\r"

#: What to write, for messages.
FORMS = '[{"name": …, "value": …}, …] or {"<name>": <value>, …}'

_WRAPPER = "arguments"
_SHOWN = 80
# Brackets within brackets in a value. Of a run with more, replies would not be read: it could be
# started, and nobody would know.
_MAX_DEPTH = 250


def parse(
    data: bytes | str, path: str | None = None, declarations: Declarations | None = None
) -> list[Argument]:
    """Read the arguments of a run from a JSON document.

    Parameters
    ----------
    data : bytes or str
        The document; bytes are UTF-8 with or without a byte order mark.
    path : str, optional
        What errors name as the place.
    declarations : sequence of mapping, optional
        The group's parameters, see :func:`normalize`.

    Returns
    -------
    list of dict
        ``{"name", "value"}`` in the document's order.

    Raises
    ------
    InvalidArguments
        If it is no JSON document, is several, or not of a form that :func:`normalize` takes.
        The message has line and column where JSON's syntax is broken.
    """
    return normalize(decode(data, path), path, declarations)


def normalize(
    document: Any, path: str | None = None, declarations: Declarations | None = None
) -> list[Argument]:
    """Bring arguments into the canonical form.

    Accepted are the service's own list of objects with ``name`` and ``value`` (other keys
    describe and are ignored), that list as the only member ``arguments`` of an object, and the
    plain mapping from names to values.

    Parameters
    ----------
    document : list or mapping
        Decoded JSON, or the same in Python's types; tuples count as lists.
    path : str, optional
        What errors name as the place.
    declarations : sequence of mapping, optional
        The group's parameters. They only decide what a lone member ``arguments`` is: the
        wrapped form unless a parameter of that name is declared; and even then if it is a list,
        not empty, of objects that have ``name`` and ``value``.

    Returns
    -------
    list of dict
        ``{"name", "value"}`` in the order given; values are copies. A null stays here: it is
        :func:`~flowfs.arguments.check` that takes it as not given.

    Raises
    ------
    InvalidArguments
        If it has another form, an entry lacks its name or value, a name comes twice, or a value
        cannot be written as JSON.
    """
    if isinstance(document, Mapping) and _is_wrapped(document, declarations):
        document = document[_WRAPPER]
    pairs: list[tuple[Any, Any]]
    if isinstance(document, Mapping):
        pairs = list(document.items())
    elif isinstance(document, Sequence) and not isinstance(document, str | bytes | bytearray):
        pairs = [_entry(entry, number, path) for number, entry in enumerate(document, 1)]
    else:
        _refuse(f"arguments are a list or an object, not {_kind(document)}; write {FORMS}", path)
    result: dict[str, Argument] = {}
    for name, value in pairs:
        if not isinstance(name, str):
            _refuse(f"a parameter's name is a string, not {_kind(name)}; write {FORMS}", path)
        if name in result:
            _refuse(f"non-unique run argument '{shown(name)}'; give it once", path)
        result[name] = {"name": name, "value": _plain(name, value, path)}
    return list(result.values())


def dump(arguments: Iterable[Mapping[str, Any]]) -> bytes:
    """Write arguments as a document that can be read, changed and started again.

    Parameters
    ----------
    arguments : iterable of mapping
        Arguments with ``name`` and ``value``, for example those of a run's handle; other keys
        are left out.

    Returns
    -------
    bytes
        The service's own list, pretty-printed JSON in UTF-8, with a newline at the end. Infinite
        numbers and NaN, which the service lets into arguments, become the strings that it takes
        for them, since JSON has no numbers for them.

    Raises
    ------
    InvalidArguments
        If a value cannot be written as JSON.
    """
    return encode([{"name": each["name"], "value": _finite(each["value"])} for each in arguments])


def encode(document: Any) -> bytes:
    """Write a document as pretty-printed JSON in UTF-8 with a newline at the end."""
    try:
        try:
            text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2)
        except RecursionError:
            # Pretty-printing takes several frames a level, the plain form a third of that.
            text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        try:
            return text.encode() + b"\n"
        except UnicodeEncodeError:
            # Unpaired surrogates have no UTF-8, but JSON has escapes for them.
            return json.dumps(document, allow_nan=False).encode() + b"\n"
    except (ValueError, TypeError, RecursionError) as error:
        raise failure(InvalidArguments, f"cannot write as JSON: {shown(error)}") from error


def decode(data: bytes | str, path: str | None = None) -> Any:
    """Decode one JSON document strictly, whatever its type.

    Parameters
    ----------
    data : bytes or str
        The document.
    path : str, optional
        What errors name as the place.

    Returns
    -------
    Any
        Python's own types.

    Raises
    ------
    InvalidArguments
        If it is not exactly one document of RFC 8259 with numbers that Python can hold and no
        key twice in an object. Python's parser would take the last of two keys and read
        ``NaN``, of which the writer would never hear.
    """
    if isinstance(data, str):
        text = data
    else:
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            _refuse(
                f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}; "
                "save the document as UTF-8",
                path,
            )
    text = text.removeprefix("\ufeff")
    start = len(text) - len(text.lstrip(BLANKS))
    if start == len(text):
        _refuse(f"no arguments: the document is empty; write {FORMS}, or {{}} for none", path)
    try:
        document, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")
        _refuse(f"not JSON: {what} at {_place(text, error.pos)}; correct it there", path)
    except RecursionError:
        _refuse("nested too deep to be read; use fewer levels of brackets", path)
    except _Unacceptable as error:
        _refuse(str(error), path)
    except ValueError:
        # CPython reads integers of 4300 digits at most, see sys.set_int_max_str_digits.
        _refuse("an integer has too many digits; write it as a string", path)
    rest = len(text) - len(text[end:].lstrip(BLANKS))
    if rest < len(text):
        _refuse(
            f"several documents in one: something follows the first at {_place(text, rest)}; "
            "write one alone",
            path,
        )
    return document


def shown(value: Any) -> str:
    """Give a value as part of a message: as the service formats it, one line, not too long."""
    try:
        text = str(value)
    except (ValueError, RecursionError):
        # Integers over Python's limit and nesting over its stack have no text.
        return f"<{type(value).__name__}>"
    if len(text) > _SHOWN:
        text = text[: _SHOWN - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Unacceptable(ValueError):
    """JSON that Python reads and we do not; its text is the message."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Unacceptable(f"the key '{shown(key)}' comes twice in an object; keep one")
            seen.add(key)
    return result


def _constant(text: str) -> NoReturn:
    raise _Unacceptable(
        f"{text} is not JSON; where a parameter takes it, write it as a string: "
        '"inf", "-inf" or "nan"'
    )


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _Unacceptable(
            f"the number {shown(text)} is too large for a float; write a smaller one, or "
            'infinity as a string: "inf" or "-inf"'
        )
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_constant=_constant, parse_float=_float
)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    try:
        if isinstance(value, Mapping):
            return {key: _finite(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [_finite(each) for each in value]
    except RecursionError:
        return value  # left to the encoder, which goes deeper
    return value


def _is_wrapped(document: Mapping[Any, Any], declarations: Declarations | None) -> bool:
    if len(document) != 1 or _WRAPPER not in document:
        return False
    if not any(isinstance(d, Mapping) and d.get("name") == _WRAPPER for d in declarations or ()):
        return True
    inner = document[_WRAPPER]
    # An empty list says nothing about its entries: then it is the parameter's value.
    return (
        isinstance(inner, list | tuple)
        and len(inner) > 0
        and all(isinstance(e, Mapping) and "name" in e and "value" in e for e in inner)
    )


def _entry(entry: Any, number: int, path: str | None) -> tuple[Any, Any]:
    if not isinstance(entry, Mapping):
        _refuse(f"argument {number} is {_kind(entry)}, not an object; write {FORMS}", path)
    for key in ("name", "value"):
        if key not in entry:
            which = f" ('{shown(entry['name'])}')" if "name" in entry else ""
            _refuse(f"argument {number}{which}: missing element '{key}'; write {FORMS}", path)
    return entry["name"], entry["value"]


def _plain(name: str, value: Any, path: str | None) -> Any:
    """Copy a value into what JSON would make of it, so that later nothing can fail to encode."""
    if value is None or isinstance(value, bool | str):
        return value
    try:
        text = json.dumps(value, allow_nan=False)
        if text.count("[") + text.count("{") > _MAX_DEPTH and _is_deep(value):
            raise RecursionError
        return _DECODER.decode(text)
    except RecursionError:
        why = "nested too deep or in a circle"
    except (TypeError, ValueError) as error:
        why = shown(error)
    return _refuse(f"the value of '{shown(name)}' cannot be written as JSON: {why}", path)


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        level = [one for one in level if isinstance(one, (Mapping, list, tuple))]
        if not level:
            return False
        level = [x for one in level for x in (one.values() if isinstance(one, Mapping) else one)]
    return True


def _kind(value: Any) -> str:
    """Name a value's type in the words of JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a Boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list | tuple) else type(value).__name__


def _place(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    return f"line {line} column {at - text.rfind(chr(10), 0, at)}"


def _refuse(message: str, path: str | None) -> NoReturn:
    raise failure(InvalidArguments, message, path) from None
