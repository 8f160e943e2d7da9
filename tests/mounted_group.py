"""One group of the real service on a mount, and what tests do and ask there."""

from __future__ import annotations

import re
import subprocess
import uuid
from pathlib import Path
from typing import Any

from mounting import python, sh
from support import Rest

from flowfs.embedded import EmbeddedService, sample

__all__ = ["MountedGroup"]


class MountedGroup:
    """A group of its own, with no uploads.

    Parameters
    ----------
    service : EmbeddedService
        The service.
    rest : Rest
        The same without flowfs.
    directory : Path
        Where it is mounted.
    log : Path
        What the mount's process says; with ``FLOWFS_DEBUG`` all of its requests.

    Attributes
    ----------
    id : str
        The group's id.
    path : Path
        The group on the mount; commands run in it.
    """

    def __init__(self, service: EmbeddedService, rest: Rest, directory: Path, log: Path) -> None:
        self.service, self.rest, self.directory, self.log = service, rest, directory, log
        self.id = self.another()
        self.path = directory / "groups" / self.id
        self._from = 0

    def another(self) -> str:
        """Make another group and return its id."""
        reply = self.rest.request(
            "POST",
            f"workflows/{self.service.workflows['hello']}/groups",
            json={"name": uuid.uuid4().hex},
        )
        assert reply.ok, reply.text
        return str(reply.json()["id"])

    # -- on the mount ------------------------------------------------------

    def sh(self, script: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a script of bash in the group, to its end."""
        return sh(script, options.pop("cwd", self.path), **options)

    def out(self, script: str) -> str:
        """Return what a script prints; it must succeed."""
        done = self.sh(script)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, script: str, *arguments: str) -> str:
        """Run Python; return what it prints, or the name of the errno it fails with."""
        return python(script, self.path, *arguments)

    # -- on the service ----------------------------------------------------

    def put(self, name: str, data: bytes) -> str:
        """Upload a file without flowfs, and return its id."""
        reply = self.rest.request("POST", f"uploads/{self.id}/files", files={"file": (name, data)})
        assert reply.ok, reply.text
        return str(reply.json()["id"])

    def stored(self) -> list[tuple[str, bytes]]:
        """Return the names and bytes of all uploads, as the service has them."""
        files = self.rest.get(f"uploads/{self.id}/files")["files"]
        return sorted((file["name"], self._bytes(file["id"])) for file in files)

    def _bytes(self, file_id: str) -> bytes:
        reply = self.rest.request("GET", f"uploads/{self.id}/files/{file_id}")
        return reply.content if reply.ok else b"gone meanwhile"

    def run_ids(self) -> list[str]:
        """Return the ids of its runs."""
        return [run["id"] for run in self.rest.get(f"groups/{self.id}/runs")["runs"]]

    def started(self, **arguments: Any) -> str:
        """Start a run without flowfs, and return its id."""
        files = self.rest.get(f"uploads/{self.id}/files")["files"]
        ids = [file["id"] for file in files if file["name"] == sample("hello").name]
        file_id = ids[0] if ids else self.rest.upload(self.id, sample("hello"))
        return self.rest.start(self.id, {"names": {"fileId": file_id}, **arguments})

    # -- between them ------------------------------------------------------

    def requests(self, method: str, pattern: str = "") -> list[str]:
        """Return the requests of that method since :meth:`mark`, as the mount logged them."""
        with open(self.log, "rb") as log:
            log.seek(self._from)
            said = log.read().decode()
        return re.findall(rf"\b(?:{method}) \S*/(?:{pattern}\S*) -> \d+", said)

    def mark(self) -> None:
        """Count requests from here on."""
        self._from = self.log.stat().st_size
