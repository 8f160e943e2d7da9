"""``flowfs tree``: what is below a place, at a glance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from flowfs.cli import completing
from flowfs.cli.access import Access, json_option, service_options
from flowfs.cli.ending import Several
from flowfs.cli.entry import document, name_cell
from flowfs.cli.naming import Place, expand
from flowfs.cli.output import human_size, in_color, print_json, say, state_style, style
from flowfs.errors import NotFound, printable

Entry = dict[str, Any]

_LEVELS = 2


@click.command(short_help="Show what is below a place, as a tree.")
@click.argument("places", metavar="[PLACE]...", nargs=-1, shell_complete=completing.places)
@click.option(
    "-L",
    "--levels",
    type=click.IntRange(min=1),
    default=_LEVELS,
    show_default=True,
    help="How far down.",
)
@click.option("-d", "--directories", is_flag=True, help="Directories only.")
@json_option
@service_options
def tree(
    access: Access, places: tuple[str, ...], levels: int, directories: bool, as_json: bool
) -> None:
    """Show what is below each PLACE, as a tree; of the root, unless one is named.

    \b
      flowfs tree analysis             a group: its files, uploads, and runs with their states
      flowfs tree -L 4 analysis/runs   and the results of all runs

    One request for each directory that is entered, as each run is on the third level of a
    group. Nothing is shown twice: links and views are not entered, and of a run's results
    their names in outputs/ are shown. Sizes are shown as far as they are known; none is asked.
    """
    several = Several()
    documents = []
    for number, name in enumerate(places or ("/",)):
        with several.one():
            for place in expand(access, [name]):
                drawing = _Drawing(place, levels, directories, several)
                if as_json:
                    documents.append(drawing.document())
                else:
                    drawing.print(first=number == 0)
    if as_json:
        print_json(documents[0] if len(documents) == 1 >= len(places) else documents)
    several.end()


class _Drawing:
    """The tree below a place.

    Parameters
    ----------
    place : Place
        Where it begins.
    levels : int
        How far down.
    directories : bool
        Whether to leave out files.
    several : Several
        Told what fails.
    """

    def __init__(self, place: Place, levels: int, directories: bool, several: Several) -> None:
        self._place = place
        self._levels = levels
        self._directories = directories
        self._several = several
        self._color = in_color()
        self._counts = {"directory": 0, "file": 0}

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it: an entry, with ``children`` where it was entered."""
        with self._place.named():
            node = self._place.fs.entries.resolve(self._place.path)
            entry = self._place.fs.entries.entry(node, ask=False)
        return self._document(entry, 0)

    def _document(self, entry: Entry, depth: int) -> dict[str, Any]:
        told = document(entry)
        if depth == 0 or self._entered(entry, depth):
            children = self._children(entry["name"], depth)
            if entry["type"] == "directory":
                told["children"] = [self._document(child, depth + 1) for child in children]
        return told

    def print(self, first: bool) -> None:
        """Print it, with a line below that counts."""
        children = list(self._children(self._place.path, 0))  # an error comes before all else
        if not first:
            say()
        say(style(self._place.given, self._color, fg="blue", bold=True))
        if len(children) != 1 or children[0]["name"] != self._place.path:
            self._print(children, "", 1)
        told = [
            f"{count} {name if count == 1 else names}"
            for count, name, names in (
                (self._counts["directory"], "directory", "directories"),
                (self._counts["file"], "file", "files"),
            )
            if name == "directory" or not self._directories
        ]
        say(f"\n{', '.join(told)}")

    def _print(self, children: list[Entry], indent: str, depth: int) -> None:
        for entry in children:
            last = entry is children[-1]
            self._counts[entry["type"]] += 1
            say(f"{indent}{'└── ' if last else '├── '}{self._looks(entry)}")
            if self._entered(entry, depth):
                below = list(self._children(entry["name"], depth))
                self._print(below, f"{indent}{'    ' if last else '│   '}", depth + 1)

    def _looks(self, entry: Entry) -> str:
        node = self._place.fs.entries.resolve(entry["name"])
        _, shown = name_cell(node, entry, self._color, long=True)
        state = entry.get("state")
        if state:
            shown += f"  {style(state, self._color, **state_style(state))}"
        if entry["type"] == "file" and entry["size"]:
            shown += style(f"  {human_size(entry['size'])}", self._color, dim=True)
        title = entry.get("title")
        if title and entry["type"] == "file":
            shown += style(f"  {printable(str(title))}", self._color, dim=True)
        return shown

    def _entered(self, entry: Entry, depth: int) -> bool:
        if entry["type"] != "directory" or depth >= self._levels:
            return False
        # Of a run's two views of its results, the one that people can read.
        return entry["place"] == "outputs" or not (
            entry.get("islink") or entry["place"] == "results"
        )

    def _children(self, path: str, depth: int) -> Iterator[Entry]:
        """Yield what is in a directory; below the first one, what fails is told."""
        entries: list[Entry] = []
        if depth == 0:
            entries = self._place.fs.ls(path)
        else:
            with self._several.one():
                try:
                    entries = self._place.fs.ls(path)
                except NotFound:  # gone since it was listed
                    return
        for entry in entries:
            if entry["type"] == "directory" or not self._directories:
                yield entry
