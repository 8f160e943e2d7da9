"""Make the pictures and recordings of docs/tutorial.md from commands that really run.

    scripts/pictures                # into docs/pictures

Each scene is a shell session on a terminal, against a service started for it. A picture (SVG)
shows the screen as it is at the end; a recording (asciicast, version 2: ``asciinema play``) has
all that was shown, and when.
"""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path
from urllib.parse import urlsplit

import pyte
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from flowfs.embedded import EmbeddedService

_PAGE = Path(__file__).resolve().parent.parent / "docs" / "tutorial.md"
_COLUMNS = 100
_LINES = 44
_PROMPT = "$ "
_PATIENCE = 120.0  # seconds that one command may take


def scenes() -> dict[str, list[str]]:
    """Return the commands of each scene: blocks of the tutorial that are marked as one."""
    found: dict[str, list[str]] = {}
    marked = r"<!-- scene: (\w+) -->\n+```bash\n(.*?)^```$"
    for name, block in re.findall(marked, _PAGE.read_text(), re.M | re.S):
        found.setdefault(name, []).append(block.strip("\n"))
    return found


class Shell:
    """A shell on a terminal that types what it is given.

    Attributes
    ----------
    shown : list of (float, str)
        Seconds since the beginning, and what appeared.
    """

    def __init__(self, variables: dict[str, str], directory: Path) -> None:
        self.shown: list[tuple[float, str]] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = time.monotonic()
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            os.chdir(directory)
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], variables)
        size = struct.pack("HHHH", _LINES, _COLUMNS, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
        self._until_asked()

    def do(self, command: str) -> None:
        """Type a command and wait until the shell asks for the next."""
        os.write(self._master, command.encode() + b"\n")
        self._until_asked(command.count("\n"))

    def end(self) -> None:
        """Have the shell end."""
        os.write(self._master, b"exit\n")
        os.waitpid(self._pid, 0)
        os.close(self._master)

    def _until_asked(self, further_lines: int = 0) -> None:
        """Read on until the prompt is there and nothing follows it for a moment."""
        deadline = time.monotonic() + _PATIENCE
        text = ""
        while True:
            ready, _, _ = select.select([self._master], [], [], 0.4)
            if ready:
                piece = self._decoder.decode(os.read(self._master, 65536))
                self.shown.append((time.monotonic() - self._begun, piece))
                text += piece
            elif text.endswith(_PROMPT) and text.count("> ") >= further_lines:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"no prompt after {text[-500:]!r}")


def picture(shown: list[tuple[float, str]], title: str) -> str:
    """Return the screen that a terminal shows in the end, as SVG."""
    screen = pyte.HistoryScreen(_COLUMNS, 400)
    stream = pyte.Stream(screen)
    for _, piece in shown:
        stream.feed(piece)
    lines = []
    for row in range(screen.lines):
        line = Text()
        for column in range(_COLUMNS):
            cell = screen.buffer[row][column]
            line.append(cell.data, _style(cell))
        line.rstrip()
        lines.append(line)
    # What stands there before the first command and behind the last prompt is no part of it.
    while lines and lines[-1].plain.strip() in ("", _PROMPT.strip()):
        lines.pop()
    console = Console(
        record=True,
        width=_COLUMNS,
        force_terminal=True,
        file=open(os.devnull, "w"),  # noqa: SIM115
    )
    console.print(Text("\n").join(lines), soft_wrap=True)
    # No fonts from elsewhere: who looks at the documentation tells nobody.
    plain = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.S)
    return console.export_svg(title=title, code_format=plain, unique_id=f"flowfs-{title}")


def _style(cell: pyte.screens.Char) -> Style:
    color = {"brown": "yellow"}.get(cell.fg, cell.fg)
    if color == "default":
        chosen = None
    elif re.fullmatch("[0-9a-f]{6}", color):
        chosen = Color.parse(f"#{color}")
    else:
        chosen = Color.parse(color.replace("bright", "bright_"))
    return Style(color=chosen, bold=cell.bold, italic=cell.italics, underline=cell.underscore)


def recording(shown: list[tuple[float, str]], title: str) -> str:
    """Return all that was shown as an asciicast."""
    lines = [json.dumps({"version": 2, "width": _COLUMNS, "height": _LINES, "title": title})]
    first = shown[0][0]
    lines += [json.dumps([round(at - first, 2), "o", piece]) for at, piece in shown]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Play all scenes, each where the one before has left off."""
    destination = Path(sys.argv[1])
    destination.mkdir(parents=True, exist_ok=True)
    with EmbeddedService.start() as service, tempfile.TemporaryDirectory() as home:
        address = urlsplit(service.endpoint)
        variables = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": home,
            "TERM": "xterm-256color",
            "LC_ALL": "C.UTF-8",
            "PS1": _PROMPT,
            "PS2": "> ",
            "BASH_SILENCE_DEPRECATION_WARNING": "1",
            "FLOWSERV_API_PROTOCOL": address.scheme,
            "FLOWSERV_API_HOST": str(address.hostname),
            "FLOWSERV_API_PORT": str(address.port),
            "FLOWSERV_API_PATH": address.path,
            "FLOWSERV_ACCESS_TOKEN": service.token,
        }
        for title, blocks in scenes().items():
            shell = Shell(variables, Path(home))
            for block in blocks:
                for command in commands(block):
                    shell.do(command)
            # What the shell says when it ends is not shown.
            shown = list(shell.shown)
            shell.end()
            (destination / f"{title}.svg").write_text(picture(shown, title))
            (destination / f"{title}.cast").write_text(recording(shown, title))


def commands(block: str) -> list[str]:
    """Return the commands of a block: lines, those of a here-document with their command."""
    found: list[str] = []
    end: str | None = None
    for line in block.splitlines():
        if end is not None or (found and found[-1].endswith("\\")):
            found[-1] += "\n" + line
            end = None if line == end else end
            continue
        found.append(line)
        here = re.search(r"<<-?\s*'?(\w+)'?", line)
        end = here[1] if here else None
    return [command for command in found if command.strip()]


if __name__ == "__main__":
    main()
