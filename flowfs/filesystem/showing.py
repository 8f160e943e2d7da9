"""What notebooks show of a service and of its runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flowfs.errors import FlowError, InvalidArguments, NotFound, failure
from flowfs.filesystem.hurried import within
from flowfs.filesystem.run import Run, told
from flowfs.filesystem.running import Running
from flowfs.names import to_name
from flowfs.pool import call_all, map_all
from flowfs.tree import RESERVED_RUN_NAMES, join

if TYPE_CHECKING:
    from flowfs.display.pages import TablePage

__all__ = ["RunsTable", "Showing"]

_PATIENCE = 2.0  # seconds that a display waits for the service
_WORKFLOWS = 20  # whose groups are shown
_GROUPS = 50
_PICTURES = 100  # of a table
_ALL_BYTES = 8 << 20  # of all pictures of a table


class RunsTable:
    """Runs as a notebook shows them, made by :meth:`FlowFileSystem.show_runs`."""

    def __init__(self, page: TablePage) -> None:
        self._page = page

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._page.rows) + self._page.more} runs>"

    def _repr_html_(self) -> str:
        return self._page.html()


class Showing(Running):
    """Displays."""

    def run(self, run: Any) -> Run:
        """Return a run as an object, which shows itself in a notebook.

        One request, unless the run is known.

        Parameters
        ----------
        run : str or dict
            A run's id, its path or URL or that of a place in it, or its handle.

        Returns
        -------
        Run

        Raises
        ------
        NotFound
            If there is no such run.
        InvalidArguments
            If it is something else.
        """
        group_id, run_id = self._one_run(run)
        made = Run(self, group_id, run_id)
        made._handle()
        return made

    def _one_run(self, run: Any) -> tuple[str, str]:
        if isinstance(run, Run):
            return run.group_id, run.id
        if isinstance(run, Mapping):
            ((group_id, run_id),) = self.named_runs(run)
            return group_id, run_id
        if not isinstance(run, str):
            raise failure(InvalidArguments, f"no run: an id, path or handle is needed, not {run!r}")
        if "/" not in run:
            known = self.catalog.group_of_run(run)
            return known or str(self.catalog.find_run(run)["groupId"]), run
        path = self._strip_protocol(run)
        with self._naming(path), self.entries.operation():
            node = self.entries.follow(self._resolve(path))
            if "run" not in node.names:
                raise failure(InvalidArguments, "no run, nor a place in one", path)
            return self.entries.group_id(node), self.entries.run_id(node)

    def show_runs(
        self,
        runs: Any,
        state: str | Collection[str] | None = None,
        results: str | Sequence[str] | Mapping[str, str] | None = None,
        *,
        pictures: str | Sequence[str] = (),
        limit: int = 50,
    ) -> RunsTable:
        """Show runs in a notebook: states in colour, pictures among the cells.

        Costs what :meth:`runs` costs, and one request for each picture.

        Parameters
        ----------
        runs : str or pandas.DataFrame
            A group, as :meth:`runs` takes it; or a table which that has returned, with whatever
            rows and columns are left and added: ``fs.show_runs(table.nlargest(5, "mean"))``.
        state, results
            Of a group, as of :meth:`runs`.
        pictures : str or sequence of str
            Path of a result within a run, as ``"outputs/results/plot.png"``, or several. PNG,
            JPEG, GIF, WebP and SVG of 512 KiB at most are shown, 100 in all, and of what is not
            it is told why.
        limit : int
            Rows shown at most; the first ones.

        Returns
        -------
        RunsTable
            What a notebook shows. It holds what was there when it was made.

        Raises
        ------
        NotFound, InvalidArguments, FlowError
            As of :meth:`runs`; InvalidArguments, if a table has no column ``id``.
        """
        from flowfs.display.pages import TablePage

        if isinstance(runs, str):
            rows, columns = self.run_rows(runs, state, results)
        else:
            rows, columns = _of_frame(runs)
        shown = rows[: max(0, limit)]
        found = self._pictures(shown, [pictures] if isinstance(pictures, str) else list(pictures))
        return RunsTable(
            TablePage(
                columns=columns,
                rows=shown,
                places={
                    run_id: self.unstrip_protocol(Run(self, group_id, run_id).path)
                    for row in shown
                    if (group_id := self.catalog.group_of_run(run_id := str(row.get("id"))))
                },
                pictures=found,
                more=len(rows) - len(shown),
            )
        )

    def _pictures(
        self, rows: list[dict[str, Any]], wanted: list[str]
    ) -> dict[tuple[str, str], bytes | str]:
        """Return what is in files of runs, or why that is not shown, by run and file."""
        from flowfs.display.pictures import MOST_BYTES

        places = [(str(row.get("id")), below.strip("/")) for below in wanted for row in rows]
        left = [_ALL_BYTES]

        def read(place: tuple[str, str]) -> bytes | str:
            run_id, below = place
            if left[0] <= 0:
                return "not shown: there are too many"
            group_id, _ = self._one_run(run_id)
            run = to_name(run_id, RESERVED_RUN_NAMES)
            path = join("groups", to_name(group_id), "runs", run, below)
            try:
                data = self._read_up_to(path, MOST_BYTES)
            except NotFound:
                return ""
            if data is None:
                return f"not shown: of more than {MOST_BYTES >> 10} KiB"
            left[0] -= len(data)
            return data

        outcomes = map_all(read, places[:_PICTURES], self._workers)
        found: dict[tuple[str, str], bytes | str] = {}
        for place, outcome in zip(places, outcomes, strict=False):
            if isinstance(outcome, FlowError):
                found[place] = f"not shown: {outcome.strerror}"
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                found[place] = outcome
        found.update(dict.fromkeys(places[_PICTURES:], "not shown: there are too many"))
        return found

    def _read_up_to(self, path: str, most: int) -> bytes | None:
        """Return all of a file; None if it is longer. One request, and no more bytes."""
        with self.open(path) as file:
            data: bytes = file.read(most + 1)
        return data if len(data) <= most else None

    def _repr_html_(self) -> str:
        from flowfs.display.pages import ServicePage

        catalog = self.catalog

        def look() -> None:
            workflows = catalog.workflows()[:_WORKFLOWS]
            call_all(
                lambda one: catalog.workflow_groups(one.id),
                workflows,
                min(self._workers, len(workflows)),
                troubles.__setitem__,
            )

        troubles: dict[int, Any] = {}
        trouble = within(_PATIENCE, look)
        failed = [one for one in troubles.values() if isinstance(one, Exception)]
        remarks = [told(trouble or (failed[0] if failed else None))]
        shown: list[tuple[str, list[tuple[str, str, int | None]]]] = []
        workflows = catalog.known_workflows()
        for workflow in workflows[:_WORKFLOWS]:
            groups = []
            for group in catalog.known_workflow_groups(workflow.id)[:_GROUPS]:
                runs = catalog.known_runs(group.id)
                count = None if runs is None else len(runs)
                groups.append((group.title or group.name, to_name(group.id), count))
            shown.append((workflow.title or workflow.name, groups))
        if len(workflows) > _WORKFLOWS:
            remarks.append(f"… and {len(workflows) - _WORKFLOWS} workflows more")
        page = ServicePage(
            endpoint=self.endpoint,
            user=self._shared.session.user,
            read_only=self.read_only,
            workflows=shown,
            remark=" ".join(filter(None, remarks)),
        )
        return page.html()


def _of_frame(frame: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows and columns of a pandas DataFrame; what is missing in it is None."""
    columns = [str(name) for name in getattr(frame, "columns", ())]
    if "id" not in columns or not hasattr(frame, "to_dict"):
        raise failure(
            InvalidArguments,
            "no runs: a group is needed, or a table of runs with a column 'id', "
            f"not {type(frame).__name__}",
        )
    whole = frame.astype(object)
    records = whole.where(frame.notna(), None).to_dict("records")
    return [{str(name): cell for name, cell in row.items()} for row in records], columns
