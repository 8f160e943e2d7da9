"""The manual pages that come with the package say what the documentation says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flowfs.cli import cli

_ROOT = Path(__file__).parents[1]
_ROFF = re.compile(r"\\f[A-Z]|\\\([a-z]{2}|\\")


def _plain(text: str) -> str:
    """Letters and digits alone: what roff and Markdown have in common."""
    text = _ROFF.sub(" ", text)
    return re.sub(r"[^a-z0-9]+", " ", text.casefold())


@pytest.mark.parametrize(
    ("page", "manual"), [("command", "flowfs.1"), ("mounting", "flowfs-mount.1")]
)
def test_a_manual_page_has_all_that_its_page_has(page: str, manual: str) -> None:
    source = (_ROOT / "docs" / f"{page}.md").read_text()
    made = _plain((_ROOT / "man" / manual).read_text())
    wanted = re.findall(r"^##+ (.*)$", source, re.M)
    for block in re.findall(r"^```\w*\n(.*?)^```$", source, re.M | re.S):
        wanted += [line for line in block.splitlines() if line.strip()]
    # Sentences, as far as no link or code breaks them.
    wanted += re.findall(r"^([A-Z][A-Za-z ,]{30,})", source, re.M)
    assert wanted
    missing = [line for line in wanted if _plain(line).strip() not in made]
    assert not missing, "stale: run scripts/manpages"


def test_every_command_has_its_place_in_the_manual() -> None:
    made = _plain("".join(page.read_text() for page in (_ROOT / "man").glob("*.1")))
    commands = cli.list_commands(None)  # type: ignore[arg-type]
    assert "mount" in commands
    assert [name for name in commands if f"flowfs {name}" not in made] == []


def test_the_page_of_the_mount_helper_is_that_of_the_mount() -> None:
    assert (_ROOT / "man" / "mount.fuse.flowfs.8").read_text() == ".so man1/flowfs-mount.1\n"
