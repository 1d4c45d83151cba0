"""Notices: each limit is told of once, half a minute before, and again when it has moved."""

from __future__ import annotations

from antiphon.extension import GoAwayReason
from antiphon.session.notices import LEAST_SPAN_S, NOTICE_S, Limit, Notices

Limits = dict[GoAwayReason, Limit]


def test_each_is_given_once_in_time() -> None:
    notices = Notices()
    limits: Limits = {"idle": Limit(300, 300), "token": Limit(200, 200)}
    assert notices.next_at(limits) == 200 - NOTICE_S
    assert notices.due(limits, 169.9) == []
    assert notices.due(limits, 170) == [("token", 30)]
    assert notices.due(limits, 171) == []
    assert notices.next_at(limits) == 300 - NOTICE_S
    assert notices.due(limits, 280) == [("idle", 20)], "late is told so"
    assert notices.next_at(limits) == float("inf")


def test_a_limit_that_moves_is_told_of_again() -> None:
    notices = Notices()
    notices.due({"idle": Limit(300, 300)}, 270)
    moved: Limits = {"idle": Limit(571, 300)}
    assert notices.next_at(moved) == 541
    assert notices.due(moved, 541) == [("idle", 30)]


def test_several_may_be_due() -> None:
    limits: Limits = {"idle": Limit(100, 100), "max_duration": Limit(90, 90), "token": Limit(500, 500)}
    assert Notices().due(limits, 75) == [("idle", 25), ("max_duration", 15)]


def test_a_short_span_is_not_worth_it() -> None:
    notices = Notices()
    limits: Limits = {"idle": Limit(100, LEAST_SPAN_S - 0.1)}
    assert notices.next_at(limits) == float("inf")
    assert notices.due(limits, 99) == []
    assert Notices().due({"idle": Limit(100, LEAST_SPAN_S)}, 99) == [("idle", 1)]


def test_without_limits_there_is_nothing_to_tell() -> None:
    assert Notices().next_at({}) == float("inf")
    assert Notices().due({"token": Limit(float("inf"), float("inf"))}, 1e12) == []
