"""What can stand where something is being typed: places of the tree, as the service has them.

Nothing here may take long, or say anything: whoever completes is about to type on.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

__all__ = ["Choice", "copies", "patience", "places"]

_TOP = ("groups", "workflows")
_MOST = 500  # names
_KEPT = 10.0  # seconds for which a listing is good
_OLD = 3600.0  # seconds after which what was kept is removed
_OPTIONS = ("token_file", "token_command", "verify", "cert")
_PATIENCE = 2.0  # seconds


class Choice(NamedTuple):
    """What can stand there.

    Attributes
    ----------
    name : str
        The last segment of a path.
    directory : bool
        Whether the path can go on.
    help : str
        A word about it.
    """

    name: str
    directory: bool
    help: str = ""


def patience() -> float:
    """Return how long an answer may take, in seconds: ``FLOWFS_COMPLETION_TIMEOUT``, else 2."""
    try:
        given = float(os.environ.get("FLOWFS_COMPLETION_TIMEOUT", ""))
    except ValueError:
        return _PATIENCE
    return given if 0 < given < 3600 else _PATIENCE


def places(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a place: a path from ``groups/`` or ``workflows/``, or one below a group."""
    return _completed(ctx, incomplete, bare=True)


def copies(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a place or a file of this machine."""
    from click.shell_completion import CompletionItem

    found = _completed(ctx, incomplete, bare=False)
    if incomplete.split("/", 1)[0] in _TOP and "/" in incomplete:
        return found
    return [*found, CompletionItem(incomplete, type="file")]


def _completed(ctx: click.Context, incomplete: str, *, bare: bool) -> list[CompletionItem]:
    if "://" in incomplete or incomplete.startswith(("/", "./", "../", "~")):
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")] if bare else []
    head, slash, begun = incomplete.rpartition("/")
    if not slash:
        found = [Choice(top, True) for top in _TOP]
        if (bare and not any(top.startswith(begun) for top in _TOP if begun)) or (
            bare and not begun
        ):
            found += _groups(ctx)
    elif head == "groups":
        found = _groups(ctx, begun)
    elif not bare and head.split("/")[0] not in _TOP:
        return []
    else:
        found = _kept(ctx, head)
    return _items(f"{head}/" if slash else "", incomplete, found)


def _items(prefix: str, incomplete: str, found: list[Choice]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    matching: list[CompletionItem] = []
    for choice in found:
        value = f"{prefix}{choice.name}{'/' if choice.directory else ''}"
        if value.startswith(incomplete) and len(matching) < _MOST:
            matching.append(CompletionItem(value, help=choice.help or None))
    return matching


def _groups(ctx: click.Context, begun: str = "") -> list[Choice]:
    """Return the groups: by name, or by id where they have none or one has been begun."""
    listed = _kept(ctx, "groups")
    names = [one.help for one in listed]
    found = []
    for one in listed:
        named = bool(one.help) and names.count(one.help) == 1 and "/" not in one.help
        if not named or (begun and one.name.startswith(begun)):
            found.append(one)
        if named:
            found.append(Choice(one.help, True, "group"))
    return found


# -- what the service has --------------------------------------------------------


def _kept(ctx: click.Context, directory: str) -> list[Choice]:
    """Return what is in a directory, as found a moment ago if it was."""
    file = _file(ctx, directory)
    with contextlib.suppress(OSError, ValueError, TypeError):
        if file.stat().st_mtime > time.time() - _KEPT:
            return [Choice(*row) for row in json.loads(file.read_text())]
    found = list(_asked(ctx, directory))
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.{os.getpid()}")
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            json.dump(found, out)
        os.replace(partial, file)
        for other in file.parent.iterdir():
            if other.stat().st_mtime < time.time() - _OLD:
                other.unlink()
    return found


def _file(ctx: click.Context, directory: str) -> Path:
    """Return where it is kept what is in a directory, for this service and user alone."""
    about = [directory, os.getcwd(), ctx.params.get("endpoint")]
    about += [ctx.params.get(name) for name in _OPTIONS]
    about += sorted(it for it in os.environ.items() if it[0].startswith("FLOWSERV_"))
    logins = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))
    with contextlib.suppress(OSError):
        about.append((logins / "flowfs").stat().st_mtime_ns)
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    digest = sha256(json.dumps(about).encode()).hexdigest()
    return Path(caches) / "flowfs" / "completion" / digest


def _asked(ctx: click.Context, directory: str) -> Iterator[Choice]:
    from flowfs.cli.access import Access
    from flowfs.cli.naming import find_place

    options: dict[str, Any] = {"timeout": patience(), "retries": 0}
    options |= {name: ctx.params[name] for name in _OPTIONS if ctx.params.get(name)}
    place = find_place(Access(ctx.params.get("endpoint"), options), directory)
    for entry in place.fs.ls(place.path):
        told = entry.get("state") or entry.get("title") or ""
        yield Choice(entry["name"].rpartition("/")[2], entry["type"] == "directory", str(told))
