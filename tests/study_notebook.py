"""Running a notebook against the embedded service; as a program, to keep what it has shown.

    python tests/study_notebook.py docs/study.ipynb

runs it from a fresh start and writes its outputs into it.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
from nbclient import NotebookClient

from flowfs.embedded import EmbeddedService

__all__ = ["executed", "told"]

_PATIENCE = 600  # seconds for a cell, on the slowest machine
_PORT = 5000  # of the service whose outputs are kept: flowServ's own


def executed(path: Path, service: EmbeddedService) -> Any:
    """Return a notebook as it is once all of its cells have run, from the first to the last.

    Its kernel knows the service by the environment, as after pasting what ``flowfs serve``
    prints, and nothing of the user's settings.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    address = urlsplit(service.endpoint)
    with tempfile.TemporaryDirectory() as directory:
        environment = {
            **_plain_environment(),
            "FLOWSERV_API_PROTOCOL": address.scheme,
            "FLOWSERV_API_HOST": str(address.hostname),
            "FLOWSERV_API_PORT": str(address.port),
            "FLOWSERV_API_PATH": address.path,
            "FLOWSERV_ACCESS_TOKEN": service.token,
            "IPYTHONDIR": f"{directory}/ipython",
            "XDG_CONFIG_HOME": f"{directory}/config",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        }
        client = NotebookClient(
            notebook,
            timeout=_PATIENCE,
            startup_timeout=_PATIENCE,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": directory}},
        )
        return client.execute(env=environment)


def _plain_environment() -> dict[str, str]:
    left_out = ("FLOWSERV_", "ROB_", "FSSPEC_", "FLOWFS_", "JUPYTER_")
    return {name: it for name, it in os.environ.items() if not name.startswith(left_out)}


# What is another one each time: ids, times, durations, the port.
_CHANGING = [
    (re.compile(r"\b[0-9a-f]{32}\b"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"\b\d+(\.\d)? (s|min)\b( \d+ s\b)?"), "DURATION"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "SERVICE"),
    (re.compile(r"<[^>]*>|\s+"), " "),
    (re.compile(r" +"), " "),
]


def told(cell: Any) -> list[tuple[str, str]]:
    """Return what a cell has shown, as types and texts, without what differs from run to run.

    Of pictures only that they are there; stderr is left out.
    """
    shown = []
    for output in cell.get("outputs", ()):
        if output["output_type"] == "stream":
            if output["name"] == "stdout":
                shown.append(("stdout", _steady(output["text"])))
            continue
        for kind, data in sorted(output["data"].items()):
            shown.append((kind, "" if kind.startswith("image/") else _steady(data)))
    return shown


def _steady(text: str) -> str:
    for pattern, word in _CHANGING:
        text = pattern.sub(word, text)
    return text.strip()


@contextlib.contextmanager
def _own_service() -> Iterator[EmbeddedService]:
    port = 0
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", _PORT)):
        port = _PORT
    with EmbeddedService.start(port=port) as service:
        yield service


def _main(path: Path) -> None:
    with _own_service() as service:
        notebook = executed(path, service)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.get("name") != "stderr", output["text"]
            output.get("metadata", {}).clear()
        cell.metadata.clear()
    text = nbformat.writes(notebook)
    for name in (str(Path.home()), str(Path.cwd()), tempfile.gettempdir()):
        assert len(name) < 2 or name not in text, f"{name} is in what {path} has shown"
    path.write_text(text if text.endswith("\n") else f"{text}\n", "utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        _main(Path(name))
