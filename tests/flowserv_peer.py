"""The seven calls, made by flowserv's own class or by flowfs's, told as JSON.

Run by `test_service_peer` in the interpreter that has flowserv-core 0.9.4, where nothing of
this environment can be imported::

    FLOWSERV_ACCESS_TOKEN=… python flowserv_peer.py flowserv|flowfs ENDPOINT GROUP FILE
"""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
import time
from typing import Any

ENDED = ("SUCCESS", "ERROR", "CANCELED")


def outcome(call: Any, *args: Any, **kwargs: Any) -> Any:
    """What a call returned, or the status with which the service refused it."""
    try:
        value = call(*args, **kwargs)
    except Exception as error:
        # flowfs's errors have the status, those of requests have a response.
        status = getattr(error, "status", None)
        return {"refused": status or error.response.status_code}  # type: ignore[attr-defined]
    return value.read() if hasattr(value, "read") else value


def ended(service: Any, run_id: str) -> Any:
    """The handle of a run, once it has ended."""
    limit = time.monotonic() + 60
    while True:
        handle = service.get_run(run_id)
        if handle["state"] in ENDED or time.monotonic() > limit:
            return handle
        time.sleep(0.02)


def scenario(service: Any, group: str, file_id: str) -> list[Any]:
    """Make all the calls, right and wrong ones, and return what came of each."""
    names = {"name": "names", "value": {"type": "$file", "value": {"fileId": file_id}}}
    long = [names, {"name": "sleeptime", "value": 100}]
    told: list[Any] = []

    started = outcome(service.start_run, group, [names, {"name": "greeting", "value": "Grüße"}])
    told.append(started["arguments"])
    done = ended(service, started["id"])
    told.append(done)
    (file,) = done["files"]
    told.append(outcome(service.get_result_file, done["id"], file["id"]).decode())
    archive = outcome(service.get_result_archive, done["id"])
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        told.append(sorted((m.name, m.size) for m in members if m.isfile()))

    active = outcome(service.start_run, group, arguments=long)
    told.append(outcome(service.delete_run, active["id"]))
    told.append(outcome(service.get_result_archive, active["id"]))
    told.append(outcome(service.cancel_run, active["id"], reason="enough"))
    told.append(outcome(service.cancel_run, active["id"]))
    other = outcome(service.start_run, group, long)
    told.append(outcome(service.cancel_run, other["id"])["messages"])

    listed = outcome(service.list_runs, group)
    own = {started["id"], active["id"], other["id"]}
    told.append({**listed, "runs": [run for run in listed["runs"] if run["id"] in own]})
    for run_id in own:
        told.append(outcome(service.delete_run, run_id))
    told.append(outcome(service.delete_run, started["id"]))

    told.append(outcome(service.start_run, group, []))
    told.append(outcome(service.start_run, group, [names, {"name": "nope", "value": 1}]))
    told.append(outcome(service.start_run, "nope", [names]))
    told.append(outcome(service.list_runs, "nope"))
    told.append(outcome(service.get_run, "nope"))
    told.append(outcome(service.get_run, run_id="nope"))
    told.append(outcome(service.get_result_file, done["id"], file_id="nope"))
    return anonymous(told)


def anonymous(told: list[Any]) -> list[Any]:
    """Replace ids and times, in the order in which they come up."""
    text = json.dumps(told, sort_keys=True, ensure_ascii=False)
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.+]+", "<time>", text)
    seen: dict[str, str] = {}
    return json.loads(  # type: ignore[no-any-return]
        re.sub(r"\b[0-9a-f]{32}\b", lambda m: seen.setdefault(m[0], f"<id {len(seen) + 1}>"), text)
    )


def main(whose: str, endpoint: str, group: str, file_id: str) -> None:
    import requests
    from flowserv.service.descriptor import ServiceDescriptor
    from flowserv.service.run.remote import RemoteRunService

    descriptor = ServiceDescriptor(requests.get(endpoint + "/", timeout=30).json())
    if whose == "flowfs":
        from flowfs import RemoteRunService  # type: ignore[assignment]
    service = RemoteRunService(descriptor)
    sys.stdout.write(json.dumps(scenario(service, group, file_id)))


if __name__ == "__main__":
    main(*sys.argv[1:])
