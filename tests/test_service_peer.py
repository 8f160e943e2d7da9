"""Beside flowserv's own class (flowserv-core 0.9.4): the same calls, the same answers.

flowserv 0.9.4 cannot be in one environment with a service; `FLOWFS_TEST_PYTHON_094` names the
interpreter that has it.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flowserv_peer
import pytest
from standin import Reply, StandIn
from support import Rest

from flowfs import RemoteRunService, ServiceDescriptor
from flowfs.embedded import EmbeddedService, sample
from flowfs.errors import NotFound
from flowfs.service import DEFAULT_ROUTES

HERE = Path(__file__).parent


@pytest.fixture
def peer(service: EmbeddedService, uploaded: str) -> Callable[[str], Any]:
    """Runs the scenario in the other interpreter."""
    python = os.environ.get("FLOWFS_TEST_PYTHON_094")
    if not python:
        reason = "FLOWFS_TEST_PYTHON_094 names no interpreter with flowserv 0.9.4"
        if os.environ.get("FLOWFS_REQUIRE_SERVICE") == "1":
            pytest.fail(f"required, but {reason}", pytrace=False)
        pytest.skip(reason)

    def run(whose: str) -> Any:
        args = [service.endpoint, service.groups["hello"], uploaded]
        path = os.fspath(HERE.parent)
        done = subprocess.run(
            [python, os.fspath(HERE / "flowserv_peer.py"), whose, *args],
            env={**os.environ, "FLOWSERV_ACCESS_TOKEN": service.token, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def uploaded(service: EmbeddedService, rest: Rest) -> str:
    return rest.upload(service.groups["hello"], sample("hello"))


class Naive:
    """A descriptor that formats patterns as flowserv's does, None and all."""

    def __init__(self, endpoint: str) -> None:
        self.url = endpoint

    def urls(self, key: str, **kwargs: Any) -> str:
        return f"{self.url}/{DEFAULT_ROUTES[key].format(**kwargs)}"


def test_all_answer_alike(
    service: EmbeddedService,
    uploaded: str,
    peer: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = peer("flowserv")
    assert len(expected) > 20
    # flowfs's class with flowserv's own descriptor, in flowserv's own environment.
    assert peer("flowfs") == expected
    monkeypatch.setenv("FLOWSERV_ACCESS_TOKEN", service.token)
    for descriptor in (ServiceDescriptor(service.endpoint), Naive(service.endpoint)):
        ours = RemoteRunService(descriptor)
        assert flowserv_peer.scenario(ours, service.groups["hello"], uploaded) == expected
        ours.session.close()


def test_the_signatures_are_flowservs() -> None:
    expected = {
        "cancel_run": "(run_id, reason=None)",
        "delete_run": "(run_id)",
        "get_result_archive": "(run_id)",
        "get_result_file": "(run_id, file_id)",
        "get_run": "(run_id)",
        "list_runs": "(group_id, state=None)",
        "start_run": "(group_id, arguments)",
    }
    for name, signature in expected.items():
        parameters = [
            parameter.replace(annotation=parameter.empty)
            for parameter in inspect.signature(getattr(RemoteRunService, name)).parameters.values()
            if parameter.name != "self" and parameter.kind is not parameter.KEYWORD_ONLY
        ]
        assert str(inspect.Signature(parameters)) == signature, name
    assert list(inspect.signature(RemoteRunService).parameters)[:2] == ["descriptor", "labels"]


class TestNaiveDescriptor:
    @pytest.fixture
    def server(self) -> Any:
        with StandIn() as server:
            yield server

    @pytest.fixture
    def ours(self, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("FLOWSERV_ACCESS_TOKEN", server.routes.token)
        service = RemoteRunService(Naive(server.endpoint))
        yield service
        service.session.close()

    def test_no_state_is_not_asked_for_by_name(
        self, server: StandIn, ours: RemoteRunService
    ) -> None:
        ours.list_runs(server.routes.group)
        ours.list_runs(server.routes.group, state="A B&c")
        assert [asked.query for asked in server.asked] == ["", "state=A%20B%26c"]

    def test_ids_stay_in_their_place(self, server: StandIn, ours: RemoteRunService) -> None:
        for run_id in ("..", ".", ""):
            with pytest.raises(NotFound):
                ours.delete_run(run_id)
        assert server.count() == 0
        with pytest.raises(NotFound):
            ours.get_run("a/../b?c#d{e}")
        assert server.asked[0].path == "/runs/a%2F..%2Fb%3Fc%23d%7Be%7D"

    def test_labels_name_what_bodies_hold(
        self, server: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handle = {"id": "abc", "state": "PENDING"}
        server.on("POST", ".*", Reply(201, handle))
        server.on("PUT", ".*", Reply(200, handle))
        for labels, names in (
            (None, ("arguments", "reason")),
            ({"CANCEL_REASON": "why", "RUN_ARGUMENTS": "values"}, ("values", "why")),
            ({"CANCEL_REASON": "why"}, ("arguments", "why")),
        ):
            server.asked.clear()
            service = RemoteRunService(Naive(server.endpoint), labels)
            service.start_run("g", [{"name": "n", "value": 1}])
            service.cancel_run("abc", "because")
            service.cancel_run("abc")
            bodies = [asked.json for asked in server.asked]
            assert bodies == [{names[0]: [{"name": "n", "value": 1}]}, {names[1]: "because"}, {}]
            service.session.close()

    def test_a_service_is_shared_by_threads(self, server: StandIn, ours: RemoteRunService) -> None:
        from concurrent.futures import ThreadPoolExecutor

        runs = [server.routes.add_run()["id"] for _ in range(50)]
        with ThreadPoolExecutor(8) as pool:
            assert [run["id"] for run in pool.map(ours.get_run, runs)] == runs
