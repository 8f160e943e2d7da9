"""Workflows of the real service that have less than others."""

from __future__ import annotations

import json

from flowfs import FlowFileSystem
from flowfs.embedded import EmbeddedService


def test_a_workflow_that_ranks_nothing_has_an_empty_leaderboard(
    any_service: EmbeddedService,
) -> None:
    fs = FlowFileSystem(any_service.endpoint, token=any_service.token)
    workflow = f"workflows/{any_service.workflows['hello']}"

    assert json.loads(fs.cat(f"{workflow}/leaderboard.json")) == {"schema": [], "ranking": []}
    assert fs.cat(f"{workflow}/leaderboard.csv").decode() == (
        "rank,run,group,group_id,createdAt,finishedAt\n"
    )
    assert fs.du(workflow) > 0
