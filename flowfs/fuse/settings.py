"""What a mount is to be: collected from a command line, a table or a call, and checked."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from flowfs.errors import FlowError, InvalidArguments, failure
from flowfs.fuse.log import Log
from flowfs.tokens.sources import read_token

if TYPE_CHECKING:
    from flowfs.filesystem import FlowFileSystem

__all__ = [
    "Settings",
    "bytes_of",
    "group_number",
    "read_options",
    "token_command_of",
    "token_file_of",
    "umask_of",
    "user_number",
]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:i?B)?|B)?", re.I)
_POWERS = {"K": 10, "M": 20, "G": 30, "T": 40}

# By its type flowfs knows its mounts; the rest are words of the bindings, and none of FUSE's.
_RESERVED = frozenset(
    {"encoding", "errors", "foreground", "mountpoint", "nothreads", "operations", "raw_fi"}
    | {"subtype"}
)
_NAME = re.compile(r"[a-z][a-z0-9_.:-]*", re.I)


@dataclass(frozen=True)
class Settings:
    """A mount as it is asked for.

    Attributes
    ----------
    directory : str
        Where; an absolute path.
    url : str
        What: a flow URL, the http(s) address of an API root, or ``""`` for the configured
        service.
    service : mapping
        Options of :class:`~flowfs.FlowFileSystem`, the token among them; in no repr.
    cache : bool
        Whether what is fetched stays on disk: where the service's options do not say where, in
        the user's directory for such things, if anything can be kept there.
    fuse : str
        The binding: auto, fusepy or mfusepy.
    allow_other : bool
        Whether other users of the machine may look; only the owner may change.
    uid, gid : int, optional
        Whom the files belong to; by default who mounts.
    umask : int
        Permissions that nobody has.
    options : mapping of str to str or bool
        For FUSE, as its ``-o``. Those of the bindings themselves, and the type, are not for it.
    source : str
        What the table of mounts shows; by default the full URL.
    log : Log
        Where it logs to.
    """

    directory: str
    url: str = ""
    service: Mapping[str, Any] = field(default_factory=dict, repr=False)
    cache: bool = True
    fuse: str = "auto"
    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: int = 0
    options: Mapping[str, str | bool] = field(default_factory=dict)
    source: str = ""
    log: Log = field(default_factory=Log)

    def __post_init__(self) -> None:
        for name in self.options:
            if name in _RESERVED or not _NAME.fullmatch(name):
                raise failure(InvalidArguments, f"the option {name!r} is not for FUSE to be given")
        if not self.cache and self.service.get("cache_dir") is not None:
            raise failure(InvalidArguments, "no cache, and a directory for it: one of them")

    def dump(self) -> bytes:
        """Return it as a line of JSON, the token included."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def load(cls, line: bytes) -> Settings:
        """Return what :meth:`dump` made a line of."""
        document: Any = json.loads(line)
        return cls(**{**document, "log": Log(**document["log"])})

    def file_system(self) -> tuple[FlowFileSystem, str]:
        """Return the service, and the path in its tree that the URL names. Costs no request.

        Raises
        ------
        InvalidArguments
            If an option makes no sense.
        """
        # Only the process that serves the mount needs it, not the one that starts that.
        from flowfs.filesystem import FlowFileSystem

        given, url = dict(self.service), self.url
        if not self.cache:
            given["cache_dir"] = None  # whatever fsspec is configured to
        elif given.get("cache_dir") is None:
            from flowfs.filesystem.keeping import usual_place

            given["cache_dir"] = usual_place()
        try:
            if url.lower().startswith(("http://", "https://")):
                given["endpoint"], url = url, ""
            given.update(FlowFileSystem._get_kwargs_from_urls(url))
            fs = FlowFileSystem(**given)
            return fs, fs._strip_protocol(url)
        except FlowError:
            raise
        except (ValueError, TypeError) as error:
            raise failure(InvalidArguments, str(error)) from None


# -- options by comma ------------------------------------------------------

# What mount(8) and systemd have for themselves.
_NOT_OURS = re.compile(
    r"(no)?auto|_netdev|nofail|defaults|(no)?users?|(no)?owner|(no)?group|[xX]-.*|comment=.*"
    r"|uhelper=.*|helper=.*|user=.*|sloppy|loud|silent|rw"
)
_FLAGS = {"allow_other", "debug", "no_archives", "no_cache", "syslog", "read_only", "ro"}
_SERVICE_NUMBERS = {"timeout": float, "retries": int, "ttl": float, "max_connections": int}


def read_options(text: str) -> tuple[dict[str, Any], dict[str, str | bool]]:
    """Read options as they stand behind ``-o``.

    Parameters
    ----------
    text : str
        Separated by commas; a comma that belongs to a value has a backslash before it.

    Returns
    -------
    ours : dict
        Those of ``flowfs mount``, under the names of :class:`Settings` and of
        :class:`~flowfs.FlowFileSystem`; ``log_file``, ``syslog``, ``debug`` and ``token`` too.
    others : dict
        The rest, for FUSE. What is for mount(8) itself is left out.

    Raises
    ------
    InvalidArguments
        If a value makes no sense; the option is named.
    """
    ours: dict[str, Any] = {}
    others: dict[str, str | bool] = {}
    for one in re.split(r"(?<!\\),", text):
        one = one.strip().replace("\\,", ",")
        name, equals, value = one.partition("=")
        if not name or _NOT_OURS.fullmatch(one):
            continue
        if name in _FLAGS:
            if equals:
                raise failure(InvalidArguments, f"the option {name} takes no value: {one!r}")
            ours["read_only" if name == "ro" else name] = True
        elif name in _VALUES:
            if not value:
                raise failure(InvalidArguments, f"the option {name} needs a value: {name}=…")
            key, read = _VALUES[name]
            ours[key] = read(value)
        elif name == "remount":
            raise failure(
                InvalidArguments, "what is mounted keeps its options: unmount it, and mount it anew"
            )
        elif name in ("token", "password"):
            raise failure(
                InvalidArguments,
                "a token among the options is there for everybody to see: name a file that "
                "holds it, token_file=FILE, a command that prints it, token_command=COMMAND, or "
                "log in with 'flowfs login'",
            )
        else:
            others[name] = value if equals else True
    return ours, others


def _number(name: str, read: type) -> Any:
    def number(value: str) -> Any:
        try:
            return read(value)
        except ValueError:
            raise failure(InvalidArguments, f"{name} must be a number, not {value!r}") from None

    return number


def user_number(value: str) -> int:
    """Return a user's number, given it or the user's name."""
    if value.isdecimal():
        return _in_range("uid", value)
    try:
        return pwd.getpwnam(value).pw_uid
    except KeyError:
        raise failure(InvalidArguments, f"uid: there is no user {value!r}") from None


def group_number(value: str) -> int:
    """Return a group's number, given it or the group's name."""
    if value.isdecimal():
        return _in_range("gid", value)
    try:
        return grp.getgrnam(value).gr_gid
    except KeyError:
        raise failure(InvalidArguments, f"gid: there is no group {value!r}") from None


def _in_range(name: str, value: str) -> int:
    number = int(value)
    if number >= (1 << 32) - 1:  # the last one means: none
        raise failure(InvalidArguments, f"{name}: no such number: {value}")
    return number


def umask_of(value: str) -> int:
    """Return the permissions that nobody is to have, given in octal."""
    if not re.fullmatch(r"0?[0-7]{1,3}", value):
        raise failure(InvalidArguments, f"umask must be octal, such as 027, not {value!r}")
    return int(value, 8)


def bytes_of(value: str) -> int:
    """Return a number of bytes, given as ``1048576``, ``512M`` or ``2G``."""
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise failure(InvalidArguments, f"no size: {value!r}; 512M or 2G would be one")
    power = _POWERS[match[2].upper()] if match[2] else 0
    return int(float(match[1]) * (1 << power)) if "." in match[1] else int(match[1]) << power


def token_file_of(value: str) -> str:
    """Return the absolute path of a file that holds a token; it is read once, to see that."""
    read_token(value)  # what is wrong with it is said at once
    return os.path.abspath(value)


def token_command_of(value: str) -> str:
    """Return a command that does not depend on where it is run: a mount's process is in `/`."""
    try:
        program, *rest = shlex.split(value)
    except ValueError as error:
        raise failure(InvalidArguments, f"no command: {error}") from None
    if "/" in program:
        program = os.path.abspath(program)
    return shlex.join([program, *rest])


_VALUES: Mapping[str, tuple[str, Any]] = {
    **{name: (name, _number(name, read)) for name, read in _SERVICE_NUMBERS.items()},
    "uid": ("uid", user_number),
    "gid": ("gid", group_number),
    "umask": ("umask", umask_of),
    "cache_dir": ("cache_dir", os.path.abspath),
    "cache_size": ("cache_size", bytes_of),
    "ca": ("verify", os.path.abspath),
    "cert": ("cert", os.path.abspath),
    "fuse": ("fuse", str),
    "log_file": ("log_file", os.path.abspath),
    "token_file": ("token_file", token_file_of),
    "token_command": ("token_command", token_command_of),
}
