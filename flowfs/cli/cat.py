"""``flowfs cat``: files to stdout."""

from __future__ import annotations

from typing import IO, BinaryIO

import click

from flowfs.cli import completing
from flowfs.cli.access import Access, service_options
from flowfs.cli.ending import Several
from flowfs.cli.naming import Place, expand
from flowfs.cli.output import stdout


@click.command(short_help="Print files.")
@click.argument(
    "places", metavar="PLACE...", nargs=-1, required=True, shell_complete=completing.places
)
@service_options
def cat(access: Access, places: tuple[str, ...]) -> None:
    """Print the bytes of each PLACE, one after the other.

    \b
      flowfs cat analysis/latest/outputs/results/summary.csv
      flowfs cat 'analysis/runs/*/outputs/results/*.csv' > all.csv
      flowfs cat analysis/runs.jsonl | jq .state

    They are streamed: one request for each result, and none ahead of who reads them.
    """
    several = Several()
    out = bytes_out()
    for name in places:
        with several.one():
            for place in expand(access, [name]):
                with several.one():
                    copy_to(place, out)
    out.flush()
    several.end()


def bytes_out() -> BinaryIO:
    """Return stdout for bytes; what was written to it as text has gone before."""
    out = stdout()
    out.flush()
    return out.buffer


def copy_to(place: Place, out: IO[bytes]) -> None:
    """Copy the bytes of a file, as they come."""
    place.fs.get_file(place.path, None, outfile=out)
