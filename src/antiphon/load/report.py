"""What a load came to, as tables and as a page. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from antiphon.load import plot
from antiphon.load.connection import Answers
from antiphon.load.histogram import Histogram
from antiphon.load.turns import Turns
from antiphon.load.verdict import Measurement, Verdict, told

SHARES: Final = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max"))
_ANSWERED: Final = {
    "number": "chunk due, to its transcript",
    "audio": "chunk due, to its audio",
    "ack": "chunk due, to its acknowledgement",
}


class Outcome(Struct):
    """What came of a load."""

    url: str
    answers: Answers
    set_up: Histogram
    measured: Measurement
    texts: int
    """Transcripts and audio that answered no chunk in particular."""
    verdict: Verdict
    turns: Turns | None = None


def rows(outcome: Outcome) -> list[list[str]]:
    """Return the table of times in milliseconds, its head first; only what was measured."""
    measured, turns = outcome.measured, outcome.turns
    table = [["milliseconds", *(name for _, name in SHARES), "count"]]
    times = [("connecting, to auth_success", outcome.set_up)]
    if outcome.answers in _ANSWERED:
        times.append((_ANSWERED[outcome.answers], measured.latency))
    if turns:
        times.append(("end of speech, to final transcript", turns.to_final))
        times.append(("end of speech, to first audio", turns.to_audio))
    times.append(("chunk due, to written (our own)", measured.lateness))
    for name, histogram in times:
        if histogram.count:
            values = [f"{histogram.percentile(share) * 1000:.1f}" for share, _ in SHARES]
            table.append([name, *values, str(histogram.count)])
    return table


def sentences(outcome: Outcome) -> list[str]:
    """Return what the table does not say."""
    measured, turns = outcome.measured, outcome.turns
    said = [f"{measured.sessions} sessions, {measured.seconds:.0f} s, {measured.due} chunks."]
    if outcome.answers in _ANSWERED:
        said.append(f"{measured.answered_share:.2%} of the chunks were answered.")
        if measured.skipped:
            said.append(f"{measured.skipped} were passed over.")
    else:
        said.append(f"Nothing answers a single chunk here; {outcome.texts} results and pieces of audio came.")
    if turns:
        said.append(f"{turns.said} recordings were said to their end, {turns.unanswered} were not answered.")
    said.append(f"Errors: {told(measured.errors)}." if measured.errors else "No errors.")
    if measured.due and measured.seconds:
        busy, each = measured.cpu_s / measured.seconds, measured.cpu_s / measured.due * 1e6
        said.append(f"The generator itself used {busy:.0%} of a processor, {each:.0f} µs a chunk.")
    said.append(outcome.verdict.why)
    return said


def page(outcome: Outcome, machine: str) -> str:
    """Return a page with the tables, the distribution, and the latency over time."""
    measured = outcome.measured
    parts = [plot.paragraph(f"{outcome.url}, {machine}"), plot.paragraph(" ".join(sentences(outcome)))]
    parts.append(plot.table(rows(outcome)))
    series = [
        plot.Series(name, _tail(histogram))
        for name, histogram in (
            ("answered", measured.latency),
            ("to final", outcome.turns.to_final if outcome.turns else Histogram()),
            ("to audio", outcome.turns.to_audio if outcome.turns else Histogram()),
            ("written (own)", measured.lateness),
        )
        if histogram.count
    ]
    if series:
        parts.append(plot.heading("Percentiles"))
        ticks = [(1 / (1 - share), name) for share, name in SHARES if share < 1]
        axes = plot.Axes("percentile", "milliseconds", log_x=True, log_y=True, x_names=ticks)
        parts.append(plot.chart(series, axes))
    if measured.seconds_of:
        parts.append(plot.heading("Over time"))
        over_time = [
            plot.Series(
                name, [(second, found.percentile(share) * 1000) for second, found in _by_second(measured)]
            )
            for share, name in ((0.5, "p50"), (0.99, "p99"), (1.0, "max"))
        ]
        parts.append(plot.chart(over_time, plot.Axes("seconds", "milliseconds")))
    return plot.page("Antiphon under load", parts)


def _tail(histogram: Histogram) -> Sequence[tuple[float, float]]:
    """Return the distribution against 1 / (1 - share): a logarithmic axis gives each nine its room."""
    points = [
        (1 / (1 - share), seconds * 1000) for share, seconds in histogram.curve() if 0.5 <= share <= 0.999_9
    ]
    return points or [(2.0, histogram.percentile(0.5) * 1000)]


def _by_second(measured: Measurement) -> list[tuple[int, Histogram]]:
    return sorted(measured.seconds_of.items())
