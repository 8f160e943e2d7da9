"""What notebooks show of a service, of a run and of many runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowfs.display import words
from flowfs.display.markup import (
    Html,
    element,
    joined,
    shortened,
    table,
    to_copy,
    to_fetch,
    to_save,
)
from flowfs.display.pictures import picture

__all__ = ["MOST_FILES", "File", "RunPage", "ServicePage", "TablePage"]

_MOST_LINES = 30  # of a run's messages
_MOST_ARGUMENTS = 40
MOST_FILES = 40  # of a run; so many are told
_MOST_COLUMNS = 30
_SAVED = 64 << 10  # bytes of a result that can be saved from a page
_ALL_SAVED = 256 << 10
_MUTED = "opacity:0.7"


def _page(*parts: str) -> str:
    # A plain text: what markup is made of is nobody's matter beyond this.
    return str(element("div", *parts, style="margin:4px 0"))


def _remark(text: str) -> Html:
    return element("div", text, style=_MUTED)


@dataclass(frozen=True)
class ServicePage:
    """A service, and who looks at it.

    Parameters
    ----------
    endpoint : str
        URL of its API root.
    user : str or None
        Who, as far as that is known.
    read_only : bool
        Whether changes are refused.
    workflows : list of (str, list of (str, str, int or None)) or None
        Names of workflows, and of each the names, ids and number of runs of groups.
    remark : str
        What there is to say about it.
    """

    endpoint: str
    user: str | None = None
    read_only: bool = False
    workflows: Sequence[tuple[str, Sequence[tuple[str, str, int | None]]]] | None = None
    remark: str = ""

    def html(self) -> str:
        """Return the page."""
        said = [words.as_text(self.user)] if self.user else []
        said += ["read-only"] if self.read_only else []
        head = element(
            "div",
            element("b", "FlowFileSystem"),
            " ",
            to_copy(self.endpoint),
            *(f" · {one}" for one in said),
        )
        rows = []
        for workflow, groups in self.workflows or ():
            for name, group_id, runs in groups or [("", "", None)]:
                count = "" if runs is None else str(runs)
                path = to_copy(f"groups/{group_id}") if group_id else ""
                rows.append([words.as_text(workflow), words.as_text(name), path, count])
        shown = [table(rows, ["workflow", "group", "path", "runs"])] if rows else []
        return _page(head, *shown, *([_remark(self.remark)] if self.remark else []))


@dataclass(frozen=True)
class File:
    """A result of a run.

    Parameters
    ----------
    name : str
        Its path within the run.
    place : str or None
        Its ``flow://`` URL.
    title : Any
        What the workflow says of it; None for nothing.
    data : bytes or None
        What is in it, if that is to be shown.
    kept : bytes or None
        What is in it, if that is at hand: to be saved if it is small.
    url : str or None
        The service's own URL of its bytes, for a file that is not at hand or not small.
    """

    name: str
    place: str | None = None
    title: Any = None
    data: bytes | None = None
    kept: bytes | None = None
    url: str | None = None


@dataclass(frozen=True)
class RunPage:
    """A run.

    Parameters
    ----------
    run_id : str
        Which run.
    path : str
        Where it is in the tree.
    row : mapping
        As the table of runs has it: ``state``, ``created``, ``started``, ``finished``,
        ``duration``; empty if nothing is known.
    arguments : mapping
        By name.
    messages : sequence
        Of a run that failed or was canceled.
    files : sequence of File
        Its results.
    place : str or None
        Its ``flow://`` URL.
    remark : str
        What there is to say about it.
    endpoint : str
        URL of the service's API root, where the results' URLs must lead.
    """

    run_id: str
    path: str
    row: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    messages: Sequence[Any] = ()
    files: Sequence[File] = ()
    place: str | None = None
    remark: str = ""
    endpoint: str = ""

    def html(self) -> str:
        """Return the page."""
        known = words.state(self.row["state"]) if self.row.get("state") else ""
        head = element("div", element("b", "Run "), to_copy(self.run_id, self.place), " ", known)
        parts = [head, self._facts()]
        if self.remark:
            parts.append(_remark(self.remark))
        parts.append(self._messages())
        given = [
            [name, words.as_text(value, 400)]
            for name, value in list(self.arguments.items())[:_MOST_ARGUMENTS]
        ]
        if len(self.arguments) > _MOST_ARGUMENTS:
            given.append([f"… and {len(self.arguments) - _MOST_ARGUMENTS} more", ""])
        if given:
            parts.append(table(given, ["argument", "value"]))
        parts.append(self._files())
        return _page(*parts)

    def _facts(self) -> Html:
        times = [(name, words.moment(self.row.get(name))) for name in _TIMES]
        facts = [(name, f"{told} UTC") for name, told in times if told]
        took = words.duration(self.row.get("duration"))
        facts += [("duration", took)] if took else []
        return element(
            "div",
            to_copy(self.path, self.place),
            *(f" · {name} {told}" for name, told in facts),
            style=_MUTED,
        )

    def _messages(self) -> Html:
        lines = [line for one in self.messages for line in words.as_text(one, 4000).splitlines()]
        if not lines:
            return Html("")
        shown = lines[:_MOST_LINES]
        if len(lines) > len(shown):
            shown.append(f"… and {len(lines) - len(shown)} lines more")
        # By line: within one, what is no character to be shown is told as Python writes it.
        told = joined(*(part for line in shown for part in (line, Html("\n"))))
        return element("pre", told, style="margin:4px 0;white-space:pre-wrap")

    def _files(self) -> Html:
        rows = []
        left = _ALL_SAVED
        for file in self.files[:MOST_FILES]:
            saved = to_fetch(file.url, self.endpoint, "download")
            if file.kept is not None and len(file.kept) <= min(_SAVED, left):
                left -= len(file.kept)
                saved = to_save(file.kept, file.name, "save")
            rows.append([to_copy(file.name, file.place), words.as_text(file.title, 200), saved])
        if len(self.files) > MOST_FILES:
            rows.append([f"… and {len(self.files) - MOST_FILES} more", "", ""])
        images = [
            element("div", image, style="margin:4px 0")
            for file in self.files
            if file.data is not None and (image := picture(file.data, file.name)) is not None
        ]
        return joined(table(rows, ["result", "", ""]) if rows else Html(""), *images)


_TIMES = ("created", "started", "finished")
_OWN = ("id", "state", *_TIMES, "duration")
_LEFT_OUT = ("started", "finished")  # of a table: the duration tells more


@dataclass(frozen=True)
class TablePage:
    """Runs, a row for each.

    Parameters
    ----------
    columns : sequence of str
        What there is of each run; ``id``, ``state``, times and ``duration`` are told as such.
    rows : sequence of mapping
        Cells by column, of those that are shown.
    places : mapping of str to str
        ``flow://`` URLs of runs, by their ids, as far as they are known.
    pictures : mapping of (str, str) to bytes or str
        By id and column: what a file holds that may be a picture, or why it is not shown.
    more : int
        How many runs are not shown.
    """

    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    places: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[tuple[str, str], bytes | str] = field(default_factory=dict)
    more: int = 0

    def html(self) -> str:
        """Return the page."""
        columns = [name for name in self.columns if name not in _LEFT_OUT][:_MOST_COLUMNS]
        pictures = list(dict.fromkeys(name for _, name in self.pictures))
        own = [name for name in columns if name in _OWN]
        others = [name for name in columns if name not in _OWN]
        head = [
            *(f"{name} (UTC)" if name in _TIMES else _label(name) for name in own),
            *map(_label, [*pictures, *others]),
        ]
        rows = [
            [
                *(self._cell(row, name) for name in own),
                *(self._picture(row, name) for name in pictures),  # where they are seen at once
                *(self._cell(row, name) for name in others),
            ]
            for row in self.rows
        ]
        remarks = []
        if self.more:
            remarks.append(f"… and {self.more} runs more")
        left = [name for name in self.columns if name not in (*columns, *_LEFT_OUT)]
        if left:
            remarks.append(f"… and {len(left)} columns more")
        shown = table(rows, head)
        return _page(
            element("div", shown, style="overflow-x:auto"), *(_remark(one) for one in remarks)
        )

    def _cell(self, row: Mapping[str, Any], name: str) -> str:
        value = row.get(name)
        if name == "id":
            run_id = str(value)
            return to_copy(run_id, self.places.get(run_id))
        if name == "state":
            return words.state(value)
        if name in _TIMES:
            return _unbroken(words.moment(value))
        if name == "duration":
            return _unbroken(words.duration(value))
        return words.as_text(value)

    def _picture(self, row: Mapping[str, Any], name: str) -> str:
        data = self.pictures.get((str(row.get("id")), name))
        if not isinstance(data, bytes):
            return data or ""
        return picture(data, name, height=120) or "no picture that can be shown"


def _unbroken(text: str) -> Html:
    return element("span", text, style="white-space:nowrap")


def _label(name: str) -> str:
    return shortened(str(name), 80)
