"""``mount.fuse.flowfs``: what mount(8) calls for ``mount -t fuse.flowfs`` and for fstab."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flowfs.cli.words import line
from flowfs.errors import FlowError, describe

__all__ = ["main", "mount_as_told"]

_USAGE = """\
usage: mount.fuse.flowfs SOURCE DIR [-sfnvh] [-o OPT[,OPT…]] [-t TYPE]

Called by mount(8). SOURCE is a flow:// URL or the http(s) address of an API root; 'none' or
'flowfs' is the service of the one login. In /etc/fstab:

  flow://flow.example.org  /mnt/flow  fuse.flowfs  noauto,user,_netdev,token_file=FILE  0  0
"""

# As mount(8) itself has them.
_WRONG_USE = 1
_FAILED = 32


def main() -> None:
    """Mount as mount(8) says; exit codes are mount's."""
    sys.exit(mount_as_told(sys.argv[1:]))


def mount_as_told(arguments: Sequence[str]) -> int:
    """Mount as mount(8)'s arguments say, in the background; return the exit code."""
    try:
        source, directory, options, only_pretend, verbose = _read(arguments)
    except _Usage as wrong:
        print(str(wrong) or _USAGE, file=sys.stderr if wrong.args else sys.stdout, end="")
        return _WRONG_USE if wrong.args else 0
    try:
        from flowfs.cli.mount import settings_of
        from flowfs.fuse.background import start
        from flowfs.fuse.settings import read_options

        ours, others = read_options(options)
        url = "" if source in ("none", "flowfs") else source
        settings = settings_of(url, directory, ours, others, source=source)
        if only_pretend:
            settings.file_system()
            return 0
        ready = start(settings).ready
    except (FlowError, OSError) as error:
        print(line(f"mount.fuse.flowfs: {describe(error)}"), file=sys.stderr)
        return _FAILED
    for note in ready.notes:
        print(line(f"mount.fuse.flowfs: {note}"), file=sys.stderr)
    if verbose:
        print(line(f"mounted {ready.url} on {ready.directory} (pid {ready.pid})"))
    return 0


class _Usage(Exception):
    """How it is called; without a message: that was asked for."""


def _read(arguments: Sequence[str]) -> tuple[str, str, str, bool, bool]:
    """Return source, directory, options, and whether only to pretend and to be talkative."""
    places: list[str] = []
    options: list[str] = []
    flags = ""
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if not argument.startswith("-") or argument == "-":
            places.append(argument)
            continue
        if argument == "--help":
            raise _Usage
        for index, letter in enumerate(argument[1:], 2):
            if letter == "h":
                raise _Usage
            if letter in "sfnv":
                flags += letter
                continue
            if letter not in "otN":
                raise _Usage(f"mount.fuse.flowfs: no option -{letter}\n{_USAGE}")
            # Its value: the rest of the word, or the next one.
            value = argument[index:] or (left.pop(0) if left else "")
            if letter == "o":
                options.append(value)
            elif letter == "N":
                raise _Usage(f"mount.fuse.flowfs: other namespaces (-N {value}) are not for it\n")
            break
    if len(places) != 2:
        raise _Usage(f"mount.fuse.flowfs: a source and a directory are needed\n{_USAGE}")
    return places[0], places[1], ",".join(options), "f" in flags, "v" in flags
