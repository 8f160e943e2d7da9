"""Where a service is: the URL of its API root, given or found in the environment."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import warnings
from collections.abc import Mapping
from urllib.parse import urlsplit

__all__ = [
    "DEFAULT_PATH",
    "endpoint_from_environment",
    "is_loopback",
    "is_open",
    "normalize_endpoint",
    "warn_of_plain_http",
]

OPEN = "what is sent to an http:// address can be read on its way, the token too"

DEFAULT_PATH = "/flowserv/api/v1"
_DEFAULT_PORTS = {"http": 80, "https": 443}


def normalize_endpoint(endpoint: str) -> str:
    """Return an endpoint in the one form in which two can be compared.

    Parameters
    ----------
    endpoint : str
        An http or https URL of an API root; without a path, flowServ's
        ``/flowserv/api/v1`` is meant.

    Returns
    -------
    str
        Lower-case scheme and host, no default port, no slash at the end.

    Raises
    ------
    ValueError
        If it is no such URL, or holds a user name, password, query or fragment.
    """
    parts = urlsplit(endpoint.strip())
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(
            f"not an endpoint: {_without_userinfo(endpoint)!r}; "
            "give the http(s) URL of the API root, as in http://localhost:5000/flowserv/api/v1"
        )
    if "@" in parts.netloc:
        raise ValueError(
            f"an endpoint holds no user name or password: {_without_userinfo(endpoint)!r}; "
            "log in with 'flowfs login', or pass token="
        )
    if parts.query or parts.fragment:
        raise ValueError(f"an endpoint has no '?' or '#': {endpoint!r}")
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not an endpoint: {endpoint!r}: {error}") from None
    host = parts.hostname.lower()
    if ":" in host:
        with contextlib.suppress(ValueError):
            host = ipaddress.IPv6Address(host).compressed
        host = f"[{host}]"
    if port is not None and port != _DEFAULT_PORTS[scheme]:
        host = f"{host}:{port}"
    path = "/".join(part for part in parts.path.split("/") if part)
    return f"{scheme}://{host}/{path}" if path else f"{scheme}://{host}{DEFAULT_PATH}"


def _without_userinfo(url: str) -> str:
    head, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{head}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address can only mean this machine."""
    host = host.strip("[]").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_open(endpoint: str) -> bool:
    """Tell whether others can read what is sent to an endpoint: plain http, to elsewhere."""
    parts = urlsplit(endpoint)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


_warned: set[str] = set()


def warn_of_plain_http(endpoint: str) -> None:
    """Warn of an endpoint whose traffic others can read, once for each in a process."""
    if is_open(endpoint) and endpoint not in _warned:
        _warned.add(endpoint)
        warnings.warn(f"{OPEN}: {endpoint}", stacklevel=4)


def endpoint_from_environment(environ: Mapping[str, str] | None = None) -> str:
    """Return the endpoint that the environment names, as flowServ itself reads it.

    Parameters
    ----------
    environ : mapping, optional
        Instead of :data:`os.environ`. ``FLOWSERV_API_PROTOCOL`` (http),
        ``FLOWSERV_API_HOST`` (localhost), ``FLOWSERV_API_PORT`` (5000) and
        ``FLOWSERV_API_PATH`` (/flowserv/api/v1) are read, with flowServ's defaults
        (`flowserv.config.API_URL`).

    Returns
    -------
    str
        A normalized endpoint.

    Raises
    ------
    ValueError
        If the values make no URL; the message names them.
    """
    environ = os.environ if environ is None else environ
    protocol = environ.get("FLOWSERV_API_PROTOCOL") or "http"
    host = environ.get("FLOWSERV_API_HOST") or "localhost"
    port = environ.get("FLOWSERV_API_PORT") or "5000"
    path = environ.get("FLOWSERV_API_PATH") or DEFAULT_PATH
    # flowServ writes no port where it is 80, whatever the protocol.
    netloc = host if port == "80" else f"{host}:{port}"
    try:
        return normalize_endpoint(f"{protocol}://{netloc}/{path.lstrip('/')}")
    except ValueError as error:
        raise ValueError(
            f"FLOWSERV_API_PROTOCOL, _HOST, _PORT and _PATH name no service: {error}"
        ) from None


def environment_names_endpoint(environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether the environment says anything about where the service is."""
    environ = os.environ if environ is None else environ
    return any(environ.get(f"FLOWSERV_API_{part}") for part in ("PROTOCOL", "HOST", "PORT", "PATH"))
