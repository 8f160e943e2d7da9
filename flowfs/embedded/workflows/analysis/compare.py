"""Put the figures of all runs on the leaderboard into one table: the post-processing."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    rows = []
    for run in json.loads((options.runs / "runs.json").read_text("utf-8")):
        figures = json.loads((options.runs / run["id"] / "results/summary.json").read_text("utf-8"))
        rows.append({"run": run["id"], "group": run["name"], **figures})
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with open(options.output, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]) if rows else ["run"], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
