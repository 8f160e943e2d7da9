"""fsspec's transactions: what is written inside is sent at their end, or not at all."""

from __future__ import annotations

from typing import Any

from fsspec.transaction import Transaction

from flowfs.errors import FlowError

__all__ = ["FlowTransaction"]


class FlowTransaction(Transaction):  # type: ignore[misc]
    """Collects files that are written, to send them in order when it ends well.

    When one is refused, those after it are discarded, and the error says what was sent
    before it: runs that have started cannot be taken back.
    """

    def complete(self, commit: bool = True) -> None:
        """Send or discard what was written.

        Raises
        ------
        FlowError
            What the first file that could not be sent raised.
        """
        sent: list[str] = []
        try:
            while self.files:
                file: Any = self.files.popleft()
                if not commit:
                    file.discard()
                    continue
                try:
                    file.commit()
                except FlowError as error:
                    if sent:
                        error.strerror = (
                            f"{error.strerror}; sent before it in this transaction: "
                            f"{', '.join(sent)}; what came after it was discarded"
                        )
                    raise
                sent.append(_told(file))
        finally:
            while self.files:
                self.files.popleft().discard()
            self.fs._intrans = False
            self.fs._transaction = None


def _told(file: Any) -> str:
    run = getattr(file, "run", None)
    return f"run {run['id']}" if run else str(file.path)
