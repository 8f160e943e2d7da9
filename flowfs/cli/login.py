"""``flowfs login``, ``logout`` and ``whoami``: one token for each service, kept in one file."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import click

from flowfs.cli.access import debug_option, json_option, session_options
from flowfs.cli.output import print_json, say, stdin
from flowfs.cli.words import line
from flowfs.errors import AccessDenied, FlowError, InvalidArguments, NotFound, failure
from flowfs.filesystem.urls import parse_url
from flowfs.service import endpoint_from_environment, find_credentials, normalize_endpoint
from flowfs.service.client import FlowService
from flowfs.service.credentials import Credentials, forget_login, save_login, saved_logins
from flowfs.service.endpoint import OPEN, environment_names_endpoint, is_open
from flowfs.service.session import Session


@click.command(short_help="Log in to a service and keep the token.")
@click.argument("url")
@click.option("--username", "-u", help="Who logs in; asked for where it is not given.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
@click.option("--token-stdin", is_flag=True, help="Read an access token from stdin and keep it.")
@json_option
@session_options
@debug_option
def login(
    url: str,
    username: str | None,
    password_stdin: bool,
    token_stdin: bool,
    as_json: bool,
    connecting: dict[str, Any],
) -> None:
    """Log in to the service at URL and keep the token for later.

    URL is the http(s) address of the API root, or any flow:// URL of the service. The token
    is tried before it is kept, in a file that only you can read. Every flowfs command, the
    mount and fsspec find it there.
    """
    if token_stdin and (password_stdin or username):
        raise click.UsageError("--token-stdin needs neither --username nor --password-stdin")
    if password_stdin and not username:
        raise click.UsageError("--password-stdin needs --username: stdin holds the password")
    endpoint = _endpoint_of(url)
    saved_logins()  # a file that others can read is refused before anything is asked
    _warn_if_open(endpoint)
    if token_stdin:
        token = secret_from_stdin("token")
    else:
        username = username or click.prompt("Username", err=True)
        password = (
            secret_from_stdin("password")
            if password_stdin
            else click.prompt("Password", hide_input=True, err=True)
        )
        token = _token_for(endpoint, username, password, connecting)
    source = "standard input" if token_stdin else "this login"
    name = _whoami(endpoint, _credentials(token, source, "log in again"), connecting)
    path = save_login(endpoint, token)
    if as_json:
        print_json({"endpoint": endpoint, "username": name, "file": str(path)})
    else:
        say(line(f"Logged in to {endpoint} as {name}; the token is kept in {path}"))
    used = find_credentials(endpoint)
    if used.token != token:
        click.echo(line(f"flowfs: {used.source} is set and comes before this login"), err=True)


@click.command(short_help="Log out of a service and forget the token.")
@click.argument("url", required=False)
@click.option("--local", is_flag=True, help="Only forget the token; the service is not told.")
@json_option
@session_options
@debug_option
def logout(url: str | None, local: bool, as_json: bool, connecting: dict[str, Any]) -> None:
    """Log out of the service at URL, and forget the token that was kept for it.

    Without URL, of the one service that there is a login for. flowServ has one token for
    each user, so logging out ends it for other programs and machines as well.
    """
    logins = saved_logins()
    if url is None:
        if len(logins) != 1:
            raise failure(
                InvalidArguments if logins else NotFound,
                f"say of which service: {', '.join(logins)}" if logins else "nobody is logged in",
            )
        endpoint = next(iter(logins))
    else:
        endpoint = _endpoint_of(url)
    token = logins.get(endpoint)
    if token is None:
        raise failure(NotFound, "there is no login for this service", endpoint)
    message, ended = f"Forgot the login of {endpoint}", False
    if not local:
        credentials = _credentials(token, "the saved login", "forget it with --local")
        users = FlowService(Session(endpoint, credentials, **connecting)).users
        try:
            # Asked first: flowServ answers 500 where a token that has ended logs out.
            users.whoami()
        except AccessDenied:
            message, ended = f"{message}; its token had ended already", True
        else:
            users.logout()
            message, ended = f"Logged out of {endpoint}", True
    forget_login(endpoint)
    if as_json:
        print_json({"endpoint": endpoint, "ended": ended})
    else:
        say(line(message))


@click.command(short_help="Show who you are to a service.")
@click.argument("url", required=False)
@json_option
@session_options
@debug_option
def whoami(url: str | None, as_json: bool, connecting: dict[str, Any]) -> None:
    """Show which user the service at URL takes you for, and where the token comes from.

    Without URL, the service that the environment names (FLOWSERV_API_HOST and so on), else
    the one that there is a login for.
    """
    endpoint = _configured_endpoint() if url is None else _endpoint_of(url)
    try:
        credentials = find_credentials(endpoint)
    except ValueError as error:
        raise failure(InvalidArguments, str(error)) from None
    name, source = _whoami(endpoint, credentials, connecting), credentials.source
    if as_json:
        print_json({"username": name, "endpoint": endpoint, "token_from": source})
    else:
        say(line(f"{name} at {endpoint}, by {source}"))


def _endpoint_of(url: str) -> str:
    """Return the endpoint that an http(s) or flow URL names."""
    try:
        if urlsplit(url).scheme.lower() in ("http", "https"):
            return normalize_endpoint(url)
        location = parse_url(url)
        if "://" not in url:
            raise ValueError(
                f"not a URL: {url!r}; give the API root, as in http://localhost:5000"
                "/flowserv/api/v1, or a flow:// URL"
            )
        return location.endpoint() or _configured_endpoint()
    except ValueError as error:
        raise failure(InvalidArguments, str(error)) from None


def _configured_endpoint() -> str:
    logins = list(saved_logins())
    if not environment_names_endpoint():
        if len(logins) == 1:
            return logins[0]
        if logins:
            raise failure(InvalidArguments, f"say of which service: {', '.join(logins)}")
    try:
        return endpoint_from_environment()
    except ValueError as error:
        raise failure(InvalidArguments, str(error)) from None


def _credentials(token: str, source: str, advice: str) -> Credentials:
    try:
        return Credentials(token, source, advice)
    except ValueError as error:
        raise failure(InvalidArguments, str(error)) from None


def _token_for(endpoint: str, username: str, password: str, connecting: dict[str, Any]) -> str:
    users = FlowService(Session(endpoint, **connecting)).users
    try:
        return str(users.login(username, password)["token"])
    except NotFound as error:
        if error.status != 404 or error.filename == endpoint:
            raise  # there is no service
        # flowServ says 'unknown user' of a wrong password, too.
        raise failure(
            AccessDenied,
            f"{error.strerror}: there is no such user, or the password is wrong",
            endpoint,
            status=error.status,
            words=error.service_message,
        ) from None


def _whoami(endpoint: str, credentials: Credentials, connecting: dict[str, Any]) -> str:
    try:
        service = FlowService(Session(endpoint, credentials, **connecting))
        return str(service.users.whoami()["username"])
    except FlowError as error:
        error.filename = endpoint
        raise


def secret_from_stdin(what: str) -> str:
    """Read a secret: stdin without the newline at its end."""
    secret = stdin().read().removesuffix("\n").removesuffix("\r")
    if what == "token":
        secret = secret.strip()
    if not secret:
        raise failure(InvalidArguments, f"there is no {what} on standard input")
    return secret


def _warn_if_open(endpoint: str) -> None:
    if is_open(endpoint):
        click.echo(f"flowfs: {OPEN}", err=True)
