"""A line chart as SVG, drawn by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from html import escape

WIDTH, HEIGHT = 900, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 64, 56
COLOURS = ("#1f6f8b", "#d1495b", "#66a182", "#8d6a9f", "#c98b2b", "#4c5b61")


@dataclass
class Line:
    """One station: days, daily values, and rolling means (None where there is none)."""

    name: str
    days: list[date]
    values: list[float]
    means: list[float | None]


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`."""
    span = (high - low) or abs(high) or 1.0
    raw = span / about
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(n * step, 10) for n in range(first, max(last, first + 1) + 1)]


def month_starts(first: date, last: date) -> list[date]:
    """The first of each month between two days, not more than a dozen of them."""
    starts = []
    year, month = first.year, first.month
    while (start := date(year, month, 1)) <= last:
        if start >= first:
            starts.append(start)
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    return starts[:: max(1, math.ceil(len(starts) / 12))]


def draw(lines: list[Line], title: str, unit: str, threshold: float) -> str:
    """Return the chart.

    Parameters
    ----------
    lines : list of Line
        What to plot; thin for values, thick for means.
    title, unit : str
        Heading, and what the vertical axis shows.
    threshold : float
        Drawn as a dashed line if it lies within the plot.
    """
    first = min(line.days[0] for line in lines)
    last = max(line.days[-1] for line in lines)
    values = [value for line in lines for value in line.values]
    steps = ticks(min(values), max(values))
    low, high = steps[0], steps[-1]
    days = max(1, (last - first).days)

    def x(day: date) -> float:
        return LEFT + (day - first).days / days * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def path(points: list[tuple[date, float]]) -> str:
        return "M" + "L".join(f"{x(day):.1f} {y(value):.1f}" for day, value in points)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="Helvetica, Arial, sans-serif" '
        f'font-size="12" fill="#333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="28" font-size="17" font-weight="bold">{escape(title)}</text>',
    ]
    for step in steps:
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(step):.1f}" y2="{y(step):.1f}" '
            f'stroke="#e4e4e4"/><text x="{LEFT - 8}" y="{y(step) + 4:.1f}" '
            f'text-anchor="end">{step:g}</text>'
        )
    base = HEIGHT - BOTTOM
    for start in month_starts(first, last) or [first]:
        parts.append(
            f'<line x1="{x(start):.1f}" x2="{x(start):.1f}" y1="{base}" y2="{base + 5}" '
            f'stroke="#777"/><text x="{x(start):.1f}" y="{base + 20}" '
            f'text-anchor="middle">{start:%b %Y}</text>'
        )
    parts.append(
        f'<path d="M{LEFT} {TOP}V{base}H{WIDTH - RIGHT}" fill="none" stroke="#777"/>'
        f'<text transform="translate(18 {(TOP + base) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(unit)}</text>'
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 12}" '
        f'text-anchor="middle">date</text>'
    )
    legend = LEFT
    for index, line in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        daily = path(list(zip(line.days, line.values, strict=True)))
        parts.append(f'<path d="{daily}" fill="none" stroke="{colour}" stroke-opacity="0.35"/>')
        means = zip(line.days, line.means, strict=True)
        smooth = [(day, mean) for day, mean in means if mean is not None]
        if smooth:
            parts.append(
                f'<path d="{path(smooth)}" fill="none" stroke="{colour}" stroke-width="2.5" '
                f'stroke-linejoin="round"/>'
            )
        parts.append(
            f'<line x1="{legend}" x2="{legend + 22}" y1="46" y2="46" stroke="{colour}" '
            f'stroke-width="3"/><text x="{legend + 28}" y="50">{escape(line.name)}</text>'
        )
        legend += 48 + 7 * len(line.name)
    if low <= threshold <= high:
        parts.append(
            f'<g stroke="#777" stroke-dasharray="6 4">'
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(threshold):.1f}" '
            f'y2="{y(threshold):.1f}"/><line x1="{legend}" x2="{legend + 22}" y1="46" y2="46"/>'
            f'</g><text x="{legend + 28}" y="50">threshold {threshold:g}</text>'
        )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
