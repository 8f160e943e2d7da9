"""One run, as an object: for programs and notebooks that stay with it."""

from __future__ import annotations

import copy
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from flowfs.catalog import FileRecord, RunRecord, run_files, timestamp
from flowfs.errors import FlowError
from flowfs.filesystem.hurried import within
from flowfs.filesystem.rendering import plain_arguments, run_row
from flowfs.filesystem.sources import source_in_run
from flowfs.names import to_name
from flowfs.pool import call_all
from flowfs.tree import RESERVED_RUN_NAMES, join

if TYPE_CHECKING:
    from flowfs.filesystem.showing import Showing

__all__ = ["Run", "told"]

_PATIENCE = 3.0  # seconds that a display waits for the service
_PICTURES = 4


class Run:
    """A run, made by :meth:`FlowFileSystem.run`.

    What it tells is looked up each time: for nothing where it is known, and once a run has ended
    all is known. While it is active that is good for `ttl` seconds, and then costs a request.
    Runs are equal if they are the same run of one service. They can be pickled.

    In a notebook a run shows itself, with its arguments and results and up to four of its
    pictures. What that takes is asked for within three seconds; what has not come by then is
    left out. Results of 64 KiB at most that are at hand by then, because somebody has read them,
    can be saved from there, 256 KiB in all; the others are links to the service.

    Attributes
    ----------
    id, group_id : str
        The service's ids of the run and of its group.
    path : str
        Where it is in the tree.
    """

    __slots__ = ("_fs", "group_id", "id", "path")

    def __init__(self, fs: Showing, group_id: str, run_id: str) -> None:
        self._fs = fs
        self.group_id: str = group_id
        self.id: str = run_id
        self.path: str = join(
            "groups", to_name(group_id), "runs", to_name(run_id, RESERVED_RUN_NAMES)
        )

    def __repr__(self) -> str:
        known = self._fs.catalog.known_run(self.id, any_age=True) or {}
        return f"<{type(self).__name__} {self.id!r} {known.get('state', '')}".rstrip() + ">"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Run):
            return NotImplemented
        return (self.id, self._fs.endpoint) == (other.id, other._fs.endpoint)

    def __hash__(self) -> int:
        return hash((self.id, self._fs.endpoint))

    def __reduce__(self) -> Any:
        return type(self), (self._fs, self.group_id, self.id)

    # -- what it is --------------------------------------------------------

    @property
    def handle(self) -> dict[str, Any]:
        """The run as the service tells of it; a copy."""
        return copy.deepcopy(self._handle())

    def _handle(self) -> dict[str, Any]:
        with self._fs._naming(self.path):
            return self._fs.catalog.run(self.group_id, self.id)

    @property
    def state(self) -> str:
        """PENDING, RUNNING, SUCCESS, ERROR or CANCELED."""
        return str(self._handle()["state"])

    @property
    def active(self) -> bool:
        """Whether it has not ended yet."""
        return RunRecord.of(self._handle()).active

    @property
    def created(self) -> datetime | None:
        """When it was created, in UTC."""
        return self._time("createdAt")

    @property
    def started(self) -> datetime | None:
        """When it began; None before."""
        return self._time("startedAt")

    @property
    def finished(self) -> datetime | None:
        """When it ended; None before."""
        return self._time("finishedAt")

    def _time(self, name: str) -> datetime | None:
        seconds = timestamp(self._handle().get(name))
        return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)

    @property
    def duration(self) -> float | None:
        """Seconds from its beginning to its end; None before that."""
        took = run_row(self._handle(), {})["duration"]
        return None if took is None else float(took)

    @property
    def arguments(self) -> dict[str, Any]:
        """Its arguments by name, as :meth:`FlowFileSystem.start_run` takes them.

        Uploads are told by their names, which costs one request unless they are known.
        """
        with self._fs._naming(self.path):
            uploads = self._fs.entries.upload_names(self.group_id)
        return copy.deepcopy(plain_arguments(self._handle().get("arguments"), uploads))

    @property
    def messages(self) -> list[str]:
        """What the service says of a run that failed or was canceled."""
        return [str(one) for one in _messages(self._handle())]

    @property
    def outputs(self) -> list[str]:
        """Paths of its results within the run, as :meth:`open` takes them; none before SUCCESS."""
        return [join("outputs", *one.output) for one in run_files(self._handle())]

    # -- what can be done --------------------------------------------------

    def open(self, name: str, mode: str = "rb", **options: Any) -> Any:
        """Open a file of the run, as :meth:`FlowFileSystem.open` does.

        Parameters
        ----------
        name : str
            Its path within the run, such as ``"outputs/results/summary.csv"``.
        mode : str
            ``rb``, or ``r`` for text.
        **options
            As there.
        """
        return self._fs.open(join(self.path, name.strip("/")), mode, **options)

    def wait(self, timeout: float | None = None, **options: Any) -> Run:
        """Wait until it has ended, however it does, and return the run itself.

        Parameters and errors are those of :meth:`FlowFileSystem.wait`.
        """
        self._fs.wait({"id": self.id, "groupId": self.group_id}, timeout, **options)
        return self

    def cancel(self, reason: str | None = None) -> Run:
        """Cancel it, and return the run itself. One request."""
        self._fs.cancel_run(self.id, reason)
        return self

    def delete(self) -> None:
        """Delete it with all that is in it; one request. An active run is refused."""
        self._fs.rm(self.path, recursive=True)

    # -- how it looks ------------------------------------------------------

    def _repr_html_(self) -> str:
        from flowfs.display.pages import MOST_FILES, File, RunPage
        from flowfs.display.pictures import ENDINGS, MOST_BYTES

        fs = self._fs
        uploads: dict[str, str] = {}
        urls: dict[str, str] = {}
        data: dict[str, bytes] = {}

        def look() -> None:
            handle = self._handle()
            files = run_files(handle)
            for file in files[:MOST_FILES]:
                urls[file.id] = fs.catalog.service.runs.urls(
                    "runs:download:file", runId=self.id, fileId=file.id
                )
            uploads.update(fs.entries.upload_names(self.group_id))
            shown = [file for file in files if file.stored.lower().endswith(ENDINGS)][:_PICTURES]
            call_all(
                lambda file: fs._read_up_to(join(self.path, "results", file.name), MOST_BYTES),
                shown,
                len(shown),
                lambda number, came: (
                    data.update({shown[number].id: came}) if isinstance(came, bytes) else None
                ),
            )

        def at_hand(file: FileRecord) -> bytes | None:
            # Nobody is asked: what has been read, or come along with a question, is kept.
            return fs.content.small(source_in_run(fs.catalog.service, self.id, file))

        trouble = within(_PATIENCE, look)
        handle = fs.catalog.known_run(self.id, any_age=True) or {}
        page = RunPage(
            run_id=self.id,
            path=self.path,
            row=run_row(handle, uploads) if handle else {},
            arguments=plain_arguments(handle.get("arguments"), uploads),
            messages=_messages(handle),
            files=[
                File(
                    name=(name := join("outputs", *file.output)),
                    place=fs.unstrip_protocol(join(self.path, name)),
                    title=file.about.get("title"),
                    data=data.get(file.id),
                    kept=at_hand(file) if number < MOST_FILES else None,
                    url=urls.get(file.id),
                )
                for number, file in enumerate(run_files(handle))
            ],
            place=fs.unstrip_protocol(self.path),
            remark=told(trouble),
            endpoint=fs.endpoint,
        )
        return page.html()


def told(trouble: Exception | None) -> str:
    """Return in a line why a display is not whole; nothing if it is."""
    if trouble is None:
        return ""
    words = trouble.strerror if isinstance(trouble, FlowError) else str(trouble)
    return f"What is known by now: {words or type(trouble).__name__}"


def _messages(handle: dict[str, Any]) -> list[Any]:
    messages = handle.get("messages")
    return messages if isinstance(messages, list) else []
