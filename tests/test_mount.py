"""The mount through the kernel, with the tools that people use."""

from __future__ import annotations

import json
import os
import re
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mounting import mounted, out, python, sh
from support import Rest, wait_until

from flowfs.embedded import EmbeddedService, sample

pytestmark = [pytest.mark.mount, pytest.mark.service]

GOOD = '{"names": "names.txt"}'


@pytest.fixture(scope="module")
def mount_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mount") / "log"


@pytest.fixture(scope="module")
def mount(service: EmbeddedService, binding: dict[str, str], mount_log: Path) -> Iterator[Path]:
    with mounted(service, ttl=0.05, log=mount_log, **binding) as directory:
        yield directory
    said = mount_log.read_text()
    assert "Traceback" not in said, said


@pytest.fixture
def group_id(service: EmbeddedService, rest: Rest) -> str:
    """A group of the test's own, with an upload ``names.txt``."""
    return new_group(service, rest)


def new_group(service: EmbeddedService, rest: Rest) -> str:
    reply = rest.request(
        "POST",
        f"workflows/{service.workflows['hello']}/groups",
        json={"name": uuid.uuid4().hex},
    )
    assert reply.ok, reply.text
    group = str(reply.json()["id"])
    rest.upload(group, sample("hello"))
    return group


@pytest.fixture
def group(mount: Path, group_id: str) -> Path:
    return mount / "groups" / group_id


class Run:
    """A run made without flowfs."""

    def __init__(self, rest: Rest, group_id: str, group: Path, **arguments: Any) -> None:
        file_id = rest.get(f"groups/{group_id}")["files"][0]["id"]
        self.rest, self.group, self.group_id = rest, group, group_id
        self.id = rest.start(group_id, {"names": {"fileId": file_id}, **arguments})
        self.path = group / "runs" / self.id

    def ended(self) -> Run:
        self.handle = self.rest.ended(self.id)
        wait_until(lambda: not exists(self.path / "cancel"), 5, "the mount to know that")
        return self


@pytest.fixture
def run(rest: Rest, group_id: str, group: Path) -> Run:
    """A run in SUCCESS."""
    return Run(rest, group_id, group).ended()


@pytest.fixture(scope="module")
def settled(service: EmbeddedService, mount: Path) -> Iterator[Run]:
    """A run in SUCCESS that tests share: nothing of its group is to be changed."""
    rest = Rest(service)
    group_id = new_group(service, rest)
    yield Run(rest, group_id, mount / "groups" / group_id).ended()
    rest.close()


@pytest.fixture
def active(rest: Rest, group_id: str, group: Path) -> Iterator[Run]:
    """A run that goes on until the test has ended."""
    started = Run(rest, group_id, group, sleeptime=6000)
    wait_until(lambda: rest.run(started.id)["state"] == "RUNNING", 10, "the run to begin")
    yield started
    rest.request("PUT", f"runs/{started.id}", json={})


def exists(path: Path) -> bool:
    return sh(f"test -e {path}", Path("/")).returncode == 0


def run_ids(rest: Rest, group_id: str) -> list[str]:
    return [run["id"] for run in rest.get(f"groups/{group_id}/runs")["runs"]]


def only_run(rest: Rest, group_id: str) -> dict[str, Any]:
    (run_id,) = run_ids(rest, group_id)
    return rest.run(run_id)


# -- looking ---------------------------------------------------------------


def test_the_root_holds_groups_and_workflows(mount: Path, service: EmbeddedService) -> None:
    assert out("ls", mount).split() == ["groups", "workflows"]
    assert set(service.groups.values()) <= set(out("ls groups", mount).split())
    assert set(service.workflows.values()) == set(out("ls workflows", mount).split())


def test_a_run_has_its_files_with_their_sizes(settled: Run) -> None:
    listed = out("stat -c '%n %s %A' *", settled.path).splitlines()
    names = {line.split()[0]: line.split() for line in listed}
    assert set(names) == {"handle.json", "arguments.json", "results", "outputs", "archive.tar.gz"}
    assert names["handle.json"][2] == "-r--r--r--"
    assert names["results"][2] == "drwxr-xr-x"
    size = int(names["handle.json"][1])
    assert size == len(out("cat handle.json", settled.path).encode())
    assert json.loads(out("cat handle.json", settled.path)) == settled.handle


def test_a_result_reads_as_the_service_has_it(settled: Run, rest: Rest) -> None:
    expected = rest.result(settled.handle, "results/greetings.txt").decode()
    assert out("cat outputs/results/greetings.txt", settled.path) == expected
    assert out("cat results/*", settled.path) == expected
    assert out("tail -c 5 results/*", settled.path) == expected[-5:]
    assert int(out("wc -c < outputs/results/greetings.txt", settled.path)) == len(expected)


def test_a_result_and_its_output_are_one_file(settled: Run) -> None:
    result, output = out(
        "stat -c '%i %h %s %b' results/* outputs/results/greetings.txt", settled.path
    ).splitlines()
    assert result == output
    inode, links, size, blocks = map(int, result.split())
    assert links == 2
    assert blocks == (size + 511) // 512 > 0
    assert str(inode) in out("ls -i outputs/results", settled.path)
    assert (
        out("find . -samefile outputs/results/greetings.txt | wc -l", settled.path).strip() == "2"
    )


def test_du_and_tar_count_a_result_once(settled: Run, tmp_path: Path) -> None:
    # In blocks of 512 bytes: that of the result once, though it has two names.
    whole = int(out("du -s -B 512 .", settled.path).split()[0])
    files = out("stat -c %b handle.json arguments.json archive.tar.gz results/*", settled.path)
    assert whole == sum(map(int, files.split()))
    out(f"tar -cf {tmp_path}/run.tar .", settled.path)
    with tarfile.open(tmp_path / "run.tar") as tar:
        kinds = {member.name: member.islnk() for member in tar.getmembers()}
    assert sum(kinds.values()) == 1


def test_latest_states_and_groups_by_name_are_relative_links(
    service: EmbeddedService, rest: Rest, mount: Path, settled: Run
) -> None:
    assert out("readlink latest", settled.group).strip() == f"runs/{settled.id}"
    assert (
        out(f"readlink states/SUCCESS/{settled.id}", settled.group).strip()
        == f"../../runs/{settled.id}"
    )
    assert out("ls states", settled.group).split() == sorted(
        ["PENDING", "RUNNING", "ERROR", "CANCELED", "SUCCESS"]
    )
    assert out("ls latest/", settled.group) == out("ls .", settled.path)
    name = rest.get(f"groups/{settled.group_id}")["name"]
    link = f"workflows/{service.workflows['hello']}/groups/{name}"
    assert out(f"readlink {link}", mount).strip() == f"../../../groups/{settled.group_id}"
    assert out(f"ls {link}/", mount).split()[-1] == "uploads"


def test_cp_r_of_a_run_copies_every_file(settled: Run, rest: Rest, tmp_path: Path) -> None:
    out(f"cp -r . {tmp_path}/copy", settled.path)
    copied = {p.relative_to(tmp_path / "copy") for p in (tmp_path / "copy").rglob("*.*")}
    assert copied == {
        Path("handle.json"),
        Path("arguments.json"),
        Path("archive.tar.gz"),
        Path("outputs/results/greetings.txt"),
    }
    text = (tmp_path / "copy/outputs/results/greetings.txt").read_bytes()
    assert text == rest.result(settled.handle, "results/greetings.txt")
    with tarfile.open(tmp_path / "copy/archive.tar.gz") as archive:
        assert archive.extractfile("results/greetings.txt").read() == text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "command",
    [
        "cat archive.tar.gz | tar tz",
        "tar tzf archive.tar.gz",
        "cp archive.tar.gz {tmp}/a && tar tzf {tmp}/a",
        "tar cf - archive.tar.gz | tar xf - -C {tmp} && tar tzf {tmp}/archive.tar.gz",
        "test $(wc -c < archive.tar.gz) = $(cat archive.tar.gz | wc -c) && tar tzf archive.tar.gz",
        "test $(cat archive.tar.gz | md5sum | cut -c 1-32) = $(md5sum archive.tar.gz | cut -c 1-32)"
        " && tar tzf archive.tar.gz",
        '{python} -c \'import shutil; shutil.copyfile("archive.tar.gz", "{tmp}/a")\''
        " && tar tzf {tmp}/a",
    ],
)
def test_an_archive_that_nobody_has_read_is_whole(run: Run, tmp_path: Path, command: str) -> None:
    assert out("stat -c %s archive.tar.gz", run.path).strip() == "1"  # not known yet
    command = command.replace("{tmp}", str(tmp_path)).replace("{python}", sys.executable)
    assert out(command, run.path).strip() == "results/greetings.txt"


def test_the_size_of_an_archive_is_known_once_it_has_been_read(run: Run) -> None:
    size = int(out("wc -c < archive.tar.gz", run.path))
    out("cat archive.tar.gz > /dev/null", run.path)
    assert int(out("stat -c %s archive.tar.gz", run.path)) == size
    # fstat of an open file tells it before that
    assert python(
        "f = open('archive.tar.gz', 'rb')\nprint(os.fstat(f.fileno()).st_size)", run.path
    ) == str(size)


def test_the_table_of_runs_is_whole(settled: Run) -> None:
    for command in ("cat runs.jsonl", "tar cf - runs.jsonl | tar xfO -"):
        (row,) = map(json.loads, out(command, settled.group).splitlines())
        assert row["id"] == settled.id
        assert row["names"] == "names.txt"
    assert int(out("wc -c < runs.jsonl", settled.group)) == len(
        out("cat runs.jsonl", settled.group).encode()
    )


def test_an_open_handle_is_one_snapshot(rest: Rest, active: Run) -> None:
    rest.request("PUT", f"runs/{active.id}", json={"reason": "enough" * 50})
    script = f"""
import json, subprocess, time
first = open("handle.json", "rb")
size = os.fstat(first.fileno()).st_size
deadline = time.monotonic() + 60
while "CANCELED" not in open("handle.json").read():
    assert time.monotonic() < deadline
    time.sleep(0.05)
second = open("handle.json", "rb")
assert len(second.read()) == os.fstat(second.fileno()).st_size
data = first.read()
print(json.loads(data)["id"] == "{active.id}")"""
    assert python(script.strip(), active.path) == "True"


def test_who_has_a_table_open_reads_all_of_it_when_it_is_shorter_for_the_next(
    rest: Rest, group_id: str, group: Path
) -> None:
    runs = [Run(rest, group_id, group).ended() for _ in range(3)]
    script = f"""
import subprocess, time
first = open("runs.jsonl", "rb")
size = os.fstat(first.fileno()).st_size
subprocess.run(["rm", "-r", "runs/{runs[0].id}", "runs/{runs[1].id}"], check=True)
second = open("runs.jsonl", "rb")
assert os.fstat(second.fileno()).st_size < size
print(len(first.read()) == size, second.read().count(b"\\n"))"""
    assert python(script.strip(), group) == "True 1"


def test_results_of_a_run_read_while_another_is_active(run: Run, active: Run) -> None:
    assert "Hello" in out("cat outputs/*/*", run.path)
    assert out("ls results", active.path) == ""
    assert out("ls", active.path).split() == [
        "arguments.json",
        "cancel",
        "handle.json",
        "outputs",
        "results",
    ]
    assert json.loads(out("cat handle.json", active.path))["state"] == "RUNNING"


def test_df_shows_the_mount(mount: Path) -> None:
    source, size, *_ = out("df -P .", mount).splitlines()[1].split()
    assert source.startswith("flow+http://127.0.0.1")
    assert int(size) > 0


def test_state_id_and_title_are_extended_attributes(mount: Path, settled: Run) -> None:
    script = "print(os.getxattr('.', 'user.flowfs.state').decode(), os.listxattr('.'))"
    state, names = python(script, settled.path).split(" ", 1)
    assert state == "SUCCESS"
    assert "user.flowfs.id" in names
    assert python("os.getxattr('.', 'user.flowfs.nothing')", settled.path) == "ENODATA"


def test_what_is_not_there_is_not_found(mount: Path, settled: Run) -> None:
    for path in (
        "nothing",
        "groups/nothing",
        f"{settled.group}/runs/nothing",
        f"{settled.group}/states/NONE",
    ):
        assert python(f"os.stat({path!r})", mount) == "ENOENT"
    assert python("os.listdir('group.json')", settled.group) == "ENOTDIR"
    assert python("open('runs')", settled.group) == "EISDIR"
    assert python(r"os.stat(b'uploads/\xff\xfe')", settled.group) in ("ENOENT", "EINVAL")


def test_finding_through_a_whole_group_works(settled: Run) -> None:
    found = out("find . -type f | sort", settled.group).split()
    assert f"./runs/{settled.id}/outputs/results/greetings.txt" in found
    assert len(found) == len(set(found)) == 10
    assert out("grep -rl 'Hello, Ada' runs", settled.group).count("\n") == 2


# -- starting runs ---------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "echo '{}' > runs/new",
        "printf '%s' '{}' > runs/new",
        "printf '%s' '{}' >> runs/new",
        "echo '{}' | tee runs/new",
        "cp $file runs/new",
        "cp -a $file runs/new",
        "cat $file > runs/new",
        "dd if=$file of=runs/new bs=1 status=none",
        "head -c 12 $file > $file.a; tail -c +13 $file > $file.b; cat $file.a $file.b > runs/new",
        "head -c 12 $file > $file.a; tail -c +13 $file > $file.b;"
        "{ cat $file.a; cat $file.b; } > runs/new",
        "(echo; cat $file; echo; echo) > runs/new",
        '$python -c \'import sys; open("runs/new", "w").write(open(sys.argv[1]).read())\' $file',
        "dash -c 'cat $1 > runs/new' - $file",
        "ls $file | xargs -I% cp % runs/new",
    ],
)
def test_writing_arguments_starts_one_run(
    group: Path, group_id: str, rest: Rest, tmp_path: Path, command: str
) -> None:
    file = tmp_path / "args.json"
    file.write_text(GOOD)
    file.chmod(0o640)
    command = command.replace("{}", GOOD)
    out(f"file={file} python={sys.executable}; {command}", group)
    handle = only_run(rest, group_id)
    assert handle["arguments"][0]["name"] == "names"
    assert not exists(group / "runs/new.error")
    # seen at once
    assert handle["id"] in out("ls runs", group).split()


def test_the_arguments_of_a_run_start_it_again(
    group: Path, group_id: str, rest: Rest, run: Run
) -> None:
    out(f"cp {run.path}/arguments.json runs/new", group)
    first, second = run_ids(rest, group_id)
    assert rest.run(first)["arguments"] == rest.run(second)["arguments"]


def test_the_template_starts_a_run_once_it_is_filled_in(
    group: Path, group_id: str, rest: Rest
) -> None:
    out("sed '0,/null/s//\"names.txt\"/' arguments.template.json > runs/new", group)
    assert only_run(rest, group_id)


@pytest.mark.parametrize("command", ["touch runs/new", ": > runs/new", "echo > runs/new"])
def test_nothing_written_starts_nothing(
    group: Path, group_id: str, rest: Rest, command: str
) -> None:
    out(command, group)
    assert run_ids(rest, group_id) == []
    assert not exists(group / "runs/new.error")


def test_the_started_run_is_read_on_the_same_descriptor(
    group: Path, group_id: str, rest: Rest
) -> None:
    read = out(f"exec 3<>runs/new; cat <&3; echo '{GOOD}' >&3; cat <&3", group)
    assert json.loads(read)["id"] == only_run(rest, group_id)["id"]
    script = (
        "f = open('runs/new', 'r+b', buffering=0)\n"
        f"before = f.read(); f.write(b'{GOOD}')\n"
        "f.seek(0); import json; print(before, json.loads(f.read())['id'])"
    )
    before, started = python(script, group).split()
    assert before == "b''"
    assert started == run_ids(rest, group_id)[-1]


def test_new_reads_empty_so_that_it_can_be_backed_up(
    group: Path, group_id: str, rest: Rest, tmp_path: Path
) -> None:
    out(f"cp runs/new {tmp_path}/ && tar cf {tmp_path}/a.tar runs/new", group)
    assert (tmp_path / "new").read_bytes() == b""
    out(f"cp {tmp_path}/new runs/new", group)
    assert run_ids(rest, group_id) == []


def test_half_a_document_is_refused_by_the_close_of_who_wrote_it(
    group: Path, group_id: str, rest: Rest, tmp_path: Path
) -> None:
    (tmp_path / "half.json").write_text('{"names": "na')
    for command in ("cat {} > runs/new", "cp {} runs/new"):
        done = sh(command.format(tmp_path / "half.json"), group)
        assert done.returncode == 1
        assert "Invalid argument" in done.stderr
        assert "incomplete JSON" in out("cat runs/new.error", group)
    script = "f = open('runs/new', 'w')\nf.write('{')\nf.close()"
    assert python(script, group) == "EINVAL"
    assert run_ids(rest, group_id) == []
    out(f"echo '{GOOD}' > runs/new", group)
    assert not exists(group / "runs/new.error")


def test_a_line_that_begins_no_document_fails_where_the_shell_sees_it(
    group: Path, group_id: str, rest: Rest
) -> None:
    # bash's echo takes no notice of an error at the close.
    for broken in ("{not json", '{"names": names.txt', '{"names": "names.txt'):
        done = sh(f"echo '{broken}' > runs/new", group)
        assert done.returncode == 1
        assert "Invalid argument" in done.stderr
        assert "not JSON" in out("cat runs/new.error", group)
    assert run_ids(rest, group_id) == []


def test_several_documents_in_one_write_start_nothing(
    group: Path, group_id: str, rest: Rest
) -> None:
    done = sh(f"echo '{GOOD} {GOOD}' > runs/new", group)
    assert done.returncode == 1
    assert "several documents" in out("cat runs/new.error", group)
    assert run_ids(rest, group_id) == []


def test_bytes_after_a_run_has_started_are_refused_and_the_error_names_the_run(
    group: Path, group_id: str, rest: Rest
) -> None:
    done = sh(f"(echo '{GOOD}'; echo; echo '{GOOD}') > runs/new", group)
    assert "Invalid argument" in done.stderr
    run_id = only_run(rest, group_id)["id"]
    assert run_id in out("cat runs/new.error", group)


def test_a_descriptor_that_has_failed_starts_nothing_any_more(
    group: Path, group_id: str, rest: Rest
) -> None:
    script = f"""
f = os.open('runs/new', os.O_WRONLY)
for document in (b'{{"names": "nothing"}}', b'{GOOD}', b'{GOOD}'):
    try:
        os.write(f, document)
    except OSError as error:
        print(errno.errorcode[error.errno])"""
    assert len(python(script.strip(), group).split()) == 3
    assert run_ids(rest, group_id) == []


def test_writing_elsewhere_than_at_the_end_is_refused(
    group: Path, group_id: str, rest: Rest
) -> None:
    script = "f = os.open('runs/new', os.O_WRONLY)\nos.pwrite(f, b'{}', 10)"
    assert python(script, group) == "EINVAL"
    assert "front to back" in out("cat runs/new.error", group)


@pytest.mark.parametrize(
    ("document", "number", "words"),
    [
        ("names: names.txt", "EINVAL", "not a JSON object or array"),
        ('{"names": }', "EINVAL", "line 1 column"),
        ('{"names": "names.txt", "nope": 1}', "EINVAL", "nope"),
        ("{}", "EINVAL", "names"),
        ('{"names": "never-uploaded.txt"}', "*", "never-uploaded.txt"),
        ('{"names": "names.txt", "sleeptime": "soon"}', "EINVAL", "soon"),
    ],
)
def test_bad_arguments_are_refused_and_new_error_says_why(
    group: Path, group_id: str, rest: Rest, document: str, number: str, words: str
) -> None:
    script = f"f = os.open('runs/new', os.O_WRONLY)\nos.write(f, {document.encode()!r})"
    said = python(script, group)
    assert said == number or (number == "*" and said in ("EINVAL", "ENOENT"))
    text = out("cat runs/new.error", group)
    assert words in text
    assert "runs/new" in text
    assert run_ids(rest, group_id) == []
    assert "new.error" in out("ls runs", group).split()


def test_a_group_that_is_not_there_starts_nothing(mount: Path) -> None:
    assert python("open('groups/nothing/runs/new', 'w')", mount) == "ENOENT"


# -- canceling runs --------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo 'wrong input' > cancel", "wrong input"),
        ("printf 'wrong input' > cancel", "wrong input"),
        ("echo > cancel", None),
    ],
)
def test_writing_a_reason_cancels_the_run(
    active: Run, rest: Rest, command: str, message: str | None
) -> None:
    out(command, active.path)
    handle = rest.run(active.id)
    assert handle["state"] == "CANCELED"
    if message is not None:
        assert message in handle["messages"]
    assert not exists(active.path / "cancel")  # seen at once


def test_cancel_opened_and_closed_cancels_nothing(active: Run, rest: Rest, tmp_path: Path) -> None:
    out(f"touch cancel; : > cancel; cat cancel; cp cancel {tmp_path}", active.path)
    assert rest.run(active.id)["state"] == "RUNNING"


def test_the_canceled_run_is_read_on_the_same_descriptor(active: Run) -> None:
    read = out("exec 3<>cancel; echo enough >&3; cat <&3", active.path)
    assert json.loads(read)["state"] == "CANCELED"
    # open before the run ended
    done = sh("echo more > cancel", active.path)
    assert "busy" in done.stderr


def test_canceling_a_run_that_has_ended_is_refused(settled: Run) -> None:
    assert python("open('cancel', 'w')", settled.path) == "EBUSY"


def test_canceling_a_run_that_ends_in_between_is_refused(active: Run, rest: Rest) -> None:
    script = f"""
import urllib.request
f = os.open('cancel', os.O_WRONLY)
request = urllib.request.Request('{rest.endpoint}/runs/{active.id}', data=b'{{}}', method='PUT',
    headers={{'api_key': '{rest.session.headers["api_key"]}', 'Content-Type': 'application/json'}})
urllib.request.urlopen(request).read()
os.write(f, b'too late\\n')"""
    assert python(script.strip(), active.path) == "EBUSY"


# -- refusals --------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "number"),
    [
        ("open('handle.json', 'w')", "EPERM"),
        ("open('handle.json', 'r+')", "EPERM"),
        ("open('outputs/results/greetings.txt', 'a')", "EPERM"),
        ("open('results/new-file', 'w')", "EPERM"),
        ("open('anything', 'w')", "EPERM"),
        ("open('../another', 'w')", "EPERM"),
        ("os.mkdir('directory')", "EPERM"),
        ("os.rename('handle.json', 'other')", "EPERM"),
        ("os.symlink('a', 'b')", "EPERM"),
        ("os.link('handle.json', 'b')", "EPERM"),
        ("os.mkfifo('fifo')", "EPERM"),
        ("os.chmod('handle.json', 0o600)", "EPERM"),
        ("os.utime('handle.json')", "EPERM"),
        ("os.truncate('handle.json', 0)", "EPERM"),
        # opened to be written, whatever for
        ("os.open('handle.json', os.O_RDWR)", "EPERM"),
        ("os.open('handle.json', os.O_RDONLY | os.O_TRUNC)", "EPERM"),
        ("os.open('results/' + os.listdir('results')[0], os.O_RDWR)", "EPERM"),
        ("os.open('results/' + os.listdir('results')[0], os.O_WRONLY | os.O_APPEND)", "EPERM"),
        ("os.open('archive.tar.gz', os.O_RDWR)", "EPERM"),
        ("open('../../arguments.template.json', 'w')", "EPERM"),
        ("open('../../runs.jsonl', 'a')", "EPERM"),
        (
            "open('../../../../workflows/' + os.listdir('../../../../workflows')[0]"
            " + '/workflow.json', 'w')",
            "EPERM",
        ),
        # made where nothing can be made
        ("open('../../anything', 'x')", "EPERM"),
        ("open('../../../anything', 'x')", "EPERM"),
        ("open('../../../../anything', 'x')", "EPERM"),
        ("open('../../states/SUCCESS/anything', 'x')", "EPERM"),
        ("open('outputs/anything', 'x')", "EPERM"),
        ("os.open('.', os.O_TMPFILE | os.O_RDWR)", "ENOTSUP"),
        ("os.open('../../uploads', os.O_TMPFILE | os.O_RDWR)", "ENOTSUP"),
        ("os.mkdir('results/directory')", "EPERM"),
        ("os.mkdir('../directory')", "EPERM"),
        ("os.mkdir('../../uploads/directory')", "EPERM"),
        ("os.mkdir('../../uploads')", "EEXIST"),
        ("os.makedirs('../../uploads/a/b')", "EPERM"),
        ("os.mkfifo('../../uploads/fifo')", "EPERM"),
        ("os.mknod('../../uploads/device', 0o20644, os.makedev(1, 3))", "EPERM"),
        ("import socket\nsocket.socket(socket.AF_UNIX).bind('../../uploads/socket')", "EPERM"),
        ("os.symlink('a', '../../uploads/b')", "EPERM"),
        ("os.symlink('a', '../../latest')", "EEXIST"),
        ("os.link('../../uploads/names.txt', '../../uploads/b')", "EPERM"),
        ("os.link('results/' + os.listdir('results')[0], '../../uploads/b')", "EPERM"),
        # changed without being opened
        ("os.chmod('.', 0o700)", "EPERM"),
        ("os.chmod('../..', 0o700)", "EPERM"),
        ("os.chmod('results/' + os.listdir('results')[0], 0o666)", "EPERM"),
        ("os.chown('handle.json', os.getuid(), os.getgid())", "EPERM"),
        ("os.chown('.', os.getuid(), os.getgid())", "EPERM"),
        ("os.utime('.')", "EPERM"),
        ("os.utime('outputs/results/greetings.txt', (1, 1))", "EPERM"),
        ("os.utime('../../latest', (1, 1), follow_symlinks=False)", "EPERM"),
        ("os.truncate('outputs/results/greetings.txt', 1)", "EPERM"),
        ("os.truncate('archive.tar.gz', 0)", "EPERM"),
        ("os.truncate('../new', 1)", "EINVAL"),
        ("os.truncate('results', 0)", "EISDIR"),
        ("os.setxattr('handle.json', 'user.mine', b'x')", "ENOTSUP"),
        ("os.setxattr('../../uploads/names.txt', 'user.mine', b'x')", "ENOTSUP"),
        ("os.removexattr('handle.json', 'user.flowfs.state')", "ENOTSUP"),
        # renamed
        ("os.rename('results', 'other')", "EPERM"),
        ("os.rename('../../latest', '../../newest')", "EPERM"),
        ("os.rename('../new', '../../uploads/new')", "EPERM"),
        ("os.rename('.', '../other')", "EBUSY"),
        # removed
        ("os.unlink('../../runs.jsonl')", "EPERM"),
        ("os.unlink('../../arguments.template.json')", "EPERM"),
        ("os.unlink('results')", "EISDIR"),
        ("os.unlink('../../states/SUCCESS/' + os.path.basename(os.getcwd()))", "EPERM"),
        ("os.rmdir('handle.json')", "ENOTDIR"),
        ("os.rmdir('../../states')", "EPERM"),
        ("os.rmdir('../../states/PENDING')", "EPERM"),
        ("os.rmdir('..')", "ENOTEMPTY"),
        ("os.rmdir('../../runs')", "EPERM"),
        ("os.rmdir('../../../' + os.path.basename(os.path.realpath('../..')))", "EPERM"),
        ("os.rmdir('../../../../workflows')", "EPERM"),
        ("os.unlink('../../latest')", "EPERM"),
        ("os.unlink('../new')", "EPERM"),
        ("os.unlink('../../group.json')", "EPERM"),
        ("os.rmdir('../../uploads')", "EPERM"),
        ("os.rmdir('.')", "EINVAL"),
    ],
)
def test_nothing_else_can_be_changed(settled: Run, script: str, number: str) -> None:
    assert python(script, settled.path) == number


READ_ONLY = """
def tried(act, *arguments):
    try:
        act(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
run = sys.argv[1]
for act, *arguments in (
    (open, "uploads/names.txt", "w"), (open, "uploads/names.txt", "r+"), (open, "uploads/x", "w"),
    (open, "uploads/x", "x"), (open, "runs/new", "w"), (open, "runs/new", "a"),
    (open, run + "/handle.json", "w"), (open, run + "/anything", "w"),
    (os.truncate, "uploads/names.txt", 0), (os.unlink, "uploads/names.txt"),
    (os.unlink, run + "/handle.json"), (os.rmdir, run + "/results"), (os.rmdir, run),
    (os.mkdir, "uploads/d"), (os.mkfifo, "uploads/f"), (os.symlink, "a", "uploads/l"),
    (os.link, "uploads/names.txt", "uploads/l"), (os.unlink, "latest"),
    (os.rename, "uploads/names.txt", "uploads/n"), (os.rename, run, "runs/other"),
    (os.chmod, "uploads/names.txt", 0o600), (os.utime, "uploads/names.txt"),
    (os.chown, "uploads", 0, 0), (os.setxattr, "uploads/names.txt", "user.mine", b""),
):
    said = tried(act, *arguments)
    if said != "EROFS":
        print(act, arguments, said)
print("tried")"""


def test_a_read_only_mount_refuses_every_change_with_erofs(
    service: EmbeddedService, binding: dict[str, str], rest: Rest, settled: Run
) -> None:
    with mounted(service, read_only=True, **binding) as directory:
        group = directory / "groups" / settled.group_id
        script = READ_ONLY.replace("sys.argv[1]", repr(f"runs/{settled.id}"))
        assert python(script.strip(), group) == "tried"
        done = sh(f"rm -rf runs/{settled.id}", group)
        assert "Read-only file system" in done.stderr
    assert run_ids(rest, settled.group_id) == [settled.id]


# -- deleting --------------------------------------------------------------


@pytest.mark.parametrize("command", ["rm -r", "rm -rf", "find -depth -delete", "unlinking"])
def test_a_run_is_removed_with_all_that_is_in_it(
    group: Path, group_id: str, rest: Rest, run: Run, command: str
) -> None:
    if command == "unlinking":
        command = f"{sys.executable} -c 'import shutil, sys; shutil.rmtree(sys.argv[1])'"
    elif command.startswith("find"):
        command = "find"
    last = " -delete" if command == "find" else ""
    out(f"{command} runs/{run.id}{last}", group)
    assert run_ids(rest, group_id) == []
    assert out("ls runs", group).split() == ["new"]


def test_rm_r_of_an_active_run_is_ebusy_and_leaves_it_alone(
    active: Run, group: Path, rest: Rest
) -> None:
    done = sh(f"rm -rf runs/{active.id}", group)
    assert done.returncode == 1
    assert "busy" in done.stderr
    assert python(f"os.rmdir('runs/{active.id}')", group) == "EBUSY"
    assert len(out("ls", active.path).split()) == 5
    assert rest.run(active.id)["state"] == "RUNNING"


def test_rmdir_of_a_run_with_files_is_enotempty(group: Path, group_id: str, run: Run) -> None:
    script = f"os.rmdir('runs/{run.id}')"
    assert python(script, group) == "ENOTEMPTY"
    assert python("os.rmdir('results')", run.path) == "ENOTEMPTY"
    out("rm results/*; rmdir results", run.path)
    assert python(script, group) == "ENOTEMPTY"
    assert "results" not in out("ls", run.path)
    # the same file under its other name is there still
    assert "Hello" in out("cat outputs/results/greetings.txt", run.path)


def test_a_run_is_not_removed_through_a_view(rest: Rest, settled: Run) -> None:
    for link in ("latest", f"states/SUCCESS/{settled.id}"):
        done = sh(f"rm {link}", settled.group)
        assert "not permitted" in done.stderr
    assert run_ids(rest, settled.group_id) == [settled.id]


# -- uploads ---------------------------------------------------------------


def test_an_upload_is_written_read_replaced_and_removed(
    group: Path, group_id: str, rest: Rest, tmp_path: Path
) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "input.bin").write_bytes(data)
    out(f"cp {tmp_path}/input.bin uploads/", group)
    assert out("stat -c %s uploads/input.bin", group).strip() == "3000000"
    out(f"cmp {tmp_path}/input.bin uploads/input.bin", group)
    for command in ("echo two > {}", "echo three | tee {}", "echo four | dd of={} status=none"):
        out(command.format("uploads/input.bin"), group)
        word = command.split()[1]
        assert out("cat uploads/input.bin", group) == f"{word}\n"
    names = [file["name"] for file in rest.get(f"groups/{group_id}")["files"]]
    assert sorted(names) == ["input.bin", "names.txt"]
    out("rm uploads/input.bin", group)
    assert out("ls uploads", group).split() == ["names.txt"]
    assert len(rest.get(f"groups/{group_id}")["files"]) == 1


def test_an_upload_can_be_appended_to_cut_off_and_changed_in_place(group: Path) -> None:
    out("printf abc > uploads/x; printf def >> uploads/x", group)
    assert out("cat uploads/x", group) == "abcdef"
    out("printf XY | dd of=uploads/x bs=1 seek=1 conv=notrunc status=none", group)
    assert out("cat uploads/x", group) == "aXYdef"
    out("truncate -s 4 uploads/x", group)
    assert out("cat uploads/x", group) == "aXYd"
    assert python("os.truncate('uploads/x', 2)\nprint(open('uploads/x').read())", group) == "aX"
    script = "f = open('uploads/x', 'r+')\nf.seek(0, 2)\nf.write('!')\nf.flush()\nf.seek(0)\n"
    assert python(script + "print(f.read())", group) == "aX!"


@pytest.mark.parametrize(
    "command", ["cp -a", "cp -p", "install -m 644", "cp --preserve=all", "cp -n"]
)
def test_an_upload_comes_by_all_ways_of_copying(group: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "x.txt").write_text("text\n")
    out(f"{command} {tmp_path}/x.txt uploads/x.txt", group)
    assert out("cat uploads/x.txt", group) == "text\n"
    if command != "cp -n":
        out(f"{command} {tmp_path}/x.txt uploads/", group)
        assert out("cat uploads/x.txt", group) == "text\n"


def test_an_upload_of_another_stored_name_goes_on_under_the_name_asked_for(
    group: Path, mount_log: Path
) -> None:
    out("echo text > 'uploads/my file.txt'", group)
    assert out("cat 'uploads/my file.txt'", group) == "text\n"
    assert "my_file.txt" in out("ls uploads", group)
    assert "my_file.txt" in mount_log.read_text()
    out("""echo '{"names": "my file.txt"}' > runs/new""", group)
    out("rm 'uploads/my file.txt'", group)


def test_an_empty_upload_can_be_made(group: Path) -> None:
    out("touch uploads/empty; : > uploads/other", group)
    wait_until(
        lambda: out("stat -c %s uploads/empty uploads/other", group).split() == ["0", "0"],
        5,
        "the empty files",
    )


def test_o_excl_is_kept(group: Path) -> None:
    assert python("open('uploads/names.txt', 'x')", group) == "EEXIST"


def test_an_upload_that_is_refused_is_told_to_who_copies_it(group: Path) -> None:
    # The service makes a file name of it, of which nothing is left.
    done = sh("cp /etc/hostname uploads/日本", group)
    assert done.returncode == 1
    assert "日本" not in out("ls uploads", group)


def test_uploads_can_be_made_by_several_at_once(group: Path) -> None:
    out("for i in 1 2 3 4 5 6; do echo $i > uploads/f$i & done; wait", group)
    assert out("cat uploads/f?", group).split() == list("123456")


# -- requests --------------------------------------------------------------


@pytest.fixture(scope="session")
def large_result(
    service: EmbeddedService, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    """Path of a result of 64 MiB, and its id."""
    rest, group_id = Rest(service), service.groups["hello"]
    source = tmp_path_factory.mktemp("large") / "long.txt"
    line = "x" * ((1 << 20) - len("Hello, !\n"))
    source.write_text(f"{line}\n" * 64)
    file_id = rest.upload(group_id, source)
    handle = rest.ended(rest.start(group_id, {"names": {"fileId": file_id}}))
    rest.request("DELETE", f"uploads/{group_id}/files/{file_id}")
    rest.close()
    path = f"groups/{group_id}/runs/{handle['id']}/outputs/results/greetings.txt"
    return path, handle["files"][0]["id"]


def test_reading_64_mib_from_front_to_back_is_one_request(
    service: EmbeddedService,
    binding: dict[str, str],
    large_result: tuple[str, str],
    tmp_path: Path,
) -> None:
    path, file_id = large_result
    log = tmp_path / "log"
    with mounted(service, log=log, extra={"FLOWFS_DEBUG": "1"}, **binding) as directory:
        out(f"ls -R {Path(path).parents[2]}", directory)
        assert f"/files/{file_id}" not in log.read_text()
        assert out(f"cat {path} | wc -c", directory).strip() == str(64 << 20)
        asked = re.findall(rf"GET \S+/files/{file_id} -> (\d+)", log.read_text())
    # one for the size, one for the bytes
    assert asked == ["206", "200"]


def test_reading_a_result_again_is_no_request(
    service: EmbeddedService,
    binding: dict[str, str],
    large_result: tuple[str, str],
    tmp_path: Path,
) -> None:
    path, file_id = large_result
    log = tmp_path / "log"

    def requests() -> int:
        return log.read_text().count(f"/files/{file_id} -> ")

    with mounted(service, log=log, extra={"FLOWFS_DEBUG": "1"}, **binding) as directory:
        # The kernel may drop pages of its own accord between two readings, and on some machines
        # it does so all the time; that all five lose theirs would be no accident.
        for _ in range(5):
            out(f"head -c 1M {path} | md5sum", directory)
            before = requests()
            out(f"head -c 1M {path} | md5sum", directory)
            if requests() == before:
                break
        else:
            pytest.fail("every reading asks the service")


def test_looking_at_many_runs_costs_one_listing_and_builds_no_archive(
    service: EmbeddedService,
    binding: dict[str, str],
    group: Path,
    group_id: str,
    run: Run,
    rest: Rest,
    tmp_path: Path,
) -> None:
    for _ in range(5):
        rest.ended(Run(rest, group_id, group).id)
    log = tmp_path / "log"
    with mounted(service, log=log, extra={"FLOWFS_DEBUG": "1"}, ttl=60, **binding) as directory:
        out(f"ls -l groups/{group_id}/runs", directory)
        asked = re.findall(r"GET \S+/(?:groups|runs)/\S+", log.read_text())
        assert len(asked) <= 2
        out(f"ls -lR groups/{group_id}", directory)
        assert "archive" not in "".join(re.findall(r"GET \S+", log.read_text()))
