"""How a command gets at a service: the options that all of them share, and the file system."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flowfs.cli.ending import wants_tracebacks
from flowfs.cli.values import Read
from flowfs.cli.words import line

if TYPE_CHECKING:
    from flowfs.filesystem import FlowFileSystem

__all__ = [
    "Access",
    "debug_option",
    "json_option",
    "service_options",
    "session_options",
    "waiting_options",
]

F = TypeVar("F", bound=Callable[..., Any])

# A command is one look: what it has seen once it need not ask for again.
_TTL = 3600.0  # seconds


@dataclass
class Access:
    """How the services that a command is about are to be talked to.

    Attributes
    ----------
    endpoint : str or None
        As the user gave it; None: the configured one, or what a URL names.
    options : dict
        Of :class:`~flowfs.FlowFileSystem`, those that were given.
    cache : bool
        Whether what never changes is kept on disk, and found there: where `options` say, else
        where mounts keep it.
    """

    endpoint: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    cache: bool = False
    _made: dict[str | None, FlowFileSystem] = field(default_factory=dict, repr=False)

    def file_system(self, service: str | None = None) -> FlowFileSystem:
        """Return the file system of a service. Costs no request; made once for each.

        Parameters
        ----------
        service : str, optional
            As a URL names it (:attr:`flowfs.filesystem.urls.Location.service`); by default
            that of ``--endpoint``, else the configured one.

        Raises
        ------
        click.UsageError
            If the options make no sense, or a URL is of another service than ``--endpoint``.
        FlowError
            If there is no token where one is to be.
        """
        if service not in self._made:
            from flowfs.errors import FlowError
            from flowfs.filesystem import FlowFileSystem

            options = dict(self.options)
            if not self.cache:
                options["cache_dir"] = None  # whatever fsspec is configured to
            elif "cache_dir" not in options:
                from flowfs.filesystem.keeping import usual_place

                options["cache_dir"] = usual_place()
            try:
                self._made[service] = FlowFileSystem(
                    self.endpoint, url_endpoint=service, ttl=_TTL, **options
                )
            except FlowError:
                raise
            except (TypeError, ValueError) as error:
                raise click.UsageError(str(error)) from None
        return self._made[service]

    def flush(self) -> None:
        """Let others find what was learned, now that the command is over."""
        for fs in self._made.values():
            if fs.content.disk is not None:
                with contextlib.suppress(OSError):  # the command itself has succeeded
                    fs.content.disk.flush()


def _debug(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    if value:
        ctx.find_root().ensure_object(dict)["debug"] = True
    return value


#: The option ``--debug`` of each command; of flowfs itself there is one, too.
debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_debug,
    help="Show the traceback of an error.",
)

_TLS = [
    click.option(
        "--ca",
        "verify",
        type=click.Path(exists=True, resolve_path=True),
        help="File of certificate authorities to trust.",
    ),
    click.option(
        "--cert",
        type=click.Path(exists=True, dir_okay=False, resolve_path=True),
        help="Client certificate.",
    ),
]
_OPTIONS = [
    click.option(
        "--endpoint",
        metavar="URL",
        help="The service: http(s) URL of its API root, where no place is a URL.",
    ),
    click.option(
        "--token-file",
        type=click.Path(dir_okay=False),
        help="File that holds the token, and that only you can read.",
    ),
    click.option("--token-command", metavar="COMMAND", help="Command that prints the token."),
    *_TLS,
    click.option(
        "--retries",
        type=int,
        metavar="N",
        help="How often a request that changes nothing is repeated (3).",
    ),
    click.option(
        "--cache-dir",
        type=click.Path(file_okay=False, resolve_path=True),
        help="Where content is kept on disk (~/.cache/flowfs), as for mounts.",
    ),
    click.option(
        "--cache-size", type=Read("size", "bytes_of"), help="How much of it, as 512M or 8G (4G)."
    ),
    click.option("--no-cache", is_flag=True, help="Keep nothing on disk, and use nothing there."),
    debug_option,
]
_OF_FILE_SYSTEM = (
    *("token_file", "token_command", "verify", "cert", "timeout", "retries"),
    *("cache_dir", "cache_size"),
)
_BEHIND_TIMEOUT = 5  # options


def service_options(command: F) -> F:
    """Give a command the options that tell how to get at the service.

    It is called with them as one argument, ``access``.
    """
    return _with_options(command, "--timeout")


def waiting_options(command: F) -> F:
    """Give a command these options; ``--timeout`` is its own, a call's is ``--call-timeout``."""
    return _with_options(command, "--call-timeout")


def _with_options(command: F, timeout: str) -> F:
    @functools.wraps(command)
    def call(*args: Any, **given: Any) -> Any:
        options = {name: given.pop(name) for name in _OF_FILE_SYSTEM if name != "timeout"}
        options["timeout"] = given.pop("call_timeout")
        given_options = {name: value for name, value in options.items() if value is not None}
        no_cache = given.pop("no_cache")
        if no_cache and "cache_dir" in given_options:
            raise click.UsageError("--no-cache, and --cache-dir to keep things in: give one")
        access = Access(given.pop("endpoint"), given_options, not no_cache)
        _tell_of_cache("cache_dir" in given_options)
        click.get_current_context().call_on_close(access.flush)
        return command(*args, access=access, **given)

    made: Any = call
    before, behind = _OPTIONS[:-_BEHIND_TIMEOUT], _OPTIONS[-_BEHIND_TIMEOUT:]
    for option in reversed([*before, _bound(timeout), *behind]):
        made = option(made)
    return made  # type: ignore[no-any-return]


def _bound(name: str) -> Callable[[F], F]:
    return click.option(
        name,
        "call_timeout",
        type=float,
        metavar="SECONDS",
        help="For a call, or without progress (30).",
    )


def session_options(command: F) -> F:
    """Give a command the options of a connection alone.

    It is called with them as one argument, ``connecting``: of
    :class:`~flowfs.service.session.Session`.
    """

    @functools.wraps(command)
    def call(*args: Any, **given: Any) -> Any:
        options = {name: given.pop(name) for name in ("verify", "cert")}
        options["timeout"] = seconds = given.pop("call_timeout")
        if seconds is not None and not 0 < seconds < float("inf"):
            raise click.UsageError(f"timeout must be a finite number above 0, not {seconds}")
        connecting = {name: value for name, value in options.items() if value is not None}
        return command(*args, connecting=connecting, **given)

    made: Any = call
    for option in reversed([*_TLS, _bound("--timeout")]):
        made = option(made)
    return made  # type: ignore[no-any-return]


class _OfCache(logging.Handler):
    """Says on stderr what the cache has to say."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(line(f"flowfs: {record.getMessage()}"), err=True)


_silent = logging.NullHandler()
_telling = _OfCache()


def _tell_of_cache(named: bool) -> None:
    """Have what goes wrong with the cache told to whoever named one, or is after faults.

    Others have all that they asked for without it.
    """
    logger = logging.getLogger("flowfs.disk")
    logger.removeHandler(_telling)
    logger.addHandler(_silent)  # Python would print what nobody handles
    if named or wants_tracebacks(click.get_current_context()):
        logger.addHandler(_telling)


#: The option ``--json``, an argument ``as_json``.
json_option = click.option("--json", "as_json", is_flag=True, help="Say it as JSON.")
