"""Programs on a mount are freed by signals while the service hangs; nobody else is disturbed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hanging import DATA, OPERATIONS, Hang, hang, program
from mounting import BINDINGS, Address, mounted
from standin import StandIn
from support import PATIENCE, wait_until

pytestmark = pytest.mark.mount

_FAR = 600  # seconds until a request is late: nobody here waits for that


class Stage(NamedTuple):
    server: StandIn
    mount: Path
    place: Path

    def hang(self, operation: str) -> Hang:
        return hang(operation, self.server, self.mount, self.place)


@pytest.fixture(scope="module")
def stage_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Stage]]:
    """A mount by each of the bindings, by number; several tests share it."""
    stages: dict[int, Stage] = {}
    with contextlib.ExitStack() as stack:

        def stage(number: int) -> Stage:
            fuse, library = BINDINGS[number % len(BINDINGS)]
            pytest.importorskip("fuse" if fuse == "fusepy" else "mfusepy")
            made = stages.get(number % len(BINDINGS))
            if made is None:
                server = stack.enter_context(StandIn())
                address = Address(server.endpoint, server.routes.token)
                options = {"fuse": fuse, "timeout": _FAR, "ttl": 0}
                mount = stack.enter_context(mounted(address, library=library, **options))
                place = tmp_path_factory.mktemp("copied")
                made = stages[number % len(BINDINGS)] = Stage(server, mount, place)
            return made

        yield stage


@pytest.fixture(params=range(len(BINDINGS)), ids=["-".join(one) for one in BINDINGS])
def stage(request: pytest.FixtureRequest, stage_of: Callable[[int], Stage]) -> Stage:
    return stage_of(request.param)


def killed(process: subprocess.Popen[bytes], number: int) -> str:
    """Send a signal to a program, of which it must end; return what it said."""
    process.send_signal(number)
    said = process.communicate(timeout=PATIENCE)[1].decode()
    assert process.returncode == -number, said
    return said


def prints(process: subprocess.Popen[bytes]) -> bytes:
    """Wait for a program, which must succeed; return what it prints."""
    printed, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    return printed


def elsewhere(stage: Stage) -> None:
    """Look at something that does not hang, in a directory where nobody waits for the other."""
    shown = stage.mount / "workflows" / stage.server.routes.workflow / "workflow.json"
    assert b'"name": "hello"' in prints(program("cat", shown))


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGQUIT, signal.SIGHUP)


@pytest.mark.parametrize(
    ("number", "operation", "sent"),
    [
        pytest.param(at, one, SIGNALS[at % len(SIGNALS)], id=f"{one}-{SIGNALS[at % 5].name}")
        for at, one in enumerate([*OPERATIONS, *OPERATIONS])
    ],
)
def test_a_signal_ends_who_waits_and_nobody_else(
    stage_of: Callable[[int], Stage], number: int, operation: str, sent: signal.Signals
) -> None:
    stage = stage_of(number)
    hung = stage.hang(operation)
    first = hung.begin()
    looks = operation in ("list", "info", "read", "archive")
    second = program(*hung.command) if looks else None
    killed(first, sent)
    elsewhere(stage)  # it is still hanging
    hung.go_on.set()
    if second is not None:
        printed = prints(second)
        assert hung.right is None or printed == hung.right
    else:
        assert hung.count == 1  # what changes something is sent once


def test_a_python_program_gets_its_keyboard_interrupt(stage: Stage) -> None:
    hung = stage.hang("info")
    shown = hung.command[-1]
    script = (
        "import sys\n"
        "try:\n"
        "    open(sys.argv[1]).read()\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    hung.command = [sys.executable, "-c", script, shown]
    waiting = hung.begin()
    waiting.send_signal(signal.SIGINT)
    assert prints(waiting) == b"interrupted\n"
    hung.go_on.set()


def test_who_reads_on_is_freed_and_the_others_have_every_byte(stage: Stage) -> None:
    hung = stage.hang("read")
    readers = [hung.begin(), *(program(*hung.command) for _ in range(4))]
    # Whoever of them it is that fetches.
    killed(readers[0], signal.SIGINT)
    killed(readers[3], signal.SIGKILL)
    hung.go_on.set()
    assert [prints(reader) for reader in (readers[1], readers[2], readers[4])] == [DATA] * 3


def test_signals_that_end_nobody_interrupt_nobody(stage: Stage) -> None:
    hung = stage.hang("info")
    shown = hung.command[-1]
    script = (
        "import os, signal, sys\n"
        "for number in (signal.SIGWINCH, signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD):\n"
        "    signal.signal(number, lambda *_: None)\n"
        "signal.siginterrupt(signal.SIGWINCH, True)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        # No descriptor of Python's, which would try again by itself.
        "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "got = libc.open(os.fsencode(sys.argv[1]), os.O_RDONLY)\n"
        "print('open' if got >= 0 else os.strerror(ctypes.get_errno()))\n"
    )
    hung.command = [sys.executable, "-c", script, shown]
    patient = hung.begin()
    for number in (
        signal.SIGWINCH,
        signal.SIGUSR1,
        signal.SIGALRM,
        signal.SIGCHLD,
        signal.SIGHUP,
        signal.SIGTERM,
        signal.SIGTSTP,
    ):
        patient.send_signal(number)
    # Who was told to end has been looked at, and so have all others who wait.
    for _ in range(2):
        killed(stage.hang("info").begin(), signal.SIGINT)
    patient.send_signal(signal.SIGCONT)
    assert patient.poll() is None
    hung.go_on.set()
    assert prints(patient) == b"open\n"


def test_an_interrupted_start_is_unclear_and_is_not_sent_again(stage: Stage) -> None:
    hung = stage.hang("start")
    killed(hung.begin(), signal.SIGINT)
    error = stage.mount / "groups" / hung.names["group"] / "runs" / "new.error"
    said = prints(program("cat", error)).decode()
    assert "a run may have started, and is not started again" in said
    hung.go_on.set()
    assert hung.count == 1


def test_an_interrupted_start_is_told_once_that_it_was_interrupted(stage: Stage) -> None:
    hung = stage.hang("start")
    # One that goes on trying as long as it is told EINTR: not for ever, and for one run.
    script = (
        "import ctypes, os, signal, sys\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "file = os.open(sys.argv[1], os.O_WRONLY)\n"
        "data = sys.argv[2].encode()\n"
        "for _ in range(3):\n"
        "    got = libc.write(file, data, len(data))\n"
        "    print(got, os.strerror(ctypes.get_errno()))\n"
    )
    hung.command[2] = script
    waiting = hung.begin()
    waiting.send_signal(signal.SIGINT)
    told = prints(waiting).decode().splitlines()
    assert told == [f"-1 {os.strerror(4)}", *[f"-1 {os.strerror(125)}"] * 2]
    hung.go_on.set()
    assert hung.count == 1


def test_an_upload_goes_on_without_who_was_killed_and_is_sent_once(stage: Stage) -> None:
    hung = stage.hang("upload")
    group = hung.names["group"]
    killed(hung.begin(), signal.SIGKILL)
    shown = stage.mount / "groups" / group / "uploads" / "data.bin"
    assert prints(program("cat", shown)) == DATA  # as it was written
    hung.go_on.set()

    def stored() -> list[bytes]:
        routes = stage.server.routes
        return [routes.files[one["id"]] for one in routes.get_uploads(group)[1]["files"]]

    wait_until(stored, 30, "the upload")
    assert stored() == [DATA]
    assert prints(program("cat", shown)) == DATA
    assert hung.count == 1


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGQUIT])
def test_who_dies_with_an_upload_open_does_not_wait_for_it(
    stage: Stage, sent: signal.Signals
) -> None:
    hung = stage.hang("upload")
    script = (
        "import os, sys, time\n"
        "os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), b'written')\n"
        "print(flush=True)\n"
        "time.sleep(600)\n"
    )
    writer = program(sys.executable, "-c", script, hung.command[-1])
    assert writer.stdout is not None
    assert writer.stdout.read(1) == b"\n"
    killed(writer, sent)
    wait_until(lambda: hung.count, 30, "the upload")
    hung.go_on.set()
    assert hung.count == 1
