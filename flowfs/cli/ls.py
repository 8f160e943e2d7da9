"""``flowfs ls``: what is in a directory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from flowfs.cli import completing
from flowfs.cli.access import Access, json_option, service_options
from flowfs.cli.ending import Several
from flowfs.cli.entry import Cell, ask_sizes, document, mode_of, name_cell
from flowfs.cli.naming import Place, expand
from flowfs.cli.output import (
    columns,
    human_size,
    in_color,
    on_terminal,
    print_json,
    say,
    shown_time,
    state_style,
    style,
    table,
)
from flowfs.errors import NotFound, printable

if TYPE_CHECKING:
    from flowfs.tree import Node

Entry = dict[str, Any]


@click.command(short_help="List places.", context_settings={"help_option_names": ["--help"]})
@click.argument("places", metavar="[PLACE]...", nargs=-1, shell_complete=completing.places)
@click.option("-l", "--long", is_flag=True, help="Mode, size, time and state of each.")
@click.option("-a", "--all", "hidden", is_flag=True, help="What is not listed otherwise, too.")
@click.option("-d", "--directory", is_flag=True, help="A directory itself, not what is in it.")
@click.option("-R", "--recursive", is_flag=True, help="And what is in its directories.")
@click.option("-t", "--by-time", is_flag=True, help="The newest first.")
@click.option("-r", "--reverse", is_flag=True, help="The other way round.")
@click.option("-1", "--one", is_flag=True, help="One a line, on a terminal too.")
@click.option("-F", "--classify", is_flag=True, help="A / behind directories, an @ behind links.")
@click.option("-B", "--bytes", "exact", is_flag=True, help="Sizes in bytes, not as 1.2K.")
@click.option("--no-sizes", is_flag=True, help="With -l: ask for no sizes.")
@click.option("-h", "human", is_flag=True, hidden=True)
@json_option
@service_options
def ls(access: Access, places: tuple[str, ...], human: bool, as_json: bool, **options: Any) -> None:
    """List each PLACE: what is in a directory, or a file itself.

    \b
      flowfs ls                        the root: groups, workflows
      flowfs ls analysis/runs          the runs of a group, by its name
      flowfs ls -l 'groups/*/latest'   the newest run of each group
      flowfs ls RUN/outputs            the results of a run, by its id

    Runs come in the order in which they were made. One request for each directory; with -l
    one more for each result and upload whose size is not known, unless --no-sizes is given.
    """
    if human and not options["long"]:
        # With -l, where people are used to it, it asks for what they get anyway.
        ctx = click.get_current_context()
        click.echo(ctx.get_help())
        ctx.exit()
    listing = Listing(access, **options)
    several = Several()
    entries: list[Entry] = []
    parts = listing.parts(list(places) or ["/"], several)
    if as_json:
        for _, _, found in parts:
            entries += found
        print_json([document(entry) for entry in entries])
    else:
        listing.show(parts, headed=len(places) > 1 or options["recursive"])
    several.end()


class Listing:
    """What is listed, and how; the parameters are the command's options."""

    def __init__(
        self,
        access: Access,
        *,
        long: bool,
        hidden: bool,
        directory: bool,
        recursive: bool,
        by_time: bool,
        reverse: bool,
        one: bool,
        classify: bool,
        exact: bool,
        no_sizes: bool,
    ) -> None:
        self._access = access
        self._long = long
        self._hidden = hidden
        self._directory = directory
        self._recursive = recursive and not directory
        self._by_time = by_time
        self._reverse = reverse
        self._one = one
        self._classify = classify
        self._exact = exact
        self._sizes = long and not no_sizes
        self._color = in_color()

    def parts(
        self, names: Sequence[str], several: Several
    ) -> Iterator[tuple[Place, bool, list[Entry]]]:
        """Yield places, whether each is a directory, and the entries that are listed for it.

        Files come first, as ``ls`` has them. What cannot be listed is told, and left out.
        """
        found: list[Place] = []
        for name in names:
            with several.one():
                found += expand(self._access, [name])
        directories = []
        for place in found:
            with several.one():
                entries = self._entries(place)
                if len(entries) == 1 and entries[0]["name"] == place.path:
                    self._fill(place, entries, several)
                    yield place, False, entries
                else:
                    directories.append((place, entries))
        for place, entries in directories:
            self._fill(place, entries, several)
            yield place, True, entries
            if self._recursive:
                yield from self._below(place, entries, several)

    def _entries(self, place: Place) -> list[Entry]:
        if self._directory:
            return [place.fs.info(place.path)]
        entries: list[Entry] = list(place.fs.ls(place.path))
        if self._hidden and not place.path:
            entries.append(place.fs.info(".flowfs"))
        if self._by_time:
            entries.sort(key=lambda entry: entry.get("mtime") or 0.0, reverse=True)
        if self._reverse:
            entries.reverse()
        return entries

    def _fill(self, place: Place, entries: list[Entry], several: Several) -> None:
        if self._sizes:
            with several.one():
                ask_sizes(place.fs, entries)

    def _below(
        self, place: Place, entries: list[Entry], several: Several
    ) -> Iterator[tuple[Place, bool, list[Entry]]]:
        """Yield what is in the directories of one; views are passed by, as walks do."""
        for entry in entries:
            if entry["type"] != "directory" or entry.get("islink"):
                continue
            child = place.below(entry["name"].rpartition("/")[2])
            with several.one():
                try:
                    within = self._entries(child)
                except NotFound:  # gone since it was listed
                    continue
                self._fill(child, within, several)
                yield child, True, within
                yield from self._below(child, within, several)

    # -- as text -----------------------------------------------------------

    def show(self, parts: Iterator[tuple[Place, bool, list[Entry]]], headed: bool) -> None:
        """Print what is listed, directories under their names if there are several."""
        files: list[tuple[Node, Entry, str]] = []
        printed = False
        for place, is_directory, entries in parts:
            node = place.fs.entries.resolve(place.path)
            if not is_directory:
                files += [(node, entry, place.given) for entry in entries]
                continue
            if files:
                self._print(files)
                files, printed = [], True
            if headed:
                say(("\n" if printed else "") + f"{printable(place.given)}:")
            printed = True
            node = place.fs.entries.follow(node)
            children = ((node.child(e["name"].rpartition("/")[2]), e) for e in entries)
            self._print([(child, entry, child.name) for child, entry in children])
        if files:
            self._print(files)

    def _print(self, listed: list[tuple[Node, Entry, str]]) -> None:
        if self._long:
            rows = [self._row(node, entry, name) for node, entry, name in listed]
            for line in table(rows, right=(1,)):
                say(line)
            return
        cells = [self._name(node, entry, name) for node, entry, name in listed]
        if on_terminal() and not self._one:
            for line in columns(cells):
                say(line)
            return
        for _, looks in cells:
            say(looks)

    def _row(self, node: Node, entry: Entry, name: str) -> list[Cell]:
        size = human_size(entry["size"], exact=self._exact)
        if entry["type"] == "directory":
            size = "-"
        state = entry.get("state") or ""
        texts = [mode_of(node, entry, read_only=False), size, shown_time(entry.get("mtime"))]
        return [
            *((text, text) for text in texts),
            (printable(state), style(state, self._color, **state_style(state))),
            self._name(node, entry, name),
        ]

    def _name(self, node: Node, entry: Entry, name: str) -> Cell:
        # Where a program reads it, a name stands alone.
        shown = entry if self._long or on_terminal() else {**entry, "title": None}
        text, looks = name_cell(node, shown, self._color, name=name, long=self._long)
        if self._classify:
            mark = "@" if node.kind.link else "/" if entry["type"] == "directory" else ""
            text, looks = text + mark, looks + mark
        return text, looks
