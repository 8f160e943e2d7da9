"""``flowfs serve``: the real service on this machine, for trying things out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from flowfs.embedded.server import Greeting


@click.command(short_help="Run a flowServ service on this machine.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Data directory, new or of an earlier start; without it a temporary one, removed at the"
    " end.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port; 0 (default): a free one."
)
@click.option(
    "--max-upload",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    metavar="MIB",
    help="Largest upload, in MiB.",
)
@click.option("--json", "as_json", is_flag=True, help="Say it in one line of JSON.")
@click.option("--end-with-stdin", is_flag=True, hidden=True)
def serve(
    directory: Path | None, port: int, max_upload: int, as_json: bool, end_with_stdin: bool
) -> None:
    """Run a flowServ service on this machine, with two workflows, until Ctrl-C.

    It listens on 127.0.0.1 only, has one user, and refuses web pages. Whoever may start a
    run may run commands on this machine as you: the arguments of a run become part of shell
    commands. Keep the token to yourself, and do not make the port reachable from elsewhere.
    """
    from flowfs.embedded.server import serve as serve_until_stopped

    def ready(greeting: Greeting, stdout: IO[str]) -> None:
        text = json.dumps(asdict(greeting)) if as_json else _instructions(greeting)
        print(text, file=stdout, flush=True)

    serve_until_stopped(
        directory,
        port=port,
        max_upload=max_upload,
        ready=ready,
        end_with_stdin=end_with_stdin,
    )


def _instructions(greeting: Greeting) -> str:
    address = urlsplit(greeting.endpoint)
    groups = "\n".join(f"  {name:10} groups/{id_}" for name, id_ in greeting.groups.items())
    first = next(iter(greeting.groups.values()))
    return f"""\
Serving {greeting.endpoint}
Data in {greeting.dir}

Whoever has the token may run commands on this machine as you.

In a shell:
  export FLOWSERV_API_PROTOCOL={address.scheme}
  export FLOWSERV_API_HOST={address.hostname}
  export FLOWSERV_API_PORT={address.port}
  export FLOWSERV_API_PATH={address.path}
  export FLOWSERV_ACCESS_TOKEN={greeting.token}

Workflows, each with a group to work in:
{groups}

Then, in Python:
  import fsspec
  fs = fsspec.filesystem("flow")
  fs.ls("groups/{first}/runs")

or as files:
  flowfs mount DIR
  ls DIR/groups/{first}

Ctrl-C ends the service."""
