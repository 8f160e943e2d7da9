"""``flowfs mount`` and ``flowfs umount``."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import click

from flowfs.errors import InvalidArguments, failure


@click.command(short_help="Mount a service as a directory.")
@click.argument("arguments", metavar="[URL] DIR", nargs=-1, required=True)
@click.option("--timeout", type=float, help="Seconds for a call, or without progress.")
@click.option("--retries", type=int, help="How often a request that changes nothing is repeated.")
@click.option("--ttl", type=float, help="Seconds for which listings and active runs are kept.")
@click.option("--max-connections", type=int, help="Connections to the service.")
@click.option("--read-only", is_flag=True, help="Refuse every change.")
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
    "--fuse",
    type=click.Choice(["auto", "fusepy", "mfusepy"]),
    default="auto",
    show_default=True,
    help="Python binding to use.",
)
@click.option("--allow-other", is_flag=True, help="Let other users of this machine look.")
@click.option("-o", "more", multiple=True, metavar="OPT[,OPT…]", help="Options for FUSE.")
@click.option("-f", "--foreground", is_flag=True, help="Accepted; it always is.")
@click.pass_context
def mount(
    ctx: click.Context,
    /,
    arguments: tuple[str, ...],
    ca: str | None,
    read_only: bool,
    fuse: str,
    allow_other: bool,
    more: tuple[str, ...],
    foreground: bool,
    **settings: Any,
) -> None:
    """Mount the service at URL on the empty directory DIR, until it is unmounted or Ctrl-C.

    URL is a flow:// URL of the service or of a part of its tree, or the http(s) address of
    its API root; without it, the service that the environment or the one login names. The
    token is taken from FLOWSERV_ACCESS_TOKEN or from `flowfs login`, never from here.
    """
    from flowfs.filesystem import FlowFileSystem
    from flowfs.fuse import mount as serve

    if len(arguments) > 2:
        raise click.UsageError(f"one URL and one directory: {' '.join(arguments)}")
    directory, url = arguments[-1], arguments[0] if len(arguments) == 2 else ""
    given = {name: value for name, value in settings.items() if value is not None}
    if ca is not None:
        given["verify"] = ca
    _log_to_stderr(bool(ctx.obj and ctx.obj.get("debug")))
    try:
        if url.lower().startswith(("http://", "https://")):
            given["endpoint"], url = url, ""
        given.update(FlowFileSystem._get_kwargs_from_urls(url))
        fs = FlowFileSystem(read_only=read_only, **given)
        path = fs._strip_protocol(url)
    except ValueError as error:
        if isinstance(error, OSError):
            raise
        raise failure(InvalidArguments, str(error)) from None
    shown = fs.unstrip_protocol(path)

    def ready() -> None:
        print(
            f"mounted {shown} on {directory}; end with Ctrl-C or: flowfs umount {directory}",
            file=sys.stderr,
            flush=True,
        )

    serve(
        fs,
        path,
        directory,
        fuse=fuse,
        allow_other=allow_other,
        options=_fuse_options(more),
        ready=ready,
    )


@click.command(short_help="End a mount.")
@click.argument("directory", metavar="DIR")
@click.option("--lazy", is_flag=True, help="Out of sight now, ended when nobody uses it.")
def umount(directory: str, lazy: bool) -> None:
    """End the mount on DIR. One whose process has died is cleared away."""
    from flowfs.fuse import unmount

    unmount(directory, lazy=lazy)


def _fuse_options(more: tuple[str, ...]) -> dict[str, str | bool]:
    options: dict[str, str | bool] = {}
    for one in ",".join(more).split(","):
        name, equals, value = one.strip().partition("=")
        if name:
            options[name] = value if equals else True
    return options


def _log_to_stderr(debug: bool) -> None:
    debug = debug or bool(os.environ.get("FLOWFS_DEBUG"))
    logging.basicConfig(stream=sys.stderr, format="flowfs: %(message)s", level=logging.WARNING)
    logging.getLogger("flowfs").setLevel(logging.DEBUG if debug else logging.WARNING)
