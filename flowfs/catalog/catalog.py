"""What is known of groups, runs, uploads and workflows, and how long that is good."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, Any

from flowfs.arguments import Argument
from flowfs.catalog.cache import Cache
from flowfs.catalog.listing import Listing, plain, read_object
from flowfs.catalog.records import (
    FileRecord,
    Named,
    RunRecord,
    named,
)
from flowfs.catalog.runs import RunCatalog
from flowfs.catalog.starts import Starts
from flowfs.catalog.uploads import UploadCatalog
from flowfs.disk import Disk
from flowfs.errors import FlowError
from flowfs.service.client import FlowService
from flowfs.service.statistics import Usage

__all__ = ["Catalog"]


class Catalog:
    """The service's things as known now, shared by threads and file systems.

    A run that has ended never changes: its handle is kept for ever (10,000 at most). What can
    change is kept for `ttl` seconds. What is changed through the catalog is seen at once.

    Parameters
    ----------
    service : FlowService
        Where to ask.
    ttl : float
        Seconds.
    gone : callable, optional
        Called with ``("run", id)`` or ``("upload", group id, id)`` when such a one has been
        deleted, here or, as far as is noticed, elsewhere: what is kept of its bytes may go.
    disk : Disk, optional
        Where handles of runs that have ended are kept for other processes.

    Notes
    -----
    Each method costs at most one request, none where what it tells is still known, unless it
    says otherwise. All raise :class:`~flowfs.errors.FlowError`.
    """

    def __init__(
        self,
        service: FlowService,
        ttl: float,
        gone: Callable[[tuple[str, ...]], None] = lambda what: None,
        disk: Disk | None = None,
    ) -> None:
        self.service = service
        self._groups: Cache[str, dict[str, Any]] = Cache(ttl)
        self._group_lists: Cache[str, list[dict[str, Any]]] = Cache(ttl)
        self._runs = RunCatalog(service, ttl, gone, disk)
        self._uploads = UploadCatalog(service, ttl, self._groups.drop, gone)
        self._workflows: Cache[str, list[dict[str, Any]]] = Cache(ttl)
        self._workflow: Cache[str, dict[str, Any]] = Cache(ttl)
        self._leaderboards: Cache[str, dict[str, Any]] = Cache(ttl)
        self._starts = Starts(self.group, self._groups.drop, self._runs, self._uploads)

    # -- groups ------------------------------------------------------------

    def groups(self, *, refresh: bool = False) -> list[Named]:
        """Return all groups of the user, by id. Costs what `list_groups` costs."""
        fetch = self.service.groups.list_groups
        return named(self._group_lists.get("", fetch, refresh=refresh), "id")

    def group(self, group_id: str, *, refresh: bool = False) -> dict[str, Any]:
        """Return a group's handle; its runs and uploads are learned along with it.

        In its ``runs``, rows stand for what :func:`~flowfs.catalog.plain` makes of them.
        """

        def fetch() -> dict[str, Any]:
            runs_since, uploads_since = self._runs.drops, self._uploads.drops
            handle = self.service.groups.get_group(group_id, read_object)
            runs = handle.get("runs")
            # Only of runs is a row kept in place of what the service says.
            handle = {name: it if name == "runs" else plain(it) for name, it in handle.items()}
            files = handle.get("files")
            if isinstance(files, list) and all(_is_file(file) for file in files):
                self._uploads.learn(group_id, files, uploads_since)
            # The last of it: who finds them too old finds the group so, too.
            if isinstance(runs, list) and _are_runs(runs):
                self._runs.learn(group_id, runs, runs_since)
            return handle

        return self._groups.get(group_id, fetch, refresh=refresh)

    # -- runs --------------------------------------------------------------

    def runs(self, group_id: str, *, refresh: bool = False) -> Listing:
        """Return the runs of a group by id, in the service's order."""
        return self._runs.listed(group_id, refresh=refresh)

    def latest(self, group_id: str) -> RunRecord | None:
        """Return the newest run of a group; None if it has none."""
        return self._runs.latest(group_id)

    def run(self, group_id: str, run_id: str, *, refresh: bool = False) -> dict[str, Any]:
        """Return the handle of a run of a group.

        An ended run's handle is fetched once. That the run still exists is looked up in the
        group's listing when it was last seen more than `ttl` ago: one request for all runs.

        Raises
        ------
        NotFound
            If there is no such run, or it is of another group.
        """
        return self._runs.get(group_id, run_id, refresh=refresh)

    def find_run(self, run_id: str) -> dict[str, Any]:
        """Return the handle of a run, whichever group it is of. One request unless it is kept."""
        return self._runs.find(run_id)

    def fetch_run_ahead(self, group_id: str, run_id: str) -> None:
        """Fetch the handle of a run that nobody needs yet, unless one is kept.

        What goes wrong is raised here, and to nobody who comes to need it.
        """
        self._runs.fetch_ahead(group_id, run_id)

    def run_record(self, group_id: str, run_id: str) -> RunRecord:
        """Return what a listing tells of a run: no request where a good listing has it."""
        return self._runs.record(group_id, run_id, self._renew)

    def _renew(self, group_id: str) -> None:
        """Ask for a group that is known, if that is due: its runs come along."""
        if self._groups.peek(group_id, any_age=True) is not None:
            self.group(group_id)

    def known_listing(self, group_id: str) -> tuple[Listing, list[FileRecord]] | None:
        """Return runs and uploads of a group as last listed, however long ago; never asks.

        The same objects come again as long as nothing new was listed. None if there are none.
        """
        runs = self._runs.known_listing(group_id)
        uploads = self._uploads.known(group_id)
        return None if runs is None or uploads is None else (runs, uploads)

    def good_runs(self, group_id: str) -> Listing | None:
        """Return the runs of a group as listed, if that is still good; never asks."""
        return self._runs.good_listing(group_id)

    @property
    def changes_of_runs(self) -> int:
        """How often what was listed of runs turned out to be outdated, by a change made here."""
        return self._runs.drops

    @property
    def changes(self) -> int:
        """How often something that was known of runs was dropped, since it changed or has gone."""
        return self._runs.changes

    def run_there_until(self, run_id: str) -> float | None:
        """Return until when an ended run is taken to be there without a look; never asks.

        Seconds as :func:`time.monotonic` has them; None if it can still change, or is not known.
        """
        return self._runs.there_until(run_id)

    def known_runs(self, group_id: str) -> Listing | None:
        """Return the runs of a group as last listed, however long ago; never asks."""
        return self._runs.known_listing(group_id)

    def known_run(self, run_id: str, *, any_age: bool = False) -> dict[str, Any] | None:
        """Return a run's handle if a good one is kept (or one of any age); never asks."""
        return self._runs.known(run_id, any_age=any_age)

    def group_of_run(self, run_id: str) -> str | None:
        """Return the id of the group in whose listing a run was seen; never asks."""
        return self._runs.group_of(run_id)

    def listed_run(self, group_id: str, name: str) -> str | None:
        """Return the id of the listed run of that name (ids too long for a name are cut)."""
        return self._runs.id_of(group_id, name)

    def start_run(self, group_id: str, arguments: Any, *, about: str) -> dict[str, Any]:
        """Check arguments and start a run; remember the refusal, if it is one.

        Costs one request to start it, and one for the group's declarations and uploads
        unless they are known.

        Parameters
        ----------
        group_id : str
            The group.
        arguments : bytes, str, mapping or list
            A document, or what it holds.
        about : str
            What errors name.

        Returns
        -------
        dict
            The run's handle.

        Raises
        ------
        InvalidArguments
            With everything wrong at once; nothing has started.
        UnclearStart
            If a run may have started.
        """
        return self._starts.start(group_id, arguments, about)

    def checked(
        self,
        group_id: str,
        given: Sequence[Any],
        *,
        about: str,
        named: Callable[[int], str] = str,
    ) -> list[list[Argument]]:
        """Check the arguments of many runs, and start none.

        Costs a request for the group's declarations and uploads unless they are known, and one
        more before anything is refused.

        Parameters
        ----------
        group_id : str
            The group.
        given : sequence of bytes, str, mapping or list
            A document for each run, or what it holds.
        about : str
            What errors name.
        named : callable
            What a message calls a run; called with its number in `given`.

        Returns
        -------
        list
            For each run its arguments, as :meth:`start_checked` takes them.

        Raises
        ------
        InvalidArguments
            With all that is wrong, run by run; of very many, ``others`` has what the message
            has not.
        """
        return self._starts.checked(group_id, given, about, named)

    def start_checked(
        self, group_id: str, arguments: list[Argument], *, about: str
    ) -> dict[str, Any]:
        """Start a run with arguments that have been checked. One request, sent once.

        Raises
        ------
        InvalidArguments, UnclearStart
            As of :meth:`start_run`.
        """
        return self._starts.send(group_id, arguments, about)

    def cancel_run(self, run_id: str, reason: str | None) -> dict[str, Any]:
        """Cancel a run and return its handle."""
        try:
            return self._runs.cancel(run_id, reason)
        finally:
            self._groups.clear()

    def delete_run(self, run_id: str) -> None:
        """Delete a run."""
        try:
            self._runs.delete(run_id)
        finally:
            self._groups.clear()

    # -- refusals ----------------------------------------------------------

    def refused(self, group_id: str, error: FlowError) -> None:
        """Keep what was said when a run was refused, until the next success."""
        self._starts.refused(group_id, error)

    def refusal(self, group_id: str) -> bytes | None:
        """Return what was said when the last run was refused; None if it was not."""
        return self._starts.refusal(group_id)

    # -- uploads -----------------------------------------------------------

    def uploads(self, group_id: str, *, refresh: bool = False) -> list[FileRecord]:
        """Return the uploads of a group, oldest first."""
        return self._uploads.listed(group_id, refresh=refresh)

    def upload(self, group_id: str, name: str) -> FileRecord:
        """Return the upload of that name.

        Raises
        ------
        NotFound
            If there is none.
        """
        return self._uploads.get(group_id, name)

    def upload_file(
        self,
        group_id: str,
        name: str,
        raw_name: str,
        file: IO[bytes],
        progress: Callable[[int], None] | None = None,
    ) -> FileRecord:
        """Upload a file, in place of the one that has its name.

        The new file is stored before the old one is deleted. Costs a request, one for the
        listing, and one more where an upload is replaced.

        Parameters
        ----------
        group_id : str
            The group.
        name : str
            Its name in the tree.
        raw_name : str
            The name to ask the service for.
        file : binary file
            Read to its end.
        progress : callable, optional
            Called with the number of bytes of each piece sent.

        Returns
        -------
        FileRecord
            Its `stored` name is another one where the service did not take the name asked.
        """
        return self._uploads.store(group_id, name, raw_name, file, progress)

    def together(self) -> AbstractContextManager[None]:
        """Upload many files within a ``with`` block: one listing for all, every `ttl` seconds."""
        return self._uploads.together()

    def rename_upload(
        self, group_id: str, old: str, new: str, raw_name: str, file: IO[bytes]
    ) -> FileRecord:
        """Upload what an upload holds under a new name, then delete it.

        Costs three requests, and one more where something had the new name: it is replaced.

        Parameters
        ----------
        group_id : str
            The group.
        old, new : str
            Names in the tree.
        raw_name : str
            The new name to ask the service for.
        file : binary file
            What the upload holds; read from where it stands to its end.

        Returns
        -------
        FileRecord
            The new upload.

        Raises
        ------
        NotFound
            If there is no upload of the old name.
        FlowError
            As the service says. The old upload is there still; the error tells if the new one
            is there too.
        """
        return self._uploads.rename(group_id, old, new, raw_name, file)

    def delete_upload(self, group_id: str, name: str) -> None:
        """Delete the upload of that name."""
        self._uploads.delete(group_id, name)

    # -- workflows ---------------------------------------------------------

    def workflows(self, *, refresh: bool = False) -> list[Named]:
        """Return the workflows, by id."""
        fetch = self.service.workflows.list_workflows
        return named(self._workflows.get("", fetch, refresh=refresh), "id")

    def known_workflows(self) -> list[Named]:
        """Return the workflows as last listed, however long ago; never asks."""
        return named(self._workflows.peek("", any_age=True) or [], "id")

    def workflow(self, workflow_id: str, *, refresh: bool = False) -> dict[str, Any]:
        """Return a workflow's handle."""
        return self._workflow.get(
            workflow_id,
            lambda: self.service.workflows.get_workflow(workflow_id),
            refresh=refresh,
        )

    def postproc(self, workflow_id: str) -> dict[str, Any] | None:
        """Return the handle of the post-processing run; None if there is none."""
        return _postproc(self.workflow(workflow_id))

    def known_postproc(self, workflow_id: str) -> dict[str, Any] | None:
        """Return its handle as it was last asked for, however long ago; never asks."""
        return _postproc(self._workflow.peek(workflow_id, any_age=True) or {})

    def workflow_groups(self, workflow_id: str, *, refresh: bool = False) -> list[Named]:
        """Return the user's groups of a workflow, by name."""
        groups = self._group_lists.get(
            workflow_id,
            lambda: self.service.workflows.list_groups(workflow_id),
            refresh=refresh,
        )
        return named(groups, "name")

    def known_workflow_groups(self, workflow_id: str) -> list[Named]:
        """Return them as last listed, however long ago; never asks."""
        return named(self._group_lists.peek(workflow_id, any_age=True) or [], "name")

    def leaderboard(self, workflow_id: str, *, refresh: bool = False) -> dict[str, Any]:
        """Return the ranking of a workflow's results."""
        return self._leaderboards.get(
            workflow_id,
            lambda: self.service.workflows.get_leaderboard(workflow_id),
            refresh=refresh,
        )

    def known_leaderboard(self, workflow_id: str) -> dict[str, Any] | None:
        """Return the ranking as it was last asked for, however long ago; never asks."""
        return self._leaderboards.peek(workflow_id, any_age=True)

    # -- all ---------------------------------------------------------------

    def usage(self) -> dict[str, tuple[Usage, int]]:
        """Return how each cache did, and how much it holds, by what is in it."""
        caches: dict[str, Cache[str, Any]] = {
            "groups": self._groups,
            "lists of groups": self._group_lists,
            "lists of workflows": self._workflows,
            "workflows": self._workflow,
            "rankings": self._leaderboards,
        }
        kept = {name: (cache.usage, len(cache)) for name, cache in caches.items()}
        return {**kept, **self._runs.usage(), "lists of uploads": self._uploads.usage}

    def forget(self) -> None:
        """Forget what may have changed, and that ended runs were seen; keep their handles."""
        for cache in (
            self._groups,
            self._group_lists,
            self._uploads,
            self._workflows,
            self._workflow,
            self._leaderboards,
        ):
            cache.clear()
        self._runs.forget()


def _postproc(workflow: Mapping[str, Any]) -> dict[str, Any] | None:
    handle = workflow.get("postproc")
    return handle if isinstance(handle, dict) and _is_run(handle) else None


def _is_run(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("id"), str)
        and isinstance(value.get("state"), str)
    )


def _are_runs(values: list[Any]) -> bool:
    # Of 100,000 rows it is found out at once.
    return set(map(type, values)) <= {tuple} or all(
        isinstance(value, tuple) or _is_run(value) for value in values
    )


def _is_file(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("id"), str)
        and isinstance(value.get("name"), str)
    )
