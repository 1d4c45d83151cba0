"""What was found, against the goals: ratios round by round, their medians, tables, a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from msgspec import Struct, field

from antiphon.load import Measurement, plot
from bench.measuring import Rung

METRICS: Final = {
    "sessions": "sessions a core",
    "cpu_us": "µs a chunk",
    "idle_kb": "KB idle",
    "load_kb": "KB at load",
    "added_p50_ms": "added p50, ms",
    "added_p99_ms": "added p99, ms",
}


class Results(Struct):
    """What was found in one mode ("up" or "updown"): by system and metric, for each round that has it."""

    mode: str
    sessions_at_cost: int
    values: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    rungs: dict[str, list[Rung]] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)

    def add(self, system: str, number: int, **values: float) -> None:
        """Note what was found in a round."""
        for metric, value in values.items():
            self.values.setdefault(system, {}).setdefault(metric, {})[number] = value

    def of(self, system: str, metric: str) -> dict[int, float]:
        """Return a metric's value by round; empty where it was not measured."""
        return self.values.get(system, {}).get(metric, {})

    def ratios(self, system: str, other: str, metric: str) -> list[float]:
        """Return one system's value by the other's, for each round that has both."""
        ours, theirs = self.of(system, metric), self.of(other, metric)
        return [ours[number] / theirs[number] for number in ours if theirs.get(number)]


class Goal(Struct, frozen=True):
    """What is to be reached by a metric's median; `by` names whose value of that round it is divided by."""

    metric: str
    limit: float
    by: str = ""
    at_least: bool = False
    mode: str = ""

    def values(self, results: Results, system: str) -> list[float]:
        if self.by:
            return results.ratios(system, self.by, self.metric)
        return list(results.of(system, self.metric).values())

    def reached(self, values: Sequence[float]) -> bool:
        found = median(values)
        return found >= self.limit if self.at_least else found <= self.limit

    def told(self) -> str:
        what = METRICS[self.metric] + (f" / {self.by}" if self.by else "")
        return f"{what} {'≥' if self.at_least else '≤'} {self.limit:g}"


GOALS: Final = (
    Goal("sessions", 4.0, by="fastapi", at_least=True, mode="up"),
    Goal("sessions", 2.0, by="node", at_least=True, mode="up"),
    Goal("sessions", 2.0, by="fastapi", at_least=True, mode="updown"),
    Goal("sessions", 1.3, by="node", at_least=True, mode="updown"),
    Goal("cpu_us", 0.4, by="fastapi", mode="up"),
    Goal("cpu_us", 0.8, by="node", mode="up"),
    Goal("cpu_us", 2.0, by="haproxy", mode="up"),
    Goal("added_p50_ms", 1.0, mode="up"),
    Goal("added_p99_ms", 5.0, mode="up"),
    Goal("load_kb", 40.0, mode="up"),
    Goal("idle_kb", 30.0, mode="up"),
)
JUDGED: Final = ("antiphon", "antiphon-v1")


def spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Return median and range: "212 (198–230)"."""
    if not values:
        return "–"
    shown = form(median(values))
    return shown if len(values) == 1 else f"{shown} ({form(min(values))}–{form(max(values))})"


def number(value: float) -> str:
    """Return a number with three digits that count."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 2)}f}"


def measured_table(results: Results) -> list[list[str]]:
    """Return the table of what was measured, its head first."""
    metrics = [name for name in METRICS if any(results.of(each, name) for each in results.values)]
    head = ["system", *(METRICS[name] for name in metrics)]
    rows = [
        [system, *(spread(list(results.of(system, name).values()), number) for name in metrics)]
        for system in results.values
    ]
    return [head, *rows]


def goals_table(results: Results) -> list[list[str]]:
    """Return the table of goals, its head first; goals that nothing was measured for are left out."""
    rows = []
    for system in JUDGED:
        for goal in GOALS:
            values = goal.values(results, system)
            if values and goal.mode == results.mode:
                verdict = "reached" if goal.reached(values) else "MISSED"
                rows.append([system, goal.told(), spread(values, number), verdict])
    return [["system", "goal", "found", ""], *rows]


def reached(results: Results) -> bool:
    """Whether no goal was missed."""
    return not any(row[-1] == "MISSED" for row in goals_table(results))


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def told(measured: Measurement) -> str:
    """Return a measurement in one line."""
    p50, p99 = (measured.latency.percentile(share) * 1000 for share in (0.5, 0.99))
    own = measured.lateness.percentile(0.99) * 1000
    return (
        f"{measured.answered} of {measured.due} answered, p50 {p50:.2f} ms, p99 {p99:.2f} ms, "
        f"the generator late by {own:.2f} ms (p99)"
    )


def show(results: Results) -> None:
    """Print both tables."""
    what = (
        "each chunk is answered by a word"
        if results.mode == "up"
        else "each chunk is answered by as much audio"
    )
    print(
        f"\n{results.mode}: {what}; cost and memory at {results.sessions_at_cost} sessions; median (range)\n"
    )
    print(markdown(measured_table(results)))
    goals = goals_table(results)
    if len(goals) > 1:
        print(f"\n{markdown(goals)}")
    for note in sorted(results.notes):
        print(f"\n{note}.")
    print(flush=True)


def page(tried: Sequence[Results], machine: str) -> str:
    """Return a page with the tables, and p99 against sessions of every system."""
    parts = [plot.paragraph(machine)]
    for results in tried:
        parts.append(plot.heading(f"{results.mode}: p99 against sessions"))
        series = [
            plot.Series(
                name,
                sorted((float(rung.sessions), rung.p99_ms) for rung in rungs if math.isfinite(rung.p99_ms)),
                dots=True,
            )
            for name, rungs in results.rungs.items()
        ]
        if any(each.points for each in series):
            axes = plot.Axes("sessions", "p99, ms", log_x=True, log_y=True, mark_y=20.0)
            parts.append(plot.chart(series, axes))
        parts.append(plot.table(measured_table(results)))
        parts.append(plot.table(goals_table(results)))
    return plot.page("Antiphon: what a core carries", parts)
