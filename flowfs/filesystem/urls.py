"""URLs of the tree: ``flow://host[:port][/api/root][/groups/…]``."""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from flowfs.service.endpoint import is_loopback, normalize_endpoint

__all__ = ["PROTOCOLS", "Location", "address_of", "parse_url"]

PROTOCOLS = ("flow", "flow+http", "flow+https")
_TOP = ("groups", "workflows", ".flowfs")


@dataclass(frozen=True)
class Location:
    """What a URL or path says.

    Attributes
    ----------
    service : str or None
        ``<protocol>://<host>[:port][/root]`` where the URL names a host, else None.
    path : str
        Path in the tree, without slashes at its ends.
    """

    service: str | None
    path: str

    def endpoint(self, default: str | None = None) -> str | None:
        """Return the endpoint that the URL names; None if it names none.

        Parameters
        ----------
        default : str, optional
            An endpoint. A plain ``flow://`` URL of its host takes its scheme.

        Raises
        ------
        ValueError
            If it makes no endpoint.
        """
        if self.service is None:
            return None
        protocol, _, rest = self.service.partition("://")
        if protocol != "flow":
            return normalize_endpoint(f"{protocol.removeprefix('flow+')}://{rest}")
        if default is not None:
            scheme = default.partition("://")[0]
            if normalize_endpoint(f"{scheme}://{rest}") == default:
                return default
        host = urlsplit(f"//{rest}").hostname or ""
        return normalize_endpoint(f"{'http' if is_loopback(host) else 'https'}://{rest}")


def parse_url(url: str) -> Location:
    """Take a URL or a path of the tree apart.

    What stands before the first segment of the tree's root (``groups``, ``workflows``,
    ``.flowfs``) is the root of the API.
    ``flow:///groups/…`` and ``flow://groups/…`` name no host: the configured endpoint is
    meant.

    Parameters
    ----------
    url : str
        A URL of one of :data:`PROTOCOLS`, or a path without a protocol.

    Returns
    -------
    Location

    Raises
    ------
    ValueError
        If it is a URL of another protocol, or a ``flow+http`` URL without a host.
    """
    protocol, separator, rest = url.partition("://")
    if not separator:
        return Location(None, _clean(url))
    if protocol not in PROTOCOLS:
        if "/" in protocol:  # a path that happens to hold '://'
            return Location(None, _clean(url))
        raise ValueError(f"not a flow URL: {url!r}; flowfs has {', '.join(PROTOCOLS)}")
    host, _, path = rest.partition("/")
    if protocol == "flow" and host in ("", *_TOP):
        return Location(None, _clean(rest))
    if not host:
        raise ValueError(f"the URL names no host: {url!r}")
    segments = _clean(path).split("/")
    top = next((i for i, segment in enumerate(segments) if segment in _TOP), len(segments))
    root = "/".join(segments[:top])
    service = f"{protocol}://{host}/{root}" if root else f"{protocol}://{host}"
    return Location(service, "/".join(segments[top:]))


def address_of(endpoint: str) -> str:
    """Return the URL of the tree's root of a service.

    An IPv6 address is written out, ``[0:0:0:0:0:0:0:1]``: fsspec takes ``::`` for the seam of
    a chained URL wherever it stands.

    Parameters
    ----------
    endpoint : str
        Of the service, normalized.
    """
    if "::" in endpoint:
        head, _, rest = endpoint.partition("[")
        address, _, tail = rest.partition("]")
        with contextlib.suppress(ValueError):
            groups = ipaddress.IPv6Address(address).exploded.split(":")
            endpoint = f"{head}[{':'.join(f'{int(group, 16):x}' for group in groups)}]{tail}"
    return f"flow+{endpoint}"


def _clean(path: str) -> str:
    return "/".join(segment for segment in path.split("/") if segment not in ("", "."))
