"""``new`` and ``cancel`` in every shape that programs write them, and when starts fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mounted_group import MountedGroup
from support import Rest, wait_until

from flowfs import FlowFileSystem
from flowfs.embedded import EmbeddedService
from flowfs.errors import FlowError, TooLarge
from flowfs.fuse.writing import NewRunHandle
from flowfs.tree import parse


class BrokenFileSystem(FlowFileSystem):
    """One whose starts fail as nobody foresaw, after they were sent."""

    starts = 0

    def start_run(self, group_id: str, arguments: Any) -> dict[str, Any]:
        type(self).starts += 1
        raise RuntimeError("out of the blue")


def test_a_file_whose_start_failed_in_an_unforeseen_way_starts_no_other() -> None:
    fs = BrokenFileSystem("http://127.0.0.1:1/api", token="t", skip_instance_cache=True)
    handle = NewRunHandle(fs, parse("groups/G/runs/new"))

    with pytest.raises(RuntimeError):
        handle.write(b"{}", 0)
    with pytest.raises(FlowError, match="may have started: out of the blue"):
        handle.write(b"\n", 2)
    with pytest.raises(FlowError, match="may have started"):
        handle.write(b"{}", 3)
    handle.flush(None)
    handle.release()

    assert fs.starts == 1


def test_arguments_that_are_too_large_are_refused_as_in_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flowfs.filesystem.writing._MAX_DOCUMENT", 4)
    fs = FlowFileSystem("http://127.0.0.1:1/api", token="t", skip_instance_cache=True)
    handle = NewRunHandle(fs, parse("groups/G/runs/new"))

    handle.write(b"{", 0)
    with pytest.raises(TooLarge, match="start no run"):
        handle.write(b'"a": 1}', 1)

    assert b"start no run" in (fs.catalog.refusal("G") or b"")


# -- through the kernel ------------------------------------------------------

GOOD = '{"names": "names.txt"}'


@pytest.fixture
def group(service: EmbeddedService, rest: Rest, mount: tuple[Path, Path]) -> MountedGroup:
    made = MountedGroup(service, rest, *mount)
    made.put("names.txt", b"Ada\n")
    return made


@pytest.fixture
def active(group: MountedGroup) -> Iterator[str]:
    run_id = group.started(sleeptime=6000)
    wait_until(lambda: group.rest.run(run_id)["state"] == "RUNNING", 30, "the run to begin")
    group.mark()
    yield run_id
    group.rest.request("PUT", f"runs/{run_id}", json={})


def open_and(*steps: str, flags: str = "os.O_WRONLY") -> str:
    return "\n".join([f"f = os.open(sys.argv[1], {flags})", *steps])


@pytest.mark.mount
@pytest.mark.parametrize(
    "command",
    [
        "echo '{}' > runs/new",
        "printf '{}' > runs/new",
        "cat $file > runs/new",
        "cat $file | cat >> runs/new",
        "{ head -c 9 $file; tail -c +10 $file; } > runs/new",
        "{ cat $file; echo; } > runs/new",
        "(printf '{'; printf '\"names\": \"names.txt\"'; printf '}'; echo) > runs/new",
        "tee runs/new < $file",
        "tee -a runs/new < $file",
        "dd if=$file of=runs/new bs=1",
        "dd if=$file of=runs/new bs=7 conv=notrunc",
        "dd if=$file of=runs/new conv=fsync",
        "cp $file runs/new",
        "cp -a $file runs/new",
        "cp --no-preserve=all $file runs/new",
        "cat $file > runs/../runs/new",
        "rsync --inplace $file runs/new",
        "rsync -a --inplace $file runs/new",
        "sponge() { x=$(cat); printf '%s' \"$x\" > $1; }; sponge runs/new < $file",
        "sed 's/Q/R/' $file > runs/new",
        "python3 -m json.tool $file runs/new",
        "exec 3> runs/new; cat $file >&3; exec 3>&-",
        "exec 3<> runs/new; cat $file >&3; cat <&3; exec 3>&-",
    ],
)
def test_the_shell_starts_one_run_with_each_file_it_writes(
    group: MountedGroup, tmp_path: Path, command: str
) -> None:
    (tmp_path / "args.json").write_text(GOOD + "\n")
    group.mark()
    group.out(f"file={tmp_path}/args.json; " + command.replace("{}", GOOD))
    assert len(group.run_ids()) == 1
    assert len(group.requests("POST")) == 1
    assert group.sh("test -e runs/new.error").returncode == 1


@pytest.mark.mount
@pytest.mark.parametrize(
    "script",
    [
        f"open(sys.argv[1], 'w').write('{GOOD}')",
        f"f = open(sys.argv[1], 'w')\nf.write('{GOOD}')",  # never closed
        f"import pathlib\npathlib.Path(sys.argv[1]).write_text('{GOOD}')",
        f"import json\njson.dump({GOOD}, open(sys.argv[1], 'w'), indent=2)",
        f"f = open(sys.argv[1], 'wb', buffering=0)\nfor c in b'{GOOD}': f.write(bytes([c]))",
        open_and(f"os.write(f, b'{GOOD}')", "os._exit(0)"),
        open_and(f"os.write(f, b'{GOOD}')", "os.fsync(f)", "os.close(f)"),
        open_and("os.fsync(f)", f"os.write(f, b'{GOOD}')", "os.ftruncate(f, 0)"),
        open_and(f"for c in b'{GOOD}': os.write(f, bytes([c]))", flags="os.O_WRONLY | os.O_APPEND"),
        open_and(f"os.write(f, b'{GOOD}')", flags="os.O_WRONLY | os.O_CREAT | os.O_TRUNC"),
        open_and("g = os.dup(f)", f"os.write(f, b'{GOOD}')", "os.close(g)", "os.close(f)"),
        open_and("if os.fork() == 0: os._exit(0)", "os.wait()", f"os.write(f, b'{GOOD}')"),
        open_and(f"os.write(f, b'{GOOD}')", "os.write(f, b' \\n')", "os.write(f, b'\\n')"),
        f"os.truncate(sys.argv[1], 0)\nopen(sys.argv[1], 'a').write('{GOOD}')",
    ],
)
def test_python_starts_one_run_with_each_file_it_writes(group: MountedGroup, script: str) -> None:
    group.mark()
    assert group.python(script, "runs/new") == ""
    assert len(group.run_ids()) == 1
    assert len(group.requests("POST")) == 1


@pytest.mark.mount
@pytest.mark.parametrize(
    ("script", "number"),
    [
        ("os.open('runs/new', os.O_CREAT | os.O_EXCL | os.O_WRONLY)", "EEXIST"),
        ("os.truncate('runs/new', 5)", "EINVAL"),
        ("f = os.open('runs/new', os.O_WRONLY)\nos.ftruncate(f, 5)", "EINVAL"),
        (f"f = os.open('runs/new', os.O_WRONLY)\nos.pwrite(f, b'{GOOD}', 4)", "EINVAL"),
        (f"f = os.open('runs/new', os.O_RDONLY)\nos.write(f, b'{GOOD}')", "EBADF"),
    ],
)
def test_what_can_be_no_arguments_starts_nothing(
    group: MountedGroup, script: str, number: str
) -> None:
    said = group.python(script)
    assert said == number
    assert group.run_ids() == []


@pytest.mark.mount
def test_two_writers_at_once_are_two_runs(group: MountedGroup) -> None:
    script = """
files = [os.open("runs/new", os.O_WRONLY) for _ in range(3)]
for piece in (b'{"names": ', b'"names.txt"', b'}'):
    for f in files:
        os.write(f, piece)
for f in files:
    os.close(f)"""
    assert group.python(script) == ""
    assert len(group.run_ids()) == 3
    group.out(f"for i in 1 2 3 4; do echo '{GOOD}' > runs/new & done; wait")
    assert len(group.run_ids()) == 7


@pytest.mark.mount
def test_each_writer_reads_its_own_run(group: MountedGroup) -> None:
    script = f"""
import json
files = [os.open("runs/new", os.O_RDWR) for _ in range(3)]
for f in files:
    os.write(f, b'{GOOD}')
print(*[json.loads(os.read(f, 1 << 20))["id"] for f in files])"""
    assert group.python(script).split() == group.run_ids()


@pytest.mark.mount
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo enough > $run/cancel", "enough"),
        ("printf enough > $run/cancel", "enough"),
        ("cat $file > $run/cancel", "enough"),
        ("cat $file >> $run/cancel", "enough"),
        ("tee $run/cancel < $file", "enough"),
        ("tee -a $run/cancel < $file", "enough"),
        ("cp $file $run/cancel", "enough"),
        ("cp -a $file $run/cancel", "enough"),
        ("dd if=$file of=$run/cancel bs=1", "enough"),
        ("dd if=$file of=$run/cancel conv=fsync", "enough"),
        # the file has gone before rsync looks at it again
        ("rsync --inplace $file $run/cancel || test $? = 23", "enough"),
        ("{ printf 'that is '; printf enough; } > $run/cancel", "that is enough"),
        ("{ printf 'that is '; cat $file; } > $run/cancel", "that is enough"),
        ("exec 3<> $run/cancel; cat $file >&3; cat <&3", "enough"),
        ("echo enough > latest/cancel", "enough"),
        ("echo enough > states/RUNNING/*/cancel", "enough"),
        (
            "python3 -c 'import os; f = os.open(\"'$run'/cancel\", os.O_WRONLY);"
            ' os.write(f, b"enough"); os._exit(0)\'',
            "enough",
        ),
        ('python3 -c \'f = open("\'$run\'/cancel", "w"); f.write("enough")\'', "enough"),
    ],
)
def test_each_way_of_writing_a_reason_cancels_once(
    group: MountedGroup, active: str, tmp_path: Path, command: str, message: str
) -> None:
    (tmp_path / "reason").write_text("enough\n")
    group.out(f"run=runs/{active}; file={tmp_path}/reason; {command}")
    handle = group.rest.run(active)
    assert handle["state"] == "CANCELED"
    assert message in "\n".join(handle["messages"])
    assert len(group.requests("PUT")) == 1


@pytest.mark.mount
@pytest.mark.parametrize(
    "command",
    [
        "touch $run/cancel",
        ": > $run/cancel",
        "true >> $run/cancel",
        "truncate -s 0 $run/cancel",
        "cat $run/cancel",
        "cp $run/cancel $tmp/c && cp $tmp/c $run/cancel",
        "dd if=/dev/null of=$run/cancel",
        "chmod 600 $run/cancel",
        "! rm -f $run/cancel",
        "! mv $run/cancel $tmp/c",
    ],
)
def test_what_writes_nothing_cancels_nothing(
    group: MountedGroup, active: str, tmp_path: Path, command: str
) -> None:
    group.out(f"run=runs/{active}; tmp={tmp_path}; {command}")
    assert group.rest.run(active)["state"] == "RUNNING"
    assert group.requests("PUT") == []
