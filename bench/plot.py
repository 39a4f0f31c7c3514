"""Small pictures as SVG: bars against a goal, and lines that should be flat."""

from collections.abc import Sequence
from html import escape

WIDTH, LEFT, STEP = 720, 330, 22
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")
MET, MISSED, LINE = "#2ca02c", "#d62728", "#444"


def bars(title: str, entries: Sequence[tuple[str, float, bool]]) -> str:
    """(label, how far: 1.0 is just at the goal and less is better, whether it was met)."""
    scale = (WIDTH - LEFT - 60) / 1.5
    parts = []
    for place, (label, value, met) in enumerate(entries):
        y = 40 + place * STEP
        parts.append(text(LEFT - 8, y + 12, label, "end"))
        parts.append(box(LEFT, y, min(value, 1.5) * scale, STEP - 6, MET if met else MISSED))
        parts.append(text(LEFT + min(value, 1.5) * scale + 4, y + 12, f"{value:.2f}"))
    height = 50 + len(entries) * STEP
    parts.append(line([(LEFT + scale, 30), (LEFT + scale, height - 10)], LINE))
    return picture(title, height, parts)


def lines(title: str, sizes: Sequence[int], curves: Sequence[tuple[str, Sequence[float]]]) -> str:
    """One curve a label, over ``sizes``, on a common scale that begins at zero."""
    top, high, wide = max(max(values) for _, values in curves) * 1.15, 220, WIDTH - 300
    spot = lambda x, y: (60 + wide * x / max(sizes), 40 + high * (1 - y / top))  # noqa: E731
    parts = [line([(60, 40), (60, 40 + high), (60 + wide, 40 + high)], LINE)]
    parts += [text(spot(size, 0)[0], 56 + high, str(size), "middle") for size in sizes]
    parts += [text(54, spot(0, level)[1] + 4, f"{level:.0f}", "end") for level in (0, top / 2, top)]
    for number, (label, values) in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        places = [spot(size, value) for size, value in zip(sizes, values, strict=True)]
        parts += [line(places, colour), text(places[-1][0] + 8, places[-1][1] + 4, label, colour=colour)]
    return picture(title, high + 70, parts)


def picture(title: str, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" font-family="sans-serif"'
    body = "\n".join([text(8, 20, title, weight="bold"), *parts])
    return f'{head} font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'


def text(x: float, y: float, words: str, anchor: str = "start", colour: str = "#000", weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" fill="{colour}" font-weight="{weight}"'
    return f'<text x="{x:.0f}" y="{y:.0f}" {style}>{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.0f}" y="{y:.0f}" width="{max(width, 1):.1f}" height="{height:.0f}" fill="{colour}"/>'


def line(places: Sequence[tuple[float, float]], colour: str) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
