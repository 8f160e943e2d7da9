"""What the environment says in secret, and how it gets out of there.

The environment a process was started with can be read in ``/proc`` as long as it lives, and so
can that of every process it starts. A mount lives long and starts others, so it takes out
what is secret, and remembers it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

__all__ = ["TOKEN", "adopt", "secrets_in", "variable", "withheld", "withhold"]

TOKEN = "FLOWSERV_ACCESS_TOKEN"

_withheld: dict[str, str] = {}


def secrets_in(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that may hold a token: flowServ's, and fsspec's for flowfs."""
    return {
        name: value
        for name, value in environ.items()
        if name == TOKEN or name.startswith("FSSPEC_FLOW")
    }


def variable(name: str, environ: Mapping[str, str] | None = None) -> str | None:
    """Return what a variable says, also where it was taken out of the environment.

    Parameters
    ----------
    name : str
        Which.
    environ : mapping, optional
        Instead of this process's environment.
    """
    if environ is not None:
        return environ.get(name)
    return os.environ.get(name) or _withheld.get(name)


def adopt(variables: Mapping[str, str]) -> None:
    """Remember variables that another process took out of the environment for this one."""
    _withheld.update(variables)


def withheld() -> dict[str, str]:
    """Return what was taken out of the environment."""
    return dict(_withheld)


def withhold() -> None:
    """Take what is secret out of this process's environment, and remember it.

    What is started from now on does not inherit it, and ``/proc/PID/environ`` shows it no
    more. To be called before there are other threads.
    """
    found = secrets_in(os.environ)
    adopt(found)
    for name in found:
        _wipe(name)
        del os.environ[name]


def _wipe(name: str) -> None:
    """Overwrite the value of a variable where the process was given it."""
    key = os.fsencode(name) + b"="
    try:
        variables = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
    except (OSError, ValueError):
        return  # a system that keeps it elsewhere
    at = 0
    while variables and (address := variables[at]):
        if ctypes.string_at(address, len(key)) == key:
            value = address + len(key)
            ctypes.memset(value, 0, len(ctypes.string_at(value)))
        at += 1
