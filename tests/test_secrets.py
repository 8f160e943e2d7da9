"""The token: where it comes from, that it comes again, and that it is found nowhere else."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fsspec.callbacks import Callback
from mounting import Address, command_environment, mounted_in_background, serve_mount, sh
from standin import Asked, Reply, StandIn
from support import wait_until

from flowfs import FlowFileSystem
from flowfs.errors import AccessDenied, InvalidArguments
from flowfs.service import Credentials, Session, find_credentials
from flowfs.service.credentials import save_login
from flowfs.tokens import sources
from flowfs.tokens.secret import Secret

SECRET = "planted-0123456789-token"
FRESH = "planted-9876543210-token"

MOUNTS = pytest.mark.mount


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        standin.routes.tokens = {SECRET}
        yield standin


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    put(file, SECRET)
    return file


def put(file: Path, text: str) -> None:
    file.write_text(f"{text}\n")
    file.chmod(0o600)


def expire(server: StandIn) -> None:
    """End the token; the one that comes after it is good."""
    server.routes.tokens = {FRESH}


def fs_of(server: StandIn, **options: Any) -> FlowFileSystem:
    return FlowFileSystem(server.endpoint, **{"skip_instance_cache": True, "ttl": 0, **options})


def fs_of_environment(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> FlowFileSystem:
    for name, value in command_environment(Address(server.endpoint, SECRET)).items():
        if name.startswith("FLOWSERV_"):
            monkeypatch.setenv(name, value)
    return FlowFileSystem(skip_instance_cache=True, ttl=0)


# -- one that has expired comes again from where it came ---------------------


def test_a_new_login_is_found_by_who_had_the_old_one(server: StandIn) -> None:
    save_login(server.endpoint, SECRET)
    fs = fs_of(server)
    assert fs.ls("groups", detail=False)
    expire(server)
    save_login(server.endpoint, FRESH)
    before = server.count()
    assert fs.ls("groups/group-1/runs", detail=False)
    # Refused once, and never again.
    assert {asked.headers["api_key"] for asked in server.asked[before + 1 :]} == {FRESH}


def test_a_login_is_found_by_who_had_none(server: StandIn) -> None:
    fs = fs_of(server)
    with pytest.raises(AccessDenied, match="no access token was sent"):
        fs.ls("groups/group-1/runs")
    save_login(server.endpoint, SECRET)
    assert fs.ls("groups/group-1/runs", detail=False)


def test_a_new_token_of_the_environment_is_found(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = fs_of_environment(server, monkeypatch)
    assert fs.ls("groups/group-1/runs", detail=False)
    expire(server)
    monkeypatch.setenv("FLOWSERV_ACCESS_TOKEN", FRESH)
    assert fs.ls("groups/group-1/runs", detail=False)


def test_a_new_token_of_a_file_is_found(server: StandIn, token_file: Path) -> None:
    fs = fs_of(server, token_file=str(token_file))
    assert fs.ls("groups/group-1/runs", detail=False)
    expire(server)
    put(token_file, FRESH)
    assert fs.ls("groups/group-1/runs", detail=False)


def test_a_new_token_of_a_file_is_found_where_another_was_given_the_old_one(
    server: StandIn, token_file: Path
) -> None:
    given = fs_of(server, token=SECRET)  # what both know is shared
    fs = fs_of(server, token_file=str(token_file))
    assert fs.ls("groups/group-1/runs", detail=False)
    expire(server)
    put(token_file, FRESH)
    assert fs.ls("groups/group-1/runs", detail=False)
    assert given.ls("groups/group-1/runs", detail=False)


def test_a_command_is_asked_once_more_and_not_by_each_who_is_refused(
    server: StandIn, token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    command = ["sh", "-c", 'echo called >> "$0"; cat "$1"', str(calls), str(token_file)]
    fs = fs_of(server, token_command=command)
    assert fs.ls("groups/group-1/runs", detail=False)
    assert calls.read_text().count("called") == 1
    expire(server)
    put(token_file, FRESH)
    monkeypatch.setattr(sources, "_PAUSE", -1.0)
    assert fs.ls("groups/group-1/runs", detail=False)
    assert calls.read_text().count("called") == 2
    # What it prints may be refused as well.
    server.routes.tokens = set()
    monkeypatch.setattr(sources, "_PAUSE", 1e9)
    for _ in range(3):
        with pytest.raises(AccessDenied, match="the token from the command 'sh' was sent"):
            fs.ls("groups/group-1/runs")
    assert calls.read_text().count("called") == 2


def test_a_command_that_fails_is_not_run_by_each_who_is_refused(
    server: StandIn, token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    command = ["sh", "-c", 'echo called >> "$0"; cat "$1"', str(calls), str(token_file)]
    fs = fs_of(server, token_command=command)
    assert fs.ls("groups/group-1/runs", detail=False)
    expire(server)
    token_file.unlink()
    for pause in (-1.0, 1e9, 1e9):
        monkeypatch.setattr(sources, "_PAUSE", pause)
        with pytest.raises(AccessDenied):
            fs.ls("groups/group-1/runs")
    assert calls.read_text().count("called") == 2


def test_nobody_waits_for_a_command_beyond_the_deadline(
    server: StandIn, token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, go = tmp_path / "calls", tmp_path / "go"
    go.touch()
    command = 'echo >> "$0"; while [ ! -e "$1" ]; do sleep 0.1; done; cat "$2"'
    words = ["sh", "-c", command, str(calls), str(go), str(token_file)]
    fs = fs_of(server, token_command=words, timeout=4)
    assert fs.ls("groups/group-1/runs", detail=False)
    go.unlink()
    expire(server)
    put(token_file, FRESH)
    monkeypatch.setattr(sources, "_PAUSE", -1.0)
    url = f"{server.endpoint}/groups/group-1/runs"
    with ThreadPoolExecutor(4) as pool:
        session = fs.catalog.service.session
        asked = [pool.submit(session.json, "POST", url, what="look", body={}) for _ in range(4)]
        # What was refused is not said to be late, and maybe done: the command waits still.
        for one in asked:
            with pytest.raises(AccessDenied, match="not authorized"):
                one.result(60)
    assert calls.read_text() == "\n\n"
    go.touch()

    def found() -> bool:
        with contextlib.suppress(AccessDenied):
            return bool(fs.ls("groups/group-1/runs", detail=False))
        return False

    wait_until(found, 60, "the new token")


def test_of_many_who_are_refused_one_asks_for_a_new_token(
    server: StandIn, token_file: Path
) -> None:
    fs = fs_of(server, token_file=str(token_file), timeout=60)
    fs.ls("groups/group-1/runs")
    expire(server)
    put(token_file, FRESH)
    together = threading.Barrier(6)

    def refuse(asked: Asked) -> Reply | None:
        if asked.headers["api_key"] == FRESH:
            return None
        together.wait(60)
        return Reply(403, {"message": "not authorized"})

    server.on("GET", "/groups/group-1/runs", refuse)
    server.on("GET", "/?", lambda asked: replace(server.own(asked), delay=0.3))
    before = server.count("GET", "/?")
    session, url = fs.catalog.service.session, f"{server.endpoint}/groups/group-1/runs"
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(session.json, "GET", url, what="look") for _ in range(6)]
        assert all(one.result(60) for one in asked)
    assert server.count("GET", "/?") == before + 1


def test_a_start_that_was_refused_is_sent_once_more_and_starts_one_run(
    server: StandIn, token_file: Path
) -> None:
    upload = server.routes.post_upload(
        "group-1",
        {"Content-Type": "x; boundary=B"},
        b'--B\r\nname="file"; filename="names.txt"\r\n\r\nAda\r\n--B--',
    )[1]
    fs = fs_of(server, token_file=str(token_file))
    fs.ls("groups/group-1/runs")
    expire(server)
    put(token_file, FRESH)
    run = fs.start_run("group-1", {"names": upload["name"]})
    assert list(server.routes.runs) == [run["id"]]


def test_an_upload_that_was_refused_is_sent_once_more_from_its_beginning(
    server: StandIn, token_file: Path, tmp_path: Path
) -> None:
    fs = fs_of(server, token_file=str(token_file))
    assert not fs.exists("groups/group-1/uploads/x.bin")
    data = os.urandom(3 << 20)

    def refuse(asked: Asked) -> Reply | None:
        expire(server)
        put(token_file, FRESH)
        return Reply(403, {"message": "not authorized"}) if SECRET in str(asked.headers) else None

    server.on("POST", "/uploads/.*", refuse)
    local = tmp_path / "x.bin"
    local.write_bytes(data)
    told = Callback()
    fs.put_file(str(local), "groups/group-1/uploads/x.bin", callback=told)
    assert told.value == told.size == len(data)
    assert fs.cat("groups/group-1/uploads/x.bin") == data


def test_what_is_refused_with_the_newest_token_is_sent_once(
    server: StandIn, token_file: Path
) -> None:
    fs = fs_of(server, token_file=str(token_file))
    fs.ls("groups/group-1/runs")
    server.on("GET", "/groups/group-1/runs", Reply(403, {"message": "not a member"}))
    before = server.count()
    with pytest.raises(AccessDenied, match="not a member"):
        fs.ls("groups/group-1/runs")
    assert server.count("GET", "/groups/group-1/runs") == 2  # one before, one now
    assert server.count() - before <= 2


def test_the_token_of_another_user_is_not_taken(server: StandIn, token_file: Path) -> None:
    names = {SECRET: "ada", FRESH: "bob"}

    def describe(asked: Asked) -> Reply:
        document = server.routes.get_service()[1]
        return Reply(body={**document, "username": names.get(asked.headers.get("api_key", ""))})

    server.on("GET", "/?", describe)
    fs = fs_of(server, token_file=str(token_file))
    assert fs.ls("groups/group-1/runs", detail=False)
    expire(server)
    put(token_file, FRESH)
    with pytest.raises(AccessDenied):
        fs.ls("groups/group-1/runs")
    names[FRESH] = "ada"
    assert fs.ls("groups/group-1/runs", detail=False)


def test_whose_token_it_is_is_known_also_where_the_first_had_expired(
    server: StandIn, token_file: Path
) -> None:
    names = {SECRET: "ada", FRESH: "bob"}

    def describe(asked: Asked) -> Reply:
        document = server.routes.get_service()[1]
        return Reply(body={**document, "username": names.get(asked.headers.get("api_key", ""))})

    server.on("GET", "/?", describe)
    put(token_file, "ended")
    fs = fs_of(server, token_file=str(token_file))
    with pytest.raises(AccessDenied):
        fs.ls("groups/group-1/runs")
    put(token_file, SECRET)
    assert fs.ls("groups/group-1/runs", detail=False)
    expire(server)
    put(token_file, FRESH)
    with pytest.raises(AccessDenied):
        fs.ls("groups/group-1/runs")


def test_whose_token_it_is_is_asked_behind_redirects_of_the_origin(
    server: StandIn, token_file: Path
) -> None:
    def describe(asked: Asked) -> Reply:
        return Reply(body={**server.routes.get_service()[1], "username": "ada"})

    server.on("GET", "/?", Reply(302, headers={"Location": f"{server.endpoint}/moved"}))
    server.on("GET", "/moved", describe)
    fs = fs_of(server, token_file=str(token_file))
    assert fs.ls("groups/group-1/runs", detail=False)
    expire(server)
    put(token_file, FRESH)
    with StandIn() as other:
        # Not to another one.
        server.on("GET", "/?", Reply(302, headers={"Location": f"{other.endpoint}/moved"}))
        with pytest.raises(AccessDenied):
            fs.ls("groups/group-1/runs")
        assert other.count() == 0
    server.on("GET", "/?", Reply(302, headers={"Location": f"{server.endpoint}/moved"}))
    assert fs.ls("groups/group-1/runs", detail=False)


def test_a_token_of_the_environment_for_another_address_is_not_taken(
    server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = fs_of_environment(server, monkeypatch)
    assert fs.ls("groups/group-1/runs", detail=False)
    expire(server)
    monkeypatch.setenv("FLOWSERV_API_HOST", "elsewhere.example")
    monkeypatch.setenv("FLOWSERV_ACCESS_TOKEN", FRESH)
    with pytest.raises(AccessDenied):
        fs.ls("groups/group-1/runs")
    assert FRESH not in str(server.asked)


@MOUNTS
def test_a_mount_finds_a_new_login(server: StandIn, tmp_path: Path) -> None:
    save_login(server.endpoint, SECRET)
    directory = tmp_path / "mnt"
    directory.mkdir()
    with mounted_in_background(
        None, directory, "--ttl", "0", f"flow+{server.endpoint}", XDG_RUNTIME_DIR=str(tmp_path)
    ):
        runs = f"{directory}/groups/group-1/runs"
        assert sh(f"ls {runs}").stdout == "new\n"
        expire(server)
        refused = sh(f"ls {runs}")
        assert "Permission denied" in refused.stderr
        save_login(server.endpoint, FRESH)
        assert sh(f"ls {runs}").stdout == "new\n"


# -- where it may come from --------------------------------------------------


def test_a_file_that_others_can_read_is_refused(server: StandIn, token_file: Path) -> None:
    token_file.chmod(0o644)
    with pytest.raises(AccessDenied, match="chmod 600"):
        fs_of(server, token_file=str(token_file))


def test_a_pipe_that_nobody_writes_to_holds_up_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(InvalidArguments, match="no token in it"):
        sources.read_token(str(tmp_path / "pipe"))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-command-anywhere --token", "No such file"),
        ("sh -c 'echo half; exit 3'", "ended with 3"),
        ("true", "printed nothing"),
    ],
)
def test_a_command_that_prints_no_token_is_an_access_error(command: str, said: str) -> None:
    with pytest.raises(AccessDenied, match=said) as caught:
        find_credentials("http://127.0.0.1:1/api", token_command=command)
    assert "half" not in str(caught.value)
    assert "--token" not in str(caught.value)


def test_a_command_that_takes_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_PATIENCE", 0.1)
    with pytest.raises(AccessDenied, match=r"more than 0\.1 seconds"):
        sources.TokenCommand(["sleep", "600"]).read()


def test_a_file_and_a_command_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="give one"):
        find_credentials("http://127.0.0.1:1/api", token_file="x", token_command="y")


@MOUNTS
def test_a_mount_reads_the_token_from_stdin_or_a_command(
    server: StandIn, tmp_path: Path, token_file: Path
) -> None:
    directory = tmp_path / "mnt"
    directory.mkdir()
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    program = tmp_path / "say it"  # which is found from where the command is given
    program.write_text(f"#!/bin/sh\ncat {token_file}\n")
    program.chmod(0o700)
    for options in (
        ["--token-stdin"],
        ["--token-command", f"cat {token_file}"],
        ["--token-command", "'./say it'"],
        ["-o", "token_command='./say it'"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "flowfs", "mount", *options, server.endpoint, directory],
            input=SECRET + "\n",
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        try:
            assert (done.returncode, done.stderr) == (0, "")
            assert "new" in sh(f"ls {directory}/groups/group-1/runs").stdout
        finally:
            subprocess.run(
                [sys.executable, "-m", "flowfs", "umount", directory], env=environment, check=True
            )


# -- that it is found nowhere else -------------------------------------------


def test_a_secret_looks_like_itself_and_like_no_other() -> None:
    one, same, other = Secret(SECRET), Secret(SECRET), Secret(FRESH)
    assert SECRET not in repr({"token": one}) + repr(Credentials(SECRET))
    assert repr(one) == repr(same) != repr(other)
    assert (str(one), f"{one}", pickle.loads(pickle.dumps(one))) == (SECRET, SECRET, SECRET)


def test_options_that_are_used_again_make_the_same_instance_and_no_other(server: StandIn) -> None:
    one, other = (FlowFileSystem(server.endpoint, token=token) for token in (SECRET, FRESH))
    for fs in (one, other):
        assert FlowFileSystem(server.endpoint, token=fs.storage_options["token"]) == fs
    assert one != other


def test_a_switch_keeps_the_token_out_of_pickles(server: StandIn, token_file: Path) -> None:
    for options in ({"token": SECRET}, {"token_file": str(token_file)}):
        for fs in (
            fs_of(server, pickle_token=False, **options),
            pickle.loads(pickle.dumps(fs_of(server, pickle_token=False, **options))),
        ):
            assert SECRET.encode() not in pickle.dumps(fs)
            assert token_file.name.encode() not in pickle.dumps(fs).replace(b"pickle_token", b"")
    save_login(server.endpoint, SECRET)
    assert pickle.loads(pickle.dumps(fs)).ls("groups/group-1/runs", detail=False)
    by_place = FlowFileSystem(server.endpoint, SECRET, pickle_token=False)
    assert SECRET.encode() not in pickle.dumps(by_place)
    assert SECRET.encode() in pickle.dumps(fs_of(server, token=SECRET))


# What a program may do that shows much: everything logged, every variable of every frame.
EVERYTHING = """
import http.client, json, logging, pickle, sys, traceback
http.client.HTTPConnection.debuglevel = 1
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
from rich.console import Console
from rich.traceback import Traceback
from flowfs import FlowFileSystem
from flowfs.service import find_credentials

pretty = 2

def show(error):
    global pretty
    while error is not None:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        print("".join(told.format()))
        if not (pretty := pretty - 1) < 0:  # which takes its time
            Console(width=200).print(Traceback.from_exception(
                type(error), error, error.__traceback__, show_locals=True,
                locals_max_length=1000, locals_max_string=10000))
        print(repr(error), error, vars(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

endpoint, cache, gone = sys.argv[1:]
token = sys.stdin.read()
options = {"token": token, "retries": 1, "cache_dir": cache, "ttl": 0}
fs = FlowFileSystem(endpoint, **options)
elsewhere = FlowFileSystem(gone, **options)
hasty = FlowFileSystem(endpoint, **options, timeout=0.5)
secure = FlowFileSystem(endpoint.replace("http:", "https:"), **options, timeout=0.5)
del options, token
run = fs.start_run("group-1", {"names": "names.txt"})
for path in fs.find("groups/group-1"):
    try:
        print(path, fs.info(path))
        if not path.endswith(("new", "cancel")):
            print(fs.cat(path))
    except OSError as error:
        show(error)
acts = [
    lambda: fs.start_run("group-1", {"names": "names.txt", "no": 1}),
    *[lambda kind=kind: fs.cat(f"groups/group-1/runs/{kind}/handle.json") for kind in KINDS],
    lambda: fs.pipe("groups/group-1/uploads/refused.txt", bytes(1 << 22)),
    lambda: fs.ls("groups/nowhere/runs"),
    lambda: hasty.cat("groups/group-1/runs/late/handle.json"),
    lambda: elsewhere.ls("groups"),
    lambda: secure.ls("groups"),
    lambda: fs.rm(f"groups/group-1/runs/{run['id']}", recursive=True),
]
for act in acts:
    try:
        print(act())
    except Exception as error:
        show(error)
for one in (fs, fs._shared.session, fs._shared.session.credentials, fs.storage_options,
            fs.storage_args, fs.to_json(), fs.to_dict(), fs._fs_token, vars(fs)):
    print(repr(one), str(one))
for name in ("errors", "stats.json", "version"):
    print(fs.cat(f".flowfs/{name}"))
"""
KINDS = ("echoed", "broken", "cut", "moved", "wrong", "nonsense", "forbidden")


@pytest.fixture
def telltale(server: StandIn) -> StandIn:
    """A service that says back whatever it is told, wherever it can."""
    token = {"message": f"what is {SECRET}?"}
    server.routes.post_upload(
        "group-1",
        {"Content-Type": "x; boundary=B"},
        b'--B\r\nname="file"; filename="names.txt"\r\n\r\nAda\r\n--B--',
    )
    server.routes.add_file(b"a result")
    for kind, reply in {
        "echoed": Reply(500, token),
        "broken": Reply(reset=True),
        "cut": Reply(cut_headers=True),
        "late": Reply(hang="headers"),
        "moved": Reply(302, headers={"Location": f"/{SECRET}/?key={SECRET}"}),
        "wrong": Reply(302, headers={"Location": f"ftp://{SECRET}/"}),
        "nonsense": Reply(body=b"<html>"),
        "forbidden": Reply(403, token),
    }.items():
        server.on("GET", f"/runs/{kind}", reply)
    server.on("POST", "/uploads/.*", Reply(reset=True))
    return server


def found_in(*places: Path) -> list[str]:
    """Return the files below some directories that hold the token."""
    files = [file for place in places for file in [place, *place.rglob("*")] if file.is_file()]
    assert files
    return [str(file) for file in files if SECRET.encode() in file.read_bytes()]


@pytest.mark.timeout(400)
def test_a_token_that_is_planted_is_found_in_nothing_that_a_program_shows(
    telltale: StandIn, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"KINDS = {KINDS!r}\n{EVERYTHING}",
            telltale.endpoint,
            cache,
            "http://127.0.0.1:9/api",
        ],
        input=SECRET,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    lines = [line for line in told.splitlines() if SECRET in line]
    assert [line.strip()[:400] for line in lines] == []
    assert "what is ...?" in told  # it was said, and left out
    assert "a result" in told
    assert told.count("Traceback") > 20
    assert {asked.headers.get("api_key") for asked in telltale.asked} >= {SECRET}
    assert found_in(cache) == []


@MOUNTS
@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", ["background", "foreground"])
def test_a_token_that_is_planted_is_found_in_nothing_that_a_mount_shows(
    telltale: StandIn, tmp_path: Path, how: str
) -> None:
    directory = tmp_path / "mnt"
    directory.mkdir()
    cache, log, runtime = tmp_path / "cache", tmp_path / "log", tmp_path / "run"
    runtime.mkdir(mode=0o700)
    service = Address(telltale.endpoint, SECRET)
    options = {"debug": True, "log_file": log, "cache_dir": cache, "ttl": 0}
    script = f"""
        cd {directory}
        cat groups/group-1/runs/*/handle.json groups/group-1/runs/*/results/*
        cat groups/group-1/runs/*/archive.tar.gz | tar tz
        for kind in {" ".join(KINDS)}; do cat groups/group-1/runs/$kind/handle.json; done
        echo '{{"names": "names.txt"}}' > groups/group-1/runs/new
        echo '{{"nothing": 1}}' > groups/group-1/runs/new; cat groups/group-1/runs/new.error
        echo text > groups/group-1/uploads/refused.txt
        cat .flowfs/*; getfattr -d -m - . groups/group-1/runs/*; stat -f .
        cd /; cat /proc/mounts; ps axwwe -o pid,args
        {sys.executable} -m flowfs mount --list; {sys.executable} -m flowfs mount --list --json
    """
    if how == "background":
        given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        mounting: Any = mounted_in_background(
            service, directory, "--debug", *given[1:], XDG_RUNTIME_DIR=str(runtime)
        )
    else:
        mounting = serve_mount(
            service, directory, "", tmp_path / "said", extra={"XDG_RUNTIME_DIR": str(runtime)},
            **options,
        )  # fmt: skip
    with mounting as told:
        if how == "foreground":
            wait_until(lambda: log.exists() and "mounted" in log.read_text(), 60, "the mount")
        pid = told["pid"] if how == "background" else told.pid
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "LC_ALL": "C"}
        done = sh(script, timeout=300, env=environment)
        shown = done.stdout + done.stderr
        for process in processes_below(pid):
            for name in ("cmdline", "environ"):
                with contextlib.suppress(OSError):  # it has ended since
                    shown += Path(f"/proc/{process}/{name}").read_text("utf-8", "replace")
        assert "FLOWSERV_API_HOST" in shown  # the rest of the environment is there
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert [line.split()[4] for line in limits.splitlines() if "core" in line] == ["0"]
    assert [line for line in shown.splitlines() if SECRET in line] == []
    assert "a result" in shown
    assert "what is ...?" in log.read_text()
    assert found_in(cache, log, runtime) == []


def processes_below(pid: int) -> list[int]:
    """Return a process and those that it has started."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += processes_below(int(child))
    return found


def test_what_a_mount_is_told_by_fsspecs_variables_is_not_shown_either(
    server: StandIn, tmp_path: Path
) -> None:
    program = (
        "import json, os, sys\n"
        "from flowfs.tokens.environment import variable, withhold\n"
        "withhold()\n"
        "shown = open('/proc/self/environ').read() + os.popen('env').read()\n"
        "print(json.dumps([shown, variable('FLOWSERV_ACCESS_TOKEN')]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "FLOWSERV_ACCESS_TOKEN": SECRET,
            "FSSPEC_FLOW_TOKEN": SECRET,
            "FSSPEC_FLOW": json.dumps({"token": SECRET}),
            "OTHER": "stays",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    shown, kept = json.loads(done.stdout)
    assert SECRET not in shown
    assert shown.count("OTHER=stays") == 2
    assert kept == SECRET


# -- plain http --------------------------------------------------------------


def test_plain_http_to_elsewhere_is_warned_of_once(server: StandIn) -> None:
    with pytest.warns(UserWarning, match=r"can be read.*http://once\.example") as caught:
        made = [FlowFileSystem("http://once.example/api", skip_instance_cache=True) for _ in "123"]
    assert len(made) == 3
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FlowFileSystem("https://once.example/api")
        fs_of(server)


# -- options that there are not ----------------------------------------------


def test_an_option_that_there_is_not_is_named_with_the_nearest_and_without_its_value(
    server: StandIn,
) -> None:
    for wrong, near in (("tokn", "token"), ("readonly", "read_only"), ("cachedir", "cache_dir")):
        with pytest.raises(TypeError, match=f"'{wrong}'.*is '{near}' meant") as caught:
            FlowFileSystem(server.endpoint, **{wrong: SECRET})
        assert SECRET not in str(caught.value)
    with pytest.raises(TypeError, match="no such option: 'anon'; There are"):
        FlowFileSystem(server.endpoint, anon=True)


def test_options_of_fsspecs_own_are_taken(server: StandIn) -> None:
    FlowFileSystem(
        server.endpoint,
        asynchronous=False,
        batch_size=3,
        listings_expiry_time=1,
        loop=None,
        max_paths=10,
        skip_instance_cache=True,
        use_listings_cache=False,
    )


def test_a_session_knows_all_tokens_that_it_used() -> None:
    tokens = iter([FRESH])
    session = Session(
        "http://127.0.0.1:1/api", Credentials(SECRET, again=lambda seconds: next(tokens, None))
    )
    assert session.renew(SECRET, lambda token: None, 60)
    assert session.credentials.token == FRESH
    assert session.secrets == {SECRET, FRESH}
    assert session.renew(SECRET, lambda token: None, 60)  # by another thread
    assert not session.renew(FRESH, lambda token: None, 60)
