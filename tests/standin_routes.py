"""What flowServ answers, from memory: the workflow `hello` for one user.

As measured of rob-flask 0.6.0 on flowserv-core 0.8.1; the contract tests run against both.
"""

from __future__ import annotations

import io
import json
import re
import secrets
import tarfile
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from flowfs.service.descriptor import DEFAULT_ROUTES

__all__ = ["Routes"]

_PARAMETERS = [
    {"name": "names", "dtype": "file", "label": "Names", "index": 0, "isRequired": True},
    {
        "name": "greeting",
        "dtype": "string",
        "label": "Greeting",
        "index": 1,
        "isRequired": False,
        "defaultValue": "Hello",
    },
    {
        "name": "sleeptime",
        "dtype": "int",
        "label": "Sleep time",
        "index": 2,
        "isRequired": False,
        "defaultValue": 0,
    },
]
_ENDED = ("SUCCESS", "ERROR", "CANCELED")


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, {"message": message})


class Routes:
    """The service's state, and its answers.

    Attributes
    ----------
    tokens : set of str
        Good tokens; `token` is one of them.
    group, workflow : str
        Ids of the only ones, unless `add_group` makes more groups.
    runs : dict
        Handles by id, oldest first. Tests may change them as they like.
    files : dict
        Bytes by the id of an upload or result file.
    uploads : list of dict
        As listed. Those of other groups than the first are of whom `owners` says.
    patterns : dict
        The routes that the descriptor announces.
    max_upload : int
        Bytes.
    """

    username, password = "flow", "secret"
    group, workflow = "group-1", "workflow-1"

    def __init__(self) -> None:
        self.token = secrets.token_hex(8)
        self.tokens = {self.token}
        self.url = ""
        self.runs: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.uploads: list[dict[str, Any]] = []
        self.groups = {self.group}
        self.owners: dict[str, str] = {}  # groups of uploads, by their ids
        self.patterns = dict(DEFAULT_ROUTES)
        self.max_upload = 1 << 40
        self._ends: dict[str, float] = {}

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Any]:
        """Return status and body (JSON, or bytes) for a request below the API root."""
        found = self.find(method, path)
        if found is None:
            page = "<!doctype html><title>404 Not Found</title><h1>Not Found</h1><p>No such URL."
            return 404, page.encode()
        verb, public, values = found
        token = next((v for k, v in headers.items() if k.lower() == "api_key"), None)
        try:
            if not public and token not in self.tokens:
                raise Refusal(403, "not authorized" if token else "not logged in")
            act = getattr(self, verb)
            if method == "POST":
                return act(*values, headers, body)  # type: ignore[no-any-return]
            if method == "PUT":
                return act(*values, body)  # type: ignore[no-any-return]
            return act(*values)  # type: ignore[no-any-return]
        except Refusal as refusal:
            return refusal.args

    def find(self, method: str, path: str) -> tuple[str, bool, tuple[str, ...]] | None:
        """Return the method for a request, whether it needs no token, and the ids in the path."""
        verb_of = "get" if method == "HEAD" else method.lower()
        for pattern, verb, public in _ROUTES:
            if verb.startswith(verb_of) and (match := pattern.fullmatch(path)):
                return verb, public, match.groups()
        return None

    # -- what tests need ---------------------------------------------------

    def add_group(self) -> str:
        """Make one more group, and return its id."""
        made = secrets.token_hex(8)
        self.groups.add(made)
        return made

    def add_file(
        self, data: bytes, name: str = "results/data.bin", **members: Any
    ) -> tuple[str, str]:
        """Make a run in SUCCESS with one file, and return both ids."""
        file_id = secrets.token_hex(8)
        self.files[file_id] = data
        handle = self.add_run("SUCCESS", files=[{"id": file_id, "name": name}], **members)
        return handle["id"], file_id

    def add_upload(self, data: bytes, name: str, group: str) -> dict[str, Any]:
        """Make an upload, and return what is listed of it."""
        now = datetime.now(timezone.utc).isoformat()
        entry = {"id": secrets.token_hex(8), "name": name, "createdAt": now, "size": 0}
        self.files[str(entry["id"])] = data
        self.owners[str(entry["id"])] = group
        self.uploads.append(entry)
        return entry

    def add_run(self, state: str = "SUCCESS", **members: Any) -> dict[str, Any]:
        """Make a run and return its handle."""
        run_id = secrets.token_hex(8)
        now = datetime.now(timezone.utc).isoformat()
        handle = {
            "id": run_id,
            "workflowId": self.workflow,
            "groupId": self.group,
            "state": state,
            "arguments": [],
            "parameters": _PARAMETERS,
            "createdAt": now,
            "startedAt": now,
            **members,
        }
        if state in _ENDED:
            handle["finishedAt"] = now
        if state == "SUCCESS":
            handle.setdefault("files", [])
        self.runs[run_id] = handle
        return handle

    # -- service, users, workflows -----------------------------------------

    def get_service(self) -> tuple[int, Any]:
        routes = [{"id": key, "pattern": value} for key, value in self.patterns.items()]
        return 200, {"name": "stand-in", "version": "0", "url": self.url, "routes": routes}

    def post_login(self, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        given = json.loads(body)
        if (given["username"], given["password"]) != (self.username, self.password):
            raise Refusal(404, f"unknown user '{given['username']}'")
        token = secrets.token_hex(8)
        self.tokens.add(token)
        return 200, {"id": "user-1", "username": self.username, "token": token}

    def post_logout(self, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        self.tokens.discard(headers["api_key"])
        return 200, {"id": "user-1", "username": self.username}

    def get_whoami(self) -> tuple[int, Any]:
        return 200, {"id": "user-1", "username": self.username}

    def get_workflows(self) -> tuple[int, Any]:
        return 200, {"workflows": [{"id": self.workflow, "name": "hello"}]}

    def get_workflow(self, workflow: str) -> tuple[int, Any]:
        if workflow != self.workflow:
            raise Refusal(404, f"unknown workflow '{workflow}'")
        return 200, {"id": workflow, "name": "hello", "parameters": _PARAMETERS}

    def get_workflow_groups(self, workflow: str) -> tuple[int, Any]:
        groups = [{"id": self.group, "name": "hello"}] if workflow == self.workflow else []
        return 200, {"groups": groups}

    def get_leaderboard(self, workflow: str) -> tuple[int, Any]:
        self.get_workflow(workflow)
        return 200, None  # it ranks nothing

    # -- groups and uploads ------------------------------------------------

    def get_group(self, group: str) -> tuple[int, Any]:
        return 200, {
            "id": group,
            "name": "hello",
            "workflow": self.workflow,
            "members": [{"id": "user-1", "username": self.username}],
            "parameters": _PARAMETERS,
            "files": self.get_uploads(group)[1]["files"],
            "runs": self._listed(group),
        }

    def get_uploads(self, group: str) -> tuple[int, Any]:
        self._check(group)
        owners = self.owners
        mine = [one for one in self.uploads if owners.get(one["id"], self.group) == group]
        return 200, {"files": mine}

    def post_upload(self, group: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        self._check(group)
        if len(body) > self.max_upload:
            return 413, b"<title>413 Request Entity Too Large</title>"
        boundary = headers["Content-Type"].partition("boundary=")[2].encode()
        part = body.split(b"--" + boundary)[1].removesuffix(b"\r\n")
        head, _, data = part.partition(b"\r\n\r\n")
        if b'name="file"' not in head:
            raise Refusal(400, "no file")
        (name,) = re.findall(r'filename="([^"]*)"', head.decode())
        plain = "_".join(name.encode("ascii", "ignore").decode().replace("/", " ").split())
        stored = re.sub(r"[^A-Za-z0-9_.-]", "", plain).strip("._")
        if not stored:
            raise Refusal(400, "invalid name")
        return 201, self.add_upload(data, stored, group)

    def get_upload(self, group: str, file_id: str) -> tuple[int, Any]:
        return 200, self._file(file_id)

    def delete_upload(self, group: str, file_id: str) -> tuple[int, Any]:
        self._file(file_id)
        del self.files[file_id]
        self.uploads = [entry for entry in self.uploads if entry["id"] != file_id]
        return 204, b""

    # -- runs --------------------------------------------------------------

    def get_runs(self, group: str) -> tuple[int, Any]:
        self._check(group)
        return 200, {"runs": self._listed(group)}

    def post_run(self, group: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        self._check(group)
        arguments = json.loads(body)["arguments"]
        values = {argument["name"]: argument["value"] for argument in arguments}
        for name in values.keys() - {p["name"] for p in _PARAMETERS}:
            raise Refusal(400, f"unknown parameter '{name}'")
        if "names" not in values:
            raise Refusal(400, "missing argument for 'names'")
        seconds = values.get("sleeptime", 0)
        if not str(seconds).isdecimal():
            raise Refusal(400, f"no int '{seconds}'")
        names = self._file(values["names"]["value"]["fileId"]).decode().split()
        handle = self.add_run("RUNNING", arguments=arguments, groupId=group)
        text = "".join(f"{values.get('greeting', 'Hello')}, {name}!\n" for name in names)
        file_id = secrets.token_hex(8)
        self.files[file_id] = text.encode()
        handle["files"] = [{"id": file_id, "name": "results/greetings.txt"}]
        self._ends[handle["id"]] = time.monotonic() + int(seconds)
        return 201, self.get_run(handle["id"])[1]

    def get_run(self, run_id: str) -> tuple[int, Any]:
        return 200, self._shown(run_id)

    def put_run(self, run_id: str, body: bytes) -> tuple[int, Any]:
        handle = self._run(run_id)
        if handle["state"] in _ENDED:
            raise Refusal(400, f"invalid operation for run in state {handle['state']}")
        reason = json.loads(body).get("reason", "canceled at user request")
        handle.update(state="CANCELED", messages=[reason], finishedAt=handle["createdAt"])
        return self.get_run(run_id)

    def delete_run(self, run_id: str) -> tuple[int, Any]:
        state = self._run(run_id)["state"]
        if state not in _ENDED:
            raise Refusal(400, f"invalid operation for run in state {state}")
        del self.runs[run_id]
        return 204, b""

    def get_result(self, run_id: str, file_id: str) -> tuple[int, Any]:
        handle = self._shown(run_id)
        if file_id not in [file["id"] for file in handle.get("files", [])]:
            raise Refusal(404, f"unknown file '{file_id}'")
        return 200, self._file(file_id)

    def get_archive(self, run_id: str) -> tuple[int, Any]:
        handle = self._shown(run_id)
        if handle["state"] != "SUCCESS":
            raise Refusal(404, f"unknown run '{run_id}'")
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w:gz") as archive:
            for file in handle["files"]:
                data = self._file(file["id"])
                member = tarfile.TarInfo(file["name"])
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        # The service's archives differ from request to request by the time in their header.
        return 200, made.getvalue()[:4] + secrets.token_bytes(4) + made.getvalue()[8:]

    # -- plumbing ----------------------------------------------------------

    def _check(self, group: str) -> None:
        if group not in self.groups:
            raise Refusal(404, f"unknown group '{group}'")

    def _file(self, file_id: str) -> bytes:
        if file_id not in self.files:
            raise Refusal(404, f"unknown file '{file_id}'")
        return self.files[file_id]

    def _listed(self, group: str) -> list[dict[str, Any]]:
        handles = [self._run(i) for i, run in self.runs.items() if run["groupId"] == group]
        return [{k: h[k] for k in ("id", "state", "createdAt")} for h in handles]

    def _shown(self, run_id: str) -> dict[str, Any]:
        handle = dict(self._run(run_id))
        if handle["state"] != "SUCCESS":
            handle.pop("files", None)
        else:
            handle.setdefault("files", [])
        return handle

    def _run(self, run_id: str) -> dict[str, Any]:
        if run_id not in self.runs:
            raise Refusal(404, f"unknown run '{run_id}'")
        handle = self.runs[run_id]
        if handle["state"] == "RUNNING" and self._ends.get(run_id, 1e18) <= time.monotonic():
            handle.update(state="SUCCESS", finishedAt=handle["createdAt"])
        return handle


# Path below the API root, the method of `Routes` (its name begins with HTTP's), whether no
# token is needed.
_ROUTES: list[tuple[re.Pattern[str], str, bool]] = [
    (re.compile(pattern), verb, public)
    for pattern, verb, public in [
        (r"/?", "get_service", True),
        (r"/users/login", "post_login", True),
        (r"/users/logout", "post_logout", False),
        (r"/users/whoami", "get_whoami", False),
        (r"/workflows", "get_workflows", True),
        (r"/workflows/([^/]+)", "get_workflow", True),
        (r"/workflows/([^/]+)/groups", "get_workflow_groups", False),
        (r"/workflows/([^/]+)/leaderboard", "get_leaderboard", True),
        (r"/groups/([^/]+)", "get_group", False),
        (r"/groups/([^/]+)/runs", "get_runs", False),
        (r"/groups/([^/]+)/runs", "post_run", False),
        (r"/uploads/([^/]+)/files", "get_uploads", False),
        (r"/uploads/([^/]+)/files", "post_upload", False),
        (r"/uploads/([^/]+)/files/([^/]+)", "get_upload", True),
        (r"/uploads/([^/]+)/files/([^/]+)", "delete_upload", False),
        (r"/runs/([^/]+)", "get_run", False),
        (r"/runs/([^/]+)", "put_run", False),
        (r"/runs/([^/]+)", "delete_run", False),
        (r"/runs/([^/]+)/downloads/files/([^/]+)", "get_result", True),
        (r"/runs/([^/]+)/downloads/archive", "get_archive", True),
    ]
]
