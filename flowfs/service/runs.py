"""Runs of a group: flowServ's seven calls."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from flowfs.errors import BadReply, FlowError, InvalidArguments, NotFound, UnclearStart, failure
from flowfs.service.body import Body
from flowfs.service.credentials import find_credentials
from flowfs.service.descriptor import Descriptor, ForeignDescriptor, ServiceDescriptor
from flowfs.service.faults import unclear
from flowfs.service.interruption import Stopped
from flowfs.service.json_shapes import objects_in, run_of
from flowfs.service.session import Session

__all__ = ["ACTIVE_STATES", "ENDED_STATES", "STATES", "RemoteRunService"]

ACTIVE_STATES = ("PENDING", "RUNNING")
ENDED_STATES = ("ERROR", "CANCELED", "SUCCESS")
STATES = (*ACTIVE_STATES, *ENDED_STATES)  # flowserv.model.workflow.state

# Labels of request bodies (flowserv.view.run).
_LABELS = {"CANCEL_REASON": "reason", "RUN_ARGUMENTS": "arguments"}

# flowserv.error.UnknownFileError
_UNKNOWN_FILE = re.compile(r"unknown file\b", re.I)

# Redirects of those who did not act, and refusals; 303 comes from who did.
_NOT_DONE = frozenset({301, 302, 307, 308, *range(400, 500)})

# How many of the newest runs are looked at for one that an unclear start may have made.
_SUSPECTS = 5
_SHOWN = 100  # characters of what it says of its time, whatever that is


class RemoteRunService:
    """Start, watch, read, cancel and delete workflow runs at a remote REST interface.

    A drop-in for ``flowserv.service.run.remote.RemoteRunService`` (flowserv-core 0.9.4): the
    same calls, parameters and returns. Errors are :class:`~flowfs.errors.FlowError`, hence
    OSError, instead of ``requests.HTTPError``.

    Parameters
    ----------
    descriptor : Descriptor
        Anything with ``urls(key, **kwargs)``: flowServ's own service descriptor or
        :class:`~flowfs.service.descriptor.ServiceDescriptor`.
    labels : mapping of str to str, optional
        Names in request bodies instead of the defaults: ``CANCEL_REASON`` ("reason") and
        ``RUN_ARGUMENTS`` ("arguments").
    session : Session, optional
        Connections and token. By default a new one to the descriptor's own address, with
        the token that was saved for it or that ``FLOWSERV_ACCESS_TOKEN`` holds.

    Notes
    -----
    Thread-safe. Every call costs one request unless it says otherwise.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        labels: Mapping[str, str] | None = None,
        *,
        session: Session | None = None,
    ) -> None:
        self.labels: dict[str, str] = {**_LABELS, **(labels or {})}
        known = isinstance(descriptor, ServiceDescriptor)
        self._descriptor = descriptor if known else ForeignDescriptor(descriptor)
        self.session: Session = session or _session_for(descriptor)

    def urls(self, key: str, **kwargs: Any) -> str:
        """Return the URL of a route, values encoded and unset query parameters left out."""
        return self._descriptor.urls(key, **kwargs)

    def cancel_run(self, run_id: str, reason: str | None = None) -> dict[str, Any]:
        """Cancel an active run.

        Parameters
        ----------
        run_id : str
            The run.
        reason : str, optional
            Kept by the service among the run's messages.

        Returns
        -------
        dict
            The handle of the canceled run.

        Raises
        ------
        InvalidRunState
            If the run has ended.
        NotFound, AccessDenied, FlowError
            As the service says.
        """
        what, path = f"cancel run {run_id!r}", f"runs/{run_id}"
        body = {} if reason is None else {self.labels["CANCEL_REASON"]: reason}
        reply = self.session.json(
            "PUT",
            self.urls("runs:cancel", runId=run_id),
            what=what,
            path=path,
            body=body,
            hint="only an active run can be canceled",
        )
        try:
            return run_of(reply, what, path, run_id)
        except BadReply as error:  # it said yes, but not to what
            raise unclear(error) from None

    def delete_run(self, run_id: str) -> None:
        """Delete an ended run and its files.

        Parameters
        ----------
        run_id : str
            The run.

        Raises
        ------
        InvalidRunState
            If the run is active.
        NotFound, AccessDenied, FlowError
            As the service says.
        """
        self.session.json(
            "DELETE",
            self.urls("runs:delete", runId=run_id),
            what=f"delete run {run_id!r}",
            path=f"runs/{run_id}",
            hint="an active run cannot be deleted: cancel it first",
        )

    def get_result_archive(self, run_id: str) -> Body:
        """Open the archive (tar, gzip) of all result files of a run in SUCCESS.

        The service builds it anew for each request, and no two are the same to the byte:
        never join ranges of two.

        Parameters
        ----------
        run_id : str
            The run.

        Returns
        -------
        Body
            A binary file that streams; close it.

        Raises
        ------
        NotFound
            If there is no such run, or it is not in SUCCESS.
        FlowError
            As the service says.
        """
        return self.session.stream(
            self.urls("runs:download:archive", runId=run_id),
            what=f"get the archive of run {run_id!r}",
            path=f"runs/{run_id}/archive",
        )

    def get_result_file(self, run_id: str, file_id: str, *, range: str | None = None) -> Body:
        """Open a result file.

        Parameters
        ----------
        run_id : str
            The run.
        file_id : str
            The file's id in the run's handle.
        range : str, optional
            Value of a Range header, ``"bytes=0-99"``. The service may ignore it: look at the
            body's `start`.

        Returns
        -------
        Body
            A binary file that streams and knows its length; close it.

        Raises
        ------
        NotFound
            If there is no such run or file.
        FlowError
            As the service says.
        """
        return self.session.stream(
            self.urls("runs:download:file", runId=run_id, fileId=file_id),
            what=f"get file {file_id!r} of run {run_id!r}",
            path=f"runs/{run_id}/files/{file_id}",
            headers={"Range": range} if range else None,
        )

    def get_run(self, run_id: str) -> dict[str, Any]:
        """Get the handle of a run.

        Parameters
        ----------
        run_id : str
            The run.

        Returns
        -------
        dict
            ``id``, ``state``, ``createdAt``, ``arguments``, and more as the state has it.

        Raises
        ------
        NotFound, AccessDenied, FlowError
            As the service says.
        """
        what, path = f"get run {run_id!r}", f"runs/{run_id}"
        reply = self.session.json("GET", self.urls("runs:get", runId=run_id), what=what, path=path)
        return run_of(reply, what, path, run_id)

    def list_runs(self, group_id: str, state: str | None = None) -> dict[str, Any]:
        """List the runs of a group.

        Parameters
        ----------
        group_id : str
            The group.
        state : str, optional
            Only runs in this state. Filtered here as well, since services ignore it.

        Returns
        -------
        dict
            ``{"runs": [{"id", "state", "createdAt"}, …]}`` in the service's order.

        Raises
        ------
        NotFound, AccessDenied, FlowError
            As the service says; never a part of the list.
        """
        what, path = f"list the runs of group {group_id!r}", f"groups/{group_id}/runs"
        url = self.urls("groups:runs", userGroupId=group_id, state=state)
        reply = self.session.json("GET", url, what=what, path=path)
        runs = objects_in(reply, "runs", what, path, "id", "state")
        if state is not None:
            runs = [run for run in runs if run["state"] == state]
        return {**reply, "runs": runs}

    def list_entries(
        self, group_id: str, objects: Callable[[list[tuple[str, Any]]], Any]
    ) -> list[Any]:
        """List the runs of a group, each as the caller wants it.

        Parameters
        ----------
        group_id : str
            The group.
        objects : callable
            Given the members of each object of the reply, makes a tuple of those that it
            takes for runs, and a dict of all others.

        Returns
        -------
        list of tuple or dict
            Runs in the service's order; a dict has ``id`` and ``state``, as text.

        Raises
        ------
        NotFound, AccessDenied, FlowError
            As the service says; never a part of the list.
        """
        what, path = f"list the runs of group {group_id!r}", f"groups/{group_id}/runs"
        url = self.urls("groups:runs", userGroupId=group_id, state=None)
        reply = self.session.json("GET", url, what=what, path=path, objects=objects)
        return objects_in(reply, "runs", what, path, "id", "state", made=tuple)

    def start_run(self, group_id: str, arguments: list[dict[str, Any]]) -> dict[str, Any]:
        """Start a run. Sent once, whatever happens.

        Parameters
        ----------
        group_id : str
            The group.
        arguments : list of dict
            ``{"name", "value"}`` for each parameter, as the service takes them.

        Returns
        -------
        dict
            The handle of the started run.

        Raises
        ------
        InvalidArguments
            If the service refuses the arguments; nothing has started.
        UnclearStart
            If the reply was lost, late or broken: a run may have started. Costs up to seven
            more requests, to find it.
        NotFound, AccessDenied, FlowError
            As the service says; nothing has started.
        """
        what, path = f"start a run in group {group_id!r}", f"groups/{group_id}/runs"
        url = self.urls("runs:start", userGroupId=group_id)
        body = {self.labels["RUN_ARGUMENTS"]: arguments}
        try:
            reply = self.session.json("POST", url, what=what, path=path, body=body)
            return run_of(reply, what, path)
        except NotFound as error:
            if not _UNKNOWN_FILE.match(error.service_message or ""):
                raise
            # The group is there; an argument names a file that is not.
            raise failure(
                InvalidArguments,
                str(error.strerror),
                path,
                status=error.status,
                words=error.service_message,
            ) from error
        except BadReply as error:  # it said yes, but not what it started
            if error.status in _NOT_DONE:
                raise
            raise self._unclear(group_id, arguments, error) from error
        except FlowError as error:
            if not error.unclear:
                raise
            raise self._unclear(group_id, arguments, error) from error
        except Stopped as stopped:
            if not stopped.unclear:
                raise
            cause = failure(FlowError, f"cannot {what}: interrupted", path, errno=errno.EINTR)
            raise self._unclear(group_id, arguments, cause) from stopped

    def _unclear(
        self, group_id: str, arguments: list[dict[str, Any]], cause: FlowError
    ) -> UnclearStart:
        """Say that a run may have started, and which one if the service lists it."""
        run_ids: tuple[str, ...] = ()
        ends = time.monotonic() + self.session.timeout  # whoever waits has waited already
        # Who did that wants no more requests.
        interrupted = cause.errno in (errno.ECANCELED, errno.EINTR)
        try:
            newest = sorted(
                () if interrupted else self.list_runs(group_id)["runs"],
                key=lambda run: str(run.get("createdAt", "")),
                reverse=True,
            )
            which = "the service lists no run with these arguments yet"
            for run in newest[:_SUSPECTS]:
                if time.monotonic() > ends:
                    which = "the service is too slow to tell which"
                    break
                if self._arguments_of(run["id"]) == arguments:
                    run_ids = (run["id"],)
                    which = (
                        "the newest run with these arguments is "
                        f"{run['id']}, created {str(run.get('createdAt'))[:_SHOWN]}"
                    )
                    break
        except FlowError:
            which = "the service does not list its runs now"
        if interrupted:
            which = "look at the group's runs before starting it again"
        error = failure(
            UnclearStart,
            f"a run may have started, and is not started again: {cause.strerror}; {which}",
            f"groups/{group_id}/runs",
            errno=cause.errno,
            status=cause.status,
            words=cause.service_message,
        )
        error.run_ids = run_ids
        error.unclear = True
        return error

    def _arguments_of(self, run_id: str) -> Any:
        try:
            return self.get_run(run_id).get("arguments")
        except NotFound:  # deleted since it was listed
            return None


def _session_for(descriptor: Descriptor) -> Session:
    if isinstance(descriptor, ServiceDescriptor):
        endpoint = descriptor.url
    else:
        endpoint = str(getattr(descriptor, "url", "") or descriptor.urls("service")).rstrip("/")
    # The caller names the address, and so whom the token of the environment is for: that is
    # how flowServ's own class reads it.
    return Session(endpoint, find_credentials(endpoint, trust_environment=True))
