"""Uploads that are renamed, as ``mv``, ``sed -i``, rsync and editors do to write a file."""

from __future__ import annotations

import os
import pty
import select
import shutil
import time
from pathlib import Path

import pytest
from mounted_group import MountedGroup
from mounting import is_mounted, mounted, serve_mount
from support import Rest, wait_until

from flowfs.embedded import EmbeddedService

pytestmark = [pytest.mark.mount, pytest.mark.service]


def need(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")


# -- by the tools ------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "printf new > uploads/part && mv uploads/part uploads/x.txt",
        "printf new > uploads/part && mv -f uploads/part uploads/x.txt",
        "printf new > $tmp/x.txt && mv $tmp/x.txt uploads/",
        "printf new > $tmp/x.txt && mv $tmp/x.txt uploads/x.txt",
        "printf new > $tmp/x.txt && cp -a $tmp/x.txt uploads/",
        "printf new > $tmp/x.txt && cp -a --remove-destination $tmp/x.txt uploads/",
        "printf new > $tmp/x.txt && install -m 644 $tmp/x.txt uploads/",
        "sed -i s/old/new/ uploads/x.txt",
        "perl -pi -e s/old/new/ uploads/x.txt",
        "printf new > $tmp/x.txt && rsync -aI $tmp/x.txt uploads/",
        "printf new > $tmp/x.txt && rsync --ignore-times $tmp/x.txt uploads/",
        "printf new > $tmp/x.txt && rsync -aI --inplace $tmp/x.txt uploads/",
        "python3 -c '"
        'import os; f = open("uploads/.x.txt.tmp", "w"); f.write("new"); f.flush();'
        'os.fsync(f.fileno()); f.close(); os.replace(f.name, "uploads/x.txt")\'',
        # before it is closed
        "python3 -c '"
        'import os; f = open("uploads/x.txt~", "w"); f.write("new");'
        'os.replace(f.name, "uploads/x.txt")\'',
        # emacs and vim: the old one becomes the backup, and goes in the end
        "mv uploads/x.txt uploads/x.txt~ && printf new > uploads/x.txt && rm uploads/x.txt~",
        # as a copy
        "cp -p uploads/x.txt uploads/x.txt~ && printf new > uploads/x.txt && rm uploads/x.txt~",
        "mv uploads/x.txt uploads/.x.txt.1 && mv uploads/.x.txt.1 uploads/x.txt"
        " && sed -i s/old/new/ uploads/x.txt",
    ],
)
def test_a_file_is_replaced_and_nothing_else_is_left(
    group: MountedGroup, tmp_path: Path, command: str
) -> None:
    tool = command.partition("&& ")[2].split(" ")[0] if "&&" in command else command.split(" ")[0]
    need(tool if tool in ("rsync", "perl") else "sh")
    group.put("x.txt", b"old")
    group.out(f"tmp={tmp_path}; {command}")
    # Whoever looks finds it at once, whatever of it is still under way.
    assert group.out("ls -A uploads; cat uploads/x.txt") == "x.txt\nnew"
    assert group.stored() == [("x.txt", b"new")]


@pytest.mark.parametrize("copy", ["auto", "no", "yes"])
def test_vim_saves_and_leaves_nothing_behind(group: MountedGroup, copy: str) -> None:
    need("vim")
    group.put("x.txt", b"one\nold\n")
    vim = f"vim -N -u NONE -i NONE -es -c 'set backupcopy={copy}'"
    group.out(f"{vim} -c '%s/old/new/' -c w -c '%s/one/1/' -c wq uploads/x.txt < /dev/null")
    assert group.out("ls -A uploads; cat uploads/x.txt") == "x.txt\n1\nnew\n"
    assert group.stored() == [("x.txt", b"1\nnew\n")]


@pytest.mark.parametrize("options", [[], ["-B"]], ids=["plain", "backup"])
def test_nano_saves(group: MountedGroup, options: list[str]) -> None:
    need("nano")
    group.put("x.txt", b"old\n")
    type_into(
        ["nano", *options, "x.txt"], "new\r", "\x0f", "\r", "\x18", cwd=group.path / "uploads"
    )
    assert group.out("cat uploads/x.txt") == "new\nold\n"
    kept = [("x.txt", b"old\n")] if options else []  # x.txt~, as the service calls it
    assert group.stored() == sorted([("x.txt", b"new\nold\n"), *kept])
    if options:
        assert group.out("cat 'uploads/x.txt~'") == "old\n"


def type_into(command: list[str], *keys: str, cwd: Path) -> None:
    """Run a program on a terminal, and type into it whenever it has answered and waits."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.environ.update(TERM="xterm", HOME="/nonexistent")
        os.execvp(command[0], command)
    deadline = time.monotonic() + 120
    try:
        # What is typed before a program has set up its terminal is lost.
        left, quiet, heard = list(keys), 0, False
        while True:
            assert time.monotonic() < deadline, "it does not end"
            ready, _, _ = select.select([terminal], [], [], 0.2)
            if ready:
                try:
                    if not os.read(terminal, 1 << 16):
                        break
                except OSError:  # it has ended
                    break
                quiet, heard = 0, True
                continue
            quiet += 1
            if heard and quiet >= 2 and left:
                os.write(terminal, left.pop(0).encode())
                quiet, heard = 0, False
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


# -- what it costs -----------------------------------------------------------


def test_a_file_that_was_written_just_now_is_renamed_without_fetching_it(
    group: MountedGroup,
) -> None:
    group.mark()
    group.out("head -c 3000000 /dev/urandom | tee uploads/a | md5sum > /dev/null")
    group.out("mv uploads/a uploads/b && mv uploads/b uploads/c")
    assert len(group.requests("POST", "uploads")) == 3
    assert group.requests("GET", f"uploads/{group.id}/files/") == []
    ((name, data),) = group.stored()
    assert (name, len(data)) == ("c", 3_000_000)


def test_a_file_of_the_service_is_fetched_once_to_be_renamed(group: MountedGroup) -> None:
    data = os.urandom(3_000_000)
    group.put("a", data)
    group.mark()
    group.out("mv uploads/a uploads/b")
    asked = [made[-3:] for made in group.requests("GET", f"uploads/{group.id}/files/")]
    assert asked.count("200") == 1  # mv asks for its size as well
    assert len(group.requests("POST", "uploads")) == 1
    assert group.stored() == [("b", data)]


def test_a_new_file_that_is_still_open_is_renamed_for_nothing(group: MountedGroup) -> None:
    group.put("b", b"old")
    group.mark()
    script = """
f = os.open("uploads/a", os.O_RDWR | os.O_CREAT)
os.write(f, b"new")
os.rename("uploads/a", "uploads/b")
print(os.listdir("uploads"), open("uploads/b").read(), os.fstat(f).st_size)
print(os.path.exists("uploads/a"))
os.write(f, b"er")
os.close(f)"""
    assert group.python(script) == "['b'] new 3\nFalse"
    assert len(group.requests("POST", "uploads")) == 1
    assert group.stored() == [("b", b"newer")]


# -- who has them open -------------------------------------------------------


def test_a_renamed_file_is_written_on_under_its_new_name(group: MountedGroup) -> None:
    group.put("b", b"old")
    script = """
f = os.open("uploads/a", os.O_RDWR | os.O_CREAT)
os.write(f, b"one")
os.fsync(f)
os.rename("uploads/a", "uploads/b")
os.write(f, b" two")
print(os.pread(f, 100, 0), os.fstat(f).st_size)
os.fsync(f)
os.rename("uploads/b", "uploads/c")
os.write(f, b" three")
os.close(f)
print(open("uploads/c").read(), os.listdir("uploads"))"""
    assert group.python(script) == "b'one two' 7\none two three ['c']"
    assert group.stored() == [("c", b"one two three")]


def test_who_has_open_what_is_replaced_writes_to_nowhere(group: MountedGroup) -> None:
    script = """
old = os.open("uploads/b", os.O_RDWR | os.O_CREAT)
os.write(old, b"old")
os.fsync(old)
with open("uploads/a", "w") as f:
    f.write("new!")
os.rename("uploads/a", "uploads/b")
os.write(old, b"er")
print(os.pread(old, 100, 0))
os.close(old)
print(os.stat("uploads/b").st_size, open("uploads/b").read(), os.listdir("uploads"))"""
    assert group.python(script) == "b'older'\n4 new! ['b']"
    assert group.stored() == [("b", b"new!")]


def test_a_removed_file_is_read_and_written_by_who_has_it_open(group: MountedGroup) -> None:
    script = """
f = os.open("uploads/a", os.O_RDWR | os.O_CREAT)
os.write(f, b"one")
os.unlink("uploads/a")
os.write(f, b" two")
print(os.pread(f, 100, 0), os.path.exists("uploads/a"))
with open("uploads/a", "w") as other:
    other.write("other")
os.write(f, b" three")
os.close(f)
print(os.stat("uploads/a").st_size, open("uploads/a").read())"""
    assert group.python(script) == "b'one two' False\n5 other"
    assert group.stored() == [("a", b"other")]


def test_a_chain_of_renames_right_behind_each_close_loses_nothing(group: MountedGroup) -> None:
    script = """
for number in range(20):
    with open("uploads/next", "w") as f:
        f.write(str(number))
    os.replace("uploads/next", "uploads/now")
    assert open("uploads/now").read() == str(number)
    assert os.listdir("uploads") == ["now"], os.listdir("uploads")"""
    assert group.python(script) == ""
    assert group.stored() == [("now", b"19")]


def test_renames_of_several_programs_leave_one_file_each(group: MountedGroup) -> None:
    group.out(
        "for i in 1 2 3 4; do (for j in 1 2 3; do echo $i > uploads/.$i.$j;"
        " mv uploads/.$i.$j uploads/f$i; done) & done; wait"
    )
    assert group.stored() == [(f"f{i}", b"%d\n" % i) for i in range(1, 5)]


# -- names that the service changes ------------------------------------------


def test_a_backup_of_an_editor_is_never_taken_for_the_file(group: MountedGroup) -> None:
    group.put("x.csv", b"original")
    group.out("cp uploads/x.csv 'uploads/x.csv~'; printf backup > 'uploads/x.csv~'")
    assert group.out("cat uploads/x.csv 'uploads/x.csv~'") == "originalbackup"
    group.out("printf changed > uploads/x.csv")
    assert group.out("cat uploads/x.csv 'uploads/x.csv~'") == "changedbackup"
    listed = group.out("ls uploads").splitlines()
    assert len(listed) == 2
    assert "x.csv" in listed
    assert all(name.startswith("x.csv") for name in listed)
    # what is listed can be removed
    group.out("rm uploads/x.csv\\ *")
    assert group.stored() == [("x.csv", b"changed")]
    assert group.sh("cat 'uploads/x.csv~'").returncode == 1


def test_of_an_editor_whose_save_fails_in_the_middle_the_backup_is_left(
    group: MountedGroup,
) -> None:
    group.put("x.csv", b"original")
    group.out("mv uploads/x.csv 'uploads/x.csv~'")
    # Under the name that is listed it is written as another file, renamed and removed.
    group.out("printf half > uploads/x.csv; cat uploads/x.csv; rm uploads/x.csv")
    assert group.stored() == [("x.csv", b"original")]
    group.out("exec 3> uploads/x.csv; mv uploads/x.csv uploads/y.csv; printf 2 >&3; exec 3>&-")
    assert group.stored() == [("x.csv", b"original"), ("y.csv", b"2")]
    group.out("exec 3> uploads/x.csv; rm uploads/x.csv; printf 2 >&3; exec 3>&-")
    assert group.stored() == [("x.csv", b"original"), ("y.csv", b"2")]
    group.out("mv 'uploads/x.csv~' uploads/x.csv")
    assert group.stored() == [("x.csv", b"original"), ("y.csv", b"2")]
    assert group.sh("ls 'uploads/x.csv~'").returncode != 0


def test_a_file_whose_name_was_changed_is_renamed(group: MountedGroup) -> None:
    group.out(
        "printf text > 'uploads/my file.txt'; mv 'uploads/my file.txt' 'uploads/our file.txt'"
    )
    assert group.out("cat 'uploads/our file.txt' uploads/our_file.txt; ls uploads") == (
        "texttextour_file.txt\n"
    )
    group.out("mv uploads/our_file.txt uploads/plain.txt")
    assert group.stored() == [("plain.txt", b"text")]
    assert group.sh("ls 'uploads/our file.txt'").returncode != 0


def test_an_open_file_is_listed_once_whatever_its_name_became(group: MountedGroup) -> None:
    script = """
f = os.open("uploads/.x.csv.swp", os.O_RDWR | os.O_CREAT)
os.write(f, b"1")
print(os.listdir("uploads"))
os.fsync(f)
print(os.listdir("uploads"))"""
    assert group.python(script).split("\n") == ["['.x.csv.swp']", "['x.csv.swp']"]


def test_that_a_name_was_changed_is_said_once(group: MountedGroup) -> None:
    group.mark()
    said = len(group.log.read_text())
    group.out("for i in 1 2 3; do echo $i > 'uploads/an other.csv'; done")
    assert group.log.read_text()[said:].count("stored 'an other.csv' as 'an_other.csv'") == 1


# -- refusals ----------------------------------------------------------------


def test_between_groups_programs_copy(group: MountedGroup) -> None:
    other = group.another()
    group.put("x.txt", b"text")
    script = f"os.rename('uploads/x.txt', '../{other}/uploads/x.txt')"
    assert group.python(script) == "EXDEV"
    group.out(f"mv uploads/x.txt ../{other}/uploads/y.txt")
    assert group.stored() == []
    assert group.out(f"cat ../{other}/uploads/y.txt") == "text"


RENAME = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
old, new, flags = sys.argv[1:]
if libc.renameat2(-100, old.encode(), -100, new.encode(), int(flags)):
    raise OSError(ctypes.get_errno(), "renameat2")
print("done")"""
NOREPLACE, EXCHANGE = "1", "2"


def test_a_rename_that_is_to_replace_nothing_never_does(group: MountedGroup) -> None:
    group.put("a", b"a")
    group.put("b", b"b")
    assert group.python(RENAME, "uploads/a", "uploads/b", NOREPLACE) in ("EEXIST", "EINVAL")
    assert group.python(RENAME, "uploads/a", "uploads/b", EXCHANGE) == "EINVAL"
    group.out("mv -n uploads/a uploads/b")
    assert group.stored() == [("a", b"a"), ("b", b"b")]
    # A kernel's library that knows no flags refuses them; mv does without.
    assert group.python(RENAME, "uploads/a", "uploads/c", NOREPLACE) in ("done", "EINVAL")
    group.out("mv -n uploads/a uploads/c || test -e uploads/c")
    assert group.stored() == [("b", b"b"), ("c", b"a")]


def test_what_came_meanwhile_is_not_replaced_either(group: MountedGroup) -> None:
    group.put("a", b"a")
    assert group.python("print(os.path.exists('uploads/b'))") == "False"
    group.put("b", b"b")
    assert group.python(RENAME, "uploads/a", "uploads/b", NOREPLACE) in ("EEXIST", "EINVAL")
    assert group.stored() == [("a", b"a"), ("b", b"b")]


def test_onto_itself_changes_nothing(group: MountedGroup) -> None:
    group.put("a", b"a")
    group.mark()
    assert group.python("os.rename('uploads/a', 'uploads/a')") == ""
    assert group.requests("POST") == group.requests("DELETE") == []


def test_a_name_that_the_service_refuses_leaves_the_file_where_it_is(group: MountedGroup) -> None:
    group.put("a", b"a")
    assert group.python("os.rename('uploads/a', 'uploads/日本')") == "EINVAL"
    assert group.out("ls uploads; cat uploads/a") == "a\na"
    assert group.python("os.rename('uploads/none', 'uploads/b')") == "ENOENT"


@pytest.mark.parametrize(
    ("old", "new", "number"),
    [
        ("uploads/a", "runs/new", "EPERM"),
        ("uploads/a", "runs/other", "EPERM"),
        ("uploads/a", "a", "EPERM"),
        ("uploads/a", "../other", "EPERM"),
        ("uploads", "inputs", "EPERM"),
        ("runs", "uploads/runs", "EPERM"),
        ("runs/new", "uploads/new", "EPERM"),
        ("group.json", "uploads/group.json", "EPERM"),
        ("group.json", "uploads/a", "EPERM"),
        ("latest", "uploads/latest", "EPERM"),
        ("latest", "newest", "EPERM"),
        ("runs/{run}", "runs/other", "EPERM"),
        ("runs/{run}/handle.json", "uploads/a", "EPERM"),
        ("runs/{run}/outputs/results/greetings.txt", "uploads/a", "EPERM"),
        ("runs/{run}/results", "runs/{run}/other", "EPERM"),
        ("uploads/a", "uploads", "ENOTEMPTY"),
        ("uploads/none", "uploads/b", "ENOENT"),
    ],
)
def test_nothing_else_is_renamed(
    group: MountedGroup, rest: Rest, old: str, new: str, number: str
) -> None:
    group.put("a", b"a")
    run = ""
    if "{run}" in old or "latest" in old:
        run = group.started()
        rest.ended(run)
        group.python("import time\nwhile not os.path.exists('latest'): time.sleep(0.02)")
    script = "os.rename(sys.argv[1], sys.argv[2])"
    said = group.python(script, old.format(run=run), new.format(run=run))
    # The kernel has its own opinion of files and directories, before we are asked.
    assert said == number or (number == "ENOTEMPTY" and said in ("EISDIR", "EEXIST", "EBUSY"))
    assert ("a", b"a") in group.stored()


def test_a_read_only_mount_renames_nothing(
    service: EmbeddedService, rest: Rest, binding: dict[str, str], tmp_path: Path
) -> None:
    with mounted(service, read_only=True, log=tmp_path / "log", **binding) as directory:
        group = MountedGroup(service, rest, directory, tmp_path / "log")
        group.put("a", b"a")
        assert group.python("os.rename('uploads/a', 'uploads/b')") == "EROFS"
        assert group.python("os.rename('runs/new', 'runs/old')") == "EROFS"


def test_a_large_file_is_renamed_without_holding_it_in_memory(
    service: EmbeddedService, rest: Rest, binding: dict[str, str], tmp_path: Path
) -> None:
    directory, log = tmp_path / "mnt", tmp_path / "log"
    directory.mkdir()
    options = {"fuse": binding["fuse"], "extra": {"FLOWFS_DEBUG": "1"}}
    with serve_mount(service, directory, "", log, binding["library"], **options) as process:
        wait_until(lambda: is_mounted(directory), 20, "the mount")
        group = MountedGroup(service, rest, directory, log)
        group.out("head -c 1000000 /dev/zero > uploads/a; mv uploads/a uploads/b; ls -l uploads")
        before = memory(process.pid, "VmRSS")
        group.out("head -c 64M /dev/zero > uploads/a; mv uploads/a uploads/b")
        group.put("x", bytes(64 << 20))
        group.out("mv uploads/x uploads/b")
        assert memory(process.pid, "VmHWM") - before < 40 << 20


def memory(pid: int, what: str) -> int:
    """Return a process's memory in bytes: ``VmRSS``, or at its highest ``VmHWM``."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(what))
    return int(line.split()[1]) << 10
