"""Runs what the documentation shows: scripts as they stand, and sessions at a terminal.

A session is a ``console`` block. Its commands are run one after the other, by one shell on a
terminal, and none may fail. Where lines follow a command, these are what it must print:

- A sample that the test names, such as the address of a service that nobody has, stands for what
  it is here, in commands and in lines alike, and must be that.
- The sample of a process id (4711) stands for any number, that of a time (2025-06-02 09:14:03)
  for any time.
- ``…`` stands for anything within a line; two blanks or more for any number of them, since columns
  are as wide as what is in them.
- Colours, and blank lines at the end, do not count. All else is what it is.

Where no line follows a command, the page says nothing of what it prints, and it may print
anything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from blocks import Block, commands_of
from mounting import Address, command_environment
from terminal import Terminal

from flowfs.embedded import EmbeddedService

__all__ = ["environment", "play", "replaced", "run_script", "unlike"]

_FORMS = {
    "4711": r"\d+",
    "2025-06-02 09:14:03": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
}
_BETWEEN = "\x1e"  # before each command, in what the terminal shows
_COLUMNS = 160
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def environment(service: EmbeddedService | Address | None, **more: str) -> dict[str, str]:
    """Return what ``flowfs serve`` prints to be pasted, and where the command itself is."""
    programs = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    return command_environment(service, **{"PATH": programs, **more})


def run_script(
    command: Sequence[str], script: str, directory: Path, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a script to its end; its output is shown if the test fails."""
    path = directory / "script"
    path.write_text(script)
    done = subprocess.run(
        [*command, str(path)],
        cwd=directory,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    sys.stdout.write(done.stdout)
    return done


def replaced(text: str, samples: Mapping[str, str]) -> str:
    """Return a text with what its samples stand for here."""
    if not samples:
        return text
    return re.sub(_any_of(samples), lambda found: samples[found[0]], text)


def unlike(shown: Sequence[str], printed: Sequence[str], samples: Mapping[str, str]) -> str | None:
    """Return how what was printed differs from what is shown; None if it does not.

    Parameters
    ----------
    shown : sequence of str
        The lines of the page.
    printed : sequence of str
        The lines that came.
    samples : mapping of str to str
        What samples stand for.
    """
    for number, line in enumerate(shown):
        if number >= len(printed):
            return f"not printed: {line!r}"
        if not re.fullmatch(_pattern(line, samples), printed[number]):
            return f"{line!r} is {printed[number]!r}"
    if len(printed) > len(shown):
        return f"not shown: {printed[len(shown)]!r}"
    return None


def play(
    blocks: Sequence[Block],
    service: EmbeddedService | Address,
    directory: Path,
    *,
    samples: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    before: str = "",
    meanwhile: str = "",
    among_others: bool = False,
) -> list[str]:
    """Run sessions, one after the other, and compare what they print with what they show.

    Parameters
    ----------
    blocks : sequence of Block
        The blocks, in ``console``.
    service : EmbeddedService or Address
        What the environment names.
    directory : Path
        Where they are run, and the home directory; not on a mount.
    samples : mapping of str to str, optional
        What samples stand for here.
    variables : mapping of str to str, optional
        Further variables of the environment.
    before : str
        What is run first.
    meanwhile : str
        What is run between two commands, such as what waits for as long as a reader does.
    among_others : bool
        Whether other lines may come between those that are shown, as of mounts of others.

    Returns
    -------
    list of str
        What each command has printed.
    """
    samples = samples or {}
    commands = [command for block in blocks for command in commands_of(block)]
    lines = ["exec </dev/null", f"stty cols {_COLUMNS} <&1", "set -eo pipefail", before]
    for number, command in enumerate(commands):
        if number and meanwhile:
            lines.append(f"{{ {meanwhile}\n}} >/dev/null")
        lines += [f"printf '\\x1e'; {replaced(command.text, samples)}"]
    script = directory / "session"
    script.write_text("\n".join(lines) + "\n")
    told = environment(service, HOME=str(directory), NO_COLOR="1", TERM="dumb", LC_ALL="C.UTF-8")
    with Terminal(
        ["bash", str(script)], directory, directory, {**told, **(variables or {})}
    ) as shell:
        status = shell.ended()
        screen = _COLOURS.sub("", shell.screen.replace("\r\n", "\n"))
    _, *outputs = screen.split(_BETWEEN)
    assert status == 0, f"ended with {status}: {screen}"
    assert len(outputs) == len(commands), screen
    for command, output in zip(commands, outputs, strict=True):
        printed = output.expandtabs().rstrip().splitlines()
        if among_others:
            patterns = [_pattern(line, samples) for line in command.shown]
            printed = [line for line in printed if any(re.fullmatch(p, line) for p in patterns)]
        wrong = unlike(command.shown, printed, samples) if command.shown else None
        assert wrong is None, f"$ {command.text}\n{wrong}\nof all that was printed:\n{output}"
    return outputs


def _any_of(samples: Mapping[str, str]) -> str:
    longest_first = sorted(samples, key=len, reverse=True)
    return rf"(?<![\w$])(?:{'|'.join(map(re.escape, longest_first))})(?!\w)"


def _pattern(line: str, samples: Mapping[str, str]) -> str:
    forms = {**_FORMS, **{sample: re.escape(real) for sample, real in samples.items()}}
    parts = []
    at = 0
    for found in re.finditer(rf"{_any_of(forms)}|…|  +", line.rstrip()):
        parts.append(re.escape(line[at : found.start()]))
        parts.append(forms.get(found[0]) or (".*" if found[0] == "…" else " +"))
        at = found.end()
    return "".join(parts) + re.escape(line.rstrip()[at:]) + " *"
