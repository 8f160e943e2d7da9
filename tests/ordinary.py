"""Commands as an ordinary user, for tests that are run by root: in a mount namespace of their own.

There the user may use FUSE, whatever the mode of its device, and sees the Python of the tests,
even in a home directory that is another's.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support import uncovered

import flowfs

__all__ = ["Ordinary", "ordinary_user"]

_USER = "nobody"  # fusermount wants one with a name
_PATIENCE = 120  # seconds

# Directories that are hidden from others are laid over, and what is needed of them put back.
_PREPARE = """
set -e
stage=$1 user=$2 hidden=$3 needed=$4; shift 4
mkdir "$stage/kept"
mount -t tmpfs -o dev,mode=755 none "$stage/kept"
if [ ! -w /dev/fuse ] || [ "$(stat -c %a /dev/fuse)" != 666 ]; then
    mknod -m 666 "$stage/kept/fuse" c $(stat -c '0x%t 0x%T' /dev/fuse)
    mount --bind "$stage/kept/fuse" /dev/fuse
fi
IFS=:
count=0
for place in $needed; do
    count=$((count + 1)); mkdir "$stage/kept/$count"; mount --bind "$place" "$stage/kept/$count"
done
for place in $hidden; do mount -t tmpfs -o mode=755 none "$place"; done
count=0
for place in $needed; do
    count=$((count + 1)); mkdir -p "$place"; mount --bind "$stage/kept/$count" "$place"
done
unset IFS
cd "$stage/home"
exec setpriv --reuid "$user" --regid "$user" --clear-groups "$@"
"""


class Ordinary:
    """A user who is nobody in particular.

    Attributes
    ----------
    home : Path
        A directory of the user's, where commands begin; others may look into it.
    """

    def __init__(self, stage: Path) -> None:
        self._stage = stage
        self._number = pwd.getpwnam(_USER).pw_uid
        self.home = stage / "home"
        self.home.mkdir()
        os.chown(self.home, self._number, self._number)

    def run(self, script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a shell script, in which ``flowfs`` is the command; what it mounts only it sees."""
        needed = {Path(sys.base_prefix), Path(sys.prefix), Path(flowfs.__file__).parents[1]}
        hidden = {place: _hidden(place) for place in needed if _hidden(place) is not None}
        shutil.rmtree(self._stage / "kept", ignore_errors=True)
        return subprocess.run(
            [
                *("unshare", "--mount", "--propagation", "private"),
                *("sh", "-c", _PREPARE, "sh", self._stage, str(self._number)),
                ":".join(sorted({str(place) for place in hidden.values()})),
                ":".join(sorted(map(str, hidden))),
                *("sh", "-c", f'flowfs() {{ "{sys.executable}" -m flowfs "$@"; }}\n{script}'),
            ],
            env={
                **uncovered(environment),
                "HOME": str(self.home),
                "XDG_RUNTIME_DIR": str(self.home),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )


def _hidden(place: Path) -> Path | None:
    """Return the topmost directory above a place that others may not pass."""
    above = (one for one in reversed(place.parents) if not one.stat().st_mode & 0o001)
    return next(above, None)


def ordinary_user() -> Iterator[Ordinary | str]:
    """Yield an ordinary user, or why there is none; nothing is left afterwards."""
    if os.getuid() != 0:
        yield "these tests are run by an ordinary user, and so are all others"
        return
    missing = [name for name in ("unshare", "setpriv", "mount") if shutil.which(name) is None]
    if missing:
        yield f"there is no {missing[0]}"
        return
    stage = Path(tempfile.mkdtemp(prefix="flowfs-user-"))
    stage.chmod(0o755)
    try:
        user = Ordinary(stage)
        tried = user.run("exec 3<>/dev/fuse && flowfs --version", dict(os.environ))
        yield user if tried.returncode == 0 else f"root may not become one here: {tried.stderr}"
    finally:
        shutil.rmtree(stage)
