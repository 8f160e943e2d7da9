"""Logging in at the command line: what is kept, what is refused, what is never shown."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import Rest

from flowfs import FlowFileSystem
from flowfs.cli import cli
from flowfs.embedded import EmbeddedService
from flowfs.errors import AccessDenied
from flowfs.service.credentials import login_file, save_login, saved_logins

Invoke = Callable[..., Result]

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def own() -> Iterator[EmbeddedService]:
    """A service of this module's own: logging out ends the user's one token."""
    with EmbeddedService.start() as started:
        yield started


@pytest.fixture
def password(own: EmbeddedService) -> str:
    return (own.directory / "password").read_text().strip()


@pytest.fixture
def flowfs() -> Invoke:
    def invoke(*args: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(cli, args, input=stdin, prog_name="flowfs")

    return invoke


def run(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command as a shell does, with nobody at a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "flowfs", *args],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        check=False,
    )


def log_in(own: EmbeddedService, password: str) -> str:
    """Log in with plain requests and return the token."""
    client = Rest(own)
    reply = client.request(
        "POST", "users/login", json={"username": own.username, "password": password}
    )
    client.close()
    token: str = reply.json()["token"]
    return token


def is_good(own: EmbeddedService, token: str) -> bool:
    client = Rest(own)
    client.session.headers["api_key"] = token
    reply = client.request("GET", "users/whoami")
    client.close()
    return reply.status_code == 200


# -- login -----------------------------------------------------------------


def test_login_asks_for_name_and_password_and_keeps_the_token(
    flowfs: Invoke, own: EmbeddedService, password: str
) -> None:
    result = flowfs("login", own.endpoint, stdin=f"{own.username}\n{password}\n")
    assert result.exit_code == 0, result.output
    token = saved_logins()[own.endpoint]
    assert is_good(own, token)
    assert f"Logged in to {own.endpoint} as {own.username}" in result.stdout
    assert str(login_file()) in result.stdout
    assert password not in result.output
    assert token not in result.output


def test_what_login_keeps_only_its_owner_can_read(
    flowfs: Invoke, own: EmbeddedService, password: str
) -> None:
    before = os.umask(0)
    try:
        flowfs("login", own.endpoint, "-u", own.username, "--password-stdin", stdin=password)
    finally:
        os.umask(before)
    path = login_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == [path.name]


def test_password_from_stdin_may_end_with_a_newline(own: EmbeddedService, password: str) -> None:
    args = ("login", own.endpoint, "--username", own.username, "--password-stdin")
    for stdin in (password, f"{password}\n", f"{password}\r\n"):
        done = run(*args, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, "")


def test_after_login_the_filesystem_needs_no_options(
    flowfs: Invoke, own: EmbeddedService, password: str
) -> None:
    flowfs("login", own.endpoint, "-u", own.username, "--password-stdin", stdin=password)
    fs = FlowFileSystem(skip_instance_cache=True)
    assert fs.endpoint == own.endpoint
    assert set(fs.ls("groups", detail=False)) == {f"groups/{g}" for g in own.groups.values()}


@pytest.mark.parametrize(
    "form",
    [
        "{endpoint}/",
        "flow+{endpoint}/groups/nowhere/runs",
        "flow://{host}",
        "HTTP://{host}/flowserv/api/v1",
    ],
)
def test_every_url_of_the_service_is_the_same_login(
    flowfs: Invoke, own: EmbeddedService, password: str, form: str
) -> None:
    host = own.endpoint.split("/")[2]
    url = form.format(endpoint=own.endpoint, host=host)
    result = flowfs("login", url, "-u", own.username, "--password-stdin", stdin=password)
    assert result.exit_code == 0, result.output
    assert list(saved_logins()) == [own.endpoint]


def test_a_token_from_stdin_is_kept_once_the_service_knows_it(
    flowfs: Invoke, own: EmbeddedService, password: str
) -> None:
    token = log_in(own, password)
    result = flowfs("login", own.endpoint, "--token-stdin", stdin=f"{token}\n")
    assert result.exit_code == 0, result.output
    assert saved_logins() == {own.endpoint: token}
    assert token not in result.output


def test_a_bad_token_is_not_kept(own: EmbeddedService) -> None:
    done = run("login", own.endpoint, "--token-stdin", stdin="never-given\n")
    assert done.returncode == 4
    assert done.stderr.startswith("flowfs: ")
    assert "not authorized" in done.stderr or "not logged in" in done.stderr
    assert "never-given" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert saved_logins() == {}


def test_a_wrong_password_is_one_line_with_the_services_words(own: EmbeddedService) -> None:
    done = run("login", own.endpoint, "-u", own.username, "--password-stdin", stdin="wrong")
    assert done.returncode == 4
    assert done.stdout == ""
    assert "unknown user 'flow'" in done.stderr
    assert "the password is wrong" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not login_file().exists()


def test_an_unknown_user_is_refused(own: EmbeddedService) -> None:
    done = run("login", own.endpoint, "-u", "nobody", "--password-stdin", stdin="x")
    assert done.returncode == 4
    assert "unknown user 'nobody'" in done.stderr


def test_an_address_without_a_service_is_one_line(own: EmbeddedService) -> None:
    host = own.endpoint.split("/")[2]
    wrong_root = run("login", f"http://{host}/elsewhere", "-u", "x", "--password-stdin", stdin="x")
    assert wrong_root.returncode == 1
    assert "no flowServ API there" in wrong_root.stderr
    assert len(wrong_root.stderr.splitlines()) == 1
    nobody_there = run("login", "http://127.0.0.1:9", "--token-stdin", stdin="x")
    assert nobody_there.returncode == 1
    assert "Connection refused" in nobody_there.stderr
    assert len(nobody_there.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:5000", "not a URL"),
        ("ftp://localhost/", "not a flow URL"),
        ("http://me:secret@localhost:5000", "holds no user name or password"),
    ],
)
def test_what_is_no_url_is_refused_before_anything_is_asked(url: str, words: str) -> None:
    done = run("login", url)
    assert done.returncode == 1
    assert words in done.stderr
    assert "secret" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--password-stdin",),
        ("--token-stdin", "--password-stdin"),
        ("--token-stdin", "--username", "x"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    flowfs: Invoke, own: EmbeddedService, options: tuple[str, ...]
) -> None:
    assert flowfs("login", own.endpoint, *options, stdin="x").exit_code == 2


def test_a_question_that_nobody_answers_ends_with_a_word() -> None:
    done = run("login", "http://127.0.0.1:1")
    assert (done.returncode, done.stdout.strip()) == (1, "")
    assert "Username:" in done.stderr
    assert done.stderr.endswith("\nflowfs: there was no answer\n")


def test_nothing_on_stdin_is_no_secret(own: EmbeddedService) -> None:
    assert "no token" in run("login", own.endpoint, "--token-stdin").stderr
    done = run("login", own.endpoint, "-u", own.username, "--password-stdin")
    assert "no password" in done.stderr


def test_logins_that_others_can_read_are_refused_before_the_password_is_sent(
    own: EmbeddedService, password: str
) -> None:
    path = save_login("http://localhost:1", "token-of-old")
    path.chmod(0o640)
    args = ("login", own.endpoint, "-u", own.username, "--password-stdin")
    done = run(*args, stdin=password)
    assert done.returncode == 4
    assert "others can read the saved logins (mode 0640)" in done.stderr
    assert "token-of-old" not in done.stderr
    assert json.loads(path.read_text())["tokens"].popitem()[1] == "token-of-old"
    assert run("whoami", own.endpoint).returncode == 4
    assert run("logout", "http://localhost:1").returncode == 4


def test_a_password_sent_in_the_clear_is_warned_about() -> None:
    done = run("login", "http://192.0.2.1.invalid", "-u", "x", "--password-stdin", stdin="x")
    assert "can be read on its way" in done.stderr


def test_login_says_when_the_environment_comes_first(
    flowfs: Invoke, own: EmbeddedService, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = own.endpoint.split("/")[2].split(":")
    monkeypatch.setenv("FLOWSERV_API_HOST", host)
    monkeypatch.setenv("FLOWSERV_API_PORT", port)
    monkeypatch.setenv("FLOWSERV_ACCESS_TOKEN", "another")
    result = flowfs("login", own.endpoint, "-u", own.username, "--password-stdin", stdin=password)
    assert result.exit_code == 0
    assert "FLOWSERV_ACCESS_TOKEN is set and comes before this login" in result.stderr


# -- whoami ----------------------------------------------------------------


def test_whoami_names_user_service_and_where_the_token_is_from(
    flowfs: Invoke, own: EmbeddedService, password: str
) -> None:
    token = log_in(own, password)
    save_login(own.endpoint, token)
    result = flowfs("whoami", own.endpoint)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"flow at {own.endpoint}, by the login saved in ")
    assert token not in result.output
    assert flowfs("whoami").stdout == result.stdout


def test_all_of_it_is_told_as_json_too(flowfs: Invoke, own: EmbeddedService, password: str) -> None:
    args = ("login", own.endpoint, "-u", own.username, "--password-stdin", "--json")
    told = json.loads(flowfs(*args, stdin=password).stdout)
    user = {"endpoint": own.endpoint, "username": own.username}
    assert told == user | {"file": str(login_file())}
    told = json.loads(flowfs("whoami", "--json").stdout)
    assert told == user | {"token_from": f"the login saved in {login_file()}"}
    assert json.loads(flowfs("logout", "--json").stdout) == {
        "endpoint": own.endpoint,
        "ended": True,
    }


def test_whoami_of_nobody_says_how_to_log_in(own: EmbeddedService) -> None:
    done = run("whoami", own.endpoint)
    assert done.returncode == 4
    assert "no access token was sent" in done.stderr
    assert f"flowfs login {own.endpoint}" in done.stderr


def test_whoami_asks_which_service_where_there_are_two() -> None:
    save_login("http://localhost:1", "a")
    save_login("http://localhost:2", "b")
    done = run("whoami")
    assert done.returncode == 1
    assert "say of which service: http://localhost:1/flowserv/api/v1, " in done.stderr


# -- logout ----------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_logout_ends_the_token_and_forgets_it(
    flowfs: Invoke, own: EmbeddedService, password: str, named: bool
) -> None:
    token = log_in(own, password)
    save_login(own.endpoint, token)
    save_other = {} if not named else {"http://localhost:1/flowserv/api/v1": "kept"}
    for endpoint, other in save_other.items():
        save_login(endpoint, other)
    result = flowfs("logout", *([own.endpoint] if named else []))
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Logged out of {own.endpoint}\n"
    assert not is_good(own, token)
    assert saved_logins() == save_other


def test_logout_with_a_token_that_has_ended_forgets_it(
    flowfs: Invoke, own: EmbeddedService
) -> None:
    save_login(own.endpoint, "ended-long-ago")
    result = flowfs("logout")
    assert result.exit_code == 0, result.output
    assert "its token had ended already" in result.stdout
    assert saved_logins() == {}


def test_logout_of_a_service_that_is_away_keeps_the_token_unless_told_to_forget(
    flowfs: Invoke,
) -> None:
    save_login("http://127.0.0.1:9", "kept")
    done = run("logout")
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
    assert list(saved_logins()) == ["http://127.0.0.1:9/flowserv/api/v1"]
    assert flowfs("logout", "--local").exit_code == 0
    assert saved_logins() == {}


def test_logout_where_nobody_is_logged_in_is_an_error() -> None:
    assert "nobody is logged in" in run("logout").stderr
    done = run("logout", "http://localhost:1")
    assert done.returncode == 3
    assert "there is no login for this service" in done.stderr


def test_logout_asks_which_service_where_there_are_two(flowfs: Invoke) -> None:
    save_login("http://localhost:1", "a")
    save_login("http://localhost:2", "b")
    result = flowfs("logout")
    assert result.exit_code == 1
    assert isinstance(result.exception, OSError)
    assert len(saved_logins()) == 2


def test_a_refused_login_file_is_an_access_error(flowfs: Invoke, tmp_path: Path) -> None:
    save_login("http://localhost:1", "a").chmod(0o604)
    assert isinstance(flowfs("logout").exception, AccessDenied)
