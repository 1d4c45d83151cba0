"""The way to the model: opened once, renewed as often as need be, and what is told of that."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon import live
from antiphon.errors import ErrorCode, GatewayError
from antiphon.extension import SessionRotated, SessionRotating, TranscriptUpdate
from antiphon.session.effects import HangUp, Open
from antiphon.session.kept import dump, load
from antiphon.session.link import MAX_HANDLE, Link, Outcome
from antiphon.session.renewal import MAX_SHORT, MUTE_S, PATIENCE_S, SHORT_S, Upkeep
from antiphon.session.states import State
from antiphon.session.uplink import Uplink

NOW = 1000.0
SETUP = live.Setup("en-US", "Be brief.")
LOST = GatewayError(ErrorCode.UPSTREAM_LOST)
REFUSED = GatewayError(ErrorCode.UPSTREAM_REFUSED)
AWAY = GatewayError(ErrorCode.UPSTREAM_UNAVAILABLE)


class Line:
    """A link with its parts; setups may change."""

    def __init__(self) -> None:
        self.setup = SETUP
        self.uplink = Uplink(10)
        self.link = Link(lambda: self.setup, self.uplink, Upkeep())

    def say(self, *items: live.LiveInput, now: float = NOW) -> None:
        for item in items:
            self.uplink.add(item, now)

    def given(self, now: float = NOW) -> list[live.LiveInput]:
        items = []
        while item := self.link.next_input(now):
            items.append(item)
        return items


def line() -> Line:
    """Return one with a connection that is open and will not have been short."""
    made = Line()
    made.link.open(NOW - SHORT_S)
    made.link.opened("primary", NOW - SHORT_S)
    return made


def update(role: Any, text: str, *, is_final: bool = True) -> TranscriptUpdate:
    return TranscriptUpdate(
        timestamp=0, role=role, utterance_id="u1", revision=1, text=text, is_final=is_final
    )


def rotating(outcomes: list[Outcome]) -> SessionRotating:
    (found,) = [outcome for outcome in outcomes if isinstance(outcome, SessionRotating)]
    return found


def rotated(outcomes: list[Outcome]) -> SessionRotated:
    (found,) = [outcome for outcome in outcomes if isinstance(outcome, SessionRotated)]
    return found


def setup_of(outcomes: list[Outcome]) -> live.Setup:
    (found,) = [outcome for outcome in outcomes if isinstance(outcome, Open)]
    return found.setup


class TestOpening:
    def test_is_done_once(self) -> None:
        made = Line()
        states = [made.link.state]
        assert made.link.open(NOW) == [Open(SETUP)]
        assert made.link.open(NOW) == []
        states.append(made.link.state)
        assert made.link.opened("primary", NOW) == []
        assert made.link.opened("primary", NOW) == []
        assert [*states, made.link.state] == [State.READY, State.OPENING, State.LIVE]

    def test_that_fails_is_over(self) -> None:
        made = Line()
        made.link.open(NOW)
        with pytest.raises(GatewayError, match="cannot be reached"):
            made.link.lost(AWAY, NOW)
        assert made.link.state is State.READY

    def test_grants_the_wait_anew(self) -> None:
        made = Line()
        made.say(live.Text("hi"))
        made.link.open(NOW + 5)
        made.link.opened("primary", NOW + 9)
        assert made.link.deadline == NOW + 19
        with pytest.raises(GatewayError) as caught:
            made.link.expire(NOW + 19, quiet=True)
        assert caught.value.code is ErrorCode.UPSTREAM_SLOW
        assert made.link.state is State.READY

    def test_where_another_model_stands_in_that_is_told(self) -> None:
        made = Line()
        made.link.open(NOW)
        told = made.link.opened("fallback", NOW)
        assert (rotating(told).reason, rotated(told).reason, rotated(told).upstream) == (*("fallback",) * 3,)


class TestRenewal:
    def test_is_told_before_and_after_with_what_was_missed(self) -> None:
        made = line()
        made.link.event(live.HandleChanged("h"), NOW)
        told = made.link.lost(LOST, NOW)
        assert rotating(told) == SessionRotating(
            timestamp=1_000_000, reason="lost", context_restored=True, gap_ms=0, lost_audio_ms=0
        )
        assert setup_of(told).handle == "h"
        assert made.link.renewing
        assert rotated(made.link.opened("primary", NOW + 0.25)) == SessionRotated(
            timestamp=1_000_250,
            reason="lost",
            context_restored=True,
            gap_ms=250,
            lost_audio_ms=0,
            replayed_audio_ms=0,
            upstream="primary",
        )
        assert not made.link.renewing

    def test_gives_again_what_had_not_arrived(self) -> None:
        made = line()
        audio = live.Audio(bytes(3200))
        made.say(audio, audio, live.Text("hi"))
        assert len(made.given()) == 3
        made.link.arrived(1, NOW)
        made.link.lost(LOST, NOW)
        assert rotated(made.link.opened("primary", NOW)).replayed_audio_ms == 200
        assert made.link.replayed_ms == 200
        assert made.given() == [audio, audio, live.Text("hi")]

    def test_is_tried_again_after_a_pause(self) -> None:
        made = line()
        made.link.lost(LOST, NOW)
        assert made.link.lost(AWAY, NOW) == []
        assert made.link.expire(NOW, quiet=True) == []
        assert made.link.deadline == NOW + 0.1
        assert made.link.expire(NOW + 0.1, quiet=True) == [Open(SETUP)]
        assert made.link.deadline == NOW + PATIENCE_S
        assert rotated(made.link.opened("primary", NOW + 1)).gap_ms == 1000

    def test_is_given_up_in_the_end(self) -> None:
        made = line()
        made.link.lost(LOST, NOW)
        with pytest.raises(GatewayError) as caught:
            made.link.expire(NOW + PATIENCE_S, quiet=True)
        assert caught.value.code is ErrorCode.UPSTREAM_TIMEOUT
        made = line()
        made.link.lost(LOST, NOW)
        made.link.lost(AWAY, NOW)
        with pytest.raises(GatewayError) as caught:
            made.link.expire(NOW + PATIENCE_S, quiet=True)
        assert caught.value.code is ErrorCode.UPSTREAM_UNAVAILABLE
        assert made.link.state is State.READY

    def test_or_at_once_where_it_is_of_no_use(self) -> None:
        made = line()
        made.link.lost(LOST, NOW)
        with pytest.raises(GatewayError, match="refused"):
            made.link.lost(REFUSED, NOW)

    def test_after_one_that_was_given_up_the_next_goes_on_with_it(self) -> None:
        """Its client has been told that the model does not hear, and not yet that it does again."""
        made = line()
        made.link.lost(LOST, NOW)
        assert made.link.close() == [HangUp()]
        assert made.link.open(NOW + 9) == [Open(SETUP)]
        assert rotated(made.link.opened("primary", NOW + 9)).reason == "lost"

    def test_one_that_breaks_at_once_again_and_again_is_given_up(self) -> None:
        made = line()
        made.link.lost(LOST, NOW)
        for _ in range(MAX_SHORT - 1):
            made.link.opened("primary", NOW)
            made.link.lost(LOST, NOW)
        made.link.opened("primary", NOW)
        with pytest.raises(GatewayError, match="lost"):
            made.link.lost(LOST, NOW)

    def test_but_not_one_that_says_something_meanwhile(self) -> None:
        made = line()
        for _ in range(MAX_SHORT * 3):
            made.link.lost(LOST, NOW)
            made.link.opened("primary", NOW)
            made.link.event(live.Said("Well,"), NOW)
        assert made.link.state is State.LIVE

    def test_a_model_that_takes_nothing_is_not_asked_again(self) -> None:
        made = line()
        with pytest.raises(GatewayError) as caught:
            made.link.lost(GatewayError(ErrorCode.UPSTREAM_SLOW), NOW)
        assert caught.value.code is ErrorCode.UPSTREAM_SLOW

    def test_what_was_refused_is_not_said_again(self) -> None:
        made = line()
        made.say(live.Audio(bytes(3200)))
        made.given()
        assert rotating(made.link.lost(REFUSED, NOW)).reason == "refused"
        assert rotated(made.link.opened("primary", NOW)).lost_audio_ms == 100
        assert made.given() == []

    def test_the_loss_of_what_was_left_is_nothing(self) -> None:
        made = line()
        assert made.link.close() == [HangUp()]
        assert made.link.close() == []
        assert made.link.lost(LOST, NOW) == []

    def test_another_model_takes_over_and_gives_back(self) -> None:
        made = line()
        made.link.lost(LOST, NOW)
        told = rotated(made.link.opened("fallback", NOW))
        assert (told.reason, told.upstream) == ("fallback", "fallback")
        made.link.event(live.GoingAway(0.5, "recovered"), NOW + 60)
        told = rotated([*made.link.expire(NOW + 61, quiet=True), *made.link.opened("primary", NOW + 61)])
        assert (told.reason, told.upstream) == ("recovered", "primary")

    @pytest.mark.parametrize(("upstream", "reason"), [("primary", "recovered"), ("fallback", "fallback")])
    def test_so_it_may_when_it_is_opened_anew(self, upstream: Any, reason: str) -> None:
        made = line()
        made.link.reopen(NOW)
        made.link.opened("fallback" if upstream == "primary" else "primary", NOW)
        made.link.reopen(NOW)
        told = made.link.opened(upstream, NOW)
        assert (rotating(told).reason, rotated(told).reason, rotated(told).upstream) == (
            *(reason, reason, upstream),
        )


class TestTheWay:
    def test_is_taken_to_be_longer_little_by_little(self) -> None:
        made = line()
        trips = []
        for second in range(1, 4):
            made.link.arrived(0, NOW + second, 0.5)
            trips.append(made.uplink.trip_s)
        assert trips == pytest.approx([0.02, 0.05, 0.095])

    def test_what_was_held_up_together_counts_once(self) -> None:
        made = line()
        for tenth in range(10):
            made.link.arrived(0, NOW + tenth / 1000, 2.0 - tenth / 10)
        assert made.uplink.trip_s == pytest.approx(0.02)

    def test_and_shorter_at_once(self) -> None:
        made = line()
        for second in range(1, 10):
            made.link.arrived(0, NOW + second, 0.5)
        before = made.uplink.trip_s
        made.link.arrived(0, NOW + 9, 0.03)
        assert (before, made.uplink.trip_s) == (0.5, 0.03)


class TestReopening:
    def test_takes_the_place_of_the_one_there_is(self) -> None:
        made = line()
        made.link.event(live.HandleChanged("h"), NOW)
        made.setup = live.Setup("de-DE", push_to_talk=True)
        told = made.link.reopen(NOW)
        assert told == [Open(live.Setup("de-DE", handle="h", push_to_talk=True))]
        assert made.link.opened("primary", NOW) == []
        assert made.link.restored

    def test_what_had_been_given_to_that_and_not_arrived_is_given_again(self) -> None:
        made = line()
        made.say(live.Text("hi"))
        assert made.given() == [live.Text("hi")]
        made.link.reopen(NOW)
        made.link.opened("primary", NOW)
        assert made.given() == [live.Text("hi")]

    def test_within_a_renewal_is_a_part_of_it(self) -> None:
        made = line()
        made.link.lost(LOST, NOW)
        made.link.lost(AWAY, NOW)
        made.setup = live.Setup("de-DE")
        assert made.link.reopen(NOW) == [Open(live.Setup("de-DE"))]
        assert made.link.expire(NOW + 1, quiet=True) == [], "it is opening already"
        assert rotated(made.link.opened("primary", NOW + 1)).gap_ms == 1000


class TestUpkeep:
    def test_an_announced_end_is_awaited_in_silence(self) -> None:
        made = line()
        made.link.event(live.GoingAway(50.0), NOW)
        assert made.link.deadline == NOW
        assert made.link.expire(NOW, quiet=False) == []
        told = made.link.expire(NOW + 1, quiet=True)
        assert rotating(told).reason == "go_away"

    def test_and_for_a_handle_of_the_present(self) -> None:
        """What was said since the last one would be forgotten."""
        made = line()
        made.link.event(live.HandleChanged("h"), NOW)
        made.link.event(live.HandleChanged(None), NOW)
        made.link.event(live.GoingAway(50.0), NOW)
        assert made.link.expire(NOW + 1, quiet=True) == []
        made.link.event(live.HandleChanged("h2"), NOW + 2)
        assert setup_of(made.link.expire(NOW + 2, quiet=True)).handle == "h2"

    def test_a_mute_model_is_replaced_and_has_not_heard_since_it_was_last_there(self) -> None:
        made = line()
        made.say(live.Text("hi"))
        made.given()
        made.link.arrived(1, NOW + 1)
        told = made.link.expire(NOW + MUTE_S, quiet=False)
        assert (rotating(told).reason, rotating(told).gap_ms) == ("mute", (MUTE_S - 1) * 1000)
        made.link.opened("primary", NOW + MUTE_S)
        assert made.given(NOW + MUTE_S) == [live.Text("hi")]
        told = made.link.expire(NOW + 2 * MUTE_S, quiet=False)
        assert rotating(told).reason == "mute"
        made.link.opened("primary", NOW + 2 * MUTE_S)
        made.given(NOW + 2 * MUTE_S)
        assert made.link.expire(NOW + 3 * MUTE_S, quiet=False) == []


class TestHistory:
    def test_a_model_that_has_to_begin_anew_is_told_of_it(self) -> None:
        made = line()
        made.link.typed("Hello.")
        made.link.answered()
        made.link.note(update("model", "Good", is_final=False))
        made.link.note(update("model", "Good day."))
        made.link.note(rotating(made.link.renew("lost", NOW)))
        made.link.opened("primary", NOW)
        told = setup_of(made.link.lost(LOST, NOW + SHORT_S))
        assert told.history == (live.Turn("user", "Hello."), live.Turn("model", "Good day."))

    def test_one_that_remembers_is_not(self) -> None:
        made = line()
        made.link.note(update("user", "Hello."))
        made.link.event(live.HandleChanged("h"), NOW)
        assert setup_of(made.link.lost(LOST, NOW)).history == ()

    def test_nor_of_what_it_is_asked_again(self) -> None:
        made = line()
        made.link.typed("Hello.")
        assert setup_of(made.link.lost(LOST, NOW)).history == ()

    def test_a_handle_that_is_of_no_use_is_not_used_again(self) -> None:
        made = line()
        made.link.note(update("user", "Hello."))
        made.link.event(live.HandleChanged("h"), NOW)
        made.link.lost(LOST, NOW)
        made.link.lost(GatewayError(ErrorCode.UPSTREAM_UNSUPPORTED), NOW)
        told = setup_of(made.link.expire(NOW, quiet=True))
        assert (told.handle, told.history) == (None, (live.Turn("user", "Hello."),))
        assert not rotated(made.link.opened("primary", NOW)).context_restored
        assert made.link.handle is None


def test_it_goes_on_where_it_was_written_down() -> None:
    made, other = line(), Line()
    made.link.event(live.HandleChanged("h"), NOW)
    made.link.note(update("user", "Hello."))
    made.link.typed("hi")
    made.link.lost(LOST, NOW)
    load(other.link, dump(made.link))
    told = other.link.open(NOW)
    assert told == [Open(live.Setup("en-US", "Be brief.", handle="h"))], (
        "the client knows that it does not hear"
    )
    other.link.answered()
    assert [turn.text for turn in other.link.history.turns] == ["Hello.", "hi"]


def test_a_handle_that_would_burden_every_save_is_not_kept() -> None:
    made = line()
    made.link.event(live.HandleChanged("good"), NOW)
    made.link.event(live.HandleChanged("x" * (MAX_HANDLE + 1)), NOW)
    assert made.link.handle == "good"
    made.link.event(live.HandleChanged("x" * MAX_HANDLE), NOW)
    assert made.link.handle == "x" * MAX_HANDLE
