"""Single requests, sent on kept connections: what is the same for all of them is made once."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from urllib3.util import Timeout

from flowfs.errors import InvalidArguments, failure
from flowfs.service.connections import WatchedAdapter, new_http_session

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool
    from urllib3.response import BaseHTTPResponse

__all__ = ["Reply", "Sender"]

# What stands behind the origin of a URL that need not be looked at: nothing that a client
# would quote, fold away or cut off.
_PLAIN = re.compile(r"/[A-Za-z0-9_~.!$&'()*+,;=:@%/?-]*", re.ASCII)
_BODILESS = frozenset({"GET", "HEAD"})


class Reply:
    """A reply whose body is unread: as much of requests' Response as is used here.

    Parameters
    ----------
    raw : urllib3.response.BaseHTTPResponse
        The reply as urllib3 has it.

    Attributes
    ----------
    status_code : int
        The status.
    headers : mapping of str to str
        Whatever the case of the names.
    raw : urllib3.response.BaseHTTPResponse
        As given.
    """

    __slots__ = ("headers", "raw", "status_code")

    def __init__(self, raw: BaseHTTPResponse) -> None:
        self.raw: BaseHTTPResponse = raw
        self.status_code: int = raw.status
        self.headers: Mapping[str, str] = raw.headers

    def close(self) -> None:
        """Close it; its connection is kept if the body was read to its end."""
        self.raw.close()
        self.raw.release_conn()


class Sender:
    """Sends requests, each as it is: no retry, no redirect. Thread-safe; for one process.

    What requests finds out anew for each request is found out once for the endpoint's origin:
    its address, the proxy that the environment names for it, and how TLS is verified. For
    other origins, where redirects lead, and for URLs that a client would have to mend,
    requests finds it out each time.

    Parameters
    ----------
    endpoint : str
        URL of the API root.
    max_connections : int
        Connections kept alive for each origin.
    headers : mapping of str to str
        What goes with each request.
    verify, cert
        As in requests.

    Attributes
    ----------
    http : requests.Session
        What knows proxies, certificates, and connections to other origins.
    """

    def __init__(
        self,
        endpoint: str,
        max_connections: int,
        headers: Mapping[str, str],
        verify: bool | str,
        cert: str | tuple[str, str] | None,
    ) -> None:
        self.http: requests.Session = new_http_session(max_connections)
        self.http.headers.update(headers)
        self._headers = {str(k): str(v) for k, v in self.http.headers.items()}
        self._verify = verify
        self._cert = cert
        parts = urlsplit(endpoint)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        # One of its own: requests closes the connections to an origin over those of others.
        self._adapter = WatchedAdapter(pool_connections=1, pool_maxsize=max_connections)
        self._retries = self._adapter.max_retries
        self._lock = threading.Lock()
        self._pool: HTTPConnectionPool | None = None  # of the endpoint's origin

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: Any,
        timeout: tuple[float, float],
    ) -> Reply:
        """Send one request.

        Parameters
        ----------
        method, url : str
            What and where to.
        headers : mapping of str to str
            Further headers.
        data : bytes or iterable of bytes, optional
            The body; it knows its length.
        timeout : tuple of float
            Seconds allowed for connecting, and without a byte received.

        Returns
        -------
        Reply
            The caller closes it.

        Raises
        ------
        InvalidArguments
            If there is no such file of authorities, or of the client's certificate.
        Exception
            Of requests, urllib3 or a socket; see :func:`flowfs.service.faults.network_failure`.
        """
        sent = {**self._headers, **headers}
        if data is not None:
            sent["Content-Length"] = str(len(data))
        elif method not in _BODILESS:
            sent["Content-Length"] = "0"
        pool, target = self._way(url)
        raw = pool.urlopen(
            method,
            target,
            body=data,
            headers=sent,
            retries=self._retries,
            redirect=False,
            assert_same_host=False,
            timeout=Timeout(connect=timeout[0], read=timeout[1]),
            preload_content=False,
            decode_content=False,
        )
        return Reply(raw)

    def _way(self, url: str) -> tuple[HTTPConnectionPool, str]:
        """Return connections that lead to a URL, and what to ask for on them."""
        at = len(self._origin)
        own = url.startswith(self._origin) and "/." not in url and _PLAIN.fullmatch(url, at)
        if own and self._pool is not None:
            return self._pool, url[at:]
        prepared = requests.Request("GET", url).prepare()
        assert prepared.url is not None
        settings = self.http.merge_environment_settings(
            prepared.url, {}, True, self._verify, self._cert
        )
        proxies, verify, cert = settings["proxies"], settings["verify"], settings["cert"]
        adapter: Any = self._adapter if own else self.http.get_adapter(prepared.url)
        with self._lock:
            if prepared.url.startswith("https:"):
                _check_files(verify, cert)
            pool = adapter.get_connection_with_tls_context(
                prepared, verify, proxies=proxies, cert=cert
            )
            adapter.cert_verify(pool, prepared.url, verify, cert)
        target = adapter.request_url(prepared, proxies)
        # A proxy of plain HTTP is asked for the whole URL.
        if own and target == url[at:]:
            self._pool = pool
        return pool, target

    def close(self) -> None:
        """Close the connections that are not in use."""
        self.http.close()
        self._adapter.close()


def _check_files(verify: bool | str | None, cert: str | tuple[str, str] | None) -> None:
    """Say which file of those that TLS needs is not there; requests has no errno for it."""
    parts = (cert,) if isinstance(cert, str) else cert or ()
    needed = [(path, "certificate of the client (cert)") for path in parts]
    if isinstance(verify, str):
        by = "verify, --ca, REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE"
        needed.append((verify, f"certificate authorities ({by})"))
    for path, what in needed:
        try:
            os.stat(path)
        except OSError as error:
            raise failure(
                InvalidArguments, f"cannot use this as {what}: {error.strerror}", path
            ) from None
