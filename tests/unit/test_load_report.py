"""Tables and pages of a load."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from antiphon.load import Histogram, Measurement, plot, report
from antiphon.load.report import Outcome
from antiphon.load.turns import Turns
from antiphon.load.verdict import Verdict


def outcome(turns: Turns | None = None) -> Outcome:
    measured = Measurement(sessions=3, seconds=2.0, due=100, answered=100, cpu_s=0.5)
    for number in range(100):
        measured.latency.add((number + 1) / 1000)
        measured.lateness.add(0.0001)
        measured.seconds_of.setdefault(number // 50, Histogram()).add((number + 1) / 1000)
    set_up = Histogram()
    set_up.add(0.003)
    return Outcome(
        "ws://127.0.0.1:1/ws?<x>", "ack", set_up, measured, 0, Verdict(True, "All is well."), turns
    )


def test_the_table() -> None:
    head, set_up, answers, own = report.rows(outcome())
    assert head == ["milliseconds", "p50", "p90", "p99", "p99.9", "max", "count"]
    assert (set_up[1], set_up[-1]) == ("3.0", "1")
    assert [float(cell) for cell in answers[1:]] == pytest.approx([50, 90, 99, 100, 100, 100], rel=0.011)
    assert own[0].startswith("chunk due, to written")


def test_turns_have_rows_of_their_own() -> None:
    turns = Turns(said=1)
    turns.to_final.add(0.2)
    turns.to_audio.add(0.4)
    names = [row[0] for row in report.rows(outcome(turns))]
    assert names[3:5] == ["end of speech, to final transcript", "end of speech, to first audio"]
    assert "1 recordings were said to their end, 0 were not answered." in report.sentences(outcome(turns))


def test_sentences() -> None:
    found = outcome()
    assert report.sentences(found) == [
        "3 sessions, 2 s, 100 chunks.",
        "100.00% of the chunks were answered.",
        "No errors.",
        "The generator itself used 25% of a processor, 5000 µs a chunk.",
        "All is well.",
    ]
    found.answers = "none"
    found.measured.errors["RATE"] = 2
    assert report.sentences(found)[1:3] == [
        "Nothing answers a single chunk here; 0 results and pieces of audio came.",
        "Errors: RATE (2).",
    ]
    found.answers = "number"
    found.measured.skipped = 4
    assert "4 were passed over." in report.sentences(found)


class _Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [name for name, _ in attrs if name in ("src", "href")]
        assert tag not in ("script", "link", "img", "iframe")


def test_the_page_needs_nothing_else() -> None:
    page = report.page(outcome(Turns()), "a machine")
    parser = _Addresses()
    parser.feed(page)
    assert parser.found == []
    assert "@import" not in page
    assert "url(" not in page
    assert "prefers-color-scheme: dark" in page
    assert "&lt;x&gt;" in page
    assert "<x>" not in page
    drawings = page.split("<svg")[1:]
    assert len(drawings) == 2
    for drawing in drawings:
        ET.fromstring("<svg" + drawing.partition("</svg>")[0] + "</svg>")


def points(svg: str) -> list[tuple[float, float]]:
    line = ET.fromstring(svg).find("polyline")
    assert line is not None
    pairs = [pair.split(",") for pair in line.attrib["points"].split()]
    return [(float(x), float(y)) for x, y in pairs]


@pytest.mark.parametrize("log", [False, True])
def test_a_higher_value_stands_higher(log: bool) -> None:
    series = plot.Series("a", [(1.0, 1.0), (2.0, 10.0), (4.0, 100.0)])
    axes = plot.Axes("x", "y", log_x=log, log_y=log, mark_y=20.0)
    (x1, y1), (x2, y2), (x3, y3) = points(plot.chart([series], axes))
    assert x1 < x2 < x3
    assert y1 > y2 > y3
    if log:
        assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
        assert y1 - y2 == pytest.approx(y2 - y3, abs=0.2)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_one_point_is_a_chart_too(value: float) -> None:
    for log in (False, True):
        axes = plot.Axes("x", "y", log_x=log, log_y=log)
        svg = plot.chart([plot.Series("a", [(value, value)], dots=True)], axes)
        assert ET.fromstring(svg).find("circle") is not None


def test_a_measurement_without_answers_has_a_page() -> None:
    nothing = Outcome("ws://x", "none", Histogram(), Measurement(sessions=1), 0, Verdict(None, "Nothing."))
    assert "<svg" not in report.page(nothing, "a machine")
