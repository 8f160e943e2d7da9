"""The service's routes: which URL a call goes to.

Route ids and default patterns are those of flowServ (`flowserv.service.descriptor`); a
service announces its own patterns in the descriptor at its API root.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

from flowfs.errors import BadReply, NotFound, failure

__all__ = ["DEFAULT_ROUTES", "Descriptor", "ServiceDescriptor", "origin_of"]

DEFAULT_ROUTES: Mapping[str, str] = {
    "service": "",
    "files:delete": "uploads/{userGroupId}/files/{fileId}",
    "files:download": "uploads/{userGroupId}/files/{fileId}",
    "files:list": "uploads/{userGroupId}/files",
    "files:upload": "uploads/{userGroupId}/files",
    "groups:get": "groups/{userGroupId}",
    "groups:list": "groups",
    "groups:runs": "groups/{userGroupId}/runs?state={state}",
    "leaderboard": "workflows/{workflowId}/leaderboard?orderBy={orderBy}&includeAll={includeAll}",
    "runs:cancel": "runs/{runId}",
    "runs:delete": "runs/{runId}",
    "runs:download:archive": "runs/{runId}/downloads/archive",
    "runs:download:file": "runs/{runId}/downloads/files/{fileId}",
    "runs:get": "runs/{runId}",
    "runs:start": "groups/{userGroupId}/runs",
    "users:login": "users/login",
    "users:logout": "users/logout",
    "users:whoami": "users/whoami",
    "workflows:download:archive": "workflows/{workflowId}/downloads/archive",
    "workflows:download:file": "workflows/{workflowId}/downloads/files/{fileId}",
    "workflows:get": "workflows/{workflowId}",
    "workflows:groups": "workflows/{workflowId}/groups",
    "workflows:list": "workflows",
}


class Descriptor(Protocol):
    """What a client needs of a service descriptor; flowServ's own class has it too."""

    def urls(self, key: str, **kwargs: Any) -> str:
        """Return the URL of route `key`, its variables filled in from `kwargs`."""
        ...


class RouteURL(str):
    """A URL that knows which route it is of.

    Attributes
    ----------
    route : str
        The route's id, such as ``"runs:get"``.
    """

    route: str

    @classmethod
    def of(cls, route: str, url: str) -> RouteURL:
        """Return a URL that knows its route."""
        made = cls(url)
        made.route = route
        return made


class ServiceDescriptor:
    """The routes of a service at a known address.

    Parameters
    ----------
    endpoint : str
        URL of the API root. The address that a service claims for itself is never used:
        behind a proxy it is wrong, and a token must not follow it.
    routes : mapping of str to str, optional
        Patterns by route id, which take the place of flowServ's defaults.
    doc : mapping, optional
        The service's own description (`name`, `version`, `username`).

    Notes
    -----
    Costs no request; `from_document` reads what ``GET <root>/`` answered.
    """

    def __init__(
        self,
        endpoint: str,
        routes: Mapping[str, str] | None = None,
        doc: Mapping[str, Any] | None = None,
    ) -> None:
        self.url: str = endpoint.rstrip("/")
        self._routes = {**DEFAULT_ROUTES, **(routes or {})}
        doc = doc or {}
        self.name: str | None = doc.get("name")
        self.version: str | None = doc.get("version")
        self.username: str | None = doc.get("username")

    @classmethod
    def from_document(cls, endpoint: str, doc: Any) -> ServiceDescriptor:
        """Read a service descriptor as the service sends it.

        Parameters
        ----------
        endpoint : str
            URL of the API root that was asked.
        doc : Any
            The decoded JSON: ``{"name", "version", "url", "routes": [{"id", "pattern"}]}``.

        Returns
        -------
        ServiceDescriptor

        Raises
        ------
        BadReply
            If it is no service descriptor.
        """
        entries = doc.get("routes", []) if isinstance(doc, Mapping) else None
        if not isinstance(entries, list):
            raise failure(
                BadReply, "no flowServ API here: the reply is no service descriptor", endpoint
            )
        routes = {
            entry["id"]: entry["pattern"]
            for entry in entries
            if isinstance(entry, Mapping)
            and isinstance(entry.get("id"), str)
            and isinstance(entry.get("pattern"), str)
        }
        return cls(endpoint, routes, doc)

    def routes(self) -> dict[str, str]:
        """Return the patterns by route id."""
        return dict(self._routes)

    def urls(self, key: str, **kwargs: Any) -> str:
        """Return the URL of a route.

        Parameters
        ----------
        key : str
            Route id, such as ``"runs:get"``.
        **kwargs : str or None
            Values of the pattern's variables. They are percent-encoded; a query parameter
            whose value is None or not given is left out.

        Returns
        -------
        str

        Raises
        ------
        NotFound
            If a value that belongs in the path is empty, ``.`` or ``..``: HTTP clients
            fold those away, and the request would reach another resource.
        BadReply
            If the service's pattern asks for a value that this route does not have.
        KeyError
            If there is no such route.
        """
        pattern = self._routes[key]
        path, _, query = pattern.partition("?")
        for name in _variables(path):
            if name not in kwargs:
                raise failure(
                    BadReply,
                    f"the service's route {key!r} asks for {name!r}, which nothing is known of",
                    self.url,
                )
        url = f"{self.url}/{_fill(path, kwargs)}"
        parts = [_fill(part, kwargs) for part in query.split("&") if part and _is_set(part, kwargs)]
        return RouteURL.of(key, f"{url}?{'&'.join(parts)}" if parts else url)


# Not str.format: a service's pattern may hold anything.
_VARIABLE = re.compile(r"\{([^{}]*)\}")


def _variables(pattern: str) -> list[str]:
    return _VARIABLE.findall(pattern)


def _is_set(part: str, values: Mapping[str, Any]) -> bool:
    return all(values.get(name) is not None for name in _variables(part))


def _fill(pattern: str, values: Mapping[str, Any]) -> str:
    return _VARIABLE.sub(lambda match: encode(values.get(match[1]), match[1]), pattern)


def encode(value: Any, variable: str) -> str:
    """Percent-encode one value for a URL; refuse what would not stay where it is put."""
    text = "" if value is None else str(value)
    if text in ("", ".", ".."):
        raise failure(NotFound, f"no such {_noun(variable)}: {text!r} cannot be an id", text)
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


_NOUNS = {
    "userGroupId": "group",
    "runId": "run",
    "fileId": "file",
    "workflowId": "workflow",
}


def _noun(variable: str) -> str:
    return _NOUNS.get(variable, variable)


class ForeignDescriptor:
    """Makes any descriptor safe to use: values encoded, unset query parameters left out.

    flowServ's own ``ServiceDescriptor.urls`` formats values as they are, so that a state of
    None is asked for by name and a ``/`` in an id reaches another route.

    Parameters
    ----------
    descriptor : Descriptor
        Any object with ``urls(key, **kwargs)``.
    """

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor

    def urls(self, key: str, **kwargs: Any) -> str:
        """Return the URL of a route, as :meth:`ServiceDescriptor.urls` would."""
        unset = "flowfs-unset-value"
        filled = {
            name: unset if value is None else encode(value, name) for name, value in kwargs.items()
        }
        parts = urlsplit(str(self._descriptor.urls(key, **filled)))
        query = "&".join(p for p in parts.query.split("&") if p and not p.endswith(f"={unset}"))
        return RouteURL.of(key, urlunsplit(parts._replace(query=query)))


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL: who may see a token that was given for it."""
    # As urllib3, which sends it, reads it: a backslash ends the host. Python would take what
    # is before an '@' behind it for a user's name, and another host for the origin.
    parts = urlsplit(url.replace("\\", "/"))
    scheme = parts.scheme.lower()
    port = parts.port or {"http": 80, "https": 443}.get(scheme, 0)
    return scheme, (parts.hostname or "").lower(), port
