"""What is read before a mount's process begins, and what it is told: nothing is mounted here."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowfs import errors
from flowfs.errors import AccessDenied, FlowError, InvalidArguments, NotFound, failure
from flowfs.fuse import registry
from flowfs.fuse.background import error_told, tell_error
from flowfs.fuse.log import Log, conceal, start_log
from flowfs.fuse.settings import (
    Settings,
    bytes_of,
    group_number,
    read_options,
    umask_of,
    user_number,
)
from flowfs.fuse.table import place
from flowfs.fuse.users import User, stuck, users
from flowfs.tokens.sources import read_token

# -- options ---------------------------------------------------------------


def test_options_are_ours_or_fuses_or_mounts_own() -> None:
    ours, others = read_options(
        "ro,allow_other,uid=0,gid=4242,umask=027,timeout=5,ttl=0,retries=0,max_connections=3,"
        "cache_size=2G,fuse=fusepy,debug,syslog,noatime,max_read=65536,x-systemd.automount,"
        "_netdev,nofail,noauto,auto,user,users,defaults,rw,comment=ours,uhelper=x"
    )
    assert ours == {
        "read_only": True,
        "allow_other": True,
        "uid": 0,
        "gid": 4242,
        "umask": 0o27,
        "timeout": 5.0,
        "ttl": 0.0,
        "retries": 0,
        "max_connections": 3,
        "cache_size": 2 << 30,
        "fuse": "fusepy",
        "debug": True,
        "syslog": True,
    }
    assert others == {"noatime": True, "max_read": "65536"}
    assert read_options("") == ({}, {})
    assert read_options(" , ") == ({}, {})


def test_a_comma_behind_a_backslash_belongs_to_the_value(tmp_path: Path) -> None:
    assert read_options(rf"cache_dir={tmp_path}/a\,b,x=1\,2") == (
        {"cache_dir": f"{tmp_path}/a,b"},
        {"x": "1,2"},
    )


def test_paths_among_the_options_are_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ours, _ = read_options("log_file=log,ca=ca.pem,cert=me.pem,cache_dir=kept")
    assert ours == {
        "log_file": f"{tmp_path}/log",
        "verify": f"{tmp_path}/ca.pem",
        "cert": f"{tmp_path}/me.pem",
        "cache_dir": f"{tmp_path}/kept",
    }


@given(st.integers(0, 1 << 60))
def test_a_number_of_bytes_is_itself(number: int) -> None:
    assert bytes_of(str(number)) == number
    assert bytes_of(f"{number}K") == number * 1024


def test_sizes_have_the_units_that_people_use() -> None:
    assert bytes_of("512M") == 512 << 20
    assert bytes_of("1.5 GiB") == 3 << 29
    assert bytes_of("2gb") == 2 << 30
    assert bytes_of("0") == 0
    for nonsense in ("", "M", "-1", "1e3", "1 X", "1MM"):
        with pytest.raises(InvalidArguments, match="512M"):
            bytes_of(nonsense)


def test_users_groups_and_umasks() -> None:
    assert (user_number("root"), group_number("root"), user_number("12")) == (0, 0, 12)
    assert (umask_of("022"), umask_of("0077"), umask_of("7")) == (0o22, 0o77, 7)
    for read in (user_number, group_number, umask_of):
        for nonsense in ("", "-1", "no such name", "4294967295"):
            with pytest.raises(InvalidArguments):
                read(nonsense)


def test_a_token_comes_from_a_file_that_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    file.chmod(0o600)
    assert read_token(str(file)) == "secret"
    file.chmod(0o640)
    with pytest.raises(AccessDenied, match="chmod 600") as refused:
        read_token(str(file))
    assert "secret" not in str(refused.value)
    file.write_text("\n")
    file.chmod(0o600)
    with pytest.raises(InvalidArguments, match="no token in it"):
        read_token(str(file))
    with pytest.raises(InvalidArguments) as missing:
        read_token(str(tmp_path / "none"))
    assert missing.value.strerror == "cannot read the token: No such file or directory"
    with pytest.raises(InvalidArguments, match="is a directory"):
        read_token(str(tmp_path))


# -- what goes to the process ----------------------------------------------


def test_settings_arrive_as_they_were_and_show_no_token() -> None:
    settings = Settings(
        directory="/m\udcff",  # no UTF-8
        url="flow://flow.example.org",
        service={"token": "secret", "ttl": 0, "verify": True},
        uid=0,
        umask=0o27,
        options={"noatime": True, "max_read": "1"},
        source="flow://x",
        log=Log(file="/log", debug=True),
    )
    line = settings.dump()
    assert line.count(b"\n") == 1
    assert Settings.load(line) == settings
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    "kind",
    [one for name in errors.__all__ if isinstance(one := getattr(errors, name), type)],
    ids=lambda kind: kind.__name__,
)
def test_an_error_arrives_with_its_class_and_all_it_says(kind: type[FlowError]) -> None:
    error = failure(kind, "what happened", "/where", errno=errno.EXDEV, status=418, words="words")
    told = error_told(json.loads(json.dumps(tell_error(error))))
    assert type(told) is kind
    assert (told.errno, told.strerror, told.filename) == (errno.EXDEV, "what happened", "/where")
    assert (told.status, told.service_message) == (418, "words")


def test_an_error_of_pythons_own_arrives_as_one_of_ours() -> None:
    told = error_told(tell_error(OSError(errno.ENOSPC, "full", "/x")))
    assert (told.errno, told.strerror, told.filename) == (errno.ENOSPC, "full", "/x")
    told = error_told(tell_error(RuntimeError("odd")))
    assert (type(told), told.errno, told.strerror) == (FlowError, errno.EIO, "odd")
    told = error_told({**tell_error(NotFound(2, "x")), "kind": "Any"})
    assert type(told) is FlowError


@pytest.mark.parametrize("name", ["subtype", "foreground", "nothreads", "raw_fi", "-f", "a b", ""])
def test_what_only_looks_like_an_option_of_fuse_is_refused(name: str) -> None:
    with pytest.raises(InvalidArguments, match="not for FUSE"):
        Settings(directory="/mnt", options={name: True})


# -- what is written down --------------------------------------------------


def test_a_token_is_in_no_line_of_a_log(tmp_path: Path) -> None:
    file = tmp_path / "log"
    program = (
        "import logging, sys\n"
        "from flowfs.fuse.log import Log, conceal, start_log\n"
        "start_log(Log(file=sys.argv[1], debug=True))\n"
        "conceal({'secret'})\n"
        "try:\n"
        "    raise ValueError('said secret')\n"
        "except ValueError:\n"
        "    logging.getLogger('flowfs.x').exception('it was %s', 'secret')\n"
        "logging.getLogger('flowfs.x').debug('much')\n"
        "logging.getLogger('urllib3').debug('not ours')\n"
    )
    subprocess.run([sys.executable, "-c", program, file], check=True, timeout=60)
    text = file.read_text()
    assert "secret" not in text
    assert "ValueError: said ..." in text
    assert "it was ..." in text
    assert "much" in text
    assert "not ours" not in text


def test_where_it_logs_to_is_said(tmp_path: Path) -> None:
    assert Log(file="/x").target == "/x"
    assert Log(syslog=True).target == "syslog"
    assert Log(stderr=True).target == "stderr"
    assert Log().target == ("syslog" if os.path.exists("/dev/log") else "")
    with pytest.raises(FlowError, match="cannot log there"):
        start_log(Log(file=str(tmp_path / "no" / "log")))
    conceal(())
    assert logging.getLogger("flowfs").level == logging.NOTSET


def test_a_line_of_a_log_is_one_line_whatever_a_name_holds(tmp_path: Path) -> None:
    file = tmp_path / "log"
    program = (
        "import logging, sys\n"
        "from flowfs.fuse.log import Log, start_log\n"
        "start_log(Log(file=sys.argv[1]))\n"
        "logging.getLogger('flowfs.x').warning('%s: no', 'a\\n2025 ERROR forged \\x1b[2J')\n"
    )
    subprocess.run([sys.executable, "-c", program, file], check=True, timeout=60)
    (line,) = file.read_text().splitlines()
    assert r": a\n2025 ERROR forged \x1b[2J: no" in line


def test_the_registry_knows_a_mount_by_its_number_before_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            # Their directories have been exchanged since.
            for pid, at, since, number in ((os.getpid(), "/a", 1.0, 7), (other.pid, "/b", 2.0, 8)):
                started = registry.started_at(pid) or 0
                registry.remember(registry.Record(at, "", pid, started, since, number=number))
            for place, number, pid in (("/b", 7, os.getpid()), ("/a", 8, other.pid)):
                found = registry.find(place, number)
                assert found is not None
                assert found.pid == pid
        finally:
            other.kill()


def test_the_registry_knows_processes_by_number_and_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    pid = os.getpid()
    started = registry.started_at(pid)
    assert started is not None
    record = registry.Record("/m", "flow://x", pid, started, 1.0)
    file = registry.remember(record)
    assert file is not None
    assert file.stat().st_mode & 0o777 == 0o600
    assert registry.find("/m") == record
    assert record.running
    assert not registry.Record("/m", "", pid, started - 1, 1.0).running
    (file.parent / "1.json").write_text('{"directory": "/m"}')  # of another version
    (file.parent / "2.json").write_text("nonsense")
    assert [one for one in registry.records() if one.directory == "/m"] == [record]
    registry.forget(pid)
    assert registry.find("/m") is None


def test_a_registry_that_is_somebody_elses_or_open_to_others_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    file = registry.remember(registry.Record("/m", "", os.getpid(), 0, 1.0))
    assert file is not None
    assert registry.find("/m") is not None
    file.parent.chmod(0o750)
    assert registry.find("/m") is None
    file.parent.chmod(0o700)
    kept = file.parent.rename(tmp_path / "elsewhere")
    file.parent.symlink_to(kept)
    assert registry.find("/m") is None


# -- directories and who is in them ----------------------------------------


def test_a_directory_is_known_by_its_real_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for name in ("real", "link", "./real/", "real/.", "real/../link"):
        assert place(name) == f"{tmp_path}/real"


def test_who_is_in_a_directory_and_does_something_is_not_stuck(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "inside").mkdir()  # another directory
    with (
        open(tmp_path / "in" / "file", "w") as file,
        subprocess.Popen(["sleep", "60"], cwd=tmp_path / "in") as inside,
        subprocess.Popen(["sleep", "60"], stdout=file, cwd="/") as writing,
    ):
        subprocess.run(["true"], cwd=tmp_path / "inside", check=True)
        file.close()
        found = users(str(tmp_path / "in"))
        assert found == sorted(
            [User(inside.pid, "sleep"), User(writing.pid, "sleep")], key=lambda user: user.pid
        )
        assert stuck(found) == []
        inside.kill()
        writing.kill()
    assert users(str(tmp_path / "in")) == []
