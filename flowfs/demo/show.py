"""The demonstration from its beginning to its end."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from types import FrameType
from unittest.mock import patch

from flowfs.demo.mounted import show_mounted
from flowfs.demo.prompt import Prompt
from flowfs.demo.screen import Screen
from flowfs.demo.stage import Stage, why_no_mount
from flowfs.demo.unmounted import show_unmounted

__all__ = ["run"]


def run(*, keep: bool = False, mount: bool = True) -> None:
    """Show what flowfs does, on a service of its own, and leave nothing behind.

    Parameters
    ----------
    keep : bool
        Leave service and mount running, and say how to use and end them.
    mount : bool
        Mount the service where FUSE allows it; without, the same is shown through fsspec.

    Raises
    ------
    FlowError
        A step did not do what it should; all is cleared away.
    """
    screen = Screen()
    missing = why_no_mount() if mount else None
    with _ended_by_signals(), contextlib.ExitStack() as stack:
        with screen.busy("starting a flowServ service"):
            stage = stack.enter_context(Stage(keep=keep))
        screen.note(
            f"A real flowServ service runs on this machine, at {stage.service.endpoint}\n"
            f"(pid {stage.service.pid}; it answers programs of this machine alone, "
            "and ends with the demo)."
            if not keep
            else f"A real flowServ service runs on this machine, at {stage.service.endpoint}."
        )
        if missing:
            screen.note(f"Nothing can be mounted here: {missing}. The same through fsspec:")
        # What is shown is executed here, so that it needs no options.
        stack.enter_context(patch.dict(os.environ, stage.environment))
        for name in [n for n in os.environ if n.startswith("FLOWSERV_")]:
            if name not in stage.settings:
                del os.environ[name]
        prompt = Prompt(screen)
        has_pandas = find_spec("pandas") is not None
        if mount and not missing:
            show_mounted(screen, stage, prompt, has_pandas=has_pandas, keep=keep)
        else:
            show_unmounted(screen, stage, prompt, has_pandas=has_pandas)
        if keep:
            screen.note("")
            for line in stage.keep():
                screen.output(line or " ")
        else:
            with screen.busy("clearing away"):
                stack.close()
            screen.note("\nThe service is stopped; nothing is left of it.")


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have the signals that end a program unwind it, as Ctrl-C does."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
