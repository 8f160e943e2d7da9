"""What the documentation says is so: all of its code is run, its links lead somewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest
from blocks import ROOT, Block, Claim, blocks_of, claims_of, pages, taken

from flowfs import tree

README = ROOT / "README.md"


def section(title: str) -> str:
    """The README's text below a heading, up to the next."""
    _, found, rest = README.read_text().partition(f"\n## {title}\n")
    assert found, f"README.md has no section {title!r}"
    return rest.partition("\n## ")[0]


# -- every block is run -------------------------------------------------------

# What Sphinx takes for itself: the strict build (scripts/test) fails where it cannot.
DIRECTIVES = {"{toctree}", "{eval-rst}", "{include}"}


def unclaimed(blocks: Iterable[Block], claims: Iterable[Claim]) -> list[str]:
    """What is wrong with who runs which block: nobody does, or several; no block is left."""
    wrong = []
    blocks, claims = list(blocks), list(claims)
    for block in blocks:
        if block.language.split(" ")[0] in DIRECTIVES and block.page.startswith("docs/"):
            continue
        who = [f"{claim.function} of {claim.file}" for claim in claims if claim.has(block)]
        if len(who) != 1:
            what = f"{block.page}:{block.line}, {block.language or 'of no language'}"
            wrong.append(f"{what}: run by {' and '.join(who) or 'nobody'}")
    wrong += [
        f"{claim.function} of {claim.file}: runs no block of {claim.page}"
        for claim in claims
        if not any(claim.has(block) for block in blocks)
    ]
    return wrong


def runs_in_ci(claim: Claim) -> bool:
    """Tell whether the function that takes blocks is called by a test, or by what CI runs."""
    tests = ROOT / "tests"
    if claim.file.startswith("test_") and claim.function.startswith("test_"):
        return True
    callers = [path for path in tests.glob("test_*.py") if claim.function]
    if any(re.search(rf"\b{claim.function}\(", path.read_text()) for path in callers):
        return True
    # A program of its own, started by a script that continuous integration runs.
    run = (ROOT / ".ci" / "run").read_text() + (ROOT / "scripts" / "test").read_text()
    return any(
        f"scripts/{script.name}" in run and f"tests/{claim.file}" in script.read_text()
        for script in (ROOT / "scripts").iterdir()
        if script.is_file()
    )


def test_each_code_block_is_run_by_exactly_one_test() -> None:
    blocks = [block for page in pages() for block in blocks_of(page)]
    claims = [claim for file in sorted((ROOT / "tests").glob("*.py")) for claim in claims_of(file)]
    assert len(blocks) > 60
    assert unclaimed(blocks, claims) == []
    assert [claim for claim in claims if not runs_in_ci(claim)] == []


PAGE = """\
# A page

```bash
echo of a section
```

## Second

~~~ bash
echo tildes
~~~

- in a list

  ```python
  print()
  ```

  > ```
  > of no language
  > ```

A paragraph.

    indented

<pre>of HTML</pre>

```{toctree}
```
"""


def test_a_block_that_nobody_runs_is_noticed_however_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "page.md"
    page.write_text(PAGE)
    assert pages(tmp_path) == [page]
    blocks = blocks_of(page, tmp_path)
    found = [(block.line, block.language) for block in blocks]
    assert found == [
        (3, "bash"),
        (9, "bash"),
        (15, "python"),
        (19, ""),
        (25, ""),
        (27, ""),
        (29, "{toctree}"),
    ]
    assert [block.sections for block in blocks[:2]] == [("A page",), ("A page", "Second")]

    def claim(name: str, languages: str, section: str | None = None) -> Claim:
        return Claim("test_page.py", name, "docs/page.md", languages, section)

    def lines(*claims: Claim) -> list[int]:
        return [int(said.split(":")[1].split(",")[0]) for said in unclaimed(blocks, claims)]

    assert lines() == [3, 9, 15, 19, 25, 27]
    assert lines(claim("test", "bash python")) == [19, 25, 27]
    assert lines(claim("test", "bash", "Second")) == [3, 15, 19, 25, 27]
    # A directive is Sphinx' own, but not in a page that Sphinx does not build.
    moved = [block._replace(page="README.md") for block in blocks]
    assert len(unclaimed(moved, [])) == len(unclaimed(blocks, [])) + 1
    # Run twice, and nothing left to run.
    both = [claim("test_all", "bash"), claim("test_again", "bash", "Second")]
    (twice,) = [said for said in unclaimed(blocks, both) if " and " in said]
    assert twice.startswith("docs/page.md:9, bash: run by test_all of test_page.py and test_again")
    assert any("runs no block" in said for said in unclaimed(blocks, [claim("test", "json")]))


def test_claims_are_read_from_the_source(tmp_path: Path) -> None:
    file = tmp_path / "test_some.py"
    file.write_text(
        "import blocks\n"
        "class Some:\n"
        "    def test_one(self):\n"
        "        run(blocks.taken('docs/a.md', languages='bash', section='Here'))\n"
        "def helper():\n"
        "    return lambda: taken('README.md', 'python')\n"
        "early = [taken('b.md', '')]\n"
    )
    assert list(claims_of(file)) == [
        Claim("test_some.py", "test_one", "docs/a.md", "bash", "Here"),
        Claim("test_some.py", "helper", "README.md", "python", None),
        Claim("test_some.py", "", "b.md", "", None),
    ]
    assert not runs_in_ci(Claim("test_some.py", "", "b.md", "", None))
    assert not runs_in_ci(Claim("support.py", "function_of_nobody", "b.md", "", None))
    file.write_text("taken(page, 'bash')\n")
    with pytest.raises(ValueError, match="malformed"):  # what it claims cannot be read
        list(claims_of(file))


# -- what the pages say -------------------------------------------------------


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
            anchors = [
                re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings
            ]
            assert anchor in anchors, target


def test_every_place_of_the_tree_is_documented() -> None:
    page = (ROOT / "docs" / "tree.md").read_text()
    names = {
        segment
        for pattern, _ in tree._PLACES
        for segment in pattern.split("/")
        if segment and not segment.startswith("{")
    }
    assert {name for name in names if name not in page} == set()
    readme = section("The tree")
    assert {name for name in names if name not in readme} == set()


def test_the_readmes_tree_is_the_tree() -> None:
    (block,) = taken("README.md", "text", "The tree")
    above: list[str] = []
    kinds = set()
    for line in block.text.splitlines():
        depth, place = (len(line) - len(line.lstrip())) // 4, re.split("  +", line.strip())[0]
        for name in place.split(", "):
            path, _, target = name.partition(" -> ")
            del above[depth:]
            above.append(path.rstrip("/"))
            node = tree.parse(re.sub("<.*?>", "x", "/".join(above).replace("<STATE>", "RUNNING")))
            assert (path.endswith("/") or node.kind.link) == node.kind.directory, line
            assert node.kind.link or not target, line
            kinds.add(node.kind)
    # What has no line of its own: directories of which a line shows what is in them.
    within = {tree.ROOT, tree.GROUPS, tree.WORKFLOWS, tree.STATES_DIRECTORY, tree.STATE}
    within |= {tree.UPLOADS, tree.RESULTS, tree.OUTPUTS, tree.WORKFLOW_GROUPS}
    within |= {tree.ERRORS, tree.STATISTICS, tree.VERSION}
    assert kinds == {kind for _, kind in tree._PLACES} - within


def test_every_test_that_security_md_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text()))
    assert named
    assert {one for one in named if not (ROOT / "tests" / f"{one}.py").exists()} == set()


def test_every_tool_of_the_page_has_a_test_and_every_test_of_a_tool_a_row() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "tools.md").read_text(), re.M)
    tests = (ROOT / "tests" / "test_mount_tools.py").read_text()
    tested = re.findall(r'^@tool\("([^"]+)"', tests, re.M)
    assert len(rows) == len(set(rows)) > 40
    assert set(rows) == set(tested)


def test_every_error_of_the_readme_is_public() -> None:
    import flowfs

    named = re.findall(r"`([A-Z]\w+)`", section("Errors"))
    builtin = {"OSError", "ValueError", "PermissionError", "TimeoutError", "ConnectionError"}
    for name in set(named) - builtin - {"FileNotFoundError"}:
        assert issubclass(getattr(flowfs, name), OSError), name


# The layers as docs/architecture.md lists them; each may import from those before it.
LAYERS = [
    {"errors", "__init__"},
    {"tokens"},
    {"service"},
    {"disk"},
    {"names", "arguments", "pool"},
    {"tree"},
    {"catalog", "content"},
    {"display"},
    {"filesystem"},
    {"sweep"},
    {"fuse"},
    {"cli", "demo", "__main__"},
]


def layer_of(module: str) -> int:
    name = module.removeprefix("flowfs").lstrip(".").partition(".")[0] or "__init__"
    return next(rank for rank, layer in enumerate(LAYERS) if name in layer)


def test_no_layer_imports_from_one_below_it() -> None:
    package = ROOT / "flowfs"
    upward = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[0] in ("embedded", "__init__"):  # beside the stack; names of all layers
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("flowfs"):
                continue
            modules = [str(node.module)]
            if node.module == "flowfs":
                names = [alias.name for alias in node.names]
                modules = [f"flowfs.{n}" for n in names if find_spec(f"flowfs.{n}")]
            for module in modules:
                if module.startswith("flowfs.embedded"):
                    wrong = layer_of(parts[0]) < layer_of("cli")
                else:
                    wrong = layer_of(module) > layer_of(parts[0])
                if wrong:
                    upward.append(f"{'.'.join(parts)} imports {module}")
    assert upward == []
