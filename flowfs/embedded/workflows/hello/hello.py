"""Greet everybody in a file of names: the smallest workflow."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sleeptime", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    # Text arguments come as lines: they are kept out of the shell command.
    source, greeting = sys.stdin.read().split("\n", 1)
    greeting = greeting.rstrip("\n")
    if options.sleeptime < 0:
        sys.exit(f"sleeptime must not be negative: {options.sleeptime}")
    try:
        text = Path(source).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"cannot read the names: {error}")
    time.sleep(options.sleeptime)
    names = [line.strip() for line in text.splitlines() if line.strip()]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("".join(f"{greeting}, {name}!\n" for name in names), "utf-8")


if __name__ == "__main__":
    main()
