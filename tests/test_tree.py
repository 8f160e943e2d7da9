"""The grammar of the tree: what every path means, by its form alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowfs import tree
from flowfs.errors import NotADirectory, NotFound
from flowfs.tree import Kind, Node, child_kinds, join, normalize, parse

EVERY_PLACE = [
    ("", tree.ROOT),
    (".flowfs", tree.STATUS),
    (".flowfs/errors", tree.ERRORS),
    (".flowfs/stats.json", tree.STATISTICS),
    (".flowfs/version", tree.VERSION),
    ("groups", tree.GROUPS),
    ("groups/G", tree.GROUP),
    ("groups/G/group.json", tree.GROUP_HANDLE),
    ("groups/G/arguments.template.json", tree.TEMPLATE),
    ("groups/G/latest", tree.LATEST),
    ("groups/G/runs", tree.RUNS),
    ("groups/G/runs/new", tree.NEW),
    ("groups/G/runs/new.error", tree.NEW_ERROR),
    ("groups/G/runs/R", tree.RUN),
    ("groups/G/runs/R/handle.json", tree.RUN_HANDLE),
    ("groups/G/runs/R/arguments.json", tree.RUN_ARGUMENTS),
    ("groups/G/runs/R/results", tree.RESULTS),
    ("groups/G/runs/R/results/F", tree.RESULT),
    ("groups/G/runs/R/outputs", tree.OUTPUTS),
    ("groups/G/runs/R/outputs/a", tree.OUTPUT),
    ("groups/G/runs/R/outputs/a/b/c.csv", tree.OUTPUT),
    ("groups/G/runs/R/archive.tar.gz", tree.ARCHIVE),
    ("groups/G/runs/R/cancel", tree.CANCEL),
    ("groups/G/runs.jsonl", tree.RUN_TABLE),
    ("groups/G/states", tree.STATES_DIRECTORY),
    ("groups/G/states/RUNNING", tree.STATE),
    ("groups/G/states/SUCCESS/R", tree.STATE_RUN),
    ("groups/G/uploads", tree.UPLOADS),
    ("groups/G/uploads/names.txt", tree.UPLOAD),
    ("workflows", tree.WORKFLOWS),
    ("workflows/W", tree.WORKFLOW),
    ("workflows/W/workflow.json", tree.WORKFLOW_HANDLE),
    ("workflows/W/leaderboard.json", tree.LEADERBOARD_JSON),
    ("workflows/W/leaderboard.csv", tree.LEADERBOARD_CSV),
    ("workflows/W/postproc", tree.POSTPROC),
    ("workflows/W/postproc/handle.json", tree.RUN_HANDLE),
    ("workflows/W/postproc/arguments.json", tree.RUN_ARGUMENTS),
    ("workflows/W/postproc/results", tree.RESULTS),
    ("workflows/W/postproc/results/F", tree.RESULT),
    ("workflows/W/postproc/outputs", tree.OUTPUTS),
    ("workflows/W/postproc/outputs/a/b", tree.OUTPUT),
    ("workflows/W/postproc/archive.tar.gz", tree.ARCHIVE),
    ("workflows/W/groups", tree.WORKFLOW_GROUPS),
    ("workflows/W/groups/my group", tree.WORKFLOW_GROUP),
]
ALL_KINDS = [kind for kind in vars(tree).values() if isinstance(kind, Kind)]


@pytest.mark.parametrize(("path", "kind"), EVERY_PLACE)
def test_every_place_is_what_the_tree_says(path: str, kind: Kind) -> None:
    node = parse(path)
    assert node.kind is kind
    assert (node.path, node.asked, node.rest) == (path, path, ())


def test_no_kind_of_place_is_missing_here() -> None:
    assert {kind.name for _, kind in EVERY_PLACE} == {kind.name for kind in ALL_KINDS}


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("groups/G/runs/R/results/F", {"group": "G", "run": "R", "file": "F"}),
        ("groups/G/runs/R/outputs/a/b.csv", {"group": "G", "run": "R", "output": "a/b.csv"}),
        ("groups/G/states/ERROR/R", {"group": "G", "state": "ERROR", "run": "R"}),
        ("groups/G/uploads/a b.txt", {"group": "G", "upload": "a b.txt"}),
        ("workflows/W/groups/team", {"workflow": "W", "group_name": "team"}),
        ("workflows/W/postproc/results/F", {"workflow": "W", "file": "F"}),
    ],
)
def test_a_place_knows_the_names_on_its_way(path: str, names: dict[str, str]) -> None:
    assert dict(parse(path).names) == names


def test_names_that_mean_something_take_precedence_over_ids() -> None:
    assert parse("groups/G/runs/new").kind is tree.NEW
    assert parse("groups/G/runs/%6Eew").kind is tree.RUN
    assert parse("groups/G/runs/%6Eew").id("run") == "new"


@pytest.mark.parametrize(
    ("path", "link", "rest"),
    [
        ("groups/G/latest/handle.json", tree.LATEST, ("handle.json",)),
        ("groups/G/latest/outputs/a/b", tree.LATEST, ("outputs", "a", "b")),
        ("groups/G/states/SUCCESS/R/results/F", tree.STATE_RUN, ("results", "F")),
        ("workflows/W/groups/N/runs/R", tree.WORKFLOW_GROUP, ("runs", "R")),
        ("workflows/W/groups/N/latest/cancel", tree.WORKFLOW_GROUP, ("latest", "cancel")),
    ],
)
def test_beyond_a_link_the_rest_waits_for_its_target(
    path: str, link: Kind, rest: tuple[str, ...]
) -> None:
    node = parse(path)
    assert node.kind is link
    assert node.rest == rest
    assert node.asked == path
    assert node.path == path.removesuffix("/" + "/".join(rest))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("group", "nothing is called 'group' in the root (groups, workflows)"),
        ("groups/G/run", "nothing is called 'run' in 'groups/G' (group.json, "),
        ("groups/G/runs/R/result", "nothing is called 'result' in 'groups/G/runs/R' (handle.json"),
        ("groups/G/states/DONE", "nothing is called 'DONE' in 'groups/G/states' (PENDING, RUNNING"),
        ("groups/G/states/DONE/R", "nothing is called 'DONE' in 'groups/G/states'"),
        ("groups/G/states/success", "nothing is called 'success'"),
        ("workflows/W/runs", "nothing is called 'runs' in 'workflows/W' (workflow.json"),
        ("workflows/W/postproc/cancel", "nothing is called 'cancel' in 'workflows/W/postproc'"),
        ("groups/../groups", "no '..'"),
        ("groups/G\0", "no NUL"),
    ],
)
def test_a_path_that_is_wrong_says_which_part(path: str, said: str) -> None:
    with pytest.raises(NotFound) as caught:
        parse(path)
    assert said in str(caught.value)
    assert caught.value.filename == path


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("groups/G/group.json/x", "'groups/G/group.json' is no directory (group handle)"),
        ("groups/G/runs/new/x", "'groups/G/runs/new' is no directory (new run)"),
        ("groups/G/runs/R/results/F/x/y", "'groups/G/runs/R/results/F' is no directory (result)"),
        ("groups/G/uploads/a/b", "'groups/G/uploads/a' is no directory (upload)"),
        ("workflows/W/leaderboard.csv/x", "is no directory (leaderboard table)"),
    ],
)
def test_nothing_is_below_a_file(path: str, file: str) -> None:
    with pytest.raises(NotADirectory) as caught:
        parse(path)
    assert file in str(caught.value)


@pytest.mark.parametrize(
    "path", ["groups/G/runs", "/groups/G/runs/", "groups//G/./runs", "./groups/G/runs//"]
)
def test_slashes_and_dots_that_mean_nothing_are_left_out(path: str) -> None:
    assert normalize(path) == "groups/G/runs"
    assert parse(path) == parse("groups/G/runs")


@pytest.mark.parametrize(("path", "kind"), EVERY_PLACE)
def test_the_fixed_children_of_a_place_parse_to_what_they_are_listed_as(
    path: str, kind: Kind
) -> None:
    node = parse(path)
    children = list(child_kinds(node))
    if not kind.link:  # beyond a link the target has to be known
        assert all(node.child(name).kind is child for name, child in children)
    if not kind.directory:
        assert children == []


def test_the_fixed_children_of_a_run_stand_in_the_order_of_the_design() -> None:
    assert [name for name, _ in child_kinds(parse("groups/G/runs/R"))] == [
        "handle.json",
        "arguments.json",
        "results",
        "outputs",
        "archive.tar.gz",
        "cancel",
    ]
    assert [name for name, _ in child_kinds(parse("groups/G/runs"))] == ["new", "new.error"]
    assert list(child_kinds(parse("groups/G/runs/R/outputs/a/b"))) == []


def test_the_status_directory_is_there_for_who_names_it_and_in_no_listing() -> None:
    assert [name for name, _ in child_kinds(parse(""))] == ["groups", "workflows"]
    assert [name for name, _ in child_kinds(parse(".flowfs"))] == [
        "errors",
        "stats.json",
        "version",
    ]
    with pytest.raises(NotFound) as caught:
        parse("group")
    assert ".flowfs" not in str(caught.value)


@pytest.mark.parametrize(("path", "kind"), EVERY_PLACE)
def test_a_place_tells_whether_it_is_of_the_program_itself(path: str, kind: Kind) -> None:
    assert tree.in_status(parse(path)) is path.startswith(".flowfs")


def test_a_post_processing_run_has_no_cancel() -> None:
    names = [name for name, _ in child_kinds(parse("workflows/W/postproc"))]
    assert names == ["handle.json", "arguments.json", "results", "outputs", "archive.tar.gz"]


def test_only_new_cancel_and_uploads_are_written() -> None:
    assert {kind.name for kind in ALL_KINDS if kind.writable} == {"new run", "cancel", "upload"}


def test_links_and_views_are_those_of_the_design() -> None:
    assert [path for path, kind in EVERY_PLACE if kind.link] == [
        "groups/G/latest",
        "groups/G/states/SUCCESS/R",
        "workflows/W/groups/my group",
    ]
    assert [path for path, kind in EVERY_PLACE if kind.view] == [
        "groups/G/latest",
        "groups/G/runs/R/outputs",
        "groups/G/runs/R/archive.tar.gz",
        "groups/G/runs.jsonl",
        "groups/G/states",
        "workflows/W/postproc/outputs",
        "workflows/W/postproc/archive.tar.gz",
        "workflows/W/groups",
    ]


@pytest.mark.parametrize(("path", "kind"), EVERY_PLACE)
def test_a_place_tells_whether_it_is_within_a_run(path: str, kind: Kind) -> None:
    within = "/runs/R" in path or "/postproc" in path or kind is tree.STATE_RUN
    assert tree.in_run(parse(path)) is within


def test_a_place_reached_through_a_link_keeps_the_name_it_was_asked_for() -> None:
    node = parse("groups/G/runs/R").reached_as("groups/G/latest")
    child = node.child("results")
    assert (child.path, child.asked) == ("groups/G/runs/R/results", "groups/G/latest/results")
    assert child.name == "results"


def test_a_shortened_name_stands_for_no_id() -> None:
    node = parse("groups/G/runs/abc%~0123abcd")
    with pytest.raises(NotFound, match="no run of that name is listed"):
        node.id("run")


def test_joining_leaves_out_the_root() -> None:
    assert join("", "groups") == "groups"
    assert join("groups", "G", "") == "groups/G"
    assert join("", "") == ""


SEGMENTS = st.sampled_from(
    sorted({segment for path, _ in EVERY_PLACE for segment in path.split("/")})
) | st.text(max_size=5)


@given(st.text() | st.lists(SEGMENTS, max_size=9).map("/".join))
def test_any_text_is_a_place_or_is_not_there(path: str) -> None:
    try:
        node = parse(path)
    except (NotFound, NotADirectory):
        return
    assert isinstance(node, Node)
    assert node.asked == normalize(path)
    # What was found is found again, and so is what it knows.
    again = parse(node.asked)
    assert again == node
    assert "/".join((node.path, *node.rest)).strip("/") == node.asked


@given(st.lists(SEGMENTS, max_size=9).map("/".join), st.text(max_size=4))
def test_a_child_is_what_its_whole_path_parses_to(path: str, name: str) -> None:
    try:
        node = parse(path)
        child = node.child(name)
    except (NotFound, NotADirectory):
        return
    assert child.kind is parse(join(node.path, name)).kind


@given(st.text())
def test_normalizing_twice_changes_nothing(path: str) -> None:
    try:
        once = normalize(path)
    except NotFound:
        return
    assert normalize(once) == once
    assert not once.startswith("/")
    assert not once.endswith("/")
