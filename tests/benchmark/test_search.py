"""The search for the most sessions that pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.search import EXACT, TRIES, Search


def run(search: Search, capacity: int) -> list[int]:
    tried = []
    while (sessions := search.next) is not None:
        tried.append(sessions)
        search.report(sessions <= capacity)
    return tried


@given(start=st.integers(1, 20_000), capacity=st.integers(4, 19_999))
def test_it_finds_what_there_is(start: int, capacity: int) -> None:
    search = Search(start)
    tried = run(search, capacity)
    assert search.passed <= capacity
    assert search.failed is not None
    assert search.failed > capacity
    assert search.failed <= max(search.passed * EXACT, search.passed + 1)
    assert len(tried) < 80


def test_a_start_that_is_near_takes_few_tries() -> None:
    assert len(run(Search(420), 500)) <= 12


def test_nothing_passes() -> None:
    search = Search(100)
    tried = run(search, 0)
    assert (search.passed, min(tried)) == (0, 4)


def test_all_pass() -> None:
    search = Search(100, most=500)
    assert max(run(search, 10_000)) == 500
    assert (search.passed, search.failed) == (500, None)


def test_one_failure_is_not_believed() -> None:
    search = Search(100)
    search.report(True)
    assert search.next == 130
    search.report(False)
    assert (search.next, search.failed) == (130, None)
    search.report(True)
    assert search.next == 169
    for _ in range(TRIES):
        assert search.next == 169
        search.report(False)
    assert search.failed == 169


def test_what_cannot_be_judged_ends_it() -> None:
    search = Search(100)
    search.report(True)
    search.stop()
    assert (search.next, search.passed) == (None, 100)


@pytest.mark.parametrize("start", [0, 10**9])
def test_a_start_out_of_range(start: int) -> None:
    assert Search(start, least=4, most=5000).next == (4 if start == 0 else 5000)
