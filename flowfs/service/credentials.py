"""Which token goes to which service: given, printed by a command, from the environment or a login.

A token is for the origin (scheme, host, port) it was given for and goes nowhere else. One that
has expired is asked for again where it came from.
"""

from __future__ import annotations

import functools
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowfs.errors import AccessDenied, NotFound, failure
from flowfs.service.descriptor import origin_of
from flowfs.service.endpoint import endpoint_from_environment, normalize_endpoint
from flowfs.tokens.environment import TOKEN, variable
from flowfs.tokens.secret import Secret
from flowfs.tokens.sources import TokenCommand, read_token

__all__ = ["Credentials", "find_credentials", "forget_login", "save_login", "saved_logins"]


# Blanks around it would be an error of requests that quotes the token.
_TOKEN = re.compile(r"[!-~]([ -~]*[!-~])?")


@dataclass(frozen=True)
class Credentials:
    """A token, where it came from, and what to say when it is refused.

    Attributes
    ----------
    token : str or None
        The access token; in no repr.
    source : str
        Where it came from, for messages: ``"the option token"``.
    advice : str
        What to do where there is none, or it is refused.
    again : callable, optional
        Asks the source once more, for so many seconds at most; returns a token, or None. Not
        compared.
    """

    token: str | None = field(default=None, repr=False)
    source: str = "nowhere"
    advice: str = ""
    again: Callable[[float], str | None] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.token is None:
            return
        if not _TOKEN.fullmatch(self.token):
            raise ValueError(
                f"the token from {self.source} is no access token: "
                "it is empty, or holds characters that no HTTP header can carry"
            )
        object.__setattr__(self, "token", Secret(self.token))

    def renewed(self, seconds: float) -> Credentials | None:
        """Ask the source again; return what it has now, or None if that is nothing new in time.

        Nor is it where the source cannot be asked: what the service said of the old token is
        what somebody wants to know.
        """
        if self.again is None:
            return None
        try:
            token = self.again(seconds)
            if not token or token == self.token:
                return None
            return Credentials(token, self.source, self.advice, self.again)
        except (OSError, ValueError):
            return None

    def hint(self) -> str:
        """Return what to tell a user whose request was refused for want of rights."""
        if self.token is None:
            return (
                f"no access token was sent; {self.advice}" if self.advice else "no token was sent"
            )
        return (
            f"the token from {self.source} was sent; if it has expired, {self.advice or 'log in'}; "
            "if it is good, a proxy may drop the header api_key: nginx needs "
            "'underscores_in_headers on'"
        )


def find_credentials(
    endpoint: str,
    token: str | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    token_file: str | os.PathLike[str] | None = None,
    token_command: str | Sequence[str] | None = None,
    trust_environment: bool = False,
) -> Credentials:
    """Find the token for an endpoint.

    Parameters
    ----------
    endpoint : str
        Normalized endpoint.
    token : str, optional
        What the caller gave; it wins.
    environ : mapping, optional
        Instead of :data:`os.environ`. ``FLOWSERV_ACCESS_TOKEN`` counts only for the origin
        that the environment names.
    token_file : str or path-like, optional
        A file that holds the token and nothing else, and that only its owner may read.
    token_command : str or sequence of str, optional
        A command that prints the token, as words or as a shell would read them; no shell runs
        it. Where a token is given too, that comes first, and these are asked for a new one
        when it has expired.
    trust_environment : bool
        Take ``FLOWSERV_ACCESS_TOKEN`` for this endpoint whatever address the environment
        names: for a caller who chose the address.

    Returns
    -------
    Credentials
        Its token is None where none is known; its hint says what to do then.

    Raises
    ------
    AccessDenied
        If the file of logins, or the one of the token, can be read by others; or the command
        fails.
    ValueError
        If the token cannot be sent at all, or there are a file and a command for it.

    Notes
    -----
    Costs no request.
    """
    given = environ
    environ = os.environ if environ is None else environ
    login = f"log in with 'flowfs login {endpoint}'"
    again: Callable[[float], str | None] | None = None
    first: Callable[[], str] | None = None
    if token_file is not None and token_command is not None:
        raise ValueError("the token comes from token_file or from token_command: give one")
    if token_file is not None:
        file = os.path.abspath(os.path.expanduser(os.fspath(token_file)))
        source, advice = f"the file {file}", "put a new one there"
        first = functools.partial(read_token, file)

        def again(seconds: float) -> str | None:
            return read_token(file)

    elif token_command is not None:
        command = TokenCommand(token_command)
        source, advice = f"the command {command.name!r}", "see why it prints no new one"
        first = again = command.read
    if token:
        return Credentials(str(token), "the option token", login, again)
    if first is not None:
        return Credentials(first(), source, advice, again)
    advice = f"{login}, or in Python pass token="
    from_environment = variable(TOKEN, given)
    if from_environment:
        named = endpoint if trust_environment else endpoint_from_environment(environ)
        if origin_of(named) == origin_of(endpoint):
            place = _place_in(environ)

            def variable_now(seconds: float) -> str | None:
                # With another address there, its token is for that one.
                return variable(TOKEN, given) if _place_in(environ) == place else None

            return Credentials(from_environment, TOKEN, login, variable_now)
        advice = (
            f"FLOWSERV_ACCESS_TOKEN is for {named}, so it was kept back; set "
            f"FLOWSERV_API_PROTOCOL, FLOWSERV_API_HOST and FLOWSERV_API_PORT to name {endpoint}, "
            f"or {login}"
        )

    def login_saved(seconds: float) -> str | None:
        return saved_logins(given).get(endpoint)

    saved = saved_logins(given).get(endpoint)
    if saved:
        source = f"the login saved in {login_file(environ)}"
        return Credentials(saved, source, login, login_saved)
    return Credentials(None, "nowhere", advice, login_saved)


def _place_in(environ: Mapping[str, str]) -> Any:
    """Return the origin that the environment names; None if that is none."""
    try:
        return origin_of(endpoint_from_environment(environ))
    except ValueError:
        return None


def login_file(environ: Mapping[str, str] | None = None) -> Path:
    """Return where logins are kept: ``$XDG_CONFIG_HOME/flowfs/logins.json``.

    Raises
    ------
    NotFound
        If there is no such place, for want of a home directory.
    """
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_CONFIG_HOME")
    try:
        root = Path(base) if base else Path.home() / ".config"
    except RuntimeError:  # neither HOME nor a line of /etc/passwd, as in many containers
        raise failure(
            NotFound, "you have no home directory to keep logins in: set HOME or XDG_CONFIG_HOME"
        ) from None
    return root / "flowfs" / "logins.json"


def saved_logins(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Read the tokens that ``flowfs login`` saved.

    Returns
    -------
    dict of str to str
        Token by normalized endpoint; empty if nobody logged in.

    Raises
    ------
    AccessDenied
        If others may read the file, or its owner may not.
    """
    try:
        path = login_file(environ)
    except NotFound:
        return {}
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise failure(
                    AccessDenied,
                    f"others can read the saved logins (mode {mode:04o}): "
                    "run 'chmod 600' on the file, and log in again if it may have been read",
                    path,
                )
            document: Any = json.load(file)
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        if isinstance(error, AccessDenied):
            raise
        raise failure(AccessDenied, "cannot read the saved logins", path) from error
    except (ValueError, RecursionError) as error:
        raise failure(
            AccessDenied,
            f"the saved logins are no JSON ({error}): remove the file and log in",
            path,
        ) from None
    tokens = document.get("tokens", {}) if isinstance(document, Mapping) else {}
    if not isinstance(tokens, Mapping):
        return {}
    if not all(isinstance(token, str) for token in tokens.values()):
        raise failure(
            AccessDenied,
            "the saved logins have a token that is no text: remove the file and log in",
            path,
        )
    return dict(tokens)


def save_login(endpoint: str, token: str, environ: Mapping[str, str] | None = None) -> Path:
    """Keep a token for an endpoint, in a file that only its owner can read.

    Returns
    -------
    pathlib.Path
        The file.
    """
    tokens = saved_logins(environ)
    tokens[normalize_endpoint(endpoint)] = token
    return _write(tokens, environ)


def forget_login(endpoint: str, environ: Mapping[str, str] | None = None) -> str | None:
    """Drop the token kept for an endpoint and return it; None if there was none."""
    tokens = saved_logins(environ)
    token = tokens.pop(normalize_endpoint(endpoint), None)
    if token is not None:
        _write(tokens, environ)
    return token


def _write(tokens: Mapping[str, str], environ: Mapping[str, str] | None) -> Path:
    path = login_file(environ)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp makes the file 0600 from its first moment; the rename replaces it whole.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".logins-")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump({"tokens": dict(tokens)}, file, indent=2)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
