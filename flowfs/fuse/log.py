"""Where a mount logs to: stderr, a file, syslog, or nowhere. Never the token."""

from __future__ import annotations

import logging
import logging.handlers
import os
import stat
import sys
from collections.abc import Collection
from dataclasses import dataclass

from flowfs.errors import FlowError, failure, printable

__all__ = ["Log", "conceal", "start_log"]

_SYSLOG = "/dev/log"

_secrets: list[Collection[str]] = []


@dataclass(frozen=True)
class Log:
    """Where a mount logs to, and how much.

    Attributes
    ----------
    file : str
        A file, appended to; begun anew where somebody moved it away.
    syslog : bool
        To syslog: the socket /dev/log, or what ``FLOWFS_SYSLOG`` names, a path or
        ``host:port``.
    stderr : bool
        To stderr, where neither of the two is asked for; else to syslog if there is one.
    debug : bool
        Requests, and every error of an operation, too.
    """

    file: str = ""
    syslog: bool = False
    stderr: bool = False
    debug: bool = False

    @property
    def target(self) -> str:
        """In words, where it goes to."""
        if self.file:
            return self.file
        if self.syslog or (not self.stderr and _is_socket(_SYSLOG)):
            return "syslog"
        return "stderr" if self.stderr else ""


def conceal(secrets: Collection[str]) -> None:
    """Let nothing that is logged show these tokens, nor those that they become later."""
    _secrets.append(secrets)


def start_log(log: Log) -> None:
    """Begin to log.

    Raises
    ------
    FlowError
        If it cannot be logged there.
    """
    handler: logging.Handler
    target = log.target
    stamped = "%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s"
    level = logging.INFO
    if log.file:
        try:
            handler = logging.handlers.WatchedFileHandler(log.file, encoding="utf-8")
        except OSError as error:
            raise failure(
                FlowError, f"cannot log there: {error.strerror}", log.file, errno=error.errno
            ) from None
    elif target == "syslog":
        handler = _syslog()
        stamped = "flowfs[%(process)d]: %(levelname)s %(message)s"
    elif target == "stderr":
        handler = logging.StreamHandler(sys.stderr)
        stamped = "flowfs: %(message)s"
        level = logging.WARNING
    else:
        handler = logging.NullHandler()
    handler.setFormatter(_Concealing(stamped))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("flowfs").setLevel(logging.DEBUG if log.debug else level)


def _syslog() -> logging.Handler:
    where = os.environ.get("FLOWFS_SYSLOG") or _SYSLOG
    host, colon, port = where.rpartition(":")
    address: str | tuple[str, int] = where
    if not where.startswith("/") and colon and port.isdecimal():
        address = (host, int(port))
    elif not _is_socket(where):  # which the handler would not complain of
        raise failure(FlowError, "cannot log to syslog: there is no such socket", where)
    try:
        handler = logging.handlers.SysLogHandler(
            address, facility=logging.handlers.SysLogHandler.LOG_DAEMON
        )
    except OSError as error:
        raise failure(
            FlowError, f"cannot log to syslog: {error.strerror or error}", where, errno=error.errno
        ) from None
    handler.append_nul = False
    return handler


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


class _Concealing(logging.Formatter):
    """Leaves tokens out, wherever in a line they may have come from, and keeps a line a line."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secrets in _secrets:
            for secret in tuple(secrets):
                text = text.replace(secret, "...")
        return text

    def formatMessage(self, record: logging.LogRecord) -> str:
        # Names are anybody's: none may speak to a terminal, or look like another line.
        return printable(super().formatMessage(record))
