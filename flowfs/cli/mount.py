"""``flowfs mount`` and ``flowfs umount``."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Any, TextIO

import click

from flowfs.cli.access import debug_option
from flowfs.cli.values import Read
from flowfs.errors import InvalidArguments, describe, printable

if TYPE_CHECKING:
    from flowfs.fuse.ready import Ready
    from flowfs.fuse.settings import Settings


@click.command(short_help="Mount a service as a directory.")
@click.argument("arguments", metavar="[URL] DIR", nargs=-1)
@click.option("-f", "--foreground", is_flag=True, help="Serve it here, until Ctrl-C.")
@click.option("-l", "--list", "listing", is_flag=True, help="List what is mounted.")
@click.option("--json", "as_json", is_flag=True, help="Say it as JSON.")
@click.option("--read-only", is_flag=True, help="Refuse every change.")
@click.option("--allow-other", is_flag=True, help="Let other users of this machine look.")
@click.option("--uid", type=Read("user", "user_number"), help="Whom the files belong to.")
@click.option("--gid", type=Read("group", "group_number"), help="Their group.")
@click.option(
    "--umask", type=Read("octal", "umask_of"), help="Permissions that nobody has, as 027."
)
@click.option(
    "--token-file",
    type=Read("file", "token_file_of"),
    help="File that holds the token, and that only you can read.",
)
@click.option(
    "--token-command",
    type=Read("command", "token_command_of"),
    help="Command that prints the token.",
)
@click.option("--token-stdin", is_flag=True, help="Read the token from stdin.")
@click.option(
    "--timeout", type=float, metavar="SECONDS", help="For a call, or without progress (30)."
)
@click.option(
    "--retries",
    type=int,
    metavar="N",
    help="How often a request that changes nothing is repeated (3).",
)
@click.option(
    "--ttl",
    type=float,
    metavar="SECONDS",
    help="For which listings and active runs are kept (2).",
)
@click.option("--max-connections", type=int, metavar="N", help="Connections to the service (16).")
@click.option(
    "--cache-dir",
    type=click.Path(file_okay=False, resolve_path=True),
    help="Where content is kept on disk (~/.cache/flowfs).",
)
@click.option(
    "--cache-size", type=Read("size", "bytes_of"), help="How much of it, as 512M or 8G (4G)."
)
@click.option("--no-cache", is_flag=True, help="Keep nothing on disk beyond this mount.")
@click.option(
    "--no-archives", is_flag=True, help="Ask for each small file by itself, however many there are."
)
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=True, resolve_path=True),
    help="File of certificate authorities to trust (verify).",
)
@click.option(
    "--cert",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True),
    help="Client certificate.",
)
@click.option(
    "--log-file",
    type=click.Path(dir_okay=False, resolve_path=True),
    help="Log to this file.",
)
@click.option("--syslog", is_flag=True, help="Log to syslog: the default in the background.")
@click.option("--debug", is_flag=True, help="Log requests, and every error of an operation.")
@click.option(
    "--fuse",
    type=click.Choice(["auto", "fusepy", "mfusepy"]),
    help="Python binding to use (auto).",
)
@click.option("-o", "more", multiple=True, metavar="OPT[,OPT…]", help="Options as in fstab.")
@click.pass_context
def mount(
    ctx: click.Context,
    /,
    arguments: tuple[str, ...],
    foreground: bool,
    listing: bool,
    as_json: bool,
    more: tuple[str, ...],
    token_stdin: bool,
    **given: Any,
) -> None:
    """Mount the service at URL on the empty directory DIR.

    Returns once the mount answers; it goes on in the background, until `flowfs umount DIR`.

    URL is a flow:// URL of the service or of a part of its tree, or the http(s) address of
    its API root; without it, the service that the environment or the one login names. The
    token is taken from FLOWSERV_ACCESS_TOKEN or from `flowfs login`, unless a file, a command
    or stdin has it; never from an argument, which everybody could read. Where it has expired,
    whoever it came from is asked once more.
    """
    if listing:
        from flowfs.cli.mounts import show_mounts

        if arguments:
            raise click.UsageError("--list lists all mounts, and mounts nothing")
        show_mounts(as_json)
        return
    if not arguments:
        raise click.UsageError("where? A directory is needed: flowfs mount [URL] DIR")
    if len(arguments) > 2:
        raise click.UsageError(f"one URL at most, and one directory, not: {' '.join(arguments)}")
    if "://" in arguments[-1] and not os.path.isdir(arguments[-1]):
        raise click.UsageError(f"the directory comes last, and that is a URL: {arguments[-1]}")
    try:
        _mount(ctx, arguments, foreground, as_json, more, token_stdin, given)
    except InvalidArguments as error:
        raise click.UsageError(describe(error)) from None


def _mount(
    ctx: click.Context,
    arguments: tuple[str, ...],
    foreground: bool,
    as_json: bool,
    more: tuple[str, ...],
    token_stdin: bool,
    given: dict[str, Any],
) -> None:
    """Mount what the options say.

    Raises
    ------
    InvalidArguments
        If they make no sense.
    """
    from flowfs.fuse.settings import read_options

    ours, others = read_options(",".join(more))
    # Not what is 0: that is something else than nothing said.
    said = {name: v for name, v in given.items() if v is not None and v is not False}
    ours.update(said)
    if token_stdin:
        from flowfs.cli.login import secret_from_stdin

        ours["token"] = secret_from_stdin("token")
    sources = [name for name in ("token_file", "token_command", "token") if name in ours]
    if len(sources) > 1:
        raise click.UsageError("one of --token-file, --token-command and --token-stdin")
    ours["verify"] = ours.pop("ca", ours.pop("verify", None))
    if os.environ.get("FLOWFS_DEBUG") or (ctx.obj and ctx.obj.get("debug")):
        ours["debug"] = True
    url = arguments[0] if len(arguments) == 2 else ""
    settings = settings_of(url, arguments[-1], ours, others, foreground=foreground)
    if foreground:
        _serve(settings, arguments[-1], as_json)
        return
    from flowfs.fuse.background import start

    for number in (signal.SIGTERM, signal.SIGHUP):
        # As Ctrl-C does: what was started is not left behind.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    _tell(start(settings).ready, arguments[-1], as_json)


def settings_of(
    url: str,
    directory: str,
    ours: dict[str, Any],
    others: dict[str, str | bool],
    *,
    foreground: bool = False,
    source: str = "",
) -> Settings:
    """Return the settings of a mount, given the options as they were read.

    Parameters
    ----------
    url, directory : str
        What, and where.
    ours : dict
        As :func:`flowfs.fuse.settings.read_options` returns them.
    others : dict
        For FUSE.
    foreground : bool
        Whether it logs to stderr unless it is told otherwise.
    source : str
        For the table of mounts.
    """
    from flowfs.fuse.log import Log
    from flowfs.fuse.settings import Settings

    ours = {name: value for name, value in ours.items() if value is not None}
    log = Log(
        file=ours.pop("log_file", ""),
        syslog=ours.pop("syslog", False),
        debug=ours.pop("debug", False),
        stderr=foreground,
    )
    own: dict[str, Any] = {"cache": not ours.pop("no_cache", False)}
    if ours.pop("no_archives", False):
        ours["archives"] = False
    own |= {
        name: ours.pop(name)
        for name in ("fuse", "allow_other", "uid", "gid", "umask")
        if name in ours
    }
    return Settings(
        directory=os.path.abspath(directory),
        url=url,
        service=ours,
        options=others,
        source=source,
        log=log,
        **own,
    )


def _serve(settings: Settings, directory: str, as_json: bool) -> None:
    from flowfs.fuse.process import serve

    _open_streams()
    serve(
        settings,
        ready=lambda ready: _tell(ready, directory, as_json, " with Ctrl-C or:", stderr=True),
    )


def _tell(
    ready: Ready, directory: str, as_json: bool, how: str = ":", *, stderr: bool = False
) -> None:
    for note in ready.notes:
        _say(f"flowfs: {note}", sys.stderr)
    if as_json:
        told = {"directory": ready.directory, "url": ready.url, "pid": ready.pid, "log": ready.log}
        _say(json.dumps(told), sys.stdout)
        return
    end = f"flowfs umount {shlex.quote(directory)}"
    _say(
        f"mounted {ready.url} on {directory} (pid {ready.pid}); end{how} {end}",
        sys.stderr if stderr else sys.stdout,
    )


def _say(text: str, stream: TextIO | None) -> None:
    """Print a line about what is mounted; where nobody can read it, it is mounted all the same."""
    if stream is None:  # closed by whoever called
        return
    try:
        print(printable(text), file=stream, flush=True)
    except OSError:
        # What is left of it would be written at the end, and fail once more.
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), stream.fileno())


def _open_streams() -> None:
    """Have something in the place of streams that are closed: what is opened next would be there.

    FUSE's own descriptor among them, which then would get what is meant for people.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - until the process ends


@click.command(short_help="End a mount.")
@click.argument("directory", metavar="DIR")
@click.option("--lazy", is_flag=True, help="Out of sight now, ended when nobody uses it.")
@debug_option
def umount(directory: str, lazy: bool) -> None:
    """End the mount on DIR. One whose process has died is cleared away."""
    from flowfs.fuse import unmount

    directory = os.path.abspath(directory)
    os.chdir("/")  # not to be who has it in use
    unmount(directory, lazy=lazy)
