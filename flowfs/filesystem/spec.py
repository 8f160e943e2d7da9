"""The tree as an fsspec filesystem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowfs.errors import InvalidArguments, failure
from flowfs.filesystem.files import TextFile, compressed
from flowfs.filesystem.showing import Showing

__all__ = ["FlowFileSystem"]


class FlowFileSystem(Showing):
    """A workflow service as a file system.

    ``groups/<id>/runs/`` lists runs, writing JSON arguments to ``groups/<id>/runs/new`` starts
    one, its results are below ``groups/<id>/runs/<run>/results`` and ``…/outputs``, inputs are
    below ``groups/<id>/uploads``. The whole tree stands in the documentation.

    Parameters
    ----------
    endpoint : str, optional
        http(s) URL of the service's API root. By default what ``FLOWSERV_API_PROTOCOL``,
        ``_HOST``, ``_PORT`` and ``_PATH`` name, else the one service that ``flowfs login``
        knows, else flowServ's own default, ``http://localhost:5000/flowserv/api/v1``.
    token : str, optional
        Access token. By default ``FLOWSERV_ACCESS_TOKEN``, if the environment names this
        endpoint, else what ``flowfs login`` saved for it. In no repr, error, log or
        ``to_json``; it travels in pickles, so that workers of a cluster can read, unless
        `pickle_token` is False. One that has expired is asked for again where it came from.
    timeout : float
        Seconds. Bounds every call that moves no bulk data as a whole, and in bulk transfers
        any stretch without progress.
    retries : int
        How often a request that changes nothing is sent again after a passing failure.
    ttl : float
        Seconds for which active runs and listings are kept. Runs that have ended never
        change and are kept for ever.
    max_connections : int
        Connections kept, and requests at once of calls that take many paths.
    read_only : bool
        Refuse every change with :class:`~flowfs.ReadOnly`.
    verify, cert
        TLS, as in requests.
    cache_dir : str, optional
        Directory for what never changes: results and uploads as far as they were read,
        archives, sizes, and handles of ended runs stay there for later processes, and are
        shared by all that use it at the same time. Made, for its owner alone, if it is missing.
        It is a FlowError if nothing can be kept in it. By default nothing stays: archives are
        kept while the process lives, in temporary files without names.
    cache_size : int
        Bytes kept on disk in all, in `cache_dir` by all processes together; 4 GiB by default.
        The archive that is read now is always kept, whatever its size; results that are
        larger are streamed.
    archives : bool
        Whether the archive of a run is asked for in place of many small files, where that is
        cheaper. Without it each file is a request.
    token_file : str, optional
        A file that holds the token and nothing else, and that only its owner may read. Read
        now, and again when the token has expired.
    token_command : str or list of str, optional
        A command that prints the token, run now and again when the token has expired. Its
        words, or a text that is split as a shell does it; no shell runs it.
    pickle_token : bool
        Whether the token travels in pickles. Without it, who unpickles finds the token as one
        is found where none is given: by environment or login of that machine.
    url_endpoint : str, optional
        The service that a URL names; given by fsspec. One that differs from `endpoint` is a
        ValueError.
    **storage_options
        As for every fsspec filesystem: ``skip_instance_cache``, ``use_listings_cache`` and so
        on. One that neither it nor flowfs has is a TypeError.

    Notes
    -----
    Making one costs no request; the first use costs one for the service's routes, once per
    process and service. Instances of one service and token share connections and what is
    known. All errors are :class:`~flowfs.FlowError`, hence OSError, with errno, the full URL
    and the service's own words.
    """

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: Mapping[str, Any] | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Open a file.

        Reading a result from front to back is one request, made at the first read. A file
        that is written (``new``, ``cancel``, uploads) acts when it is closed; left by an
        exception, it does not act. A run that was started is then its attribute ``run``.

        Parameters
        ----------
        path : str
            Which.
        mode : str
            ``r``, ``w``, ``a`` (uploads) or ``x``, with ``b`` or ``t``.
        block_size : int, optional
            Bytes of the buffer that small reads are served from.
        compression : str, optional
            As in fsspec.

        Raises
        ------
        NotFound, IsADirectory, NotPermitted, ReadOnly
            At once, if it cannot be opened so.
        """
        if "b" in mode:
            if compression is None or "r" in mode:
                return super().open(path, mode, block_size, cache_options, compression, **kwargs)
            file = super().open(path, mode, block_size, cache_options, None, **kwargs)
            return compressed(file, compression)
        text = {k: kwargs.pop(k) for k in ("encoding", "errors", "newline") if k in kwargs}
        binary = self.open(
            path,
            mode.replace("t", "") + "b",
            block_size,
            cache_options,
            compression,
            **kwargs,
        )
        return TextFile(binary, **text)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        with self._naming(path):
            if mode == "rb":
                # Only fsspec's blockcache asks so; it lends the file its cache.
                if kwargs.get("cache_type") == "none" and "size" in kwargs:
                    return self._open_for_blocks(path, block_size, kwargs["size"])
                return self._open_to_read(path, block_size)
            if mode in ("wb", "ab", "xb"):
                self._changing(path)
                return self._open_to_write(path, mode, autocommit)
            raise failure(
                InvalidArguments, f"no mode {mode!r}: files are read (r) or written (w, a, x)", path
            )
