"""A group's runs as a table: their arguments, and the figures that came out."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flowfs import tree
from flowfs.errors import BadReply, FlowError, InvalidArguments, NotFound, TooLarge, failure
from flowfs.filesystem.bound import one_operation
from flowfs.filesystem.changing import Changing
from flowfs.filesystem.frame import frame_of, pandas_or_say_so
from flowfs.filesystem.rendering import RUN_COLUMNS, run_row
from flowfs.filesystem.scalars import named_apart, scalars
from flowfs.names import to_name
from flowfs.pool import Failures, map_all
from flowfs.service.runs import STATES
from flowfs.tree import join

__all__ = ["Studies"]

_LARGEST = 1 << 24  # bytes of a result file that is read for its figures
# What is wrong with the result of one run, and says nothing of the others.
_OF_ONE = (InvalidArguments, TooLarge, BadReply)
_SHOWN = 3  # files that a warning names
_ON_ERROR = ("warn", "raise", "omit")


class Studies(Changing):
    """Runs side by side."""

    def runs(
        self,
        group: str,
        state: str | Collection[str] | None = None,
        results: str | Sequence[str] | Mapping[str, str] | None = None,
        *,
        on_error: str = "warn",
    ) -> Any:
        """Return the runs of a group as a pandas DataFrame, a row for each.

        One request for the group, one for each run whose handle is not known, and one for each
        result file that is not; several at once.

        Parameters
        ----------
        group : str
            The group's id; its path or URL; or its name, where only one is called so.
        state : str or collection of str, optional
            Only runs in this state, or one of these.
        results : str, sequence of str, or mapping of str to str, optional
            Path of a result within a run, as ``"outputs/results/summary.json"``: a JSON
            object, or a CSV of one row. Its scalars are columns, for runs in SUCCESS; objects
            within it have dots in their names, lists are left out. Of several paths, columns
            have the file's name and a dot before theirs, without what is behind the last dot;
            or, of a mapping, its keys.
        on_error : "warn", "raise" or "omit"
            What to do about the result file of a run that cannot be read as columns: it is
            something else, has more than 16 MiB, or the service cannot give it. With "warn" and
            "omit" the cells of that run are missing; "warn" says so in a UserWarning, one for
            each of `results`. Whatever concerns more than the one file is raised in any case.

        Returns
        -------
        pandas.DataFrame
            ``id``, ``state``, ``created``, ``started`` and ``finished`` (times of UTC),
            ``duration`` (seconds), a column for each argument by its name, uploads by theirs,
            and the results. An argument that is called as one of the first has ``argument.``
            before its name, a result that is called as a column before it ``result.``. Where a
            run has nothing, the cell is missing.

        Raises
        ------
        NotFound
            If there is no such group, or no run in SUCCESS has the result.
        InvalidArguments
            If there is no such state; if a result file is no columns, with ``"raise"``.
        TooLarge
            If a result file is larger than that, with ``"raise"``.
        ImportError
            If pandas is not installed.
        FlowError
            As the service says; never a part of the table.
        """
        pandas_or_say_so()
        rows, columns = self.run_rows(group, state, results, on_error=on_error)
        return frame_of(rows, columns)

    @one_operation
    def run_rows(
        self,
        group: str,
        state: str | Collection[str] | None = None,
        results: str | Sequence[str] | Mapping[str, str] | None = None,
        *,
        on_error: str = "warn",
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Return what :meth:`runs` shows, without pandas.

        Parameters, errors and cost are those of :meth:`runs`.

        Returns
        -------
        rows : list of dict
            Cells by column; what a run does not have is not in its row. Times are texts, as
            the service writes them.
        columns : list of str
            All columns, in order.
        """
        if on_error not in _ON_ERROR:
            raise failure(
                InvalidArguments,
                f"on_error must be one of {', '.join(map(repr, _ON_ERROR))}, not {on_error!r}",
            )
        states = _states(state)
        wanted = self._results(results)
        group_id = self.group_id(group)
        path = join("groups", to_name(group_id))
        with self._naming(path):
            self.catalog.group(group_id)  # uploads and the listing come along
            uploads = self.entries.upload_names(group_id)
            handles = self.entries.run_handles(group_id, states)
        rows = [run_row(handle, uploads) for handle in handles]
        columns = list(dict.fromkeys([*RUN_COLUMNS, *(name for row in rows for name in row)]))
        for prefix, below in wanted:
            found = self._scalars(path, handles, below, prefix, on_error)
            called = named_apart(found, columns)
            columns += called.values()
            for row, one in zip(rows, found, strict=True):
                row.update({called[name]: value for name, value in (one or {}).items()})
        return rows, columns

    def _results(
        self, given: str | Sequence[str] | Mapping[str, str] | None
    ) -> list[tuple[str, str]]:
        """Return prefixes of columns, and paths within a run."""
        if given is None:
            return []
        if isinstance(given, str):
            wanted = [("", given)]
        elif isinstance(given, Mapping):
            wanted = [(f"{prefix}." if prefix else "", path) for prefix, path in given.items()]
        else:
            wanted = [(f"{_stem(path)}.", path) for path in given]
        for _, path in wanted:
            try:
                kind = tree.parse(join("groups", "G", "runs", "R", path.strip("/"))).kind
            except (NotFound, FlowError):
                kind = None
            if kind not in (tree.OUTPUT, tree.RESULT):
                raise failure(
                    InvalidArguments,
                    "no result: a path within a run is needed, as outputs/results/summary.json",
                    path,
                )
        return [(prefix, path.strip("/")) for prefix, path in wanted]

    def _scalars(
        self,
        group: str,
        handles: list[dict[str, Any]],
        below: str,
        prefix: str,
        on_error: str,
    ) -> list[dict[str, Any] | None]:
        """Return the scalars of one result of each run; None for a run that has none."""

        def of(number: int) -> dict[str, Any] | None:
            run = to_name(str(handles[number]["id"]), tree.RESERVED_RUN_NAMES)
            path = join(group, "runs", run, below)
            try:
                data = self._bounded(path)
            except NotFound as error:
                missing.append(error)
                return None
            found = scalars(data, self.unstrip_protocol(path))
            return {f"{prefix}{name}": value for name, value in found.items()}

        missing: list[NotFound] = []
        done = [n for n, handle in enumerate(handles) if handle.get("state") == "SUCCESS"]
        outcomes = map_all(of, done, self._workers)
        if on_error != "raise":
            passed = [outcome for outcome in outcomes if isinstance(outcome, _OF_ONE)]
            outcomes = [None if isinstance(o, _OF_ONE) else o for o in outcomes]
        else:
            passed = []
        Failures.check_all(outcomes)
        if passed and len(passed) == sum(isinstance(p, BadReply) for p in passed) == len(done):
            raise passed[0]  # it is not this run's result, but the service
        if passed and on_error == "warn":
            _warn_of(passed, len(done))
        if done and len(missing) == len(done):
            raise missing[0]  # nobody has it: another name is meant
        found: list[dict[str, Any] | None] = [None] * len(handles)
        for number, outcome in zip(done, outcomes, strict=True):
            found[number] = None if isinstance(outcome, Exception) else outcome
        return found

    def _bounded(self, path: str) -> bytes:
        """Return all of a result file that is not too large; one request unless it is known."""
        with self.open(path, "rb") as file:
            data: bytes = file.read(_LARGEST + 1)
            if len(data) <= _LARGEST:
                return data
            size = file.size
        raise failure(
            TooLarge,
            f"has {size:,} bytes; figures for a table of runs are read from files of up to "
            f"{_LARGEST:,}: read it by itself, with fs.open",
            self.unstrip_protocol(path),
        )


def _states(given: str | Collection[str] | None) -> set[str] | None:
    if given is None:
        return None
    states = {given} if isinstance(given, str) else set(given)
    unknown = states - set(STATES)
    if unknown:
        raise failure(
            InvalidArguments,
            f"no state of a run: {', '.join(map(repr, sorted(unknown)))}; there are "
            f"{', '.join(STATES)}",
        )
    return states


def _warn_of(passed: Sequence[OSError], count: int) -> None:
    """Say which results were passed over."""
    told = [f"{error.filename}: {error.strerror}" for error in passed[:_SHOWN]]
    if len(passed) > _SHOWN:
        told.append(f"and {len(passed) - _SHOWN} more")
    warnings.warn(
        f"results of {len(passed)} of {count} runs are missing in the table "
        f"(on_error='raise' makes an error of it, 'omit' is silent): {'; '.join(told)}",
        UserWarning,
        stacklevel=6,  # who has called `runs`
    )


def _stem(path: str) -> str:
    name = path.rpartition("/")[2]
    return name.rpartition(".")[0] or name
