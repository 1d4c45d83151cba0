"""Pages that need nothing else: charts as inline SVG, tables, light and dark. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from msgspec import Struct

_WIDTH: Final = 860
_HEIGHT: Final = 380
_LEFT: Final = 64
_RIGHT: Final = 150
"""Where the names stand."""
_TOP: Final = 16
_BOTTOM: Final = 48
_COLORS: Final = 8

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c1f23; --faint: #d9dde2; --soft: #5b636d; --paper: #fff;
  --c0: #1f6feb; --c1: #8250df; --c2: #cf222e; --c3: #1a7f37;
  --c4: #9a6700; --c5: #0a7ea4; --c6: #bf3989; --c7: #57606a; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e6e9ed; --faint: #343a42; --soft: #9aa4af; --paper: #14171b;
  --c0: #6cb0ff; --c1: #c297ff; --c2: #ff7b72; --c3: #56d364;
  --c4: #e3b341; --c5: #5ad1e6; --c6: #ff9bce; --c7: #aab4bf; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 56rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid var(--faint); }
td + td { text-align: right; } th + th { text-align: right; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
.grid { stroke: var(--faint); } .mark { stroke: var(--ink); stroke-dasharray: 5 4; }
.line { fill: none; stroke-width: 2; }
"""
_STYLE_COLORS: Final = "".join(
    f".s{n} {{ stroke: var(--c{n}); }} .f{n}, svg text.f{n} {{ fill: var(--c{n}); }}\n"
    for n in range(_COLORS)
)


class Series(Struct, frozen=True):
    """A line with its name; with `dots`, each point is shown, too."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


class Axes(Struct, frozen=True):
    """What stands on the axes. `mark_y` is a limit that is drawn across; `x_names` are ticks of one's own."""

    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    mark_y: float | None = None
    x_names: Sequence[tuple[float, str]] = ()


class _Scale:
    """From values to pixels."""

    def __init__(self, values: Sequence[float], begin: float, end: float, *, log: bool) -> None:
        self._log = log
        if log:
            values = [value for value in values if value > 0] or [1.0]
        low, high = min(values), max(values)
        if not log:
            low = min(0.0, low)
        if high <= low:
            high = low * 2 if log else low + 1
        self.low, self.high = low, high
        self._begin, self._end = begin, end

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self._log:
            value, low, high = math.log(max(value, self.low)), math.log(self.low), math.log(self.high)
        return self._begin + (value - low) / (high - low) * (self._end - self._begin)

    def ticks(self) -> Iterator[float]:
        """Yield round values within."""
        if not self._log:
            step = _round_step((self.high - self.low) / 6)
            tick = math.ceil(self.low / step) * step
            while tick <= self.high * (1 + 1e-9):
                yield tick
                tick += step
            return
        few = self.high / self.low < 50
        for power in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1):
            for digit in (1, 1.5, 2, 3, 5, 7) if few else (1, 2, 5):
                if self.low <= (tick := digit * 10.0**power) <= self.high:
                    yield tick


def chart(series: Sequence[Series], axes: Axes) -> str:
    """Return a chart as SVG. There must be a point in it."""
    points = [point for each in series for point in each.points]
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    x = _Scale([point[0] for point in points], _LEFT, right, log=axes.log_x)
    ys = [point[1] for point in points] + ([axes.mark_y] if axes.mark_y is not None else [])
    y = _Scale(ys, bottom, _TOP, log=axes.log_y)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(axes.y)} against {escape(axes.x)}">'
    ]
    for tick in y.ticks():
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick, name in axes.x_names or [(tick, f"{tick:g}") for tick in x.ticks()]:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{bottom + 18}" text-anchor="middle">{escape(name)}</text>')
    if axes.mark_y is not None:
        at = y(axes.mark_y)
        parts.append(f'<line class="mark" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
    for index, each in enumerate(series):
        parts += _line(each, index % _COLORS, x, y)
        parts.append(
            f'<text class="f{index % _COLORS}" x="{right + 12}" y="{_TOP + 14 + 18 * index}">'
            f"{escape(each.name)}</text>"
        )
    middle = (_LEFT + right) / 2
    parts.append(f'<text x="{middle:.0f}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(axes.x)}</text>')
    parts.append(
        f'<text transform="translate(14 {(_TOP + bottom) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(axes.y)}</text></svg>"
    )
    return "\n".join(parts)


def _line(series: Series, color: int, x: _Scale, y: _Scale) -> Iterator[str]:
    places = [f"{x(at):.1f},{y(value):.1f}" for at, value in series.points]
    if series.dots:
        for place in places:
            across, down = place.split(",")
            yield f'<circle class="f{color}" cx="{across}" cy="{down}" r="3"/>'
    else:
        yield f'<polyline class="line s{color}" points="{" ".join(places)}"/>'


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table, its head first."""
    head, *body = rows
    lines = ["<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body]
    return "\n".join(lines) + "</table>"


def page(title: str, parts: Sequence[str]) -> str:
    """Return a page that needs nothing from anywhere."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>\n'
        f"<style>{_STYLE}{_STYLE_COLORS}</style></head>\n<body><h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least)
