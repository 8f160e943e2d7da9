"""The embedded service's data directory: what is in it, and who may use it."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

from flowfs.errors import DirectoryNotEmpty, ServiceBusy, failure


class DataDirectory:
    """A directory with a service's database, files, password and log.

    While it is open as a context, no other service can use it. One that nobody named is
    temporary and removed at the end.

    Parameters
    ----------
    path : Path, optional
        Where; made if it is not there, else empty or of an earlier service. None makes a
        temporary one.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._temporary = path is None
        self.path: Path = (
            Path(tempfile.mkdtemp(prefix="flowfs-")) if path is None else path.absolute()
        )
        self._lock: IO[str] | None = None

    @property
    def api(self) -> Path:
        """Where flowServ keeps workflows, uploads and results."""
        return self.path / "api"

    @property
    def database(self) -> Path:
        """The SQLite database."""
        return self.path / "service.db"

    @property
    def log(self) -> Path:
        """All that the service says."""
        return self.path / "service.log"

    @property
    def temporary(self) -> Path:
        """What is of no use after the process."""
        return self.path / "tmp"

    @property
    def is_set_up(self) -> bool:
        """Whether a service has been set up here before."""
        return self._password.exists()

    @property
    def _password(self) -> Path:
        return self.path / "password"

    def read_password(self) -> str:
        """Return the user's password."""
        return self._password.read_text(encoding="ascii").strip()

    def make_password(self) -> str:
        """Return a new random password, kept in a file that only the user can read."""
        password = secrets.token_urlsafe(24)
        descriptor = os.open(self._password, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(password + "\n")
        return password

    def _refuse_what_is_of_others(self) -> None:
        """Leave a directory alone that holds something, and nothing of a service."""
        names = {entry.name for entry in self.path.iterdir()}
        if names and "lock" not in names:
            message = "the directory is not empty, and no service has kept its data there"
            raise failure(DirectoryNotEmpty, message, self.path)

    def __enter__(self) -> DataDirectory:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._refuse_what_is_of_others()
        self.path.chmod(0o700)
        self._lock = open(self.path / "lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            message = "another embedded service uses this directory"
            raise failure(ServiceBusy, message, self.path) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
