"""``flowfs cp``: files from a service to this machine, from here to there, from there to there."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from flowfs.cli import completing
from flowfs.cli.access import Access, json_option, service_options
from flowfs.cli.cat import bytes_out, copy_to
from flowfs.cli.copies import Copy, End, Planning, check_targets
from flowfs.cli.copying import carry_out
from flowfs.cli.ending import Several, tidy_up_at_signals
from flowfs.cli.naming import Place, expand, find_place, is_remote
from flowfs.cli.output import documents, say
from flowfs.errors import NotFound, failure, printable


@click.command(short_help="Copy files from a service, and to it.")
@click.argument(
    "names",
    metavar="SOURCE... TARGET",
    nargs=-1,
    required=True,
    shell_complete=completing.copies,
)
@click.option("-r", "-R", "--recursive", is_flag=True, help="Directories, with what is in them.")
@click.option("-n", "--no-clobber", is_flag=True, help="Leave alone what is there already.")
@click.option("-p", "--preserve", is_flag=True, help="Keep the times of what is fetched.")
@click.option("-v", "--verbose", is_flag=True, help="Say what was copied.")
@json_option
@service_options
def cp(
    access: Access,
    names: tuple[str, ...],
    recursive: bool,
    no_clobber: bool,
    preserve: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Copy each SOURCE to TARGET, or into it if it is a directory, by the rules of cp.

    \b
      flowfs cp groups/analysis/latest/outputs/results/chart.png .
      flowfs cp -r groups/analysis/latest/outputs results
      flowfs cp days.csv groups/analysis/uploads/
      flowfs cp args.json groups/analysis/runs/new

    Here a place begins with groups/, workflows/ or is a URL; everything else is a file of this
    machine, and - is stdin or stdout. Files are put into uploads/; one that goes to `new` starts
    a run, which is named. A file has its name only once it is whole: what breaks off leaves
    nothing behind. One request for each file, several at once.
    """
    if len(names) < 2:
        raise click.UsageError("a source and a target are needed: flowfs cp SOURCE... TARGET")
    if as_json and names[-1] == "-":
        raise click.UsageError("with --json nothing else is printed: give a target, not -")
    tidy_up_at_signals(click.get_current_context())
    several = Several()
    with documents(as_json) as told:
        for copy in _copied(access, names, several, recursive, no_clobber, preserve):
            told.append(copy.told)
            if as_json:
                continue
            if "run" in copy.told:
                say(f"{copy.told['state']} {printable(copy.told['run'])}")
            elif verbose:
                say(f"{printable(copy.told['from'])} -> {printable(copy.told['to'])}")
        several.end()


def _copied(
    access: Access,
    names: Sequence[str],
    several: Several,
    recursive: bool,
    no_clobber: bool,
    preserve: bool,
) -> Sequence[Copy]:
    """Copy, and return what was copied."""
    *given, target = names
    sources: list[End] = []
    for name in given:
        with several.one():
            sources += expand(access, [name]) if is_remote(name) else [_local(name)]
    several.end()  # for fewer of them the target might mean something else
    if not is_remote(target) and not any(isinstance(source, Place) for source in sources):
        raise click.UsageError(
            "neither is on a service: a place there begins with groups/ or workflows/, as "
            "groups/GROUP/uploads/; for files of this machine there is cp"
        )
    if target == "-":
        _to_stdout(sources, several)
        return []
    planning = Planning(several, recursive)
    if is_remote(target):
        copies = planning.to_service(sources, find_place(access, target))
    else:
        copies = planning.from_service(sources, target)
    check_targets(copies)
    if no_clobber:
        copies = [copy for copy in copies if not copy.is_there]
    return carry_out(copies, several, preserve)


def _local(name: str) -> str:
    if name != "-" and not os.path.lexists(name):
        raise failure(NotFound, "no such file here; a place on a service begins with groups/", name)
    return name


def _to_stdout(sources: list[End], several: Several) -> None:
    out = bytes_out()
    for source in sources:
        with several.one():
            if not isinstance(source, Place):
                raise click.UsageError(f"{source} is on no service: there is cat for it")
            copy_to(source, out)
    out.flush()
    several.end()
