"""dask on a cluster of four worker processes: right answers, and requests as few as runs."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from copied_runs import copy_run
from reader_results import AnalysisResults
from results_workflow import add_workflow
from standin import StandIn
from support import Rest

from flowfs.embedded import EmbeddedService

pytest.importorskip("distributed")
pytest.importorskip("pandas")

_RUNS = 200
_WORKERS = 4
_SUM = sum(number * number for number in range(_RUNS))
_DRIVER = Path(__file__).parent / "cluster_driver.py"
_NAME = "results/summary.csv"
# Of the real service; 200 show the same, for whoever has a minute.
_RUNS_THERE = int(os.environ.get("FLOWFS_TEST_CLUSTER_RUNS", "40"))
_SUM_THERE = sum(number * number for number in range(_RUNS_THERE))
_THERE = ("cold", "after_runs", "after_results", "kept", "archives")
_ON_A_STANDIN = {"table": _RUNS, "open_files": 50, "texts": 20, "refused": 1, "deleted": 1}


class _Cluster:
    """What a cluster made of each scenario, and which requests it cost.

    Attributes
    ----------
    outcomes : dict
        By the scenario's name.
    servers : dict of str to StandIn
        The services that were read, by the same.
    """

    def __init__(
        self,
        servers: dict[str, StandIn],
        results: AnalysisResults,
        many: tuple[str, dict[str, Any]],
        home: Path,
    ) -> None:
        self.servers = servers
        scenarios: dict[str, Any] = {}
        for name, server in servers.items():
            for number in range(_ON_A_STANDIN[name]):
                data = b"run,value\n%d,%d\n" % (number, number * number)
                server.routes.add_file(data, _NAME)
            url = f"flow://{server.endpoint.partition('://')[2]}/groups/group-1/runs/*/outputs"
            # However long it takes, nothing is asked for twice only because time has passed.
            options = {"token": server.routes.token, "ttl": 100_000, "timeout": 300}
            scenarios[name] = f"{url}/{_NAME}", options
        scenarios["keys"] = results.every_summary, results.options
        for number, name in enumerate(_THERE):  # of another ttl each, nothing is known to two
            scenarios[name] = many[0], {**many[1], "ttl": 100_000 + 10 * number, "timeout": 300}
        scenarios["kept"][1]["cache_dir"] = str(home / "kept")
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FLOWSERV_", "FSSPEC_", "DASK_", "COVERAGE_"))
        }
        environment |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
        environment |= {"XDG_CONFIG_HOME": str(home), "TMPDIR": str(home)}
        done = subprocess.run(
            [sys.executable, str(_DRIVER)],
            input=json.dumps(scenarios),
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=550,
        )
        assert done.returncode == 0, done.stderr
        self.outcomes: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])

    def asked(self, name: str) -> Counter[str]:
        """Count what a scenario asked for, by what it was."""
        kinds = {
            r"/": "routes",
            r"/groups/group-1/runs": "listing",
            r"/runs/[^/]+": "run",
            r"/runs/[^/]+/downloads/files/[^/]+": "bytes",
        }
        return Counter(
            next((k for p, k in kinds.items() if re.fullmatch(p, asked.path)), asked.path)
            for asked in self.servers[name].asked
        )


_SCRIPT = f"""
from pathlib import Path

Path("results").mkdir(exist_ok=True)
Path({_NAME!r}).write_text("run,value\\n0,0\\n")
"""


@pytest.fixture(scope="module")
def many() -> Iterator[tuple[str, dict[str, Any]]]:
    """The pattern of a result of many runs of the real service, and what to read it with."""
    with EmbeddedService.start() as service, contextlib.closing(Rest(service)) as rest:
        workflow = add_workflow(service, (_NAME,), _SCRIPT, "squares")
        made = rest.request("POST", f"workflows/{workflow}/groups", json={"name": "squares"})
        group_id = made.json()["id"]
        handle = rest.ended(rest.start(group_id, {}))
        assert handle["state"] == "SUCCESS", handle
        # The run itself is number 0.
        copy_run(
            service,
            handle,
            _RUNS_THERE - 1,
            lambda n: (_NAME, b"run,value\n%d,%d\n" % (n + 1, (n + 1) ** 2)),
        )
        url = f"flow://{service.endpoint.partition('://')[2]}/groups/{group_id}/runs/*/outputs"
        yield f"{url}/{_NAME}", {"endpoint": service.endpoint, "token": service.token}


@pytest.fixture(scope="module")
def cluster(
    results: AnalysisResults,
    many: tuple[str, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[_Cluster]:
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(StandIn()) for name in _ON_A_STANDIN}
        yield _Cluster(servers, results, many, tmp_path_factory.mktemp("cluster"))


def test_a_table_of_200_runs_is_right_and_costs_a_request_for_each_run_and_each_result(
    cluster: _Cluster,
) -> None:
    assert cluster.outcomes["table"] == _SUM
    asked = cluster.asked("table")
    assert (asked.pop("run"), asked.pop("bytes")) == (_RUNS, _RUNS)
    # Once where they are found; and each worker that has something to do asks for itself.
    assert 1 <= asked.pop("listing") <= 1 + _WORKERS
    assert 1 <= asked.pop("routes") <= 1 + _WORKERS
    assert not asked


def test_open_files_of_many_runs_are_read_on_the_workers_alone_for_as_many_requests(
    cluster: _Cluster,
) -> None:
    count, outcome = _ON_A_STANDIN["open_files"], cluster.outcomes["open_files"]
    assert outcome["sum"] == sum(number * number for number in range(count))
    assert len(outcome["in"]) == count
    assert outcome["here"] not in outcome["in"]
    asked = cluster.asked("open_files")
    assert (asked.pop("run"), asked.pop("bytes"), asked.pop("listing")) == (count, count, 1)
    assert 1 <= asked.pop("routes") <= 1 + _WORKERS
    assert not asked


def test_urls_that_were_put_together_as_text_cost_each_worker_the_run(cluster: _Cluster) -> None:
    count = _ON_A_STANDIN["texts"]
    assert cluster.outcomes["texts"] == sum(number * number for number in range(count))
    asked = cluster.asked("texts")
    assert (asked["run"], asked["bytes"]) == (2 * count, count)


def test_every_process_makes_the_same_keys_of_the_same_results(cluster: _Cluster) -> None:
    here, there = cluster.outcomes["keys"]["here"], cluster.outcomes["keys"]["there"]
    assert len(there) == _WORKERS
    assert all(told == here for told in there)
    assert here[-1] == ""  # no token but the one that was given


def test_a_token_goes_to_the_workers_unless_it_shall_not(cluster: _Cluster) -> None:
    said = cluster.outcomes["refused"]
    assert said["True"] == "run,value\n0,0\n"
    kind, number, where = said["False"]
    assert (kind, number) == ("AccessDenied", errno.EACCES)
    assert where.startswith(f"flow+{cluster.servers['refused'].endpoint}/groups/group-1/runs/")


def test_a_run_that_was_deleted_meanwhile_is_not_found_by_a_worker(cluster: _Cluster) -> None:
    kind, number, where = cluster.outcomes["deleted"]
    assert (kind, number) == ("NotFound", errno.ENOENT)
    assert where.startswith(f"flow+{cluster.servers['deleted'].endpoint}/groups/group-1/runs/")


# -- what is known before, on the real service -----------------------------


def _told(outcome: Any, before: Any = None) -> dict[str, int]:
    """Return what was asked for by kind, without what was asked for before."""
    assert outcome["sum"] == _SUM_THERE
    asked = Counter(outcome["asked"])
    asked.subtract(before or {})
    kinds = {
        "GET runs:get": "run",
        "GET runs:download:file": "bytes",
        "GET runs:download:archive": "archive",
    }
    told = {kind: asked.pop(name, 0) for name, kind in kinds.items()}
    # Routes and a listing, for each process that has something to do; no more than that.
    assert sum(asked.values()) <= 3 * (1 + _WORKERS), asked
    assert set(+asked) <= {"GET service", "GET groups:runs", "GET groups:get"}, asked
    return {kind: count for kind, count in told.items() if count}


def test_of_runs_of_which_nothing_is_known_each_is_asked_for_and_its_bytes(
    cluster: _Cluster,
) -> None:
    assert _told(cluster.outcomes["cold"]) == {"run": _RUNS_THERE, "bytes": _RUNS_THERE}


def test_after_the_table_of_runs_a_cluster_asks_for_the_bytes_alone(cluster: _Cluster) -> None:
    outcome = cluster.outcomes["after_runs"]
    assert outcome["before"]["GET runs:get"] == _RUNS_THERE
    assert _told(outcome, outcome["before"]) == {"bytes": _RUNS_THERE}


def test_after_the_table_with_the_same_results_a_cluster_asks_for_no_run_and_no_bytes(
    cluster: _Cluster,
) -> None:
    outcome = cluster.outcomes["after_results"]
    assert _told(outcome, outcome["before"]) == {}


def test_what_any_process_has_kept_in_a_directory_costs_a_cluster_nothing(
    cluster: _Cluster,
) -> None:
    first, again = cluster.outcomes["kept"]["first"], cluster.outcomes["kept"]["again"]
    assert _told(first) == {"bytes": _RUNS_THERE}
    assert _told(again) == {}


def test_archives_cost_a_request_for_each_run_of_which_nothing_is_known(cluster: _Cluster) -> None:
    assert _told(cluster.outcomes["archives"]) == {"archive": _RUNS_THERE}
