"""Ordinary tools on a mount: what docs/tools.md says of each is tried here, with the real tool.

A test says by the mark `tool` which row of that page it is the test of, and which programs it
needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mounting import mounted, sh
from results_workflow import RESULTS, ResultsGroup, results_group
from support import wait_until
from terminal import Terminal

pytestmark = [pytest.mark.mount, pytest.mark.service]

tool = pytest.mark.tool


class Place:
    """A group on the mount, and what to try on it.

    Scripts run in the group's directory; they have `$R`, a run in SUCCESS, `$O`, its outputs,
    `$A`, an active run, `$U`, the uploads, and `$T`, a directory elsewhere. In Python these
    are names.
    """

    def __init__(self, world: ResultsGroup, mount: Path, group_id: str, tmp: Path) -> None:
        self.world, self.rest, self.mount, self.id = world, world.rest, mount, group_id
        self.path, self.tmp = mount / "groups" / group_id, tmp
        self.uploads = self.path / "uploads"
        self.done = world.done
        self.active = self._path_of(world.active)

    def succeed(self) -> None:
        """Let there be a run in SUCCESS of this group's own."""
        self.done = self.world.succeeded(self.id)
        wait_until(lambda: self.exists(self.run), 5, "the mount to know the run")

    def _path_of(self, handle: dict[str, Any]) -> Path:
        return self.mount / "groups" / handle["groupId"] / "runs" / handle["id"]

    @property
    def run(self) -> Path:
        return self._path_of(self.done)

    @property
    def outputs(self) -> Path:
        return self.run / "outputs"

    def exists(self, path: Path) -> bool:
        return subprocess.run(["test", "-e", path], timeout=60).returncode == 0

    def bytes_of(self, name: str) -> bytes:
        """A result, as the service gives it."""
        return self.rest.result(self.done, name)

    def upload_bytes(self, name: str) -> bytes:
        """An upload as the service has it, asked without flowfs; of two, the newest."""
        while True:
            files = self.rest.get(f"uploads/{self.id}/files")["files"]
            same = [file for file in files if file["name"] == name]
            file_id = max(same, key=lambda file: str(file["createdAt"]))["id"]
            reply = self.rest.request("GET", f"uploads/{self.id}/files/{file_id}")
            if reply.status_code != 404:  # it has been replaced since it was listed
                assert reply.ok, reply.text
                return reply.content

    def upload_names(self) -> list[str]:
        """What the service has as uploads."""
        return sorted(file["name"] for file in self.rest.get(f"uploads/{self.id}/files")["files"])

    def names(self) -> dict[str, str]:
        places = {"R": self.run, "O": self.outputs, "A": self.active, "U": self.uploads}
        return {name: str(path) for name, path in {**places, "T": self.tmp}.items()}

    def sh(self, script: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.names(), "LC_ALL": "C.UTF-8", "HOME": str(self.tmp)}
        return sh(f"set -o pipefail; {script}", self.path, env=environment)

    def ok(self, script: str) -> str:
        """Run a script that must succeed and complain of nothing; return what it prints."""
        done = self.sh(script)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", script
        return done.stdout

    def fails(self, script: str, words: str, status: int = 1) -> None:
        """Run a script that must fail, and say so in these words."""
        done = self.sh(script)
        assert done.returncode == status, (script, done)
        assert words in done.stderr, (script, done)

    def python(self, script: str) -> str:
        """Run Python that must succeed; return what it prints."""
        head = "".join(f"{name} = {value!r}\n" for name, value in self.names().items())
        done = subprocess.run(
            [sys.executable, "-c", f"import errno, os\n{head}{script}"],
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout.strip()

    def errno_of(self, statement: str, imports: str = "os") -> str:
        """The name of the errno that a statement in Python fails with."""
        return self.python(
            f"import {imports}\n"
            f"try:\n    {statement}\n    print('no error')\n"
            f"except OSError as error:\n    print(errno.errorcode[error.errno])"
        )

    def terminal(self, *command: str | Path) -> Terminal:
        return Terminal(list(map(os.fspath, command)), self.path, self.tmp)


@pytest.fixture(scope="module")
def world() -> Iterator[ResultsGroup]:
    with results_group() as made:
        yield made


# Every binding with every library that it works with, for what depends on it most.
on_each_binding = pytest.mark.parametrize(
    "mount",
    [("fusepy", "fuse"), ("mfusepy", "fuse"), ("mfusepy", "fuse3")],
    ids="-".join,
    indirect=True,
    scope="module",
)


@pytest.fixture(scope="module", params=[("mfusepy", "fuse3")], ids="-".join)
def mount(request: pytest.FixtureRequest, world: ResultsGroup) -> Iterator[Path]:
    binding, library = request.param
    pytest.importorskip("fuse" if binding == "fusepy" else "mfusepy")
    with mounted(world.service, ttl=0.5, fuse=binding, library=library) as directory:
        yield directory


@pytest.fixture
def shown(world: ResultsGroup, mount: Path, tmp_path: Path) -> Place:
    """The group that tests share: nothing of it is to be changed."""
    return Place(world, mount, world.id, tmp_path)


@pytest.fixture
def desk(world: ResultsGroup, mount: Path, tmp_path: Path) -> Place:
    """A group of the test's own, with an upload `note.txt`; its `$R` is the shared one's."""
    place = Place(world, mount, world.new_group(), tmp_path)
    source = tmp_path / "note.txt"
    source.write_text("one\ntwo\n")
    world.rest.upload(place.id, source)
    return place


# -- looking ---------------------------------------------------------------


@tool("ls", "ls")
def test_ls_lists_everything_with_its_size(shown: Place) -> None:
    assert shown.ok("ls $R").split() == [
        "archive.tar.gz",
        "arguments.json",
        "handle.json",
        "outputs",
        "results",
    ]
    sizes = {
        line.split()[8]: int(line.split()[4])
        for line in shown.ok("ls -l $R/results").splitlines()[1:]
    }
    assert sizes == {file["id"]: len(shown.bytes_of(file["name"])) for file in shown.done["files"]}
    listed = shown.ok("ls -lR .")
    for name in (
        "zeros.bin",
        "odd name & größe.txt",
        "größe 日本.txt",
        "a%2Fb.txt",
        "latest -> runs/",
    ):
        assert name in listed
    assert "?" not in listed
    assert len(shown.ok("ls -A $U").splitlines()) == len(shown.world.uploads)
    times = shown.ok("ls -t --time-style=+%s -l $U $R $R/results $O")
    assert times
    shown.fails("ls nothing", "No such file or directory", 2)


@tool("stat", "stat")
def test_stat_tells_type_mode_size_blocks_links_and_times(shown: Place) -> None:
    size = len(shown.bytes_of("results/long.txt"))
    assert shown.ok("stat -c '%F %a %s %h' $O/results/long.txt") == f"regular file 444 {size} 2\n"
    assert int(shown.ok("stat -c '%b' $O/results/long.txt")) == (size + 511) // 512
    assert shown.ok("stat -c '%a' $U/note.txt runs/new $A/cancel $A/handle.json").split() == [
        "644",
        "644",
        "644",
        "444",
    ]
    assert shown.ok("stat -c %F latest $U") == "symbolic link\ndirectory\n"
    one, other = shown.ok("stat -c '%i %Y' $O/table.csv; stat -c '%i %Y' $R/results/*").split(
        "\n", 1
    )
    assert one in other.splitlines()


@tool("find", "find")
def test_find_finds_by_name_type_size_and_time(shown: Place) -> None:
    assert shown.ok("find . -name '*.bin' -size +200k | wc -l") == "2\n"
    assert len(shown.ok("find runs -mindepth 1 -maxdepth 1 -type d").splitlines()) == 4
    assert len(shown.ok("find states -type l").splitlines()) == 4
    assert shown.ok("find $R -empty -name '*.txt'").strip() == f"{shown.outputs}/results/empty.txt"
    assert len(shown.ok("find $R -samefile $O/table.csv").splitlines()) == 2
    assert shown.ok("find $R -newer $R -name handle.json") == f"{shown.run}/handle.json\n"
    assert shown.ok("find $R -name table.csv -exec cat {} +").encode() == shown.bytes_of(
        "table.csv"
    )
    assert shown.ok("find $O -type f -print0 | xargs -0 cat | wc -c").strip() == str(
        sum(len(shown.bytes_of(name)) for name in RESULTS)
    )


@tool("du", "du")
def test_du_counts_what_has_two_names_once(shown: Place) -> None:
    size = sum(len(shown.bytes_of(name)) for name in RESULTS)
    both = int(shown.ok("du -bs $R/results $O -c | tail -n 1").split()[0])
    assert both == int(shown.ok("du -bs $O").split()[0]) == size
    assert int(shown.ok("du -s -B 1 $R").split()[0]) >= size


@tool("df", "df")
def test_df_shows_the_services_url_and_room(shown: Place) -> None:
    source, size, used, free, _, on = shown.ok("df -P .").splitlines()[1].split()
    assert source == f"flow+{shown.world.service.endpoint}"
    assert on == str(shown.mount)
    assert int(free) == int(size) > 0 == int(used)


# -- reading ---------------------------------------------------------------


@tool("cat", "cat")
def test_cat_gives_every_file_whole(shown: Place) -> None:
    for file in shown.done["files"]:
        for path in (f"results/{file['id']}", f"outputs/{file['name']}"):
            done = subprocess.run(["cat", path], cwd=shown.run, capture_output=True, timeout=60)
            assert done.stdout == shown.bytes_of(file["name"])
    assert shown.ok("cat < $O/table.csv | cat").encode() == shown.bytes_of("table.csv")
    assert json.loads(shown.ok("cat $R/handle.json")) == shown.done
    assert shown.ok("cat runs/new $A/cancel") == ""
    shown.fails("cat runs", "Is a directory")


@tool("head", "head")
def test_head_reads_the_beginning(shown: Place) -> None:
    text = shown.bytes_of("results/long.txt").decode()
    assert shown.ok("head -n 2 $O/results/long.txt") == "".join(text.splitlines(True)[:2])
    assert shown.ok("head -c 70000 $O/results/long.txt") == text[:70000]


@tool("tail", "tail")
def test_tail_reads_the_end(shown: Place) -> None:
    text = shown.bytes_of("results/long.txt").decode()
    assert shown.ok("tail -n 2 $O/results/long.txt") == "".join(text.splitlines(True)[-2:])
    assert shown.ok("tail -c +400001 $O/results/long.txt") == text[400000:]


@tool("tail -f", "tail")
def test_tail_f_shows_what_was_there_and_no_news(desk: Place) -> None:
    run = desk.rest.start(desk.id, {"sleeptime": 6000})
    handle = desk.path / "runs" / run / "handle.json"
    wait_until(lambda: desk.exists(handle), 5, "the mount to know the run")
    with subprocess.Popen(
        ["tail", "-n", "+1", "-s", "0.1", "-f", handle],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as tail:
        assert tail.stdout is not None
        first = os.read(tail.stdout.fileno(), 65536)
        assert json.loads(first)["state"] in ("PENDING", "RUNNING")
        desk.rest.request("PUT", f"runs/{run}", json={"reason": "enough"})
        wait_until(lambda: "CANCELED" in desk.ok(f"cat {handle}"), 5, "the end to be seen")
        tail.terminate()
        out, err = tail.communicate(timeout=60)
    assert (out, err) == (b"", b"")


@tool("less", "less")
def test_less_pages_through_a_result(shown: Place) -> None:
    with shown.terminal("less", shown.outputs / "results/long.txt") as less:
        less.await_text("line 28 of many")
        less.type("G")
        less.await_text("line 29999 of many")
        less.type("?line 4321 of\r")
        less.await_text("line 4322 of many")
        less.type("q")
        assert less.ended() == 0
    assert shown.ok("less $O/table.csv").encode() == shown.bytes_of("table.csv")


@tool("grep -r", "grep")
def test_grep_r_meets_a_result_under_both_its_names(shown: Place) -> None:
    found = shown.ok("grep -rl 'Harbour,23.75' .").split()
    (file_id,) = (file["id"] for file in shown.done["files"] if file["name"] == "table.csv")
    run = f"./runs/{shown.done['id']}"
    assert sorted(found) == sorted([f"{run}/results/{file_id}", f"{run}/outputs/table.csv"])
    assert shown.ok("grep -rc 'line 1.* of many' $O/results/long.txt") == "11111\n"
    assert shown.ok("grep -rlF 'enough' runs/*/handle.json").count("\n") == 1
    shown.fails("grep -r 'nowhere to be found' .", "")


@tool("wc", "wc")
def test_wc_counts(shown: Place) -> None:
    text = shown.bytes_of("results/long.txt")
    counted = shown.ok("wc $O/results/long.txt").split()[:3]
    assert list(map(int, counted)) == [30000, 120000, len(text)]
    assert shown.ok("wc -c < $O/results/deep/er/random.bin") == "300001\n"


@tool("md5sum", "md5sum", "sha256sum")
def test_sums_are_those_of_the_services_bytes(shown: Place) -> None:
    for name in RESULTS:
        (shown.tmp / "same").write_bytes(shown.bytes_of(name))
        for program in ("md5sum", "sha256sum"):
            path = shown.outputs / name
            assert len(set(shown.ok(f"{program} < '{path}'; {program} < $T/same").split())) == 2
    shown.ok(
        "cd $R && find . -type f -exec sha256sum {} + > $T/sums && sha256sum --quiet -c $T/sums"
    )


@tool("diff", "diff", "cmp")
def test_diff_and_cmp_compare(shown: Place) -> None:
    (shown.tmp / "random").write_bytes(shown.bytes_of("results/deep/er/random.bin"))
    shown.ok("cmp $O/results/deep/er/random.bin $T/random")
    shown.ok("diff $R/handle.json latest/../$(basename $R)/handle.json")
    shown.ok("diff -r $R/outputs states/SUCCESS/$(basename $R)/outputs")
    assert "< Harbour,23.75" in shown.sh("diff $O/table.csv $U/note.txt").stdout


# -- copying ---------------------------------------------------------------


def started(desk: Place, script: str) -> int:
    """How many runs a script starts that must succeed; `$T/args.json` has arguments of one."""

    def listed() -> list[dict[str, Any]]:
        return list(desk.rest.get(f"groups/{desk.id}/runs")["runs"])

    (desk.tmp / "args.json").write_text('{"fail": true}\n')
    before = len(listed())
    desk.ok(script)
    return len(listed()) - before


@tool("cp", "cp")
def test_cp_copies_both_ways(desk: Place) -> None:
    desk.ok("cp $O/results/long.txt $T/ && cmp $O/results/long.txt $T/long.txt")
    desk.ok("cp -r $R $T/run && diff -r $R $T/run")
    desk.ok("cp $T/long.txt $U/ && cp -p $T/long.txt $U/kept.txt && cp $O/table.csv $U/note.txt")
    assert desk.upload_bytes("long.txt") == desk.bytes_of("results/long.txt")
    assert desk.upload_bytes("kept.txt") == desk.bytes_of("results/long.txt")
    assert desk.upload_bytes("note.txt") == desk.bytes_of("table.csv")
    assert started(desk, "cp $T/args.json runs/new") == 1
    desk.fails("cp $T/long.txt $O/table.csv", "Operation not permitted")
    desk.fails("cp $T/long.txt $O/more.txt", "Operation not permitted")
    desk.fails("cp -r $T/run $U/", "Operation not permitted")


@tool("cp -a", "cp")
def test_cp_a_keeps_links_and_times_of_what_it_takes_away(desk: Place) -> None:
    desk.ok("cp -a $R $T/run && diff -r $R $T/run")
    assert desk.ok("stat -c '%h %Y %a' $T/run/outputs/table.csv") == desk.ok(
        "stat -c '%h %Y %a' $O/table.csv"
    )
    assert desk.ok("cd $R/../.. && cp -a states $T/ && readlink $T/states/*/* | wc -l") == "4\n"
    # Into uploads: the bytes; mode and time are accepted and mean nothing.
    desk.ok(
        "touch -d 2001-02-03 $T/note.txt && chmod 600 $T/note.txt && cp -a $T/note.txt $U/new.txt"
    )
    assert desk.upload_bytes("new.txt") == b"one\ntwo\n"
    assert desk.ok("stat -c %a $U/new.txt") == "644\n"


@tool("mv", "mv")
def test_mv_of_uploads_and_runs(desk: Place) -> None:
    desk.ok("echo in > $T/in.txt && mv $T/in.txt $U/ && ! test -e $T/in.txt")
    assert desk.upload_bytes("in.txt") == b"in\n"
    desk.ok("mv $U/in.txt $U/other.txt")
    assert desk.upload_names() == ["note.txt", "other.txt"]
    assert desk.upload_bytes("other.txt") == b"in\n"
    desk.ok("mv $U/other.txt $U/note.txt")
    assert desk.upload_names() == ["note.txt"]
    assert desk.upload_bytes("note.txt") == b"in\n"
    desk.ok("mv $U/note.txt $T/out.txt")
    assert (desk.tmp / "out.txt").read_text() == "in\n"
    assert desk.upload_names() == []
    desk.fails("mv $T/out.txt runs/new", "Operation not permitted")
    desk.fails("mv group.json other.json", "Operation not permitted")
    desk.fails("mv $O/table.csv $O/other.csv", "Operation not permitted")
    desk.fails("mv $A $T/active", "Device or resource busy")
    assert desk.rest.run(desk.world.active["id"])["state"] == "RUNNING"
    desk.ok("test -e $A/cancel && cmp $A/handle.json $T/active/handle.json")
    desk.succeed()
    desk.ok("mv $R $T/run")
    assert desk.rest.request("GET", f"runs/{desk.done['id']}").status_code == 404
    assert (desk.tmp / "run/outputs/table.csv").read_text().startswith("station,mean\n")


@tool("rm", "rm")
def test_rm_of_uploads_runs_and_what_cannot_go(desk: Place) -> None:
    desk.ok("rm $U/note.txt")
    assert desk.upload_names() == []
    desk.fails("rm group.json", "Operation not permitted")
    desk.fails("rm runs/new", "Operation not permitted")
    desk.fails("rm -r $A", "Device or resource busy")
    assert desk.rest.run(desk.world.active["id"])["state"] == "RUNNING"
    desk.succeed()
    # One file of a run: out of sight for ten seconds, and nothing is deleted.
    desk.ok("rm $O/table.csv && ! test -e $O/table.csv")
    assert desk.rest.run(desk.done["id"]) == desk.done
    desk.fails("rmdir $R", "Directory not empty")
    desk.ok("rm -r $R")
    assert desk.rest.request("GET", f"runs/{desk.done['id']}").status_code == 404
    # A group stays, and loses all that can go.
    desk.ok("echo again > $U/note.txt")
    desk.fails('rm -rf "$PWD"', "group.json': Operation not permitted")
    assert desk.upload_names() == []
    assert desk.rest.run(desk.world.active["id"])["state"] == "RUNNING"


@tool("tar", "tar")
def test_tar_packs_and_unpacks(desk: Place) -> None:
    desk.succeed()
    desk.ok("tar cf $T/group.tar . && tar df $T/group.tar")
    desk.ok("mkdir $T/copy && tar xf $T/group.tar -C $T/copy")
    desk.ok("diff -r --no-dereference . $T/copy")
    assert len(desk.ok("tar tzf $R/archive.tar.gz").splitlines()) == len(RESULTS)
    assert desk.ok("tar xzOf $R/archive.tar.gz table.csv").encode() == desk.bytes_of("table.csv")
    desk.ok("tar xzf $R/archive.tar.gz -C $U table.csv")
    assert desk.upload_bytes("table.csv") == desk.bytes_of("table.csv")


@tool("tar -S", "tar")
def test_tar_of_sparse_files_takes_zeros_for_what_they_are(shown: Place) -> None:
    shown.ok("mkdir $T/copy && tar cS -C $R . | tar x -C $T/copy && diff -r $R $T/copy")
    assert (shown.tmp / "copy/outputs/results/deep/zeros.bin").read_bytes() == bytes(1 << 18)


@tool("rsync", "rsync")
def test_rsync_takes_away_once_and_brings_uploads(desk: Place) -> None:
    desk.succeed()
    assert desk.ok("rsync -a ./ $T/copy; diff -r --no-dereference . $T/copy") == ""
    assert desk.ok("rsync -ai ./ $T/copy") == ""
    desk.ok("rm -r $U/*; mkdir $T/in; echo one > $T/in/one.txt; echo two > $T/in/two.txt")
    desk.ok("rsync -a $T/in/ $U/")
    assert desk.upload_names() == ["one.txt", "two.txt"]
    assert desk.upload_bytes("two.txt") == b"two\n"
    desk.ok("echo more >> $T/in/one.txt; rsync -rc --inplace $T/in/ $U/")
    assert desk.upload_bytes("one.txt") == b"one\nmore\n"
    # The service has a time of its own for each upload; what is the same is seen by its bytes.
    assert desk.ok("rsync -rci $T/in/ $U/") == ""
    desk.ok("rm $T/in/two.txt; rsync -rc --delete $T/in/ $U/")
    assert desk.upload_names() == ["one.txt"]
    assert started(desk, "rsync --inplace $T/args.json runs/new") == 1
    desk.fails("rsync -a $T/args.json runs/new", "Operation not permitted", 23)


@tool("zip", "zip", "unzip")
def test_zip_packs_a_run(desk: Place) -> None:
    desk.ok(
        "cd $R && zip -qr $T/run.zip . && unzip -tq $T/run.zip && unzip -q $T/run.zip -d $T/copy"
    )
    desk.ok("diff -r $R $T/copy")
    desk.ok("cp $T/run.zip $U/ && unzip -l $U/run.zip")
    desk.ok("unzip -p $U/run.zip outputs/table.csv > $T/table.csv")
    assert (desk.tmp / "table.csv").read_bytes() == desk.bytes_of("table.csv")
    desk.ok("cd $U && zip -q here.zip note.txt")
    assert desk.ok("unzip -p $U/here.zip note.txt") == "one\ntwo\n"


@tool("dd", "dd")
def test_dd_reads_and_writes_in_place(desk: Place) -> None:
    text = desk.bytes_of("results/long.txt")
    desk.ok("dd if=$O/results/long.txt bs=4k skip=3 count=5 of=$T/part status=none")
    assert (desk.tmp / "part").read_bytes() == text[3 * 4096 : 8 * 4096]
    desk.ok("dd if=$T/part of=$U/part bs=1000 status=none")
    assert desk.upload_bytes("part") == text[3 * 4096 : 8 * 4096]
    desk.ok("printf XY | dd of=$U/note.txt bs=1 seek=1 conv=notrunc status=none")
    assert desk.upload_bytes("note.txt") == b"oXY\ntwo\n"
    assert started(desk, "dd if=$T/args.json of=runs/new bs=1 status=none") == 1
    desk.fails("dd if=$T/part of=$O/table.csv status=none", "Operation not permitted")


@tool("install", "install")
def test_install_brings_an_upload(desk: Place) -> None:
    desk.ok("echo new > $T/new.txt; install -m 600 $T/new.txt $U/; install $T/new.txt $U/note.txt")
    assert desk.upload_bytes("new.txt") == desk.upload_bytes("note.txt") == b"new\n"
    assert desk.upload_names() == ["new.txt", "note.txt"]
    desk.ok("install -D $O/table.csv $T/deep/er/table.csv")
    desk.fails("install $T/new.txt runs/new", "Operation not permitted")


# -- changing --------------------------------------------------------------


@tool("echo", "cat")
def test_redirections_write_uploads(desk: Place) -> None:
    desk.ok("echo a > $U/a.txt; echo b >> $U/a.txt; { echo c; cat $O/table.csv; } >> $U/a.txt")
    assert desk.upload_bytes("a.txt") == b"a\nb\nc\n" + desk.bytes_of("table.csv")
    desk.ok(": > $U/a.txt")
    wait_until(lambda: desk.upload_bytes("a.txt") == b"", 5, "nothing to have been sent")
    assert started(desk, "echo '{}' > runs/new; cat $T/args.json > runs/new") == 2
    desk.fails("echo '{' > runs/new; echo '{]' > runs/new", "Invalid argument")
    desk.fails("echo a > $O/table.csv", "Operation not permitted")
    desk.fails("echo a > $R/more.txt", "Operation not permitted")
    desk.fails("echo a > elsewhere", "Operation not permitted")


@tool("tee", "tee")
def test_tee_writes_uploads(desk: Place) -> None:
    assert (
        desk.ok("echo new | tee $U/a.txt $U/b.txt; echo more | tee -a $U/note.txt") == "new\nmore\n"
    )
    assert desk.upload_bytes("a.txt") == desk.upload_bytes("b.txt") == b"new\n"
    assert desk.upload_bytes("note.txt") == b"one\ntwo\nmore\n"
    assert started(desk, "tee runs/new < $T/args.json") == 1
    desk.fails("echo new | tee $O/table.csv", "Operation not permitted")


@tool("sed -i", "sed")
def test_sed_i_changes_an_upload(desk: Place) -> None:
    desk.ok("sed -i s/two/2/ $U/note.txt")
    assert desk.upload_bytes("note.txt") == b"one\n2\n"
    assert desk.upload_names() == ["note.txt"]
    desk.ok("sed -i.old s/one/1/ $U/note.txt")
    assert desk.upload_bytes("note.txt") == b"1\n2\n"
    assert desk.upload_bytes("note.txt.old") == b"one\n2\n"
    desk.fails("sed -i s/a/b/ $O/table.csv", "Operation not permitted", 4)
    desk.fails("sed -i s/a/b/ runs/new", "Operation not permitted", 4)


@tool("touch", "touch")
def test_touch_makes_an_empty_upload_and_leaves_times_to_the_service(desk: Place) -> None:
    desk.ok("touch $U/empty.txt $U/note.txt; touch -d 2001-02-03 $U/note.txt")
    wait_until(
        lambda: desk.upload_names() == ["empty.txt", "note.txt"], 5, "the new one to be sent"
    )
    assert desk.upload_bytes("empty.txt") == b""
    assert desk.upload_bytes("note.txt") == b"one\ntwo\n"
    assert started(desk, "touch runs/new; truncate -s 0 runs/new; : > runs/new") == 0
    desk.fails("touch $O/table.csv", "Operation not permitted")
    desk.fails("touch $R/more.txt", "Operation not permitted")


@tool("truncate", "truncate")
@on_each_binding
def test_truncate_cuts_an_upload_off(desk: Place) -> None:
    desk.ok("truncate -s 4 $U/note.txt; truncate -s 3 $U/new.txt")
    assert desk.upload_bytes("note.txt") == b"one\n"
    assert desk.upload_bytes("new.txt") == bytes(3)
    desk.fails("truncate -s 0 $O/table.csv", "Operation not permitted")


@tool("chmod", "chmod", "chown")
def test_chmod_and_chown_mean_nothing(desk: Place) -> None:
    desk.ok("chmod 600 $U/note.txt; chown $(id -u) $U/note.txt")
    assert desk.ok("stat -c %a $U/note.txt") == "644\n"
    desk.fails("chmod 600 $O/table.csv", "Operation not permitted")
    desk.fails("chmod 700 runs", "Operation not permitted")


@tool("ln", "ln", "mkdir", "mkfifo")
def test_links_directories_and_pipes_are_refused(desk: Place) -> None:
    desk.fails("ln $U/note.txt $U/other.txt", "Operation not permitted")
    desk.fails("ln -s note.txt $U/other.txt", "Operation not permitted")
    desk.fails("mkdir $U/more", "Operation not permitted")
    desk.fails("mkdir runs/more", "Operation not permitted")
    desk.fails("mkfifo $U/pipe", "Operation not permitted")
    # From elsewhere to here, anything goes.
    desk.ok("ln -s $O/table.csv $T/table.csv && cmp $T/table.csv $O/table.csv")


# -- programs --------------------------------------------------------------


def save_twice_with_vim(desk: Place, settings: str) -> None:
    with desk.terminal("vim", "-c", f"set {settings}", desk.uploads / "note.txt") as vim:
        vim.await_text("two")
        vim.type("Gothree\x1b:w\r")
        vim.await_text("written")
        vim.type("gg0xx:wq\r")
        assert vim.ended() == 0, vim.screen


@tool("vim", "vim")
@pytest.mark.parametrize(
    "settings", ["backup&", "backupskip= backupcopy=no", "backupskip= backupcopy=yes"]
)
def test_vim_saves_an_upload(desk: Place, settings: str) -> None:
    save_twice_with_vim(desk, settings)
    assert desk.upload_bytes("note.txt") == b"e\ntwo\nthree\n"
    assert desk.upload_names() == ["note.txt"]


@tool("vim", "vim")
def test_vim_starts_a_run(desk: Place) -> None:
    with desk.terminal("vim", desk.path / "runs" / "new") as vim:
        vim.await_text("new")
        vim.type('i{"fail": true}\x1b:wq\r')
        assert vim.ended() == 0, vim.screen
    assert len(desk.rest.get(f"groups/{desk.id}/runs")["runs"]) == 1


@tool("vim", "vim")
def test_vim_does_not_take_its_own_save_for_somebody_elses(desk: Place) -> None:
    # It would, and ask at the next save, if a file's time changed once it has been closed.
    desk.python("""
import time
with open(U + "/note.txt", "w") as file:
    file.write("new")
    file.flush()
    os.fsync(file.fileno())
    saved = os.fstat(file.fileno()).st_mtime_ns
for _ in range(20):
    assert os.stat(U + "/note.txt").st_mtime_ns == saved
    time.sleep(0.02)
""")


@tool("vim", "vim")
@pytest.mark.parametrize("copying", ["no", "yes"])
def test_vim_keeps_a_backup_beside_an_upload(desk: Place, copying: str) -> None:
    save_twice_with_vim(desk, f"backup backupskip= backupcopy={copying}")
    assert desk.ok("cat $U/note.txt") == "e\ntwo\nthree\n"
    assert desk.ok("cat $U/note.txt~") == "one\ntwo\nthree\n"
    # The service has no `~` in its names: of two of one name, the newest is what was saved.
    assert desk.upload_names() == ["note.txt", "note.txt"]
    with mounted(desk.world.service) as another:
        other = Place(desk.world, another, desk.id, desk.tmp)
        assert other.ok("cat $U/note.txt") == "e\ntwo\nthree\n"


@tool("vim", "vim")
def test_vim_shows_a_result_and_cannot_save_it(shown: Place) -> None:
    with shown.terminal("vim", shown.outputs / "table.csv") as vim:
        vim.await_text("[readonly]")
        vim.await_text("Harbour")
        vim.type("onew\x1b:w!\r")
        vim.await_text("for writing")  # E166 or E212, by the version
        vim.type("\r:q!\r")
        assert vim.ended() == 0
    assert shown.ok("cat $O/table.csv").encode() == shown.bytes_of("table.csv")
    assert shown.ok("ls -A $O").split() == ["results", "table.csv"]


@tool("nano", "nano")
def test_nano_saves_an_upload(desk: Place) -> None:
    with desk.terminal("nano", desk.uploads / "note.txt") as nano:
        nano.await_text("two")
        nano.type("zero\r\x0f")
        nano.await_text("Write")
        nano.type("\r")
        nano.await_text("Wrote")
        nano.type("\x18")
        assert nano.ended() == 0
    assert desk.upload_bytes("note.txt") == b"zero\none\ntwo\n"
    assert desk.upload_names() == ["note.txt"]


@tool("nano", "nano")
def test_nano_shows_a_result_and_cannot_save_it(shown: Place) -> None:
    with shown.terminal("nano", shown.outputs / "table.csv") as nano:
        nano.await_text("Harbour")
        nano.type("new\r\x0f")
        nano.await_text("Write")
        nano.type("\r")
        nano.await_text("Error writing")
        nano.type("\x18")
        nano.await_text("Save modified")
        nano.type("n")
        assert nano.ended() == 0
    assert shown.ok("cat $O/table.csv").encode() == shown.bytes_of("table.csv")


@tool("git status", "git")
def test_git_status_of_a_run_is_clean_and_nothing_is_written(shown: Place) -> None:
    as_someone = "git -c user.name=a -c user.email=a@example.org"
    shown.fails("git -C $R status", "not a git repository", 128)
    shown.fails("git -C $R init", "Operation not permitted")
    # A work tree on the mount, the repository elsewhere.
    there = f"{as_someone} --git-dir=$T/store --work-tree=$R"
    shown.ok(
        f"git init -q --bare $T/store && git -C $T/store config core.bare false && {there} add -A"
    )
    shown.ok(f"{there} commit -qm all && {there} status --porcelain")
    assert shown.ok(f"{there} status --porcelain") == ""
    assert shown.ok(f"{there} show HEAD:outputs/table.csv").encode() == shown.bytes_of("table.csv")
    # A copy with a repository of its own.
    shown.ok("cp -r $R $T/copy && cd $T/copy && git init -q && git add -A")
    shown.ok(f"{as_someone} -C $T/copy commit -qm all")
    assert shown.ok("git -C $T/copy status --porcelain") == ""
    assert shown.ok("ls -A $R").count("\n") == 5


@tool("sqlite3", "sqlite3")
def test_sqlite3_reads_a_database_among_the_results(desk: Place) -> None:
    query = '"SELECT station FROM mean WHERE value > 20"'
    base = "$O/results/deep/stations.sqlite"
    assert desk.ok(f'sqlite3 "file:{base}?mode=ro&immutable=1" {query}') == "Harbour\n"
    assert desk.ok(f"sqlite3 -readonly {base} {query}") == "Harbour\n"
    assert desk.ok(f"sqlite3 {base} {query}") == "Harbour\n"
    refused = desk.sh(f'sqlite3 {base} "DELETE FROM mean"')
    assert refused.returncode != 0
    assert "readonly database" in refused.stderr
    assert desk.ok(f"cmp {base} $R/results/{desk.done['files'][4]['id']}") == ""
    # Among the uploads: in a copy elsewhere, and put back.
    desk.ok(f'cp {base} $T/b && chmod u+w $T/b && sqlite3 $T/b "DELETE FROM mean"')
    desk.ok("cp $T/b $U/base.sqlite")
    assert desk.ok('sqlite3 $U/base.sqlite "SELECT count(*) FROM mean"') == "0\n"


@tool("gio", "gio")
def test_gio_does_as_file_managers_do(desk: Place) -> None:
    desk.succeed()
    assert "size:  38" in desk.ok("gio info $O/table.csv")
    assert "table.csv" in desk.ok("gio list $O")
    desk.ok(
        "gio copy $O/table.csv $T/ && cmp $O/table.csv $T/table.csv && gio copy $T/table.csv $U/"
    )
    assert desk.upload_bytes("table.csv") == desk.bytes_of("table.csv")
    desk.fails("gio trash $U/table.csv", "trash")
    desk.ok("gio remove $U/table.csv")
    assert desk.upload_names() == ["note.txt"]


@tool("flock", "flock")
@on_each_binding
def test_flock_locks_among_the_users_of_one_mount(desk: Place) -> None:
    assert (
        desk.ok("flock $U/note.txt echo locked; flock -s $O/table.csv echo locked")
        == "locked\n" * 2
    )
    desk.fails("flock $U/note.txt flock -n $U/note.txt true", "")


@tool("inotify")
def test_inotify_tells_of_what_is_done_on_this_mount_only(desk: Place) -> None:
    desk.python("""
import ctypes, select
libc = ctypes.CDLL(None, use_errno=True)
watch = libc.inotify_init1(os.O_NONBLOCK)
assert libc.inotify_add_watch(watch, U.encode(), 0x100 | 0x8) > 0  # created, written and closed
print("watching", flush=True)
open(U + "/mine.txt", "w").close()
assert select.select([watch], [], [], 10)[0]
assert b"mine.txt" in os.read(watch, 4096)
""")
    done = subprocess.Popen(
        [sys.executable, "-c", """
import ctypes, os, select, sys
libc = ctypes.CDLL(None, use_errno=True)
watch = libc.inotify_init1(os.O_NONBLOCK)
assert libc.inotify_add_watch(watch, sys.argv[1].encode(), 0x100) > 0
print("watching", flush=True)
sys.stdin.readline()
print(select.select([watch], [], [], 0)[0])
""", desk.path / "runs"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.stdout is not None
    assert done.stdout.readline() == "watching\n"
    desk.succeed()
    assert done.communicate("\n", timeout=20)[0] == "[]\n"


# -- Python ----------------------------------------------------------------


@tool("open")
def test_pythons_open_reads_and_writes(desk: Place) -> None:
    desk.python("""
with open(O + "/results/long.txt", newline="") as file:
    assert sum(1 for _ in file) == 30000
with open(O + "/results/deep/er/random.bin", "rb") as file:
    whole = file.read()
    assert len(whole) == 300001
    file.seek(-10, 2)
    assert file.read() == whole[-10:]
    file.seek(100000)
    assert file.read(10) == whole[100000:100010]
with open(U + "/note.txt", "r+") as file:
    assert file.read() == "one\\ntwo\\n"
    file.write("three\\n")
    file.seek(0)
    file.write("ONE")
with open(U + "/note.txt", "a") as file:
    file.write("four\\n")
with open(U + "/new.txt", "x") as file:
    file.write("new")
""")
    assert desk.upload_bytes("note.txt") == b"ONE\ntwo\nthree\nfour\n"
    assert desk.upload_bytes("new.txt") == b"new"
    assert desk.errno_of('open(U + "/new.txt", "x")') == "EEXIST"
    for mode in ("w", "a", "r+"):
        assert desk.errno_of(f'open(O + "/table.csv", {mode!r})') == "EPERM"


@tool("os")
@on_each_binding
def test_pythons_os_looks_and_changes(desk: Place) -> None:
    desk.python("""
assert {"archive.tar.gz", "arguments.json", "handle.json"} < set(os.listdir(R))
with os.scandir(R) as entries:
    kinds = {entry.name: entry.is_dir() for entry in entries}
assert kinds["outputs"] and not kinds["handle.json"]
walked = sum(len(files) for _, _, files in os.walk(O))
assert walked == 8, walked
path = O + "/results/deep/er/random.bin"
assert os.path.getsize(path) == 300001
assert os.stat(O + "/table.csv").st_nlink == 2
fd = os.open(path, os.O_RDONLY)
assert len(os.pread(fd, 1000, 300000)) == 1
out = os.open(T + "/copied", os.O_CREAT | os.O_WRONLY)
sent = 0
while sent < 300001:
    n = os.sendfile(out, fd, sent, 1 << 20)
    assert n
    sent += n
again = os.open(U + "/again.bin", os.O_CREAT | os.O_WRONLY)
while os.copy_file_range(fd, again, 1 << 20):
    pass
os.close(again)
whole = open(path, "rb").read()
assert whole == open(T + "/copied", "rb").read() == open(U + "/again.bin", "rb").read()
os.remove(U + "/again.bin")
assert os.statvfs(R).f_namemax == 255
assert os.getxattr(R, "user.flowfs.state") == b"SUCCESS"
assert os.path.realpath(R + "/../../latest") == os.path.realpath(A)
os.rename(U + "/note.txt", U + "/renamed.txt")
os.truncate(U + "/renamed.txt", 3)
fd = os.open(U + "/fresh.txt", os.O_CREAT | os.O_EXCL | os.O_RDWR)
os.write(fd, b"fresh")
os.fsync(fd)
assert os.pread(fd, 10, 0) == b"fresh"
os.close(fd)
""")
    assert desk.upload_bytes("renamed.txt") == b"one"
    assert desk.upload_bytes("fresh.txt") == b"fresh"
    desk.python('os.remove(U + "/renamed.txt"); os.unlink(U + "/fresh.txt")')
    assert desk.upload_names() == []
    for statement in ('os.mkdir(U + "/d")', 'os.symlink("a", U + "/s")', 'os.remove("group.json")',
                      'os.chmod(O + "/table.csv", 0o600)', 'os.rename(O + "/table.csv", O + "/x")',
                      'os.open(O + "/table.csv", os.O_RDWR)'):  # fmt: skip
        assert desk.errno_of(statement) == "EPERM", statement
    assert desk.errno_of("os.remove(A + '/handle.json')") == "EBUSY"
    assert desk.errno_of("os.rmdir(R)") == "ENOTEMPTY"


@tool("shutil")
def test_pythons_shutil_copies_moves_and_removes(desk: Place) -> None:
    desk.succeed()
    desk.python("""
import filecmp, shutil
shutil.copytree(".", T + "/linked", symlinks=True)
shutil.copytree(".", T + "/followed")
assert os.path.islink(T + "/linked/latest")
assert not os.path.islink(T + "/followed/latest")
for name in ("handle.json", "archive.tar.gz", "outputs/table.csv", "outputs/results/long.txt"):
    assert filecmp.cmp(R + "/" + name, T + "/linked/latest/" + name, shallow=False), name
    assert filecmp.cmp(R + "/" + name, T + "/followed/latest/" + name, shallow=False), name
shutil.copy2(O + "/table.csv", T + "/table.csv")
assert os.stat(T + "/table.csv").st_mtime == os.stat(O + "/table.csv").st_mtime
shutil.copy2(T + "/table.csv", U + "/copy2.csv")
shutil.copy(T + "/table.csv", U + "/copy.csv")
shutil.copyfile(T + "/table.csv", U + "/copyfile.csv")
shutil.move(T + "/table.csv", U + "/moved.csv")
shutil.move(U + "/moved.csv", U + "/again.csv")
assert shutil.disk_usage(R).free > 0
shutil.rmtree(R)
assert not os.path.exists(R)
""")
    assert desk.rest.request("GET", f"runs/{desk.done['id']}").status_code == 404
    names = ["again.csv", "copy.csv", "copy2.csv", "copyfile.csv"]
    assert desk.upload_names() == sorted([*names, "note.txt"])
    assert len({desk.upload_bytes(name) for name in names}) == 1
    assert desk.errno_of("shutil.rmtree(A)", "shutil") == "EBUSY"


@tool("mmap")
@on_each_binding
def test_pythons_mmap_reads_results(desk: Place) -> None:
    desk.succeed()
    desk.python("""
import gzip, mmap
def mapped(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        return memory[:]
for name in ("handle.json", "outputs/table.csv", "outputs/results/deep/er/random.bin"):
    assert mapped(R + "/" + name) == open(R + "/" + name, "rb").read()
archive = mapped(R + "/archive.tar.gz")  # nobody has read it yet
assert b"Harbour" in gzip.decompress(archive)
# What changes is read past the kernel's cache, and cannot be shared.
for path in (A + "/handle.json", A + "/../../runs.jsonl"):
    try:
        mapped(path)
        raise AssertionError(path)
    except OSError as error:
        assert error.errno == errno.ENODEV
with open(A + "/handle.json", "rb") as file:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as memory:
        assert b"RUNNING" in memory[:]
""")


@tool("pathlib")
def test_pythons_pathlib_works(desk: Place) -> None:
    desk.python("""
from pathlib import Path
run, uploads = Path(R), Path(U)
assert {p.name for p in run.iterdir()} >= {"handle.json", "outputs"}
assert len([p for p in run.rglob("*") if p.is_file()]) == 19
assert [p.name for p in run.glob("outputs/*.csv")] == ["table.csv"]
assert (run / "outputs/table.csv").read_text().startswith("station")
assert sum((run / "outputs/table.csv").samefile(path) for path in run.glob("results/*")) == 1
assert not (run / "nothing").exists()
assert Path(A, "cancel").is_file() and not (run / "cancel").exists()
note = uploads / "note.txt"
note.write_text("written")
note = note.rename(uploads / "other.txt")
(uploads / "touched").touch()
(uploads / "bytes").write_bytes(bytes(3))
(uploads / "touched").unlink()
""")
    assert desk.upload_names() == ["bytes", "other.txt"]
    assert desk.upload_bytes("other.txt") == b"written"
    assert desk.errno_of("pathlib.Path(U, 'd').mkdir()", "pathlib") == "EPERM"
    assert desk.errno_of("pathlib.Path(O, 'table.csv').write_text('x')", "pathlib") == "EPERM"


@tool("tarfile")
def test_pythons_tarfile_takes_of_an_archive_what_lstat_says(desk: Place) -> None:
    desk.succeed()
    script = """
import io, tarfile
def packed():
    with tarfile.open(T + "/run.tar", "w") as tar:
        tar.add(R, "run")
    with tarfile.open(T + "/run.tar") as tar:
        assert tar.extractfile("run/outputs/table.csv").read().startswith(b"station")
        return tar.extractfile("run/archive.tar.gz").read()
assert len(packed()) == 1  # nobody has read it yet
whole = open(R + "/archive.tar.gz", "rb").read()
assert packed() == whole
with tarfile.open(R + "/archive.tar.gz") as archive:
    assert archive.extractfile("table.csv").read().startswith(b"station")
"""
    desk.python(script)


@tool("zipfile")
def test_pythons_zipfile_packs_and_reads(desk: Place) -> None:
    desk.succeed()
    desk.python("""
import zipfile
with zipfile.ZipFile(U + "/run.zip", "w", zipfile.ZIP_DEFLATED) as file:
    for name in ("archive.tar.gz", "handle.json", "outputs/table.csv", "outputs/results/long.txt"):
        file.write(R + "/" + name, name)
with zipfile.ZipFile(U + "/run.zip") as file:
    assert file.testzip() is None
    for name in file.namelist():
        assert file.read(name) == open(R + "/" + name, "rb").read(), name
""")
