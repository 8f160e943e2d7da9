"""What stat, access, df and getfattr tell of a mount, and what programs make of it."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounting import mounted, out, sh
from support import wait_until
from world import World

from flowfs import tree
from flowfs.embedded import EmbeddedService
from flowfs.fuse.attributes import Attributes

pytestmark = [pytest.mark.mount, pytest.mark.service]


@pytest.fixture(scope="module")
def world(service: EmbeddedService) -> World:
    """A group with three runs in SUCCESS that nobody changes."""
    world = World(service)
    for _ in range(3):
        world.succeeded()
    return world


@pytest.fixture(scope="module")
def mount(service: EmbeddedService, binding: dict[str, str]) -> Iterator[Path]:
    with mounted(service, **binding) as directory:
        yield directory


@pytest.fixture(scope="module")
def group(mount: Path, world: World) -> Path:
    return mount / world.group


@pytest.fixture
def a_run(group: Path, world: World) -> Path:
    return group / "runs" / world.run_ids()[0]


def asked(mount: Path) -> int:
    """How many requests the mount has made, as it says itself; not for what grows old."""
    document = json.loads((mount / ".flowfs" / "stats.json").read_text())
    listings = re.compile(r"GET ((groups|workflows):.*|.*:list)")
    requests = document["requests"].items()
    return sum(figures["count"] for kind, figures in requests if not listings.fullmatch(kind))


def everything(place: Path) -> dict[str, os.stat_result]:
    """All that is below a place by path, as lstat tells of it."""
    found = {}
    for here, directories, files in os.walk(place):
        for name in [*directories, *files]:
            path = os.path.join(here, name)
            found[os.path.relpath(path, place)] = os.lstat(path)
    return found


# -- modes -----------------------------------------------------------------


def test_what_can_be_written_is_writable_and_nothing_else_is(
    group: Path, world: World, a_run: Path
) -> None:
    modes = {path: stat.filemode(info.st_mode) for path, info in everything(group).items()}
    writable = {path for path, mode in modes.items() if mode[0] == "-" and "w" in mode}
    assert writable == {"runs/new", f"uploads/{world.upload}"}
    changing = {path for path, mode in modes.items() if mode[0] == "d" and "w" in mode}
    below_a_run = ("", "/results", "/outputs", "/outputs/results")
    assert changing == {
        "runs",
        "uploads",
        *(f"runs/{run}{below}" for run in world.run_ids() for below in below_a_run),
    }
    assert {mode for mode in modes.values() if "x" not in mode} == {"-r--r--r--", "-rw-r--r--"}
    assert modes["latest"] == "lrwxrwxrwx"
    assert modes["states"] == "dr-xr-xr-x"


def test_the_cancel_file_of_an_active_run_is_writable(
    mount: Path, service: EmbeddedService
) -> None:
    world = World(service)
    run = world.active()
    path = mount / world.group / "runs" / run / "cancel"
    try:
        wait_until(path.exists, 10, "the mount to know the run")
        assert stat.filemode(path.stat().st_mode) == "-rw-r--r--"
    finally:
        world.cancel(run)
        world.ended(run)


def test_the_owner_is_who_mounts_it(group: Path) -> None:
    assert {(info.st_uid, info.st_gid) for info in everything(group).values()} == {
        (os.getuid(), os.getgid())
    }


def test_another_owner_and_a_umask_can_be_asked_for(
    service: EmbeddedService, world: World, binding: dict[str, str]
) -> None:
    options: dict[str, str | float | bool] = {"uid": "1234", "gid": "4321", "umask": "027"}
    with mounted(service, world.group, **options, **binding) as group:
        found = everything(group)
        assert {(info.st_uid, info.st_gid) for info in found.values()} == {(1234, 4321)}
        modes = {path: stat.filemode(info.st_mode) for path, info in found.items()}
        assert modes["runs/new"] == "-rw-r-----"
        assert modes["group.json"] == "-r--r-----"
        assert modes["uploads"] == "drwxr-x---"
        assert modes["states"] == "dr-xr-x---"
        assert modes["latest"] == "lrwxrwxrwx"


@pytest.mark.parametrize(
    ("path", "type_of", "mode"),
    [
        ("groups/G/runs/new", stat.S_IFREG, 0o600),
        ("groups/G/group.json", stat.S_IFREG, 0o400),
        ("groups/G/uploads", stat.S_IFDIR, 0o700),
        ("groups", stat.S_IFDIR, 0o500),
        ("groups/G/latest", stat.S_IFLNK, 0o777),
    ],
)
def test_a_umask_takes_permissions_away(path: str, type_of: int, mode: int) -> None:
    attributes = Attributes(False, 0, umask=0o077)
    assert attributes.permissions(tree.parse(path), type_of) == mode


def test_nothing_is_writable_where_all_is_read_only_or_where_only_a_run_is_mounted() -> None:
    for path in ("groups/G/runs/new", "groups/G/uploads/u"):
        assert Attributes(True, 0).permissions(tree.parse(path), stat.S_IFREG) == 0o444
    for path in ("groups/G/runs", "groups/G/uploads", "groups/G/runs/R"):
        assert Attributes(True, 0).permissions(tree.parse(path), stat.S_IFDIR) == 0o555
    within = Attributes(False, 0, in_a_run=True)
    for path in ("groups/G/runs/R", "groups/G/runs/R/results"):
        assert within.permissions(tree.parse(path), stat.S_IFDIR) == 0o555


# -- access ----------------------------------------------------------------


def test_access_answers_by_the_mode_even_for_root(group: Path, a_run: Path) -> None:
    script = "\n".join(
        [
            "test -w runs/new && test -w uploads && test -w uploads/names.txt",
            f"test -w runs/{a_run.name} && test -w runs",
            "for p in . group.json runs.jsonl states latest/handle.json states/SUCCESS; do",
            "  test -r $p || echo $p cannot be read",
            "  test ! -w $p || echo $p can be written",
            "done",
            "test ! -x group.json && test ! -x runs/new && test -x runs && test -x latest",
            f"test ! -x runs/{a_run.name}/outputs/results/greetings.txt",
            f"test -x runs/{a_run.name}/outputs/results",
            "cd uploads && cd ../states/SUCCESS && cd /",
        ]
    )
    assert out(f"set -e\n{script}", group) == ""


def test_access_says_why_not(group: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for name, mode, expected in [
        ("group.json", os.W_OK, errno.EACCES),
        ("group.json", os.X_OK, errno.EACCES),
        ("states", os.W_OK, errno.EACCES),
        ("nothing", os.F_OK, errno.ENOENT),
        ("runs/new", os.R_OK | os.W_OK, 0),
        ("group.json", os.R_OK, 0),
    ]:
        ctypes.set_errno(0)
        failed = libc.access(os.fsencode(group / name), mode)
        assert (ctypes.get_errno() if failed else 0) == expected, name


def test_on_a_read_only_mount_nothing_can_be_written(
    service: EmbeddedService, world: World, binding: dict[str, str]
) -> None:
    with mounted(service, world.group, read_only=True, **binding) as group:
        libc = ctypes.CDLL(None, use_errno=True)
        for name in ("runs/new", "uploads", "group.json", f"uploads/{world.upload}"):
            assert libc.access(os.fsencode(group / name), os.W_OK) == -1
            assert ctypes.get_errno() == errno.EROFS
        modes = {stat.filemode(info.st_mode) for info in everything(group).values()}
        assert modes == {"-r--r--r--", "dr-xr-xr-x", "lrwxrwxrwx"}


def test_access_costs_no_request_of_its_own(mount: Path, group: Path, a_run: Path) -> None:
    everything(group)
    before = asked(mount)
    out(f"test -w group.json || test -w {a_run}/archive.tar.gz || test -r runs.jsonl", group)
    assert asked(mount) == before


@pytest.mark.skipif(not Path("/usr/bin/vim").exists(), reason="no vim")
def test_vim_knows_what_is_read_only(group: Path, tmp_path: Path) -> None:
    def read_only(name: str) -> str:
        told = tmp_path / "told"
        out(
            f"vim -N -u NONE -i NONE -n -es -c 'call writefile([&readonly], \"{told}\")' -c qa! "
            f"{name}",
            group,
        )
        return told.read_text().strip()

    assert read_only("group.json") == "1"
    assert read_only(f"uploads/{'names.txt'}") == "0"


# -- inodes, links, blocks -------------------------------------------------


def test_inodes_are_unique_but_for_hard_links(group: Path) -> None:
    by_number: dict[int, list[str]] = {}
    for path, info in everything(group).items():
        by_number.setdefault(info.st_ino, []).append(path)
    for paths in by_number.values():
        if len(paths) > 1:
            first, second = sorted(paths)
            assert "/outputs/" in first
            assert "/results/" in second
            assert os.lstat(group / first).st_nlink == 2
    assert 0 not in by_number


def test_a_listing_and_stat_tell_the_same_inodes(group: Path, a_run: Path) -> None:
    for place in (group, group / "runs", a_run, a_run / "results", a_run / "outputs"):
        with os.scandir(place) as entries:
            for entry in entries:
                assert entry.inode() == entry.stat(follow_symlinks=False).st_ino, entry.path
        numbers = dict(line.split()[::-1] for line in out("ls -aif", place).splitlines())
        assert int(numbers["."]) == os.stat(place).st_ino
        assert int(numbers[".."]) == os.stat(place.parent).st_ino


def test_what_is_not_empty_has_blocks(group: Path, tmp_path: Path) -> None:
    for path, info in everything(group).items():
        if stat.S_ISREG(info.st_mode):
            assert info.st_blocks == (info.st_size + 511) // 512, path
    out(f"tar -cSf {tmp_path}/sparse.tar group.json && tar -xf {tmp_path}/sparse.tar -O", group)
    kept = out(f"tar -xOf {tmp_path}/sparse.tar group.json", group)
    assert json.loads(kept)["id"] == group.name


def test_df_shows_room_and_one_that_is_read_only_shows_none(
    mount: Path, service: EmbeddedService, binding: dict[str, str]
) -> None:
    def df(options: str, place: Path) -> list[str]:
        return out(f"df {options} .", place).splitlines()[1].split()

    assert df("-B 1 --output=size,used,avail,pcent", mount) == [
        str(1 << 40),
        "0",
        str(1 << 40),
        "0%",
    ]
    assert df("--output=iused,ipcent", mount) == ["0", "0%"]
    assert df("-h --output=size", mount) == ["1.0T"]
    assert df("--output=fstype", mount) == ["fuse.flowfs"]
    assert os.statvfs(mount).f_namemax == 255
    with mounted(service, read_only=True, **binding) as directory:
        assert df("-B 1 --output=avail,pcent", directory) == ["0", "100%"]
        assert os.statvfs(directory).f_flag & os.ST_RDONLY


# -- sizes -----------------------------------------------------------------


def test_ls_l_builds_no_archive_and_brings_small_results_along(
    service: EmbeddedService, world: World
) -> None:
    with mounted(service, world.group) as group:
        out("ls -lR . && find . -ls && du -a .", group)
        document = json.loads((group / ".flowfs/stats.json").read_text())
        requests = document["requests"]
        assert "GET runs:download:archive" not in requests
        results = len(world.run_ids())
        assert requests["GET runs:download:file"]["count"] == results
        out("cat runs/*/results/* runs/*/outputs/results/*", group)
        document = json.loads((group / ".flowfs/stats.json").read_text())
        assert document["requests"]["GET runs:download:file"]["count"] == results


def test_the_table_of_runs_has_its_size_once_all_runs_are_known(
    service: EmbeddedService, world: World
) -> None:
    with mounted(service, world.group) as group:
        table = group / "runs.jsonl"
        assert table.stat().st_size == 1  # to know it would cost a request for each run
        data = table.read_bytes()
        before = asked(group)
        assert table.stat().st_size == len(data)
        assert asked(group) == before
        assert [json.loads(line)["id"] for line in data.splitlines()] == world.run_ids()
    with mounted(service, world.group) as group:
        out("cat runs/*/handle.json", group)
        assert table.name in out("ls", group)
        assert (group / "runs.jsonl").stat().st_size == len(data)


def test_an_archive_has_its_size_once_it_was_read(service: EmbeddedService, world: World) -> None:
    with mounted(service, world.group) as group:
        assert out("stat -Lc %s latest/archive.tar.gz", group).strip() == "1"
        length = out("cat latest/archive.tar.gz | wc -c", group).strip()
        assert out("stat -Lc %s latest/archive.tar.gz", group).strip() == length


# -- times, from mount to mount --------------------------------------------


def test_another_mount_tells_the_same_inodes_modes_times_and_sizes(
    service: EmbeddedService, world: World, group: Path
) -> None:
    def told(place: Path) -> dict[str, tuple[int | str, ...]]:
        return {
            path: (
                info.st_ino,
                info.st_mode,
                info.st_nlink,
                info.st_mtime_ns,
                "?" if path.endswith((".jsonl", ".tar.gz")) else info.st_size,
            )
            for path, info in everything(place).items()
        }

    with mounted(service, world.group) as other:
        assert told(other) == told(group)


def test_times_come_from_what_is_shown(group: Path, world: World) -> None:
    handles = [world.rest.run(run) for run in world.run_ids()]
    newest = max(handle["createdAt"] for handle in handles)
    uploaded = world.rest.get(f"uploads/{world.group_id}/files")["files"][0]["createdAt"]

    def time(name: str) -> str:
        shown = out(f"TZ=UTC stat -c %y {name}", group).split()
        return f"{shown[0]}T{shown[1][:8]}"

    for name in (".", "runs", "states", "states/SUCCESS", "latest", "runs.jsonl", "group.json"):
        assert time(name) == newest[:19], name
    for name in ("uploads", "arguments.template.json", "runs/new", "states/ERROR"):
        assert time(name) == uploaded[:19], name
    for handle in handles:
        run = f"runs/{handle['id']}"
        assert time(run) == handle["createdAt"][:19]
        for name in ("handle.json", "results", "outputs/results", "archive.tar.gz"):
            assert time(f"{run}/{name}") == handle["finishedAt"][:19], name


def test_the_files_that_tell_of_runs_have_a_new_time_when_one_ends(
    service: EmbeddedService,
) -> None:
    world = World(service)
    run = world.active()
    with mounted(service, world.group, ttl=0.05) as group:
        before = os.stat(group / "group.json")
        text = (group / "group.json").read_text()
        # As long as nothing changes it keeps its time: tar would complain.
        assert os.stat(group / "group.json").st_mtime_ns == before.st_mtime_ns
        world.cancel(run)
        world.ended(run)
        wait_until(lambda: (group / "group.json").read_text() != text, 10, "the run's end")
        after = os.stat(group / "group.json")
        assert after.st_mtime_ns != before.st_mtime_ns


def test_tar_of_a_group_with_an_active_run_does_not_complain(
    service: EmbeddedService, tmp_path: Path
) -> None:
    world = World(service)
    run = world.active()
    try:
        with mounted(service, world.group, ttl=0.05) as group:
            done = sh(f"tar -cf {tmp_path}/group.tar .", group)
            assert (done.returncode, done.stderr) == (0, "")
    finally:
        world.cancel(run)


def test_rsync_of_a_group_transfers_nothing_the_second_time(
    service: EmbeddedService, world: World, binding: dict[str, str], tmp_path: Path
) -> None:
    copy = f"rsync -aHX -i ./ {tmp_path}/copy/"
    with mounted(service, world.group, **binding) as group:
        assert ">f" in out(copy, group)
        assert out(copy, group) == ""
    with mounted(service, world.group, **binding) as group:
        # Of a mount that has not read them nobody knows the size of these.
        again = {line.split()[1] for line in out(copy, group).splitlines()}
        assert again == {
            "runs.jsonl",
            *(f"runs/{run}/archive.tar.gz" for run in world.run_ids()),
        }
        assert out(copy, group) == ""


def test_rsync_of_the_workflows_transfers_nothing_the_second_time(
    own_service: EmbeddedService, binding: dict[str, str], tmp_path: Path
) -> None:
    copy = f"rsync -a -i workflows {tmp_path}/"
    with mounted(own_service, **binding) as mount:
        assert ">f" in out(copy, mount)
        assert out(copy, mount) == ""


# -- extended attributes ---------------------------------------------------


def attributes(path: Path) -> dict[str, str]:
    names = os.listxattr(path, follow_symlinks=False)
    return {
        name.removeprefix("user.flowfs."): os.getxattr(path, name, follow_symlinks=False).decode()
        for name in names
    }


def test_a_run_tells_its_state_id_and_url(a_run: Path, world: World) -> None:
    assert attributes(a_run) == {
        "state": "SUCCESS",
        "id": a_run.name,
        "url": f"{world.endpoint}/runs/{a_run.name}",
    }


def test_a_result_tells_its_url_and_its_name_among_the_outputs(a_run: Path, world: World) -> None:
    (result,) = (a_run / "results").iterdir()
    told = attributes(result)
    url = told.pop("url")
    assert told["output"] == "results/greetings.txt"
    assert told["id"] == result.name
    assert world.rest.session.get(url).content == result.read_bytes()
    assert attributes(a_run / "outputs" / "results" / "greetings.txt") == {**told, "url": url}


def test_titles_and_captions_are_told(service: EmbeddedService) -> None:
    world = World(service, "analysis")
    handle = world.succeeded()
    described = [file for file in handle["files"] if file.get("title") and file.get("caption")]
    assert described
    with mounted(service, world.run(handle)) as run:
        for file in described:
            told = attributes(run / "results" / file["id"])
            assert (told["title"], told["caption"]) == (file["title"], file["caption"])


def test_an_upload_tells_the_name_it_is_stored_under(mount: Path, service: EmbeddedService) -> None:
    world = World(service)
    uploads = mount / world.uploads
    (uploads / "my data.csv").write_text("a\n")
    told = attributes(uploads / "my data.csv")
    assert told["stored"] == "my_data.csv"
    assert told["url"].endswith(f"/uploads/{world.group_id}/files/{told['id']}")


def test_an_upload_tells_it_as_soon_as_it_is_sent_though_it_is_open_still(
    mount: Path, service: EmbeddedService
) -> None:
    # The kernel releases a file some time after `close` has returned.
    world = World(service)
    path = mount / world.uploads / "my other data.csv"
    with path.open("wb", buffering=0) as file:
        file.write(b"a\n")
        assert attributes(path) == {}
        os.close(os.dup(file.fileno()))  # sends it
        told = attributes(path)
        assert told["stored"] == "my_other_data.csv"
        file.write(b"b\n")
        assert attributes(path) == {}
    assert attributes(path)["id"] != told["id"]
    with path.open("r+b") as file:  # as yet, it is what the service has
        assert attributes(path)["stored"] == "my_other_data.csv"


def test_what_has_nothing_to_tell_has_no_attributes(mount: Path, group: Path, a_run: Path) -> None:
    for path in (
        mount,
        mount / "groups",
        mount / ".flowfs/errors",
        group / "runs",
        group / "runs/new",
        group / "latest",
        a_run / "outputs",
        a_run / "outputs/results",
    ):
        assert attributes(path) == {}, path


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("user.other", errno.ENODATA),
        ("user.flowfs.nothing", errno.ENODATA),
        # There are none of the kind: so `ls -l` need not ask the next file.
        ("security.capability", errno.EOPNOTSUPP),
        ("system.posix_acl_access", errno.EOPNOTSUPP),
    ],
)
def test_other_attributes_are_not_there_and_cost_nothing(
    mount: Path, a_run: Path, name: str, error: int
) -> None:
    a_run.stat()
    before = asked(mount)
    with pytest.raises(OSError) as caught:
        os.getxattr(a_run, name)
    assert caught.value.errno == error
    assert asked(mount) == before


def test_sizes_are_told_and_short_buffers_refused(a_run: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    path = os.fsencode(a_run)
    size = libc.getxattr(path, b"user.flowfs.id", None, 0)
    assert size == len(a_run.name)
    buffer = ctypes.create_string_buffer(size)
    assert libc.getxattr(path, b"user.flowfs.id", buffer, size) == size
    assert buffer.raw.decode() == a_run.name
    assert libc.getxattr(path, b"user.flowfs.id", buffer, size - 1) == -1
    assert ctypes.get_errno() == errno.ERANGE
    size = libc.listxattr(path, None, 0)
    buffer = ctypes.create_string_buffer(size)
    assert libc.listxattr(path, buffer, size) == size
    assert buffer.raw.decode().split("\0")[:-1] == os.listxattr(a_run)
    assert libc.listxattr(path, buffer, size - 1) == -1
    assert ctypes.get_errno() == errno.ERANGE


def test_attributes_cannot_be_set_or_removed(group: Path, a_run: Path) -> None:
    for path in (a_run, group / "group.json", group / "uploads" / "names.txt"):
        with pytest.raises(OSError) as caught:
            os.setxattr(path, "user.mine", b"x")
        assert caught.value.errno == errno.ENOTSUP
        with pytest.raises(OSError) as caught:
            os.removexattr(path, "user.flowfs.id")
        assert caught.value.errno == errno.ENOTSUP


def test_cp_a_takes_attributes_along_and_brings_none(
    group: Path, mount: Path, service: EmbeddedService, a_run: Path, tmp_path: Path
) -> None:
    out(f"cp -a . {tmp_path}/copy", group)
    copied = tmp_path / "copy" / "runs" / a_run.name
    if os.listxattr(copied):  # where the copy is, there may be none
        assert attributes(copied) == attributes(a_run)
    world = World(service)
    source = tmp_path / "source.txt"
    source.write_text("with an attribute\n")
    try:
        os.setxattr(source, "user.mine", b"x")
    except OSError:
        pytest.skip("the file system for temporary files has no extended attributes")
    out(f"cp -a {source} {mount}/{world.uploads}/", mount)
    assert world.upload_names() == ["names.txt", "source.txt"]
    assert os.listxattr(mount / world.uploads / "source.txt") == [
        "user.flowfs.id",
        "user.flowfs.url",
        "user.flowfs.stored",
    ]


def test_rsync_x_brings_a_file_and_says_that_attributes_stay_behind(
    mount: Path, service: EmbeddedService, tmp_path: Path
) -> None:
    world = World(service)
    source = tmp_path / "source.txt"
    source.write_text("without an attribute\n")
    done = sh(f"rsync -aX {source} {mount}/{world.uploads}/", mount)
    assert done.returncode == 23, done.stderr
    assert out(f"cat {world.uploads}/source.txt", mount) == "without an attribute\n"
    assert out(f"rsync -ac -i {source} {world.uploads}/ | grep '^[<>]' || :", mount) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only tried on Linux")
def test_outputs_and_results_are_one_file(a_run: Path) -> None:
    (result,) = (a_run / "results").iterdir()
    output = a_run / "outputs" / "results" / "greetings.txt"
    assert os.path.samefile(result, output)
    assert result.stat().st_nlink == output.stat().st_nlink == 2
