"""Which programs that wait on a mount have been told to end: what the kernel shows of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import wait_until

from flowfs.fuse import callers
from flowfs.fuse.callers import are_visible, is_leaving

HERE = os.getpid()


def bits(*numbers: int) -> str:
    return f"{sum(1 << (number - 1) for number in numbers):016x}"


def shown(
    monkeypatch: pytest.MonkeyPatch,
    *,
    own: tuple[int, ...] = (),
    shared: tuple[int, ...] = (),
    blocked: tuple[int, ...] = (),
    ignored: tuple[int, ...] = (),
    caught: tuple[int, ...] = (),
    first: bool = True,
    state: str = "D",
) -> bool:
    """Tell what is made of a thread of which the kernel shows this."""
    status = {
        "State": state,
        "Tgid": str(HERE),
        "Pid": str(HERE if first else HERE + 1),
        "SigPnd": bits(*own),
        "ShdPnd": bits(*shared),
        "SigBlk": bits(*blocked),
        "SigIgn": bits(*ignored),
        "SigCgt": bits(*caught),
    }
    monkeypatch.setattr(callers, "_status", lambda thread: status)
    return is_leaving(HERE)


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
OTHERS = (signal.SIGUSR1, signal.SIGALRM, signal.SIGPIPE, signal.SIGRTMIN, signal.SIGSEGV)
HARMLESS = (signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT)
STOPPING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGSTOP)


@pytest.mark.parametrize("number", [*ENDING, *OTHERS, signal.SIGKILL])
def test_a_signal_that_ends_a_program_has_it_leave(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    assert shown(monkeypatch, shared=(number,))
    assert shown(monkeypatch, own=(number,), first=False)


@pytest.mark.parametrize("number", [*HARMLESS, *STOPPING])
def test_one_that_is_ignored_or_stops_it_does_not(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    assert not shown(monkeypatch, shared=(number,))
    assert not shown(monkeypatch, own=(number,))


@pytest.mark.parametrize("number", [*ENDING, *OTHERS])
def test_nor_does_one_that_it_does_not_want_to_hear_of(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    assert not shown(monkeypatch, shared=(number,), blocked=(number,))
    assert not shown(monkeypatch, shared=(number,), blocked=(number,), caught=(number,))
    assert not shown(monkeypatch, shared=(number,), ignored=(number,))


def test_of_those_that_it_handles_only_those_do_that_ask_for_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in ENDING:
        assert shown(monkeypatch, shared=(number,), caught=(number,))
    for number in (*HARMLESS, *STOPPING[:3], *OTHERS):
        assert not shown(monkeypatch, shared=(number,), caught=(number,))


def test_what_its_first_thread_will_handle_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number = signal.SIGINT
    assert not shown(monkeypatch, shared=(number,), caught=(number,), first=False)
    assert shown(monkeypatch, own=(number,), caught=(number,), first=False)


def test_who_waits_for_a_page_of_memory_is_not_told_what_it_could_not_hear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(callers, "_touches_memory", lambda thread: True)
    number = signal.SIGINT
    assert not shown(monkeypatch, shared=(number,), caught=(number,))
    assert shown(monkeypatch, shared=(number,))  # it dies, whatever it is told


def test_the_dead_have_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, state="Z")
    monkeypatch.undo()
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert is_leaving(process.pid)


def test_one_that_is_hidden_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(thread: int) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(callers, "_status", hidden)
    assert not is_leaving(HERE)


def test_what_the_kernel_really_shows_is_understood() -> None:
    assert are_visible()
    assert not is_leaving(HERE)
    assert not is_leaving(threading.get_native_id())
    # One that is stopped has its signals wait, as one has that hangs.
    script = "import signal; signal.signal(signal.SIGINT, print); print(flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.read(1)
            process.send_signal(signal.SIGSTOP)
            path = Path(f"/proc/{process.pid}/stat")
            wait_until(lambda: path.read_text().rpartition(")")[2].split()[0] == "T", 10, "a stop")
            assert not is_leaving(process.pid)
            process.send_signal(signal.SIGINT)
            assert is_leaving(process.pid)
        finally:
            process.kill()
