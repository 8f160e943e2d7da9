"""Summarise one column of a CSV file, station by station, and plot it."""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from datetime import date
from pathlib import Path

from chart import Line, draw

Series = dict[str, list[tuple[date, float]]]


class BadInput(Exception):
    """The user's data or arguments; the message is all they need."""


def read(path: str, column: str) -> Series:
    series: Series = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            header = rows.fieldnames or []
            for name in ("station", "date", column):
                if name not in header:
                    there = ", ".join(header) or "none"
                    raise BadInput(f"no column {name!r} in the data; its columns are: {there}")
            for row in rows:
                text = (row[column] or "").strip()
                if not text:
                    continue  # a gap in the measurements
                try:
                    when, value = date.fromisoformat(row["date"] or ""), float(text)
                except ValueError as error:
                    raise BadInput(f"line {rows.line_num}, column {column!r}: {error}") from None
                if not math.isfinite(value):
                    raise BadInput(f"line {rows.line_num}, column {column!r}: not finite: {text}")
                series.setdefault(row["station"] or "", []).append((when, value))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"cannot read the data: {error}") from None
    if not series:
        raise BadInput(f"no measurements in column {column!r}")
    for points in series.values():
        points.sort()
    return series


def rolling_mean(values: list[float], window: int) -> list[float | None]:
    """Mean of the last `window` values; None where there are fewer."""
    means: list[float | None] = []
    for end in range(1, len(values) + 1):
        last = values[max(0, end - window) : end]
        means.append(math.fsum(last) / window if len(last) == window else None)
    return means


def summary(values: list[float], threshold: float) -> dict[str, float]:
    return {
        "measurements": len(values),
        "mean": round(math.fsum(values) / len(values), 3),
        "minimum": min(values),
        "maximum": max(values),
        "days_above": sum(value > threshold for value in values),
    }


def analyse(source: str, column: str, window: int, threshold: float, output: Path) -> None:
    if window < 1:
        raise BadInput(f"window must be at least 1 day: {window}")
    if not math.isfinite(threshold):
        raise BadInput(f"threshold must be a finite number: {threshold}")
    series = read(source, column)
    output.mkdir(parents=True, exist_ok=True)
    with open(output / "summary.csv", "w", newline="", encoding="utf-8") as file:
        rows: csv.DictWriter[str] | None = None
        for station, points in series.items():
            row = {"station": station, **summary([value for _, value in points], threshold)}
            if rows is None:
                rows = csv.DictWriter(file, list(row), lineterminator="\n")
                rows.writeheader()
            rows.writerow(row)
    everything = [value for points in series.values() for _, value in points]
    scalars = {
        "column": column,
        "window": window,
        "threshold": threshold,
        "stations": len(series),
        **summary(everything, threshold),
    }
    (output / "summary.json").write_text(json.dumps(scalars, indent=2) + "\n", "utf-8")
    lines = [
        Line(
            name=station,
            days=[when for when, _ in points],
            values=[value for _, value in points],
            means=rolling_mean([value for _, value in points], window),
        )
        for station, points in series.items()
    ]
    title = f"{column.capitalize()}: daily values and mean of {window} days"
    (output / "plot.svg").write_text(draw(lines, title, column, threshold), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--window", type=int, required=True)
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    # Text arguments come as lines: they are kept out of the shell command.
    source, column = sys.stdin.read().split("\n", 1)
    try:
        analyse(source, column.rstrip("\n"), options.window, options.threshold, options.output)
    except BadInput as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
