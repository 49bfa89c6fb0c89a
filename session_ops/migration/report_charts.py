"""Charts as inline SVG: read by eye in light and dark, by their titles and the tables behind them without it.

Lines differ by dashes as well as by colour. Colours are CSS variables of the page.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from session_ops.migration.markup import element

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

WIDTH, HEIGHT = 400, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 10, 26
_MINUTE, _HOUR = 60, 3_600
_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400, 604_800)


class Series(NamedTuple):
    """A line: its name, its values (None: nothing was measured) and the class that styles it."""

    name: str
    values: Sequence[float | None]
    style: str


def chart(name: str, title: str, description: str, seconds: Sequence[float], lines: Sequence[Series], *,
          shaded: Sequence[bool] = (), filled: bool = False) -> Element:  # fmt: skip
    """A chart over time. `name` is unique in the page; `seconds` are the ends of equal parts from 0; `shaded` marks
    parts; `filled`: lines rise from zero and are filled below, else each value is level over its part.
    """
    span = seconds[-1] or 1.0
    top = ceiling(max((value for line in lines for value in line.values if value is not None), default=0.0))
    width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def at(moment: float, value: float) -> str:
        return f"{_LEFT + moment / span * width:.1f},{_TOP + (1 - value / top) * height:.1f}"

    svg = element(
        "svg", element("title", title, id=f"{name}-title"), element("desc", description, id=f"{name}-desc"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_labelledby=f"{name}-title", aria_describedby=f"{name}-desc",
    )  # fmt: skip
    starts = [0.0, *seconds[:-1]]
    for start, end, marked in zip(starts, seconds, shaded, strict=False):
        if marked:
            wide = f"{(end - start) / span * width:.1f}"
            left = f"{_LEFT + start / span * width:.1f}"
            svg.append(element("rect", class_="shade", x=left, y=_TOP, width=wide, height=height))
    for fraction in (0.0, 0.5, 1.0):
        y = f"{_TOP + (1 - fraction) * height:.1f}"
        svg.append(element("line", class_="grid", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y))
        svg.append(element("text", short(top * fraction), x=_LEFT - 5, y=y, dy="0.35em", text_anchor="end"))
    for moment in ticks(span):
        middle = f"{_LEFT + moment / span * width:.1f}"
        anchor = "end" if moment / span > 0.95 else "middle" if moment else "start"
        svg.append(element("text", clock(moment), x=middle, y=HEIGHT - 8, text_anchor=anchor))
    for line in lines:
        if filled:
            path = [
                at(0.0, 0.0),
                *(at(moment, value or 0.0) for moment, value in zip(seconds, line.values, strict=True)),
            ]
            svg.append(element("polygon", class_=f"area {line.style}", points=" ".join([*path, at(span, 0.0)])))
            svg.append(element("polyline", class_=f"line {line.style}", points=" ".join(path)))
            continue
        for part in _stairs(starts, seconds, line.values):
            points = " ".join(at(moment, value) for moment, value in part)
            svg.append(element("polyline", class_=f"line {line.style}", points=points))
    return svg


def ceiling(value: float) -> float:
    """The next round number: 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def ticks(span: float) -> list[float]:
    """Moments for the axis, at most six."""
    step = next((step for step in _STEPS if span / step <= 5), span / 5)
    return [number * step for number in range(int(span / step) + 1)]


def short(value: float) -> str:
    """A number as an axis shows it."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def clock(seconds: float) -> str:
    """A time since the beginning, with its unit."""
    if seconds < _MINUTE:
        return f"{seconds:g} s"
    if seconds < _HOUR:
        minutes, rest = divmod(seconds, _MINUTE)
        return f"{minutes:g} min" if not rest else f"{minutes:g}:{rest:02.0f} min"
    hours, rest = divmod(seconds, _HOUR)
    return f"{hours:g} h" if rest < _MINUTE else f"{hours:g}:{rest // _MINUTE:02.0f} h"


def _stairs(
    starts: Sequence[float], ends: Sequence[float], values: Sequence[float | None]
) -> list[list[tuple[float, float]]]:
    """The pieces of a line between its gaps, level over each part."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for start, end, value in zip(starts, ends, values, strict=True):
        if value is None:
            pieces.append([])
        else:
            pieces[-1] += [(start, value), (end, value)]
    return [piece for piece in pieces if piece]
