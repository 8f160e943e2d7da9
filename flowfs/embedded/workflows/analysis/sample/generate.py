"""Write stations.csv: one summer at three invented stations, the same at every call."""

from __future__ import annotations

import csv
import math
from datetime import date, timedelta
from pathlib import Path

FIRST, DAYS = date(2025, 5, 1), 120
# Mean temperature, how far the seasons swing, how far the days swing, mean humidity.
STATIONS = {
    "Harbour": (17.5, 4.0, 1.6, 74),
    "Valley": (20.0, 7.0, 3.2, 61),
    "Ridge": (11.5, 6.0, 2.6, 68),
}


def weather(day: int, phase: float) -> float:
    """Highs and lows that pass over all stations, from -1 to 1 or so."""
    slow = math.sin(2 * math.pi * day / 17 + phase)
    quick = math.sin(2 * math.pi * day / 5.3 + 2.1 * phase)
    # A hash of the day, for what no period explains.
    noise = math.modf(math.sin(12.9898 * day + 78.233 * (phase + 1)) * 43758.5453)[0]
    return 0.55 * slow + 0.25 * quick + 0.35 * noise


def main() -> None:
    with open(Path(__file__).with_name("stations.csv"), "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["station", "date", "temperature", "humidity", "rainfall"])
        for index, (station, (mean, season, swing, humidity)) in enumerate(STATIONS.items()):
            for day in range(DAYS):
                state = weather(day, 0.4 * index)
                temperature = mean + season * math.sin(math.pi * (day - 25) / 150) + swing * state
                damp = min(98.0, max(30.0, humidity - 14 * state))
                rain = max(0.0, -state - 0.25) * (18 if station == "Ridge" else 12)
                when = FIRST + timedelta(days=day)
                rows.writerow(
                    [station, when.isoformat(), f"{temperature:.1f}", f"{damp:.0f}", f"{rain:.1f}"]
                )


if __name__ == "__main__":
    main()
