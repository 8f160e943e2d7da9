"""Starting runs: arguments checked against what a group takes, and what was refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flowfs import arguments as documents
from flowfs.arguments import Argument
from flowfs.catalog.runs import RunCatalog
from flowfs.catalog.uploads import UploadCatalog
from flowfs.errors import FlowError, InvalidArguments, UnclearStart, describe, failure

__all__ = ["Starts"]

_SHOWN = 10  # faults that a message tells of, and spans of documents for each


class Starts:
    """Starts runs of groups, and remembers what was said of those that were refused.

    Parameters
    ----------
    group : callable
        Gives a group's handle; called with its id and, to have it asked for anew, `refresh`.
    outdated : callable
        Called with a group's id when its handle does not hold any more.
    runs, uploads
        What is known of them.
    """

    def __init__(
        self,
        group: Callable[..., Mapping[str, Any]],
        outdated: Callable[[str], None],
        runs: RunCatalog,
        uploads: UploadCatalog,
    ) -> None:
        self._group = group
        self._outdated = outdated
        self._runs = runs
        self._uploads = uploads
        self._lock = threading.Lock()
        self._refusals: dict[str, bytes] = {}

    def checked(
        self,
        group_id: str,
        given: Sequence[Any],
        about: str,
        named: Callable[[int], str] = str,
    ) -> list[list[Argument]]:
        """Check the arguments of many runs; see :meth:`~flowfs.catalog.Catalog.checked`."""
        outcomes = self._outcomes(group_id, given, about)
        faults = [(n, one) for n, one in enumerate(outcomes) if isinstance(one, FlowError)]
        if not faults:
            return [one for one in outcomes if not isinstance(one, FlowError)]
        told = _told(faults, named)
        left = sum(count for count, _ in told[_SHOWN:])
        more = f"; and {left} more" if left else ""
        error = failure(
            InvalidArguments,
            f"{len(faults)} of {len(given)} runs cannot be started, and none has been: "
            f"{'; '.join(words for _, words in told[:_SHOWN])}{more}",
            about,
        )
        error.others = tuple(
            failure(InvalidArguments, words, about) for _, words in told[_SHOWN : _SHOWN + 99]
        )
        self.refused(group_id, error)
        raise error

    def start(self, group_id: str, arguments: Any, about: str) -> dict[str, Any]:
        """Check arguments and start a run; see :meth:`~flowfs.catalog.Catalog.start_run`."""

        def checked() -> list[Argument]:
            (one,) = self._outcomes(group_id, [arguments], about)
            if isinstance(one, FlowError):
                raise one
            return one

        return self._sent(group_id, checked, about)

    def send(self, group_id: str, arguments: list[Argument], about: str) -> dict[str, Any]:
        """Start a run with arguments that have been checked. One request."""
        return self._sent(group_id, lambda: arguments, about)

    def _sent(
        self, group_id: str, arguments: Callable[[], list[Argument]], about: str
    ) -> dict[str, Any]:
        try:
            handle = self._runs.start(group_id, arguments())
        except FlowError as error:
            error.filename = about
            # What was looked up before it may be unclear; the start was never sent then.
            error.unclear = isinstance(error, UnclearStart)
            self.refused(group_id, error)
            raise
        finally:
            self._outdated(group_id)
        with self._lock:
            self._refusals.pop(group_id, None)
        return handle

    def _outcomes(
        self, group_id: str, given: Sequence[Any], about: str
    ) -> list[list[Argument] | FlowError]:
        """Return the arguments of each as they are sent, or what is wrong with them.

        What is missing may have come since the group was asked for: it is asked for once more
        before anything is refused.
        """
        outcomes: list[list[Argument] | FlowError] = []
        due = list(range(len(given)))
        for refresh in (False, True):
            declared = self._group(group_id, refresh=refresh).get("parameters")
            declarations = declared if isinstance(declared, list) else None
            files = self._uploads.for_arguments(group_id)
            outcomes = outcomes or [InvalidArguments()] * len(given)
            again = []
            for number in due:
                try:
                    plain = _read(given[number], declarations, about)
                except InvalidArguments as error:
                    outcomes[number] = error
                    continue
                try:
                    outcomes[number] = documents.check(plain, declarations, files, about)
                except InvalidArguments as error:
                    outcomes[number] = error
                    again.append(number)
            due = again
            if not due:
                break
        return outcomes

    # -- refusals ----------------------------------------------------------

    def refused(self, group_id: str, error: FlowError) -> None:
        """Keep what was said when a run was refused, until the next success."""
        with self._lock:
            self._refusals[group_id] = (describe(error) + "\n").encode("utf-8", "replace")

    def refusal(self, group_id: str) -> bytes | None:
        """Return what was said when the last run was refused; None if it was not."""
        return self._refusals.get(group_id)


def _read(given: Any, declarations: documents.Declarations | None, about: str) -> list[Argument]:
    if isinstance(given, (bytes, str)):
        return documents.parse(given, about, declarations)
    return documents.normalize(given, about, declarations)


def _told(
    faults: Sequence[tuple[int, FlowError]], named: Callable[[int], str]
) -> list[tuple[int, str]]:
    """Return what is wrong, each thing once for all that have it, and how many these are.

    A mistake in the header of a table is one of each of its rows.
    """
    spans: dict[str, list[list[int]]] = {}
    for number, error in faults:
        of_one = spans.setdefault(_without_preface(error), [])
        if of_one and of_one[-1][1] == number - 1:
            of_one[-1][1] = number
        else:
            of_one.append([number, number])
    told = []
    for words, of_one in spans.items():
        for first in range(0, len(of_one), _SHOWN):
            some = of_one[first : first + _SHOWN]
            names = [named(a) if a == b else f"{named(a)} to {named(b)}" for a, b in some]
            told.append((sum(b - a + 1 for a, b in some), f"{', '.join(names)}: {words}"))
    return told


def _without_preface(error: FlowError) -> str:
    return str(error.strerror).removeprefix("cannot start a run: ")
