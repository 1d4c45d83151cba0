"""When chunks are due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.load.schedule import Wheel, offset_s


class Speaker:
    def __init__(self, number: int, interval_s: float = 0.1) -> None:
        self.number = number
        self.offset_s = offset_s(number, interval_s)


def test_sessions_are_spread_evenly_however_many_there_are() -> None:
    for count in (10, 37, 300, 1000):
        offsets = sorted(offset_s(number, 1.0) for number in range(count))
        gaps = [b - a for a, b in zip(offsets, [*offsets[1:], offsets[0] + 1.0], strict=True)]
        assert max(gaps) < 3 / count


@given(st.lists(st.floats(min_value=0.0001, max_value=0.35), min_size=1, max_size=50), st.integers(1, 20))
def test_each_is_due_once_an_interval(steps: list[float], count: int) -> None:
    """However late the wheel is asked, nothing that was due is left out, and nothing comes twice."""
    wheel: Wheel[Speaker] = Wheel(0.1, 5.0)
    speakers = [Speaker(number) for number in range(count)]
    for speaker in speakers:
        wheel.add(speaker, 4.99)
    now = 5.0
    found: list[tuple[int, float]] = []
    for step in steps:
        now += step
        assert wheel.wait_s(now - step) <= 0.1 + 1e-9
        found += [(speaker.number, due) for speaker, due in wheel.due(now)]
    assert [due for _, due in found] == sorted(due for _, due in found)
    for speaker in speakers:
        due = [at for number, at in found if number == speaker.number]
        expected = []
        turn = 5.0
        while turn + speaker.offset_s <= now:
            expected.append(turn + speaker.offset_s)
            turn += 0.1
        # The last may be on either side of a rounding.
        assert due[: len(expected) - 1] == pytest.approx(expected[:-1])
        assert abs(len(due) - len(expected)) <= 1


def test_nothing_is_due_too_early() -> None:
    wheel: Wheel[Speaker] = Wheel(0.1, 0.0)
    speaker = Speaker(1)
    wheel.add(speaker, 0.0)
    assert list(wheel.due(speaker.offset_s - 0.001)) == []
    assert wheel.wait_s(speaker.offset_s - 0.001) == pytest.approx(0.001)
    assert list(wheel.due(speaker.offset_s)) == [(speaker, speaker.offset_s)]
    assert wheel.wait_s(speaker.offset_s) == pytest.approx(0.1 - speaker.offset_s)


def test_one_that_is_added_or_removed_moves_no_other() -> None:
    wheel: Wheel[Speaker] = Wheel(0.1, 0.0)
    first, second = Speaker(0), Speaker(1)
    wheel.add(second, -0.01)
    assert [each for each, _ in wheel.due(0.07)] == [second]
    wheel.add(first, 0.07)
    assert list(wheel.due(0.099)) == []
    assert [(each, round(at, 3)) for each, at in wheel.due(0.17)] == [(first, 0.1), (second, 0.162)]
    wheel.remove(second)
    assert [each for each, _ in wheel.due(0.299)] == [first]
    assert (len(wheel), list(wheel)) == (1, [first])
    wheel.remove(first)
    assert list(wheel.due(1.0)) == []
    assert wheel.wait_s(0.25) == pytest.approx(0.05)


def test_what_was_due_while_it_stood_still_never_was() -> None:
    wheel: Wheel[Speaker] = Wheel(0.1, 0.0)
    speaker = Speaker(1)
    wheel.add(speaker, 0.0)
    wheel.skip(10.08)
    assert list(wheel.due(10.09)) == []
    assert [round(at, 4) for _, at in wheel.due(10.2)] == [10.1618]


def test_what_is_put_on_an_empty_wheel_is_due_from_then_on() -> None:
    wheel: Wheel[Speaker] = Wheel(0.1, 0.0)
    speaker = Speaker(1)
    wheel.add(speaker, 0.0)
    wheel.remove(speaker)
    assert list(wheel.due(2.0)) == []
    wheel.add(speaker, 2.0)
    assert [due for _, due in wheel.due(2.1)] == pytest.approx([2.0 + speaker.offset_s])
