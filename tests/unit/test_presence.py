"""The client's presence: a token is good once, unless its answer may not have come; what is safe is told."""

from __future__ import annotations

from antiphon.session.presence import ACK_EVERY_MS, Presence, digest

FIRST, SECOND, THIRD = digest("first"), digest("second"), digest("third")


def present() -> Presence:
    presence = Presence()
    presence.issue("first")
    return presence


class TestTokens:
    def test_what_is_kept_does_not_tell_them(self) -> None:
        assert "first" not in FIRST
        assert len({FIRST, SECOND, THIRD}) == 3

    def test_without_one_nothing_is_resumed(self) -> None:
        presence = Presence()
        presence.detach(5.0)
        assert not presence.admits(FIRST)
        assert not presence.admits("")

    def test_is_good_whether_or_not_the_loss_was_noticed(self) -> None:
        presence = present()
        assert presence.admits(FIRST)
        presence.detach(5.0)
        assert presence.admits(FIRST)
        assert (presence.attached, presence.detached_at) == (False, 5.0)

    def test_is_spent_with_a_resume(self) -> None:
        presence = present()
        presence.detach(5.0)
        presence.attach("second", FIRST)
        assert (presence.attached, presence.detached_at) == (True, float("inf"))
        assert [presence.admits(token) for token in (FIRST, SECOND)] == [False, True]
        assert presence.token == "second"

    def test_the_spent_one_is_good_again_while_nothing_shows_that_the_next_has_come(self) -> None:
        presence = present()
        presence.attach("second", FIRST)
        presence.detach(5.0)
        assert [presence.admits(token) for token in (FIRST, SECOND)] == [True, True]
        presence.attach("third", FIRST)
        presence.detach(6.0)
        assert [presence.admits(token) for token in (FIRST, SECOND, THIRD)] == [True, False, True]

    def test_and_not_after_that(self) -> None:
        presence = present()
        presence.attach("second", FIRST)
        presence.confirm()
        presence.detach(5.0)
        assert [presence.admits(token) for token in (FIRST, SECOND)] == [False, True]


class TestAudio:
    def test_the_next_sequence(self) -> None:
        presence = present()
        assert presence.next_sequence == 0
        presence.chunk(7, 20.0)
        assert presence.next_sequence == 8
        presence.chunk(6, 20.0)
        assert presence.next_sequence == 8, "it had come before"
        presence.begin_stream()
        assert presence.next_sequence == 0

    def test_is_acknowledged_when_it_is_safe_and_enough(self) -> None:
        presence = present()
        presence.chunk(0, ACK_EVERY_MS - 1)
        assert presence.ack() is None
        presence.safe(presence.mark())
        assert presence.ack() is None
        presence.chunk(1, 1.0)
        assert presence.ack() == 0, "the second one is not safe yet"
        presence.safe(presence.mark())
        assert presence.ack() is None
        presence.chunk(2, ACK_EVERY_MS)
        assert presence.ack() == 1

    def test_what_makes_no_audio_counts_a_little(self) -> None:
        presence = present()
        for sequence in range(int(ACK_EVERY_MS)):
            assert presence.ack() is None
            presence.chunk(sequence, 0.0)
            presence.safe(sequence)
        assert presence.ack() == ACK_EVERY_MS - 1

    def test_at_once_where_that_is_asked_for(self) -> None:
        presence = present()
        assert presence.ack(at_once=True) is None
        presence.chunk(0, 1.0)
        presence.safe(0)
        assert presence.ack(at_once=True) == 0
        assert presence.ack(at_once=True) is None, "once"

    def test_not_that_of_a_stream_before(self) -> None:
        presence = present()
        presence.chunk(5, ACK_EVERY_MS)
        presence.safe(5)
        presence.begin_stream()
        assert presence.ack(at_once=True) is None
        assert presence.mark() is None
        presence.chunk(0, ACK_EVERY_MS)
        presence.safe(None)
        assert presence.ack() is None
