"""When a connection to the model is renewed, and how often that is tried."""

from __future__ import annotations

import pytest

from antiphon import live
from antiphon.errors import DISPOSITIONS, ErrorCode
from antiphon.session.renewal import (
    AGE_GRACE_S,
    CONNECTION_S,
    HANDLE_TRIES,
    LEAD_S,
    LEAST_NOTICE_S,
    MUTE_S,
    PATIENCE_S,
    PAUSES_S,
    POLL_S,
    QUIET_S,
    QUOTA_TRIES,
    SHORT_S,
    Renewal,
    Upkeep,
)

NOW = 1000.0
SECOND = live.Audio(bytes(2 * live.INPUT_RATE_HZ))
INFINITY = float("inf")


def opened() -> Upkeep:
    upkeep = Upkeep()
    upkeep.opened(NOW)
    return upkeep


class TestAnnounced:
    def test_it_is_renewed_at_once_where_nobody_speaks(self) -> None:
        upkeep = opened()
        upkeep.going_away(50.0, NOW + 5, "go_away")
        assert upkeep.deadline == NOW + 5
        assert upkeep.due(NOW + 5, quiet=True) == "go_away"

    def test_else_at_the_first_silence(self) -> None:
        upkeep = opened()
        upkeep.gave(SECOND, True, NOW + 4.9)
        upkeep.going_away(50.0, NOW + 5, "go_away")
        assert upkeep.due(NOW + 5, quiet=True) is None
        assert upkeep.deadline == NOW + 5 + POLL_S
        assert upkeep.due(NOW + 4.9 + QUIET_S, quiet=False) is None
        assert upkeep.due(NOW + 5 + QUIET_S, quiet=True) == "go_away"

    def test_and_in_time_whoever_speaks(self) -> None:
        upkeep = opened()
        upkeep.going_away(10.0, NOW, "recovered")
        assert upkeep.due(NOW + 10 - LEAD_S - 0.01, quiet=False) is None
        assert upkeep.due(NOW + 10 - LEAD_S, quiet=False) == "recovered"

    def test_what_was_on_its_way_may_still_come(self) -> None:
        upkeep = opened()
        upkeep.going_away(0.0, NOW, "go_away")
        assert upkeep.due(NOW, quiet=False) is None
        assert upkeep.due(NOW + LEAST_NOTICE_S, quiet=False) == "go_away"

    def test_the_earliest_announcement_counts(self) -> None:
        upkeep = opened()
        upkeep.going_away(10.0, NOW, "go_away")
        upkeep.going_away(60.0, NOW + 1, "recovered")
        assert upkeep.due(NOW + 8, quiet=False) == "go_away"
        upkeep.opened(NOW + 9)
        upkeep.going_away(60.0, NOW + 9, "go_away")
        upkeep.going_away(5.0, NOW + 9, "recovered")
        assert upkeep.due(NOW + 12, quiet=False) == "recovered"


class TestAge:
    def test_an_old_one_is_renewed_when_nobody_speaks(self) -> None:
        upkeep = opened()
        assert upkeep.deadline == NOW + CONNECTION_S
        assert upkeep.due(NOW + CONNECTION_S - 1, quiet=True) is None
        assert upkeep.due(NOW + CONNECTION_S, quiet=True) == "max_duration"

    def test_or_when_its_grace_is_over(self) -> None:
        upkeep = opened()
        assert upkeep.due(NOW + CONNECTION_S, quiet=False) is None
        at = NOW + CONNECTION_S + AGE_GRACE_S
        while (due_at := upkeep.deadline) < at:
            assert upkeep.due(due_at, quiet=False) is None
        assert upkeep.due(at, quiet=False) == "max_duration"

    def test_each_connection_has_its_own(self) -> None:
        upkeep = opened()
        upkeep.opened(NOW + 500)
        assert upkeep.deadline == NOW + 500 + CONNECTION_S

    def test_none_has_none(self) -> None:
        upkeep = Upkeep()
        assert (upkeep.deadline, upkeep.due(NOW, quiet=True)) == (INFINITY, None)
        upkeep.opened(NOW)
        upkeep.gave(live.Text("hi"), False, NOW)
        upkeep.going_away(1.0, NOW, "go_away")
        upkeep.closed()
        assert (upkeep.deadline, upkeep.due(NOW + 1e6, quiet=True)) == (INFINITY, None)

    def test_one_that_breaks_at_once_is_short(self) -> None:
        upkeep = opened()
        assert upkeep.is_short(NOW + SHORT_S - 0.1)
        assert not upkeep.is_short(NOW + SHORT_S)


class TestMute:
    @pytest.mark.parametrize("turn", [live.Text("hi"), live.ToolResult("1", "n", {}), live.ActivityEnd()])
    def test_a_turn_that_nothing_follows(self, turn: live.LiveInput) -> None:
        upkeep = opened()
        upkeep.gave(turn, False, NOW + 1)
        upkeep.gave(turn, False, NOW + 5)
        assert upkeep.deadline == NOW + 1 + MUTE_S
        assert upkeep.due(NOW + MUTE_S, quiet=True) is None
        assert upkeep.due(NOW + 1 + MUTE_S, quiet=False) == "mute"

    @pytest.mark.parametrize("event", [live.Said("a"), live.Heard("b"), live.TurnEnded(), live.Interrupted()])
    def test_any_sign_of_life_will_do(self, event: live.LiveEvent) -> None:
        upkeep = opened()
        upkeep.gave(live.Text("hi"), False, NOW)
        upkeep.event(event)
        assert upkeep.due(NOW + MUTE_S, quiet=False) is None

    @pytest.mark.parametrize("event", [live.Metered(1, 1, 2), live.GoingAway(60), live.HandleChanged("h")])
    def test_but_not_what_a_machine_says_by_itself(self, event: live.LiveEvent) -> None:
        upkeep = opened()
        upkeep.gave(live.Text("hi"), False, NOW)
        upkeep.event(event)
        assert upkeep.due(NOW + MUTE_S, quiet=False) == "mute"

    @pytest.mark.parametrize("transcribes", [True, False])
    def test_speech_that_is_not_transcribed(self, transcribes: bool) -> None:
        """Only of a model that does so, since others may wait for the end of what is said."""
        upkeep = opened()
        if transcribes:
            upkeep.event(live.Heard("hello"))
        for second in range(3):
            upkeep.gave(SECOND, True, NOW + second)
        assert upkeep.due(NOW + MUTE_S, quiet=False) == ("mute" if transcribes else None)

    def test_a_cough_is_no_speech(self) -> None:
        upkeep = opened()
        upkeep.event(live.Heard("hello"))
        upkeep.gave(SECOND, True, NOW)
        for second in range(9):
            upkeep.gave(SECOND, False, NOW + second)
        assert upkeep.due(NOW + MUTE_S, quiet=False) is None

    def test_the_end_of_a_stream_is_a_turn_where_somebody_spoke(self) -> None:
        upkeep = opened()
        upkeep.gave(SECOND, False, NOW)
        upkeep.gave(live.AudioEnd(), False, NOW)
        assert upkeep.due(NOW + MUTE_S, quiet=False) is None
        upkeep.gave(SECOND, True, NOW + 20)
        upkeep.gave(live.AudioEnd(), False, NOW + 21)
        assert upkeep.due(NOW + 21 + MUTE_S, quiet=False) == "mute"

    def test_nor_is_an_interruption_one(self) -> None:
        upkeep = opened()
        upkeep.gave(live.Interrupt(), False, NOW)
        upkeep.gave(live.ActivityStart(), False, NOW)
        assert upkeep.due(NOW + MUTE_S, quiet=False) is None

    def test_one_after_the_other_is_let_be(self) -> None:
        """A turn that no model has anything to say to must not be asked again for ever."""
        upkeep = opened()
        upkeep.muted = 2
        upkeep.gave(live.Text("hi"), False, NOW)
        assert upkeep.due(NOW + MUTE_S, quiet=False) is None
        upkeep.event(live.Said("Yes?"))
        upkeep.gave(live.Text("hi"), False, NOW)
        assert upkeep.due(NOW + MUTE_S, quiet=False) == "mute"

    def test_a_new_connection_owes_nothing(self) -> None:
        upkeep = opened()
        upkeep.gave(live.Text("hi"), False, NOW)
        upkeep.opened(NOW + 5)
        assert upkeep.due(NOW + MUTE_S, quiet=False) is None


def test_a_handle_is_good_until_the_model_says_that_it_is_not() -> None:
    upkeep = opened()
    resumable = []
    for handle in ("h", None, "h"):
        upkeep.event(live.HandleChanged(handle))
        resumable.append(upkeep.resumable)
    upkeep.opened(NOW)
    assert [*resumable, upkeep.resumable] == [True, False, True, False]


def renewal(handle: str | None = "h") -> Renewal:
    return Renewal("lost", NOW, handle, NOW + PATIENCE_S)


def fails(tried: Renewal, code: ErrorCode, now: float = NOW) -> bool:
    return tried.failed(code, retryable=DISPOSITIONS[code].retryable, now=now)


class TestRenewal:
    def test_pauses_grow_and_patience_ends(self) -> None:
        tried = renewal()
        now, pauses = NOW, []
        while fails(tried, ErrorCode.UPSTREAM_UNAVAILABLE, now):
            pauses.append(round(tried.retry_at - now, 3))
            now = tried.retry_at
        assert pauses[: len(PAUSES_S)] == [*PAUSES_S[1:], PAUSES_S[-1]]
        assert set(pauses[len(PAUSES_S) :]) == {PAUSES_S[-1]}
        assert NOW + PATIENCE_S - PAUSES_S[-1] <= now < NOW + PATIENCE_S
        assert tried.last is ErrorCode.UPSTREAM_UNAVAILABLE
        assert tried.handle == "h"

    def test_a_handle_that_is_still_in_use_is_tried_again_and_then_left(self) -> None:
        tried = renewal()
        for attempt in range(1, HANDLE_TRIES):
            assert fails(tried, ErrorCode.UPSTREAM_REFUSED)
            assert (tried.handle, tried.retry_at) == ("h", NOW + PAUSES_S[attempt])
        assert fails(tried, ErrorCode.UPSTREAM_REFUSED)
        assert (tried.handle, tried.retry_at) == (None, NOW)
        assert not fails(tried, ErrorCode.UPSTREAM_REFUSED)

    def test_one_that_is_not_known_is_left_at_once(self) -> None:
        tried = renewal()
        assert fails(tried, ErrorCode.UPSTREAM_UNSUPPORTED)
        assert (tried.handle, tried.retry_at) == (None, NOW)

    def test_what_is_refused_without_one_is_refused(self) -> None:
        assert not fails(renewal(None), ErrorCode.UPSTREAM_REFUSED)

    def test_an_engine_that_is_busy_is_asked_until_the_patience_is_over(self) -> None:
        tried = renewal()
        assert all(fails(tried, ErrorCode.UPSTREAM_BUSY) for _ in range(2 * QUOTA_TRIES))

    def test_a_quota_is_not_asked_for_ever(self) -> None:
        tried = renewal()
        assert [fails(tried, ErrorCode.UPSTREAM_QUOTA) for _ in range(QUOTA_TRIES)] == [True, True, False]
