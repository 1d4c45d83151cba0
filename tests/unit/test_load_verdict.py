"""Counting what became of chunks, and judging it."""

from __future__ import annotations

from collections.abc import Sequence

from antiphon.load import Limits, Measurement, judge
from antiphon.load.tally import Tally


def window(tally: Tally, waits_ms: Sequence[float | None], late_ms: float = 0.0) -> Measurement:
    """Chunks that are due one a millisecond from 100 on, and their answers."""
    tally.open(7, 100.0, 101.0)
    for number, wait_ms in enumerate(waits_ms):
        due = 100.0 + number / 1000
        tally.sent(due, due + late_ms / 1000)
        if wait_ms is not None:
            tally.answered(due, due + wait_ms / 1000)
    return tally.close()


def test_what_is_due_in_the_window_counts() -> None:
    tally = Tally()
    tally.sent(99.0, 99.0)
    tally.open(7, 100.0, 102.0)
    for due in (99.9, 100.0, 101.9, 102.0):
        tally.sent(due, due + 0.001)
    assert tally.outstanding == 2
    for due in (99.0, 99.9, 100.0, 101.9, 102.0):
        tally.answered(due, due + 0.010)
    assert tally.outstanding == 0
    measured = tally.close()
    assert (measured.sessions, measured.seconds, measured.due, measured.answered) == (7, 2.0, 2, 2)
    assert sorted(measured.seconds_of) == [0, 1]
    tally.answered(100.0, 105.0)
    assert tally.close().answered == 0


def test_all_is_well() -> None:
    verdict = judge(window(Tally(), [5.0] * 1000), Limits())
    assert (verdict.passed, verdict.why) == (True, "p99 is 5.0 ms, 100.00% answered.")


def test_too_slow() -> None:
    assert judge(window(Tally(), [5.0] * 985 + [25.0] * 15), Limits()).passed is False
    assert judge(window(Tally(), [5.0] * 995 + [25.0] * 5), Limits()).passed is True


def test_too_few_answers() -> None:
    verdict = judge(window(Tally(), [5.0] * 990 + [None] * 10), Limits())
    assert (verdict.passed, verdict.why) == (False, "Only 99.0% of the chunks were answered.")
    assert judge(window(Tally(), [5.0] * 996 + [None] * 4), Limits()).passed is True


def test_one_that_was_passed_over_is_lost() -> None:
    tally = Tally()
    tally.open(1, 0.0, 1.0)
    for number in range(1000):
        tally.sent(number / 1000, number / 1000)
        (tally.skipped if number == 500 else lambda due: tally.answered(due, due + 0.001))(number / 1000)
    verdict = judge(tally.close(), Limits())
    assert (verdict.passed, verdict.why) == (False, "1 answers never came.")


def test_errors() -> None:
    tally = Tally()
    tally.error("EARLIER")
    tally.open(1, 0.0, 1.0)
    tally.sent(0.0, 0.0)
    tally.answered(0.0, 0.001)
    tally.error("UPSTREAM_LOST")
    tally.error("UPSTREAM_LOST")
    tally.blocked(0.5)
    tally.blocked(1.5)
    tally.skipped(1.5)
    verdict = judge(tally.close(), Limits())
    assert (verdict.passed, verdict.why) == (False, "There were errors: UPSTREAM_LOST (2), not read (1).")
    assert tally.errors == {"EARLIER": 1, "UPSTREAM_LOST": 2}


def test_a_generator_that_cannot_keep_up_is_no_judge() -> None:
    verdict = judge(window(Tally(), [25.0] * 1000, late_ms=6.0), Limits())
    assert verdict.passed is None
    assert "could not keep up" in verdict.why
    # A gateway that is slower than both together is too slow by itself.
    assert judge(window(Tally(), [45.0] * 1000, late_ms=6.0), Limits()).passed is False
    assert judge(Measurement(sessions=1), Limits()).passed is None


def test_where_nothing_answers() -> None:
    tally = Tally()
    measured = window(tally, [None] * 100)
    tally.heard()
    assert tally.texts == 1
    assert judge(measured, Limits(answered_share=0.0)).why == "The generator was fast enough."
