"""``flowfs open``: a result in the desktop's own viewer."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import click

from flowfs.cli import completing
from flowfs.cli.access import Access, json_option, service_options
from flowfs.cli.ending import Several, tidy_up_at_signals
from flowfs.cli.naming import Place, expand
from flowfs.cli.output import on_terminal, print_json, say
from flowfs.cli.words import line
from flowfs.errors import IsADirectory, failure, printable

_KEPT = 7 * 24 * 3600.0  # seconds for which what was opened stays
_PATIENCE = 5.0  # seconds in which it turns out that there is no viewer


@click.command("open", short_help="Open files in the desktop's viewer.")
@click.argument(
    "places", metavar="PLACE...", nargs=-1, required=True, shell_complete=completing.places
)
@click.option("--no-viewer", is_flag=True, help="Fetch, and say where it is.")
@json_option
@service_options
def open_(access: Access, places: tuple[str, ...], no_viewer: bool, as_json: bool) -> None:
    """Fetch each PLACE and open it in the viewer that the desktop has for files of its name.

    \b
      flowfs open analysis/latest/outputs/results/chart.png

    It is fetched into a directory that only you can read, and stays there for a week; one request
    for each. Where there is no viewer, as on a machine without a desktop, it says where the file
    is, and fails.
    """
    tidy_up_at_signals(click.get_current_context())
    several = Several()
    documents = []
    for name in places:
        with several.one():
            for place in expand(access, [name]):
                with several.one():
                    file = _fetched(place)
                    opened = not no_viewer and _launch(file)
                    documents.append({"url": place.url, "file": str(file), "opened": opened})
                    if not as_json and not opened:
                        say(printable(str(file)))
                    if not (opened or no_viewer):
                        click.echo(
                            line("flowfs: there is no viewer here; the file is where it is said"),
                            err=True,
                        )
                        several.code = several.code or 1
    if as_json:
        print_json(documents)
    several.end()


def _fetched(place: Place) -> Path:
    """Fetch a file to where a viewer can read it, under its own name."""
    if place.fs.isdir(place.path):
        raise failure(IsADirectory, "is a directory: name a file in it", place.url)
    directory = _directory() / sha256(place.url.encode()).hexdigest()[:16]
    directory.mkdir(mode=0o700, exist_ok=True)
    file = directory / place.name
    place.fs.get_file(place.path, str(file))
    os.chmod(file, 0o600)
    return file


def _directory() -> Path:
    """Return where opened files are, a directory for each; what is old is removed."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    directory = Path(caches) / "flowfs" / "opened"
    directory.mkdir(parents=True, exist_ok=True)
    os.chmod(directory, 0o700)
    oldest = time.time() - _KEPT
    for one in directory.iterdir():
        with contextlib.suppress(OSError):
            if one.is_dir() and not one.is_symlink() and one.stat().st_mtime < oldest:
                for file in one.iterdir():
                    file.unlink()
                one.rmdir()
    return directory


def _launch(file: Path) -> bool:
    """Tell whether a viewer was found for a file, and started."""
    if _xdg_open(file) if sys.platform != "darwin" else click.launch(str(file)) == 0:
        return True
    if not os.environ.get("BROWSER"):
        return False
    import webbrowser

    return webbrowser.open(file.as_uri())


def _xdg_open(file: Path) -> bool:
    """Tell whether the desktop has opened a file: it may be there, and have nothing for it."""
    try:
        viewer = subprocess.Popen(
            ["xdg-open", str(file)],
            stdout=None if on_terminal() else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return False
    try:
        return viewer.wait(_PATIENCE) == 0
    except subprocess.TimeoutExpired:  # it is the viewer now
        return True
