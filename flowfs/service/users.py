"""Users: log in, log out, and who a token stands for. Every call costs one request."""

from __future__ import annotations

from typing import Any

from flowfs.service.descriptor import ServiceDescriptor
from flowfs.service.json_shapes import object_of
from flowfs.service.session import Session

__all__ = ["UserService"]


class UserService:
    """Authenticate at the service.

    Parameters
    ----------
    descriptor : ServiceDescriptor
        Routes.
    session : Session
        Connections and token.
    """

    def __init__(self, descriptor: ServiceDescriptor, session: Session) -> None:
        self._urls = descriptor.urls
        self._session = session

    def login(self, username: str, password: str) -> dict[str, Any]:
        """Log in.

        Returns
        -------
        dict
            ``{"id", "username", "token"}``.

        Raises
        ------
        NotFound, AccessDenied
            If the service knows no such user, or the password is wrong.
        FlowError
            As the service says.
        """
        what, path = f"log in as {username!r}", "users/login"
        body = {"username": username, "password": password}
        reply = self._session.json(
            "POST", self._urls("users:login"), what=what, path=path, body=body
        )
        return object_of(reply, what, path, "token")

    def logout(self) -> dict[str, Any]:
        """Log out: the session's token is worth nothing afterwards."""
        what, path = "log out", "users/logout"
        reply = self._session.json("POST", self._urls("users:logout"), what=what, path=path)
        return object_of(reply, what, path)

    def whoami(self) -> dict[str, Any]:
        """Return the user that the session's token stands for: ``{"id", "username"}``.

        Raises
        ------
        AccessDenied
            If there is no token, or it is not (or no longer) good.
        """
        what, path = "find out who is logged in", "users/whoami"
        reply = self._session.json("GET", self._urls("users:whoami"), what=what, path=path)
        return object_of(reply, what, path, "username")
