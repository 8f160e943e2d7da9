"""Arguments against a group's parameter declarations: checked, and filled in.

The rules are those of flowServ's parameter classes (``flowserv.model.parameter``) and of
``LocalRunService.start_run``, of flowserv-core 0.7.2 and 0.8.1. Whatever those accept is
accepted here; where something is refused, it is in their words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flowfs.arguments.document import Argument, Declarations, encode, normalize, shown
from flowfs.errors import InvalidArguments, failure

__all__ = ["Uploads", "check", "template"]

_FEW = 8

# 'select' is what flowServ calls an enumeration; 'enum' is what others do.
_SELECT = ("select", "enum")
_BOOLEANS = frozenset({"1", "t", "true", "", "0", "f", "false"})
_FILE_KEYS = frozenset({"fileId", "targetPath"})


@dataclass(frozen=True)
class Uploads:
    """The files of a group that an argument can name.

    Attributes
    ----------
    names : mapping from str to str
        Name as shown in ``uploads/`` to the service's id.
    ids : collection of str
        Ids that have no name of their own there; those of `names` need not be repeated.
    """

    names: Mapping[str, str]
    ids: Collection[str] = ()

    def resolve(self, given: str) -> str | None:
        """Give the id of the upload that has this name or else this id, None if none has."""
        if given in self.names:
            return self.names[given]
        return given if given in self.ids or given in self.names.values() else None


def check(
    arguments: Iterable[Mapping[str, Any]],
    declarations: Declarations | None,
    uploads: Uploads | None = None,
    path: str | None = None,
) -> list[Argument]:
    """Make arguments ready to be sent, or say everything that is wrong with them.

    Never refuses what the service would accept: parameters of unknown type, declarations that
    make no sense, and what stands inside lists and records of files are left to the service.
    The one exception is null, which here means that the argument is not given; the service
    refuses it for numbers and files, but takes it for a string (``None``) and for a
    Boolean (false), so that a template that nobody has filled in would start a run.

    Parameters
    ----------
    arguments : iterable of mapping
        Canonical arguments, see :func:`~flowfs.arguments.normalize`. A null is left out, in
        whatever form it was written, so that an entry of the template may stay as it is.
    declarations : sequence of mapping or None
        The group's parameters; None if they are not known: then nothing is checked.
    uploads : Uploads or None
        The group's uploads; None if they are not known: then files are taken to be ids.
    path : str, optional
        What the error names as the place.

    Returns
    -------
    list of dict
        ``{"name", "value"}`` in the order given, without nulls. Files, which may be an upload's
        name or id, ``{"fileId", "targetPath"}`` with one of them, or the service's own form,
        are in the service's own form.

    Raises
    ------
    InvalidArguments
        With everything that is wrong in one line, in the service's words.
    """
    known = dict(_named(declarations or ()))
    # With a declaration that has no name, or with none at all, any parameter may exist.
    all_known = declarations is not None and all(
        isinstance(each, Mapping) and isinstance(each.get("name"), str) for each in declarations
    )
    problems: list[str] = []
    unknown = False
    given: dict[str, Argument] = {}
    for argument in arguments:
        name, value = argument["name"], argument["value"]
        declaration = known.get(name)
        if declaration is None and all_known:
            problems.append(f"unknown parameter '{shown(name)}'")
            unknown = True
        if value is None:
            continue
        if declaration is not None and declaration.get("dtype") == "file":
            value, found = _file(value, declaration, uploads)
        else:
            found = [] if declaration is None else list(_problems(value, declaration))
        problems += [f"{each} for '{shown(name)}'" for each in found]
        given[name] = {"name": name, "value": value}
    problems += [
        f"missing argument for '{shown(name)}'"
        for name, declaration in known.items()
        if name not in given and _is_missed(declaration)
    ]
    if problems:
        if unknown:
            problems.append(_listing("the parameters are", "there are no parameters", known))
        message = f"cannot start a run: {'; '.join(problems)}"
        raise failure(InvalidArguments, message, path)
    return list(given.values())


def template(declarations: Declarations) -> bytes:
    """Write a document of arguments to be filled in.

    Parameters
    ----------
    declarations : sequence of mapping
        The group's parameters. Those without a name are left out.

    Returns
    -------
    bytes
        Pretty-printed JSON: a list in the order of ``index``, an object for each parameter with
        ``name``, ``value``, ``label``, ``dtype``, ``isRequired`` and, where there is a choice,
        ``values``. ``value`` is the default, or null: without one, where the service would not
        take it as an argument, and for files, whose default is no file but the path that one
        is put at.
    """
    entries = []
    for name, declaration in sorted(_named(declarations), key=_index):
        label = declaration.get("label")
        entry = {
            "name": name,
            "value": _prefilled(declaration),
            "label": name if label is None else label,
            "dtype": declaration.get("dtype"),
            "isRequired": bool(declaration.get("isRequired", False)),
        }
        if declaration.get("dtype") in _SELECT:
            entry["values"] = declaration.get("values")
        entries.append({key: _writable(value) for key, value in entry.items()})
    return encode(entries)


def _named(declarations: Iterable[Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Declarations that can be told by a name, the first of each name."""
    result: dict[str, Mapping[str, Any]] = {}
    for each in declarations:
        if isinstance(each, Mapping) and isinstance(each.get("name"), str):
            result.setdefault(each["name"], each)
    return list(result.items())


def _index(named: tuple[str, Mapping[str, Any]]) -> float:
    index = named[1].get("index")
    # Without an index: behind the others, in the order given.
    return index if isinstance(index, int | float) else float("inf")


def _is_missed(declaration: Mapping[str, Any]) -> bool:
    """Tell if a run cannot do without an argument (``WorkflowTemplate.validate_arguments``)."""
    return bool(declaration.get("isRequired")) and declaration.get("defaultValue") is None


def _prefilled(declaration: Mapping[str, Any]) -> Any:
    if declaration.get("dtype") == "file":
        return None
    value = declaration.get("defaultValue")
    if value is None and declaration.get("dtype") in _SELECT:
        options = declaration.get("values")
        for option in options if isinstance(options, list) else ():
            if isinstance(option, Mapping) and option.get("isDefault") is True:
                value = option.get("value")
                break
    # The service uses a default as it stands and casts only what it is sent.
    return None if value is None or any(_problems(value, declaration)) else value


def _writable(value: Any) -> Any:
    """Give what JSON can carry of a declaration: a server in Python may have sent NaN."""
    try:
        return normalize({"value": value})[0]["value"]
    except InvalidArguments:
        return None


def _listing(some: str, none: str, names: Collection[str]) -> str:
    few = [shown(name) for name in list(names)[:_FEW]]
    if not few:
        return none
    more = f" and {len(names) - len(few)} more" if len(names) > len(few) else ""
    return f"{some} {', '.join(few)}{more}"


def _file(
    value: Any, declaration: Mapping[str, Any], uploads: Uploads | None
) -> tuple[Any, list[str]]:
    """Give the service's form of a file argument and what is wrong with it."""
    inner = value
    problems = []
    if isinstance(value, Mapping) and value.get("type") == "$file":
        problems += [f"unknown element '{shown(k)}'" for k in value if k not in ("type", "value")]
        inner = value.get("value")
    if isinstance(inner, str):
        inner = {"fileId": inner}
    if not isinstance(inner, Mapping):
        return value, [f"not a file '{shown(value)}' (an upload's name or id is)"]
    problems += [f"unknown element '{shown(key)}'" for key in inner if key not in _FILE_KEYS]
    if "fileId" not in inner:
        return value, [*problems, "missing element 'fileId'"]
    asked, target = inner["fileId"], inner.get("targetPath")
    file_id = asked
    if uploads is not None:
        file_id = uploads.resolve(asked) if isinstance(asked, str) else None
        if file_id is None:
            there = _listing("uploads are", "there are no uploads", uploads.names)
            problems.append(f"unknown file '{shown(asked)}' ({there})")
    handle = {"fileId": file_id}
    if target is not None:
        handle["targetPath"] = target
    elif _lacks_target(declaration):
        problems.append('missing target path (write {"fileId": …, "targetPath": …})')
    return {"type": "$file", "value": handle}, problems


def _lacks_target(declaration: Mapping[str, Any]) -> bool:
    # flowServ always says `target`; who leaves it out may have other rules.
    target = declaration.get("target", "")
    return target is None and declaration.get("defaultValue") is None


def _problems(value: Any, declaration: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the parameter's ``cast`` would say against a value that is no file."""
    dtype = declaration.get("dtype")
    if dtype == "int" or dtype == "float":
        yield from _number(value, dtype, declaration.get("range"))
    elif dtype == "bool":
        # Nothing is False, but only inside lists and records: see `check` on null.
        if value is not None and shown(value).lower() not in _BOOLEANS:
            yield f"not a Boolean '{shown(value)}'"
    elif dtype in _SELECT:
        yield from _choice(value, declaration.get("values"))
    elif dtype == "list":
        item = declaration.get("para")
        if not isinstance(value, list | tuple):
            yield "invalid argument type"
        elif isinstance(item, Mapping):
            for each in value:
                yield from _problems(each, item)
    elif dtype == "record":
        yield from _record(value, declaration.get("fields"))


def _number(value: Any, dtype: str, limits: Any) -> Iterator[str]:
    number: float
    try:
        # The service takes these two words for integers as well.
        if dtype == "float" or value in ("inf", "-inf"):
            number = float(value)
        else:
            number = _int(value)
    except (TypeError, ValueError, OverflowError):
        yield f"no {dtype} '{shown(value)}'"
        return
    interval = _interval(limits)
    if interval is not None:
        left, left_open, right, right_open = interval
        below = number <= left if left_open else number < left
        above = number >= right if right_open else number > right
        if below or above:
            brackets = "(" if left_open else "[", ")" if right_open else "]"
            yield f"{shown(number)} not in {brackets[0]}{left},{right}{brackets[1]}"


def _int(value: Any) -> float:
    try:
        return int(value)
    except OverflowError:
        # An infinite float: 0.7.2 and 0.9.4 take it for an integer, 0.8.1 fails on it.
        return float("inf")


def _interval(text: Any) -> tuple[float, bool, float, bool] | None:
    """Read an interval such as ``[0,10)``; None for what the service would not read."""
    if not isinstance(text, str) or text.count(",") != 1:
        return None
    left, right = (side.strip() for side in text.split(","))
    if left[:1] not in ("[", "(") or right[-1:] not in ("]", ")"):
        return None
    try:
        low, high = float(left[1:] or "-inf"), float(right[:-1] or "inf")
    except ValueError:
        return None
    if low > high:
        return None
    return low, left[0] == "(", high, right[-1] == ")"


def _choice(value: Any, options: Any) -> Iterator[str]:
    if not isinstance(options, list | tuple):
        return
    if not all(isinstance(option, Mapping) and "value" in option for option in options):
        return
    choices = [option["value"] for option in options]
    # By equality, as the service does: 1, 1.0 and true are one value.
    if value not in choices:
        there = _listing("one of", "no value is", [shown(choice) for choice in choices])
        yield f"unknown value '{shown(value)}' ({there})"


def _record(value: Any, declared: Any) -> Iterator[str]:
    """Check a record, which is written as a list of objects with ``name`` and ``value``."""
    if not isinstance(value, list | tuple):
        yield "invalid argument type"
        return
    if not isinstance(declared, list | tuple):
        return
    fields = dict(_named(declared))
    seen = set()
    for entry in value:
        if not isinstance(entry, Mapping):
            yield "invalid argument type"
            continue
        wrong = [f"missing element '{key}'" for key in ("name", "value") if key not in entry]
        wrong += [
            f"unknown element '{shown(key)}'" for key in entry if key not in ("name", "value")
        ]
        yield from wrong
        if wrong or not isinstance(entry["name"], str):
            continue
        seen.add(entry["name"])
        if entry["name"] in fields:
            yield from _problems(entry["value"], fields[entry["name"]])
        elif len(fields) == len(declared):
            yield f"unknown argument '{shown(entry['name'])}'"
    for name, field in fields.items():
        if name not in seen and _is_missed(field):
            yield f"missing field '{shown(name)}'"
