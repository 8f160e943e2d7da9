"""Files written into ``uploads/`` in every shape that programs write them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mounted_group import MountedGroup
from mounting import Address, inside, is_mounted, mounted, serve_mount, sh
from standin import Reply, StandIn
from support import Rest, wait_until

from flowfs.embedded import EmbeddedService

pytestmark = [pytest.mark.mount, pytest.mark.service]


# -- shapes ------------------------------------------------------------------

SHAPES = [
    # how often it is sent, and how
    (1, "echo abc > uploads/x"),
    (1, "printf 'abc\\n' > uploads/x"),
    (1, "cat $file > uploads/x"),
    (1, "cat < $file > uploads/x"),
    (1, "dash -c 'echo abc > uploads/x'"),
    (1, "cat $file | tee uploads/x"),
    (1, "cat $file | tee -a uploads/x"),
    (1, "dd if=$file of=uploads/x bs=1"),
    (1, "dd if=$file of=uploads/x bs=2 conv=fsync"),
    (1, "cp $file uploads/x"),
    (1, "cp $file uploads/"),
    (1, "cp -a $file uploads/x"),
    (1, "cp -p $file uploads/x"),
    (1, "cp --sparse=always $file uploads/x"),
    (1, "cp -r $(dirname $file)/. uploads/"),
    (1, "install -m 600 $file uploads/x"),
    (1, "cp $file $file.2 && mv $file.2 uploads/x"),
    (1, "cp -a $(dirname $file)/. uploads/"),
    (1, "rsync -a --inplace $(dirname $file)/ uploads/"),
    (2, "rsync -a $(dirname $file)/ uploads/"),
    (1, "rsync --inplace $file uploads/x"),
    (1, "rsync -a --inplace $file uploads/"),
    (1, "tar cf - -C $(dirname $file) x | tar xf - -C uploads"),
    (1, "sort -o uploads/x $file"),
    (1, "split -b 100 $file uploads/x && mv uploads/xaa uploads/x", 2),
    (2, "{ head -c 2 $file; tail -c +3 $file; } > uploads/x"),
    (2, "printf ab > uploads/x; tail -c +3 $file >> uploads/x"),
]
PYTHON = [
    (1, "open('uploads/x', 'w').write('abc\\n')"),
    (1, "f = open('uploads/x', 'w')\nf.write('abc\\n')"),  # never closed
    (1, "f = os.open('uploads/x', os.O_CREAT | os.O_WRONLY)\nos.write(f, b'abc\\n')\nos._exit(0)"),
    (1, "open('uploads/x', 'x').write('abc\\n')"),
    (1, "import shutil\nshutil.copy2(sys.argv[1], 'uploads/x')"),
    (1, "import shutil\nshutil.copyfile(sys.argv[1], 'uploads/x')"),
    (1, "import pathlib\npathlib.Path('uploads/x').write_text('abc\\n')"),
    (1, "f = open('uploads/x', 'wb', buffering=0)\nfor c in b'abc\\n': f.write(bytes([c]))"),
    (
        1,
        "f = open('uploads/x', 'w+b')\nf.write(b'12345678')\nf.seek(0)\nf.write(b'abc\\n"
        "')\nf.truncate()",
    ),
    (1, "f = open('uploads/x', 'wb')\nf.seek(3)\nf.write(b'\\n')\nf.seek(0)\nf.write(b'abc')"),
    (
        1,
        "f = os.open('uploads/x', os.O_CREAT | os.O_RDWR)\nos.truncate(f, 4)\n"
        "os.pwrite(f, b'abc\\n', 0)",
    ),
    # each fsync of what has changed sends it, and a close that finds nothing changed does not
    (1, "f = open('uploads/x', 'w')\nf.write('abc\\n')\nf.flush()\nos.fsync(f)\nos.fsync(f)"),
    (2, "f = open('uploads/x', 'w')\nf.write('ab')\nf.flush()\nos.fsync(f)\nf.write('c\\n')"),
    # a descriptor of the same file is closed: flushed
    (
        2,
        "f = os.open('uploads/x', os.O_CREAT | os.O_RDWR)\nos.write(f, b'ab')\n"
        "os.close(os.dup(f))\nos.write(f, b'c\\n')",
    ),
    (
        1,
        "import mmap\nf = open('uploads/x', 'w+b')\nf.truncate(4)\n"
        "m = mmap.mmap(f.fileno(), 4)\nm[:] = b'abc\\n'\nm.close()\nf.close()",
    ),
    (
        1,
        "f = os.open('uploads/x', os.O_CREAT | os.O_WRONLY | os.O_APPEND)\n"
        "for c in b'abc\\n': os.pwrite(f, bytes([c]), 0)",
    ),
]


def command_of(shape: tuple[int, str] | tuple[int, str, int]) -> tuple[int, str]:
    return shape[-1] if len(shape) == 3 else shape[0], shape[1]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape[1])
def test_what_the_shell_writes_is_uploaded_and_sent_once(
    group: MountedGroup, tmp_path: Path, shape: tuple[int, str]
) -> None:
    times, command = command_of(shape)
    file = tmp_path / "x"
    file.write_text("abc\n")
    group.mark()
    group.out(f"file={file}; {command}")
    assert group.out("cat uploads/x; ls uploads; stat -c '%s %b' uploads/x") == "abc\nx\n4 1\n"
    assert group.stored() == [("x", b"abc\n")]
    assert len(group.requests("POST")) == times


@pytest.mark.parametrize("shape", PYTHON, ids=lambda shape: shape[1])
def test_what_python_writes_is_uploaded_and_sent_once(
    group: MountedGroup, tmp_path: Path, shape: tuple[int, str]
) -> None:
    times, script = shape
    file = tmp_path / "x"
    file.write_text("abc\n")
    group.mark()
    assert group.python(script, str(file)) == ""
    assert group.out("cat uploads/x; ls uploads; stat -c '%s %b' uploads/x") == "abc\nx\n4 1\n"
    assert group.stored() == [("x", b"abc\n")]
    assert len(group.requests("POST")) == times


@pytest.mark.parametrize(
    ("command", "after"),
    [
        ("printf X > uploads/x", b"X"),
        ("printf X >> uploads/x", b"0123456789X"),
        ("printf X 1<> uploads/x", b"X123456789"),
        ("cp $file uploads/x", b"X"),
        ("cat $file | dd of=uploads/x bs=1 seek=3 conv=notrunc", b"012X456789"),
        ("cat $file | dd of=uploads/x bs=1 seek=3", b"012X"),
        ("truncate -s 3 uploads/x", b"012"),
        ("truncate -s 12 uploads/x", b"0123456789\0\0"),
        ("truncate -s 0 uploads/x", b""),
        (": > uploads/x", b""),
        ("touch uploads/x", b"0123456789"),
        (
            "chmod 600 uploads/x; touch -d 2001-01-01 uploads/x; chown $(id -u) uploads/x",
            b"0123456789",
        ),
        ("exec 3>> uploads/x; exec 3>&-", b"0123456789"),
        ("rsync --inplace -I $file uploads/", b"X"),
        ("cp -n $file uploads/x || true", b"0123456789"),
        ("set -C; ! echo X > uploads/x", b"0123456789"),
        ("tail -c 3 uploads/x | tee -a uploads/x", b"0123456789789"),
    ],
)
def test_a_file_that_is_there_is_changed_as_anywhere(
    group: MountedGroup, tmp_path: Path, command: str, after: bytes
) -> None:
    (tmp_path / "x").write_text("X")
    group.put("x", b"0123456789")
    group.mark()
    group.out(f"file={tmp_path}/x; {command}")
    # What no flush has sent, release does, which nobody waits for.
    wait_until(lambda: group.stored() == [("x", after)], 10, f"{after!r} on the service")
    assert group.out("cat uploads/x").encode() == after
    expected = 1 if after != b"0123456789" else 0
    # The service has it before the mount has written down that it was answered.
    wait_until(lambda: len(group.requests("POST")) >= expected, 10, "the request in the log")
    assert len(group.requests("POST")) == expected


def test_what_only_release_sends_is_seen_at_once(group: MountedGroup) -> None:
    group.mark()
    assert group.out("touch uploads/a; : > uploads/b; ls uploads; wc -c < uploads/a") == "a\nb\n0\n"
    wait_until(lambda: group.stored() == [("a", b""), ("b", b"")], 10, "the empty files")
    wait_until(lambda: len(group.requests("POST")) >= 2, 10, "the requests in the log")
    assert len(group.requests("POST")) == 2


def test_an_exclusive_open_has_one_winner(group: MountedGroup) -> None:
    script = "os.open('uploads/lock', os.O_CREAT | os.O_EXCL | os.O_WRONLY)"
    assert [group.python(script) for _ in range(2)] == ["", "EEXIST"]
    racing = (
        "for i in 1 2 3 4 5 6; do (set -C; echo $i > uploads/race) 2> /dev/null && echo won & done;"
        "wait"
    )
    assert group.out(racing) == "won\n"
    assert len([name for name, _ in group.stored() if name == "race"]) == 1


# -- several at once ---------------------------------------------------------


def test_two_writers_of_one_file_leave_one_upload(group: MountedGroup) -> None:
    group.out(
        "for i in 1 2 3; do for word in one two; do"
        " (for n in 1 2 3; do echo $word > uploads/x; done) & done; done; wait"
    )
    assert group.stored() in ([("x", b"one\n")], [("x", b"two\n")])
    assert group.out("ls uploads") == "x\n"


def test_two_writers_that_have_it_open_share_one_file(group: MountedGroup) -> None:
    script = """
import subprocess
for start in (0, 1):
    write = "os.pwrite(f, b'%03d\\\\n' % i, 4 * i)"
    one = "import os; f = os.open('uploads/x', os.O_CREAT | os.O_WRONLY)\\n"
    one += f"for i in range({start}, 200, 2): {write}"
    subprocess.Popen([sys.executable, "-c", one])
while True:
    try:
        os.wait()
    except ChildProcessError:
        break"""
    assert group.python(script) == ""
    assert group.stored() == [("x", b"".join(b"%03d\n" % i for i in range(200)))]


def test_lines_that_several_append_are_all_there(group: MountedGroup) -> None:
    group.out(
        "for i in 1 2 3 4; do (for n in 1 2 3 4 5; do echo $i.$n >> uploads/log; done) & done; wait"
    )
    ((_, data),) = group.stored()
    expected = sorted(f"{i}.{n}" for i in range(1, 5) for n in range(1, 6))
    assert sorted(data.decode().split()) == expected
    assert group.out("cat uploads/log").encode() == data


def test_who_reads_while_another_writes_sees_what_was_written(group: MountedGroup) -> None:
    group.put("x", b"before")
    script = """
f = os.open("uploads/x", os.O_WRONLY | os.O_TRUNC)
os.write(f, b"half")
print(open("uploads/x").read(), os.stat("uploads/x").st_size)
os.write(f, b" whole")
print(open("uploads/x").read(), os.stat("uploads/x").st_size)
os.close(f)
print(open("uploads/x").read())"""
    group.mark()
    assert group.python(script) == "half 4\nhalf whole 10\nhalf whole"
    assert len(group.requests("POST")) == 1  # who only reads sends nothing by closing it
    assert group.stored() == [("x", b"half whole")]


def test_adding_to_what_was_just_written_fetches_nothing(group: MountedGroup) -> None:
    group.mark()
    group.out("echo 1 > uploads/x; for i in 2 3 4; do echo $i >> uploads/x; done")
    assert group.stored() == [("x", b"1\n2\n3\n4\n")]
    assert group.requests("GET", f"uploads/{group.id}/files/") == []


def test_what_another_has_replaced_meanwhile_is_what_is_added_to(group: MountedGroup) -> None:
    group.out("echo 1 > uploads/x")
    before = group.rest.get(f"uploads/{group.id}/files")["files"][0]["id"]
    group.put("x", b"other\n")
    group.rest.request("DELETE", f"uploads/{group.id}/files/{before}")
    assert group.out("sleep 0.1; cat uploads/x; echo 2 >> uploads/x; cat uploads/x") == (
        "other\nother\n2\n"
    )
    assert group.stored() == [("x", b"other\n2\n")]


# -- errors ------------------------------------------------------------------


@pytest.fixture
def standin() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def faulty(standin: StandIn, binding: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """Uploads of a group on a service that can be made to fail."""
    address = Address(standin.endpoint, standin.routes.token)
    with mounted(address, ttl=0.05, log=tmp_path / "log", **binding) as directory:
        yield directory / "groups" / standin.routes.group / "uploads"


@pytest.mark.parametrize(
    "command",
    [
        "cp /etc/hostname x",
        "cat /etc/hostname > x",
        "cat /etc/hostname | tee x",
        "dd if=/etc/hostname of=x",
        "dd if=/etc/hostname of=x conv=fsync",
        "rsync --inplace /etc/hostname x",
        "rsync /etc/hostname x",
        "mv copy x",
        f'{sys.executable} -c \'f = open("x", "w"); f.write("abc"); f.close()\'',
    ],
)
def test_an_upload_that_the_service_refuses_fails_where_it_is_seen(
    standin: StandIn, faulty: Path, command: str
) -> None:
    assert sh("echo old > x; echo new > copy", faulty).returncode == 0
    before = dict(standin.routes.files)
    standin.on("POST", "/uploads/.*", Reply(413))
    done = sh(command, faulty)
    assert done.returncode != 0
    assert "too large" in done.stderr.lower()
    assert standin.routes.files == before
    wait_until(lambda: sh("cat x", faulty).stdout == "old\n", 10, "what was there")
    assert sh("ls", faulty).stdout.split() == ["copy", "x"]


def test_a_rename_whose_old_file_cannot_be_deleted_fails_and_loses_nothing(
    standin: StandIn, faulty: Path
) -> None:
    assert sh("echo new > a", faulty).returncode == 0
    standin.on("DELETE", "/uploads/.*", Reply(413), None)
    # mv itself would try a second time, without a flag.
    done = sh(f'{sys.executable} -c \'import os; os.rename("a", "b")\'', faulty)
    assert done.returncode == 1
    assert "too large" in done.stderr
    assert sh("cat a b", faulty).stdout == "new\nnew\n"
    assert sh("mv a b; cat b; ls", faulty).stdout == "new\nb\n"


def test_what_could_not_be_sent_can_be_written_again(standin: StandIn, faulty: Path) -> None:
    standin.on("POST", "/uploads/.*", Reply(500), None)
    script = (
        "import os\n"
        "f = os.open('x', os.O_CREAT | os.O_RDWR)\n"
        "os.write(f, b'abc')\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        os.fsync(f)\n"
        "    except OSError as error:\n"
        "        print(error.errno)\n"
        "os.write(f, b'def')\n"
        "os.fsync(f)\n"
        "os.close(f)\n"
    )
    done = subprocess.run(
        [*inside(faulty), sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["5", "5"], done.stderr  # said again, not tried again
    assert list(standin.routes.files.values()) == [b"abcdef"]


# -- the end of the mount ----------------------------------------------------

HOLDER = """
import os, sys, time
f = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
os.write(f, b"kept")
print("written", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_not_sent_when_a_signal_ends_the_mount_is_sent_then(
    service: EmbeddedService,
    rest: Rest,
    binding: dict[str, str],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    directory, log = tmp_path / "mnt", tmp_path / "log"
    directory.mkdir()
    options = {"fuse": binding["fuse"]}
    with serve_mount(service, directory, "", log, binding["library"], **options) as process:
        wait_until(lambda: is_mounted(directory), 20, "the mount")
        group = MountedGroup(service, rest, directory, log)
        holders = [hold(group.path / f"uploads/{name}") for name in ("a", "b")]
        try:
            process.send_signal(number)
            process.wait(60)
        finally:
            for holder in holders:
                holder.kill()
                holder.wait()
    assert group.stored() == [("a", b"kept"), ("b", b"kept")]


def hold(path: Path) -> subprocess.Popen[str]:
    """Write a file and keep it open, in a process of its own."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, os.fspath(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "written\n"
    return holder


def test_what_is_not_sent_when_it_is_unmounted_is_sent_then(
    service: EmbeddedService, rest: Rest, binding: dict[str, str], tmp_path: Path
) -> None:
    directory, log = tmp_path / "mnt", tmp_path / "log"
    directory.mkdir()
    options = {"fuse": binding["fuse"]}
    with serve_mount(service, directory, "", log, binding["library"], **options) as process:
        wait_until(lambda: is_mounted(directory), 20, "the mount")
        group = MountedGroup(service, rest, directory, log)
        # Nothing of these is sent by a flush.
        group.out("touch uploads/a; : > uploads/b; cd /; umount " + os.fspath(directory))
        process.wait(60)
    assert group.stored() == [("a", b""), ("b", b"")]


def test_an_upload_that_hangs_when_the_mount_ends_is_tried_once_more(
    standin: StandIn, binding: dict[str, str], tmp_path: Path
) -> None:
    directory, log = tmp_path / "mnt", tmp_path / "log"
    directory.mkdir()
    address = Address(standin.endpoint, standin.routes.token)
    options = {"fuse": binding["fuse"], "timeout": 600}
    with serve_mount(address, directory, "", log, binding["library"], **options) as process:
        wait_until(lambda: is_mounted(directory), 20, "the mount")
        standin.on("POST", "/uploads/.*", Reply(hang="before"), None)
        path = directory / "groups" / standin.routes.group / "uploads" / "x"
        copying = subprocess.Popen(["sh", "-c", f"echo kept > {path}"], stderr=subprocess.DEVNULL)
        wait_until(lambda: standin.count("POST", "/uploads/.*") == 1, 20, "the upload")
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        copying.wait(60)
    assert list(standin.routes.files.values()) == [b"kept\n"]


def test_an_upload_that_can_not_be_sent_does_not_hold_up_the_end(
    standin: StandIn, binding: dict[str, str], tmp_path: Path
) -> None:
    directory, log = tmp_path / "mnt", tmp_path / "log"
    directory.mkdir()
    address = Address(standin.endpoint, standin.routes.token)
    options = {"fuse": binding["fuse"]}
    with serve_mount(address, directory, "", log, binding["library"], **options) as process:
        wait_until(lambda: is_mounted(directory), 20, "the mount")
        standin.on("POST", "/uploads/.*", Reply(500))
        holder = hold(directory / "groups" / standin.routes.group / "uploads" / "x")
        try:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            holder.kill()
            holder.wait()
    assert "not uploaded" in log.read_text()
