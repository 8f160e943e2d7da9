"""The lines of the documentation that install flowfs, run as they stand.

    python tests/installing.py SDIST

unpacks the sdist and goes by the tutorial there, from a new environment to a service that has
started; then, in another environment, by the page of the embedded service and the README. It
takes a minute and needs the package index; `scripts/package`, which continuous integration runs,
starts it. `git clone …` is not run, since a checkout is what this is in: the unpacked sources
take its place, as the page says that they may.

What the lines do beside installing, `tests/test_docs_installing.py` tries.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from blocks import Block, Command, commands_of, taken

__all__ = ["is_for_here", "of_the_embedded_service", "of_the_readme", "of_the_tutorial"]

_STARTED = "Ctrl-C ends the service."


def _typed(blocks: list[Block]) -> list[Command]:
    """Return the commands, without the remarks behind them."""
    commands = [command for block in blocks for command in commands_of(block)]
    return [one._replace(text=one.text.partition("  #")[0].strip()) for one in commands]


def of_the_readme() -> list[Command]:
    """Return the commands of the README's section."""
    return _typed(taken("README.md", "console", "Install"))


def of_the_tutorial() -> list[Command]:
    """Return the commands at the tutorial's beginning."""
    return _typed(taken("docs/tutorial.md", "console", "Install, and have a service"))


def of_the_embedded_service() -> list[Command]:
    """Return the commands of the page of the embedded service."""
    return _typed(taken("docs/embedded-service.md", "console", "The embedded service"))


def is_for_here(line: str) -> bool:
    """Tell whether a line is one that this program runs, or replaces by unpacking."""
    return line.startswith(("git clone ", "python3 -m venv ", "pip install "))


def run(script: str, directory: Path, variables: dict[str, str]) -> None:
    """Run a script of bash that must succeed."""
    subprocess.run(
        ["bash", "-c", f"set -eo pipefail\n{script}"],
        cwd=directory,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        check=True,
    )


def run_until_it_serves(script: str, directory: Path, variables: dict[str, str]) -> None:
    """Run a script that ends with a service; end that by Ctrl-C once it says that it is there."""
    process = subprocess.Popen(
        ["bash", "-c", f"set -eo pipefail\n{script}"],
        cwd=directory,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_as_at_a_terminal,
    )
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith(_STARTED):
                break
        else:
            raise AssertionError("".join(said))
        os.killpg(process.pid, signal.SIGINT)
        status = process.wait(60)
        assert status == 0, f"the service has ended with {status}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _as_at_a_terminal() -> None:
    # A shell that starts something in the background has it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def say(what: str) -> None:
    """Tell how far it is."""
    sys.stdout.write(f"== {what}\n")
    sys.stdout.flush()


def main() -> None:
    """Go by the pages."""
    with tempfile.TemporaryDirectory(prefix="flowfs-installing-") as place:
        home = Path(place)
        with tarfile.open(sys.argv[1]) as sdist:
            sdist.extractall(home)
        (sources,) = home.iterdir()
        # `python3` is the one that runs this, or that it has been made with.
        python = os.path.realpath(sys.executable)
        programs = home / "bin"
        programs.mkdir()
        (programs / "python3").write_text(f'#!/bin/sh\nexec "{python}" "$@"\n')
        (programs / "python3").chmod(0o755)
        path = os.pathsep.join([str(programs), os.environ["PATH"]])
        variables = {"HOME": str(home), "PATH": path}

        clone, *typed = [command.text for command in of_the_tutorial()]
        assert clone.startswith("git clone … "), clone
        assert clone.endswith(" && cd flowfs"), clone
        assert typed[-1] == "flowfs serve", typed
        assert all(map(is_for_here, typed[:-1])), typed
        run_until_it_serves("\n".join(typed), sources, variables)
        say("tutorial: installed, and a service has started")

        run("python3 -m venv ~/flow", sources, variables)  # as the README says below its lines
        active = "source ~/flow/bin/activate\n"
        pages = (of_the_embedded_service(), of_the_readme())
        first, second = (
            "\n".join(command.text for command in page if is_for_here(command.text))
            for page in pages
        )
        run_until_it_serves(f"{active}{first}\nflowfs serve", sources, variables)
        say("embedded service: installed, and it has started")
        run(f"{active}{second}", sources, variables)
        tried = "import dask.dataframe, flowfs, fsspec, mfusepy, pandas; import importlib.util as u"
        found = "assert u.find_spec('fuse'); fsspec.get_filesystem_class('flow')"
        run(f'{active}flowfs --version\npython -c "{tried}; {found}"\npip check', home, variables)
        say("README: installed")


if __name__ == "__main__":
    main()
