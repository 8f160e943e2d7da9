"""A group of a stand-in with runs made for a test, and who looks at them."""

from __future__ import annotations

import json
from typing import Any

from standin import StandIn

from flowfs import FlowFileSystem

__all__ = ["GroupOfRuns"]


class GroupOfRuns:
    """A stand-in with runs of a group, and who looks at them.

    Parameters
    ----------
    server : StandIn
        The service.
    """

    def __init__(self, server: StandIn) -> None:
        self.server = server
        self.group_id = server.routes.group
        self.group = f"groups/{self.group_id}"
        self.fs = self.another()

    def another(self, **options: Any) -> FlowFileSystem:
        """Return a file system that knows nothing yet."""
        options = {"ttl": 600, "retries": 0, "skip_instance_cache": True, **options}
        self.server.routes.tokens.add(token := f"t{len(self.server.routes.tokens)}")
        return FlowFileSystem(self.server.endpoint, token, **options)

    def made(self, state: str, files: dict[str, Any] | None, **members: Any) -> str:
        """Make a run and return its id; files are bytes or what is to be JSON."""
        routes = self.server.routes
        made = []
        for name, content in (files or {}).items():
            file_id = f"file-{len(routes.files)}"
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            routes.files[file_id] = data
            made.append({"id": file_id, "name": name})
        return str(routes.add_run(state, files=made, **members)["id"])
