"""Running the runs: flowServ's serial engine, with one process group per run.

The engine of flowServ runs each run in a ``multiprocessing.Pool`` of one, forked from the
threaded server. That inherits locks in whatever state they are and the clients' open
connections, leaves the run's shell command alive when the pool is terminated, and has
moments in which a run ends before its start is on record, or is canceled while it ends.
Here the pool is replaced by a process of our own that has the same three methods; the rest
of the engine is flowServ's, of 0.7 and of 0.8 alike.

This module imports flowserv: import it in the serving process only, after its environment
is set.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any

import flowserv.error
import flowserv.model.workflow.state as run_state

try:
    import flowserv.controller.serial.engine.base as serial
except ModuleNotFoundError:  # flowserv-core 0.7
    import flowserv.controller.serial.engine as serial

_log = logging.getLogger(__name__)

# A fork server is a process without threads that has flowserv loaded: as quick as a fork,
# without a fork's inheritance.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])
_starting = threading.Lock()

# How long the end of a run waits for the record of its start.
_START_RECORDED = 30.0

RunOutcome = tuple[str, str, dict[str, Any]]


class RunEngine(serial.SerialWorkflowEngine):  # type: ignore[misc]
    """flowServ's serial engine with our processes.

    Named in ``FLOWSERV_BACKEND_MODULE`` and ``FLOWSERV_BACKEND_CLASS``.

    Parameters
    ----------
    service : flowserv.service.api.APIFactory
        The service, for recording how a run ended.
    """

    def __init__(self, service: Any) -> None:
        super().__init__(service)
        # Now, so that the first run is as quick as the others.
        forkserver.ensure_running()
        # The engine takes its pool from its module's name; this is the only way to put
        # another in its place that works in all versions.
        serial.Pool = partial(RunProcess, self)
        # Two ends recorded at once would start the post-processing twice and spoil the
        # leaderboard's bookkeeping.
        self.recording: threading.Lock = threading.Lock()
        self._running: dict[str, RunProcess] = {}
        self._canceled: set[str] = set()
        self._outcomes: dict[str, str] = {}

    def cancel_run(self, run_id: str) -> None:
        """End the run's processes.

        Parameters
        ----------
        run_id : str
            An active run.

        Raises
        ------
        flowserv.error.InvalidRunStateError
            The run has ended meanwhile; the caller believes it active still.
        """
        # Its process may be about to be started; either that sees this, or it is seen here.
        self._canceled.add(run_id)
        process = self._running.get(run_id)
        if process is not None:
            process.terminate()
        if run_id in self._outcomes:
            raise flowserv.error.InvalidRunStateError(self._outcomes[run_id])
        with self.lock:
            self.tasks.pop(run_id, None)

    def stop(self) -> None:
        """End the processes of all runs."""
        for process in list(self._running.values()):
            process.terminate()

    def may_begin(self, process: RunProcess, run_id: str) -> bool:
        """Remember a run's process; False if the run has been canceled already."""
        self._running[run_id] = process
        return run_id not in self._canceled

    def is_over(self, run_id: str, outcome: str) -> None:
        """Remember how a run ended: from here on it is too late to cancel it."""
        self._outcomes[run_id] = outcome

    def left(self, run_id: str) -> None:
        """Forget a run's process."""
        self._running.pop(run_id, None)
        self._canceled.discard(run_id)

    def await_record_of_start(self, run_id: str) -> None:
        """Return when the run is on record as started.

        The service records the start after the engine has returned. A run that ends before
        that would make the record fail and the client see an error.
        """
        deadline = time.monotonic() + _START_RECORDED
        while time.monotonic() < deadline:
            with self.service() as api:
                if not api.runs().run_manager.get_run(run_id).is_pending():
                    return
            time.sleep(0.01)

    def settle(self, run_id: str, rundir: str) -> None:
        """See to it that an ended run is on record as ended, if need be as an error.

        The engine only logs when it cannot take up results (a result file without a
        required value, for example), and the run would be active for ever.
        """
        with self.service() as api:
            runs = api.runs()
            run = runs.run_manager.get_run(run_id)
            if run.is_active():
                message = "the results could not be taken up; the service's log says why"
                runs.update_run(run_id=run_id, state=run.state().error([message]), rundir=rundir)


class RunProcess:
    """One run in a process group of its own; what the engine takes for its pool.

    Parameters
    ----------
    engine : RunEngine
        Told when the run begins and ends.
    processes : int, default=1
        As for ``multiprocessing.Pool``; always 1.
    """

    def __init__(self, engine: RunEngine, processes: int = 1) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._process: multiprocessing.process.BaseProcess | None = None
        self._terminated = False
        self._over = False

    def apply_async(
        self,
        func: Callable[..., RunOutcome],
        args: tuple[Any, ...],
        callback: Callable[[RunOutcome], None],
    ) -> None:
        """Start the run.

        Parameters
        ----------
        func : callable
            The engine's function that executes the steps.
        args : tuple
            Its arguments; the first three are run id, run directory and state.
        callback : callable
            Called with the outcome, unless the run has been terminated.
        """
        run_id = args[0]
        allowed = self._engine.may_begin(self, run_id)
        receiver, sender = _processes.Pipe(duplex=False)
        process = _processes.Process(target=_execute, args=(sender, func, args), daemon=True)
        with self._lock:
            if self._terminated or not allowed:
                self._engine.left(run_id)
                return
            with _starting:
                process.start()
            self._process = process
        sender.close()
        threading.Thread(
            target=self._await_end, args=(receiver, args, callback), daemon=True
        ).start()

    def close(self) -> None:
        """Do nothing: there is one task, and its process ends with it."""

    def terminate(self) -> None:
        """Kill the run and all processes it started; nothing if it has ended."""
        with self._lock:
            if self._over or self._terminated:
                return
            self._terminated = True
            if self._process is not None:
                self._kill_group()

    def _kill_group(self) -> None:
        assert self._process is not None
        pid = self._process.pid
        assert pid is not None
        # Until the process has made itself a group's leader it has no children either.
        for kill in (os.killpg, os.kill, os.killpg):
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)

    def _await_end(
        self,
        receiver: Connection,
        args: tuple[Any, ...],
        callback: Callable[[RunOutcome], None],
    ) -> None:
        run_id, rundir, state = args[:3]
        outcome: RunOutcome | None = None
        with contextlib.suppress(EOFError, OSError):
            outcome = receiver.recv()
        receiver.close()
        if outcome is None:
            # What the run started may have outlived its process.
            self._kill_group()
            failed = state.error(["the process of the run ended without a result"])
            outcome = (run_id, rundir, run_state.serialize_state(failed))
        with self._lock:
            self._over = True
            if not self._terminated:
                self._engine.is_over(run_id, run_state.deserialize_state(outcome[2]).type_id)
        try:
            if self._terminated:
                shutil.rmtree(rundir, ignore_errors=True)
                return
            self._engine.await_record_of_start(run_id)
            with self._engine.recording:
                callback(outcome)
                self._engine.settle(run_id, rundir)
        except Exception:
            _log.exception("run %s", run_id)
        finally:
            self._engine.left(run_id)


def _execute(sender: Connection, func: Callable[..., RunOutcome], args: tuple[Any, ...]) -> None:
    """Execute a run; the whole of the run's process."""
    os.setsid()
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    sender.send(func(*args))


def _end_with_the_server() -> None:
    server = multiprocessing.parent_process()
    assert server is not None
    wait([server.sentinel])
    os.killpg(0, signal.SIGKILL)
