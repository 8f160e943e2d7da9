"""A real nginx before a service, as the documentation has it configured."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from blocks import taken
from support import wait_until

__all__ = ["documented", "nginx"]

_AROUND = """
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {server}
}}
"""


def documented() -> str:
    """The ``server`` of docs/operating.md, as it stands."""
    (block,) = taken("docs/operating.md", "nginx")
    return block.text


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def nginx(server: str, service: str, directory: Path) -> Iterator[str]:
    """Serve on loopback what a ``server`` block says.

    Parameters
    ----------
    server : str
        The block. Its port, certificates and the service behind it are replaced.
    service : str
        The real service's endpoint.
    directory : Path
        Where nginx keeps its files.

    Yields
    ------
    str
        The endpoint as nginx offers it.
    """
    port = _free_port()
    behind = urlsplit(service)
    for pattern, replacement in (
        (r"listen 443 ssl;", f"listen 127.0.0.1:{port};"),
        (r"\n\s*ssl_certificate\S*\s[^\n]*", ""),
        (r"proxy_pass http://[^;/]*;", f"proxy_pass http://{behind.netloc};"),
    ):
        server, count = re.subn(pattern, replacement, server)
        assert count, pattern
    settings = directory / "nginx.conf"
    settings.write_text(_AROUND.format(directory=directory, server=server))
    # It changes to nobody, who cannot write here.
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    program = shutil.which("nginx")
    assert program is not None
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [program, "-p", str(directory), "-c", str(settings), *user],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:

            def answers() -> bool:
                assert process.poll() is None, (directory / "output").read_text()
                with socket.socket() as one:
                    return one.connect_ex(("127.0.0.1", port)) == 0

            wait_until(answers, 60, "nginx to answer")
            yield f"http://127.0.0.1:{port}{behind.path}"
        finally:
            process.terminate()
            process.wait(60)
