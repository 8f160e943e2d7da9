"""``flowfs cp``: files from a service to this machine, from here to there, from there to there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import click

from flowfs.cli import completing
from flowfs.cli.access import Access, json_option, service_options
from flowfs.cli.cat import bytes_out, copy_to
from flowfs.cli.ending import Several, tidy_up_at_signals
from flowfs.cli.naming import Place, expand, find_place, is_remote
from flowfs.cli.output import documents, say, stdin
from flowfs.errors import (
    AlreadyExists,
    FlowError,
    IsADirectory,
    NotADirectory,
    NotFound,
    NotPermitted,
    failure,
    printable,
)
from flowfs.names import to_name

if TYPE_CHECKING:
    from fsspec.callbacks import Callback

    from flowfs.cli.progress import CopyProgress

# A place on a service, or the path of a file of this machine; - is stdin.
_End: TypeAlias = "Place | str"

_CHUNK = 1 << 20  # bytes


@dataclass
class _Copy:
    """A file to be copied.

    Attributes
    ----------
    source, target : Place or str
        From where, and to where.
    told : dict
        What JSON tells of it.
    """

    source: _End
    target: _End
    told: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.told = {"from": _told(self.source), "to": _told(self.target)}

    @property
    def acts(self) -> bool:
        """Whether what is written there starts or cancels a run."""
        if not isinstance(self.target, Place):
            return False
        return self.target.path.split("/")[2:3] == ["runs"]

    @property
    def is_there(self) -> bool:
        """Whether the target is there already."""
        if isinstance(self.target, Place):
            return bool(self.target.fs.exists(self.target.path))
        return os.path.lexists(self.target)


@click.command(short_help="Copy files from a service, and to it.")
@click.argument(
    "names",
    metavar="SOURCE... TARGET",
    nargs=-1,
    required=True,
    shell_complete=completing.copies,
)
@click.option("-r", "-R", "--recursive", is_flag=True, help="Directories, with what is in them.")
@click.option("-n", "--no-clobber", is_flag=True, help="Leave alone what is there already.")
@click.option("-p", "--preserve", is_flag=True, help="Keep the times of what is fetched.")
@click.option("-v", "--verbose", is_flag=True, help="Say what was copied.")
@json_option
@service_options
def cp(
    access: Access,
    names: tuple[str, ...],
    recursive: bool,
    no_clobber: bool,
    preserve: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Copy each SOURCE to TARGET, or into it if it is a directory, by the rules of cp.

    \b
      flowfs cp groups/analysis/latest/outputs/results/chart.png .
      flowfs cp -r groups/analysis/latest/outputs results
      flowfs cp days.csv groups/analysis/uploads/
      flowfs cp args.json groups/analysis/runs/new

    Here a place begins with groups/, workflows/ or is a URL; everything else is a file of this
    machine, and - is stdin or stdout. Files are put into uploads/; one that goes to `new` starts
    a run, which is named. A file has its name only once it is whole: what breaks off leaves
    nothing behind. One request for each file, several at once.
    """
    if len(names) < 2:
        raise click.UsageError("a source and a target are needed: flowfs cp SOURCE... TARGET")
    if as_json and names[-1] == "-":
        raise click.UsageError("with --json nothing else is printed: give a target, not -")
    tidy_up_at_signals(click.get_current_context())
    several = Several()
    with documents(as_json) as told:
        for copy in _copied(access, names, several, recursive, no_clobber, preserve):
            told.append(copy.told)
            if as_json:
                continue
            if "run" in copy.told:
                say(f"{copy.told['state']} {printable(copy.told['run'])}")
            elif verbose:
                say(f"{printable(copy.told['from'])} -> {printable(copy.told['to'])}")
        several.end()


def _copied(
    access: Access,
    names: Sequence[str],
    several: Several,
    recursive: bool,
    no_clobber: bool,
    preserve: bool,
) -> Sequence[_Copy]:
    """Copy, and return what was copied."""
    *given, target = names
    sources: list[_End] = []
    for name in given:
        with several.one():
            sources += expand(access, [name]) if is_remote(name) else [_local(name)]
    several.end()  # for fewer of them the target might mean something else
    if not is_remote(target) and not any(isinstance(source, Place) for source in sources):
        raise click.UsageError("neither is on a service: for files of this machine there is cp")
    if target == "-":
        _to_stdout(sources, several)
        return []
    planning = _Planning(several, recursive)
    if is_remote(target):
        copies = planning.to_service(sources, find_place(access, target))
    else:
        copies = planning.from_service(sources, target)
    _check_targets(copies)
    if no_clobber:
        copies = [copy for copy in copies if not copy.is_there]
    return _run(copies, several, preserve)


def _local(name: str) -> str:
    if name != "-" and not os.path.lexists(name):
        raise failure(NotFound, "no such file here; a place on a service begins with groups/", name)
    return name


def _told(one: _End) -> str:
    return one.url if isinstance(one, Place) else one


def _to_stdout(sources: list[_End], several: Several) -> None:
    out = bytes_out()
    for source in sources:
        with several.one():
            if not isinstance(source, Place):
                raise click.UsageError(f"{source} is on no service: there is cat for it")
            copy_to(source, out)
    out.flush()
    several.end()


def _check_targets(copies: Sequence[_Copy]) -> None:
    """Raise AlreadyExists if two files would go to one place."""
    seen: dict[str, str] = {}
    for copy in copies:
        source, target = copy.told["from"], copy.told["to"]
        if target in seen and not copy.acts:
            raise failure(
                AlreadyExists, f"two would be copied there: {seen[target]}, {source}", target
            )
        seen[target] = source


class _Planning:
    """Finds out which file is copied to where.

    Parameters
    ----------
    several : Several
        Told what cannot be copied.
    recursive : bool
        Whether directories are.
    """

    def __init__(self, several: Several, recursive: bool) -> None:
        self._several = several
        self._recursive = recursive

    def from_service(self, sources: Sequence[_End], target: str) -> list[_Copy]:
        """Return what is copied where files come to this machine.

        Raises
        ------
        NotFound, NotADirectory
            If a directory is needed and there is none.
        """
        into = os.path.isdir(target)
        if not into and (len(sources) > 1 or target.endswith("/")):
            if os.path.lexists(target.rstrip("/")):
                raise failure(NotADirectory, "is no directory", target)
            if len(sources) > 1 or not self._recursive:
                raise failure(NotFound, "there is no such directory; make it with mkdir", target)
        copies: list[_Copy] = []
        for source in sources:
            with self._several.one():
                if not isinstance(source, Place):
                    raise click.UsageError(f"{source} is on no service: there is cp for it")
                copies += self._fetched(source, target, into)
        return copies

    def _fetched(self, source: Place, target: str, into: bool) -> list[_Copy]:
        goal = os.path.join(target, source.name) if into else target.rstrip("/") or "/"
        if not source.fs.isdir(source.path):
            with source.named():
                source.fs.entries.check(source.fs.entries.resolve(source.path))
            if os.path.isdir(goal):
                raise failure(IsADirectory, "is a directory: a file does not go there", goal)
            return [_Copy(source, goal)]
        if not self._recursive:
            raise failure(IsADirectory, "is a directory: -r copies it", source.url)
        if os.path.lexists(goal) and not os.path.isdir(goal):
            raise failure(NotADirectory, "is a file: a directory does not go there", goal)
        files = source.fs.find(source.path)
        os.makedirs(goal, exist_ok=True)
        start = len(source.path) + 1 if source.path else 0
        return [
            _Copy(Place(source.fs, path, path), os.path.join(goal, *path[start:].split("/")))
            for path in files
        ]

    def to_service(self, sources: Sequence[_End], target: Place) -> list[_Copy]:
        """Return what is copied where files go to a service.

        Raises
        ------
        NotPermitted, NotADirectory
            If nothing can be put there.
        """
        from flowfs import tree

        fs = target.fs
        with target.named(), fs.entries.operation():
            node = fs.entries.follow(fs.entries.resolve(target.path))
        into = node.kind is tree.UPLOADS
        if node.kind not in (tree.UPLOADS, tree.UPLOAD, tree.NEW, tree.CANCEL):
            raise failure(
                NotPermitted,
                "nothing can be put there: files go to uploads/, arguments to runs/new",
                target.url,
            )
        if node.kind in (tree.UPLOAD, tree.CANCEL) and (
            len(sources) > 1 or target.given.endswith("/")
        ):
            raise failure(NotADirectory, "is no directory", target.url)
        # Through links once: `new` of a group that was named another way is the same.
        target = Place(fs, node.path, target.given)
        copies: list[_Copy] = []
        for source in sources:
            with self._several.one():
                copies.append(self._sent(source, target, into))
        return copies

    @staticmethod
    def _sent(source: _End, target: Place, into: bool) -> _Copy:
        if isinstance(source, Place):
            name, directory = source.name, source.fs.isdir(source.path)
        else:
            name, directory = to_name(os.path.basename(source)), os.path.isdir(source)
        if directory:
            raise failure(
                IsADirectory,
                "is a directory, and uploads/ holds files only: name the files in it",
                _told(source),
            )
        if into and source == "-":
            raise click.UsageError(f"stdin has no name: give one behind {target.given}")
        return _Copy(source, target.below(name) if into else target)


def _run(copies: Sequence[_Copy], several: Several, preserve: bool) -> list[_Copy]:
    """Copy, and return what was copied. What fails is told, the rest is done.

    Runs are started one after the other, in order, and none after one that is refused;
    everything else is copied several files at once.
    """
    from flowfs.cli.progress import CopyProgress

    with CopyProgress(len(copies)) as progress:
        outcomes = _all(copies, progress)
    done = []
    for copy, outcome in zip(copies, outcomes, strict=False):
        if isinstance(outcome, OSError):
            several.failed(outcome)
            continue
        if isinstance(outcome, Exception):
            raise outcome
        done.append(copy)
        if preserve and isinstance(copy.source, Place) and isinstance(copy.target, str):
            with several.one():
                _keep_time(copy.source, copy.target)
    return done


def _all(copies: Sequence[_Copy], progress: CopyProgress) -> list[object]:
    """Copy all; return for each None, or the exception that was raised."""
    from flowfs.pool import map_all

    def one(copy: _Copy) -> None:
        _copy(copy, progress.branched("", ""))
        progress.relative_update(1)

    if any(copy.acts for copy in copies):
        outcomes: list[object] = []
        for copy in copies:
            outcomes += map_all(one, [copy], 1)
            if isinstance(outcomes[-1], Exception):
                break
        return outcomes
    services: dict[int, Any] = {}
    fetched: dict[int, list[str]] = {}
    for copy in copies:
        for end in (copy.source, copy.target):
            if isinstance(end, Place):
                services[id(end.fs)] = end.fs
                paths = fetched.setdefault(id(end.fs), [])
                if end is copy.source:
                    paths.append(end.path)
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(services[it].together(fetched[it])) for it in services]
        return list(map_all(one, copies, max(workers, default=1)))


def _copy(copy: _Copy, progress: Callback) -> None:
    source, target = copy.source, copy.target
    if not isinstance(target, Place):
        assert isinstance(source, Place)
        try:
            source.fs.get_file(source.path, target, callback=progress)
        except OSError as error:
            # Who writes to a descriptor is not told of what file.
            if error.filename is None and not isinstance(error, FlowError):
                error.filename = target
            raise
        return
    if isinstance(source, str) and source != "-" and not copy.acts:
        target.fs.put_file(source, target.path, callback=progress)
        return
    # What fails while it is read sends nothing.
    with target.fs.open(target.path, "wb") as out, _opened(source) as file:
        while piece := file.read(_CHUNK):
            out.write(piece)
            progress.relative_update(len(piece))
    if out.run is not None:
        run = target.fs.entries.path_of_run(out.run["id"])
        copy.told |= {"run": run, "id": out.run["id"], "state": out.run["state"]}


@contextlib.contextmanager
def _opened(source: _End) -> Iterator[IO[bytes]]:
    if isinstance(source, Place):
        with source.fs.open(source.path) as file:
            yield file
    elif source == "-":
        yield stdin().buffer
    else:
        with open(source, "rb") as local:
            yield local


def _keep_time(source: Place, target: str) -> None:
    entry = source.fs.entries.entry(source.fs.entries.resolve(source.path), ask=False)
    time = entry.get("mtime")
    if time is None:
        return
    try:
        os.utime(target, (time, time))
    except OSError as error:  # a file system without, or that of others: as with cp, it stays
        raise failure(
            FlowError,
            f"is copied, but its time could not be kept: {error.strerror}",
            target,
            errno=error.errno,
        ) from None
