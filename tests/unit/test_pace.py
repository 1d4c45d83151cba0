"""The pace: audio may come faster than real time, for a while; then it is read more slowly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from antiphon.session.pace import TOLD_EVERY_S, WINDOW_S, Pace

NOW = 1000.0


def test_what_is_fast_for_a_while_is_let_be() -> None:
    pace = Pace(4.0)
    assert not pace.add(4 * WINDOW_S, NOW)
    assert pace.resume_at <= NOW


def test_more_is_not_read_until_it_would_have_been_in_time() -> None:
    pace = Pace(4.0)
    assert pace.add(4 * WINDOW_S + 4, NOW)
    assert pace.resume_at == NOW + WINDOW_S + 1


def test_it_is_told_once_a_minute() -> None:
    pace = Pace(1.0)
    told = [pace.add(2 * WINDOW_S, NOW + second) for second in range(0, 130, 10)]
    assert [place for place, was_told in enumerate(told) if was_told] == [0, 6, 12]
    assert TOLD_EVERY_S == 60


def test_every_window_is_a_new_one() -> None:
    pace = Pace(1.0)
    pace.add(WINDOW_S, NOW)
    assert not pace.add(WINDOW_S, NOW + WINDOW_S)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 2)), max_size=60))
def test_who_waits_as_told_is_read_at_that_speed(steps: list[tuple[float, float]]) -> None:
    pace, now, audio_s = Pace(4.0), NOW, 0.0
    for seconds, pause_s in steps:
        now = max(now, pace.resume_at)
        pace.add(seconds, now)
        audio_s += seconds
        now += pause_s
    now = max(now, pace.resume_at)
    assert audio_s <= 4.0 * (now - NOW) + 4.0 * WINDOW_S * 2


@given(st.lists(st.floats(0.01, 0.2), max_size=200))
def test_one_that_speaks_is_never_held(pieces: list[float]) -> None:
    pace, now = Pace(1.0), NOW
    for seconds in pieces:
        now += seconds
        assert not pace.add(seconds, now) or seconds > WINDOW_S
        assert pace.resume_at <= now + max(pieces) + 1e-6
