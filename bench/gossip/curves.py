"""Curves as SVG, drawn by hand: a frame, ticks, lines, names. No library, nothing to install."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

WIDTH, HEIGHT, MARGIN = 640, 380, 56
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2")


class Curve(NamedTuple):
    """A name and its points."""

    name: str
    points: Sequence[tuple[float, float]]


def draw(path: Path, title: str, axes: tuple[str, str], curves: Sequence[Curve]) -> None:
    """Write one picture. Axes begin at zero."""
    right = max((x for curve in curves for x, _ in curve.points), default=1) or 1
    top = max((y for curve in curves for _, y in curve.points), default=1) * 1.05 or 1
    wide, high = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN

    def place(x: float, y: float) -> str:
        return f"{MARGIN + x / right * wide:.1f},{HEIGHT - MARGIN - y / top * high:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="24" text-anchor="middle" font-size="15">{escape(title)}</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(axes[0])}</text>',
        f'<text x="{MARGIN - 40}" y="{MARGIN - 12}">{escape(axes[1])}</text>',
    ]
    for tick in range(6):
        x, y = right * tick / 5, top * tick / 5
        parts.append(f'<polyline points="{place(0, y)} {place(right, y)}" fill="none" stroke="#ddd"/>')
        across, down = place(0, y).split(",")
        parts.append(f'<text x="{float(across) - 6}" y="{float(down) + 4}" text-anchor="end">{y:.3g}</text>')
        across, down = place(x, 0).split(",")
        parts.append(f'<text x="{across}" y="{float(down) + 16}" text-anchor="middle">{x:.3g}</text>')
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(place(x, y) for x, y in curve.points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        down = MARGIN + 16 * number + 8
        parts.append(
            f'<text x="{WIDTH - MARGIN - 8}" y="{down}" text-anchor="end" fill="{colour}">{escape(curve.name)}</text>'
        )
    path.write_text("\n".join([*parts, "</svg>", ""]))
