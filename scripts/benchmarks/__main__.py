"""Runs the benchmarks: ``scripts/bench --help``."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.bench import Bench
from benchmarks.cases import CASES
from benchmarks.markdown import write_markdown
from benchmarks.report import show, write_json
from benchmarks.running import run_case


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, metavar="NAME", help="This case only; may be repeated.")
@click.option("--quick", is_flag=True, help="Small sizes, two rounds: shows that all of it runs.")
@click.option("--json", "document", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@click.option(
    "--markdown",
    "page",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    metavar="FILE",
    help="Put the figures into the tables of a page, such as docs/performance.md.",
)
@click.option("--list", "listing", is_flag=True, help="Say which cases there are, and their goals.")
@click.option("--repeats", type=click.IntRange(1), help="Rounds: 5, with --quick 2.")
@click.option("--place", type=click.Path(file_okay=False, exists=True), help="For large files.")
def main(
    only: tuple[str, ...],
    quick: bool,
    document: Path | None,
    page: Path | None,
    listing: bool,
    repeats: int | None,
    place: str | None,
) -> None:
    """Measure flowfs beside what else could be taken: one table of ratios.

    A goal that is missed is told and no failure; one is that flowfs cannot run.
    """
    known = {case.name: case for case in CASES}
    for name in only:
        if name not in known:
            raise click.BadParameter(
                f"no case {name!r}: one of {', '.join(known)}", param_hint="--only"
            )
    chosen = [known[name] for name in dict.fromkeys(only)] or [
        case for case in CASES if listing or not case.only_asked_for
    ]
    if listing:
        for case in chosen:
            click.echo(f"{case.name:14} {case.title}: {case.goal}")
        return
    # The servers are on this machine, and nothing of the user's is to be asked.
    for name in [name for name in os.environ if name.startswith(("FLOWSERV_", "FSSPEC_"))]:
        del os.environ[name]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    with tempfile.TemporaryDirectory(prefix="flowfs-bench-", dir=place) as directory:
        bench = Bench(Path(directory), quick, repeats or (2 if quick else 5))
        outcomes = []
        for case in chosen:
            click.echo(f"== {case.name}: {case.title}", err=True)
            outcomes.append(run_case(case, bench, lambda line: click.echo(line, err=True)))
        if document is not None:
            write_json(document, outcomes, bench)
        if page is not None:
            write_markdown(page, outcomes, bench)
        show(outcomes)
    broken = [
        name
        for outcome in outcomes
        for one in outcome.outcomes
        for name in one.failed
        if name.startswith("flowfs")
    ]
    sys.exit(1 if broken or any(outcome.failed for outcome in outcomes) else 0)


if __name__ == "__main__":
    main()
