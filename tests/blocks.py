"""The code blocks of README, SECURITY.md and the pages: which there are, and who runs which.

Who runs blocks gets them from :func:`taken`, and each call of it, with the page, the languages
and the section that stand there, is a claim to run all of these, also those that will be added.
``test_docs`` reads the claims from the source and fails where a block is claimed by nobody or
twice. Whoever adds a block to a page that is run as a whole has nothing else to do.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

__all__ = ["Block", "Claim", "Command", "blocks_of", "claims_of", "commands_of", "pages", "taken"]

ROOT = Path(__file__).parents[1]

_HEADING = re.compile(r"h(\d)")


class Block(NamedTuple):
    """A code block.

    Attributes
    ----------
    page : str
        Its page, from the top of the repository.
    line : int
        Where it begins.
    sections : tuple of str
        The headings that it stands below, from the outermost.
    language : str
        What stands behind the fence; empty if nothing does.
    text : str
        What is in it.
    """

    page: str
    line: int
    sections: tuple[str, ...]
    language: str
    text: str


class Claim(NamedTuple):
    """A call of :func:`taken`: who runs which blocks.

    Attributes
    ----------
    file : str
        The file of the call, such as ``test_docs_pages.py``.
    function : str
        The function that it is in; empty outside of all.
    page, languages, section
        As :func:`taken` has them.
    """

    file: str
    function: str
    page: str
    languages: str
    section: str | None

    def has(self, block: Block) -> bool:
        """Tell whether it claims a block."""
        return (
            block.page == self.page
            and block.language in self.languages.split(" ")
            and (
                self.section is None
                or self.section in block.sections[1:]
                or block.sections == (self.section,)
            )
        )


class Command(NamedTuple):
    """A command of a ``console`` block, and the lines that it is said to print.

    Attributes
    ----------
    text : str
        What is typed, without the prompts.
    shown : list of str
        The lines below it; if there are none, the page says nothing of what it prints.
    """

    text: str
    shown: list[str]


def pages(root: Path = ROOT) -> list[Path]:
    """Return all pages that people read."""
    return [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]


def blocks_of(page: Path, root: Path = ROOT) -> list[Block]:
    """Return the blocks of a page, in order: fenced ones, indented ones and those of HTML."""
    found, headings = [], dict[int, str]()
    tokens = MarkdownIt("commonmark").parse(page.read_text())
    for at, token in enumerate(tokens):
        if token.type == "heading_open" and (level := _HEADING.fullmatch(token.tag)):
            headings = {n: title for n, title in headings.items() if n < int(level[1])}
            headings[int(level[1])] = tokens[at + 1].content
        in_html = token.type == "html_block" and "<pre" in token.content.lower()
        if token.type in ("fence", "code_block") or in_html:
            line = (token.map or [0])[0] + 1
            sections = tuple(headings[n] for n in sorted(headings))
            name, language = str(page.relative_to(root)), token.info.strip()
            found.append(Block(name, line, sections, language, token.content))
    return found


def taken(page: str, languages: str, section: str | None = None) -> list[Block]:
    """Return the blocks of a page that the caller runs, all of them.

    The arguments are literals wherever it is called, so that they can be read there.

    Parameters
    ----------
    page : str
        The page, from the top of the repository.
    languages : str
        One or several, with blanks between them.
    section : str, optional
        Only below this heading; with the title of the page, only what comes before all others.
    """
    claim = Claim("", "", page, languages, section)
    found = [block for block in blocks_of(ROOT / page) if claim.has(block)]
    assert found, f"{page} has no {languages} block in section {section}"
    return found


def claims_of(file: Path) -> Iterator[Claim]:
    """Find the calls of :func:`taken` in a file of Python, without running it."""
    source = file.read_text()
    if "taken(" in source:
        yield from _claims_in(ast.parse(source), file.name, "")


def _claims_in(node: ast.AST, file: str, function: str) -> Iterator[Claim]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and ast.unparse(child.func).split(".")[-1] == "taken":
            given = [ast.literal_eval(argument) for argument in child.args]
            named = {str(word.arg): ast.literal_eval(word.value) for word in child.keywords}
            called = inspect.signature(taken).bind(*given, **named)
            called.apply_defaults()
            yield Claim(file, function, *called.args)
        within = child.name if isinstance(child, ast.FunctionDef) and not function else function
        yield from _claims_in(child, file, within)


def commands_of(block: Block) -> list[Command]:
    """Return the commands of a ``console`` block.

    A line that begins with ``$`` is a command; lines that begin with ``>`` right behind it, or
    that follow a backslash, go on with it. All others are what it prints.
    """
    commands: list[Command] = []
    goes_on = False
    for line in block.text.splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:], []))
            goes_on = True
            continue
        assert commands, f"{block.page}:{block.line}: begins with no command"
        text, shown = commands[-1]
        if goes_on and (line.startswith("> ") or text.endswith("\\")):
            commands[-1] = Command(f"{text}\n{line.removeprefix('> ')}", shown)
        else:
            goes_on = False
            shown.append(line)
    return commands
