"""The benchmarks run: small ones, to the end, with every contender and a file for machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        env={**os.environ, "PYTHONPATH": os.fspath(SCRIPTS)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def figures(tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    path = tmp_path / "figures.json"
    done = bench("--quick", "--json", os.fspath(path), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(path.read_text()), done.stdout


def test_figures_of_each_contender_are_printed_and_written(tmp_path: Path) -> None:
    document, printed = figures(tmp_path, "--only", "import", "--only", "get", "--repeats", "1")
    cases = {case["name"]: case["comparisons"][0] for case in document["cases"]}
    assert list(cases) == ["import", "get"]
    for comparison in cases.values():
        ours, *_ = (one for one in comparison["contenders"] if one["name"] == "flowfs")
        assert ours["cannot_run"] is None
        for contender in comparison["contenders"]:
            # A peer that is not installed says so instead.
            assert contender["rounds"] or contender["cannot_run"]
            assert all(cost["seconds"] > 0 for cost in contender["rounds"])
        assert any(isinstance(goal["reached"], bool) for goal in comparison["goals"])
    (cost,) = ours["rounds"]
    assert (cost["kinds"]["runs:download:file"], cost["bytes"] >= 24 << 20) == (1, True)
    assert document["versions"]["fsspec"]
    assert document["machine"]["processors"]
    assert "import fsspec, requests" in printed
    assert "at most 50 ms more" in printed


def test_cases_are_listed_and_unknown_ones_refused() -> None:
    done = bench("--list")
    assert done.returncode == 0
    assert "import" in done.stdout
    done = bench("--only", "nothing")
    assert done.returncode == 2
    assert "no case 'nothing'" in done.stderr


class TestOutcome:
    """What is made of the figures, without measuring any."""

    @pytest.fixture(autouse=True)
    def _importable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(os.fspath(SCRIPTS))

    def compared(self, tmp_path: Path, *contenders: Any, **options: Any) -> Any:
        from benchmarks.bench import Bench
        from benchmarks.case import Case, Comparison
        from benchmarks.running import run_case

        comparison = Comparison("", list(contenders), **options)
        case = Case("case", "a case", "a goal", lambda bench: iter([comparison]))
        return run_case(case, Bench(tmp_path, repeats=3), lambda line: None)

    def test_a_goal_is_held_against_the_ratio_of_each_round(self, tmp_path: Path) -> None:
        from benchmarks.case import Contender, Goal, Measured

        own, other = iter([1.0, 2.0, 4.0]), iter([2.0, 2.0, 2.0])
        outcome = self.compared(
            tmp_path,
            Contender("flowfs", lambda: Measured(seconds=next(own), requests=5)),
            Contender("peer", lambda: Measured(seconds=next(other))),
            goals=[
                Goal("as fast", against="peer", at_least=1.0),
                Goal("twice as fast", against="peer", at_least=2.0),
                Goal("at most 4 s in all", against=1.0, at_most=4.0),
                Goal("one request", quantity="requests", at_most=1),
            ],
            warm=False,
        )
        told = outcome.to_json()["comparisons"][0]["goals"]
        assert told[0]["value"] == {"median": 1.0, "least": 0.5, "most": 2.0}
        assert [goal["reached"] for goal in told] == [True, False, True, False]

    def test_who_is_wrong_or_missing_has_no_figures_and_says_why(self, tmp_path: Path) -> None:
        from benchmarks.case import Contender, Goal
        from benchmarks.report import table_of
        from rich.console import Console

        def wrong(got: Any) -> None:
            raise ValueError("[Errno 5] wrong bytes")

        outcome = self.compared(
            tmp_path,
            Contender("flowfs"),
            Contender("wrong", check=wrong),
            Contender("absent", missing="it is not installed"),
            goals=[Goal("as fast", against="wrong", at_least=1.0)],
        )
        (told,) = outcome.to_json()["comparisons"]
        reasons = [one["cannot_run"] for one in told["contenders"]]
        assert reasons == [None, "ValueError: [Errno 5] wrong bytes", "it is not installed"]
        assert told["goals"][0]["reached"] is None
        console = Console(width=200)
        with console.capture() as captured:
            console.print(table_of([outcome]))
        assert "NOT MEASURED" in captured.get()
        assert "wrong bytes" in captured.get()
        assert "it is not installed" in captured.get()
