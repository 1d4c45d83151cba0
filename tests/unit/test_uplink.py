"""The uplink's bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import DecodeError, msgpack

from antiphon import live
from antiphon.session.uplink import Uplink

SECOND = live.Audio(bytes(32_000))


def test_in_order_and_once() -> None:
    uplink = Uplink(10)
    items: list[live.LiveInput] = [SECOND, live.AudioEnd(), live.Text("hi"), live.ToolResult("1", "n", {})]
    for item in items:
        uplink.add(item, 0.0)
    taken = [uplink.take(1.0) for _ in items]
    assert [(entry.number, entry.item) for entry in taken if entry] == list(enumerate(items, 1))
    assert uplink.take(1.0) is None


class TestGathering:
    """Pieces of 20 ms, of which up to 60 ms wait for 40 ms."""

    PIECE = live.Audio(b"\1\2" * 320)

    def test_small_pieces_go_together(self) -> None:
        uplink = Uplink(10, 0.04)
        for at in (0.0, 0.02):
            uplink.add(self.PIECE, at)
            assert uplink.take(at) is None
        assert uplink.gathers_until == 0.04
        uplink.add(self.PIECE, 0.04)
        assert uplink.gathers_until == float("inf")
        taken = uplink.take(0.04)
        assert taken is not None
        assert (taken.number, taken.item) == (3, live.Audio(self.PIECE.pcm * 3))
        assert not uplink.waiting
        assert uplink.taken_number == 3

    def test_they_do_not_wait_longer(self) -> None:
        uplink = Uplink(10, 0.04)
        uplink.add(self.PIECE, 1.0)
        assert uplink.take(1.039) is None
        taken = uplink.take(1.04)
        assert taken is not None
        assert taken.item == self.PIECE

    def test_nor_for_what_comes_after_the_audio(self) -> None:
        uplink = Uplink(10, 0.04)
        uplink.add(self.PIECE, 0.0)
        uplink.add(self.PIECE, 0.0)
        uplink.add(live.AudioEnd(), 0.0)
        taken = [uplink.take(0.0) for _ in range(3)]
        assert [entry.item for entry in taken if entry] == [live.Audio(self.PIECE.pcm * 2), live.AudioEnd()]

    def test_a_large_piece_goes_by_itself(self) -> None:
        uplink = Uplink(10, 0.04)
        large = live.Audio(bytes(3200))
        for item in (large, self.PIECE, large):
            uplink.add(item, 0.0)
        taken = [uplink.take(0.0) for _ in range(3)]
        assert [entry.item for entry in taken if entry] == [large, self.PIECE, large]

    def test_no_more_than_may_be_on_its_way(self) -> None:
        uplink = Uplink(10, 0.04)
        uplink.add(live.Audio(bytes(21_400)), 0.0)
        assert uplink.take(0.0)
        for _ in range(3):
            uplink.add(self.PIECE, 0.0)
        taken = [uplink.take(0.0) for _ in range(2)]
        assert [entry and entry.item for entry in taken] == [self.PIECE, None]
        uplink.arrived(2)
        rest = uplink.take(0.1)
        assert rest is not None
        assert rest.item == live.Audio(self.PIECE.pcm * 2)

    def test_it_can_be_switched_off(self) -> None:
        uplink = Uplink(10)
        uplink.add(self.PIECE, 0.0)
        uplink.add(self.PIECE, 0.0)
        assert [entry.item for entry in (uplink.take(0.0), uplink.take(0.0)) if entry] == [self.PIECE] * 2


def test_full_at_its_seconds_and_not_before() -> None:
    uplink = Uplink(2)
    uplink.add(SECOND, 0.0)
    full = [uplink.full]
    uplink.add(live.Text("counts as a second"), 0.0)
    full.append(uplink.full)
    uplink.take(0.0)
    assert [*full, uplink.full] == [False, True, False]


def test_many_tiny_items_fill_it_too() -> None:
    uplink = Uplink(1)
    for _ in range(500):
        uplink.add(live.Audio(b"\0\0"), 0.0)
        uplink.add(live.AudioEnd(), 0.0)
    assert uplink.full


def test_deadline_runs_from_the_last_movement() -> None:
    uplink = Uplink(10)
    assert uplink.deadline == float("inf")
    uplink.add(SECOND, 5.0)
    uplink.add(SECOND, 9.0)
    assert uplink.deadline == 15.0
    uplink.take(12.0)
    assert uplink.deadline == 22.0
    uplink.arrived(1)
    uplink.touch(13.0)
    assert uplink.deadline == 23.0
    uplink.take(14.0)
    assert uplink.deadline == float("inf")


def test_audio_that_waits_in_milliseconds() -> None:
    uplink = Uplink(10)
    assert not uplink.waiting
    for item in (live.Audio(bytes(3200)), live.Text("hi"), live.Audio(bytes(32))):
        uplink.add(item, 0.0)
    assert uplink.audio_ms == 101
    uplink.take(0.0)
    assert (uplink.audio_ms, uplink.waiting) == (1, 2)


def test_results_are_counted_while_they_wait() -> None:
    uplink = Uplink(10)
    for item in (live.ToolResult("1", "n", {}), live.Text("hi"), live.ToolResult("2", "n", {})):
        uplink.add(item, 0.0)
    assert uplink.results == 2
    uplink.take(0.0)
    assert uplink.results == 1


def test_what_is_on_its_way() -> None:
    uplink = Uplink(10)
    uplink.add(SECOND, 0.0)
    told = [uplink.in_flight]
    uplink.take(0.0)
    told.append(uplink.in_flight)
    uplink.arrived(1)
    assert [*told, uplink.in_flight] == [False, True, False]


def test_what_was_written_down_and_is_changed_is_told_of_once() -> None:
    uplink = Uplink(10)
    uplink.add(SECOND, 0.0)
    uplink.take(0.0)
    changed = [uplink.changed]
    uplink.rewind(0.0)
    changed += [uplink.changed, uplink.changed]  # asking is taking note
    uplink.discard(live.Audio)
    assert [*changed, uplink.changed] == [False, True, False, True]


def test_what_is_not_wanted_any_more_is_not_written_down() -> None:
    uplink = Uplink(10)
    for item in (live.Interrupt(), live.Text("hi"), live.Text("ho")):
        uplink.add(item, 0.0)
        uplink.take(0.0)
    assert (uplink.first, uplink.end) == (2, 4)
    assert [bool(entry) for entry in uplink.entries(1)] == [False, True, True]
    uplink.arrived(3)
    uplink.answered()
    assert (uplink.first, uplink.entries(uplink.first)) == (4, [])


KINDS: list[live.LiveInput] = [
    *(live.Audio(bytes(640)), live.Audio(b""), live.AudioEnd(), live.ActivityStart(), live.ActivityEnd()),
    *(live.Interrupt(), live.Text("hi"), live.ToolResult("1", "n", {})),
]


@given(st.lists(st.sampled_from(KINDS)), st.sets(st.sampled_from([type(item) for item in KINDS])))
def test_what_is_discarded_leaves_no_trace(items: list[live.LiveInput], kinds: set[type]) -> None:
    discarded, other = Uplink(1), Uplink(1)
    for item in items:
        discarded.add(item, 0.0)
        if type(item) not in kinds:
            other.add(item, 0.0)
    discarded.discard(*kinds)
    assert (discarded.full, discarded.audio_ms, discarded.results, discarded.waiting) == (
        *(other.full, other.audio_ms, other.results, other.waiting),
    )
    assert discarded.deadline == other.deadline
    for _ in items:
        one, two = discarded.take(1.0), other.take(1.0)
        assert (one and one.item) == (two and two.item)


def moved(uplink: Uplink) -> Uplink:
    """Return it as another node has it."""
    other = Uplink(10)
    for name in Uplink.KEPT:
        setattr(other, name, getattr(uplink, name))
    other.restore(uplink.entries(uplink.first))
    return other


def audio(uplink: Uplink) -> list[bytes]:
    """Return the audio that a connection is given, and take all of it to have arrived."""
    given = []
    while entry := uplink.take(0.0):
        if isinstance(entry.item, live.Audio):
            given.append(entry.item.pcm)
        uplink.arrived(entry.number)
    return given


def test_what_the_client_knows_to_have_been_heard_is_not_given_again() -> None:
    """Whether it had been given when that was written down, or waited, or comes again only now."""
    uplink = Uplink(10)
    pieces = [bytes([number]) * 3200 for number in range(6)]
    for piece in pieces[:3]:
        uplink.add(live.Audio(piece), 0.0)
    for _ in range(2):
        uplink.take(0.0)
    uplink.arrived(1)
    for heard_ms, begins in (
        (100, 0),
        (150, 0.5),
        (250, 1.5),
        (380, 2.8),
        (500, 4.0),
        (10_000, 6.0),
        (10**9, 0),
    ):
        other = moved(uplink)
        other.heard(heard_ms)
        other.rewind(0.0)
        skipped_ms = sum(other.add(live.Audio(piece), 0.0) for piece in pieces[3:])
        whole = b"".join(pieces)
        assert b"".join(audio(other)) == whole[int(begins * 3200) :], heard_ms
        assert skipped_ms == max(0, begins - 3) * 100


def test_nothing_written_down_is_of_a_form_that_nobody_knows() -> None:
    with pytest.raises(DecodeError):
        Uplink(10).restore([msgpack.encode((1, 99, False, False, 0, None))])
