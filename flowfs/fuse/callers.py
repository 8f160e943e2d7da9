"""Programs that wait on a mount: which of them have been told to end.

The kernel has whoever asks a FUSE file system for something wait for the answer, and neither
Ctrl-C nor ``kill -9`` ends that once the request is under way. What it does instead is to tell
the file system (INTERRUPT) that there is a signal, once for each request and not which one: a
program whose window has changed its size is told of in this way, and the Ctrl-C that follows is
not. libfuse (``-o intr``) passes that on as a signal to a thread, which Python would have to be
asked about by the very thread that hangs. So what a program has been told is read from where
the kernel shows it to everybody, ``/proc/<thread>/status``, and that is the same with every
library.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

__all__ = ["are_visible", "is_leaving"]

# What a program does of which these are asked to end it, and what it does not end of by itself.
_ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP})
_HARMLESS = frozenset(
    {
        signal.SIGCHLD,
        signal.SIGURG,
        signal.SIGWINCH,
        signal.SIGCONT,
        signal.SIGSTOP,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
    }
)


def _bits(signals: frozenset[signal.Signals]) -> int:
    return sum(1 << (number - 1) for number in signals)


_ENDING_BITS, _HARMLESS_BITS = _bits(_ENDING), _bits(_HARMLESS)
_KILL = _bits(frozenset({signal.SIGKILL}))
_EXITING = 0x4  # PF_EXITING, of the kernel's flags of a thread


def are_visible() -> bool:
    """Tell whether this process sees those of the machine under the numbers that it is told."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def is_leaving(thread: int) -> bool:
    """Tell whether a thread of a program wants no answer any more to what it has asked.

    It does not if it is gone, or dies, or if a signal waits for it that ends its program, or is
    there to end programs (SIGINT, SIGTERM, SIGQUIT, SIGHUP) and it wants to hear of that.
    Others that it wants to hear of wait until it has its answer, as on a disk: few programs
    expect to be told EINTR by a file. So do those that stop it, and those that it ignores.

    Parameters
    ----------
    thread : int
        Its number.
    """
    try:
        status = _status(thread)
    except OSError:
        return not _exists(thread)  # those of other users may be hidden
    except (ValueError, KeyError):
        return False
    if status["State"] in "ZX":
        return True
    own, shared = int(status["SigPnd"], 16), int(status["ShdPnd"], 16)
    if (own | shared) & _KILL:
        return True
    heard = ~(int(status["SigBlk"], 16) | int(status["SigIgn"], 16))
    caught = int(status["SigCgt"], 16)
    if (own | shared) & heard & ~caught & ~_HARMLESS_BITS:
        return True
    # One that is for all of a program is taken by its first thread, unless that does not want
    # it: another one that sees it for a moment is not meant.
    meant = own | shared if status["Pid"] == status["Tgid"] else own
    if meant & heard & caught & _ENDING_BITS:
        # Where memory is a file's, there is no call that could say EINTR: the program would
        # be ended by another signal than it has asked for.
        return not _touches_memory(thread)
    return _is_killed(thread)


def _status(thread: int) -> Mapping[str, str]:
    with open(f"/proc/{thread}/status", encoding="ascii", errors="replace") as file:
        lines = [line.partition(":") for line in file]
    return {name: value.split()[0] for name, _, value in lines if value.strip()}


def _exists(thread: int) -> bool:
    try:
        os.kill(thread, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _touches_memory(thread: int) -> bool:
    """Tell whether a thread waits in no call, if this process may know: for a page of a file."""
    try:
        with open(f"/proc/{thread}/syscall", "rb") as file:
            return file.read(3) == b"-1 "
    except OSError:
        return False


def _is_killed(thread: int) -> bool:
    """Tell whether a thread ends for a signal, and closes what it has open on its way."""
    try:
        with open(f"/proc/{thread}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        # Numbered as in proc(5), which begins at 1, and the first two are cut off.
        return bool(int(fields[9 - 3]) & _EXITING and int(fields[52 - 3]) & 0x7F)
    except (OSError, ValueError, IndexError):
        return False
