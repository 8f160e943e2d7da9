"""What a mount is compared with: a plain directory on disk, and a small model of the tree.

The reference of ``uploads/`` is the kernel itself: :class:`Files` does the same operation on a
local directory. For the rest of a group there is :class:`Group`, which knows from the tree's
description alone what is where, and with which errno the kernel or the tree refuses. It knows
no flowfs, and asks nobody.

Run as a program, this module is the process that touches the mount (see :class:`Worker`):
one that hangs there is left behind, and the test fails.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import queue
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

__all__ = [
    "CancelFile",
    "Files",
    "Group",
    "Hung",
    "NewFile",
    "Outcome",
    "Run",
    "Worker",
]

PATIENCE = 60.0  # seconds for one operation; flowfs itself gives up after 30
BLANKS = b" \t\r\n"
GREETING = "results/greetings.txt"
STATES = ("PENDING", "RUNNING", "ERROR", "CANCELED", "SUCCESS")


@dataclass(frozen=True)
class Outcome:
    """What came of an operation: a value, or an errno's name.

    Attributes
    ----------
    value : object
        What it returned; None for many.
    error : str
        ``"ENOENT"``…, empty if it worked.
    """

    value: Any = None
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return self.error
        if isinstance(self.value, bytes) and len(self.value) > 60:
            return f"{self.value[:50]!r}… ({len(self.value)} bytes)"
        return repr(self.value)


class Files:
    """Operations on files below a directory, as a program makes them.

    Paths are relative. Descriptors go by names of the caller's, the same in both worlds.

    Parameters
    ----------
    root : str
        The directory.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._open: dict[str, int] = {}

    def __call__(self, operation: str, *args: Any) -> Outcome:
        """Do one and return what came of it."""
        try:
            return Outcome(getattr(self, f"do_{operation}")(*args))
        except OSError as error:
            return Outcome(error=errno.errorcode.get(error.errno or 0, repr(error)))

    def _at(self, path: str) -> str:
        return os.path.join(self._root, path) if path else self._root

    # -- descriptors -------------------------------------------------------

    def do_open(self, name: str, path: str, flags: int) -> None:
        self._open[name] = os.open(self._at(path), flags, 0o644)

    def do_close(self, name: str) -> None:
        os.close(self._open.pop(name))

    def do_dup(self, name: str, other: str) -> None:
        self._open[other] = os.dup(self._open[name])

    def do_read(self, name: str, size: int) -> bytes:
        return os.read(self._open[name], size)

    def do_pread(self, name: str, size: int, offset: int) -> bytes:
        return os.pread(self._open[name], size, offset)

    def do_write(self, name: str, data: bytes) -> int:
        return os.write(self._open[name], data)

    def do_pwrite(self, name: str, data: bytes, offset: int) -> int:
        return os.pwrite(self._open[name], data, offset)

    def do_lseek(self, name: str, offset: int, whence: int) -> int:
        return os.lseek(self._open[name], offset, whence)

    def do_ftruncate(self, name: str, length: int) -> None:
        os.ftruncate(self._open[name], length)

    def do_fsync(self, name: str) -> None:
        os.fsync(self._open[name])

    def do_fstat(self, name: str) -> tuple[str, int | None]:
        return _shown(os.fstat(self._open[name]))

    def do_is_orphan(self, name: str) -> bool:
        """Tell whether a file that is open has no name any more."""
        return os.fstat(self._open[name]).st_nlink == 0

    # -- paths -------------------------------------------------------------

    def do_stat(self, path: str) -> tuple[str, int | None]:
        return _shown(os.lstat(self._at(path)))

    def do_listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(self._at(path)))

    def do_readlink(self, path: str) -> str:
        return os.readlink(self._at(path))

    def do_access(self, path: str, mode: int) -> bool:
        return os.access(self._at(path), mode)

    def do_truncate(self, path: str, length: int) -> None:
        os.truncate(self._at(path), length)

    def do_unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def do_rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def do_rename(self, old: str, new: str) -> None:
        os.rename(self._at(old), self._at(new))

    def do_link(self, old: str, new: str) -> None:
        os.link(self._at(old), self._at(new), follow_symlinks=False)

    def do_symlink(self, path: str) -> None:
        os.symlink("somewhere", self._at(path))

    def do_mkdir(self, path: str) -> None:
        os.mkdir(self._at(path))

    def do_mkfifo(self, path: str) -> None:
        os.mkfifo(self._at(path))

    def do_chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def do_utime(self, path: str) -> None:
        os.utime(self._at(path), ns=(10**18, 10**18))

    def do_getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(self._at(path), name)

    # -- what programs make of these ----------------------------------------

    def do_get(self, path: str) -> bytes:
        """Read a whole file."""
        with open(self._at(path), "rb", buffering=0) as file:
            return file.readall()

    def do_put(self, path: str, data: bytes) -> None:
        """Write a whole file; an error of the close is told too."""
        descriptor = os.open(self._at(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def do_close_all(self) -> None:
        while self._open:
            _, descriptor = self._open.popitem()
            # An error is told to who closes by intent; here it is only cleared away.
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _shown(told: os.stat_result) -> tuple[str, int | None]:
    """Return what both worlds must agree on: the type, and of a file its size.

    Not: times, owner and permissions, which the service has none of; the number of links, of
    which a result has two and a directory one; inode numbers and blocks, which are each
    world's own.
    """
    if stat.S_ISDIR(told.st_mode):
        return "directory", None
    if stat.S_ISLNK(told.st_mode):
        return "link", None
    return "file", told.st_size


class Hung(BaseException):
    """The mount does not answer. No Exception: there is no sense in trying that again."""


class Worker:
    """:class:`Files` in a process of its own, which may hang without hanging the test.

    Parameters
    ----------
    root : Path
        The directory.
    """

    def __init__(self, root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, os.fspath(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._said: IO[bytes] = self._process.stdin
        self._answers: queue.Queue[tuple[Any, str] | None] = queue.Queue()
        threading.Thread(target=self._listen, args=[self._process.stdout], daemon=True).start()

    def _listen(self, heard: IO[bytes]) -> None:
        try:
            while True:
                self._answers.put(pickle.load(heard))
        except (EOFError, OSError):
            self._answers.put(None)

    def __call__(self, operation: str, *args: Any) -> Outcome:
        """Do an operation.

        Raises
        ------
        Hung
            If nothing came of it within a minute.
        """
        pickle.dump((operation, args), self._said)
        self._said.flush()
        try:
            outcome = self._answers.get(timeout=PATIENCE)
        except queue.Empty:
            raise Hung(f"{operation}{args}: no answer in {PATIENCE:g} s") from None
        if outcome is None:
            raise Hung(f"{operation}{args}: the process that touches the mount has ended")
        return Outcome(*outcome)

    def end(self) -> None:
        """End the process; one that hangs ends with the mount."""
        self._process.kill()
        self._said.close()


def _work(root: str) -> None:
    files, told, say = Files(root), sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            operation, args = pickle.load(told)
        except EOFError:
            return
        outcome = files(operation, *args)
        pickle.dump((outcome.value, outcome.error), say)
        say.flush()


# -- the tree of a group ---------------------------------------------------


@dataclass
class Run:
    """A run as the tree shows it.

    Attributes
    ----------
    id : str
        Its id.
    arguments : dict
        What it was started with, by name.
    state : str
        Its state.
    result : tuple of str and bytes, optional
        Id and bytes of its one result.
    hidden : set of str
        Paths below the run that have been unlinked.
    reason : str, optional
        Why it was canceled.
    """

    id: str
    arguments: dict[str, Any]
    state: str = "RUNNING"
    result: tuple[str, bytes] | None = None
    hidden: set[str] = field(default_factory=set)
    reason: str | None = None

    @property
    def active(self) -> bool:
        """Whether it can still be canceled."""
        return self.state in ("PENDING", "RUNNING")

    def places(self) -> Iterator[tuple[str, str]]:
        """Yield path below the run and type of all that is there, hidden or not."""
        yield "handle.json", "file"
        yield "arguments.json", "file"
        yield "results", "directory"
        yield "outputs", "directory"
        if self.state == "SUCCESS":
            assert self.result is not None
            yield "archive.tar.gz", "file"
            yield f"results/{self.result[0]}", "file"
            yield "outputs/results", "directory"
            yield f"outputs/{GREETING}", "file"
        if self.active:
            yield "cancel", "file"

    def hides(self, below: str) -> bool:
        """Tell whether a place in it, or a directory above that, has been removed."""
        return any(below == one or below.startswith(f"{one}/") for one in self.hidden)


class Refused(Exception):
    """What is asked for is refused with one of these errnos."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.names = names


class Group:
    """What is in a group's directory, and how it takes changes.

    Each method that checks an operation raises :class:`Refused`, or returns if it works. What
    works changes the model.

    Parameters
    ----------
    uploads : Path
        The directory that is the reference of ``uploads/``.

    Attributes
    ----------
    runs : dict of str to Run
        Those that are there, oldest first.
    refused : bool
        Whether the last start was refused: then ``new.error`` is there.
    """

    def __init__(self, uploads: Path) -> None:
        self.uploads = uploads
        self.runs: dict[str, Run] = {}
        self.refused = False

    # -- what is where -----------------------------------------------------

    def places(self) -> dict[str, str]:
        """Return path and type of all that is there."""
        there = dict.fromkeys(("group.json", "arguments.template.json", "runs.jsonl"), "file")
        there |= dict.fromkeys(("", "runs", "states", "uploads"), "directory")
        there["runs/new"] = "file"
        if self.refused:
            there["runs/new.error"] = "file"
        there |= {f"states/{state}": "directory" for state in STATES}
        there |= {f"uploads/{name}": "file" for name in os.listdir(self.uploads)}
        for run in self.runs.values():
            there[f"runs/{run.id}"] = "directory"
            there |= {
                f"runs/{run.id}/{below}": kind
                for below, kind in run.places()
                if not run.hides(below)
            }
            there[f"states/{run.state}/{run.id}"] = "link"
        if self.runs:
            there["latest"] = "link"
        return there

    def target(self, path: str) -> str:
        """Return what a link says."""
        if path == "latest":
            return f"runs/{list(self.runs)[-1]}"
        return f"../../runs/{path.rpartition('/')[2]}"

    def follow(self, path: str, *, last: bool = True) -> str:
        """Return the path behind links on the way, and behind the last segment if `last`."""
        there = self.places()
        parts = path.split("/")
        for end in range(1, len(parts) + last):
            if there.get("/".join(parts[:end])) == "link":
                link = "/".join(parts[:end])
                aim = os.path.normpath(os.path.join(os.path.dirname(link), self.target(link)))
                return "/".join([aim, *parts[end:]])
        return path

    def find(self, path: str, *, last: bool = True) -> tuple[str, str]:
        """Return the path behind links and the type of what is there.

        Raises
        ------
        Refused
            ENOENT or ENOTDIR, as the kernel finds on the way.
        """
        path = self.follow(path, last=last)
        there = self.places()
        self._walk(path, there)
        if path not in there:
            raise Refused("ENOENT")
        return path, there[path]

    @staticmethod
    def _walk(path: str, there: dict[str, str]) -> None:
        """Go through the directories above a path."""
        parts = path.split("/")
        for end in range(1, len(parts)):
            kind = there.get("/".join(parts[:end]))
            if kind is None:
                raise Refused("ENOENT")
            if kind != "directory":
                raise Refused("ENOTDIR")

    def _is_there(self, path: str) -> bool:
        """Tell what making a name finds; raise where the way to it ends."""
        path = self.follow(path, last=False)
        there = self.places()
        self._walk(path, there)
        return path in there

    def listing(self, path: str) -> list[str]:
        """Return the names in a directory."""
        path, kind = self.find(path)
        if kind != "directory":
            raise Refused("ENOTDIR")
        lead = f"{path}/" if path else ""
        return sorted(
            one[len(lead) :]
            for one in self.places()
            if one.startswith(lead) and one != path and "/" not in one[len(lead) :]
        )

    # -- what is refused ----------------------------------------------------

    def make(self, path: str) -> None:
        """Make a directory, a symbolic link or a pipe: nowhere."""
        if self._is_there(path):
            raise Refused("EEXIST")
        raise Refused("EPERM")

    def link(self, old: str, new: str) -> None:
        """Make a hard link: nowhere."""
        self.find(old, last=False)
        self.make(new)

    def rename(self, old: str, new: str) -> None:
        """Rename what is no upload, or make it one: nowhere.

        Before the tree is asked the kernel looks whether both types go together, as it does
        everywhere. A name given to itself is nothing to do.
        """
        old, new = self.follow(old, last=False), self.follow(new, last=False)
        there = self.places()
        self._walk(old, there)
        self._walk(new, there)
        if old not in there:
            raise Refused("ENOENT")
        if _is_below(new, old):
            raise Refused("EINVAL")
        if _is_below(old, new):
            raise Refused("ENOTEMPTY")
        if old == new:
            return
        if new in there:
            if there[old] == "directory" != there[new]:
                raise Refused("ENOTDIR")
            if there[new] == "directory" != there[old]:
                raise Refused("EISDIR")
        raise Refused("EPERM")

    def set_attributes(self, path: str) -> None:
        """Change mode or times: means nothing for what can be written, EPERM elsewhere."""
        path, _ = self.find(path)
        if not self.writable(path) and path != "uploads":
            raise Refused("EPERM")

    def truncate(self, path: str, length: int) -> None:
        """Cut off what is no upload: ``new`` and ``cancel`` have no length but 0."""
        path, kind = self.find(path)
        if kind == "directory":
            raise Refused("EISDIR")
        if not self.writable(path):
            raise Refused("EPERM")
        if length:
            raise Refused("EINVAL")

    @staticmethod
    def writable(path: str) -> bool:
        """Tell whether a file of this path is there to be written."""
        parts = path.split("/")
        return (
            path == "runs/new"
            or (len(parts) == 3 and parts[0] == "runs" and parts[2] == "cancel")
            or (len(parts) == 2 and parts[0] == "uploads")
        )

    def open(self, path: str, flags: int) -> None:
        """Open what is no upload."""
        creating = bool(flags & os.O_CREAT)
        changing = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC))
        path = self.follow(path, last=not (creating and flags & os.O_EXCL))
        there = self.places()
        self._walk(path, there)
        if path not in there:
            if creating:
                raise Refused("EBUSY" if self._late_cancel(path) else "EPERM")
            # The kernel may remember the name for a second, and then the tree says more.
            raise Refused("ENOENT", *(["EBUSY"] if self._late_cancel(path) else []))
        if creating and flags & os.O_EXCL:
            raise Refused("EEXIST")
        if there[path] == "directory":
            raise Refused("EISDIR")
        if changing and not self.writable(path):
            raise Refused("EPERM")

    def _late_cancel(self, path: str) -> bool:
        parts = path.split("/")
        return len(parts) == 3 and parts[1] in self.runs and parts[2] == "cancel"

    # -- what is removed ----------------------------------------------------

    def unlink(self, path: str) -> None:
        """Remove a file that is no upload: of a run that has ended, it is hidden."""
        path, kind = self.find(path, last=False)
        if kind == "directory":
            raise Refused("EISDIR")
        run, below = self._in_run(path)
        run.hidden.add(below)

    def rmdir(self, path: str) -> None:
        """Remove a directory: one of a run is hidden, a run with nothing left in it deleted."""
        try:
            path, kind = self.find(path, last=False)
        except Refused as refused:
            # The kernel may remember the name of a file for a second, and says so by itself.
            late = ["ENOTDIR"] if self._late_cancel(path) else []
            raise Refused(*refused.names, *late) from None
        if kind != "directory":
            raise Refused("ENOTDIR")
        run, below = self._in_run(path)
        if self.listing(path):
            raise Refused("ENOTEMPTY")
        if below:
            run.hidden.add(below)
        else:
            del self.runs[run.id]

    def _in_run(self, path: str) -> tuple[Run, str]:
        parts = path.split("/")
        if parts[0] != "runs" or len(parts) < 2 or parts[1] not in self.runs:
            raise Refused("EPERM")
        run = self.runs[parts[1]]
        if run.active:
            raise Refused("EBUSY")
        return run, "/".join(parts[2:])


def _is_below(path: str, directory: str) -> bool:
    return path != directory and (not directory or path.startswith(f"{directory}/"))


# -- files that act --------------------------------------------------------


class NewFile:
    """``runs/new``, open: what comes of each piece that is written.

    Only what begins a document in JSON, or cannot begin one, is ever written.

    Parameters
    ----------
    group : Group
        Where ``new.error`` comes and goes.
    is_good : callable
        Tells of a document that is whole whether the service takes it.
    append : bool
        Whether it was opened with O_APPEND: then all writing is at the end.
    """

    def __init__(self, group: Group, is_good: Callable[[Any], bool], *, append: bool) -> None:
        self._group = group
        self._is_good = is_good
        self._append = append
        self._written = b""
        self._failed = False
        self._at = 0  # where the descriptor stands
        self.started: Any = None  # the document that has started a run

    def write(self, data: bytes, offset: int | None = None) -> bool:
        """Take a piece; tell whether this starts a run.

        Raises
        ------
        Refused
            EINVAL: what can never be arguments, what follows a start, what is not at the end.
        """
        if not data:
            return False
        at = self._at if offset is None else offset
        if self._failed:
            raise Refused("EINVAL")
        before = self.started
        if self.started is not None:
            if data.strip(BLANKS):
                self._refuse()
        elif at != len(self._written) and not self._append:
            self._refuse()
        else:
            self._written += data
            document = self._whole()
            if document is not None:
                if not self._is_good(document):
                    self._failed = True
                    self._refuse()
                self.started = document
                self._group.refused = False
        if offset is None:
            self._at = at + len(data)
        return before is None and self.started is not None

    def would_take(self, offset: int) -> bool:
        """Tell whether what is written at a place would be taken for a part of the document."""
        if self._failed or self.started is not None:
            return False
        return self._append or offset == len(self._written)

    def _whole(self) -> Any:
        text = self._written.decode(errors="ignore").lstrip(BLANKS.decode())
        if not text:
            return None
        if text[0] not in "{[":
            self._failed = True
            self._refuse()
        try:
            document, end = json.JSONDecoder().raw_decode(text)
        except ValueError as error:
            if "control character" in str(error):  # a line that ends within a string
                self._failed = True
                self._refuse()
            return None
        if text[end:].strip(BLANKS.decode()):
            self._failed = True
            self._refuse()
        return document

    def close(self) -> None:
        """Close a descriptor of it.

        Raises
        ------
        Refused
            EINVAL if a document breaks off; whoever has it open may still go on.
        """
        if not self._failed and self.started is None and self._written.strip(BLANKS):
            self._refuse()

    def _refuse(self) -> None:
        self._group.refused = True
        raise Refused("EINVAL")


class CancelFile:
    """``cancel``, open: it acts once, at the first newline or when it is closed.

    Parameters
    ----------
    group : Group
        Where the run is.
    run : Run
        Which.
    """

    def __init__(self, group: Group, run: Run) -> None:
        self.run = run
        self.acted = False
        self._group = group
        self._written = b""
        self._error = ""

    def write(self, data: bytes) -> None:
        """Take a piece.

        Raises
        ------
        Refused
            EBUSY if the run has ended, ENOENT if it has been deleted, EINVAL for words that
            follow.
        """
        if not data:
            return
        if self._error:
            raise Refused(self._error)
        if self.acted:
            if data.strip(BLANKS):
                raise Refused("EINVAL")
        else:
            self._written += data
            if b"\n" in data:
                self._act()

    def close(self) -> None:
        """Close it, which acts if something was written."""
        if self._written and not self.acted and not self._error:
            self._act()

    def _act(self) -> None:
        if self.run.id not in self._group.runs:
            self._error = "ENOENT"
        elif not self.run.active:
            self._error = "EBUSY"
        if self._error:
            raise Refused(self._error)
        self.acted = True
        self.run.state = "CANCELED"
        self.run.reason = self._written.strip(BLANKS).decode() or None


if __name__ == "__main__":
    _work(sys.argv[1])
