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
from reader_results import AnalysisResults
from standin import StandIn

pytest.importorskip("distributed")
pytest.importorskip("pandas")

_RUNS = 200
_WORKERS = 4
_SUM = sum(number * number for number in range(_RUNS))
_DRIVER = Path(__file__).parent / "cluster_driver.py"
_NAME = "results/summary.csv"
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

    def __init__(self, servers: dict[str, StandIn], results: AnalysisResults, home: Path) -> None:
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


@pytest.fixture(scope="module")
def cluster(
    results: AnalysisResults, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[_Cluster]:
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(StandIn()) for name in _ON_A_STANDIN}
        yield _Cluster(servers, results, tmp_path_factory.mktemp("cluster"))


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
