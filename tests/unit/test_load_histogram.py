"""Percentiles in bounded memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.load.histogram import LEAST_S, MOST_S, Histogram

seconds = st.floats(min_value=LEAST_S, max_value=MOST_S, allow_nan=False)


def test_nothing() -> None:
    empty = Histogram()
    assert (empty.count, empty.mean_s, empty.percentile(0.99), empty.most_s) == (0, 0.0, 0.0, 0.0)
    assert list(empty.curve()) == []


@given(st.lists(seconds, min_size=1), st.floats(min_value=0.0, max_value=1.0))
def test_a_percentile_is_at_most_one_percent_too_high(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert exact * 0.999_999 <= histogram.percentile(share) <= exact * 1.011
    assert histogram.mean_s == pytest.approx(sum(values) / len(values))


@given(st.lists(seconds), st.lists(seconds))
def test_merged_is_as_if_counted_by_one(some: list[float], others: list[float]) -> None:
    one, first, second = Histogram(), Histogram(), Histogram()
    for value in some:
        one.add(value)
        first.add(value)
    for value in others:
        one.add(value)
        second.add(value)
    first.merge(second)
    assert list(first.curve()) == list(one.curve())
    assert (first.count, first.most_s) == (one.count, one.most_s)
    assert first.mean_s == pytest.approx(one.mean_s)


def test_merging() -> None:
    first, second = Histogram(), Histogram()
    first.add(0.001)
    second.add(0.003)
    first.merge(second)
    assert (first.count, first.most_s, first.mean_s) == (2, 0.003, 0.002)
    assert first.percentile(0.5) == pytest.approx(0.001, rel=0.011)


def test_what_is_out_of_range_counts_at_its_ends() -> None:
    histogram = Histogram()
    histogram.add(0.0)
    histogram.add(-1.0)  # two clocks may differ
    histogram.add(10 * MOST_S)
    assert histogram.count == 3
    assert histogram.percentile(0.5) == pytest.approx(LEAST_S)
    assert histogram.percentile(1.0) == MOST_S


def test_the_curve_ends_at_all_of_it() -> None:
    histogram = Histogram()
    for value in (0.001, 0.001, 0.010, 0.100):
        histogram.add(value)
    curve = list(histogram.curve())
    assert [share for share, _ in curve] == [0.5, 0.75, 1.0]
    assert [value for _, value in curve] == pytest.approx([0.001, 0.010, 0.100], rel=0.011)


def test_memory_is_bounded() -> None:
    histogram = Histogram()
    for number in range(100_000):
        histogram.add(number / 1000)
    assert len(list(histogram.curve())) < 2100
