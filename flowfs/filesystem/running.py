"""Many runs: started, and waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK, Callback

from flowfs import tree
from flowfs.arguments import Argument
from flowfs.catalog import RunRecord
from flowfs.errors import InvalidArguments, NotFound, RunsGone, failure
from flowfs.filesystem.starting import Begun, start_each
from flowfs.filesystem.studies import Studies
from flowfs.filesystem.waiting import Patience, Watched, await_runs
from flowfs.names import to_name
from flowfs.pool import Failures, map_all
from flowfs.tree import join

__all__ = ["Running"]

_SHOWN = 8  # runs that a message names


class Running(Studies):
    """Many runs at once."""

    # -- started -----------------------------------------------------------

    def start_runs(
        self,
        group: str,
        arguments: Iterable[Any],
        *,
        workers: int | None = None,
        callback: Any = DEFAULT_CALLBACK,
    ) -> list[dict[str, Any]]:
        """Start many runs of a group.

        All arguments are checked before the first is sent: one request, and one more before any
        is refused. Then one request for each run, several at once, each sent once.

        Parameters
        ----------
        group : str
            As :meth:`runs` takes it.
        arguments : iterable of mapping, list, bytes or str
            For each run its arguments, as :meth:`start_run` takes them, or a JSON document.
        workers : int, optional
            How many starts at once; `max_connections` by default.
        callback : Callback
            As in fsspec: told how many there are, and of each that is over. Called from
            threads; what it raises ends all.

        Returns
        -------
        list of dict
            The runs' handles, in the order of `arguments`.

        Raises
        ------
        InvalidArguments
            With all that is wrong, by the number in `arguments`; nothing has started.
        StartsFailed
            If some have not started, or may have: it has the handles of those that have, and
            what is known of the others. What is refused for its arguments stops no other; after
            any other failure nothing more is sent.
        KeyboardInterrupt
            Has an attribute ``starts``, with the same as StartsFailed has.
        """
        if isinstance(arguments, (Mapping, str, bytes)):
            raise failure(
                InvalidArguments,
                "a list is needed, of the arguments of each run; start_run is for one",
            )
        _no_table(arguments, "of the arguments of each run; table.to_dict('records')")
        given = list(arguments)
        group_id = self.group_id(group)
        checked = self.check_runs(group_id, given)
        progress = Callback.as_callback(callback)
        progress.set_size(len(given))
        begun = self.start_checked_runs(
            group_id,
            list(enumerate(checked)),
            workers=workers,
            after=lambda number, outcome: progress.relative_update(1),
        )
        if begun.broken is not None:
            begun.broken.starts = begun  # type: ignore[attr-defined]
            raise begun.broken
        if not begun.whole:
            about = self.unstrip_protocol(join("groups", to_name(group_id), "runs", "new"))
            raise begun.error(about, lambda number: f"number {number}")
        return [begun.started[number] for number in range(len(given))]

    def check_runs(
        self,
        group_id: str,
        given: Sequence[Any],
        named: Callable[[int], str] = lambda number: f"number {number}",
    ) -> list[list[Argument]]:
        """Check the arguments of many runs as :meth:`start_runs` does, and start none.

        For flowfs's own commands; no part of what a version promises.

        Parameters
        ----------
        group_id : str
            The group's id.
        given : sequence
            As `arguments` of :meth:`start_runs`.
        named : callable
            What an error calls a run, by its number.

        Returns
        -------
        list
            The arguments of each run in the service's own form.

        Raises
        ------
        InvalidArguments
            With all that is wrong.
        """
        path = join("groups", to_name(group_id), "runs", "new")
        self._changing(path)
        with self._naming(path):
            about = self.unstrip_protocol(path)
            return self.catalog.checked(group_id, given, about=about, named=named)

    def start_checked_runs(
        self,
        group_id: str,
        checked: Iterable[tuple[int, list[Argument]]],
        *,
        workers: int | None = None,
        before: Callable[[int], object] = lambda number: None,
        after: Callable[[int, Any], object] = lambda number, outcome: None,
    ) -> Begun:
        """Start runs whose arguments :meth:`check_runs` has returned; one request each.

        For flowfs's own commands; no part of what a version promises.

        Parameters and what is returned are those of
        :func:`~flowfs.filesystem.starting.start_each`.
        """
        path = join("groups", to_name(group_id), "runs", "new")
        self._changing(path)
        about = self.unstrip_protocol(path)
        return start_each(
            lambda arguments: self.catalog.start_checked(group_id, arguments, about=about),
            checked,
            self._workers if workers is None else workers,
            before=before,
            after=after,
        )

    # -- waited for --------------------------------------------------------

    def wait(
        self,
        runs: Any,
        timeout: float | None = None,
        *,
        poll: tuple[float, float] = (0.5, 15.0),
        faults: float = 300.0,
        callback: Any = DEFAULT_CALLBACK,
    ) -> list[dict[str, Any]]:
        """Wait until runs have ended, however they do.

        Each look is one request for all runs of a group, or for the only one. Then one for the
        handle of each run, unless it is known.

        Parameters
        ----------
        runs : iterable of str or dict, str, or dict
            Ids, paths, URLs or handles of runs; one of them; or a group, as :meth:`runs` takes
            it, for all of its runs that are active now.
        timeout : float, optional
            Seconds; by default as long as it takes. With 0 they are looked at once.
        poll : (float, float)
            The shortest and the longest pause between two looks, in seconds. Within these a
            pause is a tenth of the time that was waited, a little more or less.
        faults : float
            Seconds for which the service may fail, look after look, before that is raised.
        callback : Callback
            As in fsspec: told how many runs there are, and of each that has ended.

        Returns
        -------
        list of dict
            The runs' handles, in the order of `runs`. Whether one is in SUCCESS, its ``state``
            tells.

        Raises
        ------
        StillActive
            A TimeoutError, if the time is up; ``run_ids`` are those that have not ended.
        RunsGone
            If a run is not there any more, once all others have ended: ``handles`` has those.
        NotFound, FlowError
            As the service says.
        """
        _no_table(runs, "of runs; table['id']")
        named = [runs] if isinstance(runs, (str, Mapping)) else list(runs)
        if isinstance(runs, str) and "/" not in runs:
            watched = self._run_or_group(runs)
        else:
            watched = [one for run in named for one in self.named_runs(run)]
        progress = Callback.as_callback(callback)
        progress.set_size(len(set(watched)))

        def changed(run_id: str, record: RunRecord | None) -> None:
            if record is None or not record.active:
                progress.relative_update(1)

        told = self.await_runs(watched, Patience(timeout, *poll, faults), changed)
        return self._handles(watched, told)

    def await_runs(
        self,
        watched: Iterable[Watched],
        patience: Patience,
        changed: Callable[[str, RunRecord | None], object] = lambda run_id, record: None,
        *,
        enough: int = 0,
    ) -> dict[str, RunRecord | None]:
        """Wait for runs, by the ids of group and run; see :mod:`flowfs.filesystem.waiting`.

        For flowfs's own commands; no part of what a version promises.
        """
        with self._naming("groups"):
            return await_runs(self.catalog, watched, patience, changed, enough=enough)

    def _handles(
        self, watched: list[Watched], told: Mapping[str, RunRecord | None]
    ) -> list[dict[str, Any]]:
        def handle_of(one: Watched) -> dict[str, Any] | None:
            if (record := told[one[1]]) is None:
                return None
            try:
                handle = self.catalog.run(*one)
                if RunRecord.of(handle).active and not record.active:
                    # Somebody else had asked for it before it ended.
                    handle = self.catalog.run(*one, refresh=True)
                return handle
            except NotFound:
                return None

        different = list(dict.fromkeys(watched))
        outcomes = map_all(handle_of, different, self._workers)
        Failures.check_all(outcomes)
        by_id = {
            run_id: outcome
            for (_, run_id), outcome in zip(different, outcomes, strict=True)
            if not isinstance(outcome, Exception)
        }
        handles = [by_id[run_id] for _, run_id in watched]
        gone = [run_id for run_id, handle in by_id.items() if handle is None]
        if gone:
            shown = ", ".join(gone[:_SHOWN])
            more = f" and {len(gone) - _SHOWN} more" if len(gone) > _SHOWN else ""
            error = failure(
                RunsGone,
                f"{len(gone)} of {len(by_id)} runs that were waited for are not there any more: "
                f"{shown}{more}",
                self.unstrip_protocol("groups"),
            )
            error.run_ids, error.handles = tuple(gone), tuple(handles)
            raise error
        return [handle for handle in handles if handle is not None]

    def named_runs(self, run: Any) -> list[Watched]:
        """Return the runs that somebody names: one, or all of a group that are active.

        For flowfs's own commands; no part of what a version promises.

        Parameters
        ----------
        run : str or dict
            A run's id, path, URL or handle; or the path of a group. One request for an id that
            no listing here has, and one for the others of its group.

        Returns
        -------
        list of (str, str)
            Ids of group and run.
        """
        if isinstance(run, Mapping):
            group_id = run.get("groupId")
            if isinstance(run.get("id"), str) and isinstance(group_id, str):
                return [(group_id, run["id"])]
            raise failure(InvalidArguments, "no handle of a run: it has no id and groupId")
        if not isinstance(run, str):
            raise failure(InvalidArguments, f"no run: an id, path or handle is needed, not {run!r}")
        if "/" not in run:
            group_id = self.catalog.group_of_run(run)
            if group_id is None:
                handle = self.catalog.find_run(run)
                group_id = str(handle["groupId"])
                # Others of the group are found in its listing, where they are several.
                self._listed_once(group_id)
            return [(group_id, run)]
        path = self._strip_protocol(run)
        with self._naming(path), self.entries.operation():
            node = self.entries.follow(self._resolve(path))
            if "run" in node.names:
                return [(self.entries.group_id(node), self.entries.run_id(node))]
            if node.kind is not tree.GROUP:
                raise failure(InvalidArguments, "no run, nor a group of runs", path)
            group_id = self.entries.group_id(node)
            return [(group_id, one) for one in self.catalog.runs(group_id, refresh=True).active]

    def _run_or_group(self, name: str) -> list[Watched]:
        try:
            return self.named_runs(name)
        except NotFound:
            with contextlib.suppress(NotFound):
                return self.named_runs(join("groups", to_name(self.group_id(name))))
            raise failure(NotFound, "no run, nor a group, has this id or name", name) from None

    def _listed_once(self, group_id: str) -> None:
        with contextlib.suppress(NotFound):  # one that can only be asked for runs one by one
            self.catalog.runs(group_id)


def _no_table(given: Any, wanted: str) -> None:
    """Raise InvalidArguments of a DataFrame: who goes through one gets the names of columns."""
    if hasattr(given, "to_dict") and hasattr(given, "columns"):
        raise failure(InvalidArguments, f"a table is no list {wanted} is one")
